//! The ledger of an operation: what it created and has not yet put in service.
//!
//! ```text
//! create sent ─► under way ─► created ─► in service      the operation ended well, or, when this one was there, made an image current or began to replace what was there before it
//!                    │            └────► gone            the operation removed it itself
//!                    ├─► gone                            the engine refused the create
//!                    └─► unknown ─► created              it failed, or had no answer, so nobody can tell what became of it, until the engine shows the container with the operation's mark
//! ```
//!
//! Below [`identity`](super::identity) a container is called by its id only. One whose create was lost has none in the ledger, so before anything is stopped or removed while there is
//! such a one, the engine is asked which it is.
//!
//! The ledger lives in memory: it serves the clean-up after a wasm call that died, not the recovery after a daemon that did.

mod entry;
pub mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::future;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::entry::{Event, State};
use self::objects::{Objects, Place, TakenBack, Touched};
use crate::call::{ContainersCall, ImagesCall};
use crate::layer::identity::{OPERATION, is_of_node, is_own};
use crate::layer::{Chain, Layer, Next};
use crate::{Call, EngineError, Error, Reply, Request, Response, Scope};

/// A container that an operation created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The node it is on.
    pub node: String,
    /// The name it was created with.
    pub name: String,
    /// Its id; none while the create is under way, and when nobody can tell what became of it.
    pub id: Option<String>,
}

/// What a wasm call of an operation created and has not yet put in service.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<Entries>,
    objects: Objects,
    tasks: TaskTracker,
}

/// What was put in service because something was replaced.
#[derive(Debug, Default)]
struct PutInService {
    containers: BTreeSet<u64>,
    objects: BTreeSet<Place>,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    created: BTreeMap<u64, Entry>,
    ended_well: bool,
}

#[derive(Debug)]
struct Entry {
    node: String,
    name: String,
    state: State,
}

impl Entry {
    fn created(&self) -> Created {
        let id = self.state.id().map(ToOwned::to_owned);
        Created { node: self.node.clone(), name: self.name.clone(), id }
    }

    fn is(&self, node: &str, id: &str) -> bool {
        self.node == node && self.state.id() == Some(id)
    }
}

impl Entries {
    /// Tells each of these entries what was heard of it; those that are gone leave the ledger.
    fn hear(&mut self, event: Event<'_>, of: impl Fn(u64, &Entry) -> bool) {
        self.created.retain(|number, entry| {
            if of(*number, entry) {
                entry.state = std::mem::replace(&mut entry.state, State::Gone).after(event);
            }
            entry.state != State::Gone
        });
    }
}

impl Ledger {
    /// What was created and is not in service, oldest first. Complete only once the creates under way are [settled](Self::settled).
    #[must_use]
    pub fn loose(&self) -> Vec<Created> {
        let entries = self.lock();
        if entries.ended_well {
            return Vec::new();
        }
        let loose = entries.created.values().filter(|entry| !entry.state.is_in_service());
        loose.map(Entry::created).collect()
    }

    /// Whether a stop or a removal of this container makes the app of what the operation created: the container was there before, and something that takes its place is.
    #[must_use]
    pub fn replaces(&self, node: &str, id: &str) -> bool {
        let entries = self.lock();
        let created = || entries.created.values();
        !created().any(|entry| entry.is(node, id))
            && created().any(|entry| entry.state.is_in_service())
    }

    /// The objects of clusters that the operation found and touched.
    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The objects of clusters that were touched and are not in service, what was touched last first.
    #[must_use]
    pub fn loose_objects(&self) -> Vec<Touched> {
        if self.lock().ended_well { Vec::new() } else { self.objects.loose() }
    }

    /// The same for one of them.
    #[must_use]
    pub fn loose_object(&self, place: &Place) -> Option<Touched> {
        if self.lock().ended_well { None } else { self.objects.loose_at(place) }
    }

    /// Whether something that the operation created or touched is the app by now.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.lock().created.values().any(|entry| entry.state.is_in_service())
            || self.objects.serves()
    }

    /// Waits until no create is under way any more. Creates go on when the call that asked for them dies, so that nothing escapes the ledger.
    pub async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// The operation ended well: what it created is in service.
    pub fn put_in_service(&self) {
        self.lock().ended_well = true;
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, node: &str, name: &str) -> u64 {
        let mut entries = self.lock();
        let number = entries.next;
        entries.next = number.saturating_add(1);
        let (node, name) = (node.to_owned(), name.to_owned());
        entries.created.insert(number, Entry { node, name, state: State::Asked });
        number
    }

    /// Takes note of how a create ended.
    fn ended(&self, number: u64, event: Event<'_>) {
        self.lock().hear(event, |of, _| of == number);
    }

    /// The engine shows a container of this operation.
    fn shown(&self, node: &str, name: &str, id: &str) {
        let of = |_, entry: &Entry| entry.node == node && entry.name == name;
        self.lock().hear(Event::Shown(id), of);
    }

    /// The engine shows a container that is not of this operation under the name of a lost create: so that one was refused.
    ///
    /// False when one is still under way, which may have the name yet.
    fn taken(&self, node: &str, name: &str) -> bool {
        let mut entries = self.lock();
        entries.hear(Event::Taken, |_, entry| entry.node == node && entry.name == name);
        let mut left = entries.created.values();
        !left.any(|entry| entry.node == node && entry.name == name && entry.state.id().is_none())
    }

    /// Whether the operation created this container itself.
    fn is_new(&self, node: &str, id: &str) -> bool {
        self.lock().created.values().any(|entry| entry.is(node, id))
    }

    /// Whether the operation may have created a container on this node whose id is not known.
    fn is_unsure(&self, node: &str) -> bool {
        self.lock().created.values().any(|entry| entry.node == node && entry.state.id().is_none())
    }

    fn removed(&self, node: &str, id: &str) {
        self.lock().hear(Event::Removed, |_, entry| entry.is(node, id));
    }

    /// What is there now is the app from here on. Gives what was put in service.
    fn replacing(&self) -> PutInService {
        let objects = self.objects.put_in_service();
        let mut entries = self.lock();
        entries.hear(Event::Replacing, |_, _| true);
        let serving = entries.created.iter().filter(|(_, entry)| entry.state.is_in_service());
        PutInService { containers: serving.map(|(number, _)| *number).collect(), objects }
    }

    fn not_replacing(&self, put_in_service: &PutInService) {
        self.objects.take_out_of_service(&put_in_service.objects);
        self.lock().hear(Event::Kept, |number, _| put_in_service.containers.contains(&number));
    }
}

/// Takes note of the containers in a reply that the operation made: their ids may not be known yet.
fn learn(scope: &Scope, node: &str, reply: &Reply) {
    let shown = |name: &str, id: &str, labels: Option<&BTreeMap<String, String>>| {
        if is_of_operation(scope, labels) {
            scope.ledger.shown(node, name, id);
        }
    };
    if let Reply::Container(container) = reply {
        shown(&container.name, &container.id, container.config.labels.as_ref());
    } else if let Reply::Containers(containers) = reply {
        for container in containers {
            shown(&container.name, &container.id, Some(&container.labels));
        }
    }
}

/// Whether these labels are the marks of the scope's owner, installation and operation.
fn is_of_operation(scope: &Scope, labels: Option<&BTreeMap<String, String>>) -> bool {
    let operation = labels.and_then(|labels| labels.get(OPERATION));
    is_own(scope, labels) && operation == Some(&scope.operation.id)
}

/// Whether an error says for sure that nothing was changed.
#[must_use]
pub fn refuses(error: &Error) -> bool {
    match error {
        Error::Engine(error) => match error {
            EngineError::NotFound(_)
            | EngineError::Conflict(_)
            | EngineError::Invalid(_)
            | EngineError::InvalidObject(_)
            | EngineError::Forbidden(_)
            | EngineError::TooManyRequests { .. }
            | EngineError::Denied(_) => true,
            // An engine may fail, and a proxy in front of it give up, when the effect is there.
            EngineError::Failed(_)
            | EngineError::Unreachable(_)
            | EngineError::TimedOut(_)
            | EngineError::Cancelled => false,
        },
        Error::Platform(_) => true,
        Error::OverLimit(_) => false,
    }
}

/// Keeps the [`Ledger`] of the scope.
#[derive(Clone, Copy, Debug, Default)]
pub struct Journal;

#[async_trait]
impl Layer for Journal {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        if let Call::Cluster { .. } = &request.call {
            return objects::call(scope, request, next).await;
        }
        if matches!(request.call, Call::Images(ImagesCall::Append { .. })) {
            // Whoever asks for the app from here on means this image, and what runs it.
            return in_a_task(scope, request, async move |scope, request| {
                replace(&scope, request, next).await
            })
            .await;
        }
        let Call::Containers { node, call } = &request.call else {
            return next.send(scope, request).await;
        };
        if let ContainersCall::Create { name, spec } = call {
            // Whoever looks after the node finds it by its name, whatever becomes of this operation.
            if is_of_node(&spec.labels) {
                return next.send(scope, request).await;
            }
            let number = scope.ledger.begin(node, name);
            return create(scope, number, request, next).await;
        }
        let node = node.clone();
        let (ContainersCall::Stop { id, .. } | ContainersCall::Remove { id, .. }) = call else {
            let response = next.send(scope, request).await?;
            learn(scope, &node, &response.reply);
            return Ok(response);
        };
        let removes = matches!(call, ContainersCall::Remove { .. });
        let id = id.clone();
        tell_apart(scope, &node, &id, next.clone()).await?;
        let ledger = &scope.ledger;
        if ledger.is_new(&node, &id) {
            let answer = next.send(scope, request).await;
            if answer.is_ok() && removes {
                ledger.removed(&node, &id);
            }
            return answer;
        }
        replace(scope, request, next).await
    }
}

/// Sends a call that makes the app of what the operation created. Noted before it is sent: a call that dies now may have been carried out.
async fn replace(scope: &Arc<Scope>, request: Request, next: Next) -> Result<Response, Error> {
    let put_in_service = scope.ledger.replacing();
    let answer = next.send(scope, request).await;
    if answer.as_ref().is_err_and(refuses) {
        scope.ledger.not_replacing(&put_in_service);
    }
    answer
}

/// Asks the engine whether a container is one that the operation created, when the ledger cannot tell.
async fn tell_apart(scope: &Arc<Scope>, node: &str, id: &str, next: Next) -> Result<(), Error> {
    if scope.ledger.is_new(node, id) || !scope.ledger.is_unsure(node) {
        return Ok(());
    }
    let call = ContainersCall::Inspect { id: id.to_owned() };
    let inspect = Call::Containers { node: node.to_owned(), call };
    match next.send(scope, inspect.into()).await {
        Ok(response) => learn(scope, node, &response.reply),
        // What is not there is no matter; the call itself will say so.
        Err(Error::Engine(EngineError::NotFound(_))) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Carries out a change in a task of its own: a caller that goes away does not stop what is under way, and what it did is in the ledger.
async fn in_a_task<F>(
    scope: &Arc<Scope>,
    mut request: Request,
    change: impl FnOnce(Arc<Scope>, Request) -> F,
) -> Result<Response, Error>
where
    F: Future<Output = Result<Response, Error>> + Send + 'static,
{
    let given_up = CancellationToken::new();
    request.given_up = Some(given_up.clone());
    let _asking = given_up.drop_guard();
    scope.ledger.tasks.spawn(change(Arc::clone(scope), request)).await.unwrap_or_else(|gone| {
        Err(EngineError::Failed(format!("the host gave up a change: {gone}")).into())
    })
}

async fn create(
    scope: &Arc<Scope>,
    number: u64,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    in_a_task(scope, request, async move |scope, request| {
        let answer = next.send(&scope, request).await;
        let event = match &answer {
            Ok(Response { reply: Reply::Text(id), .. }) => Event::Shown(id),
            Err(error) if refuses(error) => Event::Refused,
            Ok(_) | Err(_) => Event::Lost,
        };
        scope.ledger.ended(number, event);
        answer
    })
    .await
}

/// A container that a clean-up could not remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The container.
    pub created: Created,
    /// Why it is still there.
    pub error: Error,
}

/// What a clean-up did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// What is gone.
    pub removed: Vec<Created>,
    /// What is as it was before.
    pub put_back: Vec<Created>,
    /// What could not be removed.
    pub left: Vec<Left>,
}

/// Removes what the operation of `scope` created and did not put in service, all at once, and tells what became of it, at the latest when the time of `scope` is over.
///
/// Does not wait for creates that are under way ([`Ledger::settled`]): one slow create must not keep everything else from being removed. One that is not there yet is told as left.
///
/// `scope` should be that of the host ([`Scope::for_clean_up`]): the one of a dead call may be cancelled or used up.
pub async fn clean_up(chain: &Chain, scope: &Arc<Scope>) -> Cleaned {
    let removals = scope.ledger.loose().into_iter().map(|created| async move {
        let removal = remove(chain, scope, &created);
        let removed = timeout_at(scope.operation.deadline, removal).await.unwrap_or_else(|_| {
            Err(EngineError::TimedOut("it was not removed in time".to_owned()).into())
        });
        (created, removed)
    });
    let objects = take_back_objects(chain, scope);
    let (mut cleaned, removed) = future::join(objects, future::join_all(removals)).await;
    for (created, removed) in removed {
        match removed {
            Ok(true) => cleaned.removed.push(created),
            Ok(false) => {}
            Err(error) => cleaned.left.push(Left { created, error }),
        }
    }
    cleaned
}

/// Takes back what the operation did to objects of clusters, what was touched last first: a deployment is put back while the account of its pods is still there. Each has its part of the
/// time that is left, so that one that the cluster does nothing about keeps none of the others.
async fn take_back_objects(chain: &Chain, scope: &Arc<Scope>) -> Cleaned {
    let mut cleaned = Cleaned::default();
    let loose = scope.ledger.loose_objects();
    for (index, touched) in loose.iter().enumerate() {
        let parts = u32::try_from(loose.len().saturating_sub(index)).unwrap_or(u32::MAX);
        let left = scope.operation.deadline.saturating_duration_since(Instant::now());
        let Place { cluster, kind, namespace, name } = &touched.place;
        let created = Created {
            node: cluster.clone(),
            name: format!("{} {namespace}/{name}", kind.kind),
            id: Some(name.clone()),
        };
        let back = objects::take_back(chain.backends(), scope, &scope.operation.id, touched);
        match timeout(left.checked_div(parts).unwrap_or_default(), back).await {
            Ok(Ok(TakenBack::Deleted)) => cleaned.removed.push(created),
            Ok(Ok(TakenBack::PutBack)) => cleaned.put_back.push(created),
            Ok(Ok(TakenBack::Nothing)) => {}
            Ok(Err(error)) => cleaned.left.push(Left { created, error }),
            Err(_) => {
                let late = "it was not taken back in time".to_owned();
                cleaned.left.push(Left { created, error: EngineError::TimedOut(late).into() });
            }
        }
    }
    cleaned
}

/// Removes what was created. False when there was nothing of the operation's to remove.
async fn remove(chain: &Chain, scope: &Arc<Scope>, created: &Created) -> Result<bool, Error> {
    let found = match &created.id {
        Some(id) => Some(id.clone()),
        None => find(chain, scope, created).await?,
    };
    let Some(id) = found else {
        return Ok(false);
    };
    let call = ContainersCall::Remove { id, force: true };
    let node = created.node.clone();
    chain.send(scope, Call::Containers { node, call }).await?;
    Ok(true)
}

/// The id of what was created, when only its name is known. A container that was there before, and serves, may have that name: so the engine itself is asked, whose answer has the marks.
async fn find(
    chain: &Chain,
    scope: &Arc<Scope>,
    created: &Created,
) -> Result<Option<String>, Error> {
    let unknown = || {
        let why = "nobody can tell whether it was made; it may still come";
        Error::from(EngineError::TimedOut(why.to_owned()))
    };
    let Created { node, name, .. } = created;
    let call = ContainersCall::Inspect { id: name.clone() };
    let inspect = Call::Containers { node: node.clone(), call };
    let reply = match chain.backends().perform(scope, inspect.into()).await {
        Ok(response) => response.reply,
        Err(Error::Engine(EngineError::NotFound(_))) => return Err(unknown()),
        Err(error) => return Err(error),
    };
    let Reply::Container(container) = reply else {
        return Err(EngineError::Failed("no answer to an inspect".to_owned()).into());
    };
    if !is_of_operation(scope, container.config.labels.as_ref()) {
        return if scope.ledger.taken(node, name) { Ok(None) } else { Err(unknown()) };
    }
    scope.ledger.shown(node, name, &container.id);
    Ok(Some(container.id))
}

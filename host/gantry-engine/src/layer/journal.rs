//! The ledger of an operation: what it created and has not yet put in service.
//!
//! ```text
//! create sent ─► under way ─► created ─► in service      the operation ended well, or began to replace what was there before it
//!                    │            └────► gone            the operation removed it itself
//!                    ├─► gone                            the engine refused the create
//!                    └─► created, its id unknown         nobody can tell what became of the create
//! ```
//!
//! The ledger lives in memory: it serves the clean-up after a wasm call that died, not the recovery after a daemon that did.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::future;
use tokio_util::task::TaskTracker;

use crate::call::ContainersCall;
use crate::layer::{Chain, Layer, Next};
use crate::{Call, ContainersError, Error, Reply, Request, Response, Scope};

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

/// What an operation created and has not yet put in service. Shared by all the wasm calls of the operation.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<Entries>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    created: BTreeMap<u64, Created>,
    /// How many stops and removals of containers that were there before the operation were sent, less those that were refused.
    replacing: u64,
    ended_well: bool,
}

impl Ledger {
    /// What was created and is not in service, oldest first. Complete only once the creates under way are [settled](Self::settled).
    #[must_use]
    pub fn loose(&self) -> Vec<Created> {
        let entries = self.lock();
        if entries.ended_well || entries.replacing > 0 {
            return Vec::new();
        }
        entries.created.values().cloned().collect()
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
        let created = Created { node: node.to_owned(), name: name.to_owned(), id: None };
        entries.created.insert(number, created);
        number
    }

    fn created(&self, number: u64, id: &str) {
        if let Some(created) = self.lock().created.get_mut(&number) {
            created.id = Some(id.to_owned());
        }
    }

    fn refused(&self, number: u64) {
        self.lock().created.remove(&number);
    }

    /// Whether the operation created this container itself.
    fn is_new(&self, node: &str, id: &str) -> bool {
        self.lock().created.values().any(|created| names(created, node, id))
    }

    fn removed(&self, node: &str, id: &str) {
        self.lock().created.retain(|_, created| !names(created, node, id));
    }

    fn replacing(&self) {
        let mut entries = self.lock();
        entries.replacing = entries.replacing.saturating_add(1);
    }

    fn not_replacing(&self) {
        let mut entries = self.lock();
        entries.replacing = entries.replacing.saturating_sub(1);
    }
}

fn names(created: &Created, node: &str, id: &str) -> bool {
    created.node == node
        && (created.id.as_deref() == Some(id) || (!id.is_empty() && created.name == id))
}

/// Whether an error says for sure that nothing was changed.
fn refuses(error: &Error) -> bool {
    match error {
        Error::Containers(error) => match error {
            ContainersError::NotFound(_)
            | ContainersError::Conflict(_)
            | ContainersError::Invalid(_)
            | ContainersError::Denied(_)
            | ContainersError::Failed(_) => true,
            ContainersError::Unreachable(_)
            | ContainersError::TimedOut(_)
            | ContainersError::Cancelled => false,
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
        let Call::Containers { node, call } = &request.call else {
            return next.send(scope, request).await;
        };
        if let ContainersCall::Create { name, .. } = call {
            let number = scope.ledger.begin(node, name);
            return create(scope, number, request, next).await;
        }
        let (ContainersCall::Stop { id, .. } | ContainersCall::Remove { id, .. }) = call else {
            return next.send(scope, request).await;
        };
        let removes = matches!(call, ContainersCall::Remove { .. });
        let (node, id) = (node.clone(), id.clone());
        let new = scope.ledger.is_new(&node, &id);
        if !new {
            // Marked before it is sent: a call that dies now may have been carried out.
            scope.ledger.replacing();
        }
        let answer = next.send(scope, request).await;
        match &answer {
            Ok(_) if new && removes => scope.ledger.removed(&node, &id),
            Ok(_) => {}
            Err(error) if !new && refuses(error) => scope.ledger.not_replacing(),
            Err(_) => {}
        }
        answer
    }
}

/// Runs a create in a task of its own: a caller that goes away does not stop it, and what it made is in the ledger.
async fn create(
    scope: &Arc<Scope>,
    number: u64,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let task_scope = Arc::clone(scope);
    let task = scope.ledger.tasks.spawn(async move {
        let answer = next.send(&task_scope, request).await;
        match &answer {
            Ok(Response { reply: Reply::Text(id), .. }) => task_scope.ledger.created(number, id),
            Ok(_) => {}
            Err(error) if refuses(error) => task_scope.ledger.refused(number),
            Err(_) => {}
        }
        answer
    });
    task.await.unwrap_or_else(|gone| {
        Err(ContainersError::Failed(format!("the host gave up a create: {gone}")).into())
    })
}

/// A container that a clean-up could not remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The container.
    pub created: Created,
    /// Why it is still there.
    pub error: Error,
}

/// Removes what the operation of `scope` created and did not put in service, all at once, and tells what could not be removed.
///
/// `scope` should be that of the host ([`Scope::for_clean_up`]): the one of a dead call may be cancelled or used up.
pub async fn clean_up(chain: &Chain, scope: &Arc<Scope>) -> Vec<Left> {
    scope.ledger.settled().await;
    let removals = scope.ledger.loose().into_iter().map(|created| async move {
        let id = created.id.clone().unwrap_or_else(|| created.name.clone());
        let call = ContainersCall::Remove { id, force: true };
        let node = created.node.clone();
        match chain.send(scope, Call::Containers { node, call }).await {
            Ok(_) => None,
            Err(error) => Some(Left { created, error }),
        }
    });
    future::join_all(removals).await.into_iter().flatten().collect()
}

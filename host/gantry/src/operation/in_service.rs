//! A layer of the chain that writes down, before it happens, that an operation makes the app of what it created: it makes an image current, or begins to replace what was there before it.
//!
//! The ledger of the journal layer above knows it too, but it is gone with the daemon. After a crash the store must be able to tell new units that nobody uses from new units that are the
//! app: the first are removed, the second are not. So the mark is on the disk before the image is current and before the first old unit is touched; when it cannot be written, nothing is touched.
//!
//! An operation of one app has one mark: from then on all that it makes is that app. One that changes several (units that move to other nodes) puts them in service one after the other: of
//! such a one it is also written down what is *not* in service, before it is made, and no longer once it is. So what nobody wrote down stays, whatever became of the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use gantry_engine::call::{ContainersCall, ImagesCall};
use gantry_engine::layer::identity::is_of_node;
use gantry_engine::layer::journal::{objects, refuses};
use gantry_engine::layer::{Layer, Next};
use gantry_engine::{Call, Error, Request, Response, Scope};
use tokio::sync::Mutex;

use crate::store::{Made, Store, StoreError};

/// How many operations are remembered; of one that was forgotten the mark is never taken back, and what it makes from then on stays.
const REMEMBERED: usize = 1000;

/// Writes the mark.
pub(crate) struct InService {
    store: Arc<Store>,
    /// The operations that are marked. Held across the write: whoever comes second must not send before the mark is on the disk.
    marked: Mutex<BTreeMap<String, Mark>>,
}

/// The mark of an operation.
struct Mark {
    /// Whether it was on the disk before: then it is not ours to take back.
    stays: bool,
    /// How many calls stand behind it: sent, and not refused.
    calls: u64,
    /// What is written down as not in service; nothing ever is for an operation of one app. A refused call puts nothing back here: what it put in service stays, which is the lesser evil.
    loose: Option<BTreeSet<Made>>,
}

/// What an operation made and has not put in service.
fn loose(scope: &Scope) -> BTreeSet<Made> {
    scope.ledger.loose().into_iter().map(|created| (created.node, created.name)).collect()
}

fn unavailable(operation: &str, error: &StoreError, not_done: &str) -> Error {
    tracing::error!(operation, error = error as &dyn std::error::Error, "could not mark");
    gantry_core::Error::Unavailable(format!("{not_done}: {error}")).into()
}

impl InService {
    /// A layer over a store.
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store, marked: Mutex::default() }
    }

    async fn mark(&self, scope: &Scope) -> Result<(), Error> {
        let operation = &scope.operation.id;
        let failed = |error| unavailable(operation, &error, "nothing was replaced");
        let mut marked = self.marked.lock().await;
        if let Some(mark) = marked.get_mut(operation) {
            if let Some(written) = mark.loose.as_mut().filter(|written| !written.is_empty()) {
                let loose = loose(scope);
                if *written != loose {
                    let put = self.store.put_in_service_but(operation, loose.clone()).await;
                    put.map_err(failed)?;
                    *written = loose;
                }
            }
            mark.calls = mark.calls.saturating_add(1);
            return Ok(());
        }
        let mark = self.write(scope).await.map_err(failed)?;
        if marked.len() >= REMEMBERED {
            marked.clear();
        }
        marked.insert(operation.clone(), mark);
        Ok(())
    }

    /// Writes the mark.
    async fn write(&self, scope: &Scope) -> Result<Mark, StoreError> {
        let operation = &scope.operation.id;
        let named = self.store.operations_named(operation).await?;
        let record = named.iter().find(|one| one.begin.id == *operation);
        let stays = record.is_some_and(|one| one.in_service);
        let of_many_apps = record.is_some_and(|one| one.begin.app.is_none());
        let loose = of_many_apps.then(|| loose(scope));
        self.store.put_in_service_but(operation, loose.clone().unwrap_or_default()).await?;
        Ok(Mark { stays, calls: 1, loose })
    }

    /// Writes down that a container is about to be made which is not in service.
    async fn make(&self, scope: &Scope, node: &str, name: &str) -> Result<(), Error> {
        let operation = &scope.operation.id;
        let mut marked = self.marked.lock().await;
        let Some(loose) = marked.get_mut(operation).and_then(|mark| mark.loose.as_mut()) else {
            return Ok(());
        };
        let made = (node.to_owned(), name.to_owned());
        let written = self.store.make_loose(operation, made.clone()).await;
        written.map_err(|error| unavailable(operation, &error, "nothing was made"))?;
        loose.insert(made);
        Ok(())
    }

    /// The engine refused a call that the mark was written for. Without another call behind it the mark goes; one that cannot be taken off only keeps what is loose.
    async fn take_back(&self, operation: &str) {
        let mut marked = self.marked.lock().await;
        let Some(mark) = marked.get_mut(operation) else {
            return;
        };
        mark.calls = mark.calls.saturating_sub(1);
        if mark.stays || mark.calls > 0 {
            return;
        }
        match self.store.take_out_of_service(operation).await {
            Ok(()) => {
                marked.remove(operation);
            }
            Err(error) => {
                mark.stays = true;
                let error = &error as &dyn std::error::Error;
                tracing::error!(operation, error, "could not take a mark back");
            }
        }
    }
}

#[async_trait]
impl Layer for InService {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        let operation = &scope.operation.id;
        if let Call::Containers { node, call: ContainersCall::Create { name, spec } } =
            &request.call
            // What is the node's is nobody's to remove.
            && !is_of_node(&spec.labels)
            && !operation.is_empty()
        {
            self.make(scope, node, name).await?;
        }
        let replaces = match &request.call {
            Call::Containers {
                node,
                call: ContainersCall::Stop { id, .. } | ContainersCall::Remove { id, .. },
            } => scope.ledger.replaces(node, id),
            Call::Cluster { cluster, call } => objects::replaces(scope, cluster, call),
            // From here on what it made or touched is the app: that is what runs the image.
            Call::Images(ImagesCall::Append { .. }) => scope.ledger.serves(),
            Call::Containers { .. }
            | Call::Nodes
            | Call::Clusters
            | Call::State(_)
            | Call::Apps(_)
            | Call::Images(_)
            | Call::Routers(_)
            | Call::Config { .. } => false,
        };
        if !replaces || operation.is_empty() {
            return next.send(scope, request).await;
        }
        // The ledger above has taken note of this call.
        self.mark(scope).await?;
        let answer = next.send(scope, request).await;
        if answer.as_ref().is_err_and(refuses) {
            self.take_back(operation).await;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use gantry_core::container::ContainerSpec;
    use gantry_engine::memory::Platform;
    use gantry_engine::{Chain, EngineError, Memory, Operation, Reply};

    use super::*;
    use crate::store::Begin;

    const NODE: &str = "http://10.1.1.1:2375";

    /// An engine that carries creates out and, while told so, does not say that it did.
    #[derive(Default)]
    struct Losing(AtomicBool);

    #[async_trait]
    impl Layer for Losing {
        async fn call(
            &self,
            scope: &Arc<Scope>,
            request: Request,
            next: Next,
        ) -> Result<Response, Error> {
            let creates = matches!(
                &request.call,
                Call::Containers { call: ContainersCall::Create { .. }, .. }
            );
            let answer = next.send(scope, request).await;
            if creates && self.0.load(Ordering::SeqCst) {
                return Err(EngineError::TimedOut("it takes too long".into()).into());
            }
            answer
        }
    }

    struct Wired {
        _folder: tempfile::TempDir,
        store: Arc<Store>,
        chain: Chain,
        losing: Arc<Losing>,
        scope: Arc<Scope>,
    }

    async fn wired() -> Wired {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let begin = Begin { id: "01".into(), detail: "{}".into(), ..Begin::default() };
        store.begin_operation(begin).await.unwrap();
        let engine = Memory::new().with_image("i:1", Default::default(), []);
        let backends = Platform::new().backends("docker", [(NODE, engine)]);
        let losing = Arc::new(Losing::default());
        let in_service = Arc::new(InService::new(Arc::clone(&store))) as Arc<dyn Layer>;
        let layers = vec![in_service, Arc::clone(&losing) as _];
        let operation = Operation::new("01", Duration::from_secs(60));
        let scope = Arc::new(Scope::new("docker", "test", operation));
        Wired { _folder: folder, store, chain: Chain::with(backends, layers), losing, scope }
    }

    fn create(name: &str) -> ContainersCall {
        let spec = Box::new(ContainerSpec {
            image: "i:1".into(),
            cmd: Some(vec!["serve".into()]),
            ..ContainerSpec::default()
        });
        ContainersCall::Create { name: name.to_owned(), spec }
    }

    impl Wired {
        async fn send(&self, scope: &Arc<Scope>, call: ContainersCall) -> Reply {
            let call = Call::Containers { node: NODE.to_owned(), call };
            self.chain.send(scope, call).await.unwrap().reply
        }

        async fn create(&self, scope: &Arc<Scope>, name: &str) -> String {
            let Reply::Text(id) = self.send(scope, create(name)).await else { panic!("an id") };
            id
        }

        async fn is_marked(&self) -> bool {
            self.store.operations_named("01").await.unwrap()[0].in_service
        }
    }

    #[tokio::test]
    async fn removing_what_it_made_itself_marks_nothing() {
        let wired = wired().await;
        let (one, two) =
            (wired.create(&wired.scope, "one").await, wired.create(&wired.scope, "two").await);
        wired.send(&wired.scope, ContainersCall::Stop { id: one.clone(), seconds: 1 }).await;
        for id in [one, two] {
            wired.send(&wired.scope, ContainersCall::Remove { id, force: true }).await;
        }
        assert!(!wired.is_marked().await);
    }

    #[tokio::test]
    async fn undoing_a_create_nobody_knows_the_end_of_marks_nothing() {
        let wired = wired().await;
        wired.losing.0.store(true, Ordering::SeqCst);
        let create = Call::Containers { node: NODE.to_owned(), call: create("one") };
        wired.chain.send(&wired.scope, create).await.map(|_| ()).unwrap_err();
        wired.losing.0.store(false, Ordering::SeqCst);
        wired.send(&wired.scope, ContainersCall::Stop { id: "one".into(), seconds: 1 }).await;
        wired.send(&wired.scope, ContainersCall::Remove { id: "one".into(), force: true }).await;
        assert!(!wired.is_marked().await);
    }

    #[tokio::test]
    async fn the_first_touch_of_what_was_there_before_is_written_down() {
        let wired = wired().await;
        let before = Operation::new("00", Duration::from_secs(60));
        let before = Arc::new(Scope::new("docker", "test", before));
        let old = wired.create(&before, "old").await;
        wired.create(&wired.scope, "new").await;
        assert!(!wired.is_marked().await);
        wired.send(&wired.scope, ContainersCall::Stop { id: old, seconds: 1 }).await;
        assert!(wired.is_marked().await);
    }

    fn append() -> Call {
        Call::Images(ImagesCall::Append { app: "web".into(), image: "i:1".into() })
    }

    #[tokio::test]
    async fn an_image_that_becomes_current_marks_what_was_made_for_it() {
        let wired = wired().await;
        wired.chain.send(&wired.scope, append()).await.map(|_| ()).unwrap();
        assert!(!wired.is_marked().await, "nothing was made yet");
        wired.create(&wired.scope, "new").await;
        wired.chain.send(&wired.scope, append()).await.map(|_| ()).unwrap();
        assert!(wired.is_marked().await);
    }

    #[tokio::test]
    async fn an_image_is_not_made_current_when_the_mark_cannot_be_written() {
        let wired = wired().await;
        wired.create(&wired.scope, "new").await;
        wired.store.refuse_writes(true).await.unwrap();
        let refused = wired.chain.send(&wired.scope, append()).await.map(|_| ());
        assert!(refused.unwrap_err().to_string().contains("nothing was replaced"));
        let images = Call::Images(ImagesCall::History { app: "web".into() });
        let Reply::Texts(none) = wired.chain.send(&wired.scope, images).await.unwrap().reply else {
            panic!("images")
        };
        assert_eq!(none, [""; 0]);
        assert_eq!(wired.scope.ledger.loose().len(), 1);
    }

    /// An operation that has begun, with a container from before it that runs.
    async fn with_a_running_container() -> Wired {
        let wired = wired().await;
        let before = Operation::new("00", Duration::from_secs(60));
        let before = Arc::new(Scope::new("docker", "test", before));
        let id = wired.create(&before, "old").await;
        wired.send(&before, ContainersCall::Start { id }).await;
        wired
    }

    fn remove(force: bool) -> Call {
        let call = ContainersCall::Remove { id: "old".into(), force };
        Call::Containers { node: NODE.to_owned(), call }
    }

    #[tokio::test]
    async fn a_refused_removal_takes_its_mark_back_and_a_done_one_stays() {
        let wired = with_a_running_container().await;
        wired.create(&wired.scope, "new").await;
        for _ in 0..2 {
            let refused = wired.chain.send(&wired.scope, remove(false)).await.map(|_| ());
            assert_eq!(refused.unwrap_err().kind(), "conflict");
            assert!(!wired.is_marked().await);
        }
        wired.send(&wired.scope, ContainersCall::Stop { id: "old".into(), seconds: 1 }).await;
        assert!(wired.is_marked().await);
        wired.send(&wired.scope, ContainersCall::Start { id: "old".into() }).await;
        wired.chain.send(&wired.scope, remove(false)).await.map(|_| ()).unwrap_err();
        assert!(wired.is_marked().await, "the stop was done");
    }

    #[tokio::test]
    async fn an_operation_that_has_created_nothing_marks_nothing() {
        let wired = with_a_running_container().await;
        wired.chain.send(&wired.scope, remove(true)).await.map(|_| ()).unwrap();
        assert!(!wired.is_marked().await);
        wired.create(&wired.scope, "new").await;
        assert!(!wired.is_marked().await);
    }

    /// An operation of no app in particular, which has moved a unit of one app and made one for another.
    async fn between_two_apps() -> Wired {
        let wired = with_a_running_container().await;
        wired.create(&wired.scope, "web-new").await;
        wired.send(&wired.scope, ContainersCall::Stop { id: "old".into(), seconds: 1 }).await;
        wired.create(&wired.scope, "api-new").await;
        wired
    }

    impl Wired {
        async fn loose(&self) -> Vec<String> {
            let loose = self.store.loose("01").await.unwrap();
            loose.into_iter().map(|(node, name)| format!("{node} {name}")).collect()
        }
    }

    #[tokio::test]
    async fn what_is_made_for_the_next_app_is_not_in_service_until_it_replaces_something() {
        let wired = between_two_apps().await;
        assert_eq!(wired.loose().await, [format!("{NODE} api-new")]);
        wired.chain.send(&wired.scope, remove(true)).await.map(|_| ()).unwrap();
        assert_eq!(wired.loose().await, [""; 0]);
        assert!(wired.is_marked().await);
    }

    #[tokio::test]
    async fn nothing_is_made_that_cannot_be_written_down_as_loose() {
        let wired = between_two_apps().await;
        wired.store.refuse_writes(true).await.unwrap();
        let call = Call::Containers { node: NODE.to_owned(), call: create("more") };
        let refused = wired.chain.send(&wired.scope, call).await.map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("nothing was made"), "{refused}");
        let replaced = wired.chain.send(&wired.scope, remove(true)).await.map(|_| ()).unwrap_err();
        assert!(replaced.to_string().contains("nothing was replaced"), "{replaced}");
    }

    #[tokio::test]
    async fn all_that_an_operation_of_one_app_makes_is_that_app_from_the_first_on() {
        let wired = with_a_running_container().await;
        let of_web = Operation::new("02", Duration::from_secs(60));
        let of_web = Arc::new(Scope::new("docker", "test", of_web));
        let begin = Begin {
            id: "02".into(),
            app: Some("web".into()),
            detail: "{}".into(),
            ..Begin::default()
        };
        wired.store.begin_operation(begin).await.unwrap();
        wired.create(&of_web, "one").await;
        wired.send(&of_web, ContainersCall::Stop { id: "old".into(), seconds: 1 }).await;
        wired.create(&of_web, "two").await;
        assert!(wired.store.operations_named("02").await.unwrap()[0].in_service);
        assert_eq!(wired.store.loose("02").await.unwrap(), BTreeSet::new());
    }
}

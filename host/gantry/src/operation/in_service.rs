//! A layer of the chain that writes down, before it happens, that an operation begins to replace what was there before it.
//!
//! The ledger of the journal layer above knows it too, but it is gone with the daemon. After a crash the store must be able to tell new units that nobody uses from new units that are the
//! app: the first are removed, the second are not. So the mark is on the disk before the first old unit is touched; when it cannot be written, nothing is touched.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use gantry_engine::call::ContainersCall;
use gantry_engine::layer::{Layer, Next};
use gantry_engine::{Call, Error, Request, Response, Scope};
use tokio::sync::Mutex;

use crate::store::Store;

/// How many operations are remembered as marked; marking one twice is harmless.
const REMEMBERED: usize = 1000;

/// Writes the mark.
pub(crate) struct InService {
    store: Arc<Store>,
    /// The operations that are marked. Held across the write: whoever comes second must not send before the mark is on the disk.
    marked: Mutex<BTreeSet<String>>,
}

impl InService {
    /// A layer over a store.
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store, marked: Mutex::default() }
    }

    async fn mark(&self, operation: &str) -> Result<(), Error> {
        let mut marked = self.marked.lock().await;
        if marked.contains(operation) {
            return Ok(());
        }
        self.store.put_in_service(operation).await.map_err(|error| {
            tracing::error!(operation, error = &error as &dyn std::error::Error, "could not mark");
            gantry_core::Error::Unavailable(format!("nothing was replaced: {error}"))
        })?;
        if marked.len() >= REMEMBERED {
            marked.clear();
        }
        marked.insert(operation.to_owned());
        Ok(())
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
        let ends = match &request.call {
            Call::Containers { call, .. } => {
                matches!(call, ContainersCall::Stop { .. } | ContainersCall::Remove { .. })
            }
            Call::Nodes
            | Call::State(_)
            | Call::Apps(_)
            | Call::Images(_)
            | Call::Config { .. } => false,
        };
        // The ledger above has taken note of this call. What it still calls loose is not in service; when nothing is, the operation replaces what is not its own.
        let id = &scope.operation.id;
        if ends && !id.is_empty() && scope.ledger.loose().is_empty() {
            self.mark(id).await?;
        }
        next.send(scope, request).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gantry_core::container::ContainerSpec;
    use gantry_engine::memory::Platform;
    use gantry_engine::{Chain, Memory, Operation, Reply};

    use super::*;
    use crate::store::Begin;

    const NODE: &str = "http://10.1.1.1:2375";

    struct Wired {
        _folder: tempfile::TempDir,
        store: Arc<Store>,
        chain: Chain,
        scope: Arc<Scope>,
    }

    async fn wired() -> Wired {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let begin = Begin { id: "01".into(), detail: "{}".into(), ..Begin::default() };
        store.begin_operation(begin).await.unwrap();
        let engine = Memory::new().with_image("i:1", Default::default(), []);
        let backends = Platform::new().backends("docker", [(NODE, engine)]);
        let layer = Arc::new(InService::new(Arc::clone(&store))) as Arc<dyn Layer>;
        let operation = Operation::new("01", Duration::from_secs(60));
        let scope = Arc::new(Scope::new("docker", "test", operation));
        Wired { _folder: folder, store, chain: Chain::with(backends, vec![layer]), scope }
    }

    impl Wired {
        async fn send(&self, scope: &Arc<Scope>, call: ContainersCall) -> Reply {
            let call = Call::Containers { node: NODE.to_owned(), call };
            self.chain.send(scope, call).await.unwrap().reply
        }

        async fn create(&self, scope: &Arc<Scope>, name: &str) -> String {
            let spec = Box::new(ContainerSpec {
                image: "i:1".into(),
                cmd: Some(vec!["serve".into()]),
                ..ContainerSpec::default()
            });
            let create = ContainersCall::Create { name: name.to_owned(), spec };
            let Reply::Text(id) = self.send(scope, create).await else { panic!("an id") };
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
}

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

//! What operations did to objects of clusters, over the end of the daemon: written down before it is done, taken back when the operation did not end well.
//!
//! ```text
//! call ─► was it touched before? ─ no ─► how it is, on the disk ─► cluster
//!
//! the operation ended well, or began to replace what was there      nothing is taken back
//! the daemon ended, or the plugin died                              what was made is deleted, what was changed is put back
//! the plugin said why not                                           what was made is deleted; what it changed it has put back itself, or meant
//! ```
//!
//! The ledger of the journal layer above knows all this too, but it is gone with the daemon. A container carries the mark of its operation, and that is enough to remove it; an object
//! that was there before has to be put back as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gantry_engine::layer::journal::objects::{Place, TakenBack, take_back, touches};
use gantry_engine::layer::{Layer, Next};
use gantry_engine::{
    Backends, Call, Clusters, EngineError, Error, Nodes, Operation, Request, Response, Scope,
};
use tokio::sync::Mutex;

use crate::api::{OperationState, Problem, ProblemKind};
use crate::platform::Platform;
use crate::store::{ObjectRecord, OperationRecord, Store, StoreError};

/// How many operations are remembered; of one that was forgotten an object is written down again, which changes nothing.
const REMEMBERED: usize = 1000;

/// How long taking one object back may take.
const TIME: Duration = Duration::from_secs(60);

/// Writes objects down before they are touched.
pub(crate) struct Written {
    store: Arc<Store>,
    /// What is on the disk. Held across the write: whoever comes second must not send before it is there.
    known: Mutex<BTreeMap<String, BTreeSet<Place>>>,
}

impl Written {
    /// A layer over a store.
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store, known: Mutex::default() }
    }

    async fn write(&self, scope: &Scope, place: &Place) -> Result<(), Error> {
        let operation = &scope.operation.id;
        let mut known = self.known.lock().await;
        if known.get(operation).is_some_and(|places| places.contains(place)) {
            return Ok(());
        }
        // The ledger above has taken note of this call. What is in service is not taken back.
        let Some(touched) = scope.ledger.loose_object(place) else { return Ok(()) };
        let written = self.store.touch_object(operation, &scope.provisioner, &touched).await;
        written.map_err(|error| {
            tracing::error!(
                operation,
                error = &error as &dyn std::error::Error,
                "could not write an object down"
            );
            gantry_core::Error::Unavailable(format!("{place} was not touched: {error}"))
        })?;
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.entry(operation.clone()).or_default().insert(place.clone());
        Ok(())
    }
}

#[async_trait]
impl Layer for Written {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        if let Call::Cluster { cluster, call } = &request.call
            && let Some(place) = touches(cluster, call)
            && !scope.operation.id.is_empty()
        {
            self.write(scope, &place).await?;
        }
        next.send(scope, request).await
    }
}

/// Takes back what operations left of objects.
pub(crate) struct TakeBack {
    store: Arc<Store>,
    instance: String,
    clusters: Arc<Clusters>,
}

/// What became of the objects of an operation.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// How many are deleted or put back.
    pub(crate) count: usize,
    /// The clusters that did not let it be done, and why.
    pub(crate) failures: Vec<(String, EngineError)>,
}

impl TakeBack {
    /// Takes back what this installation did on these clusters.
    pub(crate) fn new(store: Arc<Store>, instance: &str, clusters: Arc<Clusters>) -> Self {
        Self { store, instance: instance.to_owned(), clusters }
    }

    /// Takes back what an operation that did not end well left of objects.
    pub(crate) async fn take_back(&self, record: &OperationRecord) -> Result<Taken, StoreError> {
        let operation = record.begin.id.as_str();
        let mut taken = Taken::default();
        let everything = takes_everything(record);
        for object in self.store.touched_objects(operation).await? {
            if !everything && object.touched.before.is_some() {
                self.store.forget_object(operation, object.number).await?;
                continue;
            }
            match self.one(operation, &object).await? {
                // What is made late is looked for until the operation is settled; what is put back is not put back twice, for somebody may want it otherwise by then.
                Ok(TakenBack::Deleted) => taken.count = taken.count.saturating_add(1),
                Ok(TakenBack::PutBack) => {
                    taken.count = taken.count.saturating_add(1);
                    self.store.forget_object(operation, object.number).await?;
                }
                Ok(TakenBack::Nothing) => {}
                Err(error) => {
                    let place = &object.touched.place;
                    if is_final(&error) {
                        tracing::warn!(operation, cluster = place.cluster, %error, "{place} stays as it is");
                        self.store.forget_object(operation, object.number).await?;
                    } else {
                        taken.failures.push((place.cluster.clone(), engine_error(error)));
                    }
                }
            }
        }
        Ok(taken)
    }

    async fn one(
        &self,
        operation: &str,
        object: &ObjectRecord,
    ) -> Result<Result<TakenBack, Error>, StoreError> {
        let ObjectRecord { provisioner, touched, .. } = object;
        let cluster = &touched.place.cluster;
        if self.clusters.cluster(provisioner, cluster).is_err() {
            // That it is not given says nothing of the object.
            let error = match self.store.cluster(cluster).await? {
                None => EngineError::Conflict(format!("there is no cluster `{cluster}` any more")),
                Some(_) => {
                    EngineError::Unreachable(format!("the cluster `{cluster}` cannot be used"))
                }
            };
            return Ok(Err(error.into()));
        }
        let platform =
            Platform::new(Arc::clone(&self.store), provisioner, &serde_json::Value::Null);
        let platform = Arc::new(platform);
        let backends = Backends {
            nodes: Arc::new(Nodes::default()),
            clusters: Arc::clone(&self.clusters),
            apps: Arc::clone(&platform) as _,
            images: Arc::clone(&platform) as _,
            routers: Arc::clone(&platform) as _,
            state: platform,
        };
        let host = Operation::new(operation, TIME);
        let scope = Arc::new(Scope::new(provisioner.as_str(), self.instance.as_str(), host));
        let taking = take_back(&backends, &scope, operation, touched);
        Ok(tokio::time::timeout(TIME, taking).await.unwrap_or_else(|_| {
            Err(EngineError::TimedOut("it was not taken back in time".to_owned()).into())
        }))
    }
}

/// Whether nobody has put back what an operation changed: the daemon ended in the middle of it, its plugin died, or what would have to take it back could not be reached. A plugin that says
/// otherwise why it failed has undone what it could, and what it left it meant to leave.
fn takes_everything(record: &OperationRecord) -> bool {
    if OperationState::of(&record.state) == OperationState::Interrupted {
        return true;
    }
    let problem =
        record.problem.as_deref().and_then(|text| serde_json::from_str::<Problem>(text).ok());
    let Some(problem) = problem else { return true };
    match problem.kind {
        ProblemKind::OverLimit
        | ProblemKind::PluginFailed
        | ProblemKind::TimedOut
        | ProblemKind::Cancelled
        | ProblemKind::Interrupted
        | ProblemKind::Unavailable
        | ProblemKind::Internal => true,
        ProblemKind::Invalid
        | ProblemKind::Unauthorized
        | ProblemKind::NotFound
        | ProblemKind::Conflict
        | ProblemKind::Busy
        | ProblemKind::Denied
        | ProblemKind::Forbidden
        | ProblemKind::Quota
        | ProblemKind::PluginRefused
        | ProblemKind::NotSupported
        | ProblemKind::UnitStartup
        | ProblemKind::InvalidObject
        | ProblemKind::Overloaded
        | ProblemKind::ShuttingDown
        | ProblemKind::Storage
        | ProblemKind::Failed => false,
    }
}

/// Whether asking again would be answered in the same way.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Engine(error) => match error {
            EngineError::Conflict(_) | EngineError::Invalid(_) | EngineError::InvalidObject(_) => {
                true
            }
            EngineError::NotFound(_)
            | EngineError::Forbidden(_)
            | EngineError::TooManyRequests { .. }
            | EngineError::Denied(_)
            | EngineError::Unreachable(_)
            | EngineError::TimedOut(_)
            | EngineError::Cancelled
            | EngineError::Failed(_) => false,
        },
        Error::Platform(_) | Error::OverLimit(_) => false,
    }
}

fn engine_error(error: Error) -> EngineError {
    match error {
        Error::Engine(error) => error,
        Error::Platform(_) | Error::OverLimit(_) => EngineError::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests;

//! Every change is an operation: written down before it starts and when it ends, followed by whoever wants to, alone on what it changes.
//!
//! ```text
//!              lock free, written down          ended well
//! request ───────────► running ───────────────► done
//!    │                    │  ├─────────────────► failed
//!    └► refused: busy     │  └─ cancel ─► undo ─► cancelled
//!                         └─ the daemon dies ───► interrupted       (found at the next start)
//! ```
//!
//! An operation runs in a task of its own. The request that began it may go away; the operation goes on and anybody can pick it up again by its id. What an operation made and did not
//! put in service is removed when it did not end well, if need be after the next start ([`sweep`]).

mod board;
mod id;
pub(crate) mod in_service;
pub(crate) mod interrupted;
mod locks;
pub(crate) mod objects;
pub(crate) mod sweep;

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, OperationState, Problem, ProblemKind};
use crate::clock;
use crate::store::{Begin, Begun, OperationRecord, Store, StoreError};

pub(crate) use board::{Board, Update};
pub(crate) use locks::{Held, Watch, of_app};

/// What an operation is to be.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// What is done.
    pub(crate) verb: &'static str,
    /// To which app.
    pub(crate) app: Option<String>,
    /// With which provisioner.
    pub(crate) plugin: Option<String>,
    /// The digest of its plugin.
    pub(crate) digest: Option<String>,
    /// What was asked, as far as the journal may show it.
    pub(crate) detail: Value,
    /// What must not be changed by anybody else meanwhile.
    pub(crate) lock: Option<String>,
    /// How long it may take.
    pub(crate) time: Duration,
    /// Who asks, and how.
    pub(crate) caller: Caller,
}

/// Who asks for a change, and how.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// Who.
    pub(crate) who: String,
    /// The key of the request: with the same one it is done once.
    pub(crate) key: Option<String>,
    /// Wait for whoever holds the lock instead of being refused.
    pub(crate) wait: bool,
    /// What was asked beyond what the journal may show: with it two requests are told apart, and nothing of it is kept but a digest.
    pub(crate) unshown: Value,
}

/// What the work of an operation is given.
pub(crate) struct Work {
    /// The operation as the engine and the plugin see it.
    pub(crate) operation: gantry_engine::Operation,
}

/// Why an operation did not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Another one holds the lock.
    #[error("`{what}` is being changed by operation `{}` ({}, since {})", holder.operation, holder.verb, holder.since)]
    Busy {
        /// What both want to change.
        what: String,
        /// The other one.
        holder: api::Holder,
    },
    /// The key was used for another request.
    #[error("the idempotency key was used for another request, operation `{0}`")]
    KeyUsed(String),
    /// The daemon is ending.
    #[error("the daemon is ending")]
    ShuttingDown,
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How the operations under way ended when the daemon did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// How many had to be cancelled.
    pub cancelled: usize,
    /// How many did not even undo in time. The next start finds them.
    pub left: usize,
}

/// The operations.
pub(crate) struct Operations {
    store: Arc<Store>,
    ids: id::Ids,
    locks: locks::Locks,
    running: Mutex<BTreeMap<String, Running>>,
    tasks: TaskTracker,
}

#[derive(Clone)]
struct Running {
    board: Arc<Board>,
    cancel: CancellationToken,
    /// Cancelled when it has ended and let go of what it had locked.
    gone: CancellationToken,
}

impl Operations {
    /// The operations of a store.
    pub(crate) fn new(store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            ids: id::Ids::default(),
            locks: locks::Locks::default(),
            running: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Begins an operation and gives its id, or the id of the operation that the same request began before. It goes on whether or not anybody waits.
    pub(crate) async fn begin<F, W>(
        self: &Arc<Self>,
        request: Request,
        work: F,
    ) -> Result<String, Refusal>
    where
        F: FnOnce(Work) -> W + Send + 'static,
        W: Future<Output = Result<Value, Problem>> + Send + 'static,
    {
        self.begin_with(request, None, work).await
    }

    /// The same for what changes something more than it has the lock of.
    pub(crate) async fn begin_with<F, W>(
        self: &Arc<Self>,
        request: Request,
        also: Option<String>,
        work: F,
    ) -> Result<String, Refusal>
    where
        F: FnOnce(Work) -> W + Send + 'static,
        W: Future<Output = Result<Value, Problem>> + Send + 'static,
    {
        let Request { verb, app, plugin, digest, detail, lock, time, caller } = request;
        let at = clock::now();
        let id = self.ids.next(at);
        let detail = detail.to_string();
        let whole = serde_json::json!([verb, app, plugin, detail, caller.unshown]).to_string();
        let fingerprint = gantry_runtime::digest(whole.as_bytes());
        let begin = Begin {
            id: id.clone(),
            verb: verb.to_owned(),
            app,
            plugin,
            digest,
            who: caller.who,
            detail,
            at,
            key: caller.key.map(|key| (key, fingerprint)),
        };
        // Before the lock: a request that comes again must not be refused because of itself.
        if begin.key.is_some() {
            match self.store.earlier_operation(begin.clone()).await? {
                Some(Begun::Again(operation)) => return Ok(operation),
                Some(Begun::KeyUsed(operation)) => return Err(Refusal::KeyUsed(operation)),
                Some(Begun::New) | None => {}
            }
        }
        let holder =
            api::Holder { operation: id.clone(), verb: verb.to_owned(), since: clock::text(at) };
        let locks: Vec<String> = lock.into_iter().chain(also).collect();
        let held = self.locks.take(&locks, holder, caller.wait).await?;
        if self.tasks.is_closed() {
            return Err(Refusal::ShuttingDown);
        }
        // In a task of its own: a caller that goes away now must not leave an operation that is written down and never runs.
        let operations = Arc::clone(self);
        let begun = self.tasks.spawn(async move {
            let begun = operations.store.begin_operation(begin.clone()).await?;
            if begun == Begun::New {
                operations.start(begin, held, time, work);
            }
            Ok::<_, StoreError>(begun)
        });
        match begun.await.map_err(|_| Refusal::ShuttingDown)?? {
            Begun::New => Ok(id),
            Begun::Again(operation) => Ok(operation),
            Begun::KeyUsed(operation) => Err(Refusal::KeyUsed(operation)),
        }
    }

    fn start<F, W>(self: &Arc<Self>, begin: Begin, held: Vec<Held>, time: Duration, work: F)
    where
        F: FnOnce(Work) -> W + Send + 'static,
        W: Future<Output = Result<Value, Problem>> + Send + 'static,
    {
        let id = begin.id.clone();
        let board = Arc::new(Board::new(Arc::clone(&self.store), begin));
        let mut operation = gantry_engine::Operation::new(id.clone(), time)
            .shown_to(Arc::clone(&board) as Arc<dyn gantry_engine::operation::Progress>);
        let cancel = CancellationToken::new();
        operation.cancel = cancel.clone();
        let gone = CancellationToken::new();
        let running = Running { board: Arc::clone(&board), cancel, gone: gone.clone() };
        self.running().insert(id.clone(), running);
        let operations = Arc::clone(self);
        self.tasks.spawn(async move {
            // In this order, that it has not gone before it has let go, were it in a panic.
            let (_gone, held) = (gone.drop_guard(), held);
            let outcome = AssertUnwindSafe(work(Work { operation })).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|_| {
                Err(Problem::new(ProblemKind::Internal, "the operation failed")
                    .because("the daemon panicked; its log says where"))
            });
            let written = board.write_end(outcome).await;
            // Only now: whoever gets the lock next finds this one ended.
            drop(held);
            operations.running().remove(&id);
            // Only now: whoever is told changes the same next and is not refused.
            board.tell_end(written);
        });
    }

    /// Locks something for an operation under way, waiting this long for whoever has it locked; what the operation has locked already it is lent. Gives nothing when no such operation is
    /// under way.
    pub(crate) async fn lock(
        &self,
        what: &str,
        operation: &str,
        wait: Duration,
    ) -> Result<Option<Held>, Refusal> {
        let Some(board) = self.board(operation) else {
            return Ok(None);
        };
        let holder = api::Holder {
            operation: operation.to_owned(),
            verb: board.verb(),
            since: clock::text(clock::now()),
        };
        self.locks.take_within(what, holder, wait).await.map(|mut held| held.pop())
    }

    /// Whether an operation has locked something.
    pub(crate) fn is_locked(&self, what: &str) -> bool {
        self.locks.is_taken(what)
    }

    /// Asks an operation to stop; false when it is not under way.
    pub(crate) fn cancel(&self, id: &str) -> bool {
        let running = self.running().get(id).cloned();
        running.map(|running| running.cancel.cancel()).is_some()
    }

    /// Notes from now on what is locked.
    pub(crate) fn watch_locks(&self) -> Watch {
        self.locks.watch()
    }

    /// Waits until an operation has ended and has let go of what it had locked.
    pub(crate) async fn ended(&self, id: &str) {
        let gone = self.running().get(id).map(|running| running.gone.clone());
        if let Some(gone) = gone {
            gone.cancelled().await;
        }
    }

    /// What an operation under way tells.
    pub(crate) fn board(&self, id: &str) -> Option<Arc<Board>> {
        self.running().get(id).map(|running| Arc::clone(&running.board))
    }

    /// No operation begins any more. Those under way have `grace` to finish; then they are cancelled and have `undo` to undo. `hurry` ends the grace at once.
    pub(crate) async fn drain(
        &self,
        grace: Duration,
        undo: Duration,
        hurry: &CancellationToken,
    ) -> Drained {
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => return Drained::default(),
            () = tokio::time::sleep(grace) => {}
            () = hurry.cancelled() => {}
        }
        let running: Vec<Running> = self.running().values().cloned().collect();
        tracing::warn!(operations = running.len(), "cancelling the operations under way");
        for running in &running {
            running.cancel.cancel();
        }
        let cancelled = running.len();
        let left = match tokio::time::timeout(undo, self.tasks.wait()).await {
            Ok(()) => 0,
            Err(_) => self.running().len(),
        };
        Drained { cancelled, left }
    }

    /// The ids of the operations under way.
    pub(crate) fn under_way(&self) -> Vec<String> {
        self.running().keys().cloned().collect()
    }

    // A std mutex: held for a look or an insert, never across an await.
    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An operation as it goes over the wire.
pub(crate) fn resource(record: OperationRecord) -> api::Operation {
    let OperationRecord { begin, state, ended, problem, result, .. } = record;
    api::Operation {
        id: begin.id,
        verb: begin.verb,
        app: begin.app,
        plugin: begin.plugin,
        digest: begin.digest,
        who: begin.who,
        detail: serde_json::from_str(&begin.detail).unwrap_or_default(),
        state: OperationState::of(&state),
        began: clock::text(begin.at),
        ended: ended.map(clock::text),
        problem: problem.and_then(|text| serde_json::from_str(&text).ok()),
        result: result.and_then(|text| serde_json::from_str(&text).ok()),
    }
}

#[cfg(test)]
mod tests;

//! How a call is made, how it ends, and what is done after it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use gantry_engine::layer::journal;
use gantry_engine::{Operation, OverLimit, Scope};
use tokio::task::JoinError;
use tokio_util::task::TaskTracker;
use wasmtime::component::{Instance, InstancePre, ResourceTableError};
use wasmtime::{Store, Trap, UpdateDeadline};
use wasmtime_wasi::I32Exit;

use crate::bindings::gantry::provision::types::Error as Told;
use crate::bounds::{Bound, Bounds};
use crate::call::state::OutsideWhileDescribing;
use crate::call::watch::{Death, Metered, watchdog};
use crate::call::{CallError, CallState, Cause, CleanUp, Locks, Outside, Watch};
use crate::convert::error_from;
use crate::generation::Generation;
use crate::host::StrangeReply;
use crate::host::log::Gate;
use crate::interface::Exports;
use crate::runtime::Runtime;

/// A store with an instance, for the time of one call.
pub(crate) struct Live {
    pub(crate) store: Store<CallState>,
    pub(crate) instance: Instance,
    pub(crate) exports: Arc<Exports>,
}

/// What a call does with its instance. The inner error is the plugin's own.
pub(crate) type Work<'a, T> = BoxFuture<'a, wasmtime::Result<Result<T, Told>>>;

/// Makes one call of a plugin. `all` is the bound of its time: a question's or an operation's.
pub(crate) async fn perform<T: Send>(
    generation: &Generation,
    operation: &Operation,
    all: Bound,
    work: impl for<'a> FnOnce(&'a mut Live) -> Work<'a, T> + Send,
) -> Result<T, CallError> {
    let runtime = generation.runtime();
    let _permit = tokio::select! {
        biased;
        () = operation.cancel.cancelled() => return Err(Cause::Cancelled.into()),
        () = tokio::time::sleep_until(operation.deadline) => return Err(Cause::Deadline.into()),
        permit = generation.permits().acquire() => permit?,
    };
    let bounds = generation.bounds_shared();
    let scope = Arc::new(scope(generation, operation, bounds, all));
    let outside = Arc::new(Outside {
        chain: generation.chain().clone(),
        scope: Arc::clone(&scope),
        limiter: generation.limiter().clone(),
        beside: TaskTracker::new(),
        locks: Locks::default(),
    });
    // Dropped after the store: when the caller goes away in the middle, nothing of the call runs any more when the clean-up begins.
    let mut abandoned = Abandoned { runtime, outside: Some(Arc::clone(&outside)) };
    let watch = Arc::new(Watch::new());
    let log = Arc::new(generation.log(&operation.id));
    let state =
        CallState::new(Arc::clone(bounds), Arc::clone(&watch), log, Some(Arc::clone(&outside)));
    let exports = Arc::clone(generation.exports());
    let ended = live(runtime, generation.pre(), exports, state, &scope.operation, all, work).await;
    let answer = match ended {
        Ok(Ok(answer)) => {
            scope.ledger.put_in_service();
            settle(runtime, &outside).await;
            Ok(answer)
        }
        Ok(Err(told)) => {
            settle(runtime, &outside).await;
            Err(plugin_error(generation, told).into())
        }
        Err(cause) => {
            let clean_up = clean_up(runtime, &outside).await;
            Err(CallError { cause, clean_up })
        }
    };
    outside.locks.let_all_go();
    // Only now: a caller that goes away in the middle of a clean-up does not stop it.
    abandoned.outside = None;
    answer
}

/// Asks a plugin to describe itself: a call with nothing granted and no way out.
pub(crate) async fn describe<T: Send>(
    runtime: &Runtime,
    pre: &InstancePre<CallState>,
    exports: Arc<Exports>,
    bounds: &Arc<Bounds>,
    log: Gate,
    work: impl for<'a> FnOnce(&'a mut Live) -> Work<'a, T> + Send,
) -> Result<T, Cause> {
    let watch = Arc::new(Watch::new());
    let state = CallState::new(Arc::clone(bounds), watch, Arc::new(log), None);
    let operation = Operation::new("", bounds.time(Bound::QuestionTime));
    let ended = live(runtime, pre, exports, state, &operation, Bound::QuestionTime, work).await?;
    ended.map_err(|told| Cause::Plugin(error_from(told)))
}

/// One call from the store to its end. The store does not outlive this.
async fn live<T: Send>(
    runtime: &Runtime,
    pre: &InstancePre<CallState>,
    exports: Arc<Exports>,
    state: CallState,
    operation: &Operation,
    all: Bound,
    work: impl for<'a> FnOnce(&'a mut Live) -> Work<'a, T> + Send,
) -> Result<Result<T, Told>, Cause> {
    let _running = runtime.running();
    let watch = Arc::clone(&state.watch);
    let bounds = Arc::clone(&state.bounds);
    let mut store = Store::new(runtime.engine(), state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(size(bounds.get(Bound::HostCallBytes)));
    // Each handle is in two tables, ours and wasmtime's; ours is the one that names the bound.
    store.set_max_component_handles(size(bounds.get(Bound::Handles).saturating_mul(2)));
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        let state = store.data();
        if state.watch.computed() >= state.bounds.time(Bound::Cpu) {
            return Err(wasmtime::Error::new(state.bounds.over(Bound::Cpu)));
        }
        Ok(UpdateDeadline::Yield(1))
    });
    let call = async {
        let instance = pre.instantiate_async(&mut store).await?;
        work(&mut Live { store, instance, exports }).await
    };
    let ended = {
        let mut call = std::pin::pin!(call);
        tokio::select! {
            biased;
            ended = Metered { call: call.as_mut(), watch: &watch } => Ok(ended),
            death = watchdog(&watch, &bounds, all, operation, runtime.grace()) => Err(death),
        }
    };
    match ended {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            // With the guest's stack, for whoever writes the plugin.
            tracing::debug!("a call died: {error:?}");
            Err(cause(&error, &watch, &bounds, runtime.stack()))
        }
        Err(Death::TimedOut(over)) => Err(Cause::TimedOut(over)),
        Err(Death::Deadline) => Err(Cause::Deadline),
        Err(Death::CutOff(grace)) => Err(Cause::CutOff { grace }),
        Err(Death::Over(over)) => Err(Cause::OverLimit(over)),
    }
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn scope(generation: &Generation, operation: &Operation, bounds: &Bounds, all: Bound) -> Scope {
    let mut operation = operation.clone();
    operation.deadline = operation.deadline.min(tokio::time::Instant::now() + bounds.time(all));
    // A call that undid must not keep the next call of the operation from seeing that it was cancelled.
    operation.undoing = Arc::default();
    Scope::new(generation.provisioner_shared(), generation.instance(), operation)
        .with_config(generation.config())
        .with_grants(generation.grants_shared())
        .with_limits(bounds.limits())
}

fn plugin_error(generation: &Generation, told: Told) -> Cause {
    let error = error_from(told);
    if let gantry_core::Error::NotSupported(action) = error {
        return Cause::NotSupported { provisioner: generation.provisioner().to_owned(), action };
    }
    Cause::Plugin(error)
}

/// Why a guest died, from the error that wasmtime carries it in.
fn cause(error: &wasmtime::Error, watch: &Watch, bounds: &Bounds, stack: usize) -> Cause {
    if let Some(over) = error.downcast_ref::<OverLimit>() {
        return Cause::OverLimit(over.clone());
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return Cause::OverLimit(bounds.over(Bound::Handles));
    }
    if let Some(strange) = error.downcast_ref::<StrangeReply>() {
        return Cause::Host(strange.to_string());
    }
    if let Some(gone) = error.downcast_ref::<JoinError>() {
        return Cause::Host(gone.to_string());
    }
    if let Some(refused) = error.downcast_ref::<OutsideWhileDescribing>() {
        return Cause::Trapped(refused.to_string());
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Cause::Trapped(with_last_words(&format!("it exited with code {}", exit.0), watch));
    }
    let trap = error.downcast_ref::<Trap>();
    if let Some(Trap::StackOverflow) = trap {
        return Cause::StackOverflow {
            stack: Bound::Memory.show(stack.try_into().unwrap_or(u64::MAX)),
        };
    }
    if watch.memory_was_refused() {
        // The language's allocator gave up after the host said that there is no more.
        return Cause::OverLimit(bounds.over(Bound::Memory));
    }
    let text = error.root_cause().to_string();
    // wasmtime has no types for these two.
    if text.contains("fuel allocated for hostcalls has been exhausted") {
        return Cause::OverLimit(bounds.over(Bound::HostCallBytes));
    }
    if text.contains("store handle limit exceeded") {
        return Cause::OverLimit(bounds.over(Bound::Handles));
    }
    match trap {
        Some(trap) => Cause::Trapped(with_last_words(&trap.to_string(), watch)),
        None => Cause::Trapped(with_last_words(&text, watch)),
    }
}

fn with_last_words(what: &str, watch: &Watch) -> String {
    match watch.last_words() {
        words if words.is_empty() => what.to_owned(),
        words => format!("{what}; its last words: {words}"),
    }
}

/// Cleans up after a call whose caller went away.
struct Abandoned<'a> {
    runtime: &'a Runtime,
    outside: Option<Arc<Outside>>,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        let Some(outside) = self.outside.take() else {
            return;
        };
        let runtime = self.runtime.clone();
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            let tasks = self.runtime.tasks().clone();
            let task = async move {
                let cleaned = clean_up(&runtime, &outside).await;
                outside.locks.let_all_go();
                cleaned
            };
            tasks.spawn_on(
                async move {
                    let cleaned = task.await;
                    if !cleaned.is_empty() {
                        tracing::warn!("the caller of a call went away{cleaned}");
                    }
                },
                &handle,
            );
        }
    }
}

/// Waits until no change is under way that the call gave up: once a call has answered, nothing of it happens any more.
async fn settle(runtime: &Runtime, outside: &Outside) {
    let time = runtime.clean_up_time();
    if tokio::time::timeout(time, outside.scope.ledger.settled()).await.is_err() {
        tracing::warn!("changes that a call gave up are still under way after {time:?}");
    }
}

/// Removes what a dead call created and had not put in service, through the chain.
async fn clean_up(runtime: &Runtime, outside: &Outside) -> CleanUp {
    let time = runtime.clean_up_time();
    let ledger = &outside.scope.ledger;
    let quiet = async {
        outside.beside.close();
        outside.beside.wait().await;
        ledger.settled().await;
    };
    if tokio::time::timeout(time, quiet).await.is_err() {
        tracing::warn!("effects of a dead call are still under way after {time:?}");
    }
    if ledger.loose().is_empty() && ledger.loose_objects().is_empty() {
        return CleanUp::default();
    }
    let scope = Arc::new(outside.scope.for_clean_up(time));
    let cleaned = journal::clean_up(&outside.chain, &scope).await;
    let journal::Cleaned { removed, put_back, left } = cleaned;
    CleanUp { removed, put_back, left }
}

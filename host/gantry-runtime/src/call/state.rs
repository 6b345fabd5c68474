//! What a store holds: all that the host functions of one call have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use gantry_engine::{AppLock, Chain, EngineError, Error, Request, Response, Scope};
use tokio_util::task::TaskTracker;
use wasmtime::ResourceLimiter;
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::bounds::{Bound, Bounds};
use crate::call::{Aside, Watch};
use crate::host::log::Gate;
use crate::host::streams::Held;
use crate::host::wasi;
use crate::limiter::Limiter;

/// All that the host functions of one call have.
pub(crate) struct CallState {
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    pub(crate) memory: MemoryLimit,
    pub(crate) bounds: Arc<Bounds>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) log: Arc<Gate>,
    /// Bytes of the guest that the host keeps for it.
    pub(crate) held: Arc<Held>,
    /// The way out of the sandbox; none while the plugin describes itself.
    outside: Option<Arc<Outside>>,
}

/// The way out of the sandbox.
pub(crate) struct Outside {
    pub(crate) chain: Chain,
    pub(crate) scope: Arc<Scope>,
    /// The places of the provisioner's actions.
    pub(crate) limiter: Limiter,
    /// What runs beside the guest. When the store is gone, this tells when all of it has ended.
    pub(crate) beside: TaskTracker,
    /// The apps that the guest has locked. They stay locked until what a dead call made of them is cleaned up, which is after its store is gone.
    pub(crate) locks: Locks,
}

/// Locks of apps, by a number of their own.
#[derive(Default)]
pub(crate) struct Locks(Mutex<(u64, BTreeMap<u64, AppLock>)>);

impl Locks {
    /// Keeps a lock, and gives its number.
    pub(crate) fn keep(&self, lock: AppLock) -> u64 {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.0 = locks.0.saturating_add(1);
        let number = locks.0;
        locks.1.insert(number, lock);
        number
    }

    /// Lets go of one.
    pub(crate) fn let_go(&self, number: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&number);
    }

    /// Lets go of all.
    pub(crate) fn let_all_go(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clear();
    }
}

/// A plugin called an import while it was asked to describe itself.
#[derive(Debug, thiserror::Error)]
#[error("`plugin.describe` must not call an import")]
pub(crate) struct OutsideWhileDescribing;

impl CallState {
    pub(crate) fn new(
        bounds: Arc<Bounds>,
        watch: Arc<Watch>,
        log: Arc<Gate>,
        outside: Option<Arc<Outside>>,
    ) -> Self {
        let handles = usize::try_from(bounds.get(Bound::Handles)).unwrap_or(usize::MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles);
        Self {
            table,
            wasi: wasi::context(&log, &watch),
            memory: MemoryLimit {
                bytes: usize::try_from(bounds.get(Bound::Memory)).unwrap_or(usize::MAX),
                used: 0,
                watch: Arc::clone(&watch),
            },
            held: Arc::new(Held::new(&bounds)),
            bounds,
            watch,
            log,
            outside,
        }
    }

    /// The way out, or a trap while the plugin describes itself.
    pub(crate) fn outside(&self) -> wasmtime::Result<&Arc<Outside>> {
        self.outside.as_ref().ok_or_else(|| wasmtime::Error::new(OutsideWhileDescribing))
    }

    /// Counts a host call that does not go through the chain, with this many bytes of arguments.
    pub(crate) fn charge(&self, bytes: usize) -> wasmtime::Result<&Arc<Outside>> {
        let outside = self.outside()?;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        outside.scope.meter.charge(bytes).map_err(wasmtime::Error::new)?;
        Ok(outside)
    }

    /// Sends a call down the chain. The outer error ends the guest, the inner one is for it.
    pub(crate) async fn send(
        &mut self,
        request: impl Into<Request> + Send,
    ) -> wasmtime::Result<Result<Response, Error>> {
        // Nothing of the store but these two is held while the engine works.
        let (outside, watch) = (Arc::clone(self.outside()?), Arc::clone(&self.watch));
        outside.send(&watch, request).await
    }

    /// Puts something into the guest's hands.
    pub(crate) fn push<T: Send + 'static>(&mut self, entry: T) -> wasmtime::Result<Resource<T>> {
        self.table.push(entry).map_err(|error| self.table_error(error))
    }

    fn table_error(&self, error: ResourceTableError) -> wasmtime::Error {
        match error {
            ResourceTableError::Full => wasmtime::Error::new(self.bounds.over(Bound::Handles)),
            ResourceTableError::NotPresent
            | ResourceTableError::WrongType
            | ResourceTableError::HasChildren => wasmtime::Error::new(error),
        }
    }
}

impl Outside {
    /// Sends a call down the chain. What the engine does for it is none of the guest's time. The outer error ends the guest, the inner one is for it.
    pub(crate) async fn send(
        &self,
        watch: &Watch,
        request: impl Into<Request> + Send,
    ) -> wasmtime::Result<Result<Response, Error>> {
        let _working = watch.work();
        let work = Box::pin(self.chain.send(&self.scope, request));
        lift(Aside { work, watch }.await)
    }
}

/// Tells an error that ends the guest from one that it may handle.
fn lift<T>(answer: Result<T, Error>) -> wasmtime::Result<Result<T, Error>> {
    match answer {
        Ok(value) => Ok(Ok(value)),
        Err(Error::OverLimit(over)) => Err(wasmtime::Error::new(over)),
        Err(error @ (Error::Engine(_) | Error::Platform(_))) => Ok(Err(error)),
    }
}

/// An error of the container interface. The platform's errors do not come from there; if one did, its text would be told.
pub(crate) fn engine_error(error: Error) -> EngineError {
    match error {
        Error::Engine(error) => error,
        Error::Platform(error) => EngineError::Failed(error.to_string()),
        Error::OverLimit(over) => EngineError::Failed(over.to_string()),
    }
}

/// An error of the platform's interfaces.
pub(crate) fn platform_error(error: Error) -> gantry_core::Error {
    match error {
        Error::Platform(error) => error,
        Error::Engine(error) => gantry_core::Error::Other(error.to_string()),
        Error::OverLimit(over) => gantry_core::Error::Other(over.to_string()),
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Holds the memory of a call to its bound. A guest that asks for more is told that there is none, as on a small machine; the call fails for it only if the guest does.
pub(crate) struct MemoryLimit {
    bytes: usize,
    used: usize,
    watch: Arc<Watch>,
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.bytes {
            self.watch.refuse_memory();
            return Ok(false);
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // An element is a pointer: a table is memory too.
        let bytes = desired.saturating_mul(size_of::<usize>());
        if bytes > self.bytes {
            self.watch.refuse_memory();
            return Ok(false);
        }
        Ok(true)
    }
}

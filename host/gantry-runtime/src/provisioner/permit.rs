//! How many calls run at the same time: a slot of the engine for each, and no provisioner may have all of them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::call::Cause;

/// The slots as one generation sees them.
#[derive(Clone)]
pub(crate) struct Permits {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// A slot; it is free again when this is dropped.
pub(crate) struct Permit {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Permits {
    /// The slots of one more provisioner: three quarters of all, so that one that hangs leaves room for the others.
    pub(crate) fn new(all: &Arc<Semaphore>, calls: u32) -> Self {
        let own = usize::try_from(calls.saturating_mul(3).div_ceil(4).max(1)).unwrap_or(1);
        Self { own: Arc::new(Semaphore::new(own)), all: Arc::clone(all) }
    }

    /// Waits for a slot. The own comes first: who waits for it holds none that others could use.
    pub(crate) async fn acquire(&self) -> Result<Permit, Cause> {
        let closed = |_| Cause::Host("it is shutting down".to_owned());
        let own = Arc::clone(&self.own).acquire_owned().await.map_err(closed)?;
        let all = Arc::clone(&self.all).acquire_owned().await.map_err(closed)?;
        Ok(Permit { _all: all, _own: own })
    }
}

//! Which generation answers: one pointer that calls take at their beginning and keep to their end.
//!
//! ```text
//! call ──► take the pointer ──► old ──► … ──► end     the old generation lives until its last call has ended
//! swap ──────► exchange
//! call ──► take the pointer ──► new
//! ```

use arc_swap::ArcSwap;
use std::sync::Arc;

use crate::generation::Generation;

/// The generation in service.
pub(crate) struct Serving(ArcSwap<Generation>);

impl Serving {
    pub(crate) fn new(generation: Generation) -> Self {
        Self(ArcSwap::from_pointee(generation))
    }

    /// The generation for a call that begins now.
    pub(crate) fn take(&self) -> Arc<Generation> {
        self.0.load_full()
    }

    /// Puts another generation in service and gives the one that was.
    pub(crate) fn exchange(&self, new: Generation) -> Arc<Generation> {
        self.0.swap(Arc::new(new))
    }
}

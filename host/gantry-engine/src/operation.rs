//! The request under way, as the layers and the host functions see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Takes what people should read while an operation runs.
pub trait Progress: Send + Sync {
    /// Text as the plugin wrote it, any number of lines or parts of one.
    fn show(&self, text: &str);
}

/// One request that may change something: its id, its readers, its end.
#[derive(Clone)]
pub struct Operation {
    /// Its id; empty for a question that changes nothing.
    pub id: String,
    /// Who reads its progress.
    pub progress: Arc<dyn Progress>,
    /// Asked to stop.
    pub cancel: CancellationToken,
    /// When its time is over.
    pub deadline: Instant,
    /// The plugin is undoing: waiting calls wait again although the operation was cancelled.
    pub undoing: Arc<AtomicBool>,
}

impl Operation {
    /// Whether a waiting call should return now.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.cancel.is_cancelled() && !self.undoing.load(Ordering::Acquire)
    }
}

//! The request under way, as the layers and the host functions see it.

use std::future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Takes what people should read while an operation runs.
pub trait Progress: Send + Sync {
    /// Text as the plugin wrote it, any number of lines or parts of one.
    fn show(&self, text: &str);
}

/// Nobody reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn show(&self, _text: &str) {}
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
    /// An operation with this id and this much time. An empty id is a question.
    #[must_use]
    pub fn new(id: impl Into<String>, time: Duration) -> Self {
        Self {
            id: id.into(),
            progress: Arc::new(Silent),
            cancel: CancellationToken::new(),
            deadline: Instant::now() + time,
            undoing: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The same operation with somebody who reads its progress.
    #[must_use]
    pub fn shown_to(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Whether a waiting call should return now.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.cancel.is_cancelled() && !self.undoing.load(Ordering::Acquire)
    }

    /// Ends when a waiting call should return, which is never while the plugin undoes.
    pub async fn interruption(&self) {
        self.cancel.cancelled().await;
        if !self.interrupted() {
            future::pending::<()>().await;
        }
    }
}

//! What people read while an operation runs, as a test sees it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use gantry_engine::operation::Progress;

/// Everything that was shown, and who waits for it.
#[derive(Default)]
pub struct Screen {
    text: Mutex<String>,
    changed: tokio::sync::Notify,
}

impl Screen {
    fn shown(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it.
    #[must_use]
    pub fn text(&self) -> String {
        self.shown().clone()
    }

    /// Waits until this is in it.
    pub async fn until(&self, part: &str) {
        while !self.text().contains(part) {
            self.changed.notified().await;
        }
    }
}

impl Progress for Screen {
    fn show(&self, text: &str) {
        self.shown().push_str(text);
        self.changed.notify_one();
    }
}

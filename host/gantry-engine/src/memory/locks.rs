//! Who has which app locked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gantry_core::Error;
use tokio::sync::Notify;

/// The apps that operations have locked. Cloning it gives the same.
#[derive(Clone, Default)]
pub(super) struct Locks(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// By app, the operation that has it and how often it has it.
    holders: Mutex<BTreeMap<String, (String, usize)>>,
    freed: Notify,
}

/// An app that is locked; dropping it lets go.
pub(super) struct Locked {
    shared: Arc<Shared>,
    app: String,
}

impl Locks {
    /// Locks an app, or borrows it from the operation itself.
    pub(super) async fn take(
        &self,
        app: &str,
        operation: &str,
        wait: Duration,
    ) -> Result<Locked, Error> {
        let waiting = async {
            loop {
                // Registered before the look, so that no lock is freed in between unseen.
                let mut freed = std::pin::pin!(self.0.freed.notified());
                freed.as_mut().enable();
                if let Ok(locked) = self.try_take(app, operation) {
                    return locked;
                }
                freed.await;
            }
        };
        match tokio::time::timeout(wait, waiting).await {
            Ok(locked) => Ok(locked),
            // Who has it now is who is told.
            Err(_) => self.try_take(app, operation),
        }
    }

    fn try_take(&self, app: &str, operation: &str) -> Result<Locked, Error> {
        let mut holders = self.0.holders();
        let (holder, times) =
            holders.entry(app.to_owned()).or_insert_with(|| (operation.to_owned(), 0));
        if holder != operation {
            let text = format!("`the app {app}` is being changed by operation `{holder}`");
            return Err(Error::Conflict(text));
        }
        *times = times.saturating_add(1);
        Ok(Locked { shared: Arc::clone(&self.0), app: app.to_owned() })
    }
}

impl Shared {
    fn holders(&self) -> MutexGuard<'_, BTreeMap<String, (String, usize)>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let mut holders = self.shared.holders();
        if let Some((_, times)) = holders.get_mut(&self.app) {
            *times = times.saturating_sub(1);
            if *times == 0 {
                holders.remove(&self.app);
                self.shared.freed.notify_waiters();
            }
        }
    }
}

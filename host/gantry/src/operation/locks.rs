//! One change of one thing at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Refusal;
use crate::api::Holder;

/// Who changes what. It lives in memory: only one daemon serves from a data directory, and its locks end with it.
#[derive(Clone, Default)]
pub(super) struct Locks(Arc<Shared>);

#[derive(Default)]
struct Shared {
    // A std mutex: held for a look or an insert, never across an await.
    taken: Mutex<BTreeMap<String, Taken>>,
    freed: Notify,
}

/// A lock that somebody has.
struct Taken {
    holder: Holder,
    /// How often: what an operation has it is lent, and free when the last of it is given back.
    times: usize,
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, BTreeMap<String, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is locked while an app is changed.
pub(crate) fn of_app(app: &str) -> String {
    format!("the app {app}")
}

/// A lock that is held; dropping it lets go.
pub(crate) struct Held {
    shared: Arc<Shared>,
    what: String,
}

impl Locks {
    /// Takes a lock, waiting for it if asked to. What the operation has already it gets once more.
    pub(super) async fn take(
        &self,
        what: &str,
        holder: Holder,
        wait: bool,
    ) -> Result<Held, Refusal> {
        loop {
            // Registered before the look: a lock that is freed between the look and the wait still wakes us.
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match self.try_take(what, &holder) {
                Ok(held) => return Ok(held),
                Err(refusal) if !wait => return Err(refusal),
                Err(_) => freed.await,
            }
        }
    }

    /// Takes a lock, waiting this long for it; then whoever has it is told.
    pub(super) async fn take_within(
        &self,
        what: &str,
        holder: Holder,
        time: Duration,
    ) -> Result<Held, Refusal> {
        match tokio::time::timeout(time, self.take(what, holder.clone(), true)).await {
            Ok(taken) => taken,
            Err(_) => self.try_take(what, &holder),
        }
    }

    /// Whether somebody has it.
    pub(super) fn is_taken(&self, what: &str) -> bool {
        self.0.taken().contains_key(what)
    }

    fn try_take(&self, what: &str, holder: &Holder) -> Result<Held, Refusal> {
        let mut all = self.0.taken();
        let taken = all
            .entry(what.to_owned())
            .or_insert_with(|| Taken { holder: holder.clone(), times: 0 });
        if taken.holder.operation != holder.operation {
            return Err(Refusal::Busy { what: what.to_owned(), holder: taken.holder.clone() });
        }
        taken.times = taken.times.saturating_add(1);
        Ok(Held { shared: Arc::clone(&self.0), what: what.to_owned() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.shared.taken();
        if let Some(taken) = all.get_mut(&self.what) {
            taken.times = taken.times.saturating_sub(1);
            if taken.times == 0 {
                all.remove(&self.what);
                self.shared.freed.notify_waiters();
            }
        }
    }
}

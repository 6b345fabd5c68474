//! One change of one thing at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Refusal;
use crate::api::Holder;

/// Who changes what. It lives in memory: only one daemon serves from a data directory, and its locks end with it.
#[derive(Clone, Default)]
pub(super) struct Locks(Arc<Shared>);

#[derive(Default)]
struct Shared {
    // A std mutex: held for a look or an insert, never across an await.
    holders: Mutex<BTreeMap<String, Holder>>,
    freed: Notify,
}

impl Shared {
    fn holders(&self) -> MutexGuard<'_, BTreeMap<String, Holder>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lock that is held; dropping it lets go.
pub(crate) struct Held {
    shared: Arc<Shared>,
    what: String,
}

impl Locks {
    /// Takes a lock, waiting for it if asked to.
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

    fn try_take(&self, what: &str, holder: &Holder) -> Result<Held, Refusal> {
        let mut holders = self.0.holders();
        if let Some(other) = holders.get(what) {
            return Err(Refusal::Busy { what: what.to_owned(), holder: other.clone() });
        }
        holders.insert(what.to_owned(), holder.clone());
        Ok(Held { shared: Arc::clone(&self.0), what: what.to_owned() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.holders().remove(&self.what);
        self.shared.freed.notify_waiters();
    }
}

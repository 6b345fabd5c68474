//! One change of one thing at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
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
    watches: Mutex<Vec<Weak<Names>>>,
}

/// Names of what was locked.
type Names = Mutex<BTreeSet<String>>;

/// Notes what is locked while it lives, were it for a moment.
pub(crate) struct Watch(Arc<Names>);

impl Watch {
    /// Whether something was locked when this began, or since.
    pub(crate) fn saw(&self, what: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(what)
    }
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

    fn watches(&self) -> MutexGuard<'_, Vec<Weak<Names>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Takes all of these locks or none, waiting for them if asked to: whoever waits holds nothing. What the operation has already it gets once more.
    pub(super) async fn take(
        &self,
        all: &[String],
        holder: Holder,
        wait: bool,
    ) -> Result<Vec<Held>, Refusal> {
        loop {
            // Registered before the look: a lock that is freed between the look and the wait still wakes us.
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match self.try_take(all, &holder) {
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
    ) -> Result<Vec<Held>, Refusal> {
        let what = [what.to_owned()];
        match tokio::time::timeout(time, self.take(&what, holder.clone(), true)).await {
            Ok(taken) => taken,
            Err(_) => self.try_take(&what, &holder),
        }
    }

    /// Whether somebody has it.
    pub(super) fn is_taken(&self, what: &str) -> bool {
        self.0.taken().contains_key(what)
    }

    /// Notes from now on what is locked.
    pub(super) fn watch(&self) -> Watch {
        // With `taken` locked: what is taken meanwhile is in neither or in both.
        let taken = self.0.taken();
        let watch = Watch(Arc::new(Mutex::new(taken.keys().cloned().collect())));
        let mut watches = self.0.watches();
        // Not only when something is locked, which may be never.
        watches.retain(|watch| watch.strong_count() > 0);
        watches.push(Arc::downgrade(&watch.0));
        watch
    }

    fn try_take(&self, all: &[String], holder: &Holder) -> Result<Vec<Held>, Refusal> {
        let mut taken = self.0.taken();
        for what in all {
            if let Some(Taken { holder: other, .. }) = taken.get(what)
                && other.operation != holder.operation
            {
                return Err(Refusal::Busy { what: what.clone(), holder: other.clone() });
            }
        }
        for what in all {
            let one = taken
                .entry(what.clone())
                .or_insert_with(|| Taken { holder: holder.clone(), times: 0 });
            one.times = one.times.saturating_add(1);
        }
        self.0.watches().retain(|watch| {
            let Some(names) = watch.upgrade() else { return false };
            names.lock().unwrap_or_else(PoisonError::into_inner).extend(all.iter().cloned());
            true
        });
        let held = |what: &String| Held { shared: Arc::clone(&self.0), what: what.clone() };
        Ok(all.iter().map(held).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_for_two_has_neither() {
        let locks = Locks::default();
        let holder = |operation: &str| Holder {
            operation: operation.to_owned(),
            verb: "app-swap".to_owned(),
            since: String::new(),
        };
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let web = locks.take(&names(&["web"]), holder("1"), false).await.unwrap();
        let both = names(&["api", "web"]);
        let mut waiting = std::pin::pin!(locks.take(&both, holder("2"), true));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(locks.take(&names(&["api"]), holder("3"), false).await.unwrap());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(web);
        assert_eq!(waiting.await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_watch_sees_what_is_locked_when_it_begins_and_since_and_nothing_else() {
        let locks = Locks::default();
        let holder = || Holder {
            operation: "1".to_owned(),
            verb: "unit-add".to_owned(),
            since: String::new(),
        };
        let take = async |what: &str| locks.take(&[what.to_owned()], holder(), false).await;
        drop(take("before").await.unwrap());
        let held = take("held").await.unwrap();
        drop(locks.watch());
        let watch = locks.watch();
        assert_eq!(locks.0.watches().len(), 1, "one that nobody has is not kept for the next");
        drop(held);
        drop(take("since").await.unwrap());
        let saw = ["before", "held", "since"].map(|what| watch.saw(what));
        assert_eq!(saw, [false, true, true]);
        drop(watch);
        drop(take("after").await.unwrap());
        assert!(locks.0.watches().is_empty(), "one that nobody has costs nothing");
    }
}

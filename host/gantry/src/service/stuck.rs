//! What failed, and is tried again after ever longer pauses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What failed. Each waits twice as long before every further try.
#[derive(Debug)]
pub(super) struct Stuck<T> {
    shortest: Duration,
    longest: Duration,
    waiting: BTreeMap<T, (Instant, Duration)>,
}

impl<T: Ord> Stuck<T> {
    /// Nothing yet, with the pause before the second try, and the longest one.
    pub(super) const fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, waiting: BTreeMap::new() }
    }

    /// Whether it is too early for another try.
    pub(super) fn waits(&self, what: &T, now: Instant) -> bool {
        self.waiting.get(what).is_some_and(|(until, _)| now < *until)
    }

    /// It has failed, perhaps again.
    pub(super) fn failed(&mut self, what: T, now: Instant) {
        let before = self.waiting.get(&what).map(|(_, pause)| pause.saturating_mul(2));
        let pause = before.unwrap_or(self.shortest).min(self.longest);
        self.waiting.insert(what, (now + pause, pause));
    }

    /// Leaves of what was found what does not wait. What is not found any more waits for none: of those alone that were looked for.
    pub(super) fn retain_due<F>(
        &mut self,
        found: &mut Vec<F>,
        what: impl Fn(&F) -> T,
        was_looked_for: impl Fn(&T) -> bool,
        now: Instant,
    ) {
        let there: BTreeSet<T> = found.iter().map(&what).collect();
        self.keep(|known| !was_looked_for(known) || there.contains(known));
        found.retain(|one| !self.waits(&what(one), now));
    }

    /// Forgets all but these.
    pub(super) fn keep(&mut self, is_still: impl Fn(&T) -> bool) {
        self.waiting.retain(|what, _| is_still(what));
    }
}

/// The same, shared with the operations that try.
#[derive(Debug)]
pub(super) struct AllStuck<T>(Arc<Mutex<Stuck<T>>>);

impl<T> Clone for AllStuck<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Ord> AllStuck<T> {
    /// The same as of one.
    pub(super) fn new(shortest: Duration, longest: Duration) -> Self {
        Self(Arc::new(Mutex::new(Stuck::new(shortest, longest))))
    }

    // A std mutex: held for a look or an insert, never across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, Stuck<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn stuck() -> Stuck<&'static str> {
        Stuck::new(5 * MINUTE, 24 * 60 * MINUTE)
    }

    #[test]
    fn what_fails_waits_longer_every_time_and_so_long_at_most() {
        let mut stuck = stuck();
        let mut now = Instant::now();
        assert!(!stuck.waits(&"v1", now));
        for minutes in [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440] {
            stuck.failed("v1", now);
            let pause = minutes * MINUTE;
            assert!(stuck.waits(&"v1", now + pause - Duration::from_secs(1)), "{minutes}");
            now += pause;
            assert!(!stuck.waits(&"v1", now), "{minutes}");
        }
        assert!(!stuck.waits(&"v2", now));
    }

    #[test]
    fn what_is_forgotten_waits_for_nothing_and_begins_anew() {
        let mut stuck = stuck();
        let now = Instant::now();
        for what in ["v1", "v1", "v2"] {
            stuck.failed(what, now);
        }
        stuck.keep(|what| *what == "v2");
        assert!(!stuck.waits(&"v1", now) && stuck.waits(&"v2", now));
        stuck.failed("v1", now);
        assert!(!stuck.waits(&"v1", now + 5 * MINUTE));
    }
}

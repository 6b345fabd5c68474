//! How many engine actions of a kind run at the same time (spec 4.5): one limiter for each provisioner, shared by all its calls and generations.
//!
//! ```text
//! start ─► a place is free, nobody waits ─────────► slot ─ dropped ─► whoever waits longest has the place
//!    └───► all are taken ─► wait in order ─ turn ─────┘
//! ```
//!
//! Unlike the reference's, a place is tied to its [`Slot`]: it is freed once, when that is dropped, whatever becomes of its holder.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use gantry_core::Settings;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest action, in bytes.
pub const ACTION: usize = 512;

const MODE: &str = "docker:limit:mode";
const PER_ACTION: &str = "docker:limit:actions-per-host";

/// Why a provisioner has no limiter as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimiterError {
    /// Places that several daemons share.
    #[error(
        "`{MODE}` is `global`, and this host cannot share places with others yet: leave it out to count the actions of this host alone"
    )]
    Global,
    /// It is no number of places.
    #[error("`{PER_ACTION}` is `{0}`, which is no number of actions")]
    NoNumber(String),
}

/// How many places an action has: none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit(Option<u32>);

impl Limit {
    /// So many places; 0 is no limit.
    #[must_use]
    pub fn new(places: u32) -> Self {
        Self((places > 0).then_some(places))
    }

    /// What the operator configured.
    ///
    /// # Errors
    /// Places that are shared with other hosts, or that are no number.
    pub fn configured(settings: &(impl Settings + ?Sized)) -> Result<Self, LimiterError> {
        if settings.string(MODE) == "global" {
            return Err(LimiterError::Global);
        }
        let Some(text) = settings.text(PER_ACTION) else {
            return Ok(Self::default());
        };
        let places = settings.integer(PER_ACTION).and_then(|places| u32::try_from(places).ok());
        places.map(Self::new).ok_or(LimiterError::NoNumber(text))
    }
}

/// Gives places to actions. Cloning it gives the same limiter.
#[derive(Clone, Debug, Default)]
pub struct Limiter(Arc<Places>);

#[derive(Debug, Default)]
struct Places {
    limit: Limit,
    // A std mutex: held to look up an action, never across an await.
    actions: Mutex<BTreeMap<String, Action>>,
}

/// An action that somebody does or waits for.
#[derive(Debug)]
struct Action {
    free: Arc<Semaphore>,
    /// How many do it or wait for it: it is forgotten with the last of them.
    users: usize,
}

/// A place that an action has; it is free again when this is dropped.
#[derive(Debug)]
pub struct Slot {
    // Dropped first: whoever waits for it is still counted among the users.
    _place: Option<(OwnedSemaphorePermit, User)>,
}

/// Somebody who does an action or waits for it.
#[derive(Debug)]
struct User {
    places: Arc<Places>,
    action: String,
}

impl Limiter {
    /// A limiter with nothing under way.
    #[must_use]
    pub fn new(limit: Limit) -> Self {
        Self(Arc::new(Places { limit, actions: Mutex::default() }))
    }

    /// Waits until the action has a place: first come, first served. Whoever stops waiting leaves the queue.
    pub async fn start(&self, action: &str) -> Slot {
        let Limit(Some(limit)) = self.0.limit else {
            return Slot { _place: None };
        };
        let (free, user) = self.0.enter(action, limit);
        // Nobody closes it, and without a place there is nothing to hold.
        let place = free.acquire_owned().await.ok();
        Slot { _place: place.map(|place| (place, user)) }
    }

    /// How many places of the action are taken now; 0 without a limit.
    #[must_use]
    pub fn len(&self, action: &str) -> u32 {
        let Limit(Some(limit)) = self.0.limit else {
            return 0;
        };
        let actions = self.0.actions();
        let free = actions.get(action).map(|action| action.free.available_permits());
        free.map_or(0, |free| limit.saturating_sub(u32::try_from(free).unwrap_or(u32::MAX)))
    }

    /// Whether no action is done or waited for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.actions().is_empty()
    }
}

impl Places {
    fn enter(self: &Arc<Self>, action: &str, limit: u32) -> (Arc<Semaphore>, User) {
        let mut actions = self.actions();
        let entry = actions.entry(action.to_owned()).or_insert_with(|| {
            let places = usize::try_from(limit).unwrap_or(usize::MAX);
            Action { free: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))), users: 0 }
        });
        entry.users = entry.users.saturating_add(1);
        let user = User { places: Arc::clone(self), action: action.to_owned() };
        (Arc::clone(&entry.free), user)
    }

    fn actions(&self) -> MutexGuard<'_, BTreeMap<String, Action>> {
        self.actions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut actions = self.places.actions();
        if let Some(entry) = actions.get_mut(&self.action) {
            entry.users = entry.users.saturating_sub(1);
            if entry.users == 0 {
                actions.remove(&self.action);
            }
        }
    }
}

/// The limiters by the names of provisioners: the next generation of a name finds the places that the one before has taken. A name that nobody has any more is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Limiters(Mutex<BTreeMap<String, Weak<Places>>>);

impl Limiters {
    /// The limiter of a provisioner. Another limit than before begins anew: those who hold a place of the old one hold none of the new.
    pub(crate) fn of(&self, provisioner: &str, limit: Limit) -> Limiter {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, places| places.strong_count() > 0);
        if let Some(places) = all.get(provisioner).and_then(Weak::upgrade)
            && places.limit == limit
        {
            return Limiter(places);
        }
        let limiter = Limiter::new(limit);
        all.insert(provisioner.to_owned(), Arc::downgrade(&limiter.0));
        limiter
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use futures_util::poll;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn places_are_given_in_the_order_in_which_they_are_asked_for() {
        let limiter = Limiter::new(Limit::new(1));
        let held = limiter.start("a").await;
        let mut first = pin!(limiter.start("a"));
        let mut second = pin!(limiter.start("a"));
        assert!(poll!(first.as_mut()).is_pending());
        assert!(poll!(second.as_mut()).is_pending());
        drop(held);
        assert!(poll!(second.as_mut()).is_pending(), "it asked later");
        let Poll::Ready(held) = poll!(first.as_mut()) else { panic!("the place is free") };
        assert!(poll!(second.as_mut()).is_pending(), "there is one place");
        // Nobody who comes by takes it either.
        drop(held);
        let mut late = pin!(limiter.start("a"));
        assert!(poll!(late.as_mut()).is_pending());
        assert!(poll!(second.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn whoever_stops_waiting_holds_nobody_up() {
        let limiter = Limiter::new(Limit::new(1));
        let held = limiter.start("a").await;
        let mut patient = pin!(limiter.start("a"));
        {
            let mut impatient = pin!(limiter.start("a"));
            assert!(poll!(impatient.as_mut()).is_pending());
            assert!(poll!(patient.as_mut()).is_pending());
        }
        drop(held);
        assert!(poll!(patient.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn a_place_that_was_given_to_somebody_who_has_gone_is_given_on() {
        let limiter = Limiter::new(Limit::new(1));
        let held = limiter.start("a").await;
        {
            let mut gone = pin!(limiter.start("a"));
            assert!(poll!(gone.as_mut()).is_pending());
            // The place is given to it here, and nobody looks any more.
            drop(held);
        }
        assert_eq!(limiter.len("a"), 0);
        drop(limiter.start("a").await);
    }

    #[tokio::test]
    async fn an_action_is_remembered_only_while_somebody_does_it_or_waits_for_it() {
        let limiter = Limiter::new(Limit::new(1));
        for number in 0..100 {
            drop(limiter.start(&format!("action {number}")).await);
        }
        assert!(limiter.is_idle());
        let held = limiter.start("a").await;
        {
            let mut waiting = pin!(limiter.start("a"));
            assert!(poll!(waiting.as_mut()).is_pending());
            drop(held);
            assert!(!limiter.is_idle(), "somebody waits");
        }
        assert!(limiter.is_idle());
    }

    #[tokio::test]
    async fn without_a_limit_everybody_has_a_place_and_none_is_counted() {
        let limiter = Limiter::new(Limit::new(0));
        let slots = [limiter.start("a").await, limiter.start("a").await];
        assert_eq!(limiter.len("a"), 0);
        drop(slots);
    }

    #[tokio::test]
    async fn generations_of_one_name_share_their_places() {
        let limiters = Limiters::default();
        let (two, three) = (Limit::new(2), Limit::new(3));
        let old = limiters.of("docker", two);
        let slot = old.start("a").await;
        let new = limiters.of("docker", two);
        assert_eq!(new.len("a"), 1);
        assert_eq!(limiters.of("acme", two).len("a"), 0, "another name");
        drop(old);
        assert_eq!(limiters.of("docker", two).len("a"), 1, "a slot outlives its generation");
        assert_eq!(limiters.of("docker", three).len("a"), 0, "another limit");
        drop((slot, new));
        assert_eq!(limiters.of("docker", two).len("a"), 0);
    }

    #[test]
    fn the_limit_is_what_the_operator_configured() {
        let limit = |value| Limit::configured(&json!({"docker": {"limit": value}}));
        assert_eq!(Limit::configured(&json!({})), Ok(Limit::new(0)));
        assert_eq!(limit(json!({"actions-per-host": 0})), Ok(Limit::new(0)));
        assert_eq!(limit(json!({"actions-per-host": 3})), Ok(Limit::new(3)));
        assert_eq!(limit(json!({"actions-per-host": "3", "mode": "local"})), Ok(Limit::new(3)));
        assert_eq!(limit(json!({"mode": "any"})), Ok(Limit::new(0)));
        let error = limit(json!({"actions-per-host": 3, "mode": "global"})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`docker:limit:mode` is `global`, and this host cannot share places with others yet: leave it out to count the actions of this host alone"
        );
        for (wrong, shown) in [(json!(-1), "-1"), (json!("many"), "many"), (json!(true), "true")] {
            let error = limit(json!({"actions-per-host": wrong})).unwrap_err();
            let text = format!(
                "`docker:limit:actions-per-host` is `{shown}`, which is no number of actions"
            );
            assert_eq!(error.to_string(), text);
        }
    }
}

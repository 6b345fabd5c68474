//! The part of the ledger that is about objects of clusters: what was there before an operation touched it.
//!
//! ```text
//! looked at ─► touched ─► in service     the operation ended well, or deleted what was there before it, or made an image current
//!                 └─► taken back         what was not there is deleted, what was there is put back as it was: by a clean-up, or because the plugin asks for it
//! ```

mod taking;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

pub use self::taking::{TakenBack, take_back};
use super::{in_a_task, refuses, replace};
use crate::call::cluster::{ClusterCall, DeleteOptions, Kind, Patch, word};
use crate::layer::Next;
use crate::layer::identity::OPERATION;
use crate::layer::identity::objects::{is_own, mark_of};
use crate::{Call, Error, Reply, Request, Response, Scope};

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The cluster.
    pub cluster: String,
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for kinds without.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Place {
    /// The place of this name.
    #[must_use]
    pub fn new(cluster: &str, kind: &Kind, namespace: &str, name: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            kind: kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Where an object says it is.
    #[must_use]
    pub fn of(cluster: &str, object: &Value) -> Self {
        Self::new(cluster, &Kind::of(object), word(object, "namespace"), word(object, "name"))
    }

    /// The call that reads what is there.
    pub(crate) fn get(&self) -> Call {
        self.call(ClusterCall::Get {
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        })
    }

    fn patch(&self, patch: Patch) -> Call {
        self.call(ClusterCall::Patch {
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            subresource: String::new(),
            patch,
            dry_run: false,
        })
    }

    fn delete(&self, uid: &str) -> Call {
        self.call(ClusterCall::Delete {
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            options: DeleteOptions { uid: uid.to_owned(), ..DeleteOptions::default() },
        })
    }

    fn call(&self, call: ClusterCall) -> Call {
        Call::Cluster { cluster: self.cluster.clone(), call: Box::new(call) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, .. } = self;
        match namespace.as_str() {
            "" => write!(f, "the {} `{name}`", kind.kind),
            namespace => write!(f, "the {} `{namespace}/{name}`", kind.kind),
        }
    }
}

/// An object that an operation touched.
#[derive(Clone, Debug, PartialEq)]
pub struct Touched {
    /// Where it is.
    pub place: Place,
    /// How it was before; none when it was not there.
    pub before: Option<Value>,
    /// Whether it may have been patched: what is missing of it by now may then be what the operation took away.
    pub patched: bool,
}

/// An object that the operation changed, and how far the touches of it went when that was looked at.
struct Changed {
    touched: Touched,
    number: u64,
    touches: u64,
}

/// What an operation found, and what it touched of it.
#[derive(Debug, Default)]
pub struct Objects {
    // Held for a look or an insert, never across an await.
    entries: Mutex<BTreeMap<Place, Entry>>,
    /// How many first touches there were; counted under the lock.
    touched: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    before: Option<Value>,
    state: State,
    /// Which first touch made it so: what was touched last is taken back first.
    number: u64,
    /// So many touches since, less those that were refused: a change whose caller gave it up is still under way when the caller tries again.
    touches: u64,
    /// Whether one of them was a patch.
    patched: bool,
    /// Whether somebody looked at it before it was touched.
    looked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Looked,
    Touched,
    InService,
}

impl Entry {
    fn looked(before: Option<Value>) -> Self {
        Self { before, state: State::Looked, number: 0, touches: 0, patched: false, looked: true }
    }

    fn at(&self, place: &Place) -> Touched {
        Touched { place: place.clone(), before: self.before.clone(), patched: self.patched }
    }
}

impl Objects {
    /// What was there before. None when that is not known, or may have changed: where nothing was and the operation made nothing, others may have since.
    pub(crate) fn before(&self, place: &Place) -> Option<Option<Value>> {
        let entries = self.lock();
        let entry = entries.get(place)?;
        let sure = entry.before.is_some() || entry.state != State::Looked;
        sure.then(|| entry.before.clone())
    }

    /// Takes note of what is there before it is touched. What was noted once stays, but for one thing: where nothing was, and then something that the operation did not make, that is what was
    /// there before.
    pub(crate) fn found(&self, scope: &Scope, place: &Place, object: Option<&Value>) {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(place) else {
            entries.insert(place.clone(), Entry::looked(object.cloned()));
            return;
        };
        let made = |object: &Value| mark_of(object, OPERATION) == Some(&scope.operation.id);
        if let (None, Some(object)) = (&entry.before, object) {
            let ours = is_own(scope, object);
            // A create that nobody knows the end of is a touch: what others made meanwhile is not ours to put back.
            if !(ours && made(object)) && (ours || entry.state == State::Looked) {
                entry.before = Some(object.clone());
            }
        }
    }

    /// What was touched and is not in service, what was touched last first.
    pub(super) fn loose(&self) -> Vec<Touched> {
        let entries = self.lock();
        let mut loose: Vec<_> =
            entries.iter().filter(|(_, entry)| entry.state == State::Touched).collect();
        loose.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.number));
        loose.into_iter().map(|(place, entry)| entry.at(place)).collect()
    }

    /// The same for the object at one place.
    pub(super) fn loose_at(&self, place: &Place) -> Option<Touched> {
        let entries = self.lock();
        let entry = entries.get(place).filter(|entry| entry.state == State::Touched)?;
        Some(entry.at(place))
    }

    /// The object at one place, if the operation has changed it, in service or not.
    fn changed_at(&self, place: &Place) -> Option<Changed> {
        let entries = self.lock();
        let entry = entries.get(place).filter(|entry| entry.state != State::Looked)?;
        let (number, touches) = (entry.number, entry.touches);
        Some(Changed { touched: entry.at(place), number, touches })
    }

    /// The operation has put it back itself: there is nothing of it to take back, unless it was touched once more meanwhile.
    fn is_back(&self, changed: &Changed) {
        let same =
            |entry: &&mut Entry| (entry.number, entry.touches) == (changed.number, changed.touches);
        if let Some(entry) = self.lock().get_mut(&changed.touched.place).filter(same) {
            *entry = Entry::looked(entry.before.take());
        }
    }

    /// Whether something of its own was there before the operation. What a controller made is not: as long as that is there, it makes it again.
    fn was_there(&self, place: &Place) -> bool {
        let entries = self.lock();
        let Some(entry) = entries.get(place) else { return true };
        entry.before.as_ref().is_some_and(|object| !is_controlled(object))
    }

    /// Marks an object as touched, before it is. Gives the number of the first of these touches, to be said when nothing comes of this one.
    fn touch(&self, place: &Place, patches: bool) -> u64 {
        let mut entries = self.lock();
        let looked = entries.contains_key(place);
        let entry = entries.entry(place.clone()).or_insert_with(|| Entry::looked(None));
        if entry.state == State::Looked {
            let number = self.touched.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            *entry = Entry {
                before: entry.before.take(),
                state: State::Touched,
                number,
                touches: 0,
                patched: false,
                looked,
            };
        }
        entry.patched |= patches;
        entry.touches = entry.touches.saturating_add(1);
        entry.number
    }

    /// Nothing came of a touch after all, and of no other one of that object: it is as it was. Of what was deleted since, and touched anew, nothing is said.
    fn untouch(&self, place: &Place, number: u64) {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(place).filter(|entry| entry.number == number) else {
            return;
        };
        entry.touches = entry.touches.saturating_sub(1);
        if entry.touches > 0 {
            return;
        }
        if entry.looked {
            entry.state = State::Looked;
        } else {
            // Why it was refused may be that something is there.
            entries.remove(place);
        }
    }

    /// The operation made it: whatever was there before is not there any more.
    fn made(&self, place: &Place) {
        if let Some(entry) = self.lock().get_mut(place) {
            entry.before = None;
        }
    }

    /// Whether an object is another than the one that was there before.
    fn is_another(&self, place: &Place, object: &Value) -> bool {
        let entries = self.lock();
        let before = entries.get(place).and_then(|entry| entry.before.as_ref());
        before.is_some_and(|before| word(before, "uid") != word(object, "uid"))
    }

    /// The operation deleted it itself: there is nothing of it to take back.
    fn deleted(&self, place: &Place) {
        self.lock().insert(place.clone(), Entry::looked(None));
    }

    /// Whether something that was touched is the app by now.
    pub(super) fn serves(&self) -> bool {
        self.lock().values().any(|entry| entry.state == State::InService)
    }

    /// What was touched is the app from here on. Gives the places.
    pub(super) fn put_in_service(&self) -> BTreeSet<Place> {
        let mut entries = self.lock();
        let touched = entries.iter_mut().filter(|(_, entry)| entry.state == State::Touched);
        touched
            .map(|(place, entry)| {
                entry.state = State::InService;
                place.clone()
            })
            .collect()
    }

    pub(super) fn take_out_of_service(&self, places: &BTreeSet<Place>) {
        for (place, entry) in self.lock().iter_mut() {
            if places.contains(place) {
                entry.state = State::Touched;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an object is there because a controller made it.
fn is_controlled(object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| owner["controller"] == true)
}

/// Whether a call deletes an object that was there before the operation: from then on what the operation made takes its place.
#[must_use]
pub fn replaces(scope: &Scope, cluster: &str, call: &ClusterCall) -> bool {
    deletes(cluster, call).is_some_and(|place| scope.ledger.objects().was_there(&place))
}

/// The object that a call deletes, unless it only asks whether it could.
fn deletes(cluster: &str, call: &ClusterCall) -> Option<Place> {
    if let ClusterCall::Delete { kind, namespace, name, options } = call
        && !options.dry_run
    {
        return Some(Place::new(cluster, kind, namespace, name));
    }
    None
}

/// The object that a call makes or changes, unless it only asks whether it could.
#[must_use]
pub fn touches(cluster: &str, call: &ClusterCall) -> Option<Place> {
    if let ClusterCall::Create { object, dry_run: false }
    | ClusterCall::Apply { object, dry_run: false } = call
    {
        return Some(Place::of(cluster, object));
    }
    if let ClusterCall::Patch { kind, namespace, name, dry_run: false, .. } = call {
        return Some(Place::new(cluster, kind, namespace, name));
    }
    None
}

/// Keeps the ledger of a call to a cluster and sends it on.
pub(super) async fn call(
    scope: &Arc<Scope>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let Call::Cluster { cluster, call } = &request.call else {
        return next.send(scope, request).await;
    };
    if let ClusterCall::PutBack { kind, namespace, name } = &**call {
        let place = Place::new(cluster, kind, namespace, name);
        return taking::put_back(scope, place, request, next).await;
    }
    if let Some(place) = touches(cluster, call) {
        let patches = matches!(**call, ClusterCall::Patch { .. });
        return touch(scope, place, patches, request, next).await;
    }
    let deleted = deletes(cluster, call);
    let answer = if replaces(scope, cluster, call) {
        replace(scope, request, next).await
    } else {
        next.send(scope, request).await
    };
    if let Some(place) = deleted
        && answer.is_ok()
    {
        scope.ledger.objects().deleted(&place);
    }
    answer
}

/// Sends a call that makes or changes an object.
async fn touch(
    scope: &Arc<Scope>,
    place: Place,
    patches: bool,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    in_a_task(scope, request, async move |scope, request| {
        let objects = scope.ledger.objects();
        let number = objects.touch(&place, patches);
        let answer = next.send(&scope, request).await;
        match &answer {
            // It was deleted meanwhile: what is there now was made by this call.
            Ok(Response { reply: Reply::Object(object), .. })
                if objects.is_another(&place, object) =>
            {
                objects.made(&place);
            }
            Err(error) if refuses(error) => objects.untouch(&place, number),
            Ok(_) | Err(_) => {}
        }
        answer
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::Operation;
    use crate::layer::identity::{INSTANCE, OWNER};

    fn scope() -> Scope {
        Scope::new("acme", "here", Operation::new("op", Duration::from_secs(60)))
    }

    fn place() -> Place {
        Place::new("test", &Kind::new("v1", "Node"), "", "n1")
    }

    #[test]
    fn what_was_touched_last_is_taken_back_first_until_it_is_in_service() {
        let objects = Objects::default();
        let (one, other) = (place(), Place { name: "n2".to_owned(), ..place() });
        objects.found(&scope(), &one, Some(&json!({"a": 1})));
        objects.found(&scope(), &one, None);
        assert!(objects.loose().is_empty());
        assert_eq!(objects.touch(&one, false), 1);
        assert_eq!(objects.touch(&one, false), 1);
        assert_eq!(objects.touch(&other, false), 2);
        let names: Vec<_> = objects.loose().into_iter().map(|one| one.place.name).collect();
        assert_eq!(names, ["n2", "n1"]);
        assert_eq!(objects.loose()[1].before, Some(json!({"a": 1})));
        objects.untouch(&other, 2);
        assert_eq!(objects.before(&other), None);
        let places = objects.put_in_service();
        assert!(objects.loose().is_empty());
        objects.take_out_of_service(&places);
        assert_eq!(objects.loose().len(), 1);
        objects.deleted(&one);
        assert!(objects.loose().is_empty());
        assert!(!objects.was_there(&one));
    }

    #[test]
    fn a_touch_that_is_refused_takes_no_other_touch_away() {
        for (looked, before) in [(false, None), (true, None), (true, Some(json!({"a": 1})))] {
            let objects = Objects::default();
            let one = place();
            if looked {
                objects.found(&scope(), &one, before.as_ref());
            }
            let first = objects.touch(&one, false);
            let again = objects.touch(&one, false);
            objects.untouch(&one, first);
            assert_eq!(objects.loose().len(), 1, "the other is under way, or did it");
            assert_eq!(objects.loose()[0].before, before);
            objects.untouch(&one, again);
            assert!(objects.loose().is_empty(), "nothing came of either");
            assert_eq!(objects.before(&one), before.map(Some));
        }
    }

    #[test]
    fn a_touch_that_is_refused_says_nothing_of_what_was_deleted_and_made_anew_since() {
        let objects = Objects::default();
        let one = place();
        let first = objects.touch(&one, false);
        objects.deleted(&one);
        let anew = objects.touch(&one, false);
        objects.untouch(&one, first);
        assert_eq!(objects.loose().len(), 1);
        objects.untouch(&one, anew);
        assert!(objects.loose().is_empty());
    }

    #[test]
    fn what_was_touched_while_it_was_put_back_is_still_to_be_taken_back() {
        let objects = Objects::default();
        let one = place();
        objects.found(&scope(), &one, Some(&json!({"a": 1})));
        objects.touch(&one, false);
        let changed = objects.changed_at(&one).unwrap();
        objects.touch(&one, true);
        objects.is_back(&changed);
        assert!(objects.loose()[0].patched);
        objects.is_back(&objects.changed_at(&one).unwrap());
        assert!(objects.loose().is_empty());
        assert_eq!(objects.before(&one), Some(Some(json!({"a": 1}))));
    }

    #[test]
    fn what_another_made_where_nothing_was_is_what_was_there_before() {
        let made = |operation: &str| json!({"metadata": {"labels": {OWNER: "acme", INSTANCE: "here", OPERATION: operation}}});
        let objects = Objects::default();
        let one = place();
        objects.found(&scope(), &one, None);
        assert_eq!(objects.before(&one), None);
        objects.found(&scope(), &one, Some(&made("op")));
        assert_eq!(objects.before(&one), None);
        objects.found(&scope(), &one, Some(&made("other")));
        assert_eq!(objects.before(&one), Some(Some(made("other"))));
        objects.found(&scope(), &one, Some(&made("third")));
        assert_eq!(objects.before(&one), Some(Some(made("other"))));
        objects.touch(&one, false);
        objects.made(&one);
        assert_eq!(objects.before(&one), Some(None));
        objects.found(&scope(), &one, Some(&json!({"metadata": {}})));
        assert_eq!(objects.loose()[0].before, None, "it is somebody else's");
    }
}

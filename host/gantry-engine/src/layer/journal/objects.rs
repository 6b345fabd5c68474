//! The part of the ledger that is about objects of clusters: what was there before an operation touched it.
//!
//! ```text
//! looked at ─► touched ─► in service     the operation ended well, or deleted what was there before it, or made an image current
//!                 └─► taken back         what was not there is deleted, what was there is put back as it was
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use super::{refuses, replace};
use crate::call::cluster::{ClusterCall, DeleteOptions, Kind, Patch};
use crate::layer::Next;
use crate::layer::identity::OPERATION;
use crate::layer::identity::objects::mark_of;
use crate::{Backends, Call, EngineError, Error, Reply, Request, Response, Scope, managed};

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
    /// Where an object says it is.
    #[must_use]
    pub fn of(cluster: String, object: &Value) -> Self {
        let word = |key: &str| {
            let word = object.get("metadata").and_then(|metadata| metadata.get(key));
            word.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        Self { cluster, kind: Kind::of(object), namespace: word("namespace"), name: word("name") }
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
}

/// What an operation found, and what it touched of it.
#[derive(Debug, Default)]
pub struct Objects {
    // Held for a look or an insert, never across an await.
    entries: Mutex<BTreeMap<Place, Entry>>,
}

#[derive(Debug)]
struct Entry {
    before: Option<Value>,
    state: State,
    /// Counts the touches: what was touched last is taken back first.
    number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Looked,
    Touched,
    InService,
}

impl Objects {
    /// What was there before, when that is known.
    pub(crate) fn before(&self, place: &Place) -> Option<Option<Value>> {
        self.lock().get(place).map(|entry| entry.before.clone())
    }

    /// Takes note of what is there before it is touched. What was noted once stays.
    pub(crate) fn found(&self, place: &Place, object: Option<&Value>) {
        self.lock().entry(place.clone()).or_insert_with(|| Entry {
            before: object.cloned(),
            state: State::Looked,
            number: 0,
        });
    }

    /// What was touched and is not in service, what was touched last first.
    pub(super) fn loose(&self) -> Vec<Touched> {
        let entries = self.lock();
        let mut loose: Vec<_> =
            entries.iter().filter(|(_, entry)| entry.state == State::Touched).collect();
        loose.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.number));
        loose
            .into_iter()
            .map(|(place, entry)| Touched { place: place.clone(), before: entry.before.clone() })
            .collect()
    }

    /// Whether the object was there before the operation.
    fn was_there(&self, place: &Place) -> bool {
        self.lock().get(place).is_none_or(|entry| entry.before.is_some())
    }

    /// Marks an object as touched, before it is; false when it was already.
    fn touch(&self, place: &Place) -> bool {
        let mut entries = self.lock();
        let number =
            entries.values().map(|entry| entry.number).max().unwrap_or(0).saturating_add(1);
        let entry = entries.entry(place.clone()).or_insert(Entry {
            before: None,
            state: State::Looked,
            number: 0,
        });
        if entry.state != State::Looked {
            return false;
        }
        (entry.state, entry.number) = (State::Touched, number);
        true
    }

    /// Nothing came of the touch after all.
    fn untouch(&self, place: &Place) {
        if let Some(entry) = self.lock().get_mut(place) {
            entry.state = State::Looked;
        }
    }

    /// The operation deleted it itself: there is nothing of it to take back.
    fn deleted(&self, place: &Place) {
        self.lock().insert(place.clone(), Entry { before: None, state: State::Looked, number: 0 });
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
        return Some(Place {
            cluster: cluster.to_owned(),
            kind: kind.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
        });
    }
    None
}

/// The object that a call makes or changes, unless it only asks whether it could.
#[must_use]
pub fn touches(cluster: &str, call: &ClusterCall) -> Option<Place> {
    if let ClusterCall::Create { object, dry_run: false }
    | ClusterCall::Apply { object, dry_run: false } = call
    {
        return Some(Place::of(cluster.to_owned(), object));
    }
    if let ClusterCall::Patch { kind, namespace, name, dry_run: false, .. } = call {
        return Some(Place {
            cluster: cluster.to_owned(),
            kind: kind.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
        });
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
    let creates = matches!(**call, ClusterCall::Create { .. });
    if let Some(place) = touches(cluster, call) {
        // In a task of its own, as a container's create: what it does is in the ledger, whatever becomes of who asked.
        let task_scope = Arc::clone(scope);
        let task = scope.ledger.tasks.spawn(async move {
            let objects = task_scope.ledger.objects();
            if creates {
                objects.found(&place, None);
            }
            let first = objects.touch(&place);
            let answer = next.send(&task_scope, request).await;
            if first && answer.as_ref().is_err_and(refuses) {
                objects.untouch(&place);
            }
            answer
        });
        return task.await.unwrap_or_else(|gone| {
            Err(EngineError::Failed(format!("the host gave up a change: {gone}")).into())
        });
    }
    if replaces(scope, cluster, call) {
        return replace(scope, request, next).await;
    }
    let deleted = deletes(cluster, call);
    let answer = next.send(scope, request).await;
    if let Some(place) = deleted
        && answer.is_ok()
    {
        scope.ledger.objects().deleted(&place);
    }
    answer
}

/// What became of an object that was to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenBack {
    /// It was not there before and is deleted.
    Deleted,
    /// It is as it was before.
    PutBack,
    /// There was nothing to take back.
    Nothing,
}

/// Takes back what an operation did to an object: what it made is deleted, what it changed is put back as it was. Twice is as good as once.
///
/// # Errors
/// Why the cluster did not do it. What somebody else has changed meanwhile stays, and is told.
pub async fn take_back(
    backends: &Backends,
    scope: &Arc<Scope>,
    operation: &str,
    touched: &Touched,
) -> Result<TakenBack, Error> {
    let Touched { place, before } = touched;
    let send = |call: ClusterCall| {
        let call = Call::Cluster { cluster: place.cluster.clone(), call: Box::new(call) };
        backends.perform(scope, call.into())
    };
    let now = match send(ClusterCall::Get {
        kind: place.kind.clone(),
        namespace: place.namespace.clone(),
        name: place.name.clone(),
    })
    .await
    {
        Ok(Response { reply: Reply::Object(object), .. }) => Some(object),
        Ok(_) => return Err(EngineError::Failed("no answer to a get".to_owned()).into()),
        Err(Error::Engine(EngineError::NotFound(_))) => None,
        Err(error) => return Err(error),
    };
    match (before, now) {
        // Nothing was made of it, or it has gone since. What was there before and is gone was deleted by somebody else: it is not ours to make again.
        (_, None) => Ok(TakenBack::Nothing),
        (None, Some(now)) => {
            // One of the same name that another operation made, or somebody else.
            if mark_of(&now, OPERATION) != Some(operation) {
                return Ok(TakenBack::Nothing);
            }
            let options = DeleteOptions { uid: word(&now, "uid"), ..DeleteOptions::default() };
            send(ClusterCall::Delete {
                kind: place.kind.clone(),
                namespace: place.namespace.clone(),
                name: place.name.clone(),
                options,
            })
            .await?;
            Ok(TakenBack::Deleted)
        }
        (Some(before), Some(now)) => {
            if word(before, "uid") != word(&now, "uid") || same(before, &now) {
                return Ok(TakenBack::Nothing);
            }
            send(back(place, before, &now)).await?;
            Ok(TakenBack::PutBack)
        }
    }
}

/// The call that puts an object back: what we had applied is applied again, and what we had not is patched.
fn back(place: &Place, before: &Value, now: &Value) -> ClusterCall {
    if let Some(mut object) = managed::applied(before) {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("uid".to_owned(), word(now, "uid").into());
        }
        return ClusterCall::Apply { object, dry_run: false };
    }
    let (mut before, mut now) = (kept(before), kept(now));
    for object in [&mut before, &mut now] {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| key == "labels" || key == "annotations");
        }
    }
    ClusterCall::Patch {
        kind: place.kind.clone(),
        namespace: place.namespace.clone(),
        name: place.name.clone(),
        subresource: String::new(),
        patch: Patch::Merge(difference(&now, &before)),
        dry_run: false,
    }
}

fn word(object: &Value, key: &str) -> String {
    let word = object.get("metadata").and_then(|metadata| metadata.get(key));
    word.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Whether an object is what it was, whatever has happened in it and around it.
fn same(one: &Value, other: &Value) -> bool {
    word(one, "resourceVersion") == word(other, "resourceVersion")
}

/// An object without its status.
fn kept(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    object
}

/// The merge patch that makes `other` of `one`.
fn difference(one: &Value, other: &Value) -> Value {
    let (Value::Object(one), Value::Object(wanted)) = (one, other) else {
        return other.clone();
    };
    let mut patch = Map::new();
    for (key, value) in wanted {
        match one.get(key) {
            Some(now) if now == value => {}
            Some(now) => drop(patch.insert(key.clone(), difference(now, value))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    for key in one.keys().filter(|key| !wanted.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place() -> Place {
        Place {
            cluster: "test".to_owned(),
            kind: Kind::new("v1", "Node"),
            namespace: String::new(),
            name: "n1".to_owned(),
        }
    }

    #[test]
    fn what_was_touched_last_is_taken_back_first_until_it_is_in_service() {
        let objects = Objects::default();
        let (one, other) = (place(), Place { name: "n2".to_owned(), ..place() });
        objects.found(&one, Some(&json!({"a": 1})));
        objects.found(&one, None);
        assert!(objects.loose().is_empty());
        assert!(objects.touch(&one));
        assert!(!objects.touch(&one));
        assert!(objects.touch(&other));
        let names: Vec<_> = objects.loose().into_iter().map(|one| one.place.name).collect();
        assert_eq!(names, ["n2", "n1"]);
        assert_eq!(objects.loose()[1].before, Some(json!({"a": 1})));
        objects.untouch(&other);
        let places = objects.put_in_service();
        assert!(objects.loose().is_empty());
        objects.take_out_of_service(&places);
        assert_eq!(objects.loose().len(), 1);
        objects.deleted(&one);
        assert!(objects.loose().is_empty());
        assert!(!objects.was_there(&one));
    }

    #[test]
    fn what_others_made_is_put_back_with_what_has_changed() {
        let before = json!({
            "metadata": {"uid": "u", "resourceVersion": "1", "annotations": {"a": "1", "b": "2"}},
            "spec": {"taints": [1]}, "status": {"x": 1},
        });
        let now = json!({
            "metadata": {"uid": "u", "resourceVersion": "2", "annotations": {"a": "9"}, "labels": {"c": "3"}},
            "spec": {"taints": [1, 2], "unschedulable": true}, "status": {"x": 2},
        });
        let ClusterCall::Patch { patch: Patch::Merge(patch), .. } = back(&place(), &before, &now)
        else {
            panic!("a patch")
        };
        assert_eq!(
            patch,
            json!({
                "metadata": {"annotations": {"a": "1", "b": "2"}, "labels": null},
                "spec": {"taints": [1], "unschedulable": null},
            })
        );
    }
}

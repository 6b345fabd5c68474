//! What a watch has told of each object, and what follows from what comes in. Pure: nothing is asked here.
//!
//! ```text
//!            page        page, the last          event, bookmark
//! begin ──► Listing ───────────────────► Watching ◄────┐
//!              ▲                             │  └──────┘
//!              └──────── 410, the version is lost
//! ```
//!
//! A list after a lost version tells only the differences: what has another version, what is new, and what is gone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::cluster::{Change, Kind, word};
use crate::kubernetes::errors::Status;

/// One line of a watch.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// It is new or has changed.
    Applied(Value),
    /// It is gone, or no longer among what is selected.
    Deleted(Value),
    /// All up to this version has been told.
    Bookmark(String),
    /// The watch cannot go on.
    Error(Status),
}

impl Event {
    /// Reads a line; none when it is no event.
    pub(super) fn read(line: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Raw {
            r#type: String,
            object: Value,
        }
        let Raw { r#type, object } = serde_json::from_str(line).ok()?;
        match r#type.as_str() {
            "ADDED" | "MODIFIED" => Some(Self::Applied(object)),
            "DELETED" => Some(Self::Deleted(object)),
            "BOOKMARK" => Some(Self::Bookmark(word(&object, "resourceVersion").to_owned())),
            "ERROR" => serde_json::from_value(object).ok().map(Self::Error),
            _ => None,
        }
    }
}

/// How a watch goes on after an event.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Then {
    /// With the next one.
    Read,
    /// With a list: the version is lost.
    List,
    /// From the last version, on another connection.
    Resume(Status),
}

/// How an object was told last.
struct Told {
    uid: String,
    version: String,
    metadata: Value,
}

/// What was told so far.
pub(super) struct Tracker {
    kind: Kind,
    told: BTreeMap<(String, String), Told>,
    /// Those of `told` that the list under way has.
    seen: BTreeSet<(String, String)>,
    /// Whether [`Change::Listed`] was told.
    listed: bool,
    version: String,
}

impl Tracker {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            told: BTreeMap::new(),
            seen: BTreeSet::new(),
            listed: false,
            version: String::new(),
        }
    }

    /// From where to watch.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// A list begins.
    pub(super) fn begin(&mut self) {
        self.seen.clear();
    }

    /// A page of a list.
    pub(super) fn page(&mut self, items: Vec<Value>) -> Vec<Change> {
        let mut changes = Vec::new();
        for object in items {
            self.seen.insert(key(&object));
            self.applied(object, &mut changes);
        }
        changes
    }

    /// The list is over; it was of this version.
    pub(super) fn complete(&mut self, version: String) -> Vec<Change> {
        let mut changes = Vec::new();
        let seen = std::mem::take(&mut self.seen);
        let gone: Vec<_> = self.told.keys().filter(|key| !seen.contains(*key)).cloned().collect();
        for key in gone {
            changes.extend(self.told.remove(&key).map(|told| self.end_of(told)));
        }
        if !self.listed {
            self.listed = true;
            changes.push(Change::Listed);
        }
        self.version = version;
        changes
    }

    /// An event, and how the watch goes on.
    pub(super) fn event(&mut self, event: Event) -> (Vec<Change>, Then) {
        let mut changes = Vec::new();
        match event {
            Event::Applied(object) => {
                self.reached(&object);
                self.applied(object, &mut changes);
            }
            Event::Deleted(object) => {
                self.reached(&object);
                if self.told.remove(&key(&object)).is_some() {
                    changes.push(Change::Deleted(object));
                }
            }
            Event::Bookmark(version) => self.version = version,
            Event::Error(status) if status.is_lost_version() => return (changes, Then::List),
            Event::Error(status) => return (changes, Then::Resume(status)),
        }
        (changes, Then::Read)
    }

    fn reached(&mut self, object: &Value) {
        word(object, "resourceVersion").clone_into(&mut self.version);
    }

    fn applied(&mut self, object: Value, changes: &mut Vec<Change>) {
        let (uid, version) = (word(&object, "uid"), word(&object, "resourceVersion"));
        let key = key(&object);
        match self.told.get(&key) {
            Some(told) if told.uid == uid && told.version == version => return,
            // Another object of the same name: the end of the first was missed.
            Some(told) if told.uid != uid => {
                changes.extend(self.told.remove(&key).map(|told| self.end_of(told)));
            }
            Some(_) | None => {}
        }
        let mut metadata = object.get("metadata").cloned().unwrap_or_default();
        if let Some(metadata) = metadata.as_object_mut() {
            // The largest part of it, and of no use for what is gone.
            metadata.remove("managedFields");
        }
        let told = Told { uid: uid.to_owned(), version: version.to_owned(), metadata };
        self.told.insert(key, told);
        changes.push(Change::Applied(object));
    }

    fn end_of(&self, told: Told) -> Change {
        let Kind { api_version, kind } = &self.kind;
        let metadata = told.metadata;
        Change::Deleted(json!({"apiVersion": api_version, "kind": kind, "metadata": metadata}))
    }
}

fn key(object: &Value) -> (String, String) {
    (word(object, "namespace").to_owned(), word(object, "name").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name`, uid and version.
    fn object(name: &str, uid: &str, version: u32) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"v": version},
            "metadata": {
                "namespace": "shop", "name": name, "uid": uid, "labels": {"a": "b"},
                "resourceVersion": version.to_string(), "managedFields": [{"manager": "x"}],
            },
        })
    }

    fn line(kind: &str, object: &Value) -> Event {
        Event::read(&json!({"type": kind, "object": object}).to_string()).unwrap()
    }

    fn shown(changes: &[Change]) -> Vec<String> {
        let one = |object: &Value| {
            format!(
                "{}/{}@{}",
                word(object, "name"),
                word(object, "uid"),
                word(object, "resourceVersion")
            )
        };
        let all = changes.iter().map(|change| match change {
            Change::Applied(object) => format!("+{}", one(object)),
            Change::Deleted(object) => format!("-{}", one(object)),
            Change::Listed => "listed".to_owned(),
        });
        all.collect()
    }

    /// A tracker that has told `a` and `b` in one list of version 10.
    fn listed() -> Tracker {
        let mut tracker = Tracker::new(Kind::new("v1", "ConfigMap"));
        tracker.begin();
        let told = tracker.page(vec![object("a", "1", 4), object("b", "2", 5)]);
        assert_eq!(shown(&told), ["+a/1@4", "+b/2@5"]);
        assert_eq!(shown(&tracker.complete("10".to_owned())), ["listed"]);
        tracker
    }

    #[test]
    fn what_is_there_comes_first_over_all_pages() {
        let mut tracker = Tracker::new(Kind::new("v1", "ConfigMap"));
        tracker.begin();
        assert_eq!(shown(&tracker.page(vec![object("a", "1", 4)])), ["+a/1@4"]);
        assert_eq!(shown(&tracker.page(vec![])), [""; 0]);
        assert_eq!(shown(&tracker.page(vec![object("b", "2", 5)])), ["+b/2@5"]);
        assert_eq!(shown(&tracker.complete("9".to_owned())), ["listed"]);
        assert_eq!(tracker.version(), "9");
    }

    #[test]
    fn events_are_told_and_move_the_version() {
        let deleted = object("b", "2", 13);
        for (kind, object, told, version) in [
            ("ADDED", object("c", "3", 11), vec!["+c/3@11"], "11"),
            ("MODIFIED", object("a", "1", 12), vec!["+a/1@12"], "12"),
            ("DELETED", deleted, vec!["-b/2@13"], "13"),
            // Nothing was told of it, so nobody waits for its end.
            ("DELETED", object("z", "9", 14), vec![], "14"),
            ("BOOKMARK", json!({"metadata": {"resourceVersion": "15"}}), vec![], "15"),
            // It is known as it is.
            ("ADDED", object("a", "1", 4), vec![], "4"),
            // The first `a` must have ended.
            ("ADDED", object("a", "7", 16), vec!["-a/1@4", "+a/7@16"], "16"),
        ] {
            let mut tracker = listed();
            let (changes, then) = tracker.event(line(kind, &object));
            assert_eq!(
                (shown(&changes), then),
                (told.into_iter().map(ToOwned::to_owned).collect(), Then::Read)
            );
            assert_eq!(tracker.version(), version, "{kind}");
        }
    }

    #[test]
    fn an_error_says_how_it_goes_on() {
        for (status, list) in [
            (json!({"code": 410, "reason": "Expired"}), true),
            (json!({"code": 410, "reason": "Gone"}), true),
            (json!({"code": 500, "reason": "InternalError"}), false),
            (json!({"code": 504, "reason": "Timeout"}), false),
        ] {
            let (changes, then) = listed().event(line("ERROR", &status));
            assert_eq!((changes, then == Then::List), (vec![], list), "{status}");
        }
    }

    #[test]
    fn a_list_after_a_lost_version_tells_only_differences() {
        for (items, told) in [
            (vec![object("a", "1", 4), object("b", "2", 5)], vec![]),
            (vec![object("a", "1", 8), object("b", "2", 5)], vec!["+a/1@8"]),
            (vec![object("a", "1", 4)], vec!["-b/2@5"]),
            (vec![], vec!["-a/1@4", "-b/2@5"]),
            (vec![object("a", "9", 8), object("b", "2", 5)], vec!["-a/1@4", "+a/9@8"]),
            (vec![object("a", "1", 4), object("b", "2", 5), object("c", "3", 9)], vec!["+c/3@9"]),
        ] {
            let mut tracker = listed();
            tracker.begin();
            let mut changes = tracker.page(items);
            changes.extend(tracker.complete("20".to_owned()));
            assert_eq!(shown(&changes), told);
            assert_eq!(tracker.version(), "20");
        }
    }

    #[test]
    fn a_list_that_begins_again_forgets_what_the_first_had() {
        let mut tracker = Tracker::new(Kind::new("v1", "ConfigMap"));
        tracker.begin();
        tracker.page(vec![object("a", "1", 4)]);
        // The token for the second page was too old; meanwhile `a` has gone.
        tracker.begin();
        let mut changes = tracker.page(vec![object("b", "2", 5)]);
        changes.extend(tracker.complete("9".to_owned()));
        assert_eq!(shown(&changes), ["+b/2@5", "-a/1@4", "listed"]);
    }

    #[test]
    fn what_is_gone_has_its_metadata() {
        let mut tracker = listed();
        tracker.begin();
        let changes = tracker.complete("20".to_owned());
        let Some(Change::Deleted(gone)) = changes.first() else { panic!("{changes:?}") };
        assert_eq!(Kind::of(gone), Kind::new("v1", "ConfigMap"));
        assert_eq!(gone["metadata"]["labels"], json!({"a": "b"}));
    }

    #[test]
    fn what_is_no_event_is_not_read() {
        for text in [
            "",
            "{",
            r#"{"type":"ADDED"}"#,
            r#"{"type":"ODD","object":{}}"#,
            "[]",
            r#"{"type":"ADDED","obj"#,
        ] {
            assert_eq!(Event::read(text), None, "{text}");
        }
    }
}

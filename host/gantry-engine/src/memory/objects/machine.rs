//! What an API server has and how it is read, without waiting for anything. [`writes`](super::writes) and [`garbage`](super::garbage) have the rest of its rules.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Map, Value, json};

use super::kinds::{Kinds, Known};
use super::selectors::Selector;
use crate::EngineError;
pub(super) use crate::call::cluster::word;
use crate::call::cluster::{Kind, ObjectPage, Selection};
use crate::cluster::{PAGE, Result};

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// As a kind is displayed.
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What happened to an object.
#[derive(Clone, Debug)]
pub(super) struct Happened {
    pub(super) version: u64,
    pub(super) key: Key,
    pub(super) before: Option<Value>,
    /// None when it is gone.
    pub(super) after: Option<Value>,
}

#[derive(Default)]
pub(super) struct Machine {
    pub(super) kinds: Kinds,
    pub(super) objects: BTreeMap<Key, Value>,
    /// Everything that ever happened, oldest first.
    pub(super) history: Vec<Happened>,
    /// Lists of this version and those before cannot be gone on with.
    forgotten: u64,
    /// The version of the newest change.
    version: u64,
    /// Makes ids, names and ports that differ.
    serial: u64,
    /// Whether a pod on a node stays until somebody ends it.
    pub(super) pods_linger: bool,
}

pub(super) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn metadata(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let map = object.as_object_mut()?;
    map.entry("metadata").or_insert_with(|| json!({})).as_object_mut()
}

pub(super) fn set(object: &mut Value, key: &str, value: Option<Value>) {
    if let Some(map) = metadata(object) {
        match value {
            Some(value) => drop(map.insert(key.to_owned(), value)),
            None => drop(map.remove(key)),
        }
    }
}

impl Machine {
    // ---- numbers and names

    pub(super) fn number(&mut self) -> [u64; 2] {
        self.serial = self.serial.saturating_add(1);
        [0_u8, 1].map(|part| {
            let mut hasher = DefaultHasher::new();
            (self.serial, part).hash(&mut hasher);
            hasher.finish()
        })
    }

    pub(super) fn uid(&mut self) -> String {
        let [high, low] = self.number();
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            low >> 48 & 0xfff,
            low & 0xffff_ffff_ffff
        )
    }

    /// The letters that names are made of (`k8s.io/apimachinery/pkg/util/rand`).
    pub(super) fn suffix(&mut self) -> String {
        let letters = "bcdfghjklmnpqrstvwxz2456789";
        let [mut rest, _] = self.number();
        let count = u64::try_from(letters.len()).unwrap_or(1);
        (0..5)
            .filter_map(|_| {
                let letter = letters.chars().nth(usize::try_from(rest % count).unwrap_or(0));
                rest /= count;
                letter
            })
            .collect()
    }

    /// The time of a cluster that lives a second a change.
    pub(super) fn now(&self) -> String {
        let seconds = self.version.saturating_add(1);
        let (minutes, hours) = (seconds / 60, seconds / 3600);
        let day = 1 + hours / 24 % 28;
        format!("2000-01-{day:02}T{:02}:{:02}:{:02}Z", hours % 24, minutes % 60, seconds % 60)
    }

    // ---- reading

    /// Where an object is, which kind it has, and whether it can be there.
    pub(super) fn place(&self, kind: &Kind, namespace: &str, name: &str) -> Result<(Known, Key)> {
        let known = self.kinds.get(kind)?.clone();
        match (known.namespaced, namespace) {
            (true, "") => Err(EngineError::Invalid(format!(
                "a {kind} lives in a namespace, and none is named"
            ))),
            (false, named) if !named.is_empty() => Err(EngineError::Invalid(format!(
                "a {kind} lives in no namespace, and `{named}` is named"
            ))),
            (_, _) => Ok(()),
        }?;
        for (what, text) in [("namespace", namespace), ("name", name)] {
            if [".", ".."].contains(&text) || text.contains(['/', '%']) {
                return Err(EngineError::Invalid(format!("`{text}` is no {what} of an object")));
            }
        }
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Ok((known, Key { kind: kind.to_string(), namespace, name }))
    }

    /// The same for an object that is named.
    pub(super) fn named(&self, kind: &Kind, namespace: &str, name: &str) -> Result<(Known, Key)> {
        if name.is_empty() {
            return Err(EngineError::Invalid("no name is given".to_owned()));
        }
        self.place(kind, namespace, name)
    }

    pub(super) fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Value> {
        let (known, key) = self.named(kind, namespace, name)?;
        self.objects.get(&key).cloned().ok_or_else(|| absent(&known, name))
    }

    pub(super) fn list(
        &self,
        kind: &Kind,
        selection: &Selection,
        limit: u32,
        after: &str,
    ) -> Result<ObjectPage> {
        if !self.kinds.get(kind)?.namespaced && !selection.namespace.is_empty() {
            return Err(EngineError::Invalid(format!(
                "a {kind} lives in no namespace, and `{}` is named",
                selection.namespace
            )));
        }
        let selector = Selector::of(kind, selection)?;
        let (version, start) = match after.split_once(' ') {
            None if after.is_empty() => (self.version, None),
            None => return Err(EngineError::Invalid(format!("`{after}` is no place in a list"))),
            Some((version, key)) => {
                let version = version.parse().map_err(|_| {
                    EngineError::Invalid(format!("`{after}` is no place in a list"))
                })?;
                (version, key.split_once('/'))
            }
        };
        if version < self.forgotten && start.is_some() {
            return Err(EngineError::Conflict(
                "the provided continue parameter is too old to display a consistent list result: begin again".to_owned(),
            ));
        }
        let limit = usize::try_from(if limit == 0 { PAGE } else { limit }).unwrap_or(usize::MAX);
        let all = self.at(kind, version);
        let mut rest = all.iter().filter(|(key, _)| {
            (selection.namespace.is_empty() || selection.namespace == key.namespace)
                && start.is_none_or(|(namespace, name)| {
                    (key.namespace.as_str(), key.name.as_str()) > (namespace, name)
                })
        });
        let mut items = Vec::new();
        let mut last = None;
        while items.len() < limit
            && let Some((key, object)) = rest.next()
        {
            last = Some(format!("{version} {}/{}", key.namespace, key.name));
            items.extend(selector.matches(object).then(|| object.clone()));
        }
        // Whether what comes is selected shows then: the last page may be empty.
        let next = rest.next().and(last).unwrap_or_default();
        Ok(ObjectPage { items, next, resource_version: version.to_string() })
    }

    /// The objects of a kind as they were at a version.
    fn at(&self, kind: &Kind, version: u64) -> BTreeMap<Key, Value> {
        let kind = kind.to_string();
        let mut objects: BTreeMap<Key, Value> = self
            .objects
            .iter()
            .filter(|(key, _)| key.kind == kind)
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        for happened in self.history.iter().rev().take_while(|one| one.version > version) {
            if happened.key.kind == kind {
                match &happened.before {
                    Some(before) => drop(objects.insert(happened.key.clone(), before.clone())),
                    None => drop(objects.remove(&happened.key)),
                }
            }
        }
        objects
    }

    /// Lists that have begun cannot be gone on with.
    pub(super) fn forget(&mut self) {
        self.forgotten = self.version.saturating_add(1);
        self.version = self.forgotten;
    }

    // ---- storage

    /// Writes an object, and gives it with its new version.
    pub(super) fn put(&mut self, key: Key, mut object: Value) -> Value {
        self.version = self.version.saturating_add(1);
        set(&mut object, "resourceVersion", Some(self.version.to_string().into()));
        let before = self.objects.insert(key.clone(), object.clone());
        let after = Some(object.clone());
        self.history.push(Happened { version: self.version, key, before, after });
        object
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(before) = self.objects.remove(key) {
            self.version = self.version.saturating_add(1);
            let (version, key) = (self.version, key.clone());
            self.history.push(Happened { version, key, before: Some(before), after: None });
        }
    }

    /// The uids of all objects.
    pub(super) fn uids(&self) -> BTreeSet<String> {
        self.objects.values().map(|object| word(object, "uid").to_owned()).collect()
    }
}

impl Happened {
    /// How an object looked that is gone, with the version in which it went.
    pub(super) fn last(&self) -> Option<Value> {
        let mut last = self.before.clone()?;
        set(&mut last, "resourceVersion", Some(self.version.to_string().into()));
        Some(last)
    }
}

pub(super) fn absent(known: &Known, name: &str) -> EngineError {
    EngineError::NotFound(format!("{} {name:?} not found", known.resource()))
}

pub(super) fn conflict(known: &Known, name: &str, why: &str) -> EngineError {
    EngineError::Conflict(format!(
        "Operation cannot be fulfilled on {} {name:?}: {why}",
        known.resource()
    ))
}

/// Whether a kubelet has something to end.
pub(super) fn runs(pod: &Value) -> bool {
    let word = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    !word("/spec/nodeName").is_empty() && !["Succeeded", "Failed"].contains(&word("/status/phase"))
}

pub(super) fn bump(object: &mut Value) {
    let generation = object.pointer("/metadata/generation").and_then(Value::as_u64).unwrap_or(0);
    set(object, "generation", Some(generation.saturating_add(1).into()));
}

//! Whose each field of an object is: Kubernetes' `metadata.managedFields`.
//!
//! A [`FieldSet`] is what one manager has, as `fieldsV1` spells it. The rules are those of `sigs.k8s.io/structured-merge-diff/v6`; what lists and maps are is in `lists.rs`, how objects are merged
//! in `typed.rs`, and how what we did to one is taken back in `restore.rs`.

pub(crate) mod lists;
pub(crate) mod restore;
pub(crate) mod typed;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde_json::{Map, Value, json};

use self::lists::{Place, Shape};
use crate::call::cluster::Kind;
use crate::cluster::FIELD_MANAGER;

/// A step on the way to a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// A field of a map (`f:replicas`).
    Field(String),
    /// The item of a list that has these fields, as JSON with its keys sorted (`k:{"name":"web"}`).
    Key(String),
    /// The value in a set, as JSON (`v:"kubernetes"`).
    Value(String),
    /// The item at a place in a list (`i:0`).
    Index(u64),
}

/// Some fields of an object. A field may be in it without those below it, and the other way around.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    nodes: BTreeMap<Element, Node>,
}

/// Never one without fields: neither in the set nor with one below that is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: FieldSet,
}

/// The object reduced to what our manager has applied: what to apply again to put it back. None when it has applied nothing, or the object does not tell.
#[must_use]
pub fn applied(object: &Value) -> Option<Value> {
    applied_but(object, &FieldSet::default())
}

/// The same without these fields.
fn applied_but(object: &Value, left_out: &FieldSet) -> Option<Value> {
    let entry = our_apply(object)?;
    let fields = FieldSet::parse(entry.get("fieldsV1")?)?;
    let mut applied = extract(object, &fields.difference(left_out));
    let named = named(object)?;
    let map = applied.as_object_mut()?;
    for (key, value) in named.as_object()? {
        match (map.get_mut(key).and_then(Value::as_object_mut), value) {
            (Some(there), Value::Object(value)) => there.extend(value.clone()),
            (Some(_) | None, _) => drop(map.insert(key.clone(), value.clone())),
        }
    }
    Some(applied)
}

/// An object that says which one it is, and nothing else.
fn named(object: &Value) -> Option<Value> {
    let metadata = object.get("metadata")?;
    let mut named = json!({
        "apiVersion": object.get("apiVersion")?, "kind": object.get("kind")?, "metadata": {},
    });
    let of = named.get_mut("metadata")?.as_object_mut()?;
    for key in ["name", "namespace"] {
        if let Some(value) = metadata.get(key) {
            of.insert(key.to_owned(), value.clone());
        }
    }
    Some(named)
}

/// Whose the fields of an object are, entry by entry.
fn entries(object: &Value) -> &[Value] {
    let entries = object.get("metadata").and_then(|metadata| metadata.get("managedFields"));
    entries.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn word<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The entry of what we have applied.
fn our_apply(object: &Value) -> Option<&Value> {
    entries(object).iter().find(|entry| we_applied(entry))
}

/// Whether an entry is of what we apply.
fn we_applied(entry: &Value) -> bool {
    word(entry, "manager") == FIELD_MANAGER
        && word(entry, "operation") == "Apply"
        && word(entry, "subresource").is_empty()
}

/// The object reduced to these fields, and to the keys of the items that lead to them.
#[must_use]
pub fn extract(object: &Value, fields: &FieldSet) -> Value {
    let kind = Kind::of(object);
    extracted(object, fields, &Place::of(&kind), Shape::Plain)
}

/// The object without these fields, and without all that is below them.
#[must_use]
pub fn without(object: &Value, fields: &FieldSet) -> Value {
    let kind = Kind::of(object);
    reduced(object, fields, &Place::of(&kind), Shape::Plain).unwrap_or_else(|| json!({}))
}

impl Element {
    /// The item of a list that has these fields.
    pub(crate) fn key(fields: &Map<String, Value>) -> Self {
        let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
        Self::Key(serde_json::to_string(&sorted).unwrap_or_default())
    }

    fn parse(text: &str) -> Option<Self> {
        let (sort, rest) = text.split_once(':')?;
        match sort {
            "f" => Some(Self::Field(rest.to_owned())),
            "k" => serde_json::from_str(rest).ok().map(|fields| Self::key(&fields)),
            "v" => Some(Self::Value(serde_json::from_str::<Value>(rest).ok()?.to_string())),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    fn spelled(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(fields) => format!("k:{fields}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }
}

/// As the API server's messages spell it: `.spec`, `[name="web"]`, `[="a"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                let fields: BTreeMap<String, Value> =
                    serde_json::from_str(fields).unwrap_or_default();
                let fields: Vec<_> =
                    fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", fields.join(","))
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl FieldSet {
    /// Reads `fieldsV1`; none when it is not one.
    #[must_use]
    pub fn parse(fields: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (key, below) in fields.as_object()? {
            if key == "." {
                continue;
            }
            let member = below.as_object()?.contains_key(".") || below.as_object()?.is_empty();
            let node = Node { member, below: Self::parse(below)? };
            set.put(Element::parse(key)?, node);
        }
        Some(set)
    }

    /// Writes `fieldsV1`.
    #[must_use]
    pub fn to_fields(&self) -> Value {
        let fields = self.nodes.iter().map(|(element, node)| {
            let mut below = node.below.to_fields();
            if node.member
                && !node.below.is_empty()
                && let Some(map) = below.as_object_mut()
            {
                map.insert(".".to_owned(), json!({}));
            }
            (element.spelled(), below)
        });
        Value::Object(fields.collect())
    }

    /// The fields that an apply of this object takes.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        let kind = Kind::of(object);
        Self::of_value(object, &Place::of(&kind), Shape::Plain)
    }

    fn of_value(value: &Value, place: &Place<'_>, shape: Shape) -> Self {
        let mut set = Self::default();
        match value {
            Value::Object(map) if shape != Shape::Atomic => {
                for (name, value) in map {
                    let place = place.field(name);
                    let shape = place.shape();
                    let member = (!shape.is_list() && is_leaf(value, shape)) || value.is_null();
                    let below = Self::of_value(value, &place, shape);
                    set.put(Element::Field(name.clone()), Node { member, below });
                }
            }
            Value::Array(items) if shape.is_list() => {
                for item in items {
                    if let Some(element) = shape.element(item) {
                        let below = Self::of_value(item, place, shape.item());
                        set.put(element, Node { member: true, below });
                    }
                }
            }
            Value::Object(_)
            | Value::Array(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_) => {}
        }
        set
    }

    /// Whether there is no field in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a field. The object itself is none.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let node = self.nodes.entry(first.clone()).or_default();
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// What is in one of them.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut set = self.clone();
        for (element, node) in &other.nodes {
            match set.nodes.entry(element.clone()) {
                Entry::Vacant(entry) => drop(entry.insert(node.clone())),
                Entry::Occupied(mut entry) => {
                    let entry = entry.get_mut();
                    entry.member |= node.member;
                    entry.below = entry.below.union(&node.below);
                }
            }
        }
        set
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.each(|element, node| {
            other.nodes.get(element).map_or_else(Node::default, |twin| Node {
                member: node.member && twin.member,
                below: node.below.intersection(&twin.below),
            })
        })
    }

    /// What is in this one alone; what is below a field of the other stays.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.each(|element, node| match other.nodes.get(element) {
            None => node.clone(),
            Some(twin) => Node {
                member: node.member && !twin.member,
                below: node.below.difference(&twin.below),
            },
        })
    }

    /// What is in this one alone and not below a field of the other either.
    #[must_use]
    pub fn outside(&self, other: &Self) -> Self {
        self.each(|element, node| match other.nodes.get(element) {
            None => node.clone(),
            Some(twin) if twin.member => Node::default(),
            Some(twin) => Node { member: node.member, below: node.below.outside(&twin.below) },
        })
    }

    /// What is in this one and one of the other's fields, or below one.
    #[must_use]
    pub fn inside(&self, other: &Self) -> Self {
        self.each(|element, node| match other.nodes.get(element) {
            None => Node::default(),
            Some(twin) if twin.member => node.clone(),
            Some(twin) => Node { member: false, below: node.below.inside(&twin.below) },
        })
    }

    /// The same with every field of a map that leads to one in it. Kubernetes does this for fields that types name; here every field is one, since the values of free maps lead nowhere.
    pub(crate) fn with_ways(&self) -> Self {
        self.each(|element, node| {
            let way = matches!(element, Element::Field(_)) && !node.below.is_empty();
            Node { member: node.member || way, below: node.below.with_ways() }
        })
    }

    /// The same with every field and every item that leads to one in it.
    pub(crate) fn with_all_ways(&self) -> Self {
        self.each(|_, node| Node { member: true, below: node.below.with_all_ways() })
    }

    /// The ways to all fields in it: those of a map before what is below them.
    #[must_use]
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut paths = Vec::new();
        self.add_paths(&mut Vec::new(), &mut paths);
        paths
    }

    fn add_paths(&self, way: &mut Vec<Element>, paths: &mut Vec<Vec<Element>>) {
        for (element, _) in self.nodes.iter().filter(|(_, node)| node.member) {
            paths.push(way.iter().chain([element]).cloned().collect());
        }
        for (element, node) in &self.nodes {
            way.push(element.clone());
            node.below.add_paths(way, paths);
            way.pop();
        }
    }

    fn each(&self, change: impl Fn(&Element, &Node) -> Node) -> Self {
        let mut set = Self::default();
        for (element, node) in &self.nodes {
            set.put(element.clone(), change(element, node));
        }
        set
    }

    fn put(&mut self, element: Element, node: Node) {
        if node.member || !node.below.is_empty() {
            self.nodes.insert(element, node);
        }
    }

    fn at(&self, element: &Element) -> Option<&Node> {
        self.nodes.get(element)
    }
}

/// Whether a value is one field, whatever is in it.
fn is_leaf(value: &Value, shape: Shape) -> bool {
    match value {
        Value::Object(map) => shape == Shape::Atomic || map.is_empty(),
        Value::Array(_) => !shape.is_list(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn extracted(value: &Value, fields: &FieldSet, place: &Place<'_>, shape: Shape) -> Value {
    match value {
        Value::Object(map) if shape != Shape::Atomic => {
            let found = map.iter().filter_map(|(name, value)| {
                let node = fields.at(&Element::Field(name.clone()))?;
                let place = place.field(name);
                Some((name.clone(), extracted(value, &node.below, &place, place.shape())))
            });
            Value::Object(found.collect())
        }
        Value::Array(items) if shape.is_list() => {
            let found = items.iter().filter_map(|item| {
                let element = shape.element(item)?;
                let node = fields.at(&element)?;
                let mut found = extracted(item, &node.below, place, shape.item());
                if let (Some(found), Element::Key(key)) = (found.as_object_mut(), &element)
                    && let Ok(Value::Object(key)) = serde_json::from_str::<Value>(key)
                {
                    for (name, value) in key {
                        found.entry(name).or_insert(value);
                    }
                }
                Some(found)
            });
            Value::Array(found.collect())
        }
        Value::Object(_)
        | Value::Array(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_) => value.clone(),
    }
}

/// None where nothing is left of what was more than nothing.
fn reduced(value: &Value, fields: &FieldSet, place: &Place<'_>, shape: Shape) -> Option<Value> {
    if fields.is_empty() {
        return Some(value.clone());
    }
    match value {
        Value::Object(map) if shape != Shape::Atomic => {
            let left: Map<_, _> = map
                .iter()
                .filter_map(|(name, value)| match fields.at(&Element::Field(name.clone())) {
                    None => Some((name.clone(), value.clone())),
                    Some(node) if node.member => None,
                    Some(node) => {
                        let place = place.field(name);
                        let left = reduced(value, &node.below, &place, place.shape())?;
                        Some((name.clone(), left))
                    }
                })
                .collect();
            (!left.is_empty()).then_some(Value::Object(left))
        }
        Value::Array(items) if shape.is_list() => {
            let left: Vec<_> = items
                .iter()
                .filter_map(|item| match shape.element(item).and_then(|key| fields.at(&key)) {
                    None => Some(item.clone()),
                    Some(node) if node.member => None,
                    Some(node) => reduced(item, &node.below, place, shape.item()),
                })
                .collect();
            (!left.is_empty()).then_some(Value::Array(left))
        }
        Value::Object(_)
        | Value::Array(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_) => Some(value.clone()),
    }
}

#[cfg(test)]
mod tests;

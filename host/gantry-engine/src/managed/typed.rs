//! Objects merged and compared with regard to what their lists and maps are (`typed/merge.go`, `typed/compare.go` of structured-merge-diff).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::lists::{Place, Shape};
use super::{Element, FieldSet};
use crate::EngineError;
use crate::call::cluster::Kind;
use crate::cluster::Result;

/// What has become of the fields of an object.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) added: FieldSet,
    pub(crate) changed: FieldSet,
    pub(crate) removed: FieldSet,
}

/// The one object with all that the other says.
///
/// # Errors
/// `invalid` when a list of the other has two items of one key.
pub(crate) fn merged(object: &Value, config: &Value) -> Result<Value> {
    let kind = Kind::of(config);
    let merged = merge(Some(object), Some(config), &Place::of(&kind), Shape::Plain)?;
    Ok(merged.unwrap_or_else(|| Value::Object(Map::new())))
}

/// What has become of the one object in the other.
pub(crate) fn compared(before: &Value, after: &Value) -> Comparison {
    let kind = Kind::of(after);
    let mut comparison = Comparison::default();
    let place = Place::of(&kind);
    comparison.compare(Some(before), Some(after), &place, Shape::Plain, &mut Vec::new());
    comparison
}

/// How two values are taken together.
enum Pair<'a> {
    Maps(Option<&'a Map<String, Value>>, Option<&'a Map<String, Value>>),
    Lists(&'a [Value], &'a [Value]),
    Leaf,
}

impl<'a> Pair<'a> {
    /// What is empty on both sides is one value, so that nothing and an empty map stay two things.
    fn of(one: Option<&'a Value>, other: Option<&'a Value>, shape: Shape) -> Self {
        let nothing = |value: Option<&Value>| value.is_none_or(Value::is_null);
        let (map, list) = (
            |value: Option<&'a Value>| value.and_then(Value::as_object),
            |value: Option<&'a Value>| value.and_then(Value::as_array).map(Vec::as_slice),
        );
        let full = |value: Option<&Map<String, Value>>| value.is_some_and(|map| !map.is_empty());
        if shape != Shape::Atomic
            && (full(map(one)) || full(map(other)))
            && (nothing(one) || map(one).is_some())
            && (nothing(other) || map(other).is_some())
        {
            return Self::Maps(map(one), map(other));
        }
        if shape.is_list()
            && (nothing(one) || list(one).is_some())
            && (nothing(other) || list(other).is_some())
        {
            let (one, other) = (list(one).unwrap_or_default(), list(other).unwrap_or_default());
            if !(one.is_empty() && other.is_empty()) {
                return Self::Lists(one, other);
            }
        }
        Self::Leaf
    }
}

fn names<'a>(
    one: Option<&'a Map<String, Value>>,
    other: Option<&'a Map<String, Value>>,
) -> impl Iterator<Item = &'a String> {
    let new = other.into_iter().flat_map(Map::keys);
    let new = new.filter(move |name| one.is_none_or(|one| !one.contains_key(*name)));
    one.into_iter().flat_map(Map::keys).chain(new)
}

fn merge(
    one: Option<&Value>,
    other: Option<&Value>,
    place: &Place<'_>,
    shape: Shape,
) -> Result<Option<Value>> {
    match Pair::of(one, other, shape) {
        Pair::Maps(one, other) => {
            let mut map = Map::new();
            for name in names(one, other) {
                let place = place.field(name);
                let (one, other) =
                    (one.and_then(|one| one.get(name)), other.and_then(|other| other.get(name)));
                if let Some(value) = merge(one, other, &place, place.shape())? {
                    map.insert(name.clone(), value);
                }
            }
            Ok((!map.is_empty()).then_some(Value::Object(map)))
        }
        Pair::Lists(one, other) => merge_lists(one, other, place, shape),
        Pair::Leaf => Ok(other.or(one).cloned()),
    }
}

/// Items of both lists are merged and stand as the second has them; those of the first alone keep their place among them.
fn merge_lists(
    one: &[Value],
    other: &[Value],
    place: &Place<'_>,
    shape: Shape,
) -> Result<Option<Value>> {
    let keyed = |items: &'_ [Value]| -> Result<Vec<Element>> {
        items
            .iter()
            .map(|item| {
                shape.element(item).ok_or_else(|| {
                    EngineError::Invalid(format!("an item of a list lacks its keys: {item}"))
                })
            })
            .collect()
    };
    let (left, right) = (keyed(one)?, keyed(other)?);
    let mut theirs: BTreeMap<&Element, &Value> = BTreeMap::new();
    for (element, item) in right.iter().zip(other) {
        if theirs.insert(element, item).is_some() {
            return Err(EngineError::Invalid(format!("duplicate entries for key {element}")));
        }
    }
    let ours: BTreeMap<&Element, &Value> = left.iter().zip(one).collect();
    let mut shared = right.iter().filter(|element| ours.contains_key(element));
    let mut next_shared = shared.next();
    let mut done = std::collections::BTreeSet::new();
    let mut items = Vec::new();
    let mut put = |element: &Element, both: bool| -> Result<()> {
        let one = ours.get(element).copied();
        let other = if both { theirs.get(element).copied() } else { None };
        items.extend(merge(one, other, place, shape.item())?);
        Ok(())
    };
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some(mine), Some(yours)) = (left.get(l), right.get(r)) {
            if mine == yours {
                done.insert(mine);
                put(mine, true)?;
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            if theirs.contains_key(mine) && next_shared.is_some_and(|next| next != mine) {
                l += 1;
                continue;
            }
        }
        if let Some(mine) = left.get(l) {
            if !theirs.contains_key(mine) {
                put(mine, false)?;
                l += 1;
                continue;
            }
            if done.contains(mine) {
                l += 1;
            }
        }
        if let Some(yours) = right.get(r) {
            done.insert(yours);
            put(yours, true)?;
            r += 1;
            if next_shared == Some(yours) {
                next_shared = shared.next();
            }
        }
    }
    Ok((!items.is_empty()).then_some(Value::Array(items)))
}

impl Comparison {
    fn compare(
        &mut self,
        one: Option<&Value>,
        other: Option<&Value>,
        place: &Place<'_>,
        shape: Shape,
        path: &mut Vec<Element>,
    ) {
        match Pair::of(one, other, shape) {
            Pair::Maps(one, other) => {
                for name in names(one, other) {
                    let place = place.field(name);
                    let (one, other) = (
                        one.and_then(|one| one.get(name)),
                        other.and_then(|other| other.get(name)),
                    );
                    path.push(Element::Field(name.clone()));
                    self.compare(one, other, &place, place.shape(), path);
                    path.pop();
                }
            }
            Pair::Lists(one, other) => {
                let keyed = |items: &'_ [Value]| -> BTreeMap<Element, Value> {
                    let told = |item: &Value| Some((shape.element(item)?, item.clone()));
                    items.iter().filter_map(told).collect()
                };
                let (one, other) = (keyed(one), keyed(other));
                let new = other.keys().filter(|element| !one.contains_key(*element));
                for element in one.keys().chain(new) {
                    path.push(element.clone());
                    self.compare(one.get(element), other.get(element), place, shape.item(), path);
                    path.pop();
                }
            }
            Pair::Leaf => {
                if one.is_some() && other.is_some() && one != other {
                    self.changed.insert(path);
                }
            }
        }
        match (one, other) {
            (None, Some(_)) => self.added.insert(path),
            (Some(_), None) => self.removed.insert(path),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(containers: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers}})
    }

    #[test]
    fn lists_with_keys_are_merged_item_by_item() {
        let names = |names: &str| {
            pod(&names.chars().map(|name| json!({"name": name.to_string()})).collect())
        };
        for (one, other, wanted) in [
            ("", "ab", "ab"),
            ("ab", "", "ab"),
            ("ab", "ba", "ba"),
            ("ab", "bc", "abc"),
            ("abc", "cb", "acb"),
            ("abc", "xb", "axbc"),
        ] {
            let told = merged(&names(one), &names(other)).unwrap();
            assert_eq!(told, names(wanted), "{one} and {other}");
        }
        let twice = merged(&names("a"), &names("bb")).unwrap_err();
        assert_eq!(twice.to_string(), "duplicate entries for key [name=\"b\"]");
        let one = pod(&json!([{"name": "a", "image": "1", "args": ["x"]}]));
        let other = pod(&json!([{"name": "a", "image": "2"}]));
        assert_eq!(
            merged(&one, &other).unwrap(),
            pod(&json!([{"name": "a", "image": "2", "args": ["x"]}]))
        );
    }

    #[test]
    fn what_has_become_of_an_object_is_told_field_by_field() {
        let before = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"nodeSelector": {"x": "1"}, "containers": [{"name": "a", "image": "1"}, {"name": "b"}]}});
        let after = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": "9", "c": "3"}, "annotations": {"n": "1"}}, "spec": {"nodeSelector": {"x": "1", "y": "2"}, "containers": [{"name": "a", "image": "1", "tty": true}]}});
        let told = compared(&before, &after);
        assert_eq!(
            told.added.to_fields(),
            json!({"f:metadata": {"f:annotations": {".": {}, "f:n": {}}, "f:labels": {"f:c": {}}}, "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {"f:tty": {}}}}})
        );
        assert_eq!(
            told.changed.to_fields(),
            json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:nodeSelector": {}}})
        );
        assert_eq!(
            told.removed.to_fields(),
            json!({"f:metadata": {"f:labels": {"f:b": {}}}, "f:spec": {"f:containers": {"k:{\"name\":\"b\"}": {".": {}, "f:name": {}}}}})
        );
    }
}

//! Objects of a cluster as JSON: reading what may be missing, leaving out what is not set, and what to send to change one.
//!
//! A field is named by its JSON pointer. One that is missing, or of another type, reads as empty: what a cluster sends has been checked there.

use gantry_sdk::{LabelSet, Labels};
use serde_json::{Map, Value};

use crate::PREFIX;

/// The text of a field; empty when there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number of a field; 0 when there is none.
pub fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// The items of a field; none when it is no list.
pub fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The texts of a field by key; none when it is no object.
pub fn texts(object: &Value, pointer: &str) -> Labels {
    let fields = object.pointer(pointer).and_then(Value::as_object);
    fields
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// What the object is called.
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// Whether the object is on its way out.
pub fn is_leaving(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// What the object says about itself: its labels and its annotations, which win.
pub fn label_set(object: &Value) -> LabelSet {
    let mut labels = texts(object, "/metadata/labels");
    labels.extend(texts(object, "/metadata/annotations"));
    LabelSet::new(labels, PREFIX)
}

/// These labels as a selector of a list.
pub fn selector(labels: &Labels) -> String {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(",")
}

/// The value without the fields that are null, however deep.
pub fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

/// The items, unless there are none: for fields that are left out then.
pub fn unless_empty<T: IntoIterator + Clone>(items: T) -> Option<T> {
    items.clone().into_iter().next().map(|_| items)
}

/// The object as it can be sent again: without what the server wrote into it.
pub fn plain(object: &Value) -> Value {
    let mut object = object.clone();
    let fields = object.as_object_mut();
    if let Some(fields) = fields {
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in [
                "creationTimestamp",
                "deletionGracePeriodSeconds",
                "deletionTimestamp",
                "generation",
                "managedFields",
                "ownerReferences",
                "resourceVersion",
                "selfLink",
                "uid",
            ] {
                metadata.remove(field);
            }
            if let Some(annotations) =
                metadata.get_mut("annotations").and_then(Value::as_object_mut)
            {
                annotations.retain(|key, _| !key.starts_with("deployment.kubernetes.io/"));
            }
        }
    }
    object
}

/// What turns one JSON value into another, as a merge patch (RFC 7386). A list that differs is sent whole. An empty object when nothing differs.
pub fn merge_patch(before: &Value, after: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return after.clone();
    };
    let mut patch = Map::new();
    for (key, value) in after {
        match before.get(key) {
            Some(old) if old == value => {}
            Some(old) if old.is_object() && value.is_object() => {
                patch.insert(key.clone(), merge_patch(old, value));
            }
            Some(_) | None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_is_missing_or_of_another_type_is_empty() {
        let object = json!({"metadata": {"name": 5, "labels": {"a": "1", "b": 2}}, "n": "7"});
        assert_eq!(name(&object), "");
        assert_eq!(number(&object, "/n"), 0);
        assert!(items(&object, "/metadata").is_empty());
        assert_eq!(texts(&object, "/metadata/labels"), Labels::from([("a".into(), "1".into())]));
        assert!(texts(&object, "/nothing/there").is_empty());
    }

    #[test]
    fn annotations_win_over_labels() {
        let object = json!({"metadata": {
            "labels": {"tsuru.io/app-name": "a", "tsuru.io/app-process": "web"},
            "annotations": {"tsuru.io/app-name": "b"},
        }});
        let set = label_set(&object);
        assert_eq!((set.app_name(), set.app_process()), ("b", "web"));
    }

    #[test]
    fn nulls_are_left_out_however_deep() {
        let value = without_nulls(json!({"a": null, "b": [{"c": null, "d": ""}], "e": {}}));
        assert_eq!(value, json!({"b": [{"d": ""}], "e": {}}));
    }

    #[test]
    fn what_the_server_wrote_is_not_sent_back() {
        let object = json!({
            "metadata": {
                "name": "a", "uid": "1", "resourceVersion": "5", "managedFields": [],
                "annotations": {"deployment.kubernetes.io/revision": "3", "mine": "1"},
            },
            "spec": {"replicas": 1},
            "status": {"replicas": 1},
        });
        let expected = json!({
            "metadata": {"name": "a", "annotations": {"mine": "1"}},
            "spec": {"replicas": 1},
        });
        assert_eq!(plain(&object), expected);
        assert_eq!(plain(&json!([])), json!([]));
    }

    #[test]
    fn a_patch_says_what_differs() {
        let before = json!({"a": {"b": 1, "c": 2}, "l": [1, 2], "same": {"x": 1}});
        let after = json!({"a": {"b": 1, "d": {"e": 3}}, "l": [2], "same": {"x": 1}});
        let patch = json!({"a": {"c": null, "d": {"e": 3}}, "l": [2]});
        assert_eq!(merge_patch(&before, &after), patch);
        assert_eq!(merge_patch(&after, &after), json!({}));
        assert_eq!(merge_patch(&json!({"a": 1}), &json!({"a": {}})), json!({"a": {}}));
    }
}

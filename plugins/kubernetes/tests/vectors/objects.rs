//! Comparing our objects with those the reference stored.

use serde_json::Value;

/// Our object as the reference's would have been stored. These are all the differences:
///
/// * `apiVersion`: the reference's `apps/v1beta2` is retired, ours is `apps/v1`; and the vectors hold none.
/// * `kind`: the vectors hold none, their store knows what it keeps.
pub(crate) fn ours(object: &Value, api_version: &str, kind: &str) -> Value {
    assert_eq!(object["apiVersion"], api_version);
    assert_eq!(object["kind"], kind);
    let mut object = object.clone();
    let fields = object.as_object_mut().expect("an object");
    fields.remove("apiVersion");
    fields.remove("kind");
    object
}

/// The reference's object as we would have sent it. This is the only difference:
///
/// * `status`: its store keeps the zero values of one, which is the cluster's to write.
pub(crate) fn theirs(object: &Value) -> Value {
    let mut object = object.clone();
    object.as_object_mut().expect("an object").remove("status");
    object
}

/// The objects of a field, none when it is null or missing.
pub(crate) fn all(value: &Value, field: &str) -> Vec<Value> {
    let mut objects: Vec<Value> =
        value[field].as_array().into_iter().flatten().map(theirs).collect();
    objects.sort_by_key(name);
    objects
}

pub(crate) fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().expect("a name").to_owned()
}

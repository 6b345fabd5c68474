//! What it takes to put an object back as it was before an operation: whose fields change hands, what is applied, and what is patched.
//!
//! Kubernetes keeps one entry of `managedFields` for what a manager applies, and another for what it changes with updates and patches. To an apply the second is somebody else: where we
//! patched a field that we had applied, applying it again is a conflict with ourselves. So such fields are handed from our one entry to the other before, as `csaupgrade` of client-go does.
//! That takes no value and no field of anybody; nothing is ever forced.

use serde_json::{Map, Value};

use super::typed::merged;
use super::{Element, FieldSet, entries, extract, named, our_apply, we_applied, without, word};
use crate::cluster::{FIELD_MANAGER, Result};

/// What is restored of an object's metadata beside what is in it: the rest is the server's, or never changes.
const METADATA: [&str; 4] = ["annotations", "finalizers", "labels", "ownerReferences"];

/// The `managedFields` of an object in which our apply has again what it had before, and what our patches have taken of it since. None when they have taken nothing.
pub(crate) fn handed_back(before: &Value, now: &Value) -> Option<Value> {
    let had = our_apply(before)?;
    let (ours, version) = (fields(had), word(had, "apiVersion"));
    let mut handed = FieldSet::default();
    let mut left: Vec<Value> = Vec::new();
    for entry in entries(now) {
        let of = fields(entry);
        let back = of.intersection(&ours);
        if !we_patched(entry) || word(entry, "apiVersion") != version || back.is_empty() {
            left.push(entry.clone());
            continue;
        }
        handed = handed.union(&back);
        let rest = of.difference(&back);
        if !rest.is_empty() {
            left.push(with_fields(entry, &rest));
        }
    }
    if handed.is_empty() {
        return None;
    }
    match left.iter_mut().find(|entry| we_applied(entry)) {
        Some(entry) => *entry = with_fields(entry, &fields(entry).union(&handed)),
        None => left.push(with_fields(had, &handed)),
    }
    Some(Value::Array(left))
}

/// Who has taken something, and what.
pub(crate) type Taken = (String, FieldSet);

/// What others have taken since of what we had applied.
pub(crate) fn taken(before: &Value, now: &Value) -> Vec<Taken> {
    let Some(had) = our_apply(before).map(fields) else { return Vec::new() };
    let others = |object| {
        let is_other = |entry: &&Value| word(entry, "manager") != FIELD_MANAGER;
        entries(object).iter().filter(is_other)
    };
    // What they had before and we have still, both said.
    let ours = our_apply(now).map(fields).unwrap_or_default();
    let theirs = others(before).fold(FieldSet::default(), |all, entry| all.union(&fields(entry)));
    let theirs = theirs.intersection(&ours);
    let taken = |entry| {
        let taken = fields(entry).difference(&theirs).intersection(&had);
        (!taken.is_empty()).then(|| (word(entry, "manager").to_owned(), taken))
    };
    others(now).filter_map(taken).collect()
}

/// What is to be applied so that our apply has what it had before, and no more. None when we have applied nothing. What others have [`taken`] is theirs: one field of somebody else must not keep
/// all the others from going back.
pub(crate) fn to_apply(before: &Value, now: &Value, taken: &[Taken]) -> Option<Value> {
    let applied = our_apply(now).is_some();
    let taken = taken.iter().fold(FieldSet::default(), |all, (_, taken)| all.union(taken));
    super::applied_but(before, &taken).or_else(|| if applied { named(now) } else { None })
}

/// The merge patch that takes back what our patches did: what they changed or removed is as it was, what they added goes. What others have by now stays. None when there is nothing to do.
///
/// Nothing says who removed a field. Unless we have patched since, it was somebody else.
///
/// # Errors
/// When lists of the object cannot be merged.
pub(crate) fn to_patch(before: &Value, now: &Value, have_patched: bool) -> Result<Option<Value>> {
    let all = |ours: bool| {
        let entries = entries(now).iter().filter(|entry| we_patched(entry) == ours);
        entries.fold(FieldSet::default(), |all, entry| all.union(&fields(entry)))
    };
    let (was, is) = (FieldSet::of(before), FieldSet::of(now));
    // Of an object without an account of its fields all may be ours.
    let patched = if entries(now).is_empty() { is.with_ways() } else { all(true) };
    // Nor is what holds something of others ours to take away.
    let patched = patched.difference(&all(false).with_all_ways());
    let added = patched.difference(&was.with_ways());
    let mut back = was.intersection(&patched);
    if have_patched {
        back = back.union(&was.difference(&is));
    }
    for key in ["apiVersion", "kind"] {
        back.insert(&[Element::Field(key.to_owned())]);
    }
    let restored = merged(&without(now, &added), &extract(before, &back))?;
    let patch = difference(&ours_to_say(now), &ours_to_say(&restored));
    Ok(patch.as_object().is_some_and(|patch| !patch.is_empty()).then_some(patch))
}

/// Whether an entry is of what we change otherwise.
fn we_patched(entry: &Value) -> bool {
    word(entry, "manager") == FIELD_MANAGER && word(entry, "operation") == "Update"
}

fn fields(entry: &Value) -> FieldSet {
    entry.get("fieldsV1").and_then(FieldSet::parse).unwrap_or_default()
}

fn with_fields(entry: &Value, fields: &FieldSet) -> Value {
    let mut entry = entry.clone();
    if let Some(map) = entry.as_object_mut() {
        map.insert("fieldsV1".to_owned(), fields.to_fields());
    }
    entry
}

/// An object without its status, and without what the server alone says of it.
fn ours_to_say(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| METADATA.contains(&key.as_str()));
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

    fn entry(manager: &str, operation: &str, subresource: &str, fields: Value) -> Value {
        let mut entry = json!({
            "manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsV1": fields,
        });
        if !subresource.is_empty() {
            entry["subresource"] = subresource.into();
        }
        entry
    }

    fn applied(before: &Value, now: &Value) -> Option<Value> {
        to_apply(before, now, &taken(before, now))
    }

    fn object(entries: Value, metadata: Value, spec: Value) -> Value {
        let mut object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec,
        });
        object["metadata"]["name"] = "web".into();
        object["metadata"]["managedFields"] = entries;
        object
    }

    #[test]
    fn what_our_patches_took_of_what_we_applied_is_handed_back_and_nothing_of_others() {
        let replicas = || json!({"f:spec": {"f:replicas": {}}});
        let paused = || json!({"f:spec": {"f:paused": {}}});
        let both = || json!({"f:spec": {"f:paused": {}, "f:replicas": {}}});
        let of = |entries: Value| object(entries, json!({}), json!({}));
        let before = of(json!([entry(FIELD_MANAGER, "Apply", "", both())]));
        let rows = [
            (json!([entry(FIELD_MANAGER, "Apply", "", both())]), None),
            // Somebody else took it: that is a conflict, and stays one.
            (
                json!([
                    entry(FIELD_MANAGER, "Apply", "", paused()),
                    entry("hpa", "Update", "scale", replicas())
                ]),
                None,
            ),
            (
                json!([
                    entry(FIELD_MANAGER, "Apply", "", paused()),
                    entry(FIELD_MANAGER, "Update", "scale", replicas())
                ]),
                Some(json!([entry(FIELD_MANAGER, "Apply", "", both())])),
            ),
            (
                json!([
                    entry("kubectl", "Apply", "", paused()),
                    entry(
                        FIELD_MANAGER,
                        "Update",
                        "",
                        json!({"f:spec": {"f:replicas": {}, "f:other": {}}})
                    ),
                ]),
                Some(json!([
                    entry("kubectl", "Apply", "", paused()),
                    entry(FIELD_MANAGER, "Update", "", json!({"f:spec": {"f:other": {}}})),
                    entry(FIELD_MANAGER, "Apply", "", replicas()),
                ])),
            ),
        ];
        for (now, wanted) in rows {
            assert_eq!(handed_back(&before, &of(now.clone())), wanted, "{now}");
        }
        assert_eq!(handed_back(&of(json!([])), &before), None);
    }

    #[test]
    fn what_is_to_be_applied_is_what_we_had_applied_or_nothing() {
        let paused = json!({"f:spec": {"f:paused": {}}});
        let ours = entry(FIELD_MANAGER, "Apply", "", paused.clone());
        let theirs = entry("kubectl", "Apply", "", paused);
        let of = |entry: &Value| object(json!([entry]), json!({}), json!({"paused": true}));
        let nothing =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
        assert_eq!(applied(&of(&theirs), &of(&theirs)), None);
        assert_eq!(applied(&of(&theirs), &of(&ours)), Some(nothing.clone()));
        let mut paused = nothing.clone();
        paused["spec"] = json!({"paused": true});
        assert_eq!(applied(&of(&ours), &of(&ours)), Some(paused.clone()));
        // They have taken it since; or had it already, and said the same.
        assert_eq!(applied(&of(&ours), &of(&theirs)), Some(nothing));
        let both =
            object(json!([ours.clone(), theirs.clone()]), json!({}), json!({"paused": true}));
        let told = taken(&of(&ours), &of(&theirs));
        assert_eq!(told, [("kubectl".to_owned(), fields(&theirs))]);
        assert_eq!(taken(&both, &both), []);
        // What both said, and they alone say by now.
        assert_eq!(taken(&both, &of(&theirs)), told);
        assert_eq!(applied(&both, &both), Some(paused));
    }

    #[test]
    fn a_patch_takes_back_what_we_patched_and_leaves_what_others_have() {
        let patched = json!({
            "f:metadata": {"f:annotations": {".": {}, "f:a": {}}, "f:labels": {".": {}, "f:new": {}}},
            "f:spec": {"f:replicas": {}, "f:paused": {}},
        });
        let theirs = json!({
            "f:metadata": {"f:labels": {"f:theirs": {}}},
            "f:spec": {"f:paused": {}, "f:minReadySeconds": {}},
        });
        let before = object(
            json!([]),
            json!({"annotations": {"a": "1", "b": "2"}}),
            json!({"replicas": 1, "paused": false, "minReadySeconds": 1}),
        );
        let now = object(
            json!([
                entry(FIELD_MANAGER, "Update", "", patched),
                entry("else", "Update", "", theirs)
            ]),
            json!({"annotations": {"a": "9"}, "labels": {"new": "x", "theirs": "y"}}),
            json!({"replicas": 9, "paused": true, "minReadySeconds": 9}),
        );
        let patch = to_patch(&before, &now, true).unwrap();
        let wanted = json!({
            "metadata": {"annotations": {"a": "1", "b": "2"}, "labels": {"new": null}},
            "spec": {"replicas": 1},
        });
        assert_eq!(patch, Some(wanted));
        assert_eq!(to_patch(&before, &before, true).unwrap(), None);
        // What is missing without a patch of ours was taken away by somebody else.
        let patch = to_patch(&before, &now, false).unwrap();
        assert_eq!(patch.unwrap()["metadata"]["annotations"], json!({"a": "1"}));
    }

    #[test]
    fn of_an_object_without_an_account_of_its_fields_all_may_be_ours() {
        let of = |metadata: Value, spec: Value| object(json!([]), metadata, spec);
        let before = of(
            json!({"uid": "u", "resourceVersion": "1", "annotations": {"a": "1", "b": "2"}}),
            json!({"taints": [1]}),
        );
        let mut now = of(
            json!({"uid": "u", "resourceVersion": "2", "annotations": {"a": "9"}, "labels": {"c": "3"}}),
            json!({"taints": [1, 2], "unschedulable": true}),
        );
        now["status"] = json!({"x": 2});
        let wanted = json!({
            "metadata": {"annotations": {"a": "1", "b": "2"}, "labels": null},
            "spec": {"taints": [1], "unschedulable": null},
        });
        assert_eq!(to_patch(&before, &now, true).unwrap(), Some(wanted));
    }
}

//! Whose an object of a cluster is: the same marks as on a container, as labels of the object and of the pods that it makes.
//!
//! The mark of the operation is on the object alone: on a pod it would be a reason to start new ones.

use serde_json::{Map, Value};

use super::{INSTANCE, OPERATION, OWNER, PREFIX, unique};
use crate::call::cluster::{Change, ClusterCall, Kind, Patch, Selection};
use crate::{EngineError, Reply, Scope};
use gantry_core::policy::object::{at, places, pod_spec};

/// Whether an object carries the marks of the scope's owner and installation.
#[must_use]
pub fn is_own(scope: &Scope, object: &Value) -> bool {
    mark_of(object, OWNER) == Some(&*scope.provisioner)
        && mark_of(object, INSTANCE) == Some(&*scope.instance)
}

/// One of the marks on an object.
#[must_use]
pub fn mark_of<'a>(object: &'a Value, mark: &str) -> Option<&'a str> {
    at(object, &["metadata", "labels", mark])?.as_str()
}

/// The marks of the scope's owner and installation, as a label selector.
#[must_use]
pub fn selector(scope: &Scope) -> String {
    format!("{OWNER}={},{INSTANCE}={}", scope.provisioner, scope.instance)
}

/// Keeps the mark of the operation that made an own object in what is to be applied to it.
pub(crate) fn keep_operation(wanted: &mut Value, object: &Value) {
    let Some(marked) = at(object, &["metadata", "labels"]) else {
        // All that is known of it is its uid: it was made by this operation.
        return;
    };
    if let Some(labels) = labels_at(wanted, &[]) {
        keep(labels, marked, OPERATION);
    }
}

/// Keeps the marks of an object that is somebody else's in what is to be applied to it: it stays theirs, and so do the pods that it makes.
pub(crate) fn keep_marks(wanted: &mut Value, object: &Value) {
    let template = template(&Kind::of(wanted).kind);
    for path in std::iter::once(&[][..]).chain(template) {
        let labels: Vec<&str> = path.iter().copied().chain(["metadata", "labels"]).collect();
        let marked = at(object, &labels).unwrap_or(&Value::Null);
        if let Some(labels) = labels_at(wanted, path) {
            for mark in [OWNER, INSTANCE, OPERATION] {
                keep(labels, marked, mark);
            }
        }
    }
}

fn labels_at<'a>(object: &'a mut Value, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    let mut way = path.iter().chain(&["metadata", "labels"]);
    way.try_fold(object, |at, key| at.get_mut(*key))?.as_object_mut()
}

fn keep(labels: &mut Map<String, Value>, marked: &Value, mark: &str) {
    match marked.get(mark) {
        Some(value) => drop(labels.insert(mark.to_owned(), value.clone())),
        None => drop(labels.remove(mark)),
    }
}

/// Writes the marks into a call, and refuses what would change them.
pub(super) fn mark(scope: &Scope, call: &mut ClusterCall) -> Result<(), EngineError> {
    if let ClusterCall::Create { object, .. } = call {
        give_name(object)?;
    }
    if let ClusterCall::Create { object, .. } | ClusterCall::Apply { object, .. } = call {
        let kind = Kind::of(object).kind;
        refuse_marks(object)?;
        let marks = [(OWNER, &*scope.provisioner), (INSTANCE, &*scope.instance)];
        put(object, &["metadata", "labels"], &marks)?;
        if !scope.operation.id.is_empty() {
            put(object, &["metadata", "labels"], &[(OPERATION, &scope.operation.id)])?;
        }
        if let Some(path) = template(&kind) {
            let path: Vec<&str> = path.iter().copied().chain(["metadata", "labels"]).collect();
            put(object, &path, &marks)?;
        }
        for claim in claims(object) {
            put(claim, &["metadata", "labels"], &marks)?;
        }
    } else if let ClusterCall::Patch { kind, patch, .. } = call {
        match patch {
            Patch::Merge(document) => refuse_marks(document)?,
            Patch::Strategic(document) => {
                refuse_marks(document)?;
                refuse_directives(&kind.kind, document)?;
            }
            Patch::Json(operations) => refuse_operations(operations)?,
        }
    }
    Ok(())
}

/// Gives an object that is to be made a name where it has only the beginning of one: one whose create was cut off could not be found again without.
fn give_name(object: &mut Value) -> Result<(), EngineError> {
    // What a name may have at most for every kind, less what makes it one of its own.
    const LONGEST: usize = 63 - 16;
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return Ok(());
    };
    let word = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    let (name, beginning) = (word("name"), word("generateName"));
    if name.is_empty() && !beginning.is_empty() {
        let beginning: String = beginning.chars().take(LONGEST).collect();
        let name = format!("{beginning}{}", unique()?);
        metadata.insert("name".to_owned(), name.into());
    }
    Ok(())
}

/// Narrows a selection to what carries the marks. They come first: whatever a guest's selector is, it can only narrow it further.
pub(crate) fn narrow(scope: &Scope, selection: &mut Selection) {
    let own = selector(scope);
    selection.labels = match selection.labels.trim() {
        "" => own,
        asked => format!("{own},{asked}"),
    };
}

/// Takes the marks, and whose every field is, off a reply.
pub(super) fn hide_in(reply: &mut Reply) {
    if let Reply::Object(object) = reply {
        hide(object);
    } else if let Reply::Objects(page) = reply {
        page.items.iter_mut().for_each(hide);
    }
}

/// The same for what a watch brings.
pub(super) fn hidden(mut change: Change) -> Change {
    match &mut change {
        Change::Applied(object) | Change::Deleted(object) => hide(object),
        Change::Listed => {}
    }
    change
}

fn hide(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    // What a list says of its items is what they are; a kind that is not told has no template that we marked.
    let kind = Kind::of(object).kind;
    if let Some(path) = template(&kind)
        && let Some(template) = path.iter().try_fold(&mut *object, |at, key| at.get_mut(*key))
    {
        hide_labels(template);
    }
    for claim in claims(object) {
        hide_labels(claim);
    }
    hide_labels(object);
}

fn hide_labels(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.retain(|key, _| !key.starts_with(PREFIX));
        if labels.is_empty() {
            metadata.remove("labels");
        }
    }
}

/// The way to the template of the pods that an object of this kind makes.
fn template(kind: &str) -> Option<&'static [&'static str]> {
    let (last, path) = pod_spec(kind)?.split_last()?;
    (*last == "spec" && !path.is_empty()).then_some(path)
}

/// The claims that a stateful set makes for its pods.
fn claims(object: &mut Value) -> impl Iterator<Item = &mut Value> {
    let spec = object.get_mut("spec");
    let claims = spec.and_then(|spec| spec.get_mut("volumeClaimTemplates"));
    claims.and_then(Value::as_array_mut).into_iter().flatten()
}

/// Puts labels at the end of a way, which is made where it is missing.
fn put(object: &mut Value, path: &[&str], labels: &[(&str, &str)]) -> Result<(), EngineError> {
    let wrong = || EngineError::Invalid(format!("`{}` is no object", path.join(".")));
    let mut place = object;
    for key in path {
        let map = place.as_object_mut().ok_or_else(wrong)?;
        place = map.entry(*key).or_insert_with(|| Value::Object(Map::new()));
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
    }
    let map = place.as_object_mut().ok_or_else(wrong)?;
    for (key, value) in labels {
        map.insert((*key).to_owned(), Value::String((*value).to_owned()));
    }
    Ok(())
}

/// Refuses a document that says something about marks, wherever in it labels may be: to set one, to take all labels away, or to tell a merge what to do with them.
fn refuse_marks(document: &Value) -> Result<(), EngineError> {
    let refused = |what: String| {
        Err(EngineError::Invalid(format!(
            "{what} is not for plugins: labels that start with `{PREFIX}` are the host's"
        )))
    };
    match document {
        Value::Object(map) => {
            if let Some(metadata) = map.get("metadata") {
                let labels = metadata.get("labels");
                if metadata.is_null() || labels.is_some_and(Value::is_null) {
                    return refused("taking all labels away".to_owned());
                }
                let maps = [Some(metadata), labels].into_iter().flatten();
                let keys = maps.filter_map(Value::as_object).flat_map(Map::keys);
                if let Some(key) = keys.into_iter().find(|key| key.starts_with('$')) {
                    return refused(format!("`{key}` in `metadata`"));
                }
                if metadata.get("managedFields").is_some() {
                    return Err(whose_fields());
                }
                let keys = labels.and_then(Value::as_object).into_iter().flat_map(Map::keys);
                if let Some(key) = keys.into_iter().find(|key| key.starts_with(PREFIX)) {
                    return refused(format!("the label `{key}`"));
                }
            }
            map.values().try_for_each(refuse_marks)
        }
        Value::Array(items) => items.iter().try_for_each(refuse_marks),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Whose a field is follows from who sets it; whoever could say it could take any field.
fn whose_fields() -> EngineError {
    let why = "`metadata.managedFields` is not for plugins: the cluster says whose a field is";
    EngineError::Invalid(why.to_owned())
}

/// Refuses to replace what the marks are in as a whole.
fn refuse_directives(kind: &str, document: &Value) -> Result<(), EngineError> {
    let mut at = Some(document);
    for key in template(kind).into_iter().flatten().map(Some).chain([None]) {
        let directive = ["$patch", "$retainKeys"]
            .into_iter()
            .find(|directive| at.is_some_and(|at| at.get(directive).is_some()));
        if let Some(directive) = directive {
            return Err(EngineError::Invalid(format!(
                "`{directive}` is not for plugins here: the host's labels are in it"
            )));
        }
        at = key.and_then(|key| at?.get(key));
    }
    Ok(())
}

/// Refuses single changes of what the marks are in: only labels that are not marks, and other parts of the metadata.
fn refuse_operations(operations: &Value) -> Result<(), EngineError> {
    for (path, parts) in places(operations) {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        if let ["metadata", "managedFields", ..] = parts.as_slice() {
            return Err(whose_fields());
        }
        let marked = match parts.as_slice() {
            [] | ["metadata" | "spec"] | ["metadata", "labels"] => true,
            ["metadata", "labels", label, ..] => label.starts_with(PREFIX),
            // A template's labels have marks too; they are changed with an apply.
            ["spec", rest @ ..] => {
                rest.contains(&"metadata")
                    || matches!(rest.last(), Some(&("template" | "jobTemplate" | "spec")))
                    || rest.contains(&"volumeClaimTemplates")
            }
            _ => false,
        };
        if marked {
            return Err(EngineError::Invalid(format!(
                "a JSON patch of `{path}` is not for plugins: the host's labels are there"
            )));
        }
    }
    for operation in operations.as_array().into_iter().flatten() {
        if let Some(value) = operation.get("value") {
            refuse_marks(value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::Operation;

    fn scope() -> Scope {
        Scope::new("acme", "here", Operation::new("op1", Duration::from_secs(60)))
    }

    fn marked(object: Value) -> Result<Value, EngineError> {
        let mut call = ClusterCall::Apply { object, dry_run: false };
        mark(&scope(), &mut call)?;
        let ClusterCall::Apply { object, .. } = call else { panic!("still an apply") };
        Ok(object)
    }

    fn patch_is_refused(patch: Patch) -> bool {
        let mut call = ClusterCall::Patch {
            kind: Kind::new("apps/v1", "Deployment"),
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            subresource: String::new(),
            patch,
            dry_run: false,
        };
        mark(&scope(), &mut call).is_err()
    }

    #[test]
    fn an_object_and_the_pods_it_makes_are_marked_and_look_unmarked() {
        let mut deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"a": "b"}},
            "spec": {"template": {"metadata": {"labels": {"c": "d"}}, "spec": {}}},
        });
        let mut object = marked(deployment.clone()).unwrap();
        assert!(is_own(&scope(), &object));
        assert_eq!(mark_of(&object, OPERATION), Some("op1"));
        assert_eq!(
            object["spec"]["template"]["metadata"]["labels"],
            json!({"c": "d", OWNER: "acme", INSTANCE: "here"}),
            "a new operation must start no new pods"
        );
        object["metadata"]["managedFields"] = json!([{}]);
        hide(&mut object);
        assert_eq!(object, deployment);
        deployment["metadata"].as_object_mut().unwrap().remove("labels");
        let mut object = marked(deployment.clone()).unwrap();
        hide(&mut object);
        assert_eq!(object, deployment);
        let set = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
            "spec": {"template": {}, "volumeClaimTemplates": [{"metadata": {"name": "data"}}]},
        });
        let set = marked(set).unwrap();
        assert_eq!(set["spec"]["volumeClaimTemplates"][0]["metadata"]["labels"][OWNER], "acme");
    }

    #[test]
    fn the_marks_are_the_hosts() {
        assert!(marked(json!({"kind": "Pod", "metadata": {"labels": {OWNER: "x"}}})).is_err());
        assert!(marked(json!({"kind": "Pod", "metadata": []})).is_err());
        let template = json!({"kind": "Deployment", "spec": {"template": {"metadata": {"labels": {INSTANCE: "x"}}}}});
        assert!(marked(template).is_err());
        for (merge, refused) in [
            (json!({"metadata": {"labels": {"a": null}}}), false),
            (json!({"metadata": {"annotations": null}}), false),
            (json!({"spec": {"replicas": 1}}), false),
            (json!({"metadata": {"labels": null}}), true),
            (json!({"metadata": null}), true),
            (json!({"metadata": {"labels": {OWNER: null}}}), true),
            (json!({"metadata": {"labels": {"$patch": "replace"}}}), true),
            (json!({"metadata": {"$patch": "delete"}}), true),
            (json!({"metadata": {"managedFields": [{}]}}), true),
            (json!({"spec": {"template": {"metadata": {"labels": null}}}}), true),
        ] {
            assert_eq!(patch_is_refused(Patch::Merge(merge.clone())), refused, "{merge}");
            assert_eq!(patch_is_refused(Patch::Strategic(merge.clone())), refused, "{merge}");
        }
        for (strategic, refused) in [
            (json!({"$patch": "replace", "spec": {}}), true),
            (json!({"$retainKeys": ["spec"]}), true),
            (json!({"spec": {"$patch": "replace"}}), true),
            (json!({"spec": {"template": {"$patch": "replace"}}}), true),
            (json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}), false),
            (
                json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}}}),
                false,
            ),
        ] {
            assert_eq!(
                patch_is_refused(Patch::Strategic(strategic.clone())),
                refused,
                "{strategic}"
            );
        }
        for (path, refused) in [
            ("/metadata/labels/a", false),
            ("/metadata/managedFields", true),
            ("/metadata/managedFields/0/manager", true),
            ("/metadata/annotations", false),
            ("/spec/replicas", false),
            ("/spec/template/spec/containers/0/image", false),
            ("", true),
            ("/metadata", true),
            ("/metadata/labels", true),
            ("/metadata/labels/gantry.owner", true),
            ("/spec", true),
            ("/spec/template", true),
            ("/spec/template/metadata/labels/x", true),
            ("/spec/volumeClaimTemplates/0", true),
        ] {
            let operations = json!([{"op": "remove", "path": path}]);
            assert_eq!(patch_is_refused(Patch::Json(operations)), refused, "{path}");
            let operations = json!([{"op": "move", "from": path, "path": "/spec/replicas"}]);
            assert_eq!(patch_is_refused(Patch::Json(operations)), refused, "{path}");
        }
    }

    #[test]
    fn an_object_of_somebody_else_keeps_its_marks_whoever_applies_it() {
        let deployment = |labels: Value, of_pods: Value| {
            json!({
                "kind": "Deployment", "metadata": {"labels": labels},
                "spec": {"template": {"metadata": {"labels": of_pods}}},
            })
        };
        let theirs = deployment(json!({OWNER: "docker", INSTANCE: "here"}), json!({"a": "b"}));
        let mut wanted = marked(deployment(json!({"c": "d"}), json!({"e": "f"}))).unwrap();
        keep_marks(&mut wanted, &theirs);
        let marks = json!({"c": "d", OWNER: "docker", INSTANCE: "here"});
        assert_eq!(wanted, deployment(marks, json!({"e": "f"})));
    }

    #[test]
    fn an_object_to_be_made_has_a_name() {
        let named = |metadata: Value| {
            let mut call =
                ClusterCall::Create { object: json!({"metadata": metadata}), dry_run: false };
            mark(&scope(), &mut call).unwrap();
            let ClusterCall::Create { object, .. } = call else { panic!("still a create") };
            object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(named(json!({"name": "web", "generateName": "x-"})), "web");
        assert_eq!(named(json!({})), "");
        let (one, other) =
            (named(json!({"generateName": "x-"})), named(json!({"generateName": "x-"})));
        assert!(one.starts_with("x-") && one != other, "{one} {other}");
        assert_eq!(named(json!({"generateName": "y".repeat(300)})).len(), 63);
    }

    #[test]
    fn a_selection_is_narrowed_to_what_is_ones_own() {
        let mut selection = Selection::default();
        narrow(&scope(), &mut selection);
        assert_eq!(selection.labels, "gantry.owner=acme,gantry.instance=here");
        selection.labels = " app in (a,b) ".to_owned();
        narrow(&scope(), &mut selection);
        assert_eq!(selection.labels, "gantry.owner=acme,gantry.instance=here,app in (a,b)");
    }
}

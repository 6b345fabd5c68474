//! How a patch changes an object: merge (RFC 7386), JSON (RFC 6902) and strategic merge patches.

use serde_json::{Map, Value};

use crate::EngineError;
use crate::call::cluster::{Kind, Patch};
use crate::cluster::Result;
use crate::managed::lists::{Place, Strategy};

/// The object that a patch makes of one.
///
/// # Errors
/// `invalid` when the patch is none, or does not fit the object.
pub(super) fn patched(object: &Value, patch: &Patch) -> Result<Value> {
    match patch {
        Patch::Merge(patch) => {
            let mut object = object.clone();
            merge(&mut object, patch);
            Ok(object)
        }
        Patch::Strategic(patch) => {
            let kind = Kind::of(object);
            strategic(Some(object), patch, &Place::of(&kind))
        }
        Patch::Json(patch) => json(object, patch),
    }
}

fn wrong(why: impl Into<String>) -> EngineError {
    EngineError::Invalid(why.into())
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

// ---- RFC 6902

fn json(object: &Value, patch: &Value) -> Result<Value> {
    let steps = patch.as_array().ok_or_else(|| wrong("a JSON patch is a list of operations"))?;
    let mut object = object.clone();
    for step in steps {
        let word = |key: &str| step.get(key).and_then(Value::as_str);
        let path = word("path").ok_or_else(|| wrong("an operation of a JSON patch has no path"))?;
        let from = || word("from").ok_or_else(|| wrong(format!("`{path}` needs a `from`")));
        let value =
            || step.get("value").cloned().ok_or_else(|| wrong(format!("`{path}` needs a value")));
        match word("op").unwrap_or_default() {
            "add" => add(&mut object, path, value()?)?,
            "remove" => drop(take(&mut object, path)?),
            "replace" => {
                let value = value()?;
                *object.pointer_mut(path).ok_or_else(|| missing(path))? = value;
            }
            "move" => {
                let value = take(&mut object, from()?)?;
                add(&mut object, path, value)?;
            }
            "copy" => {
                let value = object.pointer(from()?).cloned().ok_or_else(|| missing(path))?;
                add(&mut object, path, value)?;
            }
            "test" => {
                if object.pointer(path) != step.get("value") {
                    return Err(wrong(format!("testing value `{path}` failed")));
                }
            }
            other => return Err(wrong(format!("`{other}` is no operation of a JSON patch"))),
        }
    }
    Ok(object)
}

fn missing(path: &str) -> EngineError {
    wrong(format!("the path `{path}` of a JSON patch is not there"))
}

/// The container of what a path names, and the last of its words.
fn parent<'a>(object: &'a mut Value, path: &str) -> Result<(&'a mut Value, String)> {
    let (up, last) = path.rsplit_once('/').ok_or_else(|| missing(path))?;
    let container = object.pointer_mut(up).ok_or_else(|| missing(path))?;
    Ok((container, last.replace("~1", "/").replace("~0", "~")))
}

fn add(object: &mut Value, path: &str, value: Value) -> Result<()> {
    if path.is_empty() {
        *object = value;
        return Ok(());
    }
    let (container, last) = parent(object, path)?;
    match container {
        Value::Object(map) => drop(map.insert(last, value)),
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let index: usize = last.parse().map_err(|_| missing(path))?;
            if index > items.len() {
                return Err(missing(path));
            }
            items.insert(index, value);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(missing(path));
        }
    }
    Ok(())
}

fn take(object: &mut Value, path: &str) -> Result<Value> {
    let (container, last) = parent(object, path)?;
    match container {
        Value::Object(map) => map.remove(&last),
        Value::Array(items) => {
            last.parse().ok().filter(|index| *index < items.len()).map(|index| items.remove(index))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
    .ok_or_else(|| missing(path))
}

// ---- strategic

fn strategic(target: Option<&Value>, patch: &Value, place: &Place<'_>) -> Result<Value> {
    let Value::Object(patch) = patch else { return Ok(patch.clone()) };
    let mut result = match (target, patch.get("$patch").and_then(Value::as_str)) {
        (Some(Value::Object(map)), None | Some("merge")) => map.clone(),
        (_, _) => Map::new(),
    };
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        result.retain(|key, _| kept.iter().any(|kept| kept == key));
    }
    for (key, value) in patch {
        if let Some(name) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let Some(Value::Array(items)) = result.get_mut(name) {
                items.retain(|item| !value.as_array().is_some_and(|gone| gone.contains(item)));
            }
            continue;
        }
        if key.starts_with('$') {
            continue;
        }
        if value.is_null() {
            result.remove(key);
            continue;
        }
        let place = place.field(key);
        let old = result.get(key);
        let new = match (place.strategy(), value) {
            (Strategy::MergeBy(by), Value::Array(items)) => {
                let order = patch.get(&format!("$setElementOrder/{key}"));
                merged_list(old, items, by, order, &place)?
            }
            (Strategy::MergeValues, Value::Array(items)) => {
                let old = old.and_then(Value::as_array).cloned().unwrap_or_default();
                let mut all = old.clone();
                all.extend(items.iter().filter(|item| !old.contains(item)).cloned());
                Value::Array(interleaved(all, items, &old, |item| Some(item.clone())))
            }
            (Strategy::Plain, Value::Object(_)) => strategic(old, value, &place)?,
            (
                Strategy::Plain | Strategy::Replace | Strategy::MergeBy(_) | Strategy::MergeValues,
                _,
            ) => value.clone(),
        };
        result.insert(key.clone(), new);
    }
    Ok(Value::Object(result))
}

fn merged_list(
    old: Option<&Value>,
    patch: &[Value],
    by: &str,
    order: Option<&Value>,
    place: &Place<'_>,
) -> Result<Value> {
    let directive =
        |item: &Value| item.get("$patch").and_then(Value::as_str).map(ToOwned::to_owned);
    let mut items = old.and_then(Value::as_array).cloned().unwrap_or_default();
    if patch.iter().any(|item| directive(item).as_deref() == Some("replace")) {
        let kept = patch.iter().filter(|item| directive(item).is_none());
        return Ok(Value::Array(kept.cloned().collect()));
    }
    for item in patch {
        let key = item.get(by).ok_or_else(|| {
            wrong(format!("an item of a strategic patch does not have the key `{by}`"))
        })?;
        let place_of = items.iter().position(|old| old.get(by) == Some(key));
        if directive(item).as_deref() == Some("delete") {
            items.retain(|old| old.get(by) != Some(key));
            continue;
        }
        let new = strategic(place_of.and_then(|index| items.get(index)), item, place)?;
        match place_of.and_then(|index| items.get_mut(index)) {
            Some(old) => *old = new,
            None => items.push(new),
        }
    }
    let order = order.and_then(Value::as_array).map_or(patch, Vec::as_slice);
    let old = old.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items = interleaved(items, order, old, |item| item.get(by).cloned());
    Ok(Value::Array(items))
}

/// The items of a patch in its order, and those that it does not know among them where they stood (`normalizeElementOrder` of strategicpatch).
fn interleaved(
    items: Vec<Value>,
    patch: &[Value],
    old: &[Value],
    key: impl Fn(&Value) -> Option<Value>,
) -> Vec<Value> {
    let index = |list: &[Value], item: &Value| list.iter().position(|one| key(one) == key(item));
    let (mut known, mut others): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| index(patch, item).is_some());
    known.sort_by_key(|item| index(patch, item));
    others.sort_by_key(|item| index(old, item));
    let (mut known, mut others) = (known.into_iter().peekable(), others.into_iter().peekable());
    let mut all = Vec::new();
    loop {
        let next = match (others.peek(), known.peek()) {
            (None, None) => return all,
            (Some(_), None) => others.next(),
            (Some(other), Some(one))
                if index(old, other).zip(index(old, one)).is_some_and(|(at, of)| at < of) =>
            {
                others.next()
            }
            (_, Some(_)) => known.next(),
        };
        all.extend(next);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"a": "1", "b": "2"}, "finalizers": ["x"]},
            "spec": {"replicas": 2, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}, "template": {"spec": {
                "containers": [{"name": "web", "image": "a", "args": ["1", "2"]}, {"name": "log", "image": "l"}],
                "tolerations": [{"key": "a"}],
            }}},
        })
    }

    #[test]
    fn a_merge_patch_replaces_lists_and_takes_what_is_null() {
        let patch = Patch::Merge(
            json!({"metadata": {"labels": {"a": null, "c": "3"}}, "spec": {"replicas": {"x": null, "y": 1}}, "new": {"deep": {"gone": null}}}),
        );
        let told = patched(&object(), &patch).unwrap();
        assert_eq!(told["metadata"]["labels"], json!({"b": "2", "c": "3"}));
        assert_eq!(told["spec"]["replicas"], json!({"y": 1}));
        assert_eq!(told["new"], json!({"deep": {}}));
    }

    #[test]
    fn a_json_patch_is_done_step_by_step() {
        let rows = [
            (
                json!([{"op": "add", "path": "/metadata/labels/x~1y~0", "value": "1"}]),
                "/metadata/labels",
                Some(json!({"a": "1", "b": "2", "x/y~": "1"})),
            ),
            (
                json!([{"op": "add", "path": "/metadata/finalizers/0", "value": "y"}, {"op": "add", "path": "/metadata/finalizers/-", "value": "z"}]),
                "/metadata/finalizers",
                Some(json!(["y", "x", "z"])),
            ),
            (
                json!([{"op": "remove", "path": "/metadata/labels/a"}]),
                "/metadata/labels",
                Some(json!({"b": "2"})),
            ),
            (
                json!([{"op": "replace", "path": "/spec/replicas", "value": 5}]),
                "/spec/replicas",
                Some(json!(5)),
            ),
            (
                json!([{"op": "move", "from": "/metadata/labels/a", "path": "/metadata/labels/c"}]),
                "/metadata/labels",
                Some(json!({"b": "2", "c": "1"})),
            ),
            (
                json!([{"op": "copy", "from": "/metadata/labels/a", "path": "/metadata/labels/c"}]),
                "/metadata/labels/c",
                Some(json!("1")),
            ),
            (
                json!([{"op": "test", "path": "/spec/replicas", "value": 2}]),
                "/spec/replicas",
                Some(json!(2)),
            ),
            (json!([{"op": "test", "path": "/spec/replicas", "value": 3}]), "", None),
            (json!([{"op": "replace", "path": "/spec/gone", "value": 5}]), "", None),
            (json!([{"op": "remove", "path": "/spec/gone"}]), "", None),
            (json!([{"op": "add", "path": "/spec/gone/x", "value": 5}]), "", None),
            (json!([{"op": "add", "path": "/metadata/finalizers/7", "value": 5}]), "", None),
            (json!([{"op": "odd", "path": "/spec"}]), "", None),
            (json!([{"op": "add", "path": "/spec"}]), "", None),
            (json!({"op": "add"}), "", None),
        ];
        for (patch, path, wanted) in rows {
            let told = patched(&object(), &Patch::Json(patch.clone()));
            match wanted {
                Some(wanted) => assert_eq!(told.unwrap().pointer(path), Some(&wanted), "{patch}"),
                None => assert!(matches!(told, Err(EngineError::Invalid(_))), "{patch}"),
            }
        }
    }

    #[test]
    fn a_strategic_patch_knows_the_keys_of_lists() {
        let patch = Patch::Strategic(json!({
            "metadata": {"finalizers": ["y"], "labels": {"a": null}},
            "spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}, "template": {"spec": {
                "containers": [{"name": "web", "image": "b", "args": ["3"]}, {"name": "new", "image": "n"}, {"name": "log", "$patch": "delete"}],
                "tolerations": [{"key": "b"}],
            }}},
        }));
        let told = patched(&object(), &patch).unwrap();
        assert_eq!(told["metadata"]["finalizers"], json!(["y", "x"]));
        assert_eq!(told["metadata"]["labels"], json!({"b": "2"}));
        assert_eq!(told["spec"]["strategy"], json!({"type": "Recreate"}));
        let pod = &told["spec"]["template"]["spec"];
        assert_eq!(
            pod["containers"],
            json!([{"name": "web", "image": "b", "args": ["3"]}, {"name": "new", "image": "n"}])
        );
        assert_eq!(pod["tolerations"], json!([{"key": "b"}]));

        let replaced = Patch::Strategic(
            json!({"spec": {"template": {"spec": {"containers": [{"$patch": "replace"}, {"name": "only"}]}}}}),
        );
        let told = patched(&object(), &replaced).unwrap();
        assert_eq!(told["spec"]["template"]["spec"]["containers"], json!([{"name": "only"}]));

        let rest = Patch::Strategic(json!({
            "metadata": {"$deleteFromPrimitiveList/finalizers": ["x"], "labels": {"$patch": "replace", "c": "3"}},
            "spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "log"}, {"name": "web"}], "containers": [{"name": "log", "image": "m"}]}}},
        }));
        let told = patched(&object(), &rest).unwrap();
        assert_eq!(told["metadata"]["finalizers"], json!([]));
        assert_eq!(told["metadata"]["labels"], json!({"c": "3"}));
        let names: Vec<_> = told["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].clone())
            .collect();
        assert_eq!(names, ["log", "web"]);
        let keyless = Patch::Strategic(
            json!({"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}),
        );
        assert!(patched(&object(), &keyless).is_err());
    }
}

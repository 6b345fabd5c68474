//! What an API server adds to objects on its own, as far as plugins read it: the number of replicas, what a Service gets, how life begins. And what it does not write: what says nothing.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Map, Value, json};

use super::kinds::Known;

/// Fields that have a value when nobody says one. Who creates an object owns them too; who applies one does not.
pub(super) fn fill(known: &Known, object: &mut Value) {
    if !known.built_in {
        return;
    }
    match (known.kind.group(), known.kind.kind.as_str()) {
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet") | ("", "ReplicationController") => {
            default(object, "/spec", "replicas", || 1.into());
            pod(object, "/spec/template/spec");
        }
        ("apps", "DaemonSet") | ("batch", "Job") => pod(object, "/spec/template/spec"),
        ("batch", "CronJob") => pod(object, "/spec/jobTemplate/spec/template/spec"),
        ("", "Pod") => pod(object, "/spec"),
        ("", "Secret") => default(object, "", "type", || "Opaque".into()),
        ("", "Service") => {
            default(object, "/spec", "type", || "ClusterIP".into());
            let ports = object.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
            for port in ports.into_iter().flatten() {
                default(port, "", "protocol", || "TCP".into());
                let number = port.get("port").cloned();
                if let Some(number) = number {
                    default(port, "", "targetPort", || number);
                }
            }
        }
        (_, _) => {}
    }
}

fn pod(object: &mut Value, pointer: &str) {
    for of in ["containers", "initContainers"] {
        let containers =
            object.pointer_mut(&format!("{pointer}/{of}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let ports = container.get_mut("ports").and_then(Value::as_array_mut);
            for port in ports.into_iter().flatten() {
                default(port, "", "protocol", || "TCP".into());
            }
        }
    }
}

fn default(object: &mut Value, pointer: &str, key: &str, value: impl FnOnce() -> Value) {
    if let Some(map) = object.pointer_mut(pointer).and_then(Value::as_object_mut)
        && map.get(key).is_none_or(Value::is_null)
    {
        map.insert(key.to_owned(), value());
    }
}

/// Maps of texts, which are not written when they are empty. Maps of fields are.
const FREE: [&str; 11] = [
    "annotations",
    "binaryData",
    "data",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "parameters",
    "requests",
    "stringData",
    "overhead",
];

/// Takes what says nothing: nulls, and of built-in kinds empty lists and empty maps of texts.
pub(super) fn tidy(known: &Known, object: &mut Value) {
    let texts = ["ConfigMap", "Secret"].contains(&known.kind.kind.as_str());
    if known.kind.kind == "Secret"
        && let Some(map) = object.as_object_mut()
        && let Some(Value::Object(plain)) = map.remove("stringData")
    {
        let data = map.entry("data").or_insert_with(|| json!({}));
        if let Some(data) = data.as_object_mut() {
            for (key, value) in plain {
                let text = value.as_str().unwrap_or_default();
                data.insert(key, BASE64_STANDARD.encode(text).into());
            }
        }
    }
    let Some(map) = object.as_object_mut() else { return };
    for (key, value) in map.iter_mut() {
        // What is in these is not ours to judge.
        if !(texts && ["data", "binaryData"].contains(&key.as_str())) {
            shake(value, known.built_in || key == "metadata");
        }
    }
    drop_empty(map, known.built_in);
    if known.kind.kind == "Service"
        && let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut)
        && spec.get("selector").and_then(Value::as_object).is_some_and(Map::is_empty)
    {
        spec.remove("selector");
    }
}

fn shake(value: &mut Value, built_in: bool) {
    match value {
        Value::Object(map) => {
            for value in map.values_mut() {
                shake(value, built_in);
            }
            drop_empty(map, built_in);
        }
        Value::Array(items) => {
            for item in items {
                shake(item, built_in);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn drop_empty(map: &mut Map<String, Value>, built_in: bool) {
    map.retain(|key, value| match value {
        Value::Null => false,
        Value::Array(items) => !built_in || !items.is_empty(),
        Value::Object(of) => !built_in || !of.is_empty() || !FREE.contains(&key.as_str()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    });
}

/// How the life of an object begins: `PrepareForCreate` of its kind, and what is given out to it.
pub(super) fn begin(known: &Known, object: &mut Value, number: u64) {
    if !known.built_in {
        return;
    }
    if known.status {
        status(object, &json!({}));
    }
    if !known.kind.group().is_empty() {
        return;
    }
    match known.kind.kind.as_str() {
        "Pod" | "PersistentVolumeClaim" | "PersistentVolume" => {
            status(object, &json!({"phase": "Pending"}));
        }
        "Namespace" => {
            status(object, &json!({"phase": "Active"}));
            default(object, "", "spec", || json!({}));
            default(object, "/spec", "finalizers", || json!(["kubernetes"]));
        }
        "Service" => {
            status(object, &json!({"loadBalancer": {}}));
            give_out(object, number);
        }
        _ => {}
    }
}

fn status(object: &mut Value, status: &Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert("status".to_owned(), status.clone());
    }
}

/// Gives a Service its address and its ports on nodes.
fn give_out(service: &mut Value, number: u64) {
    let of = |service: &Value, key: &str| {
        service
            .pointer(&format!("/spec/{key}"))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let sort = of(service, "type");
    if sort == "ExternalName" {
        return;
    }
    let address = match of(service, "clusterIP").as_str() {
        "" => format!("10.96.{}.{}", number >> 8 & 0xff, 1 + number % 254),
        fixed => fixed.to_owned(),
    };
    if let Some(spec) = service.pointer_mut("/spec").and_then(Value::as_object_mut) {
        spec.insert("clusterIP".to_owned(), address.clone().into());
        spec.insert("clusterIPs".to_owned(), json!([address]));
    }
    if sort == "NodePort" || sort == "LoadBalancer" {
        let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        for (port, next) in ports.into_iter().flatten().zip(number..) {
            default(port, "", "nodePort", || (30000 + next % 2768).into());
        }
    }
}

/// What stays as it is when a change does not say it.
pub(super) fn keep(known: &Known, live: &Value, object: &mut Value) {
    if !known.built_in || known.kind.to_string() != "Service" {
        return;
    }
    let external = object.pointer("/spec/type").and_then(Value::as_str) == Some("ExternalName");
    for key in ["clusterIP", "clusterIPs"] {
        if let Some(is) = live.pointer(&format!("/spec/{key}"))
            && !external
        {
            default(object, "/spec", key, || is.clone());
        }
    }
    let number = |port: &Value| port.get("port").cloned();
    let old = live.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
    let sort = object.pointer("/spec/type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let ports = object.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        let before = old.iter().find(|old| number(old) == number(port));
        match before.and_then(|before| before.get("nodePort")).cloned() {
            Some(is) if sort != "ClusterIP" => default(port, "", "nodePort", || is),
            Some(_) | None => {}
        }
    }
    if sort == "NodePort" || sort == "LoadBalancer" {
        let seed = object.pointer("/metadata/uid").map(ToString::to_string).unwrap_or_default();
        let seed =
            seed.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        give_out(object, seed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::Kinds;
    use super::*;
    use crate::call::cluster::Kind;

    #[test]
    fn what_says_nothing_is_not_written() {
        let kinds = Kinds::default();
        let mut object = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "labels": {}, "finalizers": [], "annotations": null},
            "stringData": {"k": "Hello!", "l": "a"}, "data": {"empty": ""},
        });
        tidy(kinds.get(&Kind::of(&object)).unwrap(), &mut object);
        assert_eq!(
            object,
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"empty": "", "k": "SGVsbG8h", "l": "YQ=="}})
        );
    }
}

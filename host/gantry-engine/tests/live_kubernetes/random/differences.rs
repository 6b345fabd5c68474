//! Where answers differ, and where they may.

use std::collections::BTreeSet;

use gantry_engine::managed::{Element, FieldSet};
use serde_json::{Map, Value, json};

use super::world::Answer;

/// Why only a real server has a field, or has another value in it. None when it is to be the same.
fn added(kind: &str, path: &str) -> Option<&'static str> {
    let pod = path
        .strip_prefix(if kind == "Pod" { ".spec" } else { ".spec.template.spec" })
        .unwrap_or_default();
    Some(match (kind, path) {
        ("Deployment", ".spec.progressDeadlineSeconds" | ".spec.revisionHistoryLimit") => {
            "a default"
        }
        ("Deployment", path) if path.starts_with(".spec.strategy") => "a default",
        ("Deployment" | "Pod", _)
            if [
                ".dnsPolicy",
                ".enableServiceLinks",
                ".restartPolicy",
                ".schedulerName",
                ".securityContext",
                ".terminationGracePeriodSeconds",
                ".containers[].imagePullPolicy",
                ".containers[].resources",
                ".containers[].terminationMessagePath",
                ".containers[].terminationMessagePolicy",
            ]
            .contains(&pod) =>
        {
            "a default of pods"
        }
        (
            "Pod",
            ".spec.preemptionPolicy"
            | ".spec.priority"
            | ".spec.serviceAccount"
            | ".spec.serviceAccountName",
        ) => "admission",
        ("Pod", path) if path.starts_with(".spec.tolerations") => "admission",
        ("Pod", ".status.qosClass") => "computed from what pods want",
        ("Pod", path) if path.starts_with(".status.conditions") => "that it is gated",
        ("Deployment", path) if path.starts_with(".status") => "the controller writes it",
        (
            "Service",
            ".spec.internalTrafficPolicy"
            | ".spec.ipFamilies"
            | ".spec.ipFamilyPolicy"
            | ".spec.sessionAffinity",
        ) => "a default",
        ("Service", ".spec.clusterIP" | ".spec.clusterIPs") => "another network",
        _ => return None,
    })
}

/// Takes from both what may differ.
fn even(fake: &mut Value, real: &mut Value) {
    let kind = real["kind"].as_str().unwrap_or_default().to_owned();
    shake(&kind, "", fake);
    shake(&kind, "", real);
    for object in [&mut *fake, &mut *real] {
        let is_to_go = !object["metadata"]["deletionTimestamp"].is_null();
        if let Some(status) = object["status"].as_object_mut()
            && kind == "Pod"
            && is_to_go
        {
            // Every 20 seconds the controller `pod-garbage-collector` fails the pods that are to go and have no node.
            status.retain(|key, _| !["phase", "observedGeneration"].contains(&key.as_str()));
        }
    }
    let entries = |object: &Value| {
        object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default()
    };
    let (mut ours, mut theirs) = (entries(fake), entries(real));
    for list in [&mut ours, &mut theirs] {
        for entry in list.iter_mut() {
            let set = FieldSet::parse(&entry["fieldsV1"]).expect("fields");
            let paths = set.paths().into_iter().filter(|path| added(&kind, &plain(path)).is_none());
            let spelled =
                |path: Vec<Element>| path.iter().map(ToString::to_string).collect::<String>();
            let told: BTreeSet<String> = paths.map(spelled).collect();
            entry["fieldsV1"] = json!(told);
        }
        list.retain(|entry| entry["fieldsV1"] != json!([]));
    }
    for (object, list) in [(fake, ours), (real, theirs)] {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.insert("managedFields".to_owned(), Value::Array(list));
        }
    }
}

fn plain(path: &[Element]) -> String {
    path.iter()
        .map(|element| match element {
            Element::Field(name) => format!(".{name}"),
            Element::Key(_) | Element::Value(_) | Element::Index(_) => "[]".to_owned(),
        })
        .collect()
}

fn shake(kind: &str, path: &str, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| added(kind, &format!("{path}.{key}")).is_none());
            for (key, value) in map.iter_mut() {
                shake(kind, &format!("{path}.{key}"), value);
            }
            // What only had what may differ.
            let empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
            map.retain(|key, value| {
                !(["status", "strategy"].contains(&key.as_str()) && empty(value))
            });
        }
        Value::Array(items) => {
            for item in items {
                shake(kind, &format!("{path}[]"), item);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Takes from two answers what may differ.
pub(super) fn evened(mut fake: Answer, mut real: Answer) -> (Answer, Answer) {
    match (&mut fake, &mut real) {
        (Answer::Object(fake), Answer::Object(real)) => even(fake, real),
        (Answer::Pages(fake), Answer::Pages(real)) => {
            for (fake, real) in fake.iter_mut().flatten().zip(real.iter_mut().flatten()) {
                even(fake, real);
            }
        }
        (_, _) => {}
    }
    (fake, real)
}

/// Where two answers differ, in memory and on the cluster.
pub(super) fn differences(fake: &Answer, real: &Answer) -> String {
    fn collect(path: &str, fake: &Value, real: &Value, told: &mut Vec<String>) {
        if let (Value::Object(ours), Value::Object(theirs)) = (fake, real) {
            let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
            for name in names {
                collect(&format!("{path}.{name}"), &fake[name], &real[name], told);
            }
        } else if let (Value::Array(ours), Value::Array(theirs)) = (fake, real)
            && ours.len() == theirs.len()
        {
            for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                collect(&format!("{path}[{index}]"), ours, theirs, told);
            }
        } else if fake != real {
            told.push(format!("{path}: {fake} in memory, {real} on the cluster"));
        }
    }
    let mut told = Vec::new();
    match (fake, real) {
        (Answer::Object(fake), Answer::Object(real)) => collect("", fake, real, &mut told),
        (Answer::Pages(fake), Answer::Pages(real)) => {
            collect("", &json!(fake), &json!(real), &mut told);
        }
        (fake, real) => told.push(format!("{fake:?} in memory, {real:?} on the cluster")),
    }
    told.join("\n")
}

//! The label vectors, through the import: a guest makes the sets and reads every view of them.

use gantry_runtime::Provisioner;
use serde_json::Value;

use crate::calls::Kept;
use crate::world::{World, app, operation, plain};

fn vectors(name: &str) -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors");
    let text = std::fs::read(format!("{folder}/{name}.json")).unwrap();
    let file: Value = serde_json::from_slice(&text).unwrap();
    file["cases"].as_array().unwrap().clone()
}

async fn answer(labels: &Provisioner, case: &Value) -> Value {
    let (stdout, stderr) = (Kept::default(), Kept::default());
    let args = [case.to_string()];
    labels
        .execute(&operation("op"), &app(), "case", &args, stdout.writer(), stderr.writer())
        .await
        .unwrap_or_else(|error| panic!("{case}: {error}"));
    serde_json::from_str(&stdout.text()).unwrap()
}

/// Null and an empty table are the same thing (the vectors' README).
fn tidy(value: &Value) -> Value {
    match value {
        Value::Null => Value::Object(Default::default()),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), tidy(value))).collect()
        }
        Value::Array(items) => items.iter().map(tidy).collect(),
        other => other.clone(),
    }
}

/// The keys of each selector.
const SELECTORS: &[(&str, &[&str])] = &[
    ("to_selector", &["app-name", "app-process", "is-build", "is-isolated-run"]),
    ("to_app_selector", &["app-name"]),
    ("to_node_container_selector", &["node-container-name", "node-container-pool"]),
    ("to_node_selector", &["pool", "internal-node-addr"]),
    ("to_node_by_pool_selector", &["pool"]),
    ("to_is_service_selector", &["is-service"]),
    ("to_volume_selector", &["volume-name"]),
];

/// What a selector gives where its keys were stored with their prefix: the reference finds nothing then, and we do (design 10, number 3). None where that is not so.
fn excused(case: &Value, view: &str, expected: &Value) -> Option<Value> {
    let set = if case["set"].is_null() { &case["in"] } else { &case["set"] };
    let prefix = set["prefix"].as_str().filter(|prefix| !prefix.is_empty())?;
    let (_, keys) = SELECTORS.iter().find(|(selector, _)| *selector == view)?;
    let found = keys.iter().map(|key| format!("{prefix}{key}"));
    let found: Vec<_> = found.filter(|key| !set["labels"][key.as_str()].is_null()).collect();
    let mut ours = tidy(expected);
    for key in &found {
        ours[key] = set["labels"][key.as_str()].clone();
    }
    (!found.is_empty()).then_some(ours)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_label_vectors_hold_through_the_import() {
    let world = World::new();
    // The routers of the vectors have their own names as types, but for the one that is not configured.
    let config = serde_json::json!({"routers": router_types()});
    let labels = world.provisioner("label_vectors", plain().config(config)).await;
    for name in ["labels_constructors", "labels_accessors", "labels_setters"] {
        let cases = vectors(name);
        let (mut ran, mut excuses) = (0, 0);
        for case in &cases {
            let answer = answer(&labels, case).await;
            for field in
                ["set", "error", "labels", "annotations", "labels_out", "annotations_out", "steps"]
            {
                // A case that is all input has no such field.
                if field == "set" && case["fn"].is_null() || case[field].is_null() {
                    continue;
                }
                assert_eq!(tidy(&answer[field]), tidy(&case[field]), "{name}: {field} of {case}");
            }
            for (view, expected) in case["views"].as_object().into_iter().flatten() {
                let ours = excused(case, view, expected);
                excuses += usize::from(ours.is_some());
                let expected = ours.unwrap_or_else(|| tidy(expected));
                assert_eq!(tidy(&answer["views"][view]), expected, "{name}: {view} of {case}");
            }
            ran += 1;
        }
        assert_eq!(ran, cases.len());
        println!(
            "{name}: ran {ran} of {} through the import, {excuses} views excused (design 10.3)",
            cases.len()
        );
    }
}

/// The types of the routers that the vectors mention.
fn router_types() -> Value {
    let mut types = serde_json::Map::new();
    for case in vectors("labels_constructors") {
        let names = case["in"]["app"]["routers"].as_array().cloned().unwrap_or_default();
        let stored = case["set"]["labels"]["router-type"].as_str().unwrap_or_default().to_owned();
        for (name, kind) in names.iter().zip(stored.split(',')) {
            if case["error"].is_null() && !kind.is_empty() {
                let kind = serde_json::json!({"type": kind});
                types.insert(name.as_str().unwrap().to_owned(), kind);
            }
        }
    }
    Value::Object(types)
}

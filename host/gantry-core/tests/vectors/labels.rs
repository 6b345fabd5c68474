use gantry_core::App;
use gantry_core::labels::{
    LabelSet, Labels, NodeContainerOptions, NodeOptions, ProcessOptions, ServiceAccountOptions,
    ServiceExtension, ServiceOptions, UnknownRouterType, VolumeOptions,
};
use serde_json::{Value, json};

use crate::walk::{Ran, error, map, text, texts, walk};

#[test]
fn labels_constructors() {
    walk("labels_constructors", |case| {
        if case["fn"] == "SplitServiceLabelsAnnotations" {
            let (labels, annotations) = set(&case["in"]).split_service_labels_annotations();
            assert_eq!(labels, set(&case["labels"]));
            assert_eq!(annotations, set(&case["annotations"]));
            assert_eq!(labels.to_labels(), map(case, "labels_out"));
            assert_eq!(annotations.to_labels(), map(case, "annotations_out"));
            return Ran::AsTheReference;
        }
        match (construct(text(case, "fn"), &case["in"]), error(case)) {
            (Err(error), Some(expected)) => {
                assert_eq!(error.to_string(), expected);
                Ran::AsTheReference
            }
            (Ok(made), None) => {
                assert_eq!(made, set(&case["set"]));
                compare_views(&made, &case["views"])
            }
            (made, expected) => panic!("made {made:?}, expected the error {expected:?}"),
        }
    });
}

#[test]
fn labels_accessors() {
    walk("labels_accessors", |case| compare_views(&set(&case["in"]), &case["views"]));
}

#[test]
fn labels_setters() {
    walk("labels_setters", |case| {
        let mut labels = set(&case["start"]);
        for step in case["steps"].as_array().expect("steps") {
            match text(step, "op") {
                "SetRestarts" => labels.set_restarts(step["arg"].as_i64().expect("a count")),
                "SetStopped" => labels.set_stopped(),
                "SetAsleep" => labels.set_asleep(),
                "SetIsService" => labels.set_is_service(),
                "SetIsHeadlessService" => labels.set_is_headless_service(),
                "SetBuildImage" => labels.set_build_image(text(step, "arg")),
                unknown => panic!("no setter {unknown}"),
            }
            assert_eq!(labels, set(&step["after"]));
            assert_eq!(json!(labels.to_labels()), to_labels(&labels, &step["to_labels"]));
        }
        Ran::AsTheReference
    });
}

/// The types of the routers that the vectors were recorded with. `r2` and `r3` are the only ones configured beside the test router `fake`.
fn router_type(router: &str) -> Option<String> {
    let kind = match router {
        "fake" => "fake",
        "r2" => "galeb",
        "r3" => "hipache",
        _ => return None,
    };
    Some(kind.to_owned())
}

fn construct(function: &str, input: &Value) -> Result<LabelSet, UnknownRouterType> {
    let app = App {
        name: text(&input["app"], "name").to_owned(),
        platform: text(&input["app"], "platform").to_owned(),
        pool: text(&input["app"], "pool").to_owned(),
        ..App::default()
    };
    let routers = texts(&input["app"], "routers");
    let custom_labels: Labels = map(input, "custom_labels");
    let prefix = text(input, "prefix");
    let provisioner = text(input, "provisioner");
    let pool = text(input, "pool");
    let name = text(input, "name");
    Ok(match function {
        "ProcessLabels" => LabelSet::process_labels(
            &ProcessOptions {
                app: &app,
                routers: &routers,
                process: text(input, "process"),
                provisioner,
                builder: text(input, "builder"),
                prefix,
                is_deploy: flag(input, "is_deploy"),
            },
            &router_type,
        )?,
        "ServiceLabels" => LabelSet::service_labels(
            &ServiceOptions {
                app: &app,
                routers: &routers,
                process: text(input, "process"),
                replicas: input["replicas"].as_i64().expect("a number"),
                extension: extension(&input["extended"]),
            },
            &router_type,
        )?,
        "ExtendServiceLabels" => {
            let mut extended = set(&input["set"]);
            extended.extend_service_labels(&extension(&input["extended"]));
            extended
        }
        "ServiceAccountLabels" => LabelSet::service_account_labels(&ServiceAccountOptions {
            app_name: (!input["app"].is_null()).then_some(&app.name),
            node_container_name: text(input, "node_container_name"),
            provisioner,
            prefix,
        }),
        "NodeContainerLabels" => LabelSet::node_container_labels(&NodeContainerOptions {
            name,
            custom_labels: &custom_labels,
            pool,
            provisioner,
            prefix,
        }),
        "NodeLabels" => LabelSet::node_labels(&NodeOptions {
            iaas_id: text(input, "iaas_id"),
            address: text(input, "addr"),
            pool,
            prefix,
            custom_labels: &custom_labels,
        }),
        "VolumeLabels" => LabelSet::volume_labels(&VolumeOptions {
            name,
            provisioner,
            pool,
            plan: text(input, "plan"),
            prefix,
        }),
        unknown => panic!("no constructor {unknown}"),
    })
}

fn extension(input: &Value) -> ServiceExtension<'_> {
    ServiceExtension {
        provisioner: text(input, "provisioner"),
        prefix: text(input, "prefix"),
        build_image: text(input, "build_image"),
        is_deploy: flag(input, "is_deploy"),
        is_isolated_run: flag(input, "is_isolated_run"),
        is_build: flag(input, "is_build"),
        builder: text(input, "builder"),
    }
}

fn flag(input: &Value, field: &str) -> bool {
    input[field].as_bool().unwrap_or_default()
}

fn set(value: &Value) -> LabelSet {
    LabelSet::new(map(value, "labels"), text(value, "prefix"))
}

/// Every accessor and selector of a set.
fn views(set: &LabelSet) -> Value {
    json!({
        "app_name": set.app_name(),
        "app_platform": set.app_platform(),
        "app_process": set.app_process(),
        "app_replicas": set.app_replicas(),
        "build_image": set.build_image(),
        "is_asleep": set.is_asleep(),
        "is_deploy": set.is_deploy(),
        "is_isolated_run": set.is_isolated_run(),
        "is_service": set.is_service(),
        "is_stopped": set.is_stopped(),
        "node_addr": set.node_addr(),
        "node_extra_data_c1": set.node_extra_data("c1"),
        "node_extra_data_no_cluster": set.node_extra_data(""),
        "node_iaas_id": set.node_iaas_id(),
        "node_metadata": set.node_metadata(),
        "node_metadata_no_prefix": set.node_metadata_no_prefix(),
        "node_pool": set.node_pool(),
        "restarts": set.restarts(),
        "to_app_selector": set.to_app_selector(),
        "to_is_service_selector": set.to_is_service_selector(),
        "to_labels": set.to_labels(),
        "to_node_by_pool_selector": set.to_node_by_pool_selector(),
        "to_node_container_selector": set.to_node_container_selector(),
        "to_node_selector": set.to_node_selector(),
        "to_selector": set.to_selector(),
        "to_volume_selector": set.to_volume_selector(),
    })
}

/// The keys of each selector.
const SELECTORS: [(&str, &[&str]); 7] = [
    ("to_selector", &["app-name", "app-process", "is-build", "is-isolated-run"]),
    ("to_app_selector", &["app-name"]),
    ("to_node_container_selector", &["node-container-name", "node-container-pool"]),
    ("to_node_selector", &["pool", "internal-node-addr"]),
    ("to_node_by_pool_selector", &["pool"]),
    ("to_is_service_selector", &["is-service"]),
    ("to_volume_selector", &["volume-name"]),
];

/// Compares all views. A selector over a key that is stored with its prefix is excused (design 10.3): we find such a key, the reference does not.
fn compare_views(set: &LabelSet, theirs: &Value) -> Ran {
    let ours = views(set);
    let mut ran = Ran::AsTheReference;
    let names = ours.as_object().expect("an object").keys();
    assert_eq!(names.len(), theirs.as_object().expect("an object").len());
    for name in names {
        let mut expected = theirs[name].clone();
        if expected.is_null() {
            expected = json!({});
        }
        if name == "to_labels" {
            expected = to_labels(set, &expected);
        }
        let selector = SELECTORS.iter().find(|(selector, _)| selector == name);
        for key in selector.into_iter().flat_map(|(_, keys)| *keys) {
            let prefixed = format!("{}{key}", set.prefix);
            if let Some(value) = set.labels.get(&prefixed).filter(|_| !set.prefix.is_empty()) {
                expected[prefixed] = json!(value);
                ran = Ran::Excused(3);
            }
        }
        assert_eq!(ours[name], expected, "{name}");
    }
    ran
}

/// What `ToLabels` should give. Where a key is stored both bare and prefixed the reference writes both to one place, in the order of a Go map, which is none; for us the
/// prefixed one counts.
fn to_labels(set: &LabelSet, theirs: &Value) -> Value {
    let mut expected = if theirs.is_null() { json!({}) } else { theirs.clone() };
    for (key, value) in &set.labels {
        let bare = key.strip_prefix(&*set.prefix).unwrap_or(key);
        if bare != key && set.labels.contains_key(bare) {
            expected[key] = json!(value);
        }
    }
    expected
}

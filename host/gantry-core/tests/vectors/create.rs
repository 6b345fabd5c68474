use gantry_core::create::{ContainerDefaults, UnitContainer};
use gantry_core::labels::UnknownRouterType;
use gantry_core::{App, EnvVar};
use serde_json::{Map, Value, json};

use crate::walk::{Ran, error, map, text, texts, walk};

/// What the vectors were recorded with, where a case does not say otherwise.
const RECORDED_IMAGE: &str = "tsuru/python:latest";

#[test]
fn docker_container_create() {
    walk("docker_container_create", |case| {
        let input = &case["in"];
        if let Some(expected) = error(case) {
            let made = create(input, "bs").expect_err("an error");
            assert_eq!(made.to_string(), expected);
            return Ran::AsTheReference;
        }
        let mut theirs = case["create_body_without_zero_values"].clone();
        lower_legacy_fields(&mut theirs);
        // With the reference's log driver it is the reference's body.
        let (body, port) = create(input, "bs").expect("a body");
        assert_eq!(body, theirs);
        assert_eq!(port, text(case, "exposed_port_after"));
        // Without one, units log to `json-file` (design 10.16). The container of a deploy always did.
        let (body, _) = create(input, "").expect("a body");
        if is_deploy(input) {
            assert_eq!(body, theirs);
            Ran::AsTheReference
        } else {
            theirs["HostConfig"]["LogConfig"] = json!({"Type": "json-file"});
            assert_eq!(body, theirs);
            Ran::Excused(16)
        }
    });
}

fn create(input: &Value, log_driver: &str) -> Result<(Value, String), UnknownRouterType> {
    let number = |field: &str| input[field].as_i64().unwrap_or_default();
    let app = App {
        name: text(input, "app").to_owned(),
        platform: input["platform"].as_str().unwrap_or("python").to_owned(),
        pool: input["pool"].as_str().unwrap_or("test-default").to_owned(),
        memory: number("memory"),
        swap: number("swap"),
        cpu_share: number("cpu_share").try_into().expect("in range"),
        ..App::default()
    };
    let routers =
        if input["routers"].is_null() { vec!["fake".to_owned()] } else { texts(input, "routers") };
    let envs: Vec<EnvVar> = map(input, "app_envs")
        .into_iter()
        .map(|(name, value)| EnvVar { name, value, public: true })
        .collect();
    let command = texts(input, "cmds");
    let unit = UnitContainer {
        app: &app,
        routers: &routers,
        envs: &envs,
        process: text(input, "process"),
        image: input["image"].as_str().unwrap_or(RECORDED_IMAGE),
        command: &command,
        exposed_port: text(input, "container_exposed_port"),
        is_deploy: is_deploy(input),
        is_building: input["building"].as_bool().unwrap_or_default(),
    };
    let config = &input["config"];
    let settings = |key: &str| {
        config.get(key).filter(|value| !value.is_null()).cloned().or(match key {
            // The configuration of the recording names the user that builds.
            "docker:user" => Some(json!("root")),
            "docker:log-driver" if !log_driver.is_empty() => Some(json!(log_driver)),
            _ => None,
        })
    };
    let defaults = ContainerDefaults::from_settings(&settings);
    let router_types = |router: &str| (router == "fake").then(|| "fake".to_owned());
    let spec = unit.spec(&defaults, "docker", &router_types)?;
    let mut body = serde_json::to_value(&spec).expect("it is JSON");
    prune(&mut body);
    Ok((body, unit.port(&defaults.platform)))
}

fn is_deploy(input: &Value) -> bool {
    input["deploy"].as_bool().unwrap_or_default()
}

/// Docker before API 1.18 read a container's limits and security options at the top of the body, later ones read them in `HostConfig`. The reference sends them at the top, most
/// of them below too; we only below. So what is at the top belongs below, and where it is there already it must be the same.
fn lower_legacy_fields(body: &mut Value) {
    for (top, below) in [
        ("Memory", "Memory"),
        ("MemorySwap", "MemorySwap"),
        ("CpuShares", "CpuShares"),
        ("SecurityOpts", "SecurityOpt"),
    ] {
        let fields = body.as_object_mut().expect("an object");
        if let Some(value) = fields.remove(top) {
            let lowered = &mut body["HostConfig"][below];
            assert!(lowered.is_null() || *lowered == value, "{top}");
            *lowered = value;
        }
    }
}

/// Leaves out zero values, empty texts in labels included, as the vectors do. Empty lists and objects of the vectors stay.
fn prune(value: &mut Value) {
    let is_zero = |value: &Value| {
        matches!(value, Value::Null | Value::Bool(false))
            || value.as_str() == Some("")
            || value.as_i64() == Some(0)
    };
    match value {
        Value::Object(fields) => {
            let pruned: Map<String, Value> = std::mem::take(fields)
                .into_iter()
                .filter(|(_, value)| !is_zero(value))
                .map(|(key, mut value)| {
                    prune(&mut value);
                    (key, value)
                })
                .collect();
            *fields = pruned;
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

//! The labels import, by the cases of `tests/vectors/labels_*.json`.
//!
//! Every function of `exec` takes one case as its only argument and writes what the host made of it to stdout, in the fields in which the case has what is expected:
//!
//! ```text
//! labels_constructors  {"fn": "ProcessLabels", "in": ...}  {"set", "views"}, or {"error": text}
//!                      SplitServiceLabelsAnnotations       {"labels", "annotations", "labels_out", "annotations_out"}
//! labels_accessors     {"in": set}                         {"views"}
//! labels_setters       {"start": set, "steps": [...]}      {"steps": [{"op", "arg", "after", "to_labels"}]}
//! ```
//!
//! with `set` as `{"labels": {key: value}, "prefix": text}`, keys as stored. Other fields of a case are not read. A case that is none of these is `invalid-argument`.

use gantry_guests::labels::{
    LabelSet, NodeContainerOptions, NodeOptions, ProcessOptions, ServiceAccountOptions,
    ServiceExtension, ServiceOptions, VolumeOptions,
};
use gantry_guests::types::{App, Error};
use gantry_guests::{Command, Guest, Run};
use serde_json::{Map, Value, json};

struct Labels;

impl Guest for Labels {
    const NAME: &'static str = "label_vectors";
}

impl Run for Labels {
    fn run(command: Command) -> Result<i32, Error> {
        let case: Value = serde_json::from_str(&command.args.concat())
            .map_err(|error| Error::InvalidArgument(error.to_string()))?;
        let answer = answer(&In(&case))?;
        let written = command.stdout.write(answer.to_string().as_bytes());
        written.map_err(|error| Error::Other(error.to_string()))?;
        Ok(0)
    }
}

fn answer(case: &In<'_>) -> Result<Value, Error> {
    let input = case.at("in");
    match case.text("fn").as_str() {
        "" if case.has("start") => Ok(steps(&case.at("start").set(), case.at("steps").0)),
        "" => Ok(json!({"views": views(&input.set())})),
        "SplitServiceLabelsAnnotations" => {
            let (labels, annotations) = input.set().split_service_labels_annotations();
            Ok(json!({
                "labels": stored(&labels),
                "annotations": stored(&annotations),
                "labels_out": map(labels.to_labels()),
                "annotations_out": map(annotations.to_labels()),
            }))
        }
        function => Ok(match construct(function, &input) {
            Ok(set) => json!({"set": stored(&set), "views": views(&set)}),
            Err(Error::InvalidArgument(text) | Error::NotFound(text) | Error::Other(text)) => {
                json!({"error": text})
            }
            Err(error) => return Err(error),
        }),
    }
}

fn construct(function: &str, input: &In<'_>) -> Result<LabelSet, Error> {
    Ok(match function {
        "ProcessLabels" => LabelSet::process_labels(&ProcessOptions {
            app: input.at("app").app(),
            routers: input.at("app").list("routers"),
            process: input.text("process"),
            provisioner: input.text("provisioner"),
            builder: input.text("builder"),
            prefix: input.text("prefix"),
            is_deploy: input.flag("is_deploy"),
        })?,
        "ServiceLabels" => LabelSet::service_labels(&ServiceOptions {
            app: input.at("app").app(),
            routers: input.at("app").list("routers"),
            process: input.text("process"),
            replicas: input.number("replicas"),
            extension: input.at("extended").extension(),
        })?,
        "ServiceAccountLabels" => LabelSet::service_account_labels(&ServiceAccountOptions {
            app: input.has("app").then(|| input.at("app").app()),
            node_container_name: input.text("node_container_name"),
            provisioner: input.text("provisioner"),
            prefix: input.text("prefix"),
        }),
        "NodeContainerLabels" => LabelSet::node_container_labels(&NodeContainerOptions {
            name: input.text("name"),
            custom_labels: input.pairs("custom_labels"),
            pool: input.text("pool"),
            provisioner: input.text("provisioner"),
            prefix: input.text("prefix"),
        }),
        "NodeLabels" => LabelSet::node_labels(&NodeOptions {
            iaas_id: input.text("iaas_id"),
            address: input.text("addr"),
            pool: input.text("pool"),
            prefix: input.text("prefix"),
            custom_labels: input.pairs("custom_labels"),
        }),
        "VolumeLabels" => LabelSet::volume_labels(&VolumeOptions {
            name: input.text("name"),
            provisioner: input.text("provisioner"),
            pool: input.text("pool"),
            plan: input.text("plan"),
            prefix: input.text("prefix"),
        }),
        "ExtendServiceLabels" => {
            let set = input.at("set").set();
            set.extend_service_labels(&input.at("extended").extension());
            set
        }
        _ => return Err(Error::NotSupported(function.into())),
    })
}

fn steps(set: &LabelSet, steps: &Value) -> Value {
    let mut after = Vec::new();
    for step in steps.as_array().into_iter().flatten().map(In) {
        match step.text("op").as_str() {
            "SetRestarts" => set.set_restarts(step.number("arg")),
            "SetStopped" => set.set_stopped(),
            "SetAsleep" => set.set_asleep(),
            "SetIsService" => set.set_is_service(),
            "SetIsHeadlessService" => set.set_is_headless_service(),
            "SetBuildImage" => set.set_build_image(&step.text("arg")),
            // Left out of the answer, so that the comparison sees it.
            _ => continue,
        }
        after.push(json!({
            "op": step.text("op"),
            "arg": step.at("arg").0,
            "after": stored(set),
            "to_labels": map(set.to_labels()),
        }));
    }
    json!({"steps": after})
}

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
        "node_extra_data_c1": map(set.node_extra_data("c1")),
        "node_extra_data_no_cluster": map(set.node_extra_data("")),
        "node_iaas_id": set.node_iaas_id(),
        "node_metadata": map(set.node_metadata()),
        "node_metadata_no_prefix": map(set.node_metadata_no_prefix()),
        "node_pool": set.node_pool(),
        "restarts": set.restarts(),
        "to_app_selector": map(set.to_app_selector()),
        "to_is_service_selector": map(set.to_is_service_selector()),
        "to_labels": map(set.to_labels()),
        "to_node_by_pool_selector": map(set.to_node_by_pool_selector()),
        "to_node_container_selector": map(set.to_node_container_selector()),
        "to_node_selector": map(set.to_node_selector()),
        "to_selector": map(set.to_selector()),
        "to_volume_selector": map(set.to_volume_selector()),
    })
}

fn stored(set: &LabelSet) -> Value {
    json!({"labels": map(set.stored()), "prefix": set.prefix()})
}

fn map(pairs: Vec<(String, String)>) -> Value {
    pairs.into_iter().map(|(key, value)| (key, Value::String(value))).collect::<Map<_, _>>().into()
}

/// A part of a case; what is not there is null, and null is empty.
struct In<'a>(&'a Value);

impl In<'_> {
    fn at(&self, name: &str) -> In<'_> {
        In(self.0.get(name).unwrap_or(&Value::Null))
    }

    fn has(&self, name: &str) -> bool {
        !self.at(name).0.is_null()
    }

    fn text(&self, name: &str) -> String {
        self.at(name).0.as_str().unwrap_or_default().to_owned()
    }

    fn flag(&self, name: &str) -> bool {
        self.at(name).0.as_bool().unwrap_or_default()
    }

    fn number(&self, name: &str) -> i32 {
        let number = self.at(name).0.as_i64().and_then(|number| i32::try_from(number).ok());
        number.unwrap_or_default()
    }

    fn list(&self, name: &str) -> Vec<String> {
        let list = self.at(name).0.as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn pairs(&self, name: &str) -> Vec<(String, String)> {
        let pairs = self.at(name).0.as_object().into_iter().flatten();
        pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }

    fn set(&self) -> LabelSet {
        LabelSet::new(&self.pairs("labels"), &self.text("prefix"))
    }

    fn extension(&self) -> ServiceExtension {
        ServiceExtension {
            provisioner: self.text("provisioner"),
            prefix: self.text("prefix"),
            build_image: self.text("build_image"),
            is_deploy: self.flag("is_deploy"),
            is_isolated_run: self.flag("is_isolated_run"),
            is_build: self.flag("is_build"),
            builder: self.text("builder"),
        }
    }

    fn app(&self) -> App {
        App {
            name: self.text("name"),
            platform: self.text("platform"),
            pool: self.text("pool"),
            team_owner: String::new(),
            deploys: 0,
            memory: 0,
            swap: 0,
            cpu_share: 0,
            update_platform: false,
        }
    }
}

gantry_guests::export!(Labels: plugin, provisioner, exec);

use std::collections::{BTreeMap, BTreeSet};

use gantry_kubernetes::manifest::account;
use gantry_kubernetes::node_container::{Placement, daemon_set, place, upgrade};
use gantry_kubernetes::{PREFIX, PROVISIONER};
use gantry_sdk::LabelSet;
use gantry_sdk::gantry_core::labels::{NodeContainerOptions, ServiceAccountOptions};
use gantry_sdk::gantry_core::node::NodeContainer;
use serde_json::Value;

use crate::objects;
use crate::walk::{Ran, map, text, texts, walk};

const NAMESPACE: &str = "default";

/// What is on a cluster.
#[derive(Default)]
struct Stored {
    daemon_sets: BTreeMap<String, Value>,
    accounts: BTreeMap<String, Value>,
    log: String,
}

#[test]
fn kube_daemonsets() {
    walk("kube_daemonsets", |case| {
        let configs: BTreeMap<String, NodeContainer> = case["configs_by_pool"]
            .as_object()
            .expect("configurations")
            .iter()
            .map(|(pool, config)| (pool.clone(), read(config)))
            .collect();
        let mut stored = Stored::default();
        for call in case["upgrade_calls_name_pool"].as_array().expect("calls") {
            let (name, pool) =
                (call[0].as_str().expect("a name"), call[1].as_str().expect("a pool"));
            for placement in upgrade(configs.keys().map(String::as_str), pool) {
                look_after(&mut stored, name, &configs, &placement);
            }
        }
        assert!(case["errors"].as_array().expect("errors").iter().all(Value::is_null));
        assert_eq!(stored.log, text(case, "log"));
        let ours: Vec<Value> = stored
            .daemon_sets
            .values()
            .map(|set| objects::ours(set, "apps/v1", "DaemonSet"))
            .collect();
        let mut theirs = objects::all(case, "daemonsets");
        theirs.iter_mut().for_each(forget_hidden);
        assert_eq!(ours, theirs);
        let ours: Vec<Value> = stored
            .accounts
            .values()
            .map(|account| objects::ours(account, "v1", "ServiceAccount"))
            .collect();
        assert_eq!(ours, objects::all(case, "service_accounts"));
        if configs.values().any(repeats) { Ran::Excused(9) } else { Ran::AsTheReference }
    });
}

/// Whether a configuration has two variables with one name.
fn repeats(container: &NodeContainer) -> bool {
    let names = container.env.iter().filter_map(|line| line.split('=').next());
    names.clone().collect::<BTreeSet<_>>().len() < names.count()
}

/// Of two variables with one name only the last is left (design 10.9).
fn forget_hidden(daemon_set: &mut Value) {
    let container = &mut daemon_set["spec"]["template"]["spec"]["containers"][0];
    if let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) {
        let mut names = BTreeSet::new();
        env.reverse();
        env.retain(|variable| names.insert(text(variable, "name").to_owned()));
        env.reverse();
    }
}

fn look_after(
    stored: &mut Stored,
    name: &str,
    configs: &BTreeMap<String, NodeContainer>,
    placement: &Placement,
) {
    let own = &configs[&placement.pool];
    let container = match configs.get("") {
        Some(base) if !placement.pool.is_empty() => own.over(base),
        Some(_) | None => own.clone(),
    };
    stored.log.push_str(&container.headline(name, &placement.pool));
    if !container.is_valid() {
        return;
    }
    let labels = LabelSet::service_account_labels(&ServiceAccountOptions {
        app_name: None,
        node_container_name: &container.name,
        provisioner: PROVISIONER,
        prefix: PREFIX,
    });
    let account = account::of_node_container(&container.name, NAMESPACE, &labels);
    stored.accounts.insert(objects::name(&account), account);
    let labels = LabelSet::node_container_labels(&NodeContainerOptions {
        name: &container.name,
        custom_labels: &container.labels,
        pool: &placement.pool,
        provisioner: PROVISIONER,
        prefix: PREFIX,
    });
    let made = daemon_set(&container, placement, NAMESPACE, &labels);
    match stored.daemon_sets.get_mut(&objects::name(&made)) {
        Some(existing) if placement.placement_only => {
            if let Some(patch) = place(existing, &placement.pools) {
                merge(existing, &patch);
            }
        }
        Some(_) | None => {
            stored.daemon_sets.insert(objects::name(&made), made);
        }
    }
}

/// Does what a merge patch says (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    if let (true, Value::Object(fields)) = (target.is_object(), patch) {
        for (key, value) in fields {
            merge(&mut target[key], value);
        }
    } else {
        *target = patch.clone();
    }
}

fn read(config: &Value) -> NodeContainer {
    let flag = |field: &str| config[field].as_bool();
    // The reference has no way to say no.
    let yes = |field: &str| flag(field).filter(|said| *said);
    NodeContainer {
        name: text(config, "Name").to_owned(),
        image: text(config, "Image").to_owned(),
        pinned_image: text(config, "PinnedImage").to_owned(),
        disabled: flag("Disabled"),
        entrypoint: texts(config, "Entrypoint"),
        command: texts(config, "Cmd"),
        env: texts(config, "Env"),
        labels: map(config, "Labels"),
        working_dir: text(config, "WorkingDir").to_owned(),
        tty: yes("Tty"),
        privileged: yes("Privileged"),
        network_mode: text(config, "NetworkMode").to_owned(),
        restart_policy: text(config, "RestartPolicy").to_owned(),
        binds: texts(config, "Binds"),
        ..NodeContainer::default()
    }
}

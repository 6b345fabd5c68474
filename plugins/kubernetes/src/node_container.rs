//! Node containers as objects of a cluster (spec 6.4, 7.10). What they are is `gantry_core::node::NodeContainer`.

mod placement;

use std::collections::BTreeMap;

use gantry_sdk::gantry_core::node::NodeContainer;
use gantry_sdk::{LabelSet, Labels};
use serde_json::{Value, json};

use crate::manifest::{env, literal, metadata};
use crate::object::{unless_empty, without_nulls};
use crate::{name, node};

pub use placement::{Placement, Pools, ensure, place, upgrade};
use placement::{affinity, affinity_annotation};

/// The agent that also reads the logs of the engine.
const BIG_SIBLING: &str = "big-sibling";

/// What it needs for that.
const BIG_SIBLING_BINDS: [&str; 3] = [
    "/var/log:/var/log",
    "/var/lib/docker/containers:/var/lib/docker/containers:ro",
    "/mnt/sda1/var/lib/docker/containers:/mnt/sda1/var/lib/docker/containers:ro",
];

/// The DaemonSet of a node container. `labels` are those of a node container, made with its own.
pub fn daemon_set(
    container: &NodeContainer,
    placement: &Placement,
    namespace: &str,
    labels: &LabelSet,
) -> Value {
    let affinity = affinity(&placement.pools);
    let all_labels = labels.to_labels();
    let mut binds: Vec<&str> = container.binds.iter().map(String::as_str).collect();
    if container.name == BIG_SIBLING {
        binds.extend(BIG_SIBLING_BINDS);
    }
    let (volumes, mounts): (Vec<Value>, Vec<Value>) =
        binds.iter().enumerate().map(|(index, bind)| volume(index, bind)).unzip();
    let spec = without_nulls(json!({
        "affinity": affinity,
        "containers": [one(container, mounts)],
        "hostNetwork": (container.network_mode == "host").then_some(true),
        "restartPolicy": restart_policy(&container.restart_policy),
        "serviceAccountName": name::node_container_account(&container.name),
        "tolerations": [{"key": node::DISABLED, "operator": "Exists"}],
        "volumes": unless_empty(volumes),
    }));
    let template = metadata("", "", all_labels.clone(), affinity_annotation(&affinity));
    let name = name::daemon_set(&container.name, &placement.pool);
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": metadata(&name, namespace, all_labels, Labels::new()),
        "spec": {
            "selector": {"matchLabels": labels.to_node_container_selector()},
            "template": {"metadata": template, "spec": spec},
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": "20%"},
            },
        },
    })
}

fn one(container: &NodeContainer, mounts: Vec<Value>) -> Value {
    let envs = variables(&container.env);
    let literal = |words: &[String]| -> Vec<String> {
        words.iter().map(|word| literal(word, &envs)).collect()
    };
    without_nulls(json!({
        "name": container.name,
        "image": container.image(),
        "command": unless_empty(literal(&container.entrypoint)),
        "args": unless_empty(literal(&container.command)),
        "env": env(&envs),
        "resources": {},
        "securityContext": (container.privileged == Some(true)).then(|| json!({"privileged": true})),
        "tty": (container.tty == Some(true)).then_some(true),
        "volumeMounts": unless_empty(mounts),
        "workingDir": Some(&container.working_dir).filter(|folder| !folder.is_empty()),
    }))
}

/// The variables in their order. Of two with one name the last counts (design 10.9): the cluster takes no two.
fn variables(env: &[String]) -> Vec<(String, String)> {
    let split = |line: &String| match line.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (line.clone(), String::new()),
    };
    let mut last = BTreeMap::new();
    let all: Vec<(String, String)> = env.iter().map(split).collect();
    for (index, (name, _)) in all.iter().enumerate() {
        last.insert(name.clone(), index);
    }
    let indexed = all.into_iter().enumerate();
    indexed
        .filter(|(index, (name, _))| last.get(name) == Some(index))
        .map(|(_, pair)| pair)
        .collect()
}

/// A path of the node, and where the container sees it.
fn volume(index: usize, bind: &str) -> (Value, Value) {
    let name = format!("volume-{index}");
    let mut parts = bind.split(':');
    let mut part = || parts.next().unwrap_or_default();
    let (source, target, mode) = (part(), part(), part());
    let mount = without_nulls(json!({
        "mountPath": target,
        "name": name,
        "readOnly": (mode == "ro").then_some(true),
    }));
    (json!({"name": name, "hostPath": {"path": source}}), mount)
}

fn restart_policy(policy: &str) -> &'static str {
    match policy {
        "on-failure" => "OnFailure",
        "no" => "Never",
        _ => "Always",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_nobody_knows_is_always() {
        for (policy, expected) in [
            ("", "Always"),
            ("always", "Always"),
            ("unless-stopped", "Always"),
            ("on-failure", "OnFailure"),
            ("no", "Never"),
        ] {
            assert_eq!(restart_policy(policy), expected);
        }
    }

    #[test]
    fn binds_and_variables_are_taken_apart() {
        let read_only = |bind| volume(0, bind).1.get("readOnly").is_some();
        assert!(read_only("/a:/b:ro"));
        assert!(!read_only("/a:/b:ro,z") && !read_only("/a:/b:rw") && !read_only("/a"));
        let env = ["A=1", "B=x=y", "A=2", "C"].map(str::to_owned);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(variables(&env), [pair("B", "x=y"), pair("A", "2"), pair("C", "")]);
    }
}

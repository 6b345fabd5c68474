//! Node containers: what runs on every node of some pools (spec 6.4, 7.10).

mod placement;

use std::collections::BTreeMap;

use gantry_sdk::{LabelSet, Labels, quote};
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

/// What to run on every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeContainer {
    /// Its name.
    pub name: String,
    /// The image.
    pub image: String,
    /// The image by its digest; wins when it is not empty.
    pub pinned_image: String,
    /// Whether it is switched off; none when nobody says.
    pub disabled: Option<bool>,
    /// The program; the image's own when empty.
    pub entrypoint: Vec<String>,
    /// The arguments.
    pub command: Vec<String>,
    /// The environment, `NAME=value` each.
    pub env: Vec<String>,
    /// Labels of its own, which win over the platform's.
    pub labels: Labels,
    /// The folder it starts in.
    pub working_dir: String,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether it may do everything on the node.
    pub privileged: bool,
    /// The network; `host` is the node's.
    pub network_mode: String,
    /// When it is started again: `always` unless it says `on-failure` or `no`.
    pub restart_policy: String,
    /// What it sees of the node: `<path of the node>:<path>[:ro]` each.
    pub binds: Vec<String>,
}

impl NodeContainer {
    /// What runs in a pool that has an entry of its own: what that says, and for the rest what the base says.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        let text = |own: &String, base: &String| {
            if own.is_empty() { base.clone() } else { own.clone() }
        };
        let list = |own: &Vec<String>, base: &Vec<String>| {
            if own.is_empty() { base.clone() } else { own.clone() }
        };
        let mut labels = base.labels.clone();
        labels.extend(self.labels.clone());
        // An image of the pool's own is not what the base has pinned.
        let pinned_image = if self.image.is_empty() {
            text(&self.pinned_image, &base.pinned_image)
        } else {
            self.pinned_image.clone()
        };
        Self {
            name: text(&self.name, &base.name),
            image: text(&self.image, &base.image),
            pinned_image,
            disabled: self.disabled.or(base.disabled),
            entrypoint: list(&self.entrypoint, &base.entrypoint),
            command: list(&self.command, &base.command),
            env: list(&self.env, &base.env),
            labels,
            working_dir: text(&self.working_dir, &base.working_dir),
            tty: self.tty || base.tty,
            privileged: self.privileged || base.privileged,
            network_mode: text(&self.network_mode, &base.network_mode),
            restart_policy: text(&self.restart_policy, &base.restart_policy),
            binds: list(&self.binds, &base.binds),
        }
    }

    /// Whether it can run: it is not switched off and has an image.
    pub fn is_valid(&self) -> bool {
        self.disabled != Some(true) && !self.image.is_empty()
    }

    /// What is told before it is looked after in a pool, or passed over.
    pub fn headline(&self, name: &str, pool: &str) -> String {
        let (name, pool) = (quote(name), quote(pool));
        if self.is_valid() {
            format!("upserting node container {name} [{pool}]\n")
        } else {
            format!("skipping node container {name} [{pool}], invalid config\n")
        }
    }

    fn image(&self) -> &str {
        if self.pinned_image.is_empty() { &self.image } else { &self.pinned_image }
    }
}

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
        "securityContext": container.privileged.then(|| json!({"privileged": true})),
        "tty": container.tty.then_some(true),
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
    fn a_pool_says_what_differs_from_the_base() {
        let base = NodeContainer {
            name: "bs".to_owned(),
            image: "img".to_owned(),
            pinned_image: "img@sha256:1".to_owned(),
            env: vec!["A=1".to_owned()],
            labels: Labels::from([("a".to_owned(), "1".to_owned())]),
            privileged: true,
            ..NodeContainer::default()
        };
        let own = NodeContainer {
            image: "other".to_owned(),
            disabled: Some(false),
            labels: Labels::from([("b".to_owned(), "2".to_owned())]),
            ..NodeContainer::default()
        };
        let merged = own.over(&base);
        assert_eq!((merged.name.as_str(), merged.image()), ("bs", "other"));
        assert_eq!((merged.env.as_slice(), merged.labels.len()), (&["A=1".to_owned()][..], 2));
        assert!(merged.privileged && merged.is_valid());
        assert_eq!(NodeContainer::default().over(&base).image(), "img@sha256:1");
    }

    #[test]
    fn what_cannot_run_is_told() {
        let mut container = NodeContainer { image: "i".to_owned(), ..NodeContainer::default() };
        assert_eq!(container.headline("bs", ""), "upserting node container \"bs\" [\"\"]\n");
        container.disabled = Some(true);
        let line = "skipping node container \"bs\" [\"p1\"], invalid config\n";
        assert_eq!(container.headline("bs", "p1"), line);
        assert!(!NodeContainer::default().is_valid());
    }

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

//! Node containers: what runs once on every node of some pools, agents mostly (spec 5.14, 6.4).
//!
//! What they are is configured under [`CONFIG_KEY`]: by name, in it by pool ("" is every pool without an entry of its own), in it Docker's words. A pool's entry says what differs from
//! the base.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::container::{LogConfig, PortBinding};
use crate::go::quote;
use crate::image::{LATEST, split_image_name};
use crate::labels::Labels;

/// Where a provisioner's configuration has them.
pub const CONFIG_KEY: &str = "node-containers";

/// What runs on every node, whichever engine runs it.
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
    /// Whether it has a terminal; none when nobody says.
    pub tty: Option<bool>,
    /// Who it runs as; whoever the image says when empty.
    pub user: String,
    /// Whether it may do everything on the node; none when nobody says.
    pub privileged: Option<bool>,
    /// The network; `host` is the node's.
    pub network_mode: String,
    /// When it is started again: `always` unless it says `on-failure` or `no`.
    pub restart_policy: String,
    /// What it sees of the node: `<path of the node>:<path>[:ro]` each.
    pub binds: Vec<String>,
    /// The processes that it sees; `host` is the node's.
    pub pid_mode: String,
    /// Kernel capabilities on top of the engine's default.
    pub cap_add: Vec<String>,
    /// Kernel capabilities that it does not get.
    pub cap_drop: Vec<String>,
    /// The ports of the node for each of its own (`8125/udp`).
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    /// Where its output goes; none is where the engine sends all.
    pub log_config: Option<LogConfig>,
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
        let mut port_bindings = base.port_bindings.clone();
        port_bindings.extend(self.port_bindings.clone());
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
            tty: self.tty.or(base.tty),
            user: text(&self.user, &base.user),
            privileged: self.privileged.or(base.privileged),
            network_mode: text(&self.network_mode, &base.network_mode),
            restart_policy: text(&self.restart_policy, &base.restart_policy),
            binds: list(&self.binds, &base.binds),
            pid_mode: text(&self.pid_mode, &base.pid_mode),
            cap_add: list(&self.cap_add, &base.cap_add),
            cap_drop: list(&self.cap_drop, &base.cap_drop),
            port_bindings,
            log_config: self.log_config.clone().or_else(|| base.log_config.clone()),
        }
    }

    /// Whether it can run: it is not switched off and has an image.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.disabled != Some(true) && !self.image.is_empty()
    }

    /// The image that is used.
    #[must_use]
    pub fn image(&self) -> &str {
        if self.pinned_image.is_empty() { &self.image } else { &self.pinned_image }
    }

    /// What is told before it is looked after in a pool, or passed over.
    #[must_use]
    pub fn headline(&self, name: &str, pool: &str) -> String {
        let (name, pool) = (quote(name), quote(pool));
        if self.is_valid() {
            format!("upserting node container {name} [{pool}]\n")
        } else {
            format!("skipping node container {name} [{pool}], invalid config\n")
        }
    }
}

/// An entry of the configuration: what is written down of a node container for one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct NodeContainerEntry {
    /// The image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The image by its digest, which wins.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pinned_image: String,
    /// Whether it is switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// What it runs.
    #[serde(skip_serializing_if = "is_default")]
    pub config: EntryConfig,
    /// What the node gives it.
    #[serde(skip_serializing_if = "is_default")]
    pub host_config: EntryHostConfig,
}

/// What a node container runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct EntryConfig {
    /// The program.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// The environment, `NAME=value` each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Labels of its own.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The folder it starts in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Whether it has a terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<bool>,
    /// Who it runs as.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}

/// What a node gives a node container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct EntryHostConfig {
    /// Whether it may do everything on the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// The network.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    /// When it is started again.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub restart_policy: String,
    /// What it sees of the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub binds: Vec<String>,
    /// The processes that it sees.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pid_mode: String,
    /// Kernel capabilities on top of the engine's default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Kernel capabilities that it does not get.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// The ports of the node for each of its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub port_bindings: BTreeMap<String, Vec<EntryPort>>,
    /// Where its output goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_config: Option<EntryLog>,
}

/// A port of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct EntryPort {
    /// The address of the node; all when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host_ip: String,
    /// The port; any free one when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host_port: String,
}

/// Where the output of a node container goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct EntryLog {
    /// The driver.
    #[serde(rename = "type")]
    pub driver: String,
    /// Its options.
    #[serde(rename = "config", skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl NodeContainerEntry {
    /// The node container of this name that the entry describes.
    #[must_use]
    pub fn named(self, name: &str) -> NodeContainer {
        let Self { image, pinned_image, disabled, config, host_config } = self;
        let EntryConfig { entrypoint, cmd, env, labels, working_dir, tty, user } = config;
        let EntryHostConfig {
            privileged,
            network_mode,
            restart_policy,
            binds,
            pid_mode,
            cap_add,
            cap_drop,
            port_bindings,
            log_config,
        } = host_config;
        let binding = |EntryPort { host_ip, host_port }| PortBinding { host_ip, host_port };
        let bindings = |ports: Vec<EntryPort>| ports.into_iter().map(binding).collect();
        let port_bindings =
            port_bindings.into_iter().map(|(port, ports)| (port, bindings(ports))).collect();
        NodeContainer {
            name: name.to_owned(),
            image,
            pinned_image,
            disabled,
            entrypoint,
            command: cmd,
            env,
            labels,
            working_dir,
            tty,
            user,
            privileged,
            network_mode,
            restart_policy,
            binds,
            pid_mode,
            cap_add,
            cap_drop,
            port_bindings,
            log_config: log_config
                .map(|EntryLog { driver, options }| LogConfig { driver, options }),
        }
    }
}

/// The configuration has something else than node containers under [`CONFIG_KEY`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{CONFIG_KEY}` of the configuration: {0}")]
pub struct WrongNodeContainers(String);

/// What is configured of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeContainerPools {
    name: String,
    entries: BTreeMap<String, NodeContainer>,
}

impl NodeContainerPools {
    /// The pools with an entry; the base is the empty one.
    pub fn pools(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// What runs in a pool: its own entry over the base.
    #[must_use]
    pub fn of_pool(&self, pool: &str) -> NodeContainer {
        let none = NodeContainer { name: self.name.clone(), ..NodeContainer::default() };
        let base = self.entries.get("").unwrap_or(&none);
        match self.entries.get(pool) {
            Some(own) if !pool.is_empty() => own.over(base),
            Some(_) | None => base.clone(),
        }
    }
}

/// All node containers that are configured, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeContainers(BTreeMap<String, NodeContainerPools>);

impl NodeContainers {
    /// Reads what a provisioner's configuration has under [`CONFIG_KEY`].
    ///
    /// # Errors
    ///
    /// It has another shape, or a field that nobody knows: what is not understood is not left out in silence.
    pub fn read(value: Option<&Value>) -> Result<Self, WrongNodeContainers> {
        let Some(value) = value else { return Ok(Self::default()) };
        let wrong = |what: String| WrongNodeContainers(what);
        let names = value.as_object().ok_or_else(|| wrong("no table by name".to_owned()))?;
        let mut all = BTreeMap::new();
        for (name, pools) in names {
            let pools =
                pools.as_object().ok_or_else(|| wrong(format!("`{name}` is no table by pool")))?;
            let mut by_pool =
                NodeContainerPools { name: name.clone(), ..NodeContainerPools::default() };
            for (pool, entry) in pools {
                let read = NodeContainerEntry::deserialize(entry).map_err(|error| {
                    wrong(format!("`{name}` of the pool {}: {error}", quote(pool)))
                })?;
                by_pool.entries.insert(pool.clone(), read.named(name));
            }
            all.insert(name.clone(), by_pool);
        }
        Ok(Self(all))
    }

    /// Whether none is configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is configured of each name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &NodeContainerPools)> {
        self.0.iter().map(|(name, by_pool)| (name.as_str(), by_pool))
    }

    /// What is configured of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&NodeContainerPools> {
        self.0.get(name)
    }
}

/// The image by its digest, which is kept once it was pulled so that every node runs the same (spec 5.14). None for one whose name tells already which it is: by another tag than
/// `latest`, or by its digest. `repo_digests` are the image's names by content, as the engine tells them.
#[must_use]
pub fn pinned(image: &str, repo_digests: &[String]) -> Option<String> {
    if !is_pinnable(image) {
        return None;
    }
    let (repository, _) = split_image_name(image);
    let mut found = repo_digests.iter().filter_map(|name| name.split_once('@'));
    let (_, digest) = found.find(|(other, _)| familiar(other) == familiar(repository))?;
    Some(format!("{repository}@{digest}"))
}

/// Whether an image is pinned to its digest: its name has no tag, or `latest`.
#[must_use]
pub fn is_pinnable(image: &str) -> bool {
    !image.contains('@') && split_image_name(image).1 == LATEST
}

/// A repository as Docker tells it back.
fn familiar(repository: &str) -> &str {
    let short = repository.strip_prefix("docker.io/").unwrap_or(repository);
    short.strip_prefix("library/").unwrap_or(short)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pool_says_what_differs_from_the_base() {
        let base = NodeContainer {
            name: "bs".to_owned(),
            image: "img".to_owned(),
            pinned_image: "img@sha256:1".to_owned(),
            env: vec!["A=1".to_owned()],
            labels: Labels::from([("a".to_owned(), "1".to_owned())]),
            tty: Some(true),
            privileged: Some(true),
            ..NodeContainer::default()
        };
        let own = NodeContainer {
            image: "other".to_owned(),
            disabled: Some(false),
            privileged: Some(false),
            labels: Labels::from([("b".to_owned(), "2".to_owned())]),
            ..NodeContainer::default()
        };
        let merged = own.over(&base);
        assert_eq!((merged.name.as_str(), merged.image()), ("bs", "other"));
        assert_eq!((merged.env.as_slice(), merged.labels.len()), (&["A=1".to_owned()][..], 2));
        assert_eq!((merged.tty, merged.privileged), (Some(true), Some(false)));
        assert!(merged.is_valid());
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
    fn entries_are_read_in_dockers_words() {
        let all = NodeContainers::read(Some(&json!({"bs": {
            "": {"image": "bs:v1", "config": {"env": ["A=1"], "cmd": ["run"]},
                 "host-config": {"privileged": true, "binds": ["/proc:/prochost:ro"]}},
            "p1": {"image": "bs:v2", "host-config": {"privileged": false}},
        }})))
        .unwrap();
        let by_pool = all.get("bs").unwrap();
        assert_eq!(by_pool.pools().collect::<Vec<_>>(), ["", "p1"]);
        let base = by_pool.of_pool("");
        assert_eq!((base.image.as_str(), base.privileged), ("bs:v1", Some(true)));
        let own = by_pool.of_pool("p1");
        assert_eq!((own.image.as_str(), own.env.len(), own.binds.len()), ("bs:v2", 1, 1));
        assert_eq!(own.privileged, Some(false));
        assert_eq!(by_pool.of_pool("other"), base);
        assert_eq!(all.get("other"), None);
        assert_eq!(NodeContainers::read(None), Ok(NodeContainers::default()));
    }

    #[test]
    fn a_pool_differs_in_what_the_node_gives_too() {
        let all = NodeContainers::read(Some(&json!({"bs": {
            "": {"image": "bs", "config": {"user": "root"}, "host-config": {
                "pid-mode": "host", "cap-add": ["NET_ADMIN"], "cap-drop": ["CHOWN"],
                "port-bindings": {"1514/udp": [{"host-port": "1514"}], "80/tcp": [{}]},
                "log-config": {"type": "syslog", "config": {"tag": "bs"}}}},
            "p1": {"config": {"user": "1000"}, "host-config": {
                "cap-add": ["SYS_PTRACE"],
                "port-bindings": {"80/tcp": [{"host-ip": "10.0.0.1", "host-port": "8080"}]},
                "log-config": {"type": "local"}}},
        }})))
        .unwrap();
        let by_pool = all.get("bs").unwrap();
        let base = by_pool.of_pool("");
        assert_eq!((base.user.as_str(), base.pid_mode.as_str()), ("root", "host"));
        assert_eq!(
            (base.cap_add.as_slice(), base.cap_drop.len()),
            (&["NET_ADMIN".to_owned()][..], 1)
        );
        let log = base.log_config.unwrap();
        assert_eq!((log.driver.as_str(), log.options["tag"].as_str()), ("syslog", "bs"));
        let own = by_pool.of_pool("p1");
        assert_eq!((own.user.as_str(), own.pid_mode.as_str()), ("1000", "host"));
        assert_eq!(
            (own.cap_add.as_slice(), own.cap_drop.len()),
            (&["SYS_PTRACE".to_owned()][..], 1)
        );
        let port = |host_ip: &str, host_port: &str| {
            vec![PortBinding { host_ip: host_ip.to_owned(), host_port: host_port.to_owned() }]
        };
        assert_eq!(own.port_bindings["1514/udp"], port("", "1514"));
        assert_eq!(own.port_bindings["80/tcp"], port("10.0.0.1", "8080"));
        assert_eq!(base.port_bindings["80/tcp"], port("", ""));
        assert_eq!(own.log_config.unwrap().driver, "local");
    }

    #[test]
    fn a_name_that_only_a_pool_has_runs_nowhere_else() {
        let all = NodeContainers::read(Some(&json!({"bs": {"p1": {"image": "i"}}}))).unwrap();
        let by_pool = all.get("bs").unwrap();
        assert!(by_pool.of_pool("p1").is_valid());
        assert!(!by_pool.of_pool("p2").is_valid() && !by_pool.of_pool("").is_valid());
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        for (config, place) in [
            (json!([]), "no table by name"),
            (json!({"bs": 1}), "`bs` is no table by pool"),
            (json!({"bs": {"p1": {"image": 5}}}), "`bs` of the pool \"p1\": invalid type"),
            (json!({"bs": {"": {"host-config": {"pidmode": "host"}}}}), "unknown field `pidmode`"),
        ] {
            let error = NodeContainers::read(Some(&config)).unwrap_err().to_string();
            assert!(error.starts_with("`node-containers` of the configuration: "), "{error}");
            assert!(error.contains(place), "{error}");
        }
    }

    #[test]
    fn an_entry_is_written_as_it_is_read() {
        let entry = json!({
            "image": "bs", "disabled": true,
            "config": {"cmd": ["a"], "labels": {"x": "1"}, "tty": true, "user": "1000"},
            "host-config": {
                "privileged": false, "network-mode": "host", "pid-mode": "host",
                "cap-add": ["NET_ADMIN"], "cap-drop": ["CHOWN"],
                "port-bindings": {"1514/udp": [{"host-ip": "10.0.0.1", "host-port": "1514"}, {}]},
                "log-config": {"type": "syslog", "config": {"tag": "bs"}},
            },
        });
        let read = NodeContainerEntry::deserialize(&entry).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), entry);
        assert_eq!(serde_json::to_value(NodeContainerEntry::default()).unwrap(), json!({}));
    }

    #[test]
    fn only_an_image_that_may_become_another_is_pinned() {
        let digests =
            ["other@sha256:1", "reg:5000/tsuru/bs@sha256:2", "bs@sha256:3"].map(str::to_owned);
        for (image, expected) in [
            ("bs", Some("bs@sha256:3")),
            ("bs:latest", Some("bs@sha256:3")),
            ("docker.io/library/bs", Some("docker.io/library/bs@sha256:3")),
            ("reg:5000/tsuru/bs", Some("reg:5000/tsuru/bs@sha256:2")),
            ("reg:5000/tsuru/bs:latest", Some("reg:5000/tsuru/bs@sha256:2")),
            ("bs:v1", None),
            ("reg:5000/tsuru/bs:v1", None),
            ("bs@sha256:9", None),
            // Nobody knows its digest: it was made here.
            ("local", None),
        ] {
            assert_eq!(pinned(image, &digests).as_deref(), expected, "{image}");
        }
    }
}

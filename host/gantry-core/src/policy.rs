//! What a plugin may do beyond its own containers, keys and apps: grants, and which of them a container needs.
//!
//! A grant is in force only when the plugin asked for it in its description and the operator allowed it. A refusal names the grant and who is missing it.

pub mod object;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::container::{ContainerSpec, LogConfig};

/// A right beyond the plugin's own containers, keys and apps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grant {
    /// `containers:privileged`: containers with everything the machine has.
    Privileged,
    /// `containers:host-network`: containers in the machine's network.
    HostNetwork,
    /// `containers:host-pid`: containers that see the machine's processes.
    HostPid,
    /// `containers:binds:<path>`: the machine's files at this very path, with `/*` at its end also at every path below it, or a named volume.
    Binds(String),
    /// `containers:capabilities`: kernel capabilities on top of the engine's default.
    Capabilities,
    /// `containers:security-options`: security options.
    SecurityOptions,
    /// `containers:log-drivers`: logs that go elsewhere than into the engine's own files, and elsewhere than the operator configured.
    LogDrivers,
    /// `containers:foreign`: containers that are not the plugin's own.
    Foreign,
    /// `images:remove`.
    RemoveImages,
    /// `images:build`.
    BuildImages,
    /// `images:commit`.
    CommitImages,
    /// `images:tag`.
    TagImages,
    /// `images:push`.
    PushImages,
    /// `cluster:<verb>:<kind>`: own objects of a kind (`Deployment.apps`, `Pod`) in the namespaces of the plugin.
    Objects(Verb, String),
    /// `cluster:foreign:<verb>:<kind>`: all objects of a kind, whoever made them.
    ForeignObjects(Verb, String),
    /// `cluster:namespace:<name>`: a namespace beyond the cluster's own for apps, or every one when it is `*`.
    Namespace(String),
}

/// What is done to objects of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// `read`: get, list, watch.
    Read,
    /// `write`: create, apply, patch, delete, evict.
    Write,
    /// `logs`: the logs of a pod.
    Logs,
    /// `exec`: commands in a pod, its process and its ports.
    Exec,
    /// `*`: all of these.
    Any,
}

impl Verb {
    const WORDS: [(Self, &'static str); 5] = [
        (Self::Read, "read"),
        (Self::Write, "write"),
        (Self::Logs, "logs"),
        (Self::Exec, "exec"),
        (Self::Any, "*"),
    ];

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(verb, _)| *verb == self).map_or("", |(_, word)| word)
    }

    fn covers(self, needed: Self) -> bool {
        self == Self::Any || self == needed
    }
}

const CLUSTER: &str = "cluster:";
const FOREIGN: &str = "foreign:";
const NAMESPACE: &str = "namespace:";
const BINDS: &str = "containers:binds:";

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "containers:privileged",
            Self::HostNetwork => "containers:host-network",
            Self::HostPid => "containers:host-pid",
            Self::Binds(path) => return write!(f, "{BINDS}{path}"),
            Self::Capabilities => "containers:capabilities",
            Self::SecurityOptions => "containers:security-options",
            Self::LogDrivers => "containers:log-drivers",
            Self::Foreign => "containers:foreign",
            Self::RemoveImages => "images:remove",
            Self::BuildImages => "images:build",
            Self::CommitImages => "images:commit",
            Self::TagImages => "images:tag",
            Self::PushImages => "images:push",
            Self::Objects(verb, kind) => return write!(f, "{CLUSTER}{}:{kind}", verb.word()),
            Self::ForeignObjects(verb, kind) => {
                return write!(f, "{CLUSTER}{FOREIGN}{}:{kind}", verb.word());
            }
            Self::Namespace(name) => return write!(f, "{CLUSTER}{NAMESPACE}{name}"),
        })
    }
}

/// Reads what comes after `cluster:`.
fn cluster_grant(text: &str) -> Option<Grant> {
    if let Some(name) = text.strip_prefix(NAMESPACE) {
        let name = (name == "*" || is_word(name, |c| c.is_ascii_lowercase() || c == '-'))
            .then_some(name)?;
        return Some(Grant::Namespace(name.to_owned()));
    }
    let (foreign, text) = match text.strip_prefix(FOREIGN) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (verb, kind) = text.split_once(':')?;
    let (verb, _) = Verb::WORDS.into_iter().find(|(_, word)| *word == verb)?;
    let kind = is_word(kind, |c| c.is_ascii_alphabetic() || c == '-' || c == '.')
        .then(|| kind.to_owned())?;
    Some(if foreign { Grant::ForeignObjects(verb, kind) } else { Grant::Objects(verb, kind) })
}

fn is_word(text: &str, letter: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || letter(c))
}

/// There is no such grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no grant `{0}`")]
pub struct UnknownGrant(pub String);

impl FromStr for Grant {
    type Err = UnknownGrant;

    fn from_str(text: &str) -> Result<Self, UnknownGrant> {
        if let Some(source) = text.strip_prefix(BINDS) {
            return bind_source(source)
                .map(Self::Binds)
                .ok_or_else(|| UnknownGrant(text.to_owned()));
        }
        if let Some(rest) = text.strip_prefix(CLUSTER) {
            return cluster_grant(rest).ok_or_else(|| UnknownGrant(text.to_owned()));
        }
        Ok(match text {
            "containers:privileged" => Self::Privileged,
            "containers:host-network" => Self::HostNetwork,
            "containers:host-pid" => Self::HostPid,
            "containers:capabilities" => Self::Capabilities,
            "containers:security-options" => Self::SecurityOptions,
            "containers:log-drivers" => Self::LogDrivers,
            "containers:foreign" => Self::Foreign,
            "images:remove" => Self::RemoveImages,
            "images:build" => Self::BuildImages,
            "images:commit" => Self::CommitImages,
            "images:tag" => Self::TagImages,
            "images:push" => Self::PushImages,
            unknown => return Err(UnknownGrant(unknown.to_owned())),
        })
    }
}

impl Grant {
    /// Whether having this grant is having `needed`.
    ///
    /// A path covers itself only. The machine follows links in the source of a bind, so whoever can write below a path and bind what is below it reaches every file: that takes
    /// the `/*` that says so. The machine's root has all that is below it, with or without.
    #[must_use]
    pub fn covers(&self, needed: &Self) -> bool {
        match (self, needed) {
            (Self::Binds(have), Self::Binds(path)) if have.starts_with('/') => {
                let folder = if have == "/" { Some("") } else { have.strip_suffix("/*") };
                let below = |folder| path.strip_prefix(folder);
                have == path
                    || folder
                        .and_then(below)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            // Whoever has those of others has his own.
            (
                Self::Objects(have, kind) | Self::ForeignObjects(have, kind),
                Self::Objects(verb, of),
            )
            | (Self::ForeignObjects(have, kind), Self::ForeignObjects(verb, of)) => {
                have.covers(*verb) && kind == of
            }
            (Self::Namespace(have), Self::Namespace(name)) => have == "*" || have == name,
            _ => self == needed,
        }
    }
}

/// What a plugin asked for and what the operator allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    asked: BTreeSet<Grant>,
    allowed: BTreeSet<Grant>,
}

/// A refusal: the grant that is missing, and who is missing it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The plugin's description does not ask for it.
    #[error("the grant `{0}` is needed, and the plugin does not ask for it")]
    NotAsked(Grant),
    /// The plugin asks, the operator did not allow it.
    #[error("the grant `{0}` is needed, and the operator did not give it")]
    NotGranted(Grant),
}

impl Grants {
    /// What a plugin asked for and what the operator allowed.
    #[must_use]
    pub fn new(
        asked: impl IntoIterator<Item = Grant>,
        allowed: impl IntoIterator<Item = Grant>,
    ) -> Self {
        Self { asked: asked.into_iter().collect(), allowed: allowed.into_iter().collect() }
    }

    /// Whether a right is in force.
    ///
    /// # Errors
    /// Which grant is missing, and who is missing it.
    pub fn check(&self, needed: &Grant) -> Result<(), Denial> {
        if !self.asked.iter().any(|grant| grant.covers(needed)) {
            return Err(Denial::NotAsked(needed.clone()));
        }
        if !self.allowed.iter().any(|grant| grant.covers(needed)) {
            return Err(Denial::NotGranted(needed.clone()));
        }
        Ok(())
    }
}

/// The grants that making this container needs, where the operator configured these `logs` for units.
///
/// What no grant of its own covers falls under the nearest wider one: another network than the engine's default under `containers:host-network`, a container that the kernel
/// should spare under `containers:privileged`.
#[must_use]
pub fn needed(spec: &ContainerSpec, logs: &LogConfig) -> Vec<Grant> {
    let host = &spec.host_config;
    let mut needed = BTreeSet::new();
    if host.privileged || host.oom_score_adj < 0 {
        needed.insert(Grant::Privileged);
    }
    match host.network_mode.as_str() {
        "" | "default" | "bridge" | "none" => {}
        mode if is_anothers(mode) => {
            needed.insert(Grant::Foreign);
        }
        _ => {
            needed.insert(Grant::HostNetwork);
        }
    }
    match host.pid_mode.as_str() {
        "" => {}
        mode if is_anothers(mode) => {
            needed.insert(Grant::Foreign);
        }
        _ => {
            needed.insert(Grant::HostPid);
        }
    }
    // A bind without a colon is an anonymous volume: nobody else's.
    let binds = host.binds.iter().filter_map(|bind| Some(bind.split_once(':')?.0));
    for source in binds {
        needed.insert(Grant::Binds(bind_source(source).unwrap_or_else(|| "/".to_owned())));
    }
    if !host.cap_add.is_empty() {
        needed.insert(Grant::Capabilities);
    }
    if !host.security_opt.is_empty() {
        needed.insert(Grant::SecurityOptions);
    }
    if host.log_config.as_ref().is_some_and(|log| log != logs && !stays_with_engine(log)) {
        needed.insert(Grant::LogDrivers);
    }
    needed.into_iter().collect()
}

/// Whether logs go nowhere but into files of the engine's own, or where the engine sends all logs.
///
/// A list of drivers that do, not of options that do not: the engine reads addresses in more ways than one, some drivers reach the machine without any, and others read files of it.
fn stays_with_engine(log: &LogConfig) -> bool {
    match log.driver.as_str() {
        "json-file" | "local" | "none" => true,
        // Options alone change the engine's own driver, whichever it is.
        "" => log.options.is_empty(),
        _ => false,
    }
}

/// Whether a mode means what another container has.
fn is_anothers(mode: &str) -> bool {
    mode.starts_with("container:")
}

/// A path in its shortest form, or the name of a volume; none for what is empty or climbs with `..`, where only the machine knows the end.
fn bind_source(source: &str) -> Option<String> {
    if !source.starts_with('/') {
        return (!source.is_empty()).then(|| source.to_owned());
    }
    let parts: Vec<&str> =
        source.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    (!parts.contains(&"..")).then(|| format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::LogConfig;

    const ALL: [&str; 18] = [
        "containers:privileged",
        "containers:host-network",
        "containers:host-pid",
        "containers:binds:/data",
        "containers:capabilities",
        "containers:security-options",
        "containers:log-drivers",
        "containers:foreign",
        "images:remove",
        "images:build",
        "images:commit",
        "images:tag",
        "images:push",
        "cluster:read:Pod",
        "cluster:*:Deployment.apps",
        "cluster:foreign:write:Node",
        "cluster:namespace:shop-1",
        "cluster:namespace:*",
    ];

    fn grant(text: &str) -> Grant {
        text.parse().unwrap()
    }

    fn needs(edit: impl FnOnce(&mut ContainerSpec)) -> Vec<String> {
        let mut spec = ContainerSpec::default();
        edit(&mut spec);
        needed(&spec, &LogConfig::default()).iter().map(Grant::to_string).collect()
    }

    #[test]
    fn every_grant_reads_as_it_is_written() {
        for text in ALL {
            assert_eq!(grant(text).to_string(), text);
        }
        for text in [
            "",
            "containers",
            "containers:binds",
            "containers:binds:",
            "Images:push",
            "cluster:",
            "cluster:read",
            "cluster:read:",
            "cluster:eat:Pod",
            "cluster:read:Pod:x",
            "cluster:foreign:Pod",
            "cluster:namespace:",
            "cluster:namespace:Shop",
        ] {
            assert_eq!(text.parse::<Grant>(), Err(UnknownGrant(text.to_owned())));
        }
        assert_eq!(grant("containers:binds://data/./x/").to_string(), "containers:binds:/data/x");
        assert!("containers:binds:/data/../etc".parse::<Grant>().is_err());
    }

    #[test]
    fn a_path_covers_itself_and_what_is_below_it_only_when_it_says_so() {
        for (have, need, covered) in [
            ("containers:privileged", "containers:privileged", true),
            ("containers:privileged", "containers:host-network", false),
            ("containers:binds:/data", "containers:binds:/data", true),
            ("containers:binds:/data/", "containers:binds:/data", true),
            ("containers:binds:/data", "containers:binds:/data/x", false),
            ("containers:binds:/data", "containers:binds:/data/*", false),
            ("containers:binds:/data", "containers:binds:/database", false),
            ("containers:binds:/data/*", "containers:binds:/data", true),
            ("containers:binds:/data/*", "containers:binds:/data/x/y", true),
            ("containers:binds:/data/*", "containers:binds:/data/x/*", true),
            ("containers:binds:/data/*", "containers:binds:/data/*", true),
            ("containers:binds:/data/*", "containers:binds:/database", false),
            ("containers:binds:/data/*", "containers:binds:/", false),
            ("containers:binds:/data*", "containers:binds:/database", false),
            ("containers:binds:/*", "containers:binds:/", true),
            ("containers:binds:/*", "containers:binds:/etc/passwd", true),
            ("containers:binds:/*", "containers:binds:volume", false),
            ("containers:binds:volume/*", "containers:binds:volume/x", false),
            ("containers:binds:/data/x", "containers:binds:/data", false),
            ("containers:binds:/", "containers:binds:/etc/passwd", true),
            ("containers:binds:/", "containers:binds:/", true),
            ("containers:binds:/", "containers:binds:volume", false),
            ("containers:binds:volume", "containers:binds:volume", true),
            ("containers:binds:volume", "containers:binds:volume2", false),
        ] {
            assert_eq!(grant(have).covers(&grant(need)), covered, "{have} {need}");
        }
    }

    #[test]
    fn a_verb_covers_itself_and_what_is_anybodys_covers_what_is_ones_own() {
        for (have, need, covered) in [
            ("cluster:read:Pod", "cluster:read:Pod", true),
            ("cluster:read:Pod", "cluster:write:Pod", false),
            ("cluster:read:Pod", "cluster:read:Secret", false),
            ("cluster:read:Deployment.apps", "cluster:read:Deployment.acme", false),
            ("cluster:*:Pod", "cluster:exec:Pod", true),
            ("cluster:*:Pod", "cluster:foreign:read:Pod", false),
            ("cluster:foreign:read:Pod", "cluster:read:Pod", true),
            ("cluster:foreign:read:Pod", "cluster:write:Pod", false),
            ("cluster:foreign:*:Node", "cluster:foreign:write:Node", true),
            ("cluster:namespace:a", "cluster:namespace:a", true),
            ("cluster:namespace:a", "cluster:namespace:b", false),
            ("cluster:namespace:*", "cluster:namespace:b", true),
        ] {
            assert_eq!(grant(have).covers(&grant(need)), covered, "{have} {need}");
        }
    }

    #[test]
    fn a_right_needs_the_question_and_the_permission() {
        let data = grant("containers:binds:/data");
        let inner = grant("containers:binds:/data/in");
        let asked = grant("containers:binds:/data/*");
        let grants = Grants::new([asked, grant("images:push")], [inner.clone()]);
        assert_eq!(grants.check(&inner), Ok(()));
        assert_eq!(grants.check(&data), Err(Denial::NotGranted(data.clone())));
        assert_eq!(
            grants.check(&grant("images:tag")).unwrap_err().to_string(),
            "the grant `images:tag` is needed, and the plugin does not ask for it"
        );
        assert_eq!(
            grants.check(&grant("images:push")).unwrap_err().to_string(),
            "the grant `images:push` is needed, and the operator did not give it"
        );
        assert!(Grants::default().check(&data).is_err());
        assert!(Grants::new([], [data.clone()]).check(&data).is_err());
    }

    #[test]
    fn a_plain_container_needs_nothing() {
        assert!(
            needs(|spec| {
                "root".clone_into(&mut spec.user);
                "bridge".clone_into(&mut spec.host_config.network_mode);
                spec.host_config.oom_score_adj = 1000;
                spec.host_config.cap_drop.push("ALL".to_owned());
                spec.host_config.binds.push("/anonymous".to_owned());
            })
            .is_empty()
        );
    }

    #[test]
    fn what_reaches_the_machine_needs_a_grant() {
        let privileged = needs(|spec| spec.host_config.privileged = true);
        assert_eq!(privileged, ["containers:privileged"]);
        assert_eq!(needs(|spec| spec.host_config.oom_score_adj = -1), ["containers:privileged"]);
        let capable = needs(|spec| spec.host_config.cap_add.push("NET_ADMIN".to_owned()));
        assert_eq!(capable, ["containers:capabilities"]);
        let opted = needs(|spec| spec.host_config.security_opt.push("x".to_owned()));
        assert_eq!(opted, ["containers:security-options"]);
        for (mode, grant) in [
            ("host", "containers:host-network"),
            ("somebodys-network", "containers:host-network"),
            ("container:abc", "containers:foreign"),
        ] {
            let needed = needs(|spec| mode.clone_into(&mut spec.host_config.network_mode));
            assert_eq!(needed, [grant], "{mode}");
        }
        for (mode, grant) in
            [("host", "containers:host-pid"), ("container:abc", "containers:foreign")]
        {
            let needed = needs(|spec| mode.clone_into(&mut spec.host_config.pid_mode));
            assert_eq!(needed, [grant], "{mode}");
        }
    }

    #[test]
    fn a_bind_needs_its_source() {
        for (bind, grant) in [
            ("/data/a:/b:ro", "containers:binds:/data/a"),
            ("/data//a/./:/b", "containers:binds:/data/a"),
            ("/data/../etc:/b", "containers:binds:/"),
            ("/:/b", "containers:binds:/"),
            ("volume:/b", "containers:binds:volume"),
            (":/b", "containers:binds:/"),
        ] {
            let needed = needs(|spec| spec.host_config.binds.push(bind.to_owned()));
            assert_eq!(needed, [grant], "{bind}");
        }
    }

    fn log(driver: &str, options: &[(&str, &str)]) -> LogConfig {
        let options = options.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        LogConfig { driver: driver.to_owned(), options: options.collect() }
    }

    #[test]
    fn logs_that_leave_the_engine_need_a_grant_however_the_address_is_spelled() {
        let asked = |log: LogConfig| needs(|spec| spec.host_config.log_config = Some(log));
        let syslog = |address: &str| asked(log("syslog", &[("syslog-address", address)]));
        for address in [
            "unix:///run/docker.sock",
            "unix:/run/docker.sock",
            "UNIX:///run/docker.sock",
            "unix:///run/%2e%2e/x",
            "unixgram:///dev/log",
            "udp://localhost:1514",
        ] {
            assert_eq!(syslog(address), ["containers:log-drivers"], "{address}");
        }
        for elsewhere in [
            // Without an address it is the machine's own.
            log("syslog", &[]),
            log("journald", &[]),
            log("fluentd", &[("fluentd-address", "unix:///run/x.sock")]),
            log("JSON-FILE", &[]),
            log("", &[("syslog-address", "unix:///run/x.sock")]),
        ] {
            assert_eq!(asked(elsewhere.clone()), ["containers:log-drivers"], "{elsewhere:?}");
        }
        for here in [
            log("json-file", &[("max-size", "1m")]),
            log("local", &[]),
            log("none", &[]),
            log("", &[]),
        ] {
            assert!(asked(here.clone()).is_empty(), "{here:?}");
        }
    }

    #[test]
    fn the_log_driver_that_the_operator_configured_needs_nothing_as_it_is() {
        let configured = log("syslog", &[("syslog-address", "udp://localhost:1514")]);
        let needs = |log: LogConfig| {
            let mut spec = ContainerSpec::default();
            spec.host_config.log_config = Some(log);
            needed(&spec, &configured)
        };
        assert_eq!(needs(configured.clone()), []);
        let elsewhere = log("syslog", &[("syslog-address", "udp://localhost:1515")]);
        for other in [log("syslog", &[]), elsewhere] {
            assert_eq!(needs(other), [Grant::LogDrivers]);
        }
    }
}

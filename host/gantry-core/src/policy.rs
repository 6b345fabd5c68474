//! What a plugin may do beyond its own containers, keys and apps: grants, and which of them a container needs.
//!
//! A grant is in force only when the plugin asked for it in its description and the operator allowed it. A refusal names the grant and who is missing it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::container::ContainerSpec;

/// A right beyond the plugin's own containers, keys and apps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grant {
    /// `containers:privileged`: containers with everything the machine has.
    Privileged,
    /// `containers:host-network`: containers in the machine's network.
    HostNetwork,
    /// `containers:host-pid`: containers that see the machine's processes.
    HostPid,
    /// `containers:binds:<path prefix>`: the machine's files under a path, or a named volume.
    Binds(String),
    /// `containers:capabilities`: kernel capabilities on top of the engine's default.
    Capabilities,
    /// `containers:security-options`: security options.
    SecurityOptions,
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
}

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
            Self::Foreign => "containers:foreign",
            Self::RemoveImages => "images:remove",
            Self::BuildImages => "images:build",
            Self::CommitImages => "images:commit",
            Self::TagImages => "images:tag",
            Self::PushImages => "images:push",
        })
    }
}

/// There is no such grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no grant `{0}`")]
pub struct UnknownGrant(pub String);

impl FromStr for Grant {
    type Err = UnknownGrant;

    fn from_str(text: &str) -> Result<Self, UnknownGrant> {
        if let Some(path) = text.strip_prefix(BINDS).filter(|path| !path.is_empty()) {
            return Ok(Self::Binds(path.to_owned()));
        }
        Ok(match text {
            "containers:privileged" => Self::Privileged,
            "containers:host-network" => Self::HostNetwork,
            "containers:host-pid" => Self::HostPid,
            "containers:capabilities" => Self::Capabilities,
            "containers:security-options" => Self::SecurityOptions,
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
    #[must_use]
    pub fn covers(&self, needed: &Self) -> bool {
        match (self, needed) {
            (Self::Binds(prefix), Self::Binds(path)) => {
                let prefix = prefix.trim_end_matches('/');
                path.strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
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

/// The grants that making this container needs.
#[must_use]
pub fn needed(spec: &ContainerSpec) -> Vec<Grant> {
    let host = &spec.host_config;
    let mut needed = Vec::new();
    if host.privileged {
        needed.push(Grant::Privileged);
    }
    if host.network_mode == "host" {
        needed.push(Grant::HostNetwork);
    }
    if host.pid_mode == "host" {
        needed.push(Grant::HostPid);
    }
    if host.network_mode.starts_with("container:") || host.pid_mode.starts_with("container:") {
        needed.push(Grant::Foreign);
    }
    for bind in &host.binds {
        let source = bind.split(':').next().unwrap_or_default();
        needed.push(Grant::Binds(source.to_owned()));
    }
    if !host.cap_add.is_empty() {
        needed.push(Grant::Capabilities);
    }
    if !host.security_opt.is_empty() {
        needed.push(Grant::SecurityOptions);
    }
    needed
}

//! Node containers: what runs once on every node.

use gantry_core::node::NodeContainerEntry;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A node container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeContainerInfo {
    /// Its name.
    pub name: String,
    /// What it is, by pool and, where their configurations differ, by provisioner.
    pub entries: Vec<NodeContainerOfPool>,
}

/// What a node container is in a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeContainerOfPool {
    /// The pool; empty for every one without an entry of its own.
    pub pool: String,
    /// The provisioner whose configuration has it; empty when people added it, for all of them.
    pub provisioner: String,
    /// When people added or changed it last; empty for what only a configuration has.
    pub changed: String,
    /// What it is.
    pub entry: NodeContainerEntry,
}

/// A node container to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewNodeContainer {
    /// Its name.
    pub name: String,
    /// The pool; empty for every one without an entry of its own.
    pub pool: String,
    /// What it is, as a configuration has it.
    pub entry: Value,
    /// Whether nothing is started: an upgrade does it later.
    pub no_start: bool,
}

/// A change of a node container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeContainerChange {
    /// The pool; empty for every one without an entry of its own.
    pub pool: String,
    /// What differs, as a merge patch (RFC 7386).
    pub entry: Value,
    /// Whether nothing is started anew: an upgrade does it later.
    pub no_start: bool,
}

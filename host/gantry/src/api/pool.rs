//! Pools: named groups of nodes, each with its provisioner.

use serde::{Deserialize, Serialize};

/// A pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its provisioner.
    pub provisioner: String,
    /// Whether it is the pool of an app that names none.
    pub default: bool,
    /// Whether the configuration has it; those it has cannot be removed by a request.
    pub configured: bool,
    /// How many apps live in it.
    pub apps: usize,
}

/// A pool to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewPool {
    /// Its name.
    pub name: String,
    /// Its provisioner.
    pub provisioner: String,
}

//! Volumes: storage that outlives the units of an app.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Its plan, which the configuration describes.
    pub plan: String,
    /// The team that owns it.
    pub team_owner: String,
    /// What its owner says of it, beyond the plan.
    pub options: BTreeMap<String, String>,
    /// The apps that have it, and where.
    pub binds: Vec<VolumeBind>,
    /// When it was made.
    pub created: String,
}

/// Where an app has a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeBind {
    /// The app.
    pub app: String,
    /// The folder in its units.
    pub mount_point: String,
    /// Whether they may only read it.
    #[serde(default)]
    pub read_only: bool,
}

/// A volume to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewVolume {
    /// Its name.
    pub name: String,
    /// Its plan.
    pub plan: String,
    /// Its pool; the configured default when empty.
    pub pool: String,
    /// The team that owns it; `admin` when empty.
    pub team_owner: String,
    /// What its owner says of it, beyond the plan.
    pub options: BTreeMap<String, String>,
}

/// A bind to be made or undone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BindChange {
    /// The app.
    pub app: String,
    /// The folder in its units.
    pub mount_point: String,
    /// Whether they may only read it.
    pub read_only: bool,
    /// Whether the units go on as they are; new ones are as asked.
    pub no_restart: bool,
}

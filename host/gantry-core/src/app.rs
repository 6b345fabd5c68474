//! What a provisioner sees of an app.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a provisioner sees of an app. The verbs on an app (bind, quota) belong to the platform, not to this record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Lower case letters, digits and dashes, starting with a letter.
    pub name: String,
    /// The platform the app was made for; the type of its units.
    pub platform: String,
    /// The pool whose nodes run the app.
    pub pool: String,
    /// The team that owns the app.
    pub team_owner: String,
    /// Deploys finished so far.
    pub deploys: u32,
    /// Memory of one unit in bytes; 0 is no limit.
    pub memory: i64,
    /// Swap of one unit in bytes, on top of the memory.
    pub swap: i64,
    /// Relative weight of the CPU; 0 leaves the engine's default.
    pub cpu_share: i32,
    /// Whether the next build starts from the platform's image.
    pub update_platform: bool,
}

/// One variable of an app's environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether people may see the value.
    pub public: bool,
}

/// A router an app is reached through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRouter {
    /// Its name.
    pub name: String,
    /// Its options for this app.
    pub options: BTreeMap<String, String>,
    /// Where it answers for this app; empty while unknown.
    pub address: String,
    /// The kind of router; empty while unknown.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its state; empty while unknown.
    pub status: String,
    /// More about its state.
    pub status_detail: String,
}

//! What is known of an image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is known of an image (spec 5.13).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMetadata {
    /// The processes it declares: name to command. One item is a shell line, several are a program and its arguments.
    pub processes: BTreeMap<String, Vec<String>>,
    /// The port its web process listens on (`8080/tcp`); empty for the platform's default.
    pub exposed_port: String,
    /// Commands around the life of units.
    pub hooks: Hooks,
    /// How a new unit shows that it works.
    pub healthcheck: Healthcheck,
    /// Whether returning to this image is forbidden.
    pub disable_rollback: bool,
    /// Why it is.
    pub reason: String,
}

/// Commands around the life of units (`hooks` of tsuru.yaml).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// Around the start of a unit.
    pub restart: RestartHooks,
    /// When an image is built.
    pub build: Vec<String>,
}

/// Commands around the start of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartHooks {
    /// Run in the unit before its process, each time it starts.
    pub before: Vec<String>,
    /// Run in the unit once its process runs.
    pub after: Vec<String>,
}

/// How a new unit shows that it works (`healthcheck` of tsuru.yaml).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// The path asked for; no check when empty.
    pub path: String,
    /// The method; GET when empty.
    pub method: String,
    /// The status expected; see the health check rule.
    pub status: i32,
    /// `http` or `https`; `http` when empty.
    pub scheme: String,
    /// A regular expression to be found in the body.
    #[serde(rename = "match")]
    pub pattern: String,
    /// What the router looks for in the body.
    pub router_body: String,
    /// Whether the router uses the check too.
    pub use_in_router: bool,
    /// Wrong answers that are forgiven.
    pub allowed_failures: i32,
}

//! Units: the running copies of apps, and what they come to.

use gantry_core::Unit;
use serde::{Deserialize, Serialize};

use super::Problem;

/// The units of every app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitList {
    /// The units, by app.
    pub items: Vec<Unit>,
    /// Why some of them may be missing: the pools whose units could not be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// Units to be added or removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitCount {
    /// How many.
    pub count: u32,
    /// Of which process; the only one when empty.
    #[serde(default)]
    pub process: String,
}

/// How a unit is ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnitKill {
    /// Whether it is not asked to end by itself first.
    pub force: bool,
}

/// What is going on with an app, by its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppState {
    /// Nothing was deployed.
    New,
    /// A unit runs, or was started and has not said yet that it does.
    Running,
    /// Units are made, and none was started yet.
    Starting,
    /// Its units are stopped, until somebody starts them.
    Stopped,
    /// Its units sleep, until somebody starts them.
    Asleep,
    /// No unit runs, and one has failed.
    Error,
    /// It was deployed and has no units.
    Empty,
}

impl AppState {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Stopped => "stopped",
            Self::Asleep => "asleep",
            Self::Error => "error",
            Self::Empty => "empty",
        }
    }
}

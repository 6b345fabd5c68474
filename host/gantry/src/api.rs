//! What goes over the wire between the daemon and whoever asks it: the resources under `/v1`.
//!
//! The daemon writes these shapes and the command line reads the very same ones. Times are RFC 3339 text in UTC. A field is never taken away nor given another meaning within
//! `/v1`; readers ignore the fields they do not know.

mod cluster;
mod node;
mod node_container;
mod plan;
mod pool;
mod problem;
mod route;
mod service;
pub mod shell;
mod unit;
mod volume;

use std::collections::BTreeMap;

use gantry_core::{AppRouter, Unit};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use cluster::{Cluster, ClusterChange, NewCluster, Secret};
pub use node::{
    NewNode, NodeChange, NodeHealth, NodeInfo, NodeList, NodeRemoval, PoolChoice, Rebalance,
    ReportedUnit,
};
pub use node_container::{
    NewNodeContainer, NodeContainerChange, NodeContainerInfo, NodeContainerOfPool,
};
pub use plan::{NewPlan, Plan, PlanChoice, PlanInfo, Quota, QuotaChange, UnitLimit, Unlimited};
pub use pool::{NewPool, Pool};
pub use problem::{Holder, Problem, ProblemKind};
pub use route::{AppRoutes, Router, RouterInfo, RoutesChanged, RoutingTable, Swap};
pub use service::{NewService, Service, ServiceBind, ServiceBindChange, ServiceChange};
pub use unit::{AppState, UnitCount, UnitKill, UnitList};
pub use volume::{BindChange, NewVolume, Volume, VolumeBind};

/// The header with the arguments of a build, a JSON object in base64. They are in no URL: those are written down on the way.
pub const BUILD_ARGS: &str = "gantry-build-args";

/// An app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Its name.
    pub name: String,
    /// Its platform.
    pub platform: String,
    /// Its pool.
    pub pool: String,
    /// The provisioner of its pool.
    pub provisioner: String,
    /// The team that owns it.
    pub team_owner: String,
    /// What each unit may use.
    pub plan: Plan,
    /// How many units it may have; none for as many as wanted.
    pub unit_quota: Option<u32>,
    /// How many units it uses.
    pub units_in_use: u32,
    /// How often it was deployed.
    pub deploys: u32,
    /// The image that runs; none before the first deploy.
    pub image: Option<String>,
    /// Its routers, in order.
    pub routers: Vec<AppRouter>,
    /// When it was made.
    pub created: String,
}

/// The apps, or those with units of some statuses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppList {
    /// The apps, by name.
    pub items: Vec<App>,
    /// Why some of them may be missing: the provisioners that could not tell how their units are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// An app with what runs of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppInfo {
    /// The app.
    #[serde(flatten)]
    pub app: App,
    /// What is going on with its units; none when the provisioner could not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<AppState>,
    /// Its units; none when the provisioner could not tell.
    pub units: Option<Vec<Unit>>,
    /// Where its web process answers.
    pub addresses: Vec<String>,
    /// The services that it is bound to.
    #[serde(default)]
    pub services: Vec<String>,
    /// The routes to it, by router.
    #[serde(default)]
    pub routes: Vec<AppRoutes>,
    /// The images that can be returned to, oldest first.
    pub images: Vec<String>,
    /// The newest operations on it.
    pub operations: Vec<Operation>,
    /// Why the units are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// An app to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewApp {
    /// Its name.
    pub name: String,
    /// Its platform; `static` when empty.
    pub platform: String,
    /// Its pool; the configured default when empty.
    pub pool: String,
    /// The team that owns it; `admin` when empty.
    pub team_owner: String,
    /// What each unit may use.
    pub plan: PlanChoice,
    /// How many units it may have; none for as many as wanted.
    pub unit_quota: Option<u32>,
    /// Its routers; the configured default when not said.
    pub routers: Option<Vec<String>>,
}

/// A change of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AppChange {
    /// Its new pool; empty to leave it where it is.
    pub pool: String,
    /// What its units may use from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanChoice>,
    /// Routers that it gets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_routers: Vec<String>,
    /// Routers that it has no more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_routers: Vec<String>,
}

/// How an app is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AppRemoval {
    /// Whether it is forgotten also when its units cannot be removed.
    pub force: bool,
}

/// A deploy, or the return to an image deployed before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// The image; for a rollback the end of its name is enough.
    pub image: String,
}

/// What a start, a stop or a restart is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessChoice {
    /// Which process; every one when empty.
    pub process: String,
}

/// A change of an app's environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnvChange {
    /// Variables to set.
    pub set: BTreeMap<String, String>,
    /// Variables to remove.
    pub unset: Vec<String>,
    /// Whether the values set are kept from people.
    pub private: bool,
    /// Whether the units go on with the environment they have.
    pub no_restart: bool,
}

/// A variable of an app's environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value; none when it is private.
    pub value: Option<String>,
    /// Whether people may see the value.
    pub public: bool,
    /// The service that gives it, in place of what people set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// A command to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The program and its arguments, or one shell line.
    pub command: Vec<String>,
    /// Where.
    #[serde(default)]
    pub mode: RunMode,
}

/// Where a command runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunMode {
    /// In every unit, one after the other.
    #[default]
    All,
    /// In one unit.
    Once,
    /// In a unit of its own, which is gone afterwards.
    Isolated,
}

/// What a change answers at once: it goes on whether or not the caller stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The operation that does it.
    pub operation: String,
    /// Where to follow it.
    pub events: String,
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationState {
    /// Under way.
    Running,
    /// It ended well.
    Done,
    /// It failed.
    Failed,
    /// Somebody asked it to stop, and it did.
    Cancelled,
    /// The daemon ended before it did.
    Interrupted,
}

impl OperationState {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    /// The state of a word; what nobody knows has failed.
    pub(crate) fn of(word: &str) -> Self {
        [Self::Running, Self::Done, Self::Cancelled, Self::Interrupted]
            .into_iter()
            .find(|state| state.word() == word)
            .unwrap_or(Self::Failed)
    }
}

/// One request that changes something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id; later ones sort after earlier ones.
    pub id: String,
    /// What is done: `deploy`, `unit-add` …
    pub verb: String,
    /// To which app.
    pub app: Option<String>,
    /// With which provisioner.
    pub plugin: Option<String>,
    /// The digest of its plugin.
    pub digest: Option<String>,
    /// For whom.
    pub who: String,
    /// What was asked.
    pub detail: Value,
    /// Where it is.
    pub state: OperationState,
    /// When it began.
    pub began: String,
    /// When it ended.
    pub ended: Option<String>,
    /// Why it failed.
    pub problem: Option<Problem>,
    /// What it gave.
    pub result: Option<Value>,
}

/// An operation with what it told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationInfo {
    /// The operation.
    #[serde(flatten)]
    pub operation: Operation,
    /// Its progress so far.
    pub lines: Vec<Line>,
}

/// A line that an operation told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When.
    pub at: String,
    /// What.
    pub text: String,
}

/// A line of a unit's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The unit.
    pub unit: String,
    /// Its process.
    pub process: String,
    /// `stdout` or `stderr`.
    pub source: String,
    /// The line; bytes that are no text are replaced.
    pub text: String,
}

/// Bytes that a command wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOutput {
    /// The bytes, in hexadecimal: a command may write what is no text.
    pub hex: String,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// Its exit code.
    pub code: i32,
}

/// A plugin under a provisioner's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// The provisioner's name.
    pub name: String,
    /// The digest of the plugin.
    pub digest: String,
    /// The plugin's own name for itself.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// What it is, one line.
    pub summary: String,
    /// What the file was called when it was installed.
    pub file: String,
    /// Since when it serves.
    pub since: String,
    /// Why it does not serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// A plugin, looked into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginInfo {
    /// The plugin; its name is empty while it is not installed.
    #[serde(flatten)]
    pub plugin: Plugin,
    /// The interfaces of `gantry:provision` it exports.
    pub interfaces: Vec<String>,
    /// The interfaces it imports: what it can reach at all.
    pub imports: Vec<String>,
    /// The rights it asks for.
    pub grants: Vec<Grant>,
    /// Its bounds.
    pub bounds: Vec<Bound>,
}

/// A right of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The right.
    pub grant: String,
    /// Whether the plugin asks for it, and what for.
    pub asked: Option<String>,
    /// Whether the operator granted it.
    pub granted: bool,
    /// Whether it is in force: asked and granted.
    pub in_force: bool,
}

/// A bound of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Its name, as the configuration spells it.
    pub name: String,
    /// Its value, with its unit.
    pub value: String,
    /// What it bounds.
    pub meaning: String,
}

/// What the daemon is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The version of Gantry.
    pub version: String,
    /// The id of this installation.
    pub instance: String,
}

/// A list of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Items<T> {
    /// The resources.
    pub items: Vec<T>,
}

//! Routers and what they route.

use gantry_core::yaml::RouterHealthcheck;
use serde::{Deserialize, Serialize};

/// A router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// Its name.
    pub name: String,
    /// Its kind: `table`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it puts behind the name of an app; empty while nobody can tell.
    pub domain: String,
    /// Whether it looks whether units work.
    pub healthcheck: bool,
    /// Whether it is that of an app that names none.
    pub default: bool,
    /// How many apps it has.
    pub apps: u32,
    /// How many routes it has, of all of them.
    pub routes: u32,
}

/// A router with what it routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterInfo {
    /// The router.
    #[serde(flatten)]
    pub router: Router,
    /// The routes to its apps, by app.
    pub items: Vec<AppRoutes>,
}

/// The routing table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingTable {
    /// It grows with every change of the table.
    pub generation: u64,
    /// The routes, by router and app.
    pub items: Vec<AppRoutes>,
}

/// The routes to an app on one of its routers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRoutes {
    /// The router.
    pub router: String,
    /// The app.
    pub app: String,
    /// Under which name the router serves it: its own, or that of the app it is swapped with.
    pub name: String,
    /// Where it answers: the name with the router's domain; empty while nobody can tell.
    pub address: String,
    /// The app it is swapped with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swapped_with: Option<String>,
    /// Where its units are, in the order in which they came.
    pub addresses: Vec<String>,
    /// How the router finds out whether they work; none while nobody has said how.
    pub healthcheck: Option<RouterHealthcheck>,
    /// The generation of the table in which this changed last.
    pub generation: u64,
    /// When.
    pub changed: String,
}

/// The routing table has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesChanged {
    /// Its generation.
    pub generation: u64,
}

/// Which app another one is swapped with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// The other app.
    pub other: String,
}

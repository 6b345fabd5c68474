//! Calls about the routes to apps.

use gantry_core::yaml::RouterHealthcheck;
use serde::{Deserialize, Serialize};

/// A call about the routes to an app on one of its routers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoutersCall {
    /// Add addresses.
    AddRoutes {
        /// The router.
        router: String,
        /// The app.
        app: String,
        /// The addresses.
        addresses: Vec<String>,
    },
    /// Remove addresses.
    RemoveRoutes {
        /// The router.
        router: String,
        /// The app.
        app: String,
        /// The addresses.
        addresses: Vec<String>,
    },
    /// The addresses.
    Routes {
        /// The router.
        router: String,
        /// The app.
        app: String,
    },
    /// Exchange the names of two apps.
    Swap {
        /// The router.
        router: String,
        /// The one.
        app: String,
        /// The other.
        other: String,
    },
    /// Say how the router finds out whether units work.
    SetHealthcheck {
        /// The router.
        router: String,
        /// The app.
        app: String,
        /// How.
        healthcheck: RouterHealthcheck,
    },
}

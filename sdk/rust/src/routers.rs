//! The routes to an app: at which addresses each of its routers reaches its units.
//!
//! After every change of an app the host makes its routes those of `routable_addresses`. A provisioner that never calls this is routed all the same; one that does decides
//! *when*: new units get requests before old ones lose theirs.

pub use gantry_core::yaml::RouterHealthcheck;

use crate::Result;
use crate::bindings::gantry::provision::routers as imported;

/// Adds addresses (`http://host:port`) after those that are there, in their order. Twice is as good as once.
///
/// # Errors
///
/// The app has no such router, or one of the addresses cannot be a route; then none is added.
pub fn add_routes(router: &str, app: &str, addresses: &[String]) -> Result<()> {
    Ok(imported::add_routes(router, app, addresses)?)
}

/// Removes addresses. Removing what is not there succeeds: twice is as good as once.
///
/// # Errors
///
/// The app has no such router.
pub fn remove_routes(router: &str, app: &str, addresses: &[String]) -> Result<()> {
    Ok(imported::remove_routes(router, app, addresses)?)
}

/// The addresses at which the router reaches the app, in their order.
///
/// # Errors
///
/// The app has no such router.
pub fn routes(router: &str, app: &str) -> Result<Vec<String>> {
    Ok(imported::routes(router, app)?)
}

/// Exchanges the names under which the router serves two apps. A second time exchanges them back.
///
/// # Errors
///
/// One of the apps has no such router; `Conflict` when one is exchanged with a third.
pub fn swap(router: &str, app: &str, other: &str) -> Result<()> {
    Ok(imported::swap(router, app, other)?)
}

/// Says how the router finds out whether units of the app work, and whether it does so at all: `false` is no failure, the caller goes on. Twice is as good as once.
///
/// # Errors
///
/// The app has no such router, or there is no such check.
pub fn set_healthcheck(router: &str, app: &str, healthcheck: &RouterHealthcheck) -> Result<bool> {
    let RouterHealthcheck { path, status, body } = healthcheck.clone();
    let healthcheck = imported::RouterHealthcheck { path, status, body };
    Ok(imported::set_healthcheck(router, app, &healthcheck)?)
}

//! What a provisioner asks of the platform about an app, and tells it.

use gantry_core::{App, AppRouter, EnvVar, Unit, Volume};

use crate::Result;
use crate::bindings::gantry::provision::apps as imported;

/// The app with this name.
///
/// # Errors
///
/// There is none, or the platform does not answer.
pub fn get(name: &str) -> Result<App> {
    Ok(imported::get(name)?.into())
}

/// The app's environment: what people set, then what bound services set, then `TSURU_SERVICES`; sorted by name.
///
/// # Errors
///
/// There is no such app, or the platform does not answer.
pub fn envs(name: &str) -> Result<Vec<EnvVar>> {
    Ok(imported::envs(name)?.into_iter().map(EnvVar::from).collect())
}

/// The environment of one unit, in its order, with the platform's own variables. The unit of a deploy gets `TSURU_HOST` only.
///
/// # Errors
///
/// There is no such app, or the platform does not answer.
pub fn unit_envs(name: &str, process: &str, is_deploy: bool) -> Result<Vec<(String, String)>> {
    Ok(imported::unit_envs(name, process, is_deploy)?)
}

/// The routers of the app, in order.
///
/// # Errors
///
/// There is no such app, or the platform does not answer.
pub fn routers(name: &str) -> Result<Vec<AppRouter>> {
    Ok(imported::routers(name)?.into_iter().map(AppRouter::from).collect())
}

/// The volumes that the app has, by name.
///
/// # Errors
///
/// There is no such app, or the platform does not answer.
pub fn volumes(name: &str) -> Result<Vec<Volume>> {
    Ok(imported::volumes(name)?.into_iter().map(Volume::from).collect())
}

/// Tells every service bound to the app about a new unit. When one refuses, those already told are told otherwise. Twice is as good as once.
///
/// # Errors
///
/// A service refused.
pub fn bind_unit(name: &str, unit: &Unit) -> Result<()> {
    Ok(imported::bind_unit(name, &unit.clone().into())?)
}

/// Tells every bound service that a unit is gone. Twice is as good as once.
///
/// # Errors
///
/// The platform does not answer; what a service answers is logged only.
pub fn unbind_unit(name: &str, unit: &Unit) -> Result<()> {
    Ok(imported::unbind_unit(name, &unit.clone().into())?)
}

/// Sets how many units the app uses now: a number, not a difference.
///
/// # Errors
///
/// `QuotaExceeded` when that is more than it may use.
pub fn set_quota_in_use(name: &str, units: i32) -> Result<()> {
    Ok(imported::set_quota_in_use(name, units)?)
}

/// An app that no other request changes. It is free again when this is dropped, and when the call ends in whatever way.
#[must_use = "the app is free again at once"]
#[derive(Debug)]
pub struct Lock {
    _app: imported::AppLock,
}

/// Keeps other requests from changing an app: what a plugin does to the units of apps that its own request does not name needs that first. Waits up to 30 seconds for whoever
/// changes it now. What the request has locked already it is lent.
///
/// # Errors
///
/// `Conflict`, with who changes it, `NotFound`, `Cancelled`, or `InvalidArgument` in a question.
pub fn lock(name: &str) -> Result<Lock> {
    Ok(Lock { _app: imported::lock(name)? })
}

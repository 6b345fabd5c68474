//! What a provisioner may ask of the platform about an app.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use gantry_core::{App, AppRouter, EnvVar, Error, Unit, Volume};

/// The apps of the platform.
#[async_trait]
pub trait Apps: Send + Sync {
    /// The app with this name.
    async fn get(&self, name: &str) -> Result<App, Error>;
    /// Its environment: what people set, then what services set, then `TSURU_SERVICES`, by name.
    async fn envs(&self, name: &str) -> Result<Vec<EnvVar>, Error>;
    /// Its routers, in order.
    async fn routers(&self, name: &str) -> Result<Vec<AppRouter>, Error>;
    /// Its volumes, by name.
    async fn volumes(&self, name: &str) -> Result<Vec<Volume>, Error>;
    /// Tells bound services about a unit.
    async fn bind_unit(&self, name: &str, unit: &Unit) -> Result<(), Error>;
    /// Tells bound services that a unit is gone.
    async fn unbind_unit(&self, name: &str, unit: &Unit) -> Result<(), Error>;
    /// Sets how many units it uses.
    async fn set_quota_in_use(&self, name: &str, units: i32) -> Result<(), Error>;
    /// Locks it against every operation but this one, waiting this long for whoever has it locked; then a `Conflict` tells who that is. What the operation has locked already it is lent.
    async fn lock(&self, name: &str, operation: &str, wait: Duration) -> Result<AppLock, Error>;
}

/// An app that others leave alone; dropping it lets go.
pub struct AppLock {
    _held: Box<dyn Send>,
}

impl AppLock {
    /// A lock that lasts as long as this.
    #[must_use]
    pub fn new(held: impl Send + 'static) -> Self {
        Self { _held: Box::new(held) }
    }
}

impl fmt::Debug for AppLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppLock").finish_non_exhaustive()
    }
}

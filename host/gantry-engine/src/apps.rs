//! What a provisioner may ask of the platform about an app.

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
}

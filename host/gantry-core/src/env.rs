//! The environment of units (spec 3.3).

use std::collections::BTreeMap;

use crate::EnvVar;
use crate::settings::Settings;

/// The port a web process listens on unless the operator says otherwise.
const DEFAULT_PORT: &str = "8888";

/// A variable: name and value.
pub type Variable = (String, String);

/// What the platform itself tells every unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformEnv {
    /// Where the platform answers (`host` of the configuration); may be empty.
    pub host: String,
    /// The port a web process listens on.
    pub port: String,
}

impl PlatformEnv {
    /// Reads the configuration.
    #[must_use]
    pub fn from_settings(settings: &(impl Settings + ?Sized)) -> Self {
        Self { host: settings.string("host"), port: web_process_default_port(settings) }
    }
}

/// The port a web process listens on: the configuration's `docker:run-cmd:port` as text, whatever its type, or 8888.
#[must_use]
pub fn web_process_default_port(settings: &(impl Settings + ?Sized)) -> String {
    settings.text("docker:run-cmd:port").unwrap_or_else(|| DEFAULT_PORT.to_owned())
}

/// The environment of a unit of this process: the app's variables by name, then the platform's. The unit of a deploy gets `TSURU_HOST` only.
///
/// Differs from the reference on purpose (design 10.9): the order is the same every time, and of two variables with one name only the last is there. So the platform's
/// variables win over the app's.
#[must_use]
pub fn envs_for_app(
    app_envs: &[EnvVar],
    process: &str,
    is_deploy: bool,
    platform: &PlatformEnv,
) -> Vec<Variable> {
    let host = ("TSURU_HOST", platform.host.as_str());
    if is_deploy {
        return vec![owned(host)];
    }
    let system = [
        ("TSURU_PROCESSNAME", process),
        host,
        ("port", platform.port.as_str()),
        ("PORT", platform.port.as_str()),
    ];
    let of_app: BTreeMap<&str, &str> = app_envs
        .iter()
        .map(|env| (env.name.as_str(), env.value.as_str()))
        .filter(|(name, _)| system.iter().all(|(system_name, _)| system_name != name))
        .collect();
    of_app.into_iter().chain(system).map(owned).collect()
}

fn owned((name, value): (&str, &str)) -> Variable {
    (name.to_owned(), value.to_owned())
}

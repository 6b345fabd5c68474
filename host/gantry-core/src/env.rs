//! The environment of units (spec 3.3).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::settings::Settings;
use crate::{EnvVar, go};

/// The port a web process listens on unless the operator says otherwise.
const DEFAULT_PORT: &str = "8888";

/// A variable: name and value.
pub type Variable = (String, String);

/// Tells an app which services are bound to it.
const SERVICES: &str = "TSURU_SERVICES";

/// An instance of a service that is bound to an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInstance {
    /// The service.
    pub service: String,
    /// Its name.
    pub name: String,
    /// What it tells the app.
    pub envs: BTreeMap<String, String>,
}

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

/// The environment of an app by name (spec 1.1): what people set, what bound services set (they win, the later ones over the earlier), and `TSURU_SERVICES` with all of them as JSON.
#[must_use]
pub fn app_envs(set: &[EnvVar], instances: &[ServiceInstance]) -> Vec<EnvVar> {
    #[derive(Serialize)]
    struct Listed<'a> {
        instance_name: &'a str,
        envs: &'a BTreeMap<String, String>,
    }
    let mut all: BTreeMap<&str, EnvVar> =
        set.iter().map(|env| (env.name.as_str(), env.clone())).collect();
    let mut services: BTreeMap<&str, Vec<Listed<'_>>> = BTreeMap::new();
    let private =
        |name: &str, value: String| EnvVar { name: name.to_owned(), value, public: false };
    for ServiceInstance { service, name, envs } in instances {
        services.entry(service).or_default().push(Listed { instance_name: name, envs });
        all.extend(envs.iter().map(|(name, value)| (name.as_str(), private(name, value.clone()))));
    }
    all.insert(SERVICES, private(SERVICES, go::to_json(&services)));
    all.into_values().collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> EnvVar {
        EnvVar { name: name.to_owned(), value: value.to_owned(), public: true }
    }

    fn instance(service: &str, name: &str, envs: &[(&str, &str)]) -> ServiceInstance {
        let envs = envs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        ServiceInstance { service: service.to_owned(), name: name.to_owned(), envs: envs.collect() }
    }

    fn shown(envs: &[EnvVar]) -> Vec<String> {
        envs.iter().map(|env| format!("{}={}", env.name, env.value)).collect()
    }

    #[test]
    fn an_app_without_services_is_told_so() {
        let envs = app_envs(&[set("Z", "1"), set("A", "2"), set("Z", "3")], &[]);
        assert_eq!(shown(&envs), ["A=2", "TSURU_SERVICES={}", "Z=3"]);
        assert_eq!(envs.iter().map(|env| env.public).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn bound_services_win_over_people() {
        let people = [set("HOST", "mine"), set("TSURU_SERVICES", "mine")];
        let bound = [
            instance("mysql", "db1", &[("HOST", "h1")]),
            instance("cache", "c<1", &[]),
            instance("mysql", "db2", &[("HOST", "h2")]),
        ];
        let services = r#"{"cache":[{"instance_name":"c\u003c1","envs":{}}],"mysql":[{"instance_name":"db1","envs":{"HOST":"h1"}},{"instance_name":"db2","envs":{"HOST":"h2"}}]}"#;
        let expected = ["HOST=h2".to_owned(), format!("TSURU_SERVICES={services}")];
        assert_eq!(shown(&app_envs(&people, &bound)), expected);
    }
}

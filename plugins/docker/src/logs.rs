//! The log lines of units (spec 5.10, 5.13): from the engine, where its driver keeps them.

use std::collections::BTreeMap;

use gantry_sdk::config::Config;
use gantry_sdk::containers::{EngineError, LogOptions};
use gantry_sdk::gantry_core::create::ContainerDefaults;
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Availability, Result, Settings, Source, TailOptions, log};

use crate::host::Host;
use crate::machine::is_of_machine;
use crate::units::of_process;
use crate::{node_containers, observe, records};

/// The drivers whose lines the engine gives back.
const READABLE: [&str; 3] = ["json-file", "local", "journald"];

/// The reference's own: an agent gets the lines, and passes them on.
const AGENT: &str = "bs";

/// The node container that is this agent.
const AGENT_NAME: &str = "big-sibling";

/// Where the agent passes them on when it is the platform that is to have them.
const PLATFORM: &str = "tsuru";

/// Whether the lines of an app's units can be read.
pub(crate) fn enabled(app: &App) -> Result<Availability> {
    if Config.string("docker:log-driver") == AGENT {
        let env = node_containers::env(AGENT_NAME, &app.pool)?;
        return Ok(of_agent(&env));
    }
    Ok(of_driver(&ContainerDefaults::from_settings(&Config).log.driver))
}

fn of_driver(driver: &str) -> Availability {
    if READABLE.contains(&driver) {
        return Availability::Enabled;
    }
    let driver = gantry_sdk::quote(driver);
    Availability::Disabled(format!(
        "Logs not available through gantry. Enabled log driver is {driver}."
    ))
}

/// What the environment of the agent says of where it passes lines on. The engine keeps a copy, which is read unless they are meant to be elsewhere.
fn of_agent(env: &BTreeMap<String, String>) -> Availability {
    let value = |name: &str| env.get(name).map_or("", String::as_str);
    let backends = value("LOG_BACKENDS").split(',').map(str::trim);
    let backends: Vec<&str> = backends.filter(|backend| !backend.is_empty()).collect();
    if backends.is_empty() || backends.contains(&PLATFORM) {
        return Availability::Enabled;
    }
    let line = |backend: &&str| match value(&format!("LOG_{}_DOC", backend.to_uppercase())) {
        "" => format!("\n* {backend}"),
        doc => format!("\n* {backend}: {doc}"),
    };
    let lines: String = backends.iter().map(line).collect();
    let text = "Logs not available through gantry. Enabled log backends are:";
    Availability::Disabled(format!("{text}{lines}"))
}

/// Opens the lines of the units asked for.
pub(crate) fn tail(app: &App, options: &TailOptions) -> Result<Vec<Source>> {
    let units = wanted(observe::of_app(&app.name)?, options)?;
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let log_options =
        LogOptions { lines: options.lines, follow: options.follow, timestamps: false };
    let mut sources = Vec::with_capacity(units.len());
    let mut silent = None;
    for unit in units {
        let lines = match Host::open(&unit.node)?.client.container_logs(&unit.id, log_options) {
            // It went away meanwhile.
            Err(EngineError::NotFound(_)) => continue,
            // The others have their lines all the same.
            Err(error) if options.unit.is_empty() && is_of_machine(&error) => {
                let fields = [("unit", unit.id.as_str()), ("error", &error.to_string())];
                log::warn("the lines of a unit cannot be read", &fields);
                silent = silent.or(Some(error));
                continue;
            }
            result => result?,
        };
        sources.push(Source { unit: unit.id, process: unit.process_name, lines });
    }
    match silent {
        Some(error) if sources.is_empty() => Err(error.into()),
        _ => Ok(sources),
    }
}

/// The units whose lines are wanted.
fn wanted(units: Vec<UnitRecord>, options: &TailOptions) -> Result<Vec<UnitRecord>> {
    let units = of_process(units, &options.process);
    if options.unit.is_empty() {
        return Ok(units);
    }
    Ok(vec![records::find(units, &options.unit)?])
}

#[cfg(test)]
mod tests {
    use gantry_sdk::Error;

    use super::*;

    #[test]
    fn lines_are_there_when_the_engine_keeps_them() {
        assert_eq!(of_driver("json-file"), Availability::Enabled);
        let text = "Logs not available through gantry. Enabled log driver is \"syslog\".";
        assert_eq!(of_driver("syslog"), Availability::Disabled(text.to_owned()));
    }

    #[test]
    fn lines_are_there_unless_the_agent_passes_them_on_to_others_only() {
        let of = |pairs: &[(&str, &str)]| {
            let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            of_agent(&pairs.iter().map(pair).collect())
        };
        for backends in ["", " ", "tsuru", "syslog, tsuru", " tsuru ,syslog"] {
            assert_eq!(of(&[("LOG_BACKENDS", backends)]), Availability::Enabled, "{backends:?}");
        }
        assert_eq!(of(&[]), Availability::Enabled);
        let told = of(&[
            ("LOG_BACKENDS", "syslog, gelf"),
            ("LOG_GELF_DOC", "at graylog.example.com"),
            ("LOG_OTHER_DOC", "nobody asks"),
        ]);
        let text = "Logs not available through gantry. Enabled log backends are:\n\
                    * syslog\n* gelf: at graylog.example.com";
        assert_eq!(told, Availability::Disabled(text.to_owned()));
    }

    #[test]
    fn lines_of_a_process_or_of_one_unit() {
        let unit = |id: &str, process: &str| UnitRecord {
            id: id.to_owned(),
            process_name: process.to_owned(),
            ..UnitRecord::default()
        };
        let units = || vec![unit("ab1", "web"), unit("ab2", "worker"), unit("ab3", "web")];
        let ids = |process: &str, id: &str| {
            let options = TailOptions {
                process: process.to_owned(),
                unit: id.to_owned(),
                ..TailOptions::default()
            };
            let units = wanted(units(), &options)?;
            Ok::<_, Error>(units.into_iter().map(|unit| unit.id).collect::<Vec<_>>())
        };
        assert_eq!(ids("", "").unwrap(), ["ab1", "ab2", "ab3"]);
        assert_eq!(ids("web", "").unwrap(), ["ab1", "ab3"]);
        assert_eq!(ids("", "ab2").unwrap(), ["ab2"]);
        assert_eq!(ids("worker", "ab").unwrap(), ["ab2"]);
        assert_eq!(ids("web", "ab2"), Err(Error::UnitNotFound("ab2".to_owned())));
    }
}

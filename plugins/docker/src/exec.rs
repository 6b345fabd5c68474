//! Commands in units (spec 5.10).

use std::time::Duration;

use gantry_sdk::config::Config;
use gantry_sdk::container::{ContainerSpec, HostConfig, LogConfig};
use gantry_sdk::containers::{Client, EngineError};
use gantry_sdk::gantry_core::create::{ContainerDefaults, UnitContainer};
use gantry_sdk::gantry_core::labels::{ProcessOptions, ServiceExtension};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::streams::Writer;
use gantry_sdk::{App, Error, Status, apps, images, labels, operation};

use crate::host::Host;
use crate::machine::{self, is_of_machine};
use crate::placing::{self, NotDone};
use crate::{PROVISIONER, image, name, observe, records, shell};

type Result<T, E = Error> = std::result::Result<T, E>;

/// How often the engine is asked how a command ended that has just closed its streams, and the pause between.
const END_TRIES: u32 = 50;
const END_PAUSE: Duration = Duration::from_millis(100);

/// A command and where its output goes.
pub(crate) struct Command<'a> {
    /// The app.
    pub(crate) app: &'a App,
    /// The command, a line for the shell.
    pub(crate) line: &'a str,
    /// Its positional parameters.
    pub(crate) args: &'a [String],
    /// What it says.
    pub(crate) stdout: &'a Writer,
    /// What it complains about.
    pub(crate) stderr: &'a Writer,
}

/// Runs a command in every unit that runs, one after the other, up to the first that does not end with 0.
pub(crate) fn in_all(command: &Command<'_>) -> Result<i32> {
    let units = runnable(observe::of_app(&command.app.name)?)?;
    for unit in &units {
        let code = in_unit(unit, command)?;
        if code != 0 {
            return Ok(code);
        }
    }
    Ok(0)
}

/// Runs a command in one unit that runs.
pub(crate) fn in_one(command: &Command<'_>) -> Result<i32> {
    let units = runnable(observe::of_app_to_use(&command.app.name)?)?;
    let unit = units.first().ok_or(Error::EmptyApp)?;
    in_unit(unit, command)
}

/// Runs a command in a container of its own, which is no unit and is removed whatever happens. One that cannot be made on a machine is made on another.
pub(crate) fn isolated(command: &Command<'_>) -> Result<i32> {
    let app = command.app;
    let (image, units) = (images::current(&app.name)?, records::of_app(&app.name)?);
    let (name, spec) = (name::of_isolated_run(&app.name), isolated_spec(app)?);
    let made = placing::on_one(app, placing::host_for_one(app)?, |host| {
        let (image, reference) = image::on_host(host, &image, &units)?;
        let spec = ContainerSpec { image: reference, ..spec.clone() };
        create_isolated(host, &name, &image.id, spec, command)
    });
    let (host, ()) = made.map_err(|failure| failure.error)?;
    let result = run_isolated(&host, &name, command);
    if let Err(error) = &result
        && is_of_machine(error)
    {
        machine::note_failure(&host.address, error);
    }
    host.discard(&name);
    let code = result?;
    i32::try_from(code).map_err(|_| Error::Other(format!("the command ended with {code}")))
}

/// Makes the container of a command. Only a container can tell which shell its image has: where that is another one than supposed, it is made anew.
fn create_isolated(
    host: &Host,
    name: &str,
    image_id: &str,
    mut spec: ContainerSpec,
    command: &Command<'_>,
) -> Result<(), NotDone> {
    let remembered = shell::remembered(image_id)?;
    let supposed = remembered.as_deref().unwrap_or(shell::BASH);
    set_command(&mut spec, supposed, command);
    let id = host.create(name, &spec)?;
    if remembered.is_some() {
        return Ok(());
    }
    match shell::of_image(&host.client, &id, image_id) {
        Ok(shell) if shell == supposed => Ok(()),
        Ok(shell) => {
            host.discard(name);
            set_command(&mut spec, &shell, command);
            host.create(name, &spec)?;
            Ok(())
        }
        Err(error) => {
            host.discard(name);
            Err(error.into())
        }
    }
}

fn run_isolated(host: &Host, name: &str, command: &Command<'_>) -> Result<i64, EngineError> {
    host.start(name)?;
    host.client.attach_to_container(name, true, command.stdout, command.stderr)?;
    host.client.wait_container(name)
}

fn in_unit(unit: &UnitRecord, command: &Command<'_>) -> Result<i32> {
    let client = &Host::open(&unit.node)?.client;
    let shell = shell::of_image(client, &unit.id, &unit.image_id)?;
    let options = shell::exec(&shell, command.line, command.args);
    let exec = client.create_exec(&unit.id, &options)?;
    client.start_exec(&exec, command.stdout, command.stderr)?;
    let unit = unit.short_id();
    code_of(client, &exec)?
        .ok_or_else(|| Error::Other(format!("nobody knows how the command in unit `{unit}` ended")))
}

/// The exit code of a command that has just closed its streams; none when nobody knows it.
pub(crate) fn code_of(client: &Client, exec: &str) -> Result<Option<i32>> {
    for _ in 0..END_TRIES {
        let state = client.inspect_exec(exec)?;
        match state.exit_code {
            Some(code) if !state.running => return Ok(Some(code)),
            Some(_) | None => operation::pause(END_PAUSE)?,
        }
    }
    Ok(None)
}

/// The units that commands run in: not those that are built, stopped, asleep or failed (design 10.4).
fn runnable(mut units: Vec<UnitRecord>) -> Result<Vec<UnitRecord>> {
    units.retain(|unit| matches!(unit.status, Some(Status::Starting | Status::Started)));
    if units.is_empty() { Err(Error::EmptyApp) } else { Ok(units) }
}

/// What the container of a single command is made of: what a unit has, but for ports and restarts. Its image is the machine's business.
fn isolated_spec(app: &App) -> Result<ContainerSpec> {
    let routers: Vec<String> =
        apps::routers(&app.name)?.into_iter().map(|router| router.name).collect();
    let envs = apps::unit_envs(&app.name, "", false)?;
    let process = labels::process(&ProcessOptions {
        app,
        routers: &routers,
        process: "",
        provisioner: PROVISIONER,
        builder: "",
        prefix: "",
        is_deploy: false,
    })?;
    let extension = ServiceExtension {
        provisioner: PROVISIONER,
        is_isolated_run: true,
        ..ServiceExtension::default()
    };
    let set = labels::extend_service(&process, &extension);
    let container = UnitContainer {
        app,
        routers: &routers,
        envs: &[],
        process: "",
        image: "",
        command: &[],
        exposed_port: "",
        is_deploy: false,
        is_building: false,
    };
    let defaults = ContainerDefaults::from_settings(&Config);
    Ok(without_service(container.spec_with(&defaults, envs, set.to_labels())))
}

/// A command listens nowhere and ends once; its output stays with the engine, where it is read from.
fn without_service(spec: ContainerSpec) -> ContainerSpec {
    let log_config = Some(LogConfig { driver: "json-file".to_owned(), ..LogConfig::default() });
    ContainerSpec {
        exposed_ports: Default::default(),
        host_config: HostConfig {
            port_bindings: Default::default(),
            restart_policy: Default::default(),
            log_config,
            ..spec.host_config
        },
        ..spec
    }
}

/// The command, with its arguments (design 10.5).
fn set_command(spec: &mut ContainerSpec, shell: &str, command: &Command<'_>) {
    spec.entrypoint = Some(vec![shell.to_owned(), "-c".to_owned()]);
    let line = std::iter::once(command.line.to_owned());
    spec.cmd = Some(line.chain(command.args.iter().cloned()).collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_run_only_where_something_runs() {
        let unit = |status| UnitRecord { status, ..UnitRecord::default() };
        let statuses = [
            None,
            Some(Status::Created),
            Some(Status::Building),
            Some(Status::Error),
            Some(Status::Starting),
            Some(Status::Started),
            Some(Status::Stopped),
            Some(Status::Asleep),
        ];
        let runnable_ones = runnable(statuses.map(unit).into()).unwrap();
        let left: Vec<Option<Status>> = runnable_ones.iter().map(|unit| unit.status).collect();
        assert_eq!(left, [Some(Status::Starting), Some(Status::Started)]);
        assert_eq!(runnable(vec![unit(Some(Status::Asleep))]), Err(Error::EmptyApp));
    }

    #[test]
    fn a_single_command_listens_nowhere_and_is_not_started_again() {
        let app = App { name: "a".to_owned(), memory: 1024, ..App::default() };
        let container = UnitContainer {
            app: &app,
            routers: &[],
            envs: &[],
            process: "",
            image: "i",
            command: &[],
            exposed_port: "",
            is_deploy: false,
            is_building: false,
        };
        let defaults = ContainerDefaults::from_settings(&());
        let unit = container.spec_with(&defaults, Vec::new(), Default::default());
        assert!(!unit.host_config.port_bindings.is_empty());
        let spec = without_service(unit);
        assert!(spec.exposed_ports.is_empty() && spec.host_config.port_bindings.is_empty());
        assert_eq!(spec.host_config.restart_policy.name, "");
        assert_eq!(spec.host_config.memory, 1024);
    }
}

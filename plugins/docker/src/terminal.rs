//! A shell in a unit, for somebody at a terminal (spec 5.10).

use std::time::Duration;

use gantry_sdk::containers::{Client, EngineError, ExecOptions};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::streams::Session;
use gantry_sdk::{App, Error, Result, ShellOptions, Status, operation};

use crate::host::Host;
use crate::{observe, records, shell};

/// How often the engine is asked whether a unit that is being started runs, and the pause between.
const START_TRIES: u32 = 150;
const START_PAUSE: Duration = Duration::from_millis(200);

/// Opens a shell in a unit. It ends with the session.
pub(crate) fn open(app: &App, options: &ShellOptions) -> Result<Session> {
    let unit = wanted(observe::of_app_to_use(&app.name)?, &options.unit)?;
    let client = &Host::open(&unit.node)?.client;
    until_runs(client, &unit)?;
    let shell = shell_of(client, &unit)?;
    Ok(client.exec_session(&unit.id, &command(&shell, &options.term))?)
}

/// The unit that somebody means; any that runs when he does not say (design 10.4).
fn wanted(units: Vec<UnitRecord>, id: &str) -> Result<UnitRecord> {
    if !id.is_empty() {
        return records::find(units, id);
    }
    let runs = |unit: &UnitRecord| matches!(unit.status, Some(Status::Starting | Status::Started));
    units.into_iter().find(runs).ok_or(Error::EmptyApp)
}

/// Whether a shell can be opened in a unit, now or soon.
#[derive(Debug, PartialEq, Eq)]
enum Readiness {
    Runs,
    Begins,
    Never,
}

/// What the state of a unit's container says. The container of a unit that rests may never have been started.
fn readiness(unit: &UnitRecord, state: &str) -> Readiness {
    let rests = matches!(unit.status, Some(Status::Stopped | Status::Asleep));
    match state {
        "running" => Readiness::Runs,
        "created" | "restarting" if !rests => Readiness::Begins,
        _ => Readiness::Never,
    }
}

/// Waits for a unit that is being started.
fn until_runs(client: &Client, unit: &UnitRecord) -> Result<()> {
    let mut state = String::new();
    for _ in 0..START_TRIES {
        state = match client.inspect_container(&unit.id) {
            Err(EngineError::NotFound(_)) => return Err(Error::UnitNotFound(unit.id.clone())),
            container => container?.state.status,
        };
        match readiness(unit, &state) {
            Readiness::Runs => return Ok(()),
            Readiness::Begins => operation::pause(START_PAUSE)?,
            Readiness::Never => break,
        }
    }
    let unit = unit.short_id();
    Err(Error::Conflict(format!("the unit `{unit}` does not run: its container is {state}")))
}

/// The shell of a unit's image.
fn shell_of(client: &Client, unit: &UnitRecord) -> Result<String> {
    let shell = shell::of_image(client, &unit.id, &unit.image_id)?;
    // Of an image without bash it is only supposed.
    if shell != shell::BASH {
        match client.stat_path(&unit.id, &shell) {
            Ok(_) => {}
            Err(EngineError::NotFound(_)) => return Err(bare(unit, &shell)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(shell)
}

fn bare(unit: &UnitRecord, shell: &str) -> Error {
    let (unit, bash) = (unit.short_id(), shell::BASH);
    let text =
        format!("the image of the unit `{unit}` has no shell: neither `{bash}` nor `{shell}`");
    Error::NotFound(text)
}

/// The reference's `/usr/bin/env TERM=<term> bash -l`, but for the program that sets the variable: not every image has it, and the engine can.
fn command(shell: &str, term: &str) -> ExecOptions {
    let term = if term.is_empty() { "xterm" } else { term };
    ExecOptions {
        command: vec![shell.to_owned(), "-l".to_owned()],
        env: vec![("TERM".to_owned(), term.to_owned())],
        user: String::new(),
        working_dir: String::new(),
        tty: true,
        stdin: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(id: &str, status: Status) -> UnitRecord {
        UnitRecord { id: id.to_owned(), status: Some(status), ..UnitRecord::default() }
    }

    #[test]
    fn a_unit_is_the_one_that_is_meant_or_any_that_runs() {
        let units = || {
            vec![
                unit("aa1", Status::Stopped),
                unit("ab1", Status::Error),
                unit("ab2", Status::Asleep),
                unit("b1", Status::Starting),
                unit("c1", Status::Started),
            ]
        };
        let id = |id: &str| wanted(units(), id).map(|unit| unit.id);
        assert_eq!(id("").as_deref(), Ok("b1"));
        assert_eq!(id("aa").as_deref(), Ok("aa1"));
        assert_eq!(id("ab2").as_deref(), Ok("ab2"));
        assert_eq!(id("x"), Err(Error::UnitNotFound("x".to_owned())));
        let text = id("ab").unwrap_err().to_string();
        assert_eq!(text, r#"ambiguous container name/id: "ab""#);
        assert_eq!(wanted(units().drain(..3).collect(), "").unwrap_err(), Error::EmptyApp);
    }

    #[test]
    fn a_unit_that_is_being_started_is_waited_for_and_one_that_ended_is_not() {
        use Readiness::{Begins, Never, Runs};
        for (status, state, expected) in [
            (Status::Started, "running", Runs),
            (Status::Starting, "created", Begins),
            (Status::Error, "restarting", Begins),
            (Status::Error, "running", Runs),
            (Status::Started, "exited", Never),
            (Status::Started, "paused", Never),
            (Status::Stopped, "created", Never),
            (Status::Asleep, "created", Never),
            (Status::Asleep, "exited", Never),
        ] {
            assert_eq!(readiness(&unit("a", status), state), expected, "{status:?} {state}");
        }
    }

    #[test]
    fn a_shell_is_a_login_shell_on_a_terminal_of_its_kind() {
        let options = command("/bin/sh", "vt220");
        assert_eq!(options.command, ["/bin/sh", "-l"]);
        assert_eq!(options.env, [("TERM".to_owned(), "vt220".to_owned())]);
        assert!(options.tty && options.stdin);
        assert_eq!(command("/bin/sh", "").env[0].1, "xterm");
    }
}

//! Commands in units, shells, logs (spec 7.8).

use gantry_sdk::cluster::{DeleteOptions, PodExecOptions, PodLogOptions};
use gantry_sdk::streams::{Reader, Session, Writer};
use gantry_sdk::{App, Error, Result, ShellOptions, Source, TailOptions, apps, operation, quote};
use serde_json::Value;

use crate::calls::{insist, insist_on_change};
use crate::change::current;
use crate::home::{Home, kinds};
use crate::object::{is_leaving, label_set, name, text};
use crate::service::{Purpose, Site};
use crate::{PREFIX, command, completion, name as names, wait};

/// A command for units, and where it writes.
pub(crate) struct Command<'a> {
    /// The app.
    pub(crate) app: &'a App,
    /// The line.
    pub(crate) line: &'a str,
    /// Its arguments.
    pub(crate) args: &'a [String],
    /// What it says.
    pub(crate) stdout: &'a Writer,
    /// What it complains about.
    pub(crate) stderr: &'a Writer,
}

/// The pods of an app, oldest first.
fn pods(home: &Home, app: &App) -> Result<Vec<Value>> {
    let mut pods = home.list(&kinds::pod(), &format!("{PREFIX}app-name={}", app.name))?;
    pods.sort_by(|one, other| {
        let key = |pod: &Value| {
            (text(pod, "/metadata/creationTimestamp").to_owned(), name(pod).to_owned())
        };
        key(one).cmp(&key(other))
    });
    Ok(pods)
}

fn run(home: &Home, asked: &Command<'_>, pod: &Value) -> Result<i32> {
    let options = PodExecOptions {
        container: command::container(pod, &asked.app.name)?,
        command: command::in_unit(asked.line, asked.args),
        tty: false,
    };
    Ok(home.client.exec(home.namespace(), name(pod), &options, asked.stdout, asked.stderr)?)
}

/// Runs the command in every unit, one after the other, up to the first that does not end with 0.
///
/// # Errors
///
/// No unit, or the cluster refuses.
pub(crate) fn in_all(asked: &Command<'_>) -> Result<i32> {
    let home = Home::of_pool(&asked.app.pool)?;
    let all = pods(&home, asked.app)?;
    for pod in command::runnable(&all, &asked.app.name)? {
        let code = run(&home, asked, pod)?;
        if code != 0 {
            return Ok(code);
        }
    }
    Ok(0)
}

/// Runs the command in one unit.
///
/// # Errors
///
/// No unit, or the cluster refuses.
pub(crate) fn in_one(asked: &Command<'_>) -> Result<i32> {
    let home = Home::of_pool(&asked.app.pool)?;
    let all = pods(&home, asked.app)?;
    match command::runnable(&all, &asked.app.name)?.first() {
        Some(pod) => run(&home, asked, pod),
        None => Err(Error::EmptyApp),
    }
}

/// Runs the command in a pod of its own, which is gone afterwards.
///
/// # Errors
///
/// Nothing is deployed, the pod does not start, or the cluster refuses.
pub(crate) fn isolated(asked: &Command<'_>) -> Result<i32> {
    let Command { app, .. } = *asked;
    let home = Home::of_pool(&app.pool)?;
    let (image, metadata) = current(app)?;
    if metadata.processes.is_empty() {
        return Err(Error::EmptyApp);
    }
    let site = Site::new(app, &home)?;
    let set = site.labels("", 0, Purpose::IsolatedRun)?;
    let pod = names::run_of(&names::isolated_pod(&app.name), &operation::id());
    let envs = apps::unit_envs(&app.name, "", false)?;
    let object = site.one_shot(&pod, &image, &set, &envs).isolated_run(asked.line, asked.args);
    site.prepare(&image)?;
    let code = run_once(&home, &object).and_then(|()| attached(&home, asked, &pod));
    // It goes, also when somebody asks to stop from here on, and when nobody knows whether it was made.
    operation::undoing();
    with_pod_gone(&home, &pod, code)
}

fn attached(home: &Home, asked: &Command<'_>, pod: &str) -> Result<i32> {
    wait::pod_running(home, pod)?;
    // The command waits until somebody who listens says so.
    let go = Reader::from_bytes(b".");
    home.client.attach(home.namespace(), pod, pod, Some(go), asked.stdout, asked.stderr)?;
    let ended = wait::pod_ended(home, pod, operation::remaining())?;
    let code = completion::exit_code(&ended, pod).and_then(|code| i32::try_from(code).ok());
    code.ok_or_else(|| Error::Other("nobody knows how the command ended".to_owned()))
}

/// Makes a pod that runs once, in the place of one that an earlier call left: that one tells nothing of this one's image.
///
/// # Errors
///
/// The cluster refuses, or does not answer.
pub(crate) fn run_once(home: &Home, object: &Value) -> Result<()> {
    use gantry_sdk::cluster::ClusterError;
    match insist(|| home.client.create(object)) {
        Err(ClusterError::Conflict(_)) => {
            delete_pod(home, name(object))?;
            insist(|| home.client.create(object))?;
        }
        made => drop(made?),
    }
    Ok(())
}

/// All that a container of a pod wrote; an empty one is the only one.
///
/// # Errors
///
/// The cluster refuses, or does not answer.
pub(crate) fn all_lines(home: &Home, pod: &str, container: &str) -> Result<Vec<u8>> {
    let options = PodLogOptions {
        container: container.to_owned(),
        lines: u32::MAX,
        follow: false,
        timestamps: false,
        previous: false,
    };
    Ok(insist(|| home.client.read_logs(home.namespace(), pod, &options))?)
}

/// Deletes a pod that ran once, whatever came of it, and gives that. What went wrong with it is told before what is wrong with deleting it.
///
/// # Errors
///
/// What went wrong, or the cluster refuses or does not answer.
pub(crate) fn with_pod_gone<T>(home: &Home, pod: &str, outcome: Result<T>) -> Result<T> {
    if outcome.is_err() {
        operation::undoing();
    }
    let deleted = delete_pod(home, pod);
    let outcome = outcome?;
    deleted.map(|()| outcome)
}

/// Deletes a pod at once. One that is gone is fine.
///
/// # Errors
///
/// The cluster refuses, or does not answer.
fn delete_pod(home: &Home, pod: &str) -> Result<()> {
    let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
    Ok(insist_on_change(|| home.client.delete(&kinds::pod(), home.namespace(), pod, &options))?)
}

/// Ends a unit: its pod is deleted, and its ReplicaSet makes another one.
///
/// # Errors
///
/// No such unit, or the cluster refuses.
pub(crate) fn kill(app: &App, unit: &str, force: bool) -> Result<()> {
    let home = Home::of_pool(&app.pool)?;
    let all = pods(&home, app)?;
    let pod = meant(&all, app, unit)?;
    if force {
        return delete_pod(&home, name(pod));
    }
    let options = DeleteOptions::default();
    let (namespace, pod) = (home.namespace(), name(pod));
    Ok(insist_on_change(|| home.client.delete(&kinds::pod(), namespace, pod, &options))?)
}

/// The pod that somebody means: the one with this id or prefix of it, or the first that commands run in.
fn meant<'a>(all: &'a [Value], app: &App, unit: &str) -> Result<&'a Value> {
    if unit.is_empty() {
        return command::runnable(all, &app.name)?.first().copied().ok_or(Error::EmptyApp);
    }
    if let Some(pod) = all.iter().find(|pod| name(pod) == unit) {
        return Ok(pod);
    }
    let mut starting = all.iter().filter(|pod| name(pod).starts_with(unit));
    match (starting.next(), starting.next()) {
        (Some(pod), None) => Ok(pod),
        (None, _) => Err(Error::UnitNotFound(unit.to_owned())),
        (Some(_), Some(_)) => {
            let text = format!("ambiguous container name/id: {}", quote(unit));
            Err(Error::InvalidArgument(text))
        }
    }
}

/// Opens a shell in a unit.
///
/// # Errors
///
/// No such unit, or the cluster refuses.
pub(crate) fn shell(app: &App, options: &ShellOptions) -> Result<Session> {
    let home = Home::of_pool(&app.pool)?;
    let all = pods(&home, app)?;
    let pod = meant(&all, app, &options.unit)?;
    let term = if options.term.is_empty() { "xterm" } else { &options.term };
    let exec = PodExecOptions {
        container: command::container(pod, &app.name)?,
        command: command::shell(term),
        tty: true,
    };
    Ok(home.client.exec_session(home.namespace(), name(pod), &exec)?)
}

/// Opens the logs of units.
///
/// # Errors
///
/// No such unit, or the cluster refuses.
pub(crate) fn tail(app: &App, options: &TailOptions) -> Result<Vec<Source>> {
    let home = Home::of_pool(&app.pool)?;
    let all = pods(&home, app)?;
    let wanted: Vec<&Value> = if options.unit.is_empty() {
        all.iter().filter(|pod| is_unit(pod) && !is_leaving(pod)).collect()
    } else {
        vec![meant(&all, app, &options.unit)?]
    };
    let mut sources = Vec::new();
    for pod in wanted {
        let set = label_set(pod);
        let process = set.app_process().to_owned();
        if !options.process.is_empty() && process != options.process {
            continue;
        }
        let log = PodLogOptions {
            container: command::container(pod, &app.name)?,
            lines: options.lines,
            follow: options.follow,
            timestamps: false,
            previous: false,
        };
        match home.client.logs(home.namespace(), name(pod), &log) {
            Ok(lines) => sources.push(Source { unit: name(pod).to_owned(), process, lines }),
            // One that has not started has said nothing yet, and one that has gone says nothing any more; the others do.
            Err(error)
                if options.unit.is_empty() && (!has_started(pod) || error.is_not_found()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sources)
}

fn is_unit(pod: &Value) -> bool {
    let labels = crate::object::texts(pod, "/metadata/labels");
    let is = |key: &str| labels.get(&format!("{PREFIX}{key}")).is_some_and(|is| is == "true");
    !is("is-build") && !is("is-isolated-run")
}

fn has_started(pod: &Value) -> bool {
    text(pod, "/status/phase") != "Pending"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str) -> Value {
        json!({
            "metadata": {"name": name, "labels": {"tsuru.io/app-name": "web"}},
            "status": {"phase": "Running"},
        })
    }

    #[test]
    fn a_unit_is_meant_by_its_name_or_a_prefix_that_no_other_has() {
        let all = [pod("web-a1"), pod("web-a2"), pod("web-a")];
        let app = App { name: "web".to_owned(), ..App::default() };
        let of = |unit: &str| meant(&all, &app, unit).map(name);
        assert_eq!(of(""), Ok("web-a1"));
        assert_eq!(of("web-a"), Ok("web-a"));
        assert_eq!(of("web-a2"), Ok("web-a2"));
        assert!(matches!(of("web-"), Err(Error::InvalidArgument(_))));
        assert_eq!(of("x"), Err(Error::UnitNotFound("x".to_owned())));
    }
}

//! The command line, the daemon, the plugin and a real Docker engine, end to end.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry_tests::artifacts::image;
use gantry_tests::daemon::{Daemon, docker, eventually, http_get};
use serde_json::Value;

/// Long enough for anything here on a busy machine; a wait ends as soon as what it waits for is there.
const SOON: Duration = Duration::from_secs(60);

/// A health check that gives up quickly.
const IMPATIENT: &str =
    "[provisioners.docker]\nconfig = { docker = { healthcheck = { max-time = 2 } } }\n";

/// An image of the test's own, removed afterwards.
struct Image(String);

impl Image {
    fn new(name: &str, text: &str, dockerfile: &str) -> Result<Self> {
        let name = format!("gantry-test/{name}");
        image(&name, text, dockerfile)?;
        Ok(Self(name))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Best effort: the test has its verdict.
        let _ = docker(&["rmi", "-f", &self.0]);
    }
}

/// What `app info` knows.
fn info(daemon: &Daemon, app: &str) -> Result<Value> {
    daemon.json(&["app", "info", app])
}

/// The app's units.
fn units(daemon: &Daemon, app: &str) -> Result<Vec<Value>> {
    Ok(daemon.json(&["unit", "list", app])?.as_array().context("a list of units")?.clone())
}

/// What each unit answers over HTTP, at the address it tells.
fn answers(daemon: &Daemon, app: &str) -> Result<Vec<String>> {
    units(daemon, app)?
        .iter()
        .map(|unit| {
            let address = unit["address"].as_str().context("a unit has an address")?;
            Ok(http_get(address)?.1.trim_end().to_owned())
        })
        .collect()
}

fn ids(units: &[Value]) -> Vec<String> {
    let mut ids: Vec<String> =
        units.iter().filter_map(|unit| unit["id"].as_str().map(str::to_owned)).collect();
    ids.sort();
    ids
}

/// Waits until so many units of an app run: a container that is only read from never does.
fn until_running(daemon: &Daemon, app: &str, count: usize) -> Result<()> {
    let unit = format!("{app}/web/running");
    eventually(SOON, "the units run", || {
        let running = daemon.containers()?.into_iter().filter(|(_, what)| *what == unit).count();
        Ok((running == count).then_some(()))
    })
}

/// Lets the units go on that wait for `/go`.
fn release(daemon: &Daemon) -> Result<()> {
    for (id, what) in daemon.containers()? {
        if what.ends_with("/running") {
            docker(&["exec", &id, "sh", "-c", ": > /go"])?;
        }
    }
    Ok(())
}

/// Begins a deploy.
fn begin_deploy(daemon: &Daemon, app: &str, image: &str) -> Result<std::process::Child> {
    daemon.begin(&["app", "deploy", app, "--image", image])
}

#[test]
fn an_app_lives_its_life_by_the_command_line() -> Result<()> {
    let one = Image::new("life:v1", "one", "")?;
    let two = Image::new("life:v2", "two", "")?;
    let daemon = Daemon::with_docker("")?;
    daemon.cli(&["app", "create", "life"])?.success()?;
    ensure!(daemon.containers()?.is_empty(), "creating an app starts nothing");

    daemon.cli(&["app", "deploy", "life", "--image", &one.0])?.success()?;
    assert_eq!(answers(&daemon, "life")?, ["one"]);
    daemon.cli(&["unit", "add", "life", "2"])?.success()?;
    assert_eq!(answers(&daemon, "life")?, ["one", "one", "one"]);

    daemon.cli(&["app", "deploy", "life", "--image", &two.0])?.success()?;
    assert_eq!(
        answers(&daemon, "life")?,
        ["two", "two", "two"],
        "a deploy keeps the number of units"
    );
    daemon.cli(&["app", "rollback", "life", "life:v1"])?.success()?;
    assert_eq!(answers(&daemon, "life")?, ["one", "one", "one"]);

    daemon.cli(&["unit", "remove", "life", "2"])?.success()?;
    let before = ids(&units(&daemon, "life")?);
    assert_eq!(before.len(), 1);
    daemon.cli(&["app", "restart", "life"])?.success()?;
    let after = ids(&units(&daemon, "life")?);
    ensure!(
        after.len() == 1 && after != before,
        "a restart replaces the units: {before:?} {after:?}"
    );

    daemon.cli(&["app", "stop", "life"])?.success()?;
    let states: Vec<String> = daemon.containers()?.into_iter().map(|(_, what)| what).collect();
    assert_eq!(states, ["life/web/exited"]);
    daemon.cli(&["app", "start", "life"])?.success()?;
    // A start does not check health: the process may need a moment to listen.
    eventually(SOON, "the started unit answers", || {
        Ok((answers(&daemon, "life").ok() == Some(vec!["one".to_owned()])).then_some(()))
    })?;

    daemon.cli(&["app", "remove", "life", "-y"])?.success()?;
    ensure!(daemon.containers()?.is_empty(), "removing an app leaves nothing");
    daemon.cli(&["app", "info", "life"])?.failure(4)?;
    Ok(())
}

#[test]
fn a_failed_deploy_leaves_the_old_units_serving_and_nothing_behind() -> Result<()> {
    let good = Image::new("fail:good", "good", "")?;
    let crash = Image::new("fail:crash", "crash", "ENV CRASH=3")?;
    let sick = Image::new("fail:sick", "sick", "ENV WWW=/nowhere")?;
    let daemon = Daemon::with_docker(IMPATIENT)?;
    daemon.cli(&["app", "create", "fail"])?.success()?;

    // The first deploy may fail too; then nothing at all is there.
    for bad in [&crash.0, &sick.0, &"gantry-test/no-such-image:v1".to_owned()] {
        let text = daemon.cli(&["app", "deploy", "fail", "--image", bad])?;
        ensure!(text.code != Some(0), "{bad} must not deploy: {text:?}");
        ensure!(daemon.containers()?.is_empty(), "{bad} left {:?}", daemon.containers()?);
    }
    daemon.cli(&["app", "deploy", "fail", "--image", &good.0])?.success()?;
    daemon.cli(&["unit", "add", "fail", "1"])?.success()?;
    let before = ids(&units(&daemon, "fail")?);
    for bad in [&crash.0, &sick.0, &"gantry-test/no-such-image:v1".to_owned()] {
        let finished = daemon.cli(&["app", "deploy", "fail", "--image", bad])?;
        ensure!(finished.code != Some(0), "{bad} must not deploy");
        ensure!(
            finished.stderr.contains("error:") && finished.stderr.contains("hint:"),
            "{}",
            finished.stderr
        );
        assert_eq!(ids(&units(&daemon, "fail")?), before, "{bad} touched the old units");
        assert_eq!(
            daemon.containers()?.len(),
            2,
            "{bad} left something: {:?}",
            daemon.containers()?
        );
        assert_eq!(answers(&daemon, "fail")?, ["good", "good"]);
    }
    Ok(())
}

#[test]
fn commands_run_in_units_and_their_exit_code_comes_through() -> Result<()> {
    let image = Image::new("exec:v1", "exec", "")?;
    let daemon = Daemon::with_docker("")?;
    daemon.cli(&["app", "create", "exec"])?.success()?;
    daemon.cli(&["env", "set", "exec", "GREETING=hello world"])?.success()?;
    daemon.cli(&["app", "deploy", "exec", "--image", &image.0])?.success()?;
    daemon.cli(&["unit", "add", "exec", "1"])?.success()?;

    let all = daemon.cli(&["app", "run", "exec", "--", "hostname"])?.success()?;
    assert_eq!(all.lines().count(), 2, "once in every unit: {all}");
    let once =
        daemon.cli(&["app", "run", "exec", "--once", "--", "echo", "$GREETING"])?.success()?;
    ensure!(once.lines().count() == 1, "{once}");
    let shell = daemon.cli(&[
        "app",
        "run",
        "exec",
        "--once",
        "--",
        "sh",
        "-c",
        "echo \"$GREETING\"; echo no >&2; exit 7",
    ])?;
    assert_eq!((shell.code, shell.stdout.as_str()), (Some(7), "hello world\n"), "{shell:?}");
    ensure!(shell.stderr.contains("no\n"), "stderr is kept apart: {shell:?}");
    let isolated = daemon.cli(&[
        "app",
        "run",
        "exec",
        "--isolated",
        "--",
        "sh",
        "-c",
        "echo alone; exit 3",
    ])?;
    assert_eq!((isolated.code, isolated.stdout.as_str()), (Some(3), "alone\n"), "{isolated:?}");
    assert_eq!(daemon.containers()?.len(), 2, "an isolated run leaves nothing");
    Ok(())
}

#[test]
fn logs_come_with_their_last_lines_and_follow() -> Result<()> {
    let image = Image::new("log:v1", "log", "")?;
    let daemon = Daemon::with_docker("")?;
    daemon.cli(&["app", "create", "log"])?.success()?;
    daemon.cli(&["app", "deploy", "log", "--image", &image.0])?.success()?;
    let text = daemon.cli(&["app", "log", "log"])?.success()?;
    ensure!(text.contains("serving on 8888"), "{text}");

    let mut follow =
        daemon.command()?.args(["app", "log", "log", "--follow"]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(follow.stdout.take().context("stdout is piped")?).lines();
    let first = lines.by_ref().map_while(Result::ok).find(|line| line.contains("serving on 8888"));
    ensure!(first.is_some(), "the last lines come first");
    daemon
        .cli(&["app", "run", "log", "--once", "--", "sh", "-c", "echo later > /proc/1/fd/1"])?
        .success()?;
    let later = lines.by_ref().map_while(Result::ok).find(|line| line.contains("later"));
    ensure!(later.is_some(), "what is still to come follows");
    daemon.cli(&["app", "deploy", "log", "--image", &image.0])?.success()?;
    let new = lines.by_ref().map_while(Result::ok).find(|line| line.contains("serving on 8888"));
    ensure!(new.is_some(), "the units of the next deploy follow");
    // The reader goes away in the middle; the daemon serves on.
    follow.kill()?;
    follow.wait()?;
    daemon.cli(&["app", "info", "log"])?.success()?;
    Ok(())
}

#[test]
fn a_second_change_of_an_app_is_refused_with_who_holds_it() -> Result<()> {
    let good = Image::new("held:v1", "held", "")?;
    let slow = Image::new("held:slow", "slow", "ENV WAIT_FOR=/go")?;
    let daemon = Daemon::with_docker("")?;
    daemon.cli(&["app", "create", "held"])?.success()?;
    daemon.cli(&["app", "deploy", "held", "--image", &good.0])?.success()?;
    let mut deploy = begin_deploy(&daemon, "held", &slow.0)?;
    until_running(&daemon, "held", 2)?;
    let refused = daemon.cli(&["unit", "add", "held", "1"])?.failure(5)?;
    ensure!(refused.contains("deploy"), "it names the operation that holds the app: {refused}");
    // Reading goes on meanwhile.
    daemon.cli(&["unit", "list", "held"])?.success()?;
    release(&daemon)?;
    ensure!(deploy.wait()?.success(), "the first change finishes");
    assert_eq!(answers(&daemon, "held")?, ["slow"]);
    Ok(())
}

#[test]
fn a_deploy_goes_on_when_its_client_goes_away() -> Result<()> {
    let slow = Image::new("gone:slow", "slow", "ENV WAIT_FOR=/go")?;
    let daemon = Daemon::with_docker("")?;
    daemon.cli(&["app", "create", "gone"])?.success()?;
    let mut deploy = begin_deploy(&daemon, "gone", &slow.0)?;
    until_running(&daemon, "gone", 1)?;
    deploy.kill()?;
    deploy.wait()?;
    release(&daemon)?;
    eventually(SOON, "the deploy finishes by itself", || {
        Ok(info(&daemon, "gone")?.to_string().contains("gone:slow").then_some(()))
    })?;
    eventually(SOON, "it answers", || {
        Ok((answers(&daemon, "gone").ok() == Some(vec!["slow".to_owned()])).then_some(()))
    })?;
    Ok(())
}

#[test]
fn a_daemon_told_to_end_during_a_deploy_undoes_it_and_says_so() -> Result<()> {
    let good = Image::new("term:v1", "good", "")?;
    let never = Image::new("term:never", "never", "ENV WAIT_FOR=/never")?;
    let mut daemon = Daemon::with_docker("[operations]\ngrace = \"1s\"\n")?;
    daemon.cli(&["app", "create", "term"])?.success()?;
    daemon.cli(&["app", "deploy", "term", "--image", &good.0])?.success()?;
    let mut deploy = begin_deploy(&daemon, "term", &never.0)?;
    until_running(&daemon, "term", 2)?;
    daemon.signal("TERM")?;
    let status = daemon.wait(SOON)?;
    assert_eq!(status.code(), Some(130), "operations were cancelled: {}", daemon.log()?);
    let states: Vec<String> = daemon.containers()?.into_iter().map(|(_, what)| what).collect();
    assert_eq!(states, ["term/web/running"], "the old unit serves, the new one is gone");
    ensure!(deploy.wait()?.code() != Some(0), "its client knows that it did not happen");
    daemon.resume()?;
    assert_eq!(answers(&daemon, "term")?, ["good"]);
    Ok(())
}

#[test]
fn a_killed_daemon_knows_what_was_under_way_and_cleans_up() -> Result<()> {
    let good = Image::new("kill:v1", "good", "")?;
    let never = Image::new("kill:never", "never", "ENV WAIT_FOR=/never")?;
    let mut daemon = Daemon::with_docker("")?;
    daemon.cli(&["app", "create", "kill"])?.success()?;
    daemon.cli(&["app", "deploy", "kill", "--image", &good.0])?.success()?;
    let mut deploy = begin_deploy(&daemon, "kill", &never.0)?;
    until_running(&daemon, "kill", 2)?;
    daemon.signal("KILL")?;
    daemon.wait(SOON)?;
    deploy.wait()?;
    daemon.resume()?;
    eventually(SOON, "what the deploy had made is removed", || {
        Ok((daemon.containers()?.len() == 1).then_some(()))
    })?;
    assert_eq!(answers(&daemon, "kill")?, ["good"]);
    let operations = daemon.cli(&["operation", "list"])?.success()?;
    ensure!(operations.contains("interrupted"), "{operations}");
    // And the app is free for the next change, with the units that it has.
    daemon.cli(&["app", "deploy", "kill", "--image", &good.0])?.success()?;
    assert_eq!(answers(&daemon, "kill")?, ["good"]);
    daemon.cli(&["app", "log", "kill"])?.success()?;
    let all = daemon.cli(&["app", "run", "kill", "--", "hostname"])?.success()?;
    assert_eq!(all.lines().count(), 1, "{all}");
    daemon.cli(&["unit", "add", "kill", "1"])?.success()?;
    assert_eq!(answers(&daemon, "kill")?, ["good", "good"]);
    Ok(())
}

#[test]
fn a_daemon_killed_in_the_middle_of_a_replacement_finishes_it_at_its_start() -> Result<()> {
    let one = Image::new("half:v1", "one", "")?;
    let two = Image::new("half:v2", "two", "")?;
    let mut daemon = Daemon::with_docker("")?;
    daemon.cli(&["app", "create", "half", "--unit-quota", "3"])?.success()?;
    daemon.cli(&["app", "deploy", "half", "--image", &one.0])?.success()?;
    // Units that take their ten seconds to stop, beside one that does not.
    daemon.cli(&["env", "set", "half", "STUBBORN=1", "--no-restart"])?.success()?;
    daemon.cli(&["unit", "add", "half", "2"])?.success()?;
    daemon.cli(&["env", "unset", "half", "STUBBORN", "--no-restart"])?.success()?;
    let old: Vec<String> = daemon.containers()?.into_iter().map(|(id, _)| id).collect();
    let mut deploy = begin_deploy(&daemon, "half", &two.0)?;
    eventually(SOON, "the first old unit is gone", || {
        let now = daemon.containers()?;
        let left = now.iter().filter(|(id, _)| old.contains(id)).count();
        Ok((left == 2).then_some(()))
    })?;
    daemon.signal("KILL")?;
    daemon.wait(SOON)?;
    deploy.wait()?;
    let left = daemon.containers()?.into_iter().filter(|(id, _)| old.contains(id)).count();
    assert_eq!((left, daemon.containers()?.len()), (2, 5), "nobody cleans up after a kill");

    daemon.resume()?;
    assert_eq!(daemon.containers()?.len(), 3);
    assert_eq!(answers(&daemon, "half")?, ["two", "two", "two"]);
    let log = daemon.log()?;
    ensure!(log.contains("its new units are the app"), "{log}");
    // The app is whole: it can be read, commanded and changed, and its quota holds.
    daemon.cli(&["app", "log", "half"])?.success()?;
    let all = daemon.cli(&["app", "run", "half", "--", "hostname"])?.success()?;
    assert_eq!(all.lines().count(), 3, "{all}");
    daemon.cli(&["app", "restart", "half"])?.success()?;
    daemon.cli(&["app", "deploy", "half", "--image", &one.0])?.success()?;
    assert_eq!(answers(&daemon, "half")?, ["one", "one", "one"]);
    assert_eq!(daemon.containers()?.len(), 3);
    Ok(())
}

#[test]
fn a_daemon_told_to_end_waits_for_a_deploy_that_finishes() -> Result<()> {
    let slow = Image::new("wait:slow", "slow", "ENV WAIT_FOR=/go")?;
    let mut daemon = Daemon::with_docker("")?;
    daemon.cli(&["app", "create", "wait"])?.success()?;
    let mut deploy = begin_deploy(&daemon, "wait", &slow.0)?;
    until_running(&daemon, "wait", 1)?;
    daemon.signal("TERM")?;
    eventually(SOON, "it is ending", || {
        let refused = daemon.cli(&["app", "create", "late"])?;
        Ok((refused.code == Some(6)).then_some(()))
    })?;
    release(&daemon)?;
    let status = daemon.wait(SOON)?;
    assert_eq!(status.code(), Some(0), "{}", daemon.log()?);
    ensure!(deploy.wait()?.success(), "its client sees it end well");
    daemon.resume()?;
    assert_eq!(answers(&daemon, "wait")?, ["slow"]);
    Ok(())
}

#[test]
fn wrong_inputs_get_their_exit_code_and_a_hint() -> Result<()> {
    let daemon = Daemon::with_docker("")?;
    daemon.cli(&["app", "create", "right"])?.success()?;
    let garbage = daemon.folder.path().join("garbage.wasm");
    std::fs::write(&garbage, "no wasm at all")?;
    let garbage = garbage.to_string_lossy();
    for (arguments, code) in [
        (vec!["app", "create", "Wrong_Name"], 2),
        (vec!["app", "create", "right"], 5),
        (vec!["app", "info", "nobody"], 4),
        (vec!["unit", "add", "right", "1"], 5),
        (vec!["unit", "add", "nobody", "1"], 4),
        (vec!["unit", "add", "right", "0"], 2),
        (vec!["env", "set", "right", "1BAD=x"], 2),
        (vec!["app", "run", "right", "--", "true"], 4),
        (vec!["plugin", "inspect", "nobody"], 4),
        (vec!["plugin", "inspect", &garbage], 3),
        (vec!["operation", "info", "nobody"], 4),
    ] {
        let finished = daemon.cli(&arguments)?;
        ensure!(finished.code == Some(code), "{arguments:?}: expected {code}, got {finished:?}");
        ensure!(finished.stderr.starts_with("error:"), "{arguments:?}: {}", finished.stderr);
        ensure!(finished.stderr.contains("\nhint: "), "{arguments:?}: {}", finished.stderr);
    }
    // What is missing in the line itself is told with what there is.
    let usage = daemon.cli(&["app", "deploy", "right"])?.failure(2)?;
    ensure!(usage.starts_with("error: deploy what?") && usage.contains("--image IMAGE"), "{usage}");
    Ok(())
}

#[test]
fn a_log_that_goes_elsewhere_is_told_with_where_that_is_said() -> Result<()> {
    let image = Image::new("away:v1", "away", "")?;
    let daemon = Daemon::with_docker(
        "[provisioners.docker]\nconfig = { docker = { log-driver = \"none\" } }\n",
    )?;
    daemon.cli(&["app", "create", "away"])?.success()?;
    daemon.cli(&["app", "deploy", "away", "--image", &image.0])?.success()?;
    let text = daemon.cli(&["app", "log", "away"])?.failure(1)?;
    ensure!(text.contains("\"none\"") && text.contains("\nhint: "), "{text}");
    Ok(())
}

#[test]
fn without_a_daemon_the_command_line_says_how_to_start_one() -> Result<()> {
    let mut daemon = Daemon::start("")?;
    daemon.stop()?;
    let text = daemon.cli(&["app", "list"])?.failure(6)?;
    ensure!(text.contains("gantry serve"), "{text}");
    Ok(())
}

#[test]
fn an_unreachable_docker_is_told_by_its_address() -> Result<()> {
    let daemon =
        Daemon::with_docker("[[docker.hosts]]\naddress = \"unix:///nowhere/docker.sock\"\n")?;
    daemon.cli(&["app", "create", "lost"])?.success()?;
    let finished = daemon.cli(&["app", "deploy", "lost", "--image", "gantry-test/any:v1"])?;
    assert_eq!(finished.code, Some(6), "{finished:?}");
    ensure!(finished.stderr.contains("/nowhere/docker.sock"), "{}", finished.stderr);
    Ok(())
}

//! Shells in units on real Docker engines, for somebody at a terminal.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry_tests::artifacts::{self, image};
use gantry_tests::daemon::{Daemon, docker, eventually};
use gantry_tests::hosts::Hosts;
use gantry_tests::terminal::Terminal;

const SOON: Duration = Duration::from_secs(90);

/// A daemon with an app of one unit, and the unit.
fn app(name: &str) -> Result<(Daemon, String)> {
    let image_name = format!("gantry-test/{name}:v1");
    image(&image_name, name, "")?;
    let daemon = Daemon::with_docker("")?;
    daemon.cli(&["app", "create", name])?.success()?;
    daemon.cli(&["app", "deploy", name, "--image", &image_name])?.success()?;
    docker(&["rmi", "-f", &image_name])?;
    let (unit, _) = daemon.containers()?.pop().context("it has a unit")?;
    Ok((daemon, unit))
}

/// The commands of the processes of a unit.
fn processes(unit: &str) -> Result<String> {
    docker(&["top", unit, "-o", "pid,args"])
}

/// Waits until no shell is left in a unit, nor what ran in it.
fn until_without_shells(unit: &str) -> Result<()> {
    let mut left = String::new();
    let gone = eventually(SOON, "the shell has ended", || {
        left = processes(unit)?;
        Ok((!left.contains("bash -l") && !left.contains("sleep 1000")).then_some(()))
    });
    gone.context(left)?;
    ensure!(processes(unit)?.contains("serve"), "the unit itself goes on");
    Ok(())
}

/// Has something running in a shell's foreground, and waits until it does.
fn occupy(terminal: &Terminal) -> Result<()> {
    terminal.types("echo wait''ing; sleep 1000")?;
    terminal.until("waiting")
}

fn signal(name: &str, pid: u32) -> Result<()> {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status()?;
    ensure!(status.success(), "could not send {name} to {pid}");
    Ok(())
}

#[test]
fn a_shell_is_a_terminal_in_a_unit_of_docker() -> Result<()> {
    let (daemon, unit) = app("tty")?;
    let terminal = Terminal::shell(&daemon, "tty")?;
    // What is typed is on the screen too: only what comes of it has these words.
    terminal.types(
        "echo \"unit $(hostname)\" ter''minal $TERM $(shopt -q login_shell && echo login)",
    )?;
    let hostname = unit.get(..12).context("an id")?;
    terminal.until(&format!("unit {hostname} terminal vt220 login"))?;
    terminal.types("busybox stty size")?;
    terminal.until("30 90")?;
    for step in 0..60 {
        let (width, height) = ((60 + step).to_string(), (20 + step % 7).to_string());
        terminal.tmux(&["resize-window", "-x", &width, "-y", &height])?;
    }
    terminal.tmux(&["resize-window", "-x", "120", "-y", "40"])?;
    // The shell hears of it a moment later.
    terminal
        .types("until [ \"$(busybox stty size)\" = '40 120' ]; do sleep 1; done; echo re''sized")?;
    terminal.until("resized")?;
    occupy(&terminal)?;
    terminal.tmux(&["send-keys", "C-c"])?;
    terminal.types_until("echo code''is $?", "codeis 130")?;
    terminal.types("exit 7")?;
    assert_eq!(terminal.ended()?, 7);
    until_without_shells(&unit)
}

#[test]
fn a_shell_ends_with_its_own_code_and_others_in_the_unit_go_on() -> Result<()> {
    let (daemon, unit) = app("codes")?;
    let other = Terminal::shell(&daemon, &format!("codes --unit {}", &unit[..8]))?;
    other.types("cd /www && echo he''re")?;
    other.until("here")?;
    for (typed, code) in [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)] {
        let terminal = Terminal::shell(&daemon, "codes")?;
        terminal.types("pwd")?;
        terminal.until("/")?;
        terminal.types(typed)?;
        assert_eq!(terminal.ended()?, code, "{typed}");
    }
    other.types("echo still in $PWD")?;
    other.until("still in /www")?;
    let operations = daemon.cli(&["operation", "list"])?.success()?;
    assert_eq!(operations.matches("app-shell").count(), 4, "{operations}");
    Ok(())
}

#[test]
fn a_megabyte_that_is_pasted_arrives() -> Result<()> {
    let (daemon, _) = app("paste")?;
    let text = daemon.folder.path().join("text");
    std::fs::write(
        &text,
        "all work and no play makes a dull boy, says the sixty-third byt\n".repeat(1 << 14),
    )?;
    let terminal = Terminal::shell(&daemon, "paste")?;
    terminal.types("busybox stty -echo; echo re''ady; busybox wc -c; busybox stty echo")?;
    terminal.until("ready")?;
    terminal.tmux(&["load-buffer", &text.to_string_lossy()])?;
    terminal.tmux(&["paste-buffer"])?;
    terminal.tmux(&["send-keys", "C-d"])?;
    terminal.until(&(1 << 20).to_string())?;
    terminal.types("exit")?;
    assert_eq!(terminal.ended()?, 0);
    Ok(())
}

#[test]
fn a_shell_ends_with_whoever_was_at_it() -> Result<()> {
    let (mut daemon, unit) = app("gone")?;
    let shell = |daemon: &Daemon| {
        let terminal = Terminal::shell(daemon, "gone")?;
        occupy(&terminal)?;
        ensure!(processes(&unit)?.contains("sleep 1000"), "it runs");
        anyhow::Ok(terminal)
    };
    // The program is killed.
    let terminal = shell(&daemon)?;
    signal("KILL", terminal.program()?)?;
    until_without_shells(&unit)?;
    // The terminal is closed.
    drop(shell(&daemon)?);
    until_without_shells(&unit)?;
    // Its operation is cancelled.
    let terminal = shell(&daemon)?;
    let operations = daemon.json(&["operation", "list"])?;
    let newest = operations[0]["id"].as_str().context("it has an id")?;
    daemon.cli(&["operation", "cancel", newest])?.success()?;
    assert_eq!(terminal.ended()?, 130);
    until_without_shells(&unit)?;
    // The daemon is killed: nobody is left who could end it.
    let terminal = shell(&daemon)?;
    daemon.signal("KILL")?;
    daemon.wait(SOON)?;
    assert_eq!(terminal.ended()?, 6);
    until_without_shells(&unit)?;
    daemon.resume()
}

#[test]
fn a_shell_ends_with_its_unit_and_never_as_if_all_were_well() -> Result<()> {
    let (daemon, unit) = app("removed")?;
    let terminal = Terminal::shell(&daemon, "removed")?;
    occupy(&terminal)?;
    docker(&["rm", "-f", &unit])?;
    let code = terminal.ended()?;
    // Docker may still tell how the shell itself ended.
    ensure!([137, 4].contains(&code), "{code}: {}", terminal.screen()?);
    Ok(())
}

#[test]
fn a_shell_whose_host_dies_is_told_and_does_not_stay() -> Result<()> {
    image("gantry-test/shell-host:v1", "one", "")?;
    let mut hosts = Hosts::start(1)?;
    let host = hosts.hosts.first().context("one host was asked for")?.clone();
    hosts.load(&host, "gantry-test/shell-host:v1")?;
    docker(&["rmi", "gantry-test/shell-host:v1"])?;
    let daemon = Daemon::with_docker(&format!(
        "[[docker.hosts]]\naddress = \"tcp://{}:2376\"\ntls = {:?}\n",
        host.address,
        hosts.certificates()
    ))?;
    daemon.cli(&["app", "create", "host"])?.success()?;
    daemon.cli(&["app", "deploy", "host", "--image", "gantry-test/shell-host:v1"])?.success()?;
    let terminal = Terminal::shell(&daemon, "host")?;
    occupy(&terminal)?;
    hosts.kill(&host)?;
    assert_eq!(terminal.ended()?, 6, "{}", terminal.screen()?);
    let refused = Terminal::shell(&daemon, "host")?;
    assert_eq!(refused.ended()?, 6, "{}", refused.screen()?);

    hosts.revive(&host.name)?;
    let host = hosts.hosts.first().context("the same")?.clone();
    let unit = hosts.docker(&host, &["ps", "-q"])?;
    eventually(SOON, "the shell has ended", || {
        let left = hosts.docker(&host, &["top", unit.trim(), "-o", "pid,args"])?;
        Ok((!left.contains("bash -l") && !left.contains("sleep 1000")).then_some(()))
    })?;
    let terminal = Terminal::shell(&daemon, "host")?;
    terminal.types("echo ba''ck; exit 4")?;
    assert_eq!(terminal.ended()?, 4);
    Ok(())
}

#[test]
fn a_shell_that_cannot_be_opened_says_why() -> Result<()> {
    let (daemon, unit) = app("closed")?;
    let refused = |unit: &str, code: i32, why: &str| {
        let terminal = Terminal::shell(&daemon, &format!("closed {unit}"))?;
        let ended = terminal.ended()?;
        let screen = terminal.screen()?;
        ensure!(ended == code && screen.contains(why), "{unit}: {ended} {screen}");
        anyhow::Ok(())
    };
    refused("--unit nobody", 4, "unit \"nobody\" not found")?;
    docker(&["exec", &unit, "busybox", "rm", "/bin/bash", "/bin/sh"])?;
    refused("", 4, "has no shell: neither `/bin/bash` nor `/bin/sh`")?;
    docker(&["exec", &unit, "busybox", "ln", "/bin/busybox", "/bin/sh"])?;
    let terminal = Terminal::shell(&daemon, "closed")?;
    terminal.types("echo this is $0 on $TERM")?;
    terminal.until("this is /bin/sh on vt220")?;
    terminal.types("exit 2")?;
    assert_eq!(terminal.ended()?, 2);
    daemon.cli(&["app", "stop", "closed"])?.success()?;
    let prefix = format!("--unit {}", &unit[..6]);
    refused(&prefix, 5, "does not run: its container is exited")?;
    refused("", 4, "could not open a shell in `closed`")
}

#[test]
fn a_shell_outlives_the_plugin_that_opened_it() -> Result<()> {
    let (daemon, _) = app("swapped")?;
    let terminal = Terminal::shell(&daemon, "swapped")?;
    terminal.types("echo be''fore")?;
    terminal.until("before")?;
    let digest = || anyhow::Ok(daemon.json(&["plugin", "inspect", "docker"])?["digest"].clone());
    let before = digest()?;
    // The same plugin under another digest: a section that nobody reads.
    let mut bytes = std::fs::read(artifacts::docker_plugin()?)?;
    bytes.extend_from_slice(b"\x00\x05\x04next");
    let next = daemon.folder.path().join("next.wasm");
    std::fs::write(&next, bytes)?;
    daemon.cli(&["plugin", "swap", "docker", &next.to_string_lossy()])?.success()?;
    ensure!(digest()? != before, "it was swapped");
    terminal.types("echo af''ter; exit 9")?;
    assert_eq!(terminal.ended()?, 9);
    ensure!(terminal.screen()?.lines().any(|line| line == "after"), "{}", terminal.screen()?);
    let other = Terminal::shell(&daemon, "swapped")?;
    other.types("exit 8")?;
    assert_eq!(other.ended()?, 8);
    Ok(())
}

//! Units: commands in them, their logs, shells, volumes.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use gantry_tests::terminal::Terminal;

use super::{Following, Kube, VOLUMES, told, until_volume_gone};

#[test]
fn commands_run_in_all_units_in_one_or_in_one_of_their_own_and_end_with_their_code() -> Result<()> {
    let kube = Kube::shared("")?;
    let image = kube.cluster.image("gantry-test/kube-run:v1", "one", "")?;
    kube.app("run", &image.name, 3)?;
    let run = |words: &[&str]| kube.daemon.cli(&[&["app", "run", "run"], words].concat());
    let units: Vec<String> = kube.units("run")?.into_iter().map(|(unit, _)| unit).collect();
    let mut said: Vec<String> =
        run(&["--", "hostname"])?.success()?.lines().map(str::to_owned).collect();
    said.sort();
    assert_eq!(said, units, "once in every unit");
    // It goes on to the next unit after 0 only.
    let first = run(&["--", "sh", "-c", "hostname; exit 4"])?;
    ensure!(first.code == Some(4) && first.stdout.lines().count() == 1, "{first:?}");
    let one = format!("[ $(hostname) != {} ] || exit 5", units[0]);
    ensure!(run(&["--", "sh", "-c", &one])?.code == Some(5), "one that fails is enough");

    let once = run(&["--once", "--", "sh", "-c", "echo out; echo err >&2; exit 6"])?;
    ensure!(once.code == Some(6) && once.stdout == "out\n", "{once:?}");
    ensure!(once.stderr.contains("err\n"), "{once:?}");
    let script = "hostname; printf '[%s]' \"$@\"; echo err >&2; exit 9";
    let alone = run(&["--isolated", "--", "sh", "-c", script, "sh", "a  b", "", "it's"])?;
    ensure!(alone.code == Some(9) && alone.stderr.contains("err\n"), "{alone:?}");
    let (host, arguments) = alone.stdout.split_once('\n').context("two lines")?;
    assert_eq!(arguments, "[a  b][][it's]");
    ensure!(!units.iter().any(|unit| unit == host), "it has a unit of its own: {host}");
    let pods: Vec<String> = kube.pods("run")?.into_iter().collect();
    assert_eq!(pods, units, "which is gone");

    // The others serve on when units come and go.
    kube.done(&["unit", "remove", "run", "2"])?;
    let left = kube.units("run")?;
    ensure!(left.len() == 1 && left.iter().all(|(unit, _)| units.contains(unit)), "{left:?}");
    kube.done(&["unit", "add", "run", "1"])?;
    let more = kube.units("run")?;
    ensure!(more.len() == 2 && more.is_superset(&left), "{more:?}");
    kube.done(&["unit", "remove", "run", "1"])?;
    assert_eq!(kube.units("run")?.len(), 1);
    for rest in ["stop", "sleep"] {
        kube.done(&["app", rest, "run"])?;
        ensure!(kube.units("run")?.is_empty() && kube.addresses("run")?.is_empty(), "{rest}");
        let none =
            told(run(&["--once", "--", "true"])?, 4, "could not run a command in `run`", &[]);
        none?;
        kube.done(&["app", "start", "run"])?;
        kube.until_answers("run", "one")?;
        assert_eq!(kube.units("run")?.len(), 1, "as many as before");
    }
    kube.done(&["app", "remove", "run", "-y"])?;
    Ok(())
}

/// What a unit has said, as the log shows it.
fn line(unit: &str, word: &str) -> String {
    format!("[web][{unit}]: {word} of {unit}")
}

#[test]
fn a_followed_log_has_what_every_unit_says_from_now_on() -> Result<()> {
    let kube = Kube::shared("")?;
    let image = kube.cluster.image("gantry-test/kube-log:v1", "one", "")?;
    kube.app("log", &image.name, 2)?;
    let following = Following::begin(&kube, "log")?;
    following.until("serving on")?;
    for word in ["first", "second", "of the next units"] {
        if word == "of the next units" {
            kube.done(&["app", "restart", "log"])?;
        }
        let say = format!("echo {word} of $(hostname) >/proc/1/fd/1");
        kube.done(&["app", "run", "log", "--", "sh", "-c", &say])?;
        let mut expected: Vec<String> =
            kube.units("log")?.iter().map(|(unit, _)| line(unit, word)).collect();
        while !expected.is_empty() {
            let said = following.until(word)?.pop().unwrap_or_default();
            let before = expected.len();
            expected.retain(|line| *line != said);
            ensure!(expected.len() < before, "{said:?} is none of {expected:?}");
        }
    }
    // Whoever follows a log ends it with Ctrl-C.
    let pid = following.child.id().to_string();
    ensure!(Command::new("kill").args(["-INT", &pid]).status()?.success());
    assert_eq!(following.end()?, (Some(0), String::new()));
    kube.done(&["app", "remove", "log", "-y"])?;
    Ok(())
}

#[test]
fn a_shell_is_a_terminal_in_a_unit() -> Result<()> {
    let kube = Kube::shared("")?;
    let image = kube.cluster.image("gantry-test/kube-shell:v1", "one", "")?;
    kube.app("shell", &image.name, 1)?;
    let (unit, _) = kube.units("shell")?.pop_first().context("it has a unit")?;
    let terminal = Terminal::shell(&kube.daemon, "shell")?;
    // What is typed is on the screen too: only what comes of it has these words.
    terminal.types("echo \"unit $(hostname)\" ter''minal $TERM")?;
    terminal.until(&format!("unit {unit} terminal vt220"))?;
    terminal.types("busybox stty size")?;
    terminal.until("30 90")?;
    terminal.tmux(&["resize-window", "-x", "120", "-y", "40"])?;
    // The shell hears of it a moment later.
    terminal
        .types("until [ \"$(busybox stty size)\" = '40 120' ]; do sleep 1; done; echo re''sized")?;
    terminal.until("resized")?;
    terminal.types("echo wait''ing; sleep 1000")?;
    terminal.until("waiting")?;
    terminal.tmux(&["send-keys", "C-c"])?;
    terminal.types_until("echo code''is $?", "codeis 130")?;
    terminal.types("exit 7")?;
    assert_eq!(terminal.ended()?, 7);
    drop(terminal);
    kube.done(&["app", "remove", "shell", "-y"])?;
    Ok(())
}

#[test]
fn what_a_unit_writes_to_a_volume_is_there_after_a_redeploy() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let kube = Kube::shared(VOLUMES)?;
    let images = ["v1", "v2"]
        .map(|tag| kube.cluster.image(&format!("gantry-test/kube-volume:{tag}"), tag, ""));
    let [one, two] = images;
    let (one, two) = (one?, two?);
    let folder = kube.daemon.folder.path().join("volume");
    std::fs::create_dir(&folder)?;
    // Units do not run as root.
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777))?;
    let path = format!("path={}", folder.display());
    kube.done(&["volume", "create", "kept", "folder", "--pool", "kube", "--opt", &path])?;
    kube.app("volume", &one.name, 1)?;
    kube.done(&["volume", "bind", "kept", "volume", "/data"])?;
    kube.done(&["app", "run", "volume", "--once", "--", "sh", "-c", "echo kept >/data/file"])?;
    kube.done(&["app", "deploy", "volume", "--image", &two.name])?;
    kube.until_answers("volume", "v2")?;
    let read = ["app", "run", "volume", "--once", "--", "cat", "/data/file"];
    assert_eq!(kube.done(&read)?, "kept\n");
    kube.done(&["volume", "unbind", "kept", "volume", "/data"])?;
    ensure!(kube.daemon.cli(&read)?.code == Some(1), "it is gone from the units");
    kube.done(&["volume", "remove", "kept", "-y"])?;
    until_volume_gone(&kube, "kept")?;
    kube.done(&["app", "rollback", "volume", &one.name])?;
    kube.until_answers("volume", "v1")?;
    kube.done(&["app", "remove", "volume", "-y"])?;
    Ok(())
}

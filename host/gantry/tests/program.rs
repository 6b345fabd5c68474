//! The program as a child process: how it starts, refuses to start, and ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const GANTRY: &str = env!("CARGO_BIN_EXE_gantry");
const SOON: Duration = Duration::from_secs(60);

fn gantry(home: &Path) -> Command {
    let mut command = Command::new(GANTRY);
    clean(&mut command, home);
    command
}

fn clean(command: &mut Command, home: &Path) {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("GANTRY_HOST", format!("unix://{}", home.join("g.sock").display()))
        .stdin(Stdio::null());
}

fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A daemon that is killed when a test is done with it.
struct Served {
    child: Child,
    lines: Vec<String>,
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone after the wait.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    /// Starts a daemon and reads what it announces, up to `ready`.
    fn start(command: &mut Command) -> Result<Self> {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut served = Self { child, lines: Vec::new() };
        let stdout = served.child.stdout.take().context("stdout is piped")?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if line == "ready" {
                return Ok(served);
            }
            served.lines.push(line);
        }
        let output = std::mem::replace(&mut served.child, Command::new("true").spawn()?);
        bail!("it did not start: {:?}", told(&output.wait_with_output()?));
    }

    fn signal(&self, name: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args([format!("-{name}"), pid]).status()?.success());
        Ok(())
    }

    fn wait(&mut self) -> Result<Option<i32>> {
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("it did not end");
    }
}

/// What a daemon that is not to start said; one that starts all the same is killed.
fn ended(command: &mut Command) -> Result<Output> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut first = String::new();
    let stdout = child.stdout.take().context("stdout is piped")?;
    // It announces a place, or it ends.
    if BufReader::new(stdout).read_line(&mut first)? > 0 {
        child.kill()?;
    }
    Ok(child.wait_with_output()?)
}

fn serve(home: &Path) -> Command {
    let mut command = gantry(home);
    command.arg("serve").arg("--data-dir").arg(home.join("data"));
    command.arg("--socket").arg(home.join("g.sock"));
    command
}

#[test]
fn it_serves_on_a_private_socket_until_it_is_told_to_end() -> Result<()> {
    let home = tempfile::tempdir()?;
    let mut served = Served::start(&mut serve(home.path()))?;
    let socket = home.path().join("g.sock");
    assert_eq!(served.lines, [format!("listening unix://{}", socket.display())]);
    assert_eq!(fs::metadata(&socket)?.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(home.path().join("data"))?.permissions().mode() & 0o777, 0o700);
    let listed = gantry(home.path()).args(["app", "list", "--output", "json"]).output()?;
    assert_eq!((listed.status.code(), listed.stdout.as_slice()), (Some(0), b"[]\n".as_slice()));
    served.signal("TERM")?;
    assert_eq!(served.wait()?, Some(0));
    ensure!(!socket.exists(), "the socket goes with the daemon");
    let (code, text) = told(&gantry(home.path()).args(["app", "list"]).output()?);
    ensure!(code == Some(6) && text.contains("hint: start it with `gantry serve`"), "{text}");
    Ok(())
}

#[test]
fn a_second_daemon_on_one_folder_is_refused_with_the_process_of_the_first() -> Result<()> {
    let home = tempfile::tempdir()?;
    let served = Served::start(&mut serve(home.path()))?;
    let mut second = serve(home.path());
    second.args(["--socket", "/nowhere/other.sock"]);
    let mut second = gantry(home.path());
    second.arg("serve").arg("--data-dir").arg(home.path().join("data"));
    second.arg("--socket").arg(home.path().join("other.sock"));
    let (code, text) = told(&second.output()?);
    assert_eq!(code, Some(1), "{text}");
    let holder = format!("is in use by process {}", served.child.id());
    ensure!(text.starts_with("error: cannot serve\ncaused by: the data directory"), "{text}");
    ensure!(text.contains(&holder) && text.contains("hint: stop that one first"), "{text}");
    // The first one is unharmed, and its socket still its own.
    let (code, text) = told(&gantry(home.path()).args(["app", "list"]).output()?);
    assert_eq!(code, Some(0), "{text}");
    Ok(())
}

#[test]
fn a_daemon_that_was_killed_leaves_nothing_in_the_way_of_the_next() -> Result<()> {
    let home = tempfile::tempdir()?;
    let mut served = Served::start(&mut serve(home.path()))?;
    served.signal("KILL")?;
    served.wait()?;
    ensure!(home.path().join("g.sock").exists(), "a killed daemon cleans nothing up");
    let mut next = Served::start(&mut serve(home.path()))?;
    next.signal("INT")?;
    assert_eq!(next.wait()?, Some(0));
    Ok(())
}

#[test]
fn a_file_in_the_place_of_the_socket_is_left_as_it_is() -> Result<()> {
    let home = tempfile::tempdir()?;
    let file = home.path().join("g.sock");
    fs::write(&file, "precious")?;
    let (code, text) = told(&ended(&mut serve(home.path()))?);
    assert_eq!(code, Some(1), "{text}");
    ensure!(text.contains("caused by: it is no socket\nhint: name a file"), "{text}");
    assert_eq!(fs::read(&file)?, b"precious");
    Ok(())
}

#[test]
fn what_cannot_be_written_out_is_a_failure() -> Result<()> {
    let home = tempfile::tempdir()?;
    let _served = Served::start(&mut serve(home.path()))?;
    let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let mut command = gantry(home.path());
    command.args(["app", "list", "--output", "json"]).stdout(full).stderr(Stdio::piped());
    let (code, text) = told(&command.spawn()?.wait_with_output()?);
    assert_eq!(code, Some(1), "{text}");
    ensure!(text.contains("error: cannot write\ncaused by: No space left"), "{text}");
    Ok(())
}

#[test]
fn an_amount_that_is_too_much_is_refused() -> Result<()> {
    let home = tempfile::tempdir()?;
    for amount in [["--memory", "9000000000G"], ["--swap", "9000000000G"]] {
        let output = gantry(home.path()).args(["app", "create", "web"]).args(amount).output()?;
        let (code, text) = told(&output);
        ensure!(code == Some(2) && text.contains("9000000000G"), "{text}");
    }
    Ok(())
}

#[test]
fn tcp_takes_a_free_port_and_needs_a_token() -> Result<()> {
    let home = tempfile::tempdir()?;
    let listen = ["--listen", "127.0.0.1:0"];
    let (code, text) = told(&serve(home.path()).args(listen).output()?);
    assert_eq!(code, Some(1));
    ensure!(text.contains("without a token") && text.contains("hint: "), "{text}");
    let served = Served::start(serve(home.path()).args(listen).env("GANTRY_TOKEN", "sesame"))?;
    let place = served.lines.iter().find_map(|line| line.strip_prefix("listening http://"));
    let place = format!("http://{}", place.context("it says where")?);
    ensure!(!place.ends_with(":0"), "{place}");
    let ask = |token: &str| {
        let mut command = gantry(home.path());
        command.args(["--host", &place, "--token", token, "app", "list"]).output()
    };
    assert_eq!(ask("sesame")?.status.code(), Some(0));
    let (code, text) = told(&ask("wrong")?);
    assert_eq!(code, Some(3));
    ensure!(text.starts_with("error: the token is missing or wrong\nhint: "), "{text}");
    Ok(())
}

#[test]
fn a_port_that_is_taken_leaves_no_socket_behind() -> Result<()> {
    let home = tempfile::tempdir()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let mut command = serve(home.path());
    command.args(["--listen", &address]).env("GANTRY_TOKEN", "sesame");
    let (code, text) = told(&ended(&mut command)?);
    assert_eq!(code, Some(1), "{text}");
    ensure!(text.contains(&format!("cannot listen on `http://{address}`")), "{text}");
    ensure!(text.contains("hint: another program listens there"), "{text}");
    ensure!(!home.path().join("g.sock").exists(), "nobody answers there");
    Ok(())
}

#[test]
fn a_mistake_in_the_configuration_is_told_with_the_nearest_key() -> Result<()> {
    let home = tempfile::tempdir()?;
    let file = home.path().join("gantry.toml");
    fs::write(&file, "[http]\nsokcet = \"x\"\n")?;
    let output = gantry(home.path()).arg("serve").arg("--config").arg(&file).output()?;
    let (code, text) = told(&output);
    assert_eq!(code, Some(1));
    let expected = format!(
        "error: cannot serve\ncaused by: unknown key `http.sokcet` in `{}`\nhint: did you mean `http.socket`?\n",
        file.display()
    );
    assert_eq!(text, expected);
    Ok(())
}

#[test]
fn plugins_are_compiled_in_a_process_that_can_be_killed_whatever_the_program_is_called()
-> Result<()> {
    let home = tempfile::tempdir()?;
    let program = home.path().join("renamed");
    fs::copy(GANTRY, &program)?;
    // No process compiles in a millisecond; one that cannot be killed would take its time.
    let config = home.path().join("gantry.toml");
    fs::write(&config, "compiler.timeout = \"1ms\"\n")?;
    let plugin = home.path().join("docker.wasm");
    fs::write(&plugin, crate::support::plugin()?)?;
    let mut command = Command::new(program);
    clean(&mut command, home.path());
    command.args(["serve", "--data-dir"]).arg(home.path().join("data"));
    command.arg("--socket").arg(home.path().join("g.sock")).arg("--config").arg(config);
    let _served = Served::start(&mut command)?;
    let install = gantry(home.path()).args(["plugin", "install", "docker"]).arg(plugin).output()?;
    let (code, text) = told(&install);
    ensure!(code.is_some_and(|code| code != 0), "{text}");
    ensure!(text.contains("compil"), "{text}");
    Ok(())
}

/// Runs a line in a shell, where it may be given limits and mounts of its own.
fn shell(home: &Path, line: &str, own_mounts: bool) -> Command {
    let mut command = match own_mounts {
        true => Command::new("unshare"),
        false => Command::new("sh"),
    };
    clean(&mut command, home);
    if own_mounts {
        command.args(["-m", "sh"]);
    }
    command.args(["-c", line]).env("GANTRY", GANTRY);
    command
}

#[test]
fn a_folder_that_cannot_be_written_is_told() -> Result<()> {
    let home = tempfile::tempdir()?;
    let data = home.path().join("data");
    fs::create_dir(&data)?;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o500))?;
    let serve = "exec \"$GANTRY\" serve --data-dir \"$HOME/data\" --socket \"$HOME/g.sock\"";
    // To root no folder is read-only by its mode; a mount is.
    let root = fs::write(data.join("try"), "").is_ok();
    let line = match root {
        true => format!("mount -t tmpfs -o ro,size=1m,mode=700 none \"$HOME/data\" && {serve}"),
        false => serve.to_owned(),
    };
    let output = shell(home.path(), &line, root).output()?;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
    let (code, text) = told(&output);
    assert_eq!(code, Some(1), "{text}");
    ensure!(text.contains("caused by: cannot write in the data directory"), "{text}");
    ensure!(text.contains("Read-only file system") || text.contains("Permission denied"), "{text}");
    ensure!(text.contains("hint: name a folder that can be written"), "{text}");
    Ok(())
}

#[test]
fn a_store_that_cannot_be_used_is_told_with_what_to_do() -> Result<()> {
    type Spoil = fn(&Path) -> Result<()>;
    let newer: Spoil = |file| {
        let store = rusqlite::Connection::open(file)?;
        Ok(store.pragma_update(None, "user_version", 99)?)
    };
    let garbage: Spoil = |file| Ok(fs::write(file, "x".repeat(4096))?);
    let cases = [
        (newer, "was written by a newer gantry", "hint: serve with the newer gantry"),
        (garbage, "file is not a database", "hint: put a copy of the data directory"),
    ];
    for (spoil, why, hint) in cases {
        let home = tempfile::tempdir()?;
        let mut served = Served::start(&mut serve(home.path()))?;
        served.signal("TERM")?;
        served.wait()?;
        spoil(&home.path().join("data/gantry.db"))?;
        let (code, text) = told(&ended(&mut serve(home.path()))?);
        assert_eq!(code, Some(1), "{text}");
        ensure!(text.contains(why) && text.contains(hint), "{text}");
    }
    Ok(())
}

#[test]
fn a_full_disk_fails_the_change_and_not_the_daemon() -> Result<()> {
    let home = tempfile::tempdir()?;
    // A limit on the size of files is a disk that is full for this process: a write past it fails, once the signal that comes with it is ignored. 1024 blocks are half a MiB.
    let line = "trap '' XFSZ; ulimit -f 1024; \
                exec \"$GANTRY\" serve --data-dir \"$HOME/data\" --socket \"$HOME/g.sock\"";
    let _served = Served::start(&mut shell(home.path(), line, false))?;
    let file = home.path().join("big.wasm");
    fs::write(&file, vec![0; 4 << 20])?;
    let install = || gantry(home.path()).args(["plugin", "install", "big"]).arg(&file).output();
    for _ in 0..2 {
        let (code, text) = told(&install()?);
        assert_eq!(code, Some(1), "{text}");
        ensure!(text.contains("cannot write in the data directory"), "{text}");
        ensure!(text.contains("File too large"), "{text}");
    }
    ensure!(fs::read_dir(home.path().join("data/plugins"))?.next().is_none(), "no half of a file");
    let listed = gantry(home.path()).args(["operation", "list"]).output()?;
    ensure!(String::from_utf8_lossy(&listed.stdout).matches("failed").count() == 2);
    Ok(())
}

#[test]
fn the_exit_codes_are_documented_where_people_look() -> Result<()> {
    let home = tempfile::tempdir()?;
    for words in [["help", "exit-codes"].as_slice(), ["exit-codes"].as_slice()] {
        let output = gantry(home.path()).args(words).output()?;
        ensure!(output.status.success());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(text.contains("  6    the daemon or the engine cannot be reached"), "{text}");
    }
    Ok(())
}

#[test]
fn the_printed_configuration_can_be_used_as_it_is() -> Result<()> {
    let home = tempfile::tempdir()?;
    let printed = gantry(home.path()).args(["serve", "--print-config"]).output()?;
    let file = home.path().join("gantry.toml");
    fs::write(&file, &printed.stdout)?;
    let mut served = Served::start(serve(home.path()).arg("--config").arg(&file))?;
    served.signal("TERM")?;
    assert_eq!(served.wait()?, Some(0));
    Ok(())
}

#[test]
fn whatever_is_removed_is_asked_for_first_or_confirmed_on_the_command_line() -> Result<()> {
    let home = tempfile::tempdir()?;
    for group in ["app", "volume", "pool", "cluster", "node", "node container"] {
        let remove = |more: &[&str]| -> Result<_> {
            let mut command = gantry(home.path());
            command.args(group.split(' ')).args(["remove", "x"]);
            Ok(told(&command.args(more).output()?))
        };
        let (code, text) = remove(&[])?;
        assert_eq!(code, Some(2), "{group}: {text}");
        ensure!(text.contains("nobody to ask") && text.contains("hint: add `--assume-yes`"));
        for yes in ["-y", "--yes", "--assume-yes"] {
            // No daemon is there to be asked, so it was confirmed.
            assert_eq!(remove(&[yes])?.0, Some(6), "{group} {yes}");
        }
    }
    Ok(())
}

#[test]
fn what_has_no_name_is_nothing_and_is_refused_before_the_daemon_is_asked() -> Result<()> {
    let home = tempfile::tempdir()?;
    let cases: [&[&str]; 13] = [
        &["app", "info", ""],
        &["app", "remove", "-a", "", "-y"],
        &["app", "rollback", "", "web:1"],
        &["unit", "list", ""],
        &["unit", "add", "", "1"],
        &["env", "set", "", "A=b"],
        &["node", "info", ""],
        &["node", "remove", "", "-y"],
        &["node", "container", "remove", "", "-y"],
        &["volume", "info", " "],
        &["pool", "remove", "", "-y"],
        &["cluster", "info", ""],
        &["operation", "info", ""],
    ];
    for case in cases {
        let (code, text) = told(&gantry(home.path()).args(case).output()?);
        ensure!(code == Some(2) && text.starts_with("error: "), "{case:?}: {code:?} {text}");
    }
    Ok(())
}

#[test]
fn a_plugin_that_cannot_be_read_is_told_with_what_to_name() -> Result<()> {
    let home = tempfile::tempdir()?;
    let here = home.path().to_string_lossy().into_owned();
    for verb in ["install", "swap"] {
        for (file, code) in [("/nowhere/docker.wasm", 4), (here.as_str(), 1)] {
            let output = gantry(home.path()).args(["plugin", verb, "docker", file]).output()?;
            let (ended, text) = told(&output);
            assert_eq!(ended, Some(code), "{text}");
            let what = format!("error: cannot read `{file}`\ncaused by: ");
            ensure!(text.starts_with(&what) && text.contains("\nhint: name a component"), "{text}");
        }
    }
    Ok(())
}

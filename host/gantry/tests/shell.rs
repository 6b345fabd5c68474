//! Shells: the websocket as any program sees it, and the program on a terminal.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use gantry::api::shell::{Control, TerminalSize};
use gantry::api::{Items, Operation, OperationState, ProblemKind};
use gantry::client::{Client, ClientError, Screen, Told};
use hyper::Method;
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{House, SOON};

/// A house with an app whose pod has a shell.
async fn house() -> Result<House> {
    let house = House::with_both("").await?.with_cluster().await?;
    house.cluster.pod("web")?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web", "pool": "yard"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "a:1"})).await?;
    Ok(house)
}

/// What is said up to these words.
async fn until(screen: &mut Screen, words: &str) -> Result<String> {
    let mut said = String::new();
    let wait = async {
        while !said.contains(words) {
            match screen.next().await? {
                Some(Told::Stdout(bytes)) => said.push_str(&String::from_utf8_lossy(&bytes)),
                Some(Told::Alive) => {}
                other => anyhow::bail!("{other:?} after {said:?}"),
            }
        }
        Ok(())
    };
    tokio::time::timeout(SOON, wait).await.context("nothing is said")??;
    Ok(said)
}

/// How a shell ends.
async fn end(screen: &mut Screen) -> Result<Control> {
    loop {
        match tokio::time::timeout(SOON, screen.next()).await?? {
            Some(Told::Control(control)) => return Ok(control),
            Some(_) => {}
            None => anyhow::bail!("the connection ended without a word"),
        }
    }
}

/// The newest shell, once it is in this state.
async fn newest(house: &House, state: OperationState) -> Result<Operation> {
    let wait = async {
        loop {
            let all: Items<Operation> = house.client.get("/v1/operations?limit=1").await?;
            let newest = all.items.into_iter().next().context("there is one")?;
            if newest.verb == "app-shell" && newest.state == state {
                return anyhow::Ok(newest);
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.context("no such shell")?
}

#[tokio::test]
async fn keys_sizes_and_the_code_go_through_over_both_ways() -> Result<()> {
    let house = house().await?;
    let tcp = Client::new(house.tcp()?, Some("sesame".to_owned()));
    for (client, code) in [(&house.client, 0), (&tcp, 42)] {
        let path = "/v1/apps/web/shell?term=xterm-256color&width=80&height=24";
        let (mut keyboard, mut screen) = client.shell(path).await?;
        let said = until(&mut screen, "$ ").await?;
        ensure!(said.contains("TERM=xterm-256color"), "{said}");
        until(&mut screen, "[80x24]").await?;
        keyboard.types("héllo\r".as_bytes()).await?;
        until(&mut screen, "you said h").await?;
        keyboard.resize(TerminalSize { width: 132, height: 50 }).await?;
        until(&mut screen, "[132x50]").await?;
        keyboard.types(b"\x03").await?;
        until(&mut screen, "^C").await?;
        assert_eq!(newest(&house, OperationState::Running).await?.app.as_deref(), Some("web"));
        keyboard.types(format!("exit {code}\r").as_bytes()).await?;
        assert_eq!(end(&mut screen).await?, Control::Exit(code));
        let ended = newest(&house, OperationState::Done).await?;
        assert_eq!(ended.result, Some(json!({"code": code})));
    }
    Ok(())
}

#[tokio::test]
async fn a_shell_ends_with_its_connection_its_operation_and_its_engine() -> Result<()> {
    let house = house().await?;
    let (keyboard, mut screen) = house.client.shell("/v1/apps/web/shell").await?;
    until(&mut screen, "$ ").await?;
    drop((keyboard, screen));
    let cancelled = newest(&house, OperationState::Cancelled).await?;
    ensure!(cancelled.problem.is_some_and(|problem| problem.kind == ProblemKind::Cancelled));

    let (_keyboard, mut screen) = house.client.shell("/v1/apps/web/shell").await?;
    until(&mut screen, "$ ").await?;
    let running = newest(&house, OperationState::Running).await?;
    // It waits for nobody, and nobody waits for it.
    house.done(Method::POST, "/v1/apps/web/stop", json!({})).await?;
    house.client.post(&format!("/v1/operations/{}/cancel", running.id)).await?;
    let Control::Problem(problem) = end(&mut screen).await? else { panic!("a problem") };
    assert_eq!(problem.kind, ProblemKind::Cancelled);

    let (mut keyboard, mut screen) = house.client.shell("/v1/apps/web/shell").await?;
    keyboard.types(b"break\r").await?;
    let Control::Problem(problem) = end(&mut screen).await? else { panic!("a problem") };
    assert_eq!(
        (problem.kind, problem.detail.as_str()),
        (ProblemKind::Unavailable, "the kubelet went away")
    );
    newest(&house, OperationState::Failed).await?;
    Ok(())
}

#[tokio::test]
async fn a_shell_that_cannot_be_opened_says_why_like_any_other_request() -> Result<()> {
    let house = house().await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "plain"})).await?;
    let problem = |client: Client, path: &'static str| async move {
        match client.shell(path).await {
            Err(ClientError::Problem(problem)) => anyhow::Ok(*problem),
            Err(error) => Err(error.into()),
            Ok(_) => anyhow::bail!("{path} was opened"),
        }
    };
    let own = || house.client.clone();
    for (path, kind, why) in [
        ("/v1/apps/nobody/shell", ProblemKind::NotFound, ""),
        ("/v1/apps/plain/shell", ProblemKind::NotFound, "no units for this app"),
        ("/v1/apps/web/shell?unit=none", ProblemKind::NotFound, "unit \"none\" not found"),
        ("/v1/apps/web/shell?width=wide", ProblemKind::Invalid, ""),
    ] {
        let problem = problem(own(), path).await?;
        ensure!(problem.kind == kind && problem.detail.contains(why), "{path}: {problem:?}");
    }
    let other = House::with_routed("").await?;
    other.done(Method::POST, "/v1/apps", json!({"name": "web", "pool": "edge"})).await?;
    let problem_there = problem(other.client.clone(), "/v1/apps/web/shell").await?;
    assert_eq!(problem_there.kind, ProblemKind::NotSupported);
    let why = "provisioner \"routed\" does not support running shell";
    ensure!(problem_there.detail.contains(why), "{problem_there:?}");
    let stranger = Client::new(house.tcp()?, Some("wrong".to_owned()));
    assert_eq!(problem(stranger, "/v1/apps/web/shell").await?.kind, ProblemKind::Unauthorized);
    // Without a websocket it is a request that cannot be.
    let plain = house.client.get::<serde_json::Value>("/v1/apps/web/shell").await;
    let Err(ClientError::Problem(problem)) = plain else { panic!("{plain:?}") };
    assert_eq!(problem.kind, ProblemKind::Invalid);
    Ok(())
}

fn gantry(host: impl std::fmt::Display) -> String {
    format!("{} --host {host}", env!("CARGO_BIN_EXE_gantry"))
}

/// A socket in front of the daemon's.
struct Between {
    socket: PathBuf,
    carrying: JoinHandle<()>,
}

impl Between {
    fn start(house: &House) -> Result<Self> {
        let folder = house.folder.path();
        let (socket, behind) = (folder.join("between.sock"), folder.join("g.sock"));
        let listener = UnixListener::bind(&socket)?;
        let carrying = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let behind = behind.clone();
                connections.spawn(async move {
                    let mut far = UnixStream::connect(behind).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
        Ok(Self { socket, carrying })
    }

    /// Loses every connection.
    fn cut(self) {
        self.carrying.abort();
    }
}

#[tokio::test]
async fn without_a_terminal_it_says_so() -> Result<()> {
    let house = house().await?;
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_gantry"))
        .args(["app", "shell", "web"])
        .env("GANTRY_HOST", house.client.host().to_string())
        .stdin(Stdio::null())
        .output()
        .await?;
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: a shell needs a terminal, and this is none\nhint: run a command instead: `gantry app run web --once -- COMMAND`\n"
    );
    Ok(())
}

/// Runs a line on a terminal of its own, types when it has said something, does something `then`, and gives its code with all that was to be seen.
fn on_a_terminal(
    line: &str,
    typed: &[(&str, &str)],
    then: impl FnOnce(),
) -> Result<(Option<i32>, String)> {
    let mut child = Command::new("script")
        .args(["-qefc", line, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut keyboard, mut screen) =
        (child.stdin.take().context("stdin")?, child.stdout.take().context("stdout")?);
    let (mut seen, mut part) = (String::new(), [0; 1024]);
    for (awaited, keys) in typed {
        while !seen.contains(awaited) {
            let count = screen.read(&mut part)?;
            ensure!(count > 0, "it ended before it said {awaited:?}: {seen:?}");
            seen.push_str(&String::from_utf8_lossy(part.get(..count).unwrap_or_default()));
        }
        keyboard.write_all(keys.as_bytes())?;
    }
    then();
    screen.read_to_string(&mut seen)?;
    Ok((child.wait()?.code(), seen))
}

/// A shell line that tells what the terminal is like, runs a shell in the unit, and tells it again: raw it would be another.
fn told_twice(host: impl std::fmt::Display) -> String {
    let told = "stty -a | tr -d '\\n' | md5sum";
    format!("{told}; {} app shell web; code=$?; {told}; exit $code", gantry(host))
}

/// Whether the terminal was told to be the same twice.
fn is_as_it_was(seen: &str) -> bool {
    seen.split_once("  -").is_some_and(|(sum, _)| seen.matches(sum).count() == 2)
}

#[tokio::test]
async fn on_a_terminal_every_key_goes_through_and_the_terminal_is_as_it_was_afterwards()
-> Result<()> {
    let house = house().await?;
    let line = told_twice(house.client.host());
    let typed = [("$ ", "hello\r"), ("you said hello", "\x03"), ("^C", "exit 7\r")];
    let (code, seen) =
        tokio::task::spawn_blocking(move || on_a_terminal(&line, &typed, || ())).await??;
    assert_eq!(code, Some(7), "{seen}");
    ensure!(is_as_it_was(&seen), "{seen}");
    Ok(())
}

#[tokio::test]
async fn a_lost_connection_is_an_error_and_leaves_the_terminal_as_it_was() -> Result<()> {
    let house = house().await?;
    let between = Between::start(&house)?;
    let line = told_twice(format!("unix://{}", between.socket.display()));
    let (open, is_open) = tokio::sync::oneshot::channel();
    let tell = || open.send(()).expect("it is waited for");
    let running = tokio::task::spawn_blocking(move || on_a_terminal(&line, &[("$ ", "")], tell));
    is_open.await?;
    between.cut();
    let (code, seen) = running.await??;
    assert_eq!(code, Some(6), "{seen}");
    ensure!(seen.contains("the connection to the shell was lost"), "{seen}");
    ensure!(is_as_it_was(&seen), "{seen}");
    Ok(())
}

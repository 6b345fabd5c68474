//! What an app goes through, and what people may do to it at the same time.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use gantry::api::{
    AppInfo, EnvVar, Items, LogLine, OperationInfo, OperationState, ProblemKind, RunEnd,
};
use gantry::client::Change;
use gantry_core::Status;
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};

use crate::support::{House, SOON, last_of, refused, stranger};

/// A house with an app on Docker that was never deployed.
pub(crate) async fn web(config: &str) -> Result<House> {
    let house = House::with_docker(config).await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web", "unit_quota": 3})).await?;
    Ok(house)
}

#[tokio::test]
async fn an_app_is_created_deployed_scaled_stopped_and_removed() -> Result<()> {
    let house = web("").await?;
    let deploy = |image: &str| json!({"image": image});
    let done = house.done(Method::POST, "/v1/apps/web/deploy", deploy("plain:1")).await?;
    assert_eq!(done.result, Some(json!({"image": "plain:1"})));
    assert_eq!(house.units("web").await?.len(), 1);

    house.done(Method::POST, "/v1/apps/web/units", json!({"count": 2})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", deploy("plain:2")).await?;
    house.done(Method::POST, "/v1/apps/web/rollback", deploy(":1")).await?;
    let info: AppInfo = house.client.get("/v1/apps/web").await?;
    assert_eq!(info.app.image.as_deref(), Some("plain:1"));
    assert_eq!((info.app.deploys, info.app.units_in_use, info.addresses.len()), (3, 3, 3));
    assert_eq!(info.images, ["plain:2", "plain:1"]);
    assert_eq!(info.operations[0].verb, "rollback", "the newest first");

    let more = house.change(Method::POST, "/v1/apps/web/units", json!({"count": 1})).await?;
    let problem = more.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Quota);
    assert_eq!(problem.detail, "Quota exceeded. Available: 3. Requested: 4.");

    house.done(Method::DELETE, "/v1/apps/web/units", json!({"count": 2})).await?;
    house.done(Method::POST, "/v1/apps/web/stop", json!({})).await?;
    let stopped = house.units("web").await?;
    assert_eq!(stopped[0].status, Some(Status::Stopped));
    let more = house.change(Method::POST, "/v1/apps/web/units", json!({"count": 1})).await?;
    ensure!(more.unwrap_err().detail.contains("stopped or sleeping units"));
    house.done(Method::POST, "/v1/apps/web/start", json!({})).await?;

    let before = house.units("web").await?[0].id.clone();
    house.done(Method::POST, "/v1/apps/web/restart", json!({})).await?;
    ensure!(house.units("web").await?[0].id != before);

    stranger(&house.engine).await?;
    house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    let left = house.containers().await?;
    assert_eq!(left.len(), 1, "what is not ours stays: {left:?}");
    let gone = refused(house.client.get::<AppInfo>("/v1/apps/web").await)?.unwrap_err();
    assert_eq!(gone.kind, ProblemKind::NotFound);
    Ok(())
}

#[tokio::test]
async fn the_environment_is_changed_and_private_values_are_kept() -> Result<()> {
    let house = web("").await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    let before = house.units("web").await?[0].id.clone();
    let quiet = json!({"set": {"COLOUR": "blue"}, "no_restart": true});
    house.done(Method::PATCH, "/v1/apps/web/env", quiet).await?;
    assert_eq!(house.units("web").await?[0].id, before);
    let secret = json!({"set": {"PASSWORD": "hush"}, "private": true});
    let done = house.done(Method::PATCH, "/v1/apps/web/env", secret).await?;
    ensure!(house.units("web").await?[0].id != before, "new units have it");
    ensure!(!done.detail.to_string().contains("hush"), "the journal keeps no secret: {done:?}");
    let envs: Items<EnvVar> = house.client.get("/v1/apps/web/env").await?;
    let shown: Vec<_> =
        envs.items.iter().map(|env| (env.name.as_str(), env.value.as_deref())).collect();
    assert_eq!(shown, [("COLOUR", Some("blue")), ("PASSWORD", None)]);
    house.done(Method::PATCH, "/v1/apps/web/env", json!({"unset": ["COLOUR"]})).await?;
    let wrong = json!({"set": {"A B": "1"}});
    let problem = house.change(Method::PATCH, "/v1/apps/web/env", wrong).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Invalid);
    Ok(())
}

#[tokio::test]
async fn a_second_change_is_refused_with_who_holds_the_app_or_waits_for_it() -> Result<()> {
    let house = web("").await?;
    let first = house
        .begin(Method::POST, "/v1/apps/web/deploy", json!({"image": "checked:1"}))
        .await?
        .unwrap();
    house.until_running(1).await?;
    let problem = house.change(Method::POST, "/v1/apps/web/stop", json!({})).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Busy);
    let holder = problem.holder.expect("it names who holds it");
    assert_eq!(
        (holder.operation.as_str(), holder.verb.as_str()),
        (first.operation.as_str(), "deploy")
    );
    ensure!(problem.hint.unwrap().contains("--wait"));
    // Reading goes on meanwhile, and another app is free.
    house.client.get::<AppInfo>("/v1/apps/web").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "api"})).await?;

    let client = house.client.clone();
    let waiting = tokio::spawn(async move {
        let change = Change { wait: true, ..Change::default() };
        client.change(Method::POST, "/v1/apps/web/stop", &json!({}), &change).await
    });
    house.played.answers(200);
    house.end_of(&first).await?.unwrap();
    let second = tokio::time::timeout(SOON, waiting).await???;
    house.end_of(&second).await?.unwrap();
    assert_eq!(house.units("web").await?[0].status, Some(Status::Stopped));
    Ok(())
}

#[tokio::test]
async fn an_operation_goes_on_without_its_client_and_is_picked_up_where_it_broke() -> Result<()> {
    let house = web("").await?;
    let deploy = json!({"image": "checked:1"});
    let accepted = house.begin(Method::POST, "/v1/apps/web/deploy", deploy).await?.unwrap();
    // A reader that goes away after two lines.
    let mut events = house.client.events(&accepted.events, None).await?;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.push(events.next().await.unwrap()?);
    }
    drop(events);
    house.played.answers(200);
    house.end_of(&accepted).await?.unwrap();
    let after = seen[1].id.clone().unwrap();
    let events = house.client.events(&accepted.events, Some(&after)).await?;
    let rest: Vec<_> = events.map(|event| event.unwrap()).collect().await;
    let number = |id: &Option<String>| id.as_deref().unwrap().parse::<u64>().unwrap();
    assert_eq!(number(&rest[0].id), number(&seen[1].id) + 1, "the next line, not the first");
    assert_eq!(rest.last().unwrap().kind, "end");
    let path = format!("/v1/operations/{}", &accepted.operation[..12]);
    let info: OperationInfo = house.client.get(&path).await?;
    assert_eq!(info.operation.state, OperationState::Done);
    let told = info.lines.len();
    assert_eq!(told, rest.len() - 1 + seen.len(), "all lines are written down");
    Ok(())
}

#[tokio::test]
async fn a_cancelled_deploy_undoes_and_says_so() -> Result<()> {
    let house = web("").await?;
    let deploy = json!({"image": "checked:1"});
    let accepted = house.begin(Method::POST, "/v1/apps/web/deploy", deploy).await?.unwrap();
    house.until_running(1).await?;
    house.client.post(&format!("/v1/operations/{}/cancel", accepted.operation)).await?;
    let problem = house.end_of(&accepted).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Cancelled, "{problem:?}");
    assert_eq!(house.containers().await?, []);
    let info: OperationInfo =
        house.client.get(&format!("/v1/operations/{}", accepted.operation)).await?;
    assert_eq!(info.operation.state, OperationState::Cancelled);
    // Asking again changes nothing.
    house.client.post(&format!("/v1/operations/{}/cancel", accepted.operation)).await?;
    Ok(())
}

#[tokio::test]
async fn ctrl_c_cancels_the_operation_and_waits_for_the_undo() -> Result<()> {
    let house = web("").await?;
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_gantry"))
        .args(["app", "deploy", "web", "--image", "checked:1"])
        .env("GANTRY_HOST", house.client.host().to_string())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    house.until_running(1).await?;
    // The line that it shows proves that it follows, and that it listens for signals.
    let mut stderr = tokio::io::BufReader::new(child.stderr.take().expect("it is piped"));
    let mut text = String::new();
    while !text.contains("Binding and checking") {
        ensure!(stderr.read_line(&mut text).await? > 0, "it ended: {text}");
    }
    let pid = child.id().expect("it runs").to_string();
    ensure!(std::process::Command::new("kill").args(["-INT", &pid]).status()?.success());
    let status = tokio::time::timeout(SOON, child.wait()).await??;
    stderr.read_to_string(&mut text).await?;
    assert_eq!(status.code(), Some(130), "{text}");
    ensure!(text.contains("warning: cancelling; waiting for the undo"), "{text}");
    ensure!(text.contains("error: could not deploy `web`\ncaused by: cancelled"), "{text}");
    assert_eq!(house.containers().await?, []);
    Ok(())
}

#[tokio::test]
async fn a_request_that_comes_again_is_done_once() -> Result<()> {
    let house = web("").await?;
    let change = Change { key: Some("one".to_owned()), ..Change::default() };
    let ask = |path: &'static str, body: Value| {
        let (client, change) = (house.client.clone(), change.clone());
        async move { client.change(Method::POST, path, &body, &change).await }
    };
    let deploy = "/v1/apps/web/deploy";
    let first = ask(deploy, json!({"image": "plain:1"})).await?;
    let again = ask(deploy, json!({"image": "plain:1"})).await?;
    assert_eq!(again.operation, first.operation);
    house.end_of(&first).await?.unwrap();
    let later = ask(deploy, json!({"image": "plain:1"})).await?;
    assert_eq!(later.operation, first.operation);
    let other = refused(ask(deploy, json!({"image": "plain:2"})).await)?.unwrap_err();
    assert_eq!(other.kind, ProblemKind::Conflict);
    assert_eq!(house.units("web").await?.len(), 1);
    // What the journal does not show tells requests apart too.
    let env = "/v1/apps/web/env";
    let change = Change { key: Some("three".to_owned()), ..Change::default() };
    let set = |value: &str| json!({"set": {"COLOUR": value}, "no_restart": true});
    let patch = |body: Value| {
        let (client, change) = (house.client.clone(), change.clone());
        async move { client.change(Method::PATCH, env, &body, &change).await }
    };
    let first = patch(set("blue")).await?;
    house.end_of(&first).await?.unwrap();
    assert_eq!(patch(set("blue")).await?.operation, first.operation);
    assert_eq!(refused(patch(set("red")).await)?.unwrap_err().kind, ProblemKind::Conflict);
    // A create that comes again finds its operation, not that the name is taken.
    let create = Change { key: Some("two".to_owned()), ..Change::default() };
    let body = json!({"name": "api"});
    let first = house.client.change(Method::POST, "/v1/apps", &body, &create).await?;
    house.end_of(&first).await?.unwrap();
    let again = house.client.change(Method::POST, "/v1/apps", &body, &create).await?;
    assert_eq!(again.operation, first.operation);
    Ok(())
}

#[tokio::test]
async fn a_command_gives_its_output_and_then_its_code() -> Result<()> {
    let house = web("").await?;
    let body = json!({"command": ["true"]});
    let nowhere = house.client.post_events("/v1/apps/web/run", &body).await?;
    let last = last_of(nowhere).await?;
    assert_eq!(last.kind, "problem", "no unit to run in: {last:?}");
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    let body = json!({"command": ["exit 7"], "mode": "once"});
    let events = house.client.post_events("/v1/apps/web/run", &body).await?;
    let events: Vec<_> = events.map(|event| event.unwrap()).collect().await;
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["stdout", "stderr", "exit"]);
    ensure!(events[0].data.contains("6f75740a"), "the bytes as they were: {:?}", events[0]);
    let end: RunEnd = serde_json::from_str(&events[2].data)?;
    assert_eq!(end.code, 7);
    Ok(())
}

#[tokio::test]
async fn a_log_is_read_and_picked_up_where_it_broke() -> Result<()> {
    let house = web("").await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    let path = "/v1/apps/web/log?lines=10&follow=true";
    let mut events = house.client.events(path, None).await?;
    let first = events.next().await.unwrap()?;
    let line: LogLine = serde_json::from_str(&first.data)?;
    assert_eq!((line.process.as_str(), line.text.as_str()), ("web", "serving"));
    drop(events);
    let mut events = house.client.events(path, first.id.as_deref()).await?;
    let second = events.next().await.unwrap()?;
    let line: LogLine = serde_json::from_str(&second.data)?;
    assert_eq!((line.source.as_str(), line.text.as_str()), ("stderr", "careful"));
    drop(events);
    let ended = house.client.events("/v1/apps/web/log?lines=1", None).await?;
    assert_eq!(last_of(ended).await?.kind, "end", "without `follow` it ends");
    Ok(())
}

#[tokio::test]
async fn a_followed_log_goes_on_over_a_deploy_and_ends_with_the_app() -> Result<()> {
    let house = web("").await?;
    let deploy =
        async || house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await;
    deploy().await?;
    let mut events = house.client.events("/v1/apps/web/log?lines=10&follow=true", None).await?;
    let mut serving = async || {
        loop {
            let event = tokio::time::timeout(SOON, events.next()).await?.context("it ended")??;
            ensure!(event.kind == "line", "{event:?}");
            let line: LogLine = serde_json::from_str(&event.data)?;
            if line.text == "serving" {
                return Ok(line.unit);
            }
        }
    };
    let old = serving().await?;
    deploy().await?;
    assert_ne!(serving().await?, old);
    house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    assert_eq!(last_of(events).await?.kind, "end");
    Ok(())
}

#[tokio::test]
async fn a_log_that_nobody_reads_any_more_ends() -> Result<()> {
    let house = web("").await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    let (reader, gone) = std::io::pipe()?;
    drop(reader);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full")?;
    let cases = [(Stdio::from(gone), 0, ""), (Stdio::from(full), 1, "error: cannot write\n")];
    for (stdout, code, told) in cases {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gantry"));
        command
            .args(["app", "log", "web", "--follow", "--host"])
            .arg(format!("unix://{}", house.folder.path().join("g.sock").display()))
            .stdout(stdout)
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let wait = async {
            loop {
                if let Some(status) = child.try_wait()? {
                    return anyhow::Ok(status);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let ended = tokio::time::timeout(SOON, wait).await;
        // One that goes on is not left behind.
        let _ = child.kill();
        let mut text = String::new();
        child.stderr.take().context("stderr is piped")?.read_to_string(&mut text)?;
        assert_eq!(ended??.code(), Some(code), "{text}");
        ensure!(text.starts_with(told) && (code != 0 || text.is_empty()), "{text}");
    }
    Ok(())
}

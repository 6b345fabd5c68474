//! The end of the daemon: when it is told to, and when nobody asked.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry::api::{
    AppInfo, Items, Operation, OperationInfo, OperationState, PluginInfo, ProblemKind,
};
use gantry::client::{Change, ClientError};
use gantry::daemon::Drained;
use hyper::Method;
use serde_json::json;

use crate::support::{House, SOON, last_of};

async fn one_unit_and_a_deploy_under_way(config: &str) -> Result<(House, String)> {
    let house = House::with_docker(config).await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    let deploy = json!({"image": "checked:1"});
    let begun = house.begin(Method::POST, "/v1/apps/web/deploy", deploy).await?;
    let Ok(accepted) = begun else { anyhow::bail!("{begun:?}") };
    house.until_running(2).await?;
    Ok((house, accepted.operation))
}

#[tokio::test]
async fn a_crash_is_told_and_what_was_half_made_is_removed() -> Result<()> {
    let (mut house, id) = one_unit_and_a_deploy_under_way("").await?;
    house.crash();
    assert_eq!(house.containers().await?.len(), 2, "a crash cleans nothing up");
    let told = house.start().await?;
    let line = told.iter().find(|line| line.contains(&id)).context("it is told at the start")?;
    ensure!(line.contains("deploy web") && line.contains("is removed"), "{line}");
    assert_eq!(house.containers().await?.len(), 1, "swept before it serves");
    let info: OperationInfo = house.client.get(&format!("/v1/operations/{id}")).await?;
    assert_eq!(info.operation.state, OperationState::Interrupted);
    assert_eq!(info.operation.problem.unwrap().kind, ProblemKind::Interrupted);
    let found: Items<Operation> =
        house.client.get("/v1/operations?state=interrupted&app=web").await?;
    assert_eq!(found.items.len(), 1);
    // The plugin came back, and the app is free for the next change.
    house.client.get::<PluginInfo>("/v1/plugins/docker").await?;
    house.played.answers(200);
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "checked:1"})).await?;
    let info: AppInfo = house.client.get("/v1/apps/web").await?;
    assert_eq!(info.app.image.as_deref(), Some("checked:1"));
    assert_eq!((info.units.context("units")?.len(), info.app.units_in_use), (1, 1));
    assert_eq!(house.containers().await?.len(), 1);
    let log = house.client.events("/v1/apps/web/log?lines=10", None).await?;
    assert_eq!(last_of(log).await?.kind, "end");
    let run = json!({"command": ["true 0"], "mode": "all"});
    let run = house.client.post_events("/v1/apps/web/run", &run).await?;
    assert_eq!(last_of(run).await?.data, r#"{"code":0}"#);
    Ok(())
}

#[tokio::test]
async fn an_app_whose_move_died_is_in_its_pool_and_can_be_moved() -> Result<()> {
    let mut house = House::with_docker("[pools.default]\n[pools.other]\n").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.played.answers(200);
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "checked:1"})).await?;
    house.played.answers(0);
    let to_other = json!({"pool": "other"});
    let begun = house.begin(Method::PATCH, "/v1/apps/web", to_other.clone()).await?;
    ensure!(begun.is_ok(), "{begun:?}");
    house.until_running(2).await?;
    house.crash();
    house.start().await?;
    let info: AppInfo = house.client.get("/v1/apps/web").await?;
    assert_eq!((info.app.pool.as_str(), info.units.context("units")?.len()), ("default", 1));
    house.played.answers(200);
    house.done(Method::PATCH, "/v1/apps/web", to_other).await?;
    let info: AppInfo = house.client.get("/v1/apps/web").await?;
    assert_eq!((info.app.pool.as_str(), info.units.context("units")?.len()), ("other", 1));
    assert_eq!(house.containers().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn the_end_waits_for_what_finishes_in_its_grace() -> Result<()> {
    let (mut house, id) = one_unit_and_a_deploy_under_way("").await?;
    house.played.answers(200);
    assert_eq!(house.stop().await?, Drained { cancelled: 0, left: 0 });
    house.start().await?;
    let info: OperationInfo = house.client.get(&format!("/v1/operations/{id}")).await?;
    assert_eq!(info.operation.state, OperationState::Done);
    Ok(())
}

#[tokio::test]
async fn the_end_cancels_what_does_not_and_that_undoes() -> Result<()> {
    let (mut house, id) = one_unit_and_a_deploy_under_way("operations.grace = \"50ms\"").await?;
    let client = house.client.clone();
    let path = format!("/v1/operations/{id}/events");
    let follower = client.events(&path, None).await?;
    assert_eq!(house.stop().await?, Drained { cancelled: 1, left: 0 });
    assert_eq!(house.containers().await?.len(), 1, "the old unit serves on");
    let last = tokio::time::timeout(SOON, last_of(follower)).await??;
    assert_eq!(last.kind, "end", "whoever follows it sees how it ended");
    Ok(())
}

#[tokio::test]
async fn nothing_begins_while_the_daemon_ends() -> Result<()> {
    let (mut house, _) = one_unit_and_a_deploy_under_way("operations.grace = \"30s\"").await?;
    let client = house.client.clone();
    let played = std::sync::Arc::clone(&house.played);
    let refused = tokio::spawn(async move {
        // Until the end has begun changes are taken; from then on they are refused, and questions are not.
        let (change, body) = (Change::default(), json!({"name": "late"}));
        loop {
            let asked = client.change(Method::POST, "/v1/apps", &body, &change).await;
            if let Err(ClientError::Problem(problem)) = asked
                && problem.kind == ProblemKind::ShuttingDown
            {
                client.get::<AppInfo>("/v1/apps/web").await?;
                played.answers(200);
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(house.stop().await?, Drained { cancelled: 0, left: 0 });
    refused.await??;
    Ok(())
}

#[tokio::test]
async fn a_plugin_that_is_gone_takes_nothing_but_itself() -> Result<()> {
    let mut house = House::with_docker("").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.stop().await?;
    house.spoil_plugins()?;
    let told = house.start().await?;
    ensure!(told.iter().any(|line| line.contains("`docker` does not serve")), "{told:?}");
    let info: AppInfo = house.client.get("/v1/apps/web").await?;
    ensure!(info.units.is_none() && info.problem.is_some(), "{info:?}");
    let info: PluginInfo = house.client.get("/v1/plugins/docker").await?;
    let problem = info.plugin.problem.context("it says why")?;
    ensure!(problem.detail.contains("was changed"), "{problem:?}");
    Ok(())
}

/// What the journal has of an operation that a daemon died in.
fn died_in(house: &House, change: &str) -> Result<()> {
    let store = rusqlite::Connection::open(house.folder.path().join("data/gantry.db"))?;
    ensure!(store.execute(change, [])? == 1, "{change}");
    Ok(())
}

#[tokio::test]
async fn an_app_outlives_a_second_create_that_the_daemon_died_in() -> Result<()> {
    let mut house = House::with_docker("").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    house.crash();
    died_in(
        &house,
        "INSERT INTO operations (id, verb, app, who, detail, state, began) \
         VALUES ('second', 'app-create', 'web', 'uid 0', '{}', 'running', 1)",
    )?;
    let told = house.start().await?;
    ensure!(told.iter().any(|line| line.contains("second (app-create web)")), "{told:?}");
    let info: AppInfo = house.client.get("/v1/apps/web").await?;
    assert_eq!(info.units.context("units")?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_app_that_the_daemon_died_creating_is_forgotten() -> Result<()> {
    let mut house = House::with_docker("").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.crash();
    died_in(&house, "UPDATE operations SET state = 'running' WHERE verb = 'app-create'")?;
    house.start().await?;
    let gone = crate::support::refused(house.client.get::<AppInfo>("/v1/apps/web").await)?;
    assert_eq!(gone.unwrap_err().kind, ProblemKind::NotFound);
    Ok(())
}

async fn until_noted(house: &House, app: &str, image: Option<&str>) -> Result<()> {
    let noted = async {
        while house.cluster.note(app).await.as_deref() != image {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, noted).await.with_context(|| format!("no note {image:?} of {app}"))
}

#[tokio::test]
async fn what_a_crash_left_of_objects_is_taken_back_at_the_next_start() -> Result<()> {
    let mut house = House::with_web("").await?.with_cluster().await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "a:1"})).await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "api", "pool": "yard"})).await?;
    for (app, before) in [("web", Some("a:1")), ("api", None)] {
        let path = format!("/v1/apps/{app}/deploy");
        let begun = house.begin(Method::POST, &path, json!({"image": "b:slow"})).await?;
        ensure!(begun.is_ok(), "{begun:?}");
        until_noted(&house, app, Some("b:slow")).await?;
        house.crash();
        house.start().await?;
        until_noted(&house, app, before).await?;
    }
    let info: AppInfo = house.client.get("/v1/apps/web").await?;
    assert_eq!(info.app.image.as_deref(), Some("a:1"));
    Ok(())
}

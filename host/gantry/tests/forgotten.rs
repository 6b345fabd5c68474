//! Apps that nobody can remove any more, and are forgotten by force.

use anyhow::{Context, Result, ensure};
use gantry::api::{AppInfo, ProblemKind};
use gantry_engine::EngineError;
use gantry_engine::memory::objects::Fault;
use hyper::Method;
use serde_json::{Value, json};

use crate::support::{House, NORTH, refused};

/// A house with an app in the cluster.
async fn house() -> Result<House> {
    let house = House::with_both("").await?.with_cluster().await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web", "pool": "yard"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    Ok(house)
}

fn away() -> Fault {
    Fault::Before(EngineError::Unreachable("nobody is there".to_owned()))
}

/// How the app is not removed.
async fn kept(house: &House) -> Result<ProblemKind> {
    let refused = house.change(Method::DELETE, "/v1/apps/web", json!({})).await?;
    let problem = refused.err().context("it was removed")?;
    let info: AppInfo = house.client.get("/v1/apps/web").await?;
    assert_eq!(info.app.name, "web");
    Ok(problem.kind)
}

/// Forgets the app, and gives what is left of it.
async fn forget(house: &House) -> Result<String> {
    let done = house.done(Method::DELETE, "/v1/apps/web", json!({"force": true})).await?;
    let gone = refused(house.client.get::<AppInfo>("/v1/apps/web").await)?;
    assert_eq!(gone.err().map(|gone| gone.kind), Some(ProblemKind::NotFound));
    let result = done.result.context("it says what is left")?;
    Ok(result.get("left").and_then(Value::as_str).unwrap_or_default().to_owned())
}

#[tokio::test]
async fn an_app_whose_cluster_is_away_is_forgotten_only_by_force() -> Result<()> {
    let house = house().await?;
    house.cluster.0.fail(|_, _| Some(away()));
    assert_eq!(kept(&house).await?, ProblemKind::Unavailable);
    let left = forget(&house).await?;
    ensure!(left.contains("nobody is there"), "{left}");
    house.cluster.0.mend();
    // What is there all the same is what force is told of.
    assert_eq!(house.cluster.note("web").await.as_deref(), Some("plain:1"));
    house.done(Method::DELETE, &format!("/v1/clusters/{NORTH}"), json!({})).await?;
    Ok(())
}

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

/// How many keys of the Docker provisioner start so.
fn keys(store: &rusqlite::Connection, prefix: &str) -> Result<u32> {
    let sql = "SELECT count(*) FROM state WHERE owner = 'docker' AND key LIKE ? || '%'";
    Ok(store.query_row(sql, [prefix], |row| row.get(0))?)
}

#[tokio::test]
async fn no_unit_is_left_of_a_forgotten_app_whose_host_is_away() -> Result<()> {
    let house = House::with_docker("").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    let store = rusqlite::Connection::open(house.folder.path().join("data/gantry.db"))?;
    // As if it had been started on a host that is down now.
    house.done(Method::POST, "/v1/nodes", json!({"address": NOWHERE, "pool": "default"})).await?;
    let away = "UPDATE state
        SET value = CAST(json_set(CAST(value AS TEXT), '$.node', ?) AS BLOB)
        WHERE owner = 'docker' AND key LIKE 'units/web/%'";
    assert_eq!(store.execute(away, [NOWHERE])?, 1);
    assert_eq!(kept(&house).await?, ProblemKind::Unavailable);
    assert_eq!(keys(&store, "units/web/")?, 1, "it may still run");
    let left = forget(&house).await?;
    ensure!(!left.is_empty(), "its container may still run");
    assert_eq!(keys(&store, "units/")?, 0);
    assert_eq!(keys(&store, &format!("orphans/{NOWHERE}/"))?, 1);
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    let info: AppInfo = house.client.get("/v1/apps/web").await?;
    assert_eq!(info.units.unwrap_or_default(), []);
    Ok(())
}

#[tokio::test]
async fn what_can_be_removed_of_a_forgotten_app_is() -> Result<()> {
    let house = house().await?;
    assert_eq!(forget(&house).await?, "");
    assert_eq!(house.cluster.note("web").await, None);
    Ok(())
}

#[tokio::test]
async fn an_app_on_its_way_from_a_place_that_is_gone_is_forgotten_in_both() -> Result<()> {
    let house = house().await?;
    // It is deployed where it goes to, and cannot be removed where it comes from.
    house.cluster.0.fail(|call, _| (call.name() == "cluster.delete").then(away));
    let moved = house.change(Method::PATCH, "/v1/apps/web", json!({"pool": "default"})).await?;
    ensure!(moved.is_err(), "{moved:?}");
    assert_eq!(kept(&house).await?, ProblemKind::Conflict);
    let left = forget(&house).await?;
    ensure!(left.contains("nobody is there"), "{left}");
    assert_eq!(house.containers().await?, []);
    Ok(())
}

#[tokio::test]
async fn an_app_without_its_plugin_is_forgotten_by_force() -> Result<()> {
    let mut house = House::with_docker("").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.stop().await?;
    house.spoil_plugins()?;
    house.start().await?;
    let refused = refused(house.client.get::<AppInfo>("/v1/apps/web").await)?.unwrap();
    ensure!(refused.problem.is_some(), "{refused:?}");
    kept(&house).await?;
    let left = forget(&house).await?;
    ensure!(left.contains("was changed"), "{left}");
    Ok(())
}

//! What dies is replaced, whatever else is under way.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry::api::{Items, Operation, OperationState};
use gantry_engine::Containers;
use hyper::Method;
use rusqlite::Connection;
use serde_json::json;

use crate::support::{House, SOON};

const QUICK: &str = "
[healing]
every = \"1s\"
most = 10
[provisioners.docker.config.docker.healing]
heal-containers-timeout = 1
";

async fn app(house: &House, name: &str, image: &str, units: usize) -> Result<()> {
    house.done(Method::POST, "/v1/apps", json!({"name": name})).await?;
    let deploy = format!("/v1/apps/{name}/deploy");
    house.done(Method::POST, &deploy, json!({"image": image})).await?;
    if units > 1 {
        let path = format!("/v1/apps/{name}/units");
        house.done(Method::POST, &path, json!({"count": units - 1})).await?;
    }
    Ok(())
}

/// Stops every container behind the daemon's back.
async fn die(house: &House) -> Result<()> {
    for container in house.engine.list(true, &Default::default()).await? {
        house.engine.stop(&container.id, 0).await?;
    }
    Ok(())
}

/// The replacements of an app's units, in one state.
async fn healed(house: &House, app: &str, state: OperationState) -> Result<usize> {
    let found: Items<Operation> = house.client.get(&format!("/v1/operations?app={app}")).await?;
    let of_units = found.items.iter().filter(|one| one.verb == "unit-heal" && one.state == state);
    Ok(of_units.count())
}

async fn until_healed(house: &House, app: &str, count: usize) -> Result<()> {
    let wait = async {
        while healed(house, app, OperationState::Done).await? < count {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SOON, wait).await.context("it is not healed in time")?
}

#[tokio::test]
async fn an_app_is_healed_while_the_replacement_of_another_takes_its_time() -> Result<()> {
    let house = House::with_docker(QUICK).await?;
    house.played.answers(200);
    app(&house, "api", "checked:1", 1).await?;
    app(&house, "web", "plain:1", 2).await?;
    // Its health check will not be answered.
    house.played.answers(0);
    die(&house).await?;
    // Both units, one after the other: the second is not found by a look that waits for `api`.
    until_healed(&house, "web", 2).await?;
    ensure!(healed(&house, "api", OperationState::Running).await? == 1, "it is still under way");
    house.played.answers(200);
    until_healed(&house, "api", 1).await?;
    house.until_running(3).await
}

#[tokio::test]
async fn a_plugin_has_no_unit_replaced_of_an_app_that_is_not_its_own() -> Result<()> {
    let mut house = House::with_both(QUICK).await?;
    app(&house, "alien", "plain:1", 1).await?;
    app(&house, "web", "plain:1", 1).await?;
    house.stop().await?;
    let store = Connection::open(house.folder.path().join("data/gantry.db"))?;
    store.execute("UPDATE apps SET provisioner = 'warehouse' WHERE name = 'alien'", [])?;
    drop(store);
    house.start().await?;
    die(&house).await?;
    until_healed(&house, "web", 1).await?;
    let found: Items<Operation> = house.client.get("/v1/operations?app=alien").await?;
    ensure!(found.items.iter().all(|one| one.verb != "unit-heal"), "{:?}", found.items);
    Ok(())
}

/// Waits until the `alarmist` looks, and gives the container by which it does.
async fn look(house: &House) -> Result<String> {
    let wait = async {
        loop {
            let all = house.engine.list(true, &Default::default()).await?;
            if let Some(looking) = all.into_iter().find(|one| one.name == "looking") {
                return anyhow::Ok(looking.id);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.context("nobody looks in time")?
}

#[tokio::test]
async fn what_was_seen_of_an_app_that_changed_meanwhile_heals_nothing_before_the_next_look()
-> Result<()> {
    let mut house = House::with_alarmist("[healing]\nevery = \"0s\"").await?;
    for app in ["api", "web"] {
        house.done(Method::POST, "/v1/apps", json!({"name": app, "pool": "ward"})).await?;
    }
    // No look began before the apps were there.
    house.stop().await?;
    house.configure(
        "
        [healing]
        every = \"1s\"
        [provisioners.alarmist.config]
        ill = \"api web\"
        ",
    );
    house.start().await?;
    let first = look(&house).await?;
    house.done(Method::POST, "/v1/apps/api/restart", json!({})).await?;
    house.engine.remove(&first, true).await?;
    // What a look found is begun in the order of the apps: nothing of `api` comes after this.
    until_healed(&house, "web", 1).await?;
    let found: Items<Operation> = house.client.get("/v1/operations?app=api").await?;
    ensure!(found.items.iter().all(|one| one.verb != "unit-heal"), "{:?}", found.items);
    let next = look(&house).await?;
    ensure!(next != first, "the first one is over");
    house.engine.remove(&next, true).await?;
    until_healed(&house, "api", 1).await
}

#[tokio::test]
async fn a_unit_that_cannot_be_replaced_is_not_tried_with_every_look() -> Result<()> {
    let healing =
        "[healing]\nevery = \"1s\"\nmost = 100\n[provisioners.alarmist.config]\nill = \"web\"\n";
    let mut house = House::with_alarmist("[healing]\nevery = \"0s\"").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web", "pool": "ward"})).await?;
    house.stop().await?;
    house.configure(healing);
    house.start().await?;
    // The alarmist replaces nothing, and finds it ill all the same.
    let looks = 8;
    for _ in 0..looks {
        house.engine.remove(&look(&house).await?, true).await?;
    }
    look(&house).await?;
    let tries = healed(&house, "web", OperationState::Done).await?;
    ensure!((2..looks).contains(&tries), "{tries} tries in {looks} looks");
    Ok(())
}

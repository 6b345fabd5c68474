//! Moves of apps from one pool to another.

use anyhow::{Result, bail, ensure};
use gantry::api::{AppInfo, NodeInfo, Problem, ProblemKind};
use gantry::client::Change;
use hyper::Method;
use serde_json::{Value, json};

use crate::support::House;

/// A house with an app on the Docker host that has two units.
async fn house() -> Result<House> {
    let house = House::with_both("[pools.default]\n[pools.other]\n").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    house.done(Method::POST, "/v1/apps/web/units", json!({"count": 1})).await?;
    Ok(house)
}

async fn info(house: &House) -> Result<AppInfo> {
    Ok(house.client.get("/v1/apps/web").await?)
}

async fn to(
    house: &House,
    pool: &str,
) -> Result<std::result::Result<gantry::api::Operation, Problem>> {
    house.change(Method::PATCH, "/v1/apps/web", json!({"pool": pool})).await
}

#[tokio::test]
async fn an_app_moves_to_another_provisioner_and_back() -> Result<()> {
    let house = house().await?;
    let done = to(&house, "yard").await?.unwrap();
    assert_eq!(done.result, Some(json!({"pool": "yard", "provisioner": "warehouse"})));
    let there = info(&house).await?;
    assert_eq!((there.app.pool.as_str(), there.app.provisioner.as_str()), ("yard", "warehouse"));
    assert_eq!(there.app.image.as_deref(), Some("plain:1"));
    let pools: Vec<_> = there.units.unwrap().into_iter().map(|unit| unit.ip).collect();
    assert_eq!(pools, ["yard", "yard"], "as many as there were");
    assert_eq!(house.containers().await?, [], "nothing is left where it was");
    to(&house, "default").await?.unwrap();
    house.until_running(2).await?;
    let back = info(&house).await?;
    assert_eq!((back.app.provisioner.as_str(), back.units.unwrap().len()), ("docker", 2));
    assert_eq!(back.app.units_in_use, 2, "those that were added after the deploy count too");
    // It is an app like any other there.
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:2"})).await?;
    house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    assert_eq!(house.containers().await?, []);
    Ok(())
}

#[tokio::test]
async fn within_a_provisioner_the_units_are_replaced() -> Result<()> {
    let house = house().await?;
    let before = house.containers().await?;
    to(&house, "other").await?.unwrap();
    let after = house.containers().await?;
    ensure!(after.len() == 2 && after.iter().all(|one| !before.contains(one)), "{after:?}");
    assert_eq!(info(&house).await?.app.pool, "other");
    Ok(())
}

#[tokio::test]
async fn a_move_that_fails_leaves_the_app_where_it_was_and_nothing_there() -> Result<()> {
    // One does not start there, and one does not even undo.
    for image in ["plain:broken", "plain:torn"] {
        let house = house().await?;
        house.done(Method::POST, "/v1/nodes", json!({"address": "n", "pool": "yard"})).await?;
        house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": image})).await?;
        let (before, containers) = (info(&house).await?, house.containers().await?);
        let problem = to(&house, "yard").await?.unwrap_err();
        assert_eq!(problem.kind, ProblemKind::UnitStartup);
        assert_eq!(problem.title, "could not move `web` to the pool `yard`");
        let after = info(&house).await?;
        assert_eq!((after.app, after.images), (before.app, before.images));
        assert_eq!(house.containers().await?, containers, "the units serve on");
        let there: NodeInfo = house.client.get("/v1/nodes/n").await?;
        assert_eq!(there.units, Some(Vec::new()));
        // And nothing is in the way of the next one.
        house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
        to(&house, "yard").await?.unwrap();
    }
    Ok(())
}

#[tokio::test]
async fn units_that_cannot_be_replaced_keep_the_app_in_its_pool() -> Result<()> {
    let house = House::with_both("").await?;
    let narrow = json!({"name": "narrow", "provisioner": "warehouse"});
    house.done(Method::POST, "/v1/pools", narrow).await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web", "pool": "yard"})).await?;
    // Nothing runs yet: only the record says where it is.
    to(&house, "narrow").await?.unwrap();
    to(&house, "yard").await?.unwrap();
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "a:1"})).await?;
    let problem = to(&house, "narrow").await?.unwrap_err();
    assert_eq!(problem.detail, "there is no room in the pool");
    assert_eq!(info(&house).await?.app.pool, "yard");
    Ok(())
}

#[tokio::test]
async fn a_failed_deploy_there_is_told_and_the_units_here_serve_on() -> Result<()> {
    let house = House::with_both("").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web", "pool": "yard"})).await?;
    // It starts in the yard, and no engine has such an image on the host.
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "only-there:1"})).await?;
    let before = info(&house).await?;
    let problem = to(&house, "default").await?.unwrap_err();
    assert_eq!(problem.title, "could not move `web` to the pool `default`");
    let after = info(&house).await?;
    assert_eq!((after.app, after.units), (before.app, before.units));
    assert_eq!(house.containers().await?, []);
    // Nothing of the move is left that would be in the way of the next.
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    to(&house, "default").await?.unwrap();
    house.until_running(1).await?;
    Ok(())
}

#[tokio::test]
async fn a_move_that_cannot_be_is_refused() -> Result<()> {
    let plans = "[volume-plans.small.warehouse]\n";
    let house = House::with_both(plans).await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web", "pool": "yard"})).await?;
    let id = format!("sha256:{}", "ab".repeat(32));
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": id})).await?;
    let refused = |pool: &'static str| {
        let house = &house;
        async move { anyhow::Ok(to(house, pool).await?.unwrap_err()) }
    };
    assert_eq!(refused("").await?.kind, ProblemKind::Invalid);
    assert_eq!(refused("yrad").await?.kind, ProblemKind::NotFound);
    assert_eq!(refused("yard").await?.detail, "it is there already");
    let local = refused("default").await?;
    ensure!(local.detail.contains("by its id") && local.hint.is_some(), "{local:?}");
    house
        .done(Method::POST, "/v1/volumes", json!({"name": "data", "plan": "small", "pool": "yard"}))
        .await?;
    let bind = json!({"app": "web", "mount_point": "/data", "no_restart": true});
    house.done(Method::POST, "/v1/volumes/data/binds", bind).await?;
    let bound = refused("default").await?;
    ensure!(bound.detail.contains("the volume `data`"), "{bound:?}");
    let nobody = house.change(Method::PATCH, "/v1/apps/nobody", json!({"pool": "yard"})).await?;
    assert_eq!(nobody.unwrap_err().kind, ProblemKind::NotFound);
    assert_eq!(info(&house).await?.app.pool, "yard");
    Ok(())
}

#[tokio::test]
async fn an_app_at_rest_is_not_moved_to_where_it_would_start() -> Result<()> {
    let mut house = house().await?;
    let stays = async |house: &House, pool: &str| -> Result<()> {
        let problem = to(house, pool).await?.unwrap_err();
        assert_eq!(problem.kind, ProblemKind::Conflict);
        ensure!(problem.detail.contains("stopped or sleeping units"), "{problem:?}");
        assert_eq!(problem.hint.as_deref(), Some("`gantry app start web`"));
        Ok(())
    };
    house.done(Method::POST, "/v1/apps/web/stop", json!({})).await?;
    stays(&house, "yard").await?;
    // Nothing of the move was begun.
    house.done(Method::POST, "/v1/apps/web/start", json!({})).await?;
    to(&house, "yard").await?.unwrap();
    assert_eq!(info(&house).await?.units.unwrap().len(), 2);
    house.done(Method::POST, "/v1/apps/web/sleep", json!({})).await?;
    stays(&house, "default").await?;
    house.done(Method::POST, "/v1/apps/web/start", json!({})).await?;

    // Where units at rest do not exist, they are a number.
    house.done(Method::DELETE, "/v1/apps/web/units", json!({"count": 2})).await?;
    house.crash();
    let store = rusqlite::Connection::open(house.folder.path().join("data/gantry.db"))?;
    store.execute("UPDATE apps SET units_in_use = 2", [])?;
    drop(store);
    house.start().await?;
    stays(&house, "default").await?;
    house.done(Method::POST, "/v1/apps/web/units", json!({"count": 1})).await?;
    to(&house, "default").await?.unwrap();
    Ok(())
}

/// What a daemon that died in a move has left: the row that it wrote before the first step.
fn died_in(house: &House, deployed: bool, images: Value) -> Result<()> {
    let store = rusqlite::Connection::open(house.folder.path().join("data/gantry.db"))?;
    store.execute(
        "INSERT INTO app_moves (app, operation, to_pool, to_provisioner, deployed, images) \
         VALUES ('web', 'x', 'yard', 'warehouse', ?, ?)",
        rusqlite::params![deployed, images.to_string()],
    )?;
    Ok(())
}

#[tokio::test]
async fn an_interrupted_move_is_told_and_gone_on_with_or_taken_back() -> Result<()> {
    let mut house = house().await?;
    house.crash();
    died_in(&house, false, json!(["plain:1"]))?;
    let told = house.start().await?;
    ensure!(
        told.iter().any(|line| line.contains("the move of `web` to the pool `yard` has not ended")),
        "{told:?}"
    );
    let elsewhere = to(&house, "other").await?.unwrap_err();
    ensure!(
        elsewhere.detail.contains("has not ended") && elsewhere.hint.is_some(),
        "{elsewhere:?}"
    );
    // Nothing else is done to it meanwhile: it would be done in one pool only.
    for (method, path, change) in [
        (Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:2"})),
        (Method::POST, "/v1/apps/web/units", json!({"count": 1})),
        (Method::DELETE, "/v1/apps/web", json!({})),
    ] {
        let refused = house.change(method, path, change).await?.unwrap_err();
        assert_eq!(refused.kind, ProblemKind::Conflict, "{path}");
        ensure!(refused.detail.contains("has not ended"), "{refused:?}");
        ensure!(refused.hint.is_some_and(|hint| hint.contains("--pool default")), "{path}");
    }
    to(&house, "default").await?.unwrap();
    assert_eq!(to(&house, "default").await?.unwrap_err().detail, "it is there already");
    assert_eq!(info(&house).await?.units.unwrap().len(), 2);

    house.crash();
    died_in(&house, false, json!(["plain:1"]))?;
    house.start().await?;
    to(&house, "yard").await?.unwrap();
    assert_eq!(info(&house).await?.units.unwrap().len(), 2);
    assert_eq!(house.containers().await?, []);
    to(&house, "default").await?.unwrap();

    // It had been deployed there: only the last step is missing.
    house.crash();
    died_in(&house, true, json!(["plain:1"]))?;
    let told = house.start().await?;
    ensure!(told.iter().any(|line| line.contains("it runs there already")), "{told:?}");
    let back = to(&house, "default").await?.unwrap_err();
    ensure!(back.detail.contains("it runs there already"), "{back:?}");
    to(&house, "yard").await?.unwrap();
    assert_eq!(house.containers().await?, []);
    let told = {
        house.stop().await?;
        house.start().await?
    };
    ensure!(!told.iter().any(|line| line.contains("has not ended")), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn a_move_that_is_asked_for_twice_is_made_once() -> Result<()> {
    let house = house().await?;
    // The second waits for its turn, and finds the app there.
    let patient = Change { wait: true, ..Change::default() };
    let ask = async || -> Result<_> {
        let pool = json!({"pool": "yard"});
        let accepted = house.client.change(Method::PATCH, "/v1/apps/web", &pool, &patient).await?;
        house.end_of(&accepted).await
    };
    let (one, other) = tokio::join!(ask(), ask());
    let refused: Vec<_> = [one?, other?].into_iter().filter_map(|ended| ended.err()).collect();
    let [refused] = refused.as_slice() else { bail!("one is refused: {refused:?}") };
    assert_eq!(refused.detail, "it is there already");
    let after = info(&house).await?;
    assert_eq!((after.app.pool.as_str(), after.units.unwrap().len()), ("yard", 2));
    assert_eq!(house.containers().await?, []);
    Ok(())
}

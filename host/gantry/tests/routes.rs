//! Routers, and routes that follow the units of apps.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use gantry::api::{
    AppInfo, AppRoutes, Items, OperationInfo, Problem, ProblemKind, Router, RouterInfo,
    RoutesChanged, RoutingTable,
};
use gantry::client::Change;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::support::{House, SOON};

async fn info(house: &House, app: &str) -> Result<AppInfo> {
    Ok(house.client.get(&format!("/v1/apps/{app}")).await?)
}

async fn table(house: &House) -> Result<RoutingTable> {
    Ok(house.client.get("/v1/routes").await?)
}

/// What the table has of an app on its only router.
async fn routes(house: &House, app: &str) -> Result<AppRoutes> {
    let mut all = table(house).await?.items.into_iter().filter(|routes| routes.app == app);
    let routes = all.next().context("no routes")?;
    ensure!(all.next().is_none(), "on one router only");
    Ok(routes)
}

async fn create(house: &House, app: Value) -> Result<()> {
    house.done(Method::POST, "/v1/apps", app).await.map(drop)
}

async fn deploy(house: &House, app: &str, image: &str) -> Result<()> {
    let path = format!("/v1/apps/{app}/deploy");
    house.done(Method::POST, &path, json!({"image": image})).await.map(drop)
}

async fn post(house: &House, path: &str, body: Value) -> Result<()> {
    house.done(Method::POST, path, body).await.map(drop)
}

/// Sets a variable that the guest reads, without touching a unit.
async fn set(house: &House, app: &str, name: &str, value: &str) -> Result<()> {
    let change = json!({"set": {name: value}, "no_restart": true});
    house.done(Method::PATCH, &format!("/v1/apps/{app}/env"), change).await.map(drop)
}

async fn swap(
    house: &House,
    app: &str,
    other: &str,
) -> Result<std::result::Result<gantry::api::Operation, Problem>> {
    house.change(Method::POST, &format!("/v1/apps/{app}/swap"), json!({"other": other})).await
}

/// Waits until the routes of an app are so many.
async fn until_routed(house: &House, app: &str, count: usize) -> Result<()> {
    let wait = async {
        loop {
            if routes(house, app).await?.addresses.len() == count {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.context("the routes do not come in time")?
}

/// The routes of an app are where its units are.
async fn at_its_units(house: &House, count: usize) -> Result<Vec<String>> {
    let info = info(house, "web").await?;
    let units = info.units.context("units")?;
    let units: BTreeSet<_> = units.into_iter().filter_map(|unit| unit.address).collect();
    let routes = routes(house, "web").await?.addresses;
    assert_eq!(routes.iter().cloned().collect::<BTreeSet<_>>(), units);
    assert_eq!(routes.len(), count);
    let [seen] = &*info.routes else { bail!("{:?}", info.routes) };
    assert_eq!(seen.addresses, routes, "`app info` shows the same");
    Ok(routes)
}

#[tokio::test]
async fn routes_follow_the_units_whoever_changes_them() -> Result<()> {
    let house = House::with_docker("routers.default.domain = \"apps.example.com\"").await?;
    create(&house, json!({"name": "web"})).await?;
    let empty = routes(&house, "web").await?;
    assert_eq!((empty.router.as_str(), empty.name.as_str()), ("default", "web"));
    assert_eq!(empty.addresses, [""; 0], "known before it has a unit");
    deploy(&house, "web", "plain:1").await?;
    let first = at_its_units(&house, 1).await?;
    post(&house, "/v1/apps/web/units", json!({"count": 2})).await?;
    let three = at_its_units(&house, 3).await?;
    assert_eq!(three[0], first[0], "the first one keeps its place");
    house.done(Method::DELETE, "/v1/apps/web/units", json!({"count": 1})).await?;
    at_its_units(&house, 2).await?;
    let before = house.containers().await?;
    post(&house, "/v1/apps/web/restart", json!({})).await?;
    at_its_units(&house, 2).await?;
    ensure!(house.containers().await?.iter().all(|one| !before.contains(one)), "they are new");
    post(&house, "/v1/apps/web/stop", json!({})).await?;
    assert_eq!(routes(&house, "web").await?.addresses, [""; 0], "what is stopped has no route");
    post(&house, "/v1/apps/web/start", json!({})).await?;
    at_its_units(&house, 2).await?;
    house.played.answers(200);
    deploy(&house, "web", "checked:1").await?;
    at_its_units(&house, 2).await?;
    post(&house, "/v1/apps/web/rollback", json!({"image": "plain:1"})).await?;
    at_its_units(&house, 2).await?;
    let seen = info(&house, "web").await?;
    let router = &seen.app.routers[0];
    assert_eq!((&*router.name, &*router.kind, &*router.status), ("default", "table", "ready"));
    assert_eq!(router.address, "web.apps.example.com");
    let routers: Items<Router> = house.client.get("/v1/routers").await?;
    let router = &routers.items[0];
    assert_eq!((router.apps, router.routes, router.default), (1, 2, true));
    Ok(())
}

#[tokio::test]
async fn labels_carry_the_routers_of_the_configuration() -> Result<()> {
    let house = House::with_docker("[routers.edge]").await?;
    create(&house, json!({"name": "web"})).await?;
    deploy(&house, "web", "plain:1").await?;
    use gantry_engine::Containers as _;
    let all = house.engine.list(true, &Default::default()).await?;
    let labels = &all[0].labels;
    assert_eq!((&*labels["router-name"], &*labels["router-type"]), ("edge", "table"));
    Ok(())
}

#[tokio::test]
async fn an_app_that_sleeps_has_no_route_and_one_that_moves_has_those_of_its_new_home() -> Result<()>
{
    let house = House::with_routed("").await?;
    create(&house, json!({"name": "web"})).await?;
    deploy(&house, "web", "plain:1").await?;
    let here = at_its_units(&house, 1).await?;
    house.done(Method::PATCH, "/v1/apps/web", json!({"pool": "edge"})).await?;
    let there = at_its_units(&house, 1).await?;
    ensure!(there != here && there[0].starts_with("http://web-"), "{there:?}");
    house.done(Method::PATCH, "/v1/apps/web", json!({"pool": "default"})).await?;
    at_its_units(&house, 1).await?;
    post(&house, "/v1/apps/web/sleep", json!({})).await?;
    assert_eq!(routes(&house, "web").await?.addresses, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn the_health_check_of_the_image_is_told_to_routers_that_look() -> Result<()> {
    let house = House::with_docker("[routers.blind]\nhealthcheck = false\n[routers.edge]").await?;
    house.played.answers(200);
    create(&house, json!({"name": "web", "routers": ["blind", "edge"]})).await?;
    deploy(&house, "web", "checked:1").await?;
    let table = table(&house).await?.items;
    let [blind, edge] = table.as_slice() else { anyhow::bail!("{table:?}") };
    assert_eq!((&*blind.router, &*edge.router), ("blind", "edge"));
    assert_eq!(blind.addresses, edge.addresses);
    assert_eq!(blind.healthcheck, None);
    // It says nothing of routers, so they ask for `/` (spec 3.4).
    let check = edge.healthcheck.clone().context("a health check")?;
    assert_eq!((&*check.path, check.status, &*check.body), ("/", 0, ""));
    Ok(())
}

#[tokio::test]
async fn a_plugin_that_dies_between_its_routes_and_its_end_leaves_no_route_to_a_unit_that_is_gone()
-> Result<()> {
    let house = House::with_routed("").await?;
    create(&house, json!({"name": "web", "pool": "edge"})).await?;
    deploy(&house, "web", "plain:1").await?;
    let before = at_its_units(&house, 1).await?;
    set(&house, "web", "DIE", "trap-after-route").await?;
    let failed =
        house.change(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:2"})).await?;
    assert_eq!(failed.unwrap_err().kind, ProblemKind::PluginFailed);
    assert_eq!(house.containers().await?.len(), 1);
    assert_eq!(at_its_units(&house, 1).await?, before);
    Ok(())
}

#[tokio::test]
async fn a_daemon_that_dies_there_leaves_none_either() -> Result<()> {
    let mut house = House::with_routed("").await?;
    create(&house, json!({"name": "web", "pool": "edge"})).await?;
    deploy(&house, "web", "plain:1").await?;
    let before = at_its_units(&house, 1).await?;
    set(&house, "web", "DIE", "wait-after-route").await?;
    let deploy = json!({"image": "plain:2"});
    let begun = house.begin(Method::POST, "/v1/apps/web/deploy", deploy).await?;
    let Ok(accepted) = begun else { anyhow::bail!("{begun:?}") };
    until_routed(&house, "web", 2).await?;
    house.crash();
    house.start().await?;
    let path = format!("/v1/operations/{}", accepted.operation);
    let interrupted: OperationInfo = house.client.get(&path).await?;
    assert_eq!(interrupted.operation.state.word(), "interrupted");
    until_routed(&house, "web", 1).await?;
    assert_eq!(at_its_units(&house, 1).await?, before);
    Ok(())
}

#[tokio::test]
async fn one_that_is_cancelled_there_leaves_none_either() -> Result<()> {
    let house = House::with_routed("operations.undo = \"50ms\"").await?;
    create(&house, json!({"name": "web", "pool": "edge"})).await?;
    set(&house, "web", "DIE", "wait-after-route").await?;
    let deploy = json!({"image": "plain:1"});
    let begun = house.begin(Method::POST, "/v1/apps/web/deploy", deploy).await?;
    let Ok(accepted) = begun else { anyhow::bail!("{begun:?}") };
    until_routed(&house, "web", 1).await?;
    house.client.post(&format!("/v1/operations/{}/cancel", accepted.operation)).await?;
    house.end_of(&accepted).await?.unwrap_err();
    // The plugin undid nothing: what it made is swept, and its route goes with it.
    until_routed(&house, "web", 0).await?;
    assert_eq!(house.containers().await?, []);
    Ok(())
}

/// What the agent of the node says of a unit.
async fn report(house: &House, unit: &str, status: &str) -> Result<()> {
    let report =
        json!({"units": [{"id": unit, "status": status}, {"id": "nobody", "status": status}]});
    let report = serde_json::to_vec(&report)?;
    let told: Value = house.client.ask_bytes("/v1/nodes/status", report).await?;
    let units = told.get("items").and_then(Value::as_array).context("units")?;
    let found: Vec<_> = units.iter().map(|unit| unit.get("found")).collect();
    assert_eq!(found, [Some(&json!(true)), Some(&json!(false))]);
    Ok(())
}

#[tokio::test]
async fn a_report_of_a_node_looks_at_the_routes_of_the_apps_that_it_is_about_and_no_others()
-> Result<()> {
    use gantry_engine::Containers as _;
    let house = House::with_docker("").await?;
    for app in ["web", "other"] {
        create(&house, json!({"name": app})).await?;
        deploy(&house, app, "plain:1").await?;
    }
    let all = house.engine.list(true, &Default::default()).await?;
    let of = |app: &str| {
        let mut all = all.iter().filter(|one| one.labels["app-name"] == app);
        all.next().map(|one| one.id.clone()).context("a unit")
    };
    // Whoever looked at its routes would see that nothing runs there any more.
    house.engine.stop(&of("other")?, 1).await?;
    let web = of("web")?;
    // Each look ends before the next begins: what follows the first of them sees all that it did.
    for (status, count) in [("error", 0), ("started", 1)] {
        report(&house, &web, status).await?;
        until_routed(&house, "web", count).await?;
    }
    assert_eq!(routes(&house, "other").await?.addresses.len(), 1, "nobody looked");
    report(&house, &of("other")?, "stopped").await?;
    until_routed(&house, "other", 0).await
}

#[tokio::test]
async fn routes_that_cannot_be_told_fail_nothing_and_are_tried_again() -> Result<()> {
    let house = House::with_routed("").await?;
    for app in ["web", "silence"] {
        create(&house, json!({"name": app, "pool": "edge"})).await?;
    }
    deploy(&house, "web", "plain:1").await?;
    set(&house, "silence", "SILENT", "it has lost its tongue").await?;
    let path = "/v1/apps/web/stop";
    let done = house.done(Method::POST, path, json!({})).await?;
    let told: OperationInfo = house.client.get(&format!("/v1/operations/{}", done.id)).await?;
    let lines: Vec<_> = told.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(
        lines,
        [
            "warning: the routes are not those of the units yet: it has lost its tongue; they are tried again by themselves"
        ]
    );
    assert_eq!(routes(&house, "web").await?.addresses.len(), 1, "nobody knows better");
    // Of another app: nothing of this one is changed any more.
    let unset = json!({"unset": ["SILENT"], "no_restart": true});
    house.done(Method::PATCH, "/v1/apps/silence/env", unset).await?;
    until_routed(&house, "web", 0).await
}

#[tokio::test]
async fn two_apps_are_swapped_and_swapped_back() -> Result<()> {
    let config = "routers.default.domain = \"apps.example.com\"\n[routers.inner]";
    let house = House::with_docker(config).await?;
    for app in ["web", "next", "job"] {
        create(&house, json!({"name": app})).await?;
        deploy(&house, app, "plain:1").await?;
    }
    let (web, next) = (routes(&house, "web").await?, routes(&house, "next").await?);
    let done = swap(&house, "web", "next").await?.unwrap();
    assert_eq!(done.result, Some(json!({"routers": ["default"], "swapped": true})));
    // On another router they would not be swapped.
    let more = json!({"add_routers": ["inner"]});
    let problem = house.change(Method::PATCH, "/v1/apps/web", more).await?.unwrap_err();
    assert_eq!(
        (problem.kind, &*problem.detail),
        (ProblemKind::Conflict, "`web` is swapped with `next`")
    );
    for (app, other, own) in [("web", "next", &web), ("next", "web", &next)] {
        let seen = info(&house, app).await?;
        assert_eq!(seen.routes[0].swapped_with.as_deref(), Some(other));
        assert_eq!(seen.routes[0].name, other);
        assert_eq!(seen.routes[0].addresses, own.addresses, "its routes are its own");
        assert_eq!(seen.app.routers[0].address, format!("{other}.apps.example.com"));
    }
    // What follows the units keeps the names.
    post(&house, "/v1/apps/web/units", json!({"count": 1})).await?;
    let seen = routes(&house, "web").await?;
    assert_eq!((&*seen.name, seen.addresses.len()), ("next", 2));
    // One that is swapped with one is not swapped with another, nor removed, nor taken from its router.
    let refused = |problem: Problem, app: &str, other: &str| {
        assert_eq!(problem.kind, ProblemKind::Conflict, "{problem:?}");
        assert_eq!(problem.detail, format!("`{app}` is swapped with `{other}`"));
        assert!(problem.hint.is_some_and(|hint| hint.contains("gantry app swap")));
    };
    refused(swap(&house, "job", "next").await?.unwrap_err(), "next", "web");
    let removed = house.change(Method::DELETE, "/v1/apps/next", json!({})).await?;
    refused(removed.unwrap_err(), "next", "web");
    let gone = json!({"remove_routers": ["default"]});
    let gone = house.change(Method::PATCH, "/v1/apps/web", gone).await?;
    refused(gone.unwrap_err(), "web", "next");
    assert_eq!(info(&house, "next").await?.units.context("units")?.len(), 1);
    let done = swap(&house, "next", "web").await?.unwrap();
    assert_eq!(done.result, Some(json!({"routers": ["default"], "swapped": false})));
    for app in ["web", "next"] {
        let seen = info(&house, app).await?;
        assert_eq!((&*seen.routes[0].name, &seen.routes[0].swapped_with), (app, &None));
    }
    // Forced, the other one gets its own name back.
    swap(&house, "web", "job").await?.unwrap();
    house.done(Method::DELETE, "/v1/apps/job", json!({"force": true})).await?;
    let seen = routes(&house, "web").await?;
    assert_eq!((&*seen.name, seen.swapped_with), ("web", None));
    Ok(())
}

#[tokio::test]
async fn apps_that_cannot_be_swapped_are_not() -> Result<()> {
    let house = House::with_docker("[routers.edge]\n[routers.inner]").await?;
    create(&house, json!({"name": "web", "routers": ["edge"]})).await?;
    create(&house, json!({"name": "api", "routers": ["edge", "inner"]})).await?;
    create(&house, json!({"name": "job"})).await?;
    let refused =
        async |app: &str, other: &str| anyhow::Ok(swap(&house, app, other).await?.unwrap_err());
    assert_eq!(refused("web", "web").await?.kind, ProblemKind::Invalid);
    assert_eq!(refused("web", "nobody").await?.kind, ProblemKind::NotFound);
    assert_eq!(refused("nobody", "web").await?.kind, ProblemKind::NotFound);
    let problem = refused("web", "api").await?;
    assert_eq!(problem.kind, ProblemKind::Conflict);
    assert_eq!(
        problem.detail,
        "they are not reached through the same routers: `web` has edge, `api` has edge, inner"
    );
    let problem = refused("job", "web").await?;
    ensure!(problem.detail.contains("`job` has none"), "{problem:?}");
    Ok(())
}

#[tokio::test]
async fn a_swap_waits_for_both_apps_and_two_of_them_never_for_each_other() -> Result<()> {
    let house = House::with_docker("").await?;
    for app in ["web", "api"] {
        create(&house, json!({"name": app})).await?;
    }
    let image = json!({"image": "checked:1"});
    let begun = house.begin(Method::POST, "/v1/apps/api/deploy", image).await?;
    let Ok(accepted) = begun else { anyhow::bail!("{begun:?}") };
    house.until_running(1).await?;
    for (app, other) in [("web", "api"), ("api", "web")] {
        let problem = swap(&house, app, other).await?.unwrap_err();
        assert_eq!(problem.kind, ProblemKind::Busy);
        assert_eq!(problem.holder.context("who")?.operation, accepted.operation);
    }
    // Those that wait get both in turn, whichever they name first: an odd number of swaps is one.
    let wait = Change { wait: true, ..Change::default() };
    let swaps = (0..9).map(|number| {
        let (app, other) = if number % 2 == 0 { ("web", "api") } else { ("api", "web") };
        let (house, wait) = (&house, &wait);
        async move {
            let path = format!("/v1/apps/{app}/swap");
            let body = json!({"other": other});
            let accepted = house.client.change(Method::POST, &path, &body, wait).await?;
            house.end_of(&accepted).await?.map_err(|problem| anyhow::anyhow!("{problem:?}"))
        }
    });
    let swaps = futures_util::future::try_join_all(swaps);
    let (_, swapped) =
        tokio::join!(async { house.played.answers(200) }, tokio::time::timeout(SOON, swaps));
    swapped.context("they wait for each other")??;
    house.end_of(&accepted).await?.map_err(|problem| anyhow::anyhow!("{problem:?}"))?;
    let seen = routes(&house, "web").await?;
    assert_eq!((&*seen.name, seen.addresses.len()), ("api", 0));
    assert_eq!(routes(&house, "api").await?.addresses.len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_app_gets_the_routers_that_it_names_and_others_later() -> Result<()> {
    let house =
        House::with_docker("default-router = \"edge\"\n[routers.edge]\n[routers.inner]").await?;
    let names = async |app: &str| -> Result<Vec<String>> {
        let routers = info(&house, app).await?.app.routers;
        Ok(routers.into_iter().map(|router| router.name).collect())
    };
    create(&house, json!({"name": "web"})).await?;
    create(&house, json!({"name": "bare", "routers": []})).await?;
    create(&house, json!({"name": "both", "routers": ["inner", "edge", "inner"]})).await?;
    assert_eq!(names("web").await?, ["edge"]);
    assert_eq!(names("bare").await?, [""; 0]);
    assert_eq!(names("both").await?, ["inner", "edge"]);
    let wrong = json!({"name": "x", "routers": ["edgy"]});
    let problem = house.change(Method::POST, "/v1/apps", wrong).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::NotFound);
    assert_eq!(problem.hint.as_deref(), Some("did you mean `edge`?"));
    let update = async |change: Value| house.change(Method::PATCH, "/v1/apps/web", change).await;
    deploy(&house, "web", "plain:1").await?;
    update(json!({"add_routers": ["inner"], "remove_routers": ["edge"]})).await?.unwrap();
    assert_eq!(names("web").await?, ["inner"]);
    let seen = routes(&house, "web").await?;
    assert_eq!((&*seen.router, seen.addresses.len()), ("inner", 1), "it is routed at once");
    let inner: RouterInfo = house.client.get("/v1/routers/inner").await?;
    let apps: Vec<_> = inner.items.iter().map(|routes| routes.app.as_str()).collect();
    assert_eq!(apps, ["both", "web"]);
    for (change, kind) in [
        (json!({"remove_routers": ["edge"]}), ProblemKind::NotFound),
        (json!({"add_routers": ["edgy"]}), ProblemKind::NotFound),
        (json!({"add_routers": ["edge"], "remove_routers": ["edge"]}), ProblemKind::Invalid),
        (json!({"add_routers": ["edge"], "pool": "default"}), ProblemKind::Invalid),
    ] {
        assert_eq!(update(change.clone()).await?.unwrap_err().kind, kind, "{change}");
    }
    assert_eq!(names("web").await?, ["inner"]);
    let nobody = house.client.get::<RouterInfo>("/v1/routers/iner").await;
    let problem = crate::support::refused(nobody)?.unwrap_err();
    assert_eq!(problem.hint.as_deref(), Some("did you mean `inner`?"));
    Ok(())
}

#[tokio::test]
async fn an_app_that_is_removed_takes_its_routes_along() -> Result<()> {
    let house = House::with_docker("").await?;
    create(&house, json!({"name": "web"})).await?;
    deploy(&house, "web", "plain:1").await?;
    let before = table(&house).await?;
    house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    let after = table(&house).await?;
    assert_eq!(after.items, []);
    ensure!(after.generation > before.generation, "{after:?}");
    Ok(())
}

#[tokio::test]
async fn who_reads_the_table_is_told_when_there_is_a_new_one() -> Result<()> {
    let mut house = House::with_docker("").await?;
    create(&house, json!({"name": "web"})).await?;
    let mut events = house.client.events("/v1/routes/events", None).await?;
    let mut next = async || -> Result<u64> {
        let event = tokio::time::timeout(SOON, events.next()).await?.context("no event")??;
        assert_eq!(event.kind, "changed");
        let changed: RoutesChanged = serde_json::from_str(&event.data)?;
        let tag = event.id.context("an id")?;
        ensure!(tag.starts_with(&format!("{}-", changed.generation)), "{tag}");
        Ok(changed.generation)
    };
    let first = next().await?;
    assert_eq!(first, table(&house).await?.generation, "the one there is, at once");
    deploy(&house, "web", "plain:1").await?;
    let second = next().await?;
    ensure!(second > first, "{second}");
    // One that has it is told of the next only.
    let generation = table(&house).await?.generation;
    let after = tagged(&house, &[]).await?.1.trim_matches('"').to_owned();
    let mut later = house.client.events("/v1/routes/events", Some(&after)).await?;
    post(&house, "/v1/apps/web/units", json!({"count": 1})).await?;
    let event = tokio::time::timeout(SOON, later.next()).await?.context("no event")??;
    let changed: RoutesChanged = serde_json::from_str(&event.data)?;
    ensure!(changed.generation > generation, "{changed:?}");
    // The same table shown in another way is another one: who had it is told at once.
    let before = table(&house).await?;
    let after = tagged(&house, &[]).await?.1.trim_matches('"').to_owned();
    house.stop().await?;
    house.configure("routers.default.domain = \"apps.example.com\"");
    house.start().await?;
    let mut later = house.client.events("/v1/routes/events", Some(&after)).await?;
    let event = tokio::time::timeout(SOON, later.next()).await?.context("no event")??;
    let changed: RoutesChanged = serde_json::from_str(&event.data)?;
    assert_eq!(changed.generation, before.generation);
    // And the stream does not keep the daemon from ending.
    house.stop().await?;
    Ok(())
}

/// The status, the tag and the body of the table for a reader that has these.
async fn tagged(house: &House, has: &[&str]) -> Result<(u16, String, Bytes)> {
    let stream = UnixStream::connect(house.folder.path().join("g.sock")).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::builder().uri("/v1/routes").header("host", "gantry");
    for tag in has {
        request = request.header("if-none-match", *tag);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status().as_u16();
    let tag = response.headers().get("etag").context("a tag")?.to_str()?.to_owned();
    Ok((status, tag, response.into_body().collect().await?.to_bytes()))
}

#[tokio::test]
async fn a_table_that_the_reader_has_is_not_sent_again() -> Result<()> {
    let mut house = House::with_docker("").await?;
    create(&house, json!({"name": "web"})).await?;
    let (status, tag, body) = tagged(&house, &[]).await?;
    let sent: RoutingTable = serde_json::from_slice(&body)?;
    assert_eq!((status, sent.items.len()), (200, 1));
    let weak = format!("\"other\", W/{tag}");
    for has in [&[tag.as_str()][..], &[weak.as_str()], &["\"other\"", &tag], &["*"]] {
        let (status, same, body) = tagged(&house, has).await?;
        assert_eq!((status, &same, body.len()), (304, &tag, 0), "{has:?}");
    }
    deploy(&house, "web", "plain:1").await?;
    let (status, new, _) = tagged(&house, &[&tag]).await?;
    assert_eq!(status, 200);
    // Shown in another way it is another one.
    house.stop().await?;
    house.configure("routers.default.domain = \"apps.example.com\"");
    house.start().await?;
    let (status, moved, body) = tagged(&house, &[&new]).await?;
    let sent: RoutingTable = serde_json::from_slice(&body)?;
    assert_eq!((status, &*sent.items[0].address), (200, "web.apps.example.com"));
    ensure!(tag != new && new != moved, "{tag} {new} {moved}");
    Ok(())
}

//! Services that apps are bound to: over real HTTP to a service in this process.

mod database;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, ensure};
use gantry::api::{
    AppInfo, EnvVar, Items, Operation, OperationInfo, Problem, ProblemKind, Service, Volume,
};
use gantry_engine::Containers;
use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::support::{House, refused};
use database::{Answer, Database, Told};

/// `Basic` of `gantry` with the password `s3cr3t`.
const US: &str = "Basic Z2FudHJ5OnMzY3IzdA==";

type Ended = std::result::Result<Operation, Problem>;

fn envs() -> Value {
    json!({"DB_HOST": "db.example", "DB_PORT": 3306})
}

async fn add(house: &House, name: &str, database: &Database) -> Result<()> {
    let body = json!({
        "name": name, "url": database.url(), "username": "gantry", "password": "s3cr3t",
    });
    house.done(Method::POST, "/v1/services", body).await.map(drop)
}

/// A house with a deployed app and a service that it is not bound to.
async fn house() -> Result<(House, Database)> {
    let house = House::with_docker("").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    let db = Database::start(&envs()).await?;
    add(&house, "db", &db).await?;
    Ok((house, db))
}

async fn bind(house: &House, service: &str) -> Result<Ended> {
    let path = format!("/v1/services/{service}/binds");
    house.change(Method::POST, &path, json!({"app": "web"})).await
}

async fn unbind(house: &House, service: &str, force: bool) -> Result<Ended> {
    let path = format!("/v1/services/{service}/binds");
    house.change(Method::DELETE, &path, json!({"app": "web", "force": force})).await
}

async fn bound(house: &House) -> Result<Vec<String>> {
    Ok(house.client.get::<AppInfo>("/v1/apps/web").await?.services)
}

/// The variables of each container of the app.
async fn environments(house: &House) -> Result<Vec<Vec<String>>> {
    let mut all = Vec::new();
    for unit in house.units("web").await? {
        all.push(house.engine.inspect(&unit.id).await?.config.env.unwrap_or_default());
    }
    Ok(all)
}

/// The value of a variable in every unit; they must agree.
async fn variable(house: &House, name: &str) -> Result<Option<String>> {
    let mut values: Vec<Option<String>> = environments(house)
        .await?
        .iter()
        .map(|all| {
            let mut values = all.iter().filter_map(|env| env.strip_prefix(&format!("{name}=")));
            values.next().map(str::to_owned)
        })
        .collect();
    values.dedup();
    ensure!(values.len() == 1, "{name}: {values:?}");
    Ok(values.pop().flatten())
}

/// What the agents in the units of an app show, where the units of a provisioner are in no engine.
fn stored_token(house: &House, app: &str) -> Result<String> {
    let store = rusqlite::Connection::open(house.folder.path().join("data/gantry.db"))?;
    Ok(store.query_row("SELECT token FROM apps WHERE name = ?", [app], |row| row.get(0))?)
}

/// What the daemon keeps of the units that services know: service and unit.
fn known(house: &House) -> Result<Vec<(String, String)>> {
    let store = rusqlite::Connection::open(house.folder.path().join("data/gantry.db"))?;
    let mut statement =
        store.prepare("SELECT service, unit FROM service_units ORDER BY service, unit")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The units that are there, as the daemon keeps them for these services.
async fn expected(house: &House, services: &[&str]) -> Result<Vec<(String, String)>> {
    let units = house.units("web").await?;
    let of = |service: &&str| {
        let service = (*service).to_owned();
        units.iter().map(move |unit| (service.clone(), unit.id.clone())).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = services.iter().flat_map(of).collect();
    all.sort();
    Ok(all)
}

#[tokio::test]
async fn a_bind_gives_variables_to_new_units_and_an_unbind_takes_exactly_them_away() -> Result<()> {
    let (house, db) = house().await?;
    let own = json!({"set": {"DB_HOST": "mine", "OWN": "1"}});
    house.done(Method::PATCH, "/v1/apps/web/env", own).await?;
    let before = house.containers().await?;
    let done = bind(&house, "db").await?.unwrap();
    let told = json!({"service": "db", "variables": ["DB_HOST", "DB_PORT"], "restarted": true});
    assert_eq!(done.result, Some(told));

    let after = house.containers().await?;
    ensure!(after.len() == 1 && after != before, "its units are new: {after:?}");
    assert_eq!(variable(&house, "DB_HOST").await?.as_deref(), Some("db.example"), "it wins");
    assert_eq!(variable(&house, "DB_PORT").await?.as_deref(), Some("3306"));
    assert_eq!(variable(&house, "OWN").await?.as_deref(), Some("1"));
    let services = variable(&house, "TSURU_SERVICES").await?.context("it is always there")?;
    let listed = json!({"db": [{
        "instance_name": "db",
        "envs": {"DB_HOST": "db.example", "DB_PORT": "3306"},
    }]});
    assert_eq!(serde_json::from_str::<Value>(&services)?, listed);
    assert_eq!(bound(&house).await?, ["db"]);
    let shown: Items<EnvVar> = house.client.get("/v1/apps/web/env").await?;
    let shown: Vec<_> = shown
        .items
        .iter()
        .map(|env| (env.name.as_str(), env.value.as_deref(), env.service.as_deref()))
        .collect();
    let theirs = [("DB_HOST", None, Some("db")), ("DB_PORT", None, Some("db"))];
    assert_eq!(shown, [theirs[0], theirs[1], ("OWN", Some("1"), None)]);
    let service: Service = house.client.get("/v1/services/db").await?;
    assert_eq!(service.binds[0].variables, ["DB_HOST", "DB_PORT"]);

    let (told, unit) = (db.take(), house.units("web").await?.remove(0));
    let verbs: Vec<_> = told.iter().map(Told::verb).collect();
    assert_eq!(
        verbs,
        ["POST bind-app", "POST bind", "POST bind"],
        "the app, its unit, its new one"
    );
    for told in &told {
        assert_eq!(told.authorization, US);
        assert_eq!(told.field("app-name"), "web");
        ensure!(told.path.starts_with("/resources/db/bind"), "{told:?}");
    }
    assert_eq!((told[0].field("unit-host"), told[2].field("unit-host")), ("", unit.ip.as_str()));
    ensure!(!unit.ip.is_empty(), "{unit:?}");
    let again = bind(&house, "db").await?.unwrap_err();
    assert_eq!((again.kind, again.detail.as_str()), (ProblemKind::Conflict, "it is bound already"));

    let done = unbind(&house, "db", false).await?.unwrap();
    assert_eq!(done.result, Some(json!({"service": "db", "restarted": true})));
    assert_eq!(variable(&house, "DB_HOST").await?.as_deref(), Some("mine"), "people's own is back");
    assert_eq!(variable(&house, "DB_PORT").await?, None);
    assert_eq!(variable(&house, "TSURU_SERVICES").await?.as_deref(), Some("{}"));
    assert_eq!(db.verbs(), ["DELETE bind", "DELETE bind-app"]);
    assert_eq!((bound(&house).await?, known(&house)?), (Vec::<String>::new(), Vec::new()));
    let again = unbind(&house, "db", true).await?.unwrap_err();
    assert_eq!((again.kind, again.detail.as_str()), (ProblemKind::NotFound, "it is not bound"));
    Ok(())
}

#[tokio::test]
async fn each_unit_is_told_once_and_its_machine_is_taken_back_with_the_last_one() -> Result<()> {
    let (house, db) = house().await?;
    bind(&house, "db").await?.unwrap();
    assert_eq!(known(&house)?, expected(&house, &["db"]).await?);
    db.take();
    house.done(Method::POST, "/v1/apps/web/units", json!({"count": 2})).await?;
    assert_eq!(db.verbs(), ["POST bind", "POST bind"]);
    assert_eq!(known(&house)?, expected(&house, &["db"]).await?);
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:2"})).await?;
    assert_eq!(db.verbs(), ["POST bind"; 3], "and the machine of the old ones has new ones");
    assert_eq!(known(&house)?, expected(&house, &["db"]).await?);
    house.done(Method::DELETE, "/v1/apps/web/units", json!({"count": 2})).await?;
    assert_eq!(db.verbs(), [""; 0]);
    assert_eq!(known(&house)?, expected(&house, &["db"]).await?);
    house.done(Method::DELETE, "/v1/apps/web/units", json!({"count": 1})).await?;
    assert_eq!(db.verbs(), ["DELETE bind"]);
    assert_eq!(known(&house)?, []);
    // Nothing runs: there is nothing to replace, and only the app to be told of.
    unbind(&house, "db", false).await?.unwrap();
    assert_eq!(db.verbs(), ["DELETE bind-app"]);
    let done = bind(&house, "db").await?.unwrap();
    assert_eq!(done.result.context("a result")?["restarted"], false);
    assert_eq!(db.verbs(), ["POST bind-app"]);
    Ok(())
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_a_deploy_leaves_the_old_units_and_nothing_else() -> Result<()> {
    let (house, db) = house().await?;
    house.done(Method::POST, "/v1/apps/web/units", json!({"count": 2})).await?;
    bind(&house, "db").await?.unwrap();
    let (containers, before) = (house.containers().await?, known(&house)?);
    assert_eq!((containers.len(), before.len()), (3, 3));
    db.take();
    let mut asked = 0;
    db.when(move |told| {
        asked += usize::from(told.verb() == "POST bind");
        (asked == 2).then(|| Answer::says(500, "no room\nfor another"))
    });
    let deploy = json!({"image": "plain:2"});
    let problem = house.change(Method::POST, "/v1/apps/web/deploy", &deploy).await?.unwrap_err();
    ensure!(
        problem.detail.contains("the service `db` answered 500: no room for another"),
        "{problem:?}"
    );
    assert_eq!(house.containers().await?, containers, "the old units serve on");
    assert_eq!(known(&house)?, before, "and the service knows them and no other");
    // The machine is still that of the old ones.
    assert_eq!(db.verbs(), ["POST bind", "POST bind"]);
    db.works();
    house.done(Method::POST, "/v1/apps/web/deploy", deploy).await?;
    assert_eq!(known(&house)?, expected(&house, &["db"]).await?);
    Ok(())
}

#[tokio::test]
async fn a_unit_that_one_service_refuses_is_taken_back_at_the_others() -> Result<()> {
    let (house, db) = house().await?;
    let cache = Database::start(&json!({"DB_HOST": "cache", "CACHE": "yes"})).await?;
    add(&house, "cache", &cache).await?;
    for service in ["db", "cache"] {
        bind(&house, service).await?.unwrap();
    }
    assert_eq!(variable(&house, "DB_HOST").await?.as_deref(), Some("cache"), "the later one wins");
    house.done(Method::DELETE, "/v1/apps/web/units", json!({"count": 1})).await?;
    assert_eq!(known(&house)?, []);
    db.take();
    cache.answers("POST bind", Answer::says(412, "soon"));
    let deploy = json!({"image": "plain:2"});
    let problem = house.change(Method::POST, "/v1/apps/web/deploy", &deploy).await?.unwrap_err();
    ensure!(problem.detail.contains("the service `cache` answered 412: soon"), "{problem:?}");
    assert_eq!(db.verbs(), ["POST bind", "DELETE bind"], "told otherwise");
    assert_eq!((house.containers().await?, known(&house)?), (Vec::new(), Vec::new()));
    // A service that does not answer may have done it: it is told otherwise too.
    let short = json!({"timeout": 1});
    house.done(Method::PATCH, "/v1/services/cache", short).await?;
    cache.answers("POST bind", Answer::Hangs);
    cache.take();
    let problem = house.change(Method::POST, "/v1/apps/web/deploy", &deploy).await?.unwrap_err();
    ensure!(problem.detail.contains("`cache` did not answer within 1 s"), "{problem:?}");
    assert_eq!(db.verbs(), ["POST bind", "DELETE bind"]);
    assert_eq!(cache.verbs(), ["POST bind", "DELETE bind"]);
    // Side by side: each answers only when both are asked.
    let both = Arc::new(Barrier::new(2));
    for service in [&db, &cache] {
        service.answers("POST bind", Answer::Together(Arc::clone(&both)));
    }
    house.done(Method::POST, "/v1/apps/web/deploy", deploy).await?;
    assert_eq!(known(&house)?, expected(&house, &["cache", "db"]).await?);
    Ok(())
}

#[tokio::test]
async fn a_service_that_cannot_be_bound_to_leaves_the_app_as_it_was() -> Result<()> {
    let (house, db) = house().await?;
    house.done(Method::PATCH, "/v1/services/db", json!({"timeout": 1})).await?;
    let before = house.containers().await?;
    let elsewhere = Database::start(&envs()).await?;
    let redirect = Answer::Elsewhere(307, format!("{}/resources/db/bind-app", elsewhere.url()));
    let huge = || vec![b'x'; 10 << 20];
    let mut large = br#"{"A": ""#.to_vec();
    large.extend(huge());
    large.extend(br#""}"#);
    // What it answers, what is made of that, and whether it may have done it.
    let cases: [(&str, Answer, ProblemKind, &str, bool); 14] = [
        ("hangs", Answer::Hangs, ProblemKind::Unavailable, "did not answer within 1 s", true),
        ("hangs up", Answer::HangsUp, ProblemKind::Unavailable, "broke off", true),
        ("html", Answer::says(201, "<p>hush"), ProblemKind::Failed, "that is not JSON", true),
        ("a list", Answer::says(201, "[1]"), ProblemKind::Failed, "no object of variables", true),
        (
            "not text",
            Answer::says(200, r#"{"A": []}"#),
            ProblemKind::Failed,
            "`A` that is no",
            true,
        ),
        ("10 MB", Answer::Says(201, large), ProblemKind::Failed, "more than 1048576 bytes", true),
        ("500", Answer::says(500, "oh\nno"), ProblemKind::Failed, "answered 500: oh no", false),
        ("10 MB of 500", Answer::Says(500, huge()), ProblemKind::Failed, "answered 500: xx", false),
        ("elsewhere", redirect, ProblemKind::Failed, "answered 307", false),
        ("401", Answer::says(401, ""), ProblemKind::Forbidden, "answered 401", false),
        ("403", Answer::says(403, "you"), ProblemKind::Forbidden, "answered 403: you", false),
        ("404", Answer::says(404, ""), ProblemKind::NotFound, "answered 404", false),
        ("409", Answer::says(409, ""), ProblemKind::Conflict, "answered 409", false),
        ("412", Answer::says(412, "soon"), ProblemKind::Conflict, "answered 412: soon", false),
    ];
    for (case, answer, kind, why, in_doubt) in cases {
        db.answers("POST bind-app", answer);
        let problem = bind(&house, "db").await?.unwrap_err();
        assert_eq!(
            (problem.kind, problem.title.as_str()),
            (kind, "could not bind `web` to the service `db`"),
            "{case}"
        );
        ensure!(problem.detail.contains(why) && problem.hint.is_some(), "{case}: {problem:?}");
        ensure!(
            problem.detail.len() < 500 && !problem.detail.contains("hush"),
            "{case}: {problem:?}"
        );
        let undone: &[&str] =
            if in_doubt { &["POST bind-app", "DELETE bind-app"] } else { &["POST bind-app"] };
        assert_eq!(db.verbs(), undone, "{case}");
        ensure!(bound(&house).await?.is_empty(), "{case}");
        assert_eq!(house.containers().await?, before, "{case}");
    }
    assert_eq!(elsewhere.verbs(), [""; 0], "no redirect is followed");

    // It binds the app and does not take its unit.
    db.answers("POST bind", Answer::says(500, "full"));
    let problem = bind(&house, "db").await?.unwrap_err();
    ensure!(problem.detail.contains("500: full"), "{problem:?}");
    assert_eq!(db.verbs(), ["POST bind-app", "POST bind", "DELETE bind-app"]);
    assert_eq!((house.containers().await?, known(&house)?), (before.clone(), Vec::new()));
    // Even what was undone could not be told.
    db.when(|told| match told.verb().as_str() {
        "POST bind" => Some(Answer::HangsUp),
        "DELETE bind-app" => Some(Answer::says(503, "later")),
        _ => None,
    });
    let problem = bind(&house, "db").await?.unwrap_err();
    ensure!(
        problem
            .detail
            .contains("it may take the app for bound: the service `db` answered 503: later"),
        "{problem:?}"
    );
    ensure!(bound(&house).await?.is_empty());
    assert_eq!(house.containers().await?, before);

    db.works();
    bind(&house, "db").await?.unwrap();
    // And one that is gone.
    unbind(&house, "db", false).await?.unwrap();
    let before = house.containers().await?;
    db.stop().await;
    let problem = bind(&house, "db").await?.unwrap_err();
    ensure!(problem.detail.starts_with("cannot reach the service `db`: "), "{problem:?}");
    assert_eq!(problem.kind, ProblemKind::Unavailable);
    assert_eq!((house.containers().await?, bound(&house).await?), (before, Vec::new()));
    Ok(())
}

#[tokio::test]
async fn a_service_knows_the_units_of_a_provisioner_that_tells_nobody_of_them() -> Result<()> {
    let house = House::with_both("").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web", "pool": "yard"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "a:1"})).await?;
    house.done(Method::POST, "/v1/apps/web/units", json!({"count": 1})).await?;
    let db = Database::start(&envs()).await?;
    add(&house, "db", &db).await?;
    bind(&house, "db").await?.unwrap();
    let known_now = known(&house)?;
    assert_eq!((known_now.len(), &known_now), (2, &expected(&house, &["db"]).await?));
    db.take();
    // And those that come and go later.
    house.done(Method::POST, "/v1/apps/web/units", json!({"count": 1})).await?;
    assert_eq!(db.verbs(), ["POST bind"]);
    assert_eq!((known(&house)?.len(), known(&house)?), (3, expected(&house, &["db"]).await?));
    house.done(Method::DELETE, "/v1/apps/web/units", json!({"count": 1})).await?;
    assert_eq!(db.verbs(), [""; 0], "the others are in the yard too");
    assert_eq!((known(&house)?.len(), known(&house)?), (2, expected(&house, &["db"]).await?));
    // One that it does not take is told of, and again with the next change.
    db.answers("POST bind", Answer::says(500, "full"));
    let added = house.done(Method::POST, "/v1/apps/web/units", json!({"count": 1})).await?;
    let told: OperationInfo = house.client.get(&format!("/v1/operations/{}", added.id)).await?;
    let warned = |line: &str| line.starts_with("warning: its services do not know of every unit");
    ensure!(told.lines.iter().any(|line| warned(&line.text)), "{told:?}");
    assert_eq!(known(&house)?.len(), 2);
    db.works();
    // Or as soon as the unit itself says that it is there.
    db.take();
    let mut untold = expected(&house, &["db"]).await?;
    untold.retain(|unit| !known(&house).is_ok_and(|known| known.contains(unit)));
    let (_, unit) = untold.pop().context("one is not told of")?;
    let token = format!("bearer {}", stored_token(&house, "web")?);
    for _ in 0..2 {
        let (status, told) = house.register("web", &token, &format!("hostname={unit}")).await?;
        ensure!(status == 200, "{status} {told}");
    }
    assert_eq!(db.verbs(), ["POST bind"]);
    assert_eq!((known(&house)?.len(), known(&house)?), (3, expected(&house, &["db"]).await?));
    let env = json!({"set": {"A": "1"}, "no_restart": true});
    house.done(Method::PATCH, "/v1/apps/web/env", env).await?;
    assert_eq!((known(&house)?.len(), known(&house)?), (3, expected(&house, &["db"]).await?));
    db.take();
    unbind(&house, "db", false).await?.unwrap();
    assert_eq!(db.verbs(), ["DELETE bind", "DELETE bind-app"], "all are in the yard");
    Ok(())
}

#[tokio::test]
async fn a_service_without_variables_is_bound_all_the_same() -> Result<()> {
    let (house, db) = house().await?;
    db.answers("POST bind-app", Answer::says(201, "null"));
    let done = bind(&house, "db").await?.unwrap();
    assert_eq!(done.result.context("a result")?["variables"], json!([]));
    let services = variable(&house, "TSURU_SERVICES").await?;
    assert_eq!(services.as_deref(), Some(r#"{"db":[{"instance_name":"db","envs":{}}]}"#));
    Ok(())
}

#[tokio::test]
async fn units_that_cannot_be_replaced_take_the_bind_back() -> Result<()> {
    let house = House::with_docker("").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.played.answers(200);
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "checked:1"})).await?;
    let db = Database::start(&envs()).await?;
    add(&house, "db", &db).await?;
    let before = house.containers().await?;
    // The health check of the new unit fails.
    house.played.answers(500);
    let problem = bind(&house, "db").await?.unwrap_err();
    assert_eq!(problem.title, "could not bind `web` to the service `db`");
    ensure!(problem.detail.contains("healthcheck fail"), "{problem:?}");
    assert_eq!(house.containers().await?, before, "the old unit serves on");
    assert_eq!((bound(&house).await?, known(&house)?), (Vec::<String>::new(), Vec::new()));
    let units = ["POST bind-app", "POST bind", "POST bind"];
    assert_eq!(db.verbs(), [&units[..], &["DELETE bind", "DELETE bind-app"]].concat());
    house.played.answers(200);
    bind(&house, "db").await?.unwrap();
    assert_eq!(variable(&house, "DB_PORT").await?.as_deref(), Some("3306"));
    Ok(())
}

#[tokio::test]
async fn a_bind_that_the_daemon_died_in_is_shown_and_gone_on_with_or_taken_back() -> Result<()> {
    for goes_on in [true, false] {
        let (mut house, db) = house().await?;
        // The service has bound the app, and its answer never arrives.
        db.answers("POST bind-app", Answer::Hangs);
        let begun =
            house.begin(Method::POST, "/v1/services/db/binds", json!({"app": "web"})).await?;
        ensure!(begun.is_ok(), "{begun:?}");
        db.until("POST bind-app").await?;
        house.crash();
        db.works();
        house.start().await?;
        let service: Service = house.client.get("/v1/services/db").await?;
        assert_eq!(service.binds.len(), 1);
        ensure!(service.binds[0].half_made && service.binds[0].variables.is_empty(), "{service:?}");
        // It gives nothing to the app, is told of no unit, and is not forgotten.
        db.take();
        house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:2"})).await?;
        assert_eq!(variable(&house, "TSURU_SERVICES").await?.as_deref(), Some("{}"));
        assert_eq!(db.verbs(), [""; 0]);
        let removed = house.change(Method::DELETE, "/v1/services/db", json!({})).await?;
        assert_eq!(removed.unwrap_err().detail, "bound to it: `web`");
        if goes_on {
            bind(&house, "db").await?.unwrap();
            assert_eq!(variable(&house, "DB_PORT").await?.as_deref(), Some("3306"));
            let service: Service = house.client.get("/v1/services/db").await?;
            ensure!(!service.binds[0].half_made, "{service:?}");
        } else {
            // What fails now may have been done then.
            db.answers("POST bind-app", Answer::says(500, ""));
            bind(&house, "db").await?.unwrap_err();
            assert_eq!(db.verbs(), ["POST bind-app", "DELETE bind-app"]);
            ensure!(bound(&house).await?.is_empty());
        }
    }
    Ok(())
}

#[tokio::test]
async fn who_asks_to_stop_is_heard_unless_the_service_is_unbinding_the_app() -> Result<()> {
    let (house, db) = house().await?;
    let before = house.containers().await?;
    db.answers("POST bind-app", Answer::Hangs);
    let body = json!({"app": "web"});
    let begun = house.begin(Method::POST, "/v1/services/db/binds", &body).await?.unwrap();
    db.until("POST bind-app").await?;
    house.client.post(&format!("/v1/operations/{}/cancel", begun.operation)).await?;
    let problem = house.end_of(&begun).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Cancelled);
    assert_eq!(db.verbs(), ["POST bind-app", "DELETE bind-app"], "it may have done it");
    assert_eq!((house.containers().await?, bound(&house).await?), (before, Vec::new()));
    // The other way: an app that is not unbound is bound with all its units.
    db.works();
    bind(&house, "db").await?.unwrap();
    let before = house.containers().await?;
    db.take();
    let stopped_at = async |verb: &'static str| -> Result<Ended> {
        let begun = house.begin(Method::DELETE, "/v1/services/db/binds", &body).await?.unwrap();
        db.until(verb).await?;
        house.client.post(&format!("/v1/operations/{}/cancel", begun.operation)).await?;
        house.end_of(&begun).await
    };
    db.answers("DELETE bind", Answer::Hangs);
    let problem = stopped_at("DELETE bind").await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Cancelled);
    assert_eq!(db.verbs(), ["DELETE bind", "POST bind"]);
    assert_eq!(house.containers().await?, before);
    assert_eq!(known(&house)?, expected(&house, &["db"]).await?);

    // It has been asked to unbind the app: its answer says on which side both are.
    let answers = Arc::new(Barrier::new(2));
    db.answers("DELETE bind-app", Answer::Together(Arc::clone(&answers)));
    let begun = house.begin(Method::DELETE, "/v1/services/db/binds", &body).await?.unwrap();
    db.until("DELETE bind-app").await?;
    house.client.post(&format!("/v1/operations/{}/cancel", begun.operation)).await?;
    answers.wait().await;
    let problem = house.end_of(&begun).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Cancelled, "its units were not replaced: {problem:?}");
    ensure!(problem.title.contains("bound to `db` no more"), "{problem:?}");
    assert_eq!(db.verbs(), ["DELETE bind", "DELETE bind-app"]);
    assert_eq!((bound(&house).await?, known(&house)?), (Vec::<String>::new(), Vec::new()));
    Ok(())
}

#[tokio::test]
async fn an_unbind_without_an_answer_says_that_nobody_knows() -> Result<()> {
    let (house, db) = house().await?;
    bind(&house, "db").await?.unwrap();
    house.done(Method::PATCH, "/v1/services/db", json!({"timeout": 1})).await?;
    db.take();
    db.answers("DELETE bind-app", Answer::Hangs);
    let begun = house.begin(Method::DELETE, "/v1/services/db/binds", json!({"app": "web"})).await?;
    let begun = begun.unwrap();
    db.until("DELETE bind-app").await?;
    // Who asks to stop now waits for the same.
    house.client.post(&format!("/v1/operations/{}/cancel", begun.operation)).await?;
    let problem = house.end_of(&begun).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Unavailable);
    assert_eq!(
        problem.detail,
        "the service `db` did not answer within 1 s\nit may take the app for unbound: unbind again"
    );
    assert_eq!(db.verbs(), ["DELETE bind", "DELETE bind-app", "POST bind"]);
    assert_eq!(bound(&house).await?, ["db"]);
    assert_eq!(known(&house)?, expected(&house, &["db"]).await?);
    // A refusal leaves no doubt.
    db.answers("DELETE bind-app", Answer::says(500, "busy"));
    let problem = unbind(&house, "db", false).await?.unwrap_err();
    assert_eq!(problem.detail, "the service `db` answered 500: busy");
    db.works();
    unbind(&house, "db", false).await?.unwrap();
    assert_eq!(bound(&house).await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_service_that_is_gone_is_left_by_force_only() -> Result<()> {
    let (house, db) = house().await?;
    bind(&house, "db").await?.unwrap();
    let before = house.containers().await?;
    // It refuses, and hears again of the unit that it was told is gone.
    db.take();
    db.answers("DELETE bind-app", Answer::says(500, "busy"));
    let problem = unbind(&house, "db", false).await?.unwrap_err();
    ensure!(problem.detail.contains("answered 500: busy"), "{problem:?}");
    let hint = "`gantry service unbind db web --force` unbinds it whatever the service says";
    assert_eq!(problem.hint.as_deref(), Some(hint));
    assert_eq!(db.verbs(), ["DELETE bind", "DELETE bind-app", "POST bind"]);
    db.stop().await;
    let problem = unbind(&house, "db", false).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Unavailable);
    assert_eq!(house.containers().await?, before, "nothing has changed");
    assert_eq!(bound(&house).await?, ["db"]);
    assert_eq!(known(&house)?, expected(&house, &["db"]).await?);
    // New units cannot be told of: there are none, and the old ones go all the same.
    let deploy = json!({"image": "plain:2"});
    let problem = house.change(Method::POST, "/v1/apps/web/deploy", deploy).await?.unwrap_err();
    ensure!(problem.detail.contains("cannot reach the service `db`"), "{problem:?}");
    assert_eq!(house.containers().await?, before);

    let done = unbind(&house, "db", true).await?.unwrap();
    let result = done.result.context("a result")?;
    let left = result["left"].as_str().context("it says what it could not do")?;
    ensure!(left.contains("cannot reach the service `db`"), "{left}");
    let told: OperationInfo = house.client.get(&format!("/v1/operations/{}", done.id)).await?;
    ensure!(told.lines.iter().any(|line| line.text.starts_with("warning: ")), "{told:?}");
    assert_eq!(variable(&house, "DB_HOST").await?, None);
    assert_eq!((bound(&house).await?, known(&house)?), (Vec::<String>::new(), Vec::new()));
    house.done(Method::DELETE, "/v1/services/db", json!({})).await?;
    Ok(())
}

#[tokio::test]
async fn an_app_that_goes_leaves_its_services() -> Result<()> {
    let (house, db) = house().await?;
    let gone = Database::start(&envs()).await?;
    add(&house, "gone", &gone).await?;
    for service in ["db", "gone"] {
        bind(&house, service).await?.unwrap();
    }
    db.take();
    gone.stop().await;
    let done = house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    let result = done.result.context("a result")?;
    let left = result["left"].as_str().context("it says what it could not do")?;
    ensure!(left.contains("cannot reach the service `gone`") && !left.contains("`db`"), "{left}");
    assert_eq!(db.verbs(), ["DELETE bind", "DELETE bind-app"]);
    for service in ["db", "gone"] {
        house.done(Method::DELETE, &format!("/v1/services/{service}"), json!({})).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_app_that_goes_says_so_when_its_services_are_not_known() -> Result<()> {
    let (house, db) = house().await?;
    bind(&house, "db").await?.unwrap();
    let store = rusqlite::Connection::open(house.folder.path().join("data/gantry.db"))?;
    store.execute_batch("ALTER TABLE service_binds RENAME TO elsewhere")?;
    db.take();
    let done = house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    let result = done.result.context("a result")?;
    let left = result["left"].as_str().context("it says what it could not do")?;
    ensure!(left.contains("its services are not known: the store failed"), "{left}");
    assert_eq!(db.verbs(), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_volume_whose_units_are_as_before_is_not_the_apps() -> Result<()> {
    let house = House::with_docker("[volume-plans.small.docker]\ndriver = \"local\"\n").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.played.answers(200);
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "checked:1"})).await?;
    house.done(Method::POST, "/v1/volumes", json!({"name": "data", "plan": "small"})).await?;
    let before = house.containers().await?;
    // Nothing listens in the new unit, whose health check goes on.
    house.played.answers(0);
    let body = json!({"app": "web", "mount_point": "/data"});
    let begun = house.begin(Method::POST, "/v1/volumes/data/binds", body).await?.unwrap();
    house.until_running(2).await?;
    house.client.post(&format!("/v1/operations/{}/cancel", begun.operation)).await?;
    let problem = house.end_of(&begun).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Cancelled);
    assert_eq!(problem.title, "could not give the volume `data` to `web`");
    assert_eq!(house.containers().await?, before);
    let volume: Volume = house.client.get("/v1/volumes/data").await?;
    assert_eq!(volume.binds, []);
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_told_and_changed_and_stays_with_its_place() -> Result<()> {
    let (house, db) = house().await?;
    let lets_in = |told: &Told| (told.authorization != US).then(|| Answer::says(401, "who?"));
    db.when(lets_in);
    let update = |body: Value| house.done(Method::PATCH, "/v1/services/db", body);
    update(json!({"password": "wrong"})).await?;
    let problem = bind(&house, "db").await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    ensure!(problem.hint.context("a hint")?.starts_with("`gantry service update db"));
    update(json!({"password": "s3cr3t"})).await?;
    bind(&house, "db").await?.unwrap();
    unbind(&house, "db", false).await?.unwrap();
    // Another place has not been told the password.
    let other = Database::start(&envs()).await?;
    update(json!({"url": other.url()})).await?;
    let service: Service = house.client.get("/v1/services/db").await?;
    ensure!(!service.has_password, "{service:?}");
    bind(&house, "db").await?.unwrap();
    ensure!(other.take().iter().all(|told| told.authorization == "Basic Z2FudHJ5Og=="));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_of_a_service_is_refused() -> Result<()> {
    let (house, db) = house().await?;
    let new = |name: &str, url: &str| json!({"name": name, "url": url});
    let (post, path) = (Method::POST, "/v1/services");
    let binds = "/v1/services/db/binds";
    let cases = [
        (post.clone(), path, new("d b", "http://x"), ProblemKind::Invalid, "no name of a service"),
        (post.clone(), path, new("x", "x:80"), ProblemKind::Invalid, "no URL of a service"),
        (post.clone(), path, new("x", "http://me:hush@x"), ProblemKind::Invalid, "a user in it"),
        (post.clone(), path, new("db", "http://x"), ProblemKind::Conflict, "there is one"),
        (Method::PATCH, "/v1/services/db", json!({}), ProblemKind::Invalid, "nothing to change"),
        (Method::PATCH, "/v1/services/db", json!({"timeout": 0}), ProblemKind::Invalid, "seconds"),
        (Method::PATCH, "/v1/services/none", json!({"timeout": 1}), ProblemKind::NotFound, ""),
        (Method::DELETE, "/v1/services/none", json!({}), ProblemKind::NotFound, ""),
        (post.clone(), "/v1/services/none/binds", json!({"app": "web"}), ProblemKind::NotFound, ""),
        (post.clone(), binds, json!({"app": "none"}), ProblemKind::NotFound, ""),
        (Method::DELETE, binds, json!({"app": "web"}), ProblemKind::NotFound, "it is not bound"),
    ];
    for (method, path, body, kind, why) in cases {
        let problem = house.change(method.clone(), path, &body).await?;
        let problem = problem.err().with_context(|| format!("{method} {path} {body} was done"))?;
        ensure!(problem.kind == kind && problem.detail.contains(why), "{body}: {problem:?}");
        ensure!(problem.hint.is_some() && !format!("{problem:?}").contains("hush"), "{problem:?}");
    }
    let near = refused(house.client.get::<Service>("/v1/services/dbb").await)?.unwrap_err();
    assert_eq!(near.hint.as_deref(), Some("did you mean `db`?"));
    assert_eq!(db.verbs(), [""; 0], "nothing was asked of it");
    bind(&house, "db").await?.unwrap();
    let problem = house.change(Method::DELETE, "/v1/services/db", json!({})).await?.unwrap_err();
    assert_eq!(
        (problem.kind, problem.detail.as_str()),
        (ProblemKind::Conflict, "bound to it: `web`")
    );
    Ok(())
}

/// All that the daemons of this process log.
fn log() -> &'static Sink {
    static LOG: OnceLock<Sink> = OnceLock::new();
    LOG.get_or_init(|| {
        let sink = Sink::default();
        let writer = sink.clone();
        let filter = tracing_subscriber::EnvFilter::new("info,gantry=trace");
        let log = tracing_subscriber::fmt().with_env_filter(filter);
        log.with_ansi(false).with_writer(move || writer.clone()).init();
        sink
    })
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Every value in the store but those of columns that are for secrets.
fn stored(house: &House) -> Result<String> {
    let secret = [("services", "password"), ("service_binds", "envs")];
    let store = rusqlite::Connection::open(house.folder.path().join("data/gantry.db"))?;
    let mut tables = store.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let tables: Vec<String> =
        tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut all = String::new();
    for table in tables {
        let mut rows = store.prepare(&format!("SELECT * FROM \"{table}\""))?;
        let columns: Vec<String> = rows.column_names().into_iter().map(str::to_owned).collect();
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            for (index, column) in columns.iter().enumerate() {
                if !secret.contains(&(table.as_str(), column.as_str())) {
                    let value = row.get_ref(index)?;
                    let bytes = value.as_bytes_or_null().ok().flatten().unwrap_or_default();
                    all.push_str(&format!(
                        "{table}.{column}: {}\n",
                        String::from_utf8_lossy(bytes)
                    ));
                }
            }
        }
    }
    ensure!(all.contains("services.url: http://"), "it was read: {all}");
    Ok(all)
}

#[tokio::test]
async fn a_password_is_shown_nowhere_and_the_program_says_how_each_request_ended() -> Result<()> {
    let log = log();
    let house = House::with_docker("").await?;
    let db = Database::start(&json!({"DB_HOST": "db.example", "DB_PASSWORD": "hu5h"})).await?;
    let url = db.url().to_owned();
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    let mut said = String::new();
    let mut run = async |words: &[&str], input: &str, code: i32, needle: &str| {
        let (ended, text) = house.program(words, input).await?;
        ensure!(ended == Some(code) && text.contains(needle), "{words:?}: {ended:?} {text}");
        said.push_str(&text);
        anyhow::Ok(())
    };
    let words = ["service", "add", "db", &url, "--username", "gantry", "--password-file", "-"];
    run(&words, "s3cr3t\n", 0, "added the service `db`").await?;
    run(&words, "s3cr3t\n", 5, "there is one of this name").await?;
    run(&["service", "add", "x", "http://a:s3cr3t@b"], "", 2, "a user in it").await?;
    let json = ["service", "add", "two", &url, "--password-file", "-", "--output", "json"];
    run(&json, "s3cr3t", 0, "\"verb\": \"service-add\"").await?;
    // A service that says what it was shown.
    db.answers("POST bind-app", Answer::says(403, format!("s3cr3t and {US} are wrong")));
    run(&["service", "bind", "db", "web"], "", 3, "answered 403: *** and Basic *** are wrong")
        .await?;
    db.answers("POST bind-app", Answer::says(201, r#"{"DB_PASSWORD": ["hu5h"]}"#));
    run(&["service", "bind", "db", "web"], "", 1, "a variable `DB_PASSWORD` that is no text")
        .await?;
    db.works();
    run(
        &["service", "bind", "db", "web"],
        "",
        0,
        "bound `web` to the service `db`; its units are new\n  DB_HOST\n  DB_PASSWORD\n",
    )
    .await?;
    run(&["service", "bind", "db", "web"], "", 5, "it is bound already").await?;
    run(&["service", "bind", "dbb", "web"], "", 4, "hint: did you mean `db`?").await?;
    run(&["service", "list"], "", 0, &url).await?;
    run(&["service", "info", "db"], "", 0, "Password:     *** (private)").await?;
    run(&["service", "info", "db", "--output", "json"], "", 0, "\"has_password\": true").await?;
    run(&["service", "info", "nobody"], "", 4, "no service `nobody`").await?;
    run(&["service", "remove", "db", "--yes"], "", 5, "bound to it: `web`").await?;
    run(&["env", "get", "web"], "", 0, "DB_PASSWORD=*** (private, of the service db)").await?;
    run(&["env", "get", "web", "--output", "json"], "", 0, "\"service\": \"db\"").await?;
    run(&["app", "info", "web"], "", 0, "Services:     db").await?;
    run(&["app", "info", "web", "--output", "json"], "", 0, "\"services\": [").await?;
    run(&["service", "update", "db", "--password-file", "-"], "s3cr3t2", 0, "changed").await?;
    let operations: Items<Operation> = house.client.get("/v1/operations?limit=100").await?;
    for operation in &operations.items {
        run(&["operation", "info", &operation.id], "", 0, "").await?;
        run(&["operation", "info", &operation.id, "--output", "json"], "", 0, "").await?;
    }
    ensure!(operations.items.len() >= 9, "they were looked at: {}", operations.items.len());
    db.stop().await;
    run(&["service", "unbind", "db", "web"], "", 6, "hint: `gantry service unbind db web --force`")
        .await?;
    run(
        &["service", "unbind", "db", "web", "--force"],
        "",
        0,
        "unbound `web` from the service `db`",
    )
    .await?;
    run(&["service", "remove", "db", "--yes"], "", 0, "removed the service `db`").await?;

    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    ensure!(!logged.is_empty(), "the daemon has logged something");
    for (what, text) in [("said", &said), ("logged", &logged), ("stored", &stored(&house)?)] {
        // The password, what carries it, and what the service told the app.
        for secret in ["s3cr3t", "Z2FudHJ5OnMzY3IzdA", "hu5h"] {
            let line = text.lines().find(|line| line.contains(secret));
            ensure!(line.is_none(), "{what}: {line:?}");
        }
    }
    Ok(())
}

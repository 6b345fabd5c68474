//! What people are told of the units and the processes of their apps, and of what is not there.

use std::process::Stdio;

use anyhow::{Result, ensure};
use gantry::api::{
    AppInfo, AppList, AppState, Items, NodeInfo, PluginInfo, Problem, ProblemKind, UnitList,
};
use gantry::client::{Change, escape};
use gantry_core::container::{ContainerConfig, Image};
use gantry_core::{Status, Unit};
use hyper::Method;
use serde_json::{Value, json};

use crate::support::{House, NORTH, refused};

/// The machine that the configuration names.
const ENGINE: &str = "http://10.1.1.1:2375";

/// A house with the app `web` on Docker, and `far` of the warehouse in the pool `yard`; both are deployed.
async fn with_apps() -> Result<House> {
    let house = House::with_both("").await?;
    for (name, pool, image) in [("web", "default", "plain:1"), ("far", "yard", "a:1")] {
        house.done(Method::POST, "/v1/apps", json!({"name": name, "pool": pool})).await?;
        let deploy = format!("/v1/apps/{name}/deploy");
        house.done(Method::POST, &deploy, json!({"image": image})).await?;
    }
    Ok(house)
}

/// What the command line says and how it ends: its code, and both ends.
async fn cli(house: &House, words: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_gantry"))
        .args(words)
        .env("GANTRY_HOST", house.client.host().to_string())
        .stdin(Stdio::null())
        .output()
        .await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

async fn log_of(house: &House, app: &str, process: &str) -> Result<Option<Problem>> {
    let path = format!("/v1/apps/{app}/log?lines=1&process={process}");
    Ok(refused(house.client.events(&path, None).await)?.err())
}

#[tokio::test]
async fn a_process_that_the_app_does_not_have_is_not_found() -> Result<()> {
    let house = with_apps().await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "new"})).await?;
    for (app, told) in [
        ("web", "there are some of `web`"),
        ("far", "there are some of `web`"),
        ("new", "nothing was deployed yet"),
    ] {
        let mut problems = vec![log_of(&house, app, "nope").await?];
        for verb in ["start", "stop", "restart", "sleep"] {
            let path = format!("/v1/apps/{app}/{verb}");
            let change = house.change(Method::POST, &path, json!({"process": "nope"})).await?;
            problems.push(change.err());
        }
        let path = format!("/v1/apps/{app}/units");
        let body = json!({"count": 1, "process": "nope"});
        problems.push(house.change(Method::DELETE, &path, body).await?.err());
        for problem in problems {
            let Some(problem) = problem else { anyhow::bail!("{app}: it was done") };
            assert_eq!((problem.kind, problem.detail.as_str()), (ProblemKind::NotFound, told));
            ensure!(problem.hint.is_some(), "{problem:?}");
        }
    }
    // Nothing was done to those that there are, and they are found by name.
    for app in ["web", "far"] {
        let info: AppInfo = house.client.get(&format!("/v1/apps/{app}")).await?;
        assert_eq!(info.state, Some(AppState::Running));
        let path = format!("/v1/apps/{app}/restart");
        house.done(Method::POST, &path, json!({"process": "web"})).await?;
    }
    assert_eq!(log_of(&house, "web", "web").await?, None);
    assert_eq!(log_of(&house, "new", "").await?, None);
    Ok(())
}

#[tokio::test]
async fn units_of_a_process_that_there_is_not_are_refused_with_those_that_there_are() -> Result<()>
{
    let house = with_apps().await?;
    let (code, _, text) = cli(&house, &["unit", "add", "web", "1", "-p", "nope"]).await?;
    assert_eq!(code, Some(4), "{text}");
    ensure!(
        text.contains("for process \"nope\"\nhint: name one with `--process`: there is `web`\n"),
        "{text}"
    );
    let (code, _, text) = cli(&house, &["app", "log", "web", "-p", "wbe"]).await?;
    assert_eq!(code, Some(4), "{text}");
    let told = "error: `web` has no unit of a process `wbe`\ncaused by: there are some of `web`\nhint: did you mean `web`?\n";
    assert_eq!(text, told);
    Ok(())
}

#[tokio::test]
async fn units_that_wait_until_the_app_is_started_are_told_to() -> Result<()> {
    let mut house = House::new("[pools.default]\nprovisioner = \"counts\"\n").await?;
    let (path, change) = ("/v1/plugins/counts", Change::default());
    let bytes = crate::support::unitless()?;
    let accepted = house.client.change_bytes(Method::PUT, path, bytes, &change).await?;
    house.end_of(&accepted).await?.map_err(|problem| anyhow::anyhow!("{problem:?}"))?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    // It deploys nothing: the record says that it did.
    house.stop().await?;
    let store = rusqlite::Connection::open(house.folder.path().join("data/gantry.db"))?;
    assert_eq!(store.execute("UPDATE apps SET deploys = 1", [])?, 1);
    drop(store);
    house.start().await?;
    let (code, page, text) = cli(&house, &["unit", "add", "web", "2"]).await?;
    assert_eq!((code, page.as_str()), (Some(0), "added 2 units to `web`\n"), "{text}");
    let told =
        "warning: `web` is stopped or asleep: nothing of it runs until `gantry app start web`\n";
    assert_eq!(text, told);
    Ok(())
}

/// A house with the app `pair`, of an image with two processes, one unit each.
async fn with_pair() -> Result<House> {
    let house = House::with_both("").await?;
    let image = Image {
        config: ContainerConfig { cmd: Some(vec!["serve".to_owned()]), ..Default::default() },
        ..Image::default()
    };
    let procfile: &[u8] = b"web: serve\nworker: work\n";
    let _same = house.engine.clone().with_image("pair:1", image, [("/Procfile", procfile)]);
    house.done(Method::POST, "/v1/apps", json!({"name": "pair", "unit_quota": 4})).await?;
    house.done(Method::POST, "/v1/apps/pair/deploy", json!({"image": "pair:1"})).await?;
    assert_eq!(of_each(&house, "pair").await?, (1, 1));
    Ok(house)
}

/// How many units an app has of `web`, and of others.
async fn of_each(house: &House, app: &str) -> Result<(usize, usize)> {
    let units: Items<Unit> = house.client.get(&format!("/v1/apps/{app}/units")).await?;
    let web = units.items.iter().filter(|unit| unit.process_name == "web").count();
    Ok((web, units.items.len() - web))
}

#[tokio::test]
async fn units_are_set_of_the_process_that_is_named_and_of_no_other() -> Result<()> {
    let house = with_pair().await?;
    // Together they are two already.
    for (verb, count) in [("set", "2"), ("set", "3"), ("set", "0"), ("add", "1")] {
        let (code, page, text) = cli(&house, &["unit", verb, "pair", count]).await?;
        assert_eq!((code, page.as_str()), (Some(2), ""), "{verb} {count}");
        ensure!(text.ends_with(TWO), "{verb} {count}: {text}");
    }
    assert_eq!(of_each(&house, "pair").await?, (1, 1));
    for (count, process, expected) in [
        ("2", "web", (2, 1)),
        ("2", "worker", (2, 2)),
        ("1", "web", (1, 2)),
        ("0", "worker", (1, 0)),
        ("0", "worker", (1, 0)),
    ] {
        let words = ["unit", "set", "pair", count, "--process", process];
        let (code, page, text) = cli(&house, &words).await?;
        assert_eq!(code, Some(0), "{text}");
        let plural = if count == "1" { "" } else { "s" };
        let told = format!("`pair` has {count} unit{plural} of the process `{process}`\n");
        assert_eq!(page, told);
        assert_eq!(of_each(&house, "pair").await?, expected);
    }
    Ok(())
}

/// How whoever names no process of two is refused.
const TWO: &str = "caused by: no process is named, and the app has several\nhint: name one with `--process`: there is `web`, `worker`\n";

#[tokio::test]
async fn units_are_set_under_the_conditions_under_which_they_are_added() -> Result<()> {
    let house = with_pair().await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "new"})).await?;
    let both = async |app: &str, count: usize| {
        let path = format!("/v1/apps/{app}/units");
        let (web, _) = of_each(&house, app).await?;
        let process = if app == "pair" { "web" } else { "" };
        let body = |count: usize| json!({"count": count, "process": process});
        let added = house.change(Method::POST, &path, body(count)).await?.unwrap_err();
        let set = house.change(Method::PUT, &path, body(web + count)).await?.unwrap_err();
        let told = |problem: &Problem| (problem.kind, problem.detail.clone(), problem.hint.clone());
        assert_eq!(told(&added), told(&set));
        assert_eq!(of_each(&house, app).await?.0, web, "nothing was started");
        ensure!(set.title == format!("could not set the units of `{app}`"), "{set:?}");
        anyhow::Ok((set.kind, set.hint))
    };
    let refused = |hint: &str| (ProblemKind::Conflict, Some(hint.to_owned()));
    assert_eq!(both("new", 1).await?, refused("`gantry app deploy new --image IMAGE`"));
    assert_eq!(both("pair", 3).await?.0, ProblemKind::Quota);
    for verb in ["stop", "sleep"] {
        let path = format!("/v1/apps/pair/{verb}");
        // One process at rest is enough.
        house.done(Method::POST, &path, json!({"process": "worker"})).await?;
        assert_eq!(both("pair", 1).await?, refused("`gantry app start pair`"), "{verb}");
        house.done(Method::POST, "/v1/apps/pair/start", json!({})).await?;
    }
    // Fewer may be left of what is at rest.
    house.done(Method::POST, "/v1/apps/pair/stop", json!({})).await?;
    let none = json!({"count": 0, "process": "worker"});
    house.done(Method::PUT, "/v1/apps/pair/units", none).await?;
    assert_eq!(of_each(&house, "pair").await?, (1, 0));
    Ok(())
}

#[tokio::test]
async fn units_that_a_provisioner_keeps_the_number_of_are_not_set_before_they_are_started()
-> Result<()> {
    let house = with_apps().await?;
    let set = async |count: u32| {
        house.change(Method::PUT, "/v1/apps/far/units", json!({"count": count})).await
    };
    house.done(Method::POST, "/v1/apps/far/stop", json!({})).await?;
    house.done(Method::DELETE, "/v1/apps/far/units", json!({"count": 1})).await?;
    let problem = set(2).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Conflict);
    assert_eq!(problem.hint.as_deref(), Some("`gantry app start far`"));
    house.done(Method::POST, "/v1/apps/far/start", json!({})).await?;
    let done = set(2).await?.map_err(|problem| anyhow::anyhow!("{problem:?}"))?;
    assert_eq!(done.result, Some(json!({"before": 0, "units": 2, "idle": false})));
    Ok(())
}

async fn state(house: &House, app: &str) -> Result<Option<AppState>> {
    let info: AppInfo = house.client.get(&format!("/v1/apps/{app}")).await?;
    Ok(info.state)
}

#[tokio::test]
async fn an_app_tells_whether_it_runs() -> Result<()> {
    let house = with_apps().await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "new"})).await?;
    assert_eq!(state(&house, "new").await?, Some(AppState::New));
    let post = |path: &'static str| house.done(Method::POST, path, json!({}));
    for (path, app, expected) in [
        ("/v1/apps/web/stop", "web", AppState::Stopped),
        ("/v1/apps/web/start", "web", AppState::Running),
        ("/v1/apps/far/sleep", "far", AppState::Asleep),
        ("/v1/apps/far/start", "far", AppState::Running),
        ("/v1/apps/far/sleep", "far", AppState::Asleep),
    ] {
        post(path).await?;
        assert_eq!(state(&house, app).await?, Some(expected), "{path}");
    }
    // Without a unit the journal tells, however much was asked since.
    house.done(Method::DELETE, "/v1/apps/far/units", json!({"count": 1})).await?;
    for value in 0..60 {
        let set = json!({"set": {"A": value.to_string()}, "no_restart": true});
        house.done(Method::PATCH, "/v1/apps/far/env", set).await?;
    }
    assert_eq!(state(&house, "far").await?, Some(AppState::Asleep));
    post("/v1/apps/far/start").await?;
    assert_eq!(state(&house, "far").await?, Some(AppState::Empty));
    let (_, page, _) = cli(&house, &["app", "info", "far"]).await?;
    ensure!(page.contains("State:        empty\n"), "{page}");
    let (_, json, _) = cli(&house, &["app", "info", "web", "--output", "json"]).await?;
    assert_eq!(serde_json::from_str::<Value>(&json)?["state"], "running");
    Ok(())
}

#[tokio::test]
async fn the_units_of_every_app_are_listed_and_what_does_not_answer_is_told() -> Result<()> {
    let mut house = with_apps().await?;
    let list: UnitList = house.client.get("/v1/units").await?;
    let apps: Vec<_> = list.items.iter().map(|unit| unit.app_name.as_str()).collect();
    assert_eq!((apps, list.problems), (vec!["far", "web"], vec![]));
    let (code, page, text) = cli(&house, &["unit", "list"]).await?;
    assert_eq!((code, text.as_str()), (Some(0), ""));
    ensure!(page.starts_with("APP  UNIT") && page.lines().count() == 3, "{page}");

    // The plugin of one of them is gone.
    let docker: PluginInfo = house.client.get("/v1/plugins/docker").await?;
    house.stop().await?;
    for file in std::fs::read_dir(house.folder.path().join("data/plugins"))? {
        let path = file?.path();
        if path.to_string_lossy().contains(&docker.plugin.digest) {
            std::fs::write(path, b"other bytes")?;
        }
    }
    house.start().await?;
    let (code, page, text) = cli(&house, &["unit", "list"]).await?;
    ensure!(code.is_some_and(|code| code != 0), "{code:?}");
    ensure!(page.lines().count() == 2 && page.contains("far-web-1"), "{page}");
    ensure!(text.starts_with("warning: ") && text.contains("`docker`"), "{text}");
    let (_, page, _) = cli(&house, &["unit", "list", "--output", "json"]).await?;
    let list: UnitList = serde_json::from_str(&page)?;
    assert_eq!((list.items.len(), list.problems.len()), (1, 1));
    Ok(())
}

#[tokio::test]
async fn apps_are_listed_by_the_status_of_their_units() -> Result<()> {
    let mut house = with_apps().await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "rest"})).await?;
    house.done(Method::POST, "/v1/apps/rest/deploy", json!({"image": "plain:1"})).await?;
    house.done(Method::POST, "/v1/apps/rest/stop", json!({})).await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "new"})).await?;
    let names =
        |list: &AppList| -> Vec<String> { list.items.iter().map(|app| app.name.clone()).collect() };
    // The warehouse cannot tell its apps apart: they all pass.
    for (query, expected) in [
        ("", ["far", "new", "rest", "web"].as_slice()),
        ("?status=", &["far", "new", "rest", "web"]),
        ("?status=stopped", &["far", "rest"]),
        ("?status=starting,started", &["far", "web"]),
        ("?status=stopped,started,starting", &["far", "rest", "web"]),
        ("?status=asleep", &["far"]),
    ] {
        let list: AppList = house.client.get(&format!("/v1/apps{query}")).await?;
        assert_eq!(names(&list), expected, "{query}");
        assert_eq!(list.problems, []);
    }
    let wrong = refused(house.client.get::<AppList>("/v1/apps?status=stopped,Up").await)?;
    let wrong = wrong.unwrap_err();
    assert_eq!((wrong.kind, wrong.detail.as_str()), (ProblemKind::Invalid, "`Up`: invalid status"));
    let hint =
        "there is `created`, `building`, `error`, `starting`, `started`, `stopped`, `asleep`";
    assert_eq!(wrong.hint.as_deref(), Some(hint));
    let (code, _, text) = cli(&house, &["app", "list", "--status", "up"]).await?;
    ensure!(code == Some(2) && text.contains("error, starting, started, stopped"), "{text}");
    let (code, page, text) = cli(&house, &["app", "list", "--status", "stopped"]).await?;
    assert_eq!((code, text.as_str()), (Some(0), ""));
    ensure!(page.lines().count() == 3 && page.contains("\nrest "), "{page}");
    let (_, page, _) =
        cli(&house, &["app", "list", "--status", "stopped", "--output", "json"]).await?;
    let all: Vec<Value> = serde_json::from_str(&page)?;
    assert_eq!(all.len(), 2, "{page}");

    // A provisioner that does not answer is told of, and its apps are missing.
    let docker: PluginInfo = house.client.get("/v1/plugins/docker").await?;
    house.stop().await?;
    let plugins = house.folder.path().join("data/plugins");
    std::fs::write(plugins.join(format!("{}.wasm", docker.plugin.digest)), b"other bytes")?;
    house.start().await?;
    let list: AppList = house.client.get("/v1/apps?status=stopped").await?;
    assert_eq!((names(&list), list.problems.len()), (vec!["far".to_owned()], 1));
    assert_eq!(list.problems[0].title, "could not list the apps of `docker` by status");
    let (code, page, text) = cli(&house, &["app", "list", "--status", "stopped"]).await?;
    ensure!(code.is_some_and(|code| code != 0), "{code:?}");
    ensure!(page.lines().count() == 2 && page.contains("far"), "{page}");
    ensure!(text.starts_with("warning: could not list the apps of `docker`"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_node_tells_how_it_did_of_late_where_its_provisioner_knows() -> Result<()> {
    let house = House::with_both("").await?;
    let path = format!("/v1/nodes/{}", escape(ENGINE));
    let info: NodeInfo = house.client.get(&path).await?;
    assert_eq!(info.health.map(|health| health.failures), Some(0), "{info:?}");
    assert_eq!(info.problem, None);
    let (code, page, text) = cli(&house, &["node", "info", ENGINE]).await?;
    assert_eq!((code, text.as_str()), (Some(0), ""));
    ensure!(page.contains("Failures:     0\nHas answered: "), "{page}");
    Ok(())
}

#[tokio::test]
async fn what_there_is_is_listed() -> Result<()> {
    let house = House::with_both("[volume-plans.small.warehouse]\ncapacity = \"1Gi\"\n").await?;
    let house = house.with_cluster().await?;
    let volume = json!({"name": "data", "plan": "small", "pool": "yard"});
    house.done(Method::POST, "/v1/volumes", volume).await?;
    for (words, shown) in [
        (["pool", "list"], ["yard", "warehouse"]),
        (["volume", "list"], ["data", "small"]),
        (["cluster", "list"], [NORTH, "warehouse"]),
    ] {
        let (code, page, text) = cli(&house, &words).await?;
        assert_eq!((code, text.as_str()), (Some(0), ""), "{words:?}");
        let line = page.lines().find(|line| line.contains(shown[0])).unwrap_or_default();
        ensure!(line.contains(shown[1]), "{words:?}: {page}");
        let (code, json, _) =
            cli(&house, &[words.as_slice(), &["--output", "json"]].concat()).await?;
        assert_eq!(code, Some(0), "{words:?}");
        let named = |one: &Value| one["name"] == shown[0];
        let all: Vec<Value> = serde_json::from_str(&json)?;
        ensure!(all.iter().any(named), "{words:?}: {json}");
    }
    Ok(())
}

#[tokio::test]
async fn units_sleep_until_they_are_started() -> Result<()> {
    let house = House::with_web("").await?;
    let done = house.done(Method::POST, "/v1/apps/web/sleep", json!({})).await?;
    assert_eq!(done.verb, "app-sleep");
    assert_eq!(house.units("web").await?[0].status, Some(Status::Asleep));
    house.done(Method::POST, "/v1/apps/web/start", json!({})).await?;
    assert_eq!(house.units("web").await?[0].status, Some(Status::Started));
    // What a provisioner cannot do, it says so.
    let spread = json!({"pool": "yard"});
    let problem = house.refusal(Method::POST, "/v1/nodes/rebalance", spread).await?;
    assert_eq!(problem.kind, ProblemKind::NotSupported);
    assert_eq!(
        problem.detail,
        "provisioner \"warehouse\" does not support node rebalance operations"
    );
    Ok(())
}

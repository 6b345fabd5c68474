//! Clusters, what they have in them, and everything that is refused of them.

use anyhow::{Context, Result, ensure};
use gantry::api::{Cluster, Items, ProblemKind};
use hyper::Method;
use serde_json::{Value, json};

use crate::support::{House, NORTH, refused};
use crate::volumes::PLANS;

fn cluster(name: &str, more: Value) -> Value {
    let mut body = json!({
        "name": name,
        "provisioner": "warehouse",
        "addresses": ["https://10.2.2.2:6443"],
    });
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    body
}

#[tokio::test]
async fn a_cluster_is_given_to_its_provisioner_changed_and_taken_away() -> Result<()> {
    let mut house = House::with_both("").await?;
    let body = cluster(
        NORTH,
        json!({"pools": ["yard"], "token": "s3cr3t", "custom_data": {"overcommit-factor": "2"}}),
    );
    let done = house.done(Method::POST, "/v1/clusters", body).await?;
    ensure!(!format!("{done:?}").contains("s3cr3t"), "{done:?}");
    house.done(Method::POST, "/v1/apps", json!({"name": "web", "pool": "yard"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "a:1"})).await?;
    assert_eq!(house.cluster.note("web").await.as_deref(), Some("a:1"));
    // It comes back with the next daemon.
    house.stop().await?;
    house.start().await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "a:2"})).await?;
    assert_eq!(house.cluster.note("web").await.as_deref(), Some("a:2"));

    let north: Cluster = house.client.get("/v1/clusters/north").await?;
    assert_eq!((north.credentials.as_str(), north.namespace.as_str()), ("token", "default"));
    assert_eq!(north.custom_data.get("overcommit-factor").map(String::as_str), Some("2"));
    assert_eq!(north.problem, None);
    let raw: Value = house.client.get("/v1/clusters").await?;
    ensure!(!raw.to_string().contains("s3cr3t"), "{raw}");

    // Another one takes the default, once nothing is there that only this one has.
    house.done(Method::PATCH, "/v1/clusters/north", json!({"default": true})).await?;
    let south = || cluster("south", json!({"default": true}));
    let problem = house.refusal(Method::POST, "/v1/clusters", south()).await?;
    assert_eq!(problem.kind, ProblemKind::Conflict);
    house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    assert_eq!(house.cluster.note("web").await, None);
    house.done(Method::POST, "/v1/clusters", south()).await?;
    let all: Items<Cluster> = house.client.get("/v1/clusters").await?;
    let defaults: Vec<_> = all.items.iter().map(|one| (one.name.as_str(), one.default)).collect();
    assert_eq!(defaults, [("north", false), ("south", true)]);
    // Nobody answers at the second one: that is told, and keeps nobody from anything.
    let south: Cluster = house.client.get("/v1/clusters/south").await?;
    ensure!(
        south.problem.is_some_and(|problem| problem.kind == ProblemKind::Unavailable
            || problem.kind == ProblemKind::TimedOut)
    );

    house.done(Method::DELETE, "/v1/clusters/south", json!({})).await?;
    house.done(Method::DELETE, "/v1/clusters/north", json!({})).await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web", "pool": "yard"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "a:3"})).await?;
    assert_eq!(house.cluster.note("web").await, None, "it is not given any more");
    Ok(())
}

/// A house with an app in the cluster in memory, which lists the pools `yard` and `shed` and is not the default one.
async fn with_resident() -> Result<House> {
    let house = House::with_both("").await?;
    let shed = json!({"name": "shed", "provisioner": "warehouse"});
    house.done(Method::POST, "/v1/pools", shed).await?;
    let north = cluster(NORTH, json!({"pools": ["shed", "yard"], "token": "s3cr3t"}));
    house.done(Method::POST, "/v1/clusters", north).await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web", "pool": "yard"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "a:1"})).await?;
    Ok(house)
}

/// A change of clusters is refused because of `web` in north, and nothing of it is done.
async fn keeps_web(house: &House, method: Method, path: &str, body: Value) -> Result<()> {
    let before: Value = house.client.get("/v1/clusters").await?;
    let problem = house.refusal(method, path, body).await?;
    assert_eq!(
        (problem.kind, problem.detail.as_str()),
        (ProblemKind::Conflict, "left in the cluster `north` (namespace `default`): the app `web`")
    );
    let hint = problem.hint.context("a hint")?;
    ensure!(hint.contains("gantry app update web --pool POOL"), "{hint}");
    let after: Value = house.client.get("/v1/clusters").await?;
    assert_eq!(after, before);
    Ok(())
}

#[tokio::test]
async fn a_pool_with_apps_is_not_taken_by_another_cluster() -> Result<()> {
    let house = with_resident().await?;
    let south = cluster("south", json!({"pools": ["yard"]}));
    keeps_web(&house, Method::POST, "/v1/clusters", south).await?;
    // The one without apps is.
    let south = cluster("south", json!({"pools": ["shed"]}));
    house.done(Method::POST, "/v1/clusters", south).await?;
    let more = json!({"pools": ["shed", "yard"]});
    keeps_web(&house, Method::PATCH, "/v1/clusters/south", more.clone()).await?;
    house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    house.done(Method::PATCH, "/v1/clusters/south", more).await?;
    Ok(())
}

#[tokio::test]
async fn a_pool_with_apps_is_not_given_up() -> Result<()> {
    let house = with_resident().await?;
    let north = "/v1/clusters/north";
    keeps_web(&house, Method::PATCH, north, json!({"pools": ["shed"]})).await?;
    // A pool that is listed by name or run by the default cluster is run by it all the same.
    house.done(Method::PATCH, north, json!({"pools": ["yard"]})).await?;
    house.done(Method::PATCH, north, json!({"default": true})).await?;
    keeps_web(&house, Method::PATCH, north, json!({"pools": ["shed"]})).await?;
    Ok(())
}

#[tokio::test]
async fn the_namespace_of_apps_is_not_changed_and_all_else_is() -> Result<()> {
    let house = with_resident().await?;
    let north = "/v1/clusters/north";
    let set = |key: &str, value: &str| json!({"custom_data": {key: value}});
    keeps_web(&house, Method::PATCH, north, set("namespace", "shop")).await?;
    for change in [
        set("namespace", "default"),
        set("overcommit-factor", "2"),
        json!({"token": "another"}),
        json!({"addresses": ["https://10.2.2.3:6443"], "token": "another"}),
    ] {
        house.done(Method::PATCH, north, change).await?;
    }
    // An app that was never deployed is nowhere.
    house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "new", "pool": "yard"})).await?;
    house.done(Method::PATCH, north, set("namespace", "shop")).await?;
    Ok(())
}

#[tokio::test]
async fn the_default_does_not_move_away_from_apps() -> Result<()> {
    let house = with_resident().await?;
    house.done(Method::PATCH, "/v1/clusters/north", json!({"default": true})).await?;
    let default = json!({"default": true});
    keeps_web(&house, Method::POST, "/v1/clusters", cluster("south", default.clone())).await?;
    let south = cluster("south", json!({"pools": ["shed"]}));
    house.done(Method::POST, "/v1/clusters", south).await?;
    keeps_web(&house, Method::PATCH, "/v1/clusters/south", default).await?;
    Ok(())
}

#[tokio::test]
async fn a_cluster_with_apps_or_volumes_is_not_removed() -> Result<()> {
    let house = with_resident().await?;
    let north = "/v1/clusters/north";
    keeps_web(&house, Method::DELETE, north, json!({})).await?;
    house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    house.done(Method::DELETE, north, json!({})).await?;
    let house = House::with_both(PLANS).await?.with_cluster().await?;
    let data = json!({"name": "data", "plan": "small", "pool": "yard"});
    house.done(Method::POST, "/v1/volumes", data).await?;
    let problem = house.refusal(Method::DELETE, north, json!({})).await?;
    ensure!(problem.detail.ends_with("the volume `data`"), "{problem:?}");
    house.done(Method::DELETE, "/v1/volumes/data", json!({})).await?;
    house.done(Method::DELETE, north, json!({})).await?;
    Ok(())
}

#[tokio::test]
async fn changes_of_a_cluster_at_once_are_all_kept() -> Result<()> {
    let house = House::with_both("").await?;
    let more = json!({"name": "shed", "provisioner": "warehouse"});
    house.done(Method::POST, "/v1/pools", more).await?;
    house.done(Method::POST, "/v1/clusters", cluster(NORTH, json!({"pools": ["yard"]}))).await?;
    let patient = gantry::client::Change { wait: true, ..Default::default() };
    let ask = async |change: Value| -> Result<_> {
        let path = "/v1/clusters/north";
        let accepted = house.client.change(Method::PATCH, path, &change, &patient).await?;
        house.end_of(&accepted).await
    };
    // Each of them was asked for while the other one was to come.
    let (token, pools, factor) = tokio::join!(
        ask(json!({"token": "s3cr3t"})),
        ask(json!({"pools": ["shed", "yard"]})),
        ask(json!({"custom_data": {"overcommit-factor": "2"}})),
    );
    for ended in [token?, pools?, factor?] {
        ended.unwrap();
    }
    let north: Cluster = house.client.get("/v1/clusters/north").await?;
    assert_eq!((north.credentials.as_str(), north.pools.len()), ("token", 2));
    assert_eq!(north.custom_data.get("overcommit-factor").map(String::as_str), Some("2"));
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_cannot_be_is_refused() -> Result<()> {
    let house = House::with_both("").await?;
    house.done(Method::POST, "/v1/clusters", cluster(NORTH, json!({"default": true}))).await?;
    let post = |more: Value| (Method::POST, "/v1/clusters", cluster("new", more));
    let default = || json!({"default": true});
    let cases = [
        (
            (Method::POST, "/v1/clusters", cluster("", default())),
            ProblemKind::Invalid,
            "cluster name is mandatory",
        ),
        (
            (Method::POST, "/v1/clusters", cluster("N", default())),
            ProblemKind::Invalid,
            "Invalid cluster name",
        ),
        (
            (Method::POST, "/v1/clusters", cluster(NORTH, default())),
            ProblemKind::Conflict,
            "there is one of this name",
        ),
        (post(json!({})), ProblemKind::Invalid, "either default or a list of pools must be set"),
        (
            post(json!({"default": true, "pools": ["yard"]})),
            ProblemKind::Invalid,
            "cannot have both pools and default set",
        ),
        (post(json!({"default": true, "provisioner": "nobody"})), ProblemKind::NotFound, ""),
        (post(json!({"pools": ["yrad"]})), ProblemKind::NotFound, ""),
        (post(json!({"pools": ["default"]})), ProblemKind::Conflict, "of the provisioner `docker`"),
        (post(json!({"default": true, "addresses": ["host"]})), ProblemKind::Invalid, "https://"),
        (post(json!({"default": true, "ca_cert": "junk"})), ProblemKind::Invalid, "certificate"),
        (
            post(json!({"default": true, "custom_data": {"password": "s3cr3t"}})),
            ProblemKind::Invalid,
            "no passwords",
        ),
        ((Method::PATCH, "/v1/clusters/nroth", default()), ProblemKind::NotFound, ""),
        (
            (Method::PATCH, "/v1/clusters/north", json!({"client_cert": "c"})),
            ProblemKind::Invalid,
            "needs its key",
        ),
        ((Method::DELETE, "/v1/clusters/nroth", json!({})), ProblemKind::NotFound, ""),
    ];
    for ((method, path, body), kind, why) in cases {
        let case = format!("{method} {path} {body}");
        let problem = house.refusal(method, path, body).await?;
        ensure!(problem.kind == kind && problem.detail.contains(why), "{case}: {problem:?}");
        ensure!(!format!("{problem:?}").contains("s3cr3t"), "{problem:?}");
    }
    let gone = refused(house.client.get::<Cluster>("/v1/clusters/nroth").await)?.unwrap_err();
    assert_eq!(gone.hint.as_deref(), Some("did you mean `north`?"));
    Ok(())
}

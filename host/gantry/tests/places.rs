//! Pools, clusters, nodes and volumes, and everything that is refused of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry::api::{
    AppInfo, Cluster, Items, NodeContainerInfo, NodeInfo, NodeList, OperationInfo, PluginInfo,
    Pool, Problem, ProblemKind, Volume,
};
use gantry_core::{Status, Unit};
use gantry_engine::Containers as _;
use hyper::Method;
use serde_json::{Value, json};

use crate::support::{House, NORTH, SOON, refused};

const PLANS: &str = "[volume-plans.small.warehouse]\ncapacity = \"1Gi\"\n[volume-plans.docker-only.docker]\na = \"b\"\n";

/// Asks for a change that is to be refused, at once or by its operation.
async fn refusal(house: &House, method: Method, path: &str, body: Value) -> Result<Problem> {
    let answer = house.change(method.clone(), path, &body).await?;
    let problem = answer.err().with_context(|| format!("{method} {path} {body} was done"))?;
    ensure!(problem.hint.is_some() || problem.kind == ProblemKind::NotSupported, "{problem:?}");
    Ok(problem)
}

async fn units(house: &House, app: &str) -> Result<Vec<Unit>> {
    let units: Items<Unit> = house.client.get(&format!("/v1/apps/{app}/units")).await?;
    Ok(units.items)
}

/// A house with an app of the warehouse that has one unit.
async fn with_app(config: &str) -> Result<House> {
    let house = House::with_both(config).await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web", "pool": "yard"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "a:1"})).await?;
    Ok(house)
}

#[tokio::test]
async fn a_pool_is_made_used_and_removed() -> Result<()> {
    let mut house = with_app("").await?;
    let pools: Items<Pool> = house.client.get("/v1/pools").await?;
    let shown: Vec<_> =
        pools.items.iter().map(|pool| (pool.name.as_str(), pool.configured, pool.apps)).collect();
    assert_eq!(shown, [("default", true, 0), ("yard", false, 1)]);
    let problem = refusal(&house, Method::DELETE, "/v1/pools/yard", json!({})).await?;
    assert_eq!(
        (problem.kind, problem.detail.as_str()),
        (ProblemKind::Conflict, "in it: the app `web`")
    );
    house.stop().await?;
    house.start().await?;
    house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    house.done(Method::DELETE, "/v1/pools/yard", json!({})).await?;
    let pools: Items<Pool> = house.client.get("/v1/pools").await?;
    assert_eq!(pools.items.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_pool_that_cannot_be_is_refused() -> Result<()> {
    let house = House::with_both("").await?;
    let new = |name: &str, provisioner: &str| json!({"name": name, "provisioner": provisioner});
    let cases = [
        (Method::POST, "/v1/pools", new("No", "docker"), ProblemKind::Invalid, "invalid pool name"),
        (
            Method::POST,
            "/v1/pools",
            new("prod", ""),
            ProblemKind::Invalid,
            "provisioner name is mandatory",
        ),
        (Method::POST, "/v1/pools", new("prod", "dokcer"), ProblemKind::NotFound, ""),
        (Method::POST, "/v1/pools", new("yard", "docker"), ProblemKind::Conflict, "there is one"),
        (
            Method::POST,
            "/v1/pools",
            new("default", "docker"),
            ProblemKind::Conflict,
            "there is one",
        ),
        (
            Method::DELETE,
            "/v1/pools/default",
            json!({}),
            ProblemKind::Conflict,
            "the configuration has it",
        ),
        (Method::DELETE, "/v1/pools/yrad", json!({}), ProblemKind::NotFound, ""),
    ];
    for (method, path, body, kind, why) in cases {
        let problem = refusal(&house, method, path, body).await?;
        ensure!(problem.kind == kind && problem.detail.contains(why), "{problem:?}");
    }
    let problem = refusal(&house, Method::POST, "/v1/pools", new("prod", "dokcer")).await?;
    assert_eq!(problem.hint.as_deref(), Some("did you mean `docker`?"));
    Ok(())
}

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
    let problem = refusal(&house, Method::POST, "/v1/clusters", south()).await?;
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
    let problem = refusal(house, method, path, body).await?;
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
    let problem = refusal(&house, Method::DELETE, north, json!({})).await?;
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
        let problem = refusal(&house, method, path, body).await?;
        ensure!(problem.kind == kind && problem.detail.contains(why), "{case}: {problem:?}");
        ensure!(!format!("{problem:?}").contains("s3cr3t"), "{problem:?}");
    }
    let gone = refused(house.client.get::<Cluster>("/v1/clusters/nroth").await)?.unwrap_err();
    assert_eq!(gone.hint.as_deref(), Some("did you mean `north`?"));
    Ok(())
}

async fn nodes(house: &House) -> Result<Vec<(String, String, String)>> {
    let list: NodeList = house.client.get("/v1/nodes").await?;
    let own = |node: &gantry_core::node::Node| node.provisioner.as_deref() == Some("warehouse");
    let shown = |node: gantry_core::node::Node| (node.address, node.pool, node.status);
    Ok(list.items.into_iter().filter(own).map(shown).collect())
}

#[tokio::test]
async fn a_node_is_added_changed_and_removed() -> Result<()> {
    let house = with_app("").await?;
    let address = "http://10.3.3.3:80/a";
    let path = format!("/v1/nodes/{}", gantry::client::escape(address));
    let new = json!({"address": address, "metadata": {"pool": "yard", "rack": "7"}, "wait": 1});
    let done = house.done(Method::POST, "/v1/nodes", new).await?;
    assert_eq!((done.verb.as_str(), done.plugin.as_deref()), ("node-add", Some("warehouse")));
    let row = |pool: &str, status: &str| (address.to_owned(), pool.to_owned(), status.to_owned());
    assert_eq!(nodes(&house).await?, [row("yard", "ready")]);
    let info: NodeInfo = house.client.get(&path).await?;
    assert_eq!(info.node.provisioner.as_deref(), Some("warehouse"));
    assert_eq!(info.node.metadata.get("rack").map(String::as_str), Some("7"));
    assert_eq!(info.units.context("units")?.len(), 1);
    house.done(Method::PATCH, &path, json!({"disable": true, "metadata": {"rack": ""}})).await?;
    assert_eq!(nodes(&house).await?, [row("yard", "disabled")]);
    house.done(Method::PATCH, &path, json!({"enable": true, "metadata": {"stuck": "1"}})).await?;
    let other: NodeList = house.client.get("/v1/nodes?pool=default").await?;
    assert_eq!(other.items, []);
    // What cannot be moved away keeps its node, unless nobody cares.
    let stuck = house.change(Method::DELETE, &path, json!({})).await?.unwrap_err();
    assert_eq!(stuck.detail, "its units cannot be moved away");
    house.done(Method::DELETE, &path, json!({"no_rebalance": true})).await?;
    assert_eq!(nodes(&house).await?, []);
    Ok(())
}

#[tokio::test]
async fn a_node_that_cannot_be_is_refused() -> Result<()> {
    let mut house = House::with_both("").await?;
    // A second provisioner that has the address.
    let other = crate::support::warehouse()?;
    let change = gantry::client::Change::default();
    let accepted =
        house.client.change_bytes(Method::PUT, "/v1/plugins/other", other, &change).await?;
    house.end_of(&accepted).await?.unwrap();
    house
        .done(Method::POST, "/v1/pools", json!({"name": "theirs", "provisioner": "other"}))
        .await?;
    house.done(Method::POST, "/v1/nodes", json!({"address": "taken", "pool": "theirs"})).await?;
    house.done(Method::POST, "/v1/nodes", json!({"address": "10.3.3.3", "pool": "yard"})).await?;
    let new = |more: Value| {
        let mut body = json!({"address": "a", "pool": "yard"});
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        (Method::POST, "/v1/nodes", body)
    };
    let patch = |body: Value| (Method::PATCH, "/v1/nodes/10.3.3.3", body);
    let cases = [
        (
            new(json!({"address": "taken"})),
            ProblemKind::Conflict,
            "node with address \"taken\" already exists in provisioner \"other\"",
        ),
        (new(json!({"address": ""})), ProblemKind::Invalid, "where it is"),
        (new(json!({"pool": ""})), ProblemKind::Invalid, "which pool"),
        (new(json!({"pool": "yrad"})), ProblemKind::NotFound, ""),
        (new(json!({"register": false})), ProblemKind::Invalid, "no provider"),
        (
            new(json!({"provisioner": "docker"})),
            ProblemKind::Conflict,
            "is of the provisioner `warehouse`",
        ),
        (
            new(json!({"pool": "default", "address": "ftp://10.0.0.1"})),
            ProblemKind::Invalid,
            "`ftp://10.0.0.1` is not the address of a Docker host",
        ),
        (
            patch(json!({"enable": true, "disable": true})),
            ProblemKind::Invalid,
            "A node can't be enabled and disabled simultaneously.",
        ),
        (
            patch(json!({"pool": "default"})),
            ProblemKind::Conflict,
            "is of the provisioner `docker`",
        ),
        (patch(json!({"pool": "nowhere"})), ProblemKind::NotFound, ""),
        (
            (Method::PATCH, "/v1/nodes/10.3.3.4", json!({"disable": true})),
            ProblemKind::NotFound,
            "",
        ),
        ((Method::DELETE, "/v1/nodes/nobody", json!({})), ProblemKind::NotFound, ""),
    ];
    for ((method, path, body), kind, why) in cases {
        let case = format!("{method} {path} {body}");
        let problem = refusal(&house, method, path, body).await?;
        ensure!(problem.kind == kind && problem.detail.contains(why), "{case}: {problem:?}");
    }
    let gone = refused(house.client.get::<NodeInfo>("/v1/nodes/10.3.3.4").await)?.unwrap_err();
    assert_eq!(gone.hint.as_deref(), Some("did you mean `10.3.3.3`?"));
    house.stop().await?;
    Ok(())
}

/// The address of the only engine of the configuration.
const CONFIGURED: &str = "http://10.1.1.1:2375";

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

async fn addresses(house: &House) -> Result<Vec<String>> {
    let list: NodeList = house.client.get("/v1/nodes").await?;
    Ok(list.items.into_iter().map(|node| node.address).collect())
}

#[tokio::test]
async fn the_certificates_of_a_host_of_the_configuration_are_there_and_nowhere_else() -> Result<()>
{
    let house = House::with_docker("").await?;
    let new = json!({"address": CONFIGURED, "pool": "default"});
    for pem in [json!({"ca_cert": "c"}), json!({"client_cert": "c", "client_key": "s3cr3t"})] {
        let mut new = new.clone();
        new.as_object_mut()
            .context("a table")?
            .extend(pem.as_object().cloned().unwrap_or_default());
        let problem = refusal(&house, Method::POST, "/v1/nodes", new).await?;
        assert_eq!(
            (problem.kind, problem.detail.as_str()),
            (ProblemKind::Conflict, "its certificates are in the configuration")
        );
    }
    let list: NodeList = house.client.get("/v1/nodes").await?;
    assert_eq!(list.items[0].pool, "", "nothing was written down of it");
    house.done(Method::POST, "/v1/nodes", new).await?;
    Ok(())
}

#[tokio::test]
async fn a_host_that_does_not_become_a_node_is_given_to_nobody() -> Result<()> {
    let mut house = House::with_docker("").await?;
    let new = |wait: u32| json!({"address": NOWHERE, "pool": "default", "wait": wait});
    let problem = house.change(Method::POST, "/v1/nodes", new(1)).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::TimedOut, "{problem:?}");
    assert_eq!(addresses(&house).await?, [CONFIGURED]);
    // Nor when the daemon dies before it is one: it would serve every pool without a machine.
    let begun = house.begin(Method::POST, "/v1/nodes", new(600)).await?;
    ensure!(begun.is_ok(), "{begun:?}");
    let given = async {
        while addresses(&house).await?.len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SOON, given).await.context("it is not given in time")??;
    house.crash();
    house.start().await?;
    assert_eq!(addresses(&house).await?, [CONFIGURED]);
    // One that nobody waits for is a node, and stays one when it is added again in vain.
    house.done(Method::POST, "/v1/nodes", new(0)).await?;
    ensure!(house.change(Method::POST, "/v1/nodes", new(1)).await?.is_err());
    assert_eq!(addresses(&house).await?, [CONFIGURED, NOWHERE]);
    house.stop().await?;
    house.start().await?;
    assert_eq!(addresses(&house).await?, [CONFIGURED, NOWHERE]);
    house.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_host_whose_removal_the_daemon_died_in_serves_nobody() -> Result<()> {
    let mut house = House::with_docker("").await?;
    let new = json!({"address": NOWHERE, "pool": "default", "wait": 0});
    house.done(Method::POST, "/v1/nodes", new).await?;
    let store = house.folder.path().join("data/gantry.db");
    let kept = "CREATE TABLE kept_host AS SELECT * FROM docker_hosts";
    rusqlite::Connection::open(&store)?.execute_batch(kept)?;
    let path = format!("/v1/nodes/{}", gantry::client::escape(NOWHERE));
    let removed = house.done(Method::DELETE, &path, json!({"no_rebalance": true})).await?;
    assert_eq!(addresses(&house).await?, [CONFIGURED]);
    // As it is when the plugin has forgotten the node and the daemon dies before it forgets the host.
    house.crash();
    let database = rusqlite::Connection::open(&store)?;
    database.execute_batch("INSERT INTO docker_hosts SELECT * FROM kept_host")?;
    let running = "UPDATE operations SET state = 'running', ended = NULL WHERE id = ?";
    database.execute(running, [&removed.id])?;
    house.start().await?;
    assert_eq!(addresses(&house).await?, [CONFIGURED]);
    let left = "SELECT count(*) FROM docker_hosts";
    let left: u32 = database.query_row(left, [], |row| row.get(0))?;
    assert_eq!(left, 0, "and the next start does not give it");
    Ok(())
}

#[tokio::test]
async fn a_host_whose_removal_the_daemon_died_in_is_kept_while_it_is_a_node() -> Result<()> {
    let mut house = House::with_docker("").await?;
    let new = json!({"address": NOWHERE, "pool": "default", "wait": 0});
    let added = house.done(Method::POST, "/v1/nodes", new).await?;
    house.crash();
    let database = rusqlite::Connection::open(house.folder.path().join("data/gantry.db"))?;
    let under_way =
        "UPDATE operations SET verb = 'node-remove', state = 'running', ended = NULL WHERE id = ?";
    database.execute(under_way, [&added.id])?;
    house.start().await?;
    assert_eq!(addresses(&house).await?, [CONFIGURED, NOWHERE]);
    Ok(())
}

#[tokio::test]
async fn node_containers_are_upgraded_by_every_provisioner_that_has_them() -> Result<()> {
    let house = House::with_both("").await?;
    let path = "/v1/node-containers/big-sibling";
    let done = house.done(Method::POST, path, json!({"pool": "yard"})).await?;
    let info: OperationInfo = house.client.get(&format!("/v1/operations/{}", done.id)).await?;
    let lines: Vec<_> = info.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(
        lines,
        ["---- Node containers of `warehouse` ----", "upgrading big-sibling in `yard`"]
    );
    house.done(Method::DELETE, path, json!({})).await?;
    let problem = refusal(&house, Method::POST, path, json!({"pool": "yrad"})).await?;
    assert_eq!(problem.kind, ProblemKind::NotFound);
    Ok(())
}

#[tokio::test]
async fn a_node_container_is_added_kept_changed_and_removed() -> Result<()> {
    let file = "[provisioners.docker.config.node-containers.other.\"\"]\nimage = \"plain:2\"\n\
                [provisioners.docker.config.docker.healthcheck]\nmax-time = 1\n";
    let mut house = House::with_docker(file).await?;
    let new = json!({"name": "agent", "entry": {"image": "plain:1", "config": {"env": ["A=1"]}}});
    let done = house.done(Method::POST, ALL, new.clone()).await?;
    assert_eq!(done.verb, "node-container-add");
    assert_eq!(house.containers().await?, [("agent".to_owned(), "running".to_owned())]);
    let path = "/v1/node-containers/agent";
    // Written down: whoever starts a unit after a crash starts it too.
    house.crash();
    let id = house.engine.inspect("agent").await?.id;
    house.engine.remove(&id, true).await?;
    house.start().await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    let names: Vec<String> = house.containers().await?.into_iter().map(|(name, _)| name).collect();
    ensure!(names.iter().any(|name| name == "agent"), "{names:?}");
    ensure!(names.iter().any(|name| name == "other"), "that of the file too: {names:?}");

    // A deploy that fails takes its own back, and leaves what is the node's.
    let agent = house.engine.inspect("agent").await?.id;
    house.engine.remove(&agent, true).await?;
    house.played.answers(500);
    let failed = json!({"image": "checked:1"});
    ensure!(house.change(Method::POST, "/v1/apps/web/deploy", failed).await?.is_err());
    assert_eq!(house.engine.inspect("agent").await?.state.status, "running");

    // Over what was added, and over what the file has.
    let env = json!({"entry": {"config": {"env": ["A=2"]}}, "no_start": true});
    house.done(Method::PATCH, path, env.clone()).await?;
    let env_of = |name: &'static str| {
        let engine = house.engine.clone();
        async move { anyhow::Ok(engine.inspect(name).await?.config.env.unwrap_or_default()) }
    };
    ensure!(env_of("agent").await?.contains(&"A=1".to_owned()), "nothing was started");
    house.done(Method::POST, path, json!({})).await?;
    ensure!(env_of("agent").await?.contains(&"A=2".to_owned()));
    let others = "/v1/node-containers/other";
    house.done(Method::PATCH, others, json!({"entry": {"config": {"env": ["B=1"]}}})).await?;
    ensure!(env_of("other").await?.contains(&"B=1".to_owned()));

    let all: Items<NodeContainerInfo> = house.client.get(ALL).await?;
    let shown: Vec<_> =
        all.items.iter().map(|info| (info.name.as_str(), info.entries.len())).collect();
    assert_eq!(shown, [("agent", 1), ("other", 2)]);
    let of_file = &all.items[1].entries[1];
    assert_eq!((of_file.provisioner.as_str(), of_file.entry.image.as_str()), ("docker", "plain:2"));
    assert_eq!(of_file.entry.config.env, ["B=1"], "as it is in force");

    house.done(Method::DELETE, path, json!({})).await?;
    let gone = refused(house.client.get::<NodeContainerInfo>(path).await)?.unwrap_err();
    assert_eq!(gone.kind, ProblemKind::NotFound);
    // What the file has stays there, and is told.
    let done = house.done(Method::DELETE, others, json!({})).await?;
    let info: OperationInfo = house.client.get(&format!("/v1/operations/{}", done.id)).await?;
    let told = info.lines.iter().any(|line| line.text.contains("still configured for `docker`"));
    ensure!(told, "{info:?}");
    let info: NodeContainerInfo = house.client.get(others).await?;
    assert_eq!(info.entries.len(), 1);
    let names: Vec<String> = house.containers().await?.into_iter().map(|(name, _)| name).collect();
    ensure!(names.iter().all(|name| name.starts_with("web-")), "{names:?}");
    house.stop().await?;
    Ok(())
}

/// The node containers.
const ALL: &str = "/v1/node-containers";

#[tokio::test]
async fn a_node_container_that_cannot_be_is_refused_and_nothing_is_written_down() -> Result<()> {
    let house = House::with_docker("").await?;
    let agent = |more: Value| {
        let mut new = json!({"name": "agent", "entry": {"image": "plain:1"}, "no_start": true});
        if let (Some(new), Some(more)) = (new.as_object_mut(), more.as_object()) {
            new.extend(more.clone());
        }
        new
    };
    for (method, path, body, kind, why) in [
        (Method::POST, ALL, agent(json!({"name": "A b"})), ProblemKind::Invalid, "no name of one"),
        (Method::POST, ALL, agent(json!({"entry": {}})), ProblemKind::Invalid, "what it runs"),
        (
            Method::POST,
            ALL,
            agent(json!({"entry": {"x": 1}})),
            ProblemKind::Invalid,
            "unknown field",
        ),
        (Method::POST, ALL, agent(json!({"pool": "nowhere"})), ProblemKind::NotFound, ""),
        (
            Method::PATCH,
            "/v1/node-containers/agent",
            json!({"entry": {}}),
            ProblemKind::NotFound,
            "",
        ),
    ] {
        let case = format!("{method} {path} {body}");
        let problem = refusal(&house, method, path, body).await?;
        ensure!(problem.kind == kind && problem.detail.contains(why), "{case}: {problem:?}");
        let all: Items<NodeContainerInfo> = house.client.get(ALL).await?;
        assert_eq!(all.items, [], "{case}");
    }
    house.done(Method::POST, ALL, agent(json!({}))).await?;
    let problem = refusal(&house, Method::POST, ALL, agent(json!({}))).await?;
    assert_eq!(problem.kind, ProblemKind::Conflict);
    // An entry of a pool takes what it does not say from the base.
    let pool = agent(json!({"pool": "default", "entry": {"config": {"env": ["A=1"]}}}));
    house.done(Method::POST, ALL, pool).await?;
    let problem = refusal(&house, Method::POST, "/v1/node-containers/nobody", json!({})).await?;
    assert_eq!(problem.kind, ProblemKind::NotFound);
    Ok(())
}

/// Asks for a change of node containers that waits for its turn, and waits for its end.
async fn patiently(
    house: &House,
    method: Method,
    path: &str,
    body: Value,
) -> Result<std::result::Result<gantry::api::Operation, Problem>> {
    let patient = gantry::client::Change { wait: true, ..Default::default() };
    let accepted = house.client.change(method, path, &body, &patient).await?;
    house.end_of(&accepted).await
}

#[tokio::test]
async fn node_containers_that_are_added_and_changed_at_once_are_all_kept() -> Result<()> {
    let house = House::with_docker("").await?;
    let names: Vec<String> = (0..12).map(|number| format!("agent{number}")).collect();
    let add = async |name: &String| -> Result<()> {
        let new = json!({"name": name, "entry": {"image": "plain:1"}, "no_start": true});
        house.done(Method::POST, ALL, new).await.map(drop)
    };
    futures_util::future::try_join_all(names.iter().map(add)).await?;
    // Each of them is known to the provisioner: it says of one that is not that nobody has it.
    for name in &names {
        house.done(Method::POST, &format!("{ALL}/{name}"), json!({})).await?;
    }
    // Each change was asked for while the others were to come.
    let path = format!("{ALL}/agent0");
    let change = async |entry: Value| {
        let change = json!({"entry": entry, "no_start": true});
        let changed = patiently(&house, Method::PATCH, &path, change).await?;
        changed.map_err(|problem| anyhow::anyhow!("{problem:?}"))
    };
    tokio::try_join!(
        change(json!({"config": {"env": ["A=1"]}})),
        change(json!({"config": {"working-dir": "/a"}})),
        change(json!({"host-config": {"network-mode": "host"}})),
    )?;
    let info: NodeContainerInfo = house.client.get(&path).await?;
    let entry = json!(info.entries[0].entry);
    assert_eq!(
        entry,
        json!({
            "image": "plain:1",
            "config": {"env": ["A=1"], "working-dir": "/a"},
            "host-config": {"network-mode": "host"},
        })
    );
    // Of two that add the same, one has; what it said stays.
    let same = |image: &str| json!({"name": "twin", "entry": {"image": image}, "no_start": true});
    let (one, two) = tokio::join!(
        patiently(&house, Method::POST, ALL, same("plain:1")),
        patiently(&house, Method::POST, ALL, same("plain:2")),
    );
    let problems: Vec<_> = [one?, two?].into_iter().filter_map(Result::err).collect();
    let [problem] = problems.as_slice() else { anyhow::bail!("{problems:?}") };
    assert_eq!(problem.kind, ProblemKind::Conflict);
    Ok(())
}

#[tokio::test]
async fn a_request_for_a_node_container_is_the_same_when_its_entry_is() -> Result<()> {
    let house = House::with_docker("").await?;
    let once = gantry::client::Change { key: Some("k".to_owned()), ..Default::default() };
    let add = async |env: &str| {
        let entry = json!({"image": "plain:1", "config": {"env": [env]}});
        let new = json!({"name": "agent", "entry": entry, "no_start": true});
        refused(house.client.change(Method::POST, ALL, &new, &once).await)
    };
    let first = add("PASSWORD=s3cr3t").await?.unwrap();
    house.end_of(&first).await?.unwrap();
    assert_eq!(add("PASSWORD=s3cr3t").await?.unwrap().operation, first.operation);
    let problem = add("PASSWORD=other").await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Conflict);
    let info: Value = house.client.get(&format!("/v1/operations/{}", first.operation)).await?;
    ensure!(!info.to_string().contains("s3cr3t"), "{info}");
    Ok(())
}

#[tokio::test]
async fn what_was_added_for_a_pool_that_is_gone_is_removed_alone() -> Result<()> {
    let house = House::with_docker("").await?;
    let pool = json!({"name": "gpu", "provisioner": "docker"});
    house.done(Method::POST, "/v1/pools", pool).await?;
    for pool in ["", "gpu"] {
        let new =
            json!({"name": "agent", "pool": pool, "entry": {"image": "plain:1"}, "no_start": true});
        house.done(Method::POST, ALL, new).await?;
    }
    house.done(Method::DELETE, "/v1/pools/gpu", json!({})).await?;
    let path = format!("{ALL}/agent");
    house.done(Method::DELETE, &path, json!({"pool": "gpu"})).await?;
    let info: NodeContainerInfo = house.client.get(&path).await?;
    assert_eq!(info.entries.iter().map(|one| one.pool.as_str()).collect::<Vec<_>>(), [""]);
    // A pool that nobody knows anything of is still none.
    let problem = refusal(&house, Method::DELETE, &path, json!({"pool": "gpu"})).await?;
    assert_eq!(problem.kind, ProblemKind::NotFound);
    Ok(())
}

#[tokio::test]
async fn a_volume_is_made_given_to_an_app_taken_back_and_removed() -> Result<()> {
    let house = with_app(PLANS).await?;
    let new =
        json!({"name": "data", "plan": "small", "pool": "yard", "options": {"capacity": "5Gi"}});
    house.done(Method::POST, "/v1/volumes", new).await?;
    let before = units(&house, "web").await?[0].id.clone();
    let bind = |mount_point: &str, more: Value| {
        let mut body = json!({"app": "web", "mount_point": mount_point});
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        body
    };
    let binds = "/v1/volumes/data/binds";
    let quiet = bind("/quiet", json!({"read_only": true, "no_restart": true}));
    house.done(Method::POST, binds, quiet).await?;
    assert_eq!(units(&house, "web").await?[0].id, before);
    let done = house.done(Method::POST, binds, bind("/data", json!({}))).await?;
    assert_eq!(done.result, Some(json!({"restarted": true})));
    let unit = units(&house, "web").await?.swap_remove(0);
    // The plugin says where it has the first one.
    assert_eq!((unit.id == before, unit.address.as_deref()), (false, Some("/data")));
    let data: Volume = house.client.get("/v1/volumes/data").await?;
    let shown: Vec<_> =
        data.binds.iter().map(|bind| (bind.mount_point.as_str(), bind.read_only)).collect();
    assert_eq!(shown, [("/data", false), ("/quiet", true)]);

    let problem = refusal(&house, Method::DELETE, "/v1/volumes/data", json!({})).await?;
    assert_eq!(problem.detail, "cannot delete volume with existing binds");
    house.done(Method::DELETE, binds, bind("/data", json!({}))).await?;
    // An app that goes gives its volumes back.
    house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    let done = house.done(Method::DELETE, "/v1/volumes/data", json!({})).await?;
    let info: OperationInfo = house.client.get(&format!("/v1/operations/{}", done.id)).await?;
    assert_eq!(info.lines[0].text, "deleted the data of data");
    let left: Items<Volume> = house.client.get("/v1/volumes").await?;
    assert_eq!(left.items, []);
    Ok(())
}

#[tokio::test]
async fn a_volume_that_cannot_be_is_refused() -> Result<()> {
    let house = with_app(PLANS).await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "far"})).await?;
    for name in ["data", "stuck"] {
        let new = json!({"name": name, "plan": "small", "pool": "yard"});
        house.done(Method::POST, "/v1/volumes", new).await?;
    }
    let at =
        |mount_point: &str| json!({"app": "web", "mount_point": mount_point, "no_restart": true});
    house.done(Method::POST, "/v1/volumes/data/binds", at("/data")).await?;
    let new = |name: &str, plan: &str, pool: &str| {
        (Method::POST, "/v1/volumes", json!({"name": name, "plan": plan, "pool": pool}))
    };
    let bind = |body: Value| (Method::POST, "/v1/volumes/data/binds", body);
    let cases = [
        (new("No", "small", "yard"), ProblemKind::Invalid, "no name of a volume"),
        (new("new", "smal", "yard"), ProblemKind::NotFound, ""),
        (
            new("new", "docker-only", "yard"),
            ProblemKind::Invalid,
            "means nothing to the provisioner `warehouse`",
        ),
        (new("new", "small", "yrad"), ProblemKind::NotFound, ""),
        (new("data", "small", "yard"), ProblemKind::Conflict, "there is one of this name"),
        (bind(at("data")), ProblemKind::Invalid, "no folder to mount at"),
        (bind(at("/data")), ProblemKind::Conflict, "volume already bound in mountpoint"),
        (bind(json!({"app": "nobody", "mount_point": "/a"})), ProblemKind::NotFound, ""),
        (
            bind(json!({"app": "far", "mount_point": "/a"})),
            ProblemKind::Conflict,
            "it is of the pool `yard`",
        ),
        ((Method::POST, "/v1/volumes/dtaa/binds", at("/a")), ProblemKind::NotFound, ""),
        (
            (Method::DELETE, "/v1/volumes/data/binds", at("/other")),
            ProblemKind::NotFound,
            "volume bind not found",
        ),
        ((Method::DELETE, "/v1/volumes/dtaa", json!({})), ProblemKind::NotFound, ""),
    ];
    for ((method, path, body), kind, why) in cases {
        let case = format!("{method} {path} {body}");
        let problem = refusal(&house, method, path, body).await?;
        ensure!(problem.kind == kind && problem.detail.contains(why), "{case}: {problem:?}");
    }
    // Storage that does not answer keeps the volume, and apps can have it again.
    let stuck = house.change(Method::DELETE, "/v1/volumes/stuck", json!({})).await?.unwrap_err();
    assert_eq!(stuck.kind, ProblemKind::Unavailable);
    house.done(Method::POST, "/v1/volumes/stuck/binds", at("/stuck")).await?;
    Ok(())
}

#[tokio::test]
async fn units_sleep_until_they_are_started() -> Result<()> {
    let house = with_app("").await?;
    let done = house.done(Method::POST, "/v1/apps/web/sleep", json!({})).await?;
    assert_eq!(done.verb, "app-sleep");
    assert_eq!(units(&house, "web").await?[0].status, Some(Status::Asleep));
    house.done(Method::POST, "/v1/apps/web/start", json!({})).await?;
    assert_eq!(units(&house, "web").await?[0].status, Some(Status::Started));
    // What a provisioner cannot do, it says so.
    let spread = json!({"pool": "yard"});
    let problem = refusal(&house, Method::POST, "/v1/nodes/rebalance", spread).await?;
    assert_eq!(problem.kind, ProblemKind::NotSupported);
    assert_eq!(
        problem.detail,
        "provisioner \"warehouse\" does not support node rebalance operations"
    );
    Ok(())
}

#[tokio::test]
async fn everything_a_plugin_asks_for_is_granted_when_so_asked_and_listed() -> Result<()> {
    let house = House::with_both("").await?;
    let info: PluginInfo = house.client.get("/v1/plugins/warehouse").await?;
    ensure!(info.grants.iter().all(|grant| grant.in_force), "{:?}", info.grants);
    let operations: Items<gantry::api::Operation> = house.client.get("/v1/operations").await?;
    let install = operations
        .items
        .iter()
        .find(|one| one.verb == "plugin-install" && one.plugin.as_deref() == Some("warehouse"));
    let id = &install.context("it was installed")?.id;
    let told: OperationInfo = house.client.get(&format!("/v1/operations/{id}")).await?;
    let lines: Vec<_> = told.lines.iter().map(|line| line.text.as_str()).collect();
    ensure!(lines.contains(&"granted cluster:*:ConfigMap: keeps a note for each app"), "{lines:?}");
    // A swap keeps them, and without the word it adds none.
    let change = gantry::client::Change::default();
    let docker = house.client.change_bytes(
        Method::POST,
        "/v1/plugins/docker/swap?file=d.wasm",
        crate::support::plugin()?,
        &change,
    );
    house.end_of(&docker.await?).await?.unwrap();
    let info: PluginInfo = house.client.get("/v1/plugins/docker").await?;
    ensure!(info.grants.iter().all(|grant| !grant.in_force), "{:?}", info.grants);
    let docker = house.client.change_bytes(
        Method::POST,
        "/v1/plugins/docker/swap?file=d.wasm&grant-asked=true",
        crate::support::plugin()?,
        &change,
    );
    house.end_of(&docker.await?).await?.unwrap();
    let info: PluginInfo = house.client.get("/v1/plugins/docker").await?;
    ensure!(info.grants.iter().all(|grant| grant.in_force), "{:?}", info.grants);
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
    let mut house = with_app("").await?.with_cluster().await?;
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

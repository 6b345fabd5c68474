//! Nodes, the hosts that become them, and everything that is refused of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry::api::{NodeInfo, NodeList, ProblemKind};
use hyper::Method;
use serde_json::{Value, json};

use crate::support::{House, SOON, refused, warehouse};

async fn nodes(house: &House) -> Result<Vec<(String, String, String)>> {
    let list: NodeList = house.client.get("/v1/nodes").await?;
    let own = |node: &gantry_core::node::Node| node.provisioner.as_deref() == Some("warehouse");
    let shown = |node: gantry_core::node::Node| (node.address, node.pool, node.status);
    Ok(list.items.into_iter().filter(own).map(shown).collect())
}

#[tokio::test]
async fn a_node_is_added_changed_and_removed() -> Result<()> {
    let house = House::with_web("").await?;
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
    let other = warehouse()?;
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
        let problem = house.refusal(method, path, body).await?;
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
        let problem = house.refusal(Method::POST, "/v1/nodes", new).await?;
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
async fn a_host_whose_removal_cannot_be_written_down_can_be_removed_again() -> Result<()> {
    let house = House::with_docker("").await?;
    let new = json!({"address": NOWHERE, "pool": "default", "wait": 0});
    house.done(Method::POST, "/v1/nodes", new).await?;
    let database = rusqlite::Connection::open(house.folder.path().join("data/gantry.db"))?;
    database.execute_batch(
        "CREATE TRIGGER full BEFORE DELETE ON docker_hosts BEGIN SELECT RAISE(ABORT, 'full'); END",
    )?;
    let path = format!("/v1/nodes/{}", gantry::client::escape(NOWHERE));
    let remove = || house.change(Method::DELETE, &path, json!({"no_rebalance": true}));
    ensure!(remove().await?.is_err());
    assert_eq!(addresses(&house).await?, [CONFIGURED, NOWHERE]);
    database.execute_batch("DROP TRIGGER full")?;
    remove().await?.unwrap();
    assert_eq!(addresses(&house).await?, [CONFIGURED]);
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

//! Node containers: what runs on every node, and everything that is refused of them.

use anyhow::{Result, ensure};
use gantry::api::{Items, NodeContainerInfo, OperationInfo, Problem, ProblemKind};
use gantry_engine::Containers as _;
use hyper::Method;
use serde_json::{Value, json};

use crate::support::{House, refused};

/// The node containers.
const ALL: &str = "/v1/node-containers";

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
    let problem = house.refusal(Method::POST, path, json!({"pool": "yrad"})).await?;
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
        let problem = house.refusal(method, path, body).await?;
        ensure!(problem.kind == kind && problem.detail.contains(why), "{case}: {problem:?}");
        let all: Items<NodeContainerInfo> = house.client.get(ALL).await?;
        assert_eq!(all.items, [], "{case}");
    }
    house.done(Method::POST, ALL, agent(json!({}))).await?;
    let problem = house.refusal(Method::POST, ALL, agent(json!({}))).await?;
    assert_eq!(problem.kind, ProblemKind::Conflict);
    // An entry of a pool takes what it does not say from the base.
    let pool = agent(json!({"pool": "default", "entry": {"config": {"env": ["A=1"]}}}));
    house.done(Method::POST, ALL, pool).await?;
    let problem = house.refusal(Method::POST, "/v1/node-containers/nobody", json!({})).await?;
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
    let problem = house.refusal(Method::DELETE, &path, json!({"pool": "gpu"})).await?;
    assert_eq!(problem.kind, ProblemKind::NotFound);
    Ok(())
}

//! What runs once on every host: before the first unit, anew, pinned, removed, and what stands in its way.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use gantry_core::container::{Container, ContainerSpec};
use gantry_core::node::{AddNodeOptions, RemoveNodeOptions};
use gantry_core::{Error, labels::Labels};
use gantry_engine::{Containers as _, Memory};
use gantry_runtime::CallError;
use serde_json::{Value, json};

use super::stage::*;

const A: &str = "tcp://10.0.0.1:2375";
const B: &str = "tcp://10.0.0.2:2375";

/// The configuration of `agent`, by pool.
fn agent(pools: Value) -> Value {
    json!({"node-containers": {"agent": pools}})
}

/// An engine that can pull `agent`, which is this build of it.
fn with_agent(engine: Memory, build: u32) -> Memory {
    let config = json!({"Cmd": ["watch"], "Labels": {"build": build.to_string()}});
    engine.with_remote_image("agent", image(config), [])
}

impl Stage {
    /// Two hosts that can pull the first build.
    async fn two(pools: Value) -> Result<Self> {
        Self::over(&[A, B], agent(pools), |engine| with_agent(engine, 1)).await
    }

    /// The node container on a host; none when there is none, and never two.
    async fn agent_on(&self, index: usize) -> Result<Option<Container>> {
        let engine = &self.engines.get(index).context("a host")?.1;
        let labels = BTreeMap::from([("node-container-name".to_owned(), "agent".to_owned())]);
        let mut found = engine.list(true, &labels).await?.into_iter();
        let Some(one) = found.next() else { return Ok(None) };
        ensure!(found.next().is_none(), "one on each host");
        Ok(Some(engine.inspect(&one.id).await?))
    }

    async fn agents(&self) -> Result<[Container; 2]> {
        let [a, b] = [self.agent_on(0).await?, self.agent_on(1).await?];
        Ok([a.context("one on the first")?, b.context("one on the second")?])
    }

    /// Upgrades it, and gives what was told.
    async fn upgrade_agent(&mut self, pool: &str) -> (Result<(), CallError>, String) {
        let (operation, screen) = self.operation();
        let done = self.provisioner.upgrade_node_container(&operation, "agent", pool).await;
        (done, screen.text())
    }

    async fn remove_agent(&mut self, pool: &str) -> (Result<(), CallError>, String) {
        let (operation, screen) = self.operation();
        let done = self.provisioner.remove_node_container(&operation, "agent", pool).await;
        (done, screen.text())
    }

    /// Puts a host into a pool.
    async fn put_in_pool(&mut self, address: &str, pool: &str) -> Result<()> {
        let options = AddNodeOptions {
            address: address.to_owned(),
            pool: pool.to_owned(),
            register: true,
            wait: 10,
            ..AddNodeOptions::default()
        };
        let (operation, _) = self.operation();
        Ok(self.provisioner.add_node(&operation, &options).await?)
    }
}

fn ids(agents: &[Container; 2]) -> [&str; 2] {
    agents.each_ref().map(|agent| agent.id.as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_runs_on_a_host_before_the_first_unit_does_and_is_let_be_afterwards() -> Result<()> {
    let entry =
        json!({"": {"image": "agent", "config": {"env": ["LEVEL=1"], "labels": {"x": "y"}}}});
    let mut stage = Stage::two(entry).await?;
    stage.deploy("shop:1").await?;
    stage.add(1).await?;
    let agents = stage.agents().await?;
    for (agent, (address, engine)) in agents.iter().zip(&stage.engines) {
        assert_eq!((agent.name.as_str(), agent.state.status.as_str()), ("agent", "running"));
        let env = agent.config.env.as_deref().context("it has an environment")?;
        assert_eq!(env, [format!("DOCKER_ENDPOINT={address}"), "LEVEL=1".to_owned()]);
        let labels = agent.config.labels.as_ref().context("it has labels")?;
        let expected = [
            ("is-tsuru", "true"),
            ("is-node-container", "true"),
            ("provisioner", "docker"),
            ("node-container-name", "agent"),
            ("node-container-pool", ""),
            ("x", "y"),
        ];
        for (key, value) in expected {
            assert_eq!(labels.get(key).map(String::as_str), Some(value), "{key}");
        }
        // The units came after it: engines in memory count what they make.
        let mut all = Vec::new();
        for one in engine.list(true, &Labels::new()).await? {
            all.push(engine.inspect(&one.id).await?);
        }
        all.sort_by(|a, b| a.created.cmp(&b.created));
        let units = all.iter().position(|one| one.name.starts_with("shop-"));
        let position = all.iter().position(|one| one.id == agent.id);
        ensure!(position < units, "{all:?}");
    }
    // It is no unit, and the start of the platform makes none of it.
    assert_eq!(stage.units().await?.len(), 2);
    let (operation, _) = stage.operation();
    stage.provisioner.generation().initialise(&operation).await?;
    assert_eq!(stage.units().await?.len(), 2);

    stage.add(2).await?;
    assert_eq!(ids(&stage.agents().await?), ids(&agents), "it was not made anew");
    // One that ended is started again, in its place.
    stage.engine.end(&agents[0].id, 3)?;
    stage.add(2).await?;
    let again = stage.agents().await?;
    assert_eq!(ids(&again), ids(&agents));
    assert_eq!(again[0].state.status, "running");
    let (operation, _) = stage.operation();
    stage.provisioner.destroy(&operation, &stage.app).await?;
    assert_eq!(ids(&stage.agents().await?), ids(&agents), "it is of no app");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_makes_it_anew_from_what_its_image_is_now_and_pins_that() -> Result<()> {
    let mut stage = Stage::two(json!({"": {"image": "agent"}})).await?;
    let (done, screen) = stage.upgrade_agent("").await;
    done?;
    for address in [A, B] {
        let line = format!("relaunching node container \"agent\" in the node {address} []\n");
        ensure!(screen.contains(&line), "{screen}");
    }
    let first = stage.agents().await?;
    let image = |agents: &[Container; 2]| agents.each_ref().map(|one| one.config.image.clone());
    let [pinned, same] = image(&first);
    ensure!(pinned.starts_with("agent@sha256:") && pinned == same, "{pinned} {same}");
    assert_eq!(stage.keys("node-container-pins/").await?, ["node-container-pins/agent"]);

    // Another build by the same name: a host that lost its own gets the pinned one.
    for (_, engine) in &stage.engines {
        let _same_engine = with_agent(engine.clone(), 2);
    }
    let (_, second) = &stage.engines[1];
    second.remove(&first[1].id, true).await?;
    stage.deploy("shop:1").await?;
    stage.add(1).await?;
    let again = stage.agents().await?;
    assert_eq!(again[0].id, first[0].id);
    assert_eq!(again[1].image, first[1].image);

    stage.upgrade_agent("").await.0?;
    let newer = stage.agents().await?;
    ensure!(newer[0].image != first[0].image && newer[0].image == newer[1].image, "{newer:?}");
    assert_ne!(ids(&newer), ids(&again));
    ensure!(image(&newer)[0] != pinned);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_no_registry_has_is_used_when_it_is_there_and_told_when_it_is_not()
-> Result<()> {
    let config = agent(json!({"": {"image": "local:1"}}));
    let mut stage = Stage::over(&[A], config, |engine| {
        engine.with_image("local:1", image(json!({"Cmd": ["watch"]})), [])
    })
    .await?;
    let (done, screen) = stage.upgrade_agent("").await;
    done?;
    ensure!(screen.contains("the image that is there is used"), "{screen}");
    let agent = stage.agent_on(0).await?.context("it runs")?;
    assert_eq!(agent.config.image, "local:1");
    assert_eq!(stage.keys("node-container-pins/").await?, Vec::<String>::new());

    let config = agent_of_nobody();
    let mut stage = Stage::over(&[A], config, |engine| engine).await?;
    let error = told(stage.upgrade_agent("").await.0)?;
    let Error::NotFound(text) = &error else { anyhow::bail!("{error:?}") };
    ensure!(text.starts_with(&format!("node container \"agent\" in the node {A} []: ")), "{text}");
    ensure!(text.contains("nobody:1"), "{text}");
    // No unit starts on a host that cannot have it.
    let error = stage.deploy("shop:1").await.unwrap_err().to_string();
    ensure!(error.contains("node container \"agent\"") && error.contains("nobody:1"), "{error}");
    assert_eq!(stage.containers().await?.len(), 0);
    Ok(())
}

fn agent_of_nobody() -> Value {
    agent(json!({"": {"image": "nobody:1"}}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_host_has_what_is_configured_for_its_pool_and_gives_it_back_when_it_leaves()
-> Result<()> {
    let pools = json!({
        "": {"image": "agent", "config": {"env": ["LEVEL=1"]}},
        "p": {"config": {"env": ["LEVEL=2"]}},
        "q": {"disabled": true},
    });
    let mut stage = Stage::two(pools).await?;
    stage.put_in_pool(A, "p").await?;
    stage.put_in_pool(B, "q").await?;
    let agent = stage.agent_on(0).await?.context("it runs before the first unit is asked for")?;
    let env = agent.config.env.as_deref().context("it has an environment")?;
    assert_eq!(env.last().map(String::as_str), Some("LEVEL=2"));
    let labels = agent.config.labels.as_ref().context("labels")?;
    assert_eq!(labels["node-container-pool"], "p");
    assert_eq!(stage.agent_on(1).await?, None);

    let (done, screen) = stage.upgrade_agent("q").await;
    done?;
    assert_eq!(screen, "skipping node container \"agent\" [\"q\"], invalid config\n");
    assert_eq!(stage.agent_on(0).await?.context("it is there")?.id, agent.id, "not of that pool");
    stage.upgrade_agent("p").await.0?;
    assert_ne!(stage.agent_on(0).await?.context("it is there")?.id, agent.id);

    let (operation, _) = stage.operation();
    let leave = RemoveNodeOptions { address: A.to_owned(), rebalance: true };
    stage.provisioner.remove_node(&operation, &leave).await?;
    assert_eq!(stage.containers().await?.len(), 0);
    let (operation, _) = stage.operation();
    let error = told(stage.provisioner.upgrade_node_container(&operation, "nobody", "").await)?;
    assert_eq!(
        error,
        Error::NotFound("no node container `nobody` in the configuration".to_owned())
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_removed_from_every_host_or_from_those_of_a_pool_and_removing_it_again_succeeds()
-> Result<()> {
    let mut stage = Stage::two(json!({"": {"image": "agent"}})).await?;
    stage.put_in_pool(A, "p").await?;
    stage.put_in_pool(B, "q").await?;
    stage.agents().await?;
    let (done, screen) = stage.remove_agent("q").await;
    done?;
    ensure!(
        screen == format!("removing node container \"agent\" in the node {B} [q]\n"),
        "{screen}"
    );
    ensure!(stage.agent_on(0).await?.is_some() && stage.agent_on(1).await?.is_none());
    let (done, screen) = stage.remove_agent("").await;
    done?;
    let gone = format!("no such node container \"agent\" in the node {B} [q]\n");
    ensure!(screen.contains(&gone), "{screen}");
    assert_eq!(stage.containers().await?.len(), 0);
    assert_eq!(stage.keys("node-container-pins/").await?, Vec::<String>::new());
    stage.remove_agent("").await.0?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_answer_keeps_no_other_from_having_it() -> Result<()> {
    let mut stage = Stage::two(json!({"": {"image": "agent"}})).await?;
    stage.upgrade_agent("").await.0?;
    let before = stage.agents().await?;
    stage.fault.is(Some(Kind::Down(A)));
    let error = told(stage.upgrade_agent("").await.0)?;
    ensure!(matches!(&error, Error::Unavailable(text) if text.contains(A)), "{error:?}");
    let now = stage.agents().await?;
    ensure!(now[0].id == before[0].id && now[1].id != before[1].id);
    // Units go where it can run.
    stage.deploy("shop:1").await?;
    let [unit] = stage.units().await?.try_into().ok().context("one unit")?;
    assert_eq!(unit.ip, "10.0.0.2");

    // A host that is removed while it is away keeps what nobody can take.
    let error = told(stage.remove_agent("").await.0)?;
    ensure!(matches!(&error, Error::Unavailable(text) if text.contains(A)), "{error:?}");
    ensure!(stage.agent_on(1).await?.is_none());
    let (operation, _) = stage.operation();
    let leave = RemoveNodeOptions { address: A.to_owned(), rebalance: true };
    stage.provisioner.remove_node(&operation, &leave).await?;
    stage.fault.is(None);
    ensure!(stage.agent_on(0).await?.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_of_somebody_else_with_its_name_is_a_conflict_and_stays() -> Result<()> {
    let mut stage = Stage::two(json!({"": {"image": "agent"}})).await?;
    let spec = ContainerSpec { image: "shop:1".to_owned(), ..ContainerSpec::default() };
    let theirs = stage.engine.create("agent", &spec).await?;
    for attempt in 0..2 {
        let error = told(stage.upgrade_agent("").await.0)?;
        let Error::Conflict(text) = &error else { anyhow::bail!("{attempt}: {error:?}") };
        ensure!(text.contains(A) && text.contains("has this name there"), "{text}");
    }
    ensure!(stage.agent_on(1).await?.is_some(), "the other host has it");
    stage.remove_agent("").await.0?;
    assert_eq!(stage.containers().await?, [theirs]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reaches_for_the_machine_is_refused_without_its_grant() -> Result<()> {
    for (host_config, grant) in [
        (json!({"privileged": true}), "containers:privileged"),
        (json!({"network-mode": "host"}), "containers:host-network"),
        (json!({"binds": ["/proc:/prochost:ro"]}), "containers:binds:/proc"),
        (json!({"pid-mode": "host"}), "containers:host-pid"),
        (json!({"cap-add": ["NET_ADMIN"]}), "containers:capabilities"),
        (json!({"log-config": {"type": "syslog"}}), "containers:log-drivers"),
    ] {
        let mut stage =
            Stage::two(json!({"": {"image": "agent", "host-config": host_config}})).await?;
        let error = told(stage.upgrade_agent("").await.0)?;
        let text = error.to_string();
        let needed = format!("the grant `{grant}` is needed, and the operator did not give it");
        ensure!(text.contains(&needed), "{text}");
        assert_eq!(stage.containers().await?.len(), 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_user_its_ports_and_what_takes_rights_away_need_none() -> Result<()> {
    let entry = json!({
        "image": "agent",
        "config": {"user": "1000"},
        "host-config": {
            "cap-drop": ["CHOWN"],
            "port-bindings": {"8125/udp": [{"host-port": "8125"}]},
            "log-config": {"type": "local", "config": {"max-size": "1m"}},
        },
    });
    let mut stage = Stage::two(json!({"": entry})).await?;
    stage.upgrade_agent("").await.0?;
    for agent in stage.agents().await? {
        assert_eq!(agent.config.user, "1000");
        let ports = agent.network_settings.ports.get("8125/udp").context("it is published")?;
        let [port] = ports.as_deref().context("by a port")? else { anyhow::bail!("{ports:?}") };
        assert_eq!(port.host_port, "8125");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_does_all_of_them_too() -> Result<()> {
    let mut config = agent(json!({"": {"image": "agent"}}));
    config["docker"] = json!({"nodecontainer": {"max-workers": 1}});
    let mut stage = Stage::over(&[A, B], config, |engine| with_agent(engine, 1)).await?;
    stage.fault.is(Some(Kind::Down(A)));
    let error = told(stage.upgrade_agent("").await.0)?;
    ensure!(matches!(error, Error::Unavailable(_)), "{error:?}");
    ensure!(stage.agent_on(1).await?.is_some(), "the one after the one that failed");
    stage.fault.is(None);
    stage.upgrade_agent("").await.0?;
    stage.agents().await?;
    Ok(())
}

//! Machines: told, added, changed and removed; how they are; what runs on each of them; what is kept there; and what becomes of units that die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry_core::node::{
    AddNodeOptions, Node, NodeStatusData, RebalanceOptions, RemoveNodeOptions, UnitStatusData,
    UpdateNodeOptions,
};
use gantry_core::{Error, Volume, VolumeBind};
use gantry_tests::kubernetes::POOL;
use serde_json::{Value, json};

use super::stage::*;

fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Stage {
    async fn node(&self, address: &str) -> Result<Node> {
        Ok(self.provisioner.node(&question(), address).await?)
    }

    async fn update(&mut self, options: UpdateNodeOptions) -> Result<()> {
        let operation = self.operation();
        Ok(self.provisioner.update_node(&operation, &options).await?)
    }

    async fn leave(&mut self, address: &str, rebalance: bool) -> Result<()> {
        let options = RemoveNodeOptions { address: address.to_owned(), rebalance };
        let operation = self.operation();
        Ok(self.provisioner.remove_node(&operation, &options).await?)
    }

    /// How many units are on the machines.
    async fn counts(&self) -> Result<[usize; 2]> {
        let [one, two] = self.backend.nodes();
        Ok([self.backend.on(&one).await?, self.backend.on(&two).await?])
    }
}

fn to(address: &str) -> UpdateNodeOptions {
    UpdateNodeOptions { address: address.to_owned(), ..UpdateNodeOptions::default() }
}

pub(super) async fn listed(stage: Stage) -> Result<()> {
    let known = stage.backend.nodes();
    let (nodes, problems) = stage.provisioner.nodes(&question(), None).await?;
    let addresses: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
    ensure!(problems.is_empty() && addresses == known, "{addresses:?}, {problems:?}");
    let some = ["x".to_owned(), known[1].clone()];
    let (nodes, _) = stage.provisioner.nodes(&question(), Some(&some)).await?;
    let [node] = nodes.as_slice() else { anyhow::bail!("{nodes:?}") };
    ensure!(node.address == known[1], "{node:?}");
    Ok(())
}

pub(super) async fn got(stage: Stage) -> Result<()> {
    for address in stage.backend.nodes() {
        let node = stage.node(&address).await?;
        let name = stage.provisioner.name();
        ensure!(node.address == address && node.provisioner.as_deref() == Some(name), "{node:?}");
        ensure!(node.status.to_lowercase() == "ready", "{node:?}");
    }
    let error = refusal(stage.provisioner.node(&question(), "10.9.9.9").await)?;
    ensure!(error == Error::NodeNotFound, "it was {error:?}");
    Ok(())
}

pub(super) async fn added(mut stage: Stage) -> Result<()> {
    let address = stage.backend.machine()?;
    let mut options = AddNodeOptions {
        address: address.clone(),
        pool: POOL.to_owned(),
        iaas_id: "i-1".to_owned(),
        metadata: metadata(&[("rack", "7")]),
        register: true,
        ..AddNodeOptions::default()
    };
    // Added again it is changed.
    for rack in ["7", "8"] {
        options.metadata = metadata(&[("rack", rack)]);
        let operation = stage.operation();
        stage.provisioner.add_node(&operation, &options).await?;
        let node = stage.node(&address).await?;
        ensure!((node.pool.as_str(), node.iaas_id.as_str()) == (POOL, "i-1"), "{node:?}");
        let said = node.metadata_no_prefix.get("rack").map(String::as_str);
        ensure!(said == Some(rack), "{node:?}");
        let (nodes, _) = stage.provisioner.nodes(&question(), None).await?;
        ensure!(nodes.len() == 3, "{nodes:?}");
    }
    Ok(())
}

pub(super) async fn changed(mut stage: Stage) -> Result<()> {
    let [address, _] = stage.backend.nodes();
    let first = metadata(&[("rack", "7"), ("old", "1")]);
    stage.update(UpdateNodeOptions { metadata: first, ..to(&address) }).await?;
    let second = metadata(&[("rack", "8"), ("old", "")]);
    let update = UpdateNodeOptions { metadata: second, pool: "q".to_owned(), ..to(&address) };
    stage.update(update).await?;
    let node = stage.node(&address).await?;
    let said = node.metadata_no_prefix;
    ensure!(said.get("rack").is_some_and(|is| is == "8"), "{said:?}");
    ensure!(!said.contains_key("old") && node.pool == "q", "{said:?}");
    let operation = stage.operation();
    let error = refusal(stage.provisioner.update_node(&operation, &to("10.9.9.9")).await)?;
    ensure!(error == Error::NodeNotFound, "it was {error:?}");
    Ok(())
}

pub(super) async fn closed(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let [_, second] = stage.backend.nodes();
    let before = stage.backend.on(&second).await?;
    stage.update(UpdateNodeOptions { disable: true, ..to(&second) }).await?;
    let node = stage.node(&second).await?;
    ensure!(stage.backend.is_closed(&node).await?, "it is open: {node:?}");
    stage.add(3, "web").await?;
    stage.has(&[("web", 4), ("worker", 1)]).await?;
    ensure!(stage.backend.on(&second).await? == before, "it has other units than before");
    // Enable wins.
    let update = UpdateNodeOptions { enable: true, disable: true, ..to(&second) };
    stage.update(update).await?;
    let node = stage.node(&second).await?;
    ensure!(!stage.backend.is_closed(&node).await?, "it is closed: {node:?}");
    Ok(())
}

pub(super) async fn emptied(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.backend.spread().await?;
    let [_, second] = stage.backend.nodes();
    ensure!(stage.backend.on(&second).await? > 0, "nothing is on the second machine");
    stage.leave(&second, true).await?;
    stage.has(&[("web", 2), ("worker", 2)]).await?;
    stage.runs("shop:1").await?;
    let counts = stage.counts().await?;
    ensure!(counts == [4, 0], "there are {counts:?} units on the machines");
    let operation = stage.operation();
    let nobody = RemoveNodeOptions { address: "10.9.9.9".to_owned(), rebalance: false };
    let error = refusal(stage.provisioner.remove_node(&operation, &nobody).await)?;
    ensure!(error == Error::NodeNotFound, "it was {error:?}");
    Ok(())
}

pub(super) async fn not_removed(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.backend.spread().await?;
    let [_, address] = stage.backend.nodes();
    let before = stage.ids("").await?;
    let options = RemoveNodeOptions { address: address.clone(), rebalance: false };
    let operation = stage.operation();
    let error = refusal(stage.provisioner.remove_node(&operation, &options).await)?;
    ensure!(matches!(error, Error::Conflict(_)), "it was {error:?}");
    stage.node(&address).await?;
    ensure!(stage.ids("").await? == before, "they are other units than before");
    Ok(())
}

pub(super) async fn removed(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.backend.spread().await?;
    let [_, address] = stage.backend.nodes();
    stage.leave(&address, false).await?;
    let error = refusal(stage.provisioner.node(&question(), &address).await)?;
    ensure!(error == Error::NodeNotFound, "it was {error:?}");
    Ok(())
}

pub(super) async fn units(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.backend.spread().await?;
    let mut all = BTreeSet::new();
    for address in stage.backend.nodes() {
        let units = stage.provisioner.node_units(&question(), &address).await?;
        let count = stage.backend.on(&address).await?;
        ensure!(units.len() == count && count > 0, "{address}: {} of {count}", units.len());
        all.extend(units.into_iter().map(|unit| unit.id));
    }
    ensure!(all == stage.ids("").await?, "they are {all:?}");
    Ok(())
}

async fn node_of(stage: &Stage, unit: &str, addresses: &[&str]) -> Result<String> {
    let data = NodeStatusData {
        addresses: addresses.iter().map(|&address| address.to_owned()).collect(),
        units: vec![UnitStatusData { id: unit.to_owned(), ..UnitStatusData::default() }],
        ..NodeStatusData::default()
    };
    Ok(stage.provisioner.node_for_node_data(&question(), &data).await?.address)
}

pub(super) async fn known_by_address(stage: Stage) -> Result<()> {
    let known = stage.backend.nodes();
    // Two addresses of one machine are that machine.
    let found = node_of(&stage, "x", &["10.0.0.2", "127.0.0.1", known[1].as_str()]).await?;
    ensure!(found == known[1], "it is {found}");
    let several = node_of(&stage, "x", &["10.0.0.1", "10.0.0.2"]).await;
    ensure!(several.is_err(), "two machines are {several:?}");
    let nobody =
        NodeStatusData { addresses: vec!["10.9.9.9".to_owned()], ..NodeStatusData::default() };
    let error = refusal(stage.provisioner.node_for_node_data(&question(), &nobody).await)?;
    ensure!(error == Error::NodeNotFound, "it was {error:?}");
    Ok(())
}

pub(super) async fn known_by_unit(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let unit = stage.unit("web").await?;
    let found = node_of(&stage, &unit.id, &["127.0.0.1"]).await?;
    ensure!(found.contains(&unit.ip), "it is {found}");
    Ok(())
}

pub(super) async fn unknown_by_unit(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let unit = stage.unit("web").await?;
    let error = node_of(&stage, &unit.id, &["127.0.0.1"]).await.err().context("it is found")?;
    ensure!(error.to_string() == Error::NodeNotFound.to_string(), "it was {error}");
    Ok(())
}

pub(super) async fn health(mut stage: Stage) -> Result<()> {
    let [address, _] = stage.backend.nodes();
    let failures = stage.provisioner.node_failures(&question(), &address).await?;
    ensure!(failures == 0, "it failed {failures} times");
    stage.provisioner.examine(&question()).await?;
    ensure!(stage.provisioner.node_has_success(&question(), &address).await?, "it did not answer");
    let operation = stage.operation();
    stage.provisioner.reset_node_failures(&operation, &address).await?;
    let error = refusal(stage.provisioner.node_failures(&question(), "10.9.9.9").await)?;
    ensure!(error == Error::NodeNotFound, "it was {error:?}");
    Ok(())
}

pub(super) async fn rebalanced(mut stage: Stage) -> Result<()> {
    let operation = stage.operation();
    let all = RebalanceOptions::default();
    ensure!(!stage.provisioner.rebalance(&operation, &all).await?, "there is nothing to move");
    let [_, second] = stage.backend.nodes();
    stage.update(UpdateNodeOptions { disable: true, ..to(&second) }).await?;
    stage.serving(3).await?;
    stage.update(UpdateNodeOptions { enable: true, ..to(&second) }).await?;
    let dry = RebalanceOptions { dry: true, ..RebalanceOptions::default() };
    for (options, counts) in [(&dry, [6, 0]), (&all, [3, 3])] {
        let operation = stage.operation();
        ensure!(stage.provisioner.rebalance(&operation, options).await?, "nothing would move");
        let are = stage.counts().await?;
        ensure!(are == counts, "there are {are:?} units on the machines");
    }
    let operation = stage.operation();
    ensure!(!stage.provisioner.rebalance(&operation, &all).await?, "it was even enough");
    stage.has(&[("web", 3), ("worker", 3)]).await
}

/// A node container everywhere.
pub(super) fn with_agent() -> Value {
    json!({"node-containers": {AGENT: {"": {"image": AGENT}}}})
}

pub(super) async fn agents(mut stage: Stage) -> Result<()> {
    let everywhere: BTreeSet<String> = stage.backend.nodes().into();
    for _ in 0..2 {
        let operation = stage.operation();
        stage.provisioner.upgrade_node_container(&operation, AGENT, "").await?;
        let on = stage.backend.agents().await?;
        ensure!(on == everywhere, "it is on {on:?}");
    }
    ensure!(stage.units().await?.is_empty(), "it is a unit");
    for _ in 0..2 {
        let operation = stage.operation();
        stage.provisioner.remove_node_container(&operation, AGENT, "").await?;
        let left = stage.left().await?;
        ensure!(left.is_empty(), "{left:?} are left");
    }
    let operation = stage.operation();
    let result = stage.provisioner.upgrade_node_container(&operation, "nobody", "").await;
    let error = refusal(result)?;
    let text = "no node container `nobody` in the configuration";
    ensure!(error == Error::NotFound(text.to_owned()), "it was {error:?}");
    Ok(())
}

pub(super) async fn agents_first(mut stage: Stage) -> Result<()> {
    ensure!(stage.backend.agents().await?.is_empty(), "it is there without being asked for");
    stage.serving(1).await?;
    let everywhere: BTreeSet<String> = stage.backend.nodes().into();
    let on = stage.backend.agents().await?;
    ensure!(on == everywhere, "it is on {on:?}");
    stage.destroy().await?;
    ensure!(stage.backend.agents().await? == everywhere, "it went with the app");
    Ok(())
}

pub(super) async fn volume(mut stage: Stage) -> Result<()> {
    // Deleting what is gone succeeds.
    let operation = stage.operation();
    stage.provisioner.delete_volume(&operation, "data", POOL).await?;
    let volume = Volume {
        name: "data".to_owned(),
        pool: POOL.to_owned(),
        plan: "shared".to_owned(),
        plan_options: metadata(&[
            ("plugin", "nfs"),
            ("capacity", "1Gi"),
            ("access-modes", "ReadWriteMany"),
        ]),
        options: metadata(&[("server", "10.0.0.9"), ("path", "/d")]),
        binds: vec![VolumeBind { mount_point: "/data".to_owned(), read_only: false }],
    };
    stage.platform = stage.platform.clone().volume("shop", volume);
    stage.serving(1).await?;
    let kept = stage.backend.volumes().await?;
    ensure!(!kept.is_empty(), "nothing keeps the data");
    stage.deploy("shop:2").await?;
    stage.destroy().await?;
    let still = stage.backend.volumes().await?;
    ensure!(still == kept, "{still:?} outlive the app and not {kept:?}");
    let operation = stage.operation();
    stage.provisioner.delete_volume(&operation, "data", POOL).await?;
    let left = stage.backend.volumes().await?;
    ensure!(left.is_empty(), "{left:?} are left");
    Ok(())
}

/// What is ill for a second is found.
pub(super) fn healing() -> Value {
    json!({"docker": {"healing": {"heal-containers-timeout": 1}}})
}

pub(super) async fn healed(mut stage: Stage) -> Result<()> {
    ensure!(stage.provisioner.examine(&question()).await?.units.is_empty(), "nothing is there");
    stage.serving(2).await?;
    let lost = stage.unit("web").await?.id;
    stage.backend.lose(&lost).await?;
    let found = async {
        loop {
            // Ill from the first look on, and long enough after a second.
            let findings = stage.provisioner.examine(&question()).await?;
            if let Some(sick) = findings.units.into_iter().next() {
                return anyhow::Ok(sick);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let sick = tokio::time::timeout(Duration::from_secs(60), found).await??;
    ensure!(sick.id == lost && sick.app_name == "shop", "{sick:?}");
    let operation = stage.operation();
    let new = stage.provisioner.heal_unit(&operation, &stage.app, &sick.id).await?;
    let new = new.context("it is replaced")?;
    stage.has(&[("web", 2), ("worker", 2)]).await?;
    ensure!(stage.ids("web").await?.contains(&new), "{new} is no unit");
    let operation = stage.operation();
    let again = stage.provisioner.heal_unit(&operation, &stage.app, &sick.id).await?;
    ensure!(again.is_none(), "it is replaced twice");
    Ok(())
}

/// Loses a unit, and waits for what the backend does about it by itself.
async fn lost(stage: &mut Stage) -> Result<()> {
    stage.serving(2).await?;
    let id = stage.unit("web").await?.id;
    stage.backend.lose(&id).await?;
    stage.backend.idle().await?;
    ensure!(!stage.ids("").await?.contains(&id), "it is still told");
    Ok(())
}

pub(super) async fn comes_back(mut stage: Stage) -> Result<()> {
    lost(&mut stage).await?;
    stage.has(&[("web", 2), ("worker", 2)]).await
}

pub(super) async fn stays_away(mut stage: Stage) -> Result<()> {
    lost(&mut stage).await?;
    stage.has(&[("web", 1), ("worker", 2)]).await?;
    // The next version has as many as there were.
    stage.deploy("shop:2").await?;
    stage.has(&[("web", 2), ("worker", 2)]).await
}

pub(super) async fn made_again(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let id = stage.unit("web").await?.id;
    stage.backend.lose(&id).await?;
    stage.backend.idle().await?;
    stage.add(1, "web").await?;
    stage.backend.idle().await?;
    ensure!(!stage.ids("").await?.contains(&id), "it is still told");
    stage.runs("shop:1").await?;
    stage.destroy().await?;
    let left = stage.left().await?;
    ensure!(left.is_empty(), "{left:?} are left");
    Ok(())
}

//! Several hosts, each an engine in memory: how units are spread, what operators do with hosts, what becomes of units that die and of hosts that do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use gantry_core::healing::{Findings, NotedNode, SickUnit};
use gantry_core::node::{
    AddNodeOptions, NodeStatusData, RebalanceOptions, RemoveNodeOptions, UnitStatusData,
    UpdateNodeOptions,
};
use gantry_core::record::UnitRecord;
use gantry_core::{App, Error, Status, Unit};
use gantry_engine::{Apps as _, Containers as _, State};
use gantry_runtime::{CallError, Cause, TailOptions};
use serde_json::json;

use super::stage::*;

pub(super) const A: &str = "tcp://10.0.0.1:2375";
pub(super) const B: &str = "tcp://10.0.0.2:2375";
pub(super) const C: &str = "tcp://10.0.0.3:2375";

impl Stage {
    pub(super) async fn three(config: serde_json::Value) -> Result<Self> {
        Self::over(&[A, B, C], config, |engine| engine).await
    }

    /// How many units are on each host.
    async fn spread(&self) -> Result<BTreeMap<String, usize>> {
        let mut spread = BTreeMap::new();
        for unit in self.units().await? {
            *spread.entry(unit.ip).or_default() += 1;
        }
        Ok(spread)
    }

    async fn counts(&self) -> Result<Vec<usize>> {
        let mut counts: Vec<usize> = self.spread().await?.into_values().collect();
        counts.sort_unstable();
        Ok(counts)
    }

    pub(super) async fn examine(&self) -> Result<Findings> {
        Ok(self.provisioner.examine(&question()).await?)
    }

    /// The unit that is found ill, when it has been for long enough.
    pub(super) async fn found_ill(&self) -> Result<SickUnit> {
        loop {
            if let [sick] = self.examine().await?.units.as_slice() {
                return Ok(sick.clone());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A host that is down is looked at until it is dead, and given up.
    async fn dies(&mut self, address: &str) -> Result<()> {
        let mut dead = self.examine().await?.dead;
        if dead.is_empty() {
            dead = self.examine().await?.dead;
        }
        ensure!(dead.iter().any(|node| node.address == address), "it is not dead: {dead:?}");
        let (operation, _) = self.operation();
        ensure!(self.provisioner.give_up_node(&operation, address).await?, "it is not given up");
        Ok(())
    }

    pub(super) async fn heal(&mut self, id: &str) -> Result<Option<String>> {
        let (operation, _) = self.operation();
        Ok(self.provisioner.heal_unit(&operation, &self.app, id).await?)
    }

    async fn leave(&mut self, address: &str, rebalance: bool) -> Result<(), CallError> {
        let options = RemoveNodeOptions { address: address.to_owned(), rebalance };
        let (operation, _) = self.operation();
        self.provisioner.remove_node(&operation, &options).await
    }

    /// Adds a host to the pool, and waits so many seconds for it.
    pub(super) async fn add_host(&mut self, address: &str, wait: u32) -> Result<(), CallError> {
        let options = AddNodeOptions {
            address: address.to_owned(),
            pool: "p".to_owned(),
            register: true,
            wait,
            ..AddNodeOptions::default()
        };
        let (operation, _) = self.operation();
        self.provisioner.add_node(&operation, &options).await
    }

    /// As if the only unit had been found ill so many minutes before.
    async fn ill_for_longer(&self, minutes: i64) -> Result<()> {
        let keys = self.keys("units/").await?;
        let [key] = keys.as_slice() else { anyhow::bail!("one unit: {keys:?}") };
        let entry = State::get(&self.platform, "docker", key).await?.context("a record")?;
        let mut record: UnitRecord = serde_json::from_slice(&entry.value)?;
        ensure!(record.ill_since > 0, "nobody found it ill");
        record.ill_since -= minutes * 60_000;
        let value = serde_json::to_vec(&record)?;
        State::put_if(&self.platform, "docker", key, &value, Some(entry.version)).await?;
        Ok(())
    }

    /// Makes the units on a host those of an app that nobody knows.
    async fn nobodys(&self, address: &str) -> Result<App> {
        for key in self.keys("units/").await? {
            let entry = State::get(&self.platform, "docker", &key).await?.context("a record")?;
            let mut record: UnitRecord = serde_json::from_slice(&entry.value)?;
            if record.node == address {
                State::delete_if(&self.platform, "docker", &key, entry.version).await?;
                record.app_name = "nobodys".to_owned();
                self.write(&format!("units/nobodys/{}", record.name), &json!(record)).await?;
            }
        }
        Ok(App { name: "nobodys".to_owned(), ..self.app.clone() })
    }

    pub(super) async fn write(&self, key: &str, document: &serde_json::Value) -> Result<()> {
        let value = serde_json::to_vec(document)?;
        State::put_if(&self.platform, "docker", key, &value, None).await?;
        Ok(())
    }

    pub(super) fn on(&self, address: &str) -> Result<&gantry_engine::Memory> {
        let engine = self.engines.iter().find(|(known, _)| known == address);
        Ok(&engine.context("a host")?.1)
    }

    /// How many containers run on all hosts.
    async fn running(&self) -> Result<usize> {
        let mut running = 0;
        for (_, engine) in &self.engines {
            running += engine.list(false, &BTreeMap::new()).await?.len();
        }
        Ok(running)
    }

    /// Removes the container of a unit behind the plugin's back, and gives its id.
    async fn lose_one(&self) -> Result<String> {
        let gone = self.units().await?.remove(0);
        self.on(&format!("tcp://{}:2375", gone.ip))?.remove(&gone.id, true).await?;
        Ok(gone.id)
    }

    pub(super) async fn containers_on(&self, address: &str) -> Result<usize> {
        Ok(self.on(address)?.list(true, &BTreeMap::new()).await?.len())
    }
}

fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_are_spread_and_the_fullest_host_loses_first() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    stage.add(8).await?;
    assert_eq!(stage.counts().await?, [3, 3, 3]);
    let (operation, _) = stage.operation();
    stage.provisioner.remove_units(&operation, &stage.app, 4, "web").await?;
    assert_eq!(stage.counts().await?, [1, 2, 2]);
    stage.deploy("shop:2").await?;
    assert_eq!(stage.counts().await?, [1, 2, 2], "a version has as many as the one before");
    let addresses = stage.addresses().await?;
    assert_eq!(addresses.len(), 5);
    let (operation, _) = stage.operation();
    stage.provisioner.destroy(&operation, &stage.app).await?;
    for address in [A, B, C] {
        assert_eq!(stage.containers_on(address).await?, 0, "{address}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_operators_say_of_a_host_is_kept_and_decides_where_units_go() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    let (nodes, problems) = stage.provisioner.nodes(&question(), None).await?;
    let addresses: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
    assert_eq!((addresses, problems.len()), (vec![A, B, C], 0));
    let some = ["x".to_owned(), B.to_owned()];
    let (nodes, _) = stage.provisioner.nodes(&question(), Some(&some)).await?;
    assert_eq!(nodes.len(), 1);
    let error = told(stage.provisioner.node(&question(), "x").await)?;
    assert_eq!(error, Error::NodeNotFound);

    // Added again it is changed.
    let options = AddNodeOptions {
        address: B.to_owned(),
        pool: "p".to_owned(),
        iaas_id: "i-1".to_owned(),
        metadata: metadata(&[("iaas", "ec2"), ("rack", "7"), ("old", "1")]),
        register: true,
        wait: 5,
        ..AddNodeOptions::default()
    };
    let (operation, _) = stage.operation();
    stage.provisioner.add_node(&operation, &options).await?;
    let update = UpdateNodeOptions { metadata: metadata(&[("rack", "8"), ("old", "")]), ..to(B) };
    stage.update(update).await?;
    let node = stage.node(B).await?;
    assert_eq!((node.pool.as_str(), node.iaas_id.as_str()), ("p", "i-1"));
    assert_eq!(node.status, "ready");
    let kept = [("iaas", "ec2"), ("iaas-id", "i-1"), ("pool", "p"), ("rack", "8")];
    assert_eq!(node.metadata, metadata(&kept));
    ensure!(node.extra_data.contains_key("LastSuccess"), "{:?}", node.extra_data);

    // The pool has a host of its own now, and uses no other.
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    assert_eq!(stage.spread().await?, BTreeMap::from([("10.0.0.2".to_owned(), 3)]));
    let units = stage.provisioner.node_units(&question(), B).await?;
    assert_eq!(units.len(), 3);

    // Disabled, nothing new goes there; what is there stays, and it cannot just be removed.
    stage.update(UpdateNodeOptions { disable: true, ..to(B) }).await?;
    assert_eq!(stage.node(B).await?.status, "disabled");
    let error = told(stage.add(1).await)?.to_string();
    assert_eq!(
        error,
        "error in scheduler: No nodes found with one of the following metadata: pool=p"
    );
    assert_eq!(stage.counts().await?, [3]);
    let remove = RemoveNodeOptions { address: B.to_owned(), rebalance: false };
    let (operation, _) = stage.operation();
    let error = told(stage.provisioner.remove_node(&operation, &remove).await)?;
    let why = "remove it with rebalance, so that they are moved away first";
    assert_eq!(error, Error::Conflict(format!("node {B} answers and has 3 units: {why}")));

    // With another host in the pool they are.
    stage.update(UpdateNodeOptions { pool: "p".to_owned(), ..to(C) }).await?;
    let remove = RemoveNodeOptions { rebalance: true, ..remove };
    let (operation, screen) = stage.operation();
    stage.provisioner.remove_node(&operation, &remove).await?;
    assert_eq!(stage.spread().await?, BTreeMap::from([("10.0.0.3".to_owned(), 3)]));
    assert_eq!(stage.containers_on(B).await?, 0);
    ensure!(screen.text().contains("Moving unit "), "{}", screen.text());
    ensure!(screen.text().contains(" for \"shop\" from 10.0.0.2 -> 10.0.0.3"), "{}", screen.text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_host_takes_nothing_more() -> Result<()> {
    let scheduler = json!({"total-memory-metadata": "memory", "max-used-memory": 0.5});
    let mut stage = Stage::three(json!({"docker": {"scheduler": scheduler}})).await?;
    stage.app.memory = 100;
    stage.platform.put_app(stage.app.clone());
    for (address, memory) in [(A, "200"), (B, "600"), (C, "200")] {
        let metadata = metadata(&[("memory", memory)]);
        stage.update(UpdateNodeOptions { pool: "p".to_owned(), metadata, ..to(address) }).await?;
    }
    stage.deploy("shop:1").await?;
    stage.add(4).await?;
    assert_eq!(stage.spread().await?["10.0.0.2"], 3);
    assert_eq!(stage.counts().await?, [1, 1, 3]);
    let error = told(stage.add(1).await)?.to_string();
    let why = "no nodes found with enough memory for container of \"shop\": 0.0001MB";
    assert_eq!(error, format!("error in scheduler: {why}"));
    assert_eq!(stage.counts().await?, [1, 1, 3], "and nothing was started");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_are_spread_anew_once_it_is_worth_it() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    for address in [B, C] {
        stage.update(UpdateNodeOptions { disable: true, ..to(address) }).await?;
    }
    stage.deploy("shop:1").await?;
    stage.add(5).await?;
    assert_eq!(stage.counts().await?, [6]);
    for address in [B, C] {
        stage.update(UpdateNodeOptions { enable: true, ..to(address) }).await?;
    }
    let before = stage.ids().await?;
    let dry = RebalanceOptions { dry: true, ..RebalanceOptions::default() };
    let (operation, screen) = stage.operation();
    ensure!(stage.provisioner.rebalance(&operation, &dry).await?, "they would move");
    ensure!(screen.text().contains("Would move unit "), "{}", screen.text());
    assert_eq!(stage.ids().await?, before);

    let (operation, screen) = stage.operation();
    ensure!(stage.provisioner.rebalance(&operation, &RebalanceOptions::default()).await?);
    assert_eq!(stage.counts().await?, [2, 2, 2]);
    let text = screen.text();
    ensure!(
        text.starts_with(
            "Rebalancing as gap is 6, after rebalance gap will be 0\nRebalancing 6 units...\n"
        ),
        "{text}"
    );
    let (operation, _) = stage.operation();
    ensure!(!stage.provisioner.rebalance(&operation, &RebalanceOptions::default()).await?);

    // A move that fails leaves the old unit serving.
    let before = stage.ids().await?;
    stage.played.status.store(500, Ordering::Release);
    let forced = RebalanceOptions { force: true, ..RebalanceOptions::default() };
    let (operation, _) = stage.operation();
    let error = told(stage.provisioner.rebalance(&operation, &forced).await)?.to_string();
    ensure!(error.starts_with("Error moving unit "), "{error}");
    assert_eq!(stage.ids().await?, before);
    // Without a unit there is nothing to move.
    let (operation, _) = stage.operation();
    stage.provisioner.destroy(&operation, &stage.app).await?;
    let (operation, _) = stage.operation();
    ensure!(!stage.provisioner.rebalance(&operation, &forced).await?, "nothing moved");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_units_that_move_stay_stopped() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    let (operation, _) = stage.operation();
    stage.provisioner.stop(&operation, &stage.app, "").await?;
    let forced = RebalanceOptions { force: true, ..RebalanceOptions::default() };
    // Engines in memory may give the same ids; names differ.
    let names = |units: Vec<Unit>| units.into_iter().map(|unit| unit.name).collect::<Vec<_>>();
    let before = names(stage.units().await?);
    let (operation, _) = stage.operation();
    ensure!(stage.provisioner.rebalance(&operation, &forced).await?);
    let after = names(stage.units().await?);
    ensure!(after.iter().all(|name| !before.contains(name)), "they are other units");
    assert_eq!(stage.statuses().await?, [Some(Status::Stopped); 3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_that_move_rest_or_run_as_they_do_when_their_turn_comes() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    let forced = RebalanceOptions { force: true, ..RebalanceOptions::default() };
    for runs in [false, true] {
        // Somebody else changes the app, and the move has to wait.
        let turn = stage.platform.lock("shop", "change", Duration::ZERO).await?;
        let (operation, screen) = stage.operation();
        let (other, _) = stage.operation();
        let change = async {
            screen.until("Rebalancing 3 units...").await;
            let changed = match runs {
                true => stage.provisioner.start(&other, &stage.app, "").await,
                false => stage.provisioner.stop(&other, &stage.app, "").await,
            };
            drop(turn);
            changed
        };
        let (moved, changed) =
            tokio::join!(stage.provisioner.rebalance(&operation, &forced), change);
        changed?;
        ensure!(moved?, "{}", screen.text());
        let expected = if runs { Status::Starting } else { Status::Stopped };
        assert_eq!(stage.statuses().await?, [Some(expected); 3], "{}", screen.text());
        assert_eq!(stage.running().await?, if runs { 3 } else { 0 });
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_cancelled_is_undone_also_after_another_app_has_moved() -> Result<()> {
    for waits_for_its_turn in [true, false] {
        cancelled_after_another(waits_for_its_turn).await?;
    }
    Ok(())
}

async fn cancelled_after_another(waits_for_its_turn: bool) -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    let zoo = App { name: "zoo".to_owned(), ..stage.app.clone() };
    stage.platform.put_app(zoo.clone());
    let (operation, _) = stage.operation();
    stage.provisioner.deploy(&operation, &zoo, "shop:1").await?;
    let units = stage.provisioner.units(&question(), std::slice::from_ref(&zoo)).await?;

    let turn = stage.platform.lock("zoo", "change", Duration::ZERO).await?;
    let forced = RebalanceOptions { force: true, ..RebalanceOptions::default() };
    let (operation, screen) = stage.operation();
    let cancel = async {
        screen.until("Moved unit ").await;
        stage.played.status.store(0, Ordering::Release);
        if waits_for_its_turn {
            operation.cancel.cancel();
            return Some(turn);
        }
        drop(turn);
        screen.until("Trying again in 3s").await;
        operation.cancel.cancel();
        None
    };
    let (moved, _turn) = tokio::join!(stage.provisioner.rebalance(&operation, &forced), cancel);
    let error = moved.unwrap_err();
    ensure!(matches!(error.cause, Cause::Plugin(Error::Cancelled)), "{error:?}: {}", screen.text());
    let after = stage.provisioner.units(&question(), std::slice::from_ref(&zoo)).await?;
    assert_eq!(after, units);
    assert_eq!((stage.running().await?, stage.keys("units/").await?.len()), (2, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_dies_is_found_ill_and_replaced_once() -> Result<()> {
    let healing = json!({"docker": {"healing": {"heal-containers-timeout": 1}}});
    let mut stage = Stage::three(healing).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    assert_eq!(stage.examine().await?, Findings::default());
    let units = stage.units().await?;
    let [dying, ..] = units.as_slice() else { anyhow::bail!("three units") };
    let host = format!("tcp://{}:2375", dying.ip);
    stage.on(&host)?.remove(&dying.id, true).await?;
    // Ill from the first look on, and long enough after a second.
    let sick = stage.found_ill().await?;
    let expected = SickUnit {
        app_name: "shop".to_owned(),
        id: dying.id.clone(),
        reason: "its container is gone".to_owned(),
        node_given_up: false,
    };
    assert_eq!(sick, expected);
    let new = stage.heal(&sick.id).await?.context("it is replaced")?;
    let ids = stage.ids().await?;
    assert_eq!((ids.len(), ids.contains(&new), ids.contains(&dying.id)), (3, true, false));
    assert_eq!(stage.heal(&sick.id).await?, None, "once");
    assert_eq!(stage.examine().await?, Findings::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_is_replaced_when_it_was_ill_for_as_long_as_is_said_and_no_sooner() -> Result<()> {
    let healing = json!({"docker": {"healing": {"heal-containers-timeout": 3600}}});
    let mut stage = Stage::over(&[A], healing, |engine| engine).await?;
    stage.deploy("shop:1").await?;
    let id = stage.ids().await?.remove(0);
    // A look takes seconds at most, and a minute is left.
    for is_well_again in [true, false] {
        stage.on(A)?.stop(&id, 0).await?;
        assert_eq!(stage.examine().await?, Findings::default(), "its time begins");
        stage.ill_for_longer(59).await?;
        assert_eq!(stage.examine().await?, Findings::default(), "it is not over");
        if is_well_again {
            stage.on(A)?.start(&id).await?;
            assert_eq!(stage.examine().await?, Findings::default());
        }
    }
    stage.ill_for_longer(1).await?;
    let Findings { units, .. } = stage.examine().await?;
    let expected = SickUnit {
        app_name: "shop".to_owned(),
        id: id.clone(),
        reason: "its container is exited and should run".to_owned(),
        node_given_up: false,
    };
    assert_eq!(units, [expected]);
    stage.heal(&id).await?.context("it is replaced")?;
    assert_eq!(stage.examine().await?, Findings::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_failed_and_runs_all_the_same_is_as_it_should_be_with_the_next_look()
-> Result<()> {
    let mut stage = Stage::over(&[A], json!({}), |engine| engine).await?;
    stage.deploy("shop:1").await?;
    let unit = stage.units().await?.remove(0);
    for (said, status) in [(Status::Started, Status::Started), (Status::Stopped, Status::Error)] {
        stage.provisioner.set_unit_status(&question(), &unit, said).await?;
        assert_eq!(stage.statuses().await?, [Some(status)]);
    }
    assert_eq!(stage.examine().await?, Findings::default());
    assert_eq!(stage.statuses().await?, [Some(Status::Started)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_somebody_removed_counts_for_what_replaces_all_of_them() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    for image in [Some("shop:1"), None] {
        let units = stage.units().await?;
        assert_eq!(units.len(), 3);
        for gone in if image.is_some() { &units[..1] } else { &units[..] } {
            let host = format!("tcp://{}:2375", gone.ip);
            stage.on(&host)?.remove(&gone.id, true).await?;
        }
        if let Some(image) = image {
            stage.deploy(image).await?;
        } else {
            let (operation, _) = stage.operation();
            stage.provisioner.restart(&operation, &stage.app, "").await?;
        }
    }
    let ids = stage.ids().await?;
    assert_eq!((ids.len(), stage.counts().await?.iter().sum::<usize>()), (3, 3));
    assert_eq!(stage.examine().await?, Findings::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_somebody_removed_is_not_forgotten_by_what_does_not_replace_it() -> Result<()> {
    let healing = json!({"docker": {"healing": {"heal-containers-timeout": 1}}});
    let mut stage = Stage::three(healing).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    let gone = stage.units().await?.remove(0);
    stage.on(&format!("tcp://{}:2375", gone.ip))?.remove(&gone.id, true).await?;
    // A deploy that fails, and changes of the others.
    stage.played.status.store(500, Ordering::Release);
    ensure!(stage.deploy("shop:2").await.is_err());
    stage.played.status.store(200, Ordering::Release);
    let (operation, _) = stage.operation();
    stage.provisioner.stop(&operation, &stage.app, "").await?;
    let (operation, _) = stage.operation();
    stage.provisioner.start(&operation, &stage.app, "").await?;
    let (operation, _) = stage.operation();
    let error = stage.provisioner.remove_units(&operation, &stage.app, 3, "web").await;
    assert!(error.unwrap_err().to_string().ends_with("only 2 available"));
    assert_eq!(stage.found_ill().await?.id, gone.id);
    stage.deploy("shop:2").await?;
    assert_eq!(stage.ids().await?.len(), 3);
    assert_eq!((stage.keys("units/").await?.len(), stage.keys("leaving/").await?.len()), (3, 0));

    // People want so many more, or fewer, than they see.
    for count in [1, -1_i32] {
        let gone = stage.units().await?.remove(0);
        stage.on(&format!("tcp://{}:2375", gone.ip))?.remove(&gone.id, true).await?;
        let (operation, _) = stage.operation();
        match count {
            1 => stage.provisioner.add_units(&operation, &stage.app, 1, "web").await?,
            _ => stage.provisioner.remove_units(&operation, &stage.app, 1, "web").await?,
        }
    }
    assert_eq!((stage.ids().await?.len(), stage.keys("units/").await?.len()), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_somebody_removed_rests_and_runs_with_the_others() -> Result<()> {
    let healing = json!({"docker": {"healing": {"heal-containers-timeout": 1}}});
    let mut stage = Stage::three(healing).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    for rest in [Status::Stopped, Status::Asleep] {
        let mut gone = stage.lose_one().await?;
        let (operation, _) = stage.operation();
        if rest == Status::Stopped {
            stage.provisioner.stop(&operation, &stage.app, "").await?;
            assert_eq!(stage.found_ill().await?.id, gone);
            stage.heal(&gone).await?.context("it is replaced")?;
            assert_eq!(stage.statuses().await?, [Some(rest); 3]);
            // Another one, which is to run when it is replaced.
            gone = stage.lose_one().await?;
        } else {
            stage.provisioner.sleep(&operation, &stage.app, "").await?;
            assert_eq!(stage.examine().await?, Findings::default(), "what sleeps is let be");
        }
        assert_eq!((stage.ids().await?.len(), stage.running().await?), (2, 0));
        let (operation, _) = stage.operation();
        stage.provisioner.start(&operation, &stage.app, "").await?;
        assert_eq!(stage.found_ill().await?.id, gone);
        stage.heal(&gone).await?.context("it is replaced")?;
        assert_eq!((stage.ids().await?.len(), stage.running().await?), (3, 3));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_somebody_removed_is_not_forgotten_with_those_of_another_process() -> Result<()>
{
    let procfile: &[u8] = b"web: serve\nworker: work\n";
    let files = || [("/app/user/Procfile", procfile), ("/bin/bash", b"bash".as_slice())];
    let pair = |engine: gantry_engine::Memory| {
        engine.with_image("pair:1", image(json!({"Cmd": ["serve"]})), files())
    };
    let mut stage = Stage::over(&[A], json!({}), pair).await?;
    stage.deploy("pair:1").await?;
    let units = stage.units().await?;
    let web = units.iter().find(|unit| unit.process_name == "web").context("a web unit")?;
    stage.on(A)?.remove(&web.id, true).await?;
    for (process, more, written) in
        [("worker", true, 3), ("worker", false, 2), ("web", true, 2), ("worker", true, 3)]
    {
        let (operation, _) = stage.operation();
        match more {
            true => stage.provisioner.add_units(&operation, &stage.app, 1, process).await?,
            false => stage.provisioner.remove_units(&operation, &stage.app, 1, process).await?,
        }
        let counted = (stage.keys("units/").await?.len(), stage.in_use().await?);
        assert_eq!(counted, (written, u32::try_from(written)?), "{process}, {more}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_on_a_host_that_is_not_given_any_more_is_not_taken_for_gone() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    stage.nodes.take("docker", B);
    let on_b = |units: Vec<Unit>| {
        let unit = units.into_iter().find(|unit| unit.ip == "10.0.0.2");
        unit.map(|unit| unit.status).context("the unit is known")
    };
    let before = on_b(stage.units().await?)?;
    for verb in ["stop", "start", "remove", "initialise", "destroy"] {
        let (operation, _) = stage.operation();
        let app = &stage.app;
        let done = match verb {
            "stop" => stage.provisioner.stop(&operation, app, "").await,
            "start" => stage.provisioner.start(&operation, app, "").await,
            "remove" => stage.provisioner.remove_units(&operation, app, 3, "web").await,
            "initialise" => stage.provisioner.initialise(&operation).await,
            _ => stage.provisioner.destroy(&operation, app).await,
        };
        assert_eq!(done.is_ok(), verb == "initialise", "{verb}: {done:?}");
        assert_eq!(on_b(stage.units().await?)?, before, "{verb}");
    }
    assert_eq!(stage.keys("units/").await?.len(), 1);
    // Nor is one whose place others have taken: it goes when the host is there again.
    stage.deploy("shop:2").await?;
    assert_eq!((stage.keys("orphans/").await?.len(), stage.containers_on(B).await?), (1, 1));
    let engine = Arc::new(stage.on(B)?.clone());
    stage.nodes.give("docker", B, engine);
    let (operation, _) = stage.operation();
    stage.provisioner.initialise(&operation).await?;
    assert_eq!((stage.keys("orphans/").await?.len(), stage.containers_on(B).await?), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_down_keeps_nobody_from_the_units_of_the_others() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    let first = stage.units().await?.remove(0);
    let down = [A, B, C].into_iter().find(|host| host.contains(&first.ip)).context("its host")?;
    stage.fault.is(Some(Kind::Down(down)));
    let options = TailOptions { lines: 1, ..TailOptions::default() };
    let sources = stage.provisioner.tail(&question(), &stage.app, &options).await?;
    assert_eq!(sources.len(), 2);
    let named = TailOptions { unit: first.id, ..options };
    ensure!(
        stage.provisioner.tail(&question(), &stage.app, &named).await.is_err(),
        "it is asked for"
    );
    let sink = || Box::pin(tokio::io::sink());
    let (operation, _) = stage.operation();
    let ran = stage.provisioner.execute_once(&operation, &stage.app, "0", &[], sink(), sink());
    assert_eq!(ran.await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_that_went_are_not_counted_when_another_one_stays() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    stage.platform.set_quota_in_use("shop", 3).await?;
    stage.fault.is(Some(Kind::Down(B)));
    let (operation, _) = stage.operation();
    let removed = stage.provisioner.remove_units(&operation, &stage.app, 3, "web").await;
    ensure!(removed.is_err(), "one cannot be removed");
    assert_eq!((stage.keys("units/").await?.len(), stage.in_use().await?), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_somebody_removed_leaves_a_host_as_the_others_do() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    let gone = stage.units().await?.remove(0);
    let host = format!("tcp://{}:2375", gone.ip);
    stage.on(&host)?.remove(&gone.id, true).await?;
    assert_eq!(stage.ids().await?.len(), 2);
    stage.leave(&host, true).await?;
    assert_eq!((stage.ids().await?.len(), stage.keys("units/").await?.len()), (3, 3));
    assert_eq!((stage.containers_on(&host).await?, stage.keys("orphans/").await?.len()), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_whose_deploy_died_after_it_was_in_service_is_healed_all_the_same() -> Result<()> {
    let healing = json!({"docker": {"healing": {"heal-containers-timeout": 1}}});
    for looked_at_by_a_change in [false, true] {
        let mut stage = Stage::over(&[A], healing.clone(), |engine| engine).await?;
        stage.deploy("shop:1").await?;
        let old = stage.ids().await?;
        stage.die_in_a_deploy(Kind::StuckWhenCurrent, "shop:2").await?;
        let mut new = stage.ids().await?;
        new.retain(|id| !old.contains(id));
        let [new] = new.as_slice() else { anyhow::bail!("one new unit: {new:?}") };
        if looked_at_by_a_change {
            let (operation, _) = stage.operation();
            stage.provisioner.start(&operation, &stage.app, "").await?;
            // Its change is over for the record, so its container may be gone.
            stage.on(A)?.remove(new, true).await?;
        } else {
            stage.on(A)?.stop(new, 0).await?;
        }
        assert_eq!(stage.found_ill().await?.id, *new);
        ensure!(stage.heal(new).await?.is_some());
        assert_eq!(stage.examine().await?, Findings::default());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_comes_back_empty_has_its_units_replaced() -> Result<()> {
    let healing = json!({"max-failures": 1, "max-unresponsive-time": 0, "disabled-time": 0,
        "heal-containers-timeout": 1});
    let mut stage = Stage::three(json!({"docker": {"healing": healing}})).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    assert_eq!(stage.examine().await?, Findings::default());
    stage.fault.is(Some(Kind::Down(A)));
    stage.examine().await?;
    let (operation, _) = stage.operation();
    ensure!(stage.provisioner.give_up_node(&operation, A).await?);
    stage.fault.is(None);
    let units = stage.units().await?;
    let lost = units.iter().find(|unit| A.contains(&unit.ip)).context("one was there")?;
    stage.on(A)?.remove(&lost.id, true).await?;
    let (operation, _) = stage.operation();
    ensure!(stage.provisioner.take_back_node(&operation, A).await?);
    assert_eq!(stage.found_ill().await?.id, lost.id);
    stage.heal(&lost.id).await?.context("it is replaced")?;
    assert_eq!(stage.counts().await?, [1, 1, 1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_dies_is_given_up_and_taken_back_with_nothing_left_on_it() -> Result<()> {
    let healing = json!({"max-failures": 2, "max-unresponsive-time": 0, "disabled-time": 0});
    let mut stage = Stage::three(json!({"docker": {"healing": healing}})).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    assert_eq!(stage.examine().await?, Findings::default());
    assert!(stage.provisioner.node_has_success(&question(), A).await?);
    stage.fault.is(Some(Kind::Down(A)));
    assert_eq!(stage.examine().await?, Findings::default(), "once is nothing");
    assert_eq!(stage.provisioner.node_failures(&question(), A).await?, 1);
    let Findings { dead, units, .. } = stage.examine().await?;
    let [NotedNode { address, reason }] = dead.as_slice() else { anyhow::bail!("{dead:?}") };
    assert_eq!((address.as_str(), units.len()), (A, 0));
    ensure!(reason.contains("2 failures in a row"), "{reason}");
    let (operation, _) = stage.operation();
    ensure!(stage.provisioner.give_up_node(&operation, A).await?);
    assert_eq!(stage.node(A).await?.status, "disabled");

    let Findings { units, .. } = stage.examine().await?;
    let [sick] = units.as_slice() else { anyhow::bail!("one unit was there: {units:?}") };
    ensure!(sick.node_given_up, "{sick:?}");
    let id = sick.id.clone();
    stage.heal(&id).await?.context("it is replaced")?;
    assert_eq!(stage.heal(&id).await?, None, "once");
    assert_eq!(stage.counts().await?, [1, 2]);
    assert_eq!(stage.examine().await?.units, []);
    let (operation, _) = stage.operation();
    ensure!(!stage.provisioner.take_back_node(&operation, A).await?, "it is still down");

    stage.fault.is(None);
    assert_eq!(stage.containers_on(A).await?, 1, "what was replaced is still there");
    let recovered = stage.examine().await?.recovered;
    assert_eq!(recovered.len(), 1);
    let (operation, _) = stage.operation();
    ensure!(stage.provisioner.take_back_node(&operation, A).await?);
    assert_eq!(stage.containers_on(A).await?, 0);
    assert_eq!(stage.node(A).await?.status, "ready");
    assert_eq!(stage.provisioner.node_failures(&question(), A).await?, 0);
    stage.add(3).await?;
    assert_eq!(stage.counts().await?, [2, 2, 2]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_answers_has_not_failed_whatever_is_left_on_it() -> Result<()> {
    let healing = json!({"max-failures": 2, "max-unresponsive-time": 0});
    let mut stage = Stage::three(json!({"docker": {"healing": healing}})).await?;
    stage.update(UpdateNodeOptions { pool: "p".to_owned(), ..to(A) }).await?;
    // One whose creation nobody saw end may come for minutes; or it is still to be made ready.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let left = UnitRecord {
        name: "late".to_owned(),
        node: A.to_owned(),
        last_status_update: i64::try_from(now)?,
        ..UnitRecord::default()
    };
    stage.write(&format!("orphans/{A}/late"), &json!(left)).await?;
    for creation in ["created", "created", "error", "error"] {
        let key = format!("nodes/{A}");
        let entry = State::get(&stage.platform, "docker", &key).await?.context("a record")?;
        let mut record: serde_json::Value = serde_json::from_slice(&entry.value)?;
        record["creation"] = creation.into();
        let value = serde_json::to_vec(&record)?;
        State::put_if(&stage.platform, "docker", &key, &value, Some(entry.version)).await?;
        stage.fault.is(Some(Kind::Down(A)));
        assert_eq!(stage.examine().await?.dead, [], "it failed once");
        ensure!(stage.node(A).await?.extra_data.contains_key("Failures"));
        stage.fault.is(None);
        let recovered = stage.examine().await?.recovered;
        ensure!(recovered.iter().any(|node| node.address == A), "{recovered:?}");
        ensure!(!stage.node(A).await?.extra_data.contains_key("Failures"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_added_while_it_is_down_takes_units_once_it_was_made_ready() -> Result<()> {
    let config = json!({"node-containers": {"agent": {"": {"image": "agent"}}}});
    for (was_a_node, wait, status) in
        [(false, 0, "pending"), (false, 1, "error"), (true, 0, "pending"), (true, 1, "error")]
    {
        let mut stage = Stage::over(&[A, B], config.clone(), |engine| {
            engine.with_remote_image("agent", image(json!({"Cmd": ["watch"]})), [])
        })
        .await?;
        stage.update(UpdateNodeOptions { pool: "p".to_owned(), ..to(A) }).await?;
        if was_a_node {
            stage.add_host(B, 10).await?;
            assert_eq!(stage.node(B).await?.status, "ready");
        }
        stage.fault.is(Some(Kind::Down(B)));
        let added = stage.add_host(B, wait).await;
        if wait == 0 {
            added?;
        } else {
            let late = format!("node {B} did not become ready in {wait} seconds: ");
            let Error::TimedOut(why) = told(added)? else { anyhow::bail!("it does not answer") };
            ensure!(why.starts_with(&late), "{why}");
        }
        assert_eq!(stage.node(B).await?.status, status);
        stage.deploy("shop:1").await?;
        stage.add(1).await?;
        let on_the_other = BTreeMap::from([("10.0.0.1".to_owned(), 2)]);
        assert_eq!(stage.spread().await?, on_the_other);
        assert_eq!(stage.examine().await?, Findings::default(), "it is still down");

        stage.fault.is(None);
        let reason = "it answers and is to be made ready".to_owned();
        let recovered = vec![NotedNode { address: B.to_owned(), reason }];
        assert_eq!(stage.examine().await?, Findings { recovered, ..Findings::default() });
        assert_eq!(stage.node(B).await?.status, status, "looking alone changes nothing");
        let (operation, _) = stage.operation();
        ensure!(stage.provisioner.take_back_node(&operation, B).await?);
        assert_eq!(stage.node(B).await?.status, "ready");
        let there = stage.on(B)?.list(true, &BTreeMap::new()).await?;
        let names: Vec<&str> = there.iter().map(|container| container.name.as_str()).collect();
        assert_eq!(names, ["agent"]);
        assert_eq!(stage.examine().await?, Findings::default());
        stage.add(2).await?;
        assert_eq!(stage.counts().await?, [2, 2]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_host_that_is_added_again_loses_its_units_all_the_same() -> Result<()> {
    let healing = json!({"max-failures": 2, "max-unresponsive-time": 0, "disabled-time": 0});
    for (is_given_up, wait) in [(false, 1), (true, 0), (true, 1)] {
        let mut stage = Stage::three(json!({"docker": {"healing": healing.clone()}})).await?;
        for address in [A, B] {
            stage.add_host(address, 10).await?;
        }
        stage.deploy("shop:1").await?;
        stage.add(3).await?;
        stage.fault.is(Some(Kind::Down(A)));
        if is_given_up {
            stage.dies(A).await?;
        }
        ensure!(stage.add_host(A, wait).await.is_ok() == (wait == 0), "it does not answer");
        stage.dies(A).await?;
        for sick in stage.examine().await?.units {
            stage.heal(&sick.id).await?.context("it is replaced")?;
        }
        assert_eq!(stage.spread().await?, BTreeMap::from([("10.0.0.2".to_owned(), 4)]));
        stage.fault.is(None);
        let (operation, _) = stage.operation();
        ensure!(stage.provisioner.take_back_node(&operation, A).await?);
        assert_eq!(stage.node(A).await?.status, "ready");
        assert_eq!(stage.containers_on(A).await?, 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_goes_past_a_host_that_is_down_and_what_it_had_goes_when_it_is_back() -> Result<()>
{
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    stage.fault.is(Some(Kind::Down(A)));
    stage.deploy("shop:2").await?;
    assert_eq!(stage.counts().await?, [1, 2]);
    stage.fault.is(None);
    assert_eq!(stage.containers_on(A).await?, 1);
    // The start of the platform looks at every host.
    let (operation, _) = stage.operation();
    stage.provisioner.initialise(&operation).await?;
    assert_eq!(stage.containers_on(A).await?, 0);
    assert_eq!(stage.units().await?.len(), 3, "what was left is no unit");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_host_of_a_pool_can_be_removed_when_it_is_dead_and_its_units_are_lost()
-> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.update(UpdateNodeOptions { pool: "p".to_owned(), ..to(B) }).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    let bound = |stage: &Stage| {
        Ok::<_, anyhow::Error>(stage.platform.record("shop").context("it")?.bound.len())
    };
    assert_eq!((stage.containers_on(B).await?, bound(&stage)?), (3, 3));
    for silence in [Kind::Down(B), Kind::NoList] {
        stage.fault.is(Some(silence));
        let error = told(stage.leave(B, true).await)?.to_string();
        ensure!(error.contains("No nodes found") || silence == Kind::NoList, "{error}");
        assert_eq!(stage.node(B).await?.status, "disabled", "it stays");
    }
    assert_eq!(stage.keys("units/").await?.len(), 3);
    stage.platform.set_quota_in_use("shop", 3).await?;
    stage.leave(B, false).await?;
    assert_eq!((stage.node(B).await?.pool, bound(&stage)?), (String::new(), 0));
    assert_eq!(stage.in_use().await?, 0);
    assert_eq!(stage.units().await?, []);

    // It lives after all, and is added again; the platform may have started meanwhile.
    let (operation, _) = stage.operation();
    stage.provisioner.initialise(&operation).await?;
    stage.fault.is(None);
    assert_eq!(stage.containers_on(B).await?, 3);
    stage.add_host(B, 0).await?;
    assert_eq!((stage.containers_on(B).await?, stage.units().await?), (0, Vec::new()));
    assert_eq!(stage.keys("orphans/").await?, Vec::<String>::new());
    stage.deploy("shop:2").await?;
    assert_eq!(stage.spread().await?, BTreeMap::from([("10.0.0.2".to_owned(), 1)]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_of_an_app_that_nobody_knows_keep_no_host() -> Result<()> {
    for (is_down, rebalance) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut stage = Stage::three(json!({})).await?;
        stage.deploy("shop:1").await?;
        stage.add(2).await?;
        stage.nobodys(A).await?;
        stage.fault.is(is_down.then_some(Kind::Down(A)));
        stage.leave(A, rebalance).await?;
        assert_eq!(stage.keys("units/nobodys/").await?, Vec::<String>::new());
        assert_eq!(stage.spread().await?.into_values().collect::<Vec<_>>(), [1, 1]);
        stage.fault.is(None);
        assert_eq!(stage.containers_on(A).await?, usize::from(is_down));
        stage.add_host(A, 0).await?;
        assert_eq!(stage.containers_on(A).await?, 0);
        assert_eq!(stage.keys("orphans/").await?, Vec::<String>::new());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_kept_of_an_app_that_nobody_knows_where_a_host_is_down() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    let nobodys = stage.nobodys(A).await?;
    stage.fault.is(Some(Kind::Down(A)));
    let (operation, _) = stage.operation();
    let error = told(stage.provisioner.destroy(&operation, &nobodys).await)?;
    ensure!(matches!(&error, Error::Unavailable(text) if text.contains(A)), "{error:?}");
    assert_eq!(stage.keys("units/nobodys/").await?, Vec::<String>::new());
    stage.fault.is(None);
    let recovered = stage.examine().await?.recovered;
    assert_eq!(recovered.len(), 1);
    let (operation, _) = stage.operation();
    ensure!(!stage.provisioner.take_back_node(&operation, A).await?, "it was never given up");
    assert_eq!(stage.containers_on(A).await?, 0);

    // An app that somebody knows keeps what may still run.
    stage.fault.is(Some(Kind::Down(B)));
    let (operation, _) = stage.operation();
    ensure!(stage.provisioner.destroy(&operation, &stage.app).await.is_err());
    assert_eq!(stage.spread().await?, BTreeMap::from([("10.0.0.2".to_owned(), 1)]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_whose_container_is_gone_keeps_no_host() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    let units = stage.units().await?;
    let gone = units.iter().find(|unit| A.contains(&unit.ip)).context("one is there")?;
    let error = told(stage.leave(A, false).await)?.to_string();
    ensure!(error.contains("has 1 unit: "), "{error}");
    assert_eq!(stage.node(A).await?.status, "ready", "a refusal changes nothing");
    stage.on(A)?.remove(&gone.id, true).await?;
    stage.leave(A, false).await?;
    assert_eq!((stage.keys("units/").await?.len(), stage.keys("orphans/").await?.len()), (2, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_long_ago_on_a_host_that_was_removed_is_forgotten() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let left = |host: &str, days: i64| UnitRecord {
        id: "1".to_owned(),
        name: format!("shop-{days}"),
        node: host.to_owned(),
        last_status_update: now - days * 24 * 60 * 60 * 1000,
        ..UnitRecord::default()
    };
    // One that is not given for now is not removed.
    let (removed, absent) = ("tcp://10.9.9.8:2375", "tcp://10.9.9.9:2375");
    for (host, days) in [(removed, 29), (removed, 30), (absent, 30)] {
        stage.write(&format!("orphans/{host}/shop-{days}"), &json!(left(host, days))).await?;
    }
    stage.write(&format!("nodes/{absent}"), &json!({"address": absent})).await?;
    let (operation, _) = stage.operation();
    stage.provisioner.initialise(&operation).await?;
    let stays = [format!("orphans/{removed}/shop-29"), format!("orphans/{absent}/shop-30")];
    assert_eq!(stage.keys("orphans/").await?, stays);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_known_by_their_units_and_tell_how_they_are() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    let units = stage.units().await?;
    let [unit] = units.as_slice() else { anyhow::bail!("one unit") };
    let data = |id: &str, addresses: &[&str]| NodeStatusData {
        addresses: addresses.iter().map(|&address| address.to_owned()).collect(),
        units: vec![UnitStatusData { id: id.to_owned(), ..UnitStatusData::default() }],
        ..NodeStatusData::default()
    };
    let found = |data: NodeStatusData| {
        let provisioner = stage.provisioner.clone();
        async move { provisioner.node_for_node_data(&question(), &data).await }
    };
    let home = format!("tcp://{}:2375", unit.ip);
    assert_eq!(found(data(&unit.id, &["10.0.0.3"])).await?.address, home);
    assert_eq!(found(data("x", &["10.0.0.3", "127.0.0.1"])).await?.address, C);
    assert_eq!(told(found(data("x", &["127.0.0.1"])).await)?, Error::NodeNotFound);
    ensure!(told(found(data("x", &["10.0.0.1", "10.0.0.2"])).await).is_ok());

    let set = |unit: Unit, status| {
        let provisioner = stage.provisioner.clone();
        async move { provisioner.set_unit_status(&question(), &unit, status).await }
    };
    let by_id = Unit { id: unit.id.clone(), ..Unit::default() };
    let by_name = Unit { id: "x".to_owned(), name: unit.name.clone(), ..Unit::default() };
    set(by_id.clone(), Status::Started).await?;
    assert_eq!(stage.statuses().await?, [Some(Status::Started)]);
    set(by_name, Status::Stopped).await?;
    assert_eq!(stage.statuses().await?, [Some(Status::Error)], "it should run");
    let errors = stage
        .provisioner
        .filter_apps_by_unit_status(&question(), std::slice::from_ref(&stage.app), &[Status::Error])
        .await?;
    assert_eq!(errors, ["shop"]);
    let others = stage
        .provisioner
        .filter_apps_by_unit_status(&question(), std::slice::from_ref(&stage.app), &[])
        .await?;
    assert!(others.is_empty());
    let of_another = Unit { app_name: "other".to_owned(), ..by_id.clone() };
    let error = told(set(of_another, Status::Started).await)?;
    assert_eq!(error, Error::InvalidArgument("wrong app name".to_owned()));
    let nobody = Unit { id: "x".to_owned(), ..Unit::default() };
    let error = told(set(nobody, Status::Started).await)?;
    assert_eq!(error, Error::UnitNotFound("x".to_owned()));
    let app = stage.provisioner.app_from_unit_id(&question(), &unit.id[..6]).await?;
    assert_eq!(app, "shop");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_sleep_until_they_are_started_and_are_killed_one_by_one() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    stage.add(1).await?;
    let ids = stage.ids().await?;
    let (operation, _) = stage.operation();
    stage.provisioner.kill_unit(&operation, &stage.app, &ids[0], true).await?;
    assert_eq!(stage.ids().await?, ids, "started anew where it was");
    let (operation, _) = stage.operation();
    stage.provisioner.sleep(&operation, &stage.app, "").await?;
    assert_eq!(stage.statuses().await?, [Some(Status::Asleep); 2]);
    assert!(stage.addresses().await?.is_empty(), "nobody is routed to what sleeps");
    let (operation, _) = stage.operation();
    let error = told(stage.provisioner.sleep(&operation, &stage.app, "").await)?.to_string();
    ensure!(error.ends_with(" is not starting or started"), "{error}");
    let (operation, _) = stage.operation();
    stage.provisioner.start(&operation, &stage.app, "").await?;
    assert_eq!(stage.statuses().await?, [Some(Status::Starting); 2]);
    let (operation, _) = stage.operation();
    stage.provisioner.stop(&operation, &stage.app, "").await?;
    let (operation, _) = stage.operation();
    let error = told(stage.provisioner.sleep(&operation, &stage.app, "").await)?.to_string();
    ensure!(error.ends_with(" is not starting or started"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_not_cleaned_without_the_right_to() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    let (operation, _) = stage.operation();
    // Not without the right to.
    let error = told(stage.provisioner.clean_image(&operation, "shop", "shop:2").await)?;
    ensure!(matches!(error, Error::Denied(_)), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_units_start_or_go_at_once_than_there_are_workers() -> Result<()> {
    for workers in [0, 2] {
        let config = json!({"docker": {"max-workers": workers}});
        let mut stage = Stage::over(&["tcp://10.0.0.1:2375"], config, |engine| engine).await?;
        stage.deploy("shop:1").await?;
        stage.add(5).await?;
        // Six new ones in place of six.
        stage.fault.most_at_once.store(0, Ordering::Release);
        stage.deploy("shop:2").await?;
        ensure!(stage.images().await? == ["shop:2"; 6], "{:?}", stage.images().await?);
        let seen = stage.fault.most_at_once.load(Ordering::Acquire);
        ensure!((seen > 2) == (workers == 0), "{seen} at once with {workers} workers");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_list_of_units_has_each_of_them_once() -> Result<()> {
    let stage = Stage::over(&[A], json!({}), |engine| engine).await?;
    let mut written = Vec::new();
    for (app, count) in [("shop", 620), ("shop-2", 3), ("other", 510)] {
        for number in 0..count {
            let record = UnitRecord {
                id: format!("{app}-{number}"),
                name: format!("u-{number:04}"),
                app_name: app.to_owned(),
                // Nobody can ask it, so they are as they are written down.
                node: "tcp://10.9.9.9:2375".to_owned(),
                status: Some(Status::Started),
                ..UnitRecord::default()
            };
            let key = format!("units/{app}/{}", record.name);
            let value = serde_json::to_vec(&record)?;
            State::put_if(&stage.platform, "docker", &key, &value, None).await?;
            written.push((app, record.id));
        }
    }
    let app = |name: &str| App { name: name.to_owned(), ..App::default() };
    for asked in [vec![], vec!["shop"], vec!["shop-2", "shop"], vec!["other", "nobody", "shop"]] {
        let apps: Vec<App> = asked.iter().map(|name| app(name)).collect();
        let units = stage.provisioner.units(&question(), &apps).await?;
        let mut ids: Vec<String> = units.into_iter().map(|unit| unit.id).collect();
        ids.sort_unstable();
        let is_asked = |name: &str| asked.is_empty() || asked.contains(&name);
        let wanted = written.iter().filter(|(name, _)| is_asked(name));
        let mut wanted: Vec<String> = wanted.map(|(_, id)| id.clone()).collect();
        wanted.sort_unstable();
        ensure!(ids == wanted, "{asked:?}: {} of {}", ids.len(), wanted.len());
    }
    Ok(())
}

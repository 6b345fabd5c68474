//! Where units go when hosts are full or sick, and what is read to find out.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use gantry_core::node::{RebalanceOptions, RemoveNodeOptions, UpdateNodeOptions};
use gantry_core::{App, Error};
use gantry_engine::{Apps as _, Containers as _};
use serde_json::json;

use super::stage::*;

const A: &str = "tcp://10.0.0.1:2375";
const B: &str = "tcp://10.0.0.2:2375";
const C: &str = "tcp://10.0.0.3:2375";
const D: &str = "tcp://10.0.0.4:2375";
const E: &str = "tcp://10.0.0.5:2375";
const F: &str = "tcp://10.0.0.6:2375";

/// Three hosts of the shop's pool on which units need memory, with so much on each.
async fn with_memory(totals: [&str; 3]) -> Result<Stage> {
    with_memory_in("p", totals).await
}

async fn with_memory_in(pool: &str, totals: [&str; 3]) -> Result<Stage> {
    let scheduler = json!({"total-memory-metadata": "memory", "max-used-memory": 1.0});
    let config = json!({"docker": {"scheduler": scheduler}});
    let mut stage = Stage::over(&[A, B, C], config, |engine| engine).await?;
    stage.app.memory = 100;
    stage.platform.put_app(stage.app.clone());
    for (address, total) in [A, B, C].into_iter().zip(totals) {
        let metadata = BTreeMap::from([("memory".to_owned(), total.to_owned())]);
        stage.update(UpdateNodeOptions { pool: pool.to_owned(), metadata, ..to(address) }).await?;
    }
    Ok(stage)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_hosts_are_no_engine_out_of_reach() -> Result<()> {
    let mut stage = with_memory(["50", "50", "50"]).await?;
    let why =
        "error in scheduler: no nodes found with enough memory for container of \"shop\": 0.0001MB";
    assert_eq!(told(stage.deploy("shop:1").await)?, Error::UnitStartup(why.to_owned()));
    let mut stage = with_memory(["100", "100", "100"]).await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    assert_eq!(told(stage.add(1).await)?, Error::Conflict(why.to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_answers_and_makes_no_container_has_failed_and_is_left_alone_for_a_while()
-> Result<()> {
    let mut stage = Stage::over(&[A, B, C], json!({}), |engine| engine).await?;
    stage.deploy("shop:1").await?;
    stage.fault.is(Some(Kind::NoCreate(A)));
    stage.add(3).await?;
    let node = stage.node(A).await?;
    assert_eq!(node.status, "temporarily disabled");
    assert_eq!(node.extra_data["Failures"], "1");
    let why = &node.extra_data["LastError"];
    ensure!(why.contains("no space left on device"), "{why}");
    stage.add(3).await?;
    assert_eq!(stage.fault.refusals.load(Ordering::Acquire), 1, "nobody asked it again");
    assert_eq!(stage.units().await?.len(), 7);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_one_host_cannot_look_into_is_looked_into_on_another() -> Result<()> {
    let mut stage = Stage::over(&[A, B, C], json!({}), |engine| engine).await?;
    stage.fault.is(Some(Kind::NoCreate(A)));
    stage.deploy("shop:1").await?;
    // Nobody asked it again, not even for the unit.
    assert_eq!(stage.fault.refusals.load(Ordering::Acquire), 1);
    assert_eq!((on(&stage, A).await?, stage.units().await?.len()), (0, 1));
    let node = stage.node(A).await?;
    assert_eq!(
        (node.status.as_str(), &*node.extra_data["Failures"]),
        ("temporarily disabled", "1")
    );
    // What no registry has is asked for once.
    stage.fault.is(None);
    let (operation, screen) = stage.operation();
    let error = told(stage.provisioner.deploy(&operation, &stage.app, "nothing:1").await)?;
    ensure!(matches!(error, Error::NotFound(_)), "{error:?}");
    assert_eq!(screen.text().matches("nothing:1").count(), 1, "{}", screen.text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_five_hosts_have_failed_no_other_is_asked_and_nothing_is_left() -> Result<()> {
    let mut stage = Stage::over(&[A, B, C, D, E, F], json!({}), |engine| engine).await?;
    // The first deploy looks into the image. The second knows it, and starts a unit in place of another.
    for there in [0, 1] {
        let ids = stage.ids().await?;
        stage.fault.is(Some(Kind::NoRoom));
        let (operation, screen) = stage.operation();
        let error = told(stage.provisioner.deploy(&operation, &stage.app, "shop:1").await)?;
        let (error, text) = (error.to_string(), screen.text());
        let words = "CreateContainer: maximum number of tries exceeded, last error: \
                     error in docker node \"tcp://10.0.0.";
        ensure!(error.starts_with(words), "{error}");
        ensure!(error.ends_with(":2375\": status 500: no space left on device"), "{error}");
        assert_eq!(text.matches(" Trying again on tcp://").count(), 4, "{text}");
        let undone = text.contains(&format!("FAILURE ****\n ---> {error} <---\n"));
        assert_eq!(undone, there == 1, "{text}");
        assert_eq!(stage.fault.refusals.swap(0, Ordering::AcqRel), 5);

        assert_eq!((ids.len(), &stage.ids().await?), (there, &ids));
        let mut containers = 0;
        for (_, engine) in &stage.engines {
            containers += engine.list(true, &BTreeMap::new()).await?.len();
        }
        let in_use = usize::try_from(stage.in_use().await?)?;
        assert_eq!((containers, stage.keys("units/").await?.len(), in_use), (there, there, there));
        for prefix in ["placing/", "orphans/", "leaving/"] {
            assert_eq!(stage.keys(prefix).await?, Vec::<String>::new());
        }
        stage.fault.is(None);
        stage.deploy("shop:1").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_is_refused_is_no_failure_of_the_host() -> Result<()> {
    let mut stage = Stage::over(&[A, B, C], json!({}), |engine| engine).await?;
    stage.deploy("shop:1").await?;
    stage.fault.is(Some(Kind::RefusedCreate(A)));
    let error = told(stage.add(3).await)?.to_string();
    ensure!(error.contains("status 400"), "{error}");
    assert_eq!(stage.fault.refusals.load(Ordering::Acquire), 1);
    let node = stage.node(A).await?;
    assert_eq!((node.status.as_str(), node.extra_data.get("Failures")), ("ready", None));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_down_is_read_once_for_all_units_of_a_change() -> Result<()> {
    let mut stage = with_memory(["10000", "10000", "10000"]).await?;
    for other in ["one", "two"] {
        let app = App { name: other.to_owned(), ..stage.app.clone() };
        stage.platform.put_app(app.clone());
        let (operation, _) = stage.operation();
        stage.provisioner.deploy(&operation, &app, "shop:1").await?;
    }
    stage.deploy("shop:1").await?;
    let mut reads = Vec::new();
    for fault in [None, Some(Kind::NoCreate(A))] {
        stage.fault.is(fault);
        stage.fault.readings.store(0, Ordering::Release);
        stage.fault.apps_read.store(0, Ordering::Release);
        stage.add(9).await?;
        let readings = stage.fault.readings.load(Ordering::Acquire);
        reads.push((readings, stage.fault.apps_read.load(Ordering::Acquire)));
    }
    let displaced = stage.fault.refusals.load(Ordering::Acquire);
    ensure!(displaced >= 2, "{displaced} units were placed on the host first");
    assert_eq!(reads[0].0, 1);
    assert_eq!(reads[1], reads[0], "units that have to go elsewhere cost no other look");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_that_leave_a_host_get_their_places_in_one_look_however_many_apps_they_are_of()
-> Result<()> {
    let mut readings = Vec::new();
    for others in [0, 4] {
        let mut stage = with_memory(["10000", "10000", "10000"]).await?;
        for number in 0..others {
            let app = App { name: format!("app-{number}"), deploys: 1, ..stage.app.clone() };
            stage.platform.put_app(app.clone());
            let (operation, _) = stage.operation();
            stage.provisioner.deploy(&operation, &app, "shop:1").await?;
            let (operation, _) = stage.operation();
            stage.provisioner.add_units(&operation, &app, 2, "").await?;
        }
        stage.deploy("shop:1").await?;
        stage.add(2).await?;
        stage.fault.readings.store(0, Ordering::Release);
        leave(&mut stage, A).await?;
        readings.push(stage.fault.readings.load(Ordering::Acquire));
        assert_eq!(stage.units().await?.len(), 3);
        assert_eq!(on(&stage, A).await?, 0);
    }
    assert_eq!(readings[0], readings[1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_leaves_a_host_goes_on_to_another_when_the_place_that_was_found_fails()
-> Result<()> {
    let mut stage = Stage::over(&[A, B, C], json!({}), |engine| engine).await?;
    stage.deploy("shop:1").await?;
    assert_eq!(on(&stage, A).await?, 1);
    stage.fault.is(Some(Kind::NoCreate(B)));
    leave(&mut stage, A).await?;
    assert_eq!(stage.fault.refusals.load(Ordering::Acquire), 1, "its place was there");
    assert_eq!([on(&stage, A).await?, on(&stage, B).await?, on(&stage, C).await?], [0, 0, 1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_moves_takes_no_room_that_others_took_since_its_place_was_found() -> Result<()>
{
    let mut stage = with_memory(["200", "200", "100"]).await?;
    let zoo = both_on_a(&mut stage, "p").await?;
    let late = App { name: "late".to_owned(), ..zoo.clone() };
    stage.platform.put_app(late.clone());

    // One moves to B, and the other, for which there is room on C then, has to wait.
    let turn = stage.platform.lock("zoo", "change", Duration::ZERO).await?;
    let (operation, screen) = stage.operation();
    let (other, _) = stage.operation();
    let remove = RemoveNodeOptions { address: A.to_owned(), rebalance: true };
    let change = async {
        screen.until("Moved unit ").await;
        let deployed = stage.provisioner.deploy(&other, &late, "shop:1").await;
        drop(turn);
        deployed
    };
    let (removed, deployed) =
        tokio::join!(stage.provisioner.remove_node(&operation, &remove), change);
    deployed?;
    removed?;
    let units = stage.provisioner.units(&question(), std::slice::from_ref(&late)).await?;
    assert_eq!(units[0].ip, "10.0.0.3", "it took the place");
    assert_eq!([on(&stage, B).await?, on(&stage, C).await?], [2, 1], "{}", screen.text());
    assert_eq!(stage.keys("placing/").await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_of_two_pools_that_leave_a_host_take_no_room_twice() -> Result<()> {
    let mut stage = with_memory_in("", ["200", "100", "100"]).await?;
    both_on_a(&mut stage, "q").await?;
    leave(&mut stage, A).await?;
    assert_eq!([on(&stage, B).await?, on(&stage, C).await?], [1, 1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_unit_moves_to_where_one_had_to_stay() -> Result<()> {
    // On the third there is no room for any.
    let mut stage = with_memory(["100", "200", "1"]).await?;
    stage.update(UpdateNodeOptions { disable: true, ..to(A) }).await?;
    stage.deploy("shop:1").await?;
    stage.update(UpdateNodeOptions { enable: true, ..to(A) }).await?;
    let zoo = App { name: "zoo".to_owned(), deploys: 1, ..stage.app.clone() };
    stage.platform.put_app(zoo.clone());
    let (operation, _) = stage.operation();
    stage.provisioner.deploy(&operation, &zoo, "shop:1").await?;
    let (operation, _) = stage.operation();
    stage.provisioner.add_units(&operation, &zoo, 1, "").await?;
    assert_eq!([on(&stage, A).await?, on(&stage, B).await?], [1, 2]);

    // The shop was to go to A, and both of the zoo to B.
    stage.played.status.store(500, Ordering::Release);
    let forced = RebalanceOptions { force: true, ..RebalanceOptions::default() };
    let (operation, screen) = stage.operation();
    let well_again = async {
        screen.until("FAILURE ****").await;
        stage.played.status.store(200, Ordering::Release);
    };
    let (moved, ()) = tokio::join!(stage.provisioner.rebalance(&operation, &forced), well_again);
    let text = told(moved)?.to_string();
    ensure!(text.starts_with("Error moving unit "), "{text}");
    assert_eq!(screen.text().matches("Moved unit ").count(), 2, "{}", screen.text());
    assert_eq!([on(&stage, A).await?, on(&stage, B).await?], [1, 2], "{}", screen.text());
    Ok(())
}

/// A unit of the shop and one of an app of a pool on the first of three hosts, which all take units.
async fn both_on_a(stage: &mut Stage, pool: &str) -> Result<App> {
    for address in [B, C] {
        stage.update(UpdateNodeOptions { disable: true, ..to(address) }).await?;
    }
    let zoo = App { name: "zoo".to_owned(), pool: pool.to_owned(), ..stage.app.clone() };
    stage.platform.put_app(zoo.clone());
    stage.deploy("shop:1").await?;
    let (operation, _) = stage.operation();
    stage.provisioner.deploy(&operation, &zoo, "shop:1").await?;
    assert_eq!(on(stage, A).await?, 2);
    for address in [B, C] {
        stage.update(UpdateNodeOptions { enable: true, ..to(address) }).await?;
    }
    Ok(zoo)
}

async fn leave(stage: &mut Stage, address: &str) -> Result<()> {
    let remove = RemoveNodeOptions { address: address.to_owned(), rebalance: true };
    let (operation, _) = stage.operation();
    Ok(stage.provisioner.remove_node(&operation, &remove).await?)
}

/// How many units are on a host.
async fn on(stage: &Stage, address: &str) -> Result<usize> {
    Ok(stage.provisioner.node_units(&question(), address).await?.len())
}

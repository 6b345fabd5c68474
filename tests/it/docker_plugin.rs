//! The compiled Docker plugin through the runtime and the layer chain, on an engine in memory: what an app goes through that no vector tells.

mod agents;
mod builds;
mod left;
mod machines;
mod node_containers;
mod nodes;
mod pipeline;
mod placing;
mod shells;
mod stage;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use gantry_core::{Status, Unit};
use gantry_engine::{Apps as _, Containers, Operation, State};
use gantry_runtime::{Interface, TailOptions};
use serde_json::json;
use tokio::io::AsyncReadExt;

use self::stage::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plugin_exports_what_it_implements_and_works_without_a_grant() -> Result<()> {
    let stage = Stage::new().await?;
    let generation = stage.provisioner.generation();
    let implemented = [
        Interface::Plugin,
        Interface::Provisioner,
        Interface::Deployer,
        Interface::Rollback,
        Interface::Exec,
        Interface::Shell,
        Interface::Logs,
        Interface::Lifecycle,
        Interface::Sleep,
        Interface::UnitFinder,
        Interface::UnitStatus,
        Interface::UnitKill,
        Interface::AppFilter,
        Interface::Nodes,
        Interface::NodeHealth,
        Interface::NodeRebalance,
        Interface::NodeContainers,
        Interface::Healing,
        Interface::ImageCleaner,
        Interface::DockerBuilder,
    ];
    assert_eq!(*generation.interfaces(), BTreeSet::from(implemented));
    assert!(generation.grants().is_empty());
    // Nothing but our own imports and what a standard library needs: no files, no sockets.
    for import in generation.imports() {
        let ours = import.starts_with("gantry:provision/");
        let library = ["wasi:cli/", "wasi:clocks/", "wasi:io/", "wasi:random/"];
        ensure!(ours || library.iter().any(|start| import.starts_with(start)), "{import}");
    }
    Ok(())
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_image_is_deployed_scaled_stopped_and_destroyed() -> Result<()> {
    let mut stage = Stage::new().await?;
    assert_eq!(stage.deploy("shop:1").await?, "shop:1");
    let [unit] = <[Unit; 1]>::try_from(stage.units().await?).ok().context("one unit")?;
    assert_eq!((unit.process_name.as_str(), unit.status), ("web", Some(Status::Starting)));
    assert_eq!(unit.ip, "10.0.0.1");
    assert_eq!(stage.addresses().await?, [unit.address.context("it has an address")?]);
    // The container that the image was read from is gone.
    assert_eq!(stage.containers().await?, std::slice::from_ref(&unit.id));
    let container = stage.engine.inspect(&unit.id).await?;
    let command = container.config.cmd.context("it has a command")?;
    assert_eq!(command.last().map(String::as_str), Some("shop:1"));

    stage.add(3).await?;
    let ids = stage.ids().await?;
    assert_eq!(ids.len(), 4);
    assert_eq!(ids[0], unit.id, "the oldest comes first");

    let (operation, screen) = stage.operation();
    stage.provisioner.remove_units(&operation, &stage.app, 1, "web").await?;
    assert_eq!(stage.ids().await?, ids[1..], "the oldest goes first");
    assert!(screen.text().starts_with("\n---- Removing 1 unit ----\n"), "{}", screen.text());

    let (operation, _) = stage.operation();
    stage.provisioner.stop(&operation, &stage.app, "").await?;
    assert_eq!(stage.statuses().await?, [Some(Status::Stopped); 3]);
    assert!(stage.addresses().await?.is_empty(), "what is stopped gets no requests");
    let (operation, _) = stage.operation();
    stage.provisioner.start(&operation, &stage.app, "").await?;
    assert_eq!(stage.statuses().await?, [Some(Status::Starting); 3]);

    let (operation, _) = stage.operation();
    stage.provisioner.destroy(&operation, &stage.app).await?;
    assert!(stage.units().await?.is_empty());
    assert!(stage.containers().await?.is_empty());
    let (operation, _) = stage.operation();
    stage.provisioner.destroy(&operation, &stage.app).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_that_fails_leaves_the_old_units_and_nothing_else() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    stage.add(1).await?;
    stage.platform.set_quota_in_use("shop", 2).await?;
    let before = stage.ids().await?;

    stage.played.status.store(500, Ordering::Release);
    let error = stage.deploy("shop:2").await.unwrap_err().to_string();
    assert!(error.contains("wrong status code, expected 200, got: 500"), "{error}");
    assert_eq!(stage.ids().await?, before);
    assert_eq!(stage.containers().await?, sorted(before.clone()));
    assert_eq!(stage.in_use().await?, 2);
    assert_eq!(gantry_engine::Images::current(&stage.platform, "shop").await?, "shop:1");
    let bound = stage.platform.record("shop").context("the app is there")?.bound;
    assert_eq!(sorted(bound), sorted(before));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_that_is_cancelled_undoes_what_it_began() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    let before = stage.ids().await?;

    stage.played.status.store(0, Ordering::Release);
    let (operation, screen) = stage.operation();
    let cancel = operation.cancel.clone();
    let (result, ()) =
        tokio::join!(stage.provisioner.deploy(&operation, &stage.app, "shop:2"), async {
            // Nothing listens: the unit is asked again and again.
            screen.until("Trying again in 3s").await;
            cancel.cancel();
        });
    let text = screen.text();
    ensure!(result.is_err(), "the deploy went on: {text}");
    let notice = "**** ROLLING BACK AFTER FAILURE ****\n \
                  ---> unit creation canceled by user action <---\n";
    assert!(text.contains(notice), "{text}");
    assert!(text.contains("---- Destroying 1 created unit ----"), "{text}");
    assert_eq!(stage.ids().await?, before);
    assert_eq!(stage.containers().await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_replaces_the_one_before_and_gives_way_to_it() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    stage.add(1).await?;
    let first = stage.ids().await?;
    stage.deploy("shop:2").await?;
    let second = stage.ids().await?;
    assert_eq!(second.len(), 2);
    assert!(first.iter().all(|id| !second.contains(id)));
    assert_eq!(stage.containers().await?, sorted(second));

    let (operation, _) = stage.operation();
    let image = stage.provisioner.rollback(&operation, &stage.app, ":1").await?;
    assert_eq!(image, "shop:1");
    for id in stage.ids().await? {
        assert_eq!(stage.engine.inspect(&id).await?.config.image, "shop:1");
    }
    let (operation, _) = stage.operation();
    let error = stage.provisioner.rollback(&operation, &stage.app, ":9").await.unwrap_err();
    assert_eq!(error.to_string(), "Invalid version: :9");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_units_of_a_name_that_moved_run_what_the_others_run() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.engine.tag_image("shop:1", "shop", "latest").await?;
    stage.deploy("shop:latest").await?;
    let [first] = <[Unit; 1]>::try_from(stage.units().await?).ok().context("one unit")?;
    let runs = stage.engine.inspect(&first.id).await?.image;

    stage.engine.tag_image("shop:2", "shop", "latest").await?;
    stage.add(1).await?;
    for id in stage.ids().await? {
        assert_eq!(stage.engine.inspect(&id).await?.image, runs);
    }
    // Nor does it matter under which name a unit was written down.
    for key in stage.keys("units/").await? {
        let entry = State::get(&stage.platform, "docker", &key).await?.context("it is there")?;
        State::delete_if(&stage.platform, "docker", &key, entry.version).await?;
    }
    let (operation, _) = stage.operation();
    stage.provisioner.initialise(&operation).await?;
    assert_eq!(stage.addresses().await?.len(), 2, "every unit of the web process gets requests");
    // A deploy of the name means the image that it names now.
    stage.deploy("shop:latest").await?;
    for id in stage.ids().await? {
        assert_ne!(stage.engine.inspect(&id).await?.image, runs);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_not_there_is_pulled() -> Result<()> {
    let config = json!({"Entrypoint": ["run"], "ExposedPorts": {"80/tcp": {}}});
    let procfile = [("/Procfile", b"worker: work\n".as_slice())];
    let mut stage = Stage::with(|engine| {
        engine.with_remote_image("registry.example/far:1", image(config.clone()), procfile)
    })
    .await?;
    stage.deploy("registry.example/far:1").await?;
    let [unit] = <[Unit; 1]>::try_from(stage.units().await?).ok().context("one unit")?;
    assert_eq!(unit.process_name, "worker");
    let container = stage.engine.inspect(&unit.id).await?;
    assert!(container.network_settings.ports.contains_key("80/tcp"));

    let error = stage.deploy("registry.example/none:1").await.unwrap_err().to_string();
    assert!(error.contains("registry.example/none:1"), "{error}");
    assert_eq!(stage.ids().await?, [unit.id]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_units_start_at_once_and_one_too_many_is_refused() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    stage.add(49).await?;
    assert_eq!(stage.ids().await?.len(), 50);
    stage.deploy("shop:2").await?;
    assert_eq!(stage.ids().await?.len(), 50);
    assert_eq!(stage.in_use().await?, 50);

    stage.platform = stage.platform.clone().quota("shop", 49);
    let error = stage.deploy("shop:1").await.unwrap_err().to_string();
    assert!(error.contains("Quota exceeded. Available: 49. Requested: 50."), "{error}");
    assert_eq!(stage.containers().await?.len(), 50);
    Ok(())
}

/// A place that keeps what is written to it.
fn ends() -> (gantry_engine::stream::Writer, tokio::io::DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    (Box::pin(theirs), ours)
}

async fn written(mut end: tokio::io::DuplexStream) -> Result<String> {
    let mut text = String::new();
    end.read_to_string(&mut text).await?;
    Ok(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_gives_its_code_and_what_it_wrote() -> Result<()> {
    let mut stage = Stage::new().await?;
    let none = |stage: &Stage| Operation::new(stage.operations.to_string(), Duration::from_secs(9));
    let sink = || Box::pin(tokio::io::sink());
    let error = stage
        .provisioner
        .execute(&none(&stage), &stage.app, "true", &[], sink(), sink())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "no units for this app");

    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    let (stdout, output) = ends();
    let arguments = ["-l".to_owned()];
    let code = stage
        .provisioner
        .execute(&none(&stage), &stage.app, "0", &arguments, stdout, sink())
        .await?;
    assert_eq!((code, written(output).await?.as_str()), (0, "ran\nran\nran\n"));
    let commands = std::mem::take(&mut *stage.played.commands.lock().unwrap());
    assert_eq!(commands, vec![["/bin/bash", "-lc", "0", "-l"]; 3]);

    let code =
        stage.provisioner.execute(&none(&stage), &stage.app, "7", &[], sink(), sink()).await?;
    assert_eq!(code, 7);
    assert_eq!(std::mem::take(&mut *stage.played.commands.lock().unwrap()).len(), 1);
    let (stdout, output) = ends();
    let code =
        stage.provisioner.execute_once(&none(&stage), &stage.app, "5", &[], stdout, sink()).await?;
    assert_eq!((code, written(output).await?.as_str()), (5, "ran\n"));

    let before = stage.containers().await?;
    let (stdout, output) = ends();
    let code = stage
        .provisioner
        .execute_isolated(&none(&stage), &stage.app, "3", &[], stdout, sink())
        .await?;
    assert_eq!((code, written(output).await?.as_str()), (3, "isolated\n"));
    assert_eq!(stage.containers().await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_without_bash_runs_commands_in_its_sh() -> Result<()> {
    let config = json!({"Cmd": ["serve", "it"]});
    let mut stage =
        Stage::with(|engine| engine.with_image("bare:1", image(config.clone()), [])).await?;
    stage.deploy("bare:1").await?;
    let sink = || Box::pin(tokio::io::sink());
    for code in ["0", "4"] {
        let (operation, _) = stage.operation();
        let ended = stage
            .provisioner
            .execute_once(&operation, &stage.app, code, &[], sink(), sink())
            .await?;
        assert_eq!(ended.to_string(), code);
        let (operation, _) = stage.operation();
        let ended = stage
            .provisioner
            .execute_isolated(&operation, &stage.app, code, &[], sink(), sink())
            .await?;
        assert_eq!(ended.to_string(), code);
    }
    let commands = stage.played.commands.lock().unwrap().clone();
    assert_eq!(commands, [["/bin/sh", "-lc", "0"], ["/bin/sh", "-lc", "4"]]);
    assert_eq!(stage.containers().await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_decides_what_exists() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    let ids = stage.ids().await?;

    stage.engine.end(&ids[0], 1)?;
    let statuses = stage.statuses().await?;
    let starting = Some(Status::Starting);
    assert_eq!(statuses, [Some(Status::Error), starting, starting]);
    assert_eq!(stage.addresses().await?.len(), 2, "what has failed gets no requests");

    // One container goes behind the platform's back, one record is lost.
    stage.engine.remove(&ids[0], true).await?;
    assert_eq!(stage.ids().await?, ids[1..]);
    let page = State::list(&stage.platform, "docker", "units/", None, 0).await?;
    let lost = page.entries.last().context("there are records")?;
    State::delete_if(&stage.platform, "docker", &lost.key, lost.version).await?;
    assert_eq!(stage.ids().await?, ids[1..2]);

    stage.platform.set_quota_in_use("shop", 3).await?;
    let (operation, _) = stage.operation();
    stage.provisioner.initialise(&operation).await?;
    assert_eq!(stage.ids().await?, ids[1..], "what the engine has is a unit");
    assert_eq!(stage.in_use().await?, 2);
    let page = State::list(&stage.platform, "docker", "units/", None, 0).await?;
    assert_eq!(page.entries.len(), 2, "what it has not is none");
    let units = stage.units().await?;
    assert_eq!((units[1].process_name.as_str(), units[1].app_name.as_str()), ("web", "shop"));

    stage.deploy("shop:2").await?;
    assert_eq!(stage.containers().await?, sorted(stage.ids().await?));
    let question = Operation::new("", Duration::from_secs(10));
    let message = stage.provisioner.startup_message(&question).await?;
    assert!(message.ends_with("    Docker node: tcp://10.0.0.1:2375\n"), "{message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_registers_is_started_and_its_lines_can_be_read() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    let ids = stage.ids().await?;
    let (operation, _) = stage.operation();
    stage.provisioner.register_unit(&operation, &stage.app, &ids[0][..12], None).await?;
    assert_eq!(stage.statuses().await?, [Some(Status::Started)]);
    let error = stage.provisioner.register_unit(&operation, &stage.app, "nobody", None).await;
    assert_eq!(error.unwrap_err().to_string(), "unit \"nobody\" not found");

    assert!(stage.provisioner.logs_enabled(&operation, &stage.app).await?.enabled);
    let options = TailOptions { lines: 10, ..TailOptions::default() };
    let mut sources = stage.provisioner.tail(&operation, &stage.app, &options).await?;
    let mut source = sources.pop().context("the unit has lines")?;
    assert_eq!(source.unit, ids[0]);
    let line = source.lines.chunks.next().await.context("a line")??;
    assert_eq!(line.bytes, "serving\n");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_without_a_container_is_no_unit() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    let ids = stage.ids().await?;
    // The container is gone, the record is not: somebody removed the one, and the host the other of a call that died.
    for gone in &ids[..2] {
        stage.engine.remove(gone, true).await?;
    }
    let page = State::list(&stage.platform, "docker", "units/", None, 0).await?;
    let is_it = |entry: &&gantry_engine::call::Entry| {
        String::from_utf8_lossy(&entry.value).contains(&ids[1])
    };
    let entry = page.entries.iter().find(is_it).context("its record")?;
    let mut record: serde_json::Value = serde_json::from_slice(&entry.value)?;
    record["is_new"] = true.into();
    let (value, version) = (record.to_string(), Some(entry.version));
    State::put_if(&stage.platform, "docker", &entry.key, value.as_bytes(), version).await?;
    let none = |stage: &Stage| Operation::new(stage.operations.to_string(), Duration::from_secs(9));
    let sink = || Box::pin(tokio::io::sink());
    let code =
        stage.provisioner.execute(&none(&stage), &stage.app, "0", &[], sink(), sink()).await?;
    assert_eq!((code, stage.played.commands.lock().unwrap().len()), (0, 1));
    let options = TailOptions { lines: 1, ..TailOptions::default() };
    let sources = stage.provisioner.tail(&none(&stage), &stage.app, &options).await?;
    assert_eq!(sources.len(), 1);

    // One that was in service is replaced with the others; one that never was is forgotten.
    stage.platform = stage.platform.clone().quota("shop", 2);
    stage.deploy("shop:2").await?;
    assert_eq!((stage.ids().await?.len(), stage.in_use().await?), (2, 2));
    assert_eq!(stage.keys("units/").await?.len(), 2, "what is gone is forgotten");

    let last = stage.ids().await?.remove(0);
    stage.engine.remove(&last, true).await?;
    let (operation, _) = stage.operation();
    let error = stage.provisioner.remove_units(&operation, &stage.app, 2, "web").await;
    assert!(error.unwrap_err().to_string().ends_with("only 1 available"));
    let (operation, _) = stage.operation();
    stage.provisioner.restart(&operation, &stage.app, "").await?;
    assert_eq!(stage.ids().await?.len(), 2, "it is replaced with the other");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_run_in_what_runs_and_not_in_what_failed() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    stage.add(1).await?;
    let oldest = stage.ids().await?.remove(0);
    stage.engine.end(&oldest, 1)?;
    let sink = || Box::pin(tokio::io::sink());
    let (operation, _) = stage.operation();
    let code =
        stage.provisioner.execute_once(&operation, &stage.app, "0", &[], sink(), sink()).await?;
    assert_eq!((code, stage.played.commands.lock().unwrap().len()), (0, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_units_are_not_checked_when_an_old_one_has_failed() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    stage.played.status.store(500, Ordering::Release);
    assert!(stage.deploy("shop:2").await.is_err(), "the old unit answers, so the new one must");
    stage.engine.end(&stage.ids().await?[0], 1)?;
    stage.deploy("shop:2").await?;
    assert_eq!(stage.images().await?, ["shop:2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_that_comes_when_the_image_is_current_comes_too_late() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    stage.add(1).await?;
    stage.fault.is(Some(Kind::CancelledWhenCurrent));
    stage.deploy("shop:2").await?;
    assert_eq!(stage.images().await?, ["shop:2", "shop:2"]);
    assert_eq!((stage.current().await?.as_str(), stage.addresses().await?.len()), ("shop:2", 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_cannot_become_current_is_undone() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    stage.fault.is(Some(Kind::Full));
    let error = stage.deploy("shop:2").await.unwrap_err().to_string();
    assert!(error.contains("no room left"), "{error}");
    assert_eq!(stage.images().await?, ["shop:1"]);
    assert_eq!((stage.current().await?.as_str(), stage.addresses().await?.len()), ("shop:1", 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_before_the_first_old_unit_is_stopped_leaves_an_app_that_answers() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    stage.die_in_a_deploy(Kind::StuckWhenCurrent, "shop:2").await?;
    let (operation, _) = stage.operation();
    stage.provisioner.initialise(&operation).await?;
    assert_eq!(stage.images().await?, ["shop:1", "shop:2"]);
    assert_eq!((stage.current().await?.as_str(), stage.addresses().await?.len()), ("shop:2", 2));
    // What the hint says.
    let (operation, _) = stage.operation();
    stage.provisioner.remove_units(&operation, &stage.app, 1, "").await?;
    assert_eq!(stage.images().await?, ["shop:2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replacement_that_the_platform_died_in_is_finished_at_the_start() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    stage.die_in_a_deploy(Kind::StuckAfterAStop, "shop:2").await?;
    assert!(stage.images().await?.len() > 3, "old units are left: {:?}", stage.images().await?);
    assert_eq!(stage.keys("leaving/").await?, ["leaving/shop"]);
    let (operation, _) = stage.operation();
    stage.provisioner.initialise(&operation).await?;
    assert_eq!(stage.images().await?, ["shop:2"; 3]);
    assert_eq!((stage.ids().await?.len(), stage.in_use().await?), (3, 3));
    assert!(stage.keys("leaving/").await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replacement_that_the_platform_died_in_is_finished_by_the_next_change() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    stage.add(2).await?;
    stage.die_in_a_deploy(Kind::StuckAfterAStop, "shop:2").await?;
    // Nobody could start it again in time: the engine did not answer.
    stage.fault.is(Some(Kind::NoList));
    let (operation, _) = stage.operation();
    stage.provisioner.initialise(&operation).await?;
    stage.fault.is(None);
    stage.platform = stage.platform.clone().quota("shop", 3);
    let (operation, _) = stage.operation();
    stage.provisioner.restart(&operation, &stage.app, "").await?;
    assert_eq!(stage.images().await?, ["shop:2"; 3]);
    stage.deploy("shop:1").await?;
    assert_eq!(stage.images().await?, ["shop:1"; 3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_fails_at_the_start_takes_nothing_away() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    let ids = stage.ids().await?;
    stage.fault.is(Some(Kind::NoList));
    let (operation, _) = stage.operation();
    stage.provisioner.initialise(&operation).await?;
    assert_eq!(stage.ids().await?, ids, "as they were written down");
    // To change them they must be known.
    let error = stage.deploy("shop:2").await.unwrap_err().to_string();
    assert!(error.contains("status 503"), "{error}");
    stage.fault.is(None);
    stage.deploy("shop:2").await?;
    assert_eq!(stage.images().await?, ["shop:2"]);
    Ok(())
}

//! Units that are restarted, stopped, put to sleep and started again.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use gantry_core::{Error, Status};
use gantry_runtime::CallError;

use super::stage::*;

pub(super) async fn restarted(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    let before = stage.ids("").await?;
    stage.restart("").await?;
    stage.has(&[("web", 2), ("worker", 2)]).await?;
    stage.runs("shop:1").await?;
    ensure!(stage.ids("").await?.is_disjoint(&before), "old units are left");
    Ok(())
}

pub(super) async fn one_restarted(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    let (web, worker) = (stage.ids("web").await?, stage.ids("worker").await?);
    stage.restart("web").await?;
    stage.has(&[("web", 2), ("worker", 2)]).await?;
    ensure!(stage.ids("web").await?.is_disjoint(&web), "old units are left");
    ensure!(stage.ids("worker").await? == worker, "others were restarted too");
    Ok(())
}

pub(super) async fn restart_wakes(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.stop("").await?;
    stage.restart("").await?;
    stage.has(&[("web", 2), ("worker", 2)]).await?;
    ensure!(!stage.addresses().await?.is_empty(), "nobody is routed to");
    let running = stage.units().await?.into_iter().filter_map(|unit| unit.status);
    let running: BTreeSet<Status> = running.collect();
    ensure!(!running.contains(&Status::Stopped), "they are {running:?}");
    Ok(())
}

pub(super) async fn not_restarted(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    let before = stage.ids("").await?;
    stage.backend.answer(false);
    let error = refusal(stage.restart("web").await)?;
    let [_, why] = stage.backend.words();
    ensure!(error.to_string().contains(why), "it is not told why: {error}");
    stage.has(&[("web", 2), ("worker", 2)]).await?;
    ensure!(stage.ids("").await? == before, "they are other units than before");
    Ok(())
}

type Answers = [Result<(), CallError>; 4];

/// What is asked of the units of a process.
async fn asked(stage: &mut Stage, process: &str) -> Answers {
    [
        stage.restart(process).await,
        stage.stop(process).await,
        stage.start(process).await,
        stage.sleep(process).await,
    ]
}

pub(super) async fn unknown_process(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let before = stage.ids("").await?;
    for result in asked(&mut stage, "nobody").await {
        let error = refusal(result)?;
        ensure!(matches!(error, Error::InvalidProcess(_)), "it was {error:?}");
    }
    ensure!(stage.ids("").await? == before, "something was done");
    Ok(())
}

pub(super) async fn nothing_of_unknown(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let before = stage.units().await?;
    for result in asked(&mut stage, "nobody").await {
        result?;
    }
    ensure!(stage.units().await? == before, "something was done");
    Ok(())
}

pub(super) async fn before_a_deploy(mut stage: Stage) -> Result<()> {
    for result in asked(&mut stage, "").await {
        result?;
    }
    let left = stage.left().await?;
    ensure!(left.is_empty(), "something was made: {left:?}");
    Ok(())
}

pub(super) async fn stopped(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    for _ in 0..2 {
        stage.stop("").await?;
        ensure!(stage.addresses().await?.is_empty(), "what is stopped is routed to");
        let units = stage.units().await?;
        let runs = units.iter().find(|unit| unit.status != Some(Status::Stopped));
        ensure!(runs.is_none(), "{runs:?} runs");
        ensure!(stage.in_use()? == 4, "{} of the quota are in use", stage.in_use()?);
    }
    Ok(())
}

/// Rests, and tells whether the units are there and so.
async fn shown(mut stage: Stage, sleeps: bool, status: Status) -> Result<()> {
    stage.serving(2).await?;
    let before = stage.ids("").await?;
    if sleeps {
        stage.sleep("").await?
    } else {
        stage.stop("").await?
    }
    ensure!(stage.ids("").await? == before, "the units are not there");
    stage.all_are(status).await
}

pub(super) async fn shown_stopped(stage: Stage) -> Result<()> {
    shown(stage, false, Status::Stopped).await
}

pub(super) async fn shown_asleep(stage: Stage) -> Result<()> {
    shown(stage, true, Status::Asleep).await
}

pub(super) async fn no_units_stopped(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.stop("").await?;
    stage.has(&[]).await
}

pub(super) async fn no_units_asleep(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.sleep("").await?;
    stage.has(&[]).await
}

pub(super) async fn one_stopped(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    let (web, worker) = (stage.ids("web").await?, stage.ids("worker").await?);
    stage.stop("worker").await?;
    let stopped = stage.units().await?.into_iter().filter(|unit| unit.process_name == "worker");
    let stopped: Vec<_> = stopped.filter(|unit| unit.status != Some(Status::Stopped)).collect();
    ensure!(stopped.is_empty(), "{stopped:?} run");
    ensure!(stage.ids("web").await? == web, "others were stopped too");
    ensure!(!stage.addresses().await?.is_empty(), "nobody is routed to");
    stage.start("worker").await?;
    stage.has(&[("web", 2), ("worker", worker.len())]).await
}

pub(super) async fn started_again(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    let addresses = stage.addresses().await?.len();
    stage.stop("").await?;
    for _ in 0..2 {
        stage.start("").await?;
        stage.has(&[("web", 2), ("worker", 2)]).await?;
        ensure!(stage.addresses().await?.len() == addresses, "not all are routed to");
    }
    stage.runs("shop:1").await
}

/// Whether the units that come back are those that were stopped.
async fn same_come_back(stage: &mut Stage) -> Result<bool> {
    stage.serving(2).await?;
    let before = stage.ids("").await?;
    stage.stop("").await?;
    stage.start("").await?;
    stage.has(&[("web", 2), ("worker", 2)]).await?;
    Ok(stage.ids("").await? == before)
}

pub(super) async fn same_started(mut stage: Stage) -> Result<()> {
    ensure!(same_come_back(&mut stage).await?, "they are other units");
    Ok(())
}

pub(super) async fn others_started(mut stage: Stage) -> Result<()> {
    ensure!(!same_come_back(&mut stage).await?, "they are the same units");
    Ok(())
}

pub(super) async fn start_of_what_runs(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    let before = stage.units().await?;
    stage.start("").await?;
    stage.has(&[("web", 2), ("worker", 2)]).await?;
    ensure!(stage.units().await? == before, "they are other units than before");
    Ok(())
}

pub(super) async fn slept(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    let addresses = stage.addresses().await?.len();
    stage.sleep("").await?;
    ensure!(stage.addresses().await?.is_empty(), "what sleeps is routed to");
    let units = stage.units().await?;
    let runs = units.iter().find(|unit| unit.status != Some(Status::Asleep));
    ensure!(runs.is_none(), "{runs:?} runs");
    stage.start("").await?;
    stage.has(&[("web", 2), ("worker", 2)]).await?;
    ensure!(stage.addresses().await?.len() == addresses, "not all are routed to");
    Ok(())
}

pub(super) async fn slept_twice(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    stage.sleep("").await?;
    let error = refusal(stage.sleep("").await)?;
    ensure!(matches!(error, Error::Conflict(_)), "it was {error:?}");
    Ok(())
}

pub(super) async fn left_asleep(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    stage.sleep("").await?;
    stage.sleep("").await?;
    ensure!(stage.addresses().await?.is_empty(), "what sleeps is routed to");
    stage.start("").await?;
    stage.has(&[("web", 1), ("worker", 1)]).await
}

/// Stops, and adds a unit to what is stopped.
async fn added_to_stopped(stage: &mut Stage) -> Result<()> {
    stage.serving(1).await?;
    stage.stop("").await?;
    Ok(stage.add(1, "web").await?)
}

pub(super) async fn added_runs(mut stage: Stage) -> Result<()> {
    added_to_stopped(&mut stage).await?;
    ensure!(!stage.addresses().await?.is_empty(), "the new unit does not run");
    Ok(())
}

pub(super) async fn added_rests(mut stage: Stage) -> Result<()> {
    added_to_stopped(&mut stage).await?;
    stage.has(&[]).await?;
    stage.start("").await?;
    stage.has(&[("web", 2), ("worker", 1)]).await
}

//! Units: told, more of them, fewer of them, and what they tell.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use gantry_core::{Error, Status, Unit};

use super::stage::*;

pub(super) async fn told(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    for unit in stage.units().await? {
        ensure!(!unit.id.is_empty() && unit.app_name == "shop", "{unit:?}");
        ensure!(["10.0.0.1", "10.0.0.2"].contains(&unit.ip.as_str()), "{unit:?}");
        ensure!(unit.status.is_some_and(Status::is_available), "{unit:?}");
    }
    let ids = stage.ids("").await?;
    ensure!(ids.len() == 4 && ids == stage.ids("").await?, "they are others every time");
    Ok(())
}

pub(super) async fn are(mut stage: Stage, status: Status) -> Result<()> {
    stage.serving(1).await?;
    stage.all_are(status).await
}

pub(super) async fn started(stage: Stage) -> Result<()> {
    are(stage, Status::Started).await
}

pub(super) async fn starting(stage: Stage) -> Result<()> {
    are(stage, Status::Starting).await
}

pub(super) async fn failed(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let id = stage.unit("web").await?.id;
    stage.backend.fail(&id).await?;
    let status = stage.unit("web").await?.status;
    ensure!(status == Some(Status::Error), "it is {status:?}");
    Ok(())
}

pub(super) async fn of_others(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let other = app("other");
    stage.platform.put_app(other.clone());
    let operation = stage.operation();
    stage.provisioner.deploy(&operation, &other, "shop:2").await?;
    let both = [stage.app.clone(), other.clone()];
    for (apps, count) in [(&both[..1], 2), (&both[1..], 2), (&both[..], 4), (&[], 4)] {
        let units = stage.provisioner.units(&question(), apps).await?;
        ensure!(units.len() == count, "{} of {} apps", units.len(), apps.len());
    }
    // What becomes of one is nothing to the other.
    stage.destroy().await?;
    let units = stage.provisioner.units(&question(), &[]).await?;
    ensure!(units.iter().all(|unit| unit.app_name == "other") && units.len() == 2, "{units:?}");
    Ok(())
}

pub(super) async fn routed(mut stage: Stage) -> Result<()> {
    ensure!(stage.addresses().await?.is_empty(), "nothing runs yet");
    stage.serving(1).await?;
    let (web, worker) = (stage.unit("web").await?, stage.unit("worker").await?);
    let addresses = stage.addresses().await?;
    let has = |unit: &Unit| unit.address.as_ref().is_some_and(|at| addresses.contains(at));
    ensure!(has(&web), "{:?} is not among {addresses:?}", web.address);
    ensure!(!has(&worker), "{:?} is among {addresses:?}", worker.address);
    Ok(())
}

pub(super) async fn routed_each(mut stage: Stage) -> Result<()> {
    stage.serving(3).await?;
    let mut addresses = stage.addresses().await?;
    addresses.sort_unstable();
    addresses.dedup();
    ensure!(addresses.len() == 3, "3 units are reached at {} addresses", addresses.len());
    Ok(())
}

/// One address for each node of the pool, at the same port.
pub(super) async fn routed_by_node(mut stage: Stage) -> Result<()> {
    stage.serving(3).await?;
    let addresses = stage.addresses().await?;
    let parts: Vec<_> = addresses.iter().filter_map(|address| address.rsplit_once(':')).collect();
    let [(one, port), (two, same)] = parts.as_slice() else { anyhow::bail!("{addresses:?}") };
    ensure!(port == same, "{addresses:?}");
    let hosts = BTreeSet::from([*one, *two]);
    ensure!(hosts == BTreeSet::from(["http://10.0.0.1", "http://10.0.0.2"]), "{addresses:?}");
    Ok(())
}

pub(super) async fn added(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let before = stage.ids("").await?;
    stage.add(2, "web").await?;
    stage.has(&[("web", 3), ("worker", 1)]).await?;
    stage.runs("shop:1").await?;
    ensure!(stage.ids("").await?.is_superset(&before), "the others did not stay");
    Ok(())
}

pub(super) async fn removed(mut stage: Stage) -> Result<()> {
    stage.serving(3).await?;
    let before = stage.ids("").await?;
    stage.remove(2, "web").await?;
    stage.has(&[("web", 1), ("worker", 3)]).await?;
    ensure!(stage.ids("").await?.is_subset(&before), "there are new ones");
    Ok(())
}

pub(super) async fn not_added(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    let before = stage.ids("").await?;
    stage.backend.answer(false);
    refusal(stage.add(1, "web").await)?;
    stage.has(&[("web", 2), ("worker", 2)]).await?;
    ensure!(stage.ids("").await? == before, "they are other units than before");
    ensure!(stage.addresses().await?.len() == 2, "others are routed to");
    Ok(())
}

pub(super) async fn unknown_process(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let error = refusal(stage.add(1, "nobody").await)?;
    ensure!(matches!(error, Error::InvalidProcess(_)), "adding: {error:?}");
    refusal(stage.remove(1, "nobody").await)?;
    stage.has(&[("web", 1), ("worker", 1)]).await
}

pub(super) async fn which_process(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let text = "no process name specified and more than one declared in Procfile";
    let expected = Error::InvalidProcess(text.to_owned());
    let error = refusal(stage.add(1, "").await)?;
    ensure!(error == expected, "adding: {error:?}");
    let error = refusal(stage.remove(1, "").await)?;
    ensure!(error == expected, "removing: {error:?}");
    stage.has(&[("web", 1), ("worker", 1)]).await
}

pub(super) async fn none(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    for result in [stage.add(0, "web").await, stage.remove(0, "web").await] {
        let error = refusal(result)?;
        ensure!(matches!(error, Error::InvalidArgument(_)), "it was {error:?}");
    }
    stage.has(&[("web", 1), ("worker", 1)]).await
}

pub(super) async fn before_a_deploy(mut stage: Stage) -> Result<()> {
    let error = refusal(stage.add(1, "web").await)?;
    ensure!(matches!(error, Error::InvalidArgument(_)), "it was {error:?}");
    ensure!(stage.left().await?.is_empty(), "something was made");
    Ok(())
}

pub(super) async fn too_many(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    let before = stage.ids("").await?;
    let error = refusal(stage.remove(3, "web").await)?;
    ensure!(matches!(error, Error::InvalidArgument(_)), "it was {error:?}");
    ensure!(stage.ids("").await? == before, "some were removed");
    Ok(())
}

pub(super) async fn last_one(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    stage.remove(1, "worker").await?;
    stage.has(&[("web", 1)]).await?;
    stage.add(2, "worker").await?;
    stage.has(&[("web", 1), ("worker", 2)]).await
}

pub(super) async fn stays_empty(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    stage.remove(1, "worker").await?;
    stage.start("").await?;
    stage.has(&[("web", 1)]).await
}

pub(super) async fn starts_with_one(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    stage.remove(1, "worker").await?;
    stage.start("").await?;
    stage.has(&[("web", 1), ("worker", 1)]).await
}

pub(super) async fn quota(mut stage: Stage) -> Result<()> {
    stage.platform = stage.platform.clone().quota("shop", 3);
    stage.serving(1).await?;
    let error = refusal(stage.add(2, "web").await)?;
    let expected = Error::QuotaExceeded { available: 3, requested: 4 };
    ensure!(error == expected, "it was {error:?}");
    stage.has(&[("web", 1), ("worker", 1)]).await
}

pub(super) async fn registered(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    for id in stage.ids("").await? {
        let operation = stage.operation();
        stage.provisioner.register_unit(&operation, &stage.app, &id, None).await?;
    }
    stage.all_are(Status::Started).await?;
    let operation = stage.operation();
    let result = stage.provisioner.register_unit(&operation, &stage.app, "nobody", None).await;
    let error = refusal(result)?;
    ensure!(error == Error::UnitNotFound("nobody".to_owned()), "it was {error:?}");
    Ok(())
}

/// The start of a unit's id that no other unit's has.
fn start_of(id: &str) -> &str {
    &id[..id.len() - 1]
}

pub(super) async fn registered_by_start(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let id = stage.unit("web").await?.id;
    let operation = stage.operation();
    stage.provisioner.register_unit(&operation, &stage.app, start_of(&id), None).await?;
    let status = stage.unit("web").await?.status;
    ensure!(status == Some(Status::Started), "it is {status:?}");
    Ok(())
}

pub(super) async fn not_registered_by_start(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let id = stage.unit("web").await?.id;
    let (operation, start) = (stage.operation(), start_of(&id).to_owned());
    let result = stage.provisioner.register_unit(&operation, &stage.app, &start, None).await;
    let error = refusal(result)?;
    ensure!(error == Error::UnitNotFound(start), "it was {error:?}");
    Ok(())
}

pub(super) async fn found(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    for id in stage.ids("").await? {
        let app = stage.provisioner.app_from_unit_id(&question(), &id).await?;
        ensure!(app == "shop", "it is {app}'s");
    }
    let error = refusal(stage.provisioner.app_from_unit_id(&question(), "nobody").await)?;
    ensure!(error == Error::UnitNotFound("nobody".to_owned()), "it was {error:?}");
    Ok(())
}

pub(super) async fn set(mut stage: Stage) -> Result<()> {
    // Before all else, so that a plugin that cannot is told by that.
    let nobody = Unit { id: "nobody".to_owned(), ..Unit::default() };
    let set = stage.provisioner.set_unit_status(&question(), &nobody, Status::Started).await;
    let error = refusal(set)?;
    ensure!(error == Error::UnitNotFound("nobody".to_owned()), "it was {error:?}");
    stage.serving(1).await?;
    let unit = Unit { id: stage.unit("web").await?.id, ..Unit::default() };
    // One that stopped although it should run has failed.
    for (said, is) in [(Status::Started, Status::Started), (Status::Stopped, Status::Error)] {
        let operation = stage.operation();
        stage.provisioner.set_unit_status(&operation, &unit, said).await?;
        let status = stage.unit("web").await?.status;
        ensure!(status == Some(is), "it is {status:?} and not {is:?}");
    }
    let of_another = Unit { app_name: "other".to_owned(), ..unit };
    let set = stage.provisioner.set_unit_status(&question(), &of_another, Status::Started).await;
    refusal(set)?;
    Ok(())
}

pub(super) async fn filtered(mut stage: Stage) -> Result<()> {
    let apps = [stage.app.clone()];
    let filter = async |stage: &Stage, statuses: &[Status]| {
        stage.provisioner.filter_apps_by_unit_status(&question(), &apps, statuses).await
    };
    let nobody = filter(&stage, &[Status::Starting]).await?;
    ensure!(nobody.is_empty(), "{nobody:?}");
    stage.serving(1).await?;
    let unit = stage.unit("web").await?;
    let is = [unit.status.context("it has a status")?];
    ensure!(filter(&stage, &is).await? == ["shop"], "it is {is:?}");
    for others in [&[Status::Asleep][..], &[]] {
        let found = filter(&stage, others).await?;
        ensure!(found.is_empty(), "{others:?}: {found:?}");
    }
    Ok(())
}

pub(super) async fn killed(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    for force in [true, false] {
        let id = stage.unit("web").await?.id;
        let operation = stage.operation();
        stage.provisioner.kill_unit(&operation, &stage.app, &id, force).await?;
        stage.has(&[("web", 2), ("worker", 2)]).await?;
        stage.runs("shop:1").await?;
    }
    let operation = stage.operation();
    let result = stage.provisioner.kill_unit(&operation, &stage.app, "nobody", true).await;
    let error = refusal(result)?;
    ensure!(error == Error::UnitNotFound("nobody".to_owned()), "it was {error:?}");
    Ok(())
}

/// Whether a unit that was killed is the one of before.
async fn stays(stage: &mut Stage) -> Result<bool> {
    stage.serving(1).await?;
    let id = stage.unit("web").await?.id;
    let operation = stage.operation();
    stage.provisioner.kill_unit(&operation, &stage.app, &id, true).await?;
    stage.has(&[("web", 1), ("worker", 1)]).await?;
    Ok(stage.unit("web").await?.id == id)
}

pub(super) async fn killed_in_place(mut stage: Stage) -> Result<()> {
    ensure!(stays(&mut stage).await?, "it is another unit");
    Ok(())
}

pub(super) async fn killed_and_replaced(mut stage: Stage) -> Result<()> {
    ensure!(!stays(&mut stage).await?, "it is the same unit");
    Ok(())
}

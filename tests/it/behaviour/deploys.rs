//! Versions: the first, the next, one that fails, one from before, and how images come about.

use anyhow::{Context, Result, ensure};
use gantry_core::{AppRouter, Error};
use gantry_engine::Images as _;

use super::stage::*;

pub(super) async fn first(mut stage: Stage) -> Result<()> {
    let deployed = stage.deploy("shop:1").await?;
    ensure!(deployed == "shop:1", "{deployed} was deployed");
    stage.has(&[("web", 1), ("worker", 1)]).await?;
    stage.runs("shop:1").await?;
    ensure!(stage.in_use()? == 2, "{} of the quota are in use", stage.in_use()?);
    Ok(())
}

pub(super) async fn second(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.add(1, "web").await?;
    let old = stage.ids("").await?;
    stage.deploy("shop:2").await?;
    stage.has(&[("web", 3), ("worker", 2)]).await?;
    stage.runs("shop:2").await?;
    ensure!(stage.ids("").await?.is_disjoint(&old), "old units are left");
    ensure!(stage.in_use()? == 5, "{} of the quota are in use", stage.in_use()?);
    Ok(())
}

pub(super) async fn other_processes(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.deploy("shop:3").await?;
    stage.has(&[("web", 2), ("cron", 1)]).await?;
    stage.runs("shop:3").await
}

pub(super) async fn same_image(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let old = stage.ids("").await?;
    stage.deploy("shop:1").await?;
    stage.has(&[("web", 1), ("worker", 1)]).await?;
    ensure!(stage.ids("").await?.is_disjoint(&old), "old units are left");
    Ok(())
}

pub(super) async fn wakes(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.stop("").await?;
    stage.deploy("shop:2").await?;
    stage.has(&[("web", 2), ("worker", 2)]).await?;
    ensure!(!stage.addresses().await?.is_empty(), "nobody is routed to");
    stage.runs("shop:2").await
}

pub(super) async fn plain(mut stage: Stage) -> Result<()> {
    stage.deploy("plain:1").await?;
    stage.has(&[("web", 1)]).await?;
    stage.add(1, "").await?;
    stage.has(&[("web", 2)]).await?;
    stage.remove(1, "").await?;
    stage.has(&[("web", 1)]).await
}

pub(super) async fn broken_first(mut stage: Stage) -> Result<()> {
    for image in ["shop:bad", MISSING] {
        let error = stage.deploy(image).await.err().context("it was deployed")?;
        stage.backend.idle().await?;
        let left = stage.left().await?;
        ensure!(left.is_empty(), "{image}: {left:?} are left after: {error}");
        ensure!(stage.units().await?.is_empty() && stage.in_use()? == 0, "{image}: units are left");
    }
    stage.serving(1).await
}

/// Deploys something that fails, and sees that everything is as it was. Gives the error, and what people read.
async fn fails(stage: &mut Stage, image: &str) -> Result<(Error, String)> {
    stage.serving(2).await?;
    let old = stage.ids("").await?;
    let addresses = stage.addresses().await?;
    let (deployed, told) = stage.deploy_shown(image).await;
    let error = refusal(deployed)?;
    stage.has(&[("web", 2), ("worker", 2)]).await?;
    stage.runs("shop:1").await?;
    ensure!(stage.ids("").await? == old, "they are other units than before: {error}");
    ensure!(stage.addresses().await? == addresses, "others are routed to: {error}");
    ensure!(stage.in_use()? == 4, "{} of the quota are in use", stage.in_use()?);
    Ok((error, told))
}

pub(super) async fn unhealthy(mut stage: Stage) -> Result<()> {
    let (error, told) = fails(&mut stage, "shop:bad").await?;
    let [_, why] = stage.backend.words();
    ensure!(error.to_string().contains(why), "it is not told why: {error}");
    ensure!(matches!(error, Error::UnitStartup(_)), "units did not start, and it is {error:?}");
    let notice = "**** ROLLING BACK AFTER FAILURE ****\n ---> ";
    ensure!(told.contains(notice), "people do not read of it: {told}");
    Ok(())
}

pub(super) async fn missing(mut stage: Stage) -> Result<()> {
    let (error, _) = fails(&mut stage, MISSING).await?;
    ensure!(error.to_string().contains(MISSING), "the image is not named: {error}");
    Ok(())
}

pub(super) async fn over_quota(mut stage: Stage) -> Result<()> {
    stage.platform = stage.platform.clone().quota("shop", 1);
    let error = refusal(stage.deploy("shop:1").await)?;
    let expected = Error::QuotaExceeded { available: 1, requested: 2 };
    ensure!(error == expected, "it was {error:?}");
    let left = stage.left().await?;
    ensure!(left.is_empty(), "{left:?} are left");
    Ok(())
}

pub(super) async fn cancelled(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let old = stage.ids("").await?;
    let (operation, screen) = stage.shown();
    let cancel = operation.cancel.clone();
    let [waits, _] = stage.backend.words();
    let (deployed, ()) =
        tokio::join!(stage.provisioner.deploy(&operation, &stage.app, "shop:mute"), async {
            screen.until(waits).await;
            cancel.cancel();
        });
    let error = refusal(deployed)?;
    ensure!(error == Error::Cancelled, "it was {error:?}");
    stage.has(&[("web", 1), ("worker", 1)]).await?;
    stage.runs("shop:1").await?;
    ensure!(stage.ids("").await? == old, "they are other units than before");
    Ok(())
}

pub(super) async fn back(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.deploy("shop:2").await?;
    let operation = stage.operation();
    let image = stage.provisioner.rollback(&operation, &stage.app, ":1").await?;
    ensure!(image == "shop:1", "the name is {image}");
    stage.has(&[("web", 2), ("worker", 2)]).await?;
    stage.runs("shop:1").await
}

pub(super) async fn back_to_nothing(mut stage: Stage) -> Result<()> {
    let operation = stage.operation();
    let error = refusal(stage.provisioner.rollback(&operation, &stage.app, ":9").await)?;
    ensure!(error.to_string() == "Image :9 not found in app \"shop\"", "it was {error}");
    stage.serving(1).await?;
    let old = stage.ids("").await?;
    let operation = stage.operation();
    let error = refusal(stage.provisioner.rollback(&operation, &stage.app, ":9").await)?;
    ensure!(error == Error::NotFound("Invalid version: :9".to_owned()), "it was {error:?}");
    ensure!(stage.ids("").await? == old, "they are other units than before");
    Ok(())
}

pub(super) async fn environment(mut stage: Stage) -> Result<()> {
    stage.platform = stage.platform.clone().env("shop", "GREETING", "hello");
    stage.serving(1).await?;
    for process in ["web", "worker"] {
        let unit = stage.unit(process).await?;
        let (_, env, _) = stage.backend.made_of(&unit.id).await?;
        let name = format!("TSURU_PROCESSNAME={process}");
        for wanted in ["GREETING=hello", "PORT=8888", "port=8888", name.as_str()] {
            ensure!(env.iter().any(|is| is == wanted), "no {wanted} in {env:?}");
        }
    }
    Ok(())
}

/// A router of the app.
fn routed(stage: &mut Stage) {
    // The reference knows the type of a router of this name without being told.
    let router = AppRouter { name: "hipache".to_owned(), ..AppRouter::default() };
    stage.platform = stage.platform.clone().router("shop", router);
}

async fn routes(stage: &Stage) -> Result<Vec<String>> {
    let record = stage.platform.record("shop").context("the app is there")?;
    Ok(record.routes.get("hipache").map(|routes| routes.addresses.clone()).unwrap_or_default())
}

pub(super) async fn routes_follow(mut stage: Stage) -> Result<()> {
    routed(&mut stage);
    stage.serving(1).await?;
    stage.deploy("shop:2").await?;
    let (mut has, mut wanted) = (routes(&stage).await?, stage.addresses().await?);
    has.sort_unstable();
    wanted.sort_unstable();
    ensure!(!wanted.is_empty() && has == wanted, "the router has {has:?} and not {wanted:?}");
    Ok(())
}

pub(super) async fn no_routes(mut stage: Stage) -> Result<()> {
    routed(&mut stage);
    stage.serving(1).await?;
    let has = routes(&stage).await?;
    ensure!(has.is_empty() && stage.addresses().await?.len() == 2, "{has:?}");
    Ok(())
}

pub(super) async fn bound(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    let bound = stage.platform.record("shop").context("the app is there")?.bound;
    let bound = bound.into_iter().collect();
    ensure!(stage.ids("").await? == bound, "services know of {bound:?}");
    Ok(())
}

pub(super) async fn nobody_bound(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let bound = stage.platform.record("shop").context("the app is there")?.bound;
    ensure!(bound.is_empty(), "{bound:?}");
    Ok(())
}

pub(super) async fn before_hooks(mut stage: Stage) -> Result<()> {
    stage.deploy("shop:hooks").await?;
    for unit in stage.units().await? {
        let (_, _, command) = stage.backend.made_of(&unit.id).await?;
        let (prepare, run) = (command.find("prepare"), command.find("exec "));
        ensure!(prepare.is_some() && prepare < run, "the command is {command}");
    }
    Ok(())
}

pub(super) async fn after_hooks(mut stage: Stage) -> Result<()> {
    stage.deploy("shop:hooks").await?;
    let greeted = |ran: &Ran| ran.words.last().is_some_and(|word| word == "greet");
    let ran = stage.backend.ran();
    let in_units = ran.iter().filter(|ran| greeted(ran)).map(|ran| ran.unit.clone()).collect();
    ensure!(stage.ids("").await? == in_units, "the hook ran in {in_units:?}");
    Ok(())
}

pub(super) async fn no_after_hooks(mut stage: Stage) -> Result<()> {
    stage.deploy("shop:hooks").await?;
    stage.has(&[("web", 1), ("worker", 1)]).await?;
    let ran = stage.backend.ran();
    ensure!(ran.is_empty(), "{ran:?}");
    Ok(())
}

/// A tar archive of a source.
fn source() -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("Procfile"), "web: serve\n")?;
    std::fs::write(folder.path().join("tsuru.yaml"), "hooks:\n  build: [make]\n")?;
    let mut tar = std::process::Command::new("tar");
    let output = tar.arg("-C").arg(folder.path()).args(["-cf", "-", "."]).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(output.stdout)
}

pub(super) async fn built(mut stage: Stage) -> Result<()> {
    let built = stage.build(source()?).await?;
    let mut left = stage.backend.left().await?;
    // The account of the app's pods is there from the first of them on, and goes with the app.
    left.retain(|left| left != "ServiceAccount app-shop");
    ensure!(left.is_empty(), "{left:?} are left of the build");
    let deployed = stage.deploy(&built).await?;
    ensure!(deployed == "tsuru/app-shop:v1", "{deployed} was deployed");
    stage.has(&[("web", 1)]).await?;
    stage.runs("tsuru/app-shop:v1").await
}

pub(super) async fn not_built(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let before = stage.backend.left().await?;
    stage.backend.break_builds();
    refusal(stage.build(source()?).await)?;
    let left = stage.backend.left().await?;
    ensure!(left == before, "there are {left:?} and not {before:?}");
    stage.runs("shop:1").await
}

pub(super) async fn cleaned(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    stage.deploy("shop:2").await?;
    for _ in 0..2 {
        let operation = stage.operation();
        stage.provisioner.clean_image(&operation, "shop", "shop:1").await?;
    }
    // Nobody has it any more, and no registry does.
    let error = refusal(stage.deploy("shop:1").await)?;
    ensure!(error.to_string().contains("shop:1"), "it was {error}");
    stage.runs("shop:2").await?;
    let operation = stage.operation();
    refusal(stage.provisioner.clean_image(&operation, "shop", "shop:2").await)?;
    Ok(())
}

pub(super) async fn data_of_builds(mut stage: Stage) -> Result<()> {
    let data = r#"{"processes": {"web": "serve", "extra": "run"}}"#;
    stage.platform.save_metadata("shop:1", data).await?;
    stage.deploy("shop:1").await?;
    stage.has(&[("web", 1), ("extra", 1)]).await
}

//! The beginning and the end of apps, and of the platform.

use anyhow::{Result, ensure};
use gantry_engine::Images as _;

use super::stage::*;

pub(super) async fn provisioned(mut stage: Stage) -> Result<()> {
    for _ in 0..2 {
        let operation = stage.operation();
        stage.provisioner.provision(&operation, &stage.app).await?;
    }
    let left = stage.left().await?;
    ensure!(left.is_empty(), "{left:?}");
    stage.serving(1).await
}

pub(super) async fn destroyed(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.deploy("shop:3").await?;
    stage.backend.idle().await?;
    ensure!(!stage.left().await?.is_empty(), "an app that runs leaves no trace");
    stage.destroy().await?;
    stage.backend.idle().await?;
    let left = stage.left().await?;
    ensure!(left.is_empty(), "{left:?} are left");
    ensure!(stage.units().await?.is_empty() && stage.addresses().await?.is_empty(), "units");
    Ok(())
}

pub(super) async fn destroyed_at_rest(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.stop("web").await?;
    stage.sleep("worker").await?;
    stage.destroy().await?;
    stage.backend.idle().await?;
    let left = stage.left().await?;
    ensure!(left.is_empty(), "{left:?} are left");
    Ok(())
}

pub(super) async fn destroyed_twice(mut stage: Stage) -> Result<()> {
    // One that was never anything, then one that was.
    stage.destroy().await?;
    stage.serving(1).await?;
    stage.destroy().await?;
    stage.destroy().await?;
    let left = stage.left().await?;
    ensure!(left.is_empty(), "{left:?} are left");
    Ok(())
}

pub(super) async fn images_stay(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    stage.deploy("shop:2").await?;
    stage.destroy().await?;
    let history = stage.platform.history("shop").await?;
    ensure!(history == ["shop:1", "shop:2"], "the history is {history:?}");
    // They are still where units can be made of them.
    let operation = stage.operation();
    stage.provisioner.rollback(&operation, &stage.app, ":1").await?;
    stage.runs("shop:1").await
}

pub(super) async fn initialised(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.stop("worker").await?;
    let before = stage.units().await?;
    for _ in 0..2 {
        let operation = stage.operation();
        stage.provisioner.initialise(&operation).await?;
    }
    let after = stage.units().await?;
    ensure!(after == before, "they are {after:?} and not {before:?}");
    Ok(())
}

pub(super) async fn announced(stage: Stage) -> Result<()> {
    let message = stage.provisioner.startup_message(&question()).await?;
    for node in stage.backend.nodes() {
        ensure!(message.contains(&node), "{node} is not in: {message}");
    }
    Ok(())
}

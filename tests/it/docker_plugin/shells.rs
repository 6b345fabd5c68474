//! Shells in units: which one, and why not.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use gantry_core::ShellOptions;
use gantry_core::container::ContainerSpec;
use gantry_engine::stream::Session;
use gantry_engine::{Containers, State};
use gantry_runtime::CallError;

use super::stage::*;

/// A shell in this unit; any when it is empty.
async fn shell(stage: &mut Stage, unit: &str) -> Result<Session, CallError> {
    let (operation, _) = stage.operation();
    let options = ShellOptions { unit: unit.to_owned(), ..ShellOptions::default() };
    stage.provisioner.shell(&operation, &stage.app, &options).await
}

async fn refused(stage: &mut Stage, unit: &str) -> String {
    shell(stage, unit).await.err().map(|error| error.to_string()).unwrap_or_default()
}

/// A unit whose container is made and not started yet, in the place of one that is there.
async fn just_made(stage: &Stage) -> Result<String> {
    let old = stage.ids().await?.pop().context("a unit")?;
    let labels = stage.engine.inspect(&old).await?.config.labels.context("it has labels")?;
    let spec = ContainerSpec { image: "shop:1".to_owned(), labels, ..ContainerSpec::default() };
    let id = stage.engine.create("shop-late", &spec).await?;
    for key in stage.keys("units/").await? {
        let entry = State::get(&stage.platform, "docker", &key).await?.context("it is there")?;
        let text = String::from_utf8(entry.value)?;
        let moved = text.replace(&old, &id).replace("\"error\"", "\"starting\"");
        State::put_if(&stage.platform, "docker", &key, moved.as_bytes(), Some(entry.version))
            .await?;
    }
    Ok(id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_is_opened_in_the_unit_that_is_meant_or_in_any_that_runs() -> Result<()> {
    let mut stage = Stage::new().await?;
    assert_eq!(refused(&mut stage, "").await, gantry_core::Error::EmptyApp.to_string());
    stage.deploy("shop:1").await?;
    stage.add(16).await?;
    let ids = stage.ids().await?;
    let mut session = shell(&mut stage, "").await?;
    ensure!(session.input.is_some() && session.sizes.is_some(), "it is a terminal");
    assert_eq!(session.chunks.next().await.context("it says something")??, chunk("ran\n"));
    assert_eq!(session.exit.context("it has an end")?.await?, 0);
    assert_eq!(stage.played.commands.lock().unwrap().pop().unwrap(), ["/bin/bash", "-l"]);
    shell(&mut stage, &ids[3]).await?;
    shell(&mut stage, &ids[3][..20]).await?;

    let text = refused(&mut stage, "nobody").await;
    assert_eq!(text, "unit \"nobody\" not found");
    // Of 17 units two begin with the same digit.
    let digit = |id: &str| id[..1].to_owned();
    let same = ids
        .iter()
        .map(|id| digit(id))
        .find(|one| ids.iter().filter(|id| digit(id) == *one).count() > 1);
    let same = same.context("there are 16 digits")?;
    let text = refused(&mut stage, &same).await;
    assert_eq!(text, format!("ambiguous container name/id: \"{same}\""));

    // One that ended by itself is passed over, and told when it is meant.
    for id in &ids[1..] {
        stage.engine.end(id, 3)?;
    }
    shell(&mut stage, "").await?;
    let text = refused(&mut stage, &ids[1]).await;
    ensure!(text.ends_with("does not run: its container is exited"), "{text}");
    stage.engine.end(&ids[0], 3)?;
    assert_eq!(refused(&mut stage, "").await, gantry_core::Error::EmptyApp.to_string());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_is_being_started_is_waited_for_until_it_runs_or_nobody_waits() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    let id = just_made(&stage).await?;
    for cancels in [true, false] {
        let before = stage.fault.inspections.load(Ordering::Acquire);
        let (operation, _) = stage.operation();
        let cancel = operation.cancel.clone();
        let (provisioner, app) = (stage.provisioner.clone(), stage.app.clone());
        let options = ShellOptions { unit: id[..12].to_owned(), ..ShellOptions::default() };
        let opening =
            tokio::spawn(async move { provisioner.shell(&operation, &app, &options).await });
        let fault = Arc::clone(&stage.fault);
        while fault.inspections.load(Ordering::Acquire) < before + 4 {
            ensure!(!opening.is_finished(), "{:?}", opening.await?.err());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        if cancels {
            cancel.cancel();
            let error = opening.await?.err().context("nobody waits")?.to_string();
            assert_eq!(error, gantry_core::Error::Cancelled.to_string());
        } else {
            stage.engine.start(&id).await?;
            opening.await??;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shell_is_the_images_own() -> Result<()> {
    let config = || image(serde_json::json!({"Cmd": ["serve"]}));
    let sh = [("/bin/sh", b"sh".as_slice())];
    let mut stage = Stage::with(|engine| {
        engine.with_image("plain:1", config(), sh).with_image("bare:1", config(), [])
    })
    .await?;
    stage.deploy("plain:1").await?;
    for _ in 0..2 {
        shell(&mut stage, "").await?;
        assert_eq!(stage.played.commands.lock().unwrap().pop().unwrap(), ["/bin/sh", "-l"]);
    }
    stage.deploy("bare:1").await?;
    let text = refused(&mut stage, "").await;
    ensure!(text.contains("has no shell: neither `/bin/bash` nor `/bin/sh`"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shells_of_so_many_images_are_remembered_and_no_more() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    let many: Vec<String> = (0..501).map(|number| format!("shells/sha256:{number:03}")).collect();
    for key in &many {
        State::put_if(&stage.platform, "docker", key, b"/bin/sh", None).await?;
    }
    shell(&mut stage, "").await?;
    let kept = stage.keys("shells/").await?;
    assert_eq!(kept.len(), 501 - 50 + 1);
    shell(&mut stage, "").await?;
    assert_eq!(stage.keys("shells/").await?, kept, "this one is remembered");
    Ok(())
}

//! Commands in units, shells, log lines.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt as _;
use gantry_core::{Error, ShellOptions};
use gantry_engine::stream::Session;
use gantry_runtime::{CallError, TailOptions};

use super::stage::*;

/// Where a command runs.
#[derive(Clone, Copy, Debug)]
enum Place {
    All,
    One,
    Alone,
}

/// Runs a command, and gives its code and what it wrote.
async fn run(
    stage: &mut Stage,
    place: Place,
    line: &str,
    args: &[&str],
) -> Result<(i32, String), CallError> {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let (stdout, output) = ends();
    let stderr = Box::pin(tokio::io::sink());
    let (operation, app, on) = (stage.operation(), &stage.app, &stage.provisioner);
    let code = match place {
        Place::All => on.execute(&operation, app, line, &args, stdout, stderr).await,
        Place::One => on.execute_once(&operation, app, line, &args, stdout, stderr).await,
        Place::Alone => on.execute_isolated(&operation, app, line, &args, stdout, stderr).await,
    }?;
    // What is not text is no answer of the test's.
    let text = written(output).await.unwrap_or_default();
    Ok((code, text))
}

pub(super) async fn in_all(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.backend.ran();
    let (code, output) = run(&mut stage, Place::All, "exit 0", &["a b"]).await?;
    ensure!(code == 0 && output == RAN.repeat(4), "{code}: {output}");
    let ran = stage.backend.ran();
    let units: BTreeSet<String> = ran.iter().map(|ran| ran.unit.clone()).collect();
    ensure!(ran.len() == 4 && units == stage.ids("").await?, "it ran in {units:?}");
    let keeps = |ran: &Ran| ran.words.ends_with(&["exit 0".to_owned(), "a b".to_owned()]);
    ensure!(ran.iter().all(keeps), "{ran:?}");
    Ok(())
}

pub(super) async fn to_the_first_failure(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.backend.ran();
    let (code, output) = run(&mut stage, Place::All, "exit 7", &[]).await?;
    ensure!(code == 7 && output == RAN, "{code}: {output}");
    ensure!(stage.backend.ran().len() == 1, "it went on");
    Ok(())
}

pub(super) async fn in_one(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    stage.backend.ran();
    for wanted in [0, 5] {
        let (code, output) =
            run(&mut stage, Place::One, &format!("exit {wanted}"), &["a b"]).await?;
        ensure!(code == wanted && output == RAN, "{code}: {output}");
        let ran = stage.backend.ran();
        let [Ran { unit, words }] = ran.as_slice() else { anyhow::bail!("it ran in {ran:?}") };
        ensure!(stage.ids("").await?.contains(unit), "it ran in {unit}");
        ensure!(words.last().is_some_and(|word| word == "a b"), "{words:?}");
    }
    Ok(())
}

pub(super) async fn alone(mut stage: Stage) -> Result<()> {
    stage.serving(2).await?;
    let (units, before) = (stage.ids("").await?, stage.backend.left().await?);
    stage.backend.ran();
    for wanted in [0, 3] {
        let (code, output) =
            run(&mut stage, Place::Alone, &format!("exit {wanted}"), &["a b"]).await?;
        ensure!(code == wanted && output == ALONE, "{code}: {output}");
        let ran = stage.backend.ran();
        let [Ran { unit, words }] = ran.as_slice() else { anyhow::bail!("it ran in {ran:?}") };
        ensure!(!units.contains(unit), "it ran in a unit");
        ensure!(words.last().is_some_and(|word| word == "a b"), "{words:?}");
        ensure!(stage.ids("").await? == units, "there are other units than before");
        let left = stage.backend.left().await?;
        ensure!(left == before, "there is {left:?} and not {before:?}");
    }
    Ok(())
}

pub(super) async fn without_units(mut stage: Stage) -> Result<()> {
    for serves in [false, true] {
        if serves {
            stage.serving(1).await?;
            stage.stop("").await?;
        }
        for place in [Place::All, Place::One] {
            let error = refusal(run(&mut stage, place, "exit 0", &[]).await)?;
            ensure!(error == Error::EmptyApp, "{place:?}: {error:?}");
        }
    }
    ensure!(stage.backend.ran().is_empty(), "something ran");
    Ok(())
}

pub(super) async fn alone_while_stopped(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    stage.stop("").await?;
    let (code, output) = run(&mut stage, Place::Alone, "exit 3", &[]).await?;
    ensure!(code == 3 && output == ALONE, "{code}: {output}");
    Ok(())
}

pub(super) async fn alone_before_a_deploy(mut stage: Stage) -> Result<()> {
    refusal(run(&mut stage, Place::Alone, "exit 0", &[]).await)?;
    let left = stage.left().await?;
    ensure!(left.is_empty(), "{left:?} are left");
    Ok(())
}

pub(super) async fn not_in_failed(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let failed = stage.unit("web").await?.id;
    stage.backend.fail(&failed).await?;
    stage.backend.ran();
    let (code, _) = run(&mut stage, Place::All, "exit 0", &[]).await?;
    let ran: Vec<String> = stage.backend.ran().into_iter().map(|ran| ran.unit).collect();
    let worker = stage.unit("worker").await?.id;
    ensure!(code == 0 && ran == [worker], "it ran in {ran:?}");
    Ok(())
}

/// A shell in this unit; in any when it is empty.
async fn open(stage: &mut Stage, unit: &str) -> Result<Session, CallError> {
    let options =
        ShellOptions { unit: unit.to_owned(), term: "xterm".to_owned(), width: 80, height: 24 };
    let operation = stage.operation();
    stage.provisioner.shell(&operation, &stage.app, &options).await
}

pub(super) async fn shell(mut stage: Stage) -> Result<()> {
    let error = refusal(open(&mut stage, "").await)?;
    ensure!(error == Error::EmptyApp, "it was {error:?}");
    stage.serving(1).await?;
    let id = stage.unit("worker").await?.id;
    for (unit, is) in [("", None), (&id, Some(&id)), (&id[..id.len() - 1], Some(&id))] {
        stage.backend.ran();
        let mut session = open(&mut stage, unit).await?;
        ensure!(session.input.is_some() && session.sizes.is_some(), "it is no terminal");
        let said = session.chunks.next().await.context("it says something")??;
        ensure!(said.bytes == RAN, "{said:?}");
        let code = session.exit.context("it has an end")?.await?;
        ensure!(code == 0, "it ended with {code}");
        let ran = stage.backend.ran();
        let [Ran { unit, .. }] = ran.as_slice() else { anyhow::bail!("it ran in {ran:?}") };
        ensure!(is.is_none_or(|is| is == unit), "it ran in {unit}");
    }
    Ok(())
}

pub(super) async fn no_shell(mut stage: Stage) -> Result<()> {
    stage.serving(1).await?;
    let other = app("other");
    stage.platform.put_app(other.clone());
    let operation = stage.operation();
    stage.provisioner.deploy(&operation, &other, "plain:1").await?;
    let theirs = stage.provisioner.units(&question(), &[other]).await?;
    let [theirs] = theirs.as_slice() else { anyhow::bail!("{theirs:?}") };
    for unit in ["nobody", theirs.id.as_str()] {
        let error = refusal(open(&mut stage, unit).await)?;
        ensure!(error == Error::UnitNotFound(unit.to_owned()), "{unit}: {error:?}");
    }
    Ok(())
}

pub(super) async fn ambiguous(mut stage: Stage) -> Result<()> {
    // There are sixteen digits that an id may begin with.
    stage.serving(9).await?;
    let ids: Vec<String> = stage.ids("").await?.into_iter().collect();
    let pairs = ids.iter().zip(ids.iter().skip(1));
    let same = |(one, other): (&String, &String)| {
        let same = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
        one[..same].to_owned()
    };
    let mut starts = pairs.map(same).filter(|start| !start.is_empty() && !ids.contains(start));
    let start = starts.next().context("two begin alike")?;
    let operation = stage.operation();
    let shell = open(&mut stage, &start).await.map(drop);
    let kill = stage.provisioner.kill_unit(&operation, &stage.app, &start, true).await;
    for result in [shell, kill] {
        let error = refusal(result)?;
        let told = matches!(error, Error::InvalidArgument(_));
        ensure!(told && error.to_string().contains(&start), "it was {error:?}");
    }
    ensure!(ids == stage.ids("").await?.into_iter().collect::<Vec<_>>(), "one was ended");
    Ok(())
}

/// The units whose lines are told, with what they say.
async fn lines(stage: &mut Stage, process: &str, unit: &str) -> Result<BTreeSet<String>> {
    let options = TailOptions {
        process: process.to_owned(),
        unit: unit.to_owned(),
        lines: 10,
        follow: false,
    };
    let operation = stage.operation();
    let sources = stage.provisioner.tail(&operation, &stage.app, &options).await?;
    let mut units = BTreeSet::new();
    for mut source in sources {
        ensure!(process.is_empty() || source.process == process, "it is of {}", source.process);
        let line = source.lines.chunks.next().await.context("a line")??;
        ensure!(line.bytes == SERVING, "{line:?}");
        units.insert(source.unit);
    }
    Ok(units)
}

pub(super) async fn logs(mut stage: Stage) -> Result<()> {
    let enabled = stage.provisioner.logs_enabled(&question(), &stage.app).await?;
    ensure!(enabled.enabled, "{}", enabled.doc);
    let nobody = lines(&mut stage, "", "").await?;
    ensure!(nobody.is_empty(), "{nobody:?}");
    stage.serving(2).await?;
    ensure!(lines(&mut stage, "", "").await? == stage.ids("").await?, "of other units");
    ensure!(lines(&mut stage, "web", "").await? == stage.ids("web").await?, "of other units");
    let id = stage.unit("worker").await?.id;
    let one = lines(&mut stage, "", &id).await?;
    ensure!(one == BTreeSet::from([id]), "of {one:?}");
    let options = TailOptions { unit: "nobody".to_owned(), ..TailOptions::default() };
    let tail = stage.provisioner.tail(&question(), &stage.app, &options).await;
    let error = refusal(tail)?;
    ensure!(error == Error::UnitNotFound("nobody".to_owned()), "it was {error:?}");
    Ok(())
}

//! What Gantry costs beside the direct way. Both ways of a row run in turn in one process, and the ratio is that of the medians; nothing here is asserted, for machines differ.
//!
//! `cargo bench -p gantry-tests` runs all of it, `cargo bench -p gantry-tests -- calls load` only these parts: `calls`, `load`, `docker`, `hosts`, `kubernetes`, `nodes`, `memory`. `docker` needs a Docker engine, `hosts` starts three and needs one for its image, `kubernetes` starts a cluster of its own. Where a row has an aim, its name says it.

mod docker;
mod hosts;
mod kubernetes;
mod memory;
mod nodes;

use std::collections::BTreeSet;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_trait::async_trait;
use gantry_core::App;
use gantry_engine::memory::{Memory, Platform};
use gantry_engine::{Chain, Config, Operation};
use gantry_runtime::{Bound, Bounds, LoadSettings, Provisioner, Runtime, RuntimeSettings};
use gantry_tests::artifacts;
use serde_json::json;

/// The median of what was measured.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A row: our median, the other's, and the ratio.
fn row(name: &str, ours: Duration, direct: Option<(&str, Duration)>) {
    let Some((what, direct)) = direct else {
        println!("{name:<44} {ours:>12.3?}");
        return;
    };
    let ratio = ours.as_secs_f64() / direct.as_secs_f64();
    println!("{name:<44} {ours:>12.3?}   {what}: {direct:>10.3?}   ratio {ratio:.2}");
}

fn settings(chain: Chain) -> LoadSettings {
    LoadSettings {
        granted: BTreeSet::new(),
        bounds: Bounds::default()
            .with(Bound::HostCalls, 1 << 28)
            .with(Bound::HostCallRate, 1 << 28),
        config: Arc::new(Config::new(json!({}))),
        instance: "bench".into(),
        chain,
    }
}

fn app() -> App {
    App { name: "bench".to_owned(), pool: "default".to_owned(), ..App::default() }
}

fn operation() -> Operation {
    Operation::new("bench", Duration::from_secs(1800))
}

/// The contract's verb as a compiled-in interface has it.
#[async_trait]
trait Native: Send + Sync {
    async fn provision(&self, operation: &Operation, app: &App) -> Result<()>;
}

struct Noop;

#[async_trait]
impl Native for Noop {
    async fn provision(&self, _: &Operation, app: &App) -> Result<()> {
        std::hint::black_box(app);
        Ok(())
    }
}

/// Runs two ways in turn and gives the median of each, per call.
async fn pair<A: Future<Output = Result<()>>, B: Future<Output = Result<()>>>(
    rounds: usize,
    calls: u32,
    ours: impl Fn() -> A,
    direct: impl Fn() -> B,
) -> Result<(Duration, Duration)> {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let begun = Instant::now();
        for _ in 0..calls {
            ours().await?;
        }
        let took = begun.elapsed() / calls;
        let begun = Instant::now();
        for _ in 0..calls {
            direct().await?;
        }
        // The first round warms up.
        if round > 0 {
            one.push(took);
            other.push(begun.elapsed() / calls);
        }
    }
    Ok((median(one), median(other)))
}

async fn calls() -> Result<()> {
    let runtime = Runtime::new(RuntimeSettings::default())?;
    let chain =
        Chain::new(Platform::new().app(app()).backends("bench", [("memory", Memory::new())]));
    let load = |name: &'static str| {
        let (runtime, settings) = (runtime.clone(), settings(chain.clone()));
        async move {
            let generation =
                runtime.load("bench", &std::fs::read(artifacts::guest(name)?)?, settings).await?;
            anyhow::Ok(Provisioner::new("bench", generation))
        }
    };
    let (app, operation) = (app(), operation());

    let plugin = load("noop").await?;
    let native: Arc<dyn Native> = Arc::new(Noop);
    let (ours, direct) = pair(
        15,
        2_000,
        || async { Ok(plugin.provision(&operation, &app).await?) },
        || async { native.provision(&operation, &app).await },
    )
    .await?;
    row("no-op call through a fresh instance", ours, Some(("native trait call", direct)));

    let calls = load("calls").await?;
    for kind in ["labels", "config"] {
        const MANY: u32 = 20_000;
        let (many, none) = pair(
            15,
            5,
            || async { Ok(calls.add_units(&operation, &app, MANY, kind).await?) },
            || async { Ok(calls.add_units(&operation, &app, 0, kind).await?) },
        )
        .await?;
        row(&format!("one host call of `{kind}`"), many.saturating_sub(none) / MANY, None);
    }
    Ok(())
}

async fn load() -> Result<()> {
    let bytes = std::fs::read(artifacts::docker_plugin()?)?;
    let folder = tempfile::tempdir()?;
    let chain = Chain::new(Platform::new().backends("docker", [("memory", Memory::new())]));
    let (mut cold, mut cached) = (Vec::new(), Vec::new());
    for round in 0..7 {
        let cache = folder.path().join(format!("cache-{round}"));
        for times in [&mut cold, &mut cached] {
            let runtime = Runtime::new(RuntimeSettings {
                cache: Some(cache.clone()),
                ..RuntimeSettings::default()
            })?;
            let begun = Instant::now();
            runtime.load("docker", &bytes, settings(chain.clone())).await?;
            times.push(begun.elapsed());
        }
    }
    row("load of the docker plugin, from the cache", median(cached), Some(("cold", median(cold))));
    Ok(())
}

fn main() -> ExitCode {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    let run = async {
        if is_wanted("calls") {
            calls().await.context("calls")?;
        }
        if is_wanted("load") {
            load().await.context("load")?;
        }
        if is_wanted("docker") {
            docker::deploy().await.context("docker")?;
        }
        if is_wanted("hosts") {
            hosts::deploy().await.context("hosts")?;
        }
        if is_wanted("kubernetes") {
            kubernetes::deploy().await.context("kubernetes")?;
        }
        if is_wanted("nodes") {
            nodes::rebalance().await.context("nodes")?;
        }
        if is_wanted("memory") {
            memory::of_daemon().await.context("memory")?;
        }
        anyhow::Ok(())
    };
    let outcome = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

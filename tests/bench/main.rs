//! What Gantry costs beside the direct way. Both ways of a row run in turn in one process, and the ratio is that of the medians; nothing here is asserted, for machines differ.
//!
//! `cargo bench -p gantry-tests` runs all of it, `cargo bench -p gantry-tests -- calls load` only these parts: `calls`, `load`, `deploy`. The last needs a Docker engine.

use std::collections::HashMap;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_trait::async_trait;
use bollard::models::{
    ContainerCreateBody, HostConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use futures_util::future::try_join_all;
use gantry_core::App;
use gantry_engine::docker::Endpoint;
use gantry_engine::memory::{Memory, Platform};
use gantry_engine::{Chain, Config, Docker, Operation};
use gantry_runtime::{Bound, Bounds, LoadSettings, Provisioner, Runtime, RuntimeSettings};
use gantry_tests::artifacts;
use serde_json::json;

/// What is deployed.
const IMAGE: &str = "gantry-bench/app:v1";

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
        granted: Default::default(),
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

/// Makes and starts so many containers, as the plugin does, directly.
async fn start_directly(
    docker: &bollard::Docker,
    count: usize,
    round: usize,
) -> Result<Vec<String>> {
    try_join_all((0..count).map(|number| async move {
        let port = "8888/tcp".to_owned();
        let binding = PortBinding { host_ip: Some(String::new()), host_port: Some(String::new()) };
        let command =
            "[ -d /home/application/current ] && cd /home/application/current; exec serve";
        let env =
            ["TSURU_SERVICES={}", "TSURU_PROCESSNAME=web", "TSURU_HOST=", "port=8888", "PORT=8888"];
        let body = ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            cmd: Some(["/bin/sh", "-lc", command].map(str::to_owned).into()),
            entrypoint: Some(Vec::new()),
            env: Some(env.map(str::to_owned).into()),
            labels: Some(HashMap::from([(
                "gantry.instance".to_owned(),
                "bench-direct".to_owned(),
            )])),
            exposed_ports: Some(vec![port.clone()]),
            host_config: Some(HostConfig {
                port_bindings: Some(HashMap::from([(port, Some(vec![binding]))])),
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::ALWAYS),
                    maximum_retry_count: None,
                }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let name = CreateContainerOptionsBuilder::new()
            .name(&format!("bench-direct-{round}-{number}"))
            .build();
        let id = docker.create_container(Some(name), body).await?.id;
        docker.start_container(&id, None).await?;
        docker.inspect_container(&id, None).await?;
        anyhow::Ok(id)
    }))
    .await
}

/// A deploy directly: look at the image, start as many new containers as there are old ones, then stop and remove the old ones.
async fn deploy_directly(
    docker: &bollard::Docker,
    old: &[String],
    round: usize,
) -> Result<Vec<String>> {
    docker.inspect_image(IMAGE).await?;
    let ids = start_directly(docker, old.len(), round).await?;
    try_join_all(old.iter().map(|id| async move {
        docker.stop_container(id, Some(StopContainerOptionsBuilder::new().t(10).build())).await?;
        docker
            .remove_container(id, Some(RemoveContainerOptionsBuilder::new().v(true).build()))
            .await?;
        anyhow::Ok(())
    }))
    .await?;
    Ok(ids)
}

/// Removes what a benchmark that failed left.
struct Leftovers;

impl Drop for Leftovers {
    fn drop(&mut self) {
        for instance in ["bench", "bench-direct"] {
            let filter = format!("label=gantry.instance={instance}");
            let ids = gantry_tests::daemon::docker(&["ps", "-aq", "--filter", &filter])
                .unwrap_or_default();
            for id in ids.split_whitespace() {
                // Best effort.
                let _ = gantry_tests::daemon::docker(&["rm", "-f", "-v", id]);
            }
        }
    }
}

async fn deploy() -> Result<()> {
    let _leftovers = Leftovers;
    // No health check: it waits for the app, not for the platform.
    artifacts::image(
        IMAGE,
        "bench",
        "RUN [\"/bin/busybox\", \"rm\", \"/home/application/current/tsuru.yaml\"]",
    )?;
    let direct = bollard::Docker::connect_with_defaults()?.negotiate_version().await?;
    let endpoint = Endpoint::from_env()?;
    let platform = Platform::new().app(app());
    let address = endpoint.address().to_owned();
    let chain = Chain::new(platform.backends("docker", [(address, Docker::new(endpoint)?)]));
    let runtime = Runtime::new(RuntimeSettings::default())?;
    let generation = runtime
        .load("docker", &std::fs::read(artifacts::docker_plugin()?)?, settings(chain))
        .await?;
    let docker = Provisioner::new("docker", generation);
    let mut app = app();

    docker.deploy(&operation(), &app, IMAGE).await?;
    app.deploys = 1;
    platform.put_app(app.clone());
    let mut running = start_directly(&direct, 1, 0).await?;
    let mut round = 1;
    for (count, rounds) in [(1, 9), (10, 5), (50, 3)] {
        if let Some(more) = u32::try_from(count - running.len()).ok().filter(|more| *more > 0) {
            docker.add_units(&operation(), &app, more, "web").await?;
            running.extend(start_directly(&direct, count - running.len(), round).await?);
            round += 1;
        }
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let begun = Instant::now();
            docker.deploy(&operation(), &app, IMAGE).await?;
            ours.push(begun.elapsed());
            let begun = Instant::now();
            running = deploy_directly(&direct, &running, round).await?;
            theirs.push(begun.elapsed());
            round += 1;
        }
        row(
            &format!("deploy that replaces {count} units"),
            median(ours),
            Some(("direct", median(theirs))),
        );
    }
    docker.destroy(&operation(), &app).await?;
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
        if is_wanted("deploy") {
            deploy().await.context("deploy")?;
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

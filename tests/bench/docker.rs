//! A deploy on Docker beside the same Docker calls, made directly.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::Result;
use bollard::models::{
    ContainerCreateBody, HostConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use futures_util::future::try_join_all;
use gantry_engine::docker::Endpoint;
use gantry_engine::memory::Platform;
use gantry_engine::{Chain, Docker};
use gantry_runtime::{Provisioner, Runtime, RuntimeSettings};
use gantry_tests::artifacts;

use crate::{app, median, operation, row, settings};

/// What is deployed.
const IMAGE: &str = "gantry-bench/app:v1";

/// What a unit's container is made of, as the plugin makes it.
pub(crate) fn body(image: &str) -> ContainerCreateBody {
    let port = "8888/tcp".to_owned();
    let binding = PortBinding { host_ip: Some(String::new()), host_port: Some(String::new()) };
    let command = "[ -d /home/application/current ] && cd /home/application/current; exec serve";
    let env =
        ["TSURU_SERVICES={}", "TSURU_PROCESSNAME=web", "TSURU_HOST=", "port=8888", "PORT=8888"];
    ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(["/bin/sh", "-lc", command].map(str::to_owned).into()),
        entrypoint: Some(Vec::new()),
        env: Some(env.map(str::to_owned).into()),
        labels: Some(HashMap::from([("gantry.instance".to_owned(), "bench-direct".to_owned())])),
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
    }
}

/// Makes and starts so many containers, as the plugin does, directly.
async fn start_directly(
    docker: &bollard::Docker,
    count: usize,
    round: usize,
) -> Result<Vec<String>> {
    try_join_all((0..count).map(|number| async move {
        let name = CreateContainerOptionsBuilder::new()
            .name(&format!("bench-direct-{round}-{number}"))
            .build();
        let id = docker.create_container(Some(name), body(IMAGE)).await?.id;
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

pub(crate) async fn deploy() -> Result<()> {
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

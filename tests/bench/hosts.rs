//! Fifty units over three Docker hosts, each with mutual TLS, beside the same Docker calls on the same three, made directly: side by side on all of them, and spread as the plugin spreads units.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use bollard::API_DEFAULT_VERSION;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use futures_util::future::try_join_all;
use gantry_core::App;
use gantry_engine::docker::Endpoint;
use gantry_engine::layer::Next;
use gantry_engine::memory::Platform;
use gantry_engine::{Call, Chain, Docker, Error, Layer, Request, Response, Scope};
use gantry_runtime::{Provisioner, Runtime, RuntimeSettings};
use gantry_tests::artifacts;
use gantry_tests::daemon::docker;
use gantry_tests::hosts::Hosts;

use crate::docker::body;
use crate::{app, median, operation, row, settings};

const IMAGE: &str = "gantry-bench/hosts:v1";
const HOSTS: usize = 3;
const UNITS: usize = 50;
const ROUNDS: usize = 5;

/// How many calls reached the engines.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Counted {
    fn so_far(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

#[async_trait]
impl Layer for Counted {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        if matches!(request.call, Call::Containers { .. }) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
        next.send(scope, request).await
    }
}

/// The hosts as they are spoken to directly. A unit is the number of its host and an id.
struct Direct {
    hosts: Vec<bollard::Docker>,
    calls: AtomicUsize,
}

type Unit = (usize, String);

impl Direct {
    async fn new(hosts: &Hosts) -> Result<Self> {
        let folder = hosts.certificates();
        let file = |name: &str| folder.join(name);
        let connect = hosts.hosts.iter().map(|host| async {
            let address = format!("tcp://{}:2376", host.address);
            let (key, cert, ca) = (file("key.pem"), file("cert.pem"), file("ca.pem"));
            let version = API_DEFAULT_VERSION;
            let docker =
                bollard::Docker::connect_with_ssl(&address, &key, &cert, &ca, 120, version)?;
            anyhow::Ok(docker.negotiate_version().await?)
        });
        let hosts = try_join_all(connect).await?;
        Ok(Self { hosts, calls: AtomicUsize::new(0) })
    }

    /// A host, for a call to it.
    fn on(&self, host: usize) -> Result<&bollard::Docker> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        self.hosts.get(host).context("a host with this number")
    }

    /// Makes and starts so many containers.
    async fn start(&self, count: usize, round: usize) -> Result<Vec<Unit>> {
        try_join_all((0..count).map(|number| async move {
            let host = number % self.hosts.len();
            let name = format!("bench-direct-{round}-{number}");
            let name = CreateContainerOptionsBuilder::new().name(&name).build();
            let id = self.on(host)?.create_container(Some(name), body(IMAGE)).await?.id;
            self.on(host)?.start_container(&id, None).await?;
            self.on(host)?.inspect_container(&id, None).await?;
            anyhow::Ok((host, id))
        }))
        .await
    }

    async fn remove(&self, units: &[Unit]) -> Result<()> {
        try_join_all(units.iter().map(|(host, id)| async move {
            let stop = StopContainerOptionsBuilder::new().t(10).build();
            self.on(*host)?.stop_container(id, Some(stop)).await?;
            let remove = RemoveContainerOptionsBuilder::new().v(true).build();
            self.on(*host)?.remove_container(id, Some(remove)).await?;
            anyhow::Ok(())
        }))
        .await
        .map(drop)
    }

    /// A deploy: sees which of the old containers there are, looks at the image everywhere, starts as many new ones, then stops and removes the old ones.
    async fn deploy(&self, old: &[Unit], round: usize) -> Result<Vec<Unit>> {
        try_join_all((0..self.hosts.len()).map(|host| async move {
            let list = ListContainersOptionsBuilder::new().all(true).build();
            self.on(host)?.list_containers(Some(list)).await?;
            anyhow::Ok(())
        }))
        .await?;
        try_join_all((0..self.hosts.len()).map(|host| async move {
            self.on(host)?.inspect_image(IMAGE).await?;
            anyhow::Ok(())
        }))
        .await?;
        let new = self.start(old.len(), round).await?;
        self.remove(old).await?;
        Ok(new)
    }
}

struct Bench {
    direct: Direct,
    gantry: Provisioner,
    counted: Arc<Counted>,
    app: App,
    hosts: Hosts,
}

impl Bench {
    async fn new() -> Result<Self> {
        let hosts = Hosts::start(HOSTS)?;
        // No health check: it waits for the app, not for the platform.
        artifacts::image(
            IMAGE,
            "bench",
            "RUN [\"/bin/busybox\", \"rm\", \"/home/application/current/tsuru.yaml\"]",
        )?;
        for host in &hosts.hosts {
            hosts.load(host, IMAGE)?;
        }
        docker(&["rmi", IMAGE])?;
        let direct = Direct::new(&hosts).await?;
        let engine = |host: &gantry_tests::hosts::Host| {
            let endpoint = Endpoint::parse(&format!("tcp://{}:2376", host.address))?;
            let endpoint = endpoint.with_certificates(hosts.certificates());
            anyhow::Ok((endpoint.address().to_owned(), Docker::new(endpoint)?))
        };
        let engines = hosts.hosts.iter().map(engine).collect::<Result<Vec<_>>>()?;
        let mut app = app();
        let platform = Platform::new().app(app.clone());
        let counted = Arc::new(Counted::default());
        let layers = vec![Arc::clone(&counted) as Arc<dyn Layer>];
        let chain = Chain::with(platform.backends("docker", engines), layers);
        let plugin = std::fs::read(artifacts::docker_plugin()?)?;
        let runtime = Runtime::new(RuntimeSettings::default())?;
        let generation = runtime.load("docker", &plugin, settings(chain)).await?;
        let gantry = Provisioner::new("docker", generation);
        gantry.deploy(&operation(), &app, IMAGE).await?;
        app.deploys = 1;
        platform.put_app(app.clone());
        Ok(Self { direct, gantry, counted, app, hosts })
    }

    async fn add(&self, units: usize) -> Result<()> {
        let units = u32::try_from(units)?;
        Ok(self.gantry.add_units(&operation(), &self.app, units, "web").await?)
    }

    async fn remove(&self, units: usize) -> Result<()> {
        let units = u32::try_from(units)?;
        Ok(self.gantry.remove_units(&operation(), &self.app, units, "web").await?)
    }

    /// How many containers are on each host, the fewest first.
    fn spread(&self) -> Result<Vec<usize>> {
        let hosts = self.hosts.hosts.iter();
        let counts = hosts.map(|host| Ok(self.hosts.docker(host, &["ps", "-q"])?.lines().count()));
        let mut counts = counts.collect::<Result<Vec<_>>>()?;
        counts.sort_unstable();
        Ok(counts)
    }
}

pub(crate) async fn deploy() -> Result<()> {
    let bench = Bench::new().await?;
    let Bench { direct, gantry, counted, app, .. } = &bench;

    // What is started in a round goes after it, unmeasured. The first round warms up.
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let begun = Instant::now();
        bench.add(UNITS).await?;
        ours.push(begun.elapsed());
        bench.remove(UNITS).await?;
        let begun = Instant::now();
        let started = direct.start(UNITS, round).await?;
        theirs.push(begun.elapsed());
        direct.remove(&started).await?;
    }
    let (ours, theirs) = (ours.split_off(1), theirs.split_off(1));
    row(
        &format!("{UNITS} more units on {HOSTS} hosts, aim 1.10"),
        median(ours),
        Some(("direct", median(theirs))),
    );

    bench.add(UNITS - 1).await?;
    ensure!(bench.spread()? == [16, 17, 17], "{:?}", bench.spread()?);
    let mut running = direct.start(UNITS, ROUNDS + 1).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let before = (counted.so_far(), direct.calls.load(Ordering::Acquire));
    for round in 0..ROUNDS {
        let begun = Instant::now();
        gantry.deploy(&operation(), app, IMAGE).await?;
        ours.push(begun.elapsed());
        let begun = Instant::now();
        running = direct.deploy(&running, ROUNDS + 2 + round).await?;
        theirs.push(begun.elapsed());
    }
    let after = (counted.so_far(), direct.calls.load(Ordering::Acquire));
    row(
        &format!("deploy of {UNITS} units on {HOSTS} hosts, aim 1.10"),
        median(ours),
        Some(("direct", median(theirs))),
    );
    println!(
        "{:<44} {:>12.1}   direct: {:>10.1}",
        "calls of such a deploy",
        (after.0 - before.0) as f64 / ROUNDS as f64,
        (after.1 - before.1) as f64 / ROUNDS as f64,
    );
    Ok(())
}

//! An app over three engines in memory, with what stands between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use gantry_core::container::Container;
use gantry_core::node::RebalanceOptions;
use gantry_core::record::UnitRecord;
use gantry_core::{App, AppRouter, Status, Unit};
use gantry_engine::call::{ExecOptions, HttpRequest, HttpResponse};
use gantry_engine::layer::identity::OPERATION;
use gantry_engine::memory::{Ended, Life, Memory, Platform, Processes};
use gantry_engine::operation::Progress;
use gantry_engine::{
    Apps as _, Chain, Config, Containers as _, Images as _, Layer, Operation, Routers as _, State,
};
use gantry_runtime::{Bounds, CallError, Cause, LoadSettings, Provisioner, Runtime};
use gantry_tests::artifacts;
use gantry_tests::screen::Screen;
use serde_json::json;

use super::super::stage::{chunk, image};
use super::mishaps::{Calls, Mishap, Place};

pub(super) const NODES: [&str; 3] =
    ["tcp://10.0.0.1:2375", "tcp://10.0.0.2:2375", "tcp://10.0.0.3:2375"];

/// The router of every app, and one that an app may have too.
pub(super) const ROUTER: &str = "edge";
pub(super) const OTHER_ROUTER: &str = "other";

/// The processes of the app: a web server, and commands that end well, unless somebody says otherwise.
#[derive(Default)]
pub(super) struct Played {
    /// What the web server answers next; 200 when there is nothing.
    pub(super) answers: Mutex<VecDeque<u16>>,
    /// The command that fails.
    pub(super) fails: Mutex<Option<&'static str>>,
    /// The processes that end as soon as they are started.
    pub(super) ends: Mutex<Option<&'static str>>,
    /// What was done in containers, in order: in which, and what.
    pub(super) seen: Mutex<Vec<(String, String)>>,
}

impl Played {
    fn saw(&self, container: &Container, what: &str) {
        self.seen.lock().unwrap().push((container.name.clone(), what.to_owned()));
    }
}

impl Processes for Played {
    fn start(&self, container: &Container) -> Life {
        let command = container.config.cmd.clone().unwrap_or_default().join(" ");
        self.saw(container, "started");
        let ends = self.ends.lock().unwrap().is_some_and(|process| command.ends_with(process));
        Life { output: vec![chunk("serving\n")], ends_with: ends.then_some(1) }
    }

    fn exec(&self, container: &Container, options: &ExecOptions) -> Option<Ended> {
        let line = options.command.last()?;
        self.saw(container, line);
        let fails = self.fails.lock().unwrap().is_some_and(|command| command == line);
        Some(Ended { output: vec![chunk("ran\n")], exit_code: if fails { 3 } else { 0 } })
    }

    fn http(&self, container: &Container, request: &HttpRequest) -> Option<HttpResponse> {
        self.saw(container, &format!("asked for {}", request.path));
        let status = self.answers.lock().unwrap().pop_front().unwrap_or(200);
        Some(HttpResponse { status, body: Vec::new() })
    }
}

/// An image: its name, its Procfile and its tsuru.yaml.
pub(super) type Picture = (&'static str, &'static str, &'static str);

/// The app, and everything below and around it.
pub(super) struct Shop {
    pub(super) runtime: Runtime,
    pub(super) engines: Vec<(&'static str, Memory)>,
    pub(super) platform: Platform,
    pub(super) provisioner: Provisioner,
    pub(super) calls: Arc<Calls>,
    pub(super) played: Arc<Played>,
    pub(super) app: App,
    pub(super) apps: u32,
    operations: u32,
}

fn question() -> Operation {
    Operation::new("", Duration::from_secs(60))
}

impl Shop {
    pub(super) async fn new(runtime: &Runtime, pictures: &[Picture]) -> Result<Self> {
        let played = Arc::new(Played::default());
        let engine = |node: &str| {
            let engine = Memory::playing(Arc::clone(&played) as Arc<dyn Processes>);
            let with = |engine: Memory, (name, procfile, yaml): &Picture| {
                let files = [
                    ("/bin/bash", b"bash".as_slice()),
                    ("/Procfile", procfile.as_bytes()),
                    ("/tsuru.yaml", yaml.as_bytes()),
                ];
                engine.with_image(name, image(json!({"Cmd": ["serve", name]})), files)
            };
            pictures.iter().fold(engine, with).named(node)
        };
        let engines: Vec<_> = NODES.map(|node| (node, engine(node))).into();
        let platform = Platform::new();
        let calls = Arc::new(Calls::default());
        // One place a machine: whoever kept one would stop the next change.
        let config = json!({
            "routers": {ROUTER: {"type": "fake"}, OTHER_ROUTER: {"type": "fake"}},
            "docker": {
                "limit": {"actions-per-host": 1},
                "healing": {"disabled-time": 0},
                "healthcheck": {"max-time": 1},
            },
        });
        let backends = platform.backends("docker", engines.clone());
        let generation = runtime
            .load(
                "docker",
                &std::fs::read(artifacts::docker_plugin()?)?,
                LoadSettings {
                    granted: BTreeSet::new(),
                    bounds: Bounds::default(),
                    config: Arc::new(Config::new(config)),
                    instance: "memory".into(),
                    chain: Chain::with(backends, vec![Arc::clone(&calls) as Arc<dyn Layer>]),
                },
            )
            .await?;
        let mut shop = Self {
            runtime: runtime.clone(),
            engines,
            platform,
            provisioner: Provisioner::new("docker", generation),
            calls,
            played,
            app: App::default(),
            apps: 0,
            operations: 0,
        };
        shop.begin_app();
        Ok(shop)
    }

    /// Goes on with an app that was never deployed.
    pub(super) fn begin_app(&mut self) {
        self.apps += 1;
        let name = format!("shop{}", self.apps);
        self.app = App { name: name.clone(), pool: "p".to_owned(), ..App::default() };
        self.platform.put_app(self.app.clone());
        let router = AppRouter { name: ROUTER.to_owned(), ..AppRouter::default() };
        self.platform = self.platform.clone().router(&name, router);
    }

    pub(super) fn operation(&mut self) -> (Operation, Arc<Screen>) {
        self.operations += 1;
        let screen = Arc::new(Screen::default());
        let operation = Operation::new(format!("op-{}", self.operations), Duration::from_secs(60))
            .shown_to(Arc::clone(&screen) as Arc<dyn Progress>);
        (operation, screen)
    }

    /// Does it with nothing in the way.
    pub(super) async fn cleanly(&mut self, what: What) -> Result<()> {
        let ended = self.run(what, None).await?;
        ended.with_context(|| format!("{what:?} with nothing in the way"))
    }

    /// Does it, with or without a mishap, and waits until nothing of it goes on.
    pub(super) async fn run(
        &mut self,
        what: What,
        aim: Option<(Place, Mishap)>,
    ) -> Result<Result<(), CallError>> {
        let (operation, _) = self.operation();
        self.calls.begin(&operation.id, aim);
        let (held, dead) = {
            let script = self.calls.script();
            (Arc::clone(&script.held), Arc::clone(&script.dead))
        };
        let (provisioner, app) = (self.provisioner.clone(), self.app.clone());
        let mut task = tokio::spawn(async move { what.of(&provisioner, &operation, &app).await });
        let ended = tokio::select! {
            ended = &mut task => ended?,
            () = held.notified() => {
                task.abort();
                let ended = task.await;
                dead.notify_one();
                match ended {
                    Err(gone) if gone.is_cancelled() => {
                        Err(Cause::Host("the platform died".to_owned()).into())
                    }
                    ended => ended?,
                }
            }
        };
        self.runtime.settled().await;
        if ended.is_ok() && matches!(what, What::Deploy(_) | What::Rollback(_)) {
            self.app.deploys += 1;
            self.platform.put_app(self.app.clone());
        }
        Ok(ended)
    }

    /// What the platform does after every change of an app: the routes become where it is reached, and what is left of an operation that did not end well is removed.
    pub(super) async fn after(&self, ended_well: bool) -> Result<()> {
        let (operation, in_service) = {
            let script = self.calls.script();
            (script.operation.clone(), script.in_service)
        };
        if !ended_well && !in_service {
            let of = BTreeMap::from([(OPERATION.to_owned(), operation)]);
            for (_, engine) in &self.engines {
                for container in engine.list(true, &of).await? {
                    engine.remove(&container.id, true).await?;
                }
            }
        }
        let (platform, app) = (&self.platform, &self.app.name);
        // Services hear of units that are gone without a word.
        let units: BTreeSet<String> = self.units().await?.into_iter().map(|unit| unit.id).collect();
        for id in platform.record(app).context("the app")?.bound {
            if !units.contains(&id) {
                platform.unbind_unit(app, &Unit { id, ..Unit::default() }).await?;
            }
        }
        let addresses = self.provisioner.routable_addresses(&question(), &self.app).await?;
        let mut gone = platform.routes(ROUTER, app).await?;
        gone.retain(|address| !addresses.contains(address));
        platform.remove_routes(ROUTER, app, &gone).await?;
        Ok(platform.add_routes(ROUTER, app, &addresses).await?)
    }

    /// The platform starts again.
    pub(super) async fn start_again(&mut self) -> Result<()> {
        let (operation, _) = self.operation();
        Ok(self.provisioner.initialise(&operation).await?)
    }

    /// Looks after the machines once, as the platform does all the time.
    pub(super) async fn look_after(&mut self) -> Result<()> {
        for node in self.provisioner.examine(&question()).await?.recovered {
            let (operation, _) = self.operation();
            self.provisioner.take_back_node(&operation, &node.address).await?;
        }
        Ok(())
    }

    /// The image that is current, if any was deployed.
    pub(super) async fn current(&self) -> Option<String> {
        self.platform.current(&self.app.name).await.ok().filter(|name| name.contains("shop:"))
    }

    pub(super) async fn units(&self) -> Result<Vec<Unit>> {
        Ok(self.provisioner.units(&question(), std::slice::from_ref(&self.app)).await?)
    }

    /// The keys of the plugin that start so.
    pub(super) async fn keys(&self, prefix: &str) -> Result<Vec<gantry_engine::call::Entry>> {
        Ok(State::list(&self.platform, "docker", prefix, None, 0).await?.entries)
    }

    /// All containers, by id.
    pub(super) async fn containers(&self) -> Result<BTreeMap<String, Container>> {
        let mut all = BTreeMap::new();
        for (_, engine) in &self.engines {
            for container in engine.list(true, &BTreeMap::new()).await? {
                all.insert(container.id.clone(), engine.inspect(&container.id).await?);
            }
        }
        Ok(all)
    }

    pub(super) async fn look(&self) -> Result<Sight> {
        let app = &self.app.name;
        let record = self.platform.record(app).context("the app")?;
        let mut records: Vec<UnitRecord> = Vec::new();
        for entry in self.keys("units/").await? {
            records.push(serde_json::from_slice(&entry.value)?);
        }
        let mut leaving: Vec<String> = Vec::new();
        for entry in self.keys("leaving/").await? {
            leaving.extend(serde_json::from_slice::<Vec<String>>(&entry.value)?);
        }
        let orphans = self.keys("orphans/").await?;
        let placing = self.keys("placing/").await?;
        let routes = record.routes.get(ROUTER).cloned().unwrap_or_default();
        Ok(Sight {
            units: self.units().await?,
            containers: self.containers().await?,
            records,
            leaving,
            orphans: orphans.into_iter().map(|entry| entry.key).collect(),
            placing: placing.len(),
            routes: routes.addresses.into_iter().collect(),
            healthcheck: routes.healthcheck.map(|check| check.path),
            bound: record.bound.into_iter().collect(),
            in_use: usize::try_from(record.in_use)?,
            is_locked: self.platform.lock(app, "another", Duration::ZERO).await.is_err(),
        })
    }
}

/// A container that an image was read from.
pub(super) const READER: &str = "a reader";

/// What is done to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Deploy(&'static str),
    Rollback(&'static str),
    /// So many units of a process.
    Add(u32, &'static str),
    Remove(u32, &'static str),
    Restart,
    /// Every unit is moved.
    Rebalance,
    Sleep,
    Stop,
    Start,
    Destroy,
}

impl What {
    async fn of(
        self,
        docker: &Provisioner,
        operation: &Operation,
        app: &App,
    ) -> Result<(), CallError> {
        match self {
            Self::Deploy(image) => docker.deploy(operation, app, image).await.map(drop),
            Self::Rollback(image) => docker.rollback(operation, app, image).await.map(drop),
            Self::Add(count, process) => docker.add_units(operation, app, count, process).await,
            Self::Remove(count, process) => {
                docker.remove_units(operation, app, count, process).await
            }
            Self::Restart => docker.restart(operation, app, "").await,
            Self::Rebalance => {
                let forced = RebalanceOptions { force: true, ..RebalanceOptions::default() };
                docker.rebalance(operation, &forced).await.map(drop)
            }
            Self::Sleep => docker.sleep(operation, app, "").await,
            Self::Stop => docker.stop(operation, app, "").await,
            Self::Start => docker.start(operation, app, "").await,
            Self::Destroy => docker.destroy(operation, app).await,
        }
    }
}

/// What there is, on the engines and on the platform.
#[derive(Debug)]
pub(super) struct Sight {
    /// As the plugin lists them.
    pub(super) units: Vec<Unit>,
    pub(super) containers: BTreeMap<String, Container>,
    records: Vec<UnitRecord>,
    /// The names of those on their way out.
    leaving: Vec<String>,
    /// What is written down as left on machines.
    orphans: Vec<String>,
    /// How many pools have places that are held.
    placing: usize,
    pub(super) routes: BTreeSet<String>,
    pub(super) healthcheck: Option<String>,
    pub(super) bound: BTreeSet<String>,
    pub(super) in_use: usize,
    pub(super) is_locked: bool,
}

impl Sight {
    /// The units that are not on their way out.
    pub(super) fn serving(&self) -> impl Iterator<Item = &Unit> {
        self.units.iter().filter(|unit| !self.leaving.contains(&unit.name))
    }

    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.serving().map(|unit| unit.name.as_str()).collect()
    }

    /// How many serve, by process.
    pub(super) fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for unit in self.serving() {
            *counts.entry(unit.process_name.as_str()).or_default() += 1;
        }
        counts
    }

    /// The images that are served.
    pub(super) fn images(&self) -> BTreeSet<&str> {
        let image = |unit: &Unit| Some(self.containers.get(&unit.id)?.config.image.as_str());
        self.serving().filter_map(image).collect()
    }

    /// Where requests should go: to those of the serving web units that are not at rest and have not failed.
    pub(super) fn reachable(&self) -> BTreeSet<String> {
        let is_up = |unit: &&Unit| {
            unit.process_name == "web"
                && matches!(unit.status, Some(Status::Starting | Status::Started))
        };
        self.serving().filter(is_up).filter_map(|unit| unit.address.clone()).collect()
    }

    pub(super) fn statuses(&self) -> BTreeMap<&str, Option<Status>> {
        self.units.iter().map(|unit| (unit.name.as_str(), unit.status)).collect()
    }

    /// What nobody would take for a unit that serves, by kind.
    pub(super) fn left(&self) -> BTreeSet<&'static str> {
        let mut left = BTreeSet::new();
        let listed: BTreeSet<&str> = self.units.iter().map(|unit| unit.id.as_str()).collect();
        for (id, container) in &self.containers {
            if !listed.contains(id.as_str()) {
                let ours = self.orphans.iter().any(|key| key.ends_with(&container.name));
                let labels = container.config.labels.clone().unwrap_or_default();
                left.insert(match (ours, labels.contains_key("app-name")) {
                    (true, _) => "an orphan",
                    (false, true) => "a CONTAINER",
                    (false, false) => READER,
                });
            }
        }
        if self.records.iter().any(|record| !self.containers.contains_key(&record.id)) {
            left.insert("a record");
        }
        if self.units.iter().any(|unit| self.leaving.contains(&unit.name)) {
            left.insert("an old unit");
        }
        for (what, is_left) in [
            ("`leaving`", !self.leaving.is_empty()),
            ("`orphans`", !self.orphans.is_empty()),
            ("`placing`", self.placing > 0),
            ("a lock", self.is_locked),
        ] {
            if is_left {
                left.insert(what);
            }
        }
        left
    }

    /// The units that do not do what is said of them.
    pub(super) fn liars(&self) -> Vec<String> {
        let lies = |unit: &&Unit| {
            let container = self.containers.get(&unit.id);
            let runs = container.is_some_and(|container| container.state.running);
            match unit.status {
                Some(Status::Starting | Status::Started) => !runs,
                Some(Status::Stopped | Status::Asleep) => runs,
                _ => false,
            }
        };
        let told = |unit: &Unit| format!("{} is {:?}", unit.name, unit.status);
        self.units.iter().filter(lies).map(told).collect()
    }
}

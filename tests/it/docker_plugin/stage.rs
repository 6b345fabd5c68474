//! An app on an engine in memory, whose processes are played, and what stands in the way of its calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use gantry_core::container::{Container, Image};
use gantry_core::node::{Node, UpdateNodeOptions};
use gantry_core::{App, Error, Status, Unit};
use gantry_engine::call::{ExecOptions, HttpRequest, HttpResponse, StateCall};
use gantry_engine::layer::Next;
use gantry_engine::memory::{Ended, Life, Memory, Platform, Processes};
use gantry_engine::operation::Progress;
use gantry_engine::stream::{Chunk, Source};
use gantry_engine::{
    Call, Chain, Config, Containers, EngineError, Layer, Nodes, Operation, Request, Response,
    Scope, State,
};
use gantry_runtime::{Bounds, CallError, Cause, LoadSettings, Provisioner, Runtime};
use gantry_tests::artifacts;
use gantry_tests::screen::Screen;
use serde_json::json;

/// The processes of an app: a web server whose answer can be changed, and commands that end with the number they are given.
pub(super) struct Played {
    /// The status of the answer; 0 when nothing listens.
    pub(super) status: AtomicU16,
    pub(super) commands: Mutex<Vec<Vec<String>>>,
}

impl Processes for Played {
    fn start(&self, container: &Container) -> Life {
        let said = |text: &str| vec![chunk(text)];
        match container.config.cmd.as_deref() {
            // A command of its own.
            Some([line]) if container.name.contains("-isolated-") => {
                Life { output: said("isolated\n"), ends_with: line.parse().ok() }
            }
            _ => Life { output: said("serving\n"), ends_with: None },
        }
    }

    fn exec(&self, _container: &Container, options: &ExecOptions) -> Option<Ended> {
        self.commands.lock().unwrap().push(options.command.clone());
        let exit_code = options.command.get(2).and_then(|line| line.parse().ok()).unwrap_or(0);
        Some(Ended { output: vec![chunk("ran\n")], exit_code })
    }

    fn http(&self, _container: &Container, request: &HttpRequest) -> Option<HttpResponse> {
        let status = self.status.load(Ordering::Acquire);
        (status != 0 && request.path == "/up").then(|| HttpResponse { status, body: Vec::new() })
    }
}

pub(super) fn chunk(text: &str) -> Chunk {
    Chunk { source: Source::Stdout, bytes: text.to_owned().into() }
}

pub(super) const TSURU_YAML: &[u8] = b"healthcheck:\n  path: /up\n";

/// What stands in the way of calls, just above the engine and the platform.
#[derive(Default)]
pub(super) struct Fault {
    kind: Mutex<Option<Kind>>,
    /// How often a container was inspected.
    pub(super) inspections: AtomicU32,
    /// How often a create was refused.
    pub(super) refusals: AtomicU32,
    /// How often all units were read.
    pub(super) readings: AtomicU32,
    /// How often an app was asked for.
    pub(super) apps_read: AtomicU32,
    /// How many creates, starts and stops are under way, and how many there were at once.
    under_way: AtomicU32,
    pub(super) most_at_once: AtomicU32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An image does not become current: the store is full.
    Full,
    /// An image becomes current, and at once somebody cancels.
    CancelledWhenCurrent,
    /// An image becomes current, and nobody hears of it any more.
    StuckWhenCurrent,
    /// One container may be stopped; the others hang.
    StuckAfterAStop,
    /// Every stop hangs.
    Stuck,
    /// The engine cannot list its containers.
    NoList,
    /// The engine at this address does not answer.
    Down(&'static str),
    /// The engine at this address answers and makes no container: its disk is full.
    NoCreate(&'static str),
    /// No engine makes a container: their disks are full.
    NoRoom,
    /// No engine removes a container: something holds it.
    NoRemove,
    /// The engine at this address makes none of what this app asks for.
    RefusedCreate(&'static str),
}

/// A change of a container under way.
struct Changing<'a>(&'a Fault);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Fault {
    pub(super) fn is(&self, kind: Option<Kind>) {
        *self.kind.lock().unwrap() = kind;
    }

    /// What stands in the way now, if this call is one that it is about.
    pub(super) fn meets(&self, call: &Call) -> Option<Kind> {
        let mut kind = self.kind.lock().unwrap();
        if let Some(Kind::Down(down)) = *kind {
            let is_down = matches!(call, Call::Containers { node, .. } if node == down);
            return kind.filter(|_| is_down);
        }
        if let Some(Kind::NoCreate(full) | Kind::RefusedCreate(full)) = *kind {
            let is_there = matches!(call, Call::Containers { node, .. } if node == full);
            return kind.filter(|_| is_there && call.name() == "containers.create");
        }
        let about = match (*kind)? {
            Kind::Down(_) | Kind::NoCreate(_) | Kind::RefusedCreate(_) => return None,
            Kind::Full | Kind::CancelledWhenCurrent | Kind::StuckWhenCurrent => "images.append",
            Kind::StuckAfterAStop | Kind::Stuck => "containers.stop",
            Kind::NoRoom => "containers.create",
            Kind::NoRemove => "containers.remove",
            Kind::NoList => "containers.list",
        };
        if call.name() != about {
            return None;
        }
        let met = *kind;
        if met == Some(Kind::StuckAfterAStop) {
            *kind = Some(Kind::Stuck);
        }
        met
    }
}

#[async_trait]
impl Layer for Fault {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, gantry_engine::Error> {
        if request.call.name() == "containers.inspect" {
            self.inspections.fetch_add(1, Ordering::AcqRel);
        }
        if matches!(&request.call, Call::State(StateCall::List { prefix, .. }) if prefix == "units/")
        {
            self.readings.fetch_add(1, Ordering::AcqRel);
        }
        if request.call.name() == "apps.get" {
            self.apps_read.fetch_add(1, Ordering::AcqRel);
        }
        let changes = ["containers.create", "containers.start", "containers.stop"];
        let _changing = if changes.contains(&request.call.name()) {
            let now = self.under_way.fetch_add(1, Ordering::AcqRel) + 1;
            self.most_at_once.fetch_max(now, Ordering::AcqRel);
            let changing = Changing(self);
            // So that those that may be at once are.
            tokio::time::sleep(Duration::from_millis(2)).await;
            Some(changing)
        } else {
            None
        };
        let met = self.meets(&request.call);
        match met {
            Some(Kind::Full) => {
                let full = gantry_core::Error::Unavailable("no room left".to_owned());
                return Err(full.into());
            }
            Some(Kind::NoList) => {
                let failed = EngineError::Failed("status 503".to_owned());
                return Err(failed.into());
            }
            Some(Kind::Down(address)) => {
                let why = format!("the Docker host `{address}` cannot be reached");
                return Err(EngineError::Unreachable(why).into());
            }
            Some(Kind::NoCreate(_) | Kind::NoRoom) => {
                self.refusals.fetch_add(1, Ordering::AcqRel);
                let failed = EngineError::Failed("status 500: no space left on device".to_owned());
                return Err(failed.into());
            }
            Some(Kind::NoRemove) => {
                let failed = EngineError::Failed("status 500: device or resource busy".to_owned());
                return Err(failed.into());
            }
            Some(Kind::RefusedCreate(_)) => {
                self.refusals.fetch_add(1, Ordering::AcqRel);
                let refused = EngineError::Invalid("status 400: no such option".to_owned());
                return Err(refused.into());
            }
            Some(Kind::Stuck) => std::future::pending().await,
            Some(Kind::CancelledWhenCurrent | Kind::StuckWhenCurrent | Kind::StuckAfterAStop)
            | None => {}
        }
        let answer = next.send(scope, request).await;
        if met == Some(Kind::CancelledWhenCurrent) {
            scope.operation.cancel.cancel();
        }
        if met == Some(Kind::StuckWhenCurrent) {
            self.is(Some(Kind::Stuck));
            std::future::pending::<()>().await;
        }
        answer
    }
}

/// An app on an engine in memory.
pub(super) struct Stage {
    pub(super) runtime: Runtime,
    pub(super) fault: Arc<Fault>,
    /// The first host's engine.
    pub(super) engine: Memory,
    /// All of them, by address.
    pub(super) engines: Vec<(String, Memory)>,
    pub(super) played: Arc<Played>,
    pub(super) platform: Platform,
    /// The hosts that are given to the plugin.
    pub(super) nodes: Arc<Nodes>,
    pub(super) provisioner: Provisioner,
    pub(super) app: App,
    pub(super) operations: u32,
}

impl Stage {
    pub(super) async fn new() -> Result<Self> {
        Self::with(|engine| engine).await
    }

    pub(super) async fn with(more: impl Fn(Memory) -> Memory) -> Result<Self> {
        Self::over(&["tcp://10.0.0.1:2375"], json!({}), more).await
    }

    /// The same over several hosts, each an engine of its own, and with more configuration.
    pub(super) async fn over(
        addresses: &[&str],
        config: serde_json::Value,
        more: impl Fn(Memory) -> Memory,
    ) -> Result<Self> {
        let played = Arc::new(Played { status: AtomicU16::new(200), commands: Mutex::default() });
        let engine = || {
            let engine = Memory::playing(Arc::clone(&played) as Arc<dyn Processes>);
            let engine = ["shop:1", "shop:2"].into_iter().fold(engine, |engine, name| {
                let bash = ("/bin/bash", b"bash".as_slice());
                let files = [("/app/user/tsuru.yaml", TSURU_YAML), bash];
                engine.with_image(name, image(json!({"Cmd": ["serve", name]})), files)
            });
            more(engine)
        };
        let engines: Vec<(String, Memory)> = addresses
            .iter()
            .map(|address| ((*address).to_owned(), engine().named(address)))
            .collect();
        let app = App { name: "shop".to_owned(), pool: "p".to_owned(), ..App::default() };
        let platform = Platform::new().app(app.clone()).quota("shop", 60);
        let backends = platform.backends("docker", engines.clone());
        let nodes = Arc::clone(&backends.nodes);
        // One test compiles the plugin, the others find it in the cache.
        static COMPILING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let runtime = artifacts::runtime()?;
        let compiling = COMPILING.lock().await;
        let fault = Arc::new(Fault::default());
        let generation = runtime
            .load(
                "docker",
                &std::fs::read(artifacts::docker_plugin()?)?,
                LoadSettings {
                    granted: BTreeSet::new(),
                    bounds: Bounds::default(),
                    config: Arc::new(Config::new(config)),
                    instance: "memory".into(),
                    chain: Chain::with(backends, vec![Arc::clone(&fault) as Arc<dyn Layer>]),
                },
            )
            .await?;
        drop(compiling);
        let provisioner = Provisioner::new("docker", generation);
        let engine = engines.first().context("a host")?.1.clone();
        let operations = 0;
        Ok(Self {
            runtime,
            fault,
            engine,
            engines,
            played,
            platform,
            nodes,
            provisioner,
            app,
            operations,
        })
    }

    /// An operation and the screen that shows it.
    pub(super) fn operation(&mut self) -> (Operation, Arc<Screen>) {
        self.operations += 1;
        let screen = Arc::new(Screen::default());
        let operation = Operation::new(format!("op-{}", self.operations), Duration::from_secs(60))
            .shown_to(Arc::clone(&screen) as Arc<dyn Progress>);
        (operation, screen)
    }

    pub(super) async fn deploy(&mut self, image: &str) -> Result<String, CallError> {
        let (operation, _) = self.operation();
        let deployed = self.provisioner.deploy(&operation, &self.app, image).await;
        self.app.deploys += u32::from(deployed.is_ok());
        self.platform.put_app(self.app.clone());
        deployed
    }

    pub(super) async fn add(&mut self, count: u32) -> Result<(), CallError> {
        let (operation, _) = self.operation();
        self.provisioner.add_units(&operation, &self.app, count, "").await
    }

    pub(super) async fn units(&self) -> Result<Vec<Unit>> {
        Ok(self.provisioner.units(&question(), std::slice::from_ref(&self.app)).await?)
    }

    pub(super) async fn ids(&self) -> Result<Vec<String>> {
        Ok(self.units().await?.into_iter().map(|unit| unit.id).collect())
    }

    pub(super) async fn statuses(&self) -> Result<Vec<Option<Status>>> {
        Ok(self.units().await?.into_iter().map(|unit| unit.status).collect())
    }

    pub(super) async fn addresses(&self) -> Result<Vec<String>> {
        Ok(self.provisioner.routable_addresses(&question(), &self.app).await?)
    }

    /// The ids of all containers on the engine, running or not, sorted.
    pub(super) async fn containers(&self) -> Result<Vec<String>> {
        let all = self.engine.list(true, &BTreeMap::new()).await?;
        let mut ids: Vec<String> = all.into_iter().map(|container| container.id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The images of the containers there are, sorted.
    pub(super) async fn images(&self) -> Result<Vec<String>> {
        let all = self.engine.list(true, &BTreeMap::new()).await?;
        let mut images: Vec<String> = all.into_iter().map(|container| container.image).collect();
        images.sort_unstable();
        Ok(images)
    }

    pub(super) async fn current(&self) -> Result<String> {
        Ok(gantry_engine::Images::current(&self.platform, "shop").await?)
    }

    /// The keys of the plugin that start so.
    pub(super) async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let page = State::list(&self.platform, "docker", prefix, None, 0).await?;
        Ok(page.entries.into_iter().map(|entry| entry.key).collect())
    }

    /// A platform that dies in a deploy, at the fault, and starts again without it.
    pub(super) async fn die_in_a_deploy(&mut self, fault: Kind, image: &str) -> Result<()> {
        self.fault.is(Some(fault));
        let (operation, _) = self.operation();
        let (provisioner, app, image) =
            (self.provisioner.clone(), self.app.clone(), image.to_owned());
        let deploy =
            tokio::spawn(async move { provisioner.deploy(&operation, &app, &image).await });
        while *self.fault.kind.lock().unwrap() != Some(Kind::Stuck) {
            ensure!(!deploy.is_finished(), "{:?}", deploy.await?);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        deploy.abort();
        ensure!(deploy.await.is_err_and(|error| error.is_cancelled()), "it did not end by itself");
        self.runtime.settled().await;
        self.fault.is(None);
        Ok(())
    }

    pub(super) async fn node(&self, address: &str) -> Result<Node> {
        Ok(self.provisioner.node(&question(), address).await?)
    }

    pub(super) async fn update(&mut self, options: UpdateNodeOptions) -> Result<(), CallError> {
        let (operation, _) = self.operation();
        self.provisioner.update_node(&operation, &options).await
    }

    pub(super) async fn in_use(&self) -> Result<u32> {
        Ok(self.platform.record("shop").context("the app is there")?.in_use)
    }
}

pub(super) fn question() -> Operation {
    Operation::new("", Duration::from_secs(20))
}

/// What the plugin said.
pub(super) fn told<T>(result: Result<T, CallError>) -> Result<Error> {
    match result.map(drop).map_err(|error| error.cause) {
        Err(Cause::Plugin(error)) => Ok(error),
        other => anyhow::bail!("not what a plugin says: {other:?}"),
    }
}

pub(super) fn to(address: &str) -> UpdateNodeOptions {
    UpdateNodeOptions { address: address.to_owned(), ..UpdateNodeOptions::default() }
}

pub(super) fn image(config: serde_json::Value) -> Image {
    serde_json::from_value(json!({ "Config": config })).unwrap()
}

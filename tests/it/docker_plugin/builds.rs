//! Builds through the compiled Docker plugin on an engine in memory: what is made, and what is left when any call fails, when the answer to any is lost, or when somebody cancels at any.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::iter::repeat_n;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use gantry_core::App;
use gantry_core::container::Container;
use gantry_core::image::BuildOptions;
use gantry_engine::call::{ContainersCall, ExecOptions, HttpRequest, HttpResponse};
use gantry_engine::layer::Next;
use gantry_engine::memory::{Ended, Life, Memory, Platform, Processes};
use gantry_engine::operation::Progress;
use gantry_engine::{
    Call, Chain, Config, Containers, EngineError, Images as _, Layer, Operation, Request, Response,
    Scope, State,
};
use gantry_runtime::{Bounds, CallError, LoadSettings, Provisioner, Runtime};
use gantry_tests::artifacts;
use gantry_tests::screen::Screen;
use serde_json::json;
use tokio::sync::Notify;

use super::stage::{chunk, image};

const NODE: &str = "tcp://10.0.0.1:2375";

/// Where an image has a file, so that there is a folder: nothing runs in memory that makes one.
const KEPT: (&str, &[u8]) = ("/home/application/current/.kept", b"");

const GRANTS: [&str; 5] =
    ["images:build", "images:commit", "images:remove", "images:push", "images:tag"];

/// What an agent in a container calls its operation.
const AGENT: &str = "agent";

/// Commands in containers end with the number at the end of their line, or as one was told to.
#[derive(Default)]
pub(super) struct Played {
    /// Who ran what.
    ran: Mutex<Vec<(String, Vec<String>)>>,
    /// What the line of a command starts with, and how it ends.
    fails: Mutex<Option<(&'static str, i32)>>,
    /// Whether nothing listens.
    is_deaf: AtomicBool,
}

impl Processes for Played {
    fn start(&self, container: &Container) -> Life {
        let ends = container.name.contains("-isolated-");
        let line = container.config.cmd.iter().flatten().next_back();
        let deploys = line.is_some_and(|line| line.ends_with(" deploy-only"));
        let output = if deploys { vec![chunk("the agent deploys\n")] } else { Vec::new() };
        Life { output, ends_with: ends.then_some(0) }
    }

    fn http(&self, _container: &Container, _request: &HttpRequest) -> Option<HttpResponse> {
        let is_deaf = self.is_deaf.load(Ordering::SeqCst);
        (!is_deaf).then(|| HttpResponse { status: 200, body: Vec::new() })
    }

    fn exec(&self, _container: &Container, options: &ExecOptions) -> Option<Ended> {
        self.ran.lock().unwrap().push((options.user.clone(), options.command.clone()));
        let line = options.command.last()?;
        let told = self.fails.lock().unwrap().filter(|(start, _)| line.starts_with(start));
        let number = line.rsplit(' ').next()?.parse().unwrap_or(0);
        let exit_code = told.map_or(number, |(_, code)| code);
        Some(Ended { output: vec![chunk("said\n")], exit_code })
    }
}

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    /// It fails, and changes nothing.
    Fails,
    /// It is done, and its answer is lost.
    IsLost,
    /// Somebody cancels, just before.
    Cancelled,
}

/// Counts the calls of a kind that are under way at once.
#[derive(Default)]
pub(super) struct Crowd {
    /// By host.
    now: Mutex<BTreeMap<String, usize>>,
    /// On all hosts together.
    pub(super) most: AtomicUsize,
    /// On the host that had the most.
    pub(super) most_on_one: AtomicUsize,
    /// As many are waited for, until there were so many.
    pub(super) expected: AtomicUsize,
    /// What they are.
    pub(super) seen: Mutex<BTreeSet<&'static str>>,
}

/// One of them, on a host.
struct Under<'a>(&'a Crowd, &'a str);

impl Drop for Under<'_> {
    fn drop(&mut self) {
        if let Some(here) = self.0.now.lock().unwrap().get_mut(self.1) {
            *here -= 1;
        }
    }
}

impl Crowd {
    /// Begins to count anew.
    pub(super) fn expect(&self, at_once: usize) {
        self.most.store(0, Ordering::SeqCst);
        self.most_on_one.store(0, Ordering::SeqCst);
        self.expected.store(at_once, Ordering::SeqCst);
        self.seen.lock().unwrap().clear();
    }

    async fn enter<'a>(&'a self, node: &'a str, call: &'static str) -> Under<'a> {
        let (here, all) = {
            let mut now = self.now.lock().unwrap();
            let here = now.entry(node.to_owned()).or_default();
            *here += 1;
            (*here, now.values().sum::<usize>())
        };
        let under = Under(self, node);
        self.most.fetch_max(all, Ordering::SeqCst);
        self.most_on_one.fetch_max(here, Ordering::SeqCst);
        self.seen.lock().unwrap().insert(call);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        let is_short = || self.most.load(Ordering::SeqCst) < self.expected.load(Ordering::SeqCst);
        while is_short() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // So that those that may be at once are.
        tokio::time::sleep(Duration::from_millis(3)).await;
        under
    }
}

/// A host that does not answer to some of its calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deaf {
    pub(super) node: &'static str,
    /// What their names begin with.
    pub(super) to: &'static str,
    /// How many of them are answered first.
    pub(super) after: usize,
}

/// Counts the calls that reach what is outside, and lets something happen at one of them.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) made: AtomicUsize,
    /// What creates, starts, stops and removes containers.
    pub(super) actions: Crowd,
    /// What asks units whether they work.
    pub(super) checks: Crowd,
    pub(super) deaf: Mutex<Option<Deaf>>,
    mishap: Mutex<Option<(usize, Mishap)>>,
    /// The call that it happened at.
    pub(super) met: Mutex<String>,
    /// The calls that wait.
    holds: Mutex<Option<&'static str>>,
    held: Notify,
    released: Notify,
    /// Whether the next pushes fail.
    pushes_fail: Mutex<VecDeque<bool>>,
    /// What was to be pushed.
    pushed: Mutex<Vec<String>>,
}

impl Calls {
    pub(super) fn expect(&self, mishap: Option<(usize, Mishap)>) {
        self.made.store(0, Ordering::SeqCst);
        *self.mishap.lock().unwrap() = mishap;
    }

    fn is_deaf(&self, node: &str, call: &str) -> bool {
        let mut deaf = self.deaf.lock().unwrap();
        let Some(deaf) = deaf.as_mut().filter(|deaf| deaf.node == node) else { return false };
        if !call.starts_with(deaf.to) {
            return false;
        }
        let answers = deaf.after > 0;
        deaf.after = deaf.after.saturating_sub(1);
        !answers
    }

    fn push_fails(&self, call: &Call) -> bool {
        let Call::Containers { call: ContainersCall::PushImage { image }, .. } = call else {
            return false;
        };
        self.pushed.lock().unwrap().push(image.clone());
        self.pushes_fail.lock().unwrap().pop_front().unwrap_or_default()
    }

    fn meets(&self, scope: &Scope, call: &Call) -> Option<Mishap> {
        if scope.operation.id == AGENT {
            return None;
        }
        let number = self.made.fetch_add(1, Ordering::SeqCst);
        let (at, mishap) = (*self.mishap.lock().unwrap())?;
        if at != number {
            return None;
        }
        call.name().clone_into(&mut self.met.lock().unwrap());
        Some(mishap)
    }
}

#[async_trait]
impl Layer for Calls {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, gantry_engine::Error> {
        let name = request.call.name();
        let node = match &request.call {
            Call::Containers { node, .. } => node.clone(),
            _ => String::new(),
        };
        let _under = match name {
            "containers.create" | "containers.start" | "containers.stop" | "containers.remove" => {
                Some(self.actions.enter(&node, name).await)
            }
            "containers.http" => Some(self.checks.enter(&node, name).await),
            _ => None,
        };
        let outside = match &request.call {
            Call::Containers { node, .. } if self.is_deaf(node, name) => {
                let why = format!("the Docker host `{node}` cannot be reached");
                return Err(EngineError::Unreachable(why).into());
            }
            Call::Containers { .. } => true,
            Call::Images(_) | Call::State(_) | Call::Apps(_) => false,
            _ => return next.send(scope, request).await,
        };
        let waits = *self.holds.lock().unwrap() == Some(name);
        if waits {
            self.held.notify_one();
            self.released.notified().await;
        }
        if self.push_fails(&request.call) {
            return Err(EngineError::Failed("status 500".to_owned()).into());
        }
        match self.meets(scope, &request.call) {
            Some(Mishap::Fails) if outside => {
                Err(EngineError::Failed("status 500".to_owned()).into())
            }
            Some(Mishap::Fails) => {
                Err(gantry_core::Error::Unavailable("no room left".to_owned()).into())
            }
            Some(Mishap::IsLost) if outside => {
                next.send(scope, request).await?;
                Err(EngineError::TimedOut("it took too long".to_owned()).into())
            }
            Some(Mishap::Cancelled) => {
                scope.operation.cancel.cancel();
                next.send(scope, request).await
            }
            Some(Mishap::IsLost) | None => next.send(scope, request).await,
        }
    }
}

/// An app of the platform `python`, on engines that have some platforms.
pub(super) struct Workshop {
    /// The first host's engine.
    engine: Memory,
    /// All of them, by address.
    pub(super) engines: Vec<(&'static str, Memory)>,
    pub(super) platform: Platform,
    pub(super) provisioner: Provisioner,
    pub(super) runtime: Runtime,
    pub(super) calls: Arc<Calls>,
    played: Arc<Played>,
    pub(super) app: App,
    /// What the names begin with that the plugin gives itself.
    registry: &'static str,
    operations: u32,
    /// How many there were before the first of the app.
    begun: u32,
    /// The images that were made of what an agent built, and became the app's.
    deployed: BTreeSet<String>,
    /// What an agent tells about the image that it deploys.
    told: serde_json::Value,
    /// What is said when somebody cancels the deploy of what an agent built.
    cancelled_at: Option<&'static str>,
}

impl Workshop {
    pub(super) async fn new(config: serde_json::Value) -> Result<Self> {
        Self::with_registry(config, "").await
    }

    async fn with_registry(config: serde_json::Value, registry: &'static str) -> Result<Self> {
        Self::over(&[NODE], config, registry).await
    }

    pub(super) async fn over(
        nodes: &[&'static str],
        config: serde_json::Value,
        registry: &'static str,
    ) -> Result<Self> {
        let played = Arc::new(Played::default());
        let platform_image = || image(json!({"Cmd": ["sh"], "ExposedPorts": {"5000/tcp": {}}}));
        let script: &[u8] = b"#!/bin/sh\n";
        let engine = |node: &str| {
            Memory::playing(Arc::clone(&played) as Arc<dyn Processes>)
                .with_image(&format!("{registry}tsuru/python:latest"), platform_image(), [KEPT])
                .with_image(
                    &format!("{registry}tsuru/script:latest"),
                    platform_image(),
                    [KEPT, ("/var/lib/tsuru/deploy", script)],
                )
                .with_image(
                    &format!("{registry}tsuru/agent:latest"),
                    platform_image(),
                    [KEPT, ("/usr/local/bin/tsuru_unit_agent", script)],
                )
                .named(node)
        };
        let engines: Vec<_> = nodes.iter().map(|node| (*node, engine(node))).collect();
        let engine = engines.first().context("a host")?.1.clone();
        let app = App {
            name: "shop".to_owned(),
            platform: "python".to_owned(),
            pool: "p".to_owned(),
            team_owner: "sellers".to_owned(),
            ..App::default()
        };
        let platform = Platform::new().app(app.clone()).quota("shop", 60);
        let backends = platform.backends("docker", engines.clone());
        let runtime = artifacts::runtime()?;
        let calls = Arc::new(Calls::default());
        let generation = runtime
            .load(
                "docker",
                &std::fs::read(artifacts::docker_plugin()?)?,
                LoadSettings {
                    granted: GRANTS.map(str::to_owned).into(),
                    bounds: Bounds::default(),
                    config: Arc::new(Config::new(config)),
                    instance: "memory".into(),
                    chain: Chain::with(backends, vec![Arc::clone(&calls) as Arc<dyn Layer>]),
                },
            )
            .await?;
        let provisioner = Provisioner::new("docker", generation);
        Ok(Self {
            engine,
            engines,
            platform,
            provisioner,
            runtime,
            calls,
            played,
            app,
            registry,
            operations: 0,
            begun: 0,
            deployed: BTreeSet::new(),
            told: json!({"processes": {"web": "told"}}),
            cancelled_at: None,
        })
    }

    pub(super) fn operation(&mut self) -> (Operation, Arc<Screen>) {
        self.operations += 1;
        let screen = Arc::new(Screen::default());
        let operation = Operation::new(format!("op-{}", self.operations), Duration::from_secs(60))
            .shown_to(Arc::clone(&screen) as Arc<dyn Progress>);
        (operation, screen)
    }

    pub(super) async fn build(
        &mut self,
        files: &[(&str, &str)],
        options: &BuildOptions,
    ) -> Result<(Result<String, CallError>, String)> {
        let source = Box::pin(std::io::Cursor::new(archive(files)?));
        let (operation, screen) = self.operation();
        let built = self.provisioner.build(&operation, &self.app, source, options).await;
        self.runtime.settled().await;
        Ok((built, screen.text()))
    }

    /// A deploy that counts as one of what was built, or of an image.
    pub(super) async fn deploy(&mut self, image: &str, of_image: bool) -> Result<String> {
        let (operation, _) = self.operation();
        let deployed = self.provisioner.deploy(&operation, &self.app, image).await?;
        self.app.deploys += 1;
        self.app.update_platform = of_image;
        self.platform.put_app(self.app.clone());
        Ok(deployed)
    }

    /// Goes on with an app that has so many units of what the agent of its platform builds, and gives what was built of it.
    async fn begin_with_agent(&mut self, units: usize) -> Result<String> {
        self.begun = self.operations;
        self.app = App {
            name: format!("shop{}", self.begun),
            platform: "agent".to_owned(),
            deploys: 0,
            ..self.app.clone()
        };
        self.platform.put_app(self.app.clone());
        let built = self.build_with_agent().await?;
        if units > 0 {
            self.deploy_built(&built, 0).await?.0?;
            let more = u32::try_from(units - 1)?;
            let (operation, _) = self.operation();
            self.provisioner.add_units(&operation, &self.app, more, "").await?;
            // What the app uses is counted by a deploy.
            self.deploy_built(&built, 0).await?.0?;
        }
        let _of_before = self.pushed();
        Ok(built)
    }

    async fn build_with_agent(&mut self) -> Result<String> {
        let (built, said) = self.build(SOURCE, &platform()).await?;
        built.with_context(|| said)
    }

    /// Looks after the machine, as the platform does all the time.
    async fn look_after(&mut self) -> Result<()> {
        let (question, _) = self.operation();
        for node in self.provisioner.examine(&question).await?.recovered {
            let (operation, _) = self.operation();
            self.provisioner.take_back_node(&operation, &node.address).await?;
        }
        Ok(())
    }

    /// A deploy of what an agent built, with what was said. The agent that deploys ends with a code.
    async fn deploy_built(
        &mut self,
        image: &str,
        code: i64,
    ) -> Result<(Result<String, CallError>, String)> {
        let (operation, screen) = self.operation();
        *self.calls.holds.lock().unwrap() = Some("containers.attach-copy");
        let cancels = async {
            if let Some(said) = self.cancelled_at {
                screen.until(said).await;
                operation.cancel.cancel();
            }
            std::future::pending::<Infallible>().await
        };
        let deployed = tokio::select! {
            deployed = self.provisioner.deploy(&operation, &self.app, image) => deployed,
            never = self.agents(code) => match never? {},
            never = cancels => match never {},
        };
        *self.calls.holds.lock().unwrap() = None;
        self.runtime.settled().await;
        self.app.deploys += u32::from(deployed.is_ok());
        self.platform.put_app(self.app.clone());
        self.deployed.extend(deployed.as_ref().ok().cloned());
        Ok((deployed, screen.text()))
    }

    /// What the agent does in each container that deploys: it tells about the image, and ends with a code.
    async fn agents(&self, code: i64) -> Result<Infallible> {
        let deploys = BTreeMap::from([("is-deploy".to_owned(), "true".to_owned())]);
        loop {
            self.calls.held.notified().await;
            let deploying = self.engine.list(false, &deploys).await?;
            let [container] = deploying.as_slice() else {
                anyhow::bail!("one container: {deploying:?}")
            };
            let told = self.told.to_string();
            let operation = Operation::new(AGENT, Duration::from_secs(20));
            let (app, id) = (&self.app, &container.id);
            self.provisioner.register_unit(&operation, app, id, Some(&told)).await?;
            self.engine.end(id, code)?;
            self.calls.released.notify_one();
        }
    }

    /// What there is of the app.
    async fn standing(&self) -> Result<Standing> {
        let app = &self.app.name;
        let mut containers = Vec::new();
        for container in self.engine.list(true, &BTreeMap::new()).await? {
            containers.push(format!("{} {} {}", container.name, container.image, container.state));
        }
        let mut keys = Vec::new();
        for prefix in ["units/", "leaving/", "orphans/", "placing/"] {
            keys.extend(self.keys(prefix).await?);
        }
        let latest = self.engine.inspect_image(&format!("tsuru/app-{app}:latest")).await;
        // No operation takes more than one number.
        let numbers = usize::try_from(self.operations - self.begun)?;
        let mut loose = self.made(numbers).await?;
        loose.retain(|(name, _)| !name.ends_with("-builder") && !self.deployed.contains(name));
        let record = self.platform.record(app).context("the app is there")?;
        Ok(Standing {
            containers,
            keys,
            loose,
            history: self.platform.history(app).await?,
            latest: latest.ok().map(|image| image.id),
            in_use: usize::try_from(record.in_use)?,
        })
    }

    /// Checks that this image is the app now, and that there is nothing of it but so many units: at once, or when its machine was looked after and it was changed once more.
    async fn is_served(&mut self, image: &str, units: usize, before: Standing) -> Result<()> {
        let there = self.standing().await?;
        if there.containers.len() > units || there.keys.len() > units {
            self.look_after().await?;
            let (operation, _) = self.operation();
            self.provisioner.restart(&operation, &self.app, "").await?;
        }
        let there = self.standing().await?;
        let run = format!(" {image} running");
        let serve = there.containers.iter().all(|container| container.ends_with(&run));
        let is_known = self.platform.metadata(image).await?.is_some();
        let id = self.engine.inspect_image(image).await?.id;
        ensure!(
            serve
                && there.containers.len() == units
                && there.keys.len() == units
                && there.keys.iter().all(|key| key.starts_with("units/"))
                && there.loose == before.loose
                && is_known
                && there.history.last().is_some_and(|current| current == image)
                && there.latest == Some(id)
                && there.in_use == units,
            "{units} units of {image}: {there:?}"
        );
        Ok(())
    }

    async fn destroy(&mut self) -> Result<()> {
        let (operation, _) = self.operation();
        Ok(self.provisioner.destroy(&operation, &self.app).await?)
    }

    pub(super) async fn containers(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for (_, engine) in &self.engines {
            all.extend(engine.list(true, &BTreeMap::new()).await?);
        }
        Ok(all
            .into_iter()
            .map(|container| format!("{} ({})", container.name, container.image))
            .collect())
    }

    /// The images that builds made, up to a number, with whether something is known of each.
    async fn made(&self, up_to: usize) -> Result<Vec<(String, bool)>> {
        let numbers = 1..=up_to;
        let names = numbers.flat_map(|number| {
            let app = &self.app.name;
            let builder = format!("{}sellers/app-{app}:v{number}-builder", self.registry);
            [format!("tsuru/app-{app}:v{number}"), builder]
        });
        let mut made = Vec::new();
        for name in names {
            let known = self.platform.metadata(&name).await?.is_some();
            if self.engine.inspect_image(&name).await.is_ok() || known {
                made.push((name, known));
            }
        }
        Ok(made)
    }

    pub(super) async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let page = State::list(&self.platform, "docker", prefix, None, 0).await?;
        Ok(page.entries.into_iter().map(|entry| entry.key).collect())
    }

    fn ran(&self) -> Vec<(String, Vec<String>)> {
        std::mem::take(&mut *self.played.ran.lock().unwrap())
    }

    fn pushed(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.pushed.lock().unwrap())
    }
}

/// What there is of an app.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    /// With the images that they run, and whether they do.
    containers: Vec<String>,
    /// What is written down of units that serve, that go, that are left somewhere and that are about to start.
    keys: Vec<String>,
    /// The images that deploys made and that did not become the app's, with whether something is known of each.
    loose: Vec<(String, bool)>,
    history: Vec<String>,
    /// The image that `latest` means.
    latest: Option<String>,
    in_use: usize,
}

/// A tar archive of these files.
fn archive(files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text)?;
    }
    let mut tar = std::process::Command::new("tar");
    tar.arg("-C").arg(folder.path()).args(["-cf", "-"]).args(files.iter().map(|(name, _)| name));
    let output = tar.output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(output.stdout)
}

pub(super) const SOURCE: &[(&str, &str)] = &[
    ("Procfile", "web: python app.py\n"),
    ("tsuru.yaml", "hooks:\n  build:\n    - make\n    - test 0\nhealthcheck:\n  path: ''\n"),
];

pub(super) const DOCKERFILE: &[(&str, &str)] = &[
    ("Dockerfile", "FROM tsuru/python:latest\nCOPY page /page\nCMD [\"serve\"]\n"),
    ("page", "hello"),
];

pub(super) fn platform() -> BuildOptions {
    BuildOptions::default()
}

pub(super) fn dockerfile() -> BuildOptions {
    BuildOptions { dockerfile: "Dockerfile".to_owned(), ..BuildOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_is_built_on_its_platform_with_its_hooks_and_runs_as_its_procfile_says()
-> Result<()> {
    let mut shop = Workshop::new(json!({})).await?;
    let (built, said) = shop.build(SOURCE, &platform()).await?;
    let built = built?;
    assert_eq!(built, "tsuru/app-shop:v1");
    ensure!(said.contains("---- Building on tsuru/python:latest ----"), "{said}");
    ensure!(said.contains(" ---> Running make\nsaid\n ---> Running test 0\nsaid\n"), "{said}");
    ensure!(shop.containers().await?.is_empty(), "{:?}", shop.containers().await?);
    ensure!(shop.keys("units/").await?.is_empty());
    let hooks: Vec<_> = shop.ran().into_iter().filter(|(user, _)| user.is_empty()).collect();
    // As the image's own user: nobody named another, and the image has nothing of the reference's platforms.
    assert_eq!(hooks.len(), 2, "{hooks:?}");
    let metadata = shop.platform.metadata(&built).await?.context("it is known")?;
    assert_eq!(metadata.processes["web"], ["python app.py"]);
    assert_eq!(metadata.exposed_port, "5000/tcp");
    assert_eq!(metadata.hooks.build, ["make", "test 0"]);

    assert_eq!(shop.deploy(&built, false).await?, built);
    let units = shop.engine.list(true, &BTreeMap::new()).await?;
    assert_eq!(units.len(), 1);
    let unit = shop.engine.inspect(&units[0].id).await?;
    let command = unit.config.cmd.unwrap_or_default();
    ensure!(command.last().is_some_and(|line| line.ends_with("exec python app.py")), "{command:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_is_made_on_the_apps_image_until_it_has_enough_layers_or_an_image_was_deployed()
-> Result<()> {
    let mut shop = Workshop::new(json!({"docker": {"max-layers": 3}})).await?;
    let mut bases = Vec::new();
    for of_image in [false, false, false, false, true, false] {
        let (built, said) = shop.build(SOURCE, &platform()).await?;
        let built = built?;
        let base = said.split("Building on ").nth(1).and_then(|rest| rest.split(' ').next());
        bases.push(base.context("it is told")?.to_owned());
        shop.deploy(&built, of_image).await?;
    }
    let platform = "tsuru/python:latest";
    let expected = [
        platform,
        "tsuru/app-shop:v1",
        "tsuru/app-shop:v2",
        platform,
        "tsuru/app-shop:v4",
        platform,
    ];
    assert_eq!(bases, expected);
    // What was deployed is not taken for the rest of a build that died.
    assert_eq!(shop.made(6).await?.len(), 6);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platforms_own_command_gets_the_archive_as_the_user_who_builds() -> Result<()> {
    let mut shop = Workshop::new(json!({})).await?;
    shop.app.platform = "script".to_owned();
    let (built, said) = shop.build(SOURCE, &platform()).await?;
    assert_eq!(built?, "tsuru/app-shop:v1", "{said}");
    let ran: Vec<(String, String)> = shop
        .ran()
        .into_iter()
        .map(|(user, mut words)| (user, words.pop().unwrap_or_default()))
        .collect();
    let (current, archive) = ("/home/application/current", "/home/application/archive.tar.gz");
    let expected = [
        ("0", format!("rm -rf {current} && mkdir -p {current}")),
        ("0", format!("tar -C {current} -czf {archive} .")),
        ("0", format!("chown -R 'ubuntu' {current} {archive}")),
        ("", format!("/var/lib/tsuru/deploy archive file://{archive}")),
        ("0", format!("rm -f {archive}")),
        ("", "make".to_owned()),
        ("", "test 0".to_owned()),
    ];
    assert_eq!(ran, expected.map(|(user, line)| (user.to_owned(), line)));
    let image = shop.engine.inspect_image("tsuru/app-shop:v1").await?;
    assert_eq!(image.config.user, "ubuntu");

    // It is no build when the command fails.
    *shop.played.fails.lock().unwrap() = Some(("/var/lib/tsuru/deploy", 7));
    let (failed, _) = shop.build(SOURCE, &platform()).await?;
    assert_eq!(failed.unwrap_err().to_string(), "Exit status 7");
    ensure!(!shop.ran().iter().any(|(_, words)| words.contains(&"make".to_owned())));
    assert_eq!(shop.containers().await?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_in_the_platform_builds_and_its_image_is_still_to_be_deployed() -> Result<()> {
    let config = json!({"host": "http://here", "docker": {"user": "root"}});
    let mut shop = Workshop::new(config).await?;
    shop.app.platform = "agent".to_owned();
    let (built, said) = shop.build(SOURCE, &platform()).await?;
    assert_eq!(built?, "sellers/app-shop:v1-builder", "{said}");
    let ran = shop.ran();
    let build = ran.iter().find(|(user, _)| user.is_empty()).context("it ran")?;
    let line = "tsuru_unit_agent http://here  shop \"/var/lib/tsuru/deploy archive \
                file:///home/application/archive.tar.gz\" build";
    assert_eq!(build.1, ["/bin/sh", "-lc", line]);
    ensure!(!said.contains("Running make"), "hooks are the agent's business: {said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_container_registers_wins_over_the_procfile() -> Result<()> {
    let mut shop = Workshop::new(json!({})).await?;
    *shop.calls.holds.lock().unwrap() = Some("containers.start-exec");
    let source = Box::pin(std::io::Cursor::new(archive(SOURCE)?));
    let (operation, _) = shop.operation();
    let (provisioner, app) = (shop.provisioner.clone(), shop.app.clone());
    let building =
        tokio::spawn(async move { provisioner.build(&operation, &app, source, &platform()).await });
    tokio::time::timeout(Duration::from_secs(60), shop.calls.held.notified()).await?;
    let all = shop.engine.list(true, &BTreeMap::new()).await?;
    let [container] = all.as_slice() else { anyhow::bail!("one container: {all:?}") };
    let (question, _) = shop.operation();
    let told = json!({"processes": {"web": "told"}}).to_string();
    let (app, id) = (&shop.app, &container.id);
    shop.provisioner.register_unit(&question, app, id, Some(&told)).await?;
    *shop.calls.holds.lock().unwrap() = None;
    shop.calls.released.notify_one();
    let built = building.await??;
    let metadata = shop.platform.metadata(&built).await?.context("it is known")?;
    assert_eq!(metadata.processes["web"], ["told"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_built_says_why_and_leaves_nothing() -> Result<()> {
    let hook = "hooks: {build: [make, 'exit 3', never]}\n";
    for (files, options, why) in [
        (
            &[("Procfile", "web: x\n"), ("tsuru.yaml", hook)][..],
            platform(),
            "`exit 3` ended with 3",
        ),
        (&[("page", "x")], platform(), "no Procfile in the source: it says what to run"),
        (&[("Procfile", "nothing")], platform(), "the source: invalid Procfile"),
        (&[("Procfile", "web: x\n"), ("tsuru.yaml", "hooks: [")], platform(), "invalid tsuru.yaml"),
        (&[("page", "x")], dockerfile(), "has no `Dockerfile`"),
        (&[("Dockerfile", "FROM tsuru/python\nRUN no\n")], dockerfile(), "does not follow `RUN`"),
    ] {
        let mut shop = Workshop::new(json!({})).await?;
        let (built, said) = shop.build(files, &options).await?;
        let error = built.unwrap_err().to_string();
        ensure!(error.contains(why), "{error}\n{said}");
        ensure!(!said.contains("never"), "{said}");
        assert_eq!(shop.containers().await?, [""; 0], "{why}");
        assert_eq!(shop.made(3).await?, [], "{why}");
        assert_eq!(shop.keys("units/").await?, [""; 0], "{why}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_whichever_call_of_a_build_goes_wrong() -> Result<()> {
    let pushed = json!({"docker": {"registry": "r.example", "registry-max-try": 1}});
    let mut happened = 0_usize;
    for (what, config, registry, files, options) in [
        ("platform", json!({}), "", SOURCE, platform()),
        ("platform, pushed", pushed, "r.example/", SOURCE, platform()),
        ("Dockerfile", json!({}), "", DOCKERFILE, dockerfile()),
    ] {
        let mut shop = Workshop::with_registry(config, registry).await?;
        let (mut ends, mut deployed) = (BTreeMap::new(), BTreeSet::new());
        for mishap in [Mishap::Fails, Mishap::IsLost, Mishap::Cancelled] {
            for at in 0.. {
                shop.calls.expect(Some((at, mishap)));
                let (built, said) = shop.build(files, &options).await?;
                let calls = shop.calls.made.load(Ordering::SeqCst);
                shop.calls.expect(None);
                if calls <= at {
                    ensure!(built.is_ok(), "nothing happened: {built:?}");
                    deployed.insert(shop.deploy(&built?, true).await?);
                    shop.destroy().await?;
                    break;
                }
                happened += 1;
                let met = shop.calls.met.lock().unwrap().clone();
                let context = format!("{what}: call {at}, {met}, {mishap:?}: {built:?}\n{said}");
                let made = shop.made(400).await?;
                let containers = shop.containers().await?;
                let end = if built.is_ok() { "built" } else { "not built" };
                *ends.entry(format!("{mishap:?}: {end}")).or_insert(0_usize) += 1;
                match built {
                    // It made no difference, or it came too late to make one.
                    Ok(image) => {
                        let new = made.iter().filter(|(name, _)| *name == image).count();
                        assert_eq!(new, 1, "{context}");
                        // One that could not be removed goes with the next change.
                        ensure!(containers.len() <= 1, "{containers:?} {context}");
                        deployed.insert(shop.deploy(&image, true).await?);
                        let units = shop.containers().await?;
                        ensure!(
                            units.len() == 1 && units[0].ends_with(&format!("({image})")),
                            "{units:?} {context}"
                        );
                        shop.destroy().await?;
                    }
                    Err(error) => {
                        assert_eq!(containers, [""; 0], "{context}");
                        let loose: Vec<_> =
                            made.iter().filter(|(name, _)| !deployed.contains(name)).collect();
                        ensure!(loose.is_empty(), "{loose:?} {context}");
                        if mishap == Mishap::Cancelled {
                            assert_eq!(error.to_string(), "cancelled", "{context}");
                        }
                    }
                }
                let units = shop.keys("units/").await?;
                assert_eq!(units, [""; 0], "{context}");
            }
        }
        println!("{what}: {ends:?}");
    }
    println!("{happened} mishaps");
    ensure!(happened > 100, "{happened}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_no_deploy_made_the_apps_goes_with_the_next_build() -> Result<()> {
    let mut shop = Workshop::new(json!({})).await?;
    for (files, options) in [(SOURCE, platform()), (DOCKERFILE, dockerfile())] {
        // The platform dies between the build and the deploy.
        let left = shop.build(files, &options).await?.0?;
        let built = shop.build(files, &options).await?.0?;
        ensure!(built != left, "a number is never used twice");
        let made: Vec<String> = shop.made(9).await?.into_iter().map(|(name, _)| name).collect();
        ensure!(!made.contains(&left) && made.contains(&built), "{made:?}");
        shop.deploy(&built, false).await?;
    }
    let made: Vec<String> = shop.made(9).await?.into_iter().map(|(name, _)| name).collect();
    assert_eq!(made, ["tsuru/app-shop:v2", "tsuru/app-shop:v4"]);
    // Nor does it outlive its app.
    let left = shop.build(SOURCE, &platform()).await?.0?;
    shop.destroy().await?;
    let made: Vec<String> = shop.made(9).await?.into_iter().map(|(name, _)| name).collect();
    ensure!(!made.contains(&left), "{made:?}");
    assert_eq!(shop.keys("builds/").await?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_whichever_call_of_the_deploy_of_what_an_agent_built_goes_wrong()
-> Result<()> {
    let healing = json!({"disabled-time": 0});
    let plain = json!({"docker": {"healing": healing}});
    let pushed =
        json!({"docker": {"healing": healing, "registry": "r.example", "registry-max-try": 1}});
    let mut wrong = Vec::new();
    let mut happened = 0_usize;
    for (what, config, registry, units) in [
        ("the first", &plain, "", 0),
        ("the first, pushed", &pushed, "r.example/", 0),
        ("another", &plain, "", 2),
        ("another, pushed", &pushed, "r.example/", 2),
    ] {
        let mut shop = Workshop::with_registry(config.clone(), registry).await?;
        let mut built = shop.begin_with_agent(units).await?;
        let mut ends = BTreeMap::new();
        for mishap in [Mishap::Fails, Mishap::IsLost, Mishap::Cancelled] {
            for at in 0.. {
                let before = shop.standing().await?;
                shop.calls.expect(Some((at, mishap)));
                let (deployed, said) = shop.deploy_built(&built, 0).await?;
                let is_over = shop.calls.made.load(Ordering::SeqCst) <= at;
                shop.calls.expect(None);
                let met = shop.calls.met.lock().unwrap().clone();
                let context = format!("{what}: call {at}, {met}, {mishap:?}: {deployed:?}\n{said}");
                let end = if deployed.is_ok() { "deployed" } else { "not deployed" };
                match deployed {
                    // It made no difference, or it came too late to make one.
                    Ok(image) => {
                        if let Err(error) = shop.is_served(&image, units.max(1), before).await {
                            wrong.push(format!("{error}: {context}"));
                        }
                        if units == 0 {
                            shop.destroy().await?;
                            built = shop.begin_with_agent(0).await?;
                        }
                    }
                    Err(error) => {
                        ensure!(!is_over, "nothing happened: {context}");
                        let mut there = shop.standing().await?;
                        // What a host may have made without a word goes when it is looked after, and its image then with the next build.
                        if mishap == Mishap::IsLost && there != before {
                            shop.look_after().await?;
                            built = shop.build_with_agent().await?;
                            there = shop.standing().await?;
                        }
                        let is_told =
                            mishap != Mishap::Cancelled || error.to_string() == "cancelled";
                        if there != before || !is_told {
                            wrong.push(format!("{there:?} is not {before:?}: {context}"));
                        }
                    }
                }
                if is_over {
                    break;
                }
                happened += 1;
                *ends.entry(format!("{mishap:?}: {end}")).or_insert(0_usize) += 1;
            }
        }
        println!("{what}: {ends:?}");
    }
    println!("{happened} mishaps");
    ensure!(happened > 300, "{happened}");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_of_what_an_agent_built_is_undone_when_it_is_cancelled_at_its_health_check()
-> Result<()> {
    let mut shop = Workshop::new(json!({})).await?;
    let built = shop.begin_with_agent(2).await?;
    let before = shop.standing().await?;
    shop.told = json!({"processes": {"web": "told"}, "healthcheck": {"path": "/up"}});
    shop.played.is_deaf.store(true, Ordering::SeqCst);
    shop.cancelled_at = Some("Trying again in 3s");
    let (deployed, said) = shop.deploy_built(&built, 0).await?;
    assert_eq!(deployed.unwrap_err().to_string(), "cancelled", "{said}");
    assert_eq!(shop.standing().await?, before, "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_ends_with_a_code_is_no_deploy_and_leaves_nothing() -> Result<()> {
    for units in [0, 2] {
        let mut shop = Workshop::new(json!({})).await?;
        let built = shop.begin_with_agent(units).await?;
        let before = shop.standing().await?;
        let (deployed, said) = shop.deploy_built(&built, 3).await?;
        assert_eq!(deployed.unwrap_err().to_string(), "Exit status 3", "{said}");
        ensure!(said.contains("the agent deploys\n"), "{said}");
        assert_eq!(shop.standing().await?, before, "{said}");

        let (deployed, said) = shop.deploy_built(&built, 0).await?;
        let image = deployed.with_context(|| said)?;
        shop.is_served(&image, units.max(1), before).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_tried_as_often_as_is_configured_and_told_each_time() -> Result<()> {
    // 0 is not configured.
    for (most, failing, tries, is_built) in [(0, 2, 3, true), (0, 3, 3, false), (2, 2, 2, false)] {
        let config = json!({"docker": {"registry": "r.example", "registry-max-try": most}});
        let mut shop = Workshop::with_registry(config, "r.example/").await?;
        shop.calls.pushes_fail.lock().unwrap().extend(repeat_n(true, failing));
        let (built, said) = shop.build(SOURCE, &platform()).await?;
        let context = format!("{failing} of {most}: {built:?}\n{said}");
        assert_eq!(shop.pushed(), vec!["tsuru/app-shop:v1"; tries], "{context}");
        let told = said.matches("status 500. Trying again\n").count();
        assert_eq!(told, tries - 1, "{context}");
        let left = match built {
            Ok(image) => vec![(image, true)],
            Err(error) => {
                ensure!(error.to_string().contains("status 500"), "{context}");
                Vec::new()
            }
        };
        assert_eq!(!left.is_empty(), is_built, "{context}");
        assert_eq!(shop.made(3).await?, left, "{context}");
        assert_eq!(shop.containers().await?, [""; 0], "{context}");
        assert_eq!(shop.keys("units/").await?, [""; 0], "{context}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_of_the_newest_image_is_pushed_too_and_tried_again() -> Result<()> {
    let config = json!({"docker": {"registry": "r.example"}});
    let mut shop = Workshop::with_registry(config, "r.example/").await?;
    let built = shop.begin_with_agent(2).await?;
    let app = shop.app.name.clone();
    for (number, failing, is_deployed) in [(3, 2, true), (4, 3, false)] {
        let before = shop.standing().await?;
        shop.calls.pushes_fail.lock().unwrap().push_back(false);
        shop.calls.pushes_fail.lock().unwrap().extend(repeat_n(true, failing));
        let (deployed, said) = shop.deploy_built(&built, 0).await?;
        let context = format!("{failing}: {deployed:?}\n{said}");
        assert_eq!(deployed.is_ok(), is_deployed, "{context}");
        let version = format!("v{number}");
        let tags = [version.as_str(), "latest", "latest", "latest"];
        assert_eq!(shop.pushed(), tags.map(|tag| format!("tsuru/app-{app}:{tag}")), "{context}");
        assert_eq!(said.matches("status 500. Trying again\n").count(), 2, "{context}");
        match deployed {
            Ok(image) => shop.is_served(&image, 2, before).await.with_context(|| context)?,
            Err(_) => assert_eq!(shop.standing().await?, before, "{context}"),
        }
    }
    Ok(())
}

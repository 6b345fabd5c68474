//! Builds through the compiled Docker plugin on an engine in memory: what is made, and what is left when any call fails, when the answer to any is lost, or when somebody cancels at any.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use gantry_core::App;
use gantry_core::container::Container;
use gantry_core::image::BuildOptions;
use gantry_engine::call::{ExecOptions, HttpRequest, HttpResponse};
use gantry_engine::layer::Next;
use gantry_engine::memory::{Ended, Life, Memory, Platform, Processes};
use gantry_engine::operation::Progress;
use gantry_engine::{
    Call, Chain, Config, Containers, EngineError, Images as _, Layer, Operation, Request, Response,
    Scope, State,
};
use gantry_runtime::{Bounds, CallError, LoadSettings, Provisioner, Runtime, RuntimeSettings};
use gantry_tests::artifacts;
use gantry_tests::screen::Screen;
use serde_json::json;
use tokio::sync::Notify;

use super::stage::{chunk, image};

const NODE: &str = "tcp://10.0.0.1:2375";

/// Where an image has a file, so that there is a folder: nothing runs in memory that makes one.
const KEPT: (&str, &[u8]) = ("/home/application/current/.kept", b"");

const GRANTS: [&str; 4] = ["images:build", "images:commit", "images:remove", "images:push"];

/// Commands in containers end with the number at the end of their line, or as one was told to.
#[derive(Default)]
pub(super) struct Played {
    /// Who ran what.
    ran: Mutex<Vec<(String, Vec<String>)>>,
    /// What the line of a command starts with, and how it ends.
    fails: Mutex<Option<(&'static str, i32)>>,
}

impl Processes for Played {
    fn start(&self, container: &Container) -> Life {
        let ends = container.name.contains("-isolated-");
        Life { output: Vec::new(), ends_with: ends.then_some(0) }
    }

    fn http(&self, _container: &Container, _request: &HttpRequest) -> Option<HttpResponse> {
        Some(HttpResponse { status: 200, body: Vec::new() })
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
    now: AtomicUsize,
    pub(super) most: AtomicUsize,
    /// As many are waited for, until there were so many.
    pub(super) expected: AtomicUsize,
    /// What they are.
    pub(super) seen: Mutex<BTreeSet<&'static str>>,
}

/// One of them.
struct Under<'a>(&'a Crowd);

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Crowd {
    /// Begins to count anew.
    pub(super) fn expect(&self, at_once: usize) {
        self.most.store(0, Ordering::SeqCst);
        self.expected.store(at_once, Ordering::SeqCst);
        self.seen.lock().unwrap().clear();
    }

    async fn enter(&self, call: &'static str) -> Under<'_> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        let under = Under(self);
        self.most.fetch_max(now, Ordering::SeqCst);
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
    /// Whether commands wait.
    holds: AtomicBool,
    held: Notify,
    released: Notify,
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

    fn meets(&self, call: &Call) -> Option<Mishap> {
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
        let _under = match name {
            "containers.create" | "containers.start" | "containers.stop" | "containers.remove" => {
                Some(self.actions.enter(name).await)
            }
            "containers.http" => Some(self.checks.enter(name).await),
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
        if name == "containers.start-exec" && self.holds.load(Ordering::SeqCst) {
            self.held.notify_one();
            self.released.notified().await;
        }
        match self.meets(&request.call) {
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
                    "tsuru/script:latest",
                    platform_image(),
                    [KEPT, ("/var/lib/tsuru/deploy", script)],
                )
                .with_image(
                    "tsuru/agent:latest",
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
        let cache = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-plugins"));
        let runtime = Runtime::new(RuntimeSettings { cache, ..RuntimeSettings::default() })?;
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
            let builder = format!("{}sellers/app-shop:v{number}-builder", self.registry);
            [format!("tsuru/app-shop:v{number}"), builder]
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
    shop.calls.holds.store(true, Ordering::SeqCst);
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
    shop.calls.holds.store(false, Ordering::SeqCst);
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
    Ok(())
}

//! Docker hosts in memory, whose processes are played.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use async_trait::async_trait;
use gantry_core::container::{Container, Image};
use gantry_core::node::Node;
use gantry_engine::call::{ExecOptions, HttpRequest, HttpResponse};
use gantry_engine::memory::{Ended, Life, Memory, Platform, Processes};
use gantry_engine::{Chain, Config, Containers as _, Nodes};
use gantry_runtime::{Bounds, LoadSettings, Provisioner};
use gantry_tests::artifacts;
use serde_json::{Value, json};

use super::stage::*;

const PROVISIONER: &str = "docker";
const ADDRESSES: [&str; 2] = ["tcp://10.0.0.1:2375", "tcp://10.0.0.2:2375"];
const MACHINE: &str = "tcp://10.0.0.3:2375";

const GRANTS: [&str; 5] =
    ["images:build", "images:commit", "images:push", "images:remove", "images:tag"];

/// The label by which a container tells its image, whatever that is called by now.
const PICTURE: &str = "picture";

#[derive(Default)]
struct Played {
    badly: AtomicBool,
    broken_builds: AtomicBool,
    ran: Mutex<Vec<Ran>>,
}

impl Played {
    fn note(&self, container: &Container, words: &[String]) {
        let ran = Ran { unit: container.id.clone(), words: words.to_vec() };
        self.ran.lock().unwrap().push(ran);
    }
}

fn picture(container: &Container) -> &str {
    let labels = container.config.labels.as_ref();
    labels.and_then(|labels| labels.get(PICTURE)).map(String::as_str).unwrap_or_default()
}

impl Processes for Played {
    fn start(&self, container: &Container) -> Life {
        if !container.name.contains("-isolated-") {
            return Life { output: vec![chunk(SERVING)], ends_with: None };
        }
        let words = container.config.cmd.as_deref().unwrap_or_default();
        self.note(container, words);
        Life { output: vec![chunk(ALONE)], ends_with: Some(code_of(words).into()) }
    }

    fn exec(&self, container: &Container, options: &ExecOptions) -> Option<Ended> {
        self.note(container, &options.command);
        let is_build = options.command.last().is_some_and(|line| line.starts_with("make"));
        let fails = is_build && self.broken_builds.load(Ordering::Acquire);
        let exit_code = if fails { 3 } else { code_of(&options.command) };
        Some(Ended { output: vec![chunk(RAN)], exit_code })
    }

    fn http(&self, container: &Container, _request: &HttpRequest) -> Option<HttpResponse> {
        let badly = self.badly.load(Ordering::Acquire) || picture(container) == "shop:bad";
        let status = if badly { 500 } else { 200 };
        (picture(container) != "shop:mute").then(|| HttpResponse { status, body: Vec::new() })
    }
}

fn image(name: &str) -> Result<Image> {
    let config = json!({"Cmd": ["serve"], "Labels": {PICTURE: name}});
    Ok(serde_json::from_value(json!({"Config": config}))?)
}

fn engine(address: &str, played: &Arc<Played>) -> Result<Memory> {
    let mut engine = Memory::playing(Arc::clone(played) as Arc<dyn Processes>);
    for (name, procfile, yaml) in IMAGES {
        let files = [("/Procfile", procfile), ("/tsuru.yaml", yaml)];
        let files = files.into_iter().filter(|(_, text)| !text.is_empty());
        let bash = std::iter::once(("/bin/bash", "bash"));
        let files = files.chain(bash).map(|(path, text)| (path, text.as_bytes()));
        engine = engine.with_image(name, image(name)?, files);
    }
    let platform = "tsuru/python:latest";
    let kept = ("/home/application/current/.kept", b"".as_slice());
    let engine = engine.with_image(platform, image(platform)?, [kept]);
    Ok(engine.with_remote_image(AGENT, image(AGENT)?, []).named(address))
}

struct Docker {
    engines: Vec<(String, Memory)>,
    nodes: Arc<Nodes>,
    played: Arc<Played>,
}

/// The app on two Docker hosts, under this configuration.
pub(super) async fn stage(config: Value) -> Result<Stage> {
    let played = Arc::new(Played::default());
    let engines: Vec<(String, Memory)> = ADDRESSES
        .iter()
        .map(|address| Ok(((*address).to_owned(), engine(address, &played)?)))
        .collect::<Result<_>>()?;
    let platform = Platform::new().app(app("shop"));
    let backends = platform.backends(PROVISIONER, engines.clone());
    let nodes = Arc::clone(&backends.nodes);
    // One test compiles the plugin, the others find it in the cache.
    static COMPILING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let runtime = artifacts::runtime()?;
    let settings = LoadSettings {
        granted: GRANTS.map(str::to_owned).into(),
        bounds: Bounds::default(),
        config: Arc::new(Config::new(config)),
        instance: "memory".into(),
        chain: Chain::with(backends, Vec::new()),
    };
    let compiling = COMPILING.lock().await;
    let plugin = std::fs::read(artifacts::docker_plugin()?)?;
    let generation = runtime.load(PROVISIONER, &plugin, settings).await?;
    drop(compiling);
    let provisioner = Provisioner::new(PROVISIONER, generation);
    Ok(Stage::new(Arc::new(Docker { engines, nodes, played }), provisioner, platform))
}

impl Docker {
    /// The engine that has a container, and the container.
    async fn find(&self, id: &str) -> Result<(&Memory, Container)> {
        for (_, engine) in &self.engines {
            if let Ok(container) = engine.inspect(id).await {
                return Ok((engine, container));
            }
        }
        anyhow::bail!("there is no container {id}")
    }
}

#[async_trait]
impl Backend for Docker {
    fn nodes(&self) -> [String; 2] {
        ADDRESSES.map(str::to_owned)
    }

    fn machine(&self) -> Result<String> {
        let engine = engine(MACHINE, &self.played)?;
        self.nodes.give(PROVISIONER, MACHINE, Arc::new(engine));
        Ok(MACHINE.to_owned())
    }

    async fn on(&self, address: &str) -> Result<usize> {
        let engine = self.engines.iter().find(|(known, _)| known == address);
        let (_, engine) = engine.context("one of the two hosts")?;
        Ok(engine.list(true, &BTreeMap::new()).await?.len())
    }

    async fn is_closed(&self, node: &Node) -> Result<bool> {
        Ok(node.status == "disabled")
    }

    async fn spread(&self) -> Result<()> {
        // The plugin is the scheduler.
        Ok(())
    }

    fn answer(&self, well: bool) {
        self.played.badly.store(!well, Ordering::Release);
    }

    fn break_builds(&self) {
        self.played.broken_builds.store(true, Ordering::Release);
    }

    fn words(&self) -> [&'static str; 2] {
        ["Trying again in 3s", "wrong status code, expected 200, got: 500"]
    }

    async fn idle(&self) -> Result<()> {
        // An engine does nothing by itself.
        Ok(())
    }

    async fn made_of(&self, unit: &str) -> Result<(String, Vec<String>, String)> {
        let config = self.find(unit).await?.1.config;
        let command = config.cmd.unwrap_or_default().join(" ");
        Ok((config.image, config.env.unwrap_or_default(), command))
    }

    async fn left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for (_, engine) in &self.engines {
            let all = engine.list(true, &BTreeMap::new()).await?;
            left.extend(all.into_iter().map(|container| container.name));
        }
        Ok(left)
    }

    async fn lose(&self, unit: &str) -> Result<()> {
        Ok(self.find(unit).await?.0.remove(unit, true).await?)
    }

    async fn fail(&self, unit: &str) -> Result<()> {
        Ok(self.find(unit).await?.0.end(unit, 1)?)
    }

    fn ran(&self) -> Vec<Ran> {
        std::mem::take(&mut *self.played.ran.lock().unwrap())
    }

    async fn agents(&self) -> Result<BTreeSet<String>> {
        let labels = BTreeMap::from([("node-container-name".to_owned(), AGENT.to_owned())]);
        let mut on = BTreeSet::new();
        for (address, engine) in &self.engines {
            if !engine.list(false, &labels).await?.is_empty() {
                on.insert(address.clone());
            }
        }
        Ok(on)
    }

    async fn volumes(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

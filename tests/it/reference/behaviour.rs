//! What no other test shows of the reference's names: through compiled plugins, on engines in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use futures_util::StreamExt;
use gantry_core::container::{Container, Image};
use gantry_core::node::{
    AddNodeOptions, NodeCheckResult, NodeStatusData, RebalanceOptions, UnitStatusData,
    UpdateNodeOptions,
};
use gantry_core::yaml::RouterHealthcheck;
use gantry_core::{App, AppRouter, Error, Labels, Status, Unit};
use gantry_engine::call::{ContainersCall, ExecOptions, HttpRequest, HttpResponse};
use gantry_engine::layer::Next;
use gantry_engine::memory::{Ended, Life, Memory, Objects, Platform, Processes};
use gantry_engine::stream::{Chunk, Source, Writer};
use gantry_engine::{
    Call, Chain, Config, Containers as _, EngineError, Layer, Operation, Request, Response, Scope,
};
use gantry_runtime::{Bounds, CallError, Cause, LoadSettings, Provisioner, Registry, TailOptions};
use gantry_tests::artifacts;
use gantry_tests::kubernetes::{self, POOL, Setting};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

const A: &str = "tcp://10.0.0.1:2375";
const B: &str = "tcp://10.0.0.2:2375";
const C: &str = "tcp://10.0.0.3:2375";

/// The processes of an app: a web server with the answers that it is given, and commands that end with 7.
#[derive(Default)]
struct Played {
    /// The next answers; 201 and that all is well when there are none.
    answers: Mutex<VecDeque<(u16, &'static str)>>,
    asked: Mutex<Vec<HttpRequest>>,
}

impl Processes for Played {
    fn start(&self, _container: &Container) -> Life {
        Life { output: vec![chunk("serving\n")], ends_with: None }
    }

    fn exec(&self, _container: &Container, _options: &ExecOptions) -> Option<Ended> {
        Some(Ended { output: vec![chunk("ran\n")], exit_code: 7 })
    }

    fn http(&self, _container: &Container, request: &HttpRequest) -> Option<HttpResponse> {
        self.asked.lock().unwrap().push(request.clone());
        let next = self.answers.lock().unwrap().pop_front();
        let (status, body) = next.unwrap_or((201, "all is well"));
        Some(HttpResponse { status, body: body.into() })
    }
}

fn chunk(text: &str) -> Chunk {
    Chunk { source: Source::Stdout, bytes: text.to_owned().into() }
}

/// Keeps the engines' calls away from them while they are down, and remembers what sizes terminals were given.
#[derive(Default)]
struct Between {
    down: AtomicBool,
    sizes: Mutex<Vec<(u16, u16)>>,
}

#[async_trait]
impl Layer for Between {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, gantry_engine::Error> {
        if let Call::Containers { call, .. } = &request.call {
            if self.down.load(Ordering::Acquire) {
                return Err(EngineError::Unreachable("the host is down".to_owned()).into());
            }
            if let ContainersCall::ResizeExec { height, width, .. } = call {
                self.sizes.lock().unwrap().push((*height, *width));
            }
        }
        next.send(scope, request).await
    }
}

/// A plugin over engines in memory that have two images, and the app `shop`.
struct Site {
    engines: Vec<(&'static str, Memory)>,
    played: Arc<Played>,
    between: Arc<Between>,
    platform: Platform,
    provisioner: Provisioner,
    app: App,
}

const YAML: &[u8] = b"healthcheck:
  path: /up
  method: post
  status: 201
  scheme: https
  match: all is w[a-z]+
  router_body: WORKING
  use_in_router: true
  allowed_failures: 1
";

fn image() -> Image {
    let mut image = Image::default();
    image.config.cmd = Some(vec!["serve".to_owned()]);
    image
}

fn settings(config: Value, granted: &[&str], chain: Chain) -> LoadSettings {
    LoadSettings {
        granted: granted.iter().map(|&grant| grant.to_owned()).collect::<BTreeSet<_>>(),
        bounds: Bounds::default(),
        config: Arc::new(Config::new(config)),
        instance: "reference".into(),
        chain,
    }
}

impl Site {
    async fn new(plugin: &Path, config: Value, granted: &[&str]) -> Result<Self> {
        let played = Arc::new(Played::default());
        let engine = |address| {
            let files = [("/app/user/tsuru.yaml", YAML), ("/bin/bash", b"bash".as_slice())];
            Memory::playing(Arc::clone(&played) as Arc<dyn Processes>)
                .with_image("shop:1", image(), files)
                .with_image("plain:1", image(), [])
                .with_remote_image("registry.example/far:1", image(), [])
                .named(address)
        };
        let engines = [A, B, C].map(|address| (address, engine(address))).to_vec();
        let app = App {
            name: "shop".to_owned(),
            platform: "python".to_owned(),
            pool: "p".to_owned(),
            ..App::default()
        };
        let router = AppRouter { name: "edge".to_owned(), ..AppRouter::default() };
        let platform = Platform::new().app(app.clone()).router("shop", router);
        let between = Arc::new(Between::default());
        let layers = vec![Arc::clone(&between) as Arc<dyn Layer>];
        let chain = Chain::with(platform.backends("docker", engines.clone()), layers);
        let bytes = std::fs::read(plugin)?;
        let generation =
            artifacts::runtime()?.load("docker", &bytes, settings(config, granted, chain)).await?;
        let provisioner = Provisioner::new("docker", generation);
        Ok(Self { engines, played, between, platform, provisioner, app })
    }

    async fn docker(mut config: Value, granted: &[&str]) -> Result<Self> {
        config["routers"] = json!({"edge": {"type": "table"}});
        Self::new(&artifacts::docker_plugin()?, config, granted).await
    }

    async fn deploy(&self, app: &App, image: &str) -> Result<String, CallError> {
        self.provisioner.deploy(&operation(), app, image).await
    }

    async fn units(&self, app: &App) -> Result<Vec<Unit>> {
        Ok(self.provisioner.units(&question(), std::slice::from_ref(app)).await?)
    }

    async fn names(&self, app: &App) -> Result<BTreeSet<String>> {
        Ok(self.units(app).await?.into_iter().map(|unit| unit.name).collect())
    }

    /// The names of an app's units on a host, and elsewhere.
    async fn names_on(&self, app: &App, ip: &str) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
        let (there, elsewhere): (Vec<Unit>, Vec<Unit>) =
            self.units(app).await?.into_iter().partition(|unit| unit.ip == ip);
        let names = |units: Vec<Unit>| units.into_iter().map(|unit| unit.name).collect();
        Ok((names(there), names(elsewhere)))
    }
}

fn operation() -> Operation {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Operation::new(format!("op-{number}"), Duration::from_secs(120))
}

fn question() -> Operation {
    Operation::new("", Duration::from_secs(60))
}

/// What the plugin said.
fn told<T>(result: Result<T, CallError>) -> Result<Error> {
    match result.map(drop).map_err(|error| error.cause) {
        Err(Cause::Plugin(error)) => Ok(error),
        other => anyhow::bail!("not what a plugin says: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_is_told_with_all_that_is_known_of_it() -> Result<()> {
    let site = Site::docker(json!({}), &[]).await?;
    site.deploy(&site.app, "shop:1").await?;
    let units = site.units(&site.app).await?;
    let [unit] = units.as_slice() else { anyhow::bail!("one unit: {units:?}") };
    let host = site.engines.iter().find(|(address, _)| address.contains(&format!("{}:", unit.ip)));
    let container = host.context("a host")?.1.inspect(&unit.id).await?;
    let bindings = container.network_settings.ports.get("8888/tcp").cloned().flatten();
    let port = bindings.and_then(|all| all.first().cloned()).context("a port")?.host_port;
    let expected = Unit {
        id: container.id,
        name: container.name,
        app_name: "shop".to_owned(),
        process_name: "web".to_owned(),
        kind: "python".to_owned(),
        ip: unit.ip.clone(),
        status: Some(Status::Starting),
        address: Some(format!("http://{}:{port}", unit.ip)),
    };
    assert_eq!(*unit, expected);
    assert!(unit.name.starts_with("shop-") && unit.ip.starts_with("10.0.0."), "{unit:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_and_the_routers_are_asked_as_the_image_says() -> Result<()> {
    let site = Site::docker(json!({}), &[]).await?;
    // The body is not the one expected, and one failure is allowed.
    site.played.answers.lock().unwrap().push_back((201, "all is lost"));
    site.deploy(&site.app, "shop:1").await?;
    let asked = std::mem::take(&mut *site.played.asked.lock().unwrap());
    assert_eq!(asked.len(), 2, "{asked:?}");
    for request in asked {
        let HttpRequest { method, scheme, path, port, .. } = request;
        assert_eq!([&*method, &scheme, &path, &port], ["POST", "https", "/up", "8888/tcp"]);
    }
    let routes = site.platform.record("shop").context("the app")?.routes;
    let edge = routes.get("edge").context("the router")?;
    let expected =
        RouterHealthcheck { path: "/up".to_owned(), status: 201, body: "WORKING".to_owned() };
    assert_eq!(edge.healthcheck.as_ref(), Some(&expected));
    let addresses = site.provisioner.routable_addresses(&question(), &site.app).await?;
    assert_eq!(edge.addresses, addresses);

    // A second failure is one too many.
    site.played.answers.lock().unwrap().extend([(500, ""), (200, "all is well")]);
    let error = told(site.deploy(&site.app, "shop:1").await)?.to_string();
    ensure!(error.contains("wrong status code, expected 201, got: 200"), "{error}");
    assert_eq!(site.provisioner.routable_addresses(&question(), &site.app).await?, addresses);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_of_some_apps_or_on_some_hosts_are_spread_anew_and_no_others() -> Result<()> {
    let site = Site::docker(json!({}), &[]).await?;
    let shelf = App { name: "shelf".to_owned(), ..site.app.clone() };
    let [shop, shelf] = [&site.app, &shelf].map(|app| App { deploys: 1, ..app.clone() });
    for app in [&shop, &shelf] {
        site.platform.put_app(app.clone());
        site.deploy(app, "plain:1").await?;
        site.provisioner.add_units(&operation(), app, 2, "").await?;
    }
    let (others, before) = (site.names(&shop).await?, site.names(&shelf).await?);
    let apps = RebalanceOptions {
        app_filter: vec!["shelf".to_owned()],
        force: true,
        ..RebalanceOptions::default()
    };
    ensure!(site.provisioner.rebalance(&operation(), &apps).await?, "they moved");
    assert_eq!(site.names(&shop).await?, others);
    let after = site.names(&shelf).await?;
    assert!(after.len() == 3 && after.is_disjoint(&before), "{before:?} {after:?}");

    let rack: Labels = [("rack".to_owned(), "7".to_owned())].into();
    let update = UpdateNodeOptions {
        address: B.to_owned(),
        metadata: rack.clone(),
        ..UpdateNodeOptions::default()
    };
    site.provisioner.update_node(&operation(), &update).await?;
    let hosts =
        RebalanceOptions { metadata_filter: rack, force: true, ..RebalanceOptions::default() };
    let mut before = BTreeMap::new();
    for app in [&shop, &shelf] {
        before.insert(&app.name, site.names_on(app, "10.0.0.2").await?);
    }
    ensure!(before.values().any(|(there, _)| !there.is_empty()), "somebody is there: {before:?}");
    ensure!(site.provisioner.rebalance(&operation(), &hosts).await?, "they moved");
    for app in [&shop, &shelf] {
        let after = site.names(app).await?;
        let (there, elsewhere) = &before[&app.name];
        assert!(after.len() == 3 && elsewhere.is_subset(&after), "{before:?} {after:?}");
        assert!(after.is_disjoint(there), "{before:?} {after:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nodes_failures_are_forgotten_when_somebody_says_so() -> Result<()> {
    let site = Site::docker(json!({"docker": {"healing": {"max-failures": 5}}}), &[]).await?;
    site.provisioner.examine(&question()).await?;
    site.between.down.store(true, Ordering::Release);
    for count in 1..=2 {
        site.provisioner.examine(&question()).await?;
        assert_eq!(site.provisioner.node_failures(&question(), A).await?, count);
    }
    site.provisioner.reset_node_failures(&operation(), A).await?;
    assert_eq!(site.provisioner.node_failures(&question(), A).await?, 0);
    assert_eq!(site.provisioner.node_failures(&question(), B).await?, 2, "those of others stay");
    assert!(site.provisioner.node_has_success(&question(), A).await?);
    let error = told(site.provisioner.reset_node_failures(&operation(), "x").await)?;
    assert_eq!(error, Error::NodeNotFound);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_checked_of_its_machine_changes_nothing_that_people_see() -> Result<()> {
    let site = Site::docker(json!({}), &[]).await?;
    site.deploy(&site.app, "plain:1").await?;
    let units = site.units(&site.app).await?;
    let checks = vec![NodeCheckResult {
        name: "disk".to_owned(),
        error: "it is full".to_owned(),
        successful: false,
    }];
    let id = units.first().context("one unit")?.id.clone();
    let data = NodeStatusData {
        addresses: vec!["10.0.0.9".to_owned()],
        units: vec![UnitStatusData { id, ..UnitStatusData::default() }],
        checks,
    };
    let home = units.first().context("one unit")?.ip.clone();
    let before = site.provisioner.node(&question(), &format!("tcp://{home}:2375")).await?;
    let node = site.provisioner.node_for_node_data(&question(), &data).await?;
    assert_eq!(node.address, before.address, "it is known by its unit");
    assert_eq!(site.provisioner.node(&question(), &node.address).await?, before);
    assert_eq!(node.status, "ready");
    assert_eq!(site.units(&site.app).await?, units);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nodes_metadata_is_told_with_its_prefix_and_without_and_apart_from_what_others_say()
-> Result<()> {
    let cluster = Objects::new();
    cluster.put(&json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": "n1",
            "labels": {"tsuru.io/pool": POOL, "tsuru.io/rack": "7", "zone": "here"},
        },
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
    }))?;
    let setting = Setting {
        cluster: Arc::new(cluster),
        namespace: "default".to_owned(),
        beside: None,
        platform: Platform::new(),
        config: json!({}),
        layers: Vec::new(),
        granted: None,
    };
    let provisioner = kubernetes::provisioner(&artifacts::runtime()?, setting).await?;
    let node = provisioner.node(&question(), "10.0.0.1").await?;
    let labels = |pairs: &[(&str, &str)]| -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(node.metadata, labels(&[("tsuru.io/pool", POOL), ("tsuru.io/rack", "7")]));
    assert_eq!(node.metadata_no_prefix, labels(&[("pool", POOL), ("rack", "7")]));
    assert_eq!(node.extra_data, labels(&[("tsuru.io/cluster", "test"), ("zone", "here")]));
    assert_eq!(node.provisioner.as_deref(), Some("kubernetes"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_removed_from_every_host_and_a_second_time() -> Result<()> {
    let site = Site::docker(json!({}), &["images:remove"]).await?;
    for _ in 0..2 {
        site.provisioner.clean_image(&operation(), "shop", "plain:1").await?;
        for (address, engine) in &site.engines {
            let gone = engine.inspect_image("plain:1").await;
            ensure!(matches!(gone, Err(EngineError::NotFound(_))), "{address}: {gone:?}");
            engine.inspect_image("shop:1").await?;
        }
    }
    Ok(())
}

/// A provisioner of this name with nothing but durable keys.
async fn alone(name: &str, plugin: &Path) -> Result<Provisioner> {
    let backends = Platform::new().backends(name, [("memory", Memory::new())]);
    let settings = settings(json!({}), &[], Chain::new(backends));
    let generation = artifacts::runtime()?.load(name, &std::fs::read(plugin)?, settings).await?;
    Ok(Provisioner::new(name, generation))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_found_with_whoever_has_it() -> Result<()> {
    let warehouse = artifacts::sdk_example("warehouse")?;
    let registry = Registry::new();
    // The first has no nodes to ask for.
    registry.register(alone("a", &artifacts::sdk_example("hello")?).await?);
    for (name, address) in [("b", "http://10.0.0.1:80"), ("c", "http://10.0.0.2:80")] {
        let provisioner = alone(name, &warehouse).await?;
        let options = AddNodeOptions { address: address.to_owned(), ..AddNodeOptions::default() };
        provisioner.add_node(&operation(), &options).await?;
        registry.register(provisioner);
    }
    let (found, node) = registry.find_node(&question(), "http://10.0.0.2:80").await?;
    assert_eq!((found.name(), node.address.as_str()), ("c", "http://10.0.0.2:80"));
    let skipped = registry.find_node_skipping(&question(), "http://10.0.0.2:80", "c").await;
    assert_eq!(skipped.map(drop).unwrap_err().to_string(), "node not found");
    let (found, _) = registry.find_node_skipping(&question(), "http://10.0.0.2:80", "b").await?;
    assert_eq!(found.name(), "c");
    let nowhere = registry.find_node(&question(), "10.0.0.3").await;
    assert_eq!(nowhere.map(drop).unwrap_err().to_string(), "node not found");

    // One that cannot tell keeps nobody from being asked, and is told of when nobody has it.
    registry.register(alone("aa", &artifacts::guest("liar")?).await?);
    let (found, _) = registry.find_node(&question(), "http://10.0.0.2:80").await?;
    assert_eq!(found.name(), "c");
    let nowhere = registry.find_node(&question(), "10.0.0.3").await.map(drop).unwrap_err();
    ensure!(nowhere.to_string().starts_with("unit \""), "{nowhere}");
    Ok(())
}

/// A tar archive of one file, as text: it has nothing but letters and zeros.
fn archive(name: &str, text: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join(name), text)?;
    let mut tar = std::process::Command::new("tar");
    let output = tar.arg("-C").arg(folder.path()).args(["-cf", "-", name]).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// What a command of the guest `words` ends with and what it writes.
async fn say(site: &Site, command: &str, args: &[String]) -> Result<(i32, String)> {
    let (theirs, mut ours) = tokio::io::duplex(1 << 16);
    let (stdout, stderr): (Writer, Writer) = (Box::pin(theirs), Box::pin(tokio::io::sink()));
    let code =
        site.provisioner.execute(&operation(), &site.app, command, args, stdout, stderr).await?;
    let mut text = String::new();
    ours.read_to_string(&mut text).await?;
    Ok((code, text))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_word_of_the_references_docker_clients_is_a_host_function() -> Result<()> {
    let grants = ["images:build", "images:commit", "images:push", "images:remove", "images:tag"];
    let site = Site::new(&artifacts::guest("words")?, json!({}), &grants).await?;
    let engine = &site.engines[0].1;
    // The image is pulled first, for the engine does not have it.
    let image = "registry.example/far:1".to_owned();
    ensure!(engine.inspect_image(&image).await.is_err());
    let (code, said) = say(&site, "begin", &[image, archive("note", "kept")?]).await?;
    assert_eq!((code, said.as_str()), (7, "note: kept\nstate: running\nran\n"));
    assert_eq!(*site.between.sizes.lock().unwrap(), [(50, 132)]);

    // Attached without waiting: the session goes on while the call has returned.
    let options = TailOptions { follow: true, ..TailOptions::default() };
    let mut sources = site.provisioner.tail(&question(), &site.app, &options).await?;
    let mut chunks = sources.pop().context("it is attached")?.lines.chunks;
    assert_eq!(chunks.next().await.context("it says something")??, chunk("serving\n"));

    let layers = engine.image_history("registry.example/far:1").await?.len();
    let dockerfile = "FROM kept:2\nLABEL made=here\n";
    let (code, said) = say(&site, "end", &[archive("Dockerfile", dockerfile)?]).await?;
    let (before, after) = said.split_once("Successfully built ").context("it is built")?;
    let expected = format!(
        "ended: 0\nserving\nthe same image: true\nlayers: {}\nStep 1/2 : FROM kept:2\nStep 2/2 : LABEL made=here\n",
        layers + 1
    );
    assert_eq!((code, before), (0, expected.as_str()));
    let (_, after) = after.split_once("\n").context("lines")?;
    let expected =
        "Successfully tagged registry.example/built:1\nPushed\nimage: gone\ncontainer: gone\n";
    assert_eq!(after, expected);
    ensure!(chunks.next().await.is_none(), "the attachment has ended with its container");

    // What was pushed can be pulled, what was committed has two names, and the container is gone.
    engine.pull_image("registry.example/built:1").await?;
    let labels = engine.inspect_image("registry.example/built:1").await?.config.labels;
    assert_eq!(labels.unwrap_or_default().get("made").map(String::as_str), Some("here"));
    let (one, two) = (engine.inspect_image("kept:1").await?, engine.inspect_image("kept:2").await?);
    assert_eq!(one.id, two.id);
    assert!(engine.list(true, &Labels::new()).await?.is_empty());
    Ok(())
}

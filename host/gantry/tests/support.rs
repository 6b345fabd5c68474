//! A daemon in this process: the real service, store, HTTP and plugin, over a container engine and a cluster in memory.

mod terminals;

use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use gantry::api::{Accepted, Items, Operation, Problem, ProblemKind};
use gantry::client::{Change, Client, ClientError, Event, Host};
use gantry::config::{Config, Environment, Overrides};
use gantry::daemon::{ClusterEngines, Daemon, DaemonError, Drained, Listeners};
use gantry_core::Unit;
use gantry_core::container::{Container, ContainerConfig, Empty, Image};
use gantry_engine::call::{ExecOptions, HttpRequest, HttpResponse};
use gantry_engine::memory::{Ended, Life, Memory, Processes};
use gantry_engine::stream::{Chunk, Source};
use gantry_engine::{Containers, EngineError};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::OnceCell;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use terminals::Terminals;

/// Long enough for anything here on a busy machine; a wait ends as soon as what it waits for is there.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// What whoever may do everything shows on TCP.
pub(crate) const OPERATOR: &str = "Bearer sesame";

/// The address of the engine in memory.
const ENGINE: &str = "http://10.1.1.1:2375";

/// The name of the cluster in memory, once there is a record of it.
pub(crate) const NORTH: &str = "north";

/// Where a plugin lies once it is built; or why it could not be.
type Built = OnceLock<std::result::Result<PathBuf, String>>;

/// The compiled Docker plugin, built once a run.
pub(crate) fn plugin() -> Result<Vec<u8>> {
    static BUILT: Built = OnceLock::new();
    built(&BUILT, &["-p", "gantry-docker"], "gantry_docker.wasm")
}

/// The compiled example of the SDK that has machines, storage, shells and clusters, built once a run.
pub(crate) fn warehouse() -> Result<Vec<u8>> {
    static BUILT: Built = OnceLock::new();
    built(&BUILT, &["-p", "gantry-sdk", "--example", "warehouse"], "examples/warehouse.wasm")
}

/// The compiled Kubernetes plugin, built once a run.
pub(crate) fn kubernetes() -> Result<Vec<u8>> {
    static BUILT: Built = OnceLock::new();
    built(&BUILT, &["-p", "gantry-kubernetes"], "gantry_kubernetes.wasm")
}

/// The compiled example of the SDK that takes every request and has no unit, built once a run.
pub(crate) fn unitless() -> Result<Vec<u8>> {
    static BUILT: Built = OnceLock::new();
    built(&BUILT, &["-p", "gantry-sdk", "--example", "labels"], "examples/labels.wasm")
}

/// The compiled guest that adds routes itself, built once a run.
fn routers() -> Result<Vec<u8>> {
    static BUILT: Built = OnceLock::new();
    built(&BUILT, &["-p", "gantry-guests", "--example", "routers"], "examples/routers.wasm")
}

/// The compiled guest that finds units ill, built once a run.
fn alarmist() -> Result<Vec<u8>> {
    static BUILT: Built = OnceLock::new();
    built(&BUILT, &["-p", "gantry-guests", "--example", "alarmist"], "examples/alarmist.wasm")
}

fn built(built: &Built, what: &[&str], file: &str) -> Result<Vec<u8>> {
    let build = || build_plugin(what, file).map_err(|error| format!("{error:#}"));
    let path = built.get_or_init(build).clone().map_err(anyhow::Error::msg)?;
    Ok(std::fs::read(path)?)
}

fn build_plugin(what: &[&str], file: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).context("a test lies below the target directory")?;
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg("build")
        .args(what)
        .args(["--target", "wasm32-wasip2", "--profile", "plugin"])
        .arg("--target-dir")
        .arg(target);
    // What cargo tells its tests about themselves must not reach a build of something else.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            command.env_remove(name);
        }
    }
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(target.join("wasm32-wasip2/plugin").join(file))
}

/// The processes of every app: a web server with a health check that can be made to fail, and commands that end with the number in them.
#[derive(Default)]
pub(crate) struct Played {
    /// The status that the health check answers; nothing listens while it is 0.
    pub(crate) health: AtomicU16,
}

impl Played {
    /// Makes the health check answer this.
    pub(crate) fn answers(&self, status: u16) {
        self.health.store(status, Ordering::Release);
    }
}

fn said(source: Source, text: &str) -> Chunk {
    Chunk { source, bytes: Bytes::copy_from_slice(text.as_bytes()) }
}

impl Processes for Played {
    fn start(&self, _container: &Container) -> Life {
        let output = vec![said(Source::Stdout, "serving\n"), said(Source::Stderr, "careful\n")];
        Life { output, ends_with: None }
    }

    fn exec(&self, _container: &Container, options: &ExecOptions) -> Option<Ended> {
        let line = options.command.join(" ");
        let exit_code = line.rsplit(' ').next()?.parse().unwrap_or(0);
        let output = vec![said(Source::Stdout, "out\n"), said(Source::Stderr, "err\n")];
        Some(Ended { output, exit_code })
    }

    fn http(&self, _container: &Container, _request: &HttpRequest) -> Option<HttpResponse> {
        match self.health.load(Ordering::Acquire) {
            0 => None,
            status => Some(HttpResponse { status, body: Vec::new() }),
        }
    }
}

/// A folder, an engine in memory, and a daemon on them that can be started again.
pub(crate) struct House {
    /// Where the daemon keeps everything.
    pub(crate) folder: TempDir,
    /// The engine.
    pub(crate) engine: Memory,
    /// What its containers do.
    pub(crate) played: Arc<Played>,
    /// The cluster.
    pub(crate) cluster: Terminals,
    /// Asks the daemon.
    pub(crate) client: Client,
    more_config: String,
    running: Option<Running>,
}

struct Running {
    host: Machine,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<std::result::Result<Drained, DaemonError>>,
    tcp: std::net::SocketAddr,
}

/// What a daemon runs on: a runtime with a thread of its own, which goes with all that runs on it.
///
/// It has one thread, so that nothing runs on while the rest is torn down: a task that sees others fail would clean up after them, which a daemon that is killed does not.
struct Machine {
    handle: tokio::runtime::Handle,
    power: DropGuard,
    thread: std::thread::JoinHandle<()>,
}

impl Machine {
    fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (handle, off) = (runtime.handle().clone(), CancellationToken::new());
        let power = off.clone().drop_guard();
        let thread = std::thread::spawn(move || {
            runtime.block_on(off.cancelled());
            runtime.shutdown_timeout(SOON);
        });
        Ok(Self { handle, power, thread })
    }

    /// Ends all that runs on it, and waits until nothing does.
    fn end(self) {
        drop(self.power);
        assert!(self.thread.join().is_ok(), "the daemon ends");
    }
}

fn image(text: &str) -> Image {
    Image {
        config: ContainerConfig {
            cmd: Some(vec!["serve".to_owned(), text.to_owned()]),
            exposed_ports: Some([("8888/tcp".to_owned(), Empty {})].into()),
            ..ContainerConfig::default()
        },
        ..Image::default()
    }
}

impl House {
    /// A daemon with the Docker plugin installed, and images `plain:1`, `plain:2` and `checked:1`, the last of which has a health check.
    pub(crate) async fn with_docker(config: &str) -> Result<Self> {
        // Compiling takes seconds; what the first daemon compiled is given to the others, with the key that it is sealed with.
        static COMPILED: OnceCell<Compiled> = OnceCell::const_new();
        let compiled = COMPILED.get_or_try_init(|| async {
            let house = Self::new("").await?;
            house.install("docker", plugin()?).await?;
            house.compiled()
        });
        let house = Self::in_folder(compiled.await?.folder()?, config).await?;
        house.install("docker", plugin()?).await?;
        Ok(house)
    }

    /// The same with a second provisioner `warehouse`, which is granted what it asks for, and its pool `yard`.
    pub(crate) async fn with_both(config: &str) -> Result<Self> {
        static COMPILED: OnceCell<Compiled> = OnceCell::const_new();
        let compiled = COMPILED.get_or_try_init(|| async {
            let house = Self::new("").await?;
            house.install("docker", plugin()?).await?;
            house.install("warehouse", warehouse()?).await?;
            house.compiled()
        });
        let house = Self::in_folder(compiled.await?.folder()?, config).await?;
        house.install("docker", plugin()?).await?;
        house.install("warehouse", warehouse()?).await?;
        let yard = serde_json::json!({"name": "yard", "provisioner": "warehouse"});
        house.done(Method::POST, "/v1/pools", yard).await?;
        Ok(house)
    }

    /// The same with an app `web` of the warehouse, which has one unit.
    pub(crate) async fn with_web(config: &str) -> Result<Self> {
        let house = Self::with_both(config).await?;
        let new = serde_json::json!({"name": "web", "pool": "yard"});
        house.done(Method::POST, "/v1/apps", new).await?;
        let deploy = serde_json::json!({"image": "a:1"});
        house.done(Method::POST, "/v1/apps/web/deploy", deploy).await?;
        Ok(house)
    }

    /// The same with a second provisioner `routed`, which adds routes itself, and its pool `edge`.
    pub(crate) async fn with_routed(config: &str) -> Result<Self> {
        let house = Self::with_docker(config).await?;
        house.install("routed", routers()?).await?;
        let edge = serde_json::json!({"name": "edge", "provisioner": "routed"});
        house.done(Method::POST, "/v1/pools", edge).await?;
        Ok(house)
    }

    /// A daemon with the provisioner `alarmist`, which finds units ill, and its pool `ward`.
    pub(crate) async fn with_alarmist(config: &str) -> Result<Self> {
        let house = Self::new(config).await?;
        house.install("alarmist", alarmist()?).await?;
        let ward = serde_json::json!({"name": "ward", "provisioner": "alarmist"});
        house.done(Method::POST, "/v1/pools", ward).await?;
        Ok(house)
    }

    /// Gives the cluster in memory to the warehouse, for every pool of it.
    pub(crate) async fn with_cluster(self) -> Result<Self> {
        let north = serde_json::json!({
            "name": NORTH,
            "provisioner": "warehouse",
            "addresses": ["https://10.2.2.2:6443"],
            "token": "s3cr3t",
            "default": true,
        });
        self.done(Method::POST, "/v1/clusters", north).await?;
        Ok(self)
    }

    /// What the daemon compiled.
    fn compiled(&self) -> Result<Compiled> {
        let data = self.folder.path().join("data");
        let mut plugins = Vec::new();
        for file in std::fs::read_dir(data.join("compiled"))? {
            let file = file?;
            plugins.push((file.file_name(), std::fs::read(file.path())?));
        }
        Ok(Compiled { key: std::fs::read(data.join("compiled.key"))?, plugins })
    }

    async fn install(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let path = format!("/v1/plugins/{name}?grant-asked={}", name == "warehouse");
        let change = Change::default();
        let accepted = self.client.change_bytes(Method::PUT, &path, bytes, &change).await?;
        let ended = self.end_of(&accepted).await?;
        ended.map_err(|problem| anyhow::anyhow!("{problem:?}")).map(|_| ())
    }

    /// A daemon without plugins.
    pub(crate) async fn new(config: &str) -> Result<Self> {
        Self::in_folder(tempfile::tempdir()?, config).await
    }

    async fn in_folder(folder: TempDir, config: &str) -> Result<Self> {
        let played = Arc::new(Played::default());
        let yaml: &[u8] = b"healthcheck:\n  path: /up\n";
        let engine = Memory::playing(Arc::clone(&played) as Arc<dyn Processes>)
            .with_image("plain:1", image("1"), [])
            .with_image("plain:2", image("2"), [])
            // The names mean something to the warehouse.
            .with_image("plain:broken", image("4"), [])
            .with_image("plain:torn", image("5"), [])
            .with_image("checked:1", image("3"), [("tsuru.yaml", yaml)]);
        let socket = folder.path().join("g.sock");
        let client = Client::new(Host::Unix(socket), None);
        let more_config = config.to_owned();
        let cluster = Terminals::default();
        let mut house =
            Self { folder, engine, played, cluster, client, more_config, running: None };
        house.start().await?;
        Ok(house)
    }

    /// Starts the daemon, on the folder and the engine as they are.
    pub(crate) async fn start(&mut self) -> Result<Vec<String>> {
        let file = self.folder.path().join("gantry.toml");
        std::fs::write(&file, &self.more_config)?;
        let overrides = Overrides {
            file: Some(file),
            data: Some(self.folder.path().join("data")),
            ..Overrides::default()
        };
        let config = Config::load(&overrides, &Environment::of([("HOME", "/nowhere")]))?;
        let socket = self.folder.path().join("g.sock");
        // What is left of a crash.
        let _ = std::fs::remove_file(&socket);
        let engine: Arc<dyn Containers> = Arc::new(self.engine.clone());
        let clusters = ClusterEngines::from([(
            NORTH.to_owned(),
            Arc::new(self.cluster.clone()) as Arc<dyn gantry_engine::Cluster>,
        )]);
        let host = Machine::new()?;
        let shutdown = CancellationToken::new();
        let told = shutdown.clone();
        let started = host.handle.spawn(async move {
            let engines = vec![(ENGINE.to_owned(), engine)];
            let daemon = Daemon::with_clusters(config, engines, clusters).await?;
            let tcp = TcpListener::bind("127.0.0.1:0").await?;
            let address = tcp.local_addr()?;
            let token = gantry::config::Token::new("sesame").context("a token")?;
            let listeners =
                Listeners { unix: Some(UnixListener::bind(&socket)?), tcp: Some((tcp, token)) };
            let lines = daemon.told().to_vec();
            let served = tokio::spawn(async move {
                let hurry = CancellationToken::new();
                daemon.serve(listeners, told.cancelled_owned(), hurry).await
            });
            anyhow::Ok((lines, served, address))
        });
        let (lines, served, tcp) = started.await??;
        self.running = Some(Running { host, shutdown, served, tcp });
        Ok(lines)
    }

    /// Gives the next daemon another configuration.
    pub(crate) fn configure(&mut self, config: &str) {
        config.clone_into(&mut self.more_config);
    }

    /// Makes something else of every plugin file.
    pub(crate) fn spoil_plugins(&self) -> Result<()> {
        for file in std::fs::read_dir(self.folder.path().join("data/plugins"))? {
            std::fs::write(file?.path(), b"other bytes")?;
        }
        Ok(())
    }

    /// Ends the daemon as `kill -9` does: nothing of it runs on, nothing is told.
    pub(crate) fn crash(&mut self) {
        if let Some(running) = self.running.take() {
            running.host.end();
        }
    }

    /// Tells the daemon to end, and gives how it did.
    pub(crate) async fn stop(&mut self) -> Result<Drained> {
        let running = self.running.take().context("it runs")?;
        running.shutdown.cancel();
        Ok(tokio::time::timeout(SOON, running.served).await???)
    }

    /// Where it answers on TCP.
    pub(crate) fn tcp(&self) -> Result<Host> {
        let address = self.running.as_ref().context("it runs")?.tcp;
        Ok(format!("http://{address}").parse()?)
    }

    /// Sends a body of this kind over TCP, as agents do, and gives the status of the answer and its document.
    pub(crate) async fn post(
        &self,
        path: &str,
        kind: &str,
        authorization: &str,
        body: String,
    ) -> Result<(u16, Value)> {
        let address = self.running.as_ref().context("it runs")?.tcp;
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("host", "gantry")
            .header("content-type", kind)
            .header("authorization", authorization)
            .body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&bytes)?))
    }

    /// What the agents in the units of an app show, from the environment of one of its containers.
    pub(crate) async fn token(&self, app: &str) -> Result<String> {
        for container in self.engine.list(true, &Default::default()).await? {
            let config = self.engine.inspect(&container.id).await?.config;
            if config.labels.unwrap_or_default().get("app-name").is_some_and(|name| name == app) {
                let envs = config.env.unwrap_or_default();
                let mut tokens = envs.iter().filter_map(|env| env.strip_prefix("TSURU_APP_TOKEN="));
                return Ok(tokens.next().context("a token")?.to_owned());
            }
        }
        bail!("the app `{app}` has no container")
    }

    /// Says that a unit is there, as the agent in it does.
    pub(crate) async fn register(
        &self,
        app: &str,
        authorization: &str,
        form: &str,
    ) -> Result<(u16, Value)> {
        let path = format!("/v1/apps/{app}/units/register");
        let kind = "application/x-www-form-urlencoded";
        self.post(&path, kind, authorization, form.to_owned()).await
    }

    /// Asks for a change and waits for its end.
    pub(crate) async fn change(
        &self,
        method: Method,
        path: &str,
        body: impl Serialize + Sync,
    ) -> Result<std::result::Result<Operation, Problem>> {
        match self.begin(method, path, body).await? {
            Ok(accepted) => self.end_of(&accepted).await,
            Err(problem) => Ok(Err(problem)),
        }
    }

    /// The same for a change that must end well.
    pub(crate) async fn done(
        &self,
        method: Method,
        path: &str,
        body: impl Serialize + Sync,
    ) -> Result<Operation> {
        match self.change(method, path, body).await? {
            Ok(operation) => Ok(operation),
            Err(problem) => bail!("{path}: {problem:?}"),
        }
    }

    /// Asks for a change that is to be refused, at once or by its operation.
    pub(crate) async fn refusal(&self, method: Method, path: &str, body: Value) -> Result<Problem> {
        let answer = self.change(method.clone(), path, &body).await?;
        let problem = answer.err().with_context(|| format!("{method} {path} {body} was done"))?;
        ensure!(problem.hint.is_some() || problem.kind == ProblemKind::NotSupported, "{problem:?}");
        Ok(problem)
    }

    /// Asks for a change and does not wait.
    pub(crate) async fn begin(
        &self,
        method: Method,
        path: &str,
        body: impl Serialize + Sync,
    ) -> Result<std::result::Result<Accepted, Problem>> {
        refused(self.client.change(method, path, &body, &Change::default()).await)
    }

    /// The end of an operation.
    pub(crate) async fn end_of(
        &self,
        accepted: &Accepted,
    ) -> Result<std::result::Result<Operation, Problem>> {
        let events = self.client.events(&accepted.events, None).await?;
        let last = tokio::time::timeout(SOON, last_of(events)).await??;
        ensure!(last.kind == "end", "{last:?}");
        let operation: Operation = serde_json::from_str(&last.data)?;
        Ok(match operation.problem {
            Some(problem) => Err(problem),
            None => Ok(operation),
        })
    }

    /// The units of an app.
    pub(crate) async fn units(&self, app: &str) -> Result<Vec<Unit>> {
        let units: Items<Unit> = self.client.get(&format!("/v1/apps/{app}/units")).await?;
        Ok(units.items)
    }

    /// Runs the program against this daemon, and gives its code and all that it said.
    pub(crate) async fn program(
        &self,
        words: &[&str],
        input: &str,
    ) -> Result<(Option<i32>, String)> {
        let socket = self.folder.path().join("g.sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
        command
            .env_clear()
            .env("GANTRY_HOST", format!("unix://{}", socket.display()))
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let input = input.to_owned();
        let ran = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn()?;
            let mut stdin = child.stdin.take().context("a pipe")?;
            // A program that reads nothing may have ended.
            let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
            drop(stdin);
            anyhow::Ok(child.wait_with_output()?)
        });
        let output = ran.await??;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// The names of the containers that are on the engine, with whether they run.
    pub(crate) async fn containers(&self) -> Result<Vec<(String, String)>> {
        let all = self.engine.list(true, &Default::default()).await?;
        Ok(all.into_iter().map(|one| (one.name, one.state)).collect())
    }

    /// Waits until so many containers run.
    pub(crate) async fn until_running(&self, count: usize) -> Result<()> {
        let wait = async {
            loop {
                let containers = self.containers().await?;
                if containers.iter().filter(|(_, state)| state == "running").count() == count {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON, wait).await.context("they do not run in time")?
    }
}

/// What a daemon compiled, with the key that it is sealed with: in memory, where it ends with the tests.
struct Compiled {
    key: Vec<u8>,
    plugins: Vec<(OsString, Vec<u8>)>,
}

impl Compiled {
    /// A folder for a daemon that finds its plugins compiled.
    fn folder(&self) -> Result<TempDir> {
        let folder = tempfile::tempdir()?;
        let place = folder.path().join("data/compiled");
        DirBuilder::new().recursive(true).mode(0o700).create(&place)?;
        for (name, plugin) in &self.plugins {
            std::fs::write(place.join(name), plugin)?;
        }
        let key = place.with_extension("key");
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(key)?
            .write_all(&self.key)?;
        Ok(folder)
    }
}

/// The problem of a request that was refused.
pub(crate) fn refused<T>(
    answer: std::result::Result<T, ClientError>,
) -> Result<std::result::Result<T, Problem>> {
    match answer {
        Ok(value) => Ok(Ok(value)),
        Err(ClientError::Problem(problem)) => Ok(Err(*problem)),
        Err(error) => Err(error.into()),
    }
}

/// The last event of a stream that ends by itself.
pub(crate) async fn last_of(
    events: impl futures_util::Stream<Item = std::result::Result<Event, ClientError>>,
) -> Result<Event> {
    let events: Vec<_> = events.collect().await;
    events.into_iter().last().context("no events")?.map_err(Into::into)
}

/// Puts a container there that is not the daemon's.
pub(crate) async fn stranger(engine: &Memory) -> std::result::Result<String, EngineError> {
    let spec =
        gantry_core::container::ContainerSpec { image: "plain:1".to_owned(), ..Default::default() };
    engine.create("stranger", &spec).await
}

//! The daemon: all of it put together, with an end that is given to it.
//!
//! ```text
//! data directory taken ─► store opened ─► interrupted operations marked ─► what operations left is swept ─► plugins loaded ─► listening
//!
//! told to end ─► no operation begins ─► grace ─► those left are cancelled and undo ─► streams end ─► listeners close
//! ```
//!
//! Swept before a plugin looks at its units: what is to go must not be taken for one. A host that does not answer in time is swept while the daemon serves.
//! Readers are answered until the last operation has ended, so that whoever follows one sees how it did.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gantry_engine::docker::{Auth, Endpoint, Timeouts};
use gantry_engine::{Containers, Docker, EngineError, Nodes};
use gantry_runtime::{Compiler, Runtime, RuntimeSettings};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{CompilerConfig, Config, DockerHost, Token};
use crate::data::{DataDirectory, DataError};
use crate::http::{self, Guests, Peer};
use crate::operation::interrupted::{Interrupted, mark_interrupted};
use crate::operation::sweep::Swept;
use crate::service::{Parts, Service};

pub use crate::operation::Drained;
pub use crate::service::{ClusterEngines, Engines};

/// How long the end of a cancelled operation is waited for beyond the time it has to undo: the host cleans up after what was cut off.
const CLEAN_UP: Duration = Duration::from_secs(60);

/// How long the start waits for what operations left to be removed.
const FIRST_SWEEP: Duration = Duration::from_secs(10);

/// How often what operations left is looked for again, and plugins that do not serve are tried again.
const SWEEP_AGAIN: Duration = Duration::from_secs(15);

/// How often routes that could not be rebuilt are tried again.
const ROUTES_AGAIN: Duration = Duration::from_secs(15);

/// How long connections have to end once there is nothing more to say.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why the daemon cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// What is stored cannot be read or written.
    #[error("cannot read or write what is stored")]
    Store {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What to type next.
        hint: Option<String>,
    },
    /// WebAssembly does not run here.
    #[error("cannot run plugins")]
    Runtime(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A Docker host cannot be spoken to at all: its address or its certificates are wrong.
    #[error("cannot use the Docker host `{address}`")]
    DockerHost {
        /// Its address.
        address: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It cannot listen.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
}

impl DaemonError {
    /// What to type next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Data(error) => error.hint(),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("another program listens there; choose another address".to_owned())
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                Some("name a file that is not there yet: `gantry serve --socket FILE`".to_owned())
            }
            Self::DockerHost { .. } => {
                Some("look at `docker.hosts` in the configuration, or at DOCKER_HOST".to_owned())
            }
            Self::Store { hint, .. } => hint.clone(),
            Self::Runtime(_) => Some(
                "look at `calls` and `stack` in the configuration; the folder `compiled` in the data directory may be removed"
                    .to_owned(),
            ),
            Self::Listen { .. } => Some(
                "listen somewhere else: `gantry serve --socket FILE`, `--listen ADDRESS`".to_owned(),
            ),
        }
    }
}

/// Where a daemon listens.
#[derive(Default)]
pub struct Listeners {
    /// A unix socket: whoever may open it may ask.
    pub unix: Option<UnixListener>,
    /// TCP, for those who know the token.
    pub tcp: Option<(TcpListener, Token)>,
}

/// A daemon that has everything it needs and does not listen yet.
pub struct Daemon {
    service: Arc<Service>,
    grace: Duration,
    undo: Duration,
    told: Vec<String>,
}

impl Daemon {
    /// Takes the data directory, finds what was interrupted, loads the plugins.
    ///
    /// # Errors
    /// What is in the way. A plugin that does not load and an engine that does not answer are not.
    pub async fn start(config: Config) -> Result<Self, DaemonError> {
        let engines = engines(&config)?;
        Self::with_engines(config, engines).await
    }

    /// The same with container engines that are given to it, each under the address that units are told by.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn with_engines(config: Config, engines: Engines) -> Result<Self, DaemonError> {
        Self::with_clusters(config, engines, ClusterEngines::new()).await
    }

    /// The same with clusters that are given to it too, each in place of the one that the record of its name is about.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn with_clusters(
        config: Config,
        engines: Engines,
        clusters: ClusterEngines,
    ) -> Result<Self, DaemonError> {
        let data = DataDirectory::open(&config.data, config.instance.as_deref())?;
        let store = Arc::new(data.open_store()?);
        let interrupted = mark_interrupted(&store).await.map_err(|error| {
            let hint = error.hint();
            DaemonError::Store { source: Box::new(error), hint }
        })?;
        let usual = RuntimeSettings::default();
        let settings = RuntimeSettings {
            cache: Some(data.compiled()),
            compiler: compiler(&config.compiler),
            calls: config.calls.unwrap_or(usual.calls),
            stack: config
                .stack
                .map_or(usual.stack, |stack| usize::try_from(stack).unwrap_or(usual.stack)),
            grace: config.undo,
            ..usual
        };
        let runtime =
            Runtime::new(settings).map_err(|error| DaemonError::Runtime(Box::new(error)))?;
        let nodes = Arc::new(Nodes::default());
        let (grace, undo) = (config.grace, config.undo.saturating_add(CLEAN_UP));
        let service =
            Service::new(Parts { config, data, store, nodes, engines, clusters, runtime });
        for Interrupted { record, .. } in &interrupted {
            // What is half-made of an app that never was goes before anybody looks.
            service.forget_half_made(record).await;
        }
        let mut told: Vec<String> = interrupted.iter().map(Interrupted::line).collect();
        told.extend(service.unfinished_moves().await.map_err(|error| {
            let hint = error.hint();
            DaemonError::Store { source: Box::new(error), hint }
        })?);
        let stored = |problem: crate::api::Problem| DaemonError::Store {
            source: problem.detail.into(),
            hint: problem.hint,
        };
        // Before anything is taken back from them, and before a plugin looks for them.
        service.give_hosts().await.map_err(stored)?;
        service.give_clusters().await.map_err(stored)?;
        service.give_node_containers().await.map_err(stored)?;
        if tokio::time::timeout(FIRST_SWEEP, sweep(&service)).await.is_err() {
            tracing::warn!("what operations left is not removed yet");
        }
        let messages = service.load_plugins().await.map_err(stored)?;
        for Interrupted { record, .. } in &interrupted {
            service.end_removal(record).await;
        }
        told.extend(messages.iter().flat_map(|text| text.lines()).map(str::to_owned));
        told.extend(service.serving());
        Ok(Self { service, grace, undo, told })
    }

    /// What the operator should read: what was interrupted last time, what plugins say, which provisioners serve.
    #[must_use]
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// Serves until `shutdown` ends; then the operations under way have the configured grace, which `hurry` cuts short.
    ///
    /// # Errors
    /// A listener broke.
    pub async fn serve(
        self,
        listeners: Listeners,
        shutdown: impl Future<Output = ()> + Send,
        hurry: CancellationToken,
    ) -> Result<Drained, DaemonError> {
        let Self { service, grace, undo, .. } = self;
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        let sweeping = service.ending();
        let sweeper = Arc::clone(&service);
        tasks.spawn(async move {
            sweeping.run_until_cancelled(keep_sweeping(&sweeper)).await;
        });
        let (healer, ending) = (Arc::clone(&service), service.ending());
        tasks.spawn(async move {
            ending.run_until_cancelled(healer.keep_healing()).await;
        });
        let (cleaner, ending) = (Arc::clone(&service), service.ending());
        tasks.spawn(async move {
            ending.run_until_cancelled(cleaner.keep_cleaning_images()).await;
        });
        let (routing, ending) = (Arc::clone(&service), service.ending());
        tasks.spawn(async move {
            ending.run_until_cancelled(routing.keep_routing(ROUTES_AGAIN)).await;
        });
        if let Some(listener) = listeners.unix {
            let router = http::router(Arc::clone(&service), None);
            let app = router.into_make_service_with_connect_info::<Peer>();
            let closed = closing.clone().cancelled_owned();
            tasks.spawn(async move {
                ended("unix", axum::serve(listener, app).with_graceful_shutdown(closed).await);
            });
        }
        if let Some((listener, token)) = listeners.tcp {
            let router = http::router(Arc::clone(&service), Some(token));
            let app = router.into_make_service_with_connect_info::<Peer>();
            let closed = closing.clone().cancelled_owned();
            tasks.spawn(async move {
                let guests = Guests::new(listener);
                ended("tcp", axum::serve(guests, app).with_graceful_shutdown(closed).await);
            });
        }
        tasks.close();
        shutdown.await;
        tracing::info!(operations = ?service.operations().under_way(), "told to end");
        let drained = service.operations().drain(grace, undo, &hurry).await;
        service.runtime_settled().await;
        service.ending().cancel();
        closing.cancel();
        if tokio::time::timeout(LAST_WORDS, tasks.wait()).await.is_err() {
            tracing::warn!("connections are still open; leaving");
        }
        Ok(drained)
    }
}

fn ended(kind: &str, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(kind, error = &error as &dyn std::error::Error, "a listener ended");
    }
}

/// The worker that compiles, if there is a program that can be one.
fn compiler(config: &CompilerConfig) -> Compiler {
    match config.program.clone() {
        Some(program) => Compiler::Worker {
            program,
            args: vec!["compile-worker".into()],
            timeout: config.timeout,
            memory: config.memory,
        },
        None => Compiler::InProcess,
    }
}

fn engines(config: &Config) -> Result<Engines, DaemonError> {
    let registries = config.auth();
    config
        .docker_hosts
        .iter()
        .map(|host| {
            let engine = engine(host, &registries).map_err(|error| DaemonError::DockerHost {
                address: host.address.clone(),
                source: Box::new(error),
            })?;
            Ok((host.address.clone(), Arc::new(engine) as Arc<dyn Containers>))
        })
        .collect()
}

fn engine(host: &DockerHost, registries: &Auth) -> Result<Docker, EngineError> {
    let endpoint = Endpoint::parse(&host.address)?;
    let endpoint = match &host.tls {
        Some(folder) => endpoint.with_certificates(folder),
        None => endpoint,
    };
    Docker::with(endpoint, registries.clone(), Timeouts::default())
}

/// Removes what operations left, and tries the plugins again that do not serve; goes on with both.
async fn keep_sweeping(service: &Service) {
    loop {
        sweep(service).await;
        service.load_again().await;
        tokio::time::sleep(SWEEP_AGAIN).await;
    }
}

/// Removes what operations left, and tells the log.
async fn sweep(service: &Service) {
    let swept = match service.sweeper().sweep().await {
        Ok(swept) => swept,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot sweep");
            return;
        }
    };
    for (record, Swept { removed, failures }) in swept {
        let id = &record.begin.id;
        if removed > 0 {
            tracing::info!(operation = %id, removed, "removed what it left");
            if let Some(app) = &record.begin.app {
                service.reroute_app(app).await;
            }
        }
        for (address, error) in failures {
            tracing::warn!(operation = %id, address, %error, "cannot tell what it left");
        }
    }
}

/// Serves until a signal says otherwise, announcing where.
///
/// # Errors
/// Why it cannot serve.
pub async fn serve(config: Config, mut announce: impl FnMut(&str)) -> Result<Drained, DaemonError> {
    log();
    // Before anybody is told that it serves: from then on a signal is a request.
    let signals = Signals::new().map_err(|source| DaemonError::Listen {
        address: "the signals of the process".to_owned(),
        source,
    })?;
    let (socket, listen) = (config.socket.clone(), config.listen.clone());
    // The data directory first: whoever holds it may hold the socket too.
    let daemon = Daemon::start(config).await?;
    let mut listeners = Listeners::default();
    let mut places = Vec::new();
    // The socket is a file, so it comes last: nothing that fails after it could leave it behind.
    if let Some((address, token)) = listen {
        let (listener, bound) = listen_tcp(address).await?;
        listeners.tcp = Some((listener, token));
        places.push(format!("http://{bound}"));
    }
    listeners.unix = Some(listen_unix(&socket)?);
    places.insert(0, format!("unix://{}", socket.display()));
    for line in daemon.told() {
        tracing::info!("{line}");
    }
    for place in places {
        tracing::info!("listening at {place}");
        announce(&format!("listening {place}"));
    }
    announce("ready");
    let hurry = CancellationToken::new();
    let again = hurry.clone();
    let shutdown = async move {
        let mut signals = signals;
        signals.next().await;
        tokio::spawn(async move {
            signals.next().await;
            again.cancel();
        });
    };
    let drained = daemon.serve(listeners, shutdown, hurry).await;
    // The next one makes its own; that it is gone already is as good.
    let _ = fs::remove_file(&socket);
    drained
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Listens on a unix socket that only its owner may open.
fn listen_unix(path: &Path) -> Result<UnixListener, DaemonError> {
    let failed = |source: io::Error| DaemonError::Listen {
        address: format!("unix://{}", path.display()),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    // A socket that nobody answers at is what a daemon left that was killed. Anything else is somebody's.
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, "it is no socket")));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(failed(io::Error::from(io::ErrorKind::AddrInUse)));
        }
        fs::remove_file(path).map_err(failed)?;
    }
    // Made under another name and moved: nobody can open it before it is private.
    let part = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    let listener = UnixListener::bind(&part).map_err(failed)?;
    let publish = || {
        fs::set_permissions(&part, fs::Permissions::from_mode(0o600))?;
        fs::rename(&part, path)
    };
    publish().map_err(|error| {
        let _ = fs::remove_file(&part);
        failed(error)
    })?;
    Ok(listener)
}

async fn listen_tcp(address: SocketAddr) -> Result<(TcpListener, SocketAddr), DaemonError> {
    let failed = |source| DaemonError::Listen { address: format!("http://{address}"), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// The log of the daemon, to standard error: `GANTRY_LOG` filters it, `GANTRY_LOG_FORMAT=json` makes it JSON.
fn log() {
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::util::SubscriberInitExt;
    let filter = EnvFilter::try_from_env("GANTRY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let json = std::env::var("GANTRY_LOG_FORMAT").is_ok_and(|format| format == "json");
    // A program that embeds the daemon may have its own log already.
    let _ = log_to(io::stderr, filter, json).try_init();
}

fn log_to<W>(
    writer: W,
    filter: tracing_subscriber::EnvFilter,
    json: bool,
) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::fmt::layer;
    use tracing_subscriber::layer::{Layer, SubscriberExt};
    let lines = match json {
        true => layer().json().with_writer(writer).boxed(),
        false => layer().with_ansi(false).with_writer(writer).boxed(),
    };
    let spoken = filter_fn(|metadata| !tells_bodies(metadata.target(), *metadata.level()));
    tracing_subscriber::registry().with(filter).with(spoken).with(lines)
}

/// Below `info` the clients of the engine write whole requests, with the private variables in them. No filter that somebody sets may show those.
fn tells_bodies(target: &str, level: tracing::Level) -> bool {
    let crates = ["bollard", "hyper", "hyper_util", "h2"];
    let of = target.split("::").next().unwrap_or_default();
    level > tracing::Level::INFO && crates.contains(&of)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_filter_shows_what_is_sent_to_the_engine() {
        for (filter, json) in [("trace", false), ("bollard::docker=trace,gantry=trace", true)] {
            let sink = Sink::default();
            let writer = sink.clone();
            let log = log_to(move || writer.clone(), filter.parse().unwrap(), json);
            tracing::subscriber::with_default(log, || {
                tracing::debug!(target: "bollard::docker", "PASSWORD=hush");
                tracing::trace!(target: "hyper::proto", "PASSWORD=hush");
                tracing::debug!(target: "hyper_util::client", "PASSWORD=hush");
                tracing::info!(target: "bollard::docker", "connected");
                tracing::trace!(target: "gantry::daemon", "our own");
            });
            let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
            assert!(!text.contains("hush"), "{text}");
            assert!(text.contains("connected") && text.contains("our own"), "{text}");
        }
    }
}

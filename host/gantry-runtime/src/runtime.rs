//! Bytes to generation: admit, compile, link, prove.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use gantry_core::policy::{Grant, Grants};
use gantry_engine::{Chain, Config};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::admit::{self, AdmitError};
use crate::bounds::{Bound, Bounds};
use crate::call::{CallState, Cause, describe};
use crate::compile::{CompileError, Compiler, Compiling};
use crate::convert::description_from;
use crate::epoch::{Running, Ticker};
use crate::generation::{Description, Generation, Loaded};
use crate::host;
use crate::host::log::Gate;
use crate::interface::Exports;
use crate::limiter::{Limit, LimiterError, Limiters};
use crate::provisioner::permit::Permits;
use crate::shape::{Contract, ShapeError};
use crate::wasm;

/// How a runtime is set up.
#[derive(Clone, Debug)]
pub struct RuntimeSettings {
    /// Where compiled plugins are kept; none keeps none.
    pub cache: Option<PathBuf>,
    /// Who compiles.
    pub compiler: Compiler,
    /// How many calls run at the same time; others wait.
    pub calls: u32,
    /// The stack of a guest, in bytes.
    pub stack: usize,
    /// How long a cancelled call may undo before it is cut off.
    pub grace: Duration,
    /// How long the host may clean up after a call that died.
    pub clean_up: Duration,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self {
            cache: None,
            compiler: Compiler::InProcess,
            calls: 128,
            stack: wasm::STACK,
            grace: Duration::from_secs(30),
            clean_up: Duration::from_secs(60),
        }
    }
}

/// What a plugin gets when it is loaded.
#[derive(Clone)]
pub struct LoadSettings {
    /// The grants that the operator gave.
    pub granted: BTreeSet<String>,
    /// The bounds that the operator wrote down.
    pub bounds: Bounds,
    /// What the operator configured for the provisioner.
    pub config: Arc<Config>,
    /// This installation of Gantry.
    pub instance: Arc<str>,
    /// Where its host calls go.
    pub chain: Chain,
}

/// Why a runtime could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// wasmtime refused the machine or the configuration.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    /// The folder of compiled plugins cannot be used.
    #[error(transparent)]
    Cache(#[from] crate::compile::CacheError),
    /// No thread could be started.
    #[error("the clock of the WebAssembly engine does not start: {0}")]
    Clock(std::io::Error),
}

/// Why a plugin was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its bytes are not those of a plugin.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// It does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It imports something in another shape than the host offers it.
    #[error("it cannot be linked: {0}")]
    Link(String),
    /// It lacks what it must export, or exports it in another shape.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// It died when it was asked to describe itself.
    #[error("`plugin.describe` failed: {0}")]
    Describe(Cause),
    /// What it says of itself is wrong.
    #[error("`plugin.describe` gave a wrong description: {0}")]
    Description(String),
    /// The operator gave a grant that does not exist.
    #[error("the operator gave a grant that does not exist: {0}")]
    Grant(String),
    /// The operator configured a limiter that the host does not have.
    #[error(transparent)]
    Limiter(#[from] LimiterError),
}

/// Loads plugins and runs their calls. Cloning it is cheap and gives the same runtime.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    engine: Engine,
    linker: Linker<CallState>,
    contract: Contract,
    compiling: Compiling,
    ticker: Ticker,
    slots: Arc<Semaphore>,
    limiters: Limiters,
    tasks: TaskTracker,
    settings: RuntimeSettings,
}

impl Runtime {
    /// A runtime with these settings.
    ///
    /// # Errors
    /// The machine cannot run WebAssembly this way, or the folder of compiled plugins is not ours alone.
    pub fn new(mut settings: RuntimeSettings) -> Result<Self, RuntimeError> {
        settings.calls = settings.calls.max(1);
        let wrong = |error: wasmtime::Error| RuntimeError::Engine(format!("{error:#}"));
        let engine = wasm::engine(settings.calls, settings.stack).map_err(wrong)?;
        let mut linker = Linker::new(&engine);
        host::link(&mut linker).map_err(wrong)?;
        let compiling = Compiling::new(settings.cache.as_deref(), settings.compiler.clone())?;
        let ticker = Ticker::start(&engine).map_err(RuntimeError::Clock)?;
        let contract = Contract::read().map_err(RuntimeError::Engine)?;
        let slots = usize::try_from(settings.calls).unwrap_or(usize::MAX);
        Ok(Self(Arc::new(Inner {
            engine,
            linker,
            contract,
            compiling,
            ticker,
            slots: Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS))),
            limiters: Limiters::default(),
            tasks: TaskTracker::new(),
            settings,
        })))
    }

    /// Makes a generation of a plugin's bytes: admits, compiles, links, checks every function against the contract, and asks it to describe itself with nothing granted.
    ///
    /// # Errors
    /// Why the plugin was refused. Nothing is left of it.
    pub async fn load(
        &self,
        name: &str,
        bytes: &[u8],
        settings: LoadSettings,
    ) -> Result<Generation, LoadError> {
        let limit = Limit::configured(&*settings.config)?;
        let most = settings.bounds.get(Bound::PluginSize);
        admit::glance(bytes, most)?;
        let bytes: Arc<[u8]> = bytes.into();
        let (digest, kept) = self.find(Arc::clone(&bytes)).await?;
        let component = match kept {
            // Only what was admitted is compiled, and only what was compiled is kept.
            Some(component) => component,
            None => {
                let looked_at = Arc::clone(&bytes);
                let admitted = spawn_blocking(move || admit::admit(&looked_at)).await;
                // A parser that breaks on hostile bytes breaks alone.
                admitted.unwrap_or_else(|_| {
                    Err(AdmitError::Invalid("the host cannot make sense of it".to_owned()))
                })?;
                self.0.compiling.component(&self.0.engine, &digest, bytes).await?
            }
        };
        let pre = self.link(&component)?;
        let shape = self
            .0
            .linker
            .substituted_component_type(&component)
            .map_err(|error| LoadError::Link(format!("{error:#}")))?;
        let interfaces = self.0.contract.check(&self.0.engine, &shape)?;
        let exports = Exports::find(&pre, &interfaces);
        let exports = exports.map_err(|error| LoadError::Link(format!("{error:#}")))?;
        let exports = Arc::new(exports);
        let provisioner: Arc<str> = name.into();
        let log = Gate::new(
            Arc::clone(&provisioner),
            Arc::clone(&digest),
            String::new(),
            &settings.bounds,
        );
        let bounds = Arc::new(settings.bounds);
        let description = self.describe(&pre, &exports, &bounds, log).await?;
        let asked = check(&description)?;
        let allowed = parse_grants(&settings.granted).map_err(LoadError::Grant)?;
        let granted = in_force(&asked, &allowed);
        let limits = description
            .limits
            .iter()
            .filter_map(|asked| Some((Bound::named(&asked.name)?, asked.value)));
        let bounds = Arc::new(Bounds::clone(&bounds).lowered(limits));
        Ok(Generation::new(Loaded {
            runtime: self.clone(),
            provisioner,
            digest,
            pre,
            exports,
            interfaces,
            imports: shape.imports(&self.0.engine).map(|(name, _)| name.to_owned()).collect(),
            description,
            grants: Arc::new(Grants::new(asked, allowed)),
            granted,
            bounds,
            config: settings.config,
            instance: settings.instance,
            chain: settings.chain,
            permits: Permits::new(&self.0.slots, self.0.settings.calls),
            limiter: self.0.limiters.of(name, limit),
        }))
    }

    /// Waits until everything that runs after the end of its call has ended: clean-ups whose caller went away.
    pub async fn settled(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.tasks.reopen();
    }

    /// The digest of a plugin, and what was compiled of it before.
    async fn find(&self, bytes: Arc<[u8]>) -> Result<(Arc<str>, Option<Component>), CompileError> {
        let runtime = self.clone();
        let finding = spawn_blocking(move || {
            let digest = admit::digest(&bytes);
            let kept = runtime.0.compiling.kept(&runtime.0.engine, &digest);
            (digest.into(), kept)
        });
        finding.await.map_err(|gone| CompileError::Artifact(gone.to_string()))
    }

    fn link(&self, component: &Component) -> Result<InstancePre<CallState>, LoadError> {
        self.0
            .linker
            .instantiate_pre(component)
            .map_err(|error| LoadError::Link(format!("{error:#}")))
    }

    /// Instantiates once, looks up every function, and asks for the description.
    async fn describe(
        &self,
        pre: &InstancePre<CallState>,
        exports: &Arc<Exports>,
        bounds: &Arc<Bounds>,
        log: Gate,
    ) -> Result<Description, LoadError> {
        let exports = Arc::clone(exports);
        let _slot = self
            .0
            .slots
            .acquire()
            .await
            .map_err(|_| LoadError::Describe(Cause::Host("it is shutting down".to_owned())))?;
        let described = describe(self, pre, exports, bounds, log, |live| {
            Box::pin(async move {
                let exports = Arc::clone(&live.exports);
                let (store, instance) = (&mut live.store, &live.instance);
                exports.prove(&mut *store, instance)?;
                let plugin = exports.plugin.load(&mut *store, instance)?;
                Ok(Ok(plugin.call_describe(store).await?))
            })
        });
        described.await.map(description_from).map_err(LoadError::Describe)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn running(&self) -> Running {
        self.0.ticker.running()
    }

    pub(crate) fn grace(&self) -> Duration {
        self.0.settings.grace
    }

    pub(crate) fn stack(&self) -> usize {
        self.0.settings.stack
    }

    pub(crate) fn clean_up_time(&self) -> Duration {
        self.0.settings.clean_up
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }
}

/// What is both asked for and allowed; of two where one covers the other, the narrower.
fn in_force(asked: &BTreeSet<Grant>, allowed: &BTreeSet<Grant>) -> BTreeSet<String> {
    let pairs = asked.iter().flat_map(|asked| allowed.iter().map(move |allowed| (asked, allowed)));
    pairs
        .filter_map(|(asked, allowed)| {
            if allowed.covers(asked) {
                Some(asked.to_string())
            } else {
                asked.covers(allowed).then(|| allowed.to_string())
            }
        })
        .collect()
}

fn parse_grants(grants: &BTreeSet<String>) -> Result<BTreeSet<Grant>, String> {
    grants.iter().map(|text| Grant::from_str(text).map_err(|error| error.to_string())).collect()
}

/// The longest text of a description: a page of `plugin inspect`, not a book.
const TEXT: usize = 2 << 10;
/// The most requests of a kind.
const REQUESTS: usize = 64;

/// Checks what a plugin says of itself, and gives the grants it asks for. A grant that this host does not know is passed over: a newer host may.
fn check(description: &Description) -> Result<BTreeSet<Grant>, LoadError> {
    let wrong = |what: &str| Err(LoadError::Description(what.to_owned()));
    if description.name.is_empty() {
        return wrong("the name is empty");
    }
    if description.version.is_empty() {
        return wrong("the version is empty");
    }
    if description.grants.len() > REQUESTS || description.limits.len() > REQUESTS {
        return wrong("it asks for too much");
    }
    let texts = [&description.name, &description.version, &description.summary];
    let grants = description.grants.iter().flat_map(|asked| [&asked.grant, &asked.reason]);
    let limits = description.limits.iter().flat_map(|asked| [&asked.name, &asked.reason]);
    for text in texts.into_iter().chain(grants).chain(limits) {
        if text.len() > TEXT || text.chars().any(char::is_control) {
            return wrong("a text is too long, or holds control characters");
        }
    }
    Ok(description
        .grants
        .iter()
        .filter_map(|asked| match Grant::from_str(&asked.grant) {
            Ok(grant) => Some(grant),
            Err(unknown) => {
                tracing::warn!(plugin = description.name, "{unknown}: passed over");
                None
            }
        })
        .collect())
}

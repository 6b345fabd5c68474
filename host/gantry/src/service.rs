//! What the daemon can do, one file for each noun: the only place that calls a provisioner.
//!
//! A change is checked as far as it can be at once (does the app exist, is the name one), and then it is an operation: it takes the lock of what it changes, is written down, and goes on in
//! a task of its own. A question is asked directly.

mod apps;
mod build;
mod clusters;
mod deploy;
mod healing;
mod hosts;
mod images;
mod logs;
mod moves;
mod node_containers;
mod nodes;
mod plans;
mod plugins;
mod pools;
mod problem;
mod register;
mod reports;
mod routes;
mod run;
mod services;
mod shell;
mod stuck;
mod units;
mod volumes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use gantry_engine::{Changing, Clusters, Nodes};
use gantry_runtime::{Bound, Provisioner, Registry, Runtime};
use tokio_util::sync::CancellationToken;

use crate::api::{self, OperationInfo, Problem, ProblemKind, Version};
use crate::clock;
use crate::config::Config;
use crate::counts::Counts;
use crate::data::DataDirectory;
use crate::near;
use crate::operation::in_service::InService;
use crate::operation::objects::Written;
use crate::operation::sweep::Sweeper;
use crate::operation::{Operations, Update, resource};
use crate::routing::Routing;
use crate::store::{AppRecord, OperationRecord, Store};

pub(crate) use build::options as build_options;
pub use clusters::ClusterEngines;
pub use hosts::Engines;
pub(crate) use hosts::Hosts;
pub(crate) use logs::{LogEvent, LogQuery};
use plugins::Broken;
pub(crate) use plugins::NewPlugin;
pub(crate) use problem::OrProblem;
pub(crate) use run::RunEvent;
pub(crate) use services::{BindError, Bindings, BoundApp, hosts};
pub(crate) use shell::OpenShell;

/// How many operations `app info` shows.
const LATEST: u32 = 5;

/// All that the daemon is made of.
pub(crate) struct Parts {
    /// The configuration.
    pub(crate) config: Config,
    /// The data directory.
    pub(crate) data: DataDirectory,
    /// The store in it.
    pub(crate) store: Arc<Store>,
    /// The container engines.
    pub(crate) nodes: Arc<Nodes>,
    /// The same by address.
    pub(crate) engines: Engines,
    /// Clusters in place of those that the records name.
    pub(crate) clusters: ClusterEngines,
    /// What loads plugins.
    pub(crate) runtime: Runtime,
}

/// What the daemon can do.
pub(crate) struct Service {
    config: Config,
    data: DataDirectory,
    store: Arc<Store>,
    counts: Counts,
    bindings: Bindings,
    routing: Routing,
    nodes: Arc<Nodes>,
    hosts: Arc<Hosts>,
    clusters: Arc<Clusters>,
    cluster_engines: clusters::Engines,
    runtime: Runtime,
    operations: Arc<Operations>,
    registry: Registry,
    in_service: Arc<InService>,
    written: Arc<Written>,
    sweeper: Sweeper,
    tails: logs::Tails,
    /// The registries that are known to delete nothing.
    registries: images::Registries,
    /// The plugins that are installed and do not serve.
    broken: Mutex<BTreeMap<String, Broken>>,
    /// The ill units that could not be replaced.
    unhealed: healing::Unhealed,
    /// Turns of those who send a source to build.
    uploads: tokio::sync::Semaphore,
    /// What people changed of the configuration of provisioners since the daemon started, or before.
    changing: Changing,
    /// Held while what they changed is read and given: the last who gives has read last.
    giving_node_containers: tokio::sync::Mutex<()>,
    /// Streams end when it is cancelled.
    ending: CancellationToken,
}

impl Service {
    /// A service of these parts. No plugin is loaded yet.
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { config, data, store, nodes, engines, clusters: given, runtime } = parts;
        let clusters = Arc::new(Clusters::default());
        let hosts = Arc::new(Hosts::new(Arc::clone(&nodes), engines, config.auth()));
        let sweeper = Sweeper::new(
            Arc::clone(&store),
            data.instance(),
            Arc::clone(&hosts),
            Arc::clone(&clusters),
        );
        Arc::new(Self {
            operations: Operations::new(Arc::clone(&store)),
            counts: Counts::new(Arc::clone(&store)),
            bindings: Bindings::new(Arc::clone(&store)),
            routing: Routing::new(Arc::clone(&store), &config),
            in_service: Arc::new(InService::new(Arc::clone(&store))),
            written: Arc::new(Written::new(Arc::clone(&store))),
            cluster_engines: clusters::Engines::new(Arc::clone(&clusters), given),
            clusters,
            registry: Registry::new(),
            tails: logs::Tails::default(),
            registries: images::Registries::default(),
            broken: Mutex::default(),
            unhealed: healing::unhealed(&config.healing),
            uploads: tokio::sync::Semaphore::new(build::AT_ONCE),
            changing: Changing::default(),
            giving_node_containers: tokio::sync::Mutex::default(),
            ending: CancellationToken::new(),
            config,
            data,
            store,
            nodes,
            hosts,
            runtime,
            sweeper,
        })
    }

    /// What this daemon is.
    pub(crate) fn version(&self) -> Version {
        Version {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.data.instance().to_owned(),
        }
    }

    /// Which provisioners serve, for the operator.
    pub(crate) fn serving(&self) -> Vec<String> {
        let line = |provisioner: &Provisioner| {
            let generation = provisioner.generation();
            let description = generation.description();
            let digest = generation.digest().get(..12).unwrap_or_default();
            let name = provisioner.name();
            format!("serving `{name}`: {} {} ({digest})", description.name, description.version)
        };
        let broken = self.broken().clone();
        let broken = broken
            .values()
            .map(|Broken { problem, .. }| format!("{}: {}", problem.title, problem.detail));
        self.registry.list().iter().map(line).chain(broken).collect()
    }

    /// Waits until what the runtime cleans up after calls is cleaned up.
    pub(crate) async fn runtime_settled(&self) {
        self.runtime.settled().await;
    }

    /// Forgets the app that an interrupted operation was creating. One that was there before is not its own, even when it was asked to create it.
    pub(crate) async fn forget_half_made(&self, record: &OperationRecord) {
        let Some(app) = record.begin.app.as_deref().filter(|_| record.begin.verb == apps::CREATE)
        else {
            return;
        };
        if let Err(error) = self.store.remove_app_made_by(app, &record.begin.id).await {
            tracing::error!(app, error = &error as &dyn std::error::Error, "could not forget it");
        }
    }

    /// The operations.
    pub(crate) fn operations(&self) -> &Arc<Operations> {
        &self.operations
    }

    /// What removes what is left of operations.
    pub(crate) fn sweeper(&self) -> &Sweeper {
        &self.sweeper
    }

    /// Streams end when it is cancelled.
    pub(crate) fn ending(&self) -> CancellationToken {
        self.ending.clone()
    }

    /// The newest operations.
    pub(crate) async fn list_operations(
        &self,
        app: Option<&str>,
        state: Option<&str>,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<api::Operation>, Problem> {
        let records = self.store.operations(app, state, before, limit).await;
        let records = records.or_problem(|| "could not list the operations".to_owned())?;
        Ok(records.into_iter().map(resource).collect())
    }

    /// An operation with what it told.
    pub(crate) async fn operation(&self, id: &str) -> Result<OperationInfo, Problem> {
        let operation = self.find_operation(id).await?;
        let lines = self.store.lines(&operation.id, 0).await;
        let lines = lines
            .or_problem(|| format!("could not read the operation {}", operation.id))?
            .into_iter()
            .map(|line| api::Line { at: clock::text(line.at), text: line.text })
            .collect();
        Ok(OperationInfo { operation, lines })
    }

    /// What an operation tells from now on, after a line, and at last its end.
    pub(crate) async fn follow_operation(
        &self,
        id: &str,
        after: u64,
    ) -> Result<futures_util::stream::BoxStream<'static, Update>, Problem> {
        let mut operation = self.find_operation(id).await?;
        if let Some(board) = self.operations.board(&operation.id) {
            return Ok(board.follow(after).boxed());
        }
        // It may have ended between the two looks.
        operation = self.find_operation(&operation.id).await?;
        let lines = self.store.lines(&operation.id, after).await;
        let lines =
            lines.or_problem(|| format!("could not read the operation {}", operation.id))?;
        let updates = lines.into_iter().map(Update::Line);
        let end = Update::End(Box::new(operation));
        Ok(futures_util::stream::iter(updates.chain([end])).boxed())
    }

    /// Asks an operation to stop. One that has ended has stopped.
    pub(crate) async fn cancel_operation(&self, id: &str) -> Result<(), Problem> {
        let operation = self.find_operation(id).await?;
        self.operations.cancel(&operation.id);
        Ok(())
    }

    async fn find_operation(&self, id: &str) -> Result<api::Operation, Problem> {
        let title = || format!("no operation `{id}`");
        let found = self.store.operations_named(&id.to_lowercase()).await.or_problem(title)?;
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(record), None) if !id.is_empty() => Ok(resource(record)),
            (Some(_), Some(_)) => Err(Problem::new(ProblemKind::Conflict, title())
                .because("several operations start so")
                .hint("type more of the id")),
            _ => Err(Problem::new(ProblemKind::NotFound, title())
                .hint("`gantry operation list` lists them")),
        }
    }

    /// The provisioner with this name, or why there is none.
    fn provisioner(&self, name: &str) -> Result<Provisioner, Problem> {
        if let Ok(provisioner) = self.registry.get(name) {
            return Ok(provisioner);
        }
        if let Some(broken) = self.broken().get(name) {
            return Err(broken.problem.clone());
        }
        let problem = Problem::new(ProblemKind::NotFound, format!("no provisioner `{name}`"));
        Err(problem.hint(format!("install one: `gantry plugin install {name} FILE`")))
    }

    async fn record(&self, app: &str) -> Result<AppRecord, Problem> {
        let record = self.store.app(app).await;
        match record.or_problem(|| format!("could not read the app `{app}`"))? {
            Some(record) => Ok(record),
            None => {
                let names = self.store.apps().await.unwrap_or_default();
                let names = names.iter().map(|record| record.app.name.as_str());
                Err(not_found("app", app, near::nearest(app, names))
                    .hint_if_none("`gantry app list` lists the apps"))
            }
        }
    }

    /// A question to a provisioner: it is no operation, but it has a time.
    fn question(&self) -> gantry_engine::Operation {
        gantry_engine::Operation::new(String::new(), QUESTION)
    }

    // A std mutex: held for a look or an insert, never across an await.
    fn broken(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Broken>> {
        self.broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// An operation that clears up after another one, which may be cancelled, or its time over: under its id and before those who watch it, with a time of its own.
fn after(operation: &gantry_engine::Operation, most: Duration) -> gantry_engine::Operation {
    gantry_engine::Operation::new(operation.id.clone(), most)
        .shown_to(Arc::clone(&operation.progress))
}

/// How long an operation of a provisioner may take: its bound, and a little more, so that it is the bound that speaks.
fn time_of(provisioner: &Provisioner) -> Duration {
    provisioner.generation().bounds().time(Bound::OperationTime).saturating_add(SLACK)
}

const SLACK: Duration = Duration::from_secs(60);

/// What a question has at most; the plugin's own bound is usually less.
const QUESTION: Duration = Duration::from_secs(600);

/// Something named does not exist; the nearest name that does is the hint.
fn not_found(kind: &str, name: &str, nearest: Option<String>) -> Problem {
    let problem = Problem::new(ProblemKind::NotFound, format!("no {kind} `{name}`"));
    match nearest {
        Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
        None => problem,
    }
}

impl Problem {
    fn hint_if_none(mut self, hint: &str) -> Self {
        if self.hint.is_none() {
            self.hint = Some(hint.to_owned());
        }
        self
    }
}

/// The lock of an app.
fn app_lock(app: &str) -> Option<String> {
    Some(crate::operation::of_app(app))
}

//! Calls to clusters, over the cluster in memory.

mod bounds;
mod identity;
mod journal;
mod policy;
mod put_back;

use std::sync::Arc;
use std::time::Duration;

use gantry_core::App;
use gantry_engine::call::cluster::{ClusterInfo, DeleteOptions, Kind, Patch, Selection};
use gantry_engine::call::{Call, ClusterCall};
use gantry_engine::memory::{Memory, Objects, Platform};
use gantry_engine::{Chain, Cluster as _, Error, GivenCluster, Operation, Reply, Response, Scope};
use serde_json::{Value, json};

use crate::{INSTANCE, granted};

const NORTH: &str = "north";

/// What a plugin is granted that does all to its own objects of some kinds.
const OWN: [&str; 14] = [
    "cluster:*:ConfigMap",
    "cluster:*:Secret",
    "cluster:*:Service",
    "cluster:*:ServiceAccount",
    "cluster:*:PersistentVolumeClaim",
    "cluster:*:PersistentVolume",
    "cluster:*:Node",
    "cluster:*:Pod",
    "cluster:*:Deployment.apps",
    "cluster:*:DaemonSet.apps",
    "cluster:*:StatefulSet.apps",
    "cluster:*:ReplicaSet.apps",
    "cluster:*:Job.batch",
    "cluster:*:CronJob.batch",
];

/// A cluster that was given to two provisioners, `kubernetes` and `acme`, and the chain in front of it.
struct House {
    cluster: Objects,
    chain: Chain,
}

impl House {
    fn new() -> Self {
        Self::of(Objects::new())
    }

    fn of(cluster: Objects) -> Self {
        let platform = Platform::new().app(App { name: "web".to_owned(), ..App::default() });
        let backends = platform.backends("kubernetes", std::iter::empty::<(&str, Memory)>());
        for provisioner in ["kubernetes", "acme"] {
            let info = ClusterInfo {
                name: NORTH.to_owned(),
                namespace: "default".to_owned(),
                ..ClusterInfo::default()
            };
            let given = GivenCluster { info, engine: Arc::new(cluster.clone()) };
            backends.clusters.give(provisioner, NORTH, given);
        }
        Self { cluster, chain: Chain::new(backends) }
    }

    /// The same with another layer right below the journal.
    fn chain_over(&self, below: Arc<dyn gantry_engine::Layer>) -> Chain {
        Chain::with(self.chain.backends().clone(), vec![below])
    }

    async fn send(&self, scope: &Arc<Scope>, call: ClusterCall) -> Result<Response, Error> {
        self.chain.send(scope, on_cluster(call)).await
    }

    /// The object that a call gives.
    async fn object(&self, scope: &Arc<Scope>, call: ClusterCall) -> Value {
        let name = call.name();
        match self.send(scope, call).await.unwrap_or_else(|error| panic!("{name}: {error}")).reply {
            Reply::Object(object) => object,
            other => panic!("{name}: {other:?}"),
        }
    }

    async fn done(&self, scope: &Arc<Scope>, call: ClusterCall) {
        let name = call.name();
        self.send(scope, call).await.map(drop).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// The kind of the error that a call gives, and what it says.
    async fn refused(&self, scope: &Arc<Scope>, call: ClusterCall) -> (&'static str, String) {
        let name = call.name();
        match self.send(scope, call).await {
            Ok(_) => panic!("{name} is not refused"),
            Err(error) => (error.kind(), error.to_string()),
        }
    }

    /// An object as the cluster has it.
    async fn there(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Value> {
        self.cluster.get(kind, namespace, name).await.ok()
    }

    /// The word of a map as the cluster has it.
    async fn word(&self, name: &str) -> Option<String> {
        let map = self.there(&config_maps(), "default", name).await?;
        Some(map["data"]["word"].as_str().unwrap_or_default().to_owned())
    }
}

fn operation(id: &str) -> Operation {
    Operation::new(id, Duration::from_secs(60))
}

fn scope_of(provisioner: &str, instance: &str, id: &str, grants: &[&str]) -> Arc<Scope> {
    let scope = Scope::new(provisioner, instance, operation(id));
    Arc::new(scope.with_grants(granted(grants)))
}

/// An operation of a plugin that may do all to its own objects.
fn ours(id: &str) -> Arc<Scope> {
    scope_of("kubernetes", INSTANCE, id, &OWN)
}

/// Holds calls of one name back until they may go on.
struct Held {
    call: &'static str,
    asked: tokio::sync::Notify,
    hold: tokio::sync::Semaphore,
}

impl Held {
    fn at(call: &'static str) -> Self {
        Self { call, asked: Default::default(), hold: tokio::sync::Semaphore::new(0) }
    }
}

#[async_trait::async_trait]
impl gantry_engine::Layer for Held {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: gantry_engine::Request,
        next: gantry_engine::Next,
    ) -> Result<Response, Error> {
        if request.call.name() == self.call {
            self.asked.notify_one();
            self.hold.acquire().await.unwrap().forget();
        }
        next.send(scope, request).await
    }
}

/// Keeps what people read.
#[derive(Default)]
struct Shown(std::sync::Mutex<String>);

impl Shown {
    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl gantry_engine::operation::Progress for Shown {
    fn show(&self, text: &str) {
        self.0.lock().unwrap().push_str(text);
    }
}

/// An operation of ours, and what people read of it.
fn ours_shown(id: &str) -> (Arc<Scope>, Arc<Shown>) {
    let shown = Arc::new(Shown::default());
    let operation = operation(id).shown_to(Arc::clone(&shown) as _);
    let scope = Scope::new("kubernetes", INSTANCE, operation).with_grants(granted(&OWN));
    (Arc::new(scope), shown)
}

/// The same with more grants.
fn ours_and(id: &str, more: &[&str]) -> Arc<Scope> {
    scope_of("kubernetes", INSTANCE, id, &[&OWN, more].concat())
}

/// An operation of another plugin.
fn acme(id: &str) -> Arc<Scope> {
    scope_of("acme", INSTANCE, id, &OWN)
}

fn config_maps() -> Kind {
    Kind::new("v1", "ConfigMap")
}

fn deployments() -> Kind {
    Kind::new("apps/v1", "Deployment")
}

fn pods() -> Kind {
    Kind::new("v1", "Pod")
}

fn nodes() -> Kind {
    Kind::new("v1", "Node")
}

fn on_cluster(call: ClusterCall) -> Call {
    Call::Cluster { cluster: NORTH.to_owned(), call: Box::new(call) }
}

fn get(kind: &Kind, name: &str) -> ClusterCall {
    let (kind, namespace) = (kind.clone(), home(kind));
    ClusterCall::Get { kind, namespace, name: name.to_owned() }
}

fn list(kind: &Kind) -> ClusterCall {
    ClusterCall::List { kind: kind.clone(), selection: all(kind), limit: 0, after: String::new() }
}

fn watch(kind: &Kind) -> ClusterCall {
    ClusterCall::Watch { kind: kind.clone(), selection: all(kind) }
}

fn all(kind: &Kind) -> Selection {
    Selection { namespace: home(kind), ..Selection::default() }
}

fn create(object: Value) -> ClusterCall {
    ClusterCall::Create { object, dry_run: false }
}

fn apply(object: Value) -> ClusterCall {
    ClusterCall::Apply { object, dry_run: false }
}

fn patch(kind: &Kind, name: &str, patch: Patch) -> ClusterCall {
    ClusterCall::Patch {
        kind: kind.clone(),
        namespace: home(kind),
        name: name.to_owned(),
        subresource: String::new(),
        patch,
        dry_run: false,
    }
}

fn merge(kind: &Kind, name: &str, document: Value) -> ClusterCall {
    patch(kind, name, Patch::Merge(document))
}

fn delete(kind: &Kind, name: &str) -> ClusterCall {
    let options = DeleteOptions::default();
    ClusterCall::Delete {
        kind: kind.clone(),
        namespace: home(kind),
        name: name.to_owned(),
        options,
    }
}

fn put_back(kind: &Kind, name: &str) -> ClusterCall {
    ClusterCall::PutBack { kind: kind.clone(), namespace: home(kind), name: name.to_owned() }
}

/// The namespace of the test's objects of a kind.
fn home(kind: &Kind) -> String {
    let wide = ["Node", "PersistentVolume"].contains(&&*kind.kind);
    if wide { String::new() } else { "default".to_owned() }
}

/// An object of a kind that a cluster takes.
fn object(kind: &Kind, name: &str) -> Value {
    let mut object = json!({
        "apiVersion": kind.api_version, "kind": kind.kind,
        "metadata": {"name": name, "labels": {"app": "web"}},
    });
    let namespace = home(kind);
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    let pod = || json!({"containers": [{"name": "web", "image": "web:1"}]});
    let template = || json!({"metadata": {"labels": {"app": "web"}}, "spec": pod()});
    let workload = || json!({"selector": {"matchLabels": {"app": "web"}}, "template": template()});
    match &*kind.kind {
        "Pod" => object["spec"] = pod(),
        "Deployment" | "DaemonSet" | "StatefulSet" | "ReplicaSet" => object["spec"] = workload(),
        "Job" => object["spec"] = json!({"template": template()}),
        "CronJob" => {
            object["spec"] =
                json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": template()}}})
        }
        "Service" => object["spec"] = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}),
        _ => {}
    }
    object
}

/// A map that holds one word.
fn map(name: &str, word: &str) -> Value {
    let mut map = object(&config_maps(), name);
    map["data"] = json!({"word": word});
    map
}

//! The chain of layers, over the in-memory engine.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::wildcard_imports,
    reason = "a test stops where it fails"
)]

mod cancel;
mod identity;
mod journal;
mod objects;
mod platform;
mod policy;
mod quota;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use gantry_core::App;
use gantry_core::container::{ContainerConfig, ContainerSpec, Image, PortBinding};
use gantry_core::policy::{Grant, Grants};
use gantry_engine::call::ContainersCall;
use gantry_engine::layer::identity::Identity;
use gantry_engine::layer::journal::{Cleaned, Journal, clean_up};
use gantry_engine::layer::policy::Policy;
use gantry_engine::layer::quota::Quota;
use gantry_engine::layer::trace::Trace;
use gantry_engine::layer::{Chain, Layer, Next, Owned};
use gantry_engine::memory::{Memory, Platform};
use gantry_engine::{Backends, Call, Error, Operation, Reply, Request, Response, Scope};
use tokio::sync::Semaphore;

const NODE: &str = "memory";
const IMAGE: &str = "app:v1";
const PORT: &str = "8888/tcp";
const INSTANCE: &str = "here";

fn engine() -> Memory {
    let config =
        ContainerConfig { cmd: Some(vec!["/bin/serve".to_owned()]), ..ContainerConfig::default() };
    let image = Image { config, ..Image::default() };
    Memory::new().with_image(IMAGE, image, [("/Procfile", &b"web: serve\n"[..])])
}

/// Two provisioners, `docker` and `acme`, with the same engine.
fn backends(engine: &Memory) -> Backends {
    let platform = Platform::new().app(App { name: "web".to_owned(), ..App::default() });
    let backends = platform.backends("docker", [(NODE, engine.clone())]);
    backends.nodes.give("acme", NODE, Arc::new(engine.clone()));
    backends
}

/// The whole chain, with a layer of the test's below it.
fn chain(engine: &Memory, below: Arc<dyn Layer>) -> Chain {
    let owned = Arc::new(Owned::default());
    Chain::of(
        vec![
            Arc::new(Quota),
            Arc::new(Identity::new(Arc::clone(&owned))),
            Arc::new(Policy::new(owned)),
            Arc::new(Journal),
            Arc::new(Trace),
            below,
        ],
        backends(engine),
    )
}

/// The scope of a call of `docker` that may do nothing beyond its own.
fn scope() -> Scope {
    Scope::new("docker", INSTANCE, Operation::new("op-1", Duration::from_secs(60)))
}

/// Grants that are asked for and allowed.
fn granted(grants: &[&str]) -> Arc<Grants> {
    let grants: Vec<Grant> = grants.iter().map(|grant| grant.parse().unwrap()).collect();
    Arc::new(Grants::new(grants.clone(), grants))
}

fn spec() -> ContainerSpec {
    let mut spec = ContainerSpec { image: IMAGE.to_owned(), ..ContainerSpec::default() };
    spec.host_config.port_bindings.insert(PORT.to_owned(), vec![PortBinding::default()]);
    spec
}

fn on_node(call: ContainersCall) -> Call {
    Call::Containers { node: NODE.to_owned(), call }
}

fn create(name: &str) -> Call {
    on_node(ContainersCall::Create { name: name.to_owned(), spec: Box::new(spec()) })
}

fn start(id: &str) -> Call {
    on_node(ContainersCall::Start { id: id.to_owned() })
}

fn stop(id: &str) -> Call {
    on_node(ContainersCall::Stop { id: id.to_owned(), seconds: 1 })
}

fn remove(id: &str) -> Call {
    on_node(ContainersCall::Remove { id: id.to_owned(), force: true })
}

fn inspect(id: &str) -> Call {
    on_node(ContainersCall::Inspect { id: id.to_owned() })
}

fn list() -> Call {
    on_node(list_with([].into()))
}

fn list_with(labels: BTreeMap<String, String>) -> ContainersCall {
    ContainersCall::List { all: true, labels, label_keys: None }
}

async fn reply(chain: &Chain, scope: &Arc<Scope>, call: Call) -> Result<Reply, Error> {
    chain.send(scope, call).await.map(|response| response.reply)
}

/// The id that a create gives.
async fn created(chain: &Chain, scope: &Arc<Scope>, name: &str) -> String {
    match reply(chain, scope, create(name)).await.unwrap() {
        Reply::Text(id) => id,
        other => panic!("{other:?}"),
    }
}

/// The names that a list gives, sorted.
async fn names(chain: &Chain, scope: &Arc<Scope>) -> Vec<String> {
    match reply(chain, scope, list()).await.unwrap() {
        Reply::Containers(all) => {
            let mut names: Vec<String> = all.into_iter().map(|one| one.name).collect();
            names.sort();
            names
        }
        other => panic!("{other:?}"),
    }
}

/// Writes down the calls that come to the engine, and lets creates wait.
struct Below {
    seen: Mutex<Vec<Call>>,
    /// One permit lets one create go on.
    creates: Semaphore,
    /// What creates answer instead of what the engine did, once it has done it.
    lost: Mutex<Option<Error>>,
}

impl Default for Below {
    fn default() -> Self {
        let creates = Semaphore::new(Semaphore::MAX_PERMITS);
        Self { seen: Mutex::default(), creates, lost: Mutex::default() }
    }
}

impl Below {
    fn waiting() -> Self {
        Self { creates: Semaphore::new(0), ..Self::default() }
    }

    /// The calls seen since the last time, as their names and what they name.
    fn seen(&self) -> Vec<String> {
        let calls = std::mem::take(&mut *self.seen.lock().unwrap());
        let shown = |call: &Call| match call {
            Call::Containers { call, .. } => {
                let id = call.container().or(call.exec()).unwrap_or_default();
                format!("{} {}", call.name(), id.get(..4).unwrap_or(id)).trim_end().to_owned()
            }
            other => other.name().to_owned(),
        };
        calls.iter().map(shown).collect()
    }
}

#[async_trait]
impl Layer for Below {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        self.seen.lock().unwrap().push(request.call.clone());
        let creates =
            matches!(&request.call, Call::Containers { call: ContainersCall::Create { .. }, .. });
        if creates {
            self.creates.acquire().await.unwrap().forget();
        }
        let answer = next.send(scope, request).await;
        match self.lost.lock().unwrap().clone() {
            Some(error) if creates => Err(error),
            _ => answer,
        }
    }
}

/// Lets the tasks run until a condition holds.
async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "not in time");
        tokio::task::yield_now().await;
    }
}

/// Takes back what a scope did, as the host does when its call has died.
async fn journal_clean_up(chain: &Chain, scope: &Arc<Scope>) -> Cleaned {
    scope.ledger.settled().await;
    let host = Arc::new(scope.for_clean_up(Duration::from_secs(30)));
    clean_up(chain, &host).await
}

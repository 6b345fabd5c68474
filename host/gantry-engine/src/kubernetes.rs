//! Kubernetes clusters: `Kubernetes`, over a kubeconfig, from within, or at an address.
//!
//! Owns everything that is the API's own: addresses, documents, statuses and channels. Nothing of it shows above but the objects, which are Kubernetes' JSON as the server gave it.
//!
//! Promises, beyond those of [`Cluster`]: every call that has an end of its own has a time limit ([`Timeouts`]); a call is never repeated; an answer that did not come is an
//! error that says so.
//!
//! A call for an object asks the cluster at most three times: for the kinds of a group and version, once, again when one is unknown, and then for the object.

mod convert;
mod discovery;
mod endpoint;
mod errors;
mod exec;
mod watch;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use hyper::Method;
use serde_json::Value;

use self::discovery::{Discovery, Resource};
pub use self::endpoint::{Credentials, Endpoint};
use self::errors::About;
use self::exec::{Of, Wanted};
use self::watch::Target;
use self::wire::{Ask, Wire};
use crate::call::cluster::{
    DeleteOptions, Kind, ObjectPage, Patch, PodExecOptions, PodLogOptions, Selection,
};
use crate::cluster::{Changes, FIELD_MANAGER, PAGE, Result};
use crate::stream::{Chunk, Session, Source};
use crate::{Cluster, EngineError};

const JSON: &str = "application/json";
const APPLY: &str = "application/apply-patch+yaml";

/// How long a cluster may take. Streams have no limit once they have begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect.
    pub connect: Duration,
    /// To answer a request, or to begin a stream.
    pub request: Duration,
    /// Between two signs of life of a watch: servers send one about every minute. A watch that is silent for longer goes on over another connection.
    pub silence: Duration,
    /// Until a watch that cannot go on gives up.
    pub patience: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_secs(60),
            silence: Duration::from_secs(150),
            patience: Duration::from_secs(60),
        }
    }
}

/// A Kubernetes cluster.
pub struct Kubernetes {
    address: Arc<str>,
    wire: Wire,
    timeouts: Timeouts,
    discovery: Discovery,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// The cluster at this place. Files are read, and the command is run that a kubeconfig may name for credentials; nothing is sent yet.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when the place or the credentials cannot be used.
    pub async fn new(endpoint: &Endpoint) -> Result<Self> {
        Self::with(endpoint, Timeouts::default()).await
    }

    /// The cluster at this place, with other time limits.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub async fn with(endpoint: &Endpoint, timeouts: Timeouts) -> Result<Self> {
        let config = endpoint.config().await?;
        let address = config.cluster_url.to_string();
        let address: Arc<str> = Arc::from(address.trim_end_matches('/'));
        let about = About::new(&address, "use", "cluster", "");
        // The command for credentials is waited for.
        let wire = tokio::task::spawn_blocking(move || Wire::new(&config, timeouts)).await;
        let wire = wire
            .map_err(|_| about.failed("its client could not be made"))?
            .map_err(|error| about.unusable(&error))?;
        Ok(Self { address, wire, timeouts, discovery: Discovery::default() })
    }

    /// Where its API server is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The version of the cluster (`v1.34.1`).
    ///
    /// # Errors
    /// When it cannot be reached, or is no cluster.
    pub async fn version(&self) -> Result<String> {
        let about = About::new(&self.address, "ask for", "version", "");
        let body = self.wire.ask(&about, Ask::get("/version".to_owned())).await?;
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        let version = told.get("gitVersion").and_then(Value::as_str);
        version.map(ToOwned::to_owned).ok_or_else(|| about.failed("it does not say one"))
    }

    fn about(&self, verb: &'static str, kind: &Kind, namespace: &str, name: &str) -> About {
        About::new(&self.address, verb, kind.to_string(), convert::shown(namespace, name))
    }

    fn pod(&self, verb: &'static str, namespace: &str, pod: &str) -> About {
        About::new(&self.address, verb, "Pod", convert::shown(namespace, pod))
    }

    /// How the objects of a kind are reached.
    async fn resource(&self, kind: &Kind) -> Result<Resource> {
        let path = discovery::group_path(kind)?;
        let known = self.discovery.known(&kind.api_version);
        if let Some(resource) = known.as_ref().and_then(|kinds| kinds.get(&kind.kind)) {
            return Ok(resource.clone());
        }
        let about = About::new(&self.address, "ask for", "kinds of", &kind.api_version);
        let body = match self.wire.ask(&about, Ask::get(path)).await {
            Ok(body) => body,
            Err(EngineError::NotFound(_)) => {
                self.discovery.forget(&kind.api_version);
                return Err(discovery::unknown(kind));
            }
            Err(error) => return Err(error),
        };
        let kinds = discovery::read(&body)
            .ok_or_else(|| about.failed("its answer is no list of Kubernetes"))?;
        let kinds = self.discovery.learn(&kind.api_version, kinds);
        kinds.get(&kind.kind).cloned().ok_or_else(|| discovery::unknown(kind))
    }

    /// Sends a request whose answer is an object.
    async fn object(&self, about: &About, ask: Ask) -> Result<Value> {
        let body = self.wire.ask(about, ask).await?;
        serde_json::from_slice(&body).map_err(|_| about.failed("its answer is not JSON"))
    }

    async fn process(
        &self,
        verb: &'static str,
        path: String,
        namespace: &str,
        pod: &str,
        options: &PodExecOptions,
        of: Of,
    ) -> Result<Session> {
        let about = self.pod(verb, namespace, pod);
        let ask = convert::process(Ask::get(path), options);
        let connection = self.wire.connect(&about, ask).await?;
        let wanted = Wanted { of, stdin: options.stdin, tty: options.tty };
        Ok(exec::session(connection, about, wanted))
    }
}

#[async_trait]
impl Cluster for Kubernetes {
    async fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Value> {
        let path = self.resource(kind).await?.object(kind, namespace, name, "")?;
        self.object(&self.about("get", kind, namespace, name), Ask::get(path)).await
    }

    async fn list(
        &self,
        kind: &Kind,
        selection: &Selection,
        limit: u32,
        after: &str,
    ) -> Result<ObjectPage> {
        let path = self.resource(kind).await?.objects(kind, &selection.namespace)?;
        let about = self.about("list", kind, &selection.namespace, "");
        let limit = if limit == 0 { PAGE } else { limit };
        let ask = convert::selected(Ask::get(path), selection)
            .with("limit", limit.to_string())
            .with_if(!after.is_empty(), "continue", after);
        let body = self.wire.ask(&about, ask).await?;
        convert::page(&body, kind)
            .ok_or_else(|| about.failed("its answer is no list of Kubernetes"))
    }

    async fn create(&self, object: &Value, dry_run: bool) -> Result<Value> {
        let (kind, (namespace, name)) = (Kind::of(object), convert::place(object));
        let path = self.resource(&kind).await?.home(&kind, namespace)?;
        let ask = Ask::send(Method::POST, path, JSON, object)
            .with("fieldManager", FIELD_MANAGER)
            .with_if(dry_run, "dryRun", "All");
        self.object(&self.about("create", &kind, namespace, name), ask).await
    }

    async fn apply(&self, object: &Value, dry_run: bool) -> Result<Value> {
        let (kind, (namespace, name)) = (Kind::of(object), convert::place(object));
        let path = self.resource(&kind).await?.object(&kind, namespace, name, "")?;
        let ask = Ask::send(Method::PATCH, path, APPLY, object)
            .with("fieldManager", FIELD_MANAGER)
            .with_if(dry_run, "dryRun", "All");
        let answer = self.object(&self.about("apply", &kind, namespace, name), ask).await;
        answer.map_err(errors::other_object)
    }

    async fn patch(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Patch,
        dry_run: bool,
    ) -> Result<Value> {
        let path = self.resource(kind).await?.object(kind, namespace, name, subresource)?;
        let (content, document) = convert::patch(patch);
        let ask = Ask::send(Method::PATCH, path, content, document)
            .with("fieldManager", FIELD_MANAGER)
            .with_if(dry_run, "dryRun", "All");
        self.object(&self.about("patch", kind, namespace, name), ask).await
    }

    async fn delete(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<()> {
        let path = self.resource(kind).await?.object(kind, namespace, name, "")?;
        let about = self.about("delete", kind, namespace, name);
        let ask = Ask::send(Method::DELETE, path, JSON, &convert::delete_options(options));
        match self.wire.ask(&about, ask).await {
            Ok(_) | Err(EngineError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn watch(&self, kind: &Kind, selection: &Selection) -> Result<Changes> {
        let path = self.resource(kind).await?.objects(kind, &selection.namespace)?;
        watch::watch(Target {
            wire: self.wire.clone(),
            about: self.about("watch", kind, &selection.namespace, ""),
            timeouts: self.timeouts,
            path,
            kind: kind.clone(),
            selection: selection.clone(),
        })
        .await
    }

    async fn logs(&self, namespace: &str, pod: &str, options: &PodLogOptions) -> Result<Session> {
        let path = discovery::pod(namespace, pod, "log")?;
        let about = self.pod("read the log of", namespace, pod);
        let body = self.wire.open(&about, convert::log(Ask::get(path), options)).await?;
        let chunks = body.map(move |bytes| match bytes {
            Ok(bytes) => Ok(Chunk { source: Source::Stdout, bytes }),
            Err(error) => Err(about.broken(&error)),
        });
        Ok(Session::of(chunks.boxed()))
    }

    async fn exec(&self, namespace: &str, pod: &str, options: &PodExecOptions) -> Result<Session> {
        let path = discovery::pod(namespace, pod, "exec")?;
        if options.command.is_empty() {
            return Err(EngineError::Invalid("there is no command to run".to_owned()));
        }
        self.process("run a command in", path, namespace, pod, options, Of::Command).await
    }

    async fn attach(
        &self,
        namespace: &str,
        pod: &str,
        options: &PodExecOptions,
    ) -> Result<Session> {
        let path = discovery::pod(namespace, pod, "attach")?;
        let options = PodExecOptions { command: Vec::new(), ..options.clone() };
        self.process("attach to", path, namespace, pod, &options, Of::Process).await
    }

    async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Session> {
        let path = discovery::pod(namespace, pod, "portforward")?;
        let about = self.pod("open a port of", namespace, pod);
        if port == 0 {
            return Err(about.invalid("0 is no port"));
        }
        let ask = Ask::get(path).with("ports", port.to_string());
        let connection = self.wire.connect(&about, ask).await?;
        let wanted = Wanted { of: Of::Port, stdin: true, tty: false };
        Ok(exec::session(connection, about, wanted))
    }

    async fn evict(&self, namespace: &str, pod: &str, grace_seconds: Option<u32>) -> Result<()> {
        let path = discovery::pod(namespace, pod, "eviction")?;
        let eviction = convert::eviction(namespace, pod, grace_seconds);
        let ask = Ask::send(Method::POST, path, JSON, &eviction);
        match self.wire.ask(&self.pod("evict", namespace, pod), ask).await {
            Ok(_) | Err(EngineError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

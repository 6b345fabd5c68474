//! A real cluster, in front of which a call may go wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use gantry_engine::call::cluster::{
    ClusterCall, DeleteOptions, Kind, ObjectPage, Patch, PodExecOptions, PodLogOptions, Selection,
};
use gantry_engine::cluster::{Changes, Result as Answer};
use gantry_engine::stream::{Chunk, Session, Source};
use gantry_engine::{Cluster, EngineError, Kubernetes};
use gantry_tests::kubernetes::text;
use serde_json::Value;

use super::PATIENCE;

/// How long the client below the plugin waits for an answer.
const TIME_LIMIT: Duration = PATIENCE.saturating_add(Duration::from_secs(1));

/// What an API server may answer in place of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// The object has moved on.
    Conflict,
    /// It has too much to do.
    Busy,
    /// It fails.
    Broken,
    /// It does nothing and says nothing, until everybody has given up.
    Late,
    /// It does what it is asked, and the connection breaks before it says so.
    Lost,
}

/// What goes wrong with each call: everything once, and what is asked again so often that nothing comes of it.
pub(super) const FAULTS: [(Fault, Often); 9] = [
    (Fault::Conflict, Often::Once),
    (Fault::Busy, Often::Once),
    (Fault::Broken, Often::Once),
    (Fault::Late, Often::Once),
    (Fault::Lost, Often::Once),
    (Fault::Conflict, Often::Always),
    (Fault::Broken, Often::Always),
    (Fault::Busy, Often::Always),
    (Fault::Lost, Often::Always),
];

impl Fault {
    pub(super) async fn answer<T: Send>(
        self,
        call: impl Future<Output = Answer<T>> + Send,
    ) -> Answer<T> {
        Err(match self {
            Self::Conflict => EngineError::Conflict(
                "the object has been modified; please apply your changes to the latest version"
                    .to_owned(),
            ),
            Self::Busy => EngineError::TooManyRequests {
                text: "too many requests, please try again later".to_owned(),
                retry_after: Some(1),
            },
            Self::Broken => EngineError::Failed("status 500".to_owned()),
            Self::Late => {
                tokio::time::sleep(TIME_LIMIT).await;
                EngineError::TimedOut(format!("no answer within {TIME_LIMIT:?}"))
            }
            Self::Lost => {
                drop(call.await);
                EngineError::Unreachable("the cluster went away in the middle".to_owned())
            }
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Conflict => "409",
            Self::Busy => "429",
            Self::Broken => "500",
            Self::Late => "late",
            Self::Lost => "lost",
        })
    }
}

/// A call of a deploy: what it does to what, and which of its kind it is, from 1 on.
pub(super) type Place = (String, usize);

/// How often a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Often {
    /// Once.
    Once,
    /// Whenever the very same is asked again.
    Always,
}

/// A real cluster, in front of which a call may go wrong.
pub(super) struct Faulty {
    pub(super) cluster: Arc<Kubernetes>,
    pub(super) deploy: Mutex<Deploy>,
}

/// The deploy under way, as the cluster sees it.
#[derive(Default)]
pub(super) struct Deploy {
    /// What processes of the app are called in places, so that every deploy has the same.
    pub(super) roles: Vec<(String, &'static str)>,
    /// What is in the image.
    pub(super) procfile: String,
    pub(super) places: Vec<Place>,
    pub(super) counts: BTreeMap<String, usize>,
    pub(super) aim: Option<(Place, Fault, Often)>,
    /// The call that went wrong.
    pub(super) hit: Option<ClusterCall>,
}

impl Deploy {
    pub(super) fn place(&self, call: &ClusterCall) -> String {
        let (kind, name) = match call {
            ClusterCall::Create { object, .. } | ClusterCall::Apply { object, .. } => {
                (Kind::of(object).kind, text(object, "/metadata/name").to_owned())
            }
            ClusterCall::Get { kind, name, .. }
            | ClusterCall::Patch { kind, name, .. }
            | ClusterCall::Delete { kind, name, .. } => (kind.kind.clone(), name.clone()),
            ClusterCall::List { kind, .. } | ClusterCall::Watch { kind, .. } => {
                (kind.kind.clone(), String::new())
            }
            _ => ("Pod".to_owned(), String::new()),
        };
        let verb = call.name().trim_start_matches("cluster.");
        // A name that the cluster has put together has a new end each time.
        let generated = ["ReplicaSet", "Pod"].contains(&kind.as_str());
        let role = self.roles.iter().find_map(|(of, role)| {
            let rest = name.strip_prefix(of)?;
            Some(format!("{role}{}", if generated { "" } else { rest }))
        });
        format!("{verb} {kind} {}", role.unwrap_or_default()).trim_end().to_owned()
    }

    /// What goes wrong with this call.
    pub(super) fn meets(&mut self, call: &ClusterCall) -> Option<Fault> {
        let place = self.place(call);
        let count = self.counts.entry(place.clone()).or_default();
        *count += 1;
        let place = (place, *count);
        self.places.push(place.clone());
        let (aim, fault, often) = self.aim.as_ref()?;
        let again = *often == Often::Always && self.hit.as_ref() == Some(call);
        if place == *aim {
            self.hit = Some(call.clone());
            return Some(*fault);
        }
        again.then_some(*fault)
    }
}

impl Faulty {
    pub(super) fn deploy(&self) -> std::sync::MutexGuard<'_, Deploy> {
        self.deploy.lock().unwrap()
    }

    pub(super) async fn send<T: Send>(
        &self,
        call: ClusterCall,
        act: impl Future<Output = Answer<T>> + Send,
    ) -> Answer<T> {
        let met = self.deploy().meets(&call);
        match met {
            None => act.await,
            Some(fault) => fault.answer(act).await,
        }
    }
}

#[async_trait]
impl Cluster for Faulty {
    async fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Answer<Value> {
        let call = ClusterCall::Get {
            kind: kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        self.send(call, self.cluster.get(kind, namespace, name)).await
    }

    async fn list(
        &self,
        kind: &Kind,
        selection: &Selection,
        limit: u32,
        after: &str,
    ) -> Answer<ObjectPage> {
        let call = ClusterCall::List {
            kind: kind.clone(),
            selection: selection.clone(),
            limit,
            after: after.to_owned(),
        };
        self.send(call, self.cluster.list(kind, selection, limit, after)).await
    }

    async fn create(&self, object: &Value, dry_run: bool) -> Answer<Value> {
        let call = ClusterCall::Create { object: object.clone(), dry_run };
        self.send(call, self.cluster.create(object, dry_run)).await
    }

    async fn apply(&self, object: &Value, dry_run: bool) -> Answer<Value> {
        let call = ClusterCall::Apply { object: object.clone(), dry_run };
        self.send(call, self.cluster.apply(object, dry_run)).await
    }

    async fn patch(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Patch,
        dry_run: bool,
    ) -> Answer<Value> {
        let call = ClusterCall::Patch {
            kind: kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            patch: patch.clone(),
            dry_run,
        };
        let act = self.cluster.patch(kind, namespace, name, subresource, patch, dry_run);
        self.send(call, act).await
    }

    async fn delete(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Answer<()> {
        let call = ClusterCall::Delete {
            kind: kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            options: options.clone(),
        };
        self.send(call, self.cluster.delete(kind, namespace, name, options)).await
    }

    async fn watch(&self, kind: &Kind, selection: &Selection) -> Answer<Changes> {
        let call = ClusterCall::Watch { kind: kind.clone(), selection: selection.clone() };
        self.send(call, self.cluster.watch(kind, selection)).await
    }

    /// What the kubelet would tell: the pod that looks into an image prints its Procfile.
    async fn logs(&self, namespace: &str, pod: &str, options: &PodLogOptions) -> Answer<Session> {
        let call = ClusterCall::Logs {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            options: options.clone(),
        };
        let procfile = self.deploy().procfile.clone();
        let bytes = Bytes::from(format!("---- gantry file procfile\n{procfile}"));
        let chunk = Chunk { source: Source::Stdout, bytes };
        self.send(call, async { Ok(Session::of(stream::iter([Ok(chunk)]).boxed())) }).await
    }

    async fn exec(&self, namespace: &str, pod: &str, options: &PodExecOptions) -> Answer<Session> {
        self.cluster.exec(namespace, pod, options).await
    }

    async fn attach(
        &self,
        namespace: &str,
        pod: &str,
        options: &PodExecOptions,
    ) -> Answer<Session> {
        self.cluster.attach(namespace, pod, options).await
    }

    async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Answer<Session> {
        self.cluster.port_forward(namespace, pod, port).await
    }

    async fn evict(&self, namespace: &str, pod: &str, grace_seconds: Option<u32>) -> Answer<()> {
        self.cluster.evict(namespace, pod, grace_seconds).await
    }
}

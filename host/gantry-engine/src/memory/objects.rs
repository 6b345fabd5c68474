//! A Kubernetes cluster in memory, for tests: an API server's semantics, and nothing behind it.
//!
//! [`Objects`] passes the same suite as a real cluster ([`contract::cluster`](mod@crate::contract::cluster)) and gives the same answers to random sequences of calls. There are no controllers, no
//! scheduler and no kubelets: a test plays them with [`edit`](Objects::edit) and [`Pods`]. What a cluster does without them, and what it does here:
//!
//! | of a cluster | here |
//! |---|---|
//! | garbage collection, finalizers, the end of namespaces | done at once, before the call answers |
//! | a pod that is deleted or evicted | gone at once, unless the test keeps it ([`with_lingering_pods`](Objects::with_lingering_pods)) |
//! | a disruption budget | lets nothing be evicted until somebody writes `status.disruptionsAllowed` |
//! | defaults | the number of replicas, protocols, a Service's type, address and ports on nodes, and how life begins (`Pending`, `Active`) |
//! | validation | names, labels, and what manifests get wrong in practice (`rules.rs`); unknown fields are kept |
//! | admission | only that a namespace is there and does not go |
//! | `logs`, `exec`, `attach`, `port_forward` | `conflict`: the pod does not run, unless somebody plays it |
//! | time | a second a change, from the first of January 2000 on |

mod defaults;
mod garbage;
mod kinds;
mod machine;
mod owners;
mod patches;
mod pods;
mod rules;
mod selectors;
mod writes;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::watch;

use self::machine::{Happened, Machine};
pub use self::pods::{Idle, Pods};
use self::selectors::Selector;
use super::{Ended, process};
use crate::EngineError;
use crate::call::cluster::{
    Change, ClusterCall, DeleteOptions, Kind, ObjectPage, Patch, PodExecOptions, PodLogOptions,
    Selection,
};
use crate::cluster::{Changes, Cluster, FIELD_MANAGER, Result};
use crate::stream::{Chunk, Session, Source};

/// A cluster in memory. Cloning it gives the same cluster.
#[derive(Clone)]
pub struct Objects {
    machine: Arc<Mutex<Machine>>,
    /// Tells whoever watches that something has changed.
    changed: watch::Sender<u64>,
    pods: Arc<dyn Pods>,
    calls: Arc<Mutex<Calls>>,
}

/// What goes wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not done, and this is the answer: a refusal, or a cluster that cannot be reached.
    Before(EngineError),
    /// It is done, and this is the answer all the same: the cluster's own was lost.
    After(EngineError),
}

type Rule = dyn Fn(&ClusterCall, usize) -> Option<Fault> + Send + Sync;

/// The calls so far, and what goes wrong with those that come.
#[derive(Default)]
struct Calls {
    made: Vec<ClusterCall>,
    counts: BTreeMap<&'static str, usize>,
    rule: Option<Arc<Rule>>,
}

impl Default for Objects {
    fn default() -> Self {
        Self::new()
    }
}

impl Objects {
    /// A cluster with the namespaces `default`, `kube-system` and `kube-public`, where no pod runs.
    #[must_use]
    pub fn new() -> Self {
        Self::playing(Arc::new(Idle))
    }

    /// The same, where somebody plays the pods.
    #[must_use]
    pub fn playing(pods: Arc<dyn Pods>) -> Self {
        let (changed, _) = watch::channel(0);
        let objects = Self { machine: Arc::default(), changed, pods, calls: Arc::default() };
        for name in ["default", "kube-public", "kube-system"] {
            let object =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            // Nothing is there that it could be in the way of.
            let _ = objects.lock().create(&object, "kube-apiserver", false);
        }
        objects
    }

    /// The same cluster with one more kind, as a CustomResourceDefinition makes it.
    #[must_use]
    pub fn with_kind(self, kind: Kind, namespaced: bool) -> Self {
        self.lock().kinds.add(kind, namespaced);
        self
    }

    /// The same cluster, in which a pod that has a node and has not ended stays, with its `metadata.deletionTimestamp`, until it is deleted with no grace or ends.
    #[must_use]
    pub fn with_lingering_pods(self) -> Self {
        self.lock().pods_linger = true;
        self
    }

    /// Makes an object as `kubectl create` does, with its status.
    ///
    /// # Errors
    /// As [`create`](Cluster::create).
    pub fn put(&self, object: &Value) -> Result<Value> {
        self.change(|machine| {
            let made = machine.create(object, "kubectl-create", false)?;
            let Some(status) = object.get("status") else { return Ok(made) };
            let word = |key: &str| machine::word(&made, key).to_owned();
            machine.edit(
                &Kind::of(object),
                &word("namespace"),
                &word("name"),
                "kubectl-create",
                |made| {
                    if let Some(map) = made.as_object_mut() {
                        map.insert("status".to_owned(), status.clone());
                    }
                },
            )
        })
    }

    /// Changes an object as another manager, and its status too: so a test plays a controller.
    ///
    /// # Errors
    /// When there is no such object, or the change is one that the cluster does not take.
    pub fn edit(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        manager: &str,
        edit: impl FnOnce(&mut Value),
    ) -> Result<Value> {
        self.change(|machine| machine.edit(kind, namespace, name, manager, edit))
    }

    /// Applies an object as another manager.
    ///
    /// # Errors
    /// As [`apply`](Cluster::apply).
    pub fn apply_as(&self, manager: &str, object: &Value) -> Result<Value> {
        self.change(|machine| machine.apply(object, manager, false))
    }

    /// Lets calls fail by a rule, which sees each call and how many of its name there have been with it. It takes the place of the rule before.
    pub fn fail(
        &self,
        rule: impl Fn(&ClusterCall, usize) -> Option<Fault> + Send + Sync + 'static,
    ) {
        self.calls().rule = Some(Arc::new(rule));
    }

    /// Lets calls succeed again.
    pub fn mend(&self) {
        self.calls().rule = None;
    }

    /// The calls so far, those that failed among them, without what a test did itself.
    #[must_use]
    pub fn made(&self) -> Vec<ClusterCall> {
        self.calls().made.clone()
    }

    /// How many calls of a name there have been (`cluster.apply`).
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.calls().counts.get(name).copied().unwrap_or(0)
    }

    /// What has happened to the objects of a kind so far, oldest first.
    #[must_use]
    pub fn history(&self, kind: &Kind) -> Vec<Change> {
        let kind = kind.to_string();
        let machine = self.lock();
        let happened = machine.history.iter().filter(|happened| happened.key.kind == kind);
        happened.filter_map(|happened| told(happened, &Selector::default())).collect()
    }

    /// Forgets what was: the lists that have begun cannot be gone on with.
    pub fn forget(&self) {
        self.lock().forget();
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Machine) -> Result<T>) -> Result<T> {
        let answer = change(&mut self.lock());
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        answer
    }

    /// Takes note of a call, and does it unless it is to fail.
    fn call<T>(&self, call: ClusterCall, act: impl FnOnce(&mut Machine) -> Result<T>) -> Result<T> {
        let fault = {
            let mut calls = self.calls();
            let count = calls.counts.entry(call.name()).or_default();
            *count = count.saturating_add(1);
            let count = *count;
            calls.made.push(call.clone());
            calls.rule.clone().map(|rule| (rule, count))
        };
        // Without the lock: a rule may look at the cluster.
        match fault.and_then(|(rule, count)| rule(&call, count)) {
            None => self.change(act),
            Some(Fault::Before(error)) => Err(error),
            Some(Fault::After(error)) => self.change(act).and(Err(error)),
        }
    }

    /// Waits until `seen` has an answer.
    async fn until<T>(&self, mut seen: impl FnMut(&Machine) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            // What changes from here on wakes us again.
            changed.mark_unchanged();
            if let Some(answer) = seen(&self.lock()) {
                return answer;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// A pod of which a container is wanted, and the name of that.
    fn pod(
        machine: &Machine,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<(Value, String)> {
        let object = machine.get(&Kind::new("v1", "Pod"), namespace, pod)?;
        let names: Vec<&str> = ["containers", "initContainers"]
            .into_iter()
            .flat_map(|of| machine::items(&object, &format!("/spec/{of}")))
            .filter_map(|container| container.get("name").and_then(Value::as_str))
            .collect();
        let name = match (container, names.as_slice()) {
            ("", [only]) => (*only).to_owned(),
            ("", names) => {
                return Err(EngineError::Invalid(format!(
                    "a container name must be specified for pod {pod}, choose one of: [{}]",
                    names.join(" ")
                )));
            }
            (wanted, names) if names.contains(&wanted) => wanted.to_owned(),
            (wanted, _) => {
                return Err(EngineError::NotFound(format!(
                    "container {wanted} is not valid for pod {pod}"
                )));
            }
        };
        Ok((object, name))
    }

    /// A session of a command.
    fn session(
        &self,
        call: ClusterCall,
        (namespace, pod): (&str, &str),
        options: &PodExecOptions,
        play: impl FnOnce(&Value, &PodExecOptions) -> Option<(Vec<Chunk>, Option<i32>)>,
    ) -> Result<Session> {
        let (object, container) =
            self.call(call, |machine| Self::pod(machine, namespace, pod, &options.container))?;
        let options = PodExecOptions { container, ..options.clone() };
        let (output, exit_code) = play(&object, &options).ok_or_else(|| idle(&object))?;
        Ok(process::session(output, exit_code, options.stdin, options.tty))
    }
}

/// As a cluster says it of a pod that does not run.
fn idle(pod: &Value) -> EngineError {
    let name = machine::word(pod, "name");
    if pod.pointer("/spec/nodeName").is_none() {
        return EngineError::Conflict(format!("pod {name} does not have a host assigned"));
    }
    EngineError::Conflict(format!("the pod `{name}` does not run: it is in memory"))
}

/// What somebody who selects is told of something that happened.
fn told(happened: &Happened, selector: &Selector) -> Option<Change> {
    let matches =
        |object: &Option<Value>| object.as_ref().is_some_and(|object| selector.matches(object));
    match &happened.after {
        Some(after) if selector.matches(after) => Some(Change::Applied(after.clone())),
        Some(_) | None if matches(&happened.before) => happened.last().map(Change::Deleted),
        Some(_) | None => None,
    }
}

#[async_trait]
impl Cluster for Objects {
    async fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Value> {
        let call = ClusterCall::Get {
            kind: kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        self.call(call, |machine| machine.get(kind, namespace, name))
    }

    async fn list(
        &self,
        kind: &Kind,
        selection: &Selection,
        limit: u32,
        after: &str,
    ) -> Result<ObjectPage> {
        let call = ClusterCall::List {
            kind: kind.clone(),
            selection: selection.clone(),
            limit,
            after: after.to_owned(),
        };
        self.call(call, |machine| machine.list(kind, selection, limit, after))
    }

    async fn create(&self, object: &Value, dry_run: bool) -> Result<Value> {
        let call = ClusterCall::Create { object: object.clone(), dry_run };
        self.call(call, |machine| machine.create(object, FIELD_MANAGER, dry_run))
    }

    async fn apply(&self, object: &Value, dry_run: bool) -> Result<Value> {
        let call = ClusterCall::Apply { object: object.clone(), dry_run };
        self.call(call, |machine| machine.apply(object, FIELD_MANAGER, dry_run))
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
        let call = ClusterCall::Patch {
            kind: kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            patch: patch.clone(),
            dry_run,
        };
        self.call(call, |machine| {
            machine.patch(kind, (namespace, name), subresource, patch, FIELD_MANAGER, dry_run)
        })
    }

    async fn delete(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<()> {
        let call = ClusterCall::Delete {
            kind: kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            options: options.clone(),
        };
        self.call(call, |machine| machine.delete(kind, namespace, name, options))
    }

    async fn watch(&self, kind: &Kind, selection: &Selection) -> Result<Changes> {
        let call = ClusterCall::Watch { kind: kind.clone(), selection: selection.clone() };
        // All under one lock: what happens from here on is behind `seen` in the history.
        let (first, selector, seen) = self.call(call, |machine| {
            let all = machine.list(kind, selection, u32::MAX, "")?;
            Ok((all.items, Selector::of(kind, selection)?, machine.history.len()))
        })?;
        let first = first.into_iter().map(Change::Applied).chain([Change::Listed]);
        let (cluster, kind) = (self.clone(), kind.to_string());
        let rest = stream::unfold((seen, VecDeque::new()), move |(mut seen, mut waiting)| {
            let (cluster, kind, selector) = (cluster.clone(), kind.clone(), selector.clone());
            async move {
                if waiting.is_empty() {
                    let next = |machine: &Machine| {
                        let new = machine.history.get(seen..).unwrap_or_default();
                        let new = new.iter().filter(|happened| happened.key.kind == kind);
                        let changes: VecDeque<Change> =
                            new.filter_map(|happened| told(happened, &selector)).collect();
                        seen = machine.history.len();
                        (!changes.is_empty()).then_some(changes)
                    };
                    waiting = cluster.until(next).await;
                }
                let change = waiting.pop_front()?;
                Some((Ok(change), (seen, waiting)))
            }
        });
        Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
    }

    async fn logs(&self, namespace: &str, pod: &str, options: &PodLogOptions) -> Result<Session> {
        let call = ClusterCall::Logs {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            options: options.clone(),
        };
        let (object, container) =
            self.call(call, |machine| Self::pod(machine, namespace, pod, &options.container))?;
        let options = PodLogOptions { container, ..options.clone() };
        let mut lines = self.pods.logs(&object, &options).ok_or_else(|| idle(&object))?;
        let wanted = usize::try_from(options.lines).unwrap_or(usize::MAX);
        lines.drain(..lines.len().saturating_sub(wanted));
        let chunks = stream::iter(lines.into_iter().map(Ok));
        if !options.follow {
            return Ok(Session::of(chunks.boxed()));
        }
        // It ends with the pod.
        let (cluster, uid) = (self.clone(), machine::word(&object, "uid").to_owned());
        let end = async move {
            let ended = |machine: &Machine| {
                let runs = |pod: &Value| machine::word(pod, "uid") == uid && machine::runs(pod);
                (!machine.objects.values().any(runs)).then_some(())
            };
            cluster.until(ended).await;
        };
        let end = stream::once(end).filter_map(|()| std::future::ready(None));
        Ok(Session::of(chunks.chain(end).boxed()))
    }

    async fn exec(&self, namespace: &str, pod: &str, options: &PodExecOptions) -> Result<Session> {
        if options.command.is_empty() {
            return Err(EngineError::Invalid("no command specified".to_owned()));
        }
        let call = ClusterCall::ExecSession {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            options: options.clone(),
        };
        self.session(call, (namespace, pod), options, |pod, options| {
            let Ended { output, exit_code } = self.pods.exec(pod, options)?;
            Some((output, Some(exit_code)))
        })
    }

    async fn attach(
        &self,
        namespace: &str,
        pod: &str,
        options: &PodExecOptions,
    ) -> Result<Session> {
        let call = ClusterCall::AttachSession {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            options: options.clone(),
        };
        self.session(call, (namespace, pod), options, |pod, options| {
            Some((self.pods.attach(pod, options)?, None))
        })
    }

    async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Session> {
        let call =
            ClusterCall::PortForward { namespace: namespace.to_owned(), pod: pod.to_owned(), port };
        let object =
            self.call(call, |machine| machine.get(&Kind::new("v1", "Pod"), namespace, pod))?;
        let end = self.pods.port_forward(&object, port).ok_or_else(|| idle(&object))?;
        let (reader, writer) = tokio::io::split(end);
        let chunks = stream::unfold(reader, |mut reader| async move {
            let mut bytes = bytes::BytesMut::with_capacity(8192);
            match tokio::io::AsyncReadExt::read_buf(&mut reader, &mut bytes).await {
                Ok(0) => None,
                Ok(_) => {
                    Some((Ok(Chunk { source: Source::Stdout, bytes: bytes.freeze() }), reader))
                }
                Err(error) => Some((
                    Err(EngineError::Unreachable(format!("the port went away: {error}"))),
                    reader,
                )),
            }
        });
        Ok(Session::of(chunks.boxed()).with_input(Some(Box::pin(writer))))
    }

    async fn evict(&self, namespace: &str, pod: &str, grace_seconds: Option<u32>) -> Result<()> {
        let call = ClusterCall::Evict {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            grace_seconds,
        };
        self.call(call, |machine| machine.evict(namespace, pod, grace_seconds))
    }
}

//! `cluster`: Kubernetes clusters. Objects are read as JSON on their way down, so that the layers see what they say, and written as JSON on their way up.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{StreamExt as _, TryStreamExt as _};
use gantry_engine::call::cluster::{self as call, Change as Changed, ClusterCall};
use gantry_engine::stream::{Output, Reader as Bytes, Stream};
use gantry_engine::{Call, EngineError, Request, Response};
use serde_json::Value;
use tokio::time::timeout;
use wasmtime::component::Resource;

use crate::bindings::gantry::provision::cluster::{
    Change, ClusterError, ClusterInfo, DeleteOptions, Host, HostClient, HostWatcher, Kind,
    ObjectPage, Patch, PodExecOptions, PodLogOptions, Reply, Request as One, Selection, Target,
    WatchEvent,
};
use crate::bounds::Bound;
use crate::call::{CallState, Outside, Watch};
use crate::convert::{
    cluster_error_to, cluster_info_to, delete_options_from, kind_from, pod_exec_options_from,
    pod_log_options_from, selection_from,
};
use crate::host;
use crate::host::containers::document;
use crate::host::reply::{self, Take};
use crate::host::streams::{Reader, Session, Writer};

/// The longest name of a cluster.
const NAME: usize = 1 << 10;

/// The most of a log that is given as bytes.
const MOST_LOG: u64 = 1 << 20;

/// The most kinds that one watch is about.
const TARGETS: usize = 16;

/// One cluster, as a guest holds it.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Client {
    cluster: String,
    timeout: Option<Duration>,
}

/// A watch, as a guest holds it.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Watcher {
    events: SelectAll<BoxStream<'static, Event>>,
}

/// What happened to an object of a target, or why that is not known any more.
type Event = (u32, Result<Changed, EngineError>);

/// A result for the guest, or its end.
type Answer<T> = wasmtime::Result<Result<T, ClusterError>>;

fn parsed(text: &str) -> Result<Value, ClusterError> {
    serde_json::from_str(text).map_err(|error| invalid(format!("the object is no JSON: {error}")))
}

fn invalid(why: String) -> ClusterError {
    cluster_error_to(EngineError::Invalid(why).into())
}

impl CallState {
    /// Sends a call to the client's cluster, within the client's time unless the call is a stream.
    async fn at_cluster(
        &mut self,
        client: &Resource<Client>,
        call: ClusterCall,
        input: Option<Bytes>,
        output: Option<Output>,
    ) -> Answer<Response> {
        let Client { cluster, timeout } = self.table.get(client)?;
        let time = timeout.filter(|_| !call.waits());
        let asked = call.name();
        let call = Call::Cluster { cluster: cluster.clone(), call: Box::new(call) };
        let sent = self.send(Request::new(call, input, output));
        Ok(host::within(time, asked, sent).await?.map_err(cluster_error_to))
    }

    async fn cluster_value<T>(
        &mut self,
        client: &Resource<Client>,
        call: ClusterCall,
        take: Take<T>,
    ) -> Answer<T> {
        let asked = call.name();
        let answer = self.at_cluster(client, call, None, None).await?;
        host::value(asked, answer, take)
    }

    async fn object(&mut self, client: &Resource<Client>, call: ClusterCall) -> Answer<String> {
        match self.cluster_value(client, call, reply::object).await? {
            Ok(object) => document(&object).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn cluster_session(
        &mut self,
        client: &Resource<Client>,
        call: ClusterCall,
    ) -> Answer<Resource<Session>> {
        let asked = call.name();
        let answer = self.at_cluster(client, call, None, None).await?;
        match host::session(asked, answer)? {
            Ok(session) => Ok(Ok(self.push(Session(session))?)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// How many calls of one that makes many go side by side.
    fn slots(&self) -> usize {
        usize::try_from(self.bounds.get(Bound::HostCallsInFlight)).unwrap_or(1).max(1)
    }

    /// An object that a guest gave. What is none costs a host call too.
    fn given(&self, text: &str) -> Answer<Value> {
        let object = parsed(text);
        if object.is_err() {
            self.charge(text.len())?;
        }
        Ok(object)
    }
}

/// The call that one of many requests means.
fn one_of_many(one: One) -> Result<ClusterCall, ClusterError> {
    Ok(match one {
        One::Get((kind, namespace, name)) => {
            ClusterCall::Get { kind: kind_from(kind), namespace, name }
        }
        One::Create(object) => ClusterCall::Create { object: parsed(&object)?, dry_run: false },
        One::Apply(object) => ClusterCall::Apply { object: parsed(&object)?, dry_run: false },
        One::PutBack((kind, namespace, name)) => {
            ClusterCall::PutBack { kind: kind_from(kind), namespace, name }
        }
        One::Delete((kind, namespace, name, options)) => ClusterCall::Delete {
            kind: kind_from(kind),
            namespace,
            name,
            options: delete_options_from(options),
        },
        One::Evict((namespace, pod, grace_seconds)) => {
            ClusterCall::Evict { namespace, pod, grace_seconds }
        }
    })
}

/// Sends one of many calls.
async fn send_one(
    outside: &Outside,
    watch: &Watch,
    cluster: &str,
    time: Option<Duration>,
    one: One,
) -> wasmtime::Result<Result<Reply, ClusterError>> {
    let call = match one_of_many(one) {
        Ok(call) => call,
        Err(error) => {
            outside.scope.meter.charge(0).map_err(wasmtime::Error::new)?;
            return Ok(Err(error));
        }
    };
    let asked = call.name();
    let call = Call::Cluster { cluster: cluster.to_owned(), call: Box::new(call) };
    match host::within(time, asked, outside.send(watch, call)).await? {
        Ok(Response { reply: gantry_engine::Reply::Object(object), .. }) => {
            Ok(Ok(Reply::Object(document(&object)?)))
        }
        Ok(response) => reply::done(response.reply)
            .map(|()| Ok(Reply::Done))
            .map_err(|reply| host::strange(asked, &reply)),
        Err(error) => Ok(Err(cluster_error_to(error))),
    }
}

impl Host for CallState {
    async fn clusters(&mut self) -> wasmtime::Result<Vec<ClusterInfo>> {
        let clusters = self.ask(Call::Clusters, reply::clusters).await?;
        // The interface has no error: clusters that nobody can name are no clusters.
        Ok(clusters.map_or_else(
            |error| {
                tracing::warn!(%error, "the clusters of a provisioner could not be told");
                Vec::new()
            },
            |clusters| clusters.into_iter().map(cluster_info_to).collect(),
        ))
    }
}

impl HostWatcher for CallState {
    async fn next(
        &mut self,
        watcher: Resource<Watcher>,
        milliseconds: u32,
    ) -> Answer<Option<WatchEvent>> {
        let outside = Arc::clone(self.charge(0)?);
        let watch = Arc::clone(&self.watch);
        let _working = watch.work();
        let Watcher { events } = self.table.get_mut(&watcher)?;
        let time = Duration::from_millis(u64::from(milliseconds));
        let event = tokio::select! {
            biased;
            () = outside.scope.operation.interruption() => {
                return Ok(Err(ClusterError::Cancelled));
            }
            event = timeout(time, events.next()) => event,
        };
        let Ok(event) = event else {
            return Ok(Ok(None));
        };
        let Some((target, changed)) = event else {
            let ended = EngineError::Failed("the watch has ended".to_owned());
            return Ok(Err(cluster_error_to(ended.into())));
        };
        let change = match changed {
            Ok(Changed::Applied(object)) => Change::Applied(document(&object)?),
            Ok(Changed::Deleted(object)) => Change::Deleted(document(&object)?),
            Ok(Changed::Listed) => Change::Listed,
            Err(error) => return Ok(Err(cluster_error_to(error.into()))),
        };
        let bytes = match &change {
            Change::Applied(text) | Change::Deleted(text) => text.len(),
            Change::Listed => 0,
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        outside.scope.meter.charge_bytes(bytes).map_err(wasmtime::Error::new)?;
        Ok(Ok(Some(WatchEvent { target, change })))
    }

    async fn drop(&mut self, watcher: Resource<Watcher>) -> wasmtime::Result<()> {
        self.table.delete(watcher)?;
        Ok(())
    }
}

impl HostClient for CallState {
    async fn open(&mut self, cluster: String) -> Answer<Resource<Client>> {
        self.charge(cluster.len())?;
        if cluster.len() > NAME {
            return Ok(Err(invalid("the name of the cluster is too long".to_owned())));
        }
        Ok(Ok(self.push(Client { cluster, timeout: None })?))
    }

    async fn set_timeout(
        &mut self,
        client: Resource<Client>,
        milliseconds: u32,
    ) -> wasmtime::Result<()> {
        self.charge(0)?;
        let timeout = Duration::from_millis(u64::from(milliseconds));
        self.table.get_mut(&client)?.timeout = (milliseconds > 0).then_some(timeout);
        Ok(())
    }

    async fn get(
        &mut self,
        client: Resource<Client>,
        kind: Kind,
        namespace: String,
        name: String,
    ) -> Answer<String> {
        let call = ClusterCall::Get { kind: kind_from(kind), namespace, name };
        self.object(&client, call).await
    }

    async fn list(
        &mut self,
        client: Resource<Client>,
        kind: Kind,
        selection: Selection,
        limit: u32,
        after: String,
    ) -> Answer<ObjectPage> {
        let (kind, selection) = (kind_from(kind), selection_from(selection));
        let call = ClusterCall::List { kind, selection, limit, after };
        let page = match self.cluster_value(&client, call, reply::objects).await? {
            Ok(page) => page,
            Err(error) => return Ok(Err(error)),
        };
        let call::ObjectPage { items, next, resource_version } = page;
        let items = items.iter().map(document).collect::<wasmtime::Result<_>>()?;
        Ok(Ok(ObjectPage { items, next, resource_version }))
    }

    async fn create(
        &mut self,
        client: Resource<Client>,
        object: String,
        dry_run: bool,
    ) -> Answer<String> {
        match self.given(&object)? {
            Ok(object) => self.object(&client, ClusterCall::Create { object, dry_run }).await,
            Err(error) => Ok(Err(error)),
        }
    }

    async fn apply(
        &mut self,
        client: Resource<Client>,
        object: String,
        dry_run: bool,
    ) -> Answer<String> {
        match self.given(&object)? {
            Ok(object) => self.object(&client, ClusterCall::Apply { object, dry_run }).await,
            Err(error) => Ok(Err(error)),
        }
    }

    async fn patch(
        &mut self,
        client: Resource<Client>,
        kind: Kind,
        namespace: String,
        name: String,
        subresource: String,
        patch: Patch,
        dry_run: bool,
    ) -> Answer<String> {
        let (text, of): (_, fn(Value) -> call::Patch) = match &patch {
            Patch::Merge(text) => (text, call::Patch::Merge),
            Patch::Strategic(text) => (text, call::Patch::Strategic),
            Patch::Json(text) => (text, call::Patch::Json),
        };
        let patch = match self.given(text)? {
            Ok(patch) => of(patch),
            Err(error) => return Ok(Err(error)),
        };
        let kind = kind_from(kind);
        let call = ClusterCall::Patch { kind, namespace, name, subresource, patch, dry_run };
        self.object(&client, call).await
    }

    async fn delete(
        &mut self,
        client: Resource<Client>,
        kind: Kind,
        namespace: String,
        name: String,
        options: DeleteOptions,
    ) -> Answer<()> {
        let (kind, options) = (kind_from(kind), delete_options_from(options));
        let call = ClusterCall::Delete { kind, namespace, name, options };
        self.cluster_value(&client, call, reply::done).await
    }

    async fn put_back(
        &mut self,
        client: Resource<Client>,
        kind: Kind,
        namespace: String,
        name: String,
    ) -> Answer<Option<String>> {
        let call = ClusterCall::PutBack { kind: kind_from(kind), namespace, name };
        match self.cluster_value(&client, call, reply::maybe_object).await? {
            Ok(Some(object)) => document(&object).map(|object| Ok(Some(object))),
            Ok(None) => Ok(Ok(None)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn together(
        &mut self,
        client: Resource<Client>,
        requests: Vec<One>,
    ) -> wasmtime::Result<Vec<Result<Reply, ClusterError>>> {
        let outside = Arc::clone(self.charge(0)?);
        let watch = Arc::clone(&self.watch);
        let Client { cluster, timeout } = self.table.get(&client)?;
        let send = |one| send_one(&outside, &watch, cluster, *timeout, one);
        let sent = requests.into_iter().map(send);
        stream::iter(sent).buffered(self.slots()).try_collect().await
    }

    async fn watch(
        &mut self,
        client: Resource<Client>,
        targets: Vec<Target>,
    ) -> Answer<Resource<Watcher>> {
        if targets.is_empty() || targets.len() > TARGETS {
            self.charge(0)?;
            return Ok(Err(invalid(format!("a watch has 1 to {TARGETS} targets"))));
        }
        let (outside, watch) = (Arc::clone(self.outside()?), Arc::clone(&self.watch));
        let Client { cluster, .. } = self.table.get(&client)?;
        // Side by side: each asks the cluster for what is there.
        let begin = |Target { kind, selection }| {
            let call =
                ClusterCall::Watch { kind: kind_from(kind), selection: selection_from(selection) };
            let call = Call::Cluster { cluster: cluster.clone(), call: Box::new(call) };
            outside.send(&watch, call)
        };
        let mut begun =
            stream::iter(targets.into_iter().map(begin)).buffered(self.slots()).enumerate();
        let mut events = SelectAll::new();
        while let Some((index, answer)) = begun.next().await {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            match answer? {
                Ok(Response { stream: Some(Stream::Changes(changes)), .. }) => {
                    events.push(changes.map(move |change| (index, change)).boxed());
                }
                Ok(Response { reply, .. }) => return Err(host::strange("cluster.watch", &reply)),
                Err(error) => return Ok(Err(cluster_error_to(error))),
            }
        }
        drop(begun);
        Ok(Ok(self.push(Watcher { events })?))
    }

    async fn logs(
        &mut self,
        client: Resource<Client>,
        namespace: String,
        pod: String,
        options: PodLogOptions,
    ) -> Answer<Resource<Session>> {
        let options = pod_log_options_from(options);
        self.cluster_session(&client, ClusterCall::Logs { namespace, pod, options }).await
    }

    async fn read_logs(
        &mut self,
        client: Resource<Client>,
        namespace: String,
        pod: String,
        options: PodLogOptions,
    ) -> Answer<Vec<u8>> {
        let options = call::PodLogOptions { follow: false, ..pod_log_options_from(options) };
        let call = ClusterCall::Logs { namespace, pod, options };
        let asked = call.name();
        let answer = self.at_cluster(&client, call, None, None).await?;
        let mut session = match host::session(asked, answer)? {
            Ok(session) => session,
            Err(error) => return Ok(Err(error)),
        };
        let outside = Arc::clone(self.outside()?);
        let watch = Arc::clone(&self.watch);
        let _working = watch.work();
        let most = self.bounds.get(Bound::HostCallBytes).min(MOST_LOG);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        while bytes.len() < most {
            let chunk = tokio::select! {
                biased;
                () = outside.scope.operation.interruption() => {
                    return Ok(Err(ClusterError::Cancelled));
                }
                chunk = session.chunks.next() => chunk,
            };
            match chunk {
                Some(Ok(chunk)) => bytes.extend_from_slice(&chunk.bytes),
                Some(Err(error)) => return Ok(Err(cluster_error_to(error.into()))),
                None => break,
            }
        }
        bytes.truncate(most);
        Ok(Ok(bytes))
    }

    async fn exec(
        &mut self,
        client: Resource<Client>,
        namespace: String,
        pod: String,
        options: PodExecOptions,
        stdout: Resource<Writer>,
        stderr: Resource<Writer>,
    ) -> Answer<i32> {
        let options = pod_exec_options_from(options, false);
        let call = ClusterCall::Exec { namespace, pod, options };
        let (asked, output) = (call.name(), self.output(&stdout, &stderr)?);
        let answer = self.at_cluster(&client, call, None, Some(output)).await?;
        let code = host::value(asked, answer, reply::number)?;
        Ok(code.map(|code| i32::try_from(code).unwrap_or(i32::MAX)))
    }

    async fn exec_session(
        &mut self,
        client: Resource<Client>,
        namespace: String,
        pod: String,
        options: PodExecOptions,
    ) -> Answer<Resource<Session>> {
        let options = pod_exec_options_from(options, true);
        self.cluster_session(&client, ClusterCall::ExecSession { namespace, pod, options }).await
    }

    async fn attach(
        &mut self,
        client: Resource<Client>,
        namespace: String,
        pod: String,
        container: String,
        input: Option<Resource<Reader>>,
        stdout: Resource<Writer>,
        stderr: Resource<Writer>,
    ) -> Answer<()> {
        let input = match input {
            Some(reader) => {
                let Reader(reader) = self.table.delete(reader)?;
                Some(reader)
            }
            None => None,
        };
        let options =
            call::PodExecOptions { container, stdin: input.is_some(), ..Default::default() };
        let call = ClusterCall::Attach { namespace, pod, options };
        let (asked, output) = (call.name(), self.output(&stdout, &stderr)?);
        let answer = self.at_cluster(&client, call, input, Some(output)).await?;
        host::value(asked, answer, reply::done)
    }

    async fn attach_session(
        &mut self,
        client: Resource<Client>,
        namespace: String,
        pod: String,
        container: String,
        tty: bool,
    ) -> Answer<Resource<Session>> {
        let options = call::PodExecOptions { container, tty, stdin: true, ..Default::default() };
        self.cluster_session(&client, ClusterCall::AttachSession { namespace, pod, options }).await
    }

    async fn port_forward(
        &mut self,
        client: Resource<Client>,
        namespace: String,
        pod: String,
        port: u16,
    ) -> Answer<Resource<Session>> {
        self.cluster_session(&client, ClusterCall::PortForward { namespace, pod, port }).await
    }

    async fn evict(
        &mut self,
        client: Resource<Client>,
        namespace: String,
        pod: String,
        grace_seconds: Option<u32>,
    ) -> Answer<()> {
        let call = ClusterCall::Evict { namespace, pod, grace_seconds };
        self.cluster_value(&client, call, reply::done).await
    }

    async fn drop(&mut self, client: Resource<Client>) -> wasmtime::Result<()> {
        self.table.delete(client)?;
        Ok(())
    }
}

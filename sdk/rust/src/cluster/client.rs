use std::time::Duration;

use serde_json::Value;

use super::{
    ClusterError, DeleteOptions, Kind, PodExecOptions, PodLogOptions, Result, Selection, Target,
    Watcher, imported,
};
use crate::streams::{Reader, Session, Writer};

/// One cluster. Only objects that this provisioner owns are seen and touched, unless a grant says otherwise.
///
/// # Errors
///
/// Every call says why the cluster, or the policy in front of it, refused.
#[derive(Debug)]
pub struct Client(imported::Client);

/// Some objects, and the version of the cluster that they were read at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List {
    /// The objects.
    pub items: Vec<Value>,
    /// The version.
    pub resource_version: String,
}

impl Client {
    /// A client for the cluster of this name. Nothing is sent yet.
    pub fn open(cluster: &str) -> Result<Self> {
        Ok(Self(imported::Client::open(cluster)?))
    }

    /// The time that every later call on this client has, streams aside; zero is the host's default.
    pub fn set_timeout(&self, time: Duration) {
        self.0.set_timeout(u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
    }

    /// An object, by namespace (empty for kinds without) and name.
    pub fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Value> {
        object(&self.0.get(kind, namespace, name)?)
    }

    /// The same, or none when it is not there.
    pub fn find(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Option<Value>> {
        match self.get(kind, namespace, name) {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All the objects, page by page. A list that became too old to go on is begun again.
    pub fn list(&self, kind: &Kind, selection: &Selection) -> Result<List> {
        const BEGINNINGS: u32 = 3;
        let mut beginnings = 0;
        loop {
            match self.pages(kind, selection) {
                Err(ClusterError::Conflict(_)) if beginnings < BEGINNINGS => beginnings += 1,
                list => return list,
            }
        }
    }

    fn pages(&self, kind: &Kind, selection: &Selection) -> Result<List> {
        let mut list = List::default();
        let mut after = String::new();
        loop {
            let page = self.0.list(kind, selection, 0, &after)?;
            for text in &page.items {
                list.items.push(object(text)?);
            }
            list.resource_version = page.resource_version;
            if page.next.is_empty() {
                return Ok(list);
            }
            after = page.next;
        }
    }

    /// One page of the objects: at most `limit` (0 is the host's choice), and where the next page starts, if there is one.
    pub fn page(
        &self,
        kind: &Kind,
        selection: &Selection,
        limit: u32,
        after: &str,
    ) -> Result<(Vec<Value>, Option<String>)> {
        let page = self.0.list(kind, selection, limit, after)?;
        let items = page.items.iter().map(|text| object(text)).collect::<Result<_>>()?;
        Ok((items, Some(page.next).filter(|next| !next.is_empty())))
    }

    /// Makes an object and gives it as it is now. One that exists is `Conflict`.
    pub fn create(&self, wanted: &Value) -> Result<Value> {
        object(&self.0.create(&wanted.to_string(), false)?)
    }

    /// Makes an object be as this one says, and gives it as it is now (server-side apply, never by force). Twice is as good as once.
    pub fn apply(&self, wanted: &Value) -> Result<Value> {
        object(&self.0.apply(&wanted.to_string(), false)?)
    }

    /// Only says what an [`apply`](Self::apply) would give.
    pub fn try_apply(&self, wanted: &Value) -> Result<Value> {
        object(&self.0.apply(&wanted.to_string(), true)?)
    }

    /// Changes an object by a merge patch and gives it as it is now.
    pub fn merge(&self, kind: &Kind, namespace: &str, name: &str, patch: &Value) -> Result<Value> {
        let patch = imported::Patch::Merge(patch.to_string());
        object(&self.0.patch(kind, namespace, name, "", &patch, false)?)
    }

    /// Changes an object, or its subresource when one is named, by a JSON patch and gives it as it is now.
    pub fn patch(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
        operations: &Value,
    ) -> Result<Value> {
        let patch = imported::Patch::Json(operations.to_string());
        object(&self.0.patch(kind, namespace, name, subresource, &patch, false)?)
    }

    /// Deletes an object. It may still be there for a while. Deleting what is gone succeeds.
    pub fn delete(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<()> {
        Ok(self.0.delete(kind, namespace, name, options)?)
    }

    /// Puts an object back as it was before this request changed it, and gives it as it is now; none when there is none. Twice is as good as once.
    pub fn put_back(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Option<Value>> {
        self.0.put_back(kind, namespace, name)?.as_deref().map(object).transpose()
    }

    /// The same for many objects side by side, each by kind, namespace and name; the answers are in their order.
    #[must_use]
    pub fn put_all_back(&self, all: &[(Kind, String, String)]) -> Vec<Result<Option<Value>>> {
        let requests = all.iter().cloned().map(imported::Request::PutBack).collect();
        let maybe = |answer| match answer {
            imported::Reply::Object(text) => object(&text).map(Some),
            imported::Reply::Done => Ok(None),
        };
        self.together(requests).into_iter().map(|answer| answer.and_then(maybe)).collect()
    }

    /// Applies many objects side by side; the answers are in their order.
    #[must_use]
    pub fn apply_all(&self, wanted: &[Value]) -> Vec<Result<Value>> {
        let all = wanted.iter().map(|one| imported::Request::Apply(one.to_string())).collect();
        self.together(all).into_iter().map(|answer| answer.and_then(an_object)).collect()
    }

    /// Reads many objects side by side, each by kind, namespace and name; the answers are in their order.
    #[must_use]
    pub fn get_all(&self, wanted: &[(Kind, String, String)]) -> Vec<Result<Value>> {
        let all = wanted.iter().cloned().map(imported::Request::Get).collect();
        self.together(all).into_iter().map(|answer| answer.and_then(an_object)).collect()
    }

    /// Deletes many objects side by side, each by kind, namespace and name; the answers are in their order.
    #[must_use]
    pub fn delete_all(
        &self,
        gone: &[(Kind, String, String)],
        options: &DeleteOptions,
    ) -> Vec<Result<()>> {
        let delete = |(kind, namespace, name): &(Kind, String, String)| {
            imported::Request::Delete((
                kind.clone(),
                namespace.clone(),
                name.clone(),
                options.clone(),
            ))
        };
        let all = gone.iter().map(delete).collect();
        self.together(all).into_iter().map(|answer| answer.map(drop)).collect()
    }

    /// Evicts many pods side by side, each by namespace and name; the answers are in their order.
    #[must_use]
    pub fn evict_all(&self, pods: &[(String, String)]) -> Vec<Result<()>> {
        let evict = |(namespace, pod): &(String, String)| {
            imported::Request::Evict((namespace.clone(), pod.clone(), None))
        };
        let all = pods.iter().map(evict).collect();
        self.together(all).into_iter().map(|answer| answer.map(drop)).collect()
    }

    fn together(&self, requests: Vec<imported::Request>) -> Vec<Result<imported::Reply>> {
        let answers = self.0.together(&requests);
        answers.into_iter().map(|answer| answer.map_err(ClusterError::from)).collect()
    }

    /// Watches objects, first those that are there.
    pub fn watch(&self, targets: &[Target]) -> Result<Watcher> {
        Ok(Watcher::new(self.0.watch(targets)?))
    }

    /// Opens the log of a pod for the caller.
    pub fn logs(&self, namespace: &str, pod: &str, options: &PodLogOptions) -> Result<Session> {
        Ok(self.0.logs(namespace, pod, options)?)
    }

    /// The log of a pod so far, as its bytes: at most the last lines asked for, and at most 1 MiB of them.
    pub fn read_logs(
        &self,
        namespace: &str,
        pod: &str,
        options: &PodLogOptions,
    ) -> Result<Vec<u8>> {
        Ok(self.0.read_logs(namespace, pod, options)?)
    }

    /// Runs a command in a pod to its end, copies what it writes to the two ends, and gives its exit code.
    pub fn exec(
        &self,
        namespace: &str,
        pod: &str,
        options: &PodExecOptions,
        stdout: &Writer,
        stderr: &Writer,
    ) -> Result<i32> {
        Ok(self.0.exec(namespace, pod, options, stdout, stderr)?)
    }

    /// Runs a command in a pod for the caller.
    pub fn exec_session(
        &self,
        namespace: &str,
        pod: &str,
        options: &PodExecOptions,
    ) -> Result<Session> {
        Ok(self.0.exec_session(namespace, pod, options)?)
    }

    /// Gives a pod's process this input, if there is some, and copies what it writes to the two ends until it ends.
    pub fn attach(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        input: Option<Reader>,
        stdout: &Writer,
        stderr: &Writer,
    ) -> Result<()> {
        Ok(self.0.attach(namespace, pod, container, input, stdout, stderr)?)
    }

    /// Attaches to a pod's process for the caller.
    pub fn attach_session(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        tty: bool,
    ) -> Result<Session> {
        Ok(self.0.attach_session(namespace, pod, container, tty)?)
    }

    /// Opens a port of a pod for the caller.
    pub fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Session> {
        Ok(self.0.port_forward(namespace, pod, port)?)
    }

    /// Asks a pod to go, as a drain does. Evicting what is gone succeeds.
    pub fn evict(&self, namespace: &str, pod: &str, grace_seconds: Option<u32>) -> Result<()> {
        Ok(self.0.evict(namespace, pod, grace_seconds)?)
    }
}

/// The object that the host wrote down.
pub(super) fn object(text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| ClusterError::Failed(format!("the cluster's object is no JSON: {error}")))
}

fn an_object(reply: imported::Reply) -> Result<Value> {
    match reply {
        imported::Reply::Object(text) => object(&text),
        imported::Reply::Done => Ok(Value::Null),
    }
}

//! The trait of Kubernetes clusters. `ensure`-like calls are idempotent: applying twice, deleting or evicting what is gone succeed.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde_json::Value;

use crate::EngineError;
use crate::call::cluster::{
    Change, DeleteOptions, Kind, ObjectPage, Patch, PodExecOptions, PodLogOptions, Selection,
};
use crate::stream::Session;

/// The result of a call to a cluster.
pub type Result<T> = std::result::Result<T, EngineError>;

/// The manager of every field that a server-side apply of ours sets.
pub const FIELD_MANAGER: &str = "gantry";

/// How many objects a page has when nobody says.
pub const PAGE: u32 = 250;

/// What happens to the objects of a watch, in order. It ends with the first error, which is one that cannot be mended by beginning again where it broke.
pub type Changes = BoxStream<'static, Result<Change>>;

/// A Kubernetes cluster. One suite ([`crate::contract::cluster`]) holds every implementation to this.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// Reads an object.
    async fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Value>;
    /// Reads some objects, at most `limit` of them ([`PAGE`] when it is 0).
    async fn list(
        &self,
        kind: &Kind,
        selection: &Selection,
        limit: u32,
        after: &str,
    ) -> Result<ObjectPage>;
    /// Makes an object.
    async fn create(&self, object: &Value, dry_run: bool) -> Result<Value>;
    /// Server-side apply as [`FIELD_MANAGER`], never by force. An object with a `metadata.uid` is that very object or [`EngineError::Conflict`].
    async fn apply(&self, object: &Value, dry_run: bool) -> Result<Value>;
    /// Changes an object, or a subresource of it.
    async fn patch(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Patch,
        dry_run: bool,
    ) -> Result<Value>;
    /// Deletes an object.
    async fn delete(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<()>;
    /// Watches objects: those that are there, [`Change::Listed`], and then what happens, without a gap whatever breaks.
    async fn watch(&self, kind: &Kind, selection: &Selection) -> Result<Changes>;
    /// Reads the log of a pod.
    async fn logs(&self, namespace: &str, pod: &str, options: &PodLogOptions) -> Result<Session>;
    /// Runs a command in a pod; the session ends with its exit code.
    async fn exec(&self, namespace: &str, pod: &str, options: &PodExecOptions) -> Result<Session>;
    /// Attaches to a pod's process.
    async fn attach(&self, namespace: &str, pod: &str, options: &PodExecOptions)
    -> Result<Session>;
    /// Opens a port of a pod.
    async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Session>;
    /// Evicts a pod.
    async fn evict(&self, namespace: &str, pod: &str, grace_seconds: Option<u32>) -> Result<()>;
}

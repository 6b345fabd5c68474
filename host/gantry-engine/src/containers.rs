//! The trait that every container engine implements.

use std::collections::BTreeMap;

use async_trait::async_trait;
use gantry_core::container::{Container, ContainerSpec, Image};

use crate::EngineError;
use crate::call::{
    BuildOptions, ContainerSummary, ExecOptions, ExecState, HttpRequest, HttpResponse, Layer,
    LogOptions, PathStat,
};
use crate::stream::{Output, Reader, Session, Writer};

/// The result of a call to a container engine.
pub type Result<T> = std::result::Result<T, EngineError>;

/// One container engine: everything of the reference's `BuilderDockerClient` and `ExecDockerClient`, and list, logs and HTTP.
///
/// A container is named by its id, a unique prefix of it, or its name. `start` of what runs, `stop` of what does not and `remove` of what is gone succeed. Every implementation passes the
/// suite in [`contract`](mod@crate::contract).
#[async_trait]
pub trait Containers: Send + Sync {
    /// Lists containers by label.
    async fn list(
        &self,
        all: bool,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<ContainerSummary>>;
    /// Makes a container and gives its id.
    async fn create(&self, name: &str, spec: &ContainerSpec) -> Result<String>;
    /// Starts a container.
    async fn start(&self, id: &str) -> Result<()>;
    /// Stops a container, killing it after this many seconds.
    async fn stop(&self, id: &str, seconds: u32) -> Result<()>;
    /// Removes a container with its anonymous volumes.
    async fn remove(&self, id: &str, force: bool) -> Result<()>;
    /// Inspects a container.
    async fn inspect(&self, id: &str) -> Result<Container>;
    /// Waits for a container's end and gives its exit code.
    async fn wait(&self, id: &str) -> Result<i64>;
    /// Makes an image of a container, with these labels on top of the container's, and gives its id.
    async fn commit(
        &self,
        id: &str,
        repository: &str,
        tag: &str,
        comment: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<String>;
    /// Reads a path as a tar archive.
    async fn download(&self, id: &str, path: &str) -> Result<Reader>;
    /// Unpacks a tar archive into a folder.
    async fn upload(&self, id: &str, path: &str, archive: Reader) -> Result<()>;
    /// Tells what a path is.
    async fn stat_path(&self, id: &str, path: &str) -> Result<PathStat>;
    /// Attaches to a container.
    async fn attach(&self, id: &str, logs: bool) -> Result<Session>;
    /// Reads a container's log.
    async fn logs(&self, id: &str, options: &LogOptions) -> Result<Session>;
    /// Asks a published port of a container. Without an answer it is [`EngineError::Failed`]; `Unreachable` is the engine alone.
    async fn http(&self, id: &str, request: &HttpRequest) -> Result<HttpResponse>;
    /// Prepares a command and gives its id.
    async fn create_exec(&self, id: &str, options: &ExecOptions) -> Result<String>;
    /// Runs a prepared command to its end.
    async fn start_exec(&self, exec_id: &str, output: Output) -> Result<()>;
    /// Gives a command's terminal another size.
    async fn resize_exec(&self, exec_id: &str, height: u16, width: u16) -> Result<()>;
    /// Tells what became of a command.
    async fn inspect_exec(&self, exec_id: &str) -> Result<ExecState>;
    /// Runs a command that ends with its session.
    async fn exec_session(&self, id: &str, options: &ExecOptions) -> Result<Session>;
    /// Pulls an image.
    async fn pull_image(&self, image: &str) -> Result<()>;
    /// Inspects an image.
    async fn inspect_image(&self, image: &str) -> Result<Image>;
    /// Gives an image one more name.
    async fn tag_image(&self, image: &str, repository: &str, tag: &str) -> Result<()>;
    /// Removes a name of an image.
    async fn remove_image(&self, image: &str) -> Result<()>;
    /// Lists the layers of an image, newest first.
    async fn image_history(&self, image: &str) -> Result<Vec<Layer>>;
    /// Builds an image from a tar archive.
    async fn build_image(
        &self,
        options: &BuildOptions,
        context: Reader,
        output: Writer,
    ) -> Result<()>;
    /// Pushes an image.
    async fn push_image(&self, image: &str, output: Writer) -> Result<()>;
}

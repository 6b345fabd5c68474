use std::time::Duration;

use gantry_core::container::{Container, ContainerSpec, Image};

use super::{
    BuildOptions, CommitOptions, ContainerSummary, EngineError, ExecOptions, ExecState,
    HttpRequest, HttpResponse, Layer, ListOptions, LogOptions, PathStat, Result,
};
use crate::bindings::gantry::provision::containers as imported;
use crate::convert;
use crate::streams::{Reader, Session, Writer};

/// One Docker host. A container is named by its id, a unique prefix of it, or its name; only what this provisioner owns is seen and touched, unless a grant says otherwise.
///
/// # Errors
///
/// Every call says why the engine, or the policy in front of it, refused.
#[derive(Debug)]
pub struct Client(imported::Client);

impl Client {
    /// A client for the host with this address. Nothing is sent yet.
    pub fn open(node: &str) -> Result<Self> {
        Ok(Self(imported::Client::open(node)?))
    }

    /// The time that every later call on this client has, streams aside; zero is the host's default.
    pub fn set_timeout(&self, time: Duration) {
        self.0.set_timeout(u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
    }

    /// The containers that this provisioner owns, as far as the options want them, with the labels that they ask for.
    pub fn list_containers(&self, options: &ListOptions) -> Result<Vec<ContainerSummary>> {
        Ok(self.0.list_containers(options)?)
    }

    /// Makes a container and gives its id. Docker finds a name when it is empty.
    pub fn create_container(&self, name: &str, spec: &ContainerSpec) -> Result<String> {
        Ok(self.0.create_container(&create_options(name, spec)?)?)
    }

    /// Starts a container. Starting one that runs succeeds.
    pub fn start_container(&self, id: &str) -> Result<()> {
        Ok(self.0.start_container(id)?)
    }

    /// Stops a container, killing it after this many seconds. Stopping one that does not run succeeds.
    pub fn stop_container(&self, id: &str, seconds: u32) -> Result<()> {
        Ok(self.0.stop_container(id, seconds)?)
    }

    /// Removes a container with its anonymous volumes. A running one is refused unless forced. Removing what is gone succeeds.
    pub fn remove_container(&self, id: &str, force: bool) -> Result<()> {
        Ok(self.0.remove_container(id, force)?)
    }

    /// A container, as far as provisioning needs it.
    pub fn inspect_container(&self, id: &str) -> Result<Container> {
        convert::container(&self.0.inspect_container(id)?).map_err(EngineError::Failed)
    }

    /// Waits for a container's end and gives its exit code.
    pub fn wait_container(&self, id: &str) -> Result<i64> {
        Ok(self.0.wait_container(id)?)
    }

    /// Makes an image of a container and gives the image's id.
    pub fn commit_container(&self, id: &str, options: &CommitOptions) -> Result<String> {
        Ok(self.0.commit_container(id, options)?)
    }

    /// A tar archive of a file or folder in a container.
    pub fn download_from_container(&self, id: &str, path: &str) -> Result<Reader> {
        Ok(self.0.download_from_container(id, path)?)
    }

    /// Unpacks a tar archive into a folder of a container.
    pub fn upload_to_container(&self, id: &str, path: &str, archive: Reader) -> Result<()> {
        Ok(self.0.upload_to_container(id, path, archive)?)
    }

    /// What a path in a container is.
    pub fn stat_path(&self, id: &str, path: &str) -> Result<PathStat> {
        Ok(self.0.stat_path(id, path)?)
    }

    /// Copies what a container writes to the two ends until it ends, with what it wrote before when `logs` is set.
    pub fn attach_to_container(
        &self,
        id: &str,
        logs: bool,
        stdout: &Writer,
        stderr: &Writer,
    ) -> Result<()> {
        Ok(self.0.attach_to_container(id, logs, stdout, stderr)?)
    }

    /// Attaches to a container for the caller.
    pub fn attach_session(&self, id: &str, logs: bool) -> Result<Session> {
        Ok(self.0.attach_session(id, logs)?)
    }

    /// Opens the log of a container for the caller.
    pub fn container_logs(&self, id: &str, options: LogOptions) -> Result<Session> {
        Ok(self.0.container_logs(id, options)?)
    }

    /// Asks a port of a container, from the machine that the daemon runs on.
    pub fn http(&self, id: &str, request: &HttpRequest) -> Result<HttpResponse> {
        Ok(self.0.http(id, request)?)
    }

    /// Prepares a command in a container and gives its id.
    pub fn create_exec(&self, id: &str, options: &ExecOptions) -> Result<String> {
        Ok(self.0.create_exec(id, options)?)
    }

    /// Runs a prepared command to its end and copies what it writes to the two ends.
    pub fn start_exec(&self, exec: &str, stdout: &Writer, stderr: &Writer) -> Result<()> {
        Ok(self.0.start_exec(exec, stdout, stderr)?)
    }

    /// Gives a command's terminal another size.
    pub fn resize_exec(&self, exec: &str, height: u16, width: u16) -> Result<()> {
        Ok(self.0.resize_exec(exec, height, width)?)
    }

    /// What became of a command.
    pub fn inspect_exec(&self, exec: &str) -> Result<ExecState> {
        Ok(self.0.inspect_exec(exec)?)
    }

    /// Runs a command for the caller. It ends with the session.
    pub fn exec_session(&self, id: &str, options: &ExecOptions) -> Result<Session> {
        Ok(self.0.exec_session(id, options)?)
    }

    /// Pulls an image.
    pub fn pull_image(&self, image: &str) -> Result<()> {
        Ok(self.0.pull_image(image)?)
    }

    /// Pulls an image unless the host has it, then makes a container of it.
    pub fn pull_and_create_container(&self, name: &str, spec: &ContainerSpec) -> Result<String> {
        Ok(self.0.pull_and_create_container(&create_options(name, spec)?)?)
    }

    /// An image, as far as provisioning needs it.
    pub fn inspect_image(&self, image: &str) -> Result<Image> {
        convert::image(&self.0.inspect_image(image)?).map_err(EngineError::Failed)
    }

    /// Gives an image one more name.
    pub fn tag_image(&self, image: &str, repository: &str, tag: &str) -> Result<()> {
        Ok(self.0.tag_image(image, repository, tag)?)
    }

    /// Removes a name of an image, and the image with its last one. Removing what is gone succeeds.
    pub fn remove_image(&self, image: &str) -> Result<()> {
        Ok(self.0.remove_image(image)?)
    }

    /// The layers of an image, newest first.
    pub fn image_history(&self, image: &str) -> Result<Vec<Layer>> {
        Ok(self.0.image_history(image)?)
    }

    /// Builds an image from a tar archive and copies what the build writes to `output`.
    pub fn build_image(
        &self,
        options: &BuildOptions,
        context: Reader,
        output: &Writer,
    ) -> Result<()> {
        Ok(self.0.build_image(options, context, output)?)
    }

    /// Pushes an image and copies what Docker tells about it to `output`.
    pub fn push_image(&self, image: &str, output: &Writer) -> Result<()> {
        Ok(self.0.push_image(image, output)?)
    }
}

/// The body of a create as it crosses the border.
pub(super) fn create_options(name: &str, spec: &ContainerSpec) -> Result<imported::CreateOptions> {
    let body =
        serde_json::to_string(spec).map_err(|error| EngineError::Invalid(error.to_string()))?;
    Ok(imported::CreateOptions { name: name.to_owned(), body })
}

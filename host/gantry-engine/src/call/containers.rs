//! Calls to a container engine, as values.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::container::ContainerSpec;
use serde::{Deserialize, Serialize};

/// A call to a container engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainersCall {
    /// List containers.
    List {
        /// Also those that do not run.
        all: bool,
        /// Only those with all of these labels; an empty value matches any.
        labels: BTreeMap<String, String>,
        /// The keys of the labels that the caller is told of each container; without a set, all labels.
        label_keys: Option<BTreeSet<String>>,
    },
    /// Make a container.
    Create {
        /// Its name; the engine finds one when empty.
        name: String,
        /// What it is.
        spec: Box<ContainerSpec>,
    },
    /// Start a container.
    Start {
        /// The container.
        id: String,
    },
    /// Stop a container.
    Stop {
        /// The container.
        id: String,
        /// The seconds before it is killed.
        seconds: u32,
    },
    /// Remove a container with its anonymous volumes.
    Remove {
        /// The container.
        id: String,
        /// Kill it first if it runs.
        force: bool,
    },
    /// Inspect a container.
    Inspect {
        /// The container.
        id: String,
    },
    /// Wait for a container's end.
    Wait {
        /// The container.
        id: String,
    },
    /// Make an image of a container.
    Commit {
        /// The container.
        id: String,
        /// The repository of the image.
        repository: String,
        /// Its tag.
        tag: String,
        /// A line about it.
        comment: String,
        /// Labels of the image that win over the container's. Plugins set none: the identity layer takes its marks off with them.
        #[serde(default)]
        labels: BTreeMap<String, String>,
    },
    /// Read a path as a tar archive; the reply carries a reader.
    Download {
        /// The container.
        id: String,
        /// The path.
        path: String,
    },
    /// Unpack a tar archive, the request's input, into a folder.
    Upload {
        /// The container.
        id: String,
        /// The folder.
        path: String,
    },
    /// Tell what a path is.
    StatPath {
        /// The container.
        id: String,
        /// The path.
        path: String,
    },
    /// Copy what the container writes to the request's output, until it ends.
    AttachCopy {
        /// The container.
        id: String,
        /// What it wrote before comes first.
        logs: bool,
    },
    /// Attach; the reply carries a session.
    Attach {
        /// The container.
        id: String,
        /// What it wrote before comes first.
        logs: bool,
    },
    /// Read the log; the reply carries a session.
    Logs {
        /// The container.
        id: String,
        /// Which lines.
        options: LogOptions,
    },
    /// Ask a published port of a container.
    Http {
        /// The container.
        id: String,
        /// The request.
        request: HttpRequest,
    },
    /// Prepare a command.
    CreateExec {
        /// The container.
        id: String,
        /// The command.
        options: ExecOptions,
    },
    /// Run a prepared command to its end and copy what it writes to the request's output.
    StartExec {
        /// The exec.
        exec_id: String,
    },
    /// Give a command's terminal another size.
    ResizeExec {
        /// The exec.
        exec_id: String,
        /// Rows.
        height: u16,
        /// Columns.
        width: u16,
    },
    /// Tell what became of a command.
    InspectExec {
        /// The exec.
        exec_id: String,
    },
    /// Run a command; the reply carries a session.
    ExecSession {
        /// The container.
        id: String,
        /// The command.
        options: ExecOptions,
    },
    /// Pull an image.
    PullImage {
        /// The image.
        image: String,
    },
    /// Inspect an image.
    InspectImage {
        /// The image.
        image: String,
    },
    /// Give an image one more name.
    TagImage {
        /// The image.
        image: String,
        /// The repository of the new name.
        repository: String,
        /// Its tag.
        tag: String,
    },
    /// Remove a name of an image.
    RemoveImage {
        /// The name.
        image: String,
    },
    /// List the layers of an image.
    ImageHistory {
        /// The image.
        image: String,
    },
    /// Build an image from the request's input and copy what the build writes to the request's output.
    BuildImage {
        /// How.
        options: BuildOptions,
    },
    /// Push an image and copy what the engine tells to the request's output.
    PushImage {
        /// The image.
        image: String,
    },
}

/// How to read a container's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOptions {
    /// How many of the last lines come first.
    pub lines: u32,
    /// Whether lines still to come follow.
    pub follow: bool,
    /// Whether each line starts with its time.
    pub timestamps: bool,
}

/// A request to a published port of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// The method.
    pub method: String,
    /// `http` or `https`; certificates are not verified.
    pub scheme: String,
    /// The path with its query, starting with a slash.
    pub path: String,
    /// The container's port (`8888/tcp`).
    pub port: String,
    /// The milliseconds for all of it.
    pub timeout: u32,
}

/// The answer to such a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// The body, cut after 64 KiB.
    pub body: Vec<u8>,
}

/// A command for a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOptions {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables on top of the container's.
    pub env: Vec<(String, String)>,
    /// The user; the container's when empty.
    pub user: String,
    /// The folder; the container's when empty.
    pub working_dir: String,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Whether it gets input.
    pub stdin: bool,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecState {
    /// Whether it still runs.
    pub running: bool,
    /// Its exit code, once it has one.
    pub exit_code: Option<i32>,
}

/// How to build an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildOptions {
    /// The name of the new image.
    pub name: String,
    /// The path of the Dockerfile in the context; `Dockerfile` when empty.
    pub dockerfile: String,
    /// The arguments of the build.
    pub args: BTreeMap<String, String>,
    /// Whether layers built before may be used again.
    pub cache: bool,
}

/// A container as a list shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSummary {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its image, as it was named at creation.
    pub image: String,
    /// Docker's word for its state.
    pub state: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A file in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStat {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its mode bits, as Go's `os.FileMode` has them.
    pub mode: u32,
    /// Where it points to when it is a link.
    pub link_target: String,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its id, or `<missing>`.
    pub id: String,
    /// What made it.
    pub created_by: String,
    /// Its size in bytes.
    pub size: u64,
    /// The names of the image that ends here.
    pub tags: Vec<String>,
}

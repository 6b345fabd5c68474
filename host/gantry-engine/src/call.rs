//! Host calls and their replies as values that can be written down.

pub mod cluster;
mod containers;
mod nature;
mod routers;

use gantry_core::container::{Container, Image};
use gantry_core::image::ImageMetadata;
use gantry_core::{App, AppRouter, EnvVar, Unit, Volume};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use self::cluster::ClusterCall;
use self::cluster::{ClusterInfo, ObjectPage};
pub use self::containers::{
    BuildOptions, ContainerSummary, ContainersCall, ExecOptions, ExecState, HttpRequest,
    HttpResponse, Layer, LogOptions, PathStat,
};
pub use self::routers::RoutersCall;
use crate::stream::{Output, Reader, Stream};

/// One call of a plugin out of the sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// The Docker hosts the provisioner was given.
    Nodes,
    /// A call to the container engine of a node.
    Containers {
        /// The node's address.
        node: String,
        /// The call.
        call: ContainersCall,
    },
    /// The clusters the provisioner was given.
    Clusters,
    /// A call to a cluster.
    Cluster {
        /// The cluster's name.
        cluster: String,
        /// The call.
        call: Box<ClusterCall>,
    },
    /// A call to the plugin's durable keys.
    State(StateCall),
    /// A call about an app.
    Apps(AppsCall),
    /// A call about the images of apps.
    Images(ImagesCall),
    /// A call about the routes to an app.
    Routers(RoutersCall),
    /// A key of the configuration.
    Config {
        /// The key, a colon between tables.
        key: String,
    },
}

/// A call to the plugin's durable keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateCall {
    /// Read a key.
    Get {
        /// The key.
        key: String,
    },
    /// Write a key if its version is as expected.
    PutIf {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// The version expected; none if the key must not exist.
        expected: Option<u64>,
    },
    /// Delete a key if its version is as expected.
    DeleteIf {
        /// The key.
        key: String,
        /// The version expected.
        expected: u64,
    },
    /// Read many keys.
    List {
        /// What the keys start with.
        prefix: String,
        /// The key to go on after.
        after: Option<String>,
        /// How many; 0 for as many as are given at once.
        limit: u32,
    },
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// Grows with every write of the key, never used again for it.
    pub version: u64,
}

/// Some of the entries, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPage {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The key to ask after for the next page.
    pub next: Option<String>,
}

impl EntryPage {
    /// The most bytes of keys and values in one page.
    const BYTES: usize = 4 << 20;

    /// The first of these entries, which come by key: at most `limit` (0: any number), at least one, and as many as one page carries. No more are taken than the one
    /// behind the last.
    ///
    /// # Errors
    /// The first error among them.
    pub fn first<E>(
        entries: impl IntoIterator<Item = Result<Entry, E>>,
        limit: u32,
    ) -> Result<Self, E> {
        let limit = match limit {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let mut page = Self::default();
        let mut bytes = 0_usize;
        for entry in entries {
            let entry = entry?;
            bytes = bytes.saturating_add(entry.key.len()).saturating_add(entry.value.len());
            let full = page.entries.len() >= limit || bytes > Self::BYTES;
            if full && let Some(last) = page.entries.last() {
                page.next = Some(last.key.clone());
                break;
            }
            page.entries.push(entry);
        }
        Ok(page)
    }
}

/// A call about an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppsCall {
    /// The app itself.
    Get {
        /// The app's name.
        name: String,
    },
    /// Its environment.
    Envs {
        /// The app's name.
        name: String,
    },
    /// The environment of one unit.
    UnitEnvs {
        /// The app's name.
        name: String,
        /// The process.
        process: String,
        /// Whether it is the unit of a deploy.
        is_deploy: bool,
    },
    /// Its routers.
    Routers {
        /// The app's name.
        name: String,
    },
    /// Its volumes.
    Volumes {
        /// The app's name.
        name: String,
    },
    /// Tell bound services about a unit.
    BindUnit {
        /// The app's name.
        name: String,
        /// The unit.
        unit: Box<Unit>,
    },
    /// Tell bound services that a unit is gone.
    UnbindUnit {
        /// The app's name.
        name: String,
        /// The unit.
        unit: Box<Unit>,
    },
    /// Set how many units it uses.
    SetQuotaInUse {
        /// The app's name.
        name: String,
        /// The number.
        units: i32,
    },
    /// Lock it for the operation under way; the lock comes beside the reply.
    Lock {
        /// The app's name.
        name: String,
    },
}

/// A call about the images of apps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImagesCall {
    /// Reserve the next name.
    Reserve {
        /// The app's name.
        app: String,
    },
    /// Make an image current.
    Append {
        /// The app's name.
        app: String,
        /// The image.
        image: String,
    },
    /// The current image.
    Current {
        /// The app's name.
        app: String,
    },
    /// The images that can be returned to.
    History {
        /// The app's name.
        app: String,
    },
    /// What is known of an image.
    GetMetadata {
        /// The image.
        image: String,
    },
    /// Write down what is known of an image.
    SaveMetadata {
        /// The image.
        image: String,
        /// A JSON object.
        custom_data: String,
    },
    /// Forget an image.
    Forget {
        /// The app's name.
        app: String,
        /// The image.
        image: String,
    },
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It is done; a stream or a lock may come with it.
    Done,
    /// An id, a name.
    Text(String),
    /// A name, a configured value, or none.
    OptionalText(Option<String>),
    /// Names, addresses.
    Texts(Vec<String>),
    /// A number: a version, an exit code.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// Containers.
    Containers(Vec<ContainerSummary>),
    /// A container.
    Container(Box<Container>),
    /// An image.
    Image(Box<Image>),
    /// Layers.
    Layers(Vec<Layer>),
    /// A file.
    PathStat(PathStat),
    /// A command.
    ExecState(ExecState),
    /// An answer.
    Http(HttpResponse),
    /// A key, if there is one.
    Entry(Option<Entry>),
    /// Keys.
    Entries(EntryPage),
    /// An app.
    App(Box<App>),
    /// An environment.
    Envs(Vec<EnvVar>),
    /// The environment of a unit.
    UnitEnvs(Vec<(String, String)>),
    /// Routers.
    Routers(Vec<AppRouter>),
    /// Volumes.
    Volumes(Vec<Volume>),
    /// Clusters.
    Clusters(Vec<ClusterInfo>),
    /// An object of a cluster.
    Object(Value),
    /// Objects of a cluster.
    Objects(ObjectPage),
    /// What is known of an image.
    Metadata(Option<Box<ImageMetadata>>),
}

/// A call with the bytes that flow beside it.
pub struct Request {
    /// The call.
    pub call: Call,
    /// What it reads.
    pub input: Option<Reader>,
    /// What it writes.
    pub output: Option<Output>,
    /// Of a call that outlives whoever asked: cancelled when nobody waits for it any more. What was not sent by then is not sent.
    pub given_up: Option<CancellationToken>,
}

impl Request {
    /// A call with the bytes beside it.
    #[must_use]
    pub fn new(call: Call, input: Option<Reader>, output: Option<Output>) -> Self {
        Self { call, input, output, given_up: None }
    }
}

impl From<Call> for Request {
    fn from(call: Call) -> Self {
        Self::new(call, None, None)
    }
}

/// A reply with what comes beside it.
pub struct Response {
    /// The reply.
    pub reply: Reply,
    /// The stream or the lock it carries.
    pub stream: Option<Stream>,
}

impl From<Reply> for Response {
    fn from(reply: Reply) -> Self {
        Self { reply, stream: None }
    }
}

//! Calls to a Kubernetes cluster, as values.

use std::collections::BTreeMap;
use std::fmt;

use gantry_core::policy::object::at;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A cluster that a provisioner was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// Its name.
    pub name: String,
    /// Where its API server is, for people.
    pub address: String,
    /// The pools whose apps it runs.
    pub pools: Vec<String>,
    /// Whether it runs the apps of every pool that no cluster names.
    pub is_default: bool,
    /// The namespace for apps.
    pub namespace: String,
    /// The operator's settings for it, without credentials.
    pub custom_data: BTreeMap<String, String>,
}

/// What kind of object, as manifests spell it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kind {
    /// Group and version (`apps/v1`, `v1`).
    pub api_version: String,
    /// The kind (`Deployment`).
    pub kind: String,
}

impl Kind {
    /// A kind.
    #[must_use]
    pub fn new(api_version: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { api_version: api_version.into(), kind: kind.into() }
    }

    /// The kind that an object says it is; empty words for what it does not say.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        let word = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        Self::new(word("apiVersion"), word("kind"))
    }

    /// Its group; empty for the core.
    #[must_use]
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &str {
        self.api_version.rsplit('/').next().unwrap_or_default()
    }
}

/// A word of an object's metadata; empty when it does not say it.
#[must_use]
pub fn word<'a>(object: &'a Value, key: &str) -> &'a str {
    at(object, &["metadata", key]).and_then(Value::as_str).unwrap_or_default()
}

/// Says a word in a document's metadata.
pub(crate) fn say(document: &mut Value, key: &str, value: &str) {
    let Some(document) = document.as_object_mut() else { return };
    let metadata = document.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert(key.to_owned(), value.into());
    }
}

/// As grants spell it: the kind, and its group when it has one (`Deployment.apps`, `Pod`).
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group() {
            "" => f.write_str(&self.kind),
            group => write!(f, "{}.{group}", self.kind),
        }
    }
}

/// Which objects are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The namespace; empty is every namespace.
    pub namespace: String,
    /// A label selector; every object when empty.
    pub labels: String,
    /// A field selector; every object when empty.
    pub fields: String,
}

/// How an object is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Patch {
    /// A merge patch (RFC 7386).
    Merge(Value),
    /// A strategic merge patch.
    Strategic(Value),
    /// A JSON patch (RFC 6902).
    Json(Value),
}

/// What becomes of what an object owns when it is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Propagation {
    /// It goes after the object.
    #[default]
    Background,
    /// It goes before the object.
    Foreground,
    /// It stays.
    Orphan,
}

/// How an object is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteOptions {
    /// What becomes of what it owns.
    pub propagation: Propagation,
    /// The seconds its processes have; the object's own when there is none.
    pub grace_seconds: Option<u32>,
    /// Only the object with this uid; any when empty.
    pub uid: String,
    /// Only the object with this resource version; any when empty.
    pub resource_version: String,
    /// Only say whether it could be done.
    pub dry_run: bool,
}

/// Which lines of a pod's log are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodLogOptions {
    /// The container; the only one when empty.
    pub container: String,
    /// How many of the last lines come first.
    pub lines: u32,
    /// Whether lines still to come follow.
    pub follow: bool,
    /// Whether each line starts with its time.
    pub timestamps: bool,
    /// Those of the container's life before this one.
    pub previous: bool,
}

/// A command for a container of a pod, or its own process when there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodExecOptions {
    /// The container; the only one when empty.
    pub container: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Whether it gets input.
    pub stdin: bool,
}

/// A call to a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterCall {
    /// Read an object.
    Get {
        /// Its kind.
        kind: Kind,
        /// Its namespace; empty for kinds without.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Read some objects.
    List {
        /// Their kind.
        kind: Kind,
        /// Which.
        selection: Selection,
        /// How many at most; 0 is the host's choice.
        limit: u32,
        /// Where the page before ended; empty for the first.
        after: String,
    },
    /// Make an object.
    Create {
        /// The object.
        object: Value,
        /// Only say whether it could be done.
        dry_run: bool,
    },
    /// Make an object be as this one says.
    Apply {
        /// The object, as far as it is ours to say.
        object: Value,
        /// Only say whether it could be done.
        dry_run: bool,
    },
    /// Put an object back as it was before the operation changed it.
    PutBack {
        /// Its kind.
        kind: Kind,
        /// Its namespace; empty for kinds without.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Change an object.
    Patch {
        /// Its kind.
        kind: Kind,
        /// Its namespace; empty for kinds without.
        namespace: String,
        /// Its name.
        name: String,
        /// The subresource; the object itself when empty.
        subresource: String,
        /// The change.
        patch: Patch,
        /// Only say whether it could be done.
        dry_run: bool,
    },
    /// Delete an object.
    Delete {
        /// Its kind.
        kind: Kind,
        /// Its namespace; empty for kinds without.
        namespace: String,
        /// Its name.
        name: String,
        /// How.
        options: DeleteOptions,
    },
    /// Watch objects; the reply carries the events.
    Watch {
        /// Their kind.
        kind: Kind,
        /// Which.
        selection: Selection,
    },
    /// Read the log of a pod; the reply carries a session.
    Logs {
        /// Its namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// Which lines.
        options: PodLogOptions,
    },
    /// Run a command in a pod, copy what it writes to the request's output, and tell its exit code.
    Exec {
        /// Its namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The command.
        options: PodExecOptions,
    },
    /// Run a command in a pod; the reply carries a session.
    ExecSession {
        /// Its namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The command.
        options: PodExecOptions,
    },
    /// Give a pod's process the request's input and copy what it writes to the request's output.
    Attach {
        /// Its namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The container, and whether the process has a terminal; there is no command.
        options: PodExecOptions,
    },
    /// Attach to a pod's process; the reply carries a session.
    AttachSession {
        /// Its namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The container, and whether the process has a terminal; there is no command.
        options: PodExecOptions,
    },
    /// Open a port of a pod; the reply carries a session.
    PortForward {
        /// Its namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The port.
        port: u16,
    },
    /// Ask a pod to go.
    Evict {
        /// Its namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The seconds its processes have; its own when there is none.
        grace_seconds: Option<u32>,
    },
}

/// Some objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectPage {
    /// The objects.
    pub items: Vec<Value>,
    /// Where the next page starts; empty when this is the last.
    pub next: String,
    /// The version of the list.
    pub resource_version: String,
}

/// What happened to an object that is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is there and looks like this.
    Applied(Value),
    /// It is gone; of how it looked last, only `metadata` is sure to be there.
    Deleted(Value),
    /// All that was there when the watch began has been told.
    Listed,
}

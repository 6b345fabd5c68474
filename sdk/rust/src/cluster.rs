//! Kubernetes clusters, spoken to in Kubernetes' own words: objects are JSON, of any group, version and kind.

mod client;
mod error;
mod watcher;

pub use client::{Client, List};
pub use error::{Cause, ClusterError, Invalidity};
pub use watcher::{Change, Watcher};

pub use crate::bindings::gantry::provision::cluster::{
    ClusterInfo, DeleteOptions, Kind, PodExecOptions, PodLogOptions, Propagation, Selection, Target,
};

use crate::bindings::gantry::provision::cluster as imported;

/// The result of a call to a cluster.
pub type Result<T> = core::result::Result<T, ClusterError>;

/// The clusters that the operator gave to this provisioner, by name.
#[must_use]
pub fn clusters() -> Vec<ClusterInfo> {
    imported::clusters()
}

impl Kind {
    /// A kind, as manifests spell it.
    #[must_use]
    pub fn new(api_version: &str, kind: &str) -> Self {
        Self { api_version: api_version.to_owned(), kind: kind.to_owned() }
    }
}

impl Selection {
    /// Everything in a namespace.
    #[must_use]
    pub fn of(namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        Self { namespace, labels: String::new(), fields: String::new() }
    }

    /// The same with a label selector.
    #[must_use]
    pub fn labelled(mut self, labels: impl Into<String>) -> Self {
        self.labels = labels.into();
        self
    }

    /// The same with a field selector.
    #[must_use]
    pub fn with_fields(mut self, fields: impl Into<String>) -> Self {
        self.fields = fields.into();
        self
    }
}

impl Default for DeleteOptions {
    fn default() -> Self {
        Self {
            propagation: Propagation::Background,
            grace_seconds: None,
            uid: String::new(),
            resource_version: String::new(),
            dry_run: false,
        }
    }
}

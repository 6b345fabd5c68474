//! How everything that is created tells what it belongs to (spec 4).
//!
//! A [`LabelSet`] keeps bare keys and a prefix (`tsuru.io/` on Kubernetes, none on Docker). What leaves it carries the prefix; what came back from an engine and is
//! stored with prefixed keys reads the same. No key or value is cut or cleaned here: an engine that has limits says so itself.

mod constructors;
mod views;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use constructors::{
    NodeContainerOptions, NodeOptions, ProcessOptions, RouterTypes, ServiceAccountOptions,
    ServiceExtension, ServiceOptions, UnknownRouterType, VolumeOptions,
};

const APP_NAME: &str = "app-name";
const APP_PLATFORM: &str = "app-platform";
const APP_POOL: &str = "app-pool";
const APP_PROCESS: &str = "app-process";
const APP_REPLICAS: &str = "app-process-replicas";
const BUILDER: &str = "builder";
const BUILD_IMAGE: &str = "build-image";
const IAAS_ID: &str = "iaas-id";
const IS_ASLEEP: &str = "is-asleep";
const IS_BUILD: &str = "is-build";
const IS_DEPLOY: &str = "is-deploy";
const IS_HEADLESS_SERVICE: &str = "is-headless-service";
const IS_ISOLATED_RUN: &str = "is-isolated-run";
const IS_NODE_CONTAINER: &str = "is-node-container";
const IS_SERVICE: &str = "is-service";
const IS_STOPPED: &str = "is-stopped";
const IS_TSURU: &str = "is-tsuru";
const NODE_ADDR: &str = "internal-node-addr";
const NODE_CONTAINER_NAME: &str = "node-container-name";
const NODE_CONTAINER_POOL: &str = "node-container-pool";
const NODE_INTERNAL: &str = "internal-";
const NODE_POOL: &str = "pool";
const PROVISIONER: &str = "provisioner";
const RESTARTS: &str = "restarts";
const ROUTER_NAME: &str = "router-name";
const ROUTER_TYPE: &str = "router-type";
const VOLUME_NAME: &str = "volume-name";
const VOLUME_PLAN: &str = "volume-plan";
const VOLUME_POOL: &str = "volume-pool";

/// The cluster of a node carries this key whatever the prefix of the set.
const CLUSTER: &str = "tsuru.io/cluster";

/// Keys with values.
pub type Labels = BTreeMap<String, String>;

/// A set of labels: keys as they are stored, and the prefix they get on the way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelSet {
    /// The keys as they are stored, usually bare.
    pub labels: Labels,
    /// What comes before each key outside; may be empty.
    pub prefix: String,
}

impl LabelSet {
    /// A set with these keys as they are stored.
    #[must_use]
    pub fn new(labels: Labels, prefix: impl Into<String>) -> Self {
        Self { labels, prefix: prefix.into() }
    }

    /// Writes a bare key. A key that was read back with its prefix stays beside it and still wins when it is read.
    fn set(&mut self, key: &str, value: impl Into<String>) {
        self.labels.insert(key.to_owned(), value.into());
    }

    fn set_flag(&mut self, key: &str, value: bool) {
        self.set(key, value.to_string());
    }
}

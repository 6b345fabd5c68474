//! Machines of a pool: how they are written down, and how they are found (spec 1.4, 3.1).

mod containers;
mod groups;
mod options;
mod search;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::go;
use crate::labels::Labels;

pub use containers::{
    CONFIG_KEY, EntryConfig, EntryHostConfig, EntryLog, EntryPort, NodeContainer,
    NodeContainerEntry, NodeContainerPools, NodeContainers, WrongNodeContainers, is_pinnable,
    pinned,
};
pub use groups::{MetaWithFrequency, MetadataGroups, UnbalancedMetadata, split_metadata};
pub use options::{
    AddNodeOptions, NodeCheckResult, NodeStatusData, RebalanceOptions, RemoveNodeOptions,
    UnitStatusData, UpdateNodeOptions,
};
pub use search::{NodeLookupError, NodeSearch, find_node_by_addrs};

/// A machine of a pool, as a provisioner tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its address, a URL or whatever else its provisioner uses.
    pub address: String,
    /// Its id at the machine's provider; may be empty.
    pub iaas_id: String,
    /// Its pool.
    pub pool: String,
    /// Its state, in the provisioner's words.
    pub status: String,
    /// What the platform wrote down about it, keys with the backend's prefix.
    pub metadata: Labels,
    /// The same, keys without the prefix.
    pub metadata_no_prefix: Labels,
    /// What else is known of it.
    pub extra_data: Labels,
    /// The provisioner it belongs to.
    pub provisioner: Option<String>,
}

/// A node as it is stored and sent: the reference's `NodeSpec`, its keys in that order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeSpec {
    /// Its address.
    pub address: String,
    /// Its id at the machine's provider.
    #[serde(rename = "IaaSID")]
    pub iaas_id: String,
    /// Extra data and metadata together; the metadata wins.
    pub metadata: BTreeMap<String, String>,
    /// Its state.
    pub status: String,
    /// Its pool.
    pub pool: String,
    /// The name of its provisioner; empty when it has none.
    pub provisioner: String,
}

impl From<&Node> for NodeSpec {
    fn from(node: &Node) -> Self {
        let mut metadata = node.extra_data.clone();
        metadata.extend(node.metadata.clone());
        Self {
            address: node.address.clone(),
            iaas_id: node.iaas_id.clone(),
            metadata,
            status: node.status.clone(),
            pool: node.pool.clone(),
            provisioner: node.provisioner.clone().unwrap_or_default(),
        }
    }
}

impl Node {
    /// The reference's JSON of a node, byte for byte.
    #[must_use]
    pub fn reference_json(&self) -> String {
        go::to_json(&NodeSpec::from(self))
    }
}

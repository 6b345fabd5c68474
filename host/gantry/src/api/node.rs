//! Nodes: the machines of pools.

use std::collections::BTreeMap;

use gantry_core::Unit;
use gantry_core::node::Node;
use serde::{Deserialize, Serialize};

use super::{Problem, Secret};

/// The nodes of every provisioner that has some.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeList {
    /// The nodes.
    pub items: Vec<Node>,
    /// Why some of them may be missing: the provisioners that could not tell theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// A node with what runs on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The node.
    #[serde(flatten)]
    pub node: Node,
    /// The units on it; none when the provisioner could not tell.
    pub units: Option<Vec<Unit>>,
    /// How it did of late; none when its provisioner does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<NodeHealth>,
    /// Why the units, or how it did, are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// How a node did of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// How often it failed since it last answered.
    pub failures: u32,
    /// Whether it has ever answered.
    pub has_answered: bool,
}

/// A node to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewNode {
    /// Its address.
    pub address: String,
    /// Its pool.
    pub pool: String,
    /// Its id at the machine's provider.
    pub iaas_id: String,
    /// What to say about it. The keys `address`, `pool` and `iaas-id` are the fields above, where those are empty.
    pub metadata: BTreeMap<String, String>,
    /// Whether the machine exists; otherwise a provider would have to make it.
    pub register: bool,
    /// The seconds to wait until it is ready; 0 is not to wait.
    pub wait: u32,
    /// Its provisioner; the one of the pool when empty.
    pub provisioner: String,
    /// The certificate authority of its engine, as PEM; empty for none.
    pub ca_cert: String,
    /// The certificate for its engine, as PEM; empty for none.
    pub client_cert: String,
    /// The key of that certificate, as PEM; empty for none. It is shown to nobody.
    pub client_key: Secret,
}

impl Default for NewNode {
    fn default() -> Self {
        Self {
            address: String::new(),
            pool: String::new(),
            iaas_id: String::new(),
            metadata: BTreeMap::new(),
            register: true,
            wait: 0,
            provisioner: String::new(),
            ca_cert: String::new(),
            client_cert: String::new(),
            client_key: Secret::default(),
        }
    }
}

/// A change of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeChange {
    /// Its new pool; the old one when empty.
    pub pool: String,
    /// What to say about it; an empty value takes the key away.
    pub metadata: BTreeMap<String, String>,
    /// Whether it takes units again.
    pub enable: bool,
    /// Whether it takes no new units from now on.
    pub disable: bool,
}

/// How a node is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeRemoval {
    /// Whether its units are left to their fate instead of being moved away first.
    pub no_rebalance: bool,
}

/// Units that are spread anew over nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rebalance {
    /// Only in this pool; in every one when empty.
    pub pool: String,
    /// Only from nodes with all of this metadata.
    pub metadata: BTreeMap<String, String>,
    /// Only units of these apps; of all when empty.
    pub apps: Vec<String>,
    /// Whether to tell only what would move.
    pub dry: bool,
    /// Whether to spread also what is even enough.
    pub force: bool,
}

/// What a node's agent was told about a unit that it named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedUnit {
    /// The unit's id, as the agent named it.
    pub id: String,
    /// Whether there is such a unit: an agent may remove what nobody knows.
    pub found: bool,
}

/// Where node containers are upgraded or removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolChoice {
    /// In which pool; in every one when empty.
    pub pool: String,
}

//! What is said about nodes: by operators who add, change and remove them, and by the agents on them (spec 1.5).

use serde::{Deserialize, Serialize};

use crate::labels::Labels;
use crate::{Error, Status};

/// A machine to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AddNodeOptions {
    /// Its address.
    pub address: String,
    /// Its pool.
    pub pool: String,
    /// What the infrastructure calls it.
    pub iaas_id: String,
    /// What to say about it.
    pub metadata: Labels,
    /// Whether it exists already; otherwise somebody has to make it.
    pub register: bool,
    /// The certificate authority of its engine, as PEM; empty for none.
    pub ca_cert: Vec<u8>,
    /// The certificate for its engine, as PEM; empty for none.
    pub client_cert: Vec<u8>,
    /// The key of that certificate, as PEM; empty for none.
    pub client_key: Vec<u8>,
    /// The seconds to wait until it is ready; 0 is not to wait.
    pub wait: u32,
}

/// A change of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateNodeOptions {
    /// Its address.
    pub address: String,
    /// Its new pool; the old one when empty.
    pub pool: String,
    /// What to say about it; an empty value takes the key away.
    pub metadata: Labels,
    /// Whether it takes units again.
    pub enable: bool,
    /// Whether it takes no new units from now on.
    pub disable: bool,
}

impl UpdateNodeOptions {
    /// Checks that the change is one.
    ///
    /// # Errors
    /// It enables and disables.
    pub fn check(&self) -> Result<(), Error> {
        if self.enable && self.disable {
            return Err(Error::InvalidArgument(
                "A node can't be enabled and disabled simultaneously.".to_owned(),
            ));
        }
        Ok(())
    }
}

/// How a machine is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoveNodeOptions {
    /// Its address.
    pub address: String,
    /// Whether its units are moved away first.
    pub rebalance: bool,
}

/// What is spread anew over machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RebalanceOptions {
    /// Only this pool; every one when empty.
    pub pool: String,
    /// Only from machines with all of this metadata.
    pub metadata_filter: Labels,
    /// Only units of these apps; of all when empty.
    pub app_filter: Vec<String>,
    /// Whether to tell only what would move.
    pub dry: bool,
    /// Whether to spread also what is even enough.
    pub force: bool,
}

/// What a machine's agent says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatusData {
    /// The machine's addresses.
    pub addresses: Vec<String>,
    /// Its units.
    pub units: Vec<UnitStatusData>,
    /// Its checks.
    pub checks: Vec<NodeCheckResult>,
}

/// What a machine's agent says of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitStatusData {
    /// The unit's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How it is.
    pub status: Option<Status>,
}

/// What a machine's agent says of a check of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeCheckResult {
    /// Which check.
    pub name: String,
    /// What went wrong; empty when nothing did.
    pub error: String,
    /// Whether it is well.
    pub successful: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_enabled_or_disabled_and_not_both() {
        let both = UpdateNodeOptions { enable: true, disable: true, ..Default::default() };
        let error = both.check().unwrap_err().to_string();
        assert_eq!(error, "A node can't be enabled and disabled simultaneously.");
        assert!(UpdateNodeOptions { enable: true, ..Default::default() }.check().is_ok());
        assert!(UpdateNodeOptions::default().check().is_ok());
    }
}

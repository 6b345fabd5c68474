//! Which host a unit goes to, which unit goes first, which units change places (spec 5.11, 5.12).
//!
//! Pure: nodes and units come in, choices come out. Nothing here knows a clock, an engine or who asked.
//!
//! | file | for |
//! |---|---|
//! | `candidates` | the nodes of a pool, and why there is none |
//! | `memory` | how much of a node's memory may be promised |
//! | `groups` | hosts that their metadata sets apart from others |
//! | `ranking` | the best host for one more or one less, kept up to date change by change |
//! | `placer` | units that come and go, each choice in sight of those before |
//! | `rebalance` | when it is worth it to move units, and where each goes |

mod candidates;
mod groups;
mod memory;
#[cfg(test)]
mod naive;
mod placer;
mod ranking;
mod rebalance;
#[cfg(test)]
mod work;

use std::collections::HashMap;

use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::gantry_core::url::url_to_host;

pub use candidates::{NoPlace, Node, candidates};
pub use memory::Memory;
pub use placer::{Place, Placer, Removed};
pub use rebalance::{
    Cluster, Filter, Move, Plan, moved, moving, plan, rebalance, stays, would_move,
};

/// Where a unit is: the address of its node, or the machine alone where nothing else was written down.
fn place_of(unit: &UnitRecord) -> &str {
    if unit.node.is_empty() { &unit.host_addr } else { &unit.node }
}

/// The numbers of nodes, by whatever units may say of where they are. Of two nodes on one machine, a unit that says the machine alone is on the last.
fn numbers<'a>(addresses: impl Iterator<Item = &'a str>) -> HashMap<String, usize> {
    let mut numbers = HashMap::new();
    for (number, address) in addresses.enumerate() {
        numbers.insert(url_to_host(address), number);
        numbers.insert(address.to_owned(), number);
    }
    numbers
}

//! Removing the containers of units, all at once (spec 5.7, "Container removal").

use std::collections::BTreeMap;

use gantry_sdk::containers::{Batch, EngineError, Sequence, Step};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{Result, log, operation};

use crate::node::Node;
use crate::records;

/// The seconds a container has to end by itself.
pub(crate) const STOP_SECONDS: u32 = 10;

/// A container asked to end, then removed.
pub(crate) fn stop_and_remove(node: &str, container: &str) -> Sequence {
    let container = container.to_owned();
    let stop = Step::Stop { id: container.clone(), seconds: STOP_SECONDS };
    Sequence { node: node.to_owned(), steps: vec![stop, Step::Remove(container)] }
}

/// A container removed although it could not be asked to end.
pub(crate) fn only_remove(node: &str, container: &str) -> Sequence {
    Sequence { node: node.to_owned(), steps: vec![Step::Remove(container.to_owned())] }
}

/// Removes the units, containers and records, side by side, and tells of each when it is over. What cannot be removed keeps its record: it still exists.
pub(crate) fn remove(
    node: &Node,
    units: &[UnitRecord],
    told: impl FnMut(&UnitRecord, Result<()>),
) -> Result<()> {
    // Half a removal helps nobody: one that has begun is not cut short.
    operation::undoing();
    remove_left(node, units, told)
}

/// The same for what an earlier removal left. It may be cut short once more.
pub(crate) fn remove_left(
    node: &Node,
    units: &[UnitRecord],
    mut told: impl FnMut(&UnitRecord, Result<()>),
) -> Result<()> {
    let sequences = units.iter().map(|unit| stop_and_remove(&node.address, &unit.id)).collect();
    let mut batch = Batch::submit(sequences)?;
    // Sequences of the second try, and the units they are for.
    let mut again: BTreeMap<usize, &UnitRecord> = BTreeMap::new();
    while let Some(completion) = batch.next_ended() {
        let retried = again.get(&completion.index).copied();
        let Some(unit) = retried.or_else(|| units.get(completion.index)) else { continue };
        match completion.failure {
            None | Some(EngineError::NotFound(_)) => told(unit, records::remove(unit)),
            // The container did not even stop: kill it.
            Some(error) if retried.is_none() && completion.replies.is_empty() => {
                log::warn(
                    "a unit did not stop",
                    &[("unit", &unit.id), ("error", &error.to_string())],
                );
                again.insert(batch.add(vec![only_remove(&node.address, &unit.id)])?, unit);
            }
            Some(error) => {
                log::error("a unit stays", &[("unit", &unit.id), ("error", &error.to_string())]);
                told(unit, Err(error.into()));
            }
        }
    }
    Ok(())
}

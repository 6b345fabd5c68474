//! Removing the containers of units, all at once and wherever they are (spec 5.7, "Container removal").

use std::collections::BTreeMap;

use gantry_sdk::containers::{Batch, EngineError, Sequence, Step};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{Result, log, operation};

use crate::machine::{self, is_of_machine};
use crate::{limits, orphans, records};

/// The seconds a container has to end by itself.
pub(crate) const STOP_SECONDS: u32 = 10;

/// A container asked to end, then removed.
pub(crate) fn stop_and_remove(node: &str, container: &str) -> Sequence {
    let container = container.to_owned();
    let stop = Step::Stop { id: container.clone(), seconds: STOP_SECONDS };
    limits::sequence(node, vec![stop, Step::Remove(container)])
}

/// What a unit's container is called. One whose creation nobody saw end has no id.
fn container(unit: &UnitRecord) -> &str {
    if unit.id.is_empty() { &unit.name } else { &unit.id }
}

/// A container removed although it could not be asked to end.
pub(crate) fn only_remove(node: &str, container: &str) -> Sequence {
    limits::sequence(node, vec![Step::Remove(container.to_owned())])
}

/// Removes the units, containers and records, side by side, and tells of each when it is over. What cannot be removed keeps its record: it still exists.
pub(crate) fn remove(
    units: &[UnitRecord],
    told: impl FnMut(&UnitRecord, Result<()>),
) -> Result<()> {
    // Half a removal helps nobody: one that has begun is not cut short.
    operation::undoing();
    remove_left(units, told)
}

/// How a unit went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Its container is removed.
    Removed,
    /// Its machine does not answer; its container goes when it does.
    Left,
}

/// The same for units that nobody counts on any more, because others are in their place or they were never in service: a machine that does not answer keeps them from nothing.
pub(crate) fn remove_or_leave(
    units: &[UnitRecord],
    mut told: impl FnMut(&UnitRecord, Result<Gone>),
) -> Result<()> {
    operation::undoing();
    stop_and_remove_all(units, |unit, result| {
        let gone = match result {
            Ok(()) => records::remove(unit).map(|()| Gone::Removed),
            Err(error) if is_of_machine(&error) => orphans::leave(unit).map(|()| Gone::Left),
            Err(error) => Err(error.into()),
        };
        told(unit, gone);
    })
}

/// As [`remove`], for what an earlier removal left. It may be cut short once more.
pub(crate) fn remove_left(
    units: &[UnitRecord],
    mut told: impl FnMut(&UnitRecord, Result<()>),
) -> Result<()> {
    stop_and_remove_all(units, |unit, result| {
        told(unit, result.map_err(Into::into).and_then(|()| records::remove(unit)));
    })
}

/// Removes the containers and leaves the records alone.
pub(crate) fn stop_and_remove_all(
    units: &[UnitRecord],
    mut told: impl FnMut(&UnitRecord, std::result::Result<(), EngineError>),
) -> Result<()> {
    let stop_and_remove = |unit: &UnitRecord| stop_and_remove(&unit.node, container(unit));
    let (first, waiting) = units.split_at(limits::workers().min(units.len()));
    let mut waiting = waiting.iter();
    let mut batch = Batch::submit(first.iter().map(stop_and_remove).collect())?;
    // By the index of a sequence: its unit, and whether it is the second try.
    let mut tries: BTreeMap<usize, (&UnitRecord, bool)> =
        first.iter().map(|unit| (unit, false)).enumerate().collect();
    while let Some(completion) = batch.next_ended() {
        let Some((unit, is_second)) = tries.remove(&completion.index) else { continue };
        match completion.failure.map(|error| machine::on(&unit.node, error)) {
            None | Some(EngineError::NotFound(_)) => told(unit, Ok(())),
            // The container did not even stop: kill it. A machine that does not answer would not do that either.
            Some(error)
                if !is_second
                    && completion.replies.is_empty()
                    && !matches!(error, EngineError::Unreachable(_)) =>
            {
                log::warn(
                    "a unit did not stop",
                    &[("unit", &unit.id), ("error", &error.to_string())],
                );
                let second = batch.add(vec![only_remove(&unit.node, container(unit))])?;
                tries.insert(second, (unit, true));
                continue;
            }
            Some(error) => {
                log::error("a unit stays", &[("unit", &unit.id), ("error", &error.to_string())]);
                told(unit, Err(error));
            }
        }
        if let Some(next) = waiting.next() {
            tries.insert(batch.add(vec![stop_and_remove(next)])?, (next, false));
        }
    }
    Ok(())
}

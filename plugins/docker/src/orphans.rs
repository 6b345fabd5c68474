//! Containers that are no units any more and could not be removed: their machine did not answer when they were replaced, or lost, or when their app was removed. In the plugin's durable keys, `orphans/<node>/<name>`, the record
//! each of the unit that it was. They go as soon as the machine answers again.

use std::collections::BTreeSet;

use gantry_sdk::containers::ContainerSummary;
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{Result, log, state};

use crate::{keys, machine, name, observe, records, removal};

/// How long a container may come after nobody saw its creation end, in milliseconds.
const LATE: i64 = 10 * 60 * 1000;

/// How long a machine that was removed may come back with what was left on it, in milliseconds: a month.
const LONG: i64 = 30 * 24 * 60 * 60 * 1000;

/// Where all of them are.
const ALL: &str = "orphans/";

/// Takes a unit's container for one that is to go, and forgets the unit.
pub(crate) fn leave(unit: &UnitRecord) -> Result<()> {
    note(unit)?;
    records::remove(unit)
}

/// The same for a unit that was in service and is lost with its machine: its services are told.
pub(crate) fn lose(unit: &UnitRecord) -> Result<()> {
    note(unit)?;
    observe::forget(unit)
}

/// Writes down that a container is to go, and since when. One that was left before stays as it was.
fn note(unit: &UnitRecord) -> Result<()> {
    let left = UnitRecord { last_status_update: name::now(), ..unit.clone() };
    keys::put_new(&key(unit), &left).map(drop)
}

/// Those on a node.
pub(crate) fn on(node: &str) -> Result<Vec<UnitRecord>> {
    state::all(&prefix(node))?.iter().map(keys::read).collect()
}

/// The nodes that have some.
pub(crate) fn nodes() -> Result<BTreeSet<String>> {
    let units: Vec<UnitRecord> = state::all(ALL)?.iter().map(keys::read).collect::<Result<_>>()?;
    Ok(units.into_iter().map(|unit| unit.node).collect())
}

/// Forgets those that were left long ago on machines that were removed: nobody gives them any more, and nothing is written down of them. One that came back before would have been rid of them.
pub(crate) fn forget_removed(given: &BTreeSet<&str>) -> Result<()> {
    let now = name::now();
    for node in nodes()? {
        if given.contains(node.as_str()) || machine::is_written_down(&node)? {
            continue;
        }
        for unit in on(&node)?.iter().filter(|unit| is_long_ago(unit, now)) {
            keys::remove(&key(unit))?;
        }
    }
    Ok(())
}

/// Removes those on a node that answers: what is there of them goes, and all of them are forgotten. Tells how many are left.
pub(crate) fn remove(node: &str, containers: &[ContainerSummary]) -> Result<usize> {
    let (there, gone): (Vec<_>, Vec<_>) =
        on(node)?.into_iter().partition(|unit| containers.iter().any(|other| is(unit, other)));
    let now = name::now();
    let (late, gone): (Vec<_>, Vec<_>) = gone.into_iter().partition(|unit| may_come(unit, now));
    for unit in &gone {
        keys::remove(&key(unit))?;
    }
    let mut left = late.len();
    let mut failure = None;
    removal::stop_and_remove_all(&there, |unit, result| {
        let fields = [("app", unit.app_name.as_str()), ("unit", unit.id.as_str()), ("node", node)];
        match result {
            Ok(()) => {
                log::info("what was left of a unit that was replaced is removed", &fields);
                failure = failure.take().or(keys::remove(&key(unit)).err());
            }
            Err(_) => left += 1,
        }
    })?;
    failure.map_or(Ok(left), Err)
}

/// Whether a container was left so long ago that nobody brings its machine back.
fn is_long_ago(unit: &UnitRecord, now: i64) -> bool {
    now.saturating_sub(unit.last_status_update) >= LONG
}

/// Whether a container that is not there may still be made: an engine that stood still does what it was asked when it goes on.
fn may_come(unit: &UnitRecord, now: i64) -> bool {
    unit.id.is_empty() && now.saturating_sub(unit.last_status_update) < LATE
}

/// Whether a container is what is left of a unit. Of one whose creation nobody saw end, only the name is known.
pub(crate) fn is(unit: &UnitRecord, container: &ContainerSummary) -> bool {
    if unit.id.is_empty() { container.name == unit.name } else { container.id == unit.id }
}

fn prefix(node: &str) -> String {
    format!("{ALL}{node}/")
}

fn key(unit: &UnitRecord) -> String {
    format!("{}{}", prefix(&unit.node), unit.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_nobody_saw_made_may_come_late() {
        let begun = UnitRecord { last_status_update: 1_000, ..UnitRecord::default() };
        assert!(may_come(&begun, 1_000) && may_come(&begun, 600_999));
        assert!(!may_come(&begun, 601_000));
        assert!(!may_come(&UnitRecord { id: "1".to_owned(), ..begun }, 1_000), "it was there");
    }

    #[test]
    fn an_orphan_is_kept_under_its_node_and_name() {
        let unit = UnitRecord {
            node: "tcp://a:1".to_owned(),
            name: "web-1".to_owned(),
            ..UnitRecord::default()
        };
        assert_eq!(key(&unit), "orphans/tcp://a:1/web-1");
        assert!(!key(&unit).starts_with(&prefix("tcp://a")));
    }
}

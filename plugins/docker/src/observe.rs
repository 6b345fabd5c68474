//! What the engine makes of the units that are written down. A record outlives its container when the platform dies, or when the host cleans up after a call that did: such a one is no unit.

use std::collections::BTreeMap;

use gantry_sdk::containers::ContainerSummary;
use gantry_sdk::gantry_core::record::{Report, UnitRecord, reported_status};
use gantry_sdk::{Labels, Result, Status, log};

use crate::node::Node;
use crate::{leaving, records};

/// The units of an app that exist, the oldest first, as the engine sees them now.
///
/// # Errors
///
/// The engine does not tell.
pub(crate) fn of_app(app: &str) -> Result<Vec<UnitRecord>> {
    let records = records::of_app(app)?;
    if records.is_empty() {
        return Ok(records);
    }
    let containers = containers(&Node::choose()?, &records)?;
    Ok(observe(records, &containers))
}

/// The same for a change of the app: what is gone is forgotten, and what an earlier change was removing is removed first.
pub(crate) fn to_change(app: &str) -> Result<Vec<UnitRecord>> {
    let records = records::of_app(app)?;
    if records.is_empty() {
        return Ok(records);
    }
    let node = Node::choose()?;
    let containers = containers(&node, &records)?;
    for record in records.iter().filter(|record| !is_among(record, &containers)) {
        log::info("a unit is gone", &[("app", app), ("unit", &record.id)]);
        records::remove(record)?;
    }
    leaving::finish(&node, app, observe(records, &containers))
}

/// What the engine makes of the records: a unit whose container is gone is left out, one that does not do what it should has failed. When the engine does not answer, what is written
/// down has to do.
pub(crate) fn observed(records: Vec<UnitRecord>) -> Vec<UnitRecord> {
    if records.is_empty() {
        return records;
    }
    match Node::choose().and_then(|node| containers(&node, &records)) {
        Ok(containers) => observe(records, &containers),
        Err(error) => {
            log::warn("units as they were written down", &[("error", &error.to_string())]);
            records
        }
    }
}

/// The containers that records are compared with. Asked for after the records were read: a unit may start meanwhile, container first.
fn containers(node: &Node, records: &[UnitRecord]) -> Result<Vec<ContainerSummary>> {
    Ok(node.client.list_containers(true, &labels_of(records))?)
}

/// Whether a unit has its container among these.
pub(crate) fn is_among(record: &UnitRecord, containers: &[ContainerSummary]) -> bool {
    containers.iter().any(|container| container.id == record.id)
}

/// What the containers of all these records carry: the app's label when there is one app, so that the engine need not tell of all others.
fn labels_of(records: &[UnitRecord]) -> Labels {
    let mut apps: Vec<&str> = records.iter().map(|record| record.app_name.as_str()).collect();
    apps.dedup();
    match apps.as_slice() {
        [app] => Labels::from([("app-name".to_owned(), (*app).to_owned())]),
        _ => Labels::new(),
    }
}

fn observe(records: Vec<UnitRecord>, containers: &[ContainerSummary]) -> Vec<UnitRecord> {
    let states: BTreeMap<&str, &str> = containers
        .iter()
        .map(|container| (container.id.as_str(), container.state.as_str()))
        .collect();
    records
        .into_iter()
        .filter_map(|mut record| {
            let runs = *states.get(record.id.as_str())? == "running";
            record.status = status(&record, runs);
            Some(record)
        })
        .collect()
}

/// The status of a unit, knowing whether its container runs. Doing what is expected changes nothing: only the unit itself says that it is up.
fn status(record: &UnitRecord, runs: bool) -> Option<Status> {
    let told = if runs { Status::Started } else { Status::Stopped };
    match reported_status(record.status, record.status_before_error, told) {
        Report::Becomes(Status::Error) => Some(Status::Error),
        Report::Becomes(_) | Report::Ignored => record.status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(id: &str, status: Status) -> UnitRecord {
        let mut unit = UnitRecord {
            id: id.to_owned(),
            name: format!("a-{id}"),
            app_name: "a".to_owned(),
            ..UnitRecord::default()
        };
        unit.set_status(status, 1);
        unit
    }

    fn container(id: &str, state: &str) -> ContainerSummary {
        ContainerSummary {
            id: id.to_owned(),
            name: String::new(),
            image: String::new(),
            state: state.to_owned(),
            labels: Vec::new(),
        }
    }

    #[test]
    fn the_engine_decides_what_exists_and_what_failed() {
        let table = [
            (Status::Starting, "running", Some(Status::Starting)),
            (Status::Started, "running", Some(Status::Started)),
            (Status::Started, "exited", Some(Status::Error)),
            (Status::Starting, "restarting", Some(Status::Error)),
            (Status::Stopped, "exited", Some(Status::Stopped)),
            (Status::Stopped, "running", Some(Status::Error)),
            (Status::Asleep, "exited", Some(Status::Asleep)),
            (Status::Building, "running", Some(Status::Building)),
            (Status::Error, "running", Some(Status::Error)),
            (Status::Error, "dead", Some(Status::Error)),
        ];
        for (written, state, seen) in table {
            let seen_now = observe(vec![unit("1", written)], &[container("1", state)]);
            assert_eq!(seen_now.len(), 1);
            assert_eq!(seen_now[0].status, seen, "{written:?} {state}");
        }
        assert!(observe(vec![unit("1", Status::Started)], &[container("2", "running")]).is_empty());
        assert!(!is_among(&unit("1", Status::Started), &[container("2", "running")]));
    }

    #[test]
    fn only_the_containers_of_the_app_are_listed() {
        let other = UnitRecord { app_name: "b".to_owned(), ..unit("3", Status::Started) };
        let mut records = vec![unit("1", Status::Started), unit("2", Status::Started)];
        assert_eq!(labels_of(&records)["app-name"], "a");
        records.push(other);
        assert!(labels_of(&records).is_empty());
    }
}

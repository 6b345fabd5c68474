//! The start of the platform: what is written down meets what the engine has. The engine decides what exists.

use std::collections::{BTreeMap, BTreeSet};

use gantry_sdk::container::Container;
use gantry_sdk::containers::{
    Batch, ContainerSummary, EngineError, Sequence, Step, StepReply, nodes,
};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{LabelSet, Result, Status, log};

use crate::host::{host_of, set_network};
use crate::observe::{Sight, is_silent};
use crate::{leaving, name, observe, orphans, records};

/// The labels that tell what a container is: [`is_unit`].
const KIND: [&str; 3] = ["app-name", "is-deploy", "is-isolated-run"];

/// Drops the records of units that are gone, adopts the owned containers that have none, and removes what was left of units on their way out. A machine that does not answer is looked at
/// when it does.
pub(crate) fn initialise() -> Result<()> {
    let nodes = nodes();
    let addresses: BTreeSet<&str> = nodes.iter().map(String::as_str).collect();
    let (records, sight) = look(records::all, || to_meet(&addresses));
    let (records, sight) = (records?, sight?);
    let mut by_node: BTreeMap<&str, Vec<&UnitRecord>> = BTreeMap::new();
    for record in &records {
        by_node.entry(&record.node).or_default().push(record);
    }
    // One that is not given any more says as little as one that is down.
    let is_not_given = |node: &&str| !addresses.contains(*node);
    let mut silent: BTreeSet<String> =
        by_node.keys().copied().filter(is_not_given).map(str::to_owned).collect();
    let mut lost = BTreeSet::new();
    for (node, said) in sight.nodes() {
        match said {
            Ok(containers) => {
                let records = by_node.get(node).map_or(&[][..], Vec::as_slice);
                lost.extend(meet(node, containers, records)?);
            }
            // The platform starts without it, and says so; what is written down stays.
            Err(error) if is_silent(error) => {
                let fields = [("node", node), ("error", &error.to_string())];
                log::warn("units are not compared with the engine", &fields);
                silent.insert(node.to_owned());
            }
            Err(error) => return Err(error.clone().into()),
        }
    }
    orphans::forget_removed(&addresses)?;
    for app in leaving::all()?.into_keys() {
        let mut units = records::of_app(&app)?;
        units.retain(|record| !sight.lacks(record));
        // Where nobody answered, the next change of the app goes on with it.
        if units.iter().any(|record| silent.contains(&record.node)) {
            continue;
        }
        leaving::finish(&app, units, &silent)?;
    }
    lost.iter().for_each(|app| observe::recount(app));
    Ok(())
}

/// What these machines have, for [`meet`]: it tells units from other containers by their labels.
pub(crate) fn to_meet(nodes: &BTreeSet<&str>) -> Result<Sight> {
    Sight::with_labels(nodes, &KIND)
}

/// What a machine has, as of [`to_meet`], meets the records of what is there. Gives the apps that have lost units.
pub(crate) fn meet(
    node: &str,
    containers: &[ContainerSummary],
    records: &[&UnitRecord],
) -> Result<BTreeSet<String>> {
    let orphans = orphans::on(node)?;
    let Difference { gone, unknown } = compare(records, &orphans, containers);
    let mut lost = BTreeSet::new();
    for record in gone {
        observe::forget(record)?;
        if !record.is_new && !record.is_build() {
            lost.insert(record.app_name.clone());
        }
    }
    adopt(node, &unknown)?;
    let left = orphans::remove(node, containers)?;
    if left > 0 {
        log::warn("what was left of units stays", &[("node", node), ("units", &left.to_string())]);
    }
    Ok(lost)
}

/// The same for a machine that was there before: a unit that is gone and was in service is to be replaced, and not forgotten.
pub(crate) fn meet_again(
    node: &str,
    containers: &[ContainerSummary],
    records: &[UnitRecord],
) -> Result<()> {
    let to_meet = |record: &&UnitRecord| {
        let is_there = observe::find(containers, &record.id).is_some();
        record.is_new || record.is_build() || is_there
    };
    meet(node, containers, &records.iter().filter(to_meet).collect::<Vec<_>>()).map(drop)
}

/// A line per host.
pub(crate) fn startup_message() -> String {
    message(&nodes())
}

fn message(nodes: &[String]) -> String {
    let lines: String = nodes.iter().map(|node| format!("    Docker node: {node}\n")).collect();
    format!("Docker provisioner reports the following nodes:\n{lines}")
}

/// What is written down, then what there is. A unit may start meanwhile, container first: looked at the other way round, its record would be one without a container.
fn look<W, E>(written: impl FnOnce() -> W, existing: impl FnOnce() -> E) -> (W, E) {
    let written = written();
    (written, existing())
}

#[derive(Debug, PartialEq, Eq)]
struct Difference<'a> {
    /// Records without a container.
    gone: Vec<&'a UnitRecord>,
    /// Containers of units without a record.
    unknown: Vec<String>,
}

/// `containers` as [`Sight`] has them, by id.
fn compare<'a>(
    records: &[&'a UnitRecord],
    orphans: &[UnitRecord],
    containers: &[ContainerSummary],
) -> Difference<'a> {
    let mut known: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
    known.sort_unstable();
    let is_known =
        |container: &ContainerSummary| known.binary_search(&container.id.as_str()).is_ok();
    let is_orphan =
        |container: &ContainerSummary| orphans.iter().any(|unit| orphans::is(unit, container));
    Difference {
        gone: records
            .iter()
            .copied()
            .filter(|record| observe::find(containers, &record.id).is_none())
            .collect(),
        unknown: containers
            .iter()
            .filter(|container| !is_known(container) && is_unit(container))
            .filter(|container| !is_orphan(container))
            .map(|container| container.id.clone())
            .collect(),
    }
}

/// Whether a container is a unit of an app: not one that builds, runs a single command or is read from.
fn is_unit(container: &ContainerSummary) -> bool {
    let labels = LabelSet::new(container.labels.iter().cloned().collect(), "");
    !labels.app_name().is_empty() && !labels.is_deploy() && !labels.is_isolated_run()
}

fn adopt(node: &str, ids: &[String]) -> Result<()> {
    let sequences =
        ids.iter().map(|id| Sequence::new(node, vec![Step::Inspect(id.clone())])).collect();
    for completion in Batch::submit(sequences)?.all() {
        let replies = match completion.into_result() {
            // It went away meanwhile.
            Err(EngineError::NotFound(_)) => continue,
            Err(error) if is_silent(&error) => {
                log::warn("a unit without record is not adopted", &[("error", &error.to_string())]);
                continue;
            }
            result => result?,
        };
        for reply in replies {
            if let StepReply::Container(container) = reply {
                let record = adopted(&container, node, name::now());
                let fields = [("app", record.app_name.as_str()), ("unit", record.id.as_str())];
                // One that was started meanwhile has a record by now, which says more.
                if records::save_new(&record)? {
                    log::info("a unit without record is adopted", &fields);
                }
            }
        }
    }
    Ok(())
}

/// The record of a container, from what it says about itself.
fn adopted(container: &Container, node: &str, now: i64) -> UnitRecord {
    let config = &container.config;
    let labels = LabelSet::new(config.labels.clone().unwrap_or_default(), "");
    let ports = config.exposed_ports.iter().flatten().map(|(port, _)| port);
    // A unit publishes the one port that it listens on; its image may expose more.
    let published = ports
        .clone()
        .find(|port| container.network_settings.ports.get(*port).is_some_and(Option::is_some));
    let mut record = UnitRecord {
        id: container.id.clone(),
        name: container.name.clone(),
        app_name: labels.app_name().to_owned(),
        process_name: labels.app_process().to_owned(),
        kind: labels.app_platform().to_owned(),
        host_addr: host_of(node),
        node: node.to_owned(),
        image: config.image.clone(),
        image_id: container.image.clone(),
        exposed_port: published.or(ports.clone().next()).cloned().unwrap_or_default(),
        ..UnitRecord::default()
    };
    let runs = container.state.running;
    record.set_status(if runs { Status::Started } else { Status::Stopped }, now);
    set_network(&mut record, container);
    record
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn container(id: &str, labels: &[(&str, &str)]) -> ContainerSummary {
        ContainerSummary {
            id: id.to_owned(),
            name: String::new(),
            image: String::new(),
            state: "running".to_owned(),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn records_and_containers_are_compared_by_id() {
        let record = |id: &str| UnitRecord { id: id.to_owned(), ..UnitRecord::default() };
        let (one, two) = (record("1"), record("2"));
        let app = ("app-name", "a");
        let containers = [
            container("2", &[app, ("app-pool", "p")]),
            container("3", &[app, ("is-deploy", "false")]),
            container("4", &[app, ("is-deploy", "true")]),
            container("5", &[app, ("is-isolated-run", "true")]),
            container("6", &[]),
            container("7", &[app]),
        ];
        // As a list of machines to meet tells them.
        let containers = containers.map(|mut container| {
            container.labels.retain(|(key, _)| KIND.contains(&key.as_str()));
            container
        });
        let orphans = [record("7")];
        let Difference { gone, unknown } = compare(&[&one, &two], &orphans, &containers);
        assert_eq!(gone, [&one]);
        assert_eq!(unknown, ["3"]);
    }

    #[test]
    fn a_unit_that_starts_meanwhile_is_not_gone() {
        let record = UnitRecord { id: "1".to_owned(), ..UnitRecord::default() };
        // Between the two looks, a deploy starts a container and writes it down.
        let deployed = Cell::new(false);
        let (records, containers) = look(
            || if deployed.replace(true) { vec![record.clone()] } else { Vec::new() },
            || {
                let there = deployed.replace(true);
                if there { vec![container("1", &[("app-name", "a")])] } else { Vec::new() }
            },
        );
        let records: Vec<&UnitRecord> = records.iter().collect();
        assert_eq!(compare(&records, &[], &containers).gone, Vec::<&UnitRecord>::new());
    }

    #[test]
    fn a_container_tells_enough_to_be_adopted() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "Id": "abc",
            "Name": "a-1",
            "Image": "sha256:9",
            "State": { "Running": true },
            "Config": {
                "Image": "tsuru/app-a:v1",
                "Labels": {
                    "app-name": "a", "app-process": "web", "app-platform": "python",
                },
                "ExposedPorts": { "7000/tcp": {}, "8888/tcp": {} },
            },
            "NetworkSettings": {
                "IPAddress": "172.17.0.2",
                "Ports": {
                    "7000/tcp": null,
                    "8888/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "32768" }],
                },
            },
        }))
        .unwrap();
        let record = adopted(&container, "tcp://10.0.0.1:2375", 5);
        assert_eq!((record.app_name.as_str(), record.process_name.as_str()), ("a", "web"));
        assert_eq!(
            (record.image.as_str(), record.image_id.as_str()),
            ("tsuru/app-a:v1", "sha256:9")
        );
        assert_eq!(record.address().as_deref(), Some("http://10.0.0.1:32768"));
        assert_eq!(record.status, Some(Status::Started));
        assert_eq!(record.kind, "python");
    }

    #[test]
    fn the_hosts_are_listed() {
        let nodes = ["unix:///run/docker.sock".to_owned(), "tcp://h:1".to_owned()];
        assert_eq!(
            message(&nodes),
            "Docker provisioner reports the following nodes:\n    \
             Docker node: unix:///run/docker.sock\n    Docker node: tcp://h:1\n"
        );
    }
}

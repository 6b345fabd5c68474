//! The machines of pools, as the operator sees and changes them (spec 5.12). The host gives the plugin each machine that the operator adds before it calls here, and takes it away afterwards when
//! it is removed.

use std::collections::BTreeSet;
use std::time::Duration;

use gantry_sdk::containers::ContainerSummary;
use gantry_sdk::gantry_core::node::{
    AddNodeOptions, Node, NodeLookupError, NodeStatusData, RemoveNodeOptions, UpdateNodeOptions,
    find_node_by_addrs,
};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Error, Labels, NodePage, Result, Unit, apps, log, operation, quote};

use crate::machine::{self, Creation, Machines};
use crate::observe::{Sight, is_silent, observed};
use crate::{lifecycle, messages, moves, name, node_containers, observe, orphans, records};

/// Nodes on one page.
const PAGE: usize = 500;

/// The pause between two looks at a machine that is waited for.
const AGAIN: Duration = Duration::from_secs(1);

/// The nodes, those that take no units among them.
pub(crate) fn list(addresses: Option<&[String]>, after: Option<&str>) -> Result<NodePage> {
    let machines = Machines::read()?;
    let now = name::now();
    let wanted = machines.all().iter().filter(|machine| {
        addresses.is_none_or(|addresses| addresses.contains(&machine.address))
            && after.is_none_or(|after| machine.address.as_str() > after)
    });
    let mut nodes: Vec<Node> = wanted.take(PAGE + 1).map(|machine| machine.node(now)).collect();
    let more = nodes.len() > PAGE;
    nodes.truncate(PAGE);
    let next = nodes.last().filter(|_| more).map(|node| node.address.clone());
    Ok(NodePage { nodes, next, problems: Vec::new() })
}

pub(crate) fn get(address: &str) -> Result<Node> {
    Ok(Machines::read()?.find(address)?.node(name::now()))
}

/// The units on a node.
pub(crate) fn units(address: &str) -> Result<Vec<Unit>> {
    Machines::read()?.find(address)?;
    let unknown = App::default();
    Ok(observed(in_service(address)?).iter().map(|record| record.unit(&unknown)).collect())
}

/// What is written down of a node, builds among it.
pub(crate) fn on(address: &str) -> Result<Vec<UnitRecord>> {
    let mut records = records::all()?;
    records.retain(|record| record.node == address);
    Ok(records)
}

/// The units on a node, without builds.
fn in_service(address: &str) -> Result<Vec<UnitRecord>> {
    let mut units = on(address)?;
    units.retain(|unit| !unit.is_build());
    Ok(units)
}

/// Adds a machine, or updates the one that is there. It takes units once it has answered and its node containers run.
pub(crate) fn add(options: AddNodeOptions) -> Result<()> {
    let AddNodeOptions { address, pool, iaas_id, mut metadata, wait, register, .. } = options;
    if !register {
        let text = "there is no provider that could make a machine: register one that exists";
        return Err(Error::InvalidArgument(text.to_owned()));
    }
    Machines::read()?.find(&address).map_err(|_| {
        Error::Unavailable(format!("no engine at `{address}` was given to this provisioner"))
    })?;
    metadata.insert(machine::POOL.to_owned(), pool);
    metadata.insert(machine::IAAS_ID.to_owned(), iaas_id);
    machine::update(&address, |machine| {
        machine.tell(metadata.clone());
        // One that serves goes on while it is looked at.
        if machine.creation != Creation::Created || machine.last_success == 0 {
            machine.creation = Creation::Pending;
        }
    })?;
    let begun = name::now();
    let patience = i64::from(wait).saturating_mul(1000);
    loop {
        let why = match make_ready(&address) {
            Ok(()) => return Ok(()),
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            // Nobody waits: it is looked at again with every examination.
            Err(error) if wait == 0 => {
                machine::update(&address, |machine| machine.creation = Creation::Pending)?;
                operation::progress(&messages::not_ready(&address, &error.to_string()));
                return Ok(());
            }
            Err(error) => error,
        };
        if name::now().saturating_sub(begun) >= patience {
            let text = why.to_string();
            machine::update(&address, |machine| {
                machine.creation = Creation::Error;
                machine.last_error.clone_from(&text);
            })?;
            let text = format!("node {address} did not become ready in {wait} seconds: {text}");
            return Err(Error::TimedOut(text));
        }
        operation::pause(AGAIN)?;
    }
}

/// Makes a machine ready for units: it answers, what is there is known, its node containers run.
pub(crate) fn make_ready(address: &str) -> Result<()> {
    let written = on(address)?;
    let sight = lifecycle::to_meet(&BTreeSet::from([address]))?;
    for (node, said) in sight.nodes() {
        let containers = said.map_err(|error| Error::from(error.clone()))?;
        lifecycle::meet_again(node, containers, &written)?;
    }
    node_containers::ensure(address)?;
    machine::update(address, |machine| machine.answered(name::now()))?;
    Ok(())
}

/// Changes a machine. Enable wins over disable.
pub(crate) fn update(options: UpdateNodeOptions) -> Result<()> {
    let UpdateNodeOptions { address, pool, mut metadata, enable, disable } = options;
    Machines::read()?.find(&address)?;
    if !pool.is_empty() {
        metadata.insert(machine::POOL.to_owned(), pool);
    }
    machine::update(&address, |machine| {
        machine.tell(metadata.clone());
        if enable {
            machine.creation = Creation::Created;
            machine.disabled_until = 0;
        } else if disable {
            machine.creation = Creation::Disabled;
        }
    })
    .map(drop)
}

/// Removes a machine: no unit is started there any more, its units are moved away, and it is forgotten. When they cannot be moved, it stays, and takes no units.
///
/// Without moving them only one goes that has none, or that does not answer: those are lost and forgotten. What is left of them there goes should it ever come back.
pub(crate) fn remove(options: RemoveNodeOptions) -> Result<()> {
    let RemoveNodeOptions { address, rebalance } = options;
    Machines::read()?.find(&address)?;
    if !rebalance {
        Leaving::look(&address)?.refuse_units()?;
    }
    machine::update(&address, |machine| machine.creation = Creation::Disabled)?;
    if rebalance {
        moves::away(of_known_apps(in_service(&address)?)?)?;
        // What came meanwhile: it was being started when the machine was disabled.
        moves::away(of_known_apps(in_service(&address)?)?)?;
    }
    let leaving = Leaving::look(&address)?;
    if !rebalance {
        leaving.refuse_units()?;
    }
    leaving.forget(rebalance)?;
    if let Some(containers) = leaving.containers() {
        // The last look at it: what is there of units that are none any more goes now.
        let left = orphans::remove(&address, containers)?;
        if left > 0 {
            let fields = [("node", address.as_str()), ("units", &left.to_string())];
            log::warn("what was left of units stays on a node that is removed", &fields);
        }
        node_containers::leave(&address)?;
    }
    machine::forget(&address)
}

/// A machine that is to go.
struct Leaving<'a> {
    address: &'a str,
    /// What is written down of it, builds among it.
    records: Vec<UnitRecord>,
    /// The apps of these that somebody knows.
    known: BTreeSet<String>,
    sight: Sight,
}

impl<'a> Leaving<'a> {
    fn look(address: &'a str) -> Result<Self> {
        let records = on(address)?;
        let known = known_apps(&records)?;
        let sight = Sight::of(&BTreeSet::from([address]), &Labels::new())?;
        for (_, said) in sight.nodes() {
            said.map(drop).or_else(|error| match is_silent(error) {
                true => Ok(()),
                false => Err(error.clone()),
            })?;
        }
        Ok(Self { address, records, known, sight })
    }

    /// What it has; none when it does not answer.
    fn containers(&self) -> Option<&[ContainerSummary]> {
        self.sight.on(self.address)
    }

    /// Whether there is a container of a record.
    fn has(&self, record: &UnitRecord) -> bool {
        self.containers().is_some() && !self.sight.lacks(record)
    }

    fn is_known(&self, record: &UnitRecord) -> bool {
        self.known.contains(&record.app_name)
    }

    /// Refuses to leave units behind that are there.
    fn refuse_units(&self) -> Result<()> {
        let is_left =
            |record: &&UnitRecord| !record.is_build() && self.is_known(record) && self.has(record);
        match self.records.iter().filter(is_left).count() {
            0 => Ok(()),
            count => {
                let (node, s) = (self.address, if count == 1 { "" } else { "s" });
                let what = "remove it with rebalance, so that they are moved away first";
                let text = format!("node {node} answers and has {count} unit{s}: {what}");
                Err(Error::Conflict(text))
            }
        }
    }

    /// Forgets what is written down of it, but for units that were to be moved away: whatever of them stays is healed. A build goes on where it runs.
    fn forget(&self, rebalance: bool) -> Result<()> {
        let mut lost = BTreeSet::new();
        for record in &self.records {
            let is_known = self.is_known(record);
            let stays = if record.is_build() { self.has(record) } else { rebalance };
            if is_known && stays {
                continue;
            }
            operation::progress(&forgotten(record));
            if is_known {
                orphans::lose(record)?;
                lost.insert(record.app_name.as_str());
            } else {
                orphans::leave(record)?;
            }
        }
        for app in lost {
            // Whoever changes it counts it.
            match apps::lock(app) {
                Ok(_lock) => observe::recount(app),
                Err(error) => log::warn(
                    "an app is not counted",
                    &[("app", app), ("error", &error.to_string())],
                ),
            }
        }
        Ok(())
    }
}

fn forgotten(record: &UnitRecord) -> String {
    let UnitRecord { app_name, process_name, node, .. } = record;
    format!("Forgot unit {} [{process_name}] of {} on {node}\n", record.short_id(), quote(app_name))
}

/// The units whose app somebody knows. One that was removed by force, or with another data directory, may have left some.
fn of_known_apps(mut units: Vec<UnitRecord>) -> Result<Vec<UnitRecord>> {
    let known = known_apps(&units)?;
    units.retain(|unit| known.contains(&unit.app_name));
    Ok(units)
}

fn known_apps(records: &[UnitRecord]) -> Result<BTreeSet<String>> {
    Ok(moves::pools(records)?.into_keys().collect())
}

/// The node that an agent's words are about: the one with the units that it names, or else the one with its addresses. What it checked there is written down.
pub(crate) fn for_node_data(data: &NodeStatusData) -> Result<Node> {
    let machines = Machines::read()?;
    let records = records::all()?;
    let address = match named(&records, data)? {
        Some(address) => address,
        None => {
            let addresses: Vec<&str> =
                machines.all().iter().map(|machine| machine.address.as_str()).collect();
            let found =
                find_node_by_addrs(&addresses, &data.addresses).map_err(|why| match why {
                    NodeLookupError::NotFound => Error::NodeNotFound,
                    why @ (NodeLookupError::Ambiguous(_) | NodeLookupError::Failed(_)) => {
                        Error::InvalidArgument(why.to_string())
                    }
                })?;
            (*addresses.get(found).ok_or(Error::NodeNotFound)?).to_owned()
        }
    };
    let machine = machines.find(&address)?;
    let now = name::now();
    let noted = machine::update(&address, |machine| machine.checks.report(&data.checks, now));
    // What the agent says of its units counts all the same.
    if let Err(error) = noted {
        let fields = [("node", address.as_str()), ("error", &error.to_string())];
        log::warn("what an agent checked of its node is not written down", &fields);
    }
    Ok(machine.node(now))
}

/// The node of the units that an agent names, if it names some that are known.
fn named(records: &[UnitRecord], data: &NodeStatusData) -> Result<Option<String>> {
    let is_named = |record: &&UnitRecord| {
        data.units.iter().any(|unit| {
            (!unit.id.is_empty() && record.id == unit.id)
                || (!unit.name.is_empty() && record.name == unit.name)
        })
    };
    let mut nodes = records.iter().filter(is_named).map(|record| &record.node);
    let Some(first) = nodes.next() else { return Ok(None) };
    match nodes.find(|node| *node != first) {
        Some(other) => Err(Error::InvalidArgument(format!(
            "containers match multiple nodes: {first} and {other}"
        ))),
        None => Ok(Some(first.clone())),
    }
}

/// How often a node failed since it last answered.
pub(crate) fn failure_count(address: &str) -> Result<u32> {
    Ok(Machines::read()?.find(address)?.failures)
}

/// Whether a node has ever answered.
pub(crate) fn has_success(address: &str) -> Result<bool> {
    Ok(Machines::read()?.find(address)?.last_success > 0)
}

/// Forgets a node's failures.
pub(crate) fn reset_failures(address: &str) -> Result<()> {
    Machines::read()?.find(address)?;
    machine::update(address, machine::Machine::forgive).map(drop)
}

#[cfg(test)]
mod tests {
    use gantry_sdk::gantry_core::node::UnitStatusData;

    use super::*;

    #[test]
    fn an_agent_is_known_by_its_units() {
        let unit = |id: &str, node: &str| UnitRecord {
            id: id.to_owned(),
            name: format!("n{id}"),
            node: node.to_owned(),
            ..UnitRecord::default()
        };
        let records = [unit("1", "a"), unit("2", "a"), unit("3", "b")];
        let data = |units: &[(&str, &str)]| NodeStatusData {
            units: units
                .iter()
                .map(|(id, name)| UnitStatusData {
                    id: (*id).to_owned(),
                    name: (*name).to_owned(),
                    status: None,
                })
                .collect(),
            ..NodeStatusData::default()
        };
        let named = |units: &[(&str, &str)]| named(&records, &data(units));
        assert_eq!(named(&[("1", ""), ("", "n2"), ("x", "")]).unwrap().as_deref(), Some("a"));
        assert_eq!(named(&[("x", "y")]).unwrap(), None);
        let error = named(&[("1", ""), ("3", "")]).unwrap_err().to_string();
        assert_eq!(error, "containers match multiple nodes: a and b");
    }
}

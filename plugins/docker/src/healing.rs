//! Units and machines that died (spec 5.13, "healing"): found by looking at all of them now and then, and replaced.
//!
//! ```text
//! machine answers ► its units: as they should be ► well
//!    │                      └─ not, for `docker:healing:heal-containers-timeout` ► sick: replaced
//!    └─ does not, so often and for so long ► dead: given up ► its units are sick ► replaced elsewhere
//!                                                    └─ answers again ► taken back: what was left there goes
//! ```

use std::collections::BTreeSet;

use gantry_sdk::config::Config;
use gantry_sdk::containers::ContainerSummary;
use gantry_sdk::gantry_core::healing::{Findings, NotedNode, SickUnit};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Labels, Result, Settings, Status, log};

use crate::machine::{self, Creation, Machine, Machines};
use crate::observe::{self, Sight};
use crate::{lifecycle, moves, name, nodes, orphans, records};

/// After how many failures in a row a machine may be dead.
const MAX_FAILURES: i64 = 5;

/// The seconds that it has not answered by then.
const MAX_UNRESPONSIVE: i64 = 60;

/// The seconds that a unit may be ill before it is replaced.
const MAX_ILLNESS: i64 = 120;

/// What the operator says about healing, in milliseconds where it is a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rules {
    /// After how many failures in a row a machine is dead; none when machines are not given up.
    failures: Option<u32>,
    /// How long it must not have answered.
    unresponsive: i64,
    /// How long a unit may be ill; none when units are not replaced.
    illness: Option<i64>,
}

impl Rules {
    fn read(settings: &impl Settings) -> Self {
        let seconds = |key: &str, usual: i64| {
            settings.integer(key).unwrap_or(usual).max(0).saturating_mul(1000)
        };
        let heal_nodes =
            settings.get("docker:healing:heal-nodes").is_none_or(|value| value != false);
        let failures = settings.integer("docker:healing:max-failures").unwrap_or(MAX_FAILURES);
        let illness = seconds("docker:healing:heal-containers-timeout", MAX_ILLNESS);
        Self {
            failures: heal_nodes.then(|| u32::try_from(failures.max(1)).unwrap_or(u32::MAX)),
            unresponsive: seconds("docker:healing:max-unresponsive-time", MAX_UNRESPONSIVE),
            illness: (illness > 0).then_some(illness),
        }
    }

    fn is_dead(&self, machine: &Machine, now: i64) -> bool {
        matches!(machine.creation, Creation::Created | Creation::Disabled)
            && machine.last_success > 0
            && self.failures.is_some_and(|most| machine.failures >= most)
            && now.saturating_sub(machine.failing_since) >= self.unresponsive
    }
}

/// Looks at every machine and every unit.
pub(crate) fn examine() -> Result<Findings> {
    let rules = Rules::read(&Config);
    let machines = Machines::read()?;
    let written = records::all()?;
    let addresses = machines.all().iter().map(|machine| machine.address.as_str()).collect();
    let sight = Sight::of(&addresses, &Labels::new())?;
    let littered = orphans::nodes()?;
    let mut findings = Findings::default();
    let mut given_up = BTreeSet::new();
    for (address, said) in sight.nodes() {
        let machine = machines.find(address)?;
        match said {
            Ok(_) if machine.creation == Creation::GivenUp => {
                let reason = "it answers again".to_owned();
                findings.recovered.push(NotedNode { address: address.to_owned(), reason });
            }
            Ok(_) if littered.contains(address) => {
                let reason = "what is left of units that were replaced is to go".to_owned();
                findings.recovered.push(NotedNode { address: address.to_owned(), reason });
            }
            Ok(_) if matches!(machine.creation, Creation::Pending | Creation::Error) => {
                let reason = "it answers and is to be made ready".to_owned();
                findings.recovered.push(NotedNode { address: address.to_owned(), reason });
            }
            Ok(_) => logged(address, machine::update(address, |seen| seen.answered(name::now()))),
            Err(error) => {
                machine::note_failure(address, error);
                let now = name::now();
                let noted = Machines::read()?.find(address)?.clone();
                if rules.is_dead(&noted, now) {
                    let reason = format!("{} failures in a row: {error}", noted.failures);
                    findings.dead.push(NotedNode { address: address.to_owned(), reason });
                }
                if noted.creation == Creation::GivenUp {
                    given_up.insert(address.to_owned());
                }
            }
        }
    }
    let now = name::now();
    // A unit that is being started is the business of whoever starts it.
    for unit in written.iter().filter(|unit| unit.building_image.is_empty() && !unit.is_new) {
        let at_once = given_up.contains(&unit.node);
        let illness = match sight.on(&unit.node) {
            Some(containers) => illness(unit, containers),
            None if at_once => Some("its node was given up".to_owned()),
            None if machines.find(&unit.node).is_err() => {
                Some("its node is not given any more".to_owned())
            }
            // Nobody knows.
            None => continue,
        };
        let since = note(unit, illness.is_some(), now)?;
        let is_long =
            rules.illness.is_some_and(|limit| since > 0 && now.saturating_sub(since) >= limit);
        if let Some(reason) = illness
            && (at_once || is_long)
        {
            let (app_name, id) = (unit.app_name.clone(), unit.id.clone());
            findings.units.push(SickUnit { app_name, id, reason, node_given_up: at_once });
        }
    }
    Ok(findings)
}

/// What cannot be written down is seen again with the next look.
fn logged<T>(node: &str, result: Result<T>) {
    if let Err(error) = result {
        let fields = [("node", node), ("error", &error.to_string())];
        log::warn("what was seen of a node is not written down", &fields);
    }
}

/// Writes down since when a unit is ill, and gives it; 0 for one that is well, which is what it should be again. Only a change is written.
fn note(unit: &UnitRecord, is_ill: bool, now: i64) -> Result<i64> {
    let recovered = !is_ill && unit.status == Some(Status::Error);
    if is_ill == (unit.ill_since > 0) && !recovered {
        return Ok(unit.ill_since);
    }
    let since = if is_ill { now } else { 0 };
    records::update(unit, |record| {
        record.ill_since = since;
        if let (true, Some(status)) = (recovered, record.expected_status()) {
            record.set_status(status, now);
        }
    })?;
    Ok(since)
}

/// What is wrong with a unit, seeing what its machine has; none when it does what it should. What builds or sleeps is let be.
fn illness(unit: &UnitRecord, containers: &[ContainerSummary]) -> Option<String> {
    if matches!(unit.status, None | Some(Status::Building | Status::Asleep | Status::Created)) {
        return None;
    }
    let Some(container) = observe::find(containers, &unit.id) else {
        return Some("its container is gone".to_owned());
    };
    let state = container.state.as_str();
    let runs = matches!(state, "running" | "restarting");
    let should_run = moves::rests(unit).is_none();
    match (state, should_run) {
        ("dead" | "removing", _) => Some(format!("its container is {state}")),
        (_, true) if !runs => Some(format!("its container is {state} and should run")),
        (_, false) if runs => Some("its container runs and should not".to_owned()),
        _ => None,
    }
}

/// Replaces a unit that is ill, and gives the new one's id; none when it is well again or gone.
pub(crate) fn heal_unit(app: &App, id: &str) -> Result<Option<String>> {
    let Some(unit) = records::of_app(&app.name)?.into_iter().find(|unit| unit.id == id) else {
        return Ok(None);
    };
    let machines = Machines::read()?;
    let sight = Sight::of(&BTreeSet::from([unit.node.as_str()]), &Labels::new())?;
    let is_given_up =
        machines.find(&unit.node).map_or(true, |machine| machine.creation == Creation::GivenUp);
    let (silent, is_ill) = match sight.on(&unit.node) {
        Some(containers) => (BTreeSet::new(), illness(&unit, containers).is_some()),
        None => (BTreeSet::from([unit.node.clone()]), is_given_up),
    };
    if !is_ill || unit.is_new {
        return Ok(None);
    }
    // Not `to_change`: it forgets units whose container is gone, and this one is to be replaced.
    let rests = moves::rests(&unit);
    let new = moves::replace(app, rests, vec![unit], None, silent)?;
    Ok(new.into_iter().next().map(|unit| unit.id))
}

/// Gives a machine up that does not answer.
pub(crate) fn give_up_node(address: &str) -> Result<bool> {
    Machines::read()?.find(address)?;
    let sight = Sight::of(&BTreeSet::from([address]), &Labels::new())?;
    if sight.on(address).is_some() {
        machine::update(address, |machine| machine.answered(name::now()))?;
        return Ok(false);
    }
    let machine = machine::update(address, Machine::give_up)?;
    Ok(machine.creation == Creation::GivenUp)
}

/// Takes a machine back that was given up.
pub(crate) fn take_back_node(address: &str) -> Result<bool> {
    Machines::read()?.find(address)?;
    let written = nodes::on(address)?;
    let sight = Sight::of(&BTreeSet::from([address]), &Labels::new())?;
    let Some(containers) = sight.on(address) else { return Ok(false) };
    lifecycle::meet(address, containers, &written.iter().collect::<Vec<_>>())?;
    crate::node_containers::ensure(address)?;
    let machine = machine::update(address, |machine| {
        machine.take_back();
        machine.answered(name::now());
    })?;
    Ok(machine.creation == Creation::Created)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unit(status: Status) -> UnitRecord {
        let mut unit = UnitRecord { id: "1".to_owned(), ..UnitRecord::default() };
        unit.set_status(status, 1);
        unit
    }

    #[test]
    fn a_unit_is_ill_when_it_does_not_do_what_it_should() {
        let mut failed = unit(Status::Started);
        failed.set_status(Status::Error, 2);
        let table = [
            (unit(Status::Started), "running", None),
            (unit(Status::Starting), "restarting", None),
            (unit(Status::Started), "exited", Some("its container is exited and should run")),
            (unit(Status::Started), "dead", Some("its container is dead")),
            (unit(Status::Stopped), "removing", Some("its container is removing")),
            (unit(Status::Stopped), "exited", None),
            (unit(Status::Stopped), "running", Some("its container runs and should not")),
            (unit(Status::Asleep), "exited", None),
            (unit(Status::Building), "dead", None),
            (failed.clone(), "exited", Some("its container is exited and should run")),
            (failed, "running", None),
        ];
        for (unit, state, expected) in table {
            let container = ContainerSummary {
                id: "1".to_owned(),
                name: String::new(),
                image: String::new(),
                state: state.to_owned(),
                labels: Vec::new(),
            };
            let found = illness(&unit, &[container]);
            assert_eq!(found.as_deref(), expected, "{:?} {state}", unit.status);
        }
        assert_eq!(illness(&unit(Status::Started), &[]).as_deref(), Some("its container is gone"));
        assert_eq!(illness(&unit(Status::Asleep), &[]), None);
    }

    #[test]
    fn a_machine_is_dead_after_so_many_failures_and_so_long() {
        let settings = |healing: serde_json::Value| json!({"docker": {"healing": healing}});
        let rules = Rules::read(&settings(json!({"max-failures": 2, "max-unresponsive-time": 3})));
        let mut machine = Machine::unknown("n");
        machine.answered(1);
        machine.failed("no", 1_000, 0);
        assert!(!rules.is_dead(&machine, 9_000), "one failure is none");
        machine.failed("no", 2_000, 0);
        assert!(!rules.is_dead(&machine, 3_999), "it may still come");
        assert!(rules.is_dead(&machine, 4_000));
        let disabled = Machine { creation: Creation::Disabled, ..machine.clone() };
        assert!(rules.is_dead(&disabled, 9_000), "its units are dead all the same");
        let given_up = Machine { creation: Creation::GivenUp, ..machine.clone() };
        assert!(!rules.is_dead(&given_up, 9_000), "once is enough");
        let never = Machine { last_success: 0, ..machine.clone() };
        assert!(!rules.is_dead(&never, 9_000), "it was never there");
        let off = Rules::read(&settings(json!({"heal-nodes": false})));
        assert!(!off.is_dead(&machine, i64::MAX));
        assert_eq!(off.illness, Some(120_000));
        let off = Rules::read(&settings(json!({"heal-containers-timeout": 0})));
        assert_eq!((off.illness, off.failures), (None, Some(5)));
    }
}

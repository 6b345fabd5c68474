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
use crate::{leaving, lifecycle, moves, name, nodes, orphans, records};

/// After how many failures in a row a machine may be dead.
const MAX_FAILURES: i64 = 5;

/// The seconds that it has not answered by then.
const MAX_UNRESPONSIVE: i64 = 60;

/// The seconds that a unit may be ill before it is replaced.
const MAX_ILLNESS: i64 = 120;

/// How long a unit may be ill, in milliseconds; none when units are not replaced.
fn max_illness(settings: &impl Settings) -> Option<i64> {
    let seconds = settings.integer("docker:healing:heal-containers-timeout").unwrap_or(MAX_ILLNESS);
    (seconds > 0).then(|| seconds.saturating_mul(1000))
}

/// When a machine of a pool is dead, in milliseconds where it is a time. What `docker:healing:pools` says of the pool goes over what is said of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NodeRules {
    /// Whether machines are given up.
    is_enabled: bool,
    /// After how many failures in a row.
    failures: u32,
    /// How long nobody must have heard of it.
    unresponsive: i64,
    /// How long its agent may say that it is not well, before its word is none; 0 for ever.
    since_success: i64,
}

impl NodeRules {
    fn of_pool(settings: &impl Settings, pool: &str) -> Self {
        let pools = settings.get("docker:healing:pools").unwrap_or_default();
        let own = pools.get(pool).cloned().unwrap_or_default();
        let seconds = |key: &str, usual: i64| {
            let (_, name) = key.rsplit_once(':').unwrap_or(("", key));
            let said = own.integer(name).or_else(|| settings.integer(key)).unwrap_or(usual);
            said.max(0).saturating_mul(1000)
        };
        let enabled = Settings::get(&own, "enabled");
        let enabled = enabled.or_else(|| settings.get("docker:healing:heal-nodes"));
        let failures = settings.integer("docker:healing:max-failures").unwrap_or(MAX_FAILURES);
        Self {
            is_enabled: enabled.is_none_or(|value| value != false),
            failures: u32::try_from(failures.max(1)).unwrap_or(u32::MAX),
            unresponsive: seconds("docker:healing:max-unresponsive-time", MAX_UNRESPONSIVE),
            since_success: seconds("docker:healing:max-time-since-success", 0),
        }
    }

    fn is_dead(&self, machine: &Machine, now: i64) -> bool {
        self.is_enabled
            && machine.creation != Creation::GivenUp
            && machine.last_success > 0
            && machine.failures >= self.failures
            && now.saturating_sub(machine.failing_since) >= self.unresponsive
            && self.is_silent(machine, now)
    }

    /// Whether no agent says that the machine lives: it is only out of reach while one does.
    fn is_silent(&self, machine: &Machine, now: i64) -> bool {
        let Some(last_report) = machine.checks.last_report() else { return true };
        let last_well = machine.checks.last_success().max(machine.last_success);
        now.saturating_sub(last_report) >= self.unresponsive
            || (self.since_success > 0 && now.saturating_sub(last_well) >= self.since_success)
    }
}

/// Looks at every machine and every unit.
pub(crate) fn examine() -> Result<Findings> {
    let max_illness = max_illness(&Config);
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
            Ok(_) => {
                // Whether one of the others may take units is seen when it is taken back.
                let may_take_units =
                    matches!(machine.creation, Creation::Created | Creation::Disabled);
                let seen = machine::update(address, |machine| match may_take_units {
                    true => machine.answered(name::now()),
                    false => machine.seen(name::now()),
                });
                logged(address, seen);
                if let Some(reason) = why_back(machine.creation, littered.contains(address)) {
                    let reason = reason.to_owned();
                    findings.recovered.push(NotedNode { address: address.to_owned(), reason });
                }
            }
            Err(error) => {
                // Removed while it was waited for.
                if !machine::is_given(address) && !machine::is_written_down(address)? {
                    continue;
                }
                machine::note_failure(address, error);
                let now = name::now();
                let Ok(noted) = Machines::read()?.find(address).cloned() else { continue };
                if NodeRules::of_pool(&Config, noted.pool()).is_dead(&noted, now) {
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
    let leaving = leaving::all()?;
    for unit in written.iter().filter(|unit| !unit.is_build()) {
        // Others are in the place of one that goes, and the next change removes it.
        let goes = leaving.get(&unit.app_name).is_some_and(|names| names.contains(&unit.name));
        if goes || !is_in_service(unit, &sight)? {
            continue;
        }
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
            max_illness.is_some_and(|limit| since > 0 && now.saturating_sub(since) >= limit);
        if let Some(reason) = illness
            && (at_once || is_long)
        {
            let (app_name, id) = (unit.app_name.clone(), unit.id.clone());
            findings.units.push(SickUnit { app_name, id, reason, node_given_up: at_once });
        }
    }
    Ok(findings)
}

/// Why a machine that answers is to be taken back; none when there is nothing to do there.
fn why_back(creation: Creation, is_littered: bool) -> Option<&'static str> {
    match creation {
        Creation::GivenUp => Some("it answers again"),
        _ if is_littered => Some("what is left of units that were replaced is to go"),
        Creation::Pending | Creation::Error => Some("it answers and is to be made ready"),
        Creation::Created | Creation::Disabled => None,
    }
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

/// Whether a unit is anybody's business but of whoever starts it. The platform hears nothing of an app that is being changed; if this one is not, a new unit that is there has outlived its change.
fn is_in_service(unit: &UnitRecord, sight: &Sight) -> Result<bool> {
    Ok(!unit.is_new || (!sight.lacks(unit) && observe::outlived(unit)?))
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

/// Replaces a unit that is ill, and gives the new one's id; none when it is well again, gone or on its way out.
pub(crate) fn heal_unit(app: &App, id: &str) -> Result<Option<String>> {
    let leaving = leaving::names(&app.name)?;
    let is_meant = |unit: &UnitRecord| unit.id == id && !leaving.contains(&unit.name);
    let Some(unit) = records::of_app(&app.name)?.into_iter().find(is_meant) else {
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
    if !is_ill || !is_in_service(&unit, &sight)? {
        return Ok(None);
    }
    // Not `to_change`: this one is to be replaced, whatever else there is.
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

/// Takes a machine back that was given up, and removes what is left there. Whether it takes units now, and did not before.
pub(crate) fn take_back_node(address: &str) -> Result<bool> {
    let before = Machines::read()?.find(address)?.creation;
    let written = nodes::on(address)?;
    let sight = lifecycle::to_meet(&BTreeSet::from([address]))?;
    let Some(containers) = sight.on(address) else { return Ok(false) };
    lifecycle::meet_again(address, containers, &written)?;
    crate::node_containers::ensure(address)?;
    let machine = machine::update(address, |machine| {
        machine.take_back();
        machine.answered(name::now());
    })?;
    Ok(machine.creation == Creation::Created && before != Creation::Created)
}

#[cfg(test)]
mod tests {
    use gantry_sdk::gantry_core::node::NodeCheckResult;
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

    fn rules(healing: serde_json::Value, pool: &str) -> NodeRules {
        NodeRules::of_pool(&json!({"docker": {"healing": healing}}), pool)
    }

    #[test]
    fn a_machine_is_dead_after_so_many_failures_and_so_long() {
        let healing = json!({"max-failures": 2, "max-unresponsive-time": 3});
        let rules_of_all = rules(healing, "p");
        let mut machine = Machine::unknown("n");
        machine.answered(1);
        machine.failed("no", 1_000, 0);
        assert!(!rules_of_all.is_dead(&machine, 9_000), "one failure is none");
        machine.failed("no", 2_000, 0);
        assert!(!rules_of_all.is_dead(&machine, 3_999), "it may still come");
        assert!(rules_of_all.is_dead(&machine, 4_000));
        let disabled = Machine { creation: Creation::Disabled, ..machine.clone() };
        assert!(rules_of_all.is_dead(&disabled, 9_000), "its units are dead all the same");
        for creation in [Creation::Pending, Creation::Error] {
            let again = Machine { creation, ..machine.clone() };
            assert!(
                rules_of_all.is_dead(&again, 9_000),
                "it was a node before, and may have units"
            );
        }
        let given_up = Machine { creation: Creation::GivenUp, ..machine.clone() };
        assert!(!rules_of_all.is_dead(&given_up, 9_000), "once is enough");
        let never = Machine { last_success: 0, ..machine.clone() };
        assert!(!rules_of_all.is_dead(&never, 9_000), "it was never there");
        assert!(!rules(json!({"heal-nodes": false}), "p").is_dead(&machine, i64::MAX));
    }

    #[test]
    fn a_machine_whose_agent_reports_is_only_out_of_reach() {
        let failed = NodeCheckResult::default();
        let mut machine = Machine::unknown("n");
        machine.answered(1_000);
        machine.failed("no", 2_000, 0);
        machine.checks.report(&[], 50_000);
        let healing =
            json!({"max-failures": 1, "max-unresponsive-time": 3, "max-time-since-success": 20});
        let silent = rules(healing, "p");
        assert!(!silent.is_dead(&machine, 52_999));
        assert!(silent.is_dead(&machine, 53_000), "the agent is silent as well");
        machine.checks.report(std::slice::from_ref(&failed), 69_000);
        assert!(!silent.is_dead(&machine, 69_999), "it lives, and may get well");
        machine.checks.report(std::slice::from_ref(&failed), 70_000);
        assert!(silent.is_dead(&machine, 70_000), "it has not been well for too long");
        let patient = rules(json!({"max-failures": 1, "max-unresponsive-time": 3}), "p");
        assert!(!patient.is_dead(&machine, 70_000), "nobody says how long that is");
    }

    #[test]
    fn what_is_said_of_a_pool_goes_over_what_is_said_of_all() {
        let healing = json!({
            "heal-nodes": false, "max-failures": 2, "max-unresponsive-time": 3,
            "pools": {
                "p": {"enabled": true, "max-unresponsive-time": 30, "max-time-since-success": 5},
                "q": {"enabled": false},
            },
        });
        let of_all =
            NodeRules { is_enabled: false, failures: 2, unresponsive: 3_000, since_success: 0 };
        assert_eq!(rules(healing.clone(), "other"), of_all);
        assert_eq!(rules(healing.clone(), "q"), of_all);
        let own =
            NodeRules { is_enabled: true, unresponsive: 30_000, since_success: 5_000, ..of_all };
        assert_eq!(rules(healing, "p"), own);
        let usual =
            NodeRules { is_enabled: true, failures: 5, unresponsive: 60_000, since_success: 0 };
        assert_eq!(rules(json!({}), ""), usual);
    }

    #[test]
    fn a_unit_may_be_ill_for_two_minutes_unless_somebody_says_otherwise() {
        let illness = |seconds: serde_json::Value| {
            max_illness(&json!({"docker": {"healing": {"heal-containers-timeout": seconds}}}))
        };
        assert_eq!(max_illness(&()), Some(120_000));
        assert_eq!((illness(json!(7)), illness(json!(0))), (Some(7_000), None));
    }
}

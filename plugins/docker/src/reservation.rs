//! Places that were chosen for units which have not started yet, in the plugin's durable keys: `placing/all`, one JSON document, for pools may share machines. Two changes that look for places at the same time see each other's. Whoever finds places for many apps before the first unit moves is told there when others choose.

use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Result, log, operation};
use serde::{Deserialize, Serialize};

use crate::{keys, name};

const KEY: &str = "placing/all";

/// All places that somebody holds, and who plans; gone when nobody does either.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Held {
    /// How often places were given back while others held some. The units of these are written down by now, or are none.
    given_back: u64,
    by: Vec<Chosen>,
    /// Those who look for places of units that move later.
    #[serde(default)]
    plans: Vec<Plan>,
}

impl Held {
    /// Gives the places back that are not to be kept.
    fn retain(&mut self, keep: impl FnMut(&Chosen) -> bool) {
        let before = self.by.len();
        self.by.retain(keep);
        if self.by.is_empty() {
            self.given_back = 0;
        } else if self.by.len() < before {
            self.given_back += 1;
        }
    }

    /// The units that are about to start.
    fn coming(&self) -> Vec<UnitRecord> {
        self.by.iter().flat_map(|chosen| &chosen.units).map(Coming::record).collect()
    }

    /// Tells the plans of all operations but this one that somebody chose places beside them.
    fn outdate(&mut self, but: Option<&str>) {
        let others = self.plans.iter_mut().filter(|plan| Some(plan.operation.as_str()) != but);
        others.for_each(|plan| plan.is_outdated = true);
    }

    /// Whether somebody chose places since this operation last looked, which is now. One whose plan is not there does not know.
    fn look(&mut self, operation: &str, until: i64) -> bool {
        let plan = self.plans.iter_mut().find(|plan| plan.operation == operation);
        if let Some(plan) = plan {
            return std::mem::take(&mut plan.is_outdated);
        }
        let operation = operation.to_owned();
        self.plans.push(Plan { operation, until, is_outdated: false });
        true
    }
}

/// That places were found for units of many apps, which move one app after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    operation: String,
    /// When it is over for sure, in milliseconds since 1970.
    until: i64,
    /// Whether somebody chose places beside it since it looked for its own.
    is_outdated: bool,
}

/// A unit that is about to start, as far as the scheduler looks at it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Coming {
    name: String,
    app: String,
    process: String,
    node: String,
}

impl Coming {
    fn new(unit: &UnitRecord, node: &str) -> Self {
        Self {
            name: unit.name.clone(),
            app: unit.app_name.clone(),
            process: unit.process_name.clone(),
            node: node.to_owned(),
        }
    }

    fn record(&self) -> UnitRecord {
        UnitRecord {
            name: self.name.clone(),
            app_name: self.app.clone(),
            process_name: self.process.clone(),
            node: self.node.clone(),
            ..UnitRecord::default()
        }
    }
}

/// How often others gave places back, for one who looked before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GivenBack {
    pub(crate) times: u64,
    /// Whether this change held places all the time: without any it may have missed that the count began anew.
    pub(crate) holds: bool,
}

/// What one change has chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Chosen {
    /// The change.
    operation: String,
    /// When it is over for sure, in milliseconds since 1970: one that died holds its places no longer.
    until: i64,
    units: Vec<Coming>,
}

impl Chosen {
    /// Whether a change of this app chose them. Only one changes an app at a time, so an earlier one is dead.
    fn is_of(&self, app: &str) -> bool {
        self.units.iter().any(|unit| unit.app == app)
    }
}

/// The places of a change, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    operation: String,
}

impl Reservation {
    /// That of this change, without any place yet.
    pub(crate) fn new() -> Self {
        Self { operation: operation::id() }
    }

    /// Chooses a node for each unit, knowing the other units that are about to start, and holds the places. Chooses anew when others chose meanwhile.
    ///
    /// `choose` is told how often places were given back, too, and whether this change held places already. While it did and the number is the same, no unit of others was written down that is not about to start.
    pub(crate) fn take(
        &self,
        app: &App,
        units: &[&UnitRecord],
        mut choose: impl FnMut(Vec<UnitRecord>, GivenBack) -> Result<Vec<String>>,
    ) -> Result<Vec<String>> {
        change(|held| {
            self.begin(held, app, units);
            let holds = held.by.iter().any(|chosen| chosen.operation == self.operation);
            let nodes = choose(held.coming(), GivenBack { times: held.given_back, holds })?;
            self.hold(held, units, &nodes);
            held.outdate(None);
            Ok(nodes)
        })
    }

    /// Takes the places that a plan of this operation has for some of its units. When others chose since it looked, or it has to look anyway, `planned` is told of the units that are about to start, and looks again. Nothing is taken when it has no places any more.
    pub(crate) fn take_planned(
        &self,
        app: &App,
        units: &[&UnitRecord],
        looks: bool,
        mut planned: impl FnMut(Option<Vec<UnitRecord>>) -> Result<Option<Vec<String>>>,
    ) -> Result<Option<Vec<String>>> {
        change(|held| {
            self.begin(held, app, units);
            let outdated = held.look(&self.operation, until()) || looks;
            let Some(nodes) = planned(outdated.then(|| held.coming()))? else { return Ok(None) };
            self.hold(held, units, &nodes);
            held.outdate(Some(&self.operation));
            Ok(Some(nodes))
        })
    }

    /// Gives back what is held for sure by nobody, and what is held for these units.
    fn begin(&self, held: &mut Held, app: &App, units: &[&UnitRecord]) {
        let now = name::now();
        held.plans.retain(|plan| plan.until > now);
        held.retain(|chosen| {
            chosen.until > now && (chosen.operation == self.operation || !chosen.is_of(&app.name))
        });
        for chosen in held.by.iter_mut().filter(|chosen| chosen.operation == self.operation) {
            chosen.units.retain(|held| units.iter().all(|unit| unit.name != held.name));
        }
    }

    fn hold(&self, held: &mut Held, units: &[&UnitRecord], nodes: &[String]) {
        held.by.push(Chosen {
            operation: self.operation.clone(),
            until: until(),
            units: units.iter().zip(nodes).map(|(unit, node)| Coming::new(unit, node)).collect(),
        });
    }

    fn give_back(&self) -> Result<()> {
        change(|held| {
            held.retain(|chosen| chosen.operation != self.operation);
            Ok(())
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Held too long, they are nobody's after a while.
        if let Err(error) = self.give_back() {
            log::warn("places are not given back", &[("error", &error.to_string())]);
        }
    }
}

/// Told, from now until this is dropped, when others choose places.
#[derive(Debug)]
pub(crate) struct Watch {
    operation: String,
}

impl Watch {
    /// Before what is written down is read. Where others are about to start units, which are not written down, there is something to be told at once.
    pub(crate) fn begin() -> Result<Self> {
        let operation = operation::id();
        change(|held| {
            let now = name::now();
            held.plans.retain(|plan| plan.until > now && plan.operation != operation);
            let is_outdated = !held.by.is_empty();
            held.plans.push(Plan { operation: operation.clone(), until: until(), is_outdated });
            Ok(())
        })?;
        Ok(Self { operation })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let ended = change(|held| {
            held.plans.retain(|plan| plan.operation != self.operation);
            Ok(())
        });
        if let Err(error) = ended {
            log::warn("a plan is not taken back", &[("error", &error.to_string())]);
        }
    }
}

/// When this operation is over for sure.
fn until() -> i64 {
    let time = i64::try_from(operation::remaining().as_millis()).unwrap_or(i64::MAX);
    name::now().saturating_add(time)
}

/// What cannot be read is nobody's.
fn change<R>(change: impl FnMut(&mut Held) -> Result<R>) -> Result<R> {
    keys::change(KEY, keys::read_if_readable, change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_counted_while_others_hold_places() {
        let chosen = |operation: &str| Chosen {
            operation: operation.to_owned(),
            until: 0,
            units: Vec::new(),
        };
        let by = ["a", "b", "c"].map(chosen).to_vec();
        let mut held = Held { by, ..Held::default() };
        held.retain(|_| true);
        assert_eq!(held.given_back, 0);
        held.retain(|chosen| chosen.operation != "a");
        held.retain(|chosen| chosen.operation != "b");
        assert_eq!((held.given_back, held.by.len()), (2, 1));
        held.retain(|_| false);
        assert_eq!(held, Held::default(), "nothing is left to be kept");
    }

    #[test]
    fn a_plan_is_told_once_that_others_chose_and_one_that_is_not_there_knows_nothing() {
        let mut held = Held::default();
        assert!(held.look("plan", 1), "it has to look");
        assert!(!held.look("plan", 1));
        held.outdate(Some("plan"));
        assert!(!held.look("plan", 1), "what it took itself it knows");
        held.outdate(Some("deploy"));
        assert!(held.look("plan", 1));
        assert!(!held.look("plan", 1));
        held.outdate(None);
        assert!(held.look("plan", 1), "what was chosen anew for one of its units it does not");
    }
}

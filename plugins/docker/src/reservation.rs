//! Places that were chosen for units which have not started yet, in the plugin's durable keys: `placing/all`, one JSON document, for pools may share machines. Two changes that look for places at the same time see each other's.

use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Result, log, operation};
use serde::{Deserialize, Serialize};

use crate::{keys, name};

const KEY: &str = "placing/all";

/// All places that somebody holds; gone when nobody does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Held {
    /// How often places were given back while others held some. The units of these are written down by now, or are none.
    given_back: u64,
    by: Vec<Chosen>,
}

impl Held {
    /// Gives the places back that are not to be kept.
    fn retain(&mut self, keep: impl FnMut(&Chosen) -> bool) {
        let before = self.by.len();
        self.by.retain(keep);
        if self.by.is_empty() {
            *self = Self::default();
        } else if self.by.len() < before {
            self.given_back += 1;
        }
    }
}

/// What one change has chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Chosen {
    /// The change.
    operation: String,
    /// When it is over for sure, in milliseconds since 1970: one that died holds its places no longer.
    until: i64,
    /// The units, as far as the scheduler looks at them.
    units: Vec<UnitRecord>,
}

impl Chosen {
    /// Whether a change of this app chose them. Only one changes an app at a time, so an earlier one is dead.
    fn is_of(&self, app: &str) -> bool {
        self.units.iter().any(|unit| unit.app_name == app)
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
    /// `choose` is told how often places were given back, too: while it is the same number in one change, whose places these are, no unit of others was written down that is not about to start.
    pub(crate) fn take(
        &self,
        app: &App,
        units: &[&UnitRecord],
        mut choose: impl FnMut(Vec<UnitRecord>, u64) -> Result<Vec<String>>,
    ) -> Result<Vec<String>> {
        let now = name::now();
        let time = i64::try_from(operation::remaining().as_millis()).unwrap_or(i64::MAX);
        change(|held| {
            held.retain(|chosen| {
                chosen.until > now
                    && (chosen.operation == self.operation || !chosen.is_of(&app.name))
            });
            for chosen in held.by.iter_mut().filter(|chosen| chosen.operation == self.operation) {
                chosen.units.retain(|held| units.iter().all(|unit| unit.name != held.name));
            }
            let coming = held.by.iter().flat_map(|chosen| chosen.units.clone()).collect();
            let nodes = choose(coming, held.given_back)?;
            held.by.push(Chosen {
                operation: self.operation.clone(),
                until: now.saturating_add(time),
                units: units.iter().zip(&nodes).map(|(unit, node)| at(unit, node)).collect(),
            });
            Ok(nodes)
        })
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

/// A unit as the scheduler sees it.
fn at(unit: &UnitRecord, node: &str) -> UnitRecord {
    UnitRecord {
        name: unit.name.clone(),
        app_name: unit.app_name.clone(),
        process_name: unit.process_name.clone(),
        node: node.to_owned(),
        ..UnitRecord::default()
    }
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
        let mut held = Held { given_back: 0, by: ["a", "b", "c"].map(chosen).to_vec() };
        held.retain(|_| true);
        assert_eq!(held.given_back, 0);
        held.retain(|chosen| chosen.operation != "a");
        held.retain(|chosen| chosen.operation != "b");
        assert_eq!((held.given_back, held.by.len()), (2, 1));
        held.retain(|_| false);
        assert_eq!(held, Held::default(), "nothing is left to be kept");
    }
}

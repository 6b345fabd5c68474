//! The places of units that leave theirs, found for all of them at once, however many apps they are of. They move later, one app after the other: where memory counts, room that others took meanwhile is not taken twice.

use std::cell::RefCell;
use std::collections::BTreeMap;

use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Result};

use crate::machine::Machines;
use crate::placing;
use crate::records;
use crate::reservation::{Reservation, Watch};
use crate::scheduler::{Memory, Node};

/// Where units go, by the ids that they have now.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Without those that have gone.
    to: RefCell<BTreeMap<String, Target>>,
    /// None where memory does not count: then nothing that others do matters.
    watch: Option<Watch>,
}

/// The place that was found for a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The unit's app.
    pub(crate) app: String,
    /// The address of the node.
    pub(crate) node: String,
}

/// Begins to watch what others do, where memory counts: before a plan is made.
pub(crate) fn watch() -> Result<Option<Watch>> {
    placing::memory_counts().then(Watch::begin).transpose()
}

impl Planned {
    pub(crate) fn new(to: BTreeMap<String, Target>, watch: Option<Watch>) -> Self {
        Self { to: RefCell::new(to), watch }
    }

    /// Takes the places of new units, each in place of the old one of this id. None when one of those has no place, or none that it may have any more.
    pub(crate) fn take(
        &self,
        reserved: &Reservation,
        app: &App,
        units: &[&UnitRecord],
        old: &[String],
        may: impl Fn(&str) -> bool,
    ) -> Result<Option<Vec<String>>> {
        let nodes = || {
            let to = self.to.borrow();
            let node = |id: &String| to.get(id).map(|to| &to.node).filter(|node| may(node));
            old.iter().map(|id| node(id).cloned()).collect::<Option<Vec<String>>>()
        };
        let Some(now) = nodes() else { return Ok(None) };
        if self.watch.is_none() {
            return reserved.take(app, units, |_, _| Ok(now.clone())).map(Some);
        }
        let taken = reserved.take_planned(app, units, |coming| {
            if let Some(coming) = coming {
                self.look_again(coming)?;
            }
            Ok(nodes())
        })?;
        // The new units are written down before the next ones move.
        self.to.borrow_mut().retain(|id, _| !old.contains(id));
        Ok(taken)
    }

    /// Gives up the places for which others left no room.
    fn look_again(&self, coming: Vec<UnitRecord>) -> Result<()> {
        let mut to = self.to.borrow_mut();
        let mut there = placing::with_coming(records::all()?, coming);
        // What those that leave need counts where they go.
        let memory = placing::memory(None, &there)?;
        there.retain(|unit| !to.contains_key(&unit.id));
        let machines = Machines::read()?;
        let nodes = machines.all().iter().map(|machine| Node {
            address: machine.address.clone(),
            metadata: machine.metadata.clone(),
            enabled: true,
        });
        keep_what_fits(&mut to, nodes, &there, &memory);
        Ok(())
    }
}

/// The decision: keeps the places that have room beside the units that are there. Units that leave are not among those.
fn keep_what_fits(
    to: &mut BTreeMap<String, Target>,
    nodes: impl IntoIterator<Item = Node>,
    there: &[UnitRecord],
    memory: &Memory,
) {
    let limit = |node: Node| Some((memory.limit(&node)?, node.address));
    let mut room: BTreeMap<String, i64> =
        nodes.into_iter().filter_map(limit).map(|(limit, address)| (address, limit)).collect();
    for unit in there {
        if let Some(room) = room.get_mut(&unit.node) {
            *room = room.saturating_sub(memory.of(&unit.app_name));
        }
    }
    to.retain(|_, to| {
        let Some(room) = room.get_mut(&to.node) else { return true };
        let bytes = memory.of(&to.app);
        let fits = *room >= bytes;
        if fits {
            *room = room.saturating_sub(bytes);
        }
        fits
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_kept_as_long_as_there_is_room_for_them() {
        let target = |app: &str, node: &str| Target { app: app.to_owned(), node: node.to_owned() };
        let node = |address: &str, memory: &str| Node {
            address: address.to_owned(),
            metadata: BTreeMap::from([("memory".to_owned(), memory.to_owned())]),
            enabled: true,
        };
        let unit = |app: &str, node: &str| UnitRecord {
            app_name: app.to_owned(),
            node: node.to_owned(),
            ..UnitRecord::default()
        };
        let memory = Memory {
            ratio: 1.0,
            total_key: "memory".to_owned(),
            of_apps: [("small", 100), ("big", 200)].map(|(app, of)| (app.to_owned(), of)).into(),
            grows: false,
        };
        let all =
            [("1", "small", "h0"), ("2", "big", "h0"), ("3", "small", "h0"), ("4", "big", "h1")];
        let cases: [(&[UnitRecord], &[&str]); 4] = [
            (&[], &["1", "2", "3", "4"]),
            // 100 less on h0: nothing is left for the third.
            (&[unit("small", "h0")], &["1", "2", "4"]),
            // What is too big goes elsewhere, what is not stays.
            (&[unit("big", "h0"), unit("big", "h0")], &["4"]),
            (&[unit("big", "h0"), unit("big", "h1")], &["1", "3", "4"]),
        ];
        for (there, kept) in cases {
            let mut to: BTreeMap<String, Target> =
                all.iter().map(|(id, app, node)| ((*id).to_owned(), target(app, node))).collect();
            // Of h1 nobody said how much it has.
            let nodes = [node("h0", "400"), node("h1", "")];
            keep_what_fits(&mut to, nodes, there, &memory);
            assert_eq!(to.keys().collect::<Vec<_>>(), kept, "{there:?}");
        }
    }
}

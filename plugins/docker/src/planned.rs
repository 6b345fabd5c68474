//! The places of units that leave theirs, found for all of them at once, however many apps they are of. They move later, one app after the other: where memory counts, room that others took meanwhile is not taken twice.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

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
    /// Of those whose turn is not over.
    to: RefCell<BTreeMap<String, Target>>,
    /// None where memory does not count: then nothing that others do matters.
    watch: Option<Rc<Watch>>,
    /// What is known of what the apps need.
    memory: RefCell<Memory>,
    /// Whether units stay that were to go.
    some_stayed: Cell<bool>,
}

/// The place that was found for a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The unit's app.
    pub(crate) app: String,
    /// The address of the node.
    pub(crate) node: String,
}

/// Begins to watch what others do, where memory counts: before what a plan is made of is read.
pub(crate) fn watch() -> Result<Option<Rc<Watch>>> {
    Ok(placing::memory_counts().then(Watch::begin).transpose()?.map(Rc::new))
}

impl Planned {
    pub(crate) fn new(
        to: BTreeMap<String, Target>,
        watch: Option<Rc<Watch>>,
        memory: Memory,
    ) -> Self {
        let (to, memory) = (RefCell::new(to), RefCell::new(memory));
        Self { to, watch, memory, some_stayed: Cell::new(false) }
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
        let taken = reserved.take_planned(app, units, self.some_stayed.get(), |coming| {
            if let Some(coming) = coming {
                self.look_again(coming, old)?;
            }
            Ok(nodes())
        })?;
        self.some_stayed.set(false);
        Ok(taken)
    }

    /// The turn of these units is over: they are where they are written down to be. Those that did not go may be where others are to.
    pub(crate) fn over(&self, ids: &[String], have_gone: bool) {
        let mut to = self.to.borrow_mut();
        for id in ids {
            to.remove(id);
        }
        if !have_gone {
            self.some_stayed.set(true);
        }
    }

    /// Gives up the places for which others left no room.
    fn look_again(&self, coming: Vec<UnitRecord>, now: &[String]) -> Result<()> {
        let written = placing::with_coming(records::all()?, coming);
        let mut memory = self.memory.borrow_mut();
        placing::learn_needs(&mut memory, &written)?;
        let machines = Machines::read()?;
        let nodes = machines.all().iter().map(|machine| Node {
            address: machine.address.clone(),
            metadata: machine.metadata.clone(),
            enabled: true,
        });
        keep_what_fits(&mut self.to.borrow_mut(), now, nodes, &written, &memory);
        Ok(())
    }
}

/// The decision: keeps the places for which there is room beside the units that do not leave, first those of the units whose turn is now. Of a unit that is not written down any more, no place is kept before its turn.
fn keep_what_fits(
    to: &mut BTreeMap<String, Target>,
    now: &[String],
    nodes: impl IntoIterator<Item = Node>,
    written: &[UnitRecord],
    memory: &Memory,
) {
    let ids: BTreeSet<&str> = written.iter().map(|unit| unit.id.as_str()).collect();
    to.retain(|id, _| ids.contains(id.as_str()) || now.contains(id));
    let limit = |node: Node| Some((memory.limit(&node)?, node.address));
    let mut room: BTreeMap<String, i64> =
        nodes.into_iter().filter_map(limit).map(|(limit, address)| (address, limit)).collect();
    for unit in written.iter().filter(|unit| !to.contains_key(&unit.id)) {
        if let Some(room) = room.get_mut(&unit.node) {
            *room = room.saturating_sub(memory.of(&unit.app_name));
        }
    }
    let later = to.keys().filter(|id| !now.contains(id)).cloned();
    for id in now.iter().cloned().chain(later).collect::<Vec<_>>() {
        let Some(target) = to.get(&id) else { continue };
        let Some(room) = room.get_mut(&target.node) else { continue };
        let bytes = memory.of(&target.app);
        if *room >= bytes {
            *room = room.saturating_sub(bytes);
        } else {
            to.remove(&id);
        }
    }
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
        let unit = |id: &str, app: &str, node: &str| UnitRecord {
            id: id.to_owned(),
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
        // Units that leave, with where they go. Of h1 nobody said how much it has.
        let all =
            [("1", "small", "h0"), ("2", "big", "h0"), ("3", "small", "h0"), ("4", "big", "h1")];
        let (small, big) = (unit("x", "small", "h0"), unit("y", "big", "h0"));
        let elsewhere = unit("z", "big", "h1");
        let none: &[&UnitRecord] = &[];
        let cases = [
            (none, "", "", "1 2 3 4"),
            // 100 less on h0: nothing is left for the last, unless its turn is now.
            (&[&small], "", "", "1 2 4"),
            (&[&small], "3", "", "1 3 4"),
            // What is too big goes elsewhere, what is not stays.
            (&[&big, &big], "", "", "4"),
            (&[&big, &elsewhere], "", "", "1 3 4"),
            // One that somebody removed meanwhile needs no place, and one whose turn is now does.
            (&[&small], "", "2", "1 3 4"),
            (&[&small], "2", "2", "1 2 4"),
        ];
        for (others, now, gone, kept) in cases {
            let mut to: BTreeMap<String, Target> =
                all.iter().map(|(id, app, node)| ((*id).to_owned(), target(app, node))).collect();
            let there = all.iter().filter(|(id, ..)| *id != gone);
            let mut written: Vec<UnitRecord> =
                there.map(|(id, app, _)| unit(id, app, "h0")).collect();
            written.extend(others.iter().map(|unit| (*unit).clone()));
            let now: Vec<String> = now.split_whitespace().map(ToOwned::to_owned).collect();
            let nodes = [node("h0", "400"), node("h1", "")];
            keep_what_fits(&mut to, &now, nodes, &written, &memory);
            let ids: Vec<String> = to.into_keys().collect();
            assert_eq!(ids.join(" "), kept, "{others:?} {now:?} {gone:?}");
        }
    }
}

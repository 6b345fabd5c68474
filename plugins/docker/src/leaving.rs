//! The units on their way out, in the plugin's durable keys: `leaving/<app>`, a JSON list of their names.
//!
//! ```text
//! new units checked ─► image current: no way back ─► the old units are written down here ─► stopped and removed ─► forgotten here
//! ```
//!
//! Whoever finds such a list, after the platform died in the middle, removes what is left of it: at the start, or with the next change of the app.

use std::collections::{BTreeMap, BTreeSet};

use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{Result, log, state};

use crate::{keys, orphans, removal};

/// Where all lists are.
const ALL: &str = "leaving/";

/// Writes down which units of an app go, before the first of them does. Those of an earlier change that are still there stay on the list.
pub(crate) fn begin(app: &str, units: &[UnitRecord]) -> Result<()> {
    change(app, |names| names.extend(units.iter().map(|unit| unit.name.clone())))
}

/// They are gone.
pub(crate) fn end(app: &str, units: &[UnitRecord]) -> Result<()> {
    change(app, |names| names.retain(|name| units.iter().all(|unit| unit.name != *name)))
}

/// Removes what is left of the units of an app that were on their way out. Gives the others, and those that cannot be removed. What is on a node that does not answer goes when it does.
pub(crate) fn finish(
    app: &str,
    units: Vec<UnitRecord>,
    silent: &BTreeSet<String>,
) -> Result<(Vec<UnitRecord>, Vec<UnitRecord>)> {
    let names = names(app)?;
    if names.is_empty() {
        return Ok((units, Vec::new()));
    }
    let (leaving, staying) = split(units, &names);
    let mut stuck = Vec::new();
    let (away, leaving): (Vec<_>, Vec<_>) =
        leaving.into_iter().partition(|unit| silent.contains(&unit.node));
    for unit in &away {
        orphans::leave(unit)?;
    }
    removal::remove_left(&leaving, |unit, result| match result {
        Ok(()) => log::info("a replaced unit is removed", &[("app", app), ("unit", &unit.id)]),
        Err(_) => stuck.push(unit.clone()),
    })?;
    if stuck.is_empty() {
        keys::remove(&key(app))?;
    }
    Ok((staying, stuck))
}

/// The names of the units of an app that are on their way out.
pub(crate) fn names(app: &str) -> Result<BTreeSet<String>> {
    Ok(keys::get(&key(app))?.unwrap_or_default())
}

/// The names of all units that are on their way out, by app.
pub(crate) fn all() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let entries = state::all(ALL)?;
    let of_apps = entries.iter().filter_map(|entry| Some((entry.key.strip_prefix(ALL)?, entry)));
    of_apps.map(|(app, entry)| Ok((app.to_owned(), keys::read(entry)?))).collect()
}

/// The units that go, and those that stay.
fn split(units: Vec<UnitRecord>, names: &BTreeSet<String>) -> (Vec<UnitRecord>, Vec<UnitRecord>) {
    units.into_iter().partition(|unit| names.contains(&unit.name))
}

fn key(app: &str) -> String {
    format!("{ALL}{app}")
}

fn change(app: &str, change: impl Fn(&mut BTreeSet<String>)) -> Result<()> {
    keys::change(&key(app), keys::read, |names| {
        change(names);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_goes_and_everything_else_stays() {
        let unit = |name: &str| UnitRecord { name: name.to_owned(), ..UnitRecord::default() };
        let names = ["1", "gone"].map(str::to_owned).into();
        let (leaving, staying) = split(vec![unit("1"), unit("2")], &names);
        assert_eq!((leaving, staying), (vec![unit("1")], vec![unit("2")]));
    }
}

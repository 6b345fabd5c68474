//! The units on their way out, in the plugin's durable keys: `leaving/<app>`, a JSON list of their names.
//!
//! ```text
//! new units checked ─► image current: no way back ─► the old units are written down here ─► stopped and removed ─► forgotten here
//! ```
//!
//! Whoever finds such a list, after the platform died in the middle, removes what is left of it: at the start, or with the next change of the app.

use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::state::{self, Entry};
use gantry_sdk::{Error, Result, log};

use crate::node::Node;
use crate::removal;

/// Where all lists are.
const ALL: &str = "leaving/";

/// Writes down which units of an app go, before the first of them does.
pub(crate) fn begin(app: &str, units: &[UnitRecord]) -> Result<()> {
    let names: Vec<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
    let value = serde_json::to_vec(&names).map_err(|error| Error::Other(error.to_string()))?;
    let key = key(app);
    // A list from before: every unit on it that still exists is among the ones that go now.
    let before = state::get(&key)?.map(|entry| entry.version);
    state::put_if(&key, &value, before).map(drop)
}

/// They are gone.
pub(crate) fn end(app: &str) -> Result<()> {
    let key = key(app);
    match state::get(&key)? {
        Some(entry) => state::delete_if(&key, entry.version),
        None => Ok(()),
    }
}

/// Removes what is left of the units of an app that were on their way out, and gives the others.
pub(crate) fn finish(node: &Node, app: &str, units: Vec<UnitRecord>) -> Result<Vec<UnitRecord>> {
    let Some(entry) = state::get(&key(app))? else { return Ok(units) };
    let names = read(&entry)?;
    let (leaving, mut staying) = split(units, &names);
    let mut all_gone = true;
    removal::remove_left(node, &leaving, |unit, result| match result {
        Ok(()) => log::info("a replaced unit is removed", &[("app", app), ("unit", &unit.id)]),
        Err(_) => {
            // It exists, whatever it was meant to do.
            all_gone = false;
            staying.push(unit.clone());
        }
    })?;
    if all_gone {
        state::delete_if(&entry.key, entry.version)?;
    }
    Ok(staying)
}

/// The apps of which units are on their way out.
pub(crate) fn apps() -> Result<Vec<String>> {
    let entries = state::all(ALL)?;
    Ok(entries.iter().filter_map(|entry| entry.key.strip_prefix(ALL)).map(str::to_owned).collect())
}

/// The units that go, and those that stay.
fn split(units: Vec<UnitRecord>, names: &[String]) -> (Vec<UnitRecord>, Vec<UnitRecord>) {
    units.into_iter().partition(|unit| names.contains(&unit.name))
}

fn key(app: &str) -> String {
    format!("{ALL}{app}")
}

fn read(entry: &Entry) -> Result<Vec<String>> {
    serde_json::from_slice(&entry.value)
        .map_err(|error| Error::Other(format!("unreadable list `{}`: {error}", entry.key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_goes_and_everything_else_stays() {
        let unit = |name: &str| UnitRecord { name: name.to_owned(), ..UnitRecord::default() };
        let entry = Entry { key: key("web"), value: br#"["1","gone"]"#.to_vec(), version: 1 };
        let names = read(&entry).unwrap();
        let (leaving, staying) = split(vec![unit("1"), unit("2")], &names);
        assert_eq!((leaving, staying), (vec![unit("1")], vec![unit("2")]));
        let error = read(&Entry { value: b"no".to_vec(), ..entry }).unwrap_err().to_string();
        assert!(error.starts_with("unreadable list `leaving/web`: "), "{error}");
    }
}

//! The units that are written down, in the plugin's durable keys: `units/<app>/<name>`, a JSON record each (spec 5.1).

use gantry_sdk::gantry_core::record::{UnitRecord, find_by_id_prefix};
use gantry_sdk::state;
use gantry_sdk::{Error, Result};

use crate::keys;
use crate::machine::Machines;

/// Where all records are.
const ALL: &str = "units/";

/// The records of an app, the oldest unit first.
pub(crate) fn of_app(app: &str) -> Result<Vec<UnitRecord>> {
    some(&place_of_app(app), None, usize::MAX)
}

/// Every record, by app, the oldest unit first.
pub(crate) fn all() -> Result<Vec<UnitRecord>> {
    some("", None, usize::MAX)
}

/// The record of the unit that an id or a prefix of it means.
pub(crate) fn find(records: Vec<UnitRecord>, id: &str) -> Result<UnitRecord> {
    let ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
    let position = find_by_id_prefix(&ids, id)?;
    records.into_iter().nth(position).ok_or_else(|| Error::UnitNotFound(id.to_owned()))
}

/// Writes a record, whatever is there.
pub(crate) fn save(record: &UnitRecord) -> Result<()> {
    keys::put(&key(record), record)
}

/// Writes a record unless there is one; tells whether it did.
pub(crate) fn save_new(record: &UnitRecord) -> Result<bool> {
    keys::put_new(&key(record), record)
}

/// Changes a record; none when it is gone.
pub(crate) fn update(
    record: &UnitRecord,
    mut change: impl FnMut(&mut UnitRecord),
) -> Result<Option<UnitRecord>> {
    keys::change(&key(record), keys::read, |written: &mut Option<UnitRecord>| {
        written.iter_mut().for_each(&mut change);
        Ok(written.clone())
    })
}

/// Forgets a record. Forgetting what is gone succeeds.
pub(crate) fn remove(record: &UnitRecord) -> Result<()> {
    keys::remove(&key(record))
}

/// At most so many records whose place, an app and a name, starts with this prefix and comes after another, by place.
pub(crate) fn some(prefix: &str, after: Option<&str>, most: usize) -> Result<Vec<UnitRecord>> {
    let prefix = format!("{ALL}{prefix}");
    let mut after = after.map(|after| format!("{ALL}{after}"));
    let mut records: Vec<UnitRecord> = Vec::new();
    while records.len() < most {
        let left = u32::try_from(most - records.len()).unwrap_or(u32::MAX);
        let page = state::list(&prefix, after.as_deref(), left)?;
        for entry in &page.entries {
            records.push(keys::read(entry)?);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    // Written down before there were several hosts.
    if records.iter().any(|record| record.node.is_empty()) {
        let machines = Machines::read()?;
        for record in &mut records {
            record.node = machines.address_of(record);
        }
    }
    Ok(records)
}

/// With what the places of an app's records start.
pub(crate) fn place_of_app(app: &str) -> String {
    format!("{app}/")
}

/// Where a record is among all of them: its app and its name.
pub(crate) fn place(record: &UnitRecord) -> String {
    format!("{}{}", place_of_app(&record.app_name), record.name)
}

fn key(record: &UnitRecord) -> String {
    format!("{ALL}{}", place(record))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> UnitRecord {
        UnitRecord {
            id: id.to_owned(),
            name: format!("web-{id}"),
            app_name: "web".to_owned(),
            ..UnitRecord::default()
        }
    }

    #[test]
    fn a_record_is_kept_under_its_app_and_name() {
        assert_eq!(key(&record("1")), "units/web/web-1");
        assert!(place(&record("1")).starts_with(&place_of_app("web")));
        assert!(!place(&record("1")).starts_with(&place_of_app("we")));
    }

    #[test]
    fn a_prefix_finds_the_one_unit_it_means() {
        let records = || vec![record("abc"), record("abd"), record("b")];
        assert_eq!(find(records(), "abd").unwrap().id, "abd");
        assert_eq!(find(records(), "b").unwrap().id, "b");
        assert_eq!(find(records(), "x"), Err(Error::UnitNotFound("x".to_owned())));
        assert!(matches!(find(records(), "ab"), Err(Error::InvalidArgument(_))));
    }
}

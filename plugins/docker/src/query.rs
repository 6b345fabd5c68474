//! What people ask about units, and what units tell (spec 5.9, 5.10).

use std::collections::{BTreeMap, BTreeSet};

use gantry_sdk::gantry_core::record::{Report, UnitRecord};
use gantry_sdk::{App, Error, Result, Status, Unit, UnitPage, images, log};

use crate::host::{Host, set_network};
use crate::image;
use crate::leaving;
use crate::machine::{Creation, Machines};
use crate::name;
use crate::observe::{is_only_begun, observed};
use crate::records;

/// Units on one page.
const PAGE: usize = 500;

/// The units of these apps, or of all, as the engine sees them now, by app and name. What is not on the page is not read.
pub(crate) fn units(apps: &[App], after: Option<&str>) -> Result<UnitPage> {
    let by_name: BTreeMap<&str, &App> = apps.iter().map(|app| (app.name.as_str(), app)).collect();
    let prefixes = if apps.is_empty() { vec![String::new()] } else { prefixes(&by_name, after) };
    let mut records = Vec::new();
    for prefix in prefixes {
        // One more tells whether there is a next page.
        records.extend(records::some(&prefix, after, PAGE + 1 - records.len())?);
        if records.len() > PAGE {
            break;
        }
    }
    let is_last = records.len() <= PAGE;
    records.truncate(PAGE);
    let next = records.last().filter(|_| !is_last).map(records::place);
    let unknown = App::default();
    let unit = |record: &UnitRecord| {
        record.unit(by_name.get(record.app_name.as_str()).copied().unwrap_or(&unknown))
    };
    Ok(UnitPage { units: observed(records).iter().map(unit).collect(), next })
}

/// What the places of these apps' units start with, in their order; not of those that are wholly before a place.
fn prefixes(apps: &BTreeMap<&str, &App>, after: Option<&str>) -> Vec<String> {
    let mut prefixes: Vec<String> = apps.keys().map(|name| records::place_of_app(name)).collect();
    prefixes.sort_unstable();
    prefixes.retain(|prefix| {
        after.is_none_or(|after| prefix.as_str() >= after || after.starts_with(prefix.as_str()))
    });
    prefixes
}

/// The addresses of the units of the web process, as the current image names it. What does not run is left out (design 10.4).
pub(crate) fn routable_addresses(app: &App) -> Result<Vec<String>> {
    let units = records::of_app(&app.name)?;
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let current = images::current(&app.name)?;
    let metadata = image::metadata(&current, &units)?;
    let web = metadata.web_process_name();
    let routable = observed(units).into_iter().filter(|unit| {
        let serves = matches!(unit.status, Some(Status::Starting | Status::Started));
        serves && unit.process_name == web && !is_only_begun(unit, Some(&current))
    });
    let leaving = leaving::names(&app.name)?;
    // What is on a machine that was given up is as it was written down, and serves nobody.
    let machines = Machines::read()?;
    let is_given_up = |unit: &UnitRecord| {
        machines.find(&unit.node).is_ok_and(|machine| machine.creation == Creation::GivenUp)
    };
    Ok(routable
        .filter(|unit| !is_given_up(unit) && !leaving.contains(&unit.name))
        .filter_map(|unit| unit.address())
        .collect())
}

/// A unit tells that it has begun: the unit of a build about its image, any other that it is up.
pub(crate) fn register(app: &App, unit_id: &str, custom_data: Option<&str>) -> Result<()> {
    let unit = records::find(records::of_app(&app.name)?, unit_id)?;
    if unit.status == Some(Status::Building) {
        let (Some(data), true) = (custom_data, unit.is_build()) else {
            return Ok(());
        };
        let data = serde_json::from_str(data)
            .map_err(|error| Error::InvalidArgument(format!("custom data: {error}")))?;
        return images::save_metadata(&unit.building_image, &data);
    }
    let mut becomes = Report::Ignored;
    let told = records::update(&unit, |record| becomes = record.register(name::now()))?;
    match (told, becomes) {
        (Some(unit), Report::Becomes(_)) => compare_network(&unit),
        (Some(_), Report::Ignored) | (None, _) => Ok(()),
    }
}

/// Takes down where a unit that runs can be reached now. Its status counts, also when its engine does not answer.
fn compare_network(unit: &UnitRecord) -> Result<()> {
    let inspected =
        Host::open(&unit.node).and_then(|host| Ok(host.client.inspect_container(&unit.id)?));
    let container = match inspected {
        Ok(container) => container,
        Err(error) => {
            let fields = [("unit", unit.id.as_str()), ("error", &error.to_string())];
            log::warn("the addresses of a unit are as they were written down", &fields);
            return Ok(());
        }
    };
    let mut now = unit.clone();
    set_network(&mut now, &container);
    if now != *unit {
        records::update(unit, |record| set_network(record, &container))?;
    }
    Ok(())
}

/// Takes down what somebody says of a unit (spec 5.9). Whoever names its app spares a look at the units of all others.
pub(crate) fn set_status(unit: &Unit, status: Status) -> Result<()> {
    let of_app = match unit.app_name.as_str() {
        "" => None,
        app => meant(records::of_app(app)?, unit).ok(),
    };
    let record = match of_app {
        Some(record) => record,
        None => meant(records::all()?, unit)?,
    };
    let mut reported = record.clone();
    // Only what is to be written down is asked for: a unit that builds or sleeps stays what it is.
    if reported.report(&unit.app_name, status, name::now())? == Report::Ignored {
        return Ok(());
    }
    let told = records::update(&record, |record| {
        // Refused a moment ago, and not now: another app cannot have it meanwhile.
        let _ = record.report("", status, name::now());
    })?;
    match told {
        Some(unit) if matches!(unit.status, Some(Status::Started | Status::Starting)) => {
            compare_network(&unit)
        }
        Some(_) | None => Ok(()),
    }
}

/// The record of the unit that somebody names by its id or a prefix of it, else by its name.
fn meant(records: Vec<UnitRecord>, unit: &Unit) -> Result<UnitRecord> {
    let by_name = records.iter().find(|record| !unit.name.is_empty() && record.name == unit.name);
    let by_name = by_name.cloned();
    match records::find(records, &unit.id) {
        Err(Error::UnitNotFound(id)) => by_name.ok_or(Error::UnitNotFound(id)),
        found => found,
    }
}

/// The names of those of these apps that have a unit with one of these statuses, in their order.
pub(crate) fn apps_by_status(apps: &[App], statuses: &[Status]) -> Result<Vec<String>> {
    if statuses.is_empty() {
        return Ok(Vec::new());
    }
    let mut records = Vec::new();
    for app in apps {
        records.extend(records::of_app(&app.name)?);
    }
    let found: BTreeSet<String> = observed(records)
        .into_iter()
        .filter(|unit| statuses.contains(&unit.status.unwrap_or(Status::Building)))
        .map(|unit| unit.app_name)
        .collect();
    let names = apps.iter().map(|app| &app.name);
    Ok(names.filter(|name| found.contains(*name)).cloned().collect())
}

/// The app that has a unit.
pub(crate) fn app_of(unit_id: &str) -> Result<String> {
    Ok(records::find(records::all()?, unit_id)?.app_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_on_with_the_app_that_the_last_one_ended_in() {
        let apps = ["web", "a", "a-b"].map(|name| (name, App::default()));
        let apps = apps.iter().map(|(name, app)| (*name, app)).collect();
        // As their places are ordered, which is not how their names are.
        assert_eq!(prefixes(&apps, None), ["a-b/", "a/", "web/"]);
        assert_eq!(prefixes(&apps, Some("a/1")), ["a/", "web/"]);
        assert_eq!(prefixes(&apps, Some("b/1")), ["web/"]);
        assert!(prefixes(&apps, Some("x")).is_empty());
    }
}

//! What people ask about units, and what units tell (spec 5.9, 5.10).

use std::collections::BTreeSet;

use gantry_sdk::gantry_core::record::{Report, UnitRecord};
use gantry_sdk::{App, Error, Result, Status, Unit, UnitPage, images, log};

use crate::host::{Host, set_network};
use crate::image;
use crate::leaving;
use crate::machine::{Creation, Machines};
use crate::name;
use crate::observe::observed;
use crate::records;

/// Units on one page.
const PAGE: usize = 500;

/// The units of these apps, or of all, as the engine sees them now.
pub(crate) fn units(apps: &[App], after: Option<&str>) -> Result<UnitPage> {
    let records = match apps {
        [] => records::all()?,
        apps => {
            let mut of_apps = Vec::new();
            for app in apps {
                of_apps.extend(records::of_app(&app.name)?);
            }
            of_apps
        }
    };
    let (page, next) = page(records, after);
    let page = observed(page);
    let unknown = App::default();
    let units = page.iter().map(|record| {
        let app = apps.iter().find(|app| app.name == record.app_name).unwrap_or(&unknown);
        record.unit(app)
    });
    Ok(UnitPage { units: units.collect(), next })
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
        serves && unit.process_name == web
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
        let (Some(data), false) = (custom_data, unit.building_image.is_empty()) else {
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

/// Takes down what somebody says of a unit, which is found by its id or a prefix of it, else by its name (spec 5.9).
pub(crate) fn set_status(unit: &Unit, status: Status) -> Result<()> {
    let all = records::all()?;
    let by_name = all.iter().find(|record| !unit.name.is_empty() && record.name == unit.name);
    let by_name = by_name.cloned();
    let record = match records::find(all, &unit.id) {
        Err(Error::UnitNotFound(id)) => by_name.ok_or(Error::UnitNotFound(id))?,
        found => found?,
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

/// A page of the records after a place, which is an app and a name, and the place of the next one.
fn page(mut records: Vec<UnitRecord>, after: Option<&str>) -> (Vec<UnitRecord>, Option<String>) {
    records.sort_by_cached_key(place);
    if let Some(after) = after {
        records.retain(|record| place(record).as_str() > after);
    }
    let more = records.len() > PAGE;
    records.truncate(PAGE);
    let next = records.last().filter(|_| more).map(place);
    (records, next)
}

fn place(record: &UnitRecord) -> String {
    format!("{}/{}", record.app_name, record.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(id: &str, status: Status) -> UnitRecord {
        let mut unit = UnitRecord {
            id: id.to_owned(),
            name: format!("a-{id}"),
            app_name: "a".to_owned(),
            ..UnitRecord::default()
        };
        unit.set_status(status, 1);
        unit
    }

    #[test]
    fn pages_follow_each_other_without_gap() {
        let records: Vec<UnitRecord> =
            (0..PAGE + 2).map(|id| unit(&format!("{id:04}"), Status::Started)).rev().collect();
        let (first, next) = page(records.clone(), None);
        assert_eq!(first.len(), PAGE);
        assert_eq!(first[0].name, "a-0000");
        let (second, end) = page(records, next.as_deref());
        assert_eq!(
            second.iter().map(|unit| unit.id.as_str()).collect::<Vec<_>>(),
            ["0500", "0501"]
        );
        assert_eq!(end, None);
    }
}

//! What people ask about units, and what units tell (spec 5.9, 5.10).

use std::collections::BTreeMap;

use gantry_sdk::containers::ContainerSummary;
use gantry_sdk::gantry_core::record::{Report, UnitRecord, reported_status};
use gantry_sdk::{App, Error, Labels, Result, Status, UnitPage, images, log};

use crate::image;
use crate::name;
use crate::node::{Node, set_network};
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

/// The addresses of the web process's units that run the current image. What does not run is left out (design 10.4).
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
        serves && unit.image == current && unit.process_name == web
    });
    Ok(routable.filter_map(|unit| unit.address()).collect())
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
    let node = Node::choose()?;
    let container = node.client.inspect_container(&unit.id)?;
    records::update(&unit, |record| {
        if let Report::Becomes(_) = record.register(name::now()) {
            set_network(record, &container);
        }
    })?;
    Ok(())
}

/// What the engine makes of the records: a unit whose container is gone is left out, one that does not do what it should has failed. When the engine does not answer, what is written
/// down has to do.
fn observed(records: Vec<UnitRecord>) -> Vec<UnitRecord> {
    if records.is_empty() {
        return records;
    }
    let containers = Node::choose()
        .and_then(|node| Ok(node.client.list_containers(true, &labels_of(&records))?));
    match containers {
        Ok(containers) => observe(records, &containers),
        Err(error) => {
            log::warn("units as they were written down", &[("error", &error.to_string())]);
            records
        }
    }
}

/// What the containers of all these records carry: the app's label when there is one app, so that the engine need not tell of all others.
fn labels_of(records: &[UnitRecord]) -> Labels {
    let mut apps: Vec<&str> = records.iter().map(|record| record.app_name.as_str()).collect();
    apps.dedup();
    match apps.as_slice() {
        [app] => Labels::from([("app-name".to_owned(), (*app).to_owned())]),
        _ => Labels::new(),
    }
}

fn observe(records: Vec<UnitRecord>, containers: &[ContainerSummary]) -> Vec<UnitRecord> {
    let states: BTreeMap<&str, &str> = containers
        .iter()
        .map(|container| (container.id.as_str(), container.state.as_str()))
        .collect();
    records
        .into_iter()
        .filter_map(|mut record| {
            let runs = *states.get(record.id.as_str())? == "running";
            record.status = status(&record, runs);
            Some(record)
        })
        .collect()
}

/// The status of a unit, knowing whether its container runs. Doing what is expected changes nothing: only the unit itself says that it is up.
fn status(record: &UnitRecord, runs: bool) -> Option<Status> {
    let told = if runs { Status::Started } else { Status::Stopped };
    match reported_status(record.status, record.status_before_error, told) {
        Report::Becomes(Status::Error) => Some(Status::Error),
        Report::Becomes(_) | Report::Ignored => record.status,
    }
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

    fn container(id: &str, state: &str) -> ContainerSummary {
        ContainerSummary {
            id: id.to_owned(),
            name: String::new(),
            image: String::new(),
            state: state.to_owned(),
            labels: Vec::new(),
        }
    }

    #[test]
    fn the_engine_decides_what_exists_and_what_failed() {
        let table = [
            (Status::Starting, "running", Some(Status::Starting)),
            (Status::Started, "running", Some(Status::Started)),
            (Status::Started, "exited", Some(Status::Error)),
            (Status::Starting, "restarting", Some(Status::Error)),
            (Status::Stopped, "exited", Some(Status::Stopped)),
            (Status::Stopped, "running", Some(Status::Error)),
            (Status::Asleep, "exited", Some(Status::Asleep)),
            (Status::Building, "running", Some(Status::Building)),
            (Status::Error, "running", Some(Status::Error)),
            (Status::Error, "dead", Some(Status::Error)),
        ];
        for (written, state, seen) in table {
            let seen_now = observe(vec![unit("1", written)], &[container("1", state)]);
            assert_eq!(seen_now.len(), 1);
            assert_eq!(seen_now[0].status, seen, "{written:?} {state}");
        }
        assert!(observe(vec![unit("1", Status::Started)], &[container("2", "running")]).is_empty());
    }

    #[test]
    fn only_the_containers_of_the_app_are_listed() {
        let other = UnitRecord { app_name: "b".to_owned(), ..unit("3", Status::Started) };
        let mut records = vec![unit("1", Status::Started), unit("2", Status::Started)];
        assert_eq!(labels_of(&records)["app-name"], "a");
        records.push(other);
        assert!(labels_of(&records).is_empty());
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

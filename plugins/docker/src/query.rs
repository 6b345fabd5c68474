//! What people ask about units, and what units tell (spec 5.9, 5.10).

use gantry_sdk::gantry_core::record::{Report, UnitRecord};
use gantry_sdk::{App, Error, Result, Status, UnitPage, images};

use crate::image;
use crate::name;
use crate::node::{Node, set_network};
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

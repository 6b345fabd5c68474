//! The routes to units (spec 5.5): of the web process alone, and only those that answer somewhere.

use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::gantry_core::yaml::RouterHealthcheck;
use gantry_sdk::image::ImageMetadata;
use gantry_sdk::{App, Result, apps, log, operation, routers};

use crate::messages;

/// The units among these that get requests.
fn routable<'a>(units: &'a [UnitRecord], web: &'a str) -> impl Iterator<Item = &'a UnitRecord> {
    units.iter().filter(move |unit| unit.process_name == web && unit.address().is_some())
}

fn addresses(units: &[UnitRecord], web: &str) -> Vec<String> {
    routable(units, web).filter_map(UnitRecord::address).collect()
}

/// Adds routes on every router of the app. When one refuses, those that were changed are changed back.
pub(crate) fn add(app: &App, units: &[UnitRecord], web: &str) -> Result<()> {
    let addresses = addresses(units, web);
    on_all(app, &addresses, routers::add_routes, routers::remove_routes)
}

/// Removes routes on every router of the app. When one refuses, those that were changed are changed back.
pub(crate) fn remove(app: &App, units: &[UnitRecord], web: &str) -> Result<()> {
    let addresses = addresses(units, web);
    on_all(app, &addresses, routers::remove_routes, routers::add_routes)
}

/// Tells of each unit whose routes changed.
pub(crate) fn tell(units: &[UnitRecord], web: &str, line: impl Fn(&UnitRecord) -> String) {
    for unit in routable(units, web) {
        operation::progress(&line(unit));
    }
}

type Change = fn(&str, &str, &[String]) -> Result<()>;

fn on_all(app: &App, addresses: &[String], change: Change, undo: Change) -> Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    let mut changed: Vec<String> = Vec::new();
    for router in apps::routers(&app.name)? {
        let name = router.name;
        if let Err(error) = change(&name, &app.name, addresses) {
            operation::undoing();
            for name in &changed {
                logged(name, undo(name, &app.name, addresses));
            }
            return Err(error);
        }
        changed.push(name);
    }
    Ok(())
}

/// Tells every router how to see whether units work. One that does not look is passed over.
pub(crate) fn set_healthcheck(app: &App, check: &RouterHealthcheck) -> Result<()> {
    for router in apps::routers(&app.name)? {
        if !routers::set_healthcheck(&router.name, &app.name, check)? {
            log::debug("a router looks at no units", &[("router", &router.name)]);
        }
    }
    Ok(())
}

/// What routers are told to look for.
pub(crate) fn healthcheck(metadata: &ImageMetadata) -> RouterHealthcheck {
    metadata.healthcheck.to_router()
}

/// An undo that fails has nobody to tell but the log.
pub(crate) fn logged(what: &str, result: Result<()>) {
    if let Err(error) = result {
        log::error("routes are not set back", &[("of", what), ("error", &error.to_string())]);
    }
}

/// For the headline.
pub(crate) fn headline(check: &RouterHealthcheck) -> String {
    messages::setting_healthcheck(&check.path, check.status, &check.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_units_of_the_web_process_that_answer_somewhere_are_routed() {
        let unit = |process: &str, port: &str| UnitRecord {
            process_name: process.to_owned(),
            host_addr: "10.0.0.1".to_owned(),
            host_port: port.to_owned(),
            ..UnitRecord::default()
        };
        let units = [unit("web", "1"), unit("worker", "2"), unit("web", ""), unit("web", "0")];
        assert_eq!(addresses(&units, "web"), ["http://10.0.0.1:1"]);
        assert!(addresses(&units, "").is_empty());
    }
}

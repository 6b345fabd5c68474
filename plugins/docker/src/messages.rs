//! What people read while an app changes, as the reference prints it (spec 5.5 and the vectors `docker_flows`). Every text ends its line.

use std::collections::BTreeMap;

use gantry_sdk::gantry_core::record::UnitRecord;

use crate::failure::Failure;

/// A headline about so many units.
fn headline(verb: &str, count: usize, which: &str) -> String {
    let unit = if count == 1 { "unit" } else { "units" };
    format!("\n---- {verb} {count} {which}{unit} ----\n")
}

/// A line about one unit.
fn line(what: &str, unit: &UnitRecord) -> String {
    format!(" ---> {what} {} [{}]\n", unit.short_id(), unit.process_name)
}

/// So many units of each process are about to start.
pub(crate) fn starting(wanted: &BTreeMap<String, usize>) -> String {
    let count: usize = wanted.values().sum();
    let unit = if count == 1 { "unit" } else { "units" };
    let processes: Vec<String> =
        wanted.iter().map(|(process, count)| format!("[{process}: {count}]")).collect();
    format!("\n---- Starting {count} new {unit} {} ----\n", processes.join(" "))
}

pub(crate) fn started(unit: &UnitRecord) -> String {
    line("Started unit", unit)
}

pub(crate) fn checking(count: usize) -> String {
    headline("Binding and checking", count, "new ")
}

pub(crate) fn checked(unit: &UnitRecord) -> String {
    line("Bound and checked unit", unit)
}

pub(crate) fn removing(count: usize) -> String {
    headline("Removing", count, "")
}

pub(crate) fn removing_old(count: usize) -> String {
    headline("Removing", count, "old ")
}

pub(crate) fn removed_old(unit: &UnitRecord) -> String {
    line("Removed old unit", unit)
}

pub(crate) fn not_removed(unit: &UnitRecord, reason: &str) -> String {
    let UnitRecord { process_name, .. } = unit;
    format!(" ---> Could not remove unit {} [{process_name}]: {reason}\n", unit.short_id())
}

pub(crate) fn unbinding_old(count: usize) -> String {
    headline("Unbinding", count, "old ")
}

pub(crate) fn unbound_old(unit: &UnitRecord) -> String {
    line("Removed bind for old unit", unit)
}

pub(crate) fn destroying(count: usize) -> String {
    headline("Destroying", count, "created ")
}

pub(crate) fn destroyed(unit: &UnitRecord) -> String {
    line("Destroyed unit", unit)
}

pub(crate) fn unbinding_created(count: usize) -> String {
    headline("Unbinding", count, "created ")
}

pub(crate) fn unbound_created(unit: &UnitRecord) -> String {
    line("Removed bind for unit", unit)
}

pub(crate) const ADDING_ROUTES: &str = "\n---- Adding routes to new units ----\n";

pub(crate) fn added_route(unit: &UnitRecord) -> String {
    line("Added route to unit", unit)
}

pub(crate) const REMOVING_ROUTES: &str = "\n---- Removing routes from old units ----\n";

pub(crate) fn removed_route(unit: &UnitRecord) -> String {
    line("Removed route from unit", unit)
}

pub(crate) const REMOVING_NEW_ROUTES: &str = "\n---- Removing routes from created units ----\n";

pub(crate) const ADDING_OLD_ROUTES: &str = "\n---- Adding back routes to old units ----\n";

pub(crate) fn added_old_route(unit: &UnitRecord) -> String {
    line("Added route to unit", unit)
}

/// What routers look at from now on.
pub(crate) fn setting_healthcheck(path: &str, status: i32, body: &str) -> String {
    let mut what = format!("Path: {path}");
    if status != 0 {
        what.push_str(&format!(", Status: {status}"));
    }
    if !body.is_empty() {
        what.push_str(&format!(", Body: {body}"));
    }
    format!("\n---- Setting router healthcheck ({what}) ----\n")
}

/// A machine failed, and its unit is tried on another one.
pub(crate) fn elsewhere(failure: &Failure, node: &str) -> String {
    format!(" ---> {}. Trying again on {node}\n", failure.line)
}

/// An old unit's machine does not answer: its container goes later.
pub(crate) fn left(unit: &UnitRecord) -> String {
    let UnitRecord { node, process_name, .. } = unit;
    let short = unit.short_id();
    format!(" ---> Old unit {short} [{process_name}] goes when {node} answers again\n")
}

/// Something failed; what was done before is undone next.
pub(crate) fn rolling_back(failure: &Failure) -> String {
    format!("\n**** ROLLING BACK AFTER FAILURE ****\n ---> {} <---\n", failure.line)
}

/// The host has to get the image first, which may take its time.
pub(crate) fn pulling(image: &str) -> String {
    format!("\n---- Pulling image {image} ----\n")
}

/// The same for one of several.
pub(crate) fn pulling_on(image: &str, node: &str) -> String {
    format!("\n---- Pulling image {image} on {node} ----\n")
}

/// A machine was added that nobody waits for.
pub(crate) fn not_ready(node: &str, reason: &str) -> String {
    format!(" ---> {node} is not ready yet: {reason}\n")
}

pub(crate) const DEPLOYING_IMAGE: &str = "\n---- Deploying application image ----\n";

pub(crate) const CLEANING_UP: &str = " ---> Cleaning up\n";

/// The image of a build, with its size in bytes.
#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
pub(crate) fn sending_image(size: u64) -> String {
    let megabytes = size as f64 / 1024.0 / 1024.0;
    format!(" ---> Sending image to repository ({megabytes:.2}MB)\n")
}

#[cfg(test)]
mod tests {
    use gantry_sdk::Error;

    use super::*;

    fn unit() -> UnitRecord {
        UnitRecord {
            id: "0123456789abcdef".to_owned(),
            process_name: "web".to_owned(),
            ..UnitRecord::default()
        }
    }

    #[test]
    fn headlines_count_in_english() {
        let wanted = |counts: &[(&str, usize)]| -> BTreeMap<String, usize> {
            counts.iter().map(|(process, count)| ((*process).to_owned(), *count)).collect()
        };
        assert_eq!(starting(&wanted(&[("web", 1)])), "\n---- Starting 1 new unit [web: 1] ----\n");
        assert_eq!(
            starting(&wanted(&[("worker", 1), ("web", 2)])),
            "\n---- Starting 3 new units [web: 2] [worker: 1] ----\n"
        );
        assert_eq!(checking(1), "\n---- Binding and checking 1 new unit ----\n");
        assert_eq!(checking(0), "\n---- Binding and checking 0 new units ----\n");
        assert_eq!(removing(1), "\n---- Removing 1 unit ----\n");
        assert_eq!(removing_old(2), "\n---- Removing 2 old units ----\n");
        assert_eq!(unbinding_old(2), "\n---- Unbinding 2 old units ----\n");
        assert_eq!(destroying(1), "\n---- Destroying 1 created unit ----\n");
        assert_eq!(unbinding_created(1), "\n---- Unbinding 1 created unit ----\n");
    }

    #[test]
    fn lines_show_the_short_id_and_the_process() {
        assert_eq!(started(&unit()), " ---> Started unit 0123456789 [web]\n");
        assert_eq!(checked(&unit()), " ---> Bound and checked unit 0123456789 [web]\n");
        assert_eq!(removed_old(&unit()), " ---> Removed old unit 0123456789 [web]\n");
        assert_eq!(unbound_old(&unit()), " ---> Removed bind for old unit 0123456789 [web]\n");
        assert_eq!(destroyed(&unit()), " ---> Destroyed unit 0123456789 [web]\n");
        let line = " ---> Could not remove unit 0123456789 [web]: why\n";
        assert_eq!(not_removed(&unit(), "why"), line);
    }

    #[test]
    fn what_routers_look_at_is_told() {
        let text = setting_healthcheck("/", 0, "");
        assert_eq!(text, "\n---- Setting router healthcheck (Path: /) ----\n");
        let text = setting_healthcheck("/up", 200, "ok");
        assert_eq!(
            text,
            "\n---- Setting router healthcheck (Path: /up, Status: 200, Body: ok) ----\n"
        );
    }

    #[test]
    fn a_failure_is_told_between_arrows() {
        let failure = Failure::from(Error::Other("boom".to_owned()));
        let text = "\n**** ROLLING BACK AFTER FAILURE ****\n ---> boom <---\n";
        assert_eq!(rolling_back(&failure), text);
    }

    #[test]
    fn a_size_is_shown_in_megabytes() {
        let text = " ---> Sending image to repository (1.50MB)\n";
        assert_eq!(sending_image(3 << 19), text);
    }
}

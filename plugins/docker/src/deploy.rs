//! Deploy and rollback (spec 5.4).

use std::collections::BTreeMap;

use gantry_sdk::gantry_core::deploy::containers_to_add;
use gantry_sdk::gantry_core::image::{RollbackError, is_builder_image, rollback_image};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Error, Result, apps, images, log, operation};

use crate::change::{self, CREATE, Change, REPLACE};
use crate::failure::Failure;
use crate::image::{self, Prepared};
use crate::{builder, observe, placing, records};

/// Runs an image as the app's new version. What a build left is made into an image of the app first.
pub(crate) fn deploy(app: &App, image: &str) -> Result<String> {
    if !is_builder_image(image) {
        return deploy_units(app, image);
    }
    let built = builder::app_image(app, image)?;
    deploy_units(app, &built.image).inspect_err(|_| {
        operation::undoing();
        builder::clean(app, &built);
    })
}

/// Returns to the image of the history whose name ends with `version`.
pub(crate) fn rollback(app: &App, version: &str) -> Result<String> {
    let history = images::history(&app.name)?;
    let image = rollback_image(&app.name, &history, version).map_err(|error| match error {
        RollbackError::ImageNotFound { .. } | RollbackError::InvalidVersion(_) => {
            Error::NotFound(error.to_string())
        }
    })?;
    let units = records::of_app(&app.name)?;
    let metadata = image::metadata(image, &units)?;
    if metadata.disable_rollback {
        let reason = metadata.reason;
        return Err(Error::Conflict(format!("Can't Rollback image {image}, reason: {reason}")));
    }
    deploy_units(app, image)
}

/// Starts units of an image in place of all that run.
fn deploy_units(app: &App, name: &str) -> Result<String> {
    if operation::cancelled() {
        return Err(Error::Cancelled);
    }
    let present = observe::to_change(&app.name)?;
    let host = placing::host_with(app, name, &present.units, &present.silent)
        .map_err(|error| startup_error(error.into()))?;
    // A deploy means what the name means now, whatever units of that name run.
    let image = image::prepare(app, host, name, &[])?;
    let silent = present.silent.clone();
    let old = present.with_lost();
    let before = old.iter().filter(|unit| !unit.is_build()).count();
    let before = i32::try_from(before).unwrap_or(i32::MAX);
    let wanted = wanted(&image, &old);
    let total: usize = wanted.values().sum();
    if total == 0 {
        log::warn("the image declares no process: no unit is started", &[("image", name)]);
    }
    apps::set_quota_in_use(&app.name, i32::try_from(total).unwrap_or(i32::MAX))?;
    let actions = if old.is_empty() { CREATE } else { REPLACE };
    let mut change = Change::new(app, image, wanted, old, silent);
    change::run(actions, &mut change).map_err(|failure| {
        // What the app uses is what it used: the new units are gone.
        if let Err(error) = apps::set_quota_in_use(&change.app.name, before) {
            log::warn("the quota in use is not set back", &[("error", &error.to_string())]);
        }
        startup_error(failure)
    })?;
    Ok(change.image.name)
}

/// How many units of each process the image declares.
fn wanted(image: &Prepared, old: &[UnitRecord]) -> BTreeMap<String, usize> {
    let processes = image.metadata.processes.keys().map(String::as_str);
    let units = old.iter().filter(|unit| !unit.is_build());
    let old: Vec<&str> = units.map(|unit| unit.process_name.as_str()).collect();
    containers_to_add(processes, &old)
        .into_iter()
        .map(|(process, count)| (process.to_owned(), count))
        .collect()
}

/// Whatever keeps new units from serving is told as that, with its own text, but for what callers act on otherwise.
fn startup_error(failure: Failure) -> Error {
    match failure.error {
        error @ (Error::Cancelled
        | Error::QuotaExceeded { .. }
        | Error::Denied(_)
        | Error::Unavailable(_)) => error,
        error @ (Error::UnitNotFound(_)
        | Error::NodeNotFound
        | Error::EmptyApp
        | Error::InvalidStatus
        | Error::InvalidProcess(_)
        | Error::UnitStartup(_)
        | Error::NotSupported(_)
        | Error::NotFound(_)
        | Error::Conflict(_)
        | Error::InvalidArgument(_)
        | Error::TimedOut(_)
        | Error::Other(_)) => Error::UnitStartup(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_start_keeps_its_text_and_gets_its_kind() {
        let failure = Failure::from(Error::Conflict("taken".to_owned()));
        assert_eq!(startup_error(failure), Error::UnitStartup("taken".to_owned()));
        assert_eq!(startup_error(Failure::cancelled()), Error::Cancelled);
        let failure = Failure::from(Error::InvalidProcess("no".to_owned()));
        assert_eq!(startup_error(failure), Error::UnitStartup("process error: no".to_owned()));
        let denied = Error::Denied("the grant `x` is needed".to_owned());
        assert_eq!(startup_error(denied.clone().into()), denied);
        let gone = Error::Unavailable("the engine is gone".to_owned());
        assert_eq!(startup_error(gone.clone().into()), gone);
    }

    #[test]
    fn a_deploy_starts_as_many_units_as_there_were() {
        let unit = |process: &str| UnitRecord {
            process_name: process.to_owned(),
            ..UnitRecord::default()
        };
        let mut image = Prepared::unseen("i".to_owned());
        assert!(wanted(&image, &[unit("web")]).is_empty());
        for process in ["web", "new"] {
            image.metadata.processes.insert(process.to_owned(), vec!["run".to_owned()]);
        }
        let build = UnitRecord { building_image: "i".to_owned(), ..unit("") };
        let counts =
            wanted(&image, &[unit("web"), unit("web"), unit("gone"), build.clone(), build]);
        assert_eq!(counts, BTreeMap::from([("new".to_owned(), 1), ("web".to_owned(), 2)]));
    }
}

//! Changing the units of an app: the create, replace and remove pipelines (spec 5.5). New units are started, bound and checked before an old one is touched.
//!
//! Routers get their actions when plugins can reach them: `add-new-routes` and `set-router-healthcheck` after `bind-and-healthcheck`, `remove-old-routes` before
//! `update-app-image`.

use std::collections::BTreeMap;
use std::rc::Rc;

use gantry_sdk::commands::{UnitAgent, unit_command};
use gantry_sdk::config::Config;
use gantry_sdk::gantry_core::create::{ContainerDefaults, UnitContainer};
use gantry_sdk::gantry_core::health::{self, HealthPlan};
use gantry_sdk::gantry_core::labels::ProcessOptions;
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Error, Result, apps, images, labels, log, operation};

use crate::check::{self, Checks};
use crate::failure::Failure;
use crate::image::Prepared;
use crate::launch::{self, Wanted};
use crate::node::Node;
use crate::pipeline::{self, Action, Watch};
use crate::{PROVISIONER, leaving, messages, removal};

/// A change of an app's units.
pub(crate) struct Change {
    /// The app.
    pub(crate) app: App,
    /// The host.
    pub(crate) node: Rc<Node>,
    /// The image that new units run.
    pub(crate) image: Prepared,
    /// How many new units of each process.
    pub(crate) wanted: BTreeMap<String, usize>,
    /// The units that go.
    pub(crate) old: Vec<UnitRecord>,
    /// The units that were started.
    pub(crate) new: Vec<UnitRecord>,
}

/// New units beside those that are there.
pub(crate) const CREATE: &[Action<Change>] = &[ADD_UNITS, BIND_AND_CHECK, UPDATE_IMAGE];

/// New units in place of old ones.
pub(crate) const REPLACE: &[Action<Change>] =
    &[ADD_UNITS, BIND_AND_CHECK, UPDATE_IMAGE, REMOVE_OLD_UNITS, UNBIND_OLD_UNITS];

const ADD_UNITS: Action<Change> = Action {
    name: "provision-add-units-to-host",
    forward: add_units,
    undo: Some(remove_new_units),
    commits: false,
};

const BIND_AND_CHECK: Action<Change> = Action {
    name: "bind-and-healthcheck",
    forward: bind_and_check,
    undo: Some(unbind_new_units),
    commits: false,
};

/// An image that is current must not lose its units again: nobody could tell which version the app has.
const UPDATE_IMAGE: Action<Change> =
    Action { name: "update-app-image", forward: update_image, undo: None, commits: true };

const REMOVE_OLD_UNITS: Action<Change> = Action {
    name: "provision-remove-old-units",
    forward: replace_old_units,
    undo: None,
    commits: false,
};

const UNBIND_OLD_UNITS: Action<Change> = Action {
    name: "provision-unbind-old-units",
    forward: |change| {
        unbind_old_units(&change.app, &change.old);
        Ok(())
    },
    undo: None,
    commits: false,
};

/// Runs a pipeline, told to the people who wait and cancelled by them.
pub(crate) fn run<C>(actions: &[Action<C>], context: &mut C) -> std::result::Result<(), Failure> {
    pipeline::run(actions, context, &mut Live)
}

/// Takes units away (spec 5.7): their containers, then what services know of them.
///
/// # Errors
///
/// A unit stays.
pub(crate) fn remove_units(app: &App, node: &Node, units: &[UnitRecord]) -> Result<()> {
    let stays = remove_old_units(node, units)?;
    unbind_old_units(app, units);
    stays.map_or(Ok(()), Err)
}

struct Live;

impl Watch for Live {
    fn before(&mut self, action: &'static str) -> std::result::Result<(), Failure> {
        log::debug("action", &[("name", action)]);
        if operation::cancelled() { Err(Failure::cancelled()) } else { Ok(()) }
    }

    fn failed(&mut self, action: &'static str, failure: &Failure) {
        log::info("action failed", &[("name", action), ("error", &failure.line)]);
        operation::undoing();
        operation::progress(&messages::rolling_back(failure));
    }
}

fn add_units(change: &mut Change) -> std::result::Result<(), Failure> {
    operation::progress(&messages::starting(&change.wanted));
    let wanted = wanted_units(change)?;
    change.new = launch::start(&change.node, &wanted)?;
    Ok(())
}

fn remove_new_units(change: &mut Change) {
    operation::progress(&messages::destroying(change.new.len()));
    let result = removal::remove(&change.node, &change.new, |unit, result| {
        operation::progress(&match result {
            Ok(()) => messages::destroyed(unit),
            Err(error) => messages::not_removed(unit, &error.to_string()),
        });
    });
    if let Err(error) = result {
        log::error("new units stay", &[("error", &error.to_string())]);
    }
    change.new.clear();
}

fn bind_and_check(change: &mut Change) -> std::result::Result<(), Failure> {
    operation::progress(&messages::checking(change.new.len()));
    let checks = checks(change)?;
    check::bind_and_check(&change.node, &change.app, &change.new, &checks)
}

fn unbind_new_units(change: &mut Change) {
    operation::progress(&messages::unbinding_created(change.new.len()));
    for unit in &change.new {
        check::unbind(&change.app, unit);
        operation::progress(&messages::unbound_created(unit));
    }
}

fn update_image(change: &mut Change) -> std::result::Result<(), Failure> {
    let name = &change.image.name;
    // An app whose history was emptied has no current image; this one becomes it.
    let is_current = images::current(&change.app.name).is_ok_and(|current| current == *name);
    // With new units it is said again of the current one: from then on the host takes the new units for the app.
    if !is_current || !change.new.is_empty() {
        images::append(&change.app.name, name)?;
    }
    Ok(())
}

/// Removes the units that are replaced. The new version runs: an old unit that stays is told, and is no failure of the change.
fn replace_old_units(change: &mut Change) -> std::result::Result<(), Failure> {
    let app = &change.app.name;
    let warn = |error: &Error| {
        let fields = [("app", app.as_str()), ("error", &error.to_string())];
        log::warn("which units are on their way out is not written down", &fields);
    };
    if !change.old.is_empty()
        && let Err(error) = leaving::begin(app, &change.old)
    {
        warn(&error);
    }
    let stays = remove_old_units(&change.node, &change.old)?;
    if stays.is_none()
        && let Err(error) = leaving::end(app)
    {
        warn(&error);
    }
    Ok(())
}

/// Removes units and gives the reason why one stays, if one does.
fn remove_old_units(node: &Node, units: &[UnitRecord]) -> Result<Option<Error>> {
    operation::progress(&messages::removing_old(units.len()));
    let mut stays = None;
    removal::remove(node, units, |unit, result| {
        operation::progress(&match result {
            Ok(()) => messages::removed_old(unit),
            Err(error) => {
                let line = messages::not_removed(unit, &error.to_string());
                stays.get_or_insert(error);
                line
            }
        });
    })?;
    Ok(stays)
}

fn unbind_old_units(app: &App, units: &[UnitRecord]) {
    operation::progress(&messages::unbinding_old(units.len()));
    for unit in units {
        check::unbind(app, unit);
        operation::progress(&messages::unbound_old(unit));
    }
}

/// What each new unit is made of. Units of one process are made of the same.
fn wanted_units(change: &Change) -> Result<Vec<Wanted>> {
    let Change { app, image, wanted, .. } = change;
    let defaults = ContainerDefaults::from_settings(&Config);
    let routers: Vec<String> =
        apps::routers(&app.name)?.into_iter().map(|router| router.name).collect();
    let mut units = Vec::new();
    for (process, count) in wanted {
        let envs = apps::unit_envs(&app.name, process, false)?;
        let agent = UnitAgent::from_settings(&Config, &app.name, token(&envs));
        let command = unit_command(&image.metadata, process, &[], &agent)?;
        let set = labels::process(&ProcessOptions {
            app,
            routers: &routers,
            process: &command.process,
            provisioner: PROVISIONER,
            builder: "",
            prefix: "",
            is_deploy: false,
        })?;
        let container = UnitContainer {
            app,
            routers: &routers,
            envs: &[],
            process: &command.process,
            image: &image.reference,
            command: &command.command,
            exposed_port: &image.metadata.exposed_port,
            is_deploy: false,
            is_building: false,
        };
        let record = UnitRecord {
            process_name: command.process.clone(),
            image: image.name.clone(),
            image_id: image.id.clone(),
            exposed_port: container.port(&defaults.platform),
            ..UnitRecord::default()
        };
        let spec = container.spec_with(&defaults, envs, set.to_labels());
        units.extend(vec![Wanted::new(app, spec, record); *count]);
    }
    Ok(units)
}

/// The token that the agent inside a unit shows.
pub(crate) fn token(envs: &[(String, String)]) -> &str {
    envs.iter().find(|(name, _)| name == "TSURU_APP_TOKEN").map_or("", |(_, value)| value)
}

fn checks(change: &Change) -> Result<Checks> {
    let metadata = &change.image.metadata;
    let apply = health::checks_apply(change.old.iter().map(|unit| unit.status));
    let health = HealthPlan::new(&metadata.healthcheck)
        .map_err(|error| Error::InvalidArgument(error.to_string()))?
        .filter(|_| apply);
    Ok(Checks {
        health,
        max_time: health::max_time(&Config),
        web_process: metadata.web_process_name().to_owned(),
        hooks: metadata.hooks.restart.after.clone(),
        image_id: change.image.id.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(actions: &[Action<Change>]) -> Vec<&'static str> {
        actions.iter().map(|action| action.name).collect()
    }

    #[test]
    fn old_units_go_only_after_new_ones_are_checked_and_current() {
        assert_eq!(
            names(CREATE),
            ["provision-add-units-to-host", "bind-and-healthcheck", "update-app-image"]
        );
        assert_eq!(
            names(REPLACE),
            [
                "provision-add-units-to-host",
                "bind-and-healthcheck",
                "update-app-image",
                "provision-remove-old-units",
                "provision-unbind-old-units",
            ]
        );
    }

    #[test]
    fn there_is_no_way_back_once_the_image_is_current() {
        for actions in [CREATE, REPLACE] {
            let first = actions.iter().find(|action| action.commits).map(|action| action.name);
            assert_eq!(first, Some("update-app-image"));
        }
    }

    #[test]
    fn the_agents_token_comes_from_the_environment() {
        let envs = [("A".to_owned(), "1".to_owned())];
        assert_eq!(token(&envs), "");
        let envs = [("TSURU_APP_TOKEN".to_owned(), "t".to_owned())];
        assert_eq!(token(&envs), "t");
    }
}

//! Changing the units of an app: the create, replace and remove pipelines (spec 5.5). New units are started, bound, checked and routed before an old one is touched.

use std::collections::{BTreeMap, BTreeSet};

use gantry_sdk::commands::{UnitAgent, unit_command};
use gantry_sdk::config::Config;
use gantry_sdk::gantry_core::create::{ContainerDefaults, UnitContainer};
use gantry_sdk::gantry_core::health::{self, HealthPlan};
use gantry_sdk::gantry_core::labels::ProcessOptions;
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::gantry_core::yaml::RouterHealthcheck;
use gantry_sdk::image::ImageMetadata;
use gantry_sdk::{App, Error, Result, Status, apps, images, labels, log, operation};

use crate::check::{self, Checks};
use crate::failure::Failure;
use crate::image::{self, Prepared};
use crate::launch::{self, Wanted};
use crate::pipeline::{self, Action, Watch};
use crate::placing::{Places, Preference};
use crate::removal::Gone;
use crate::{PROVISIONER, leaving, messages, name, orphans, records, removal, routes};

/// A change of an app's units.
pub(crate) struct Change {
    /// The app.
    pub(crate) app: App,
    /// The image that new units run.
    pub(crate) image: Prepared,
    /// How many new units of each process.
    pub(crate) wanted: BTreeMap<String, usize>,
    /// The rest that new units are at; none when they are started.
    pub(crate) rests: Option<Status>,
    /// Where new units may be.
    pub(crate) preference: Preference,
    /// The units that go.
    pub(crate) old: Vec<UnitRecord>,
    /// The units that were started.
    pub(crate) new: Vec<UnitRecord>,
    /// The nodes that did not answer.
    silent: BTreeSet<String>,
    /// The web process of the image that was current before.
    old_web: String,
}

impl Change {
    /// New units of an image, in place of some of those that are there.
    pub(crate) fn new(
        app: &App,
        image: Prepared,
        wanted: BTreeMap<String, usize>,
        old: Vec<UnitRecord>,
        silent: BTreeSet<String>,
    ) -> Self {
        Self {
            app: app.clone(),
            image,
            wanted,
            rests: None,
            preference: Preference::default(),
            old,
            new: Vec::new(),
            silent,
            old_web: String::new(),
        }
    }

    fn web(&self) -> &str {
        self.image.metadata.web_process_name()
    }
}

/// New units beside those that are there.
pub(crate) const CREATE: &[Action<Change>] =
    &[ADD_UNITS, BIND_AND_CHECK, ADD_ROUTES, SET_HEALTHCHECK, UPDATE_IMAGE];

/// New units in place of old ones.
pub(crate) const REPLACE: &[Action<Change>] = &[
    ADD_UNITS,
    BIND_AND_CHECK,
    ADD_ROUTES,
    SET_HEALTHCHECK,
    REMOVE_OLD_ROUTES,
    UPDATE_IMAGE,
    REMOVE_OLD_UNITS,
    UNBIND_OLD_UNITS,
];

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

const ADD_ROUTES: Action<Change> = Action {
    name: "add-new-routes",
    forward: add_new_routes,
    undo: Some(remove_new_routes),
    commits: false,
};

const SET_HEALTHCHECK: Action<Change> = Action {
    name: "set-router-healthcheck",
    forward: set_healthcheck,
    undo: Some(set_healthcheck_back),
    commits: false,
};

const REMOVE_OLD_ROUTES: Action<Change> = Action {
    name: "remove-old-routes",
    forward: remove_old_routes,
    undo: Some(add_old_routes),
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

/// Takes units away (spec 5.7): their routes, their containers, then what services know of them.
///
/// # Errors
///
/// Routes that stay, and then nothing else is done; or a unit that stays.
pub(crate) fn remove_units(app: &App, web: &str, units: &[UnitRecord]) -> Result<()> {
    remove_routes(app, units, web).map_err(|error| {
        error.map_text(|text| format!("error removing routes, units weren't removed: {text}"))
    })?;
    remove_without_routes(app, units)
}

/// The same for units that nobody routes to any more.
pub(crate) fn remove_without_routes(app: &App, units: &[UnitRecord]) -> Result<()> {
    let stays = remove_old_units(units)?;
    unbind_old_units(app, units);
    stays.map_or(Ok(()), Err)
}

/// Takes the routes of units away, and tells.
pub(crate) fn remove_routes(app: &App, units: &[UnitRecord], web: &str) -> Result<()> {
    if units.is_empty() {
        return Ok(());
    }
    operation::progress(messages::REMOVING_ROUTES);
    routes::remove(app, units, web)?;
    routes::tell(units, web, messages::removed_route);
    Ok(())
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
    let records: Vec<&UnitRecord> = wanted.iter().map(|unit| &unit.record).collect();
    let preference = &change.preference;
    let mut places =
        Places::find(&change.app, &change.image, &records, preference, &change.silent)?;
    let found = places.found();
    change.new = launch::start(&wanted, found, &mut places)?;
    Ok(())
}

fn remove_new_units(change: &mut Change) {
    operation::progress(&messages::destroying(change.new.len()));
    let result = removal::remove_or_leave(&change.new, |unit, result| {
        operation::progress(&match result {
            Ok(Gone::Removed) => messages::destroyed(unit),
            Ok(Gone::Left) => messages::left(unit),
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
    check::bind_and_check(&change.app, &change.new, &checks)
}

fn unbind_new_units(change: &mut Change) {
    operation::progress(&messages::unbinding_created(change.new.len()));
    for unit in &change.new {
        check::unbind(&change.app, unit);
        operation::progress(&messages::unbound_created(unit));
    }
}

fn add_new_routes(change: &mut Change) -> std::result::Result<(), Failure> {
    if change.new.is_empty() {
        return Ok(());
    }
    operation::progress(messages::ADDING_ROUTES);
    routes::add(&change.app, &change.new, change.web())?;
    routes::tell(&change.new, change.web(), messages::added_route);
    Ok(())
}

fn remove_new_routes(change: &mut Change) {
    operation::progress(messages::REMOVING_NEW_ROUTES);
    routes::logged("created units", routes::remove(&change.app, &change.new, change.web()));
    routes::tell(&change.new, change.web(), messages::removed_route);
}

fn set_healthcheck(change: &mut Change) -> std::result::Result<(), Failure> {
    let check = routes::healthcheck(&change.image.metadata);
    operation::progress(&routes::headline(&check));
    let set = routes::set_healthcheck(&change.app, &check);
    if set.is_err() {
        operation::undoing();
        // One router of several may have taken it.
        routes::logged("the health check", set_healthcheck_of_current(change, |_| ()));
    }
    Ok(set?)
}

/// As the image says that is current.
fn set_healthcheck_back(change: &mut Change) {
    let told = |check: &RouterHealthcheck| operation::progress(&routes::headline(check));
    routes::logged("the health check", set_healthcheck_of_current(change, told));
}

fn set_healthcheck_of_current(change: &Change, told: impl Fn(&RouterHealthcheck)) -> Result<()> {
    let check = routes::healthcheck(&current(change)?);
    told(&check);
    routes::set_healthcheck(&change.app, &check)
}

/// What is known of the image that is current.
fn current(change: &Change) -> Result<ImageMetadata> {
    match images::current(&change.app.name) {
        // Where nothing is replaced the new units are more of what there is.
        Ok(name) if change.old.is_empty() && name == change.image.name => {
            Ok(change.image.metadata.clone())
        }
        Ok(name) => image::metadata(&name, &change.old),
        // An app whose history was emptied has none.
        Err(Error::NotFound(_)) => Ok(ImageMetadata::default()),
        Err(error) => Err(error),
    }
}

fn remove_old_routes(change: &mut Change) -> std::result::Result<(), Failure> {
    change.old_web = current(change)?.web_process_name().to_owned();
    Ok(remove_routes(&change.app, &reached_alone(&change.old, &change.new), &change.old_web)?)
}

fn add_old_routes(change: &mut Change) {
    operation::progress(messages::ADDING_OLD_ROUTES);
    let mut old = reached_alone(&change.old, &change.new);
    // What rests had no routes.
    old.retain(|unit| !matches!(unit.status, Some(Status::Stopped | Status::Asleep)));
    routes::logged("old units", routes::add(&change.app, &old, &change.old_web));
    routes::tell(&old, &change.old_web, messages::added_old_route);
}

/// The old units whose addresses are theirs: the port of one that does not run may be a new one's by now.
fn reached_alone(old: &[UnitRecord], new: &[UnitRecord]) -> Vec<UnitRecord> {
    let addresses: BTreeSet<String> = new.iter().filter_map(UnitRecord::address).collect();
    let is_alone = |unit: &&UnitRecord| unit.address().is_none_or(|own| !addresses.contains(&own));
    old.iter().filter(is_alone).cloned().collect()
}

fn update_image(change: &mut Change) -> std::result::Result<(), Failure> {
    let name = &change.image.name;
    // An app whose history was emptied has no current image; this one becomes it.
    let is_current = images::current(&change.app.name).is_ok_and(|current| current == *name);
    // With new units it is said again of the current one: from then on the host takes the new units for the app.
    if !is_current || !change.new.is_empty() {
        images::append(&change.app.name, name)?;
    }
    // At once: whoever dies from here on leaves two versions, and this is how the old one is known.
    if !change.old.is_empty()
        && let Err(error) = leaving::begin(&change.app.name, &change.old)
    {
        leaving_is_not_written(&change.app.name, &error);
    }
    for unit in &mut change.new {
        unit.is_new = false;
        // At worst nobody replaces it, should it die.
        if let Err(error) = records::update(unit, |record| record.is_new = false) {
            let fields = [("unit", unit.id.as_str()), ("error", &error.to_string())];
            log::warn("that a unit is in service is not written down", &fields);
        }
    }
    Ok(())
}

fn leaving_is_not_written(app: &str, error: &Error) {
    let fields = [("app", app), ("error", &error.to_string())];
    log::warn("which units are on their way out is not written down", &fields);
}

/// Removes the units that are replaced. The new version runs: an old unit that stays is told, and is no failure of the change.
fn replace_old_units(change: &mut Change) -> std::result::Result<(), Failure> {
    let app = &change.app.name;
    let (away, here): (Vec<_>, Vec<_>) =
        change.old.iter().cloned().partition(|unit| change.silent.contains(&unit.node));
    operation::progress(&messages::removing_old(change.old.len()));
    let mut stays = None;
    removal::remove_or_leave(&here, |unit, result| {
        operation::progress(&match result {
            Ok(Gone::Removed) => messages::removed_old(unit),
            Ok(Gone::Left) => messages::left(unit),
            Err(error) => {
                let line = messages::not_removed(unit, &error.to_string());
                stays.get_or_insert(error);
                line
            }
        });
    })?;
    for unit in &away {
        operation::progress(&messages::left(unit));
        stays = stays.or(orphans::leave(unit).err());
    }
    if stays.is_none()
        && let Err(error) = leaving::end(app, &change.old)
    {
        leaving_is_not_written(app, &error);
    }
    Ok(())
}

/// Removes units and gives the reason why one stays, if one does.
fn remove_old_units(units: &[UnitRecord]) -> Result<Option<Error>> {
    operation::progress(&messages::removing_old(units.len()));
    let mut stays = None;
    removal::remove(units, |unit, result| {
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
        for _ in 0..*count {
            let record =
                UnitRecord { name: name::of_unit(&app.name, units.len()), ..record.clone() };
            let unit = Wanted::new(app, spec.clone(), record);
            units.push(Wanted { rests: change.rests, ..unit });
        }
    }
    Ok(units)
}

/// The token that the agent inside a unit shows.
pub(crate) fn token(envs: &[(String, String)]) -> &str {
    envs.iter().find(|(name, _)| name == "TSURU_APP_TOKEN").map_or("", |(_, value)| value)
}

fn checks(change: &Change) -> Result<Checks> {
    let metadata = &change.image.metadata;
    let runs = change.rests.is_none();
    let apply = runs && health::checks_apply(change.old.iter().map(|unit| unit.status));
    let health = HealthPlan::new(&metadata.healthcheck)
        .map_err(|error| Error::InvalidArgument(error.to_string()))?
        .filter(|_| apply);
    Ok(Checks {
        health,
        max_time: health::max_time(&Config),
        web_process: metadata.web_process_name().to_owned(),
        // What rests runs no command.
        hooks: if runs { metadata.hooks.restart.after.clone() } else { Vec::new() },
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
            [
                "provision-add-units-to-host",
                "bind-and-healthcheck",
                "add-new-routes",
                "set-router-healthcheck",
                "update-app-image",
            ]
        );
        assert_eq!(
            names(REPLACE),
            [
                "provision-add-units-to-host",
                "bind-and-healthcheck",
                "add-new-routes",
                "set-router-healthcheck",
                "remove-old-routes",
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
    fn the_route_of_a_new_unit_stays_when_an_old_one_had_its_port() {
        let unit = |name: &str, port: &str| UnitRecord {
            name: name.to_owned(),
            host_addr: "10.0.0.1".to_owned(),
            host_port: port.to_owned(),
            ..UnitRecord::default()
        };
        let old = [unit("a", "1"), unit("b", "2"), unit("c", "")];
        let alone = reached_alone(&old, &[unit("d", "2"), unit("e", "")]);
        assert_eq!(alone, [unit("a", "1"), unit("c", "")]);
    }

    #[test]
    fn the_agents_token_comes_from_the_environment() {
        let envs = [("A".to_owned(), "1".to_owned())];
        assert_eq!(token(&envs), "");
        let envs = [("TSURU_APP_TOKEN".to_owned(), "t".to_owned())];
        assert_eq!(token(&envs), "t");
    }
}

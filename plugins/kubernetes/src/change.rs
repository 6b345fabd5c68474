//! Changes of an app: deploys, more and fewer units, started, stopped, restarted and put to sleep (spec 6, 7.4, 7.5).

use std::collections::{BTreeMap, BTreeSet};

use gantry_sdk::commands::resolve_process;
use gantry_sdk::gantry_core::image::{is_builder_image, rollback_image};
use gantry_sdk::image::ImageMetadata;
use gantry_sdk::{App, Error, LabelSet, Result, apps, images, log, operation};
use serde_json::Value;

use crate::failures::Failures;
use crate::home::{Home, kinds};
use crate::manifest::removal;
use crate::object::label_set;
use crate::process::{Change, Plan, State, Step, Undo, changed_units, states as states_of};
use crate::rollout::Rollout;
use crate::service::{self, Site, Version};
use crate::{PREFIX, build, image, twins};

/// The processes of an app that are on its cluster, each with its Deployment.
pub(crate) type Deployments = BTreeMap<String, Value>;

/// The Deployments of an app, by process.
///
/// # Errors
///
/// The cluster refuses, or does not answer.
pub(crate) fn deployments(home: &Home, app: &str) -> Result<Deployments> {
    let all = home.list(&kinds::deployment(), &format!("{PREFIX}app-name={app}"))?;
    Ok(all
        .into_iter()
        .map(|object| (label_set(&object).app_process().to_owned(), object))
        .collect())
}

/// The processes of an app that have a Service.
fn served(home: &Home, app: &str) -> Result<BTreeSet<String>> {
    let all = home.list(&kinds::service(), &format!("{PREFIX}app-name={app}"))?;
    let processes = all.iter().map(|object| label_set(object).app_process().to_owned());
    Ok(processes.filter(|process| !process.is_empty()).collect())
}

/// Deploys an image.
///
/// # Errors
///
/// What cannot be deployed, which leaves everything as it was; or units that do not start.
pub(crate) fn deploy(app: &App, image: &str) -> Result<String> {
    let home = Home::of_pool(&app.pool)?;
    deploy_on(&home, app, image).inspect_err(|_| leave_nothing(app, &home))
}

fn deploy_on(home: &Home, app: &App, image: &str) -> Result<String> {
    let image = if is_builder_image(image) {
        build::app_image(app, home, image)?
    } else {
        image.to_owned()
    };
    run(app, home, &image, None)?;
    Ok(image)
}

/// Takes back what the units of an app stand on when its first deploy failed (design 10.13).
pub(crate) fn leave_nothing(app: &App, home: &Home) {
    if app.deploys > 0 {
        return;
    }
    operation::undoing();
    if let Err(error) = service::delete(home, &removal::of_app(&app.name)) {
        let fields = [("app", app.name.as_str()), ("error", &error.to_string())];
        log::error("an account of a failed first deploy stays", &fields);
    }
}

/// Deploys an image of the app's history, and gives its full name (design 10.11).
///
/// # Errors
///
/// None is meant, or as for [`deploy`].
pub(crate) fn rollback(app: &App, asked: &str) -> Result<String> {
    let home = Home::of_pool(&app.pool)?;
    let history = images::history(&app.name)?;
    let image = rollback_image(&app.name, &history, asked)
        .map_err(|error| Error::NotFound(error.to_string()))?
        .to_owned();
    let metadata = images::metadata(&image)?.unwrap_or_default();
    if metadata.disable_rollback {
        let reason = &metadata.reason;
        let text = format!("Can't Rollback image {image}, reason: {reason}");
        return Err(Error::Conflict(text));
    }
    run(app, &home, &image, None)?;
    Ok(image)
}

/// Asks something of the processes of the current image: of the one that is named, or of all.
///
/// # Errors
///
/// There is no such process, or units that do not start.
pub(crate) fn ask(app: &App, process: &str, state: State) -> Result<()> {
    let home = Home::of_pool(&app.pool)?;
    let (current, metadata) = current(app)?;
    if metadata.processes.is_empty() {
        // Nothing was deployed: there is nothing to be asked.
        return Ok(());
    }
    let processes: BTreeSet<String> = metadata.processes.keys().cloned().collect();
    if !process.is_empty() && !processes.contains(process) {
        return Err(unknown_process(process));
    }
    run(app, &home, &current, Some(&states_of(&processes, process, state)))
}

fn unknown_process(process: &str) -> Error {
    let process = gantry_sdk::quote(process);
    Error::InvalidProcess(format!("no command declared in Procfile for process {process}"))
}

/// Runs more or fewer units.
///
/// # Errors
///
/// Nothing deployed, nothing asked, no such process, fewer units than none, or units that do not start.
pub(crate) fn scale(app: &App, process: &str, increment: i64) -> Result<()> {
    let state = changed_units(app.deploys, increment)?;
    let home = Home::of_pool(&app.pool)?;
    let (current, metadata) = current(app)?;
    let process = resolve_process(&metadata, process)?;
    if !metadata.processes.contains_key(process) {
        return Err(unknown_process(process));
    }
    let states = BTreeMap::from([(process.to_owned(), state)]);
    run(app, &home, &current, Some(&states))
}

/// Removes everything of an app.
///
/// # Errors
///
/// What the cluster refused, all of it, after everything was tried.
pub(crate) fn destroy(app: &App) -> Result<()> {
    let home = match Home::of_pool(&app.pool) {
        Ok(home) => home,
        // An app that was never anywhere has nothing to be removed.
        Err(Error::NotFound(_)) if app.deploys == 0 => return Ok(()),
        Err(error) => return Err(error),
    };
    // What is there counts, not what is known of the current image: nothing may stay of an image that failed.
    let mut processes: BTreeSet<String> = deployments(&home, &app.name)?.into_keys().collect();
    processes.extend(served(&home, &app.name)?);
    processes.extend(current(app)?.1.processes.into_keys());
    let mut failures = Failures::default();
    for process in processes {
        let pods = service::pods_of(app, &process);
        let gone = service::delete(&home, &removal::of_process(&pods));
        failures.note(gone, Error::to_string);
    }
    let pods = format!("{PREFIX}app-name={}", app.name);
    failures.note(service::delete(&home, &[removal::pods(&pods)]), Error::to_string);
    if failures.is_empty() {
        failures.note(service::pods_gone(&home, &pods), Error::to_string);
    }
    failures.note(service::delete(&home, &removal::of_app(&app.name)), Error::to_string);
    failures.end()
}

/// The image that runs now and what is known of it; nothing is known before the first deploy.
pub(crate) fn current(app: &App) -> Result<(String, ImageMetadata)> {
    let image = match images::current(&app.name) {
        Ok(image) => image,
        Err(Error::NotFound(_)) => return Ok((String::new(), ImageMetadata::default())),
        Err(error) => return Err(error),
    };
    let metadata = images::metadata(&image)?.unwrap_or_default();
    Ok((image, metadata))
}

/// Changes an app: every process of the image becomes what it is to be, one after the other; then the image is written down, and what it does not have is removed. When one fails, those
/// before it are put back.
fn run(
    app: &App,
    home: &Home,
    image: &str,
    states: Option<&BTreeMap<String, State>>,
) -> Result<()> {
    let site = Site::new(app, home)?;
    let metadata = image::metadata(&site, image)?;
    let (old_image, old_metadata) = current(app)?;
    let deployments = deployments(home, &app.name)?;
    let processes: BTreeSet<String> = metadata.processes.keys().cloned().collect();
    // A deploy replaces the units, also when the image has the name of the one before: it may be another by now.
    let again = states.is_none() && image == old_image;
    let again = again.then(|| states_of(&processes, "", State::RESTART));
    let states = states.or(again.as_ref());
    let labels: BTreeMap<String, LabelSet> =
        deployments.iter().map(|(process, object)| (process.clone(), label_set(object))).collect();
    // What is there without being of the current image was left by a failure: it goes too.
    let mut before: BTreeSet<String> = old_metadata.processes.keys().cloned().collect();
    before.extend(deployments.keys().filter(|process| !process.is_empty()).cloned());
    let served = served(home, &app.name)?;
    before.extend(served.iter().cloned());
    let plan = Plan::new(&Change {
        image,
        processes: &processes,
        current: &before,
        states,
        labels: &labels,
    })?;
    twins::refuse_twins(&app.name, &processes)?;
    let is_ours = |process: &str| deployments.contains_key(process) && served.contains(process);
    let others = processes.iter().map(String::as_str).filter(|process| !is_ours(process));
    service::refuse_taken(home, &app.name, others)?;
    set_quota_in_use(app, plan.quota)?;
    let new = Version { image, metadata: &metadata };
    let old = Version { image: &old_image, metadata: &old_metadata };
    for (index, step) in plan.steps.iter().enumerate() {
        let done = match step {
            Step::Update { process, target } => stop_asked().and_then(|()| {
                service::deploy(&site, process, new, *target, deployments.get(process))
            }),
            Step::RecordImage => stop_asked().and_then(|()| images::append(&app.name, image)),
            Step::Remove { process } => {
                let pods = service::pods_of(app, process);
                if let Err(error) = service::remove(home, &pods) {
                    let fields = [("process", process.as_str()), ("error", &error.to_string())];
                    log::error("a process that is no longer there stays", &fields);
                    operation::progress(&format!(" ---> {error} <---\n"));
                }
                Ok(())
            }
        };
        if let Err(error) = done {
            undo(&site, &plan, index, old, &deployments);
            let before = labels.values().map(LabelSet::app_replicas).fold(0, i64::saturating_add);
            if let Err(error) = set_quota_in_use(app, before) {
                let fields = [("app", app.name.as_str()), ("error", &error.to_string())];
                log::error("the quota counts units that are not there", &fields);
            }
            return Err(error);
        }
    }
    Ok(())
}

fn set_quota_in_use(app: &App, units: i64) -> Result<()> {
    apps::set_quota_in_use(&app.name, i32::try_from(units).unwrap_or(i32::MAX))
}

fn stop_asked() -> Result<()> {
    if operation::cancelled() { Err(Error::Cancelled) } else { Ok(()) }
}

/// Puts the processes back that were changed before the one that failed.
fn undo(site: &Site<'_>, plan: &Plan, failed: usize, old: Version<'_>, deployments: &Deployments) {
    operation::undoing();
    for undo in plan.undo(failed) {
        let (process, undone) = match undo {
            // Somebody has deleted it behind our back, and it is one of the app's.
            Undo::Restore { process, target }
                if !deployments.contains_key(process)
                    && old.metadata.processes.contains_key(process) =>
            {
                (process, service::deploy(site, process, old, *target, None))
            }
            Undo::Restore { process, .. } | Undo::Remove { process } => {
                let before = deployments.get(process);
                if before.is_some() {
                    operation::progress(&Rollout::headline(process));
                }
                (process, service::put_back(site.home, site.app, process, before, false))
            }
        };
        if let Err(error) = undone {
            let fields = [("process", process.as_str()), ("error", &error.to_string())];
            log::error("a process could not be put back", &fields);
            operation::progress(&format!(" ---> {error} <---\n"));
        }
    }
}

//! Builds: the source of an app becomes an image (spec 5.3, "Commands"; 5.13).
//!
//! Without a Dockerfile the source is put on the image of the app's platform, or on the app's own image, which has it in it (see [`platform`]). With one the engine does the work.
//!
//! | built by | the image is called | because |
//! |---|---|---|
//! | an agent in the platform's image | `<team>/app-<app>:v<n>-builder` | its deploy is still to come: `deploy` runs it and makes the app's image of this one |
//! | the platform's command, or the build hooks alone | `tsuru/app-<app>:v<n>` | nothing is to be done any more: it is the app's image, and runs as it is |
//! | a Dockerfile | `tsuru/app-<app>:v<n>` | the same |
//!
//! A build that fails, or that somebody cancels, leaves no container and no image. What a platform that died in the middle left is removed by the app's next build ([`unfinished`]).

mod agent;
mod container;
mod dockerfile;
mod platform;
mod push;
mod unfinished;

use gantry_sdk::config::Config;
use gantry_sdk::container::ContainerSpec;
use gantry_sdk::containers::{Batch, CommitOptions, EngineError, Sequence, Step};
use gantry_sdk::gantry_core::create::{ContainerDefaults, UnitContainer};
use gantry_sdk::gantry_core::image::{ImageNames, split_image_name};
use gantry_sdk::gantry_core::labels::ProcessOptions;
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::streams::Reader;
use gantry_sdk::{App, BuildOptions, Error, Result, apps, images, labels, log, operation};

pub(crate) use self::agent::{app_image, clean};
use crate::failure::Failure;
use crate::host::Host;
use crate::observe::PATIENCE;
use crate::{PROVISIONER, machine, messages, removal};

/// Builds an image of an app's source and gives its name.
pub(crate) fn build(app: &App, source: Reader, options: &BuildOptions) -> Result<String> {
    unfinished::clean(app);
    if options.dockerfile.is_empty() {
        platform::build(app, source, options)
    } else {
        dockerfile::build(app, source, options)
    }
}

/// The name of an image that runs as it is. Its number is the app's next one, which nothing else ever gets.
fn final_name(app: &App, options: &BuildOptions) -> Result<String> {
    if !options.tag.is_empty() {
        return Ok(name_by_rule(app, options));
    }
    reserve(app)
}

/// The name of the app's next image.
fn reserve(app: &App) -> Result<String> {
    images::reserve(&app.name).map_err(|error| {
        let text = format!("error getting new image name for app {}: {error}", app.name);
        Error::Other(text)
    })
}

/// Removes what builds of an app left that no deploy has made the app's: the app is removed.
pub(crate) fn forget(app: &App) {
    unfinished::forget(app);
}

/// The name of a builder's image (spec 5.13).
fn name_by_rule(app: &App, options: &BuildOptions) -> String {
    let names = ImageNames::from_settings(&Config);
    names.builder(&app.name, &app.team_owner, &options.tag, u64::from(app.deploys))
}

/// Tells how large an image is, and pushes it where a registry is configured.
fn publish(host: &Host, image: &str) -> std::result::Result<(), Failure> {
    let layers = host.client.image_history(image);
    let layers = layers.map_err(|error| Failure::engine(&host.address, error))?;
    operation::progress(&messages::sending_image(layers.iter().map(|layer| layer.size).sum()));
    push::to_registry(host, image)
}

/// What the container of a build is made of.
fn spec(
    app: &App,
    image: &str,
    command: &[String],
    defaults: &ContainerDefaults,
) -> Result<ContainerSpec> {
    let routers: Vec<String> =
        apps::routers(&app.name)?.into_iter().map(|router| router.name).collect();
    let set = labels::process(&ProcessOptions {
        app,
        routers: &routers,
        process: "",
        provisioner: PROVISIONER,
        builder: "",
        prefix: "",
        is_deploy: true,
    })?;
    let container = UnitContainer {
        app,
        routers: &routers,
        envs: &[],
        process: "",
        image,
        command,
        exposed_port: "",
        is_deploy: true,
        is_building: true,
    };
    let envs = apps::unit_envs(&app.name, "", true)?;
    Ok(container.spec_with(defaults, envs, set.to_labels()))
}

/// Stops and removes the container of a build, and forgets its record.
fn remove_container(record: &UnitRecord) {
    // What cannot be removed is logged there.
    let _ = removal::remove(std::slice::from_ref(record), |_, _| {});
}

/// The same for a build that failed: what its container told of the image that is not made is forgotten too, once it can tell no more.
fn give_up(app: &App, record: &UnitRecord) {
    remove_container(record);
    let image = &record.building_image;
    if let Err(error) = images::forget(&app.name, image) {
        let fields = [("image", image.as_str()), ("error", &error.to_string())];
        log::warn("what is known of an image that was not made stays", &fields);
    }
}

/// Makes an image of a container. One that may have been made after all is removed.
fn commit(
    app: &App,
    host: &Host,
    container: &str,
    image: &str,
) -> std::result::Result<(), Failure> {
    unfinished::begin(app, host, image)?;
    let (repository, tag) = split_image_name(image);
    let options = CommitOptions {
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        comment: String::new(),
    };
    host.client.commit_container(container, &options).map(drop).map_err(|error| {
        discard_failed(app, host, image, &error);
        Failure::engine(&host.address, error)
    })
}

/// Removes an image from every machine, all at once. One that does not have it is well.
pub(crate) fn clean_image(image: &str) -> Result<()> {
    let machines = machine::Machines::read()?;
    let remove = |machine: &machine::Machine| {
        Sequence::new(&machine.address, vec![Step::RemoveImage(image.to_owned())]).within(PATIENCE)
    };
    let removed = Batch::submit(machines.all().iter().map(remove).collect())?.all();
    let mut failures = removed.into_iter().filter_map(|completion| completion.failure);
    match failures.find(|error| !matches!(error, EngineError::NotFound(_))) {
        None => Ok(()),
        Some(error) => Err(error.into()),
    }
}

/// Removes an image that a build made, or may have made, and what is known of it.
fn discard(app: &App, host: &Host, image: &str) {
    operation::undoing();
    let removed = match host.client.remove_image(image) {
        Ok(()) | Err(EngineError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    };
    let is_gone = removed.is_ok();
    for result in [removed, images::forget(&app.name, image)] {
        if let Err(error) = result {
            let fields = [("image", image), ("error", &error.to_string())];
            log::warn("the image of a failed build stays", &fields);
        }
    }
    if is_gone {
        unfinished::end(app, image);
    }
}

/// The same after the call failed that was to make it. What refused it made nothing.
fn discard_failed(app: &App, host: &Host, image: &str, error: &EngineError) {
    match error {
        EngineError::NotFound(_)
        | EngineError::Conflict(_)
        | EngineError::Invalid(_)
        | EngineError::Denied(_) => unfinished::end(app, image),
        EngineError::Unreachable(_)
        | EngineError::TimedOut(_)
        | EngineError::Cancelled
        | EngineError::Failed(_) => discard(app, host, image),
    }
}

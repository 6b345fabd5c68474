//! Making the image of an app out of what a build left (spec 5.4): its container deploys, ends well, and is committed.

use std::rc::Rc;

use gantry_sdk::commands::{UnitAgent, deploy_command};
use gantry_sdk::config::Config;
use gantry_sdk::containers::{CommitOptions, EngineError};
use gantry_sdk::gantry_core::create::{ContainerDefaults, UnitContainer};
use gantry_sdk::gantry_core::image::split_image_name;
use gantry_sdk::gantry_core::labels::ProcessOptions;
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Error, Result, Status, apps, images, labels, log, operation};

use crate::change;
use crate::failure::{Attempts, Failure, Next};
use crate::node::{Node, set_network};
use crate::pipeline::Action;
use crate::{PROVISIONER, messages, name, records, removal};

/// The tag that always means the newest image.
const LATEST: &str = "latest";

/// A build under way.
struct Build {
    app: App,
    node: Rc<Node>,
    /// What the build left.
    source: String,
    /// The image to be made.
    target: String,
    record: UnitRecord,
}

const ACTIONS: &[Action<Build>] = &[
    Action {
        name: "insert-empty-container",
        forward: |build| {
            build.record = empty_record(build, name::now());
            Ok(())
        },
        undo: None,
        commits: false,
    },
    Action {
        name: "create-container",
        forward: create_container,
        undo: Some(remove_container),
        commits: false,
    },
    Action { name: "start-container", forward: start_container, undo: None, commits: false },
    Action {
        name: "update-database-container",
        forward: update_record,
        undo: None,
        commits: false,
    },
    Action {
        name: "follow-logs-and-commit",
        forward: follow_logs_and_commit,
        undo: None,
        commits: false,
    },
];

/// Makes the app's next image and gives its name.
pub(crate) fn app_image(app: &App, node: &Rc<Node>, source: &str) -> Result<String> {
    let target = images::reserve(&app.name).map_err(|error| {
        let text = format!("error getting new image name for app {}: {error}", app.name);
        Error::Other(text)
    })?;
    ensure(node, source)?;
    let mut attempts = Attempts::default();
    loop {
        let mut build = Build {
            app: app.clone(),
            node: Rc::clone(node),
            source: source.to_owned(),
            target: target.clone(),
            record: UnitRecord::default(),
        };
        match change::run(ACTIONS, &mut build) {
            Ok(()) => return Ok(target),
            Err(failure) => match attempts.failed(failure) {
                Next::Retry => {}
                Next::GiveUp(failure) => return Err(failure.error),
            },
        }
    }
}

/// Removes the image of a deploy that failed, as far as that is granted.
pub(crate) fn clean(app: &App, node: &Node, image: &str) {
    let removed = match node.client.remove_image(image) {
        Ok(()) | Err(EngineError::NotFound(_)) => Ok(()),
        Err(error) => Err(Error::from(error)),
    };
    for result in [removed, images::forget(&app.name, image)] {
        if let Err(error) = result {
            let fields = [("image", image), ("error", &error.to_string())];
            log::warn("the image of a failed deploy stays", &fields);
        }
    }
}

fn ensure(node: &Node, image: &str) -> Result<()> {
    match node.client.inspect_image(image) {
        Err(EngineError::NotFound(_)) => {
            operation::progress(&messages::pulling(image));
            Ok(node.client.pull_image(image)?)
        }
        result => Ok(result.map(drop)?),
    }
}

fn empty_record(build: &Build, now: i64) -> UnitRecord {
    let mut record = UnitRecord {
        name: name::of_unit(&build.app.name, 0),
        app_name: build.app.name.clone(),
        kind: build.app.platform.clone(),
        host_addr: build.node.host.clone(),
        image: build.source.clone(),
        building_image: build.target.clone(),
        ..UnitRecord::default()
    };
    record.set_status(Status::Building, now);
    record
}

fn create_container(build: &mut Build) -> std::result::Result<(), Failure> {
    let Build { app, node, source, record, .. } = build;
    let routers: Vec<String> =
        apps::routers(&app.name)?.into_iter().map(|router| router.name).collect();
    let app_envs = apps::unit_envs(&app.name, "", false)?;
    let agent = UnitAgent::from_settings(&Config, &app.name, change::token(&app_envs));
    let command = deploy_command(&agent);
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
        image: source,
        command: &command,
        exposed_port: "",
        is_deploy: true,
        is_building: true,
    };
    let envs = apps::unit_envs(&app.name, "", true)?;
    let defaults = ContainerDefaults::from_settings(&Config);
    let spec = container.spec_with(&defaults, envs, set.to_labels());
    let id = node.client.create_container(&record.name, &spec);
    record.id = id.map_err(|error| {
        let failure = Failure::engine(&node.address, error);
        // An answer that did not come may hide a container.
        let _ = node.client.remove_container(&record.name, true);
        failure
    })?;
    Ok(())
}

/// Stops and removes the container, and forgets its record.
fn remove_container(build: &mut Build) {
    let unit = std::slice::from_ref(&build.record);
    // What cannot be removed is logged there.
    let _ = removal::remove(&build.node, unit, |_, _| {});
}

fn start_container(build: &mut Build) -> std::result::Result<(), Failure> {
    let Build { node, record, .. } = build;
    let started = node.client.start_container(&record.id);
    started.map_err(|error| Failure::start(&node.address, error))
}

/// Writes the record down, so that the agent in the container can register and tell about its image.
fn update_record(build: &mut Build) -> std::result::Result<(), Failure> {
    let Build { node, record, .. } = build;
    let container = node.client.inspect_container(&record.id);
    let container = container.map_err(|error| Failure::engine(&node.address, error))?;
    set_network(record, &container);
    Ok(records::save(record)?)
}

fn follow_logs_and_commit(build: &mut Build) -> std::result::Result<(), Failure> {
    let Build { node, record, target, .. } = build;
    let engine = |error| Failure::engine(&node.address, error);
    let client = &node.client;
    let (stdout, stderr) = (operation::output(), operation::output());
    client.attach_to_container(&record.id, true, &stdout, &stderr).map_err(engine)?;
    let code = client.wait_container(&record.id).map_err(engine)?;
    if code != 0 {
        return Err(Error::Other(format!("Exit status {code}")).into());
    }
    operation::progress(messages::DEPLOYING_IMAGE);
    let (repository, tag) = split_image_name(target);
    let options = CommitOptions {
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        comment: String::new(),
    };
    client.commit_container(&record.id, &options).map_err(engine)?;
    if tag != LATEST {
        client.tag_image(target, repository, LATEST).map_err(engine)?;
    }
    let layers = client.image_history(target).map_err(engine)?;
    operation::progress(&messages::sending_image(layers.iter().map(|layer| layer.size).sum()));
    operation::progress(messages::CLEANING_UP);
    // What cannot be removed is logged there, and the image is made.
    let _ = removal::remove(node, std::slice::from_ref(record), |_, _| {});
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_are_the_references() {
        let names: Vec<&str> = ACTIONS.iter().map(|action| action.name).collect();
        assert_eq!(
            names,
            [
                "insert-empty-container",
                "create-container",
                "start-container",
                "update-database-container",
                "follow-logs-and-commit",
            ]
        );
    }
}

//! The deploy of what an agent built (spec 5.4): a container of it deploys, ends well, and is committed as the app's image.

use std::collections::BTreeSet;

use gantry_sdk::commands::{UnitAgent, deploy_command};
use gantry_sdk::config::Config;
use gantry_sdk::container::ContainerSpec;
use gantry_sdk::containers::EngineError;
use gantry_sdk::gantry_core::create::ContainerDefaults;
use gantry_sdk::gantry_core::image::{LATEST, split_image_name};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Error, Result, apps, images, log, operation};

use super::{
    clean_image, commit, container, discard, give_up, publish, push, remove_container, reserve,
    spec,
};
use crate::failure::Failure;
use crate::host::Host;
use crate::pipeline::Action;
use crate::{change, messages, placing, records};

/// An image of an app that no deploy has made the app's yet.
pub(crate) struct Built {
    /// Its name.
    pub(crate) image: String,
    /// Where it was made.
    host: Host,
}

/// A deploy under way.
struct Build {
    app: App,
    host: Host,
    spec: ContainerSpec,
    /// The image to be made.
    target: String,
    record: UnitRecord,
}

const ACTIONS: &[Action<Build>] = &[
    Action {
        name: "start-container",
        forward: |build| {
            container::start(&build.app, &mut build.host, &mut build.record, &build.spec)
        },
        undo: Some(|build| give_up(&build.app, &build.record)),
        commits: false,
    },
    // So that the agent in the container can register and tell about its image.
    Action {
        name: "update-database-container",
        forward: |build| Ok(records::save(&build.record)?),
        undo: None,
        commits: false,
    },
    Action { name: "follow-logs", forward: follow_logs, undo: None, commits: false },
    Action {
        name: "commit-container",
        forward: |build| commit(&build.app, &build.host, &build.record.id, &build.target),
        undo: Some(|build| discard(&build.app, &build.host, &build.target)),
        commits: false,
    },
    Action {
        name: "tag-latest",
        forward: tag_latest,
        undo: Some(|build| give_latest_back(&build.app, &build.host, &build.target)),
        commits: false,
    },
    Action { name: "push-image", forward: push_images, undo: None, commits: false },
];

/// Makes the app's next image of what a build left.
pub(crate) fn app_image(app: &App, source: &str) -> Result<Built> {
    let host = placing::host_with(app, source, &[], &BTreeSet::new())?;
    let target = reserve(app)?;
    let app_envs = apps::unit_envs(&app.name, "", false)?;
    let agent = UnitAgent::from_settings(&Config, &app.name, change::token(&app_envs));
    let defaults = ContainerDefaults::from_settings(&Config);
    let spec = spec(app, source, &deploy_command(&agent), &defaults)?;
    let record = UnitRecord {
        app_name: app.name.clone(),
        kind: app.platform.clone(),
        image: source.to_owned(),
        building_image: target.clone(),
        ..UnitRecord::default()
    };
    let mut build = Build { app: app.clone(), host, spec, target, record };
    change::run(ACTIONS, &mut build).map_err(|failure| failure.error)?;
    operation::progress(messages::CLEANING_UP);
    remove_container(&build.record);
    operation::undone();
    Ok(Built { image: build.target, host: build.host })
}

/// Removes the image of a deploy that failed from every machine, as far as that is granted.
pub(crate) fn clean(app: &App, built: &Built) {
    let Built { image, host } = built;
    give_latest_back(app, host, image);
    for result in [clean_image(image), images::forget(&app.name, image)] {
        if let Err(error) = result {
            let fields = [("image", image.as_str()), ("error", &error.to_string())];
            log::warn("the image of a failed deploy stays", &fields);
        }
    }
}

fn follow_logs(build: &mut Build) -> std::result::Result<(), Failure> {
    let Build { host, record, .. } = build;
    let engine = |error| Failure::engine(&host.address, error);
    let (stdout, stderr) = (operation::output(), operation::output());
    host.client.attach_to_container(&record.id, true, &stdout, &stderr).map_err(engine)?;
    let code = host.client.wait_container(&record.id).map_err(engine)?;
    if code != 0 {
        return Err(Error::Other(format!("Exit status {code}")).into());
    }
    operation::progress(messages::DEPLOYING_IMAGE);
    Ok(())
}

fn tag_latest(build: &mut Build) -> std::result::Result<(), Failure> {
    let Build { app, host, target, .. } = build;
    let Some((repository, _)) = latest(target) else { return Ok(()) };
    host.client.tag_image(target, repository, LATEST).map_err(|error| {
        // An answer that did not come may hide that it was done.
        operation::undoing();
        give_latest_back(app, host, target);
        Failure::engine(&host.address, error)
    })
}

fn push_images(build: &mut Build) -> std::result::Result<(), Failure> {
    publish(&build.host, &build.target)?;
    match latest(&build.target) {
        Some((_, latest)) => push::to_registry(&build.host, &latest),
        None => Ok(()),
    }
}

/// Lets the tag mean what it meant before an image was made: the app's current image, or nothing.
fn give_latest_back(app: &App, host: &Host, image: &str) {
    let Some((repository, latest)) = latest(image) else { return };
    let current = images::current(&app.name).unwrap_or_default();
    let before = Some(current).filter(|current| {
        let (its_repository, tag) = split_image_name(current);
        its_repository == repository && tag != LATEST && current != image
    });
    let tagged = before.map(|current| host.client.tag_image(&current, repository, LATEST));
    let given_back = match tagged {
        Some(Ok(())) => Ok(()),
        None | Some(Err(EngineError::NotFound(_))) => host.client.remove_image(&latest),
        Some(error) => error,
    };
    match given_back {
        Ok(()) | Err(EngineError::NotFound(_)) => {}
        Err(error) => {
            let fields = [("image", image), ("error", &error.to_string())];
            log::warn("the tag `latest` means the image of a failed deploy", &fields);
        }
    }
}

/// The repository of an image, and its name there that always means the newest one; none when it has no other.
fn latest(image: &str) -> Option<(&str, String)> {
    let (repository, tag) = split_image_name(image);
    (tag != LATEST).then(|| (repository, format!("{repository}:{LATEST}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_also_the_newest_of_its_repository() {
        let newest = "r.example:5000/tsuru/app-a:latest".to_owned();
        let repository = "r.example:5000/tsuru/app-a";
        assert_eq!(latest("r.example:5000/tsuru/app-a:v3"), Some((repository, newest)));
        assert_eq!(latest("tsuru/app-a:latest"), None);
        assert_eq!(latest("tsuru/app-a"), None);
    }
}

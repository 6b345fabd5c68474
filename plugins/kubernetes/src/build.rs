//! Builds inside a cluster (spec 7.5): a pod with two containers, of which one is the image and the other an agent that makes an image of it and pushes that to the registry. Which agent that is
//! the operator says: the reference's, or this project's own.

use gantry_sdk::config::Config;
use gantry_sdk::gantry_core::image::{ImageNames, split_image_name};
use gantry_sdk::streams::Reader;
use gantry_sdk::{App, Error, InspectedImage, Result, apps, images, operation};
use serde_json::Value;

use crate::home::Home;
use crate::manifest::pod::{COMMITTER, INSPECTOR, NO_INPUT};
use crate::service::{Purpose, Site};
use crate::{change, completion, exec, name, wait};

/// What is said when the pod has done its work.
const CLEANING_UP: &str = " ---> Cleaning up\n";

/// Makes the app's next image of what a build left, and gives its name.
///
/// # Errors
///
/// The pod does not start, its agent fails, or the cluster refuses.
pub(crate) fn app_image(app: &App, home: &Home, source: &str) -> Result<String> {
    let target = images::reserve(&app.name).map_err(|error| {
        Error::Other(format!("error getting new image name for app {}: {error}", app.name))
    })?;
    let site = Site::new(app, home)?;
    let pod = name::deploy_pod(&app.name, tag_of(&target));
    let set = site.labels("", 0, Purpose::Build)?;
    let envs = apps::unit_envs(&app.name, "", true)?;
    let object = site.one_shot(&pod, source, &set, &envs).deploy(&target, site.agent())?;
    run(&site, source, &object, COMMITTER, Reader::from_bytes(NO_INPUT.as_bytes()))?;
    Ok(target)
}

/// Builds an image of an app's source, and gives its name.
///
/// # Errors
///
/// As [`app_image`].
pub(crate) fn build_pod(app: &App, archive: Reader, tag: &str) -> Result<String> {
    let home = Home::of_pool(&app.pool)?;
    let site = Site::new(app, &home)?;
    let names = ImageNames::from_settings(&Config);
    let source = base_image(app, &names)?;
    let target = names.builder(&app.name, &app.team_owner, tag, u64::from(app.deploys));
    let pod = name::build_pod(&app.name, tag_of(&target), tag);
    let set = site.labels("", 0, Purpose::Build)?;
    // The reference's agent fetches the environment of the app itself, for the build's own commands.
    let is_theirs = home.defaults.build_agent.is_none();
    let envs = apps::unit_envs(&app.name, "", is_theirs)?;
    let object = site.one_shot(&pod, &source, &set, &envs).build(&target, site.agent())?;
    let built = run(&site, &source, &object, COMMITTER, archive);
    built.inspect_err(|_| change::leave_nothing(app, &home))?;
    Ok(target)
}

/// Gives an image another name, pushes it, and looks into it.
///
/// # Errors
///
/// As [`app_image`], or the agent tells something else.
pub(crate) fn inspect(app: &App, image: &str, new_image: &str) -> Result<InspectedImage> {
    let home = Home::of_pool(&app.pool)?;
    let site = Site::new(app, &home)?;
    let pod = name::deploy_pod(&app.name, tag_of(new_image));
    let set = site.labels("", 0, Purpose::Build)?;
    let envs = apps::unit_envs(&app.name, "", true)?;
    let object = site.one_shot(&pod, image, &set, &envs).inspect(new_image)?;
    let input = Reader::from_bytes(NO_INPUT.as_bytes());
    let output = run(&site, image, &object, INSPECTOR, input)?;
    let inspection = completion::inspection(&String::from_utf8_lossy(&output))?;
    let text = |value: &Value| if value.is_null() { String::new() } else { value.to_string() };
    let image = serde_json::to_string(&inspection.image)
        .map_err(|error| Error::Other(format!("the image that was inspected: {error}")))?;
    Ok(InspectedImage { image, procfile: inspection.procfile, tsuru_yaml: text(&inspection.yaml) })
}

/// The tag of an image, which is in the name of its pod.
fn tag_of(image: &str) -> &str {
    split_image_name(image).1
}

/// What a build starts from: the app's own image, or its platform's (spec 5.13).
fn base_image(app: &App, names: &ImageNames) -> Result<String> {
    use gantry_sdk::Settings as _;
    const LAYERS: i64 = 10;
    let layers = Config.integer("docker:max-layers").filter(|layers| *layers > 0);
    let layers = u32::try_from(layers.unwrap_or(LAYERS)).unwrap_or(u32::MAX);
    let anew = app.update_platform || app.deploys.is_multiple_of(layers);
    match images::current(&app.name) {
        Ok(image) if !anew => Ok(image),
        Ok(_) | Err(Error::NotFound(_)) => Ok(names.platform(&app.platform)),
        Err(error) => Err(error),
    }
}

/// Runs a pod to its end, gives its agent what it reads, shows what it says, and removes it whatever happens. Gives what an agent said that inspects.
fn run(
    site: &Site<'_>,
    image: &str,
    object: &Value,
    agent: &str,
    input: Reader,
) -> Result<Vec<u8>> {
    let home = site.home;
    site.prepare(image)?;
    if let Some(own) = &home.defaults.build_agent {
        // It may be of the registry that the image is not of.
        site.prepare(&own.image)?;
    }
    let pod = crate::object::name(object);
    exec::run_once(home, object)?;
    exec::with_pod_gone(home, pod, worked(home, pod, agent, input))
}

fn worked(home: &Home, pod: &str, agent: &str, input: Reader) -> Result<Vec<u8>> {
    wait::pod_running(home, pod)?;
    let (stdout, stderr) = (operation::output(), operation::output());
    let attached = home.client.attach(home.namespace(), pod, agent, Some(input), &stdout, &stderr);
    if let Err(error) = attached {
        // One that has ended says why, which says more than a connection that broke.
        let ended = wait::pod(home, pod, home.timeouts.api_short, |pod, _| {
            Ok(completion::reason(pod, agent).is_some())
        });
        let reason = ended.ok().and_then(|pod| completion::reason(&pod, agent));
        return Err(reason.map_or_else(|| error.into(), Error::Other));
    }
    operation::progress(CLEANING_UP);
    wait::pod(home, pod, home.timeouts.pod_ready, |pod, events| {
        match completion::reason(pod, agent) {
            Some(reason) => Err(Error::Other(reason)),
            None => completion::is_finished(pod, events),
        }
    })?;
    // What others say has been shown, and may be more than fits into one answer.
    if agent == INSPECTOR { exec::all_lines(home, pod, agent) } else { Ok(Vec::new()) }
}

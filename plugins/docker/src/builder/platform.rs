//! Builds on the image of a platform.
//!
//! The source is unpacked into `/home/application/current` of a container of the image. What happens then depends on what the image has:
//!
//! | the image has | what runs |
//! |---|---|
//! | the agent `tsuru_unit_agent` | `tsuru_unit_agent <host> <token> <app> "<deploy-cmd> archive file:///home/application/archive.tar.gz" build`, as in the reference; the build hooks are the agent's own business, in its deploy |
//! | `docker:deploy-cmd` (`/var/lib/tsuru/deploy`) and no agent | `<deploy-cmd> archive file:///home/application/archive.tar.gz`, then the build hooks |
//! | neither | the build hooks |
//!
//! The first two need `tar` in the image, and run as `docker:user`; so do the hooks. Without either and without that setting, the hooks run as the image's own user. What the source declares (its Procfile, its tsuru.yaml) is
//! written down under the name of the image, unless something in the container registered it meanwhile: what was told counts.

use std::collections::BTreeSet;

use gantry_sdk::commands::{UnitAgent, archive_build_command};
use gantry_sdk::config::Config;
use gantry_sdk::container::{ContainerSpec, Image};
use gantry_sdk::containers::EngineError;
use gantry_sdk::gantry_core::create::ContainerDefaults;
use gantry_sdk::gantry_core::image::{ImageFiles, ImageMetadata, ImageNames};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::gantry_core::yaml::TsuruYaml;
use gantry_sdk::streams::Reader;
use gantry_sdk::{App, BuildOptions, Error, Result, Settings, apps, images, operation};

use super::container::{self, Command, ROOT};
use super::{commit, discard, final_name, give_up, name_by_rule, publish, remove_container, spec};
use crate::failure::Failure;
use crate::host::Host;
use crate::image::Files;
use crate::pipeline::Action;
use crate::{change, image, messages, placing, records};

/// Where the source of an app is.
const SOURCE: &str = "/home/application/current";

/// Where it is whole, for whoever unpacks it himself.
const ARCHIVE: &str = "/home/application/archive.tar.gz";

/// The agent of the reference's platforms.
const AGENT: &str = "tsuru_unit_agent";

/// Where programs are in an image that does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many deploys are built on one another when `docker:max-layers` does not say.
const LAYERS: i64 = 10;

/// How an image builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// An agent in it does it.
    Agent,
    /// It has a command for it.
    Command,
    /// It has nothing for it: the source is what it is.
    Plain,
}

/// A build under way.
struct Build {
    app: App,
    host: Host,
    way: Way,
    agent: UnitAgent,
    /// What the container is made of.
    spec: ContainerSpec,
    /// Who builds.
    user: String,
    /// The image that it starts from.
    base: Image,
    /// The image to be made.
    target: String,
    /// What is built; taken when it is unpacked.
    source: Option<Reader>,
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
    Action {
        name: "update-database-container",
        forward: |build| Ok(records::save(&build.record)?),
        undo: None,
        commits: false,
    },
    Action { name: "upload-archive", forward: upload, undo: None, commits: false },
    Action { name: "run-build", forward: run_build, undo: None, commits: false },
    Action { name: "run-build-hooks", forward: run_hooks, undo: None, commits: false },
    Action { name: "save-image-metadata", forward: save_metadata, undo: None, commits: false },
    Action {
        name: "commit-container",
        forward: |build| commit(&build.app, &build.host, &build.record.id, &build.target),
        undo: Some(|build| discard(&build.app, &build.host, &build.target)),
        commits: false,
    },
    Action {
        name: "push-image",
        forward: |build| publish(&build.host, &build.target),
        undo: None,
        commits: false,
    },
];

/// Builds on the image of the app's platform, or on the app's own, and gives the name of what was built.
pub(super) fn build(app: &App, source: Reader, options: &BuildOptions) -> Result<String> {
    let app_envs = apps::unit_envs(&app.name, "", false)?;
    let agent = UnitAgent::from_settings(&Config, &app.name, change::token(&app_envs));
    let Base { host, name, image: base, way } = base(app, &agent)?;
    operation::progress(&headline(&name));
    let target = match way {
        Way::Agent => name_by_rule(app, options),
        Way::Command | Way::Plain => final_name(app, options)?,
    };
    let defaults = ContainerDefaults::from_settings(&Config);
    let container_user = container_user(way, &defaults.build_user, is_user_set());
    let user = if container_user.is_empty() { &base.config.user } else { &container_user }.clone();
    let spec =
        ContainerSpec { user: container_user, ..spec(app, &name, &container::waits(), &defaults)? };
    let record = UnitRecord {
        app_name: app.name.clone(),
        kind: app.platform.clone(),
        image: name,
        building_image: target.clone(),
        ..UnitRecord::default()
    };
    let app = app.clone();
    let source = Some(source);
    let mut build = Build { app, host, way, agent, spec, user, base, target, source, record };
    change::run(ACTIONS, &mut build).map_err(|failure| failure.error)?;
    operation::progress(messages::CLEANING_UP);
    remove_container(&build.record);
    Ok(build.target)
}

fn headline(image: &str) -> String {
    format!("\n---- Building on {image} ----\n")
}

/// What a build starts from.
struct Base {
    /// The host that has the image.
    host: Host,
    /// Its name.
    name: String,
    image: Image,
    way: Way,
}

/// What a build starts from (spec 5.13). An app's own image that is nowhere any more is made anew.
fn base(app: &App, agent: &UnitAgent) -> Result<Base> {
    let layers = Config.integer("docker:max-layers").filter(|layers| *layers > 0);
    if !starts_anew(app, layers.unwrap_or(LAYERS)) {
        match images::current(&app.name) {
            Ok(current) => match on_host(app, current, agent) {
                Err(Error::NotFound(_)) => {}
                found => return found,
            },
            Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    on_host(app, ImageNames::from_settings(&Config).platform(&app.platform), agent)
}

/// Whether the next build starts from the platform's image.
fn starts_anew(app: &App, layers: i64) -> bool {
    app.update_platform || i64::from(app.deploys) % layers == 0
}

/// A host with an image, pulled when none has it, and what the image has for builds.
fn on_host(app: &App, name: String, agent: &UnitAgent) -> Result<Base> {
    let first = placing::host_with(app, &name, &[], &BTreeSet::new())?;
    let found = placing::on_one(app, first, |host| {
        let image = image::ensure(host, &name)?;
        let way = host.look_into(&name, &app.name, |id| way(host, id, &image, agent))?;
        Ok((image, way))
    });
    let (host, (image, way)) = found.map_err(|failure| failure.error)?;
    Ok(Base { host, name, image, way })
}

/// What a container of an image has for builds.
fn way(
    host: &Host,
    container: &str,
    image: &Image,
    agent: &UnitAgent,
) -> std::result::Result<Way, EngineError> {
    let has = |program: &str| {
        for place in places(image, program) {
            match host.client.stat_path(container, &place) {
                Ok(_) => return Ok(true),
                Err(EngineError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    };
    if has(AGENT)? {
        return Ok(Way::Agent);
    }
    let program = agent.deploy_command.split_whitespace().next().unwrap_or_default();
    Ok(if has(program)? { Way::Command } else { Way::Plain })
}

/// Where a program of an image may be.
fn places(image: &Image, program: &str) -> Vec<String> {
    if program.starts_with('/') {
        return vec![program.to_owned()];
    }
    let own = image.config.env.iter().flatten().find_map(|env| env.strip_prefix("PATH="));
    let folders = own.unwrap_or(PATH).split(':').filter(|folder| folder.starts_with('/'));
    folders.map(|folder| format!("{}/{program}", folder.trim_end_matches('/'))).collect()
}

fn is_user_set() -> bool {
    ["docker:user", "docker:ssh:user"].iter().any(|key| !Config.string(key).is_empty())
}

/// The user that a container is made for; the image's own when empty. The platforms of the reference have the user that is meant when nobody says; another image need not.
fn container_user(way: Way, build_user: &str, is_set: bool) -> String {
    match way {
        Way::Plain if !is_set => String::new(),
        Way::Agent | Way::Command | Way::Plain => build_user.to_owned(),
    }
}

/// Runs a line as root that must end well.
fn as_root(build: &Build, line: &str) -> std::result::Result<(), Failure> {
    let command = Command::line(line).by(ROOT);
    ended_well(command.run(&build.host, &build.record.id)?, || format!("`{line}`"))
}

fn ended_well(code: i32, what: impl FnOnce() -> String) -> std::result::Result<(), Failure> {
    if code == 0 {
        return Ok(());
    }
    Err(Error::Other(format!("{} ended with {code}", what())).into())
}

/// Unpacks the source in place of the one that the image may have, for the user who builds.
fn upload(build: &mut Build) -> std::result::Result<(), Failure> {
    as_root(build, &format!("rm -rf {SOURCE} && mkdir -p {SOURCE}"))?;
    let Some(source) = build.source.take() else {
        return Err(Error::Other("the source was taken already".to_owned()).into());
    };
    let Build { host, record, user, way, .. } = &*build;
    let uploaded = host.client.upload_to_container(&record.id, SOURCE, source);
    uploaded.map_err(|error| Failure::engine(&host.address, error))?;
    if matches!(way, Way::Agent | Way::Command) {
        as_root(build, &format!("tar -C {SOURCE} -czf {ARCHIVE} ."))?;
    }
    if is_root(user) {
        return Ok(());
    }
    let owned = match way {
        Way::Agent | Way::Command => format!("{SOURCE} {ARCHIVE}"),
        Way::Plain => SOURCE.to_owned(),
    };
    as_root(build, &format!("chown -R {} {owned}", quoted(user)))
}

fn is_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    matches!(name, "" | "root" | "0")
}

/// A word that the shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Runs what the image has for builds.
fn run_build(build: &mut Build) -> std::result::Result<(), Failure> {
    let url = format!("file://{ARCHIVE}");
    let command = match build.way {
        Way::Plain => return Ok(()),
        Way::Agent => {
            let words = archive_build_command(&build.agent, &url);
            Command { words, user: "", folder: "" }
        }
        Way::Command => Command::line(&format!("{} archive {url}", build.agent.deploy_command)),
    };
    let code = command.run(&build.host, &build.record.id)?;
    if code != 0 {
        return Err(Error::Other(format!("Exit status {code}")).into());
    }
    // It may be large, and nobody needs it any more.
    as_root(build, &format!("rm -f {ARCHIVE}"))
}

/// What the container has for the platform.
fn files(build: &Build) -> std::result::Result<Files, Failure> {
    let Build { host, record, .. } = build;
    image::download(host, &record.id).map_err(|error| Failure::engine(&host.address, error))
}

/// Runs the hooks of the app's tsuru.yaml, up to the first that fails. An agent runs them itself, when it deploys.
fn run_hooks(build: &mut Build) -> std::result::Result<(), Failure> {
    if build.way == Way::Agent {
        return Ok(());
    }
    let files = files(build)?;
    let Some(yaml) = files.yaml else { return Ok(()) };
    let yaml = TsuruYaml::from_yaml(&yaml).map_err(|error| invalid(&error))?;
    if yaml.hooks.build.is_empty() {
        return Ok(());
    }
    operation::progress("\n---- Running build hooks ----\n");
    for hook in &yaml.hooks.build {
        operation::progress(&format!(" ---> Running {hook}\n"));
        let command = Command::line(hook).within(SOURCE);
        ended_well(command.run(&build.host, &build.record.id)?, || format!("`{hook}`"))?;
    }
    Ok(())
}

/// Writes down what the source declares. What an agent builds declares it when the agent deploys it.
fn save_metadata(build: &mut Build) -> std::result::Result<(), Failure> {
    if build.way == Way::Agent || images::metadata(&build.target)?.is_some() {
        return Ok(());
    }
    let files = files(build)?;
    let metadata = declared(&build.base, files.procfile.as_deref(), files.yaml.as_deref())?;
    match images::save_metadata(&build.target, &image::custom_data(&metadata)) {
        // The container told meanwhile.
        Err(Error::Conflict(_)) => Ok(()),
        saved => Ok(saved?),
    }
}

/// What an image declares whose source is on top of a platform's. Its command is that of the build, so only a Procfile tells what to run; its port is the one that the platform's image exposes, if it is the only one.
fn declared(base: &Image, procfile: Option<&str>, yaml: Option<&str>) -> Result<ImageMetadata> {
    if procfile.is_none() {
        return Err(Error::InvalidArgument(
            "no Procfile in the source: it says what to run, as in `web: ./server`".to_owned(),
        ));
    }
    let mut image = Image { config: base.config.clone(), ..Image::default() };
    image.config.exposed_ports = image.config.exposed_ports.filter(|ports| ports.len() == 1);
    ImageMetadata::of_plain_image(&image, ImageFiles { procfile, yaml })
        .map_err(|error| invalid(&error))
}

fn invalid(error: &dyn std::error::Error) -> Error {
    Error::InvalidArgument(format!("the source: {error}"))
}

#[cfg(test)]
mod tests {
    use gantry_sdk::container::{ContainerConfig, Empty};

    use super::*;

    fn app(deploys: u32, update_platform: bool) -> App {
        App { deploys, update_platform, ..App::default() }
    }

    #[test]
    fn a_build_starts_anew_every_so_many_deploys_or_when_it_is_told_to() {
        let anew: Vec<u32> =
            (0..25).filter(|deploys| starts_anew(&app(*deploys, false), 10)).collect();
        assert_eq!(anew, [0, 10, 20]);
        assert!(starts_anew(&app(3, true), 10));
        assert!(starts_anew(&app(3, false), 1));
    }

    fn image(env: Option<&[&str]>, ports: &[&str]) -> Image {
        let env = env.map(|env| env.iter().map(|one| (*one).to_owned()).collect());
        let ports = ports.iter().map(|port| ((*port).to_owned(), Empty {})).collect();
        let config =
            ContainerConfig { env, exposed_ports: Some(ports), ..ContainerConfig::default() };
        Image { config, ..Image::default() }
    }

    #[test]
    fn a_program_is_looked_for_where_the_image_looks() {
        let own = image(Some(&["A=1", "PATH=/x/:relative::/y"]), &[]);
        assert_eq!(places(&own, "agent"), ["/x/agent", "/y/agent"]);
        assert_eq!(places(&own, "/var/lib/deploy"), ["/var/lib/deploy"]);
        assert_eq!(places(&image(None, &[]), "agent").len(), 6);
    }

    #[test]
    fn only_an_image_without_anything_for_builds_keeps_its_own_user() {
        for (way, is_set, user) in [
            (Way::Agent, false, "ubuntu"),
            (Way::Command, false, "ubuntu"),
            (Way::Plain, false, ""),
            (Way::Plain, true, "ubuntu"),
        ] {
            assert_eq!(container_user(way, "ubuntu", is_set), user, "{way:?}");
        }
        assert!(["", "root", "0", "0:0", "root:staff"].into_iter().all(is_root));
        assert!(!is_root("ubuntu"));
        assert_eq!(quoted("o'brien"), r"'o'\''brien'");
    }

    #[test]
    fn the_procfile_says_what_runs_and_the_platform_on_which_port() {
        let base = image(None, &["80/tcp"]);
        let yaml = "healthcheck: {path: /up}\n";
        let metadata = declared(&base, Some("web: ./run\n"), Some(yaml)).unwrap();
        assert_eq!(metadata.processes["web"], ["./run"]);
        assert_eq!((&*metadata.exposed_port, &*metadata.healthcheck.path), ("80/tcp", "/up"));
        let several = image(None, &["80/tcp", "443/tcp"]);
        assert_eq!(declared(&several, Some("web: ./run\n"), None).unwrap().exposed_port, "");
        let error = declared(&base, None, None).unwrap_err().to_string();
        assert!(error.starts_with("no Procfile in the source"), "{error}");
        let error = declared(&base, Some("nothing"), None).unwrap_err().to_string();
        assert_eq!(error, "the source: invalid Procfile");
    }
}

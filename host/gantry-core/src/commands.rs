//! What containers are told to run (spec 5.3, "Commands").

use crate::image::ImageMetadata;
use crate::settings::Settings;
use crate::{Error, go};

/// Goes to the app's folder, if the image has one.
const ENTER_APP_FOLDER: &str = "[ -d /home/application/current ] && cd /home/application/current; ";

/// The program of the legacy agent when `docker:run-cmd:bin` is not set.
const DEFAULT_RUN_COMMAND: &str = "/var/lib/tsuru/start";

/// The program of a deploy when `docker:deploy-cmd` is not set.
const DEFAULT_DEPLOY_COMMAND: &str = "/var/lib/tsuru/deploy";

/// What the agent inside a platform's image is told. Empty values leave double spaces in its command line, as the agent expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitAgent {
    /// Where the platform answers.
    pub host: String,
    /// The app's token (its variable `TSURU_APP_TOKEN`).
    pub token: String,
    /// The app.
    pub app: String,
    /// The program that starts an app without declared processes.
    pub run_command: String,
    /// The program that deploys.
    pub deploy_command: String,
}

/// A command, and the process it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitCommand {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The process; empty in an image that declares none.
    pub process: String,
}

impl UnitAgent {
    /// Reads the configuration.
    #[must_use]
    pub fn from_settings(settings: &(impl Settings + ?Sized), app: &str, token: &str) -> Self {
        let or_default = |key, default: &str| {
            Some(settings.string(key)).filter(|text| !text.is_empty()).unwrap_or(default.to_owned())
        };
        Self {
            host: settings.string("host"),
            token: token.to_owned(),
            app: app.to_owned(),
            run_command: or_default("docker:run-cmd:bin", DEFAULT_RUN_COMMAND),
            deploy_command: or_default("docker:deploy-cmd", DEFAULT_DEPLOY_COMMAND),
        }
    }

    fn line(&self) -> String {
        format!("tsuru_unit_agent {} {} {}", self.host, self.token, self.app)
    }
}

/// The process that is meant: the one named, or the only one when the name is empty. Empty when nothing is named and nothing declared.
///
/// # Errors
///
/// Nothing named and several declared.
pub fn resolve_process<'a>(
    metadata: &'a ImageMetadata,
    process: &'a str,
) -> Result<&'a str, Error> {
    if !process.is_empty() {
        return Ok(process);
    }
    let mut names = metadata.processes.keys();
    match (names.next(), names.next()) {
        (None, _) => Ok(""),
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(Error::InvalidProcess(
            "no process name specified and more than one declared in Procfile".to_owned(),
        )),
    }
}

/// What a unit runs: the extra commands, the `restart.before` hooks, then the process in place of the shell. Without declared processes the legacy agent takes over.
///
/// # Errors
///
/// A process that is not declared, or none named of several.
pub fn unit_command(
    metadata: &ImageMetadata,
    process: &str,
    extra: &[String],
    agent: &UnitAgent,
) -> Result<UnitCommand, Error> {
    let process = resolve_process(metadata, process)?;
    if process.is_empty() && metadata.processes.is_empty() {
        let command =
            ["tsuru_unit_agent", &agent.host, &agent.token, &agent.app, &agent.run_command];
        return Ok(UnitCommand {
            command: command.map(str::to_owned).into(),
            process: String::new(),
        });
    }
    let (exec, arguments) = match metadata.processes.get(process).map(Vec::as_slice) {
        None | Some([]) => {
            let process = go::quote(process);
            return Err(Error::InvalidProcess(format!(
                "no command declared in Procfile for process {process}"
            )));
        }
        Some([line]) => (format!("exec {line}"), Vec::new()),
        Some(words) => ("exec $0 \"$@\"".to_owned(), words.to_vec()),
    };
    let line = [extra, &metadata.hooks.restart.before].concat();
    let line: String = line.iter().map(|command| format!("{command} && ")).collect();
    let mut command = shell(format!("{ENTER_APP_FOLDER}{line}{exec}"));
    command.extend(arguments);
    Ok(UnitCommand { command, process: process.to_owned() })
}

/// What the container of a deploy runs.
#[must_use]
pub fn deploy_command(agent: &UnitAgent) -> Vec<String> {
    shell(format!("{} deploy-only", agent.line()))
}

/// What the container runs that builds an image from the archive at a URL.
#[must_use]
pub fn archive_build_command(agent: &UnitAgent, archive_url: &str) -> Vec<String> {
    archive_command(agent, archive_url, "build")
}

/// What the container runs that deploys the archive at a URL, in the legacy way.
#[must_use]
pub fn archive_deploy_command(agent: &UnitAgent, archive_url: &str) -> Vec<String> {
    archive_command(agent, archive_url, "deploy")
}

fn archive_command(agent: &UnitAgent, archive_url: &str, verb: &str) -> Vec<String> {
    let deploy = &agent.deploy_command;
    shell(format!("{} \"{deploy} archive {archive_url}\" {verb}", agent.line()))
}

fn shell(line: String) -> Vec<String> {
    vec!["/bin/sh".to_owned(), "-lc".to_owned(), line]
}

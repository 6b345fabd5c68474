//! `gantry plugin`: the provisioners and the plugins behind them.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hyper::Method;

use super::change::{ChangeArgs, finish};
use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use super::{named, show};
use crate::api::{Grant, Items, Plugin, PluginInfo};
use crate::client::{Client, escape};

/// Install, look into and swap plugins
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    List(List),
    Inspect(Inspect),
    Install(Install),
    Swap(Swap),
}

/// List the provisioners and their plugins
#[derive(Debug, Args)]
pub(crate) struct List {}

/// Show what a plugin is, what it can reach and what it is held to
///
/// A file is looked into without being installed: it is compiled and asked to describe
/// itself, with nothing granted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry plugin inspect docker
  gantry plugin inspect ./docker.wasm")]
pub(crate) struct Inspect {
    /// The name of a provisioner, or a file
    #[arg(value_name = "NAME|FILE", value_parser = named)]
    what: String,
}

/// Install a plugin as a provisioner
///
/// The file is copied into the data directory, compiled, linked and asked to describe
/// itself; a plugin that is not proven is not installed. It survives a restart.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry plugin install docker ./docker.wasm
  gantry plugin install docker ./docker.wasm --grant images:remove
  gantry plugin install kubernetes ./kubernetes.wasm --grant-asked")]
pub(crate) struct Install {
    /// The name of the provisioner
    #[arg(value_parser = named)]
    name: String,
    /// The plugin
    file: PathBuf,
    /// Grant a right that the plugin asks for; as often as needed
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// Grant every right that the plugin asks for; they are listed
    #[arg(long)]
    grant_asked: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Swap the plugin of a provisioner for another one
///
/// The old one serves until the new one is proven. Calls that began before the swap
/// finish on the old one; none is dropped or made twice. A plugin that describes itself
/// with another name than the one that serves is refused.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry plugin swap docker ./docker-2.wasm
  gantry plugin swap docker ./docker-2.wasm --grant-asked")]
pub(crate) struct Swap {
    /// The name of the provisioner
    #[arg(value_parser = named)]
    name: String,
    /// The plugin
    file: PathBuf,
    /// Grant every right that the plugin asks for; they are listed
    #[arg(long)]
    grant_asked: bool,
    /// Take the plugin also when its own name is another: what the old one made must be what it knows
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

impl PluginCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::List(List {}) => list(ui, client).await,
            Self::Inspect(args) => args.run(ui, client).await,
            Self::Install(args) => args.run(ui, client).await,
            Self::Swap(args) => args.run(ui, client).await,
        }
    }
}

async fn list(ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
    let plugins: Items<Plugin> = client.get("/v1/plugins").await?;
    ui.data(&plugins.items, |page| page.table(&show::plugins(&plugins.items)));
    for plugin in &plugins.items {
        if let Some(problem) = &plugin.problem {
            ui.warning(&format!("{}: {}", problem.title, problem.detail));
        }
    }
    if plugins.items.is_empty() {
        ui.hint("install one: `gantry plugin install docker FILE`");
    }
    Ok(Exit::Done)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let exit = if missing { Exit::NotFound } else { Exit::Failed };
        let failure = Failure::new(exit, format!("cannot read `{}`", file.display()));
        failure.because(&error).hint("name a component file, such as `./docker.wasm`")
    })
}

fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Inspect {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let file = Path::new(&self.what);
        // A name has neither a dot nor a slash.
        let info: PluginInfo = if self.what.contains(['.', '/']) {
            let path = format!("/v1/inspect?file={}", escape(&file_name(file)));
            client.ask_bytes(&path, read(file)?).await?
        } else {
            client.get(&format!("/v1/plugins/{}", escape(&self.what))).await?
        };
        ui.data(&info, |page| show::plugin_info(page, &info));
        Ok(Exit::Done)
    }
}

/// Tells which rights a plugin asks for and does not have. It is installed whether or not that can be told.
async fn tell_missing(ui: &mut Ui, client: &Client, name: &str, file: &Path) {
    let Ok(info) = client.get::<PluginInfo>(&format!("/v1/plugins/{}", escape(name))).await else {
        return;
    };
    if let Some((warning, hint)) = missing(name, &file.display().to_string(), &info.grants) {
        ui.warning(&warning);
        ui.hint(&hint);
    }
}

/// What to say of the rights that a plugin asks for and does not have, and what to type.
fn missing(name: &str, file: &str, grants: &[Grant]) -> Option<(String, String)> {
    let missing: Vec<_> =
        grants.iter().filter(|one| one.asked.is_some() && !one.in_force).collect();
    if missing.is_empty() {
        return None;
    }
    let mut warning = "it asks for rights that it does not have:".to_owned();
    for Grant { grant, asked, .. } in missing {
        warning.push_str(&format!("\n{grant}: {}", asked.as_deref().unwrap_or_default()));
    }
    let hint = format!(
        "`gantry plugin swap {name} {file} --grant-asked` grants them all; `provisioners.{name}.grants` in the configuration grants some"
    );
    Some((warning, hint))
}

impl Install {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let mut path =
            format!("/v1/plugins/{}?file={}", escape(&self.name), escape(&file_name(&self.file)));
        for grant in &self.grants {
            path.push_str(&format!("&grant={}", escape(grant)));
        }
        if self.grant_asked {
            path.push_str("&grant-asked=true");
        }
        let (bytes, change) = (read(&self.file)?, self.change.change());
        let accepted = client.change_bytes(Method::PUT, &path, bytes, &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| {
                page.line(format!("installed the provisioner `{}`", self.name))
            });
            ui.hint(&format!("`gantry plugin inspect {}` shows what it may do", self.name));
            tell_missing(ui, client, &self.name, &self.file).await;
        }
        Ok(Exit::Done)
    }
}

impl Swap {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let path = format!(
            "/v1/plugins/{}/swap?file={}&grant-asked={}&force={}",
            escape(&self.name),
            escape(&file_name(&self.file)),
            self.grant_asked,
            self.force
        );
        let (bytes, change) = (read(&self.file)?, self.change.change());
        let accepted = client.change_bytes(Method::POST, &path, bytes, &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| {
                page.line(format!("swapped the plugin of `{}`", self.name));
            });
            tell_missing(ui, client, &self.name, &self.file).await;
        }
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_that_are_asked_for_and_not_in_force_are_told_with_what_to_type() {
        let grant = |grant: &str, asked: bool, in_force: bool| Grant {
            grant: grant.into(),
            asked: asked.then(|| "it needs it".to_owned()),
            granted: in_force,
            in_force,
        };
        let has = grant("images:tag", true, true);
        let given = grant("images:push", false, false);
        assert_eq!(missing("docker", "d.wasm", &[has.clone(), given.clone()]), None);
        let lacks = grant("cluster:write:Pod", true, false);
        let (warning, hint) = missing("k", "./k.wasm", &[has, given, lacks]).unwrap();
        insta::assert_snapshot!(format!("{warning}\n{hint}"), @r"
        it asks for rights that it does not have:
        cluster:write:Pod: it needs it
        `gantry plugin swap k ./k.wasm --grant-asked` grants them all; `provisioners.k.grants` in the configuration grants some
        ");
    }
}

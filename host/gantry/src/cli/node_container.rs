//! `gantry node container`: containers that run once on every node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use gantry_core::node::{EntryConfig, EntryHostConfig, NodeContainerEntry};
use gantry_engine::config::merge;
use hyper::Method;
use serde_json::{Value, json};

use super::change::{ChangeArgs, finish};
use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use super::{Sure, named, pairs, show, text_of_input};
use crate::api::{Items, NewNodeContainer, NodeContainerChange, NodeContainerInfo, PoolChoice};
use crate::client::{Client, escape};

/// Add, change, upgrade and remove the containers that run on every node
#[derive(Debug, Subcommand)]
pub(crate) enum NodeContainerCommand {
    Add(Add),
    List(List),
    Info(Info),
    Update(Update),
    Upgrade(Upgrade),
    Remove(Remove),
}

/// Add a container that runs on every node, and start it there
///
/// Without a pool it is for every node; an entry for a pool says what differs there. Nodes
/// that come later get it before their first unit. It is started again whenever it ends,
/// unless `--config` says otherwise.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry node container add exporter --image prom/node-exporter --network host \\
    --bind /proc:/host/proc:ro --command=--path.procfs=/host/proc
  gantry node container add exporter --pool gpu --image prom/node-exporter:v1.9.1
  gantry node container add agent --config agent.json --no-start")]
pub(crate) struct Add {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    what: What,
    /// Start nothing yet; `gantry node container upgrade` does
    #[arg(long)]
    no_start: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// List the containers that run on every node
#[derive(Debug, Args)]
pub(crate) struct List {}

/// Show what a node container is in each pool
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// The node container
    #[arg(value_parser = named)]
    name: String,
}

/// Change a node container, and make it anew on every node
///
/// What is not said stays as it is; what is given more than once takes the place of all that
/// there was.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry node container update exporter --image prom/node-exporter:v1.9.1
  gantry node container update agent --env LEVEL=debug --env HOST_PROC=/prochost --no-start")]
pub(crate) struct Update {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    what: What,
    /// Leave the nodes as they are; `gantry node container upgrade` brings it there
    #[arg(long)]
    no_start: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Make a node container anew on every node, from its image as it is now
///
/// An image without a tag, or with the tag `latest`, is pulled again and then pinned to what
/// was pulled, so that nodes which come later run the same.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry node container upgrade big-sibling
  gantry node container upgrade big-sibling --pool prod")]
pub(crate) struct Upgrade {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Remove a node container from every node, and forget what was added of it
///
/// What the configuration of the daemon has of it stays, and is started again with the next
/// unit. Asks before it does so on a terminal; elsewhere it needs `--assume-yes`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry node container remove big-sibling --pool prod")]
pub(crate) struct Remove {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
struct Which {
    /// Its name: lower case letters, digits and dashes, starting with a letter
    #[arg(value_parser = named)]
    name: String,
    /// Only in this pool
    #[arg(long, default_value = "", hide_default_value = true)]
    pool: String,
}

/// What it is.
#[derive(Debug, Args)]
struct What {
    /// The image
    #[arg(long, default_value = "", hide_default_value = true)]
    image: String,
    /// A variable; as often as needed. It has `DOCKER_ENDPOINT`, the node's address, by itself
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A label of its own; as often as needed
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// What it sees of the node (`/path/there:/path[:ro]`); as often as needed
    #[arg(long, value_name = "BIND")]
    bind: Vec<String>,
    /// It may do everything on the node; `--privileged=false` where the entry of every pool says so
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    privileged: Option<bool>,
    /// Its network; `host` is the node's
    #[arg(long, default_value = "", hide_default_value = true)]
    network: String,
    /// An argument of what it runs; as often as needed
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    command: Vec<String>,
    /// A file with all of it, as the configuration of a provisioner has it, as JSON; `-` is
    /// standard input. The options win
    #[arg(long, value_name = "FILE|-")]
    config: Option<PathBuf>,
}

impl NodeContainerCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::Add(args) => args.run(ui, client).await,
            Self::List(List {}) => list(ui, client).await,
            Self::Info(args) => args.run(ui, client).await,
            Self::Update(args) => args.run(ui, client).await,
            Self::Upgrade(Upgrade { which, change }) => {
                which.run(ui, client, Method::POST, &change, "upgraded").await
            }
            Self::Remove(Remove { which, sure, change }) => {
                let what = format!("the node container `{}`", which.name);
                sure.ask(ui, &what, &format!("Remove {what} from {}?", which.nodes()))?;
                which.run(ui, client, Method::DELETE, &change, "removed").await
            }
        }
    }
}

const ALL: &str = "/v1/node-containers";

async fn list(ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
    let all: Items<NodeContainerInfo> = client.get(ALL).await?;
    ui.data(&all.items, |page| page.table(&show::node_containers(&all.items)));
    if all.items.is_empty() {
        ui.hint("add one: `gantry node container add NAME --image IMAGE`");
    }
    Ok(Exit::Done)
}

impl Which {
    fn path(&self) -> String {
        format!("{ALL}/{}", escape(&self.name))
    }

    /// Which nodes it is about.
    fn nodes(&self) -> String {
        match self.pool.as_str() {
            "" => "every node".to_owned(),
            pool => format!("the nodes of the pool `{pool}`"),
        }
    }

    /// What to type when it is written down and was not started.
    fn start(&self) -> String {
        let pool = match self.pool.as_str() {
            "" => String::new(),
            pool => format!(" --pool {pool}"),
        };
        format!("start it: `gantry node container upgrade {}{pool}`", self.name)
    }

    async fn run(
        self,
        ui: &mut Ui,
        client: &Client,
        method: Method,
        change: &ChangeArgs,
        done: &str,
    ) -> Result<Exit, Failure> {
        let body = PoolChoice { pool: self.pool.clone() };
        let accepted = client.change(method, &self.path(), &body, &change.change()).await?;
        if let Some(operation) = finish(ui, client, change, accepted).await? {
            ui.data(&operation, |page| {
                page.line(format!("{done} the node container `{}`", self.name));
            });
        }
        Ok(Exit::Done)
    }
}

impl What {
    /// The same for the daemon: only what was said.
    fn entry(self) -> Result<Value, Failure> {
        let Self { image, env, label, bind, privileged, network, command, config } = self;
        let mut entry = config.as_deref().map(document).transpose()?.unwrap_or_else(|| json!({}));
        let labels: BTreeMap<String, String> = pairs("label", &label)?;
        let said = NodeContainerEntry {
            image,
            config: EntryConfig { cmd: command, env, labels, ..EntryConfig::default() },
            host_config: EntryHostConfig {
                privileged,
                network_mode: network,
                binds: bind,
                ..EntryHostConfig::default()
            },
            ..NodeContainerEntry::default()
        };
        merge(&mut entry, &json!(said));
        Ok(entry)
    }
}

/// The JSON document in a file.
fn document(file: &Path) -> Result<Value, Failure> {
    serde_json::from_str(&text_of_input(file)?).map_err(|error| {
        Failure::new(Exit::Usage, format!("`{}` is no JSON", file.display())).because(&error)
    })
}

impl Info {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let path = format!("{ALL}/{}", escape(&self.name));
        let info: NodeContainerInfo = client.get(&path).await?;
        ui.data(&info, |page| show::node_container(page, &info));
        Ok(Exit::Done)
    }
}

/// What was done, where the nodes have it by now or not.
fn said(verb: &str, which: &Which, no_start: bool) -> String {
    let name = &which.name;
    if no_start {
        return format!("{verb} the node container `{name}`; nothing is started yet");
    }
    format!("{verb} the node container `{name}`: it runs on {}", which.nodes())
}

impl Add {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let Self { which, what, no_start, change } = self;
        let new = NewNodeContainer {
            name: which.name.clone(),
            pool: which.pool.clone(),
            entry: what.entry()?,
            no_start,
        };
        let accepted = client.change(Method::POST, ALL, &new, &change.change()).await?;
        if let Some(operation) = finish(ui, client, &change, accepted).await? {
            ui.data(&operation, |page| page.line(said("added", &which, no_start)));
            if no_start {
                ui.hint(&which.start());
            }
        }
        Ok(Exit::Done)
    }
}

impl Update {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let Self { which, what, no_start, change } = self;
        let entry = what.entry()?;
        if entry == json!({}) {
            let hint = format!("`gantry node container update {} --image IMAGE`", which.name);
            return Err(Failure::new(Exit::Usage, "nothing to change").hint(hint));
        }
        let body = NodeContainerChange { pool: which.pool.clone(), entry, no_start };
        let accepted = client.change(Method::PATCH, &which.path(), &body, &change.change()).await?;
        if let Some(operation) = finish(ui, client, &change, accepted).await? {
            ui.data(&operation, |page| page.line(said("changed", &which, no_start)));
        }
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what() -> What {
        What {
            image: String::new(),
            env: Vec::new(),
            label: Vec::new(),
            bind: Vec::new(),
            privileged: None,
            network: String::new(),
            command: Vec::new(),
            config: None,
        }
    }

    #[test]
    fn only_what_was_said_is_sent() {
        assert_eq!(what().entry().unwrap(), json!({}));
        let some = What {
            image: "i".into(),
            env: vec!["A=1".into()],
            bind: vec!["/a:/b".into()],
            privileged: Some(true),
            network: "host".into(),
            ..what()
        };
        let expected = json!({
            "image": "i",
            "config": {"env": ["A=1"]},
            "host-config": {"privileged": true, "network-mode": "host", "binds": ["/a:/b"]},
        });
        assert_eq!(some.entry().unwrap(), expected);
        let not = What { privileged: Some(false), ..what() };
        assert_eq!(not.entry().unwrap(), json!({"host-config": {"privileged": false}}));
        let wrong = What { label: vec!["x".into()], ..what() };
        assert_eq!(wrong.entry().unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn what_to_type_next_is_about_the_pool_that_was_named() {
        let which = |pool: &str| Which { name: "bs".into(), pool: pool.into() };
        assert_eq!(which("").start(), "start it: `gantry node container upgrade bs`");
        assert_eq!(which("p").start(), "start it: `gantry node container upgrade bs --pool p`");
    }

    #[test]
    fn options_win_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.json");
        std::fs::write(&file, r#"{"image": "old", "config": {"tty": true}}"#).unwrap();
        let both = What { image: "new".into(), config: Some(file.clone()), ..what() };
        assert_eq!(both.entry().unwrap(), json!({"image": "new", "config": {"tty": true}}));
        std::fs::write(&file, "image: x").unwrap();
        let wrong = What { config: Some(file), ..what() };
        assert_eq!(wrong.entry().unwrap_err().exit, Exit::Usage);
        let nowhere = What { config: Some("/nowhere/agent.json".into()), ..what() };
        assert_eq!(nowhere.entry().unwrap_err().exit, Exit::NotFound);
    }
}

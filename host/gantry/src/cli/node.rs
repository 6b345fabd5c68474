//! `gantry node`: the machines of pools.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;

use super::change::{ChangeArgs, finish};
use super::exit::Exit;
use super::failure::Failure;
use super::node_container::NodeContainerCommand;
use super::ui::Ui;
use super::{Sure, missing, named, pairs, show, text_of};
use crate::api::{self, NewNode, NodeChange, NodeInfo, NodeList, NodeRemoval, Secret};
use crate::client::{Client, escape};

/// Look after the machines of pools, and what runs on every one
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    List(List),
    Info(Info),
    Add(Add),
    Update(Update),
    Remove(Remove),
    Rebalance(Rebalance),
    #[command(subcommand)]
    Container(NodeContainerCommand),
}

/// List the nodes of every provisioner that has some
///
/// What does not answer is told; the nodes of the others are listed all the same, and the
/// exit code is not 0.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those of this pool
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// Only those of this provisioner
    #[arg(long, value_name = "NAME")]
    provisioner: Option<String>,
}

/// Show a node and the units on it
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// The node's address
    #[arg(value_parser = named)]
    address: String,
}

/// Add a machine to a pool
///
/// A machine that is there already is changed instead.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry node add 10.0.0.7 --pool prod
  gantry node add 10.0.0.7 --pool prod --metadata rack=7 --wait 120
  gantry node add tcp://10.0.0.7:2376 --pool prod --tls ~/.docker")]
pub(crate) struct Add {
    /// Its address
    #[arg(value_parser = named)]
    address: String,
    /// Its pool
    #[arg(long)]
    pool: String,
    /// Its id at the machine's provider
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    iaas_id: String,
    /// What to say about it; as often as needed
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<String>,
    /// How many seconds to wait until it is ready
    // `--wait` without a number would be the wait for another operation.
    #[arg(long = "wait", value_name = "SECONDS", default_value = "0", hide_default_value = true)]
    ready: u32,
    /// Its provisioner; the pool's when not given
    #[arg(long, default_value = "", hide_default_value = true)]
    provisioner: String,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`, for a Docker host that speaks TLS
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ca_cert", "client_cert", "client_key"])]
    tls: Option<PathBuf>,
    /// The certificate authority of its engine
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// The certificate to show to its engine
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Print the operation's id and leave; `gantry operation info ID --follow` picks it up
    #[arg(long)]
    detach: bool,
    /// Do it once: a second request with the same key gives the operation of the first
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// Change a node
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry node update 10.0.0.7 --disable
  gantry node update 10.0.0.7 --pool prod --metadata rack=8
  gantry node update 10.0.0.7 --metadata rack=        (takes it away)")]
pub(crate) struct Update {
    /// The node's address
    #[arg(value_parser = named)]
    address: String,
    /// Its new pool
    #[arg(long, default_value = "", hide_default_value = true)]
    pool: String,
    /// What to say about it; an empty value takes the key away
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<String>,
    /// It takes units again
    #[arg(long)]
    enable: bool,
    /// It takes no new units from now on
    #[arg(long)]
    disable: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Remove a node; its units are moved to others first
///
/// Asks before it does so on a terminal; elsewhere it needs `--assume-yes`. When the units
/// cannot be moved away, the node stays, and takes no new ones.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry node remove 10.0.0.7
  gantry node remove 10.0.0.7 --no-rebalance -y")]
pub(crate) struct Remove {
    /// The node's address
    #[arg(value_parser = named)]
    address: String,
    /// Move no units away: those of a Docker host that does not answer are lost, one that answers
    /// and has units is refused, a cluster starts them elsewhere
    #[arg(long)]
    no_rebalance: bool,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Spread the units anew over the nodes
///
/// Every unit is started in its new place before the old one goes. Without `--force` and
/// without a filter nothing moves that is even enough.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry node rebalance --dry-run
  gantry node rebalance --pool prod --force
  gantry node rebalance --app web --metadata rack=7")]
pub(crate) struct Rebalance {
    /// Only in this pool
    #[arg(long, default_value = "", hide_default_value = true)]
    pool: String,
    /// Only from nodes with this metadata; as often as needed
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<String>,
    /// Only units of this app; as often as needed
    #[arg(short, long, value_name = "APP", value_parser = named)]
    app: Vec<String>,
    /// Tell only what would move
    #[arg(long)]
    dry_run: bool,
    /// Spread also what is even enough
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

impl NodeCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::List(args) => args.run(ui, client).await,
            Self::Info(args) => args.run(ui, client).await,
            Self::Add(args) => args.run(ui, client).await,
            Self::Update(args) => args.run(ui, client).await,
            Self::Remove(args) => args.run(ui, client).await,
            Self::Rebalance(args) => args.run(ui, client).await,
            Self::Container(command) => command.run(ui, client).await,
        }
    }
}

fn path(address: &str) -> String {
    format!("/v1/nodes/{}", escape(address))
}

impl List {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let filters = [("pool", &self.pool), ("provisioner", &self.provisioner)];
        let filters: Vec<String> = filters
            .into_iter()
            .filter_map(|(key, value)| Some(format!("{key}={}", escape(value.as_ref()?))))
            .collect();
        let path = format!("/v1/nodes?{}", filters.join("&"));
        let list: NodeList = client.get(&path).await?;
        ui.data(&list, |page| page.table(&show::nodes(&list.items)));
        Ok(missing(ui, &list.problems))
    }
}

impl Info {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let info: NodeInfo = client.get(&path(&self.address)).await?;
        ui.data(&info, |page| show::node_info(page, &info));
        if let Some(problem) = &info.problem {
            ui.warning(&format!("{}: {}", problem.title, problem.detail));
        }
        Ok(Exit::Done)
    }
}

impl Add {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let file = |name: &str| self.tls.as_ref().map(|folder| folder.join(name));
        let ca_cert = pem(file("ca.pem").or(self.ca_cert))?;
        let client_cert = pem(file("cert.pem").or(self.client_cert))?;
        let client_key = Secret::new(pem(file("key.pem").or(self.client_key))?);
        let new = NewNode {
            ca_cert,
            client_cert,
            client_key,
            address: self.address.clone(),
            pool: self.pool.clone(),
            iaas_id: self.iaas_id,
            metadata: pairs("metadata", &self.metadata)?,
            register: true,
            wait: self.ready,
            provisioner: self.provisioner,
        };
        let args =
            ChangeArgs { wait: false, detach: self.detach, idempotency_key: self.idempotency_key };
        let accepted = client.change(Method::POST, "/v1/nodes", &new, &args.change()).await?;
        if let Some(operation) = finish(ui, client, &args, accepted).await? {
            ui.data(&operation, |page| {
                page.line(format!("added the node `{}` to the pool `{}`", self.address, self.pool));
            });
        }
        Ok(Exit::Done)
    }
}

impl Update {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let body = NodeChange {
            pool: self.pool,
            metadata: pairs("metadata", &self.metadata)?,
            enable: self.enable,
            disable: self.disable,
        };
        if body == NodeChange::default() {
            return Err(Failure::new(Exit::Usage, "nothing to change")
                .hint(format!("`gantry node update {} --disable`", self.address)));
        }
        let change = self.change.change();
        let accepted = client.change(Method::PATCH, &path(&self.address), &body, &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("changed the node `{}`", self.address)));
        }
        Ok(Exit::Done)
    }
}

/// What a file of certificates says; nothing when none is named.
fn pem(file: Option<PathBuf>) -> Result<String, Failure> {
    file.map_or_else(|| Ok(String::new()), |file| text_of(&file))
}

impl Rebalance {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let body = api::Rebalance {
            pool: self.pool,
            metadata: pairs("metadata", &self.metadata)?,
            apps: self.app,
            dry: self.dry_run,
            force: self.force,
        };
        let change = self.change.change();
        let accepted = client.change(Method::POST, "/v1/nodes/rebalance", &body, &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            let moved = operation.result.as_ref().and_then(|told| told.get("moved")?.as_bool());
            let said = match (body.dry, moved.unwrap_or_default()) {
                (false, true) => "the units are spread anew",
                (false, false) => "nothing moved",
                (true, true) => "these units would move",
                (true, false) => "nothing would move",
            };
            ui.data(&operation, |page| page.line(said));
        }
        Ok(Exit::Done)
    }
}

impl Remove {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let address = &self.address;
        let units = if self.no_rebalance { " without moving its units away" } else { "" };
        let what = format!("the node `{address}`");
        self.sure.ask(ui, &what, &format!("Remove {what}{units}?"))?;
        let body = NodeRemoval { no_rebalance: self.no_rebalance };
        let change = self.change.change();
        let accepted = client.change(Method::DELETE, &path(address), &body, &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("removed the node `{address}`")));
        }
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_there_ends_as_every_other_file_that_is_not() {
        assert_eq!(pem(None).unwrap(), "");
        let nowhere = pem(Some("/nowhere/ca.pem".into())).unwrap_err();
        assert_eq!(
            (nowhere.exit, &*nowhere.what),
            (Exit::NotFound, "cannot read `/nowhere/ca.pem`")
        );
        assert_eq!(pem(Some("/".into())).unwrap_err().exit, Exit::Failed);
    }
}

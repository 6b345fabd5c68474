//! `gantry pool`: named groups of nodes, each with its provisioner.

use clap::{Args, Subcommand};
use hyper::Method;

use super::change::{ChangeArgs, finish};
use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use super::{Sure, named, show};
use crate::api::{Items, NewPool, Pool};
use crate::client::{Client, escape};

/// Create, list and remove pools: where apps live
#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    Create(Create),
    List(List),
    Remove(Remove),
}

/// Create a pool
///
/// A pool names its provisioner and nothing else. Those of the configuration are there
/// at every start; this makes more.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry pool create prod --provisioner kubernetes
  gantry app create web --pool prod")]
pub(crate) struct Create {
    /// Its name: lower case letters, digits and dashes, starting with a letter
    name: String,
    /// Its provisioner
    #[arg(short, long)]
    provisioner: String,
    #[command(flatten)]
    change: ChangeArgs,
}

/// List the pools with their provisioners
#[derive(Debug, Args)]
pub(crate) struct List {}

/// Remove a pool that nothing is in
///
/// Asks before it does so on a terminal; elsewhere it needs `--assume-yes`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry pool remove prod")]
pub(crate) struct Remove {
    /// The pool
    #[arg(value_parser = named)]
    name: String,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    change: ChangeArgs,
}

impl PoolCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::Create(args) => args.run(ui, client).await,
            Self::List(List {}) => list(ui, client).await,
            Self::Remove(args) => args.run(ui, client).await,
        }
    }
}

async fn list(ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
    let pools: Items<Pool> = client.get("/v1/pools").await?;
    ui.data(&pools.items, |page| page.table(&show::pools(&pools.items)));
    Ok(Exit::Done)
}

impl Create {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let new = NewPool { name: self.name.clone(), provisioner: self.provisioner };
        let change = self.change.change();
        let accepted = client.change(Method::POST, "/v1/pools", &new, &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("created the pool `{}`", self.name)));
        }
        Ok(Exit::Done)
    }
}

impl Remove {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let what = format!("the pool `{}`", self.name);
        self.sure.ask(ui, &what, &format!("Remove {what}?"))?;
        let path = format!("/v1/pools/{}", escape(&self.name));
        let accepted = client.change(Method::DELETE, &path, &(), &self.change.change()).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("removed the pool `{}`", self.name)));
        }
        Ok(Exit::Done)
    }
}

//! `gantry node-container`: containers that run once on every node.

use clap::{Args, Subcommand};
use hyper::Method;

use super::change::{ChangeArgs, finish};
use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use super::{Sure, named};
use crate::api::PoolChoice;
use crate::client::{Client, escape};

/// Upgrade and remove the containers that run on every node
#[derive(Debug, Subcommand)]
pub(crate) enum NodeContainerCommand {
    Upgrade(Upgrade),
    Remove(Remove),
}

#[derive(Debug, Args)]
struct Of {
    /// Its name, as the configuration of the provisioner has it
    #[arg(value_parser = named)]
    name: String,
    /// Only in this pool
    #[arg(long, default_value = "", hide_default_value = true)]
    pool: String,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Bring a node container to what is configured now, on every node
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry node-container upgrade big-sibling
  gantry node-container upgrade big-sibling --pool prod")]
pub(crate) struct Upgrade {
    #[command(flatten)]
    of: Of,
}

/// Remove a node container from every node
///
/// Asks before it does so on a terminal; elsewhere it needs `--assume-yes`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry node-container remove big-sibling --pool prod")]
pub(crate) struct Remove {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    sure: Sure,
}

impl NodeContainerCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::Upgrade(args) => args.of.run(ui, client, Method::POST, "upgraded").await,
            Self::Remove(Remove { of, sure }) => {
                let what = format!("the node container `{}`", of.name);
                sure.ask(ui, &what, &format!("Remove {what} from {}?", of.nodes()))?;
                of.run(ui, client, Method::DELETE, "removed").await
            }
        }
    }
}

impl Of {
    /// Which nodes it is about.
    fn nodes(&self) -> String {
        match self.pool.as_str() {
            "" => "every node".to_owned(),
            pool => format!("the nodes of the pool `{pool}`"),
        }
    }

    async fn run(
        self,
        ui: &mut Ui,
        client: &Client,
        method: Method,
        done: &str,
    ) -> Result<Exit, Failure> {
        let path = format!("/v1/node-containers/{}", escape(&self.name));
        let body = PoolChoice { pool: self.pool };
        let accepted = client.change(method, &path, &body, &self.change.change()).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| {
                page.line(format!("{done} the node container `{}`", self.name));
            });
        }
        Ok(Exit::Done)
    }
}

//! `gantry operation`: what was changed, by whom, and how it ended.

use clap::{Args, Subcommand};

use super::change::{follow, outcome};
use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use super::{named, show};
use crate::api::{Items, Operation, OperationInfo};
use crate::client::{Client, escape};

/// List, follow and cancel operations: every change is one
#[derive(Debug, Subcommand)]
pub(crate) enum OperationCommand {
    List(List),
    Info(Info),
    Cancel(Cancel),
}

/// List operations, the newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry operation list
  gantry operation list --app web -n 5
  gantry operation list --state interrupted")]
pub(crate) struct List {
    /// Only those on this app
    #[arg(short, long)]
    app: Option<String>,
    /// Only those in this state: running, done, failed, cancelled, interrupted
    #[arg(short, long)]
    state: Option<String>,
    /// How many
    #[arg(short = 'n', long, default_value = "20")]
    limit: u32,
    /// Only those before this one
    #[arg(long, value_name = "ID")]
    before: Option<String>,
}

/// Show an operation and what it told
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry operation info 01jdx3k8v27h3k9q
  gantry operation info 01jdx3k8 --follow     (the start of the id is enough)")]
pub(crate) struct Info {
    /// Its id, or the start of it
    #[arg(value_parser = named)]
    id: String,
    /// Go on with what it tells, and end as it ends
    #[arg(short, long)]
    follow: bool,
}

/// Cancel an operation
///
/// It is asked to stop, undoes what it did and ends as `cancelled`.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// Its id, or the start of it
    #[arg(value_parser = named)]
    id: String,
    /// Do not wait for its end
    #[arg(long)]
    detach: bool,
}

impl OperationCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::List(args) => args.run(ui, client).await,
            Self::Info(args) => args.run(ui, client).await,
            Self::Cancel(args) => args.run(ui, client).await,
        }
    }
}

impl List {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let mut path = format!("/v1/operations?limit={}", self.limit);
        let filters = [("app", self.app), ("state", self.state), ("before", self.before)];
        for (name, value) in filters {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", escape(&value)));
            }
        }
        let operations: Items<Operation> = client.get(&path).await?;
        ui.data(&operations.items, |page| page.table(&show::operations(&operations.items)));
        Ok(Exit::Done)
    }
}

impl Info {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        if self.follow {
            let operation = follow(ui, client, &self.id, false).await?;
            let operation = outcome(operation)?;
            ui.data(&operation, |page| show::operation(page, &operation));
            return Ok(Exit::Done);
        }
        let path = format!("/v1/operations/{}", escape(&self.id));
        let info: OperationInfo = client.get(&path).await?;
        ui.data(&info, |page| show::operation_info(page, &info));
        Ok(Exit::Done)
    }
}

impl Cancel {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        client.post(&format!("/v1/operations/{}/cancel", escape(&self.id))).await?;
        if self.detach {
            ui.status("asked it to stop");
            return Ok(Exit::Done);
        }
        let operation = follow(ui, client, &self.id, false).await?;
        ui.data(&operation, |page| show::operation(page, &operation));
        Ok(Exit::Done)
    }
}

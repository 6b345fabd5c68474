//! `gantry plan`: what units of apps may use, under a name.

use clap::{Args, Subcommand};
use hyper::Method;

use super::change::{ChangeArgs, finish};
use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use super::{Sure, named, show};
use crate::api::{Items, NewPlan, PlanChoice, PlanInfo};
use crate::client::{Client, escape};
use crate::config::parse_bytes;

/// Create, look at and remove plans: what units of apps may use
#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    Create(Create),
    List(List),
    Info(Info),
    Remove(Remove),
}

/// Create a plan
///
/// Apps are given it with `app create --plan` or `app update --plan`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry plan create small --memory 256MiB --cpu-share 100 --default
  gantry plan create large --memory 2GiB --swap 1GiB
  gantry app update web --plan large")]
pub(crate) struct Create {
    /// Its name: lower case letters, digits, dots and dashes
    name: String,
    /// Memory of one unit (`256MiB`); 0 is no limit
    #[arg(long, default_value = "0", value_parser = amount)]
    memory: i64,
    /// Swap of one unit on top of its memory
    #[arg(long, default_value = "0", value_parser = amount)]
    swap: i64,
    /// Relative weight of the CPU; 0 leaves the engine's default
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(i32).range(0..))]
    cpu_share: i32,
    /// It is the plan of apps that name none, in place of the one that is
    #[arg(long)]
    default: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// List the plans
#[derive(Debug, Args)]
pub(crate) struct List {}

/// Show a plan and the apps that were given it
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// The plan
    #[arg(value_parser = named)]
    name: String,
}

/// Remove a plan
///
/// The apps that were given it keep what they have. Asks before it does so on a terminal;
/// elsewhere it needs `--assume-yes`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry plan remove small")]
pub(crate) struct Remove {
    /// The plan
    #[arg(value_parser = named)]
    name: String,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    change: ChangeArgs,
}

/// What units of an app may use: a plan, and amounts in place of its own.
#[derive(Debug, Args)]
pub(super) struct Choice {
    /// The plan of its units
    #[arg(long)]
    pub(super) plan: Option<String>,
    /// Memory of one unit (`256MiB`) in place of the plan's; 0 is no limit
    #[arg(long, value_parser = amount)]
    memory: Option<i64>,
    /// Swap of one unit on top of its memory, in place of the plan's
    #[arg(long, value_parser = amount)]
    swap: Option<i64>,
    /// Relative weight of the CPU in place of the plan's; 0 leaves the engine's default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    cpu_share: Option<i32>,
}

impl Choice {
    /// The same for the daemon.
    pub(super) fn choice(self) -> PlanChoice {
        PlanChoice {
            name: self.plan.unwrap_or_default(),
            memory: self.memory,
            swap: self.swap,
            cpu_share: self.cpu_share,
        }
    }
}

/// An amount of bytes that an app can have.
fn amount(text: &str) -> Result<i64, String> {
    let bytes = parse_bytes(text).map_err(|error| error.to_string())?;
    i64::try_from(bytes).map_err(|_| format!("more than {} bytes", i64::MAX))
}

impl PlanCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::Create(args) => args.run(ui, client).await,
            Self::List(List {}) => list(ui, client).await,
            Self::Info(args) => args.run(ui, client).await,
            Self::Remove(args) => args.run(ui, client).await,
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/plans/{}", escape(name))
}

async fn list(ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
    let plans: Items<PlanInfo> = client.get("/v1/plans").await?;
    ui.data(&plans.items, |page| page.table(&show::plans(&plans.items)));
    if plans.items.is_empty() {
        ui.hint("create one: `gantry plan create NAME --memory 512MiB`");
    }
    Ok(Exit::Done)
}

impl Create {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let new = NewPlan {
            name: self.name.clone(),
            memory: self.memory,
            swap: self.swap,
            cpu_share: self.cpu_share,
            default: self.default,
        };
        let change = self.change.change();
        let accepted = client.change(Method::POST, "/v1/plans", &new, &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("created the plan `{}`", self.name)));
        }
        Ok(Exit::Done)
    }
}

impl Info {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let plan: PlanInfo = client.get(&path(&self.name)).await?;
        ui.data(&plan, |page| show::plan(page, &plan));
        Ok(Exit::Done)
    }
}

impl Remove {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let what = format!("the plan `{}`", self.name);
        self.sure.ask(ui, &what, &format!("Remove {what}?"))?;
        let change = self.change.change();
        let accepted = client.change(Method::DELETE, &path(&self.name), &(), &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("removed the plan `{}`", self.name)));
        }
        Ok(Exit::Done)
    }
}

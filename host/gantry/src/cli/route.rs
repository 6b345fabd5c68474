//! `gantry router`: the routers of apps and what they route.

use clap::{Args, Subcommand};

use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use super::{named, show};
use crate::api::{Items, Router, RouterInfo};
use crate::client::{Client, escape};

/// Look at routers: through what apps are reached
///
/// Routers are those of the configuration. `gantry app create --router` and
/// `gantry app update --add-router` give them to apps.
#[derive(Debug, Subcommand)]
pub(crate) enum RouterCommand {
    List(List),
    Info(Info),
}

/// List the routers
#[derive(Debug, Args)]
pub(crate) struct List {}

/// Show a router: its apps, where they answer and the routes to their units
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry router info default
  gantry router info default --output json")]
pub(crate) struct Info {
    /// The router
    #[arg(value_parser = named)]
    name: String,
}

impl RouterCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::List(List {}) => list(ui, client).await,
            Self::Info(args) => args.run(ui, client).await,
        }
    }
}

async fn list(ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
    let routers: Items<Router> = client.get("/v1/routers").await?;
    ui.data(&routers.items, |page| page.table(&show::routers(&routers.items)));
    Ok(Exit::Done)
}

impl Info {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let path = format!("/v1/routers/{}", escape(&self.name));
        let info: RouterInfo = client.get(&path).await?;
        ui.data(&info, |page| show::router_info(page, &info));
        Ok(Exit::Done)
    }
}

//! `gantry app update`: an app in another pool, with another plan or with other routers.

use clap::Args;
use hyper::Method;

use crate::api::AppChange;
use crate::cli::change::{ChangeArgs, finish};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::plan::Choice;
use crate::cli::ui::Ui;
use crate::cli::{AppName, named};
use crate::client::Client;

/// Move an app to another pool, or change what its units may use or its routers
///
/// With another plan or other amounts its units are replaced by new ones; when that fails,
/// the app has what it had.
///
/// Within a provisioner a move to another pool replaces its units by new ones. To another
/// provisioner it is deployed there first, with its current image and as many units, and
/// removed here only then; when that fails, it is where it was and nothing of it is there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry app update web --pool prod
  gantry app update web --plan large
  gantry app update web --memory 1GiB
  gantry app update web --add-router internal --remove-router edge")]
pub(crate) struct Update {
    #[command(flatten)]
    app: AppName,
    /// Its new pool
    #[arg(short = 'o', long, required_unless_present_any = ["plan", "memory", "swap", "cpu_share", "add_routers", "remove_routers"], conflicts_with_all = ["plan", "memory", "swap", "cpu_share", "add_routers", "remove_routers"])]
    pool: Option<String>,
    #[command(flatten)]
    plan: Choice,
    /// A router that it is reached through from now on, as often as needed
    #[arg(long = "add-router", value_name = "NAME", value_parser = named, conflicts_with_all = ["plan", "memory", "swap", "cpu_share"])]
    add_routers: Vec<String>,
    /// A router that it is reached through no more, as often as needed
    #[arg(long = "remove-router", value_name = "NAME", value_parser = named, conflicts_with_all = ["plan", "memory", "swap", "cpu_share"])]
    remove_routers: Vec<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Update {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let (app, change) = (self.app.name(), self.change.change());
        let routers = !self.add_routers.is_empty() || !self.remove_routers.is_empty();
        let plan = self.pool.is_none() && !routers;
        let body = AppChange {
            pool: self.pool.clone().unwrap_or_default(),
            plan: plan.then(|| self.plan.choice()),
            add_routers: self.add_routers,
            remove_routers: self.remove_routers,
        };
        let path = super::path(app, "");
        let accepted = client.change(Method::PATCH, &path, &body, &change).await?;
        let operation = finish(ui, client, &self.change, accepted).await?;
        Ok(super::done(ui, operation, |_| match self.pool {
            Some(pool) => format!("`{app}` is in the pool `{pool}`"),
            None if routers => format!("changed the routers of `{app}`"),
            None => format!("changed what units of `{app}` may use"),
        }))
    }
}

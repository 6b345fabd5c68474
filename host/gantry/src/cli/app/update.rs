//! `gantry app update`: an app in another pool.

use clap::Args;
use hyper::Method;

use crate::api::AppChange;
use crate::cli::AppName;
use crate::cli::change::{ChangeArgs, finish};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::ui::Ui;
use crate::client::Client;

/// Move an app to another pool
///
/// Within a provisioner its units are replaced by new ones. To another provisioner it is
/// deployed there first, with its current image and as many units, and removed here only
/// then; when that fails, the app is where it was and nothing of it is there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry app update web --pool prod")]
pub(crate) struct Update {
    #[command(flatten)]
    app: AppName,
    /// Its new pool
    #[arg(short = 'o', long)]
    pool: String,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Update {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let (app, change) = (self.app.name(), self.change.change());
        let body = AppChange { pool: self.pool.clone() };
        let path = super::path(app, "");
        let accepted = client.change(Method::PATCH, &path, &body, &change).await?;
        let operation = finish(ui, client, &self.change, accepted).await?;
        Ok(super::done(ui, operation, |_| format!("`{app}` is in the pool `{}`", self.pool)))
    }
}

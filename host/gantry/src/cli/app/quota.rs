//! `gantry app quota`: how many units an app may have.

use clap::Args;
use hyper::Method;

use crate::api::{Quota as Told, QuotaChange, UnitLimit};
use crate::cli::AppName;
use crate::cli::change::{ChangeArgs, finish};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::ui::Ui;
use crate::client::Client;

/// Show or change how many units an app may have
///
/// What would have more is refused before anything is made. A quota below what the app uses
/// is refused too: remove units first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry app quota web
  gantry app quota web --units 10
  gantry app quota web --units unlimited")]
pub(crate) struct Quota {
    #[command(flatten)]
    app: AppName,
    /// How many units it may have; shows it when not given
    #[arg(long, value_name = "N|unlimited")]
    units: Option<UnitLimit>,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Quota {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let app = self.app.name();
        let path = super::path(app, "/quota");
        let Some(units) = self.units else {
            let told: Told = client.get(&path).await?;
            ui.data(&told, |page| page.line(format!("{}/{} units", told.in_use, word(told.limit))));
            return Ok(Exit::Done);
        };
        let body = QuotaChange { units };
        let accepted = client.change(Method::PUT, &path, &body, &self.change.change()).await?;
        let operation = finish(ui, client, &self.change, accepted).await?;
        Ok(super::done(ui, operation, |_| {
            format!("`{app}` may have {} units", word(units.number()))
        }))
    }
}

fn word(limit: Option<u32>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

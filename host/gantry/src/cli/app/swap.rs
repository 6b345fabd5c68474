//! `gantry app swap`: two apps that exchange their names.

use clap::Args;
use hyper::Method;

use crate::api::Swap as Body;
use crate::cli::change::{ChangeArgs, finish};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::named;
use crate::cli::ui::Ui;
use crate::client::Client;

/// Exchange the names under which routers serve two apps
///
/// What is sent to the one goes to the units of the other from then on, on all of their
/// routers at once; no unit is touched. The same command once more exchanges them back.
/// Both must have the same routers, and one that is swapped is not swapped with a third,
/// nor removed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry app swap web web-next")]
pub(crate) struct Swap {
    /// The one
    #[arg(value_name = "APP", value_parser = named)]
    app: String,
    /// The other
    #[arg(value_name = "OTHER", value_parser = named)]
    other: String,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Swap {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let Self { app, other, change } = self;
        let body = Body { other: other.clone() };
        let path = super::path(&app, "/swap");
        let accepted = client.change(Method::POST, &path, &body, &change.change()).await?;
        let operation = finish(ui, client, &change, accepted).await?;
        Ok(super::done(ui, operation, |operation| {
            let swapped = operation.result.as_ref().and_then(|result| result.get("swapped"));
            match swapped.and_then(serde_json::Value::as_bool) {
                Some(false) => format!("swapped `{app}` and `{other}` back"),
                Some(true) | None => format!("swapped `{app}` and `{other}`"),
            }
        }))
    }
}

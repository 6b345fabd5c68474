//! `gantry unit`: the running copies of an app.

use clap::{Args, Subcommand};
use gantry_core::Unit;
use hyper::Method;

use super::change::{ChangeArgs, finish};
use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use super::{AppName, app_and_words, show};
use crate::api::{Items, UnitCount};
use crate::client::{Client, escape};

/// List, add and remove the units of an app
#[derive(Debug, Subcommand)]
pub(crate) enum UnitCommand {
    List(List),
    Add(Add),
    Remove(Remove),
}

/// List the units of an app
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    app: AppName,
}

#[derive(Debug, Args)]
struct Count {
    /// The app, unless `--app` names it, and how many units; one when not given
    #[arg(value_names = ["APP", "COUNT"], num_args = 0..=2)]
    words: Vec<String>,
    /// The app
    #[arg(short = 'a', long = "app", value_name = "APP")]
    app: Option<String>,
    /// The process; needed when the app has several
    #[arg(short, long, default_value = "", hide_default_value = true)]
    process: String,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Start more units of the current image
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry unit add web 2
  gantry unit add -a web 2 --process worker")]
pub(crate) struct Add {
    #[command(flatten)]
    count: Count,
}

/// Remove units
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry unit remove web 2")]
pub(crate) struct Remove {
    #[command(flatten)]
    count: Count,
}

impl UnitCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::List(args) => list(ui, client, args.app.name()).await,
            Self::Add(args) => args.count.run(ui, client, Method::POST, "added", "to").await,
            Self::Remove(args) => {
                args.count.run(ui, client, Method::DELETE, "removed", "from").await
            }
        }
    }
}

async fn list(ui: &mut Ui, client: &Client, app: &str) -> Result<Exit, Failure> {
    let units: Items<Unit> = client.get(&format!("/v1/apps/{}/units", escape(app))).await?;
    ui.data(&units.items, |page| page.table(&show::units(&units.items)));
    Ok(Exit::Done)
}

impl Count {
    async fn run(
        self,
        ui: &mut Ui,
        client: &Client,
        method: Method,
        done: &str,
        preposition: &str,
    ) -> Result<Exit, Failure> {
        let (app, words) = app_and_words(self.app, self.words)?;
        let count = match words.as_slice() {
            [] => 1,
            [count] => count.parse().map_err(|_| {
                Failure::new(Exit::Usage, format!("`{count}` is not a number of units"))
            })?,
            _ => return Err(Failure::new(Exit::Usage, "one number of units is enough")),
        };
        let body = UnitCount { count, process: self.process };
        let path = format!("/v1/apps/{}/units", escape(&app));
        let accepted = client.change(method, &path, &body, &self.change.change()).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            let units = if count == 1 { "unit" } else { "units" };
            ui.data(&operation, |page| {
                page.line(format!("{done} {count} {units} {preposition} `{app}`"));
            });
        }
        Ok(Exit::Done)
    }
}

//! `gantry env`: the environment of an app.

use clap::{Args, Subcommand};
use hyper::Method;

use super::change::{ChangeArgs, finish};
use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use super::{app_and_words, show};
use crate::api::{EnvChange, EnvVar, Items};
use crate::client::{Client, escape};

/// Show and change the environment of an app
#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    Set(Set),
    Get(Get),
    Unset(Unset),
}

/// Set variables and replace the units by new ones that have them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry env set web COLOUR=blue SIZE=3
  gantry env set -a web PASSWORD=secret --private
  gantry env set web COLOUR=red --no-restart")]
pub(crate) struct Set {
    /// The app, unless `--app` names it, and the variables
    #[arg(value_name = "NAME=VALUE", required = true)]
    words: Vec<String>,
    /// The app
    #[arg(short = 'a', long = "app", value_name = "APP")]
    app: Option<String>,
    /// Do not show the values to people
    #[arg(short, long)]
    private: bool,
    /// Leave the units as they are; new ones get the variables
    #[arg(long)]
    no_restart: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Show the environment of an app; private values are not shown
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry env get web
  gantry env get web COLOUR")]
pub(crate) struct Get {
    /// The app, unless `--app` names it, and the variables; all of them when none is named
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    /// The app
    #[arg(short = 'a', long = "app", value_name = "APP")]
    app: Option<String>,
}

/// Remove variables and replace the units by new ones that do not have them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry env unset web COLOUR SIZE")]
pub(crate) struct Unset {
    /// The app, unless `--app` names it, and the variables
    #[arg(value_name = "NAME", required = true)]
    words: Vec<String>,
    /// The app
    #[arg(short = 'a', long = "app", value_name = "APP")]
    app: Option<String>,
    /// Leave the units as they are
    #[arg(long)]
    no_restart: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

impl EnvCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::Set(args) => args.run(ui, client).await,
            Self::Get(args) => args.run(ui, client).await,
            Self::Unset(args) => args.run(ui, client).await,
        }
    }
}

fn path(app: &str) -> String {
    format!("/v1/apps/{}/env", escape(app))
}

async fn change(
    ui: &mut Ui,
    client: &Client,
    app: &str,
    body: &EnvChange,
    args: &ChangeArgs,
) -> Result<Exit, Failure> {
    let accepted = client.change(Method::PATCH, &path(app), body, &args.change()).await?;
    if let Some(operation) = finish(ui, client, args, accepted).await? {
        ui.data(&operation, |page| page.line(format!("changed the environment of `{app}`")));
    }
    Ok(Exit::Done)
}

impl Set {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let (app, words) = app_and_words(self.app, self.words)?;
        let mut body = EnvChange {
            private: self.private,
            no_restart: self.no_restart,
            ..EnvChange::default()
        };
        for word in words {
            let Some((name, value)) = word.split_once('=') else {
                return Err(Failure::new(Exit::Usage, format!("`{word}` is not NAME=VALUE"))
                    .hint(format!("`gantry env set {app} {word}=VALUE`")));
            };
            body.set.insert(name.to_owned(), value.to_owned());
        }
        if body.set.is_empty() {
            return Err(Failure::new(Exit::Usage, "which variables?")
                .hint(format!("`gantry env set {app} NAME=VALUE`")));
        }
        change(ui, client, &app, &body, &self.change).await
    }
}

impl Get {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let (app, names) = app_and_words(self.app, self.words)?;
        let mut envs: Items<EnvVar> = client.get(&path(&app)).await?;
        if !names.is_empty() {
            let known: Vec<String> = envs.items.iter().map(|env| env.name.clone()).collect();
            if let Some(missing) = names.iter().find(|name| !known.contains(name)) {
                let failure = Failure::new(
                    Exit::NotFound,
                    format!("the app `{app}` has no variable `{missing}`"),
                );
                return Err(match crate::near::nearest(missing, &known) {
                    Some(near) => failure.hint(format!("did you mean `{near}`?")),
                    None => failure,
                });
            }
            envs.items.retain(|env| names.contains(&env.name));
        }
        ui.data(&envs.items, |page| {
            for env in &envs.items {
                page.line(show::env(env));
            }
        });
        Ok(Exit::Done)
    }
}

impl Unset {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let (app, unset) = app_and_words(self.app, self.words)?;
        if unset.is_empty() {
            return Err(Failure::new(Exit::Usage, "which variables?")
                .hint(format!("`gantry env get {app}` lists them")));
        }
        let body = EnvChange { unset, no_restart: self.no_restart, ..EnvChange::default() };
        change(ui, client, &app, &body, &self.change).await
    }
}

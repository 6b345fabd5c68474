//! `gantry volume`: storage that outlives the units of an app.

use clap::{Args, Subcommand};
use hyper::Method;

use super::change::{ChangeArgs, finish};
use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use super::{Sure, named, pairs, show};
use crate::api::{BindChange, Items, NewVolume, Operation, Volume};
use crate::client::{Client, escape};

/// Create volumes, give them to apps, and remove them
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    Create(Create),
    List(List),
    Info(Info),
    Bind(Bind),
    Unbind(Unbind),
    Remove(Remove),
}

/// Create a volume
///
/// What a plan means is in the configuration, for each provisioner (`volume-plans`). Plan and
/// options are the provisioner's to understand: it reads them when the first app gets the
/// volume, and refuses then what makes no volume. The `kubernetes` provisioner takes the options
/// `capacity` and `access-modes` in place of the plan's; with a plan that names a `plugin`
/// every other option is a field of it, such as `server` and `path` of `nfs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry volume create data small --pool prod
  gantry volume create data small --opt capacity=5Gi --team-owner shop")]
pub(crate) struct Create {
    /// Its name: lower case letters, digits and dashes, starting with a letter
    name: String,
    /// Its plan
    plan: String,
    /// Its pool; the configured default when not given
    #[arg(short = 'o', long, default_value = "", hide_default_value = true)]
    pool: String,
    /// The team that owns it
    #[arg(short, long, default_value = "admin")]
    team_owner: String,
    /// What to say beyond the plan, for its provisioner; as often as needed
    #[arg(long = "opt", value_name = "KEY=VALUE")]
    options: Vec<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// List the volumes
#[derive(Debug, Args)]
pub(crate) struct List {}

/// Show a volume and the apps that have it
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// The volume
    #[arg(value_parser = named)]
    name: String,
}

#[derive(Debug, Args)]
struct Where {
    /// The volume
    #[arg(value_parser = named)]
    volume: String,
    /// The app
    #[arg(value_parser = named)]
    app: String,
    /// The folder in the units of the app
    mount_point: String,
    /// Leave the units as they are
    #[arg(long)]
    no_restart: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Give a volume to an app and replace its units by new ones that have it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry volume bind data web /data
  gantry volume bind data web /data --read-only --no-restart")]
pub(crate) struct Bind {
    #[command(flatten)]
    at: Where,
    /// The units may only read it
    #[arg(long)]
    read_only: bool,
}

/// Take a volume from an app and replace its units by new ones that do not have it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry volume unbind data web /data")]
pub(crate) struct Unbind {
    #[command(flatten)]
    at: Where,
}

/// Remove a volume that no app has
///
/// What becomes of its data is for its storage to say. On Kubernetes a storage class with the
/// reclaim policy `Delete` deletes them, and with `Retain` they stay; those of a plan with a
/// `plugin` stay where they are. Asks before it does so on a terminal; elsewhere it needs
/// `--assume-yes`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry volume remove data")]
pub(crate) struct Remove {
    /// The volume
    #[arg(value_parser = named)]
    name: String,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    change: ChangeArgs,
}

impl VolumeCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::Create(args) => args.run(ui, client).await,
            Self::List(List {}) => list(ui, client).await,
            Self::Info(args) => args.run(ui, client).await,
            Self::Bind(args) => {
                args.at.run(ui, client, Method::POST, args.read_only, "gave", "to").await
            }
            Self::Unbind(args) => {
                args.at.run(ui, client, Method::DELETE, false, "took", "from").await
            }
            Self::Remove(args) => args.run(ui, client).await,
        }
    }
}

fn path(name: &str, rest: &str) -> String {
    format!("/v1/volumes/{}{rest}", escape(name))
}

async fn list(ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
    let volumes: Items<Volume> = client.get("/v1/volumes").await?;
    ui.data(&volumes.items, |page| page.table(&show::volumes(&volumes.items)));
    Ok(Exit::Done)
}

impl Create {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let new = NewVolume {
            name: self.name.clone(),
            plan: self.plan,
            pool: self.pool,
            team_owner: self.team_owner,
            options: pairs("opt", &self.options)?,
        };
        let change = self.change.change();
        let accepted = client.change(Method::POST, "/v1/volumes", &new, &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("created the volume `{}`", self.name)));
            ui.hint(&format!(
                "give it to an app: `gantry volume bind {} APP MOUNT-POINT`",
                self.name
            ));
        }
        Ok(Exit::Done)
    }
}

impl Info {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let volume: Volume = client.get(&path(&self.name, "")).await?;
        ui.data(&volume, |page| show::volume(page, &volume));
        Ok(Exit::Done)
    }
}

impl Where {
    async fn run(
        self,
        ui: &mut Ui,
        client: &Client,
        method: Method,
        read_only: bool,
        done: &str,
        preposition: &str,
    ) -> Result<Exit, Failure> {
        let Self { volume, app, mount_point, no_restart, change } = self;
        let body = BindChange { app: app.clone(), mount_point, read_only, no_restart };
        let path = path(&volume, "/binds");
        let accepted = client.change(method, &path, &body, &change.change()).await?;
        if let Some(operation) = finish(ui, client, &change, accepted).await? {
            let units = if restarted(&operation) { "; its units are new" } else { "" };
            ui.data(&operation, |page| {
                page.line(format!("{done} the volume `{volume}` {preposition} `{app}`{units}"));
            });
        }
        Ok(Exit::Done)
    }
}

fn restarted(operation: &Operation) -> bool {
    let told = operation.result.as_ref().and_then(|result| result.get("restarted")?.as_bool());
    told.unwrap_or_default()
}

impl Remove {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let name = &self.name;
        let what = format!("the volume `{name}`");
        let question = format!("Remove {what}? Its data may go with it.");
        self.sure.ask(ui, &what, &question)?;
        let change = self.change.change();
        let accepted = client.change(Method::DELETE, &path(name, ""), &(), &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("removed the volume `{name}`")));
        }
        Ok(Exit::Done)
    }
}

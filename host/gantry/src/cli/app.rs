//! `gantry app`: apps, deploys, commands and logs.

mod deploy;
mod log;
mod quota;
mod run;
mod shell;
mod swap;
mod update;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use gantry_core::Status;
use hyper::Method;

use super::change::{ChangeArgs, finish};
use super::exit::Exit;
use super::failure::Failure;
use super::plan::Choice;
use super::ui::Ui;
use super::{AppName, Sure, missing, named, show};
use crate::api::{AppInfo, AppList, AppRemoval, Deploy, NewApp, Operation, ProcessChoice};
use crate::client::{Client, escape};

/// Create, deploy, run, move and remove apps
#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    Create(Create),
    List(List),
    Info(Info),
    Update(update::Update),
    Quota(quota::Quota),
    Remove(Remove),
    Deploy(deploy::DeployArgs),
    Rollback(Rollback),
    Start(Start),
    Stop(Stop),
    Restart(Restart),
    Sleep(Sleep),
    Swap(swap::Swap),
    Run(run::Run),
    Shell(shell::Shell),
    Log(log::Log),
}

/// Create an app
///
/// Nothing runs before the first deploy. Without a plan it has the default one, if there is one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry app create web
  gantry app create web --plan small
  gantry app create web --memory 256MiB --unit-quota 10 --team-owner shop
  gantry app create web --router edge --router internal")]
pub(crate) struct Create {
    /// Its name: lower case letters, digits and dashes, starting with a letter
    name: String,
    /// Its platform; `static` when it only runs images
    #[arg(default_value = "static")]
    platform: String,
    /// The pool it runs in; the configured default when not given
    #[arg(short = 'o', long, default_value = "", hide_default_value = true)]
    pool: String,
    /// The team that owns it
    #[arg(short, long, default_value = "admin")]
    team_owner: String,
    #[command(flatten)]
    plan: Choice,
    /// How many units it may have; as many as wanted when not given
    #[arg(long, value_name = "UNITS")]
    unit_quota: Option<u32>,
    /// A router that it is reached through, as often as needed; the configured default when not given
    #[arg(short, long = "router", value_name = "NAME", value_parser = named)]
    routers: Vec<String>,
    /// It has no router
    #[arg(long, conflicts_with = "routers")]
    no_router: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// List the apps
///
/// With `--status` every provisioner is asked. What does not answer is told; the apps of the
/// others are listed all the same, and the exit code is not 0.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry app list
  gantry app list --status error,stopped")]
pub(crate) struct List {
    /// Only apps with a unit of one of these; every app of a provisioner that cannot tell apart
    #[arg(
        long = "status",
        value_name = "STATUS",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(Status::ALL.map(Status::as_str))
    )]
    statuses: Vec<String>,
}

/// Show an app: its units, where it answers, its images and its latest operations
#[derive(Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    app: AppName,
}

/// Remove an app with its units, its environment and its history
///
/// Asks before it does so on a terminal; elsewhere it needs `--assume-yes`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    app: AppName,
    #[command(flatten)]
    sure: Sure,
    /// Forget the app even if its units cannot be removed, as when their cluster is gone
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Return to an image that was deployed before
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry app rollback web web:1
  gantry app rollback web :1        (the end of the name is enough)")]
pub(crate) struct Rollback {
    /// The app, unless `--app` names it, and the image or the end of its name
    #[arg(value_names = ["APP", "IMAGE"], num_args = 0..=2)]
    words: Vec<String>,
    /// The app
    #[arg(short = 'a', long = "app", value_name = "APP")]
    app: Option<String>,
    /// The image
    #[arg(short, long)]
    image: Option<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
struct OfProcess {
    #[command(flatten)]
    app: AppName,
    /// Only the units of this process
    #[arg(short, long, default_value = "", hide_default_value = true)]
    process: String,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Start the units that are stopped
#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    of: OfProcess,
}

/// Stop the units and keep them
#[derive(Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    of: OfProcess,
}

/// Replace the units by new ones of the same image
///
/// The old units serve until the new ones answer.
#[derive(Debug, Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    of: OfProcess,
}

/// End the units until somebody starts them again
///
/// `gantry app start` wakes as many as there were.
#[derive(Debug, Args)]
pub(crate) struct Sleep {
    #[command(flatten)]
    of: OfProcess,
}

impl AppCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::Create(args) => args.run(ui, client).await,
            Self::List(args) => args.run(ui, client).await,
            Self::Info(args) => info(ui, client, args.app.name()).await,
            Self::Update(args) => args.run(ui, client).await,
            Self::Quota(args) => args.run(ui, client).await,
            Self::Remove(args) => args.run(ui, client).await,
            Self::Deploy(args) => args.run(ui, client).await,
            Self::Rollback(args) => args.run(ui, client).await,
            Self::Start(args) => args.of.run(ui, client, "start", "started").await,
            Self::Stop(args) => args.of.run(ui, client, "stop", "stopped").await,
            Self::Restart(args) => args.of.run(ui, client, "restart", "restarted").await,
            Self::Sleep(args) => args.of.run(ui, client, "sleep", "put to sleep").await,
            Self::Swap(args) => args.run(ui, client).await,
            Self::Run(args) => args.run(ui, client).await,
            Self::Shell(args) => args.run(ui, client).await,
            Self::Log(args) => args.run(ui, client).await,
        }
    }
}

fn path(app: &str, rest: &str) -> String {
    format!("/v1/apps/{}{rest}", escape(app))
}

/// Shows an operation that ended well: all of it to programs, one line to people.
fn done(
    ui: &mut Ui,
    operation: Option<Operation>,
    line: impl FnOnce(&Operation) -> String,
) -> Exit {
    if let Some(operation) = operation {
        ui.data(&operation, |page| page.line(line(&operation)));
    }
    Exit::Done
}

impl Create {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let new = NewApp {
            name: self.name.clone(),
            platform: self.platform,
            pool: self.pool,
            team_owner: self.team_owner,
            plan: self.plan.choice(),
            unit_quota: self.unit_quota,
            routers: (self.no_router || !self.routers.is_empty()).then_some(self.routers),
        };
        let accepted = client.change(Method::POST, "/v1/apps", &new, &self.change.change()).await?;
        let operation = finish(ui, client, &self.change, accepted).await?;
        let created = operation.is_some();
        let exit = done(ui, operation, |_| format!("created the app `{}`", self.name));
        if created {
            ui.hint(&format!("deploy something: `gantry app deploy {} --image IMAGE`", self.name));
        }
        Ok(exit)
    }
}

impl List {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let statuses = self.statuses.join(",");
        let path = match statuses.as_str() {
            "" => "/v1/apps".to_owned(),
            statuses => format!("/v1/apps?status={}", escape(statuses)),
        };
        let apps: AppList = client.get(&path).await?;
        ui.data(&apps.items, |page| page.table(&show::apps(&apps.items)));
        if apps.items.is_empty() && statuses.is_empty() {
            ui.hint("create one: `gantry app create NAME`");
        }
        Ok(missing(ui, &apps.problems))
    }
}

async fn info(ui: &mut Ui, client: &Client, app: &str) -> Result<Exit, Failure> {
    let info: AppInfo = client.get(&path(app, "")).await?;
    ui.data(&info, |page| show::app_info(page, &info));
    if let Some(problem) = &info.problem {
        ui.warning(&format!("{}: {}", problem.title, problem.detail));
    }
    Ok(Exit::Done)
}

impl Remove {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let app = self.app.name();
        let what = format!("the app `{app}`");
        self.sure.ask(ui, &what, &format!("Remove {what} with all its units?"))?;
        let change = self.change.change();
        let body = AppRemoval { force: self.force };
        let accepted = client.change(Method::DELETE, &path(app, ""), &body, &change).await?;
        let operation = finish(ui, client, &self.change, accepted).await?;
        Ok(done(ui, operation, |_| format!("removed the app `{app}`")))
    }
}

impl Rollback {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let (app, words) = super::app_and_words(self.app, self.words)?;
        let mut images = self.image.into_iter().chain(words);
        let (Some(wanted), None) = (images.next(), images.next()) else {
            return Err(Failure::new(Exit::Usage, "which image?").hint(format!(
                "`gantry app info {app}` lists them; then `gantry app rollback {app} IMAGE`"
            )));
        };
        let change = self.change.change();
        let body = Deploy { image: wanted };
        let accepted =
            client.change(Method::POST, &path(&app, "/rollback"), &body, &change).await?;
        let operation = finish(ui, client, &self.change, accepted).await?;
        Ok(done(ui, operation, |operation| {
            format!("rolled `{app}` back to {}", image(operation, &body.image))
        }))
    }
}

fn image(operation: &Operation, asked: &str) -> String {
    let told = operation.result.as_ref().and_then(|result| result.get("image")?.as_str());
    told.unwrap_or(asked).to_owned()
}

impl OfProcess {
    async fn run(
        self,
        ui: &mut Ui,
        client: &Client,
        verb: &str,
        done_verb: &str,
    ) -> Result<Exit, Failure> {
        let (app, change) = (self.app.name(), self.change.change());
        let body = ProcessChoice { process: self.process };
        let accepted =
            client.change(Method::POST, &path(app, &format!("/{verb}")), &body, &change).await?;
        let operation = finish(ui, client, &self.change, accepted).await?;
        Ok(done(ui, operation, |_| format!("{done_verb} the units of `{app}`")))
    }
}

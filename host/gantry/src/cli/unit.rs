//! `gantry unit`: the running copies of an app.

use clap::{Args, Subcommand};
use gantry_core::Unit;
use hyper::Method;

use super::change::{ChangeArgs, finish};
use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use super::{app_and_words, missing, named, show};
use crate::api::{Items, Operation, UnitCount, UnitKill, UnitList};
use crate::client::{Client, escape};

/// List, add, remove and kill the units of an app
#[derive(Debug, Subcommand)]
pub(crate) enum UnitCommand {
    List(List),
    Add(Add),
    Remove(Remove),
    Set(Set),
    Kill(Kill),
}

/// List the units of an app, or of every app
///
/// Of every app, what does not answer is told; the units of the others are listed all the
/// same, and the exit code is not 0.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry unit list web
  gantry unit list")]
pub(crate) struct List {
    /// The app; every app when not given
    #[arg(value_name = "APP", value_parser = named)]
    place: Option<String>,
    /// The app
    #[arg(short = 'a', long = "app", value_name = "APP", value_parser = named, conflicts_with = "place")]
    flag: Option<String>,
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

/// Start or remove units until there are so many
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry unit set web 5
  gantry unit set -a web 2 --process worker")]
pub(crate) struct Set {
    #[command(flatten)]
    count: Count,
}

/// End a unit; it is started anew
///
/// Asked to end by itself first, unless `--force` says otherwise.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry unit kill web 0a1b2c3d4e
  gantry unit kill -a web 0a1b2c3d4e --force")]
pub(crate) struct Kill {
    /// The app, unless `--app` names it, and the unit: its id or the beginning of it
    #[arg(value_names = ["APP", "UNIT"], num_args = 1..=2, required = true)]
    words: Vec<String>,
    /// The app
    #[arg(short = 'a', long = "app", value_name = "APP")]
    app: Option<String>,
    /// End it at once
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

impl UnitCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::List(List { place, flag }) => match place.or(flag) {
                Some(app) => list(ui, client, &app).await,
                None => list_all(ui, client).await,
            },
            Self::Add(args) => args.count.run(ui, client, Method::POST, "added", "to").await,
            Self::Remove(args) => {
                args.count.run(ui, client, Method::DELETE, "removed", "from").await
            }
            Self::Set(args) => args.count.set(ui, client).await,
            Self::Kill(args) => args.run(ui, client).await,
        }
    }
}

async fn list(ui: &mut Ui, client: &Client, app: &str) -> Result<Exit, Failure> {
    let units: Items<Unit> = client.get(&format!("/v1/apps/{}/units", escape(app))).await?;
    ui.data(&units.items, |page| page.table(&show::units(&units.items)));
    Ok(Exit::Done)
}

async fn list_all(ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
    let list: UnitList = client.get("/v1/units").await?;
    ui.data(&list, |page| page.table(&show::units_of_apps(&list.items)));
    Ok(missing(ui, &list.problems))
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
        let count = number(&words)?.unwrap_or(1);
        let body = UnitCount { count, process: self.process };
        let path = format!("/v1/apps/{}/units", escape(&app));
        let accepted = client.change(method, &path, &body, &self.change.change()).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            let units = if count == 1 { "unit" } else { "units" };
            ui.data(&operation, |page| {
                page.line(format!("{done} {count} {units} {preposition} `{app}`"));
            });
            if is_idle(&operation) {
                ui.warning(&waits(&app, &body.process));
            }
        }
        Ok(Exit::Done)
    }
}

impl Count {
    async fn set(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let (app, words) = app_and_words(self.app, self.words)?;
        let count = number(&words)?.ok_or_else(|| {
            Failure::new(Exit::Usage, "nobody says how many units")
                .hint(format!("`gantry unit set {app} 3`"))
        })?;
        let body = UnitCount { count, process: self.process };
        let path = format!("/v1/apps/{}/units", escape(&app));
        let accepted = client.change(Method::PUT, &path, &body, &self.change.change()).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(has(&app, count, &body.process)));
            if is_idle(&operation) {
                ui.warning(&waits(&app, &body.process));
            }
        }
        Ok(Exit::Done)
    }
}

impl Kill {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let (app, words) = app_and_words(self.app, self.words)?;
        let [unit] = words.as_slice() else {
            return Err(Failure::new(Exit::Usage, "name one unit")
                .hint(format!("`gantry unit list {app}` lists them")));
        };
        let body = UnitKill { force: self.force };
        let path = format!("/v1/apps/{}/units/{}/kill", escape(&app), escape(unit));
        let accepted = client.change(Method::POST, &path, &body, &self.change.change()).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("killed the unit `{unit}` of `{app}`")));
        }
        Ok(Exit::Done)
    }
}

/// The number of units in what is left of the words; none when there is none.
fn number(words: &[String]) -> Result<Option<u32>, Failure> {
    match words {
        [] => Ok(None),
        [count] => count
            .parse()
            .map(Some)
            .map_err(|_| Failure::new(Exit::Usage, format!("`{count}` is not a number of units"))),
        _ => Err(Failure::new(Exit::Usage, "one number of units is enough")),
    }
}

/// What is told of an app that has so many units now, or so many of a process.
fn has(app: &str, count: u32, process: &str) -> String {
    let units = if count == 1 { "unit" } else { "units" };
    match process {
        "" => format!("`{app}` has {count} {units}"),
        process => format!("`{app}` has {count} {units} of the process `{process}`"),
    }
}

/// What is told of units that were added and do not run.
fn waits(app: &str, process: &str) -> String {
    let (what, flag) = match process {
        "" => (format!("`{app}`"), String::new()),
        process => (format!("the process `{process}` of `{app}`"), format!(" --process {process}")),
    };
    format!("{what} is stopped or asleep: nothing of it runs until `gantry app start {app}{flag}`")
}

/// Whether units that were added wait until the app is started.
fn is_idle(operation: &Operation) -> bool {
    let told = operation.result.as_ref().and_then(|result| result.get("idle")?.as_bool());
    told.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_units_there_are_is_told_of_the_process_that_was_named() {
        assert_eq!(has("web", 1, ""), "`web` has 1 unit");
        assert_eq!(has("web", 2, "worker"), "`web` has 2 units of the process `worker`");
    }

    #[test]
    fn units_that_wait_are_told_with_what_starts_them() {
        assert_eq!(
            waits("web", ""),
            "`web` is stopped or asleep: nothing of it runs until `gantry app start web`"
        );
        assert_eq!(
            waits("web", "worker"),
            "the process `worker` of `web` is stopped or asleep: nothing of it runs until `gantry app start web --process worker`"
        );
        let operation = |result| Operation { result, ..an_operation() };
        assert!(is_idle(&operation(Some(serde_json::json!({"added": 1, "idle": true})))));
        for result in [None, Some(serde_json::json!({"added": 1}))] {
            assert!(!is_idle(&operation(result)));
        }
    }

    fn an_operation() -> Operation {
        Operation {
            id: "01".into(),
            verb: "unit-add".into(),
            app: Some("web".into()),
            plugin: None,
            digest: None,
            who: String::new(),
            detail: serde_json::Value::Null,
            state: crate::api::OperationState::Done,
            began: String::new(),
            ended: None,
            problem: None,
            result: None,
        }
    }
}

//! `gantry service`: databases and the like that apps are bound to.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hyper::Method;

use super::change::{ChangeArgs, finish};
use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use super::{Sure, named, show, text_of_input};
use crate::api::{Items, NewService, Operation, Secret, Service, ServiceBindChange, ServiceChange};
use crate::client::{Client, escape};

/// Add services, bind apps to them, and remove them
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    Add(Add),
    List(List),
    Info(Info),
    Update(Update),
    Bind(Bind),
    Unbind(Unbind),
    Remove(Remove),
}

/// Add a service
///
/// A service answers tsuru's service API under `URL/resources/NAME`: it is told of apps and
/// of their units, and tells the apps variables. NAME is what it knows itself by, and has to
/// be made there first. The password is kept by the daemon and shown to nobody.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry service add db http://mysql-api.example:8080 --username gantry --password-file password
  pass db | gantry service add db https://mysql-api.example --password-file -")]
pub(crate) struct Add {
    /// Its name, here and there: letters, digits, dashes and underscores, starting with a letter
    name: String,
    /// Where it answers, `http` or `https`
    url: String,
    /// Who we are there; its own name when not given
    #[arg(long, default_value = "", hide_default_value = true)]
    username: String,
    /// A file with the password; `-` is standard input
    #[arg(long, value_name = "FILE|-")]
    password_file: Option<PathBuf>,
    /// How many seconds it has to answer [default: 60]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// List the services
#[derive(Debug, Args)]
pub(crate) struct List {}

/// Show a service and the apps that are bound to it
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// The service
    #[arg(value_parser = named)]
    name: String,
}

/// Change a service; what is not said stays as it is
///
/// A new URL forgets the password that was given for the old one: name it again. Apps that
/// are bound stay so, with the variables that they have.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry service update db --password-file new-password
  gantry service update db --url https://mysql-api.example --password-file password")]
pub(crate) struct Update {
    /// The service
    #[arg(value_parser = named)]
    name: String,
    /// Where it answers
    #[arg(long)]
    url: Option<String>,
    /// Who we are there
    #[arg(long)]
    username: Option<String>,
    /// A file with the password; `-` is standard input
    #[arg(long, value_name = "FILE|-")]
    password_file: Option<PathBuf>,
    /// How many seconds it has to answer
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
struct Between {
    /// The service
    #[arg(value_parser = named)]
    service: String,
    /// The app
    #[arg(value_parser = named)]
    app: String,
    /// Leave the units as they are
    #[arg(long)]
    no_restart: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Bind an app to a service and replace its units by new ones that have its variables
///
/// The variables are private and win over those of `gantry env set`. When a step fails, the
/// app is not bound and its units are those of before.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry service bind db web
  gantry service bind db web --no-restart")]
pub(crate) struct Bind {
    #[command(flatten)]
    between: Between,
}

/// Unbind an app from a service and replace its units by new ones without its variables
///
/// The variables of `gantry env set` that the service had won over are there again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry service unbind db web
  gantry service unbind db web --force      (the service is gone)")]
pub(crate) struct Unbind {
    #[command(flatten)]
    between: Between,
    /// Unbind it whatever the service says
    #[arg(long)]
    force: bool,
}

/// Remove a service that no app is bound to
///
/// Nothing is asked of the service. Asks before it does so on a terminal; elsewhere it needs
/// `--assume-yes`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry service remove db")]
pub(crate) struct Remove {
    /// The service
    #[arg(value_parser = named)]
    name: String,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    change: ChangeArgs,
}

impl ServiceCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::Add(args) => args.run(ui, client).await,
            Self::List(List {}) => list(ui, client).await,
            Self::Info(args) => args.run(ui, client).await,
            Self::Update(args) => args.run(ui, client).await,
            Self::Bind(args) => args.between.bind(ui, client).await,
            Self::Unbind(args) => args.between.unbind(ui, client, args.force).await,
            Self::Remove(args) => args.run(ui, client).await,
        }
    }
}

fn path(name: &str, rest: &str) -> String {
    format!("/v1/services/{}{rest}", escape(name))
}

/// The password in a file, without the end of its line.
fn password(file: &Path) -> Result<Secret, Failure> {
    let text = text_of_input(file)?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

async fn list(ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
    let services: Items<Service> = client.get("/v1/services").await?;
    ui.data(&services.items, |page| page.table(&show::services(&services.items)));
    if services.items.is_empty() {
        ui.hint("add one: `gantry service add NAME URL`");
    }
    Ok(Exit::Done)
}

impl Add {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let new = NewService {
            name: self.name.clone(),
            url: self.url,
            username: self.username,
            password: self.password_file.as_deref().map(password).transpose()?.unwrap_or_default(),
            timeout: self.timeout,
        };
        let change = self.change.change();
        let accepted = client.change(Method::POST, "/v1/services", &new, &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("added the service `{}`", self.name)));
            ui.hint(&format!("bind an app to it: `gantry service bind {} APP`", self.name));
        }
        Ok(Exit::Done)
    }
}

impl Info {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let service: Service = client.get(&path(&self.name, "")).await?;
        ui.data(&service, |page| show::service(page, &service));
        for bind in service.binds.iter().filter(|bind| bind.half_made) {
            let (name, app) = (&self.name, &bind.app);
            ui.warning(&format!(
                "the daemon ended in the middle of binding `{app}`: `gantry service bind {name} {app}` goes on with it, `gantry service unbind {name} {app}` takes it back"
            ));
        }
        Ok(Exit::Done)
    }
}

impl Update {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let body = ServiceChange {
            url: self.url,
            username: self.username,
            password: self.password_file.as_deref().map(password).transpose()?,
            timeout: self.timeout,
        };
        let change = self.change.change();
        let path = path(&self.name, "");
        let accepted = client.change(Method::PATCH, &path, &body, &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("changed the service `{}`", self.name)));
        }
        Ok(Exit::Done)
    }
}

impl Between {
    async fn ask(
        &self,
        ui: &mut Ui,
        client: &Client,
        method: Method,
        force: bool,
    ) -> Result<Option<Operation>, Failure> {
        let (app, no_restart) = (self.app.clone(), self.no_restart);
        let body = ServiceBindChange { app, no_restart, force };
        let path = path(&self.service, "/binds");
        let accepted = client.change(method, &path, &body, &self.change.change()).await?;
        finish(ui, client, &self.change, accepted).await
    }

    async fn bind(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        if let Some(operation) = self.ask(ui, client, Method::POST, false).await? {
            let units = units(&operation);
            ui.data(&operation, |page| {
                page.line(format!("bound `{}` to the service `{}`{units}", self.app, self.service));
                for variable in variables(&operation) {
                    page.line(format!("  {variable}"));
                }
            });
        }
        Ok(Exit::Done)
    }

    async fn unbind(self, ui: &mut Ui, client: &Client, force: bool) -> Result<Exit, Failure> {
        if let Some(operation) = self.ask(ui, client, Method::DELETE, force).await? {
            let units = units(&operation);
            ui.data(&operation, |page| {
                let (app, service) = (&self.app, &self.service);
                page.line(format!("unbound `{app}` from the service `{service}`{units}"));
            });
        }
        Ok(Exit::Done)
    }
}

fn units(operation: &Operation) -> &'static str {
    let told = operation.result.as_ref().and_then(|result| result.get("restarted")?.as_bool());
    if told.unwrap_or_default() { "; its units are new" } else { "" }
}

/// The names of the variables that a bind has given.
fn variables(operation: &Operation) -> Vec<&str> {
    let told = operation.result.as_ref().and_then(|result| result.get("variables")?.as_array());
    told.into_iter().flatten().filter_map(serde_json::Value::as_str).collect()
}

impl Remove {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let name = &self.name;
        let what = format!("the service `{name}`");
        self.sure.ask(ui, &what, &format!("Remove {what}?"))?;
        let change = self.change.change();
        let accepted = client.change(Method::DELETE, &path(name, ""), &(), &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("removed the service `{name}`")));
        }
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_all_of_its_file_but_the_end_of_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        for (text, read) in [("hush", "hush"), (" hu sh \r\n", " hu sh "), ("\n", "")] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(password(&file).unwrap().reveal(), read);
        }
        assert_eq!(password(&folder.path().join("none")).unwrap_err().exit, Exit::NotFound);
    }
}

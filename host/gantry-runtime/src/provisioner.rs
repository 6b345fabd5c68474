//! The handle under a name: the only door to a call of a plugin.
//!
//! A handle lives as long as its name; plugins come and go behind it. Sessions that a call opened belong to the caller and outlive the call and the generation that opened them.

mod pages;
pub(crate) mod permit;
mod swap;

use std::fmt;
use std::sync::Arc;

use gantry_core::{App, Unit};
use gantry_engine::Operation;
use gantry_engine::stream::{Session, Writer};
use wasmtime::component::Resource;

use crate::bindings::exports::gantry::provision::logs as wit_logs;
use crate::bounds::Bound;
use crate::call::{CallError, Cause, Live, perform};
use crate::convert::{app_to, unit_from, unit_weight};
use crate::generation::Generation;
use crate::host::streams::{Session as HeldSession, Shared, Writer as HeldWriter};
use crate::interface::Interface;
use pages::Pages;
use swap::Serving;

/// The handle under a name. Cloning it is cheap and gives the same provisioner.
#[derive(Clone)]
pub struct Provisioner(Arc<Handle>);

struct Handle {
    name: Arc<str>,
    serving: Serving,
}

/// Whether the platform can show the log lines of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsEnabled {
    /// Whether it can.
    pub enabled: bool,
    /// When it cannot: where the lines are instead, for people.
    pub doc: String,
}

/// Which log lines are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailOptions {
    /// Only this process; every process when empty.
    pub process: String,
    /// Only the unit with this id or prefix of it; every unit when empty.
    pub unit: String,
    /// How many of the last lines of each unit come first.
    pub lines: u32,
    /// Whether lines that are still to come follow.
    pub follow: bool,
}

/// The log lines of one unit.
pub struct LogSource {
    /// The unit's id.
    pub unit: String,
    /// Its process.
    pub process: String,
    /// Its lines. They flow whatever becomes of the plugin; dropping this closes them.
    pub lines: Session,
}

impl fmt::Debug for LogSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSource")
            .field("unit", &self.unit)
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Provisioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provisioner")
            .field("name", &self.0.name)
            .field("generation", &self.generation())
            .finish()
    }
}

/// Calls a function of an optional interface that a generation has.
macro_rules! exported {
    ($generation:ident, $operation:ident, $bound:expr, |$live:ident, $guest:ident: $exports:ident| $body:expr) => {
        perform(&$generation, $operation, $bound, move |$live| {
            Box::pin(async move {
                let Some(exports) = &$live.exports.$exports else {
                    return Err(wasmtime::Error::msg("an interface that was there is gone"));
                };
                let $guest = exports.load(&mut $live.store, &$live.instance)?;
                $body
            })
        })
        .await
    };
}

/// Calls a function of an optional interface, or says that the plugin has no such ability.
macro_rules! optional {
    ($self:ident, $operation:ident, $bound:expr, $interface:expr, $action:expr, |$live:ident, $guest:ident: $exports:ident| $body:expr) => {{
        let generation = $self.generation();
        if !generation.supports($interface) {
            return Err($self.not_supported($action));
        }
        exported!(generation, $operation, $bound, |$live, $guest: $exports| $body)
    }};
}

/// Calls a function of the contract that every plugin keeps.
macro_rules! mandatory {
    ($self:ident, $operation:ident, $bound:expr, |$live:ident, $guest:ident| $body:expr) => {{
        let generation = $self.generation();
        perform(&generation, $operation, $bound, move |$live| {
            Box::pin(async move {
                let $guest = $live.exports.provisioner.load(&mut $live.store, &$live.instance)?;
                $body
            })
        })
        .await
    }};
}

// After the macros, which it uses.
mod abilities;

impl Provisioner {
    /// A handle under this name, served by this generation.
    #[must_use]
    pub fn new(name: &str, generation: Generation) -> Self {
        Self(Arc::new(Handle { name: name.into(), serving: Serving::new(generation) }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The generation that serves now.
    #[must_use]
    pub fn generation(&self) -> Arc<Generation> {
        self.0.serving.take()
    }

    /// Puts another generation in service, at once: calls that began before end on the old one, which is given back and is gone when the last of them has ended and nobody holds it.
    ///
    /// The new generation should have been [initialised](Generation::initialise).
    pub fn swap(&self, new: Generation) -> Arc<Generation> {
        self.0.serving.exchange(new)
    }

    /// Whether the generation that serves now exports an interface.
    #[must_use]
    pub fn supports(&self, interface: Interface) -> bool {
        self.generation().supports(interface)
    }

    fn not_supported(&self, action: &str) -> CallError {
        let (provisioner, action) = (self.name().to_owned(), action.to_owned());
        Cause::NotSupported { provisioner, action }.into()
    }

    /// Called when an app is created. Twice is as good as once.
    ///
    /// # Errors
    /// What the plugin said, or why it died.
    pub async fn provision(&self, operation: &Operation, app: &App) -> Result<(), CallError> {
        let app = app_to(app);
        mandatory!(self, operation, Bound::OperationTime, |live, guest| {
            guest.call_provision(&mut live.store, &app).await
        })
    }

    /// Called when an app is removed: nothing of it is left afterwards.
    ///
    /// # Errors
    /// What the plugin said, or why it died.
    pub async fn destroy(&self, operation: &Operation, app: &App) -> Result<(), CallError> {
        let app = app_to(app);
        mandatory!(self, operation, Bound::OperationTime, |live, guest| {
            guest.call_destroy(&mut live.store, &app).await
        })
    }

    /// Starts `count` more units of the current image. An empty process is the only one.
    ///
    /// # Errors
    /// What the plugin said, or why it died.
    pub async fn add_units(
        &self,
        operation: &Operation,
        app: &App,
        count: u32,
        process: &str,
    ) -> Result<(), CallError> {
        let (app, process) = (app_to(app), process.to_owned());
        mandatory!(self, operation, Bound::OperationTime, |live, guest| {
            guest.call_add_units(&mut live.store, &app, count, &process).await
        })
    }

    /// Removes `count` units. An empty process is the only one.
    ///
    /// # Errors
    /// What the plugin said, or why it died.
    pub async fn remove_units(
        &self,
        operation: &Operation,
        app: &App,
        count: u32,
        process: &str,
    ) -> Result<(), CallError> {
        let (app, process) = (app_to(app), process.to_owned());
        mandatory!(self, operation, Bound::OperationTime, |live, guest| {
            guest.call_remove_units(&mut live.store, &app, count, &process).await
        })
    }

    /// Replaces the units by new ones of the same image. An empty process is every one.
    ///
    /// # Errors
    /// What the plugin said, or why it died.
    pub async fn restart(
        &self,
        operation: &Operation,
        app: &App,
        process: &str,
    ) -> Result<(), CallError> {
        let (app, process) = (app_to(app), process.to_owned());
        mandatory!(self, operation, Bound::OperationTime, |live, guest| {
            guest.call_restart(&mut live.store, &app, &process).await
        })
    }

    /// Starts the units that are stopped or asleep. An empty process is every one.
    ///
    /// # Errors
    /// What the plugin said, or why it died.
    pub async fn start(
        &self,
        operation: &Operation,
        app: &App,
        process: &str,
    ) -> Result<(), CallError> {
        let (app, process) = (app_to(app), process.to_owned());
        mandatory!(self, operation, Bound::OperationTime, |live, guest| {
            guest.call_start(&mut live.store, &app, &process).await
        })
    }

    /// Stops the units and keeps them. An empty process is every one.
    ///
    /// # Errors
    /// What the plugin said, or why it died.
    pub async fn stop(
        &self,
        operation: &Operation,
        app: &App,
        process: &str,
    ) -> Result<(), CallError> {
        let (app, process) = (app_to(app), process.to_owned());
        mandatory!(self, operation, Bound::OperationTime, |live, guest| {
            guest.call_stop(&mut live.store, &app, &process).await
        })
    }

    /// The units of these apps, or of every app when there are none. All pages of them.
    ///
    /// # Errors
    /// What the plugin said, or why it died.
    pub async fn units(&self, operation: &Operation, apps: &[App]) -> Result<Vec<Unit>, CallError> {
        let apps: Vec<_> = apps.iter().map(app_to).collect();
        mandatory!(self, operation, Bound::QuestionTime, |live, guest| {
            let mut units = Pages::new("provisioner.units", "units");
            loop {
                let page = match guest.call_units(&mut live.store, &apps, units.after()).await? {
                    Ok(page) => page,
                    Err(error) => return Ok(Err(error)),
                };
                let bytes = page.units.iter().map(unit_weight).fold(0, usize::saturating_add);
                let entries = page.units.into_iter().map(unit_from);
                if units.add(&live.store.data().held, bytes, entries, page.next)? {
                    return Ok(Ok(units.all()));
                }
            }
        })
    }

    /// The addresses at which the app's web process answers, as URLs.
    ///
    /// # Errors
    /// What the plugin said, or why it died.
    pub async fn routable_addresses(
        &self,
        operation: &Operation,
        app: &App,
    ) -> Result<Vec<String>, CallError> {
        let app = app_to(app);
        mandatory!(self, operation, Bound::QuestionTime, |live, guest| {
            guest.call_routable_addresses(&mut live.store, &app).await
        })
    }

    /// A unit tells that it has begun.
    ///
    /// # Errors
    /// What the plugin said, or why it died.
    pub async fn register_unit(
        &self,
        operation: &Operation,
        app: &App,
        unit_id: &str,
        custom_data: Option<&str>,
    ) -> Result<(), CallError> {
        let (app, unit_id) = (app_to(app), unit_id.to_owned());
        let custom_data = custom_data.map(str::to_owned);
        mandatory!(self, operation, Bound::OperationTime, |live, guest| {
            guest.call_register_unit(&mut live.store, &app, &unit_id, custom_data.as_deref()).await
        })
    }

    /// Runs an image as the app's new version and gives the name of the image that runs now.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it cannot deploy images.
    pub async fn deploy(
        &self,
        operation: &Operation,
        app: &App,
        image: &str,
    ) -> Result<String, CallError> {
        let (app, image) = (app_to(app), image.to_owned());
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::Deployer,
            "image deploy",
            |live, guest: deployer| guest.call_deploy(&mut live.store, &app, &image).await
        )
    }

    /// Returns to the first image of the app's history whose name ends with `image`, and gives its full name.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it cannot roll back.
    pub async fn rollback(
        &self,
        operation: &Operation,
        app: &App,
        image: &str,
    ) -> Result<String, CallError> {
        let (app, image) = (app_to(app), image.to_owned());
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::Rollback,
            "rollback deploy",
            |live, guest: rollback| guest.call_rollback(&mut live.store, &app, &image).await
        )
    }

    /// Runs a command in every unit, one after the other, up to the first that does not end with 0; gives the last exit code.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it cannot run commands.
    pub async fn execute(
        &self,
        operation: &Operation,
        app: &App,
        command: &str,
        args: &[String],
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32, CallError> {
        let (app, command, args) = (app_to(app), command.to_owned(), args.to_vec());
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::Exec,
            "running commands",
            |live, guest: exec| {
                let (stdout, stderr) = ends(live, stdout, stderr)?;
                guest.call_execute(&mut live.store, &app, &command, &args, stdout, stderr).await
            }
        )
    }

    /// Runs a command in one unit and gives its exit code.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it cannot run commands.
    pub async fn execute_once(
        &self,
        operation: &Operation,
        app: &App,
        command: &str,
        args: &[String],
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32, CallError> {
        let (app, command, args) = (app_to(app), command.to_owned(), args.to_vec());
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::Exec,
            "running commands",
            |live, guest: exec| {
                let (stdout, stderr) = ends(live, stdout, stderr)?;
                guest
                    .call_execute_once(&mut live.store, &app, &command, &args, stdout, stderr)
                    .await
            }
        )
    }

    /// Runs a command in a unit of its own, which is gone afterwards, and gives its exit code.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it cannot run commands.
    pub async fn execute_isolated(
        &self,
        operation: &Operation,
        app: &App,
        command: &str,
        args: &[String],
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32, CallError> {
        let (app, command, args) = (app_to(app), command.to_owned(), args.to_vec());
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::Exec,
            "running commands",
            |live, guest: exec| {
                let (stdout, stderr) = ends(live, stdout, stderr)?;
                guest
                    .call_execute_isolated(&mut live.store, &app, &command, &args, stdout, stderr)
                    .await
            }
        )
    }

    /// Whether the platform can show the log lines of an app. A plugin that says nothing about logs does not stand in the way (spec 2.2).
    ///
    /// # Errors
    /// What the plugin said, or why it died.
    pub async fn logs_enabled(
        &self,
        operation: &Operation,
        app: &App,
    ) -> Result<LogsEnabled, CallError> {
        // Looked at once: a swap may come at any time.
        let generation = self.generation();
        if !generation.supports(Interface::Logs) {
            return Ok(LogsEnabled { enabled: true, doc: String::new() });
        }
        let app = app_to(app);
        exported!(generation, operation, Bound::QuestionTime, |live, guest: logs| {
            let told = guest.call_enabled(&mut live.store, &app).await?;
            Ok(told.map(|told| LogsEnabled { enabled: told.enabled, doc: told.doc }))
        })
    }

    /// Opens the logs of units.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it cannot show logs.
    pub async fn tail(
        &self,
        operation: &Operation,
        app: &App,
        options: &TailOptions,
    ) -> Result<Vec<LogSource>, CallError> {
        let app = app_to(app);
        let options = wit_logs::TailOptions {
            process: options.process.clone(),
            unit: options.unit.clone(),
            lines: options.lines,
            follow: options.follow,
        };
        optional!(
            self,
            operation,
            Bound::QuestionTime,
            Interface::Logs,
            "showing logs",
            |live, guest: logs| {
                match guest.call_tail(&mut live.store, &app, &options).await? {
                    Ok(sources) => {
                        let sources: wasmtime::Result<Vec<_>> =
                            sources.into_iter().map(|source| log_source(live, source)).collect();
                        Ok(Ok(sources?))
                    }
                    Err(error) => Ok(Err(error)),
                }
            }
        )
    }

    /// Tells the plugin that the platform starts. Without the interface there is nothing to tell.
    ///
    /// # Errors
    /// What the plugin said, or why it died.
    pub async fn initialise(&self, operation: &Operation) -> Result<(), CallError> {
        self.generation().initialise(operation).await
    }

    /// What the operator should read when the platform starts; empty when there is nothing.
    ///
    /// # Errors
    /// What the plugin said, or why it died.
    pub async fn startup_message(&self, operation: &Operation) -> Result<String, CallError> {
        let generation = self.generation();
        if !generation.supports(Interface::Lifecycle) {
            return Ok(String::new());
        }
        exported!(generation, operation, Bound::QuestionTime, |live, guest: lifecycle| guest
            .call_startup_message(&mut live.store)
            .await)
    }
}

/// Puts the caller's ends into the guest's hands.
fn ends(
    live: &mut Live,
    stdout: Writer,
    stderr: Writer,
) -> wasmtime::Result<(Resource<HeldWriter>, Resource<HeldWriter>)> {
    let state = live.store.data_mut();
    let stdout = state.push(HeldWriter(Shared::new(stdout)))?;
    let stderr = state.push(HeldWriter(Shared::new(stderr)))?;
    Ok((stdout, stderr))
}

/// Takes a session out of the guest's hands; it belongs to the caller from here on.
fn log_source(live: &mut Live, source: wit_logs::Source) -> wasmtime::Result<LogSource> {
    let HeldSession(lines) = live.store.data_mut().table.delete(source.lines)?;
    Ok(LogSource { unit: source.unit, process: source.process, lines })
}

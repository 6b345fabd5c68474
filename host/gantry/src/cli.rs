//! The command line: arguments as typed, then one request, then one end.
//!
//! One file for each group of verbs. What people see goes through `ui`, why something failed is a `Failure`, and how the program ends is an [`Exit`].

mod app;
mod change;
mod cluster;
mod env;
mod exit;
mod failure;
mod node;
mod node_container;
mod operation;
mod plan;
mod plugin;
mod pool;
mod route;
mod serve;
mod service;
mod show;
mod table;
mod ui;
mod unit;
mod volume;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand};

pub use exit::Exit;

use crate::api::Problem;
use crate::client::{Client, Host};
use crate::config::Environment;
use failure::Failure;
use ui::{Format, Ui};

/// Run apps through sandboxed provisioners
///
/// `gantry serve` is the daemon; every other command asks it.
#[derive(Debug, Parser)]
#[command(
    name = "gantry",
    version,
    propagate_version = true,
    after_help = "Start here:
  gantry serve &
  gantry plugin install docker docker.wasm
  gantry app create web
  gantry app deploy web --image IMAGE

`gantry help exit-codes` lists the exit codes."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The heading of the options that every command takes.
const EVERYWHERE: &str = "For every command";

#[derive(Debug, Args)]
struct Global {
    /// Where the daemon is: `unix:///path` or `http://host:port` [default: its own default socket]
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "GANTRY_HOST", hide_env_values = true, value_name = "URL")]
    host: Option<Host>,
    /// The token, for a daemon on TCP
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "GANTRY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// How to show what was asked for
    #[arg(long, global = true, help_heading = EVERYWHERE, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    /// Show only what was asked for, warnings and errors
    #[arg(short, long, global = true, help_heading = EVERYWHERE)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    #[command(subcommand)]
    App(app::AppCommand),
    #[command(subcommand)]
    Unit(unit::UnitCommand),
    #[command(subcommand)]
    Env(env::EnvCommand),
    #[command(subcommand)]
    Service(service::ServiceCommand),
    #[command(subcommand)]
    Plan(plan::PlanCommand),
    #[command(subcommand)]
    Volume(volume::VolumeCommand),
    #[command(subcommand)]
    Router(route::RouterCommand),
    #[command(subcommand)]
    Pool(pool::PoolCommand),
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    #[command(subcommand)]
    Node(node::NodeCommand),
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    #[command(subcommand)]
    Operation(operation::OperationCommand),
    Completions(Completions),
    ExitCodes(ExitCodes),
    /// Compile a plugin for the daemon, in a process that it can kill
    #[command(hide = true)]
    CompileWorker,
}

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(gantry completions bash)
  gantry completions fish > ~/.config/fish/completions/gantry.fish")]
struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

/// List the exit codes
#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
struct ExitCodes {}

/// An app, named by its place or by a flag.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct AppName {
    /// The app
    #[arg(value_name = "APP", value_parser = named)]
    place: Option<String>,
    /// The app
    #[arg(short = 'a', long = "app", value_name = "APP", value_parser = named)]
    flag: Option<String>,
}

impl AppName {
    fn name(&self) -> &str {
        self.place.as_deref().or(self.flag.as_deref()).unwrap_or_default()
    }
}

/// A name as it is typed. An empty one, as of a variable that a script did not set, names nothing.
fn named(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("it names nothing") } else { Ok(text.to_owned()) }
}

/// The app and what follows it: with `--app` every word follows, and else the first one is the app.
fn app_and_words(
    flag: Option<String>,
    words: Vec<String>,
) -> Result<(String, Vec<String>), Failure> {
    let mut words = words.into_iter();
    match flag.or_else(|| words.next()) {
        Some(app) if !app.is_empty() => Ok((app, words.collect())),
        Some(_) | None => {
            Err(Failure::new(Exit::Usage, "which app?").hint("`gantry app list` lists them"))
        }
    }
}

/// The values of an option that is given as often as needed, each `KEY=VALUE`.
fn pairs(option: &str, words: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |word: &String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Failure::new(Exit::Usage, format!("`{word}` is not KEY=VALUE"))
            .hint(format!("`--{option} KEY=VALUE`"))),
    };
    words.iter().map(pair).collect()
}

/// The text in a file that is named on the command line.
fn text_of(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))
}

/// The same where `-` is standard input.
fn text_of_input(file: &Path) -> Result<String, Failure> {
    if file != Path::new("-") {
        return text_of(file);
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.map(|_| text).map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    let missing = error.kind() == ErrorKind::NotFound;
    let exit = if missing { Exit::NotFound } else { Exit::Failed };
    Failure::new(exit, format!("cannot read `{}`", file.display())).because(error)
}

/// Whether to ask before something is removed.
#[derive(Debug, Args)]
struct Sure {
    /// Do not ask
    #[arg(short = 'y', long, visible_alias = "yes")]
    assume_yes: bool,
}

impl Sure {
    /// Asks before something that cannot be undone; `question` is about `what`, which stays when the answer is no.
    fn ask(&self, ui: &mut Ui, what: &str, question: &str) -> Result<(), Failure> {
        if self.assume_yes {
            return Ok(());
        }
        if !ui.terminal().can_ask {
            return Err(Failure::new(Exit::Usage, "nobody to ask, and it cannot be undone")
                .hint("add `--assume-yes`"));
        }
        match ui.confirm(question) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(Exit::Interrupted, format!("{what} was not removed"))),
            Err(error) => Err(Failure::new(Exit::Failed, "cannot ask").because(&error)),
        }
    }
}

/// Tells why some of what was asked for may be missing, and gives how a command ends that has shown the rest.
fn missing(ui: &mut Ui, problems: &[Problem]) -> Exit {
    for problem in problems {
        ui.warning(&format!("{}: {}", problem.title, problem.detail));
    }
    problems.first().map_or(Exit::Done, |problem| Exit::of(problem.kind))
}

/// Runs the program with these arguments, the first of which is its name. The daemon compiles plugins with the program at `own`, which must be one that ends here too; without it, in
/// its own process.
pub fn run(arguments: impl IntoIterator<Item = OsString>, own: Option<PathBuf>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            // Help that nobody reads any more is no failure.
            let _ = error.print();
            return exit;
        }
    };
    let mut ui = Ui::of_process(cli.global.output, cli.global.quiet);
    match perform(cli, own, &mut ui) {
        Ok(exit) => {
            ui.hide_bottom();
            match ui.lost() {
                // Another end than this one says more.
                Some(error) if exit == Exit::Done => {
                    let failure = Failure::new(Exit::Failed, "cannot write").because(&error);
                    ui.failure(&failure);
                    failure.exit
                }
                Some(_) | None => exit,
            }
        }
        Err(failure) => {
            ui.failure(&failure);
            failure.exit
        }
    }
}

fn perform(cli: Cli, own: Option<PathBuf>, ui: &mut Ui) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Completions(Completions { shell }) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "gantry", &mut text);
            written(ui.bytes(&text))
        }
        Command::ExitCodes(ExitCodes {}) => {
            written(ui.bytes(format!("{}\n", exit::HELP).as_bytes()))
        }
        Command::CompileWorker => compile_worker(),
        Command::Serve(serve) => block_on(async { serve.run(own, ui).await }),
        Command::App(command) => {
            ask(global, |client| async move { command.run(ui, &client).await })
        }
        Command::Unit(command) => {
            ask(global, |client| async move { command.run(ui, &client).await })
        }
        Command::Env(command) => {
            ask(global, |client| async move { command.run(ui, &client).await })
        }
        Command::Service(command) => {
            ask(global, |client| async move { command.run(ui, &client).await })
        }
        Command::Plan(command) => {
            ask(global, |client| async move { command.run(ui, &client).await })
        }
        Command::Volume(command) => {
            ask(global, |client| async move { command.run(ui, &client).await })
        }
        Command::Router(command) => {
            ask(global, |client| async move { command.run(ui, &client).await })
        }
        Command::Pool(command) => {
            ask(global, |client| async move { command.run(ui, &client).await })
        }
        Command::Cluster(command) => {
            ask(global, |client| async move { command.run(ui, &client).await })
        }
        Command::Node(command) => {
            ask(global, |client| async move { command.run(ui, &client).await })
        }
        Command::Plugin(command) => {
            ask(global, |client| async move { command.run(ui, &client).await })
        }
        Command::Operation(command) => {
            ask(global, |client| async move { command.run(ui, &client).await })
        }
    }
}

/// The presses of Ctrl-C from now on; none is missed between two looks.
fn interrupts() -> Result<tokio::signal::unix::Signal, Failure> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(|error| Failure::new(Exit::Failed, "cannot listen for Ctrl-C").because(&error))
}

fn written(result: std::io::Result<()>) -> Result<Exit, Failure> {
    match result {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Err(Failure::new(Exit::Failed, "cannot write").because(&error)),
    }
}

fn ask<F, W>(global: Global, work: F) -> Result<Exit, Failure>
where
    F: FnOnce(Client) -> W,
    W: Future<Output = Result<Exit, Failure>>,
{
    let environment = Environment::of_process();
    let host = match global.host {
        Some(host) => host,
        None => {
            let data = environment.default_data();
            let socket = environment.default_socket(data.as_deref()).ok_or_else(|| {
                Failure::new(Exit::Usage, "cannot tell where the daemon is: HOME is not set")
                    .hint("`gantry --host unix:///path/gantry.sock …`")
            })?;
            Host::Unix(socket)
        }
    };
    block_on(work(Client::new(host, global.token)))
}

fn block_on<W: Future<Output = Result<Exit, Failure>>>(work: W) -> Result<Exit, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
            Failure::new(Exit::Failed, "cannot start the machine room").because(&error)
        })?;
    let result = runtime.block_on(work);
    // A read of the terminal that never ends must not keep the program.
    runtime.shutdown_background();
    result
}

fn compile_worker() -> Result<Exit, Failure> {
    let worked = gantry_runtime::compile::worker(std::io::stdin().lock(), std::io::stdout().lock());
    worked
        .map(|()| Exit::Done)
        .map_err(|error| Failure::new(Exit::Failed, "could not compile").because(&error))
}

#[cfg(test)]
mod tests;

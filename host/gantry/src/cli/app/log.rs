//! `gantry app log`: what the units of an app write.

use clap::Args;
use futures_util::StreamExt;

use crate::api::{LogLine, Problem};
use crate::cli::AppName;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::show::short;
use crate::cli::ui::Ui;
use crate::client::{Client, ClientError, escape};

/// Show what the units of an app write
///
/// Each line starts with the process and the unit it comes from. With `--output json`
/// each line is a JSON object.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry app log web
  gantry app log web --follow --process worker
  gantry app log web -n 100 --unit 3f2a")]
pub(crate) struct Log {
    #[command(flatten)]
    app: AppName,
    /// Go on with the lines still to come; Ctrl-C ends it
    #[arg(short, long)]
    follow: bool,
    /// How many of the last lines of each unit
    #[arg(short = 'n', long, default_value = "10")]
    lines: u32,
    /// Only this process
    #[arg(short, long, default_value = "", hide_default_value = true)]
    process: String,
    /// Only the unit with this id, or the start of it
    #[arg(short, long, default_value = "", hide_default_value = true)]
    unit: String,
}

impl Log {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let query = format!(
            "/log?lines={}&follow={}&process={}&unit={}",
            self.lines,
            self.follow,
            escape(&self.process),
            escape(&self.unit)
        );
        let path = super::path(self.app.name(), &query);
        let mut interrupts = super::super::interrupts()?;
        let mut events = client.events(&path, None).await?;
        let mut after = None;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                // Whoever follows a log ends it this way.
                _ = interrupts.recv() => return Ok(Exit::Done),
            };
            match event {
                Some(Ok(event)) => {
                    if event.id.is_some() {
                        after.clone_from(&event.id);
                    }
                    match event.kind.as_str() {
                        "line" => {
                            if let Some(exit) = show(ui, &event.data)? {
                                return Ok(exit);
                            }
                        }
                        "problem" => {
                            let problem: Problem = read(&event.data)?;
                            return Err(problem.into());
                        }
                        "end" => return Ok(Exit::Done),
                        // A kind that this version does not know.
                        _ => {}
                    }
                }
                // A connection that breaks is picked up where it broke.
                Some(Err(ClientError::Unreachable { .. })) if after.is_some() => {
                    events = client.events(&path, after.as_deref()).await?;
                }
                Some(Err(error)) => return Err(error.into()),
                None => {
                    return Err(Failure::new(
                        Exit::Unreachable,
                        "the daemon ended the conversation",
                    ));
                }
            }
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(data: &str) -> Result<T, Failure> {
    serde_json::from_str(data).map_err(|error| {
        Failure::new(Exit::Failed, "cannot read what the daemon tells").because(&error)
    })
}

/// Shows a line. A reader that has seen enough ends the log, and that is no failure.
fn show(ui: &mut Ui, data: &str) -> Result<Option<Exit>, Failure> {
    let line: LogLine = read(data)?;
    let shown =
        ui.stream(&line, || format!("[{}][{}]: {}", line.process, short(&line.unit), line.text));
    match shown {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Some(Exit::Done)),
        Err(error) => Err(Failure::new(Exit::Failed, "cannot write").because(&error)),
    }
}

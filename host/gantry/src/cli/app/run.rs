//! `gantry app run`: a command in the units of an app.

use clap::Args;
use futures_util::StreamExt;

use crate::api::{Problem, RunEnd, RunMode, RunOutput};
use crate::cli::AppName;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::ui::Ui;
use crate::client::{Client, Event};

/// Run a command in the units of an app
///
/// In every unit, one after the other, up to the first that does not end with 0; with
/// `--once` in one unit; with `--isolated` in a unit of its own, which is gone
/// afterwards. Ends with the command's own exit code, and keeps its standard output and
/// standard error apart.
///
/// The command runs in a shell, in /home/application/current and with
/// /home/application/apprc read, where the image has them. One word is a shell line;
/// several words are a program and its arguments and reach it as they are.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry app run web -- ls -l /tmp
  gantry app run web --once -- 'env | sort'
  gantry app run web --isolated -- ./migrate --all")]
pub(crate) struct Run {
    #[command(flatten)]
    app: AppName,
    /// Run it in one unit only
    #[arg(short, long, conflicts_with = "isolated")]
    once: bool,
    /// Run it in a unit of its own, which is gone afterwards
    #[arg(short, long)]
    isolated: bool,
    /// The command, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Run {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let mode = match (self.isolated, self.once) {
            (true, _) => RunMode::Isolated,
            (false, true) => RunMode::Once,
            (false, false) => RunMode::All,
        };
        let body = crate::api::Run { command: self.command, mode };
        let path = super::path(self.app.name(), "/run");
        let mut interrupts = super::super::interrupts()?;
        let mut events = client.post_events(&path, &body).await?;
        loop {
            tokio::select! {
                event = events.next() => {
                    let Some(event) = event.transpose()? else {
                        // A command whose code nobody knows is never 0.
                        return Err(Failure::new(Exit::Unreachable, "the daemon went away before the command ended"));
                    };
                    if let Some(exit) = show(ui, &event)? {
                        return Ok(exit);
                    }
                }
                // Leaving closes the connection, and the daemon ends the command's call.
                _ = interrupts.recv() => return Ok(Exit::Interrupted),
            }
        }
    }
}

fn show(ui: &mut Ui, event: &Event) -> Result<Option<Exit>, Failure> {
    let wrong = || Failure::new(Exit::Failed, "cannot read what the daemon tells");
    let failed = |error: serde_json::Error| wrong().because(&error);
    let lost = |error: std::io::Error| {
        Failure::new(Exit::Failed, "cannot write what the command says").because(&error)
    };
    match event.kind.as_str() {
        "stdout" => {
            ui.bytes(&bytes(&event.data).map_err(failed)?.ok_or_else(wrong)?).map_err(lost)?;
            Ok(None)
        }
        "stderr" => {
            ui.error_bytes(&bytes(&event.data).map_err(failed)?.ok_or_else(wrong)?)
                .map_err(lost)?;
            Ok(None)
        }
        "line" => {
            let line: crate::api::Line = serde_json::from_str(&event.data).map_err(failed)?;
            ui.status(&line.text);
            Ok(None)
        }
        "exit" => {
            let end: RunEnd = serde_json::from_str(&event.data).map_err(failed)?;
            // A code that does not fit is still not 0.
            let code = u8::try_from(end.code).unwrap_or(u8::MAX);
            Ok(Some(if code == 0 { Exit::Done } else { Exit::Command(code) }))
        }
        "problem" => {
            let problem: Problem = serde_json::from_str(&event.data).map_err(failed)?;
            Err(problem.into())
        }
        // A kind that this version does not know.
        _ => Ok(None),
    }
}

fn bytes(data: &str) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let output: RunOutput = serde_json::from_str(data)?;
    let pairs = output.hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    Ok(pairs.map(byte).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ui::tests::door;
    use crate::cli::ui::{Format, Terminal};

    fn event(kind: &str, data: &str) -> Event {
        Event { id: None, kind: kind.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn both_ends_are_kept_apart_and_bytes_are_as_they_were() {
        let (mut ui, out, err) = door(Format::Table, true, Terminal::default());
        assert_eq!(show(&mut ui, &event("stdout", r#"{"hex":"6f0a"}"#)).unwrap(), None);
        assert_eq!(show(&mut ui, &event("stderr", r#"{"hex":"650a"}"#)).unwrap(), None);
        assert_eq!((out.text().as_str(), err.text().as_str()), ("o\n", "e\n"));
    }

    #[test]
    fn the_commands_code_is_the_programs_code() {
        let (mut ui, ..) = door(Format::Table, true, Terminal::default());
        let mut code = |data: &str| show(&mut ui, &event("exit", data)).unwrap().unwrap().code();
        assert_eq!(code(r#"{"code":0}"#), 0);
        assert_eq!(code(r#"{"code":42}"#), 42);
        assert_eq!(code(r#"{"code":256}"#), 255);
        assert_eq!(code(r#"{"code":-1}"#), 255);
    }
}

//! `gantry app shell`: a terminal in a unit of an app.
//!
//! The terminal of this process is raw as long as the shell is open, so that every key goes to the other side, Ctrl-C too. It is put back however this ends: by the shell's end, by a lost
//! connection, by a signal, by a panic.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use rustix::termios::{self, OptionalActions, Termios};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::api::shell::{Control, TerminalSize};
use crate::cli::AppName;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::ui::Ui;
use crate::client::{Client, ClientError, Keyboard, Screen, Told, escape};

/// How long the other side may be silent: it shows every 10 s that it is there.
const SILENCE: Duration = Duration::from_secs(60);

/// Open a shell in a unit of an app
///
/// Every key goes to the shell, Ctrl-C too; Ctrl-D or `exit` ends it. Ends with the exit
/// code of the shell. A connection that is lost is an error, and the shell ends with it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry app shell web
  gantry app shell web --unit 3f2a9c1b7d")]
pub(crate) struct Shell {
    #[command(flatten)]
    app: AppName,
    /// The unit, or the start of its id; any one when not given
    #[arg(short, long, default_value = "", hide_default_value = true)]
    unit: String,
}

impl Shell {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let app = self.app.name();
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return Err(Failure::new(Exit::Usage, "a shell needs a terminal, and this is none")
                .hint(format!("run a command instead: `gantry app run {app} --once -- COMMAND`")));
        }
        let TerminalSize { width, height } = size();
        let term = std::env::var("TERM").ok().filter(|term| !term.is_empty());
        let query = format!(
            "/shell?unit={}&term={}&width={width}&height={height}",
            escape(&self.unit),
            escape(term.as_deref().unwrap_or("xterm")),
        );
        let mut signals = Signals::new()?;
        let (keyboard, screen) = client.shell(&super::path(app, &query)).await?;
        let raw = Raw::begin()?;
        let ended = converse(ui, keyboard, screen, &mut signals).await;
        // Before anything is said about how it ended.
        drop(raw);
        ended
    }
}

/// How large the terminal is.
fn size() -> TerminalSize {
    match termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            TerminalSize { width: size.ws_col, height: size.ws_row }
        }
        Ok(_) | Err(_) => TerminalSize { width: 80, height: 24 },
    }
}

/// A terminal that passes every key on; dropping it puts it back as it was.
struct Raw {
    before: Termios,
}

impl Raw {
    fn begin() -> Result<Self, Failure> {
        let failed = |error: rustix::io::Errno| {
            Failure::new(Exit::Failed, "cannot prepare the terminal").because(&error)
        };
        let before = termios::tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// What may end or change a shell from outside.
struct Signals {
    resized: Signal,
    ends: [Signal; 3],
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::Failed, "cannot listen for signals").because(&error)
            })
        };
        Ok(Self {
            resized: listen(SignalKind::window_change())?,
            ends: [
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            ],
        })
    }
}

async fn converse(
    ui: &mut Ui,
    mut keyboard: Keyboard,
    mut screen: Screen,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let mut stdin = tokio::io::stdin();
    let mut typed = vec![0; 4096];
    let mut listening = true;
    let Signals { resized, ends: [interrupt, terminate, hangup] } = signals;
    loop {
        tokio::select! {
            told = tokio::time::timeout(SILENCE, screen.next()) => {
                let Ok(told) = told else { return Err(lost()) };
                match told.map_err(broken)? {
                    Some(told) => if let Some(exit) = show(ui, told)? { return Ok(exit) },
                    None => return Err(lost()),
                }
            }
            read = stdin.read(&mut typed), if listening => match read {
                Ok(count @ 1..) => {
                    let typed = typed.get(..count).unwrap_or_default();
                    keyboard.types(typed).await.map_err(broken)?;
                }
                // Nobody types any more; what the shell says is shown to its end.
                Ok(0) | Err(_) => listening = false,
            },
            _ = resized.recv() => keyboard.resize(size()).await.map_err(broken)?,
            _ = interrupt.recv() => return Ok(Exit::Interrupted),
            _ = terminate.recv() => return Ok(Exit::Interrupted),
            _ = hangup.recv() => return Ok(Exit::Interrupted),
        }
    }
}

/// A shell whose end nobody knows is never 0.
fn lost() -> Failure {
    Failure::new(Exit::Unreachable, "the connection to the shell was lost")
        .hint("the shell has ended with it; open another one")
}

/// The same because of an error.
fn broken(error: ClientError) -> Failure {
    lost().because(&error)
}

fn show(ui: &mut Ui, told: Told) -> Result<Option<Exit>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failed, "cannot write what the shell says").because(&error)
    };
    match told {
        Told::Stdout(bytes) => ui.bytes(&bytes).map_err(failed)?,
        Told::Stderr(bytes) => ui.error_bytes(&bytes).map_err(failed)?,
        Told::Control(Control::Exit(code)) => {
            // A code that does not fit is still not 0.
            let code = u8::try_from(code).unwrap_or(u8::MAX);
            return Ok(Some(if code == 0 { Exit::Done } else { Exit::Command(code) }));
        }
        Told::Control(Control::Problem(problem)) => return Err((*problem).into()),
        Told::Control(Control::Resize(_)) | Told::Alive => {}
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Problem, ProblemKind};
    use crate::cli::ui::tests::door;
    use crate::cli::ui::{Format, Terminal};

    #[test]
    fn the_shells_bytes_are_shown_as_they_are_and_its_code_is_the_programs() {
        let (mut ui, out, err) = door(Format::Table, true, Terminal::default());
        assert_eq!(show(&mut ui, Told::Stdout(b"\x1b[1mo".to_vec())).unwrap(), None);
        assert_eq!(show(&mut ui, Told::Stderr(b"e".to_vec())).unwrap(), None);
        assert_eq!(show(&mut ui, Told::Alive).unwrap(), None);
        assert_eq!((out.text().as_str(), err.text().as_str()), ("\x1b[1mo", "e"));
        let mut code = |code| {
            let told = Told::Control(Control::Exit(code));
            show(&mut ui, told).unwrap().unwrap().code()
        };
        assert_eq!([code(0), code(42), code(256), code(-1)], [0, 42, 255, 255]);
        let problem = Problem::new(ProblemKind::Cancelled, "closed");
        let told = Told::Control(Control::Problem(Box::new(problem)));
        assert_eq!(show(&mut ui, told).unwrap_err().exit, Exit::Interrupted);
        assert_ne!(lost().exit, Exit::Done);
    }
}

//! `gantry serve`: the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use crate::config::{Config, Environment, Overrides, SAMPLE};
use crate::daemon::{self, DaemonError, Drained};

/// Serve: run the daemon until it is told to end
///
/// Prints one line `listening ADDRESS` for each address it answers at, then `ready`. Its
/// log goes to standard error; GANTRY_LOG filters it (`info`, `gantry=debug`), and
/// GANTRY_LOG_FORMAT=json makes it JSON.
///
/// SIGTERM or Ctrl-C: no new operation begins, those under way have the configured grace
/// to finish, then they are cancelled and undo. A second signal ends the grace.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry serve
  gantry serve --data-dir ./data --socket ./gantry.sock
  GANTRY_TOKEN=$(cat token) gantry serve --listen 127.0.0.1:0
  gantry serve --print-config > gantry.toml

Ends with 0 when every operation had finished, 130 when some were cancelled and
undone, 7 when some did not even undo in time; see `gantry help exit-codes`.")]
pub(crate) struct Serve {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of everything durable
    #[arg(long, value_name = "DIR", env = "GANTRY_DATA")]
    data_dir: Option<PathBuf>,
    /// The unix socket
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Listen on TCP too; needs a token
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Print a configuration with every key and its default, and end
    #[arg(long)]
    print_config: bool,
}

impl Serve {
    pub(crate) async fn run(self, own: Option<PathBuf>, ui: &mut Ui) -> Result<Exit, Failure> {
        if self.print_config {
            ui.bytes(SAMPLE.as_bytes()).map_err(|error| {
                Failure::new(Exit::Failed, "cannot write the configuration").because(&error)
            })?;
            return Ok(Exit::Done);
        }
        let overrides = Overrides {
            file: self.config,
            data: self.data_dir,
            socket: self.socket,
            listen: self.listen,
        };
        let failed = |error: &dyn std::error::Error, hint: Option<String>| {
            let mut failure = Failure::new(Exit::Failed, "cannot serve").because(error);
            failure.hint = hint;
            failure
        };
        let mut config = Config::load(&overrides, &Environment::of_process())
            .map_err(|error| failed(&error, error.hint()))?;
        config.compiler.program = own;
        let drained = daemon::serve(config, |line| ui.announce(line))
            .await
            .map_err(|error: DaemonError| failed(&error, error.hint()))?;
        let (exit, warning) = end(drained);
        if let Some(warning) = warning {
            ui.warning(&warning);
        }
        Ok(exit)
    }
}

/// How the program ends, and what to say of it.
fn end(drained: Drained) -> (Exit, Option<String>) {
    match (drained.cancelled, drained.left) {
        (_, left @ 1..) => (Exit::TimedOut, Some(format!("{left} operations did not end in time"))),
        (cancelled @ 1.., 0) => {
            (Exit::Interrupted, Some(format!("{cancelled} operations were cancelled")))
        }
        (0, 0) => (Exit::Done, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_what_became_of_the_operations() {
        for (cancelled, left, code) in [(0, 0, 0), (2, 0, 130), (2, 1, 7)] {
            let (exit, warning) = end(Drained { cancelled, left });
            assert_eq!((exit.code(), warning.is_some()), (code, code != 0));
        }
    }
}

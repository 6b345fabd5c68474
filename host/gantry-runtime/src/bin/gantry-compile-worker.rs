//! The process that compiles, for whoever embeds the runtime without a command line of their own. It reads a component from stdin and writes the artifact to stdout.

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    match gantry_runtime::compile::worker(io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

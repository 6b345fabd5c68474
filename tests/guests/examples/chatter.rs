//! Every verb talks without end.
//!
//! The key `through` says where: `log`, `progress`, `output` (the writer of `operation`), `stderr`, `stdout`; all of them in turn otherwise. `lines` is how many it writes before it is done; endless
//! when it is not set.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is what this guest is for")]

use gantry_guests::log::{self, Level};
use gantry_guests::types::Error;
use gantry_guests::{Guest, operation, setting};

struct Chatter;

impl Guest for Chatter {
    const NAME: &'static str = "chatter";

    fn every() -> Result<(), Error> {
        let through = setting("through").unwrap_or_default();
        let to = |name: &str| through.is_empty() || through == name;
        let lines = setting("lines").and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
        let output = operation::output();
        for line in 0..lines {
            let line = format!("line {line}\n");
            if to("log") {
                log::write(Level::Info, line.trim_end(), &[("of".into(), "chatter".into())]);
            }
            if to("progress") {
                operation::progress(&line);
            }
            if to("output") {
                output.write(line.as_bytes()).map_err(|error| Error::Other(error.to_string()))?;
            }
            if to("stderr") {
                eprint!("{line}");
            }
            if to("stdout") {
                print!("{line}");
            }
        }
        Ok(())
    }
}

gantry_guests::export!(Chatter: plugin, provisioner);

//! Every verb says `asleep` and sleeps for an hour in the clock of WASI, which is no host call of ours.

use std::time::Duration;

use gantry_guests::types::Error;
use gantry_guests::{Guest, operation};

struct Sleeper;

impl Guest for Sleeper {
    const NAME: &'static str = "sleeper";

    fn every() -> Result<(), Error> {
        operation::progress("asleep\n");
        std::thread::sleep(Duration::from_secs(3_600));
        Ok(())
    }
}

gantry_guests::export!(Sleeper: plugin, provisioner);

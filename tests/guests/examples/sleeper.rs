//! Every verb sleeps for an hour in the clock of WASI, which is no host call of ours.

use std::time::Duration;

use gantry_guests::Guest;
use gantry_guests::types::Error;

struct Sleeper;

impl Guest for Sleeper {
    const NAME: &'static str = "sleeper";

    fn every() -> Result<(), Error> {
        std::thread::sleep(Duration::from_secs(3_600));
        Ok(())
    }
}

gantry_guests::export!(Sleeper: plugin, provisioner);

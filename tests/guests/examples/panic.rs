//! Every verb panics: a message on stderr, then a trap.
#![expect(clippy::panic, reason = "it is what this guest is for")]

use gantry_guests::Guest;
use gantry_guests::types::Error;

struct Panic;

impl Guest for Panic {
    const NAME: &'static str = "panic";

    fn every() -> Result<(), Error> {
        panic!("the guest panics on purpose")
    }
}

gantry_guests::export!(Panic: plugin, provisioner);

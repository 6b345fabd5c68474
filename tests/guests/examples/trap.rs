//! Every verb is a trap: `unreachable`, without a word.

use gantry_guests::Guest;
use gantry_guests::types::Error;

struct Trap;

impl Guest for Trap {
    const NAME: &'static str = "trap";

    fn every() -> Result<(), Error> {
        gantry_guests::trap()
    }
}

gantry_guests::export!(Trap: plugin, provisioner);

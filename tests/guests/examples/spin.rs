//! Every verb computes for ever, without a host call.

use gantry_guests::Guest;
use gantry_guests::types::Error;

struct Spin;

impl Guest for Spin {
    const NAME: &'static str = "spin";

    fn every() -> Result<(), Error> {
        loop {
            std::hint::spin_loop();
        }
    }
}

gantry_guests::export!(Spin: plugin, provisioner);

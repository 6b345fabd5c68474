//! Every verb is done at once; there are no units.

use gantry_guests::Guest;

struct Noop;

impl Guest for Noop {
    const NAME: &'static str = "noop";
}

gantry_guests::export!(Noop: plugin, provisioner);

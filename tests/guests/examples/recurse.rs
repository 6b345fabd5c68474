//! Every verb calls itself without end.

use std::hint::black_box;

use gantry_guests::Guest;
use gantry_guests::types::Error;

struct Recurse;

impl Guest for Recurse {
    const NAME: &'static str = "recurse";

    fn every() -> Result<(), Error> {
        black_box(deeper(black_box(1)));
        Ok(())
    }
}

/// Two calls whose results are both needed, so that no compiler makes a loop of it.
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    if depth == 0 {
        return 1;
    }
    deeper(depth.wrapping_add(2)).rotate_left(1) ^ deeper(depth.wrapping_add(4))
}

gantry_guests::export!(Recurse: plugin, provisioner);

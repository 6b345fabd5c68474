//! Every verb takes memory, a mebibyte at a time and each byte of it written, until there is no more.

use std::hint::black_box;

use gantry_guests::Guest;
use gantry_guests::types::Error;

struct Memory;

impl Guest for Memory {
    const NAME: &'static str = "memory";

    fn every() -> Result<(), Error> {
        loop {
            black_box(vec![0xA5_u8; 1 << 20].leak());
        }
    }
}

gantry_guests::export!(Memory: plugin, provisioner);

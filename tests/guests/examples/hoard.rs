//! Every verb gives the host things to keep for it, a mebibyte each, and takes none of them back.
//!
//! The key `through` says what: `reader` (the default), `labels` (a set), `changed-labels` (one small set that is made big), `batch` (sequences that wait), or
//! `failures` (sequences that have failed, with much to say).

use std::mem::forget;

use gantry_guests::containers::{self, Step};
use gantry_guests::labels::LabelSet;
use gantry_guests::streams::Reader;
use gantry_guests::types::Error;
use gantry_guests::{Guest, operation, sequence, setting};

struct Hoard;

impl Guest for Hoard {
    const NAME: &'static str = "hoard";

    fn every() -> Result<(), Error> {
        let big = "x".repeat(1 << 20);
        match setting("through").as_deref() {
            Some("labels") => loop {
                forget(LabelSet::new(&[("big".to_owned(), big.clone())], ""));
            },
            Some("changed-labels") => loop {
                let set = LabelSet::new(&[], "");
                set.set_build_image(&big);
                forget(set);
            },
            Some("batch") => {
                let steps = vec![Step::Pause(600_000), Step::PullImage(big)];
                let batch = containers::submit(&[]);
                loop {
                    batch.add(&[sequence("node-1", steps.clone())]);
                }
            }
            Some("failures") => {
                let steps = vec![Step::PullImage(format!("no name {}", "x".repeat(20 << 10)))];
                let batch = containers::submit(&[]);
                loop {
                    batch.add(&[sequence("node-1", steps.clone())]);
                    // It fails meanwhile.
                    let _ = operation::pause(1);
                }
            }
            _ => loop {
                forget(Reader::from_bytes(big.as_bytes()));
            },
        }
    }
}

gantry_guests::export!(Hoard: plugin, provisioner);

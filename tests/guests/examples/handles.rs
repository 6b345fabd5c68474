//! Every verb opens handles without end and drops none.
//!
//! The key `handle` says which: `label-set` (the default), `reader`, `writer`, `client` or `batch`.

use std::mem::forget;

use gantry_guests::containers::{self, Client};
use gantry_guests::labels::LabelSet;
use gantry_guests::streams::Reader;
use gantry_guests::types::Error;
use gantry_guests::{Guest, first_node, operation, setting};

struct Handles;

impl Guest for Handles {
    const NAME: &'static str = "handles";

    fn every() -> Result<(), Error> {
        match setting("handle").as_deref() {
            Some("reader") => loop {
                forget(Reader::from_bytes(b"x"));
            },
            Some("writer") => loop {
                forget(operation::output());
            },
            Some("client") => {
                let node = first_node()?;
                loop {
                    forget(Client::open(&node)?);
                }
            }
            Some("batch") => loop {
                forget(containers::submit(&[]));
            },
            _ => loop {
                forget(LabelSet::new(&[], ""));
            },
        }
    }
}

gantry_guests::export!(Handles: plugin, provisioner);

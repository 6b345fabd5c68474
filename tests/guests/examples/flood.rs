//! Every verb makes host calls without end.
//!
//! The key `call` says which: `config` (the default), `labels` (a set made and dropped), `state` (a key that is not there), `nodes`, `denied` (a container that takes a right that nobody gave),
//! or `batch` (waiting sequences, more and more of them at the same time).

use gantry_guests::containers::{Client, CreateOptions, EngineError, Step};
use gantry_guests::labels::LabelSet;
use gantry_guests::types::Error;
use gantry_guests::{Guest, config, containers, first_node, sequence, setting, state};

struct Flood;

impl Guest for Flood {
    const NAME: &'static str = "flood";

    fn every() -> Result<(), Error> {
        match setting("call").as_deref() {
            Some("labels") => loop {
                drop(LabelSet::new(&[], ""));
            },
            Some("state") => loop {
                state::get("nothing")?;
            },
            Some("nodes") => loop {
                containers::nodes();
            },
            Some("denied") => {
                let client = Client::open(&first_node()?)?;
                let body = r#"{"HostConfig": {"Privileged": true}}"#.to_owned();
                let options = CreateOptions { name: String::new(), body };
                loop {
                    match client.create_container(&options) {
                        Err(EngineError::Denied(_)) => {}
                        answered => return Ok(answered.map(drop)?),
                    }
                }
            }
            Some("batch") => {
                let sequence = sequence(first_node()?, vec![Step::Pause(600_000)]);
                let sequences = vec![sequence; 16];
                let batch = containers::submit(&sequences);
                loop {
                    batch.add(&sequences);
                }
            }
            _ => loop {
                config::get("nothing");
            },
        }
    }
}

gantry_guests::export!(Flood: plugin, provisioner);

//! Every verb makes one host call that carries many bytes.
//!
//! The key `through` says which: `state` (the default), `progress`, `log`, `reader`, `writer`, `labels` (many small pairs) or `create` (the body of a container). `bytes` is how many; 32 MiB
//! when it is not set.

use gantry_guests::containers::{Client, CreateOptions};
use gantry_guests::labels::LabelSet;
use gantry_guests::log::{self, Level};
use gantry_guests::streams::Reader;
use gantry_guests::types::Error;
use gantry_guests::{Guest, first_node, operation, setting, state};

struct HugeCall;

impl Guest for HugeCall {
    const NAME: &'static str = "huge-call";

    fn every() -> Result<(), Error> {
        let bytes = setting("bytes").and_then(|text| text.parse().ok()).unwrap_or(32 << 20);
        match setting("through").as_deref() {
            Some("progress") => operation::progress(&"x".repeat(bytes)),
            Some("log") => log::write(Level::Info, &"x".repeat(bytes), &[]),
            Some("reader") => drop(Reader::from_bytes(&vec![0; bytes])),
            Some("writer") => operation::output()
                .write(&vec![b'x'; bytes])
                .map_err(|error| Error::Other(error.to_string()))?,
            Some("labels") => drop(LabelSet::new(&pairs(bytes), "")),
            Some("create") => {
                let body = format!("{{\"Image\":\"{}\"}}", "x".repeat(bytes));
                let options = CreateOptions { name: String::new(), body };
                Client::open(&first_node()?)?.create_container(&options)?;
            }
            _ => drop(state::put_if("huge", &vec![0; bytes], None)?),
        }
        Ok(())
    }
}

/// Pairs of 32 bytes each, lengths and addresses aside.
fn pairs(bytes: usize) -> Vec<(String, String)> {
    (0..bytes / 32).map(|count| (format!("{count:016}"), "v".repeat(16))).collect()
}

gantry_guests::export!(HugeCall: plugin, provisioner);

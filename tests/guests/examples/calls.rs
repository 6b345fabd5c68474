//! `add-units` makes as many host calls as it is asked for units: the benchmark of a host call. The process says which: `labels` (a question to a label set), `config`, or `nodes`.

use gantry_guests::labels::LabelSet;
use gantry_guests::types::{App, Error};
use gantry_guests::{Guest, config, containers};

struct Calls;

impl Guest for Calls {
    const NAME: &'static str = "calls";

    fn add_units(_: App, count: u32, process: String) -> Result<(), Error> {
        match process.as_str() {
            "labels" => {
                let labels = LabelSet::new(&[("app-name".to_owned(), "web".to_owned())], "");
                for _ in 0..count {
                    labels.app_name();
                }
            }
            "config" => (0..count).for_each(|_| drop(config::get("nothing"))),
            _ => (0..count).for_each(|_| drop(containers::nodes())),
        }
        Ok(())
    }
}

gantry_guests::export!(Calls: plugin, provisioner);

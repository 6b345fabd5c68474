//! Finds a unit ill of each app that the key `ill` names, in that order, whatever is the matter with it. A look makes a container `looking` and lasts until somebody else removes that. What it is to
//! replace is well again.

use gantry_guests::containers::{Client, CreateOptions, EngineError};
use gantry_guests::types::{App, Error};
use gantry_guests::{Findings, Guest, SickUnit, first_node, healing, pause, setting};

const LOOKING: &str = "looking";

struct Alarmist;

impl Guest for Alarmist {
    const NAME: &'static str = "alarmist";
}

impl healing::Guest for Alarmist {
    fn examine() -> Result<Findings, Error> {
        let client = Client::open(&first_node()?)?;
        let body = r#"{"Image": "plain:1"}"#.to_owned();
        client.create_container(&CreateOptions { name: LOOKING.to_owned(), body })?;
        while !matches!(client.inspect_container(LOOKING), Err(EngineError::NotFound(_))) {
            pause(10)?;
        }
        let ill = setting("ill").unwrap_or_default();
        let units = ill.split_whitespace().map(|app| SickUnit {
            app_name: app.to_owned(),
            id: format!("{app}-1"),
            reason: "it looks pale".to_owned(),
            node_given_up: false,
        });
        Ok(Findings { units: units.collect(), dead: Vec::new(), recovered: Vec::new() })
    }

    fn heal_unit(_app: App, _id: String) -> Result<Option<String>, Error> {
        Ok(None)
    }

    fn give_up_node(_address: String) -> Result<bool, Error> {
        Ok(false)
    }

    fn take_back_node(_address: String) -> Result<bool, Error> {
        Ok(false)
    }
}

gantry_guests::export!(Alarmist: plugin, provisioner, healing);

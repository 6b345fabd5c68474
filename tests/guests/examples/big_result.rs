//! `units` and `routable-addresses` return 32 MiB: 32768 units or addresses with a kibibyte each.

use gantry_guests::types::{App, Error, Unit};
use gantry_guests::{Guest, UnitPage};

struct BigResult;

const COUNT: usize = 32 << 10;

impl Guest for BigResult {
    const NAME: &'static str = "big-result";

    fn units(_apps: Vec<App>, _after: Option<String>) -> Result<UnitPage, Error> {
        let unit = Unit {
            id: long(),
            name: String::new(),
            app_name: String::new(),
            process_name: String::new(),
            type_: String::new(),
            ip: String::new(),
            status: None,
            address: None,
        };
        Ok(UnitPage { units: vec![unit; COUNT], next: None })
    }

    fn routable_addresses(_app: App) -> Result<Vec<String>, Error> {
        Ok(vec![long(); COUNT])
    }
}

fn long() -> String {
    "x".repeat(1 << 10)
}

gantry_guests::export!(BigResult: plugin, provisioner);

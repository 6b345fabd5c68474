//! `units` and `routable-addresses` return 32 MiB: 32768 units or addresses with a kibibyte each. With the key `pages`, `units` returns that many pages of a mebibyte.

use gantry_guests::types::{App, Error, Unit};
use gantry_guests::{Guest, UnitPage, setting};

struct BigResult;

const COUNT: usize = 32 << 10;

impl Guest for BigResult {
    const NAME: &'static str = "big-result";

    fn units(_apps: Vec<App>, after: Option<String>) -> Result<UnitPage, Error> {
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
        let Some(pages) = setting("pages").and_then(|pages| pages.parse::<u32>().ok()) else {
            return Ok(UnitPage { units: vec![unit; COUNT], next: None });
        };
        let page = after.and_then(|after| after.parse().ok()).unwrap_or(1_u32);
        let next = (page < pages).then(|| (page + 1).to_string());
        Ok(UnitPage { units: vec![unit; 1 << 10], next })
    }

    fn routable_addresses(_app: App) -> Result<Vec<String>, Error> {
        Ok(vec![long(); COUNT])
    }
}

fn long() -> String {
    "x".repeat(1 << 10)
}

gantry_guests::export!(BigResult: plugin, provisioner);

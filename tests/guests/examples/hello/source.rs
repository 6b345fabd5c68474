// The plugin in both colours. `add-units` waits in the host, so that a call can be under way during a swap and tell by what it does next which build it is in.

use gantry_guests::types::{App, Error};
use gantry_guests::{Description, Guest, lifecycle, operation, pause, setting};

struct Hello;

impl Guest for Hello {
    const NAME: &'static str = "hello";
    const VERSION: &'static str = VERSION;

    fn describe() -> Description {
        Description {
            name: Self::NAME.into(),
            version: VERSION.into(),
            summary: format!("says hello in {COLOUR}"),
            grants: Vec::new(),
            limits: Vec::new(),
        }
    }

    fn add_units(_app: App, _count: u32, _process: String) -> Result<(), Error> {
        let milliseconds = setting("pause").and_then(|text| text.parse().ok()).unwrap_or(0);
        operation::progress(&format!("{COLOUR} begins\n"));
        pause(milliseconds)?;
        operation::progress(&format!("{COLOUR} ends\n"));
        Ok(())
    }

    fn routable_addresses(app: App) -> Result<Vec<String>, Error> {
        Ok(vec![format!("http://{}.{COLOUR}", app.name)])
    }
}

impl lifecycle::Guest for Hello {
    fn initialise() -> Result<(), Error> {
        Ok(())
    }

    fn startup_message() -> Result<String, Error> {
        Ok(format!("hello in {COLOUR}"))
    }
}

gantry_guests::export!(Hello: plugin, provisioner, lifecycle);

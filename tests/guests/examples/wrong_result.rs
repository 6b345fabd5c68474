//! Exports a `provisioner` whose `units` gives names instead of a page of units; every other function has its right shape.
//!
//! The package is written out again here, since one function of it differs: what it says must stay as wit/types.wit and wit/provisioner.wit have it.
#![allow(missing_docs, unsafe_code, reason = "generated bindings")]

wit_bindgen::generate!({
    inline: r#"
        package gantry:provision@0.1.0;

        interface types {
            record app {
                name: string,
                platform: string,
                pool: string,
                team-owner: string,
                deploys: u32,
                memory: s64,
                swap: s64,
                cpu-share: s32,
                update-platform: bool,
            }

            enum status {
                created,
                building,
                error,
                starting,
                started,
                stopped,
                asleep,
            }

            record unit {
                id: string,
                name: string,
                app-name: string,
                process-name: string,
                %type: string,
                ip: string,
                status: option<status>,
                address: option<string>,
            }

            record env-var {
                name: string,
                value: string,
                public: bool,
            }

            record quota-excess {
                available: u32,
                requested: u32,
            }

            variant error {
                unit-not-found(string),
                node-not-found,
                empty-app,
                invalid-status,
                invalid-process(string),
                unit-startup(string),
                quota-exceeded(quota-excess),
                not-supported(string),
                not-found(string),
                conflict(string),
                invalid-argument(string),
                denied(string),
                unavailable(string),
                timed-out(string),
                cancelled,
                other(string),
            }
        }

        interface provisioner {
            use types.{app, error};

            provision: func(app: app) -> result<_, error>;
            destroy: func(app: app) -> result<_, error>;
            add-units: func(app: app, count: u32, process: string) -> result<_, error>;
            remove-units: func(app: app, count: u32, process: string) -> result<_, error>;
            restart: func(app: app, process: string) -> result<_, error>;
            start: func(app: app, process: string) -> result<_, error>;
            stop: func(app: app, process: string) -> result<_, error>;
            units: func(apps: list<app>, after: option<string>) -> result<list<string>, error>;
            routable-addresses: func(app: app) -> result<list<string>, error>;
            register-unit: func(app: app, unit-id: string, custom-data: option<string>) -> result<_, error>;
        }

        world wrong-result {
            export provisioner;
        }
    "#,
});

use exports::gantry::provision::provisioner::{App, Error, Guest};

struct WrongResult;

impl gantry_guests::Guest for WrongResult {
    const NAME: &'static str = "wrong-result";
}

impl Guest for WrongResult {
    fn provision(_app: App) -> Result<(), Error> {
        Ok(())
    }

    fn destroy(_app: App) -> Result<(), Error> {
        Ok(())
    }

    fn add_units(_app: App, _count: u32, _process: String) -> Result<(), Error> {
        Ok(())
    }

    fn remove_units(_app: App, _count: u32, _process: String) -> Result<(), Error> {
        Ok(())
    }

    fn restart(_app: App, _process: String) -> Result<(), Error> {
        Ok(())
    }

    fn start(_app: App, _process: String) -> Result<(), Error> {
        Ok(())
    }

    fn stop(_app: App, _process: String) -> Result<(), Error> {
        Ok(())
    }

    fn units(_apps: Vec<App>, _after: Option<String>) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn routable_addresses(_app: App) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn register_unit(_app: App, _unit: String, _custom_data: Option<String>) -> Result<(), Error> {
        Ok(())
    }
}

gantry_guests::export!(WrongResult: plugin);
#[cfg(target_family = "wasm")]
export!(WrongResult);

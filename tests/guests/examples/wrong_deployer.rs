//! Exports a `deployer` of another shape: its `deploy` takes the app's name and a number, and gives a number.
#![allow(missing_docs, unsafe_code, reason = "generated bindings")]

use gantry_guests::Guest;

wit_bindgen::generate!({
    inline: r#"
        package gantry:provision@0.1.0;

        interface deployer {
            deploy: func(app: string, version: u32) -> result<u32, string>;
        }

        world wrong-deployer {
            export deployer;
        }
    "#,
});

struct WrongDeployer;

impl Guest for WrongDeployer {
    const NAME: &'static str = "wrong-deployer";
}

impl exports::gantry::provision::deployer::Guest for WrongDeployer {
    fn deploy(_app: String, version: u32) -> Result<u32, String> {
        Ok(version)
    }
}

gantry_guests::export!(WrongDeployer: plugin, provisioner);
#[cfg(target_family = "wasm")]
export!(WrongDeployer);

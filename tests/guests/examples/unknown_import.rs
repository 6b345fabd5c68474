//! Imports an interface that no host offers, of our package and of our version.
#![allow(missing_docs, unsafe_code, reason = "generated bindings")]

use gantry_guests::Guest;
use gantry_guests::types::Error;

wit_bindgen::generate!({
    inline: r#"
        package gantry:provision@0.1.0;

        interface telepathy {
            think: func(of: string) -> string;
        }

        world unknown-import {
            import telepathy;
        }
    "#,
});

struct UnknownImport;

impl Guest for UnknownImport {
    const NAME: &'static str = "unknown-import";

    fn every() -> Result<(), Error> {
        Err(Error::Other(gantry::provision::telepathy::think("a number")))
    }
}

gantry_guests::export!(UnknownImport: plugin, provisioner);

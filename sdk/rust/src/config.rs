//! What the operator configured for this provisioner.

use gantry_core::Settings;
use serde_json::Value;

use crate::bindings::gantry::provision::config as imported;

/// The configuration, for the rules of `gantry_core` that read it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Config;

impl Settings for Config {
    fn get(&self, key: &str) -> Option<Value> {
        get(key)
    }
}

/// The value of a key; none when it is not set. A colon goes one table down.
#[must_use]
pub fn get(key: &str) -> Option<Value> {
    let text = imported::get(key)?;
    // A host that sends no JSON is broken; its text is still the best answer there is.
    Some(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

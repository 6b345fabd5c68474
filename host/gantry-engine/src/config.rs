//! What the operator configured for a provisioner.

use gantry_core::Settings;
use serde_json::Value;

/// The configuration of one provisioner: a tree of tables, addressed as the reference does it (`docker:healthcheck:max-time`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config(Value);

impl Config {
    /// A configuration of these tables.
    #[must_use]
    pub fn new(tables: Value) -> Self {
        Self(tables)
    }

    /// The value of a key, a colon going one table down; a table when the key stops short of a value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        key.split(':').try_fold(&self.0, |table, part| table.get(part))
    }
}

impl Settings for Config {
    fn get(&self, key: &str) -> Option<Value> {
        Self::get(self, key).cloned()
    }
}

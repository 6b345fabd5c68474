//! What the operator configured, as the rules read it: keys with colons between tables (`docker:run-cmd:port`) and JSON values.
//!
//! Owns how a value of the wrong type reads, which is the reference's way: it reads as if it were not there. Where values come from is the caller's business.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::go;

/// Answers for keys of the configuration. A closure from key to value is one; so is a JSON object of tables.
pub trait Settings {
    /// The value of a key, if it is set. A colon goes one table down.
    fn get(&self, key: &str) -> Option<Value>;

    /// The value as text if it is a string, and else the empty string.
    fn string(&self, key: &str) -> String {
        match self.get(key) {
            Some(Value::String(text)) => text,
            Some(
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Array(_)
                | Value::Object(_),
            )
            | None => String::new(),
        }
    }

    /// The value as text whatever its type; none when it is not set or null.
    fn text(&self, key: &str) -> Option<String> {
        self.get(key).filter(|value| !value.is_null()).map(|value| go::display(&value))
    }

    /// The value if it is a whole number or the text of one.
    fn integer(&self, key: &str) -> Option<i64> {
        match self.get(key)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => go::atoi(&text).ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Whether the value is `true`.
    fn flag(&self, key: &str) -> bool {
        self.get(key) == Some(Value::Bool(true))
    }

    /// The texts of a list; empty when it is not one.
    fn strings(&self, key: &str) -> Vec<String> {
        match self.get(key) {
            Some(Value::Array(items)) => items.iter().map(go::display).collect(),
            Some(
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Object(_),
            )
            | None => Vec::new(),
        }
    }

    /// The texts of a table; empty when it is not one.
    fn texts(&self, key: &str) -> BTreeMap<String, String> {
        match self.get(key) {
            Some(Value::Object(fields)) => {
                fields.iter().map(|(name, value)| (name.clone(), go::display(value))).collect()
            }
            Some(
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_),
            )
            | None => BTreeMap::new(),
        }
    }
}

impl<F: Fn(&str) -> Option<Value>> Settings for F {
    fn get(&self, key: &str) -> Option<Value> {
        self(key)
    }
}

impl Settings for Value {
    fn get(&self, key: &str) -> Option<Value> {
        key.split(':').try_fold(self, |table, part| Self::get(table, part)).cloned()
    }
}

/// Nothing is configured.
impl Settings for () {
    fn get(&self, _key: &str) -> Option<Value> {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_colon_goes_one_table_down() {
        let config = json!({"docker": {"run-cmd": {"port": 8989}, "user": "root"}, "host": "h"});
        assert_eq!(config.text("docker:run-cmd:port").as_deref(), Some("8989"));
        assert_eq!(config.string("docker:user"), "root");
        assert_eq!(config.string("host"), "h");
        assert_eq!(Settings::get(&config, "docker:run-cmd:bin"), None);
        assert_eq!(Settings::get(&config, "host:deeper"), None);
    }

    #[test]
    fn a_value_of_another_type_reads_as_absent() {
        let config =
            json!({"number": 5, "text": "+7", "yes": true, "list": ["a", 1], "null": null});
        assert_eq!(config.string("number"), "");
        assert_eq!(config.integer("number"), Some(5));
        assert_eq!(config.integer("text"), Some(7));
        assert_eq!(config.integer("yes"), None);
        assert!(config.flag("yes"));
        assert!(!config.flag("text"));
        assert_eq!(config.strings("list"), ["a", "1"]);
        assert!(config.strings("text").is_empty());
        assert_eq!(config.text("null"), None);
        assert_eq!(config.text("yes").as_deref(), Some("true"));
    }
}

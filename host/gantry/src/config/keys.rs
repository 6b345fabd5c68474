//! The keys that exist.

use std::path::Path;

use super::ConfigError;
use crate::near;

/// What may be under a key.
pub(super) enum Known {
    /// A value.
    Leaf,
    /// Whatever the plugin reads.
    Open,
    /// A table with these keys.
    Table(&'static [(&'static str, Self)]),
    /// A table whose keys are names, each with this under it.
    Named(&'static Self),
    /// A list of tables.
    List(&'static [(&'static str, Self)]),
}

use Known::{Leaf, List, Named, Open, Table};

/// All of them.
pub(super) const KEYS: &[(&str, Known)] = &[
    ("data", Leaf),
    ("instance", Leaf),
    ("default-pool", Leaf),
    ("default-router", Leaf),
    ("http", Table(&[("socket", Leaf), ("listen", Leaf), ("token-file", Leaf)])),
    ("operations", Table(&[("grace", Leaf), ("undo", Leaf)])),
    ("healing", Table(&[("every", Leaf), ("most", Leaf), ("per", Leaf)])),
    ("images", Table(&[("every", Leaf)])),
    ("builds", Table(&[("largest-source", Leaf)])),
    ("compiler", Table(&[("timeout", Leaf), ("memory", Leaf)])),
    ("runtime", Table(&[("stack", Leaf), ("calls", Leaf)])),
    (
        "docker",
        Table(&[
            ("hosts", List(&[("address", Leaf), ("tls", Leaf)])),
            (
                "registries",
                List(&[("address", Leaf), ("user", Leaf), ("password-file", Leaf), ("ca", Leaf)]),
            ),
        ]),
    ),
    ("pools", Named(&Table(&[("provisioner", Leaf)]))),
    ("routers", Named(&Table(&[("type", Leaf), ("domain", Leaf), ("healthcheck", Leaf)]))),
    ("volume-plans", Named(&Named(&Open))),
    ("provisioners", Named(&Table(&[("grants", Leaf), ("limits", Open), ("config", Open)]))),
];

/// Refuses the first key that nobody knows.
pub(super) fn check(path: &Path, table: &toml::Table) -> Result<(), ConfigError> {
    match stranger(table, KEYS, "") {
        None => Ok(()),
        Some((key, nearest)) => {
            Err(ConfigError::UnknownKey { path: path.to_owned(), key, nearest })
        }
    }
}

type Stranger = (String, Option<String>);

fn stranger(
    table: &toml::Table,
    keys: &'static [(&'static str, Known)],
    above: &str,
) -> Option<Stranger> {
    table.iter().find_map(|(key, value)| match keys.iter().find(|(name, _)| name == key) {
        Some((_, known)) => stranger_below(value, known, &format!("{above}{key}.")),
        None => {
            let nearest = near::nearest(key, keys.iter().map(|(name, _)| *name))
                .map(|near| format!("{above}{near}"));
            Some((format!("{above}{key}"), nearest))
        }
    })
}

fn stranger_below(value: &toml::Value, known: &'static Known, above: &str) -> Option<Stranger> {
    // A value of the wrong type is for whoever reads the types.
    match known {
        Leaf | Open => None,
        Table(keys) => value.as_table().and_then(|table| stranger(table, keys, above)),
        Named(below) => value
            .as_table()?
            .iter()
            .find_map(|(name, value)| stranger_below(value, below, &format!("{above}{name}."))),
        List(keys) => value
            .as_array()?
            .iter()
            .filter_map(toml::Value::as_table)
            .find_map(|table| stranger(table, keys, above)),
    }
}

/// Every key with its tables; `*` stands for a name.
#[cfg(test)]
pub(super) fn all(keys: &[(&str, Known)], above: &str) -> Vec<String> {
    fn below(known: &Known, path: String) -> Vec<String> {
        match known {
            Leaf | Open => vec![path],
            Table(keys) | List(keys) => all(keys, &format!("{path}.")),
            Named(known) => below(known, format!("{path}.*")),
        }
    }
    keys.iter().flat_map(|(key, known)| below(known, format!("{above}{key}"))).collect()
}

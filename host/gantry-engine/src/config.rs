//! What the operator configured for a provisioner.

use std::sync::{Arc, PoisonError, RwLock};

use gantry_core::Settings;
use serde_json::{Map, Value};

/// The configuration of one provisioner: a tree of tables, addressed as the reference does it (`docker:healthcheck:max-time`), and over it what people change while the daemon runs.
#[derive(Clone, Debug, Default)]
pub struct Config {
    tables: Value,
    changing: Changing,
}

impl Config {
    /// A configuration of these tables.
    #[must_use]
    pub fn new(tables: Value) -> Self {
        Self { tables, changing: Changing::default() }
    }

    /// The same under tables that may change: whoever reads a key gets what they say by then.
    #[must_use]
    pub fn under(self, changing: &Changing) -> Self {
        Self { changing: changing.clone(), ..self }
    }

    /// The value of a key, a colon going one table down; a table when the key stops short of a value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value> {
        let of = |tables: &Value| {
            key.split(':').try_fold(tables, |table, part| table.get(part)).cloned()
        };
        let (configured, changed) = (of(&self.tables), of(&self.changing.tables()));
        match (configured, changed) {
            (Some(mut value), Some(changed)) => {
                merge(&mut value, &changed);
                Some(value)
            }
            (value, changed) => changed.or(value),
        }
    }
}

impl Settings for Config {
    fn get(&self, key: &str) -> Option<Value> {
        Self::get(self, key)
    }
}

/// Tables that change while they are read, shared by all that were made of it.
#[derive(Clone, Debug, Default)]
// A std lock: held for a look or a change of one pointer, never across an await.
pub struct Changing(Arc<RwLock<Arc<Value>>>);

impl Changing {
    /// Puts these tables in the place of those of before.
    pub fn set(&self, tables: Value) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tables);
    }

    fn tables(&self) -> Arc<Value> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes of a value what a merge patch says (RFC 7386): tables are merged, null takes away, anything else takes the place of what was there.
pub fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        value.clone_from(patch);
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(map) = value else { return };
    for (key, patch) in fields {
        if patch.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), patch);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_people_change_is_over_what_is_configured_at_once() {
        let changing = Changing::default();
        let config = Config::new(json!({"agents": {"a": {"image": "1", "env": ["x"]}}, "n": 1}))
            .under(&changing);
        let image = || config.get("agents:a:image");
        assert_eq!(image(), Some(json!("1")));
        changing.set(json!({"agents": {"a": {"image": "2"}, "b": {"image": "3"}}}));
        assert_eq!(image(), Some(json!("2")));
        let merged = json!({"a": {"image": "2", "env": ["x"]}, "b": {"image": "3"}});
        assert_eq!(config.get("agents"), Some(merged));
        assert_eq!((config.get("n"), config.get("m")), (Some(json!(1)), None));
        changing.set(Value::Null);
        assert_eq!(image(), Some(json!("1")));
    }

    #[test]
    fn a_merge_patch_is_that_of_its_standard() {
        // The examples of RFC 7386, appendix A, that differ in kind.
        for (value, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = value;
            merge(&mut merged, &patch);
            assert_eq!(merged, result, "{patch}");
        }
    }
}

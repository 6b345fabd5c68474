//! The files an image carries for the platform: `tsuru.yaml` and `Procfile` (spec 3.4, 5.13).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

use crate::image::{Healthcheck, Hooks, RestartHooks};

/// The folders of an image that are looked into for these files, first to last.
pub const FOLDERS: [&str; 3] = ["/home/application/current", "/app/user", "/"];

/// The names of the Procfile.
pub const PROCFILE_NAMES: [&str; 1] = ["Procfile"];

/// The names of `tsuru.yaml`, first to last.
pub const YAML_NAMES: [&str; 4] = ["tsuru.yaml", "tsuru.yml", "app.yaml", "app.yml"];

/// A line of a Procfile that declares a process.
static PROCFILE_LINE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^([A-Za-z0-9_-]+):\s*(.+)$").ok());

/// What `tsuru.yaml` says. Sections that are not ours are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TsuruYaml {
    /// Commands around the life of units.
    pub hooks: Hooks,
    /// How a new unit shows that it works.
    pub healthcheck: Healthcheck,
}

/// `tsuru.yaml` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid tsuru.yaml: {reason}")]
pub struct YamlError {
    /// What is wrong, and where.
    pub reason: String,
}

/// What a router is told about health checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterHealthcheck {
    /// The path it asks for.
    pub path: String,
    /// The status it expects; 0 for any good one.
    pub status: i32,
    /// What it looks for in the body; nothing when empty.
    pub body: String,
}

impl TsuruYaml {
    /// Reads the file's text. An empty file says nothing.
    ///
    /// # Errors
    ///
    /// A text that is no YAML, or a field of another type than it should have.
    pub fn from_yaml(text: &str) -> Result<Self, YamlError> {
        // As the reference's reader has it: the last of two keys with one name counts.
        let options = serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::LastWins,
            with_snippet: false,
        };
        let document: Option<Document> = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| YamlError { reason: error.to_string() })?;
        Ok(document.unwrap_or_default().into())
    }

    /// Reads the same from JSON, with the names of fields in any case, as the reference's decoder takes them.
    pub(crate) fn from_json(value: &Value) -> Result<Self, String> {
        let ours = |name: &str| ["hooks", "healthcheck"].contains(&name);
        let document: Document = serde_json::from_value(in_lower_case(value, &ours))
            .map_err(|error| error.to_string())?;
        Ok(document.into())
    }
}

impl Healthcheck {
    /// What a router is told. One that does not use the check asks for `/`.
    ///
    /// Differs from the reference on purpose (design 10.10): a check for routers without a path asks for `/` too.
    #[must_use]
    pub fn to_router(&self) -> RouterHealthcheck {
        if !self.use_in_router {
            return RouterHealthcheck { path: "/".to_owned(), status: 0, body: String::new() };
        }
        let path = if self.path.is_empty() { "/" } else { self.path.as_str() };
        RouterHealthcheck {
            path: path.to_owned(),
            status: self.status,
            body: self.router_body.clone(),
        }
    }
}

/// The processes that a Procfile declares, each with its command as one shell line. Other lines are ignored; the last of two with one name counts. As in the reference, a
/// name followed by nothing but spaces declares a process with an empty command.
#[must_use]
pub fn parse_procfile(text: &str) -> BTreeMap<String, Vec<String>> {
    let Some(regex) = PROCFILE_LINE.as_ref() else { return BTreeMap::new() };
    text.split('\n')
        .filter_map(|line| {
            let [name, command] = regex.captures(line)?.extract().1;
            Some((name.to_owned(), vec![command.trim().to_owned()]))
        })
        .collect()
}

/// The fields of an object in lower case, an exact name before others; what is null is left out. Whole numbers lose their fraction of zero.
fn in_lower_case(value: &Value, wanted: &dyn Fn(&str) -> bool) -> Value {
    match value {
        Value::Object(fields) => {
            let lower = fields
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), name, value))
                .filter(|(lower, _, value)| wanted(lower) && !value.is_null());
            let mut result = serde_json::Map::new();
            for (lower, name, value) in lower {
                if *name == lower || !result.contains_key(&lower) {
                    result.insert(lower, in_lower_case(value, &|_| true));
                }
            }
            Value::Object(result)
        }
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| in_lower_case(item, &|_| true)).collect())
        }
        Value::Number(number) => whole(number).map_or_else(|| value.clone(), Value::from),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

/// A float without a fraction, as the whole number it is.
#[expect(clippy::cast_possible_truncation, reason = "within the range that a float counts exactly")]
fn whole(number: &serde_json::Number) -> Option<i64> {
    let float = number.as_f64().filter(|_| number.is_f64())?;
    (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
}

/// The file as it is written: every part may be missing or empty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    hooks: Option<HooksDocument>,
    healthcheck: Option<HealthcheckDocument>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HooksDocument {
    restart: Option<RestartDocument>,
    build: Option<Vec<Option<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RestartDocument {
    before: Option<Vec<Option<String>>>,
    after: Option<Vec<Option<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HealthcheckDocument {
    path: Option<String>,
    method: Option<String>,
    status: Option<i32>,
    scheme: Option<String>,
    #[serde(rename = "match")]
    pattern: Option<String>,
    router_body: Option<String>,
    use_in_router: Option<bool>,
    allowed_failures: Option<i32>,
}

impl From<Document> for TsuruYaml {
    fn from(document: Document) -> Self {
        let hooks = document.hooks.unwrap_or_default();
        let restart = hooks.restart.unwrap_or_default();
        let check = document.healthcheck.unwrap_or_default();
        Self {
            hooks: Hooks {
                restart: RestartHooks {
                    before: commands(restart.before),
                    after: commands(restart.after),
                },
                build: commands(hooks.build),
            },
            healthcheck: Healthcheck {
                path: check.path.unwrap_or_default(),
                method: check.method.unwrap_or_default(),
                status: check.status.unwrap_or_default(),
                scheme: check.scheme.unwrap_or_default(),
                pattern: check.pattern.unwrap_or_default(),
                router_body: check.router_body.unwrap_or_default(),
                use_in_router: check.use_in_router.unwrap_or_default(),
                allowed_failures: check.allowed_failures.unwrap_or_default(),
            },
        }
    }
}

fn commands(list: Option<Vec<Option<String>>>) -> Vec<String> {
    list.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> TsuruYaml {
        TsuruYaml::from_yaml(text).unwrap()
    }

    #[test]
    fn a_whole_file_is_read() {
        let yaml = read(
            "hooks:\n  restart:\n    before: [b1, 'b 2']\n    after:\n      - a1\n  build:\n    - make\n\
             healthcheck:\n  path: /hc\n  method: post\n  status: 201\n  scheme: https\n  match: .*ok\n  \
             router_body: WORKING\n  use_in_router: true\n  allowed_failures: 3\nkubernetes: {groups: 1}\n",
        );
        assert_eq!(yaml.hooks.restart.before, ["b1", "b 2"]);
        assert_eq!(yaml.hooks.restart.after, ["a1"]);
        assert_eq!(yaml.hooks.build, ["make"]);
        let check = yaml.healthcheck;
        assert_eq!((&*check.path, &*check.method, check.status), ("/hc", "post", 201));
        assert_eq!((&*check.scheme, &*check.pattern), ("https", ".*ok"));
        assert_eq!((&*check.router_body, check.allowed_failures), ("WORKING", 3));
        assert!(check.use_in_router);
    }

    #[test]
    fn what_is_missing_or_empty_says_nothing() {
        for text in ["", "\n", "# nothing\n", "---\n", "hooks:\nhealthcheck:\n", "null", "other: 1"]
        {
            assert_eq!(read(text), TsuruYaml::default(), "{text:?}");
        }
        assert_eq!(read("hooks: {restart: {before: }, build: null}"), TsuruYaml::default());
        assert_eq!(read("healthcheck: {path: null, status: null}"), TsuruYaml::default());
    }

    #[test]
    fn what_is_no_yaml_or_of_another_type_is_refused() {
        for text in [
            "hooks: [",
            "healthcheck: {status: good}",
            "healthcheck: 5",
            "hooks: {build: {a: b}}",
            "- a",
            "a: 1\n---\nb: 2\n",
        ] {
            let error = TsuruYaml::from_yaml(text).unwrap_err().to_string();
            assert!(error.starts_with("invalid tsuru.yaml: "), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn words_and_numbers_are_read_as_people_write_them() {
        let text = "healthcheck: {use_in_router: yes, path: 5, status: '200', path: /last}";
        let check = read(text).healthcheck;
        assert!(check.use_in_router);
        assert_eq!((&*check.path, check.status), ("/last", 200));
    }

    #[test]
    fn a_file_that_unfolds_without_end_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(9);
            bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        assert!(TsuruYaml::from_yaml(&bomb).is_err());
    }

    #[test]
    fn a_procfile_declares_a_process_a_line() {
        let processes = parse_procfile(
            "web: a b\r\nworker:c\n # no\nweb2 : no\nw\u{e9}b: no\nempty:\nempty2: \nweb: last  ",
        );
        let expected = [("empty2", ""), ("web", "last"), ("worker", "c")];
        let expected = expected.map(|(name, line)| (name.to_owned(), vec![line.to_owned()]));
        assert_eq!(processes, BTreeMap::from(expected));
    }

    #[test]
    fn json_may_spell_its_fields_in_any_case() {
        let json = serde_json::json!({
            "Hooks": {"Restart": {"BEFORE": ["b"], "before": ["exact"]}},
            "HealthCheck": {"Path": "/", "Router_Body": "x", "status": 200.0, "match": null},
            "processes": {"Web": "kept out"},
        });
        let yaml = TsuruYaml::from_json(&json).unwrap();
        assert_eq!(yaml.hooks.restart.before, ["exact"]);
        assert_eq!((&*yaml.healthcheck.path, yaml.healthcheck.status), ("/", 200));
        assert_eq!(yaml.healthcheck.router_body, "x");
        assert!(TsuruYaml::from_json(&serde_json::json!({"healthcheck": {"path": 1}})).is_err());
    }
}

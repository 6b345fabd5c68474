//! Reads a file of vectors, runs its cases and says how many ran.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::Value;

/// What became of a case that did not fail.
pub(crate) enum Ran {
    /// We gave what the reference gave.
    AsTheReference,
    /// We gave what we document instead, under this number of the design's section 10.
    Excused(u8),
}

/// Runs every case of a file of `tests/vectors`, prints how many, and fails when one did, after all have run.
pub(crate) fn walk(file: &str, run: impl Fn(&Value) -> Ran) {
    // Asked when it runs: a build cache may be shared by checkouts.
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    let path = Path::new(&package).join("../../tests/vectors").join(file);
    let text = std::fs::read_to_string(path.with_extension("json")).expect("the file is there");
    let document: Value = serde_json::from_str(&text).expect("the file is JSON");
    let cases = document["cases"].as_array().expect("the file has cases");
    assert!(!cases.is_empty(), "{file} has no case");
    let mut excused: BTreeMap<u8, usize> = BTreeMap::new();
    let mut failed = Vec::new();
    let mut ran = 0;
    for (index, case) in cases.iter().enumerate() {
        match catch_unwind(AssertUnwindSafe(|| run(case))) {
            Ok(Ran::AsTheReference) => {}
            Ok(Ran::Excused(section)) => *excused.entry(section).or_default() += 1,
            Err(_) => failed.push(format!("case {index}: {case}")),
        }
        ran += 1;
    }
    let sections: Vec<String> =
        excused.iter().map(|(section, count)| format!("design §10.{section}: {count}")).collect();
    let sections = if sections.is_empty() { "none".to_owned() } else { sections.join(", ") };
    let total: usize = excused.values().sum();
    // Written past the test harness, which keeps what a passing test prints.
    let _ = writeln!(
        std::io::stdout(),
        "{file}: ran {ran} of {} cases, {total} excused ({sections})",
        cases.len()
    );
    assert_eq!(ran, cases.len());
    assert!(failed.is_empty(), "{} cases of {file} failed:\n{}", failed.len(), failed.join("\n"));
}

/// The text of a field; empty when it is null or missing.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// The texts of a list; empty when it is null or missing.
pub(crate) fn texts(value: &Value, field: &str) -> Vec<String> {
    let items = value[field].as_array().into_iter().flatten();
    items.map(|item| item.as_str().expect("a text").to_owned()).collect()
}

/// The texts of an object; empty when it is null or missing.
pub(crate) fn map(value: &Value, field: &str) -> BTreeMap<String, String> {
    let fields = value[field].as_object().into_iter().flatten();
    fields.map(|(key, value)| (key.clone(), value.as_str().expect("a text").to_owned())).collect()
}

/// The flat configuration of a case: keys with colons, null for what is not set.
pub(crate) fn settings(config: &Value) -> impl Fn(&str) -> Option<Value> {
    move |key: &str| config.get(key).filter(|value| !value.is_null()).cloned()
}

/// The error a case expects.
pub(crate) fn error(case: &Value) -> Option<&str> {
    case.get("error").and_then(Value::as_str)
}

//! How the cluster asks whether a web process works (spec 7.3).

use gantry_sdk::image::Healthcheck;
use gantry_sdk::{Error, Result};
use serde_json::{Value, json};

use crate::object::without_nulls;

/// The probe for a health check of `tsuru.yaml`, as readiness and as liveness probe; none without a path. The cluster only looks at the status, and takes any good one: `status`,
/// `match` and `use_in_router` say nothing here.
///
/// # Errors
///
/// A method that the cluster does not have: it knows `GET` only.
pub fn probe(check: &Healthcheck, port: i64) -> Result<Option<Value>> {
    if check.path.is_empty() {
        return Ok(None);
    }
    if !check.method.is_empty() && !check.method.eq_ignore_ascii_case("GET") {
        let text = "healthcheck: only GET method is supported in kubernetes provisioner";
        return Err(Error::InvalidArgument(text.to_owned()));
    }
    let scheme = if check.scheme.is_empty() { "http" } else { &check.scheme };
    // The cluster's own default applies when nothing is forgiven.
    let failures = Some(check.allowed_failures).filter(|failures| *failures != 0);
    Ok(Some(without_nulls(json!({
        "failureThreshold": failures,
        "httpGet": {"path": check.path, "port": port, "scheme": scheme.to_uppercase()},
    }))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, method: &str, scheme: &str) -> Healthcheck {
        let [path, method, scheme] = [path, method, scheme].map(str::to_owned);
        Healthcheck { path, method, scheme, ..Healthcheck::default() }
    }

    #[test]
    fn without_a_path_nothing_is_asked_whatever_the_method() {
        assert_eq!(probe(&check("", "POST", "https"), 1), Ok(None));
    }

    #[test]
    fn only_get_is_known_in_any_case() {
        for method in ["", "get", "GET", "Get"] {
            assert!(probe(&check("/", method, ""), 1).unwrap().is_some(), "{method}");
        }
        for method in ["POST", "head", " GET"] {
            assert!(probe(&check("/", method, ""), 1).is_err(), "{method}");
        }
    }

    #[test]
    fn the_path_is_taken_as_it_is_and_the_scheme_in_capitals() {
        let made = probe(&check("a?b=c", "", "hTTps"), 80).unwrap().unwrap();
        let expected = json!({"httpGet": {"path": "a?b=c", "port": 80, "scheme": "HTTPS"}});
        assert_eq!(made, expected);
    }
}

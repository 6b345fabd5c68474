//! What a service answers: read without trusting any of it.

use serde_json::Value;

use super::super::apps::is_variable;
use crate::store::Variables;

/// How much of a refusal is told.
const EXCERPT: usize = 300;

/// What a refusal has in place of our credentials.
const HIDDEN: &str = "***";

/// The variables in the answer to a bind: a JSON object of texts. Numbers and truth values are taken as their text; an empty answer and `null` have none.
///
/// # Errors
/// What is wrong with it, without any value of it: they are credentials.
pub(super) fn variables(body: &[u8]) -> Result<Variables, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Variables::default());
    }
    let object = match serde_json::from_slice(body) {
        Ok(Value::Null) => return Ok(Variables::default()),
        Ok(Value::Object(object)) => object,
        Ok(_) => return Err("with JSON that is no object of variables".to_owned()),
        Err(_) => return Err("with something that is not JSON".to_owned()),
    };
    let variable = |(name, value): (String, Value)| {
        if !is_variable(&name) {
            return Err(format!("with `{name}`, which is no name of a variable"));
        }
        let value = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(is) => is.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(format!("with a variable `{name}` that is no text"));
            }
        };
        if value.contains('\0') {
            return Err(format!("with a variable `{name}` that no process can have"));
        }
        Ok((name, value))
    };
    object.into_iter().map(variable).collect::<Result<_, _>>().map(Variables)
}

/// The beginning of what a service says of its refusal, on one line and without what we showed it.
pub(super) fn excerpt(body: &[u8], secrets: &[&str]) -> String {
    let mut text = String::from_utf8_lossy(body).into_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, HIDDEN);
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut letters = text.chars();
    let begin: String = letters.by_ref().take(EXCERPT).collect();
    if letters.next().is_some() { begin + "…" } else { begin }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_texts_under_names() {
        let read = |text: &str| variables(text.as_bytes());
        let some = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            Ok(Variables(pairs.collect()))
        };
        for none in ["", " \n", "null", "{}"] {
            assert_eq!(read(none), some(&[]), "{none:?}");
        }
        let read_back = read(r#"{"B": "x y", "A_1": 3306, "C": true, "D": ""}"#);
        assert_eq!(read_back, some(&[("A_1", "3306"), ("B", "x y"), ("C", "true"), ("D", "")]));
    }

    #[test]
    fn what_is_wrong_with_variables_is_told_without_a_value() {
        for (body, wrong) in [
            ("<html>hush</html>", "with something that is not JSON"),
            (r#"{"A": "hush""#, "with something that is not JSON"),
            (r#"["hush"]"#, "with JSON that is no object of variables"),
            (r#""hush""#, "with JSON that is no object of variables"),
            (r#"{"A": ["hush"]}"#, "with a variable `A` that is no text"),
            (r#"{"A": {"hush": 1}}"#, "with a variable `A` that is no text"),
            (r#"{"A": null}"#, "with a variable `A` that is no text"),
            (r#"{"A B": "hush"}"#, "with `A B`, which is no name of a variable"),
            (r#"{"": "hush"}"#, "with ``, which is no name of a variable"),
            (r#"{"A": "hush\u0000"}"#, "with a variable `A` that no process can have"),
        ] {
            assert_eq!(variables(body.as_bytes()).unwrap_err(), wrong, "{body}");
        }
        assert!(variables(b"\xff\xfe").is_err());
    }

    #[test]
    fn a_refusal_is_short_on_one_line_and_without_our_password() {
        let secrets = ["s3cr3t", "ZGI6czNjcjN0", ""];
        let told = |body: &str| excerpt(body.as_bytes(), &secrets);
        assert_eq!(told("no:\r\n  s3cr3t is wrong\n"), "no: *** is wrong");
        assert_eq!(told("Basic ZGI6czNjcjN0"), "Basic ***");
        assert_eq!(told(""), "");
        let long = told(&"é".repeat(1000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (EXCERPT + 1, true));
        // What is cut is cut after it was hidden.
        let at_the_end = told(&format!("{}s3cr3t", "x".repeat(EXCERPT - 3)));
        assert!(!at_the_end.contains("s3c"), "{at_the_end}");
        assert_eq!(excerpt(b"\xff", &secrets), "\u{fffd}");
    }
}

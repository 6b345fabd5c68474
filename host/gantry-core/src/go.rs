//! How the reference's language writes and reads values, where that shows: in messages, in labels, in JSON texts.
//!
//! Crate-private but for [`quote`]; the words of provisioning live elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::LazyLock;

use regex::Regex;
use serde::Serialize;
use serde_json::Value;

/// Go's `strconv.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
static PRINTABLE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$").ok());

/// Quotes a text as Go's `%q` does.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{07}' => quoted.push_str("\\a"),
            '\u{08}' => quoted.push_str("\\b"),
            '\u{0c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{0b}' => quoted.push_str("\\v"),
            _ if is_printable(letter) => quoted.push(letter),
            _ => {
                let code = u32::from(letter);
                // Writing to a string cannot fail.
                let _ = match code {
                    0..=0x1f | 0x7f => write!(quoted, "\\x{code:02x}"),
                    0x20..=0xffff => write!(quoted, "\\u{code:04x}"),
                    _ => write!(quoted, "\\U{code:08x}"),
                };
            }
        }
    }
    quoted.push('"');
    quoted
}

fn is_printable(letter: char) -> bool {
    if letter.is_ascii() {
        return letter == ' ' || letter.is_ascii_graphic();
    }
    PRINTABLE.as_ref().is_some_and(|regex| regex.is_match(letter.encode_utf8(&mut [0; 4])))
}

/// A number out of Go's `int`, with the nearest one that is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtoiError {
    /// Not a number.
    Syntax,
    /// A number, but out of range; the nearest is given.
    Range(i64),
}

/// Go's `strconv.Atoi`: an optional sign and decimal digits, nothing else.
pub(crate) fn atoi(text: &str) -> Result<i64, AtoiError> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let nearest = AtoiError::Range(if negative { i64::MIN } else { i64::MAX });
    let mut value = Err(AtoiError::Syntax);
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(AtoiError::Syntax);
        }
        // A number too big even without its sign is out of range, whatever follows.
        let bigger = value.unwrap_or(0_u64).checked_mul(10);
        let bigger = bigger.and_then(|value| value.checked_add(u64::from(digit - b'0')));
        value = Ok(bigger.ok_or(nearest)?);
    }
    let value = i128::from(value?);
    i64::try_from(if negative { -value } else { value }).map_err(|_| nearest)
}

/// What the reference gets from `strconv.Atoi` when it ignores the error: 0 for what is not a number, the nearest for what is out of range.
pub(crate) fn atoi_or_zero(text: &str) -> i64 {
    match atoi(text) {
        Ok(value) | Err(AtoiError::Range(value)) => value,
        Err(AtoiError::Syntax) => 0,
    }
}

/// Go's `strconv.ParseBool`, with false for what it refuses.
pub(crate) fn parse_bool(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

/// A map as Go's `%v` prints it, sorted by key.
pub(crate) fn display_map(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("map[{}]", pairs.join(" "))
}

/// A JSON value as Go's `%v` prints what its decoder makes of it.
pub(crate) fn display(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => display_number(number),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(display).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.clone(), display(value))).collect();
            display_map(&fields)
        }
    }
}

/// Whole numbers in full, others as Go's `%v` prints a float64: the shortest digits, with an exponent below 1e-4 and from a million on.
fn display_number(number: &serde_json::Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let magnitude = float.abs();
    if magnitude != 0.0 && !(1e-4..1e6).contains(&magnitude) {
        let text = format!("{float:e}");
        let Some((digits, exponent)) = text.split_once('e') else { return text };
        return match exponent.strip_prefix('-') {
            Some(exponent) => format!("{digits}e-{exponent:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        };
    }
    float.to_string()
}

/// JSON as Go's encoder writes it: no spaces, and `<`, `>`, `&` and the two line separators escaped.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut json, GoFormatter);
    // Writing records of texts into memory cannot fail.
    let _ = value.serialize(&mut serializer);
    String::from_utf8(json).unwrap_or_default()
}

struct GoFormatter;

impl serde_json::ser::Formatter for GoFormatter {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, after) = rest.split_at(at);
            let mut letters = after.chars();
            let code = letters.next().map_or(0, u32::from);
            write!(writer, "{plain}\\u{code:04x}")?;
            rest = letters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quoting_is_gos() {
        for (text, quoted) in [
            ("", r#""""#),
            ("a\"b\\c'd`", r#""a\"b\\c'd`""#),
            ("\u{7}\u{8}\u{c}\n\r\t\u{b}", r#""\a\b\f\n\r\t\v""#),
            ("\0\u{1f}\u{7f}", r#""\x00\x1f\x7f""#),
            ("é漢😀\u{301}", "\"é漢😀\u{301}\""),
            ("\u{80}\u{85}\u{a0}\u{ad}", r#""\u0080\u0085\u00a0\u00ad""#),
            ("\u{200b}\u{2028}\u{3000}\u{feff}\u{e000}", r#""\u200b\u2028\u3000\ufeff\ue000""#),
            ("\u{fffd}", "\"\u{fffd}\""),
            ("\u{e0001}\u{10ffff}", r#""\U000e0001\U0010ffff""#),
            ("<&>", r#""<&>""#),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, number) in [
            ("0", 0),
            ("+5", 5),
            ("-12", -12),
            ("-0", 0),
            ("00012", 12),
            ("9223372036854775807", i64::MAX),
            ("9223372036854775808", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("-99999999999999999999999", i64::MIN),
            ("99999999999999999999x", i64::MAX),
            ("9223372036854775808x", 0),
            ("", 0),
            ("+", 0),
            ("--1", 0),
            (" 1", 0),
            ("1_000", 0),
            ("0x10", 0),
            ("1.5", 0),
            ("７", 0),
        ] {
            assert_eq!(atoi_or_zero(text), number, "{text:?}");
        }
        assert_eq!(atoi("9223372036854775808"), Err(AtoiError::Range(i64::MAX)));
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert!(parse_bool(text), "{text:?}");
        }
        for text in ["", "0", "f", "false", "yes", "on", " true", "tRUE", "TrUe", "2"] {
            assert!(!parse_bool(text), "{text:?}");
        }
    }

    #[test]
    fn values_show_as_go_shows_them() {
        for (value, shown) in [
            (json!(8888), "8888"),
            (json!(-1), "-1"),
            (json!(8080.5), "8080.5"),
            (json!(8080.0), "8080"),
            (json!(1e6), "1e+06"),
            (json!(0.00001), "1e-05"),
            (json!("9090"), "9090"),
            (json!(""), ""),
            (json!(true), "true"),
            (json!([1, "a", []]), "[1 a []]"),
            (json!({"b": 1, "a": {"c": null}}), "map[a:map[c:<nil>] b:1]"),
        ] {
            assert_eq!(display(&value), shown);
        }
    }

    #[test]
    fn json_is_escaped_as_go_escapes_it() {
        let text = "<&>\u{2028}\u{2029}\u{8}\u{c}\n\u{1}\u{7f}é\"\\/";
        let json =
            r#""\u003c\u0026\u003e\u2028\u2029\b\f\n\u0001"#.to_owned() + "\u{7f}é\\\"\\\\/\"";
        assert_eq!(to_json(&text), json);
        assert_eq!(to_json(&json!({"<": [">"]})), r#"{"\u003c":["\u003e"]}"#);
    }
}

//! Which objects a selection means: the grammars of label and field selectors (`k8s.io/apimachinery/pkg/labels`, `fields`).

use serde_json::Value;

use super::kinds::selectable;
use super::rules::{label_key, label_value};
use crate::EngineError;
use crate::call::cluster::{Kind, Selection};
use crate::cluster::Result;

/// A selection that was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    namespace: String,
    labels: Vec<(String, Test)>,
    /// A field, what it must be, and whether it must be that or must not.
    fields: Vec<(String, String, bool)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

impl Selector {
    /// Reads a selection for a kind.
    pub(super) fn of(kind: &Kind, selection: &Selection) -> Result<Self> {
        Ok(Self {
            namespace: selection.namespace.clone(),
            labels: labels(&selection.labels)?,
            fields: fields(kind, &selection.fields)?,
        })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let metadata = object.get("metadata");
        let word = |key: &str| metadata.and_then(|of| of.get(key)).and_then(Value::as_str);
        let label =
            |key: &str| metadata.and_then(|of| of.get("labels")?.get(key)).and_then(Value::as_str);
        (self.namespace.is_empty() || word("namespace") == Some(self.namespace.as_str()))
            && self.labels.iter().all(|(key, test)| test.holds(label(key)))
            && self
                .fields
                .iter()
                .all(|(field, value, wanted)| (of_field(object, field) == *value) == *wanted)
    }
}

impl Test {
    fn holds(&self, label: Option<&str>) -> bool {
        let number = || label.and_then(|label| label.parse::<i64>().ok());
        match self {
            Self::Exists => label.is_some(),
            Self::Absent => label.is_none(),
            Self::In(values) => label.is_some_and(|label| values.iter().any(|is| is == label)),
            Self::NotIn(values) => label.is_none_or(|label| values.iter().all(|is| is != label)),
            Self::Above(bound) => number().is_some_and(|number| number > *bound),
            Self::Below(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// Whether labels are those that a `LabelSelector` of an object wants; an empty one wants none.
pub(super) fn wanted_by(selector: &Value, labels: &Value) -> bool {
    let has = |key: &str| labels.get(key).and_then(Value::as_str);
    let exact = selector.get("matchLabels").and_then(Value::as_object);
    let exact = exact.is_none_or(|wanted| {
        wanted.iter().all(|(key, value)| has(key).map(Value::from).as_ref() == Some(value))
    });
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    exact
        && expressions.into_iter().flatten().all(|expression| {
            let key = expression.get("key").and_then(Value::as_str).unwrap_or_default();
            let values = expression.get("values").and_then(Value::as_array);
            let values: Vec<String> = values
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(ToOwned::to_owned)
                .collect();
            let test = match expression.get("operator").and_then(Value::as_str) {
                Some("In") => Test::In(values),
                Some("NotIn") => Test::NotIn(values),
                Some("DoesNotExist") => Test::Absent,
                Some(_) | None => Test::Exists,
            };
            test.holds(has(key))
        })
}

// ---- labels

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Mark(&'static str),
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let marks = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
        let (token, length) =
            if let Some(mark) = marks.into_iter().find(|mark| rest.starts_with(mark)) {
                (Token::Mark(mark), mark.len())
            } else {
                let ends = |letter: char| letter.is_whitespace() || "=!(),<>".contains(letter);
                let length = rest.find(ends).unwrap_or(rest.len()).max(first.len_utf8());
                (Token::Word(rest.get(..length).unwrap_or_default().to_owned()), length)
            };
        tokens.push(token);
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    tokens
}

fn labels(text: &str) -> Result<Vec<(String, Test)>> {
    let wrong = |why: &str| {
        EngineError::Invalid(format!("unable to parse the label selector `{text}`: {why}"))
    };
    let mut found = Vec::new();
    let mut tokens = tokens(text).into_iter().peekable();
    while tokens.peek().is_some() {
        let absent = tokens.next_if_eq(&Token::Mark("!")).is_some();
        let Some(Token::Word(key)) = tokens.next() else { return Err(wrong("expected a key")) };
        label_key(&key).map_err(|why| wrong(&why))?;
        let test = match (absent, tokens.peek().cloned()) {
            (true, _) => Test::Absent,
            (false, None | Some(Token::Mark(","))) => Test::Exists,
            (false, Some(operator)) => {
                tokens.next();
                match operator {
                    Token::Word(word) if word == "in" || word == "notin" => {
                        if tokens.next() != Some(Token::Mark("(")) {
                            return Err(wrong("expected `(`"));
                        }
                        let mut values = vec![String::new()];
                        loop {
                            match tokens.next() {
                                Some(Token::Word(value)) => {
                                    if let Some(last) = values.last_mut() {
                                        *last = value;
                                    }
                                }
                                Some(Token::Mark(",")) => values.push(String::new()),
                                Some(Token::Mark(")")) => break,
                                Some(Token::Mark(_)) | None => return Err(wrong("expected `)`")),
                            }
                        }
                        if word == "in" { Test::In(values) } else { Test::NotIn(values) }
                    }
                    Token::Mark(mark) if !"(),!".contains(mark) => {
                        let value = match tokens.peek() {
                            Some(Token::Word(value)) => value.clone(),
                            Some(Token::Mark(_)) | None => String::new(),
                        };
                        tokens.next_if(|token| matches!(token, Token::Word(_)));
                        let bound =
                            || value.parse().map_err(|_| wrong("`<` and `>` need a number"));
                        match mark {
                            "!=" => Test::NotIn(vec![value]),
                            ">" => Test::Above(bound()?),
                            "<" => Test::Below(bound()?),
                            _ => Test::In(vec![value]),
                        }
                    }
                    Token::Mark(other) => return Err(wrong(&format!("found `{other}`"))),
                    Token::Word(other) => return Err(wrong(&format!("found `{other}`"))),
                }
            }
        };
        if let Test::In(values) | Test::NotIn(values) = &test {
            for value in values {
                label_value(value).map_err(|why| wrong(&why))?;
            }
        }
        found.push((key, test));
        match tokens.next() {
            None => {}
            Some(Token::Mark(",")) if tokens.peek().is_some() => {}
            Some(_) => return Err(wrong("expected `,` and another requirement")),
        }
    }
    Ok(found)
}

// ---- fields

fn fields(kind: &Kind, text: &str) -> Result<Vec<(String, String, bool)>> {
    let mut found = Vec::new();
    for term in text.split(',').filter(|term| !term.trim().is_empty()) {
        let split = ["!=", "==", "="]
            .into_iter()
            .find_map(|operator| Some((term.split_once(operator)?, operator != "!=")));
        let Some(((field, value), wanted)) = split else {
            return Err(EngineError::Invalid(format!(
                "invalid field selector `{text}`: can't understand `{term}`"
            )));
        };
        let known = ["metadata.name", "metadata.namespace"];
        if !known.contains(&field) && !selectable(kind).contains(&field) {
            return Err(EngineError::Invalid(format!(
                "field label not supported for {kind}: `{field}`"
            )));
        }
        found.push((field.to_owned(), value.to_owned(), wanted));
    }
    Ok(found)
}

/// What a field selector sees of an object.
fn of_field(object: &Value, field: &str) -> String {
    let field = if field == "source" { "source.component" } else { field };
    let value = field.split('.').try_fold(object, |value, name| value.get(name));
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(_) | Value::Number(_)) => {
            value.map(ToString::to_string).unwrap_or_default()
        }
        // As the zero values of Go are written.
        None | Some(Value::Null | Value::Array(_) | Value::Object(_)) => match field {
            "spec.unschedulable" | "spec.hostNetwork" => "false".to_owned(),
            "status.replicas" | "status.successful" => "0".to_owned(),
            _ => String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Kind {
        Kind::new("v1", "Pod")
    }

    fn selected(labels: &str, fields: &str) -> Result<bool> {
        let selection = Selection {
            labels: labels.to_owned(),
            fields: fields.to_owned(),
            ..Selection::default()
        };
        let object = json!({
            "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web", "tier": "", "acme.io/n": "7"}},
            "spec": {"nodeName": "n1"}, "status": {"phase": "Running"},
        });
        Ok(Selector::of(&pod(), &selection)?.matches(&object))
    }

    #[test]
    fn label_selectors_have_the_whole_grammar() {
        for (labels, wanted) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("! app", false),
            ("gone", false),
            ("!gone", true),
            ("app=web", true),
            ("app==web", true),
            (" app = web ", true),
            ("app=api", false),
            ("app!=web", false),
            ("app!=api", true),
            ("gone!=web", true),
            ("gone=", false),
            ("tier=", true),
            ("tier", true),
            ("app in (web)", true),
            ("app in (api, web)", true),
            ("app in (api)", false),
            ("app notin (api,job)", true),
            ("app notin (web)", false),
            ("gone notin (web)", true),
            ("tier in ()", true),
            ("app,!gone,tier=,app in (a,web)", true),
            ("app,gone", false),
            ("acme.io/n>6", true),
            ("acme.io/n<6", false),
            ("app>1", false),
        ] {
            assert_eq!(selected(labels, ""), Ok(wanted), "{labels}");
        }
        for wrong in [
            ",",
            "app,",
            "=web",
            "app in web",
            "app in (web",
            "app web",
            "a b c",
            "/x=1",
            "app=web=1",
            "app=-",
            "app>x",
            "!",
        ] {
            assert!(matches!(selected(wrong, ""), Err(EngineError::Invalid(_))), "{wrong}");
        }
    }

    #[test]
    fn field_selectors_see_the_fields_of_their_kind() {
        for (fields, wanted) in [
            ("metadata.name=web", true),
            ("metadata.name!=web", false),
            ("metadata.namespace==shop,status.phase=Running", true),
            ("spec.nodeName=n2", false),
            ("spec.nodeName!=", true),
            ("status.podIP=", true),
        ] {
            assert_eq!(selected("", fields), Ok(wanted), "{fields}");
        }
        for wrong in ["spec.replicas=1", "web", "spec.unschedulable=true"] {
            assert!(matches!(selected("", wrong), Err(EngineError::Invalid(_))), "{wrong}");
        }
    }

    #[test]
    fn selectors_in_objects_want_labels() {
        let labels = json!({"app": "web"});
        for (selector, wanted) in [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "api"}}), false),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
                false,
            ),
            (json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}), true),
            (json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]}), false),
        ] {
            assert_eq!(wanted_by(&selector, &labels), wanted, "{selector}");
        }
    }
}

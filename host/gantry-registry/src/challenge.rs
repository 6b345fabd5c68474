//! How a registry wants to be told who asks: the `WWW-Authenticate` header (RFC 9110, 11.6.1).

use std::iter::Peekable;
use std::str::Chars;

/// One way that a registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// `Basic`, `Bearer` or another.
    pub(crate) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Whether it is this scheme.
    pub(crate) fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// A parameter; names have no case.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let mut all = self.parameters.iter();
        all.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The ways that a header offers, in their order. What cannot be read ends the list.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut offered: Vec<Challenge> = Vec::new();
    let mut rest = header.chars().peekable();
    loop {
        skip(&mut rest, |letter| letter.is_ascii_whitespace() || letter == ',');
        let word = token(&mut rest);
        if word.is_empty() {
            return offered;
        }
        skip(&mut rest, |letter| letter.is_ascii_whitespace());
        if rest.next_if_eq(&'=').is_none() {
            offered.push(Challenge { scheme: word, parameters: Vec::new() });
            continue;
        }
        skip(&mut rest, |letter| letter.is_ascii_whitespace());
        let value =
            if rest.next_if_eq(&'"').is_some() { quoted(&mut rest) } else { token(&mut rest) };
        match offered.last_mut() {
            Some(challenge) => challenge.parameters.push((word, value)),
            None => return offered,
        }
    }
}

fn skip(rest: &mut Peekable<Chars<'_>>, skipped: impl Fn(char) -> bool) {
    while rest.next_if(|letter| skipped(*letter)).is_some() {}
}

fn token(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut word = String::new();
    let is_part = |letter: &char| !letter.is_ascii_whitespace() && !",=\"".contains(*letter);
    while let Some(letter) = rest.next_if(is_part) {
        word.push(letter);
    }
    word
}

fn quoted(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut value = String::new();
    while let Some(letter) = rest.next().filter(|letter| *letter != '"') {
        value.push(if letter == '\\' { rest.next().unwrap_or(letter) } else { letter });
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(header: &str) -> Vec<String> {
        let one = |challenge: &Challenge| {
            let parameters = challenge.parameters.iter();
            let parameters: Vec<_> =
                parameters.map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {}", challenge.scheme, parameters.join(";"))
        };
        parse(header).iter().map(one).collect()
    }

    #[test]
    fn a_header_is_read_as_registries_write_it() {
        for (header, ways) in [
            ("", vec![]),
            ("Basic realm=\"tests\"", vec!["Basic realm=tests"]),
            ("basic", vec!["basic "]),
            (
                "Bearer realm=\"https://auth.example/token\",service=\"reg.example\",scope=\"repository:a/b:pull,push\"",
                vec![
                    "Bearer realm=https://auth.example/token;service=reg.example;scope=repository:a/b:pull,push",
                ],
            ),
            (
                "Bearer realm = \"x\" , service=y, Basic realm=\"a \\\"b\\\" c\"",
                vec!["Bearer realm=x;service=y", "Basic realm=a \"b\" c"],
            ),
            ("Negotiate, Basic realm=\"x\"", vec!["Negotiate ", "Basic realm=x"]),
            ("realm=\"x\"", vec![]),
            ("Bearer realm=\"x", vec!["Bearer realm=x"]),
            ("Bearer realm=\"x\\", vec!["Bearer realm=x\\"]),
            ("Bearer =", vec![]),
        ] {
            assert_eq!(shown(header), ways, "{header}");
        }
        let bearer = &parse("bEaReR ReAlM=\"x\"")[0];
        assert!(bearer.is("Bearer") && bearer.parameter("realm") == Some("x"));
        assert_eq!(bearer.parameter("service"), None);
    }
}

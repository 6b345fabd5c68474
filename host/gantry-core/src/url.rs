//! URLs the way the reference reads them (Go's `net/url`), for unit addresses and for finding the host in whatever names a node.
//!
//! Only reading: nothing here builds a URL or follows one.

use std::net::Ipv6Addr;

use serde::Serialize;

/// Why a text is not a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid URL {}: {reason}", crate::quote(.text))]
pub struct UrlError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A URL in its parts. Serialised it is the structural form of the reference's `url.URL`, fields in that order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Url {
    /// The scheme, in lower case.
    pub scheme: String,
    /// What follows a scheme without slashes.
    pub opaque: String,
    /// Whether there is a user; the names are not kept.
    pub user: Option<UserInfo>,
    /// Host or host:port.
    pub host: String,
    /// The path, decoded.
    pub path: String,
    /// The path as it was written, where encoding the decoded one gives another text.
    pub raw_path: String,
    /// A `?` with nothing after it.
    pub force_query: bool,
    /// The query as it was written.
    pub raw_query: String,
    /// The fragment, decoded.
    pub fragment: String,
}

/// A user in a URL. Its names are private and so is what they serialise to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UserInfo {}

/// Which part a text belongs to: each has its own letters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    User,
    Host,
    Zone,
    Fragment,
}

type Parsed<T> = Result<T, &'static str>;

impl Url {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// What Go's `url.Parse` refuses.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        Self::parse_parts(text).map_err(|reason| UrlError { text: text.to_owned(), reason })
    }

    /// The host without its port and the port, both empty unless there are both. Brackets are taken off.
    #[must_use]
    pub fn host_and_port(&self) -> (&str, &str) {
        split_host_port(&self.host).unwrap_or_default()
    }

    fn parse_parts(text: &str) -> Parsed<Self> {
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err("invalid control character");
        }
        let mut url = Self { fragment: decode(fragment, Part::Fragment)?, ..Self::default() };
        if text == "*" {
            "*".clone_into(&mut url.path);
            return Ok(url);
        }
        let (scheme, rest) = split_scheme(text)?;
        url.scheme = scheme.to_ascii_lowercase();
        let rest = match rest.strip_suffix('?').filter(|before| !before.contains('?')) {
            Some(before) => {
                url.force_query = true;
                before
            }
            None => {
                let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
                query.clone_into(&mut url.raw_query);
                rest
            }
        };
        if !rest.starts_with('/') {
            if !url.scheme.is_empty() {
                rest.clone_into(&mut url.opaque);
                return Ok(url);
            }
            if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
                return Err("first path segment contains a colon");
            }
        }
        let authority = rest
            .strip_prefix("//")
            .filter(|after| !url.scheme.is_empty() || !after.starts_with('/'));
        let path = match authority {
            Some(after) => {
                let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
                url.set_authority(authority)?;
                path
            }
            None => rest,
        };
        url.set_path(path)?;
        Ok(url)
    }

    fn set_authority(&mut self, authority: &str) -> Parsed<()> {
        let host = match authority.rsplit_once('@') {
            None => authority,
            Some((user, host)) => {
                if !user.bytes().all(is_user_letter) {
                    return Err("invalid user");
                }
                decode(user, Part::User)?;
                self.user = Some(UserInfo {});
                host
            }
        };
        self.host = read_host(host)?;
        Ok(())
    }

    fn set_path(&mut self, path: &str) -> Parsed<()> {
        let decoded = decode_bytes(path, Part::Path)?;
        if encode_path(&decoded) != path {
            path.clone_into(&mut self.raw_path);
        }
        self.path = to_text(&decoded);
        Ok(())
    }
}

/// The host in whatever names a node: the host of a URL, or else the text itself; without its port, if it has one.
#[must_use]
pub fn url_to_host(text: &str) -> String {
    let host = Url::parse(text).map(|url| url.host).unwrap_or_default();
    let host = if host.is_empty() { text } else { host.as_str() };
    split_host_port(host).map_or(host, |(host, _)| host).to_owned()
}

/// Go's `net.SplitHostPort`: `host:port` or `[host]:port`; none for anything else.
#[must_use]
pub fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (before, port) = text.rsplit_once(':')?;
    let host = match before.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if before.contains(':') => return None,
        None => before,
    };
    let no_brackets = |text: &str| !text.contains(['[', ']']);
    (no_brackets(host) && no_brackets(port)).then_some((host, port))
}

fn split_scheme(text: &str) -> Parsed<(&str, &str)> {
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if position > 0 => {}
            b':' if position == 0 => return Err("missing scheme"),
            b':' => return Ok(text.split_once(':').unwrap_or(("", text))),
            _ => break,
        }
    }
    Ok(("", text))
}

fn read_host(host: &str) -> Parsed<String> {
    match host.rfind('[') {
        None => {
            if let Some((_, port)) = host.rsplit_once(':')
                && !is_port(port)
            {
                return Err("invalid port");
            }
            decode(host, Part::Host)
        }
        Some(0) => read_bracketed_host(host),
        Some(_) => Err("a bracket inside the host"),
    }
}

fn read_bracketed_host(host: &str) -> Parsed<String> {
    let (inner, port) = host
        .strip_prefix('[')
        .and_then(|after| after.rsplit_once(']'))
        .ok_or("missing `]` in host")?;
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return Err("invalid port");
    }
    let (address, zone) = inner.split_at(inner.find("%25").unwrap_or(inner.len()));
    let (address, zone) = (decode(address, Part::Host)?, decode(zone, Part::Zone)?);
    if address.parse::<Ipv6Addr>().is_err() || zone == "%" {
        return Err("no IPv6 address between the brackets");
    }
    Ok(format!("[{address}{zone}]{port}"))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_user_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte)
}

/// Whether a byte may stand in a host as it is. Bytes of letters beyond ASCII may.
fn is_host_letter(byte: u8) -> bool {
    byte >= 0x80 || byte.is_ascii_alphanumeric() || b"!$&'()*+,;=:[]<>\"-_.~".contains(&byte)
}

fn decode(text: &str, part: Part) -> Parsed<String> {
    decode_bytes(text, part).map(|bytes| to_text(&bytes))
}

fn decode_bytes(text: &str, part: Part) -> Parsed<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return Ok(decoded),
            [b'%', high, low, after @ ..] => {
                let byte = hex(*high, *low).ok_or("invalid escape")?;
                let refused = match part {
                    // A host is encoded beyond ASCII only; the percent sign before a zone excepted.
                    Part::Host => byte < 0x80 && byte != b'%',
                    Part::Zone => byte != b'%' && byte != b' ' && !is_host_letter(byte),
                    Part::Path | Part::User | Part::Fragment => false,
                };
                if refused {
                    return Err("invalid escape");
                }
                decoded.push(byte);
                after
            }
            [b'%', ..] => return Err("invalid escape"),
            [byte, after @ ..] => {
                if matches!(part, Part::Host | Part::Zone) && !is_host_letter(*byte) {
                    return Err("invalid character in host");
                }
                decoded.push(*byte);
                after
            }
        };
    }
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

fn encode_path(path: &[u8]) -> String {
    path.iter()
        .map(|&byte| {
            let plain = byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte);
            if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
        })
        .collect()
}

/// Bytes as Go's JSON encoder shows them: each one that is not UTF-8 becomes a replacement character of its own.
fn to_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_url_comes_apart_as_in_go() {
        let url = parsed("HTTP://us%40er:p%2Fw@Host.x:80/a%2fb/%E9%BC%93?q=%20&r#f%20g");
        assert_eq!((&*url.scheme, &*url.host, &*url.path), ("http", "Host.x:80", "/a/b/鼓"));
        assert_eq!((&*url.raw_path, &*url.raw_query), ("/a%2fb/%E9%BC%93", "q=%20&r"));
        assert_eq!((&*url.fragment, url.user), ("f g", Some(UserInfo {})));
        assert_eq!(parsed("http://h/é").raw_path, "/é");
        assert_eq!(parsed("http://h/%C3%A9").raw_path, "");
        assert_eq!(parsed("http://h/%ff%fe").path, "/\u{fffd}\u{fffd}");
        assert_eq!(parsed("mailto:a@b?c").opaque, "a@b");
        assert_eq!(parsed("*").path, "*");
        assert_eq!(parsed("//h/p").host, "h");
        assert_eq!((&*parsed("///p").host, &*parsed("///p").path), ("", "///p"));
        assert_eq!(parsed("http:///p").path, "/p");
        assert!(parsed("http://h?").force_query);
        assert!(!parsed("http://h??").force_query);
        assert_eq!(parsed("http://h??").raw_query, "?");
        assert_eq!(parsed("http://[fe80::1%25eth0]:8/").host, "[fe80::1%eth0]:8");
        assert_eq!(parsed("http://h%C3%A9").host, "hé");
        assert_eq!(parsed(""), Url::default());
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            ":x",
            "1:2",
            "a\u{7f}b",
            "http://h:x",
            "http://h:8x/",
            "http://[::1",
            "http://[::1]x",
            "http://[h]",
            "http://a[::1]",
            "http://h h",
            "http://h%41",
            "http://us er@h",
            "http://h/%",
            "http://h/%zz",
            "http://h#%zz",
            "http://[::1%25]",
            "http://h^",
        ] {
            assert!(Url::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_host_is_found_in_whatever_names_a_node() {
        for (text, host) in [
            ("", ""),
            ("addr1", "addr1"),
            ("addr1:1", "addr1"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:4243", "10.0.0.1"),
            ("http://10.0.0.1:4243", "10.0.0.1"),
            ("https://user:pw@h:1/path?q#f", "h"),
            ("http://h", "h"),
            ("http://[::1]:80", "::1"),
            ("http://[::1]", "[::1]"),
            ("[::1]:80", "::1"),
            ("::1", "::1"),
            ("unix:///var/run/docker.sock", "unix"),
            ("http://", "http"),
            ("http://:80", ""),
            ("h:x:y", "h:x:y"),
        ] {
            assert_eq!(url_to_host(text), host, "{text:?}");
        }
    }

    #[test]
    fn host_and_port_come_together_or_not_at_all() {
        for (text, split) in [
            ("h:1", Some(("h", "1"))),
            (":1", Some(("", "1"))),
            ("h:", Some(("h", ""))),
            ("[::1]:1", Some(("::1", "1"))),
            ("h", None),
            ("", None),
            ("::1", None),
            ("[::1]", None),
            ("[::1]x:1", None),
            ("[h:1", None),
            ("h]:1", None),
            ("h:1]", None),
        ] {
            assert_eq!(split_host_port(text), split, "{text:?}");
        }
    }
}

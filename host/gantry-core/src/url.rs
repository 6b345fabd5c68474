//! URLs the way the reference reads them (Go's `net/url`), for unit addresses and for finding the host in whatever names a node.
//!
//! Only reading: nothing here builds a URL or follows one.

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
    let Some(end) = host.starts_with('[').then(|| host.rfind(']')) else {
        if let Some((_, port)) = host.rsplit_once(':')
            && !is_port(port)
        {
            return Err("invalid port");
        }
        return decode(host, Part::Host);
    };
    let (address, after) = host.split_at(end.ok_or("missing `]`")?);
    let port = after.strip_prefix(']').unwrap_or(after);
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return Err("invalid port");
    }
    match address.find("%25") {
        None => decode(host, Part::Host),
        Some(zone) => {
            let (address, zone) = address.split_at(zone);
            let parts = [
                decode(address, Part::Host)?,
                decode(zone, Part::Zone)?,
                decode(after, Part::Host)?,
            ];
            Ok(parts.concat())
        }
    }
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

//! One question to a registry: who asks is said when it wants to know, where it points to is followed, and what broke is tried again.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::time::Duration;

use base64::Engine as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Method, Request, Response, StatusCode, Uri};
use ureq::{Body, SendBody};

use super::{LONGEST_MANIFEST, Repository};
use crate::challenge;
use crate::error::{Error, Result};

/// Of an answer that is not what was asked for, this much is read.
const LONGEST_REFUSAL: u64 = 64 << 10;

/// A registry may point to another place, and that again.
const REDIRECTS: u32 = 5;

/// How often a registry is asked that breaks the connection, or that is ill.
const TRIES: u32 = 3;

/// The pause before the second try; before the third it is twice as long.
const PAUSE: Duration = Duration::from_millis(200);

/// What is sent along.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    None,
    Bytes(&'a str, &'a [u8]),
    File(&'a File, u64),
}

/// One question.
pub(super) struct Ask<'a> {
    /// What it is for, as in `refuses to ...`.
    pub(super) what: String,
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) accept: &'a str,
    pub(super) payload: Payload<'a>,
}

/// An answer that is not what was asked for.
pub(super) struct Said {
    pub(super) status: StatusCode,
    document: Value,
}

impl Said {
    pub(super) fn read(mut answer: Response<Body>) -> Self {
        let status = answer.status();
        let mut bytes = Vec::new();
        let body = answer.body_mut().as_reader();
        // What it says is a comfort only.
        let _cut = body.take(LONGEST_REFUSAL).read_to_end(&mut bytes);
        Self { status, document: serde_json::from_slice(&bytes).unwrap_or_default() }
    }

    /// Of its first error.
    pub(super) fn word(&self, key: &str) -> Option<&str> {
        self.document.pointer("/errors/0")?.get(key)?.as_str()
    }
}

impl Repository<'_> {
    pub(super) fn refuses(&self, what: impl Into<String>) -> Error {
        Error::Refused { registry: self.registry.to_owned(), what: what.into() }
    }

    pub(super) fn breaks(&self, reason: impl std::fmt::Display) -> Error {
        Error::Unreachable { registry: self.registry.to_owned(), reason: reason.to_string() }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base, self.name)
    }

    /// Asks, says who asks when the registry wants to know, and follows where it points to.
    pub(super) fn ask(&self, ask: &Ask<'_>) -> Result<Response<Body>> {
        let (mut url, mut redirects, mut introduced) = (ask.url.clone(), 0, false);
        loop {
            let ours = same_origin(&self.base, &url);
            let pass = self.pass.borrow().clone().filter(|_| ours);
            let answer = self.send(ask, &url, pass.as_deref())?;
            let status = answer.status();
            if status == StatusCode::UNAUTHORIZED && ours && !introduced {
                introduced = true;
                self.introduce(&answer)?;
            } else if status.is_redirection() && [Method::GET, Method::HEAD].contains(&ask.method) {
                redirects = u32::saturating_add(redirects, 1);
                if redirects > REDIRECTS {
                    return Err(self.refuses(format!("points from place to place to {}", ask.what)));
                }
                url = self.place(&url, &answer)?;
            } else {
                return Ok(answer);
            }
        }
    }

    fn send(&self, ask: &Ask<'_>, url: &str, pass: Option<&str>) -> Result<Response<Body>> {
        let mut request = Request::builder().method(ask.method.clone()).uri(url);
        if !ask.accept.is_empty() {
            request = request.header("accept", ask.accept);
        }
        if let Some(pass) = pass {
            request = request.header("authorization", pass);
        }
        let odd = |error: &dyn std::fmt::Display| {
            self.refuses(format!("gives an address that is none: {error}"))
        };
        let sent = match ask.payload {
            Payload::None if [Method::POST, Method::PUT].contains(&ask.method) => {
                let request = request.body(b"".as_slice()).map_err(|error| odd(&error))?;
                self.agent.run(request)
            }
            Payload::None => {
                let request = request.body(()).map_err(|error| odd(&error))?;
                self.agent.run(request)
            }
            Payload::Bytes(kind, bytes) => {
                let request = request.header("content-type", kind).body(bytes);
                self.agent.run(request.map_err(|error| odd(&error))?)
            }
            Payload::File(file, size) => {
                let mut file = file;
                file.rewind()
                    .map_err(|source| Error::Io { what: "cannot read what was made", source })?;
                let request = request
                    .header("content-type", "application/octet-stream")
                    .header("content-length", size)
                    .body(SendBody::from_reader(&mut file));
                self.agent.run(request.map_err(|error| odd(&error))?)
            }
        };
        sent.map_err(|error| self.breaks(error))
    }

    /// Where an answer points to.
    pub(super) fn place(&self, from: &str, answer: &Response<Body>) -> Result<String> {
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        self.at(from, location.ok_or_else(|| self.refuses("points nowhere"))?)
    }

    /// An address as it is written in an answer of another one.
    pub(super) fn at(&self, from: &str, location: &str) -> Result<String> {
        let from = from.parse::<Uri>().ok();
        let origin = from.as_ref().and_then(|from| Some((from.scheme_str()?, from.authority()?)));
        let Some((scheme, host)) = origin else { return Err(self.refuses("points nowhere")) };
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok(format!("{scheme}://{host}{location}"));
        }
        // What was asked for in secret is not fetched in the open.
        let open = scheme == "http" && location.starts_with("http://");
        if location.starts_with("https://") || open {
            return Ok(location.to_owned());
        }
        Err(self.refuses(format!("points to `{location}`, which is not safe")))
    }

    /// Finds out what the registry wants to be told, and keeps it.
    fn introduce(&self, answer: &Response<Body>) -> Result<()> {
        let headers = answer.headers().get_all("www-authenticate").iter();
        let offered: Vec<_> =
            headers.filter_map(|value| value.to_str().ok()).flat_map(challenge::parse).collect();
        let basic = self.account.map(|account| {
            let both = format!("{}:{}", account.user, account.password);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(both))
        });
        let pass = if let Some(bearer) = offered.iter().find(|way| way.is("Bearer")) {
            self.token(bearer, basic.as_deref())?
        } else if offered.iter().any(|way| way.is("Basic")) {
            basic
                .ok_or_else(|| self.refuses("asks for a password, and none is configured for it"))?
        } else {
            return Err(self.refuses("does not say how it wants to be told who asks"));
        };
        *self.pass.borrow_mut() = Some(pass);
        Ok(())
    }

    /// Fetches a token (Docker's token authentication specification).
    fn token(&self, bearer: &challenge::Challenge, basic: Option<&str>) -> Result<String> {
        let realm = bearer.parameter("realm").unwrap_or_default();
        let open = self.base.starts_with("http://") && realm.starts_with("http://");
        if !(realm.starts_with("https://") || open) {
            return Err(self.refuses(format!("has its tokens at `{realm}`, which is not safe")));
        }
        let mut url = format!("{realm}{}", if realm.contains('?') { '&' } else { '?' });
        url.push_str(&format!(
            "service={}",
            encoded(bearer.parameter("service").unwrap_or_default())
        ));
        for scope in &self.scopes {
            url.push_str(&format!("&scope={}", encoded(scope)));
        }
        let ask = Ask {
            what: "give a token".to_owned(),
            method: Method::GET,
            url,
            accept: "application/json",
            payload: Payload::None,
        };
        let mut answer = self.send(&ask, &ask.url, basic)?;
        if answer.status() != StatusCode::OK {
            return Err(self.refusal(&ask, answer));
        }
        let given: Value = self.json(&mut answer, "give a token")?;
        let token = ["token", "access_token"].iter().find_map(|key| given.get(key)?.as_str());
        match token {
            Some(token)
                if !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                Ok(format!("Bearer {token}"))
            }
            Some(_) | None => Err(self.refuses("gives a token that is none")),
        }
    }

    pub(super) fn json<T: DeserializeOwned>(
        &self,
        answer: &mut Response<Body>,
        what: &str,
    ) -> Result<T> {
        let bytes = self.bytes(answer, LONGEST_MANIFEST)?;
        let odd = |_| self.refuses(format!("was asked to {what}, and answers what makes no sense"));
        serde_json::from_slice(&bytes).map_err(odd)
    }

    pub(super) fn bytes(&self, answer: &mut Response<Body>, longest: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut body = answer.body_mut().as_reader().take(longest.saturating_add(1));
        body.read_to_end(&mut bytes).map_err(|error| self.breaks(error))?;
        if bytes.len() as u64 > longest {
            return Err(self.refuses(format!("answers with more than {longest} bytes")));
        }
        Ok(bytes)
    }

    /// Why the registry did not do what it was asked.
    pub(super) fn refusal(&self, ask: &Ask<'_>, answer: Response<Body>) -> Error {
        self.refused(ask, &Said::read(answer))
    }

    pub(super) fn refused(&self, ask: &Ask<'_>, said: &Said) -> Error {
        let reason = match (said.word("code"), said.word("message")) {
            (Some(code), Some(message)) => format!(": {code}: {message}"),
            (Some(word), None) | (None, Some(word)) => format!(": {word}"),
            (None, None) => String::new(),
        };
        let what = format!("refuses to {}: {}{reason}", ask.what, said.status);
        if said.status.is_server_error() || said.status == StatusCode::TOO_MANY_REQUESTS {
            return self.breaks(what);
        }
        self.refuses(what)
    }

    /// Does something again that the connection broke in, or that the registry was too ill for. All of it is as good twice as once.
    pub(super) fn insist<T>(&self, mut doing: impl FnMut() -> Result<T>) -> Result<T> {
        let mut tries = 1;
        loop {
            match doing() {
                Err(Error::Unreachable { .. }) if tries < TRIES => {
                    std::thread::sleep(PAUSE.saturating_mul(tries));
                    tries = u32::saturating_add(tries, 1);
                }
                done => return done,
            }
        }
    }
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let url: Uri = url.parse().ok()?;
    let scheme = url.scheme_str()?.to_ascii_lowercase();
    let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, url.host()?.to_ascii_lowercase(), port))
}

/// Whether two addresses are of one program on one machine: scheme, host and port.
pub(super) fn same_origin(one: &str, other: &str) -> bool {
    origin(one).is_some_and(|one| origin(other) == Some(one))
}

/// A value of a query.
pub(super) fn encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

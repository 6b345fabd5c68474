//! A registry of images, over HTTP (OCI distribution specification 1.1).
//!
//! A registry is believed as far as its answers fit their digests. The password goes to the registry itself and to who gives tokens for it, and nowhere that it only points to.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;
use ureq::http::{Method, Request, Response, StatusCode, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

use crate::challenge;
use crate::digest::{Digest, Measured};
use crate::error::{Doing as _, Error, Result};
use crate::manifest::ACCEPTED;
use crate::reference::Reference;

/// No manifest is longer (OCI distribution specification: registries may refuse those above 4 MiB).
const LONGEST_MANIFEST: u64 = 4 << 20;

/// No configuration is longer.
const LONGEST_CONFIG: u64 = 8 << 20;

/// Of an answer that is not what was asked for, this much is read.
const LONGEST_REFUSAL: u64 = 64 << 10;

/// A registry may point to another place, and that again.
const REDIRECTS: u32 = 5;

/// How often a registry is asked that breaks the connection, or that is ill.
const TRIES: u32 = 3;

/// The pause before the second try; before the third it is twice as long.
const PAUSE: Duration = Duration::from_millis(200);

/// How long a registry may say nothing, or take nothing.
const SILENCE: Duration = Duration::from_secs(120);

/// Who asks.
#[derive(Clone, Default)]
pub(crate) struct Account {
    /// The registry it is for.
    pub(crate) registry: String,
    /// The user; empty for anybody.
    pub(crate) user: String,
    /// The password.
    pub(crate) password: String,
    /// The certificate of who vouches for the registry; those of the web's own authorities when empty.
    pub(crate) authority: String,
}

/// A repository of a registry, spoken to.
pub(crate) struct Repository<'a> {
    agent: Agent,
    registry: &'a str,
    base: String,
    name: &'a str,
    scopes: Vec<String>,
    account: Option<&'a Account>,
    /// What the registry wants to be told, once it has said so.
    pass: RefCell<Option<String>>,
}

/// What is sent along.
#[derive(Clone, Copy)]
enum Payload<'a> {
    None,
    Bytes(&'a str, &'a [u8]),
    File(&'a File, u64),
}

/// One question.
struct Ask<'a> {
    /// What it is for, as in `refuses to ...`.
    what: String,
    method: Method,
    url: String,
    accept: &'a str,
    payload: Payload<'a>,
}

impl Account {
    fn agent(&self) -> Result<Agent> {
        let mut certificates: Vec<Certificate<'static>> = Vec::new();
        for item in parse_pem(self.authority.as_bytes()) {
            match item {
                Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
                Ok(_) => {}
                Err(error) => return Err(self.no_authority(&error.to_string())),
            }
        }
        let roots = if self.authority.is_empty() {
            RootCerts::WebPki
        } else if certificates.is_empty() {
            return Err(self.no_authority("there is no certificate in it"));
        } else {
            RootCerts::new_with_certs(&certificates)
        };
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .max_redirects(0)
            .proxy(None)
            .http_status_as_error(false)
            .user_agent(concat!("gantry-build-agent/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE));
        Ok(config.build().new_agent())
    }

    fn no_authority(&self, why: &str) -> Error {
        let what = format!("has an authority that cannot be used: {why}");
        Error::Registry { registry: self.registry.clone(), what }
    }
}

impl<'a> Repository<'a> {
    /// The repository of an image, to pull from or to push to. `sources` are repositories of the same registry that layers are taken from.
    ///
    /// # Errors
    ///
    /// The certificate of the account is none.
    pub(crate) fn of(
        image: &'a Reference,
        account: &'a Account,
        push: bool,
        sources: &[&str],
    ) -> Result<Self> {
        let rights = if push { "pull,push" } else { "pull" };
        let mut scopes = vec![format!("repository:{}:{rights}", image.repository)];
        let others = sources.iter().filter(|source| **source != image.repository);
        scopes.extend(others.map(|source| format!("repository:{source}:pull")));
        let is_ours = account.registry == image.registry;
        // Who vouches for our own registry says nothing about others.
        let agent = if is_ours { account.agent()? } else { Account::default().agent()? };
        Ok(Self {
            agent,
            registry: &image.registry,
            base: image.base(),
            name: &image.repository,
            scopes,
            account: Some(account).filter(|account| is_ours && !account.user.is_empty()),
            pass: RefCell::new(None),
        })
    }

    fn refuses(&self, what: impl Into<String>) -> Error {
        Error::Registry { registry: self.registry.to_owned(), what: what.into() }
    }

    fn breaks(&self, reason: impl std::fmt::Display) -> Error {
        Error::Unreachable { registry: self.registry.to_owned(), reason: reason.to_string() }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base, self.name)
    }

    /// Asks, says who asks when the registry wants to know, and follows where it points to.
    fn ask(&self, ask: &Ask<'_>) -> Result<Response<Body>> {
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
                file.rewind().doing(|| "cannot read what was made".to_owned())?;
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
    fn place(&self, from: &str, answer: &Response<Body>) -> Result<String> {
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| self.refuses("points nowhere"))?;
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

    fn json(&self, answer: &mut Response<Body>, what: &str) -> Result<Value> {
        let bytes = self.bytes(answer, LONGEST_MANIFEST)?;
        let odd = |_| self.refuses(format!("was asked to {what}, and answers what makes no sense"));
        serde_json::from_slice(&bytes).map_err(odd)
    }

    fn bytes(&self, answer: &mut Response<Body>, longest: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut body = answer.body_mut().as_reader().take(longest.saturating_add(1));
        body.read_to_end(&mut bytes).map_err(|error| self.breaks(error))?;
        if bytes.len() as u64 > longest {
            return Err(self.refuses(format!("answers with more than {longest} bytes")));
        }
        Ok(bytes)
    }

    /// Why the registry did not do what it was asked.
    fn refusal(&self, ask: &Ask<'_>, mut answer: Response<Body>) -> Error {
        let status = answer.status();
        let mut bytes = Vec::new();
        let body = answer.body_mut().as_reader();
        // What it says is a comfort only.
        let _cut = body.take(LONGEST_REFUSAL).read_to_end(&mut bytes);
        let said: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let first = said.pointer("/errors/0");
        let word = |key| first.and_then(|first| first.get(key)).and_then(Value::as_str);
        let reason = match (word("code"), word("message")) {
            (Some(code), Some(message)) => format!(": {code}: {message}"),
            (Some(word), None) | (None, Some(word)) => format!(": {word}"),
            (None, None) => String::new(),
        };
        let what = format!("refuses to {}: {status}{reason}", ask.what);
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return self.breaks(what);
        }
        self.refuses(what)
    }

    /// The manifest of an image of the repository, with its kind; none when there is no such image.
    ///
    /// # Errors
    ///
    /// The registry refuses, does not answer, or gives another.
    pub(crate) fn manifest(&self, version: &str) -> Result<Option<(String, Vec<u8>)>> {
        self.insist(|| {
            let ask = Ask {
                what: format!("give the manifest of `{}:{version}`", self.name),
                method: Method::GET,
                url: self.url(&format!("manifests/{version}")),
                accept: ACCEPTED,
                payload: Payload::None,
            };
            let mut answer = self.ask(&ask)?;
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Ok(None),
                _ => return Err(self.refusal(&ask, answer)),
            }
            let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
            let kind = kind.unwrap_or_default().to_owned();
            let bytes = self.bytes(&mut answer, LONGEST_MANIFEST)?;
            if let Some(digest) = Digest::parse(version)
                && Digest::of(&bytes) != digest
            {
                return Err(self.refuses(format!("gives another manifest than `{digest}`")));
            }
            Ok(Some((kind, bytes)))
        })
    }

    /// The configuration of an image.
    ///
    /// # Errors
    ///
    /// The registry refuses, does not answer, or gives another.
    pub(crate) fn config(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.insist(|| {
            let ask = self.blob(digest);
            let mut answer = self.ask(&ask)?;
            if answer.status() != StatusCode::OK {
                return Err(self.refusal(&ask, answer));
            }
            let bytes = self.bytes(&mut answer, LONGEST_CONFIG)?;
            if Digest::of(&bytes) != *digest {
                return Err(self.refuses(format!("gives another configuration than `{digest}`")));
            }
            Ok(bytes)
        })
    }

    fn blob(&self, digest: &Digest) -> Ask<'static> {
        Ask {
            what: format!("give `{digest}` of `{}`", self.name),
            method: Method::GET,
            url: self.url(&format!("blobs/{digest}")),
            accept: "",
            payload: Payload::None,
        }
    }

    /// Writes a layer into a file.
    ///
    /// # Errors
    ///
    /// The registry refuses, does not answer, or gives another.
    pub(crate) fn download(&self, digest: &Digest, size: u64, file: &mut File) -> Result<()> {
        self.insist(|| {
            file.set_len(0)
                .and_then(|()| file.rewind())
                .doing(|| "cannot keep a layer".to_owned())?;
            let ask = self.blob(digest);
            let mut answer = self.ask(&ask)?;
            if answer.status() != StatusCode::OK {
                return Err(self.refusal(&ask, answer));
            }
            let mut body =
                Measured::new(answer.body_mut().as_reader().take(size.saturating_add(1)));
            let mut buffer = vec![0; 64 << 10];
            loop {
                let read = body.read(&mut buffer).map_err(|error| self.breaks(error))?;
                if read == 0 {
                    break;
                }
                let bytes = buffer.get(..read).unwrap_or_default();
                file.write_all(bytes).doing(|| "cannot keep a layer".to_owned())?;
            }
            let (_, given, length) = body.finish();
            if given == *digest && length == size {
                return Ok(());
            }
            if length < size {
                return Err(self.breaks(format!("`{digest}` was cut after {length} bytes")));
            }
            Err(self.refuses(format!("gives another layer than `{digest}`")))
        })
    }

    /// Whether the repository has a layer or a configuration.
    ///
    /// # Errors
    ///
    /// The registry refuses, or does not answer.
    pub(crate) fn has(&self, digest: &Digest) -> Result<bool> {
        self.insist(|| {
            let mut ask = self.blob(digest);
            ask.method = Method::HEAD;
            let answer = self.ask(&ask)?;
            match answer.status() {
                StatusCode::OK => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(self.refusal(&ask, answer)),
            }
        })
    }

    /// Takes a layer from another repository of the registry, if the registry does that; where it does not, the layer can still be sent.
    ///
    /// # Errors
    ///
    /// The registry refuses, or does not answer.
    pub(crate) fn mount(&self, digest: &Digest, from: &str) -> Result<bool> {
        self.insist(|| {
            let ask =
                self.begin(&format!("?mount={}&from={}", encoded(digest.as_str()), encoded(from)));
            let answer = self.ask(&ask)?;
            match answer.status() {
                StatusCode::CREATED => Ok(true),
                // It began an upload instead, which it forgets in time.
                StatusCode::ACCEPTED => Ok(false),
                status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                    Ok(false)
                }
                _ => Err(self.refusal(&ask, answer)),
            }
        })
    }

    fn begin(&self, query: &str) -> Ask<'static> {
        Ask {
            what: format!("take something into `{}`", self.name),
            method: Method::POST,
            url: self.url(&format!("blobs/uploads/{query}")),
            accept: "",
            payload: Payload::None,
        }
    }

    /// Sends a layer.
    ///
    /// # Errors
    ///
    /// The registry refuses, or breaks the connection again and again.
    pub(crate) fn upload(&self, digest: &Digest, file: &File, size: u64) -> Result<()> {
        self.insist(|| self.put(digest, Payload::File(file, size)))
    }

    /// Sends a configuration.
    ///
    /// # Errors
    ///
    /// As [`Self::upload`].
    pub(crate) fn upload_bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.insist(|| self.put(digest, Payload::Bytes("application/octet-stream", bytes)))
    }

    fn put(&self, digest: &Digest, payload: Payload<'_>) -> Result<()> {
        let begin = self.begin("");
        let answer = self.ask(&begin)?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(self.refusal(&begin, answer));
        }
        let mut url = self.place(&begin.url, &answer)?;
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&format!("digest={}", encoded(digest.as_str())));
        let ask = Ask {
            what: format!("take `{digest}` into `{}`", self.name),
            method: Method::PUT,
            url,
            accept: "",
            payload,
        };
        let answer = self.ask(&ask)?;
        if answer.status() == StatusCode::CREATED {
            Ok(())
        } else {
            Err(self.refusal(&ask, answer))
        }
    }

    /// Gives an image a name. From here on it is there.
    ///
    /// # Errors
    ///
    /// As [`Self::upload`].
    pub(crate) fn name(&self, tag: &str, kind: &str, manifest: &[u8]) -> Result<()> {
        self.insist(|| {
            let ask = Ask {
                what: format!("take the image `{}:{tag}`", self.name),
                method: Method::PUT,
                url: self.url(&format!("manifests/{tag}")),
                accept: "",
                payload: Payload::Bytes(kind, manifest),
            };
            let answer = self.ask(&ask)?;
            if answer.status() == StatusCode::CREATED {
                Ok(())
            } else {
                Err(self.refusal(&ask, answer))
            }
        })
    }

    /// Does something again that the connection broke in, or that the registry was too ill for. All of it is as good twice as once.
    fn insist<T>(&self, mut doing: impl FnMut() -> Result<T>) -> Result<T> {
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
fn same_origin(one: &str, other: &str) -> bool {
    origin(one).is_some_and(|one| origin(other) == Some(one))
}

/// A value of a query.
fn encoded(value: &str) -> String {
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

#[cfg(test)]
mod tests;

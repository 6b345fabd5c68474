//! The other end of the HTTP API: what the command line and other programs ask the daemon with.
//!
//! One connection per request, over the unix socket or plain HTTP. Nothing here prints, and nothing reads the environment.

mod events;
mod shell;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::api::{Accepted, BUILD_ARGS, Problem, ProblemKind};

pub use events::Event;
pub use shell::{Keyboard, Screen, Told};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Where the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A unix socket.
    Unix(PathBuf),
    /// Host and port of plain HTTP.
    Http(String),
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Http(authority) => write!(f, "http://{authority}"),
        }
    }
}

/// Not an address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither `unix:///path` nor `http://host:port`")]
pub struct HostError(String);

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> std::result::Result<Self, HostError> {
        if let Some(path) = text.strip_prefix("unix://")
            && path.starts_with('/')
        {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        match text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')) {
            Some(authority) if !authority.is_empty() && !authority.contains('/') => {
                let port =
                    authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
                let default = if port.is_some() { "" } else { ":80" };
                Ok(Self::Http(format!("{authority}{default}")))
            }
            _ => Err(HostError(text.to_owned())),
        }
    }
}

/// Why a request gave no answer, or not the one hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there, or the connection broke.
    #[error("cannot reach the daemon at `{host}`")]
    Unreachable {
        /// Where.
        host: Host,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The daemon says why not.
    #[error("{}", .0.title)]
    Problem(Box<Problem>),
    /// What answers is not a daemon of ours.
    #[error("`{host}` answered something else than gantry does: {what}")]
    Foreign {
        /// Where.
        host: Host,
        /// What it answered.
        what: String,
    },
}

/// The result of a request.
pub type Result<T> = std::result::Result<T, ClientError>;

/// How a change is asked for.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Wait for whoever changes the same thing, instead of being refused.
    pub wait: bool,
    /// With the same key it is done once.
    pub key: Option<String>,
}

/// Asks a daemon.
#[derive(Clone, Debug)]
pub struct Client {
    host: Host,
    token: Option<String>,
}

/// What is sent: whole, or as it comes.
type Sent = UnsyncBoxBody<Bytes, std::io::Error>;

/// The kind of what is sent, and it.
type Content = (&'static str, Sent);

type Body = hyper::body::Incoming;
type Response = hyper::Response<Body>;

impl Client {
    /// A client of the daemon there. Nothing is sent yet.
    #[must_use]
    pub fn new(host: Host, token: Option<String>) -> Self {
        Self { host, token }
    }

    /// Where it asks.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// The daemon is out of reach, or says why not.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.send(Method::GET, path, None, &[]).await?;
        self.read(response).await
    }

    /// Asks for a change and gives the operation that does it.
    ///
    /// # Errors
    /// The daemon is out of reach, or says why not.
    pub async fn change(
        &self,
        method: Method,
        path: &str,
        body: &(impl Serialize + Sync),
        change: &Change,
    ) -> Result<Accepted> {
        let body = serde_json::to_vec(body).map_err(|error| self.foreign(&error))?;
        self.send_change(method, path, ("application/json", whole(body)), change).await
    }

    /// Sends bytes and gives the operation that does something with them.
    ///
    /// # Errors
    /// The daemon is out of reach, or says why not.
    pub async fn change_bytes(
        &self,
        method: Method,
        path: &str,
        bytes: Vec<u8>,
        change: &Change,
    ) -> Result<Accepted> {
        self.send_change(method, path, ("application/wasm", whole(bytes)), change).await
    }

    /// Sends an archive as it comes, with the arguments of its build, and gives the operation that does something with it. An error in the stream breaks the request off.
    ///
    /// # Errors
    /// The daemon is out of reach, or says why not.
    pub async fn change_stream(
        &self,
        method: Method,
        path: &str,
        archive: BoxStream<'static, std::io::Result<Bytes>>,
        args: &BTreeMap<String, String>,
        change: &Change,
    ) -> Result<Accepted> {
        let body = StreamBody::new(archive.map(|part| part.map(Frame::data))).boxed_unsync();
        let mut headers = Vec::new();
        if !args.is_empty() {
            let args = serde_json::to_vec(args).map_err(|error| self.foreign(&error))?;
            headers.push((HeaderName::from_static(BUILD_ARGS), STANDARD.encode(args)));
        }
        self.send_with(method, path, ("application/x-tar", body), headers, change).await
    }

    /// Sends bytes and reads what the daemon makes of them.
    ///
    /// # Errors
    /// The daemon is out of reach, or says why not.
    pub async fn ask_bytes<T: DeserializeOwned>(&self, path: &str, bytes: Vec<u8>) -> Result<T> {
        let body = Some(("application/wasm", whole(bytes)));
        let response = self.send(Method::POST, path, body, &[]).await?;
        self.read(response).await
    }

    /// Asks for something that needs no answer but that it is done.
    ///
    /// # Errors
    /// The daemon is out of reach, or says why not.
    pub async fn post(&self, path: &str) -> Result<()> {
        self.send(Method::POST, path, None, &[]).await.map(|_| ())
    }

    /// Reads events as they come, after the one with this id.
    ///
    /// # Errors
    /// The daemon is out of reach, or says why not; later, that the connection broke.
    pub async fn events(
        &self,
        path: &str,
        after: Option<&str>,
    ) -> Result<BoxStream<'static, Result<Event>>> {
        self.event_stream(Method::GET, path, None, after).await
    }

    /// Sends a document and reads events as they come.
    ///
    /// # Errors
    /// The daemon is out of reach, or says why not; later, that the connection broke.
    pub async fn post_events(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<BoxStream<'static, Result<Event>>> {
        let body = serde_json::to_vec(body).map_err(|error| self.foreign(&error))?;
        let body = Some(("application/json", whole(body)));
        self.event_stream(Method::POST, path, body, None).await
    }

    async fn event_stream(
        &self,
        method: Method,
        path: &str,
        body: Option<Content>,
        after: Option<&str>,
    ) -> Result<BoxStream<'static, Result<Event>>> {
        let mut headers = vec![(ACCEPT, "text/event-stream".to_owned())];
        if let Some(after) = after {
            headers.push((HeaderName::from_static("last-event-id"), after.to_owned()));
        }
        let response = self.send(method, path, body, &headers).await?;
        let host = self.host.clone();
        let bytes = response.into_body().into_data_stream().map(move |part| {
            part.map_err(|error| ClientError::Unreachable {
                host: host.clone(),
                source: Box::new(error),
            })
        });
        Ok(events::read(bytes).boxed())
    }

    async fn send_change(
        &self,
        method: Method,
        path: &str,
        body: Content,
        change: &Change,
    ) -> Result<Accepted> {
        self.send_with(method, path, body, Vec::new(), change).await
    }

    async fn send_with(
        &self,
        method: Method,
        path: &str,
        body: Content,
        mut headers: Vec<(HeaderName, String)>,
        change: &Change,
    ) -> Result<Accepted> {
        let path = match (change.wait, path.contains('?')) {
            (false, _) => path.to_owned(),
            (true, false) => format!("{path}?wait=true"),
            (true, true) => format!("{path}&wait=true"),
        };
        let key = change.key.clone().map(|key| (HeaderName::from_static("idempotency-key"), key));
        headers.extend(key);
        let response = self.send(method, &path, Some(body), &headers).await?;
        self.read(response).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Content>,
        headers: &[(HeaderName, String)],
    ) -> Result<Response> {
        let request = self.request(method, path, body, headers)?;
        let response = match &self.host {
            Host::Unix(path) => self.exchange(UnixStream::connect(path), request).await?,
            Host::Http(authority) => self.exchange(TcpStream::connect(authority), request).await?,
        };
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.refusal(response).await)
        }
    }

    /// A request with everything that each of them carries.
    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Content>,
        headers: &[(HeaderName, String)],
    ) -> Result<hyper::Request<Sent>> {
        let authority = match &self.host {
            Host::Unix(_) => "gantry",
            Host::Http(authority) => authority,
        };
        let mut request =
            hyper::Request::builder().method(method).uri(path).header(HOST, authority);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let body = match body {
            Some((kind, body)) => {
                request = request.header(CONTENT_TYPE, kind);
                body
            }
            None => whole(Vec::new()),
        };
        request.body(body).map_err(|error| self.foreign(&error))
    }

    async fn exchange<S>(
        &self,
        connect: impl Future<Output = std::io::Result<S>>,
        request: hyper::Request<Sent>,
    ) -> Result<Response>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = self.connected(connect).await?;
        // The connection ends with its last byte or when the body is dropped; how it ends shows in the body.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| self.unreachable(error))
    }

    /// Where a request can be sent, and the connection that has to be driven for it.
    async fn connected<S>(
        &self,
        connect: impl Future<Output = std::io::Result<S>>,
    ) -> Result<(SendRequest<Sent>, Connection<TokioIo<S>, Sent>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = tokio::time::timeout(CONNECT, connect)
            .await
            .map_err(|_| self.unreachable("it took more than 5 s to connect"))?
            .map_err(|error| self.unreachable(error))?;
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(error))
    }

    async fn refusal(&self, response: Response) -> ClientError {
        let status = response.status();
        match response.into_body().collect().await {
            Err(error) => self.unreachable(error),
            Ok(body) => match serde_json::from_slice::<Problem>(&body.to_bytes()) {
                Ok(problem) => ClientError::Problem(Box::new(problem)),
                Err(_) if status == StatusCode::UNAUTHORIZED => ClientError::Problem(Box::new(
                    Problem::new(ProblemKind::Unauthorized, "the token was refused"),
                )),
                Err(_) => self.foreign(&format!("status {status}")),
            },
        }
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let body = response.into_body().collect().await.map_err(|error| self.unreachable(error))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| self.foreign(&error))
    }

    fn unreachable(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ClientError {
        ClientError::Unreachable { host: self.host.clone(), source: source.into() }
    }

    fn foreign(&self, what: &dyn std::fmt::Display) -> ClientError {
        ClientError::Foreign { host: self.host.clone(), what: what.to_string() }
    }
}

/// Bytes that are all there.
fn whole(bytes: Vec<u8>) -> Sent {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

/// A text as one part of a path or a value of a query.
#[must_use]
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let host = |text: &str| text.parse::<Host>().map(|host| host.to_string());
        assert_eq!(host("unix:///run/g.sock").as_deref(), Ok("unix:///run/g.sock"));
        assert_eq!(host("http://localhost:8580/").as_deref(), Ok("http://localhost:8580"));
        assert_eq!(host("http://localhost").as_deref(), Ok("http://localhost:80"));
        assert_eq!(host("http://[::1]:8580").as_deref(), Ok("http://[::1]:8580"));
        for wrong in ["", "localhost", "unix://x", "https://x", "http://", "http://a/b"] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_means_something_in_a_path_is_escaped() {
        assert_eq!(escape("web-1"), "web-1");
        assert_eq!(escape("a/b?c d"), "a%2Fb%3Fc%20d");
    }

    #[tokio::test]
    async fn a_socket_that_is_not_there_is_unreachable() {
        let client = Client::new("unix:///nowhere/g.sock".parse().unwrap(), None);
        let error = client.get::<serde_json::Value>("/v1/version").await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    }
}

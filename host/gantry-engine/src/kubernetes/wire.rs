//! The way to a cluster: connections that are kept, time limits, answers as bytes.
//!
//! kube knows credentials, TLS and websockets; the stack is put together here, because kube's own repeats requests that were refused (429, 503 and 504), and writes answers that
//! it cannot read to the log.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use http_body_util::{BodyExt as _, Limited};
use hyper::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Config;
use kube::client::{Body, Client, ClientBuilder, ConfigExt as _, Connection};
use tokio::time::timeout;
use tower_service::Service;

use super::Timeouts;
use super::errors::About;
use crate::EngineError;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// More than a page of the largest objects: what is longer is no answer.
const LONGEST_ANSWER: usize = 512 << 20;
/// More than a `Status`.
const LONGEST_REFUSAL: usize = 1 << 20;

/// Bytes that come as long as somebody wants them.
pub(super) type Bytestream = BoxStream<'static, Result<Bytes, kube::Error>>;

/// A request without what is the same in all.
#[derive(Debug)]
pub(super) struct Ask {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<(&'static str, Vec<u8>)>,
}

impl Ask {
    /// A question.
    pub(super) fn get(path: String) -> Self {
        Self { method: Method::GET, path, query: Vec::new(), body: None }
    }

    /// A change.
    pub(super) fn send(
        method: Method,
        path: String,
        content: &'static str,
        body: &serde_json::Value,
    ) -> Self {
        let body = Some((content, body.to_string().into_bytes()));
        Self { method, path, query: Vec::new(), body }
    }

    /// The same with a word in its query.
    pub(super) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    /// The same with a word in its query, if it is needed.
    pub(super) fn with_if(self, needed: bool, key: &'static str, value: impl Into<String>) -> Self {
        if needed { self.with(key, value) } else { self }
    }

    fn request(self) -> Result<Request<Vec<u8>>, kube::Error> {
        let mut address = self.path;
        for (index, (key, value)) in self.query.into_iter().enumerate() {
            address.push(if index == 0 { '?' } else { '&' });
            address.push_str(key);
            address.push('=');
            encode(&value, &mut address);
        }
        let request = Request::builder()
            .method(self.method)
            .uri(address)
            .header(USER_AGENT, concat!("gantry/", env!("CARGO_PKG_VERSION")));
        let request = match self.body {
            None => request.body(Vec::new()),
            Some((content, body)) => request.header(CONTENT_TYPE, content).body(body),
        };
        request.map_err(kube::Error::HttpError)
    }
}

/// Writes text as it stands in an address.
pub(super) fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The way to one cluster.
#[derive(Clone)]
pub(super) struct Wire {
    client: Client,
    timeouts: Timeouts,
}

impl Wire {
    /// Must be called in a runtime. May run the command that a kubeconfig names for credentials, and wait for it.
    pub(super) fn new(config: &Config, timeouts: Timeouts) -> Result<Self, kube::Error> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // kube takes the one of the process. Another that is set at the same time is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Sessions and watches are silent for long; a peer that is gone is noticed.
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        tcp.set_keepalive_interval(Some(Duration::from_secs(10)));
        tcp.set_keepalive_retries(Some(3));
        let tls = config.rustls_https_connector_with_connector(tcp)?;
        let connector = Hasty { inner: tls, limit: timeouts.connect };
        let http: HyperClient<_, Body> = HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .build(connector);
        let stack = ClientBuilder::new(Boxed(http), config.default_namespace.clone())
            .with_layer(&config.extra_headers_layer()?);
        let base = config.base_uri_layer();
        let client = match config.auth_layer()? {
            Some(auth) => stack.with_layer(&auth).with_layer(&base).build(),
            None => stack.with_layer(&base).build(),
        };
        Ok(Self { client, timeouts })
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn ask(&self, about: &About, ask: Ask) -> Result<Bytes, EngineError> {
        let answer = async {
            let response = self.begin(about, ask).await?;
            read(about, response, LONGEST_ANSWER).await
        };
        let limit = self.timeouts.request;
        timeout(limit, answer).await.unwrap_or_else(|_| Err(about.late(limit)))
    }

    /// Sends a request; the answer's body comes as long as somebody wants it.
    pub(super) async fn open(&self, about: &About, ask: Ask) -> Result<Bytestream, EngineError> {
        let limit = self.timeouts.request;
        let response = timeout(limit, self.begin(about, ask)).await;
        let response = response.unwrap_or_else(|_| Err(about.late(limit)))?;
        Ok(Box::pin(response.into_body().into_data_stream().map_err(kube::Error::from)))
    }

    /// Opens a websocket.
    pub(super) async fn connect(&self, about: &About, ask: Ask) -> Result<Connection, EngineError> {
        let request = ask.request().map_err(|error| about.error(&error))?;
        let limit = self.timeouts.request;
        match timeout(limit, self.client.connect(request)).await {
            Ok(connection) => connection.map_err(|error| about.error(&error)),
            Err(_) => Err(about.late(limit)),
        }
    }

    /// Sends a request and waits for the head of an answer that is a success.
    async fn begin(&self, about: &About, ask: Ask) -> Result<Response<Body>, EngineError> {
        let request = ask.request().map_err(|error| about.error(&error))?;
        let response = self.client.send(request.map(Body::from)).await;
        let response = response.map_err(|error| about.error(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let after = retry_after(response.headers());
        // A refusal that breaks off is still one.
        let body = read(about, response, LONGEST_REFUSAL).await.unwrap_or_default();
        Err(about.refusal(status.as_u16(), after, &body))
    }
}

async fn read(about: &About, response: Response<Body>, limit: usize) -> Result<Bytes, EngineError> {
    let body = Limited::new(response.into_body(), limit).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| about.broken(error.as_ref()))
}

/// The seconds after which one may ask again. A date, which proxies may send, is none.
fn retry_after(headers: &HeaderMap) -> Option<u32> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

/// A service whose errors are of the type that kube's layers want.
#[derive(Clone)]
struct Boxed<S>(S);

impl<S> Service<Request<Body>> for Boxed<S>
where
    S: Service<Request<Body>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move { answer.await.map_err(Into::into) })
    }
}

/// A connector that gives up.
#[derive(Clone)]
struct Hasty<C> {
    inner: C,
    limit: Duration,
}

impl<C> Service<Uri> for Hasty<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let (connecting, limit) = (self.inner.call(address), self.limit);
        Box::pin(async move {
            match timeout(limit, connecting).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(format!("no connection within {limit:?}").into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_stands_in_the_address() {
        let ask = Ask::get("/api/v1/pods".to_owned())
            .with("labelSelector", "app in (a,b),!gone&x=1")
            .with_if(false, "limit", "1")
            .with("command", "/bin/sh")
            .with("command", "é +");
        let request = ask.request().unwrap();
        assert_eq!(
            request.uri(),
            "/api/v1/pods?labelSelector=app%20in%20%28a%2Cb%29%2C%21gone%26x%3D1\
             &command=%2Fbin%2Fsh&command=%C3%A9%20%2B"
        );
    }

    #[test]
    fn only_seconds_say_when_to_ask_again() {
        for (text, seconds) in
            [("1", Some(1)), (" 30 ", Some(30)), ("Wed, 21 Oct 2015", None), ("-1", None)]
        {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers), seconds);
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}

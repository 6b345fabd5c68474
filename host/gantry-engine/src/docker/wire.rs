//! The way to a Docker engine: connections that are kept, the API version in every path, errors that can be told apart.
//!
//! bollard knows Docker's documents; this module carries its requests, because bollard's own connections are made anew for each request, need the system's certificates, and
//! send no API version.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::BollardRequest;
use bollard::errors::Error as BollardError;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use http_body_util::{BodyExt as _, Either, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::endpoint::{Certificates, Endpoint, Place};

/// The files of a folder of certificates, as Docker calls them.
const CA: &str = "ca.pem";
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";
use super::errors;
use crate::EngineError;

/// The oldest API spoken, and the newest: what came after it has not been tried.
const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 41 };
const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 51 };

/// A version of Docker's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// Before the dot.
    pub major: u32,
    /// After it.
    pub minor: u32,
}

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A request's body, as bollard makes it.
pub(super) type Body =
    Either<Full<Bytes>, StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>>;

/// The way to one engine.
#[derive(Clone)]
pub(super) struct Wire {
    client: Client<Connector, Body>,
    base: Base,
    version: Arc<OnceLock<ApiVersion>>,
}

/// Scheme and authority of every request.
#[derive(Clone)]
struct Base {
    authority: hyper::http::uri::Authority,
}

impl Wire {
    pub(super) fn new(endpoint: &Endpoint, connect: Duration) -> Result<Self, EngineError> {
        endpoint.check()?;
        let tls = endpoint.certificates.as_ref().map(tls_config).transpose()?;
        let authority = match &endpoint.place {
            Place::Socket(_) => "localhost".to_owned(),
            Place::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp { host, port } => format!("{host}:{port}"),
        };
        let authority = authority.parse().map_err(|_| {
            EngineError::Invalid(format!("`{endpoint}` is not the address of a Docker host"))
        })?;
        let connector = Connector { place: endpoint.place.clone(), tls, limit: connect };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(64)
            .build(connector);
        Ok(Self { client, base: Base { authority }, version: Arc::default() })
    }

    /// Sends a request of bollard or of our own: its path gets the agreed version in front.
    pub(super) async fn send(
        &self,
        mut request: BollardRequest,
    ) -> Result<Response<Incoming>, BollardError> {
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let path = match self.version.get() {
            Some(version) => format!("/v{version}{path}"),
            None => path.to_owned(),
        };
        *request.uri_mut() = Uri::builder()
            .scheme("http")
            .authority(self.base.authority.clone())
            .path_and_query(path)
            .build()?;
        // Docker reads these in the URL's alphabet of base64, bollard writes the other one.
        for name in ["x-registry-auth", "x-registry-config"] {
            if let Some(value) = request.headers_mut().get_mut(name) {
                let text = value.to_str()?.replace('+', "-").replace('/', "_");
                *value = text.parse().map_err(|_| io::Error::other("a header of odd bytes"))?;
            }
        }
        Ok(self.client.request(request).await?)
    }

    /// Asks the engine which API it speaks, and agrees on the newest that both do.
    pub(super) async fn negotiate(
        &self,
        endpoint: &Endpoint,
        limit: Duration,
    ) -> Result<ApiVersion, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Spoken {
            api_version: String,
            #[serde(default, rename = "MinAPIVersion")]
            min_api_version: String,
        }
        let odd = |why: &str| {
            EngineError::Failed(format!("`{endpoint}` does not answer like a Docker engine: {why}"))
        };
        let request = Request::get("/version")
            .body(bollard::body_full(Bytes::new()))
            .map_err(|_| odd("no request"))?;
        let answer = async {
            let response = self.send(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), 1 << 20).collect().await;
            Ok::<_, BollardError>((status, body.map(http_body_util::Collected::to_bytes)))
        };
        let (status, body) = timeout(limit, answer)
            .await
            .map_err(|_| {
                EngineError::TimedOut(format!(
                    "the Docker host `{endpoint}` did not answer within {limit:?}"
                ))
            })?
            .map_err(|error| errors::transport(endpoint, &error))?;
        let body = body.map_err(|_| {
            EngineError::Unreachable(format!(
                "the Docker host `{endpoint}` went away in the middle of an answer"
            ))
        })?;
        if !status.is_success() {
            return Err(odd(&format!("its version is a status {}", status.as_u16())));
        }
        let spoken: Spoken =
            serde_json::from_slice(&body).map_err(|_| odd("its version is not Docker's JSON"))?;
        let newest = ApiVersion::parse(&spoken.api_version)
            .ok_or_else(|| odd(&format!("its API version is `{}`", spoken.api_version)))?;
        let oldest = ApiVersion::parse(&spoken.min_api_version).unwrap_or(OLDEST);
        if newest < OLDEST {
            return Err(EngineError::Failed(format!(
                "the Docker host `{endpoint}` speaks API {newest} only, and at least {OLDEST} is \
                 needed (Docker 20.10)"
            )));
        }
        if oldest > NEWEST {
            return Err(EngineError::Failed(format!(
                "the Docker host `{endpoint}` speaks API {oldest} and newer only, and {NEWEST} is \
                 the newest known here"
            )));
        }
        Ok(*self.version.get_or_init(|| newest.min(NEWEST)))
    }
}

/// Makes connections to one place.
#[derive(Clone)]
struct Connector {
    place: Place,
    tls: Option<TlsConnector>,
    limit: Duration,
}

impl Connector {
    async fn connect(self) -> io::Result<TokioIo<Pipe>> {
        let connecting = async {
            Ok(match &self.place {
                Place::Socket(path) => Pipe(Box::new(UnixStream::connect(path).await?)),
                Place::Tcp { host, port } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    keep_alive(&stream)?;
                    match &self.tls {
                        None => Pipe(Box::new(stream)),
                        Some(tls) => {
                            let name = ServerName::try_from(host.clone()).map_err(|_| {
                                io::Error::other(format!("`{host}` is no name for a certificate"))
                            })?;
                            Pipe(Box::new(tls.connect(name, stream).await?))
                        }
                    }
                }
            })
        };
        let pipe: io::Result<Pipe> = timeout(self.limit, connecting).await.unwrap_or_else(|_| {
            let late = format!("no connection within {:?}", self.limit);
            Err(io::Error::new(io::ErrorKind::TimedOut, late))
        });
        pipe.map(TokioIo::new)
    }
}

/// A host that is gone without a word is noticed, even while nothing is sent: a follower of a log would wait for ever.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let probes = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket2::SockRef::from(stream).set_tcp_keepalive(&probes)
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Pipe>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection of any kind.
struct Pipe(Box<dyn Duplex>);

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

fn tls_config(certificates: &Certificates) -> Result<TlsConnector, EngineError> {
    let wrong = |file: &str, why: &dyn StdError| {
        EngineError::Invalid(match certificates {
            Certificates::Folder(folder) => {
                let path = folder.join(file);
                format!("the certificate `{}` is no good: {why}", path.display())
            }
            Certificates::Pem { .. } => format!("the certificate `{file}` is no good: {why}"),
        })
    };
    let read = |file: &str| match certificates {
        Certificates::Folder(folder) => {
            std::fs::read(folder.join(file)).map_err(|error| wrong(file, &error))
        }
        Certificates::Pem { ca, cert, key } => Ok(match file {
            CA => ca,
            CERT => cert,
            _ => key,
        }
        .clone()
        .into_bytes()),
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&read(CA)?) {
        let certificate = certificate.map_err(|error| wrong(CA, &error))?;
        roots.add(certificate).map_err(|error| wrong(CA, &error))?;
    }
    let chain = CertificateDer::pem_slice_iter(&read(CERT)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(CERT, &error))?;
    let key = PrivateKeyDer::from_pem_slice(&read(KEY)?).map_err(|error| wrong(KEY, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(CA, &error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| wrong(CERT, &error))?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A request of our own without a body that matters.
pub(super) fn empty() -> Body {
    bollard::body_full(Bytes::new())
}

/// A request of our own with a JSON body.
pub(super) fn json(text: String) -> Body {
    bollard::body_full(Bytes::from(text))
}

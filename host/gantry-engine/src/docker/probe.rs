//! The health-check probe: one HTTP request to a published port of a container, from the machine the host runs on.
//!
//! It follows no redirect, verifies no certificate, and keeps at most 64 KiB of the body.
//!
//! Whoever asks has the container's inspect from the engine: what goes wrong here is the unit's, never an engine that cannot be reached.
//!
//! It asks TCP ports only, and only at an address at which the port is the container's: whatever else listens beside the engine is none of the asker's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_core::container::Container;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::http::{HeaderValue, Method, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::endpoint::Endpoint;
use super::errors;
use crate::call::{HttpRequest, HttpResponse};
use crate::{EngineError, names};

const CONNECT: Duration = Duration::from_secs(5);
const BODY: usize = 64 << 10;

/// Asks a container.
pub(super) async fn ask(
    endpoint: &Endpoint,
    container: &Container,
    request: &HttpRequest,
) -> Result<HttpResponse, EngineError> {
    let limit = Duration::from_millis(request.timeout.into());
    let bindings = published(endpoint, container, &request.port)?;
    let asked = format!("the port `{}` of the container `{}`", request.port, container.name);
    let answer = async {
        let at = place(endpoint, &bindings, &asked).await?;
        let host = if endpoint.is_local() { at.ip().to_string() } else { endpoint.host().into() };
        Target::new(&asked, request, host, at)?.ask().await
    };
    match timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(EngineError::TimedOut(format!("{asked} gave no answer within {limit:?}"))),
    }
}

/// Where a port of a container is published: the addresses of its engine's machine, and the ports there.
fn published(
    endpoint: &Endpoint,
    container: &Container,
    port: &str,
) -> Result<Vec<SocketAddr>, EngineError> {
    names::tcp_port(port)?;
    let name = &container.name;
    if !container.state.running {
        return Err(EngineError::Conflict(format!(
            "the container `{name}` on `{endpoint}` does not run: it is {}",
            container.state.status
        )));
    }
    let bindings = container.network_settings.ports.get(port).and_then(Option::as_ref);
    let bindings: Vec<SocketAddr> = bindings
        .into_iter()
        .flatten()
        .filter_map(|binding| {
            // No address is every address.
            let ip = match binding.host_ip.as_str() {
                "" => IpAddr::from(Ipv4Addr::UNSPECIFIED),
                ip => ip.parse().ok()?,
            };
            let port = binding.host_port.parse().ok().filter(|port| *port != 0)?;
            Some(SocketAddr::new(ip, port))
        })
        .collect();
    if bindings.is_empty() {
        return Err(EngineError::Invalid(format!(
            "the port `{port}` of the container `{name}` on `{endpoint}` is not published"
        )));
    }
    Ok(bindings)
}

/// The first of these places that can be asked from here.
async fn place(
    endpoint: &Endpoint,
    bindings: &[SocketAddr],
    asked: &str,
) -> Result<SocketAddr, EngineError> {
    let remote: Option<Vec<IpAddr>> = if endpoint.is_local() {
        None
    } else {
        let found = lookup_host((endpoint.host(), 0)).await.map_err(|error| {
            EngineError::Failed(format!("{asked} gives no answer: {}", errors::io_reason(&error)))
        })?;
        Some(found.map(|address| address.ip()).collect())
    };
    let reached = |bound: &SocketAddr| {
        Some(SocketAddr::new(reached(bound.ip(), remote.as_deref())?, bound.port()))
    };
    bindings.iter().find_map(reached).ok_or_else(|| {
        let bound: Vec<_> = bindings.iter().map(|bound| format!("`{}`", bound.ip())).collect();
        EngineError::Invalid(format!(
            "{asked} is published at {} only, which is no address of `{endpoint}`",
            bound.join(", ")
        ))
    })
}

/// The address at which a port that is bound to `bound` is the container's: on a host with these addresses, or on this machine.
fn reached(bound: IpAddr, remote: Option<&[IpAddr]>) -> Option<IpAddr> {
    const HERE: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    if bound.is_unspecified() {
        // Somebody else may have the same port of the other family.
        let of_family = |address: &&IpAddr| address.is_ipv4() == bound.is_ipv4();
        return remote.unwrap_or(&HERE).iter().find(of_family).copied();
    }
    match remote {
        // A loopback address, or one of a bridge, is another machine's only in name.
        Some(addresses) => addresses.contains(&bound).then_some(bound),
        None => Some(bound),
    }
}

/// A request on its way.
struct Target {
    /// What is asked, for people. Not by its URL: that is for the one who asks to name, who knows what for.
    asked: String,
    host: String,
    at: SocketAddr,
    tls: bool,
    method: Method,
    path: Uri,
    authority: HeaderValue,
}

impl Target {
    fn new(
        asked: &str,
        request: &HttpRequest,
        host: String,
        at: SocketAddr,
    ) -> Result<Self, EngineError> {
        let port = at.port();
        let tls = match request.scheme.as_str() {
            "http" => false,
            "https" => true,
            other => {
                return Err(EngineError::Invalid(format!(
                    "`{other}` is no scheme to ask a container with: it is `http` or `https`"
                )));
            }
        };
        let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let url = format!("{}://{shown}:{port}{}", request.scheme, request.path);
        let odd = |what: &str| EngineError::Invalid(format!("`{url}` cannot be asked: {what}"));
        if !request.path.starts_with('/') {
            return Err(odd("its path does not start with a slash"));
        }
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| odd(&format!("`{}` is no method", request.method)))?;
        let path = request.path.parse().map_err(|_| odd("its path is no path"))?;
        let authority = HeaderValue::try_from(format!("{shown}:{port}"))
            .map_err(|_| odd("its host is no host"))?;
        Ok(Self { asked: asked.to_owned(), host, at, tls, method, path, authority })
    }

    fn silent(&self, why: &str) -> EngineError {
        EngineError::Failed(format!("{} gives no answer: {why}", self.asked))
    }

    async fn ask(&self) -> Result<HttpResponse, EngineError> {
        let connecting = async {
            let stream = TcpStream::connect(self.at).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        let stream = timeout(CONNECT, connecting)
            .await
            .map_err(|_| self.silent(&format!("no connection within {CONNECT:?}")))?
            .map_err(|error| self.silent(&errors::io_reason(&error)))?;
        if !self.tls {
            return self.talk(stream).await;
        }
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| self.silent("its host is no name for a certificate"))?;
        let stream = unverified()
            .map_err(|error| self.silent(&error.to_string()))?
            .connect(name, stream)
            .await
            .map_err(|error| self.silent(&errors::io_reason(&error)))?;
        self.talk(stream).await
    }

    async fn talk(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<HttpResponse, EngineError> {
        let broken = |error: hyper::Error| self.silent(&errors::innermost(&error));
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let request = Request::builder()
            .method(self.method.clone())
            .uri(self.path.clone())
            .header(header::HOST, self.authority.clone())
            .header(header::USER_AGENT, "gantry")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.silent(&error.to_string()))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status().as_u16();
            let mut body = response.into_body();
            let mut kept = Vec::new();
            while kept.len() < BODY
                && let Some(frame) = body.frame().await
            {
                if let Ok(data) = frame.map_err(broken)?.into_data() {
                    let room = BODY.saturating_sub(kept.len());
                    kept.extend(data.iter().take(room));
                }
            }
            Ok(HttpResponse { status, body: kept })
        };
        // The connection is driven here and not in a task: it is gone with the answer.
        tokio::pin!(answer);
        tokio::pin!(connection);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                // All that came is in the body already.
                Ok(()) => answer.await,
                Err(error) => match futures_util::future::poll_immediate(&mut answer).await {
                    Some(answer) => answer,
                    None => Err(broken(error)),
                },
            },
        }
    }
}

fn unverified() -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes any certificate: a unit's own is signed by nobody, and the probe carries no secret.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_asked_only_where_it_is_the_containers() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (both, v4) = (["10.0.0.1", "fd00::1"].map(ip), ["10.0.0.1"].map(ip));
        for (bound, remote, asked) in [
            ("0.0.0.0", None, Some("127.0.0.1")),
            ("::", None, Some("::1")),
            ("127.0.0.9", None, Some("127.0.0.9")),
            ("10.0.0.1", None, Some("10.0.0.1")),
            ("0.0.0.0", Some(&both[..]), Some("10.0.0.1")),
            ("::", Some(&both[..]), Some("fd00::1")),
            ("::", Some(&v4[..]), None),
            ("10.0.0.1", Some(&v4[..]), Some("10.0.0.1")),
            ("127.0.0.9", Some(&both[..]), None),
            ("::1", Some(&both[..]), None),
            ("172.17.0.1", Some(&both[..]), None),
        ] {
            assert_eq!(reached(ip(bound), remote), asked.map(ip), "{bound} on {remote:?}");
        }
    }
}

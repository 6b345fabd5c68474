//! tsuru's service API, from the side that asks (its `docs/services/api.rst`):
//!
//! | | |
//! |---|---|
//! | `POST /resources/NAME/bind-app` | the app is bound; the answer is a JSON object of its variables |
//! | `DELETE /resources/NAME/bind-app` | it is not any more |
//! | `POST /resources/NAME/bind` | a unit of the app is on `unit-host` |
//! | `DELETE /resources/NAME/bind` | it is not any more |
//!
//! Requests are forms with basic authentication, answers below 300 say that it is done. Each request is sent once and on a connection of its own, follows no redirect, and ends in time;
//! of an answer no more is read than is needed. Neither our password nor what a service tells an app is in any error.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::builderstates::WantsSchemes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;

use super::super::problem::Trouble;
use super::answer;
use crate::api::ProblemKind;
use crate::client::escape;
use crate::store::{ServiceRecord, Variables};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a service has at most to hear that a unit is gone: nothing depends on it, and units are many.
const UNBIND_UNIT: Duration = Duration::from_secs(10);

/// The most that is read of variables.
const LARGEST_ANSWER: usize = 1 << 20;

/// The most that is read of a refusal.
const LARGEST_REFUSAL: usize = 64 << 10;

/// Why a service did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServiceError {
    /// Nobody answers there: it knows nothing of the request.
    #[error("cannot reach the service `{service}`: {why}")]
    Unreachable {
        /// The service.
        service: String,
        /// Why.
        why: String,
    },
    /// The connection broke after the request was sent.
    #[error("the service `{service}` broke off: {why}")]
    Broken {
        /// The service.
        service: String,
        /// Why.
        why: String,
    },
    /// It took longer than allowed.
    #[error("the service `{service}` did not answer within {seconds} s")]
    TimedOut {
        /// The service.
        service: String,
        /// How long it had.
        seconds: u64,
    },
    /// It says no.
    #[error("the service `{service}` answered {status}{}", told(.body))]
    Refused {
        /// The service.
        service: String,
        /// The status.
        status: u16,
        /// The beginning of what it says.
        body: String,
    },
    /// It says yes, and something that cannot be used.
    #[error("the service `{service}` answered {status} {what}")]
    Garbled {
        /// The service.
        service: String,
        /// The status.
        status: u16,
        /// What is wrong with it.
        what: String,
    },
}

fn told(body: &str) -> String {
    if body.is_empty() { String::new() } else { format!(": {body}") }
}

impl ServiceError {
    /// Whether the service may have done what it was asked for.
    pub(super) fn is_in_doubt(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::TimedOut { .. } | Self::Garbled { .. } => true,
            Self::Unreachable { .. } | Self::Refused { .. } => false,
        }
    }
}

impl Trouble for ServiceError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::TimedOut { .. } => {
                ProblemKind::Unavailable
            }
            Self::Refused { status: 401 | 403, .. } => ProblemKind::Forbidden,
            Self::Refused { status: 404, .. } => ProblemKind::NotFound,
            // 412 says that the instance is still being made.
            Self::Refused { status: 409 | 412, .. } => ProblemKind::Conflict,
            Self::Refused { .. } | Self::Garbled { .. } => ProblemKind::Failed,
        }
    }

    fn detail(&self) -> String {
        self.to_string()
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { service, .. }
            | Self::Broken { service, .. }
            | Self::TimedOut { service, .. } => Some(format!(
                "`gantry service info {service}` shows where it should answer and how long it has"
            )),
            Self::Refused { service, status: 401 | 403, .. } => Some(format!(
                "`gantry service update {service} --username USER --password-file FILE` changes who we are there"
            )),
            Self::Refused { service, status: 404, .. } => {
                Some(format!("it knows nothing called `{service}`: make it there first"))
            }
            Self::Refused { status: 412, .. } => {
                Some("it is not ready yet: do it again later".to_owned())
            }
            Self::Refused { .. } | Self::Garbled { .. } => {
                Some("the log of the service may say more".to_owned())
            }
        }
    }
}

impl From<ServiceError> for gantry_core::Error {
    fn from(error: ServiceError) -> Self {
        let why = error.to_string();
        match error {
            ServiceError::Unreachable { .. }
            | ServiceError::Broken { .. }
            | ServiceError::TimedOut { .. } => Self::Unavailable(why),
            ServiceError::Refused { status: 404, .. } => Self::NotFound(why),
            ServiceError::Refused { status: 409 | 412, .. } => Self::Conflict(why),
            // Also what the service does not let us do: a denial is the operator's.
            ServiceError::Refused { .. } | ServiceError::Garbled { .. } => Self::Other(why),
        }
    }
}

/// The app that a service is told about.
#[derive(Clone, Debug, Default)]
pub(crate) struct BoundApp {
    /// Its name.
    pub(crate) name: String,
    /// Where its routers answer for it.
    pub(crate) hosts: Vec<String>,
}

impl BoundApp {
    fn form(&self, unit_host: Option<&str>) -> String {
        let mut fields = vec![("app-name", self.name.as_str())];
        fields.extend(self.hosts.first().map(|host| ("app-host", host.as_str())));
        fields.extend(self.hosts.iter().map(|host| ("app-hosts", host.as_str())));
        fields.extend(unit_host.map(|host| ("unit-host", host)));
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        fields.join("&")
    }
}

type Plain = Client<HttpConnector, Full<Bytes>>;
type Secure = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Asks services.
#[derive(Clone)]
pub(crate) struct Endpoints {
    plain: Plain,
    // Made when the first service is asked: reading the authorities of the system takes a while.
    secure: Arc<OnceLock<Result<Secure, String>>>,
}

impl Endpoints {
    pub(crate) fn new() -> Self {
        Self { plain: client(tcp()), secure: Arc::default() }
    }

    /// Binds an app, and gives the variables for it.
    pub(super) async fn bind_app(
        &self,
        service: &ServiceRecord,
        app: &BoundApp,
    ) -> Result<Variables, ServiceError> {
        let (status, body) =
            self.ask(service, Method::POST, "bind-app", app.form(None), limit(service)).await?;
        let garbled = |what: String| ServiceError::Garbled {
            service: service.name.clone(),
            status: status.as_u16(),
            what,
        };
        if body.len() > LARGEST_ANSWER {
            return Err(garbled(format!("with more than {LARGEST_ANSWER} bytes")));
        }
        answer::variables(&body).map_err(garbled)
    }

    /// Unbinds an app. One that the service does not know is not bound.
    pub(super) async fn unbind_app(
        &self,
        service: &ServiceRecord,
        app: &BoundApp,
    ) -> Result<(), ServiceError> {
        gone(self.ask(service, Method::DELETE, "bind-app", app.form(None), limit(service)).await)
    }

    /// Tells of a unit of an app.
    pub(super) async fn bind_unit(
        &self,
        service: &ServiceRecord,
        app: &BoundApp,
        host: &str,
    ) -> Result<(), ServiceError> {
        let form = app.form(Some(host));
        self.ask(service, Method::POST, "bind", form, limit(service)).await.map(drop)
    }

    /// Tells that a unit of an app is gone. One that the service does not know is.
    pub(super) async fn unbind_unit(
        &self,
        service: &ServiceRecord,
        app: &BoundApp,
        host: &str,
    ) -> Result<(), ServiceError> {
        let limit = limit(service).min(UNBIND_UNIT);
        gone(self.ask(service, Method::DELETE, "bind", app.form(Some(host)), limit).await)
    }

    /// Asks for something, and gives the answer when it is done.
    async fn ask(
        &self,
        service: &ServiceRecord,
        method: Method,
        what: &str,
        form: String,
        limit: Duration,
    ) -> Result<(StatusCode, Vec<u8>), ServiceError> {
        let late =
            |_| ServiceError::TimedOut { service: service.name.clone(), seconds: limit.as_secs() };
        let asked = self.exchange(service, method, what, form);
        tokio::time::timeout(limit, asked).await.map_err(late)?
    }

    async fn exchange(
        &self,
        service: &ServiceRecord,
        method: Method,
        what: &str,
        form: String,
    ) -> Result<(StatusCode, Vec<u8>), ServiceError> {
        let request = request(service, method, what, form)?;
        let sent = if service.url.starts_with("https:") {
            let secure = self.secure.get_or_init(secure).as_ref();
            let unable = |why: &String| unreachable(service, why.clone());
            secure.map_err(unable)?.request(request)
        } else {
            self.plain.request(request)
        };
        let response = sent.await.map_err(|error| match error.is_connect() {
            true => unreachable(service, innermost(&error)),
            false => broken(service, &error),
        })?;
        let status = response.status();
        if status.is_success() {
            let body = beginning(response, LARGEST_ANSWER).await;
            return Ok((status, body.map_err(|error| broken(service, &error))?));
        }
        // A refusal that breaks off is one.
        let body = beginning(response, LARGEST_REFUSAL).await.unwrap_or_default();
        let password = service.password.reveal();
        Err(ServiceError::Refused {
            service: service.name.clone(),
            status: status.as_u16(),
            body: answer::excerpt(&body, &[&credentials(service), password]),
        })
    }
}

fn unreachable(service: &ServiceRecord, why: String) -> ServiceError {
    ServiceError::Unreachable { service: service.name.clone(), why }
}

fn broken(service: &ServiceRecord, error: &dyn std::error::Error) -> ServiceError {
    ServiceError::Broken { service: service.name.clone(), why: innermost(error) }
}

/// How long a service has.
fn limit(service: &ServiceRecord) -> Duration {
    Duration::from_secs(service.timeout.into())
}

fn gone(answer: Result<(StatusCode, Vec<u8>), ServiceError>) -> Result<(), ServiceError> {
    match answer {
        Ok(_) | Err(ServiceError::Refused { status: 404, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What basic authentication sends.
fn credentials(service: &ServiceRecord) -> String {
    STANDARD.encode(format!("{}:{}", service.username, service.password.reveal()))
}

fn request(
    service: &ServiceRecord,
    method: Method,
    what: &str,
    form: String,
) -> Result<Request<Full<Bytes>>, ServiceError> {
    let unfit = |why: hyper::http::Error| unreachable(service, why.to_string());
    let url = format!("{}/resources/{}/{what}", service.url, escape(&service.name));
    let shown = format!("Basic {}", credentials(service));
    let mut authorization = HeaderValue::try_from(shown).map_err(|error| unfit(error.into()))?;
    authorization.set_sensitive(true);
    Request::builder()
        .method(method)
        .uri(url)
        .header(AUTHORIZATION, authorization)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "gantry")
        .body(Full::from(form))
        .map_err(unfit)
}

/// As much of the body as `most` and one frame more.
async fn beginning(response: Response<Incoming>, most: usize) -> Result<Vec<u8>, hyper::Error> {
    let mut body = response.into_body();
    let mut kept = Vec::new();
    while kept.len() <= most
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame?.into_data() {
            kept.extend_from_slice(&data);
        }
    }
    Ok(kept)
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// A connector that spends no time on who does not answer.
fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_nodelay(true);
    tcp
}

fn client<C: Connect + Clone>(connector: C) -> Client<C, Full<Bytes>> {
    // A request that is sent twice on its own would be told twice.
    Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .retry_canceled_requests(false)
        .build(connector)
}

/// A client that trusts the authorities of the system (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
fn secure() -> Result<Secure, String> {
    let provider = rustls::crypto::ring::default_provider();
    HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(provider)
        .map(secured)
        .map_err(|error| error.to_string())
}

fn secured(tls: HttpsConnectorBuilder<WantsSchemes>) -> Secure {
    let mut tcp = tcp();
    tcp.enforce_http(false);
    client(tls.https_only().enable_http1().wrap_connector(tcp))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, Issuer, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::api::Secret;

    fn service(url: &str) -> ServiceRecord {
        ServiceRecord {
            name: "db".into(),
            url: url.into(),
            username: "me".into(),
            password: Secret::new("hush"),
            timeout: 30,
            created: 0,
        }
    }

    fn app() -> BoundApp {
        BoundApp { name: "web".into(), hosts: vec!["web.example".into(), "www & co".into()] }
    }

    #[test]
    fn a_request_is_a_form_with_basic_authentication() {
        let form = app().form(Some("10.0.0.1"));
        let expected = "app-name=web&app-host=web.example&app-hosts=web.example\
                        &app-hosts=www%20%26%20co&unit-host=10.0.0.1";
        assert_eq!(form, expected);
        assert_eq!(BoundApp { name: "web".into(), hosts: Vec::new() }.form(None), "app-name=web");
        let request = request(&service("http://h/api"), Method::POST, "bind", form).unwrap();
        assert_eq!(request.uri(), "http://h/api/resources/db/bind");
        let authorization = request.headers().get(AUTHORIZATION).unwrap();
        assert_eq!(authorization.as_bytes(), b"Basic bWU6aHVzaA==");
        assert!(!format!("{request:?}").contains("bWU6aHVzaA"), "{request:?}");
    }

    #[test]
    fn what_a_service_says_has_a_kind_and_a_hint() {
        let service = || "db".to_owned();
        let refused =
            |status| ServiceError::Refused { service: service(), status, body: "no".into() };
        let why = || "why".to_owned();
        for (error, kind, in_doubt) in [
            (
                ServiceError::Unreachable { service: service(), why: why() },
                ProblemKind::Unavailable,
                false,
            ),
            (
                ServiceError::Broken { service: service(), why: why() },
                ProblemKind::Unavailable,
                true,
            ),
            (
                ServiceError::TimedOut { service: service(), seconds: 1 },
                ProblemKind::Unavailable,
                true,
            ),
            (
                ServiceError::Garbled { service: service(), status: 201, what: why() },
                ProblemKind::Failed,
                true,
            ),
            (refused(401), ProblemKind::Forbidden, false),
            (refused(404), ProblemKind::NotFound, false),
            (refused(412), ProblemKind::Conflict, false),
            (refused(500), ProblemKind::Failed, false),
            (refused(302), ProblemKind::Failed, false),
        ] {
            assert_eq!((Trouble::kind(&error), error.is_in_doubt()), (kind, in_doubt), "{error}");
            assert!(
                Trouble::hint(&error).is_some() && error.to_string().contains("`db`"),
                "{error}"
            );
        }
        insta::assert_snapshot!(refused(500), @"the service `db` answered 500: no");
    }

    /// A service with a certificate of an authority of its own: answers every request with the same variables. Gives its URL and the authority.
    async fn with_tls() -> (String, RootCertStore) {
        let authority = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let mut roots = RootCertStore::empty();
        roots.add(params.self_signed(&authority).unwrap().der().clone()).unwrap();
        let issuer = Issuer::new(params, authority);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Whoever does not trust us goes away.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let answer = b"HTTP/1.1 201 Created\r\ncontent-length: 9\r\n\r\n{\"A\":\"b\"}";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
        });
        (url, roots)
    }

    fn trusting(roots: RootCertStore) -> Endpoints {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let secure = secured(HttpsConnectorBuilder::new().with_tls_config(tls));
        Endpoints { secure: Arc::new(OnceLock::from(Ok(secure))), ..Endpoints::new() }
    }

    #[tokio::test]
    async fn https_is_spoken_with_those_only_whose_authority_is_trusted() {
        let (url, roots) = with_tls().await;
        let envs = trusting(roots).bind_app(&service(&url), &app()).await.unwrap();
        assert_eq!(envs.0.get("A").map(String::as_str), Some("b"));
        // Those of the system do not know it.
        for stranger in [Endpoints::new(), trusting(RootCertStore::empty())] {
            let error = stranger.bind_app(&service(&url), &app()).await.unwrap_err();
            assert!(matches!(error, ServiceError::Unreachable { .. }), "{error}");
        }
        // Nor is it taken for another by its address.
        let elsewhere = url.replace("localhost", "127.0.0.1");
        let (_, roots) = with_tls().await;
        let error = trusting(roots).bind_app(&service(&elsewhere), &app()).await.unwrap_err();
        assert!(matches!(error, ServiceError::Unreachable { .. }), "{error}");
    }
}

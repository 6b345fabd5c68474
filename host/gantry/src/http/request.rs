//! What a request says beside its path: who asks, how, and the document it carries.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::connect_info::Connected;
use axum::extract::{self, ConnectInfo, FromRequest, FromRequestParts, Query, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::serve::IncomingStream;
use futures_util::StreamExt;
use gantry_engine::OverLimit;
use gantry_runtime::Bound;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;

use super::Refused;
use super::guests::Guests;
use crate::api::{Problem, ProblemKind};
use crate::operation::Caller;
use crate::service::Service;

/// How large a document may be.
pub(super) const LARGEST_DOCUMENT: usize = 1 << 20;

/// How many times what is allowed is read before the caller is cut off.
const ENOUGH: usize = 16;

/// How long an idempotency key may be.
const LONGEST_KEY: usize = 255;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer(String);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        match stream.io().peer_cred() {
            Ok(cred) => Self(format!("uid {}", cred.uid())),
            Err(_) => Self("local".to_owned()),
        }
    }
}

impl Connected<IncomingStream<'_, Guests>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Guests>) -> Self {
        Self(format!("token from {}", stream.remote_addr().ip()))
    }
}

#[derive(Default, Deserialize)]
struct Waiting {
    #[serde(default)]
    wait: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refused> {
        let who =
            parts.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.0.clone());
        let wait = Query::<Waiting>::try_from_uri(&parts.uri).is_ok_and(|Query(query)| query.wait);
        let key = key(&parts.headers)?;
        Ok(Self { who: who.unwrap_or_default(), key, wait, ..Self::default() })
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= LONGEST_KEY => Ok(Some(key.to_owned())),
        Ok(_) | Err(_) => Err(Refused(
            Problem::new(ProblemKind::Invalid, "the idempotency key cannot be used")
                .because(format!("it is not text of 1 to {LONGEST_KEY} characters")),
        )),
    }
}

/// The body of a request, or how long it is when that is more than `most`.
///
/// What is too much is read to its end and forgotten, within reason: a caller that is still sending would not see the answer.
async fn body(request: Request, most: usize) -> Result<Result<Bytes, usize>, Refused> {
    let mut frames = request.into_body().into_data_stream();
    let (mut bytes, mut length) = (Vec::new(), 0_usize);
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|error| unreadable(error.to_string()))?;
        length = length.saturating_add(frame.len());
        if length <= most {
            bytes.extend_from_slice(&frame);
        } else if length > most.saturating_mul(ENOUGH) {
            break;
        }
    }
    Ok(if length <= most { Ok(Bytes::from(bytes)) } else { Err(length) })
}

fn unreadable(why: String) -> Refused {
    Refused(Problem::new(ProblemKind::Invalid, "cannot read the request").because(why))
}

/// The JSON document of a request.
pub(crate) struct Document<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Document<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refused> {
        let bytes = body(request, LARGEST_DOCUMENT).await?.map_err(|_| {
            unreadable(format!("the document has more than {LARGEST_DOCUMENT} bytes"))
        })?;
        // A request without a document asks for the defaults.
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(bytes).map(Self).map_err(|error| unreadable(error.to_string()))
    }
}

/// The bytes of a plugin, at most as many as the largest one may have.
pub(crate) struct Upload(pub(crate) Bytes);

impl FromRequest<Arc<Service>> for Upload {
    type Rejection = Refused;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, Refused> {
        let most = service.largest_plugin();
        body(request, most).await?.map(Self).map_err(|_| {
            let value = Bound::PluginSize.show(u64::try_from(most).unwrap_or(u64::MAX));
            let over = OverLimit { bound: Bound::PluginSize.name().to_owned(), value };
            let problem = Problem::new(ProblemKind::OverLimit, "the plugin is too large");
            Refused(problem.because(over.to_string()))
        })
    }
}

/// The parts of the path that name something.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        match extract::Path::from_request_parts(parts, state).await {
            Ok(extract::Path(named)) => Ok(Self(named)),
            Err(rejection) => Err(Refused(
                Problem::new(ProblemKind::Invalid, "cannot read the path")
                    .because(rejection.body_text()),
            )),
        }
    }
}

/// The query of a request.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refused> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Refused(
                Problem::new(ProblemKind::Invalid, "cannot read the query")
                    .because(rejection.body_text()),
            )),
        }
    }
}

/// The event a reader saw last.
pub(crate) struct After(pub(crate) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for After {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        _state: &S,
    ) -> Result<Self, std::convert::Infallible> {
        let after = parts.headers.get("last-event-id").and_then(|value| value.to_str().ok());
        Ok(Self(after.map(str::to_owned)))
    }
}

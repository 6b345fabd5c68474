//! `/v1/apps/{app}/build`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::BodyDataStream;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use serde::Deserialize;

use super::request::{Asked, Path};
use super::{Refused, accepted};
use crate::api::{Accepted, BUILD_ARGS, Problem, ProblemKind};
use crate::operation::Caller;
use crate::service::{Service, build_options};

/// How much more of a source is read when its fate is clear.
const ENOUGH: usize = 64 << 20;

/// How long it is read then.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// When to come again for a turn, in seconds.
const AGAIN: HeaderValue = HeaderValue::from_static("30");

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct BuildArgs {
    dockerfile: String,
    /// Where the arguments of the build are not.
    args: Option<String>,
}

pub(super) async fn deploy(
    State(service): State<Arc<Service>>,
    Path(app): Path<String>,
    Asked(BuildArgs { dockerfile, args }): Asked<BuildArgs>,
    caller: Caller,
    headers: HeaderMap,
    request: Request,
) -> Result<(StatusCode, Json<Accepted>), Response> {
    let mut parts = request.into_body().into_data_stream();
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|size| size.to_str().ok()?.parse().ok());
    let received = async {
        let options = build_options(dockerfile, arguments(&headers, args.is_some())?);
        service.may_build(&app, &options).await?;
        Ok((service.receive_source(&app, announced, &mut parts).await?, options))
    };
    match received.await {
        Ok((source, options)) => {
            let deployed = service.deploy_source(caller, &app, source, options).await;
            deployed.map(accepted).map_err(refusal)
        }
        Err(problem) => {
            let ending = service.ending();
            tokio::spawn(async move {
                let forgotten = tokio::time::timeout(FORGOTTEN, forget(parts));
                ending.run_until_cancelled(forgotten).await
            });
            Err(refusal(problem))
        }
    }
}

/// A refusal; of one that is over by itself it says when to come again.
fn refusal(problem: Problem) -> Response {
    let again = problem.kind == ProblemKind::Overloaded;
    let mut response = Refused(problem).into_response();
    if again {
        response.headers_mut().insert(header::RETRY_AFTER, AGAIN);
    }
    response
}

/// Reads on while the answer is on its way: a caller that is still sending would find the connection closed before it sees why. It ends with the connection, in time, or with the daemon.
async fn forget(mut parts: BodyDataStream) {
    let mut read = 0_usize;
    while let Some(Ok(part)) = parts.next().await {
        read = read.saturating_add(part.len());
        if read > ENOUGH {
            break;
        }
    }
}

/// The arguments of the build.
fn arguments(headers: &HeaderMap, in_url: bool) -> Result<BTreeMap<String, String>, Problem> {
    let wrong = |why: String| {
        Problem::new(ProblemKind::Invalid, "cannot read the arguments of the build").because(why)
    };
    if in_url {
        return Err(wrong(format!("they are in the URL, and belong in the header `{BUILD_ARGS}`")));
    }
    let Some(value) = headers.get(BUILD_ARGS) else { return Ok(BTreeMap::new()) };
    let bytes = STANDARD.decode(value.as_bytes());
    let bytes = bytes.map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_got_no_turn_is_told_when_to_come_again() {
        let again = |kind| {
            let response = refusal(Problem::new(kind, "no"));
            let again = response.headers().get(header::RETRY_AFTER).cloned();
            (response.status().as_u16(), again)
        };
        assert_eq!(again(ProblemKind::Overloaded), (503, Some(AGAIN)));
        assert_eq!(again(ProblemKind::Invalid), (400, None));
    }

    #[test]
    fn arguments_are_in_their_header_and_nowhere_else() {
        let read = |value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            arguments(&HeaderMap::from_iter([(BUILD_ARGS.parse().unwrap(), value)]), false)
        };
        let args = BTreeMap::from([("A".to_owned(), "\u{e9} 1".to_owned())]);
        let sent = STANDARD.encode(serde_json::to_vec(&args).unwrap());
        assert_eq!(read(&sent), Ok(args));
        assert_eq!(arguments(&HeaderMap::new(), false), Ok(BTreeMap::new()));
        for (value, why) in [("{}", "Invalid symbol"), (&*STANDARD.encode("A=1"), "expected value")]
        {
            assert!(read(value).unwrap_err().detail.contains(why), "{value}");
        }
        let problem = arguments(&HeaderMap::new(), true).unwrap_err();
        assert!(problem.detail.contains("`gantry-build-args`"), "{problem:?}");
    }
}

//! `/v1/routers` and `/v1/routes`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use super::request::{After, Document, Path};
use super::{Answer, accepted, events};
use crate::api::{Accepted, Items, Router, RouterInfo, Swap};
use crate::operation::Caller;
use crate::service::Service;

type Here = State<Arc<Service>>;

pub(super) async fn routers(State(service): Here) -> Answer<Json<Items<Router>>> {
    Ok(Json(Items { items: service.routers().await? }))
}

pub(super) async fn router(
    State(service): Here,
    Path(name): Path<String>,
) -> Answer<Json<RouterInfo>> {
    Ok(Json(service.router(&name).await?))
}

/// The routing table, or that it is the one that the reader has.
pub(super) async fn table(State(service): Here, headers: HeaderMap) -> Answer<Response> {
    let now = quoted(&service.routing_tag());
    let (tag, mut response) = if has(&headers, &now) {
        (now, StatusCode::NOT_MODIFIED.into_response())
    } else {
        let (tag, table) = service.routing_table().await?;
        (quoted(&tag), Json(table).into_response())
    };
    // It is made of digits, letters and a dash: it has no way to fail.
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

/// Whether a reader has what this tag is of.
fn has(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut tags =
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    // A proxy on the way may have made it a weak one.
    tags.any(|one| matches!(one.trim(), one if one == "*" || one.trim_start_matches("W/") == tag))
}

pub(super) async fn follow(State(service): Here, After(after): After) -> Response {
    let told = service
        .follow_routes(after.as_deref())
        .map(|(tag, changed)| events::event("changed", Some(tag), &changed));
    events::answer_until(service.ending(), told)
}

pub(super) async fn swap(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(with): Document<Swap>,
) -> Answer<(StatusCode, Json<Accepted>)> {
    Ok(accepted(service.swap_apps(caller, &app, with).await?))
}

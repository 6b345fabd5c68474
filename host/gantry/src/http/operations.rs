//! `/v1/operations`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt;
use serde::Deserialize;

use super::request::{After, Asked, Path};
use super::{Answer, events};
use crate::api::{Items, Line, Operation, OperationInfo};
use crate::clock;
use crate::operation::Update;
use crate::service::Service;

/// How many operations are given at once.
const MOST: u32 = 500;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    app: Option<String>,
    state: Option<String>,
    before: Option<String>,
    limit: Option<u32>,
}

pub(super) async fn list(
    State(service): State<Arc<Service>>,
    Asked(filter): Asked<Filter>,
) -> Answer<Json<Items<Operation>>> {
    let items = service
        .list_operations(
            filter.app.as_deref(),
            filter.state.as_deref(),
            filter.before.as_deref(),
            filter.limit.unwrap_or(20).min(MOST),
        )
        .await?;
    Ok(Json(Items { items }))
}

pub(super) async fn info(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
) -> Answer<Json<OperationInfo>> {
    Ok(Json(service.operation(&id).await?))
}

pub(super) async fn cancel(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    service.cancel_operation(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn events(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    After(after): After,
) -> Answer<Response> {
    let after = after.and_then(|after| after.parse().ok()).unwrap_or(0);
    let updates = service.follow_operation(&id, after).await?;
    let updates = updates.map(|update| match update {
        Update::Line(line) => {
            let told = Line { at: clock::text(line.at), text: line.text };
            events::event("line", Some(line.number.to_string()), &told)
        }
        Update::End(operation) => events::event("end", None, &operation),
    });
    Ok(events::answer(updates))
}

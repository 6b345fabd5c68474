//! `/v1/pools`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::request::{Document, Path};
use super::{Answer, accepted};
use crate::api::{Accepted, Items, NewPool, Pool};
use crate::operation::Caller;
use crate::service::Service;

type Changed = Answer<(StatusCode, Json<Accepted>)>;
type Here = State<Arc<Service>>;

pub(super) async fn list(State(service): Here) -> Answer<Json<Items<Pool>>> {
    Ok(Json(Items { items: service.pools().await? }))
}

pub(super) async fn create(
    State(service): Here,
    caller: Caller,
    Document(new): Document<NewPool>,
) -> Changed {
    Ok(accepted(service.create_pool(caller, new).await?))
}

pub(super) async fn remove(
    State(service): Here,
    Path(pool): Path<String>,
    caller: Caller,
) -> Changed {
    Ok(accepted(service.remove_pool(caller, &pool).await?))
}

//! `/v1/volumes`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::request::{Document, Path};
use super::{Answer, accepted};
use crate::api::{Accepted, BindChange, Items, NewVolume, Volume};
use crate::operation::Caller;
use crate::service::Service;

type Changed = Answer<(StatusCode, Json<Accepted>)>;
type Here = State<Arc<Service>>;

pub(super) async fn list(State(service): Here) -> Answer<Json<Items<Volume>>> {
    Ok(Json(Items { items: service.volumes().await? }))
}

pub(super) async fn info(State(service): Here, Path(volume): Path<String>) -> Answer<Json<Volume>> {
    Ok(Json(service.volume(&volume).await?))
}

pub(super) async fn create(
    State(service): Here,
    caller: Caller,
    Document(new): Document<NewVolume>,
) -> Changed {
    Ok(accepted(service.create_volume(caller, new).await?))
}

pub(super) async fn remove(
    State(service): Here,
    Path(volume): Path<String>,
    caller: Caller,
) -> Changed {
    Ok(accepted(service.remove_volume(caller, &volume).await?))
}

pub(super) async fn bind(
    State(service): Here,
    Path(volume): Path<String>,
    caller: Caller,
    Document(change): Document<BindChange>,
) -> Changed {
    Ok(accepted(service.bind_volume(caller, &volume, change).await?))
}

pub(super) async fn unbind(
    State(service): Here,
    Path(volume): Path<String>,
    caller: Caller,
    Document(change): Document<BindChange>,
) -> Changed {
    Ok(accepted(service.unbind_volume(caller, &volume, change).await?))
}

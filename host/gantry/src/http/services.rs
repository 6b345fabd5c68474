//! `/v1/services`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::request::{Document, Path};
use super::{Answer, accepted};
use crate::api::{self, Accepted, Items, NewService, ServiceBindChange, ServiceChange};
use crate::operation::Caller;
use crate::service::Service;

type Changed = Answer<(StatusCode, Json<Accepted>)>;
type Here = State<Arc<Service>>;

pub(super) async fn list(State(service): Here) -> Answer<Json<Items<api::Service>>> {
    Ok(Json(Items { items: service.services().await? }))
}

pub(super) async fn info(
    State(service): Here,
    Path(name): Path<String>,
) -> Answer<Json<api::Service>> {
    Ok(Json(service.service_info(&name).await?))
}

pub(super) async fn add(
    State(service): Here,
    caller: Caller,
    Document(new): Document<NewService>,
) -> Changed {
    Ok(accepted(service.add_service(caller, new).await?))
}

pub(super) async fn update(
    State(service): Here,
    Path(name): Path<String>,
    caller: Caller,
    Document(change): Document<ServiceChange>,
) -> Changed {
    Ok(accepted(service.update_service(caller, &name, change).await?))
}

pub(super) async fn remove(
    State(service): Here,
    Path(name): Path<String>,
    caller: Caller,
) -> Changed {
    Ok(accepted(service.remove_service(caller, &name).await?))
}

pub(super) async fn bind(
    State(service): Here,
    Path(name): Path<String>,
    caller: Caller,
    Document(change): Document<ServiceBindChange>,
) -> Changed {
    Ok(accepted(service.bind_service(caller, &name, change).await?))
}

pub(super) async fn unbind(
    State(service): Here,
    Path(name): Path<String>,
    caller: Caller,
    Document(change): Document<ServiceBindChange>,
) -> Changed {
    Ok(accepted(service.unbind_service(caller, &name, change).await?))
}

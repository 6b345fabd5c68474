//! `/v1/node-containers`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::request::{Document, Path};
use super::{Answer, accepted};
use crate::api::{
    Accepted, Items, NewNodeContainer, NodeContainerChange, NodeContainerInfo, PoolChoice,
};
use crate::operation::Caller;
use crate::service::Service;

type Changed = Answer<(StatusCode, Json<Accepted>)>;
type Here = State<Arc<Service>>;

pub(super) async fn list(State(service): Here) -> Answer<Json<Items<NodeContainerInfo>>> {
    Ok(Json(Items { items: service.node_containers().await? }))
}

pub(super) async fn info(
    State(service): Here,
    Path(name): Path<String>,
) -> Answer<Json<NodeContainerInfo>> {
    Ok(Json(service.node_container(&name).await?))
}

pub(super) async fn add(
    State(service): Here,
    caller: Caller,
    Document(new): Document<NewNodeContainer>,
) -> Changed {
    Ok(accepted(service.add_node_container(caller, new).await?))
}

pub(super) async fn update(
    State(service): Here,
    Path(name): Path<String>,
    caller: Caller,
    Document(change): Document<NodeContainerChange>,
) -> Changed {
    Ok(accepted(service.update_node_container(caller, &name, change).await?))
}

pub(super) async fn upgrade(
    State(service): Here,
    Path(name): Path<String>,
    caller: Caller,
    Document(choice): Document<PoolChoice>,
) -> Changed {
    Ok(accepted(service.upgrade_node_container(caller, &name, choice).await?))
}

pub(super) async fn remove(
    State(service): Here,
    Path(name): Path<String>,
    caller: Caller,
    Document(choice): Document<PoolChoice>,
) -> Changed {
    Ok(accepted(service.remove_node_container(caller, &name, choice).await?))
}

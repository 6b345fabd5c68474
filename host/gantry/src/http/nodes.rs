//! `/v1/nodes` and `/v1/node-containers`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::request::{Asked, Document};
use super::{Answer, accepted};
use crate::api::{Accepted, NewNode, NodeChange, NodeInfo, NodeList, NodeRemoval, PoolChoice};
use crate::operation::Caller;
use crate::service::{NodeContainers, Service};

type Changed = Answer<(StatusCode, Json<Accepted>)>;
type Here = State<Arc<Service>>;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    pool: Option<String>,
}

pub(super) async fn list(
    State(service): Here,
    Asked(filter): Asked<Filter>,
) -> Answer<Json<NodeList>> {
    Ok(Json(service.nodes(filter.pool.as_deref()).await?))
}

pub(super) async fn info(State(service): Here, Path(node): Path<String>) -> Answer<Json<NodeInfo>> {
    Ok(Json(service.node(&node).await?))
}

pub(super) async fn add(
    State(service): Here,
    caller: Caller,
    Document(new): Document<NewNode>,
) -> Changed {
    Ok(accepted(service.add_node(caller, new).await?))
}

pub(super) async fn update(
    State(service): Here,
    Path(node): Path<String>,
    caller: Caller,
    Document(change): Document<NodeChange>,
) -> Changed {
    Ok(accepted(service.update_node(caller, &node, change).await?))
}

pub(super) async fn remove(
    State(service): Here,
    Path(node): Path<String>,
    caller: Caller,
    Document(removal): Document<NodeRemoval>,
) -> Changed {
    Ok(accepted(service.remove_node(caller, &node, removal).await?))
}

pub(super) async fn upgrade_containers(
    State(service): Here,
    Path(name): Path<String>,
    caller: Caller,
    Document(choice): Document<PoolChoice>,
) -> Changed {
    let what = NodeContainers::Upgrade;
    Ok(accepted(service.node_containers(caller, what, &name, choice).await?))
}

pub(super) async fn remove_containers(
    State(service): Here,
    Path(name): Path<String>,
    caller: Caller,
    Document(choice): Document<PoolChoice>,
) -> Changed {
    let what = NodeContainers::Remove;
    Ok(accepted(service.node_containers(caller, what, &name, choice).await?))
}

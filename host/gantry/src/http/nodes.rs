//! `/v1/nodes`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::request::{Asked, Document, Path};
use super::{Answer, accepted};
use gantry_core::node::NodeStatusData;

use crate::api::{
    Accepted, Items, NewNode, NodeChange, NodeInfo, NodeList, NodeRemoval, Rebalance, ReportedUnit,
};
use crate::operation::Caller;
use crate::service::Service;

type Changed = Answer<(StatusCode, Json<Accepted>)>;
type Here = State<Arc<Service>>;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    pool: Option<String>,
    provisioner: Option<String>,
}

pub(super) async fn list(
    State(service): Here,
    Asked(filter): Asked<Filter>,
) -> Answer<Json<NodeList>> {
    let Filter { pool, provisioner } = filter;
    Ok(Json(service.nodes(pool.as_deref(), provisioner.as_deref()).await?))
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

pub(super) async fn rebalance(
    State(service): Here,
    caller: Caller,
    Document(asked): Document<Rebalance>,
) -> Changed {
    Ok(accepted(service.rebalance(caller, asked).await?))
}

pub(super) async fn report(
    State(service): Here,
    Document(data): Document<NodeStatusData>,
) -> Answer<Json<Items<ReportedUnit>>> {
    Ok(Json(Items { items: service.report_node(&data).await? }))
}

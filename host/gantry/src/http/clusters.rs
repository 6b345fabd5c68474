//! `/v1/clusters`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::request::{Document, Path};
use super::{Answer, accepted};
use crate::api::{Accepted, Cluster, ClusterChange, Items, NewCluster};
use crate::operation::Caller;
use crate::service::Service;

type Changed = Answer<(StatusCode, Json<Accepted>)>;
type Here = State<Arc<Service>>;

pub(super) async fn list(State(service): Here) -> Answer<Json<Items<Cluster>>> {
    Ok(Json(Items { items: service.clusters().await? }))
}

pub(super) async fn info(
    State(service): Here,
    Path(cluster): Path<String>,
) -> Answer<Json<Cluster>> {
    Ok(Json(service.cluster(&cluster).await?))
}

pub(super) async fn add(
    State(service): Here,
    caller: Caller,
    Document(new): Document<NewCluster>,
) -> Changed {
    Ok(accepted(service.add_cluster(caller, new).await?))
}

pub(super) async fn update(
    State(service): Here,
    Path(cluster): Path<String>,
    caller: Caller,
    Document(change): Document<ClusterChange>,
) -> Changed {
    Ok(accepted(service.update_cluster(caller, &cluster, change).await?))
}

pub(super) async fn remove(
    State(service): Here,
    Path(cluster): Path<String>,
    caller: Caller,
) -> Changed {
    Ok(accepted(service.remove_cluster(caller, &cluster).await?))
}

//! `/v1/plans`, and the quota of an app.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::request::{Document, Path};
use super::{Answer, accepted};
use crate::api::{Accepted, Items, NewPlan, PlanInfo, Quota, QuotaChange};
use crate::operation::Caller;
use crate::service::Service;

type Changed = Answer<(StatusCode, Json<Accepted>)>;
type Here = State<Arc<Service>>;

pub(super) async fn list(State(service): Here) -> Answer<Json<Items<PlanInfo>>> {
    Ok(Json(Items { items: service.plans().await? }))
}

pub(super) async fn info(State(service): Here, Path(plan): Path<String>) -> Answer<Json<PlanInfo>> {
    Ok(Json(service.plan(&plan).await?))
}

pub(super) async fn create(
    State(service): Here,
    caller: Caller,
    Document(new): Document<NewPlan>,
) -> Changed {
    Ok(accepted(service.create_plan(caller, new).await?))
}

pub(super) async fn remove(
    State(service): Here,
    Path(plan): Path<String>,
    caller: Caller,
) -> Changed {
    Ok(accepted(service.remove_plan(caller, &plan).await?))
}

pub(super) async fn quota(State(service): Here, Path(app): Path<String>) -> Answer<Json<Quota>> {
    Ok(Json(service.quota(&app).await?))
}

pub(super) async fn change_quota(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(QuotaChange { units }): Document<QuotaChange>,
) -> Changed {
    Ok(accepted(service.change_quota(caller, &app, units.number()).await?))
}

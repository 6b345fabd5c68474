//! `/v1/apps/{app}/units/register`: for the agents in units, which show the token of their app and none of the daemon's.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::HeaderMap;
use axum::{Form, Json};
use gantry_core::EnvVar;
use serde::Deserialize;

use super::request::Path;
use super::{Answer, shown};
use crate::api::{Problem, ProblemKind};
use crate::service::Service;

/// What the reference's agents send, which is a form.
#[derive(Deserialize)]
pub(super) struct Registration {
    /// What the unit is called where it runs: its id or the beginning of it.
    hostname: String,
    /// What it knows of its image, as JSON.
    #[serde(default)]
    customdata: String,
}

pub(super) async fn register(
    State(service): State<Arc<Service>>,
    Path(app): Path<String>,
    headers: HeaderMap,
    form: Result<Form<Registration>, FormRejection>,
) -> Answer<Json<Vec<EnvVar>>> {
    service.is_agent_of(&app, shown(&headers)).await?;
    let Form(Registration { hostname, customdata }) = form.map_err(|error| {
        Problem::new(ProblemKind::Invalid, "cannot read the form").because(error.body_text())
    })?;
    if hostname.is_empty() {
        return Err(Problem::new(ProblemKind::Invalid, "cannot read the form")
            .because("`hostname` is empty")
            .into());
    }
    // In a task of its own: an agent that waits for no answer has said it all the same.
    let registered = tokio::spawn(async move {
        let data = (!customdata.is_empty()).then_some(customdata.as_str());
        service.register_unit(&app, &hostname, data).await
    });
    let registered = registered.await.map_err(|_| {
        Problem::new(ProblemKind::Internal, "could not register the unit")
            .because("the daemon panicked; its log says where")
    })?;
    Ok(Json(registered?))
}

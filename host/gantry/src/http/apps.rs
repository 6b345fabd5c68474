//! `/v1/apps`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt;
use gantry_core::{Status, Unit};
use serde::Deserialize;

use super::request::{After, Asked, Document, Path};
use super::{Answer, accepted, events};
use crate::api::{
    Accepted, AppChange, AppInfo, AppList, AppRemoval, Deploy, EnvChange, EnvVar, Items, NewApp,
    Problem, ProblemKind, ProcessChoice, Run, RunEnd, RunOutput, UnitCount, UnitKill, UnitList,
};
use crate::operation::Caller;
use crate::service::{LogEvent, LogQuery, RunEvent, Service};

type Changed = Answer<(StatusCode, Json<Accepted>)>;
type Here = State<Arc<Service>>;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ListArgs {
    /// Only apps with a unit of one of these, separated by commas.
    status: String,
}

pub(super) async fn list(
    State(service): Here,
    Asked(ListArgs { status }): Asked<ListArgs>,
) -> Answer<Json<AppList>> {
    Ok(Json(service.apps(&statuses(&status)?).await?))
}

fn statuses(words: &str) -> Result<Vec<Status>, Problem> {
    let status = |word: &str| {
        word.parse().map_err(|error: gantry_core::Error| {
            let known = Status::ALL.map(Status::as_str).join("`, `");
            Problem::new(ProblemKind::Invalid, "could not list the apps")
                .because(format!("`{word}`: {error}"))
                .hint(format!("there is `{known}`"))
        })
    };
    words.split(',').filter(|_| !words.is_empty()).map(status).collect()
}

pub(super) async fn info(State(service): Here, Path(app): Path<String>) -> Answer<Json<AppInfo>> {
    Ok(Json(service.app_info(&app).await?))
}

pub(super) async fn create(
    State(service): Here,
    caller: Caller,
    Document(new): Document<NewApp>,
) -> Changed {
    Ok(accepted(service.create_app(caller, new).await?))
}

pub(super) async fn remove(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(AppRemoval { force }): Document<AppRemoval>,
) -> Changed {
    Ok(accepted(service.remove_app(caller, &app, force).await?))
}

pub(super) async fn update(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(change): Document<AppChange>,
) -> Changed {
    Ok(accepted(service.update_app(caller, &app, change).await?))
}

pub(super) async fn deploy(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(Deploy { image }): Document<Deploy>,
) -> Changed {
    Ok(accepted(service.deploy(caller, &app, image).await?))
}

pub(super) async fn rollback(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(Deploy { image }): Document<Deploy>,
) -> Changed {
    Ok(accepted(service.rollback(caller, &app, image).await?))
}

pub(super) async fn start(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(ProcessChoice { process }): Document<ProcessChoice>,
) -> Changed {
    Ok(accepted(service.start(caller, &app, process).await?))
}

pub(super) async fn stop(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(ProcessChoice { process }): Document<ProcessChoice>,
) -> Changed {
    Ok(accepted(service.stop(caller, &app, process).await?))
}

pub(super) async fn sleep(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(ProcessChoice { process }): Document<ProcessChoice>,
) -> Changed {
    Ok(accepted(service.sleep(caller, &app, process).await?))
}

pub(super) async fn restart(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(ProcessChoice { process }): Document<ProcessChoice>,
) -> Changed {
    Ok(accepted(service.restart(caller, &app, process).await?))
}

pub(super) async fn units(
    State(service): Here,
    Path(app): Path<String>,
) -> Answer<Json<Items<Unit>>> {
    Ok(Json(Items { items: service.units(&app).await? }))
}

pub(super) async fn all_units(State(service): Here) -> Answer<Json<UnitList>> {
    Ok(Json(service.all_units().await?))
}

pub(super) async fn add_units(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(UnitCount { count, process }): Document<UnitCount>,
) -> Changed {
    Ok(accepted(service.add_units(caller, &app, count, process).await?))
}

pub(super) async fn set_units(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(UnitCount { count, process }): Document<UnitCount>,
) -> Changed {
    Ok(accepted(service.set_units(caller, &app, count, process).await?))
}

pub(super) async fn kill_unit(
    State(service): Here,
    Path((app, unit)): Path<(String, String)>,
    caller: Caller,
    Document(kill): Document<UnitKill>,
) -> Changed {
    Ok(accepted(service.kill_unit(caller, &app, unit, kill.force).await?))
}

pub(super) async fn remove_units(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(UnitCount { count, process }): Document<UnitCount>,
) -> Changed {
    Ok(accepted(service.remove_units(caller, &app, count, process).await?))
}

pub(super) async fn envs(
    State(service): Here,
    Path(app): Path<String>,
) -> Answer<Json<Items<EnvVar>>> {
    Ok(Json(Items { items: service.envs(&app).await? }))
}

pub(super) async fn change_envs(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(change): Document<EnvChange>,
) -> Changed {
    Ok(accepted(service.change_envs(caller, &app, change).await?))
}

pub(super) async fn run(
    State(service): Here,
    Path(app): Path<String>,
    caller: Caller,
    Document(run): Document<Run>,
) -> Answer<Response> {
    let output = service.run(caller, &app, run).await?;
    let hex = |bytes: &[u8]| RunOutput { hex: bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let told = output.map(move |event| match event {
        RunEvent::Stdout(bytes) => events::event("stdout", None, &hex(&bytes)),
        RunEvent::Stderr(bytes) => events::event("stderr", None, &hex(&bytes)),
        RunEvent::Line(line) => events::event("line", None, &line),
        RunEvent::Exit(code) => events::event("exit", None, &RunEnd { code }),
        RunEvent::Problem(problem) => events::event("problem", None, &problem),
    });
    Ok(events::answer(told))
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct LogArgs {
    lines: Option<u32>,
    follow: bool,
    process: String,
    unit: String,
}

pub(super) async fn log(
    State(service): Here,
    Path(app): Path<String>,
    Asked(args): Asked<LogArgs>,
    After(after): After,
) -> Answer<Response> {
    let query = LogQuery {
        lines: args.lines.unwrap_or(10),
        follow: args.follow,
        process: args.process,
        unit: args.unit,
    };
    let told = service.log(&app, query, after.as_deref()).await?;
    let told = told.map(|(id, event)| match event {
        LogEvent::Line(line) => events::event("line", Some(id), &line),
        LogEvent::Problem(problem) => events::event("problem", Some(id), &problem),
        LogEvent::End => events::event("end", Some(id), &()),
    });
    Ok(events::answer_until(service.ending(), told))
}

//! Between the generated types and our own, in one place: `x_to` makes what a guest sees, `x_from` what it said. Everything here is total.

use std::collections::BTreeMap;

use gantry_core::image::ImageMetadata;
use gantry_core::{App, AppRouter, EnvVar, Error, Status, Unit};
use gantry_engine::EngineError;
use gantry_engine::call::{
    BuildOptions, ContainerSummary, Entry, ExecOptions, ExecState, HttpRequest, HttpResponse,
    Layer, LogOptions, PathStat,
};

use crate::bindings::exports::gantry::provision::plugin as wit_plugin;
use crate::bindings::gantry::provision::{
    apps as wit_apps, containers as wit_containers, images as wit_images, state as wit_state,
    types as wit,
};
use crate::call::{engine_error, platform_error};
use crate::generation::{Description, GrantRequest, LimitRequest};

/// Pairs as a guest gives them; the last of two with one name wins.
pub(crate) fn table(pairs: Vec<(String, String)>) -> BTreeMap<String, String> {
    pairs.into_iter().collect()
}

/// A table as a guest gets it: sorted by name.
pub(crate) fn pairs(table: BTreeMap<String, String>) -> Vec<(String, String)> {
    table.into_iter().collect()
}

pub(crate) fn app_to(app: &App) -> wit::App {
    wit::App {
        name: app.name.clone(),
        platform: app.platform.clone(),
        pool: app.pool.clone(),
        team_owner: app.team_owner.clone(),
        deploys: app.deploys,
        memory: app.memory,
        swap: app.swap,
        cpu_share: app.cpu_share,
        update_platform: app.update_platform,
    }
}

pub(crate) fn app_from(app: wit::App) -> App {
    App {
        name: app.name,
        platform: app.platform,
        pool: app.pool,
        team_owner: app.team_owner,
        deploys: app.deploys,
        memory: app.memory,
        swap: app.swap,
        cpu_share: app.cpu_share,
        update_platform: app.update_platform,
    }
}

fn status_from(status: wit::Status) -> Status {
    match status {
        wit::Status::Created => Status::Created,
        wit::Status::Building => Status::Building,
        wit::Status::Error => Status::Error,
        wit::Status::Starting => Status::Starting,
        wit::Status::Started => Status::Started,
        wit::Status::Stopped => Status::Stopped,
        wit::Status::Asleep => Status::Asleep,
    }
}

pub(crate) fn unit_from(unit: wit::Unit) -> Unit {
    Unit {
        id: unit.id,
        name: unit.name,
        app_name: unit.app_name,
        process_name: unit.process_name,
        kind: unit.type_,
        ip: unit.ip,
        status: unit.status.map(status_from),
        address: unit.address,
    }
}

/// The bytes that a unit takes in the host, near enough for a bound.
pub(crate) fn unit_weight(unit: &wit::Unit) -> usize {
    let wit::Unit { id, name, app_name, process_name, type_, ip, status: _, address } = unit;
    [id, name, app_name, process_name, type_, ip]
        .into_iter()
        .chain(address)
        .map(String::len)
        .fold(size_of::<Unit>(), usize::saturating_add)
}

pub(crate) fn env_to(env: EnvVar) -> wit::EnvVar {
    wit::EnvVar { name: env.name, value: env.value, public: env.public }
}

pub(crate) fn router_to(router: AppRouter) -> wit_apps::AppRouter {
    wit_apps::AppRouter {
        name: router.name,
        options: pairs(router.options),
        address: router.address,
        type_: router.kind,
        status: router.status,
        status_detail: router.status_detail,
    }
}

fn error_to(error: Error) -> wit::Error {
    match error {
        Error::UnitNotFound(id) => wit::Error::UnitNotFound(id),
        Error::NodeNotFound => wit::Error::NodeNotFound,
        Error::EmptyApp => wit::Error::EmptyApp,
        Error::InvalidStatus => wit::Error::InvalidStatus,
        Error::InvalidProcess(text) => wit::Error::InvalidProcess(text),
        Error::UnitStartup(text) => wit::Error::UnitStartup(text),
        Error::QuotaExceeded { available, requested } => {
            wit::Error::QuotaExceeded(wit::QuotaExcess { available, requested })
        }
        Error::NotSupported(action) => wit::Error::NotSupported(action),
        Error::NotFound(text) => wit::Error::NotFound(text),
        Error::Conflict(text) => wit::Error::Conflict(text),
        Error::InvalidArgument(text) => wit::Error::InvalidArgument(text),
        Error::Denied(text) => wit::Error::Denied(text),
        Error::Unavailable(text) => wit::Error::Unavailable(text),
        Error::TimedOut(text) => wit::Error::TimedOut(text),
        Error::Cancelled => wit::Error::Cancelled,
        Error::Other(text) => wit::Error::Other(text),
    }
}

/// The longest text of an error that is kept: it ends up in answers, logs and records, and often names what a guest sent.
const ERROR_TEXT: usize = 16 << 10;

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(ERROR_TEXT));
    text
}

pub(crate) fn error_from(error: wit::Error) -> Error {
    match error {
        wit::Error::UnitNotFound(id) => Error::UnitNotFound(cut(id)),
        wit::Error::NodeNotFound => Error::NodeNotFound,
        wit::Error::EmptyApp => Error::EmptyApp,
        wit::Error::InvalidStatus => Error::InvalidStatus,
        wit::Error::InvalidProcess(text) => Error::InvalidProcess(cut(text)),
        wit::Error::UnitStartup(text) => Error::UnitStartup(cut(text)),
        wit::Error::QuotaExceeded(wit::QuotaExcess { available, requested }) => {
            Error::QuotaExceeded { available, requested }
        }
        wit::Error::NotSupported(action) => Error::NotSupported(cut(action)),
        wit::Error::NotFound(text) => Error::NotFound(cut(text)),
        wit::Error::Conflict(text) => Error::Conflict(cut(text)),
        wit::Error::InvalidArgument(text) => Error::InvalidArgument(cut(text)),
        wit::Error::Denied(text) => Error::Denied(cut(text)),
        wit::Error::Unavailable(text) => Error::Unavailable(cut(text)),
        wit::Error::TimedOut(text) => Error::TimedOut(cut(text)),
        wit::Error::Cancelled => Error::Cancelled,
        wit::Error::Other(text) => Error::Other(cut(text)),
    }
}

/// What a guest sees when a call to the platform failed.
pub(crate) fn platform_error_to(error: gantry_engine::Error) -> wit::Error {
    error_to(platform_error(error))
}

/// What a guest sees when a call to a container engine failed.
pub(crate) fn engine_error_to(error: gantry_engine::Error) -> wit_containers::EngineError {
    use wit_containers::EngineError as Refused;
    match engine_error(error) {
        EngineError::NotFound(text) => Refused::NotFound(cut(text)),
        EngineError::Conflict(text) => Refused::Conflict(cut(text)),
        EngineError::Invalid(text) => Refused::Invalid(cut(text)),
        EngineError::Denied(text) => Refused::Denied(cut(text)),
        EngineError::Unreachable(text) => Refused::Unreachable(cut(text)),
        EngineError::TimedOut(text) => Refused::TimedOut(cut(text)),
        EngineError::Cancelled => Refused::Cancelled,
        EngineError::Failed(text) => Refused::Failed(cut(text)),
    }
}

pub(crate) fn entry_to(entry: Entry) -> wit_state::Entry {
    wit_state::Entry { key: entry.key, value: entry.value, version: entry.version }
}

pub(crate) fn metadata_to(metadata: ImageMetadata) -> wit_images::Metadata {
    let ImageMetadata { processes, exposed_port, hooks, healthcheck, disable_rollback, reason } =
        metadata;
    wit_images::Metadata {
        processes: processes
            .into_iter()
            .map(|(name, command)| wit_images::Process { name, command })
            .collect(),
        exposed_port,
        hooks: wit_images::Hooks {
            restart_before: hooks.restart.before,
            restart_after: hooks.restart.after,
            build: hooks.build,
        },
        healthcheck: wit_images::Healthcheck {
            path: healthcheck.path,
            method: healthcheck.method,
            status: healthcheck.status,
            scheme: healthcheck.scheme,
            match_: healthcheck.pattern,
            router_body: healthcheck.router_body,
            use_in_router: healthcheck.use_in_router,
            allowed_failures: healthcheck.allowed_failures,
        },
        disable_rollback,
        reason,
    }
}

pub(crate) fn summary_to(summary: ContainerSummary) -> wit_containers::ContainerSummary {
    wit_containers::ContainerSummary {
        id: summary.id,
        name: summary.name,
        image: summary.image,
        state: summary.state,
        labels: pairs(summary.labels),
    }
}

pub(crate) fn layer_to(layer: Layer) -> wit_containers::Layer {
    wit_containers::Layer {
        id: layer.id,
        created_by: layer.created_by,
        size: layer.size,
        tags: layer.tags,
    }
}

pub(crate) fn path_stat_to(stat: PathStat) -> wit_containers::PathStat {
    wit_containers::PathStat {
        name: stat.name,
        size: stat.size,
        mode: stat.mode,
        link_target: stat.link_target,
    }
}

pub(crate) fn exec_state_to(state: &ExecState) -> wit_containers::ExecState {
    wit_containers::ExecState { running: state.running, exit_code: state.exit_code }
}

pub(crate) fn http_response_to(response: HttpResponse) -> wit_containers::HttpResponse {
    wit_containers::HttpResponse { status: response.status, body: response.body }
}

pub(crate) fn http_request_from(request: wit_containers::HttpRequest) -> HttpRequest {
    HttpRequest {
        method: request.method,
        scheme: request.scheme,
        path: request.path,
        port: request.port,
        timeout: request.timeout,
    }
}

pub(crate) fn exec_options_from(options: wit_containers::ExecOptions) -> ExecOptions {
    ExecOptions {
        command: options.command,
        env: options.env,
        user: options.user,
        working_dir: options.working_dir,
        tty: options.tty,
        stdin: options.stdin,
    }
}

pub(crate) fn log_options_from(options: wit_containers::LogOptions) -> LogOptions {
    LogOptions { lines: options.lines, follow: options.follow, timestamps: options.timestamps }
}

pub(crate) fn build_options_from(options: wit_containers::BuildOptions) -> BuildOptions {
    BuildOptions {
        name: options.name,
        dockerfile: options.dockerfile,
        args: table(options.args),
        cache: options.cache,
    }
}

pub(crate) fn description_from(description: wit_plugin::Description) -> Description {
    Description {
        name: description.name,
        version: description.version,
        summary: description.summary,
        grants: description
            .grants
            .into_iter()
            .map(|asked| GrantRequest { grant: asked.grant, reason: asked.reason })
            .collect(),
        limits: description
            .limits
            .into_iter()
            .map(|asked| LimitRequest {
                name: asked.name,
                value: asked.value,
                reason: asked.reason,
            })
            .collect(),
    }
}

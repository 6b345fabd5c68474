//! Between the generated types and our own, in one place: `x_to` makes what a guest sees, `x_from` what it said. Everything here is total.

use std::collections::BTreeMap;

use gantry_core::image::ImageMetadata;
use gantry_core::node::Node;
use gantry_core::yaml::RouterHealthcheck;
use gantry_core::{App, AppRouter, EnvVar, Error, Status, Unit, Volume};
use gantry_engine::EngineError;
use gantry_engine::call::cluster as call;
use gantry_engine::call::{
    BuildOptions, ContainerSummary, ContainersCall, Entry, ExecOptions, ExecState, HttpRequest,
    HttpResponse, Layer, LogOptions, PathStat,
};

use crate::bindings::exports::gantry::provision::{nodes as wit_nodes, plugin as wit_plugin};
use crate::bindings::gantry::provision::{
    apps as wit_apps, cluster as wit_cluster, containers as wit_containers, images as wit_images,
    routers as wit_routers, state as wit_state, types as wit,
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

pub(crate) fn unit_to(unit: &Unit) -> wit::Unit {
    wit::Unit {
        id: unit.id.clone(),
        name: unit.name.clone(),
        app_name: unit.app_name.clone(),
        process_name: unit.process_name.clone(),
        type_: unit.kind.clone(),
        ip: unit.ip.clone(),
        status: unit.status.map(status_to),
        address: unit.address.clone(),
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

pub(crate) fn router_healthcheck_from(
    healthcheck: wit_routers::RouterHealthcheck,
) -> RouterHealthcheck {
    let wit_routers::RouterHealthcheck { path, status, body } = healthcheck;
    RouterHealthcheck { path, status, body }
}

pub(crate) fn volume_to(volume: Volume) -> wit_apps::Volume {
    wit_apps::Volume {
        name: volume.name,
        pool: volume.pool,
        plan: volume.plan,
        plan_options: pairs(volume.plan_options),
        options: pairs(volume.options),
        binds: volume
            .binds
            .into_iter()
            .map(|bind| wit_apps::VolumeBind {
                mount_point: bind.mount_point,
                read_only: bind.read_only,
            })
            .collect(),
    }
}

/// A node, which is told by the provisioner of this name.
pub(crate) fn node_from(provisioner: &str, node: wit_nodes::Node) -> Node {
    Node {
        address: node.address,
        iaas_id: node.iaas_id,
        pool: node.pool,
        status: node.status,
        metadata: table(node.metadata),
        metadata_no_prefix: table(node.metadata_no_prefix),
        extra_data: table(node.extra_data),
        provisioner: Some(provisioner.to_owned()),
    }
}

/// The bytes that a node takes in the host, near enough for a bound.
pub(crate) fn node_weight(node: &wit_nodes::Node) -> usize {
    let wit_nodes::Node {
        address,
        iaas_id,
        pool,
        status,
        metadata,
        metadata_no_prefix,
        extra_data,
    } = node;
    let tables = [metadata, metadata_no_prefix, extra_data];
    let pairs = tables.into_iter().flatten();
    let pairs = pairs.map(|(key, value)| size_of::<(String, String)>() + key.len() + value.len());
    [address, iaas_id, pool, status]
        .map(String::len)
        .into_iter()
        .chain(pairs)
        .fold(size_of::<Node>(), usize::saturating_add)
}

pub(crate) fn status_to(status: Status) -> wit::Status {
    match status {
        Status::Created => wit::Status::Created,
        Status::Building => wit::Status::Building,
        Status::Error => wit::Status::Error,
        Status::Starting => wit::Status::Starting,
        Status::Started => wit::Status::Started,
        Status::Stopped => wit::Status::Stopped,
        Status::Asleep => wit::Status::Asleep,
    }
}

pub(crate) fn cluster_info_to(info: call::ClusterInfo) -> wit_cluster::ClusterInfo {
    wit_cluster::ClusterInfo {
        name: info.name,
        address: info.address,
        pools: info.pools,
        is_default: info.is_default,
        namespace: info.namespace,
        custom_data: pairs(info.custom_data),
    }
}

pub(crate) fn kind_from(kind: wit_cluster::Kind) -> call::Kind {
    call::Kind { api_version: kind.api_version, kind: kind.kind }
}

pub(crate) fn selection_from(selection: wit_cluster::Selection) -> call::Selection {
    let wit_cluster::Selection { namespace, labels, fields } = selection;
    call::Selection { namespace, labels, fields }
}

pub(crate) fn delete_options_from(options: wit_cluster::DeleteOptions) -> call::DeleteOptions {
    call::DeleteOptions {
        propagation: match options.propagation {
            wit_cluster::Propagation::Background => call::Propagation::Background,
            wit_cluster::Propagation::Foreground => call::Propagation::Foreground,
            wit_cluster::Propagation::Orphan => call::Propagation::Orphan,
        },
        grace_seconds: options.grace_seconds,
        uid: options.uid,
        resource_version: options.resource_version,
        dry_run: options.dry_run,
    }
}

pub(crate) fn pod_log_options_from(options: wit_cluster::PodLogOptions) -> call::PodLogOptions {
    let wit_cluster::PodLogOptions { container, lines, follow, timestamps, previous } = options;
    call::PodLogOptions { container, lines, follow, timestamps, previous }
}

pub(crate) fn pod_exec_options_from(
    options: wit_cluster::PodExecOptions,
    stdin: bool,
) -> call::PodExecOptions {
    let wit_cluster::PodExecOptions { container, command, tty } = options;
    call::PodExecOptions { container, command, tty, stdin }
}

/// What a guest sees when a call to a cluster failed.
pub(crate) fn cluster_error_to(error: gantry_engine::Error) -> wit_cluster::ClusterError {
    use wit_cluster::{Cause, ClusterError, Invalidity};
    match engine_error(error) {
        EngineError::NotFound(text) => ClusterError::NotFound(cut(text)),
        EngineError::Conflict(text) => ClusterError::Conflict(cut(text)),
        EngineError::Invalid(message) => {
            ClusterError::Invalid(Invalidity { message: cut(message), causes: Vec::new() })
        }
        EngineError::InvalidObject(invalidity) => ClusterError::Invalid(Invalidity {
            message: cut(invalidity.message),
            causes: invalidity
                .causes
                .into_iter()
                .map(|cause| Cause {
                    field: cut(cause.field),
                    reason: cut(cause.reason),
                    message: cut(cause.message),
                })
                .collect(),
        }),
        EngineError::Forbidden(text) => ClusterError::Forbidden(cut(text)),
        EngineError::TooManyRequests { text, .. } => ClusterError::TooManyRequests(cut(text)),
        EngineError::Denied(text) => ClusterError::Denied(cut(text)),
        EngineError::Unreachable(text) => ClusterError::Unreachable(cut(text)),
        EngineError::TimedOut(text) => ClusterError::TimedOut(cut(text)),
        EngineError::Cancelled => ClusterError::Cancelled,
        EngineError::Failed(text) => ClusterError::Failed(cut(text)),
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
        EngineError::InvalidObject(invalidity) => Refused::Invalid(cut(invalidity.message)),
        EngineError::Forbidden(text) | EngineError::TooManyRequests { text, .. } => {
            Refused::Failed(cut(text))
        }
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

pub(crate) fn list_from(options: wit_containers::ListOptions) -> ContainersCall {
    ContainersCall::List {
        all: options.all,
        labels: table(options.labels),
        label_keys: options.label_keys.map(|keys| keys.into_iter().collect()),
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

//! Between the generated types and the words of `gantry_core`: total in both directions.

use gantry_core::container::{Container, Image};
use gantry_core::image::{Healthcheck, Hooks, ImageMetadata, RestartHooks};
use gantry_core::{App, AppRouter, EnvVar, Error, Status, Unit};

use crate::bindings::gantry::provision::{apps, images, types};

impl From<types::App> for App {
    fn from(app: types::App) -> Self {
        let types::App {
            name,
            platform,
            pool,
            team_owner,
            deploys,
            memory,
            swap,
            cpu_share,
            update_platform,
        } = app;
        Self { name, platform, pool, team_owner, deploys, memory, swap, cpu_share, update_platform }
    }
}

impl From<&App> for types::App {
    fn from(app: &App) -> Self {
        Self {
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
}

impl From<types::Status> for Status {
    fn from(status: types::Status) -> Self {
        match status {
            types::Status::Created => Self::Created,
            types::Status::Building => Self::Building,
            types::Status::Error => Self::Error,
            types::Status::Starting => Self::Starting,
            types::Status::Started => Self::Started,
            types::Status::Stopped => Self::Stopped,
            types::Status::Asleep => Self::Asleep,
        }
    }
}

impl From<Status> for types::Status {
    fn from(status: Status) -> Self {
        match status {
            Status::Created => Self::Created,
            Status::Building => Self::Building,
            Status::Error => Self::Error,
            Status::Starting => Self::Starting,
            Status::Started => Self::Started,
            Status::Stopped => Self::Stopped,
            Status::Asleep => Self::Asleep,
        }
    }
}

impl From<types::Unit> for Unit {
    fn from(unit: types::Unit) -> Self {
        let types::Unit { id, name, app_name, process_name, type_, ip, status, address } = unit;
        let status = status.map(Status::from);
        Self { id, name, app_name, process_name, kind: type_, ip, status, address }
    }
}

impl From<Unit> for types::Unit {
    fn from(unit: Unit) -> Self {
        let Unit { id, name, app_name, process_name, kind, ip, status, address } = unit;
        let status = status.map(types::Status::from);
        Self { id, name, app_name, process_name, type_: kind, ip, status, address }
    }
}

impl From<types::EnvVar> for EnvVar {
    fn from(env: types::EnvVar) -> Self {
        let types::EnvVar { name, value, public } = env;
        Self { name, value, public }
    }
}

impl From<apps::AppRouter> for AppRouter {
    fn from(router: apps::AppRouter) -> Self {
        let apps::AppRouter { name, options, address, type_, status, status_detail } = router;
        let options = options.into_iter().collect();
        Self { name, options, address, kind: type_, status, status_detail }
    }
}

impl From<types::Error> for Error {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::UnitNotFound(id) => Self::UnitNotFound(id),
            types::Error::NodeNotFound => Self::NodeNotFound,
            types::Error::EmptyApp => Self::EmptyApp,
            types::Error::InvalidStatus => Self::InvalidStatus,
            types::Error::InvalidProcess(text) => Self::InvalidProcess(text),
            types::Error::UnitStartup(text) => Self::UnitStartup(text),
            types::Error::QuotaExceeded(types::QuotaExcess { available, requested }) => {
                Self::QuotaExceeded { available, requested }
            }
            types::Error::NotSupported(text) => Self::NotSupported(text),
            types::Error::NotFound(text) => Self::NotFound(text),
            types::Error::Conflict(text) => Self::Conflict(text),
            types::Error::InvalidArgument(text) => Self::InvalidArgument(text),
            types::Error::Denied(text) => Self::Denied(text),
            types::Error::Unavailable(text) => Self::Unavailable(text),
            types::Error::TimedOut(text) => Self::TimedOut(text),
            types::Error::Cancelled => Self::Cancelled,
            types::Error::Other(text) => Self::Other(text),
        }
    }
}

impl From<Error> for types::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::UnitNotFound(id) => Self::UnitNotFound(id),
            Error::NodeNotFound => Self::NodeNotFound,
            Error::EmptyApp => Self::EmptyApp,
            Error::InvalidStatus => Self::InvalidStatus,
            Error::InvalidProcess(text) => Self::InvalidProcess(text),
            Error::UnitStartup(text) => Self::UnitStartup(text),
            Error::QuotaExceeded { available, requested } => {
                Self::QuotaExceeded(types::QuotaExcess { available, requested })
            }
            Error::NotSupported(text) => Self::NotSupported(text),
            Error::NotFound(text) => Self::NotFound(text),
            Error::Conflict(text) => Self::Conflict(text),
            Error::InvalidArgument(text) => Self::InvalidArgument(text),
            Error::Denied(text) => Self::Denied(text),
            Error::Unavailable(text) => Self::Unavailable(text),
            Error::TimedOut(text) => Self::TimedOut(text),
            Error::Cancelled => Self::Cancelled,
            Error::Other(text) => Self::Other(text),
        }
    }
}

impl From<images::Metadata> for ImageMetadata {
    fn from(metadata: images::Metadata) -> Self {
        let images::Metadata {
            processes,
            exposed_port,
            hooks,
            healthcheck,
            disable_rollback,
            reason,
        } = metadata;
        let processes = processes.into_iter().map(|process| (process.name, process.command));
        Self {
            processes: processes.collect(),
            exposed_port,
            hooks: Hooks {
                restart: RestartHooks { before: hooks.restart_before, after: hooks.restart_after },
                build: hooks.build,
            },
            healthcheck: Healthcheck {
                path: healthcheck.path,
                method: healthcheck.method,
                status: healthcheck.status,
                scheme: healthcheck.scheme,
                pattern: healthcheck.match_,
                router_body: healthcheck.router_body,
                use_in_router: healthcheck.use_in_router,
                allowed_failures: healthcheck.allowed_failures,
            },
            disable_rollback,
            reason,
        }
    }
}

/// What the host sends is its own document written back, so a failure here is the host's.
pub(crate) fn container(document: &str) -> Result<Container, String> {
    serde_json::from_str(document).map_err(|error| format!("unreadable container: {error}"))
}

/// As [`container`], for an image.
pub(crate) fn image(document: &str) -> Result<Image, String> {
    serde_json::from_str(document).map_err(|error| format!("unreadable image: {error}"))
}

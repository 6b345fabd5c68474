//! Between the generated types and the words of `gantry_core`: total in both directions.

use gantry_core::container::{Container, Image};
use gantry_core::image::{Healthcheck, Hooks, ImageMetadata, RestartHooks};
use gantry_core::{App, AppRouter, EnvVar, Error, Status, Unit, Volume, VolumeBind};

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

impl From<apps::Volume> for Volume {
    fn from(volume: apps::Volume) -> Self {
        let apps::Volume { name, pool, plan, plan_options, options, binds } = volume;
        let bind = |bind: apps::VolumeBind| VolumeBind {
            mount_point: bind.mount_point,
            read_only: bind.read_only,
        };
        Self {
            name,
            pool,
            plan,
            plan_options: plan_options.into_iter().collect(),
            options: options.into_iter().collect(),
            binds: binds.into_iter().map(bind).collect(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_crosses_unchanged() {
        let app = App {
            name: "web".to_owned(),
            platform: "python".to_owned(),
            pool: "p".to_owned(),
            team_owner: "t".to_owned(),
            deploys: 3,
            memory: 1 << 40,
            swap: -1,
            cpu_share: 5,
            update_platform: true,
        };
        assert_eq!(App::from(types::App::from(&app)), app);
    }

    #[test]
    fn a_unit_crosses_with_every_status() {
        let statuses = [
            Status::Created,
            Status::Building,
            Status::Error,
            Status::Starting,
            Status::Started,
            Status::Stopped,
            Status::Asleep,
        ];
        for status in statuses.map(Some).into_iter().chain([None]) {
            let unit = Unit {
                id: "1".to_owned(),
                name: "web-1".to_owned(),
                app_name: "web".to_owned(),
                process_name: "worker".to_owned(),
                kind: "python".to_owned(),
                ip: "10.0.0.1".to_owned(),
                status,
                address: Some("http://10.0.0.1:1".to_owned()),
            };
            assert_eq!(Unit::from(types::Unit::from(unit.clone())), unit);
        }
    }

    #[test]
    fn every_error_crosses_with_its_case_and_text() {
        let text = || "why".to_owned();
        for error in [
            Error::UnitNotFound(text()),
            Error::NodeNotFound,
            Error::EmptyApp,
            Error::InvalidStatus,
            Error::InvalidProcess(text()),
            Error::UnitStartup(text()),
            Error::QuotaExceeded { available: 1, requested: 2 },
            Error::NotSupported(text()),
            Error::NotFound(text()),
            Error::Conflict(text()),
            Error::InvalidArgument(text()),
            Error::Denied(text()),
            Error::Unavailable(text()),
            Error::TimedOut(text()),
            Error::Cancelled,
            Error::Other(text()),
        ] {
            assert_eq!(Error::from(types::Error::from(error.clone())), error);
        }
    }

    #[test]
    fn metadata_keeps_its_parts_apart() {
        let metadata = ImageMetadata::from(images::Metadata {
            processes: vec![images::Process {
                name: "web".to_owned(),
                command: vec!["run".to_owned(), "it".to_owned()],
            }],
            exposed_port: "80/tcp".to_owned(),
            hooks: images::Hooks {
                restart_before: vec!["before".to_owned()],
                restart_after: vec!["after".to_owned()],
                build: vec!["build".to_owned()],
            },
            healthcheck: images::Healthcheck {
                path: "/up".to_owned(),
                method: "GET".to_owned(),
                status: 204,
                scheme: "https".to_owned(),
                match_: "ok".to_owned(),
                router_body: "body".to_owned(),
                use_in_router: true,
                allowed_failures: 2,
            },
            disable_rollback: true,
            reason: "broken".to_owned(),
        });
        assert_eq!(metadata.processes["web"], ["run", "it"]);
        assert_eq!(metadata.hooks.restart.before, ["before"]);
        assert_eq!(metadata.hooks.restart.after, ["after"]);
        assert_eq!(metadata.healthcheck.pattern, "ok");
        assert_eq!((metadata.healthcheck.status, metadata.healthcheck.allowed_failures), (204, 2));
        assert!(metadata.disable_rollback && metadata.healthcheck.use_in_router);
    }

    #[test]
    fn a_document_that_is_none_is_the_hosts_fault() {
        assert_eq!(container(r#"{"Id": "1"}"#).unwrap().id, "1");
        assert!(container("no").unwrap_err().starts_with("unreadable container: "));
        assert!(image("no").unwrap_err().starts_with("unreadable image: "));
    }
}

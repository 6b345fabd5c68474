//! Docker's documents and ours: every conversion is here, total or an error. No type of bollard leaves this folder.

use std::collections::{BTreeMap, HashMap};

use bollard::models;
use gantry_core::container::{
    Container, ContainerConfig, ContainerSpec, ContainerState, Empty, Image, NetworkSettings,
    PortBinding,
};

use crate::EngineError;
use crate::call::{ContainerSummary, ExecOptions, ExecState, Layer};

/// The body of a create. Both sides spell Docker, so JSON is the conversion.
pub(super) fn create_body(
    spec: &ContainerSpec,
) -> Result<models::ContainerCreateBody, EngineError> {
    serde_json::to_value(spec).and_then(serde_json::from_value).map_err(|error| {
        EngineError::Invalid(format!("the container cannot be told to Docker: {error}"))
    })
}

pub(super) fn summary(from: models::ContainerSummary) -> ContainerSummary {
    let name = from.names.unwrap_or_default().into_iter().find_map(|name| {
        // A linked container has names with a second slash beside its own.
        let name = name.strip_prefix('/')?.to_owned();
        (!name.contains('/')).then_some(name)
    });
    ContainerSummary {
        id: from.id.unwrap_or_default(),
        name: name.unwrap_or_default(),
        image: from.image.unwrap_or_default(),
        state: from.state.map(|state| state.to_string()).unwrap_or_default(),
        labels: from.labels.unwrap_or_default().into_iter().collect(),
    }
}

pub(super) fn container(from: models::ContainerInspectResponse) -> Container {
    let name = from.name.unwrap_or_default();
    Container {
        id: from.id.unwrap_or_default(),
        name: name.trim_start_matches('/').to_owned(),
        created: from.created.unwrap_or_default(),
        image: from.image.unwrap_or_default(),
        state: from.state.map(state).unwrap_or_default(),
        config: from.config.map(container_config).unwrap_or_default(),
        network_settings: from.network_settings.map(network).unwrap_or_default(),
    }
}

fn state(from: models::ContainerState) -> ContainerState {
    ContainerState {
        status: from.status.map(|status| status.to_string()).unwrap_or_default(),
        running: from.running.unwrap_or_default(),
        restarting: from.restarting.unwrap_or_default(),
        paused: from.paused.unwrap_or_default(),
        oom_killed: from.oom_killed.unwrap_or_default(),
        exit_code: from.exit_code.unwrap_or_default(),
        error: from.error.unwrap_or_default(),
        started_at: from.started_at.unwrap_or_default(),
        finished_at: from.finished_at.unwrap_or_default(),
    }
}

/// Whether a container ran and does so no more.
pub(super) fn has_ended(state: Option<&models::ContainerState>) -> bool {
    use models::ContainerStateStatusEnum as Status;
    let status = state.and_then(|state| state.status);
    matches!(status, Some(Status::EXITED | Status::DEAD | Status::REMOVING))
}

fn container_config(from: models::ContainerConfig) -> ContainerConfig {
    ContainerConfig {
        image: from.image.unwrap_or_default(),
        cmd: from.cmd,
        entrypoint: from.entrypoint,
        env: from.env,
        labels: from.labels.map(sorted),
        exposed_ports: from.exposed_ports.map(ports),
        user: from.user.unwrap_or_default(),
        working_dir: from.working_dir.unwrap_or_default(),
        tty: from.tty.unwrap_or_default(),
    }
}

fn image_config(from: models::ImageConfig) -> ContainerConfig {
    ContainerConfig {
        image: String::new(),
        cmd: from.cmd,
        entrypoint: from.entrypoint,
        env: from.env,
        labels: from.labels.map(sorted),
        exposed_ports: from.exposed_ports.map(ports),
        user: from.user.unwrap_or_default(),
        working_dir: from.working_dir.unwrap_or_default(),
        tty: false,
    }
}

fn network(from: models::NetworkSettings) -> NetworkSettings {
    let networks = from.networks.unwrap_or_default();
    // The address in Docker's own network, and else in whichever network there is.
    let address = networks
        .get("bridge")
        .into_iter()
        .chain(networks.values())
        .filter_map(|network| network.ip_address.clone())
        .find(|address| !address.is_empty());
    NetworkSettings {
        ip_address: address.unwrap_or_default(),
        ports: from
            .ports
            .unwrap_or_default()
            .into_iter()
            .map(|(port, bindings)| {
                (port, bindings.map(|all| all.into_iter().map(binding).collect()))
            })
            .collect(),
    }
}

fn binding(from: models::PortBinding) -> PortBinding {
    PortBinding {
        host_ip: from.host_ip.unwrap_or_default(),
        host_port: from.host_port.unwrap_or_default(),
    }
}

pub(super) fn image(from: models::ImageInspect) -> Image {
    Image {
        id: from.id.unwrap_or_default(),
        repo_tags: from.repo_tags.unwrap_or_default(),
        repo_digests: from.repo_digests.unwrap_or_default(),
        size: from.size.unwrap_or_default(),
        config: from.config.map(image_config).unwrap_or_default(),
    }
}

pub(super) fn layer(from: models::ImageHistoryResponseItem) -> Layer {
    Layer {
        id: from.id,
        created_by: from.created_by,
        size: u64::try_from(from.size).unwrap_or_default(),
        tags: from.tags,
    }
}

/// Docker keeps the keys that detach from a terminal back, from the first on; without others they would be Ctrl-P and Ctrl-Q. There is no way to have none.
const DETACH_KEYS: &str = "ctrl-^,ctrl-^,ctrl-^,ctrl-^";

pub(super) fn exec_config(from: &ExecOptions) -> models::ExecConfig {
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    models::ExecConfig {
        attach_stdin: Some(from.stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(from.tty),
        detach_keys: (from.tty && from.stdin).then(|| DETACH_KEYS.to_owned()),
        env: (!from.env.is_empty())
            .then(|| from.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: Some(from.command.clone()),
        user: given(&from.user),
        working_dir: given(&from.working_dir),
        ..models::ExecConfig::default()
    }
}

pub(super) fn exec_state(from: &models::ExecInspectResponse) -> ExecState {
    let running = from.running.unwrap_or_default();
    let code = from.exit_code.and_then(|code| i32::try_from(code).ok());
    ExecState { running, exit_code: code.filter(|_| !running) }
}

/// The filter of a list: an empty value matches any.
pub(super) fn label_filter(labels: &BTreeMap<String, String>) -> HashMap<String, Vec<String>> {
    let labels = labels
        .iter()
        .map(|(key, value)| if value.is_empty() { key.clone() } else { format!("{key}={value}") });
    HashMap::from([("label".to_owned(), labels.collect())])
}

fn sorted(from: HashMap<String, String>) -> BTreeMap<String, String> {
    from.into_iter().collect()
}

fn ports(from: Vec<String>) -> BTreeMap<String, Empty> {
    from.into_iter().map(|port| (port, Empty {})).collect()
}

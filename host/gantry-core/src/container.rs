//! Docker's documents, as far as the host lets them pass: the body of a create and the answers of an inspect, Engine API 1.41, in Docker's own spelling.
//!
//! Reading is strict for what a plugin sends ([`ContainerSpec`]: an unknown field is an error that names it, so nothing slips past the policy) and lenient for what an engine
//! answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The body of Docker's create call. Absent fields are not sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct ContainerSpec {
    /// The image.
    pub image: String,
    /// The command; the image's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// The entrypoint; the image's when absent, none when empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value` pairs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The user; the image's when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// The folder; the image's when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// The host name; Docker makes one when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Whether it gets a terminal.
    #[serde(skip_serializing_if = "is_false")]
    pub tty: bool,
    /// Whether its input stays open.
    #[serde(skip_serializing_if = "is_false")]
    pub open_stdin: bool,
    /// Whether its input closes when the first client leaves.
    #[serde(skip_serializing_if = "is_false")]
    pub stdin_once: bool,
    /// Whether input is attached at creation.
    #[serde(skip_serializing_if = "is_false")]
    pub attach_stdin: bool,
    /// Whether output is attached at creation.
    #[serde(skip_serializing_if = "is_false")]
    pub attach_stdout: bool,
    /// Whether errors are attached at creation.
    #[serde(skip_serializing_if = "is_false")]
    pub attach_stderr: bool,
    /// Ports it listens on (`8888/tcp`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Paths that are anonymous volumes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// The signal that stops it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// What the machine gives it.
    pub host_config: HostConfig,
}

/// What the machine gives a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct HostConfig {
    /// Memory in bytes; 0 is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub memory: i64,
    /// Memory and swap in bytes; 0 is Docker's default, -1 no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub memory_swap: i64,
    /// Relative weight of the CPU.
    #[serde(skip_serializing_if = "is_zero")]
    pub cpu_shares: i64,
    /// How willing the kernel is to kill it when memory runs out.
    #[serde(skip_serializing_if = "is_zero")]
    pub oom_score_adj: i64,
    /// When Docker starts it again.
    pub restart_policy: RestartPolicy,
    /// Published ports.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    /// Paths of the machine or named volumes (`source:target[:ro]`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub binds: Vec<String>,
    /// Where its output goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_config: Option<LogConfig>,
    /// Security options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_opt: Vec<String>,
    /// The network; Docker's default when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    /// The machine's process ids when `host`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pid_mode: String,
    /// Everything the machine has.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Kernel capabilities on top of Docker's default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Kernel capabilities taken away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// Whether Docker removes it when it ends.
    #[serde(skip_serializing_if = "is_false")]
    pub auto_remove: bool,
    /// Whether an init process reaps children.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}

/// When Docker starts a container again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct RestartPolicy {
    /// `always`, `unless-stopped`, `on-failure`, `no`; never when empty.
    pub name: String,
    /// How often, with `on-failure`.
    #[serde(skip_serializing_if = "is_zero")]
    pub maximum_retry_count: i64,
}

/// A port of the machine for a port of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct PortBinding {
    /// The address; all when empty.
    pub host_ip: String,
    /// The port; any free one when empty.
    pub host_port: String,
}

/// Where a container's output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct LogConfig {
    /// The driver.
    #[serde(rename = "Type")]
    pub driver: String,
    /// Its options.
    #[serde(rename = "Config", skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Docker's `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// A container as an inspect tells it, as far as provisioning needs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name, without Docker's leading slash.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The id of its image.
    pub image: String,
    /// What it is doing.
    pub state: ContainerState,
    /// What it was made with.
    pub config: ContainerConfig,
    /// What the machine gives it.
    pub network_settings: NetworkSettings,
}

/// What a container is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub status: String,
    /// Whether its process runs.
    pub running: bool,
    /// Whether Docker is about to start it again.
    pub restarting: bool,
    /// Whether it is frozen.
    pub paused: bool,
    /// Whether the kernel killed it for memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Its last exit code.
    pub exit_code: i64,
    /// Why it did not start.
    pub error: String,
    /// When it last started, RFC 3339.
    pub started_at: String,
    /// When it last ended, RFC 3339.
    pub finished_at: String,
}

/// What a container was made with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// The image as it was named.
    pub image: String,
    /// The command.
    pub cmd: Option<Vec<String>>,
    /// The entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value` pairs.
    pub env: Option<Vec<String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Ports it listens on.
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    /// The user.
    pub user: String,
    /// The folder.
    pub working_dir: String,
    /// Whether it has a terminal.
    pub tty: bool,
}

/// Where a container is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// Its address in its network.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Published ports; none for a port that is not published.
    pub ports: BTreeMap<String, Option<Vec<PortBinding>>>,
}

/// An image as an inspect tells it, as far as provisioning needs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Image {
    /// Its id.
    pub id: String,
    /// Its names.
    pub repo_tags: Vec<String>,
    /// Its names by content.
    pub repo_digests: Vec<String>,
    /// Its size in bytes.
    pub size: i64,
    /// What containers of it are made with.
    pub config: ContainerConfig,
}

/// Whether a number is Docker's zero value.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference; 32 bits differ")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Whether a flag is Docker's zero value.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

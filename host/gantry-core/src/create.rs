//! The body of the create call for a unit's container (spec 5.3, "Create details"; 5.13).

use std::collections::BTreeMap;

use sha1::{Digest, Sha1};

use crate::container::{ContainerSpec, Empty, HostConfig, LogConfig, PortBinding, RestartPolicy};
use crate::env::{PlatformEnv, Variable, envs_for_app};
use crate::labels::{LabelSet, Labels, ProcessOptions, RouterTypes, UnknownRouterType};
use crate::settings::Settings;
use crate::{App, EnvVar};

/// The driver that keeps logs with the engine.
const JSON_FILE: &str = "json-file";

/// The reference's own driver: logs go to the agent that listens for syslog on each machine.
const BS: &str = "bs";

/// The port that agent listens on when `docker:bs:syslog-port` is not set.
const BS_SYSLOG_PORT: i64 = 1514;

/// What the operator configured for all containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerDefaults {
    /// What the platform tells every unit.
    pub platform: PlatformEnv,
    /// The user that builds.
    pub build_user: String,
    /// Security options (`docker:security-opts`).
    pub security_opts: Vec<String>,
    /// The folder all units share, if there is one.
    pub shared_fs: Option<SharedFs>,
    /// Where the output of units goes.
    pub log: LogConfig,
}

/// A folder of the machine that units share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedFs {
    /// The folder of the machine.
    pub host_dir: String,
    /// Where units see it.
    pub mount_point: String,
    /// Whether each app has a folder of its own in it.
    pub app_isolation: bool,
    /// Makes the names of those folders unguessable; the app's name when empty.
    pub salt: String,
}

/// One container to be made for an app.
#[derive(Clone, Copy, Debug)]
pub struct UnitContainer<'a> {
    /// The app.
    pub app: &'a App,
    /// The names of its routers, in order.
    pub routers: &'a [String],
    /// Its environment.
    pub envs: &'a [EnvVar],
    /// The process; may be empty.
    pub process: &'a str,
    /// The image.
    pub image: &'a str,
    /// What it runs.
    pub command: &'a [String],
    /// The port it listens on (`3000/tcp`); the platform's when empty.
    pub exposed_port: &'a str,
    /// Whether this is the unit of a deploy.
    pub is_deploy: bool,
    /// Whether it builds an image.
    pub is_building: bool,
}

impl ContainerDefaults {
    /// Reads the configuration.
    ///
    /// Differs from the reference on purpose (design 10.16): the log driver is `json-file` unless `docker:log-driver` names another, with its options in
    /// `docker:log-options`. The reference's `bs` is one of those that can be named.
    #[must_use]
    pub fn from_settings(settings: &(impl Settings + ?Sized)) -> Self {
        let build_user = ["docker:user", "docker:ssh:user"]
            .into_iter()
            .map(|key| settings.string(key))
            .find(|user| !user.is_empty())
            .unwrap_or_else(|| "ubuntu".to_owned());
        Self {
            platform: PlatformEnv::from_settings(settings),
            build_user,
            security_opts: settings.strings("docker:security-opts"),
            shared_fs: SharedFs::from_settings(settings),
            log: log_config(settings),
        }
    }
}

impl SharedFs {
    /// Reads the configuration; none unless both folders are named.
    #[must_use]
    pub fn from_settings(settings: &(impl Settings + ?Sized)) -> Option<Self> {
        let host_dir = settings.string("docker:sharedfs:hostdir");
        let mount_point = settings.string("docker:sharedfs:mountpoint");
        (!host_dir.is_empty() && !mount_point.is_empty()).then(|| Self {
            host_dir,
            mount_point,
            app_isolation: settings.flag("docker:sharedfs:app-isolation"),
            salt: settings.string("docker:sharedfs:salt"),
        })
    }

    /// The bind for a unit of this app.
    #[must_use]
    pub fn bind(&self, app: &str) -> String {
        let Self { host_dir, mount_point, app_isolation, salt } = self;
        if !app_isolation {
            return format!("{host_dir}:{mount_point}:rw");
        }
        let folder = if salt.is_empty() {
            app.to_owned()
        } else {
            let digest = Sha1::digest(format!("{salt}{app}"));
            digest.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        format!("{host_dir}/{folder}:{mount_point}:rw")
    }
}

impl UnitContainer<'_> {
    /// The port the container exposes: its own or the platform's; a deploy exposes none and keeps what it was given.
    #[must_use]
    pub fn port(&self, platform: &PlatformEnv) -> String {
        if self.exposed_port.is_empty() && !self.is_deploy {
            format!("{}/tcp", platform.port)
        } else {
            self.exposed_port.to_owned()
        }
    }

    /// The body of the create call.
    ///
    /// # Errors
    ///
    /// A router whose type is not configured.
    pub fn spec(
        &self,
        defaults: &ContainerDefaults,
        provisioner: &str,
        router_types: &(impl RouterTypes + ?Sized),
    ) -> Result<ContainerSpec, UnknownRouterType> {
        let options = ProcessOptions {
            app: self.app,
            routers: self.routers,
            process: self.process,
            provisioner,
            builder: "",
            prefix: "",
            is_deploy: self.is_deploy,
        };
        let labels = LabelSet::process_labels(&options, router_types)?.to_labels();
        let envs = envs_for_app(self.envs, self.process, self.is_deploy, &defaults.platform);
        Ok(self.spec_with(defaults, envs, labels))
    }

    /// The body of the create call with this environment and these labels, for whoever has them from elsewhere: `routers`, `envs` and `process` are not looked at.
    #[must_use]
    pub fn spec_with(
        &self,
        defaults: &ContainerDefaults,
        envs: impl IntoIterator<Item = Variable>,
        labels: Labels,
    ) -> ContainerSpec {
        let mut env: Vec<String> =
            envs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut volumes = BTreeMap::new();
        if let Some(shared) = &defaults.shared_fs {
            env.push(format!("TSURU_SHAREDFS_MOUNTPOINT={}", shared.mount_point));
            volumes.insert(shared.mount_point.clone(), Empty {});
        }
        let port = (!self.is_deploy).then(|| self.port(&defaults.platform));
        ContainerSpec {
            image: self.image.to_owned(),
            cmd: Some(self.command.to_vec()),
            entrypoint: Some(Vec::new()),
            env,
            labels,
            user: if self.is_building { defaults.build_user.clone() } else { String::new() },
            exposed_ports: port.iter().map(|port| (port.clone(), Empty {})).collect(),
            volumes,
            host_config: self.host_config(defaults, port),
            ..ContainerSpec::default()
        }
    }

    fn host_config(&self, defaults: &ContainerDefaults, port: Option<String>) -> HostConfig {
        let shared = HostConfig {
            cpu_shares: i64::from(self.app.cpu_share),
            security_opt: defaults.security_opts.clone(),
            binds: defaults.shared_fs.iter().map(|shared| shared.bind(&self.app.name)).collect(),
            ..HostConfig::default()
        };
        match port {
            None => HostConfig {
                oom_score_adj: 1000,
                log_config: Some(LogConfig {
                    driver: JSON_FILE.to_owned(),
                    ..LogConfig::default()
                }),
                ..shared
            },
            Some(port) => HostConfig {
                memory: self.app.memory,
                memory_swap: self.app.memory.saturating_add(self.app.swap),
                restart_policy: RestartPolicy {
                    name: "always".to_owned(),
                    ..RestartPolicy::default()
                },
                port_bindings: BTreeMap::from([(port, vec![PortBinding::default()])]),
                log_config: Some(defaults.log.clone()),
                ..shared
            },
        }
    }
}

/// Where the output of units goes. `bs` takes no options.
fn log_config(settings: &(impl Settings + ?Sized)) -> LogConfig {
    let driver = settings.string("docker:log-driver");
    if driver == BS {
        let port = settings.integer("docker:bs:syslog-port").filter(|port| *port != 0);
        let address = format!("udp://localhost:{}", port.unwrap_or(BS_SYSLOG_PORT));
        let options = BTreeMap::from([("syslog-address".to_owned(), address)]);
        return LogConfig { driver: "syslog".to_owned(), options };
    }
    let options = settings.texts("docker:log-options");
    let driver = if driver.is_empty() { JSON_FILE.to_owned() } else { driver };
    LogConfig { driver, options }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn log(config: serde_json::Value) -> LogConfig {
        ContainerDefaults::from_settings(&json!({ "docker": config })).log
    }

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn units_log_to_json_file_unless_configured() {
        let json_file = LogConfig { driver: "json-file".to_owned(), options: BTreeMap::new() };
        assert_eq!(log(json!({})), json_file);
        assert_eq!(log(json!({"bs": {"syslog-port": 1519}})), json_file);
        let journald = log(json!({"log-driver": "journald", "log-options": {"tag": "x", "n": 3}}));
        assert_eq!(journald.driver, "journald");
        assert_eq!(journald.options, options(&[("tag", "x"), ("n", "3")]));
    }

    #[test]
    fn the_references_driver_is_syslog_to_the_agent_of_the_machine() {
        for (port, address) in [
            (json!(null), "udp://localhost:1514"),
            (json!(0), "udp://localhost:1514"),
            (json!(1519), "udp://localhost:1519"),
            (json!("1520"), "udp://localhost:1520"),
            (json!("x"), "udp://localhost:1514"),
        ] {
            let log = log(json!({
                "log-driver": "bs", "bs": {"syslog-port": port}, "log-options": {"ignored": "1"},
            }));
            assert_eq!(log.driver, "syslog");
            assert_eq!(log.options, options(&[("syslog-address", address)]));
        }
    }

    #[test]
    fn the_user_that_builds_has_three_places() {
        let user =
            |config| ContainerDefaults::from_settings(&json!({ "docker": config })).build_user;
        assert_eq!(user(json!({"user": "u", "ssh": {"user": "s"}})), "u");
        assert_eq!(user(json!({"ssh": {"user": "s"}})), "s");
        assert_eq!(user(json!({"user": ""})), "ubuntu");
    }

    #[test]
    fn a_shared_folder_needs_both_its_ends() {
        let shared = |config| SharedFs::from_settings(&json!({"docker": {"sharedfs": config}}));
        assert_eq!(shared(json!({"hostdir": "/h"})), None);
        assert_eq!(shared(json!({"mountpoint": "/m"})), None);
        let whole = shared(json!({"hostdir": "/h", "mountpoint": "/m", "salt": "s"})).unwrap();
        assert_eq!(whole.bind("a"), "/h:/m:rw");
    }

    #[test]
    fn security_options_reach_every_container() {
        let defaults =
            ContainerDefaults::from_settings(&json!({"docker": {"security-opts": ["o1", "o2"]}}));
        for is_deploy in [false, true] {
            let unit = UnitContainer {
                app: &App::default(),
                routers: &[],
                envs: &[],
                process: "web",
                image: "i",
                command: &[],
                exposed_port: "",
                is_deploy,
                is_building: false,
            };
            let spec = unit.spec(&defaults, "docker", &|_: &str| None).unwrap();
            assert_eq!(spec.host_config.security_opt, ["o1", "o2"]);
        }
    }
}

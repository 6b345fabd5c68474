//! The objects that an app becomes (spec 7.3, 7.5, 7.8): complete, in the API versions of today, made before anything is sent. So what cannot be made leaves nothing behind.

pub mod account;
pub mod deployment;
pub mod pod;
pub mod removal;
pub mod secret;
pub mod service;

use std::fmt;

use gantry_sdk::commands::UnitAgent;
use gantry_sdk::gantry_core::env::{Variable, web_process_default_port};
use gantry_sdk::image::ImageMetadata;
use gantry_sdk::{App, LabelSet, Labels, Settings};
use serde_json::{Value, json};

use crate::PREFIX;
use crate::cluster::Cluster;
use crate::name;
use crate::object::{unless_empty, without_nulls};
use crate::volume::Attached;

/// The user that units run as when the operator does not say (`docker:uid`).
const DEFAULT_USER: i64 = 1000;

/// The image of the agent that deploys and inspects, when the operator names no other.
const DEFAULT_AGENT_IMAGE: &str = "tsuru/deploy-agent:0.4.0";

/// What the operator configured for all pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// The port a web process listens on unless its image says otherwise. What is no number is 0, which the cluster refuses.
    pub port: i64,
    /// The user that units run as; the image's own when none.
    pub user: Option<i64>,
    /// Where images come from.
    pub registry: Registry,
    /// The image of the agent that builds and deploys.
    pub deploy_image: String,
    /// The image of the agent that inspects images.
    pub inspect_image: String,
    /// What does all three in their place, when the operator names it.
    pub build_agent: Option<BuildAgent>,
}

/// This project's own agent: it needs neither root nor the socket of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildAgent {
    /// Its image.
    pub image: String,
    /// The certificate of who vouches for the registry, as PEM; those of the web's own authorities when empty.
    pub authority: String,
}

/// A registry of images.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Registry {
    /// Its address; empty for the engine's own.
    pub address: String,
    /// Who pulls and pushes; empty for anybody.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Registry {
    /// Shows all but the password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Registry");
        shown.field("address", &self.address).field("user", &self.user).finish_non_exhaustive()
    }
}

/// One process of an app, as it should run.
#[derive(Clone, Copy, Debug)]
pub struct Workload<'a> {
    /// The app.
    pub app: &'a App,
    /// The process.
    pub process: &'a str,
    /// The image.
    pub image: &'a str,
    /// What is known of the image.
    pub metadata: &'a ImageMetadata,
    /// The labels of its service.
    pub labels: &'a LabelSet,
    /// How many units run.
    pub replicas: i64,
    /// The environment of its units.
    pub envs: &'a [Variable],
    /// What its units are told to run with.
    pub agent: &'a UnitAgent,
    /// The volumes of the app.
    pub volumes: &'a Attached,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// What the operator configured.
    pub defaults: &'a Defaults,
}

impl Defaults {
    /// Reads the configuration.
    pub fn from_settings(settings: &(impl Settings + ?Sized)) -> Self {
        let image = |key: &str| {
            let image = settings.string(key);
            if image.is_empty() { DEFAULT_AGENT_IMAGE.to_owned() } else { image }
        };
        let user = settings.integer("docker:uid").unwrap_or(DEFAULT_USER);
        Self {
            port: web_process_default_port(settings).parse().unwrap_or_default(),
            user: Some(user).filter(|user| *user >= 0),
            registry: Registry {
                address: settings.string("docker:registry"),
                user: settings.string("docker:registry-auth:username"),
                password: settings.string("docker:registry-auth:password"),
            },
            deploy_image: image("kubernetes:deploy-sidecar-image"),
            inspect_image: image("kubernetes:deploy-inspect-image"),
            build_agent: Some(settings.string("kubernetes:build-agent"))
                .filter(|image| !image.is_empty())
                .map(|image| BuildAgent {
                    image,
                    authority: settings.string("docker:registry-ca"),
                }),
        }
    }
}

impl Registry {
    /// Whether an image comes from there.
    fn has(&self, image: &str) -> bool {
        !self.address.is_empty() && image.split('/').next() == Some(&self.address)
    }
}

impl Workload<'_> {
    /// The port the process listens on: its image's, when that has the form `3000/tcp`, or the platform's.
    pub fn port(&self) -> i64 {
        let port = self.metadata.exposed_port.split_once('/');
        port.and_then(|(port, _)| port.parse().ok()).unwrap_or(self.defaults.port)
    }

    /// What belongs into labels and what into annotations, ready to be sent.
    fn labels_and_annotations(&self) -> (Labels, Labels) {
        let (labels, annotations) = self.labels.split_service_labels_annotations();
        (labels.to_labels(), annotations.to_labels())
    }
}

/// The `metadata` of an object; what is empty is left out.
pub(crate) fn metadata(name: &str, namespace: &str, labels: Labels, annotations: Labels) -> Value {
    let set = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    without_nulls(json!({
        "name": set(name),
        "namespace": set(namespace),
        "labels": unless_empty(labels),
        "annotations": unless_empty(annotations),
    }))
}

/// An environment as a container has it; none when it is empty. An empty value is left out, as the cluster does.
pub(crate) fn env(envs: &[Variable]) -> Option<Value> {
    let one = |(name, value): &Variable| {
        let value = Some(literal(value, envs)).filter(|value| !value.is_empty());
        without_nulls(json!({"name": name, "value": value}))
    };
    unless_empty(envs).map(|envs| envs.iter().map(one).collect())
}

/// A text as a container gets it as it is: in commands and values a cluster puts a variable for `$(NAME)`, and one dollar for two. A name that no variable has stays anyway; those of the cluster's
/// own are large letters.
pub(crate) fn literal(text: &str, envs: &[Variable]) -> String {
    let is_variable = |name: &str| {
        let large = |letter: char| matches!(letter, 'A'..='Z' | '0'..='9' | '_');
        envs.iter().any(|(known, _)| known == name) || name.chars().all(large)
    };
    let mut literal = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        literal.push_str(before);
        let name = after.strip_prefix('(').and_then(|name| name.split_once(')'));
        let is_read = after.starts_with('$') || name.is_some_and(|(name, _)| is_variable(name));
        literal.push_str(if is_read { "$$" } else { "$" });
        rest = after;
    }
    literal.push_str(rest);
    literal
}

/// Where a pod of the pool may run.
fn node_selector(pool: &str) -> Value {
    Value::Object([(format!("{PREFIX}pool"), Value::from(pool))].into_iter().collect())
}

/// The secrets that the image is pulled with: those of the configured registry, if the image is from there.
fn pull_secrets(image: &str, registry: &Registry) -> Option<Value> {
    registry.has(image).then(|| json!([{"name": name::registry_secret(&registry.address)}]))
}

#[cfg(test)]
mod tests {
    use gantry_sdk::gantry_core::labels::{ServiceExtension, ServiceOptions};

    use super::pod::OneShot;
    use super::*;
    use crate::PROVISIONER;

    /// What objects are made of.
    pub(super) struct Given {
        pub(super) metadata: ImageMetadata,
        app: App,
        labels: LabelSet,
        envs: Vec<Variable>,
        volumes: Attached,
        cluster: Cluster,
        defaults: Defaults,
        pub(super) agent: UnitAgent,
    }

    pub(super) fn given(config: Value) -> Given {
        let app = App { name: "myapp".to_owned(), pool: "p1".to_owned(), ..App::default() };
        let routers = ["fake".to_owned()];
        let extension = ServiceExtension {
            provisioner: PROVISIONER,
            prefix: PREFIX,
            is_build: true,
            ..ServiceExtension::default()
        };
        let options =
            ServiceOptions { app: &app, routers: &routers, process: "", replicas: 0, extension };
        let labels = LabelSet::service_labels(&options, &|router: &str| Some(router.to_owned()));
        Given {
            metadata: ImageMetadata::default(),
            labels: labels.unwrap(),
            envs: vec![("TSURU_HOST".to_owned(), String::new())],
            volumes: Attached {
                objects: Vec::new(),
                volumes: vec![json!({"name": "v1-tsuru"})],
                mounts: vec![json!({"name": "v1-tsuru", "mountPath": "/mnt"})],
            },
            cluster: Cluster::default(),
            defaults: Defaults::from_settings(&config),
            agent: UnitAgent::from_settings(&config, "myapp", "tk"),
            app,
        }
    }

    impl Given {
        pub(super) fn workload<'a>(&'a self, process: &'a str) -> Workload<'a> {
            Workload {
                app: &self.app,
                process,
                image: "myimg",
                metadata: &self.metadata,
                labels: &self.labels,
                replicas: 1,
                envs: &self.envs,
                agent: &self.agent,
                volumes: &self.volumes,
                cluster: &self.cluster,
                defaults: &self.defaults,
            }
        }

        pub(super) fn pod(&self) -> OneShot<'_> {
            OneShot {
                name: "myapp-v1-deploy",
                app: &self.app,
                image: "r/myapp:v1-builder",
                labels: &self.labels,
                envs: &self.envs,
                volumes: &self.volumes,
                cluster: &self.cluster,
                defaults: &self.defaults,
            }
        }
    }

    /// What a cluster makes of a text, by its own rule.
    fn expanded(text: &str, envs: &[(String, String)]) -> String {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            rest = after;
            let named = after.strip_prefix('(').and_then(|name| name.split_once(')'));
            if let Some(after) = after.strip_prefix('$') {
                expanded.push('$');
                rest = after;
            } else if let Some((name, after)) = named
                && let Some((_, value)) = envs.iter().find(|(known, _)| known == name)
            {
                expanded.push_str(value);
                rest = after;
            } else {
                expanded.push('$');
            }
        }
        expanded + rest
    }

    #[test]
    fn a_container_gets_a_text_as_it_is() {
        let envs = ["PORT", "app.name"].map(|name| (name.to_owned(), "8888".to_owned()));
        for text in [
            "",
            "plain",
            "$",
            "$$",
            "$$$",
            "p$w",
            "p$$w",
            "p$$$$w$",
            "$(PORT)",
            "$$(PORT)",
            "$$$(PORT)",
            "$(hostname)",
            "$$(hostname)",
            "$(PORT",
            "$($(PORT))",
            "$(app.name)",
            "$()",
            "é$(PORT)é",
            "kill -9 $$; echo $(PORT) $(hostname) ${PORT}",
        ] {
            assert_eq!(expanded(&literal(text, &envs), &envs), text);
        }
        // Nothing is written in another way than it has to be.
        assert_eq!(literal("$(hostname) $HOME", &envs), "$(hostname) $HOME");
        assert_eq!(literal("$(KUBERNETES_PORT)", &envs), "$$(KUBERNETES_PORT)");
        let pairs = [("A".to_owned(), "p$$w".to_owned())];
        assert_eq!(env(&pairs), Some(json!([{"name": "A", "value": "p$$$w"}])));
    }

    #[test]
    fn the_configuration_has_defaults() {
        let defaults = Defaults::from_settings(&());
        assert_eq!((defaults.port, defaults.user), (8888, Some(1000)));
        assert_eq!(defaults.registry, Registry::default());
        assert_eq!(defaults.deploy_image, "tsuru/deploy-agent:0.4.0");
        assert_eq!(defaults.inspect_image, "tsuru/deploy-agent:0.4.0");
        assert_eq!(defaults.build_agent, None);
    }

    #[test]
    fn a_negative_user_is_the_images_own_and_root_is_a_user() {
        let user = |uid| Defaults::from_settings(&json!({"docker": {"uid": uid}})).user;
        assert_eq!(user(json!(-1)), None);
        assert_eq!(user(json!(0)), Some(0));
        assert_eq!(user(json!("7")), Some(7));
        assert_eq!(user(json!("x")), Some(1000));
    }

    #[test]
    fn only_images_of_the_registry_are_pulled_with_its_secret() {
        let registry = Registry { address: "my.reg:5000".to_owned(), ..Registry::default() };
        let secret = Some(json!([{"name": "registry-my.reg-5000"}]));
        assert_eq!(pull_secrets("my.reg:5000/a/b:v1", &registry), secret);
        assert_eq!(pull_secrets("my.reg/a/b:v1", &registry), None);
        assert_eq!(pull_secrets("other/my.reg:5000/b", &registry), None);
        assert_eq!(pull_secrets("/a", &Registry::default()), None);
    }
    #[test]
    fn a_port_has_a_protocol_or_it_is_none() {
        let mut given = given(json!({"docker": {"run-cmd": {"port": "9000"}}}));
        for (exposed, port) in
            [("3000/tcp", 3000), ("53/udp", 53), ("7777", 9000), ("", 9000), ("x/tcp", 9000)]
        {
            exposed.clone_into(&mut given.metadata.exposed_port);
            assert_eq!(given.workload("web").port(), port, "{exposed}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let registry = Registry { password: "secret".to_owned(), ..Registry::default() };
        assert!(!format!("{registry:?}").contains("secret"));
    }
}

//! Pods in which the agent works beside the image: it deploys, builds or inspects (spec 7.5).
//!
//! They have two containers: one of the image, which only waits, and the agent's, which reaches into the first. A file in a folder that both see ends the wait. With this project's own agent they
//! are made otherwise; see `build_agent`.

use gantry_sdk::commands::{UnitAgent, archive_build_command, deploy_command};
use gantry_sdk::gantry_core::env::Variable;
use gantry_sdk::gantry_core::image::{LATEST, split_image_name};
use gantry_sdk::{Error, Result};
use serde_json::{Value, json};

use super::build_agent::Task;
use super::{OneShot, env};
use crate::object::without_nulls;

/// The container of the agent that builds and deploys.
pub const COMMITTER: &str = "committer-cont";

/// The container of the agent that inspects.
pub const INSPECTOR: &str = "inspect-cont";

const ENGINE_SOCKET: &str = "/var/run/docker.sock";
/// The folder that both containers see.
pub(super) const SHARED_FOLDER: &str = "/tmp/intercontainer";
const DONE_FILE: &str = "/tmp/intercontainer/done";
const ARCHIVE: &str = "/home/application/archive.tar.gz";

/// The agent beside the image.
struct Agent<'a> {
    container: &'a str,
    image: &'a str,
    destinations: Vec<String>,
    input: &'a str,
    command: &'a str,
}

impl OneShot<'_> {
    /// The pod that makes the app's image `target` of what a build left.
    ///
    /// # Errors
    ///
    /// No image to be made.
    pub fn deploy(&self, target: &str, agent: &UnitAgent) -> Result<Value> {
        if let Some(own) = &self.defaults.build_agent {
            return self.with_build_agent(own, Task::Deploy, &with_latest(target));
        }
        self.with_agent(&Agent {
            container: COMMITTER,
            image: &self.defaults.deploy_image,
            destinations: with_latest(target),
            input: "/dev/null",
            command: &line(deploy_command(agent)),
        })
    }

    /// The pod that builds the image `target` of the archive that is sent to it.
    ///
    /// # Errors
    ///
    /// No image to be made.
    pub fn build(&self, target: &str, agent: &UnitAgent) -> Result<Value> {
        if let Some(own) = &self.defaults.build_agent {
            let task = Task::Build { command: &agent.deploy_command };
            return self.with_build_agent(own, task, &named(target));
        }
        let url = format!("file://{ARCHIVE}");
        self.with_agent(&Agent {
            container: COMMITTER,
            image: &self.defaults.deploy_image,
            destinations: named(target),
            input: ARCHIVE,
            command: &line(archive_build_command(agent, &url)),
        })
    }

    /// The pod that tells what is in the image, and gives it the name `target`.
    ///
    /// # Errors
    ///
    /// No name for the image.
    pub fn inspect(&self, target: &str) -> Result<Value> {
        if let Some(own) = &self.defaults.build_agent {
            return self.with_build_agent(own, Task::Inspect, &with_latest(target));
        }
        self.with_agent(&Agent {
            container: INSPECTOR,
            image: &self.defaults.inspect_image,
            destinations: with_latest(target),
            input: "/dev/null",
            command: "/bin/deploy-agent",
        })
    }

    fn with_agent(&self, agent: &Agent<'_>) -> Result<Value> {
        let first = first(&agent.destinations)?;
        let mut volumes = vec![
            json!({"name": "dockersock", "hostPath": {"path": ENGINE_SOCKET}}),
            json!({"name": "intercontainer", "emptyDir": {}}),
        ];
        volumes.extend(self.volumes.volumes.iter().cloned());
        let containers = [self.waiting_container(), self.agent_container(agent)];
        Ok(self.pod(Some(first), None, volumes, &containers))
    }

    fn waiting_container(&self) -> Value {
        let wait = format!("while [ ! -f {DONE_FILE} ]; do sleep 5; done");
        let shared = json!({"name": "intercontainer", "mountPath": SHARED_FOLDER});
        without_nulls(json!({
            "name": self.name,
            "image": self.image,
            "command": ["/bin/sh", "-ec", wait],
            "env": env(self.envs),
            "securityContext": self.defaults.user.map(|user| json!({"runAsUser": user})),
            "volumeMounts": self.mounts(&[shared]),
        }))
    }

    fn agent_container(&self, agent: &Agent<'_>) -> Value {
        let Agent { container, image, destinations, input, command } = agent;
        let script = format!(
            "end() {{ touch {DONE_FILE}; }}\ntrap end EXIT\n\
             mkdir -p $(dirname {input}) && cat >{input} && {command}\n"
        );
        let user = self.defaults.user.map(|user| user.to_string()).unwrap_or_default();
        let variables =
            self.agent_variables(destinations, &[("INPUT_FILE", input), ("RUN_AS_USER", &user)]);
        let socket = json!({"name": "dockersock", "mountPath": ENGINE_SOCKET});
        let shared = json!({"name": "intercontainer", "mountPath": SHARED_FOLDER});
        json!({
            "name": container,
            "image": image,
            "command": ["sh", "-ec", script],
            "env": env(&variables),
            "stdin": true,
            "stdinOnce": true,
            "volumeMounts": self.mounts(&[socket, shared]),
        })
    }

    /// What an agent is told: the images, the registry, and more.
    pub(super) fn agent_variables(
        &self,
        destinations: &[String],
        more: &[(&str, &str)],
    ) -> Vec<Variable> {
        let registry = &self.defaults.registry;
        let all = [
            ("RUN_AS_SIDECAR", "true"),
            ("DESTINATION_IMAGES", &destinations.join(",")),
            ("SOURCE_IMAGE", self.image),
            ("REGISTRY_AUTH_USER", &registry.user),
            ("REGISTRY_AUTH_PASS", &registry.password),
            ("REGISTRY_ADDRESS", &registry.address),
        ];
        let variable =
            |(name, value): &(&str, &str)| (format!("DEPLOYAGENT_{name}"), (*value).to_owned());
        all.iter().chain(more).map(variable).collect()
    }

    fn mounts(&self, own: &[Value]) -> Vec<Value> {
        own.iter().chain(&self.volumes.mounts).cloned().collect()
    }
}

/// The image that is made.
///
/// # Errors
///
/// None is.
pub(super) fn first(destinations: &[String]) -> Result<&String> {
    let none = || Error::InvalidArgument("no destination images provided".to_owned());
    destinations.first().ok_or_else(none)
}

/// The line of a command that is `[shell, flags, line]`.
fn line(command: Vec<String>) -> String {
    command.into_iter().last().unwrap_or_default()
}

/// The image under the name it has to have; none without a name.
fn named(image: &str) -> Vec<String> {
    Some(image.to_owned()).filter(|image| !image.is_empty()).into_iter().collect()
}

/// The image under its own name, and as the newest one.
fn with_latest(image: &str) -> Vec<String> {
    let mut names = named(image);
    let (repository, tag) = split_image_name(image);
    if !names.is_empty() && tag != LATEST {
        names.push(format!("{repository}:{LATEST}"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::given;
    use super::*;

    fn environment(container: &Value) -> Vec<String> {
        let envs = container["env"].as_array().unwrap().iter();
        envs.map(|env| {
            format!("{}={}", env["name"].as_str().unwrap(), env["value"].as_str().unwrap_or(""))
        })
        .collect()
    }

    #[test]
    fn a_deploy_has_the_image_and_the_agent_beside_it() {
        let config = json!({
            "host": "h",
            "docker": {"registry": "r", "registry-auth": {"username": "u", "password": "p"}},
        });
        let given = given(config);
        let pod = given.pod().deploy("r/myapp:v2", &given.agent).unwrap();
        assert_eq!(pod["metadata"]["annotations"]["tsuru.io/build-image"], "r/myapp:v2");
        assert_eq!(pod["metadata"]["annotations"]["tsuru.io/router-name"], "fake");
        assert_eq!(pod["metadata"]["labels"]["tsuru.io/is-build"], "true");
        assert_eq!(pod["metadata"]["labels"]["tsuru.io/app-process-replicas"], "0");
        assert_eq!(pod["metadata"]["labels"].get("tsuru.io/build-image"), None);
        assert_eq!(pod["metadata"]["namespace"], "default");
        let spec = &pod["spec"];
        assert_eq!(spec["restartPolicy"], "Never");
        assert_eq!(spec["nodeSelector"], json!({"tsuru.io/pool": "p1"}));
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry-r"}]));
        let volumes: Vec<&str> = spec["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v["name"].as_str().unwrap())
            .collect();
        assert_eq!(volumes, ["dockersock", "intercontainer", "v1-tsuru"]);
        let [image, agent] = spec["containers"].as_array().unwrap().as_slice() else {
            panic!("two containers")
        };
        assert_eq!(image["name"], "myapp-v1-deploy");
        assert_eq!(image["securityContext"], json!({"runAsUser": 1000}));
        assert_eq!(environment(image), ["TSURU_HOST="]);
        assert_eq!(agent["name"], "committer-cont");
        assert_eq!(
            agent["command"][2],
            "end() { touch /tmp/intercontainer/done; }\ntrap end EXIT\n\
             mkdir -p $(dirname /dev/null) && cat >/dev/null && tsuru_unit_agent h tk myapp deploy-only\n"
        );
        assert_eq!(
            environment(agent),
            [
                "DEPLOYAGENT_RUN_AS_SIDECAR=true",
                "DEPLOYAGENT_DESTINATION_IMAGES=r/myapp:v2,r/myapp:latest",
                "DEPLOYAGENT_SOURCE_IMAGE=r/myapp:v1-builder",
                "DEPLOYAGENT_REGISTRY_AUTH_USER=u",
                "DEPLOYAGENT_REGISTRY_AUTH_PASS=p",
                "DEPLOYAGENT_REGISTRY_ADDRESS=r",
                "DEPLOYAGENT_INPUT_FILE=/dev/null",
                "DEPLOYAGENT_RUN_AS_USER=1000",
            ]
        );
    }

    #[test]
    fn a_build_unpacks_what_is_sent_to_it() {
        let given = given(json!({"docker": {"uid": -1}}));
        let pod = given.pod().build("myapp:mytag", &given.agent).unwrap();
        let containers = &pod["spec"]["containers"];
        assert_eq!(containers[0].get("securityContext"), None);
        let script = containers[1]["command"][2].as_str().unwrap();
        let archive = "/home/application/archive.tar.gz";
        assert!(script.contains(&format!("mkdir -p $(dirname {archive}) && cat >{archive} && ")));
        assert!(script.ends_with(&format!("archive file://{archive}\" build\n")), "{script}");
        let environment = environment(&containers[1]);
        assert!(environment.contains(&"DEPLOYAGENT_DESTINATION_IMAGES=myapp:mytag".to_owned()));
        assert!(environment.contains(&"DEPLOYAGENT_RUN_AS_USER=".to_owned()));
    }

    #[test]
    fn an_image_must_be_named_and_the_newest_is_named_once() {
        let given = given(json!({}));
        for pod in [given.pod().deploy("", &given.agent), given.pod().inspect("")] {
            assert_eq!(pod.unwrap_err().to_string(), "no destination images provided");
        }
        assert_eq!(with_latest("r:5000/a"), ["r:5000/a"]);
        assert_eq!(with_latest("r:5000/a:v1"), ["r:5000/a:v1", "r:5000/a:latest"]);
        let pod = given.pod().inspect("a:latest").unwrap();
        assert_eq!(pod["spec"]["containers"][1]["name"], "inspect-cont");
    }
}

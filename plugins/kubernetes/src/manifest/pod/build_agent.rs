//! Pods in which this project's own agent works (`kubernetes:build-agent`), the crate in `plugins/kubernetes/agent`.
//!
//! The reference's agent reaches into the container beside it through the socket of the node's engine: that is root on the node, and a node with containerd has none. So the way is turned round.
//! A first container puts the agent's program into a folder that the others see; in the container of the image that program is what runs, and makes a layer of what the build changes; the agent's
//! own container takes that over a socket in the folder and pushes it. The password of the registry is in the last alone, where no code of the app runs.
//!
//! A build sees no volume of the app: it must not touch what the units work with, and a volume of one node would keep it from every other.

use serde_json::{Value, json};

use super::agent::{COMMITTER, INSPECTOR, SHARED_FOLDER, first};
use super::{OneShot, env, literal, pull_secrets};
use crate::manifest::BuildAgent;
use crate::object::without_nulls;
use gantry_sdk::Result;

/// Where the agent is in its image.
const PROGRAM: &str = "/gantry-build-agent";

/// Where it is for the other containers.
const SHARED_PROGRAM: &str = "/tmp/intercontainer/agent";

/// A folder that only the agent's container sees: what it works with is nobody else's to change.
const SCRATCH_FOLDER: &str = "/tmp/scratch";

/// What the agent does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task<'a> {
    /// Builds an image of the archive that is sent.
    Build {
        /// The platform's own command for that.
        command: &'a str,
    },
    /// Gives an image other names.
    Deploy,
    /// The same, and tells what is in it.
    Inspect,
}

impl OneShot<'_> {
    /// The pod for a task.
    ///
    /// # Errors
    ///
    /// No image to be made.
    pub(super) fn with_build_agent(
        &self,
        own: &BuildAgent,
        task: Task<'_>,
        destinations: &[String],
    ) -> Result<Value> {
        let made = first(destinations)?;
        let (container, verb, work) = match task {
            Task::Build { command } => (COMMITTER, "build", Some(vec!["work", command])),
            Task::Deploy => (COMMITTER, "deploy", None),
            Task::Inspect => (INSPECTOR, "inspect", Some(vec!["look"])),
        };
        let volumes = ["intercontainer", "scratch"];
        let volumes = volumes.map(|name| json!({"name": name, "emptyDir": {}})).to_vec();
        let agent = self.build_agent_container(own, container, verb, destinations);
        let containers: Vec<Value> = work
            .as_deref()
            .map(|work| self.working_container(work))
            .into_iter()
            .chain([agent])
            .collect();
        let mut pod = self.pod(Some(made), None, volumes, &containers);
        if let Some(spec) = pod.pointer_mut("/spec").and_then(Value::as_object_mut) {
            if work.is_some() {
                let install = json!([self.installing_container(own)]);
                spec.insert("initContainers".to_owned(), install);
            }
            if let Some(secrets) = pull_secrets(&own.image, &self.defaults.registry) {
                spec.insert("imagePullSecrets".to_owned(), secrets);
            }
        }
        Ok(pod)
    }

    fn installing_container(&self, own: &BuildAgent) -> Value {
        json!({
            "name": "agent",
            "image": own.image,
            "command": [PROGRAM, "install", SHARED_PROGRAM],
            "securityContext": self.without_rights(),
            "volumeMounts": [shared()],
        })
    }

    /// The container of the image, where the build's own commands run: with the environment of the app, and with the rights of its units.
    fn working_container(&self, work: &[&str]) -> Value {
        let words = [SHARED_PROGRAM].iter().chain(work);
        let command: Vec<String> = words.map(|word| literal(word, self.envs)).collect();
        without_nulls(json!({
            "name": self.name,
            "image": self.image,
            "command": command,
            "env": env(self.envs),
            "securityContext": self.defaults.user.map(|user| json!({"runAsUser": user})),
            "volumeMounts": [shared()],
        }))
    }

    fn build_agent_container(
        &self,
        own: &BuildAgent,
        container: &str,
        verb: &str,
        destinations: &[String],
    ) -> Value {
        let variables = self.agent_variables(destinations, &[("REGISTRY_CA", &own.authority)]);
        let scratch = json!({"name": "scratch", "mountPath": SCRATCH_FOLDER});
        json!({
            "name": container,
            "image": own.image,
            "command": [PROGRAM, verb],
            "env": env(&variables),
            "stdin": true,
            "stdinOnce": true,
            "securityContext": self.without_rights(),
            "volumeMounts": [shared(), scratch],
        })
    }

    fn without_rights(&self) -> Value {
        without_nulls(json!({
            "runAsUser": self.defaults.user,
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
        }))
    }
}

fn shared() -> Value {
    json!({"name": "intercontainer", "mountPath": SHARED_FOLDER})
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::given;
    use super::*;

    fn config() -> Value {
        json!({
            "docker": {
                "registry": "r", "registry-auth": {"username": "u", "password": "p"},
                "registry-ca": "PEM", "deploy-cmd": "/deploy $(PORT)",
            },
            "kubernetes": {"build-agent": "other/agent:v1"},
        })
    }

    fn names(list: &Value) -> Vec<&str> {
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_build_works_in_the_image_and_pushes_beside_it() {
        let given = given(config());
        let pod = given.pod().build("r/team/app-myapp:v1-builder", &given.agent).unwrap();
        let spec = &pod["spec"];
        assert_eq!(names(&spec["initContainers"]), ["agent"]);
        assert_eq!(names(&spec["containers"]), ["myapp-v1-deploy", "committer-cont"]);
        assert_eq!(names(&spec["volumes"]), ["intercontainer", "scratch"]);
        let [install, work, push] =
            [&spec["initContainers"][0], &spec["containers"][0], &spec["containers"][1]];
        assert_eq!(
            (&install["image"], &work["image"], &push["image"]),
            (&json!("other/agent:v1"), &json!("r/myapp:v1-builder"), &json!("other/agent:v1"))
        );
        assert_eq!(
            install["command"],
            json!(["/gantry-build-agent", "install", "/tmp/intercontainer/agent"])
        );
        assert_eq!(
            work["command"],
            json!(["/tmp/intercontainer/agent", "work", "/deploy $$(PORT)"])
        );
        assert_eq!(push["command"], json!(["/gantry-build-agent", "build"]));
        assert_eq!(names(&work["env"]), ["TSURU_HOST"]);
        assert_eq!(
            push["env"],
            json!([
                {"name": "DEPLOYAGENT_RUN_AS_SIDECAR", "value": "true"},
                {"name": "DEPLOYAGENT_DESTINATION_IMAGES", "value": "r/team/app-myapp:v1-builder"},
                {"name": "DEPLOYAGENT_SOURCE_IMAGE", "value": "r/myapp:v1-builder"},
                {"name": "DEPLOYAGENT_REGISTRY_AUTH_USER", "value": "u"},
                {"name": "DEPLOYAGENT_REGISTRY_AUTH_PASS", "value": "p"},
                {"name": "DEPLOYAGENT_REGISTRY_ADDRESS", "value": "r"},
                {"name": "DEPLOYAGENT_REGISTRY_CA", "value": "PEM"},
            ])
        );
        assert_eq!((&push["stdin"], &push["stdinOnce"]), (&json!(true), &json!(true)));
        assert_eq!(
            pod["metadata"]["annotations"]["tsuru.io/build-image"],
            "r/team/app-myapp:v1-builder"
        );
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry-r"}]));
    }

    #[test]
    fn only_the_agent_knows_the_password_and_nobody_has_a_right() {
        let given = given(config());
        for pod in [
            given.pod().build("r/a:v1", &given.agent),
            given.pod().inspect("r/a:v1"),
            given.pod().deploy("r/a:v1", &given.agent),
        ] {
            let pod = pod.unwrap();
            let text = pod.to_string();
            assert!(!text.contains("hostPath") && !text.contains("docker.sock"), "{text}");
            assert!(!text.contains("privileged") && !text.contains("/mnt"), "{text}");
            let containers = pod["spec"]["containers"].as_array().unwrap();
            let (agent, others) = containers.split_last().unwrap();
            assert_eq!(text.matches("DEPLOYAGENT_REGISTRY_AUTH_PASS").count(), 1);
            assert!(agent.to_string().contains("DEPLOYAGENT_REGISTRY_AUTH_PASS"));
            let rights = json!({
                "runAsUser": 1000, "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
            });
            assert_eq!(agent["securityContext"], rights);
            for other in others {
                assert_eq!(other["securityContext"], json!({"runAsUser": 1000}));
                assert!(!other.to_string().contains("scratch"));
            }
        }
    }

    #[test]
    fn an_image_that_is_only_named_is_not_run() {
        let given = given(config());
        let pod = given.pod().deploy("r/a:v1", &given.agent).unwrap();
        assert_eq!(names(&pod["spec"]["containers"]), ["committer-cont"]);
        assert_eq!(pod["spec"].get("initContainers"), None);
        let names_of = &pod["spec"]["containers"][0]["env"][1]["value"];
        assert_eq!(names_of, "r/a:v1,r/a:latest");
        let pod = given.pod().inspect("r/a:v1").unwrap();
        assert_eq!(names(&pod["spec"]["containers"]), ["myapp-v1-deploy", "inspect-cont"]);
        assert_eq!(
            pod["spec"]["containers"][0]["command"],
            json!(["/tmp/intercontainer/agent", "look"])
        );
        let error = given.pod().deploy("", &given.agent).unwrap_err().to_string();
        assert_eq!(error, "no destination images provided");
    }

    #[test]
    fn the_agent_comes_with_the_registrys_secret_when_it_is_from_there() {
        let mut config = config();
        config["docker"]["registry"] = json!("s");
        let given_elsewhere = given(config.clone());
        let pod = given_elsewhere.pod().build("s/a:v1", &given_elsewhere.agent).unwrap();
        assert_eq!(pod["spec"].get("imagePullSecrets"), None);
        config["kubernetes"]["build-agent"] = json!("s/agent:v1");
        let given = given(config);
        let pod = given.pod().build("s/a:v1", &given.agent).unwrap();
        assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "registry-s"}]));
    }
}

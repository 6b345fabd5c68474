//! Pods that run once: what deploys, builds and inspects images, and what runs one command (spec 7.5, 7.8).

mod agent;
mod build_agent;

use gantry_sdk::gantry_core::env::Variable;
use gantry_sdk::{App, LabelSet};
use serde_json::{Value, json};

use super::{Defaults, env, literal, metadata, node_selector, pull_secrets};
use crate::cluster::Cluster;
use crate::name;
use crate::object::{unless_empty, without_nulls};
use crate::volume::Attached;

pub use agent::{COMMITTER, INSPECTOR};

/// What is sent to a pod that reads no archive: its commands begin once something comes.
pub const NO_INPUT: &str = ".";

/// A pod that runs once.
#[derive(Clone, Copy, Debug)]
pub struct OneShot<'a> {
    /// What the pod is called; see [`crate::name`].
    pub name: &'a str,
    /// The app.
    pub app: &'a App,
    /// The image.
    pub image: &'a str,
    /// Its labels: those of a service, with what it is for.
    pub labels: &'a LabelSet,
    /// The environment of the container of the image.
    pub envs: &'a [Variable],
    /// The volumes of the app.
    pub volumes: &'a Attached,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// What the operator configured.
    pub defaults: &'a Defaults,
}

impl OneShot<'_> {
    /// The pod that runs one command in the image.
    ///
    /// Differs from the reference on purpose (design 10.5): an argument stays one, whatever is in it. They are the positional parameters of the line, from `$0` on, as in a unit.
    pub fn isolated_run(&self, line: &str, args: &[String]) -> Value {
        let mut command =
            ["sh", "-ec", &format!("cat >/dev/null && {line}")].map(str::to_owned).to_vec();
        command.extend(args.iter().cloned());
        let command: Vec<String> = command.iter().map(|word| literal(word, self.envs)).collect();
        let container = without_nulls(json!({
            "name": self.name,
            "image": self.image,
            "command": command,
            "env": env(self.envs),
            "stdin": true,
            "stdinOnce": true,
            "volumeMounts": unless_empty(self.volumes.mounts.clone()),
        }));
        let context = json!({"runAsUser": self.defaults.user});
        self.pod(None, Some(context), self.volumes.volumes.clone(), &[container])
    }

    /// The pod that runs a script of the platform's in the image. Nobody speaks to it, and it sees no volume of the app.
    pub fn script(&self, line: &str) -> Value {
        let container = json!({
            "name": self.name,
            "image": self.image,
            "command": ["/bin/sh", "-c", line],
        });
        let context = json!({"runAsUser": self.defaults.user});
        self.pod(None, Some(context), Vec::new(), &[container])
    }

    /// The pod of these containers; `made` is the image it makes.
    fn pod(
        &self,
        made: Option<&str>,
        context: Option<Value>,
        volumes: Vec<Value>,
        containers: &[Value],
    ) -> Value {
        let (labels, mut annotations) = self.labels.split_service_labels_annotations();
        if let Some(image) = made {
            // The name of an image is no value of a label.
            annotations.set_build_image(image);
        }
        let namespace = self.cluster.namespace();
        let (labels, annotations) = (labels.to_labels(), annotations.to_labels());
        without_nulls(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata(self.name, namespace, labels, annotations),
            "spec": {
                "containers": containers,
                "imagePullSecrets": pull_secrets(self.image, &self.defaults.registry),
                "nodeSelector": node_selector(&self.app.pool),
                "restartPolicy": "Never",
                "securityContext": context,
                "serviceAccountName": name::app_account(&self.app.name),
                "volumes": unless_empty(volumes),
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::given;
    use super::*;

    #[test]
    fn the_arguments_of_a_command_stay_what_they_are() {
        let given = given(json!({}));
        let args = ["-la", "a b", "it's", "", "$HOME"].map(str::to_owned);
        let pod = given.pod().isolated_run("exec \"$0\" \"$@\"", &args);
        let container = &pod["spec"]["containers"][0];
        assert_eq!(
            container["command"],
            json!([
                "sh",
                "-ec",
                "cat >/dev/null && exec \"$0\" \"$@\"",
                "-la",
                "a b",
                "it's",
                "",
                "$HOME",
            ])
        );
        assert_eq!(pod["spec"]["securityContext"], json!({"runAsUser": 1000}));
        assert_eq!(pod["metadata"]["annotations"].get("tsuru.io/build-image"), None);
    }
}

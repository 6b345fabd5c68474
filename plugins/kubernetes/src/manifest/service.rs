//! The Services of a process: one that is reached from outside through a port of every node, and one that names each unit.
//!
//! Both are sent with every change, so an existing one follows a changed port (design 10.7); the node's port is the cluster's to give and stays.

use gantry_sdk::{LabelSet, Labels};
use serde_json::{Value, json};

use super::{Defaults, Workload, metadata};
use crate::object::{number, text, texts, without_nulls};
use crate::{PREFIX, name};

/// The Service that routers reach the process through.
pub fn service(workload: &Workload<'_>) -> Value {
    let name = name::deployment(&workload.app.name, workload.process);
    Routed::of(workload).service(&name)
}

/// The headless Service: a name for each unit.
pub fn headless(workload: &Workload<'_>) -> Value {
    let name = name::headless_service(&workload.app.name, workload.process);
    Routed::of(workload).headless(&name)
}

/// Both as they were with a Deployment that is to be put back: what they say of the process, it says too.
pub fn of_deployment(deployment: &Value, defaults: &Defaults) -> [Value; 2] {
    let ours = |pointer: &str| -> Labels {
        let labels = texts(deployment, pointer).into_iter();
        labels.filter(|(key, _)| key.starts_with(PREFIX)).collect()
    };
    let routed = Routed {
        namespace: text(deployment, "/metadata/namespace"),
        labels: ours("/metadata/labels"),
        annotations: ours("/metadata/annotations"),
        selector: texts(deployment, "/spec/selector/matchLabels"),
        port: defaults.port,
        target: number(deployment, "/spec/template/spec/containers/0/ports/0/containerPort"),
    };
    let name = crate::object::name(deployment);
    [routed.service(name), routed.headless(&format!("{name}-units"))]
}

/// A process, as far as its Services are about it.
struct Routed<'a> {
    namespace: &'a str,
    labels: Labels,
    annotations: Labels,
    selector: Labels,
    port: i64,
    target: i64,
}

impl<'a> Routed<'a> {
    fn of(workload: &Workload<'a>) -> Self {
        let (labels, annotations) = workload.labels_and_annotations();
        Self {
            namespace: workload.cluster.namespace(),
            labels,
            annotations,
            selector: workload.labels.to_selector(),
            port: workload.defaults.port,
            target: workload.port(),
        }
    }

    fn service(&self, name: &str) -> Value {
        self.make(name, self.labels.clone(), "NodePort", None)
    }

    fn headless(&self, name: &str) -> Value {
        let mut labels = LabelSet::new(self.labels.clone(), PREFIX);
        labels.set_is_headless_service();
        self.make(name, labels.to_labels(), "ClusterIP", Some("None"))
    }

    fn make(&self, name: &str, labels: Labels, kind: &str, cluster_ip: Option<&str>) -> Value {
        without_nulls(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(name, self.namespace, labels, self.annotations.clone()),
            "spec": {
                "clusterIP": cluster_ip,
                "ports": [{"port": self.port, "protocol": "TCP", "targetPort": self.target}],
                "selector": self.selector,
                "type": kind,
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::given;
    use super::*;

    #[test]
    fn a_service_leads_to_the_port_of_the_image() {
        let mut given = given(json!({}));
        "3000/tcp".clone_into(&mut given.metadata.exposed_port);
        let ports = json!([{"port": 8888, "protocol": "TCP", "targetPort": 3000}]);
        for made in [service, headless].map(|make| make(&given.workload("web"))) {
            assert_eq!(made["spec"]["ports"], ports);
            assert_eq!(made["spec"].pointer("/ports/0/nodePort"), None);
        }
    }

    #[test]
    fn the_services_of_a_deployment_are_those_it_was_made_with() {
        let mut given = given(json!({}));
        given.metadata.processes.insert("web".to_owned(), vec!["run".to_owned()]);
        "3000/tcp".clone_into(&mut given.metadata.exposed_port);
        let workload = given.workload("web");
        let mut deployment = super::super::deployment::deployment(&workload).unwrap();
        // Those of others are theirs.
        deployment["metadata"]["labels"]["somebody"] = json!("else");
        deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("3");
        let expected = [service(&workload), headless(&workload)];
        assert_eq!(of_deployment(&deployment, workload.defaults), expected);
    }
}

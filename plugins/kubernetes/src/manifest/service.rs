//! The Services of a process: one that is reached from outside through a port of every node, and one that names each unit.
//!
//! Both are sent with every change, so an existing one follows a changed port (design 10.7); the node's port is the cluster's to give and stays.

use gantry_sdk::LabelSet;
use serde_json::{Value, json};

use super::{Workload, metadata};
use crate::object::without_nulls;
use crate::{PREFIX, name};

/// The Service that routers reach the process through.
pub fn service(workload: &Workload<'_>) -> Value {
    let name = name::deployment(&workload.app.name, workload.process);
    let (labels, annotations) = workload.labels_and_annotations();
    let metadata = metadata(&name, workload.cluster.namespace(), labels, annotations);
    make(workload, &metadata, "NodePort", None)
}

/// The headless Service: a name for each unit.
pub fn headless(workload: &Workload<'_>) -> Value {
    let name = name::headless_service(&workload.app.name, workload.process);
    let (labels, annotations) = workload.labels_and_annotations();
    let mut labels = LabelSet::new(labels, PREFIX);
    labels.set_is_headless_service();
    let labels = labels.to_labels();
    let metadata = metadata(&name, workload.cluster.namespace(), labels, annotations);
    make(workload, &metadata, "ClusterIP", Some("None"))
}

fn make(workload: &Workload<'_>, metadata: &Value, kind: &str, cluster_ip: Option<&str>) -> Value {
    without_nulls(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "clusterIP": cluster_ip,
            "ports": [{
                "port": workload.defaults.port, "protocol": "TCP", "targetPort": workload.port(),
            }],
            "selector": workload.labels.to_selector(),
            "type": kind,
        },
    }))
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
}

//! What pods say about units, and where the platform's routers reach them (spec 7.6).

use std::collections::BTreeMap;

use gantry_sdk::gantry_core::url::url_to_host;
use gantry_sdk::{LabelSet, Status, Unit};
use serde_json::Value;

use crate::PREFIX;
use crate::node;
use crate::object::{items, label_set, name, number, text};

/// The web process of an app, and how it is reached.
#[derive(Clone, Copy, Debug)]
pub struct Web<'a> {
    /// The app.
    pub app: &'a str,
    /// The process.
    pub process: &'a str,
    /// Its Service; none while there is none.
    pub service: Option<&'a Value>,
    /// Its Deployment, which tells whether it is stopped or asleep.
    pub deployment: Option<&'a Value>,
}

impl Web<'_> {
    /// The port of every node that leads to the process; 0 without a Service.
    pub fn node_port(&self) -> i64 {
        let ports = self.service.map(|service| items(service, "/spec/ports")).unwrap_or_default();
        ports.first().map(|port| number(port, "/nodePort")).unwrap_or_default()
    }

    fn is_at_rest(&self) -> bool {
        self.deployment
            .map(label_set)
            .is_some_and(|labels| labels.is_stopped() || labels.is_asleep())
    }
}

/// Where a unit is in its life, by the phase of its pod; none for a phase that nobody knows.
pub fn status(phase: &str) -> Option<Status> {
    match phase {
        "Pending" => Some(Status::Created),
        "Running" => Some(Status::Started),
        "Succeeded" => Some(Status::Stopped),
        "Failed" | "Unknown" => Some(Status::Error),
        _ => None,
    }
}

/// What selects the pods of these apps (design 10.8).
pub fn selector(apps: &[&str]) -> String {
    format!("{PREFIX}app-name in ({})", apps.join(","))
}

/// The units that pods are: of these apps, by the nodes they run on. `webs` are the web processes of the apps. Other apps' pods are passed over, should there be any
/// (design 10.8).
pub fn units(pods: &[Value], apps: &[&str], nodes: &[Value], webs: &[Web<'_>]) -> Vec<Unit> {
    let addresses: BTreeMap<&str, String> =
        nodes.iter().map(|node| (name(node), node::address(node))).collect();
    let mut units = Vec::new();
    for pod in pods {
        let labels = label_set(pod);
        if apps.contains(&labels.app_name()) {
            let address = addresses.get(text(pod, "/spec/nodeName"));
            units.push(unit(pod, &labels, address.map(String::as_str).unwrap_or_default(), webs));
        }
    }
    units
}

fn unit(pod: &Value, labels: &LabelSet, node: &str, webs: &[Web<'_>]) -> Unit {
    let (app, process) = (labels.app_name(), labels.app_process());
    let web = webs.iter().find(|web| web.app == app && web.process == process);
    let address = match web {
        // An image that declares nothing has no web process.
        Some(web) if !process.is_empty() => format!("http://{node}:{}", web.node_port()),
        Some(_) | None => format!("http://{node}"),
    };
    Unit {
        id: name(pod).to_owned(),
        name: name(pod).to_owned(),
        app_name: app.to_owned(),
        process_name: process.to_owned(),
        kind: labels.app_platform().to_owned(),
        ip: url_to_host(node),
        status: status(text(pod, "/status/phase")),
        address: Some(address),
    }
}

/// Where routers reach the web process: every node of the pool, whether it runs a unit or not. `nodes` are those of the pool.
///
/// Differs from the reference on purpose (design 10.4): nowhere when the process is stopped or asleep.
pub fn routable_addresses(nodes: &[Value], web: Option<&Web<'_>>) -> Vec<String> {
    let Some(web) = web.filter(|web| !web.process.is_empty() && !web.is_at_rest()) else {
        return Vec::new();
    };
    let port = web.node_port();
    nodes.iter().map(|node| format!("http://{}:{port}", node::address(node))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, address: &str) -> Value {
        json!({
            "metadata": {"name": name},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        })
    }

    fn pod(name: &str, app: &str, process: &str, node: &str) -> Value {
        json!({
            "metadata": {
                "name": name,
                "labels": {"tsuru.io/app-name": app, "tsuru.io/app-process": "by label"},
                "annotations": {"tsuru.io/app-process": process},
            },
            "spec": {"nodeName": node},
            "status": {"phase": "Running"},
        })
    }

    const WEB: Web<'_> = Web { app: "a", process: "web", service: None, deployment: None };

    #[test]
    fn a_phase_nobody_knows_is_no_status() {
        for (phase, expected) in [
            ("Pending", Some(Status::Created)),
            ("Running", Some(Status::Started)),
            ("Succeeded", Some(Status::Stopped)),
            ("Failed", Some(Status::Error)),
            ("Unknown", Some(Status::Error)),
            ("", None),
            ("running", None),
        ] {
            assert_eq!(status(phase), expected);
        }
    }

    #[test]
    fn only_the_web_process_has_a_port() {
        let pods = [
            pod("p1", "a", "web", "n1"),
            pod("p2", "a", "worker", "n1"),
            pod("p3", "b", "web", ""),
        ];
        let nodes = [node("n1", "10.0.0.1")];
        let service = json!({"spec": {"ports": [{"nodePort": 30000}]}});
        let web = Web { service: Some(&service), ..WEB };
        let units = units(&pods, &["a", "b"], &nodes, &[web]);
        let shown: Vec<_> =
            units.iter().map(|unit| (unit.ip.as_str(), unit.address.as_deref().unwrap())).collect();
        let expected = [
            ("10.0.0.1", "http://10.0.0.1:30000"),
            ("10.0.0.1", "http://10.0.0.1"),
            ("", "http://"),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn units_of_other_apps_are_passed_over() {
        let pods = [pod("p1", "a", "web", ""), pod("p2", "b", "web", "")];
        let units = units(&pods, &["b"], &[], &[WEB]);
        assert_eq!(units.iter().map(|unit| unit.id.as_str()).collect::<Vec<_>>(), ["p2"]);
        assert_eq!(selector(&["a", "b"]), "tsuru.io/app-name in (a,b)");
    }

    #[test]
    fn a_process_at_rest_is_reached_nowhere() {
        let nodes = [node("n1", "10.0.0.1")];
        let with = |key: &str| json!({"metadata": {"labels": {key: "true"}}});
        for (key, count) in
            [("tsuru.io/is-stopped", 0), ("tsuru.io/is-asleep", 0), ("tsuru.io/is-service", 1)]
        {
            let deployment = with(key);
            let web = Web { deployment: Some(&deployment), ..WEB };
            assert_eq!(routable_addresses(&nodes, Some(&web)).len(), count, "{key}");
        }
        assert_eq!(routable_addresses(&nodes, Some(&WEB)), ["http://10.0.0.1:0"]);
        assert!(routable_addresses(&nodes, Some(&Web { process: "", ..WEB })).is_empty());
        assert!(routable_addresses(&nodes, None).is_empty());
    }
}

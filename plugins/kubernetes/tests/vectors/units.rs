use gantry_kubernetes::object::name;
use gantry_kubernetes::unit::{self, Web};
use gantry_sdk::Status;
use serde_json::{Value, json};

use crate::walk::{Ran, error, text, texts, walk};

/// The app that the vectors were recorded with.
const RECORDED_APP: &str = "myapp";

#[test]
fn kube_phase_status() {
    walk("kube_phase_status", |case| {
        let status = unit::status(text(case, "phase"));
        assert_eq!(status.map_or("", Status::as_str), text(case, "status"));
        assert_eq!(error(case), None);
        Ran::AsTheReference
    });
}

#[test]
fn kube_units() {
    walk("kube_units", |case| {
        let nodes = nodes(text(case, "nodes"));
        let port = case["service_myapp_web_node_port"].as_i64();
        let service = port.map(|port| json!({"spec": {"ports": [{"nodePort": port}]}}));
        let web = Web {
            app: RECORDED_APP,
            process: text(case, "web_process"),
            service: service.as_ref(),
            deployment: None,
        };
        let expected = case["units"].as_array().cloned().unwrap_or_default();
        let pods: Vec<Value> = expected.iter().map(|unit| unit["pod"].clone()).collect();
        let units = unit::units(&pods, &[RECORDED_APP], &nodes, &[web]);
        // Units of other apps are not listed (design 10.8).
        let (listed, others): (Vec<&Value>, Vec<&Value>) = expected.iter().partition(|unit| {
            unit["pod"]["metadata"]["labels"]["tsuru.io/app-name"] == RECORDED_APP
        });
        assert_eq!(units.len(), listed.len());
        for (ours, theirs) in units.iter().zip(&listed) {
            assert_eq!(ours.id, name(&theirs["pod"]));
            let theirs = &theirs["unit"];
            assert_eq!(ours.id, text(theirs, "id"));
            assert_eq!(ours.name, text(theirs, "name"));
            assert_eq!(ours.app_name, text(theirs, "app_name"));
            assert_eq!(ours.process_name, text(theirs, "process_name"));
            assert_eq!(ours.kind, text(theirs, "type"));
            assert_eq!(ours.ip, text(theirs, "ip"));
            assert_eq!(ours.status.map_or("", Status::as_str), text(theirs, "status"));
            assert_eq!(ours.address.as_deref(), theirs["address"].as_str());
        }
        assert!(case["routable_error"].is_null());
        let routable = unit::routable_addresses(&nodes, Some(&web));
        assert_eq!(routable, texts(case, "routable_addresses"));
        if others.is_empty() { Ran::AsTheReference } else { Ran::Excused(8) }
    });
}

/// The nodes of a sentence: `n1 InternalIP 192.168.99.1 ExternalIP 200.0.0.1; n2 …; both labelled …`.
fn nodes(sentence: &str) -> Vec<Value> {
    let parts = sentence.split("; ").filter(|part| part.contains("InternalIP"));
    parts
        .map(|part| {
            let words: Vec<&str> = part.split(' ').collect();
            let (name, addresses) = words.split_first().expect("a name");
            let addresses: Vec<Value> = addresses
                .chunks(2)
                .map(|pair| json!({"type": pair[0], "address": pair[1]}))
                .collect();
            json!({"metadata": {"name": name}, "status": {"addresses": addresses}})
        })
        .collect()
}

use gantry_kubernetes::node::{self, Addition, Update};
use gantry_kubernetes::object::{merge_patch, name};
use gantry_sdk::Error;
use serde_json::{Value, json};

use crate::objects;
use crate::walk::{Ran, error, map, text, walk};

#[test]
fn kube_node_wrapper() {
    walk("kube_node_wrapper", |case| {
        let node = node::wrap(&case["node"], text(case, "cluster"));
        assert_eq!(node.address, text(case, "address"));
        assert_eq!(node.iaas_id, text(case, "iaas_id"));
        assert_eq!(node.pool, text(case, "pool"));
        assert_eq!(node.status, text(case, "status"));
        assert_eq!(node.metadata, map(case, "metadata"));
        assert_eq!(node.metadata_no_prefix, map(case, "metadata_no_prefix"));
        assert_eq!(node.extra_data, map(case, "extra_data"));
        let json: Value = serde_json::from_str(&node.reference_json()).expect("it is JSON");
        assert_eq!(json, case["node_to_json"]);
        Ran::AsTheReference
    });
}

#[test]
fn kube_nodes() {
    walk("kube_nodes", |case| {
        let mut nodes: Vec<Value> = Vec::new();
        for step in case["steps"].as_array().expect("steps") {
            let result = apply(&mut nodes, step);
            assert_eq!(result.err().map(|error| error.to_string()).as_deref(), error(step));
            nodes.sort_by_key(objects::name);
            let ours: Vec<Value> =
                nodes.iter().map(|node| objects::ours(node, "v1", "Node")).collect();
            assert_eq!(ours, objects::all(step, "nodes"), "{}", step["in"]);
        }
        Ran::AsTheReference
    });
}

/// Does a step on the nodes of a cluster.
fn apply(nodes: &mut Vec<Value>, step: &Value) -> Result<(), Error> {
    let input = &step["in"];
    let flag = |field: &str| input[field].as_bool().unwrap_or_default();
    let (address, pool) = (text(input, "address"), text(input, "pool"));
    let metadata = map(input, "metadata");
    let existing = node::find(nodes, address).cloned();
    let changed = match text(step, "op") {
        "AddNode" => {
            let iaas_id = text(input, "iaas_id");
            let addition = Addition { address, pool, iaas_id, metadata: &metadata };
            node::add(existing.as_ref(), &addition)
        }
        "UpdateNode" => {
            let (enable, disable) = (flag("enable"), flag("disable"));
            let update = Update { pool, metadata: &metadata, enable, disable };
            node::update(existing.as_ref().ok_or(Error::NodeNotFound)?, &update)
        }
        "RemoveNode" => {
            let removed = existing.ok_or(Error::NodeNotFound)?;
            nodes.retain(|node| *node != removed);
            return Ok(());
        }
        unknown => panic!("no step {unknown}"),
    };
    if let Some(existing) = existing {
        // What would be sent says it all.
        let patch = merge_patch(&existing, &changed);
        assert_eq!(patch == json!({}), existing == changed);
        nodes.retain(|node| name(node) != name(&existing));
    }
    nodes.push(changed);
    Ok(())
}

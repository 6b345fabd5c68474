use std::collections::BTreeMap;

use gantry_core::node::{Node, NodeSearch, find_node_by_addrs, split_metadata};
use gantry_core::url::url_to_host;
use serde_json::Value;

use crate::walk::{Ran, error, map, text, texts, walk};

#[test]
fn find_node_by_addrs_vectors() {
    walk("find_node_by_addrs", |case| {
        let nodes = texts(case, "nodes");
        let addrs = texts(case, "addrs");
        let hosts: BTreeMap<String, &String> =
            nodes.iter().map(|node| (url_to_host(node), node)).collect();
        let matched: Vec<&&String> =
            addrs.iter().filter_map(|addr| hosts.get(&url_to_host(addr))).collect();
        let found = find_node_by_addrs(&nodes, &addrs).map(|index| nodes[index].as_str());
        // Several addresses of one node are that node (design 10.2).
        if let [first, rest @ ..] = matched.as_slice()
            && !rest.is_empty()
            && rest.iter().all(|node| node == first)
        {
            assert_eq!(found.expect("a node"), first.as_str());
            return Ran::Excused(2);
        }
        match found {
            Ok(found) => assert_eq!((found, None), (text(case, "found"), error(case))),
            Err(found) => assert_eq!(Some(found.to_string().as_str()), error(case)),
        }
        Ran::AsTheReference
    });
}

#[test]
fn node_json() {
    walk("node_json", |case| {
        let input = &case["in"];
        let node = Node {
            address: text(input, "address").to_owned(),
            iaas_id: text(input, "iaas_id").to_owned(),
            pool: text(input, "pool").to_owned(),
            status: text(input, "status").to_owned(),
            metadata: map(input, "metadata"),
            extra_data: map(input, "extra_data"),
            provisioner: input["provisioner"].as_str().map(str::to_owned),
            ..Node::default()
        };
        assert_eq!(node.reference_json(), text(case, "json"));
        Ran::AsTheReference
    });
}

#[test]
fn split_metadata_vectors() {
    walk("split_metadata", |case| {
        let nodes: Vec<BTreeMap<String, String>> =
            serde_json::from_value(case["nodes"].clone()).expect("metadata");
        match (split_metadata(&nodes), case["error_prefix"].as_str()) {
            (Err(error), Some(prefix)) => {
                // Which two nodes the message names is an example.
                assert!(error.to_string().starts_with(prefix), "{error}");
            }
            (Ok(split), None) => {
                assert_eq!(split.common, map(case, "common"));
                assert_eq!(Some(split.groups.is_empty()), case["groups_is_nil"].as_bool());
                let sizes: Vec<usize> =
                    split.groups.iter().map(|group| group.nodes.len()).collect();
                assert!(sizes.is_sorted(), "{sizes:?}");
                // Groups of one size come in no fixed order.
                let ours: BTreeMap<_, _> =
                    split.groups.into_iter().map(|group| (group.nodes, group.metadata)).collect();
                assert_eq!(ours, groups(case));
            }
            (split, expected) => panic!("split {split:?}, expected the error {expected:?}"),
        }
        Ran::AsTheReference
    });
}

fn groups(case: &Value) -> BTreeMap<Vec<usize>, BTreeMap<String, String>> {
    let groups = case["groups"].as_array().into_iter().flatten();
    groups
        .map(|group| {
            let mut nodes: Vec<usize> =
                serde_json::from_value(group["nodes"].clone()).expect("positions");
            nodes.sort_unstable();
            (nodes, map(group, "metadata"))
        })
        .collect()
}

#[test]
fn registry() {
    walk("registry", |case| {
        match text(case, "fn") {
            "Get" => {
                let name = text(case, "name");
                let known = texts(case, "registered").iter().any(|known| known == name);
                let error_shown = (!known)
                    .then(|| gantry_core::error::ContractError::UnknownProvisioner(name.to_owned()))
                    .map(|error| error.to_string());
                assert_eq!(error_shown.as_deref(), error(case));
            }
            "FindNode" | "FindNodeSkipProvisioner" => match search(case) {
                Ok(name) => {
                    assert_eq!((name.as_str(), None), (text(case, "found_in"), error(case)))
                }
                Err(message) => match case["error_matches"].as_str() {
                    Some(pattern) => {
                        let pattern = regex::Regex::new(pattern).expect("a pattern");
                        assert!(pattern.is_match(&message), "{message}");
                    }
                    None => assert_eq!(Some(message.as_str()), error(case)),
                },
            },
            unknown => panic!("no function {unknown}"),
        }
        Ran::AsTheReference
    });
}

/// Which provisioner has the node, as the registry asks them: one that cannot answer gives an error.
fn search(case: &Value) -> Result<String, String> {
    let address = text(case, "address");
    let fails = |name: &str| match &case["get_node_fails_in"] {
        Value::String(failing) => (failing == name).then_some("get node error"),
        Value::Array(failing) => failing.contains(&Value::from(name)).then_some("get node error"),
        Value::Object(messages) => messages.get(name).map(|text| text.as_str().unwrap_or_default()),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    };
    let mut search = NodeSearch::skipping(text(case, "skip"));
    for name in case["provisioners"].as_object().expect("provisioners").keys() {
        if !search.asks(name) {
            continue;
        }
        let has = texts(&case["provisioners"], name).iter().any(|node| node == address);
        let answer = match fails(name) {
            Some(message) => Err(std::io::Error::other(message.to_owned())),
            None => Ok(has.then(|| name.clone())),
        };
        if let Some(found) = search.take(answer) {
            return Ok(found);
        }
    }
    Err(search.into_error().to_string())
}

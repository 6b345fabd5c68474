//! Nodes: what they say, and what they become when they are added or changed (spec 7.7).

use gantry_sdk::gantry_core::node::Node;
use gantry_sdk::gantry_core::url::url_to_host;
use gantry_sdk::{LabelSet, Labels};
use serde_json::{Map, Value, json};

use crate::object::{items, label_set, name, text};
use crate::{PREFIX, PROVISIONER};

const POOL: &str = "pool";
const IAAS_ID: &str = "iaas-id";

/// Keeps units off a node that an operator took out.
pub const DISABLED: &str = "tsuru.io/disabled";

/// Keeps units off a node that is being made.
const IN_PROGRESS: &str = "tsuru.io/inprogress";

/// What is said about a node that is added.
#[derive(Clone, Copy, Debug)]
pub struct Addition<'a> {
    /// Its address; the node is named by the host in it.
    pub address: &'a str,
    /// Its pool; empty for none.
    pub pool: &'a str,
    /// Its id at the machine's provider; may be empty.
    pub iaas_id: &'a str,
    /// What to write down about it.
    pub metadata: &'a Labels,
}

/// What is said about a node that is changed.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// Its new pool; empty to keep it.
    pub pool: &'a str,
    /// What to write down about it; an empty value forgets a key.
    pub metadata: &'a Labels,
    /// Let units run on it again.
    pub enable: bool,
    /// Let no more units run on it.
    pub disable: bool,
}

/// Its address: the first one within the cluster, or else its name.
pub fn address(node: &Value) -> String {
    let address = internal_ip(node);
    if address.is_empty() { name(node).to_owned() } else { address.to_owned() }
}

fn internal_ip(node: &Value) -> &str {
    let mut addresses = items(node, "/status/addresses").iter();
    let internal = addresses.find(|address| text(address, "/type") == "InternalIP");
    internal.map(|address| text(address, "/address")).unwrap_or_default()
}

/// Its state: `Ready`, or why it is not.
pub fn status(node: &Value) -> &str {
    let mut conditions = items(node, "/status/conditions").iter();
    match conditions.find(|condition| text(condition, "/type") == "Ready") {
        Some(ready) if text(ready, "/status") == "True" => "Ready",
        Some(ready) => text(ready, "/message"),
        None => "Invalid",
    }
}

/// A node of a cluster as the platform tells it.
pub fn wrap(node: &Value, cluster: &str) -> Node {
    let labels = label_set(node);
    Node {
        address: address(node),
        iaas_id: labels.node_iaas_id().to_owned(),
        pool: labels.node_pool().to_owned(),
        status: status(node).to_owned(),
        metadata: labels.node_metadata(),
        metadata_no_prefix: labels.node_metadata_no_prefix(),
        extra_data: labels.node_extra_data(cluster),
        provisioner: Some(PROVISIONER.to_owned()),
    }
}

/// The node that an address means: the one named like its host, or else the one with that address within the cluster.
pub fn find<'a>(nodes: &'a [Value], address: &str) -> Option<&'a Value> {
    let host = url_to_host(address);
    let named = nodes.iter().find(|node| name(node) == host);
    named.or_else(|| nodes.iter().find(|node| !host.is_empty() && internal_ip(node) == host))
}

/// A node that is added: made, or the one that is there, changed. Its id stays what it is once it has one.
pub fn add(existing: Option<&Value>, addition: &Addition<'_>) -> Value {
    let Addition { address, pool, iaas_id, metadata } = *addition;
    match existing {
        Some(node) => {
            let has_id = !label_set(node).node_iaas_id().is_empty();
            let update = Update { pool, metadata, enable: false, disable: false };
            change(node, &update, if has_id { "" } else { iaas_id })
        }
        None => {
            let mut node = json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": url_to_host(address)},
                "spec": {},
            });
            write(&mut node, pool, iaas_id, metadata);
            node
        }
    }
}

/// A node that is changed. Enabled and disabled at once, one that was disabled is enabled, and one that was not is disabled.
pub fn update(node: &Value, update: &Update<'_>) -> Value {
    change(node, update, "")
}

fn change(node: &Value, update: &Update<'_>, iaas_id: &str) -> Value {
    let mut node = node.clone();
    let mut taints = items(&node, "/spec/taints").to_vec();
    let is_disabled = taints.iter().any(|taint| text(taint, "/key") == DISABLED);
    taints.retain(|taint| match text(taint, "/key") {
        IN_PROGRESS => false,
        DISABLED => !update.enable,
        _ => true,
    });
    if update.disable && !is_disabled {
        taints.push(json!({"effect": "NoSchedule", "key": DISABLED}));
    }
    if let Some(spec) = fields(&mut node, "spec") {
        if taints.is_empty() {
            spec.remove("taints");
        } else {
            spec.insert("taints".to_owned(), taints.into());
        }
        if update.enable {
            // Somebody may have taken it out of service by the cluster's own means.
            spec.remove("unschedulable");
        }
    }
    write(&mut node, update.pool, iaas_id, update.metadata);
    node
}

/// Writes metadata into annotations; pool and id, unless they are empty, into labels, which an annotation of that name would hide.
fn write(node: &mut Value, pool: &str, iaas_id: &str, metadata: &Labels) {
    let set = LabelSet::new(metadata.clone(), PREFIX);
    let mut annotations = object_at(node, "/metadata/annotations");
    for (key, value) in set.to_labels() {
        if value.is_empty() {
            annotations.remove(&key);
        } else {
            annotations.insert(key, value.into());
        }
    }
    let mut labels = object_at(node, "/metadata/labels");
    for (key, value) in [(POOL, pool), (IAAS_ID, iaas_id)] {
        if !value.is_empty() {
            let key = format!("{PREFIX}{key}");
            annotations.remove(&key);
            labels.insert(key, value.into());
        }
    }
    if let Some(metadata) = fields(node, "metadata") {
        for (field, values) in [("annotations", annotations), ("labels", labels)] {
            if values.is_empty() {
                metadata.remove(field);
            } else {
                metadata.insert(field.to_owned(), values.into());
            }
        }
    }
    if let Some(spec) = fields(node, "spec")
        && !iaas_id.is_empty()
        && spec.get("providerID").and_then(Value::as_str).unwrap_or_default().is_empty()
    {
        spec.insert("providerID".to_owned(), iaas_id.into());
    }
}

fn object_at(node: &Value, pointer: &str) -> Map<String, Value> {
    node.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default()
}

/// The fields of a part of an object, which is made when it is missing.
fn fields<'a>(object: &'a mut Value, part: &str) -> Option<&'a mut Map<String, Value>> {
    let part = object.as_object_mut()?.entry(part).or_insert_with(|| json!({}));
    part.as_object_mut()
}

/// What takes a node out of service before its pods leave: a merge patch.
pub fn cordon() -> Value {
    json!({"spec": {"unschedulable": true}})
}

/// What takes that back.
pub fn uncordon() -> Value {
    json!({"spec": {"unschedulable": null}})
}

/// Whether it is so.
pub fn is_cordoned(node: &Value) -> bool {
    node.pointer("/spec/unschedulable") == Some(&Value::Bool(true))
}

/// What the platform says of a cluster when it starts: every node on a line.
pub fn startup_message(cluster: &str, host: &str, nodes: &[Value]) -> String {
    let mut message = format!("Kubernetes provisioner on cluster \"{cluster}\" - {host}:\n");
    if nodes.is_empty() {
        message.push_str("    No Kubernetes nodes available\n");
    }
    for node in nodes {
        message.push_str(&format!("    Kubernetes node: {}\n", address(node)));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, address: &str) -> Value {
        json!({
            "metadata": {"name": name},
            "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"addresses": [
                {"type": "ExternalIP", "address": "200.0.0.1"},
                {"type": "InternalIP", "address": address},
            ]},
        })
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn tainted(keys: &[&str]) -> Value {
        let taints: Vec<Value> =
            keys.iter().map(|key| json!({"key": key, "effect": "NoExecute"})).collect();
        json!({"metadata": {"name": "n"}, "spec": {"taints": taints}})
    }

    #[test]
    fn an_address_is_the_one_within_the_cluster() {
        assert_eq!(address(&node("n1", "10.0.0.1")), "10.0.0.1");
        assert_eq!(address(&json!({"metadata": {"name": "n2"}})), "n2");
    }

    #[test]
    fn a_node_is_ready_or_tells_why_not() {
        let with = |conditions: Value| json!({"status": {"conditions": conditions}});
        let ready = with(json!([
            {"type": "DiskPressure", "status": "True", "message": "full"},
            {"type": "Ready", "status": "True", "message": "fine"},
        ]));
        assert_eq!(status(&ready), "Ready");
        let down = with(json!([{"type": "Ready", "status": "Unknown", "message": "lost"}]));
        assert_eq!(status(&down), "lost");
        assert_eq!(status(&with(json!([]))), "Invalid");
    }

    #[test]
    fn a_node_is_found_by_its_name_and_else_by_its_address() {
        let nodes = [node("10.0.0.2", "10.0.0.1"), node("n2", "10.0.0.2"), node("n3", "")];
        for (address, found) in [
            ("n2", Some(1)),
            ("https://n2:443", Some(1)),
            ("10.0.0.2", Some(0)),
            ("10.0.0.1:4243", Some(0)),
            ("10.0.0.9", None),
            ("", None),
        ] {
            assert_eq!(find(&nodes, address), found.map(|index| &nodes[index]), "{address}");
        }
    }

    #[test]
    fn pool_and_id_are_labels_and_hide_no_more() {
        let metadata =
            labels(&[("pool", "x"), ("tsuru.io/iaas-id", "y"), ("m", "1"), ("gone", "")]);
        let mut existing = node("n", "10.0.0.1");
        existing["metadata"]["annotations"] =
            json!({"tsuru.io/gone": "1", "tsuru.io/pool": "z", "other": "2"});
        let addition = Addition { address: "n", pool: "p", iaas_id: "i", metadata: &metadata };
        let added = add(Some(&existing), &addition);
        let annotations = json!({"other": "2", "tsuru.io/m": "1"});
        assert_eq!(added["metadata"]["annotations"], annotations);
        let labels = json!({"tsuru.io/iaas-id": "i", "tsuru.io/pool": "p"});
        assert_eq!(added["metadata"]["labels"], labels);
        assert_eq!(added["spec"], json!({"podCIDR": "10.0.0.0/24", "providerID": "i"}));
    }

    #[test]
    fn an_id_that_is_there_stays() {
        let mut existing = node("n", "10.0.0.1");
        existing["metadata"]["labels"] = json!({"tsuru.io/iaas-id": "i1"});
        let none = Labels::new();
        let addition = Addition { address: "n", pool: "", iaas_id: "i2", metadata: &none };
        assert_eq!(add(Some(&existing), &addition), existing);
        existing["metadata"]["labels"] = json!({});
        existing["spec"]["providerID"] = json!("aws:///i0");
        let added = add(Some(&existing), &addition);
        assert_eq!(added["metadata"]["labels"], json!({"tsuru.io/iaas-id": "i2"}));
        assert_eq!(added["spec"]["providerID"], "aws:///i0");
    }

    #[test]
    fn a_disabled_node_has_one_taint_for_it() {
        let none = Labels::new();
        let keys = |node: &Value, enable, disable| -> Vec<String> {
            let change = Update { pool: "", metadata: &none, enable, disable };
            let changed = update(node, &change);
            assert_eq!(
                changed.pointer("/spec/taints").is_some(),
                !items(&changed, "/spec/taints").is_empty()
            );
            items(&changed, "/spec/taints").iter().map(|t| text(t, "/key").to_owned()).collect()
        };
        let both = tainted(&[DISABLED, "other"]);
        assert_eq!(keys(&both, false, false), [DISABLED, "other"]);
        assert_eq!(keys(&both, false, true), [DISABLED, "other"]);
        assert_eq!(keys(&both, true, false), ["other"]);
        assert_eq!(keys(&both, true, true), ["other"]);
        let new = tainted(&[IN_PROGRESS]);
        assert!(keys(&new, false, false).is_empty());
        assert_eq!(keys(&new, true, true), [DISABLED]);
        assert_eq!(keys(&json!({"metadata": {"name": "n"}}), false, true), [DISABLED]);
        // One that is enabled takes units, whoever has taken it out of service.
        let cordoned = json!({"metadata": {"name": "n"}, "spec": {"unschedulable": true}});
        for (enable, is_cordoned) in [(false, true), (true, false)] {
            let change = Update { pool: "", metadata: &none, enable, disable: false };
            assert_eq!(super::is_cordoned(&update(&cordoned, &change)), is_cordoned);
        }
    }

    #[test]
    fn a_start_tells_the_nodes_of_a_cluster() {
        let nodes = [node("n1", "10.0.0.1"), json!({"metadata": {"name": "n2"}})];
        assert_eq!(
            startup_message("c1", "https://k8s:6443", &nodes),
            "Kubernetes provisioner on cluster \"c1\" - https://k8s:6443:\n    \
             Kubernetes node: 10.0.0.1\n    Kubernetes node: n2\n"
        );
        assert_eq!(
            startup_message("c1", "", &[]),
            "Kubernetes provisioner on cluster \"c1\" - :\n    No Kubernetes nodes available\n"
        );
    }
}

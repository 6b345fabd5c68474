//! Service accounts: of apps, and of node containers.

use gantry_sdk::LabelSet;
use serde_json::{Value, json};

use super::metadata;
use crate::name;

/// The service account that the pods of an app run under.
pub fn of_app(app: &str, namespace: &str, labels: &LabelSet) -> Value {
    account(&name::app_account(app), namespace, labels)
}

/// The service account that a node container runs under.
pub fn of_node_container(node_container: &str, namespace: &str, labels: &LabelSet) -> Value {
    account(&name::node_container_account(node_container), namespace, labels)
}

fn account(name: &str, namespace: &str, labels: &LabelSet) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(name, namespace, labels.to_labels(), Default::default()),
    })
}

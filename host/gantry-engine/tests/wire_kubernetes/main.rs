//! The Kubernetes client against a peer that answers what a test tells it to: what is sent, and what becomes of answers that a real cluster does not give on demand.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::wildcard_imports,
    reason = "a test stops where it fails"
)]

mod answers;
#[path = "../wire/peer.rs"]
#[expect(dead_code, reason = "it is the peer of the Docker client as well")]
mod peer;
mod requests;
mod watches;

use std::time::Duration;

use gantry_engine::Kubernetes;
use gantry_engine::call::cluster::{Kind, Selection};
use gantry_engine::contract::refused;
use gantry_engine::kubernetes::{Credentials, Endpoint, Timeouts};
use serde_json::{Value, json};

use crate::peer::{Answer, Peer, Seen};

const TOKEN: &str = "s3cr3t";

/// Limits that a test can wait for.
fn short() -> Timeouts {
    let limit = Duration::from_millis(300);
    Timeouts { connect: limit, request: limit, silence: limit, patience: Duration::from_secs(2) }
}

fn endpoint(scheme: &str, peer: &Peer) -> Endpoint {
    let address = format!("{scheme}://127.0.0.1:{}", peer.port());
    Endpoint::address(address, None, Credentials::Token(TOKEN.to_owned()))
}

async fn hasty(peer: &Peer) -> Kubernetes {
    Kubernetes::with(&endpoint("http", peer), short()).await.unwrap()
}

fn config_maps() -> Kind {
    Kind::new("v1", "ConfigMap")
}

fn shop() -> Selection {
    Selection { namespace: "shop".to_owned(), ..Selection::default() }
}

fn config_map() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "shop", "name": "web"}, "data": {"a": "b"},
    })
}

/// What a cluster with ConfigMaps, Namespaces and Deployments says of its kinds.
fn kinds(seen: &Seen) -> Option<Answer> {
    let resources = match seen.path.as_str() {
        "/api/v1" => json!([
            {"name": "configmaps", "kind": "ConfigMap", "namespaced": true},
            {"name": "namespaces", "kind": "Namespace", "namespaced": false},
        ]),
        "/apis/apps/v1" => json!([
            {"name": "deployments", "kind": "Deployment", "namespaced": true},
            {"name": "deployments/scale", "kind": "Scale", "namespaced": true},
        ]),
        _ => return None,
    };
    Some(peer::json(200, &json!({"resources": resources}).to_string()))
}

/// A peer that has kinds, and whose every other answer is the script's.
async fn peer(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Peer {
    Peer::tcp(None, move |seen| kinds(seen).unwrap_or_else(|| script(seen))).await
}

fn refusal(code: u16, reason: &str, message: &str) -> String {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
    .to_string()
}

/// The requests but those for kinds.
fn lines(peer: &Peer) -> Vec<String> {
    let all = peer.seen();
    let asked = all.iter().filter(|seen| kinds(seen).is_none());
    asked.map(Seen::line).collect()
}

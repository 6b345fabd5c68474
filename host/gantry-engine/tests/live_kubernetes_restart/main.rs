//! A watch survives the API server. A program of its own: it takes the server from every other test, and cargo runs one program after the other.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test stops where it fails"
)]

#[path = "../live_kubernetes/at.rs"]
#[allow(dead_code, reason = "not every program asks as every user")]
mod at;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use at::{cluster, kubeconfig};
use gantry_engine::call::cluster::{DeleteOptions, Kind};
use gantry_engine::contract::cluster::{Fixture, config_maps, eventually, refused, run, told};
use serde_json::json;

/// The API server of a cluster that tests/cluster/up started.
struct Server {
    folder: std::path::PathBuf,
}

impl Server {
    fn find() -> Option<Self> {
        let folder = kubeconfig()?.parent()?.to_owned();
        folder.join("pids").exists().then_some(Self { folder })
    }

    /// Kills it, or starts it again.
    fn process(&self, what: &str) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cluster/process");
        let mut command = Command::new(script);
        command.arg(&self.folder).args([what, "apiserver"]).stdin(Stdio::null());
        assert!(command.status().unwrap().success(), "{what}");
    }
}

#[tokio::test]
async fn a_watch_survives_the_api_server() {
    let Some(fixture) = cluster().await else { return };
    let Some(server) = Server::find() else {
        println!("skipped: the cluster is none of tests/cluster/up");
        return;
    };
    SERVER.set(server).ok().unwrap();
    run(fixture, |fixture| Box::pin(survives(fixture))).await;
}

static SERVER: std::sync::OnceLock<Server> = std::sync::OnceLock::new();

async fn survives(fixture: &Fixture) {
    let mut changes = fixture.watched().await;
    assert_eq!(told(&mut changes).await, "listed");
    for name in ["a", "b"] {
        fixture.created_map(name, "one").await;
        assert_eq!(told(&mut changes).await, format!("+{name}"));
    }
    let server = SERVER.get().unwrap();
    server.process("kill");
    refused(fixture.cluster.get(&config_maps(), &fixture.namespace, "a").await, "unreachable");
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.process("start");
    eventually("the server is back", || async {
        fixture.cluster.get(&config_maps(), &fixture.namespace, "a").await.is_ok()
    })
    .await;
    // Before the watch is back, or after: it is told once.
    fixture.merged("a", json!({"data": {"word": "two"}})).await;
    fixture.delete_map("b").await;
    fixture.created_map("c", "one").await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(told(&mut changes).await);
    }
    // A server that has just begun may know none of the old versions. Then they come from a list, and what has gone comes last.
    assert!(seen == ["+a", "-b", "+c"] || seen == ["+a", "+c", "-b"], "{seen:?}");
    // And nothing was told twice.
    fixture.delete_map("a").await;
    assert_eq!(told(&mut changes).await, "-a");
    controllers(fixture).await;
}

/// Waits until the controllers have found the server again, which they try less and less often: the tests that come next need them.
async fn controllers(fixture: &Fixture) {
    let name = fixture.name();
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    fixture.created(&space).await;
    let deadline = Instant::now() + Duration::from_secs(300);
    let accounts = Kind::new("v1", "ServiceAccount");
    while fixture.cluster.get(&accounts, &name, "default").await.is_err() {
        assert!(Instant::now() < deadline, "the controllers are not back");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let spaces = Kind::new("v1", "Namespace");
    fixture.cluster.delete(&spaces, "", &name, &DeleteOptions::default()).await.unwrap();
}

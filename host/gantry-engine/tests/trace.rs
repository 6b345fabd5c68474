//! What the trace layer writes. A program of its own: there is one place for traces in a process.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops where it fails"
)]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_core::container::{ContainerSpec, Image};
use gantry_core::policy::{Grant, Grants};
use gantry_engine::call::cluster::ClusterInfo;
use gantry_engine::call::{ClusterCall, ContainersCall};
use gantry_engine::memory::{Memory, Objects, Platform};
use gantry_engine::{Call, Chain, GivenCluster, Operation, Scope};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_call_is_traced_without_what_is_secret() {
    let lines = Lines::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(lines.clone())
        .with_ansi(false)
        .init();
    let engine = Memory::new().with_image("app:v1", Image::default(), []);
    let backends = Platform::new().backends("docker", [("memory", engine)]);
    let info = ClusterInfo { namespace: "default".to_owned(), ..ClusterInfo::default() };
    let cluster = GivenCluster { info, engine: Arc::new(Objects::new()) };
    backends.clusters.give("docker", "north", cluster);
    let chain = Chain::new(backends);
    let operation = Operation::new("op-1", Duration::from_secs(60));
    let grant: Grant = "cluster:write:Secret".parse().unwrap();
    let grants = Arc::new(Grants::new([grant.clone()], [grant]));
    let scope = Arc::new(Scope::new("docker", "here", operation).with_grants(grants));
    let spec = ContainerSpec {
        image: "app:v1".to_owned(),
        cmd: Some(vec!["serve".to_owned(), "--key=open sesame".to_owned()]),
        env: vec!["PASSWORD=open sesame".to_owned()],
        ..ContainerSpec::default()
    };
    let name = "web-1".to_owned();
    let call = |call| Call::Containers { node: "memory".to_owned(), call };
    let create = ContainersCall::Create { name: name.clone(), spec: Box::new(spec) };
    chain.send(&scope, call(create)).await.unwrap();
    chain.send(&scope, call(ContainersCall::Inspect { id: name })).await.unwrap();
    let nobody = ContainersCall::Inspect { id: "nobody".to_owned() };
    assert!(chain.send(&scope, call(nobody)).await.is_err());
    // An apply looks at what is there first.
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web", "namespace": "default"},
        "stringData": {"password": "open sesame"},
    });
    let apply = Box::new(ClusterCall::Apply { object: secret, dry_run: false });
    chain.send(&scope, Call::Cluster { cluster: "north".to_owned(), call: apply }).await.unwrap();

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let traced: Vec<&str> = text.lines().filter(|line| line.contains("answered")).collect();
    assert_eq!(traced.len(), 5, "{text}");
    for part in [
        "owner=\"docker\"",
        "operation=\"op-1\"",
        "node=\"memory\"",
        "name=\"containers.create\"",
        "microseconds=",
        "outcome=\"done\"",
    ] {
        assert!(traced[0].contains(part), "{part}: {}", traced[0]);
    }
    assert!(traced[2].contains("outcome=\"not-found\""), "{}", traced[2]);
    for (line, name, outcome) in
        [(traced[3], "cluster.get", "not-found"), (traced[4], "cluster.apply", "done")]
    {
        for part in ["node=\"north\"", &format!("name={name:?}"), &format!("outcome={outcome:?}")] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    assert!(!text.contains("sesame"), "{text}");
}

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
use gantry_engine::call::ContainersCall;
use gantry_engine::memory::{Memory, Platform};
use gantry_engine::{Call, Chain, Operation, Scope};
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
    let chain = Chain::new(Platform::new().backends("docker", [("memory", engine)]));
    let operation = Operation::new("op-1", Duration::from_secs(60));
    let scope = Arc::new(Scope::new("docker", "here", operation));
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

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let traced: Vec<&str> = text.lines().filter(|line| line.contains("answered")).collect();
    assert_eq!(traced.len(), 3, "{text}");
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
    assert!(!text.contains("sesame"), "{text}");
}

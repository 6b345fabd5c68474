use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use crate::*;

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
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(lines.clone())
        .with_ansi(false)
        .finish();
    let tracing = tracing::subscriber::set_default(subscriber);
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    let mut spec = spec();
    spec.env = vec!["PASSWORD=open sesame".to_owned()];
    let call = ContainersCall::Create { name: "web-1".to_owned(), spec: Box::new(spec) };
    reply(&chain, &scope, on_node(call)).await.unwrap();
    reply(&chain, &scope, inspect("web-1")).await.unwrap();
    reply(&chain, &scope, inspect("nobody")).await.unwrap_err();
    drop(tracing);
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

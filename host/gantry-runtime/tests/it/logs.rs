//! Sessions: opened by a plugin, held by the host, read by the caller.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use gantry_core::container::Container;
use gantry_engine::memory::{Life, Platform, Processes};
use gantry_engine::stream::{Chunk, Source};
use gantry_engine::{Chain, Memory};
use gantry_runtime::{LogsEnabled, Runtime, TailOptions};

use crate::world::{IMAGE, NAME, World, app, image, key, operation, plain, question, settings};

/// Containers that say a line when they start and run on.
struct Talkers;

impl Processes for Talkers {
    fn start(&self, _container: &Container) -> Life {
        let line = Chunk { source: Source::Stdout, bytes: Bytes::from_static(b"up and running\n") };
        Life { output: vec![line], ends_with: None }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_outlives_the_call_and_the_generation_that_opened_it() {
    let memory = Memory::playing(Arc::new(Talkers)).with_image(IMAGE, image(), []);
    let backends = Platform::new().app(app()).backends(NAME, [("node-1", memory.clone())]);
    let runtime = Runtime::new(settings()).unwrap();
    let world = World { runtime, memory, chain: Chain::new(backends) };
    let provisioner = world.provisioner("deployer", plain()).await;
    provisioner.deploy(&operation("first"), &app(), IMAGE).await.unwrap();
    provisioner.swap(world.load("echo", plain()).await.unwrap());

    let options = TailOptions { lines: 10, follow: true, ..TailOptions::default() };
    let mut sources = provisioner.tail(&question(), &app(), &options).await.unwrap();
    assert_eq!(sources.len(), 1);
    let mut source = sources.remove(0);
    // The plugin that opened it goes.
    drop(provisioner.swap(world.load("noop", plain()).await.unwrap()));
    let first = source.lines.chunks.next().await.unwrap().unwrap();
    assert_eq!(first.bytes, "up and running\n");
    // It ends when the container does, not before.
    world.memory.end(&source.unit, 0).unwrap();
    while let Some(chunk) = source.lines.chunks.next().await {
        chunk.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_says_where_the_logs_are_instead() {
    let world = World::new();
    let echo = world.provisioner("echo", plain()).await;
    let here = LogsEnabled { enabled: true, doc: String::new() };
    assert_eq!(echo.logs_enabled(&question(), &app()).await.unwrap(), here);
    let with = plain().config(key("logs-elsewhere", "look in the journal"));
    let echo = world.provisioner("echo", with).await;
    let elsewhere = LogsEnabled { enabled: false, doc: "look in the journal".into() };
    assert_eq!(echo.logs_enabled(&question(), &app()).await.unwrap(), elsewhere);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_about_an_optional_interface_is_answered_by_one_generation() {
    let world = World::new();
    // One shows logs, the other has never heard of them.
    let echo = world.provisioner("echo", plain()).await;
    let asked = echo.clone();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let mut other = world.load("noop", plain()).await.unwrap();
    let swapping = std::thread::spawn(move || {
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let mut old = echo.swap(other);
            other = loop {
                match Arc::try_unwrap(old) {
                    Ok(old) => break old,
                    Err(held) => old = held,
                }
                std::thread::yield_now();
            };
        }
    });
    for _ in 0..2_000 {
        asked.logs_enabled(&question(), &app()).await.unwrap();
    }
    stop.send(()).unwrap();
    swapping.join().unwrap();
}

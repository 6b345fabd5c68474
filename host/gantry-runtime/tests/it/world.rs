//! A host with an engine in memory, and verbs to tell what happens on it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_core::App;
use gantry_core::container::Image;
use gantry_engine::call::ContainerSummary;
use gantry_engine::memory::Platform;
use gantry_engine::operation::Progress;
use gantry_engine::{Chain, Config, Containers as _, Memory, Operation};
use gantry_runtime::{
    Bounds, CallError, Cause, Generation, LoadError, LoadSettings, Provisioner, Runtime,
    RuntimeSettings,
};
use serde_json::{Value, json};

use crate::guests::guest;

/// The name of every provisioner here.
pub(crate) const NAME: &str = "acme";

/// The image of every app here.
pub(crate) const IMAGE: &str = "registry/web:v1";

/// An image that runs a command.
pub(crate) fn image() -> Image {
    let mut image = Image::default();
    image.config.cmd = Some(vec!["serve".to_owned()]);
    image
}

/// A host with an engine in memory.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) memory: Memory,
    pub(crate) chain: Chain,
}

/// What is said about a load; the rest is as a plain operator has it.
#[derive(Default)]
pub(crate) struct With {
    pub(crate) bounds: Vec<(&'static str, &'static str)>,
    pub(crate) config: Value,
    pub(crate) granted: Vec<&'static str>,
}

impl With {
    pub(crate) fn bounds<const N: usize>(bounds: [(&'static str, &'static str); N]) -> Self {
        Self { bounds: bounds.into(), ..Self::default() }
    }

    pub(crate) fn config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }

    pub(crate) fn granted<const N: usize>(mut self, granted: [&'static str; N]) -> Self {
        self.granted = granted.into();
        self
    }
}

/// The settings of a small host. Hosts share what they compiled, also with those of the next run.
pub(crate) fn settings() -> RuntimeSettings {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gantry-runtime");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    RuntimeSettings { calls: 4, cache: Some(folder.join("compiled")), ..RuntimeSettings::default() }
}

/// A plain operator.
pub(crate) fn plain() -> With {
    With::default()
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(RuntimeSettings { calls: 16, ..settings() })
    }

    pub(crate) fn with(settings: RuntimeSettings) -> Self {
        let memory = Memory::new().with_image(IMAGE, image(), []);
        let platform = Platform::new().app(app());
        let backends = platform.backends(NAME, [("node-1", memory.clone())]);
        let runtime = Runtime::new(settings).unwrap();
        Self { runtime, memory, chain: Chain::new(backends) }
    }

    pub(crate) fn settings(&self, with: &With) -> LoadSettings {
        LoadSettings {
            granted: with.granted.iter().map(ToString::to_string).collect(),
            bounds: Bounds::parse(with.bounds.iter().copied()).unwrap(),
            config: Arc::new(Config::new(with.config.clone())),
            instance: "test".into(),
            chain: self.chain.clone(),
        }
    }

    pub(crate) async fn load(&self, name: &str, with: With) -> Result<Generation, LoadError> {
        self.runtime.load(NAME, &guest(name), self.settings(&with)).await
    }

    pub(crate) async fn provisioner(&self, name: &str, with: With) -> Provisioner {
        Provisioner::new(NAME, self.load(name, with).await.unwrap())
    }

    /// Why `provision` of this guest failed.
    pub(crate) async fn failure(&self, name: &str, with: With) -> CallError {
        let provisioner = self.provisioner(name, with).await;
        provisioner.provision(&operation("op"), &app()).await.unwrap_err()
    }

    /// The message of a bound that `provision` of this guest goes over.
    pub(crate) async fn over(&self, name: &str, with: With) -> String {
        let error = self.failure(name, with).await;
        match &error.cause {
            Cause::OverLimit(_) | Cause::TimedOut(_) | Cause::StackOverflow { .. } => {
                error.to_string()
            }
            other => panic!("`{name}` did not go over a bound: {other:?}"),
        }
    }

    /// Other calls are answered as if nothing had happened.
    pub(crate) async fn serves_on(&self) {
        let blue = self.provisioner("hello_blue", plain()).await;
        let addresses = blue.routable_addresses(&question(), &app()).await.unwrap();
        assert_eq!(addresses, ["http://web.blue"]);
    }

    /// All containers of the engine, whoever owns them, by name.
    pub(crate) async fn containers(&self) -> Vec<ContainerSummary> {
        let mut all = self.memory.list(true, &Default::default()).await.unwrap();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    pub(crate) async fn names(&self) -> Vec<String> {
        self.containers().await.into_iter().map(|one| one.name).collect()
    }
}

pub(crate) fn app() -> App {
    App { name: "web".into(), platform: "static".into(), pool: "default".into(), ..App::default() }
}

pub(crate) fn operation(id: &str) -> Operation {
    Operation::new(id, Duration::from_secs(600))
}

pub(crate) fn question() -> Operation {
    Operation::new("", Duration::from_secs(600))
}

/// Keeps what is shown.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<String>>);

impl Lines {
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Progress for Lines {
    fn show(&self, text: &str) {
        self.0.lock().unwrap().push_str(text);
    }
}

/// An operation, and what it shows.
pub(crate) fn shown(id: &str) -> (Operation, Lines) {
    let lines = Lines::default();
    (operation(id).shown_to(Arc::new(lines.clone())), lines)
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let patience = tokio::time::timeout(Duration::from_secs(60), async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(patience.await.is_ok(), "{what} never came");
}

/// The configuration with one key.
pub(crate) fn key(name: &str, value: impl Into<Value>) -> Value {
    json!({ name: value.into() })
}

//! An app on a backend, whichever that is: what a promise does with it, and what it may know of the backend.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use gantry_core::image::BuildOptions;
use gantry_core::node::Node;
use gantry_core::{App, Error, Status, Unit};
use gantry_engine::memory::Platform;
use gantry_engine::operation::Progress;
use gantry_engine::stream::{Chunk, Source, Writer};
use gantry_engine::{Apps as _, Images as _, Operation, State};
use gantry_runtime::{CallError, Cause, Interface, Provisioner};
use gantry_tests::kubernetes::POOL;
use gantry_tests::screen::Screen;
use tokio::io::AsyncReadExt as _;

/// How long anything may take before a test gives up.
const SOON: Duration = Duration::from_secs(120);

const CHECKED: &str = "healthcheck:\n  path: /up\n";

/// The images that there are: the name, the Procfile, the tsuru.yaml. One that builds make serves.
pub(super) const IMAGES: [(&str, &str, &str); 7] = [
    ("shop:1", "web: serve\nworker: work\n", CHECKED),
    ("shop:2", "web: serve\nworker: work\n", CHECKED),
    ("shop:3", "web: serve\ncron: tick\n", CHECKED),
    // Its web process answers that it does not work.
    ("shop:bad", "web: serve\nworker: work\n", CHECKED),
    // Its web process never answers.
    ("shop:mute", "web: serve\nworker: work\n", CHECKED),
    (
        "shop:hooks",
        "web: serve\nworker: work\n",
        "hooks:\n  restart:\n    before: [prepare]\n    after: [greet]\n",
    ),
    // It declares nothing.
    ("plain:1", "", ""),
];

/// An image that nobody has.
pub(super) const MISSING: &str = "registry.example/missing:1";

/// The node container of some configurations, an image that can be pulled everywhere.
pub(super) const AGENT: &str = "agent";

/// What a command says in a unit, and in a place of its own; what a process says.
pub(super) const RAN: &str = "ran\n";
pub(super) const ALONE: &str = "alone\n";
pub(super) const SERVING: &str = "serving\n";

pub(super) fn chunk(text: &str) -> Chunk {
    Chunk { source: Source::Stdout, bytes: text.to_owned().into() }
}

/// How a played command ends: with the number that it says it does.
pub(super) fn code_of(words: &[String]) -> i32 {
    let said = words.iter().find_map(|word| word.split_once("exit "));
    let digits = said.map(|(_, rest)| rest.split(' ').next().unwrap_or_default());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// A command that ran, and in which unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) unit: String,
    pub(super) words: Vec<String>,
}

/// What is below a plugin, as far as a promise has to see it or to play it.
#[async_trait]
pub(super) trait Backend: Send + Sync {
    /// The two machines that the app's pool has.
    fn nodes(&self) -> [String; 2];

    /// One more machine, which nobody has added, and its address.
    fn machine(&self) -> Result<String>;

    /// What runs on a machine.
    async fn on(&self, address: &str) -> Result<usize>;

    /// Whether a machine is marked as one that takes no units.
    async fn is_closed(&self, node: &Node) -> Result<bool>;

    /// Sees to it that units are on both machines, as a scheduler of the backend's would.
    async fn spread(&self) -> Result<()>;

    /// Whether web processes that are looked at from now on answer well.
    fn answer(&self, well: bool);

    /// Lets builds fail from now on.
    fn break_builds(&self);

    /// What people read while a new unit does not answer, and how it is told that it did not.
    fn words(&self) -> [&'static str; 2];

    /// Waits until the backend has nothing more to do by itself.
    async fn idle(&self) -> Result<()>;

    /// The image of a unit, and its environment as `NAME=value`, and its command.
    async fn made_of(&self, unit: &str) -> Result<(String, Vec<String>, String)>;

    /// Everything that is there of apps.
    async fn left(&self) -> Result<Vec<String>>;

    /// Takes away what runs a unit, behind the platform's back.
    async fn lose(&self, unit: &str) -> Result<()>;

    /// Ends a unit's process with 1.
    async fn fail(&self, unit: &str) -> Result<()>;

    /// The commands that ran, taken away.
    fn ran(&self) -> Vec<Ran>;

    /// The machines that the node container runs on, or has to.
    async fn agents(&self) -> Result<BTreeSet<String>>;

    /// What keeps data for volumes.
    async fn volumes(&self) -> Result<Vec<String>>;
}

/// An app on a backend.
pub(super) struct Stage {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) provisioner: Provisioner,
    pub(super) platform: Platform,
    pub(super) app: App,
    operations: u32,
}

/// What the plugin refused something with.
pub(super) fn refusal<T>(result: Result<T, CallError>) -> Result<Error> {
    match result {
        Ok(_) => bail!("it was not refused"),
        Err(CallError { cause: Cause::Plugin(error), .. }) => Ok(error),
        Err(other) => Err(other.into()),
    }
}

/// A place that keeps what is written to it.
pub(super) fn ends() -> (Writer, tokio::io::DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    (Box::pin(theirs), ours)
}

pub(super) async fn written(mut end: tokio::io::DuplexStream) -> Result<String> {
    let mut text = String::new();
    end.read_to_string(&mut text).await?;
    Ok(text)
}

pub(super) fn app(name: &str) -> App {
    App {
        name: name.to_owned(),
        platform: "python".to_owned(),
        pool: POOL.to_owned(),
        team_owner: "sellers".to_owned(),
        ..App::default()
    }
}

pub(super) fn question() -> Operation {
    Operation::new("", SOON)
}

impl Stage {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        provisioner: Provisioner,
        platform: Platform,
    ) -> Self {
        Self { backend, provisioner, platform, app: app("shop"), operations: 0 }
    }

    pub(super) fn operation(&mut self) -> Operation {
        self.shown().0
    }

    /// An operation, and the screen that shows it.
    pub(super) fn shown(&mut self) -> (Operation, Arc<Screen>) {
        self.operations += 1;
        let screen = Arc::new(Screen::default());
        let operation = Operation::new(format!("op-{}", self.operations), SOON)
            .shown_to(Arc::clone(&screen) as Arc<dyn Progress>);
        (operation, screen)
    }

    pub(super) async fn deploy(&mut self, image: &str) -> Result<String, CallError> {
        self.deploy_shown(image).await.0
    }

    /// Deploys, and gives what people read meanwhile.
    pub(super) async fn deploy_shown(
        &mut self,
        image: &str,
    ) -> (Result<String, CallError>, String) {
        let (operation, screen) = self.shown();
        let deployed = self.provisioner.deploy(&operation, &self.app, image).await;
        self.app.deploys += u32::from(deployed.is_ok());
        self.platform.put_app(self.app.clone());
        (deployed, screen.text())
    }

    /// The first version, and so many units of each process.
    pub(super) async fn serving(&mut self, units: u32) -> Result<()> {
        self.deploy("shop:1").await?;
        if units > 1 {
            self.add(units - 1, "web").await?;
            self.add(units - 1, "worker").await?;
        }
        // The platform counts what it had added.
        let counted = i32::try_from(2 * units)?;
        self.platform.set_quota_in_use(&self.app.name, counted).await?;
        let wanted = usize::try_from(units)?;
        self.has(&[("web", wanted), ("worker", wanted)]).await
    }

    pub(super) async fn add(&mut self, count: u32, process: &str) -> Result<(), CallError> {
        let operation = self.operation();
        self.provisioner.add_units(&operation, &self.app, count, process).await
    }

    pub(super) async fn remove(&mut self, count: u32, process: &str) -> Result<(), CallError> {
        let operation = self.operation();
        self.provisioner.remove_units(&operation, &self.app, count, process).await
    }

    pub(super) async fn restart(&mut self, process: &str) -> Result<(), CallError> {
        let operation = self.operation();
        self.provisioner.restart(&operation, &self.app, process).await
    }

    pub(super) async fn start(&mut self, process: &str) -> Result<(), CallError> {
        let operation = self.operation();
        self.provisioner.start(&operation, &self.app, process).await
    }

    pub(super) async fn stop(&mut self, process: &str) -> Result<(), CallError> {
        let operation = self.operation();
        self.provisioner.stop(&operation, &self.app, process).await
    }

    pub(super) async fn sleep(&mut self, process: &str) -> Result<(), CallError> {
        let operation = self.operation();
        self.provisioner.sleep(&operation, &self.app, process).await
    }

    pub(super) async fn destroy(&mut self) -> Result<(), CallError> {
        let operation = self.operation();
        self.provisioner.destroy(&operation, &self.app).await
    }

    /// Builds a source in the way that the plugin has.
    pub(super) async fn build(&mut self, source: Vec<u8>) -> Result<String, CallError> {
        let source = Box::pin(std::io::Cursor::new(source));
        let (operation, provisioner) = (self.operation(), &self.provisioner);
        if provisioner.supports(Interface::DockerBuilder) {
            provisioner.build(&operation, &self.app, source, &BuildOptions::default()).await
        } else {
            provisioner.build_pod(&operation, &self.app, source, "").await
        }
    }

    pub(super) async fn units(&self) -> Result<Vec<Unit>> {
        Ok(self.provisioner.units(&question(), std::slice::from_ref(&self.app)).await?)
    }

    /// The ids of the units of a process; of all when it is empty.
    pub(super) async fn ids(&self, process: &str) -> Result<BTreeSet<String>> {
        let units = self.units().await?.into_iter();
        let of = units.filter(|unit| process.is_empty() || unit.process_name == process);
        Ok(of.map(|unit| unit.id).collect())
    }

    /// One unit of a process.
    pub(super) async fn unit(&self, process: &str) -> Result<Unit> {
        let mut units = self.units().await?.into_iter();
        units.find(|unit| unit.process_name == process).with_context(|| format!("a {process} unit"))
    }

    pub(super) async fn addresses(&self) -> Result<Vec<String>> {
        Ok(self.provisioner.routable_addresses(&question(), &self.app).await?)
    }

    pub(super) async fn current(&self) -> String {
        self.platform.current(&self.app.name).await.unwrap_or_default()
    }

    pub(super) fn in_use(&self) -> Result<u32> {
        Ok(self.platform.record(&self.app.name).context("the app is there")?.in_use)
    }

    /// Whether there are exactly so many units of these processes.
    pub(super) async fn has(&self, wanted: &[(&str, usize)]) -> Result<()> {
        self.backend.idle().await?;
        let mut there: BTreeMap<String, usize> = BTreeMap::new();
        for unit in self.units().await? {
            *there.entry(unit.process_name).or_default() += 1;
        }
        let wanted = wanted.iter().filter(|(_, count)| *count > 0);
        let wanted: BTreeMap<_, _> =
            wanted.map(|(process, count)| ((*process).to_owned(), *count)).collect();
        ensure!(there == wanted, "there are {there:?} and not {wanted:?}");
        Ok(())
    }

    /// Whether every unit is of this image, which is the current one.
    pub(super) async fn runs(&self, image: &str) -> Result<()> {
        self.backend.idle().await?;
        for unit in self.units().await? {
            let (has, ..) = self.backend.made_of(&unit.id).await?;
            ensure!(has == image, "the unit {} is of {has} and not of {image}", unit.id);
        }
        let current = self.current().await;
        ensure!(current == image, "{current} is current and not {image}");
        Ok(())
    }

    /// Whether all units are in this state.
    pub(super) async fn all_are(&self, status: Status) -> Result<()> {
        for unit in self.units().await? {
            ensure!(unit.status == Some(status), "a unit is {:?} and not {status:?}", unit.status);
        }
        Ok(())
    }

    /// What is left of apps: on the backend, and in the plugin's own keys.
    pub(super) async fn left(&self) -> Result<Vec<String>> {
        let mut left = self.backend.left().await?;
        let page = State::list(&self.platform, self.provisioner.name(), "", None, 0).await?;
        // What is known of machines and of images is of no app.
        let of_none = ["nodes/", "shells/", "node-container-pins/"];
        let keys = page.entries.into_iter().map(|entry| entry.key);
        left.extend(keys.filter(|key| !of_none.iter().any(|start| key.starts_with(start))));
        left.extend(self.platform.record("shop").context("the app is there")?.bound);
        Ok(left)
    }
}

//! Random sequences of calls give the same answers in memory and on a real engine.
//!
//! Ids and times are each engine's own: containers and images are told by the order in which they were made, errors by their kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt as _;
use gantry_core::container::{Container, ContainerConfig, Empty, Image};
use gantry_engine::call::ContainerSummary;
use gantry_engine::containers::Result;
use gantry_engine::contract::{Fixture, Kind, PAGE, PORT};
use gantry_engine::{Containers, Memory};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// Sequences and their length: enough to meet the states, few enough for a real engine.
const CASES: u32 = 24;
const CALLS: std::ops::Range<usize> = 8..20;

/// Which container a call names.
#[derive(Clone, Debug)]
enum Which {
    /// By one of three names.
    Name(u8),
    /// By the id of one that was made, whether or not it is still there.
    Id(usize),
    /// By the first half of such an id.
    Prefix(usize),
}

#[derive(Clone, Debug)]
enum Act {
    Create { name: u8, color: u8, image: Option<u8>, published: bool },
    Start(Which),
    Stop(Which),
    Remove(Which, bool),
    Inspect(Which),
    Wait(Which),
    List { all: bool, color: u8 },
    Commit(Which, u8),
    Tag(u8, u8),
    TagBase(u8),
    InspectImage(u8),
    RemoveImage(u8),
    History(u8),
}

/// An answer without what is an engine's own.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Done,
    Code(i64),
    Container(Box<Told>),
    Containers(Vec<(String, String, String, BTreeMap<String, String>)>),
    Image(String, Vec<String>, Box<ContainerConfig>),
    Layers(usize, Vec<String>),
    Refused(&'static str),
}

/// What an inspect tells of a container.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    id: String,
    name: String,
    image: String,
    status: String,
    running: bool,
    exit_code: i64,
    ran: (bool, bool),
    config: ContainerConfig,
    /// Ports, and whether they are published now.
    ports: BTreeMap<String, bool>,
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        6 => (0..3_u8).prop_map(Which::Name),
        2 => (0..6_usize).prop_map(Which::Id),
        1 => (0..6_usize).prop_map(Which::Prefix),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let create = (0..3_u8, 0..3_u8, proptest::option::weighted(0.4, 0..3_u8), any::<bool>());
    let create = create.prop_map(|(name, color, image, published)| {
        let published = published && image.is_none();
        Act::Create { name, color, image, published }
    });
    prop_oneof![
        8 => create,
        5 => which().prop_map(Act::Start),
        4 => which().prop_map(Act::Stop),
        4 => (which(), any::<bool>()).prop_map(|(which, force)| Act::Remove(which, force)),
        4 => which().prop_map(Act::Inspect),
        2 => which().prop_map(Act::Wait),
        4 => (any::<bool>(), 0..4_u8).prop_map(|(all, color)| Act::List { all, color }),
        3 => (which(), 0..3_u8).prop_map(|(which, tag)| Act::Commit(which, tag)),
        2 => (0..3_u8, 0..3_u8).prop_map(|(from, to)| Act::Tag(from, to)),
        2 => (0..3_u8).prop_map(Act::TagBase),
        2 => (0..3_u8).prop_map(Act::InspectImage),
        3 => (0..3_u8).prop_map(Act::RemoveImage),
        2 => (0..3_u8).prop_map(Act::History),
    ]
}

/// An engine under the same calls as another.
struct World {
    fixture: Fixture,
    base: String,
    containers: Vec<String>,
    images: Vec<String>,
}

impl World {
    async fn new(fixture: Fixture) -> Self {
        let base = fixture.name();
        let image = fixture.engine.inspect_image(&fixture.image).await.unwrap().id;
        Self { fixture, base, containers: Vec::new(), images: vec![image] }
    }

    fn engine(&self) -> Arc<dyn Containers> {
        Arc::clone(&self.fixture.engine)
    }

    fn name(&self, name: u8) -> String {
        format!("{}-{name}", self.base)
    }

    fn tag(&self, tag: u8) -> String {
        format!("{}:v{tag}", self.base)
    }

    fn text(&self, which: &Which) -> String {
        let made = |index: &usize| {
            let id = self.containers.get(index % self.containers.len().max(1));
            id.cloned().unwrap_or_else(|| self.name(9))
        };
        match which {
            Which::Name(name) => self.name(*name),
            Which::Id(index) => made(index),
            Which::Prefix(index) => made(index).chars().take(32).collect(),
        }
    }

    /// A text without this engine's own ids and names.
    fn plain(&self, text: &str) -> String {
        let number = |of: &[String]| of.iter().position(|id| id == text);
        if let Some(index) = number(&self.containers) {
            return format!("container {index}");
        }
        if let Some(index) = number(&self.images) {
            return format!("image {index}");
        }
        text.replace(&self.base, "base").replace(&self.fixture.image, "fixture")
    }

    fn labels(&self, of: Option<BTreeMap<String, String>>) -> BTreeMap<String, String> {
        let mine = self.fixture.mine();
        of.unwrap_or_default().into_iter().filter(|(key, _)| !mine.contains_key(key)).collect()
    }

    fn config(&self, of: ContainerConfig) -> ContainerConfig {
        let list = |list: Option<Vec<String>>| list.filter(|list| !list.is_empty());
        ContainerConfig {
            image: self.plain(&of.image),
            cmd: list(of.cmd),
            entrypoint: list(of.entrypoint),
            env: list(of.env),
            labels: Some(self.labels(of.labels)),
            exposed_ports: of.exposed_ports.filter(|ports| !ports.is_empty()),
            ..of
        }
    }

    fn told(&self, of: Container) -> Told {
        let never = |time: &str| time == "0001-01-01T00:00:00Z";
        let ports = of.network_settings.ports.iter();
        Told {
            id: self.plain(&of.id),
            name: self.plain(&of.name),
            image: self.plain(&of.image),
            running: of.state.running,
            exit_code: of.state.exit_code,
            ran: (!never(&of.state.started_at), !never(&of.state.finished_at)),
            ports: ports.map(|(port, bound)| (port.clone(), bound.is_some())).collect(),
            status: of.state.status,
            config: self.config(of.config),
        }
    }

    fn listed(&self, all: Vec<ContainerSummary>) -> Answer {
        let told = |one: ContainerSummary| {
            let labels = self.labels(Some(one.labels));
            assert_eq!(self.plain(&one.id).split(' ').next(), Some("container"));
            (self.plain(&one.name), self.plain(&one.image), one.state, labels)
        };
        let mut all: Vec<_> = all.into_iter().map(told).collect();
        all.sort();
        Answer::Containers(all)
    }

    fn image(&self, of: Image) -> Answer {
        let mut names: Vec<String> = of.repo_tags.iter().map(|name| self.plain(name)).collect();
        names.sort();
        // The fixture's image has names of other tests as well.
        if of.id == self.images[0] {
            names.retain(|name| name.starts_with("base"));
        }
        Answer::Image(self.plain(&of.id), names, Box::new(self.config(of.config)))
    }

    async fn act(&mut self, act: &Act) -> Answer {
        self.answer(act).await.unwrap_or_else(|error| Answer::Refused(error.kind()))
    }

    async fn answer(&mut self, act: &Act) -> Result<Answer> {
        let engine = self.engine();
        Ok(match act {
            Act::Create { name, color, image, published } => {
                let mut spec =
                    if *published { self.fixture.serving() } else { self.fixture.spec() };
                if let Some(tag) = image {
                    spec.image = self.tag(*tag);
                }
                if *color > 0 {
                    spec.labels.insert("color".to_owned(), color.to_string());
                    spec.env.push(format!("COLOR={color}"));
                }
                let id = engine.create(&self.name(*name), &spec).await?;
                self.containers.push(id);
                Answer::Done
            }
            Act::Start(which) => {
                let text = self.text(which);
                let before = engine.inspect(&text).await?.state.running;
                if before {
                    engine.start(&text).await?;
                } else {
                    let id = engine.inspect(&text).await?.id;
                    self.fixture.start(&id).await;
                }
                Answer::Done
            }
            Act::Stop(which) => {
                engine.stop(&self.text(which), 10).await?;
                Answer::Done
            }
            Act::Remove(which, force) => {
                engine.remove(&self.text(which), *force).await?;
                Answer::Done
            }
            Act::Inspect(which) => {
                let container = engine.inspect(&self.text(which)).await?;
                Answer::Container(Box::new(self.told(container)))
            }
            Act::Wait(which) => {
                let text = self.text(which);
                if engine.inspect(&text).await?.state.running {
                    // Nobody would end it.
                    return Ok(Answer::Done);
                }
                Answer::Code(engine.wait(&text).await?)
            }
            Act::List { all, color } => {
                let mut labels = self.fixture.mine();
                match color {
                    0 => {}
                    3 => {
                        labels.insert("color".to_owned(), String::new());
                    }
                    color => {
                        labels.insert("color".to_owned(), color.to_string());
                    }
                }
                self.listed(engine.list(*all, &labels).await?)
            }
            Act::Commit(which, tag) => {
                let (text, name) = (self.text(which), self.tag(*tag));
                let (repository, tag) = name.split_once(':').unwrap();
                let none = BTreeMap::new();
                let id = engine.commit(&text, repository, tag, "", &none).await?;
                self.images.push(id);
                Answer::Done
            }
            Act::Tag(from, to) => {
                let (from, to) = (self.tag(*from), self.tag(*to));
                let (repository, tag) = to.split_once(':').unwrap();
                engine.tag_image(&from, repository, tag).await?;
                Answer::Done
            }
            Act::TagBase(to) => {
                let to = self.tag(*to);
                let (repository, tag) = to.split_once(':').unwrap();
                engine.tag_image(&self.fixture.image, repository, tag).await?;
                Answer::Done
            }
            Act::InspectImage(tag) => self.image(engine.inspect_image(&self.tag(*tag)).await?),
            Act::RemoveImage(tag) => {
                engine.remove_image(&self.tag(*tag)).await?;
                Answer::Done
            }
            Act::History(tag) => {
                let base = engine.image_history(&self.fixture.image).await?.len();
                let layers = engine.image_history(&self.tag(*tag)).await?;
                let mut names: Vec<String> =
                    layers[0].tags.iter().map(|name| self.plain(name)).collect();
                names.retain(|name| name.starts_with("base"));
                names.sort();
                Answer::Layers(layers.len() - base, names)
            }
        })
    }

    async fn clear(&self) {
        for container in
            self.fixture.engine.list(true, &self.fixture.mine()).await.unwrap_or_default()
        {
            let _ = self.fixture.engine.remove(&container.id, true).await;
        }
        for tag in 0..3 {
            let _ = self.fixture.engine.remove_image(&self.tag(tag)).await;
        }
        // What has lost its name to another, the youngest first: they are made of each other.
        for image in self.images.iter().skip(1).rev() {
            let _ = self.fixture.engine.remove_image(image).await;
        }
    }
}

/// The same image in memory, as the real engine tells it.
async fn memory(like: &Fixture) -> Fixture {
    let mut image = like.engine.inspect_image(&like.image).await.unwrap();
    image.config.exposed_ports = Some([(PORT.to_owned(), Empty {})].into());
    let files = [("/www/index.html", PAGE.as_bytes())];
    let engine = Memory::new().with_image(&like.image, image, files);
    Fixture::new(Arc::new(engine), Kind::Memory, &like.image)
}

async fn compare(real: Fixture, acts: &[Act]) -> std::result::Result<(), TestCaseError> {
    let fake = memory(&real).await;
    let (mut real, mut fake) = (World::new(real).await, World::new(fake).await);
    let run = async {
        for (index, act) in acts.iter().enumerate() {
            let (in_memory, on_docker) = (fake.act(act).await, real.act(act).await);
            prop_assert_eq!(&in_memory, &on_docker, "call {}: {:?}", index, act);
        }
        Ok(())
    };
    let ended = std::panic::AssertUnwindSafe(run).catch_unwind().await;
    real.clear().await;
    ended.unwrap_or_else(|broken| std::panic::resume_unwind(broken))
}

#[test]
fn random_sequences_of_calls_give_the_same_answers_in_memory() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(real) = runtime.block_on(crate::docker()) else { return };
    let more = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = Config {
        cases: more.unwrap_or(CASES),
        // Another one each time; the sequence that fails is printed.
        rng_seed: RngSeed::Random,
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    let acts = proptest::collection::vec(act(), CALLS);
    let mut runner = TestRunner::new(config);
    let ended = runner.run(&acts, |acts| {
        let real = Fixture::new(Arc::clone(&real.engine), Kind::Docker, &real.image);
        runtime.block_on(compare(real, &acts))
    });
    if let Err(error) = ended {
        panic!("{error}");
    }
}

//! The suite that every container engine passes: what callers of [`Containers`] may count on, one promise a function.
//!
//! A test of an engine lists them all with [`contract!`](crate::contract!). Where engines differ on purpose, the promise has a match on [`Kind`] with the reason in it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a suite of tests stops where a promise is broken"
)]

pub mod cluster;
pub mod commands;
pub mod files;
pub mod images;
pub mod life;
pub mod lookup;
pub mod sessions;

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use gantry_core::container::{ContainerSpec, PortBinding};
use tokio::time::{Instant, sleep};

use crate::call::LogOptions;
use crate::stream::{Output, Session, Source, Writer};
use crate::{Containers, EngineError};

/// The port that the image of a fixture serves.
pub const PORT: &str = "8888/tcp";
/// What it serves at `/`, and what its file `/www/index.html` holds.
pub const PAGE: &str = "hello\n";
/// The label that everything of a fixture carries.
const MARK: &str = "contract.fixture";

/// Engines with listed differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Processes run.
    Docker,
    /// Nothing runs: a process is there until it is stopped, and says nothing.
    Memory,
}

/// An engine to be tested, with an image in it.
#[derive(Clone)]
pub struct Fixture {
    /// The engine.
    pub engine: Arc<dyn Containers>,
    /// Which differences it has.
    pub kind: Kind,
    /// An image whose process writes the line `ready` at each start and then ends with 0 when it is stopped, that exposes [`PORT`] and serves [`PAGE`] there from `/www`, and
    /// that has a shell with the usual commands.
    pub image: String,
    /// A registry that takes pushes (`127.0.0.1:5000`), if there is one.
    pub registry: Option<String>,
    mark: String,
    count: Arc<AtomicU32>,
    /// How often each container was started.
    starts: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Fixture {
    /// A fixture whose containers no other has.
    #[must_use]
    pub fn new(engine: Arc<dyn Containers>, kind: Kind, image: impl Into<String>) -> Self {
        let mark = format!("contract-{:016x}", getrandom::u64().expect("random numbers"));
        let (image, registry) = (image.into(), None);
        Self { engine, kind, image, registry, mark, count: Arc::default(), starts: Arc::default() }
    }

    /// The same with a registry.
    #[must_use]
    pub fn with_registry(mut self, registry: impl Into<String>) -> Self {
        self.registry = Some(registry.into());
        self
    }

    /// A name that nobody else uses.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", self.mark, self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// A container of the image with the fixture's label.
    #[must_use]
    pub fn spec(&self) -> ContainerSpec {
        ContainerSpec {
            image: self.image.clone(),
            labels: BTreeMap::from([(MARK.to_owned(), self.mark.clone())]),
            ..ContainerSpec::default()
        }
    }

    /// A container that publishes its port.
    #[must_use]
    pub fn serving(&self) -> ContainerSpec {
        let mut spec = self.spec();
        spec.host_config.port_bindings.insert(PORT.to_owned(), vec![PortBinding::default()]);
        spec
    }

    /// A container that runs a line of shell; its process 1 is that shell.
    #[must_use]
    pub fn shell(&self, line: &str) -> ContainerSpec {
        let mut spec = self.spec();
        spec.entrypoint = Some(Vec::new());
        spec.cmd = Some(["/bin/sh", "-c", line].map(ToOwned::to_owned).to_vec());
        spec
    }

    /// The fixture's label, as a filter.
    #[must_use]
    pub fn mine(&self) -> BTreeMap<String, String> {
        self.spec().labels
    }

    /// Makes a container and gives its id.
    pub async fn created(&self, spec: &ContainerSpec) -> String {
        self.engine.create(&self.name(), spec).await.expect("a container is created")
    }

    /// Makes a container, starts it, and gives its id.
    pub async fn started(&self, spec: &ContainerSpec) -> String {
        let id = self.created(spec).await;
        match &spec.cmd {
            None => self.start(&id).await,
            Some(_) => self.engine.start(&id).await.expect("a container starts"),
        }
        id
    }

    /// Starts a container that runs the image's own command, and waits until that is ready: before, a stop would find no handler for its signal.
    pub async fn start(&self, id: &str) {
        self.engine.start(id).await.expect("a container starts");
        match self.kind {
            // Nothing has to get ready there.
            Kind::Memory => {}
            Kind::Docker => {
                let starts = {
                    let mut starts = self.starts.lock().expect("no test has panicked here");
                    let count = starts.entry(id.to_owned()).or_insert(0);
                    *count += 1;
                    *count
                };
                eventually("the container is ready", || async {
                    let all = LogOptions { lines: 100, follow: false, timestamps: false };
                    let log = self.engine.logs(id, &all).await.expect("a log");
                    read(log).await.0.lines().filter(|line| *line == "ready").count() >= starts
                })
                .await;
            }
        }
    }

    /// Removes what the fixture made.
    async fn clear(&self) {
        let left = self.engine.list(true, &self.mine()).await.unwrap_or_default();
        for container in left {
            let _ = self.engine.remove(&container.id, true).await;
        }
    }
}

/// A promise as a function.
pub type Promise = for<'a> fn(&'a Fixture) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Holds an engine to a promise, and removes what that made also when it is broken.
pub async fn run(fixture: Fixture, promise: Promise) {
    let kept = AssertUnwindSafe(promise(&fixture)).catch_unwind().await;
    fixture.clear().await;
    if let Err(broken) = kept {
        resume_unwind(broken);
    }
}

/// Waits for a condition, at most a minute.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Fails unless an answer is an error of this kind, and gives its text.
#[track_caller]
pub fn refused<T>(answer: Result<T, EngineError>, kind: &str) -> String {
    match answer {
        Ok(_) => panic!("no error where `{kind}` was due"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error}");
            error.to_string()
        }
    }
}

/// Reads a session to its end: what was written on the two streams.
pub async fn read(mut session: Session) -> (String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = session.chunks.next().await {
        let chunk = chunk.expect("the stream goes on to its end");
        match chunk.source {
            Source::Stdout => stdout.extend_from_slice(&chunk.bytes),
            Source::Stderr => stderr.extend_from_slice(&chunk.bytes),
        }
    }
    (text(stdout), text(stderr))
}

/// Two ends to write to, and what reads them.
pub fn ends() -> (Output, impl Future<Output = (String, String)>) {
    let (stdout, out) = end();
    let (stderr, err) = end();
    (Output { stdout, stderr }, async { tokio::join!(out, err) })
}

/// An end to write to, and what reads it.
pub fn end() -> (Writer, impl Future<Output = String>) {
    let (writer, mut reader) = tokio::io::duplex(4096);
    let read = async move {
        let mut bytes = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut bytes).await.expect("bytes");
        text(bytes)
    };
    (Box::pin(writer), read)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

/// Makes a test of each promise, for the engine that an expression gives.
#[macro_export]
macro_rules! contract {
    ($fixture:expr) => {
        $crate::contract!(@tests $fixture;
            lookup: an_id_a_prefix_of_it_and_a_name_are_the_same_container;
            lookup: a_prefix_of_several_ids_is_refused;
            lookup: an_unknown_container_is_not_found;
            lookup: what_is_no_name_is_invalid;
            lookup: containers_are_listed_by_their_labels;
            lookup: an_empty_value_matches_any_label;
            lookup: only_what_runs_is_listed_unless_all_is_asked_for;
            lookup: an_inspect_tells_what_a_container_was_made_with;
            life: a_name_in_use_is_a_conflict;
            life: a_container_of_an_unknown_image_is_not_created;
            life: a_container_without_a_command_is_invalid;
            life: starting_what_runs_succeeds;
            life: stopping_what_does_not_run_succeeds;
            life: removing_what_is_gone_succeeds;
            life: what_runs_is_not_removed_without_force;
            life: a_removed_container_is_gone_for_every_call;
            life: a_stopped_container_can_be_started_again;
            life: waiting_gives_the_exit_code;
            life: a_container_that_ended_is_waited_for_at_once;
            life: a_taken_port_is_a_conflict;
            life: containers_are_made_side_by_side;
            commands: a_command_gives_its_output_and_its_exit_code;
            commands: a_command_gets_what_it_asks_for;
            commands: a_command_with_a_terminal_writes_to_one_end;
            commands: a_command_in_what_does_not_run_is_a_conflict;
            commands: an_unknown_command_is_not_found;
            commands: a_log_has_its_last_lines_first;
            commands: a_followed_log_ends_with_the_container;
            commands: a_session_shows_what_a_container_writes;
            commands: a_published_port_is_asked;
            commands: a_port_that_is_not_published_is_not_asked;
            commands: what_does_not_run_gives_no_answer;
            sessions: a_session_has_what_its_command_says_and_its_exit_code;
            sessions: a_session_gives_its_command_input_up_to_its_end;
            sessions: a_session_whose_command_does_not_read_goes_on;
            sessions: a_terminal_follows_its_sizes;
            sessions: a_terminal_passes_every_key_on;
            sessions: a_session_that_is_dropped_ends_its_command;
            sessions: what_a_terminal_shows_ends_with_it;
            sessions: a_session_ends_with_its_container;
            sessions: a_session_of_an_unknown_program_says_so;
            sessions: a_session_in_what_does_not_run_is_a_conflict;
            files: what_is_uploaded_is_downloaded;
            files: a_path_is_told;
            files: an_absent_path_is_not_found;
            files: a_file_of_the_image_is_downloaded;
            images: a_committed_container_is_an_image;
            images: an_image_has_the_names_it_was_given;
            images: an_image_in_use_is_not_removed;
            images: an_unknown_image_is_not_found;
            images: an_image_is_built_from_an_archive;
            images: a_failed_build_is_an_error;
            images: an_image_nobody_has_is_not_pulled;
            images: what_is_pushed_is_pulled;
        );
    };
    (@tests $fixture:expr; $($module:ident: $promise:ident;)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let fixture: $crate::contract::Fixture = $fixture;
                $crate::contract::run(fixture, |fixture| {
                    Box::pin($crate::contract::$module::$promise(fixture))
                })
                .await;
            }
        )*
    };
}

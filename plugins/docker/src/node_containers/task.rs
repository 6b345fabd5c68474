//! One node container on one machine: what is done next, seeing how the last step ended.
//!
//! ```text
//! find ─┬─ there, and may stay ──► start, unless it runs
//!       ├─ missing ──────────────► image ────────────────────► create ► start
//!       ├─ there, to be made anew ► image ► stop and remove ──► create ► start
//!       └─ there, to go ────────────────► stop and remove
//!
//! image: look ─┬─ missing ──────────────────► pull, up to three times ─┬─► pinned, if its name may come to mean another one
//!              └─ there, to be made anew ───► pull once ──────────────┘
//! ```

use std::time::Duration;

use gantry_sdk::container::{ContainerSpec, Empty, HostConfig, Image, RestartPolicy};
use gantry_sdk::containers::{ContainerSummary, EngineError, ListOptions, Step, StepReply};
use gantry_sdk::gantry_core::node::{NodeContainer, pinned};
use gantry_sdk::{Labels, quote};

use super::pins::Pins;
use crate::removal::STOP_SECONDS;

/// How often an image is pulled.
const PULLS: u32 = 3;

/// How often one that did not go is killed once more, and the pause before.
const KILLS: u32 = 2;
const AGAIN: Duration = Duration::from_secs(1);

/// What each is found by.
const NAME_LABEL: &str = "node-container-name";

/// How a node container should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// There, and running.
    There,
    /// Made anew.
    Anew,
    /// Not there.
    Gone,
}

/// What is done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The container is looked for.
    Find,
    /// The image is looked for.
    Look,
    /// It is pulled, for so many times.
    Pull(u32),
    /// It is looked for because it could not be pulled.
    LookAfter(EngineError),
    /// The container goes, after so many tries.
    Clear(u32),
    /// It is made and started.
    Launch,
    /// One that is there is started.
    Start,
}

/// How the steps of a stage ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// What they gave, up to the one that failed.
    pub(super) replies: Vec<StepReply>,
    /// Its failure.
    pub(super) failure: Option<EngineError>,
}

/// One node container on one machine.
#[derive(Debug)]
pub(super) struct Task {
    /// The machine.
    pub(super) node: String,
    /// The pool whose entry it is.
    pub(super) pool: String,
    /// What it is.
    pub(super) container: NodeContainer,
    goal: Goal,
    exists: bool,
    /// The image that is looked for or pulled.
    asked: String,
    /// Whether somebody was asked what the image's name means now.
    is_fresh: bool,
    /// Whether somebody took the name while it was being made.
    was_taken: bool,
    told: String,
}

impl Task {
    pub(super) fn new(node: &str, pool: &str, container: NodeContainer, goal: Goal) -> Self {
        Self {
            node: node.to_owned(),
            pool: pool.to_owned(),
            container,
            goal,
            exists: false,
            asked: String::new(),
            is_fresh: false,
            was_taken: false,
            told: String::new(),
        }
    }

    /// What people should read now.
    pub(super) fn told(&mut self) -> Option<String> {
        Some(std::mem::take(&mut self.told)).filter(|told| !told.is_empty())
    }

    /// The failure, with what it is about.
    pub(super) fn failure(&self, error: EngineError) -> EngineError {
        let what = format!("node container {}", self.place("in"));
        error.map_text(|text| format!("{what}: {text}"))
    }

    /// The engine calls of a stage. `labels` are what the container is to carry.
    pub(super) fn steps(&self, stage: &Stage, pins: &Pins, labels: &Labels) -> Vec<Step> {
        let name = || self.container.name.clone();
        let image = || self.asked.clone();
        match stage {
            Stage::Find => {
                let labels = vec![(NAME_LABEL.to_owned(), name())];
                vec![Step::List(ListOptions { all: true, labels, label_keys: Some(Vec::new()) })]
            }
            Stage::Look | Stage::LookAfter(_) => vec![Step::InspectImage(image())],
            Stage::Pull(_) => vec![Step::PullImage(image()), Step::InspectImage(image())],
            Stage::Clear(0) => {
                vec![Step::Stop { id: name(), seconds: STOP_SECONDS }, Step::Remove(name())]
            }
            Stage::Clear(_) => vec![Step::Pause(AGAIN), Step::Remove(name())],
            Stage::Launch => {
                let image = self.image(pins);
                let spec = Box::new(spec(&self.container, &self.node, image, labels));
                vec![Step::Create { name: name(), spec }, Step::Start(name())]
            }
            Stage::Start => vec![Step::Start(name())],
        }
    }

    /// What comes after a stage that ended so; none when all is done.
    pub(super) fn next(
        &mut self,
        stage: Stage,
        ended: Ended,
        pins: &mut Pins,
    ) -> Result<Option<Stage>, EngineError> {
        let Ended { replies, failure } = ended;
        match stage {
            Stage::Find => failure.map_or_else(|| Ok(self.found(&replies, pins)), Err),
            Stage::Look => match failure {
                Some(EngineError::NotFound(_)) => Ok(Some(self.pull(1))),
                // What a name means may have changed; a digest means one image forever.
                None if self.goal == Goal::Anew && !self.is_fresh && !self.asked.contains('@') => {
                    Ok(Some(self.pull(PULLS)))
                }
                failure => failure.map_or_else(|| Ok(Some(self.has_image(pins))), Err),
            },
            Stage::Pull(tries) => match failure {
                None => {
                    self.pin(&replies, pins);
                    Ok(Some(self.has_image(pins)))
                }
                Some(error) if !may_do_better(&error) => Err(error),
                Some(_) if tries < PULLS => Ok(Some(Stage::Pull(tries.saturating_add(1)))),
                Some(error) => Ok(Some(Stage::LookAfter(error))),
            },
            Stage::LookAfter(error) => match failure {
                None => {
                    self.tell(&format!("not pulled ({error}), the image that is there is used:"));
                    Ok(Some(self.has_image(pins)))
                }
                Some(_) => Err(error),
            },
            Stage::Clear(tries) => match failure {
                None | Some(EngineError::NotFound(_)) => {
                    Ok((self.goal == Goal::Anew).then_some(Stage::Launch))
                }
                Some(error) if !may_do_better(&error) || tries == KILLS => Err(error),
                Some(_) => Ok(Some(Stage::Clear(tries.saturating_add(1)))),
            },
            Stage::Launch => match failure {
                Some(EngineError::Conflict(_)) if replies.is_empty() => self.name_is_taken(),
                failure => failure.map_or(Ok(None), Err),
            },
            Stage::Start => failure.map_or(Ok(None), Err),
        }
    }

    /// What to do, knowing whether it is there.
    fn found(&mut self, replies: &[StepReply], pins: &Pins) -> Option<Stage> {
        let container =
            replies.iter().flat_map(listed).find(|container| container.name == self.container.name);
        self.exists = container.is_some();
        match (self.goal, container) {
            (Goal::There, Some(container)) if is_up(container) => None,
            (Goal::There, Some(_)) => Some(Stage::Start),
            (Goal::There, None) => {
                self.tell("starting");
                Some(self.look(pins))
            }
            (Goal::Anew, _) => {
                self.tell("relaunching");
                Some(self.look(pins))
            }
            (Goal::Gone, Some(_)) => {
                self.tell("removing");
                Some(Stage::Clear(0))
            }
            (Goal::Gone, None) => {
                let place = self.place("in");
                self.told.push_str(&format!("no such node container {place}\n"));
                None
            }
        }
    }

    /// What it is made of, as far as it is known.
    fn image<'a>(&'a self, pins: &'a Pins) -> &'a str {
        let NodeContainer { name, image, pinned_image, .. } = &self.container;
        if !pinned_image.is_empty() {
            return pinned_image;
        }
        pins.get(name, &self.pool, image).unwrap_or(image)
    }

    fn look(&mut self, pins: &Pins) -> Stage {
        self.asked = self.image(pins).to_owned();
        Stage::Look
    }

    /// Pulls the image; `tries` of the most there are count as done.
    fn pull(&mut self, tries: u32) -> Stage {
        self.is_fresh = true;
        let line = format!("\n---- Pulling image {} on {} ----\n", self.asked, self.node);
        self.told.push_str(&line);
        Stage::Pull(tries)
    }

    /// The image that was asked for is there. Another machine may have pinned another one meanwhile.
    fn has_image(&mut self, pins: &Pins) -> Stage {
        if self.asked != self.image(pins) {
            self.look(pins)
        } else if self.exists {
            Stage::Clear(0)
        } else {
            Stage::Launch
        }
    }

    /// Pins an image that was just pulled, unless somebody was faster.
    fn pin(&self, replies: &[StepReply], pins: &mut Pins) {
        let NodeContainer { name, image, .. } = &self.container;
        if self.asked != *image || pins.get(name, &self.pool, image).is_some() {
            return;
        }
        let digest = replies.iter().find_map(pulled);
        if let Some(pinned) = digest.and_then(|of| pinned(image, &of.repo_digests)) {
            pins.set(name, &self.pool, image, pinned);
        }
    }

    /// The name was free a moment ago. Somebody else may have started the same; if not, it is another's.
    fn name_is_taken(&mut self) -> Result<Option<Stage>, EngineError> {
        if !std::mem::replace(&mut self.was_taken, true) {
            return Ok(Some(Stage::Find));
        }
        Err(EngineError::Conflict(
            "a container that is no node container of this provisioner has this name there: \
             remove or rename it, or give the node container another name"
                .to_owned(),
        ))
    }

    fn tell(&mut self, doing: &str) {
        let line = format!("{doing} node container {}\n", self.place("in"));
        self.told.push_str(&line);
    }

    fn place(&self, at: &str) -> String {
        let Self { container, node, pool, .. } = self;
        format!("{} {at} the node {node} [{pool}]", quote(&container.name))
    }
}

/// The create body of a node container.
fn spec(container: &NodeContainer, node: &str, image: &str, labels: &Labels) -> ContainerSpec {
    let unless_empty = |words: &Vec<String>| (!words.is_empty()).then(|| words.clone());
    let mut env = vec![format!("DOCKER_ENDPOINT={node}")];
    env.extend(container.env.clone());
    let restart = match container.restart_policy.as_str() {
        "" => "always",
        policy => policy,
    };
    ContainerSpec {
        image: image.to_owned(),
        cmd: unless_empty(&container.command),
        entrypoint: unless_empty(&container.entrypoint),
        env,
        labels: labels.clone(),
        working_dir: container.working_dir.clone(),
        tty: container.tty == Some(true),
        user: container.user.clone(),
        exposed_ports: container
            .port_bindings
            .keys()
            .map(|port| (port.clone(), Empty {}))
            .collect(),
        host_config: HostConfig {
            privileged: container.privileged == Some(true),
            network_mode: container.network_mode.clone(),
            restart_policy: RestartPolicy { name: restart.to_owned(), ..RestartPolicy::default() },
            binds: container.binds.clone(),
            pid_mode: container.pid_mode.clone(),
            cap_add: container.cap_add.clone(),
            cap_drop: container.cap_drop.clone(),
            port_bindings: container.port_bindings.clone(),
            log_config: container.log_config.clone(),
            ..HostConfig::default()
        },
        ..ContainerSpec::default()
    }
}

/// Whether the same call may succeed when it is sent again at once.
fn may_do_better(error: &EngineError) -> bool {
    match error {
        EngineError::NotFound(_) | EngineError::Conflict(_) | EngineError::Failed(_) => true,
        EngineError::Invalid(_)
        | EngineError::Denied(_)
        | EngineError::Unreachable(_)
        | EngineError::TimedOut(_)
        | EngineError::Cancelled => false,
    }
}

/// Whether there is nothing to start.
fn is_up(container: &ContainerSummary) -> bool {
    matches!(container.state.as_str(), "running" | "restarting" | "paused")
}

fn listed(reply: &StepReply) -> &[ContainerSummary] {
    match reply {
        StepReply::Containers(containers) => containers,
        StepReply::Done
        | StepReply::Id(_)
        | StepReply::Container(_)
        | StepReply::Image(_)
        | StepReply::Exec(_)
        | StepReply::Bytes(_)
        | StepReply::Http(_) => &[],
    }
}

fn pulled(reply: &StepReply) -> Option<&Image> {
    match reply {
        StepReply::Image(image) => Some(image),
        StepReply::Done
        | StepReply::Id(_)
        | StepReply::Container(_)
        | StepReply::Containers(_)
        | StepReply::Exec(_)
        | StepReply::Bytes(_)
        | StepReply::Http(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use gantry_sdk::container::{LogConfig, PortBinding};

    use super::*;

    const NODE: &str = "tcp://a:1";

    fn container(image: &str) -> NodeContainer {
        NodeContainer { name: "bs".to_owned(), image: image.to_owned(), ..NodeContainer::default() }
    }

    fn task(goal: Goal) -> Task {
        Task::new(NODE, "p", container("bs:v1"), goal)
    }

    fn done(replies: Vec<StepReply>) -> Ended {
        Ended { replies, failure: None }
    }

    fn failed(error: EngineError) -> Ended {
        Ended { replies: Vec::new(), failure: Some(error) }
    }

    fn seen(name: &str, state: &str) -> Ended {
        let container = ContainerSummary {
            id: "1".to_owned(),
            name: name.to_owned(),
            image: String::new(),
            state: state.to_owned(),
            labels: Vec::new(),
        };
        done(vec![StepReply::Containers(vec![container])])
    }

    fn missing() -> EngineError {
        EngineError::NotFound("no such image".to_owned())
    }

    fn image(digests: &[&str]) -> Ended {
        let repo_digests = digests.iter().map(|digest| (*digest).to_owned()).collect();
        let image = Image { repo_digests, ..Image::default() };
        done(vec![StepReply::Done, StepReply::Image(Box::new(image))])
    }

    /// Goes on as long as the ends last, and gives the stages.
    fn walk(task: &mut Task, pins: &mut Pins, ends: Vec<Ended>) -> Result<Vec<Stage>, EngineError> {
        let mut stages = vec![Stage::Find];
        for ended in ends {
            let Some(stage) = stages.last().cloned() else { panic!("over") };
            match task.next(stage, ended, pins)? {
                Some(next) => stages.push(next),
                None => return Ok(stages),
            }
        }
        Ok(stages)
    }

    #[test]
    fn what_runs_is_let_be_and_what_does_not_is_started() {
        for (goal, ended, next) in [
            (Goal::There, seen("bs", "running"), None),
            (Goal::There, seen("bs", "restarting"), None),
            (Goal::There, seen("bs", "exited"), Some(Stage::Start)),
            (Goal::There, seen("bs", "created"), Some(Stage::Start)),
            // Another one that carries the label.
            (Goal::There, seen("other", "running"), Some(Stage::Look)),
            (Goal::There, done(Vec::new()), Some(Stage::Look)),
            (Goal::Anew, seen("bs", "running"), Some(Stage::Look)),
            (Goal::Anew, done(Vec::new()), Some(Stage::Look)),
            (Goal::Gone, seen("bs", "exited"), Some(Stage::Clear(0))),
            (Goal::Gone, done(Vec::new()), None),
        ] {
            let told = format!("{goal:?} {ended:?}");
            let found = task(goal).next(Stage::Find, ended, &mut Pins::default());
            assert_eq!(found, Ok(next), "{told}");
        }
    }

    #[test]
    fn people_read_what_is_done_where() {
        let line = |goal, ended| {
            let mut task = task(goal);
            task.next(Stage::Find, ended, &mut Pins::default()).unwrap();
            task.told().unwrap_or_default()
        };
        let relaunch = line(Goal::Anew, seen("bs", "running"));
        assert!(
            relaunch.starts_with("relaunching node container \"bs\" in the node tcp://a:1 [p]\n")
        );
        let gone = "no such node container \"bs\" in the node tcp://a:1 [p]\n";
        assert_eq!(line(Goal::Gone, done(Vec::new())), gone);
        assert_eq!(line(Goal::There, seen("bs", "running")), "");
        let failure = task(Goal::Anew).failure(EngineError::Denied("no".to_owned()));
        let text = "node container \"bs\" in the node tcp://a:1 [p]: no".to_owned();
        assert_eq!(failure, EngineError::Denied(text));
    }

    #[test]
    fn one_that_is_made_anew_keeps_running_until_its_image_is_there_as_it_is_now() {
        let ends =
            vec![seen("bs", "running"), image(&[]), image(&[]), done(Vec::new()), done(Vec::new())];
        let stages = walk(&mut task(Goal::Anew), &mut Pins::default(), ends).unwrap();
        let last = Stage::Pull(PULLS);
        assert_eq!(stages, [Stage::Find, Stage::Look, last, Stage::Clear(0), Stage::Launch]);
        // A digest means one image forever.
        let mut pinned = Task::new(NODE, "p", container("bs@sha256:1"), Goal::Anew);
        let ends = vec![seen("bs", "running"), image(&[])];
        let stages = walk(&mut pinned, &mut Pins::default(), ends).unwrap();
        assert_eq!(stages, [Stage::Find, Stage::Look, Stage::Clear(0)]);
    }

    #[test]
    fn a_missing_image_is_pulled_three_times_and_one_that_is_there_has_to_do_if_it_cannot_be() {
        let mut pins = Pins::default();
        let pulls = [Stage::Pull(1), Stage::Pull(2), Stage::Pull(3)];
        let mut ends = vec![seen("bs", "running")];
        ends.extend((0..4).map(|_| failed(missing())));
        let stages = walk(&mut task(Goal::Anew), &mut pins, ends).unwrap();
        let expected = [&[Stage::Find, Stage::Look], &pulls[..], &[Stage::LookAfter(missing())]];
        assert_eq!(stages, expected.concat());
        let other = failed(EngineError::NotFound("not there either".to_owned()));
        let ended = task(Goal::Anew).next(Stage::LookAfter(missing()), other, &mut pins);
        assert_eq!(ended, Err(missing()), "why it was not pulled");

        let ends = vec![seen("bs", "running"), image(&[]), failed(missing()), image(&[])];
        let stages = walk(&mut task(Goal::Anew), &mut pins, ends).unwrap();
        let look = Stage::LookAfter(missing());
        let expected = [Stage::Find, Stage::Look, Stage::Pull(PULLS), look, Stage::Clear(0)];
        assert_eq!(stages, expected);
    }

    #[test]
    fn a_machine_that_does_not_answer_is_not_asked_again() {
        let down = EngineError::Unreachable("down".to_owned());
        for stage in [Stage::Find, Stage::Look, Stage::Pull(1), Stage::Clear(0), Stage::Launch] {
            let ended = task(Goal::Anew).next(stage, failed(down.clone()), &mut Pins::default());
            assert_eq!(ended, Err(down.clone()));
        }
    }

    #[test]
    fn one_that_does_not_go_is_killed_two_more_times() {
        let busy = || EngineError::Failed("busy".to_owned());
        let next = |stage| task(Goal::Anew).next(stage, failed(busy()), &mut Pins::default());
        assert_eq!(next(Stage::Clear(0)), Ok(Some(Stage::Clear(1))));
        assert_eq!(next(Stage::Clear(1)), Ok(Some(Stage::Clear(2))));
        assert_eq!(next(Stage::Clear(2)), Err(busy()));
        let gone = task(Goal::Gone).next(Stage::Clear(1), failed(missing()), &mut Pins::default());
        assert_eq!(gone, Ok(None));
    }

    #[test]
    fn an_image_that_was_pulled_by_its_name_is_run_by_its_digest_everywhere() {
        let mut pins = Pins::default();
        let mut first = Task::new(NODE, "p", container("bs"), Goal::Anew);
        let got = || image(&["bs@sha256:1"]);
        let ends = vec![done(Vec::new()), failed(missing()), got(), got()];
        let stages = walk(&mut first, &mut pins, ends).unwrap();
        let expected = [Stage::Find, Stage::Look, Stage::Pull(1), Stage::Look, Stage::Launch];
        assert_eq!(stages, expected);
        assert_eq!(first.image(&pins), "bs@sha256:1");

        // One that got another image meanwhile asks for the pinned one.
        let mut second = Task::new("tcp://b:1", "p", container("bs"), Goal::Anew);
        second.asked = "bs".to_owned();
        let next = second.next(Stage::Pull(1), image(&["bs@sha256:2"]), &mut pins).unwrap();
        assert_eq!(next, Some(Stage::Look));
        assert_eq!(second.asked, "bs@sha256:1");
        let next = second.next(Stage::Look, failed(missing()), &mut pins).unwrap();
        assert_eq!(next, Some(Stage::Pull(1)));
        assert_eq!(second.asked, "bs@sha256:1");

        let other = Task::new(NODE, "q", container("bs"), Goal::There);
        assert_eq!(other.image(&pins), "bs", "another pool has its own");
    }

    #[test]
    fn a_name_that_was_taken_meanwhile_is_looked_at_once_more_and_is_anothers_then() {
        let taken = || failed(EngineError::Conflict("name in use".to_owned()));
        let mut task = task(Goal::There);
        let mut pins = Pins::default();
        assert_eq!(task.next(Stage::Launch, taken(), &mut pins), Ok(Some(Stage::Find)));
        let error = task.next(Stage::Launch, taken(), &mut pins).unwrap_err();
        assert!(matches!(&error, EngineError::Conflict(text) if text.contains("has this name")));
        // It was made, and does not start.
        let made = Ended {
            replies: vec![StepReply::Id("1".to_owned())],
            failure: Some(EngineError::Conflict("port in use".to_owned())),
        };
        let error = task.next(Stage::Launch, made, &mut pins).unwrap_err();
        assert_eq!(error, EngineError::Conflict("port in use".to_owned()));
    }

    #[test]
    fn a_container_is_made_in_dockers_words() {
        let port = PortBinding { host_port: "1514".to_owned(), ..PortBinding::default() };
        let container = NodeContainer {
            command: vec!["run".to_owned()],
            env: vec!["A=1".to_owned()],
            privileged: Some(true),
            network_mode: "host".to_owned(),
            binds: vec!["/proc:/prochost:ro".to_owned()],
            user: "1000".to_owned(),
            pid_mode: "host".to_owned(),
            cap_add: vec!["NET_ADMIN".to_owned()],
            cap_drop: vec!["CHOWN".to_owned()],
            port_bindings: BTreeMap::from([("1514/udp".to_owned(), vec![port])]),
            log_config: Some(LogConfig { driver: "local".to_owned(), ..LogConfig::default() }),
            ..container("bs")
        };
        let labels = Labels::from([("is-tsuru".to_owned(), "true".to_owned())]);
        let spec = |container: &NodeContainer| spec(container, NODE, "bs@sha256:1", &labels);
        let made = serde_json::to_value(spec(&container)).unwrap();
        let expected = serde_json::json!({
            "Image": "bs@sha256:1",
            "Cmd": ["run"],
            "Env": ["DOCKER_ENDPOINT=tcp://a:1", "A=1"],
            "Labels": {"is-tsuru": "true"},
            "User": "1000",
            "ExposedPorts": {"1514/udp": {}},
            "HostConfig": {
                "RestartPolicy": {"Name": "always"},
                "Binds": ["/proc:/prochost:ro"],
                "NetworkMode": "host",
                "Privileged": true,
                "PidMode": "host",
                "CapAdd": ["NET_ADMIN"],
                "CapDrop": ["CHOWN"],
                "PortBindings": {"1514/udp": [{"HostIp": "", "HostPort": "1514"}]},
                "LogConfig": {"Type": "local"},
            },
        });
        assert_eq!(made, expected);
        let other = NodeContainer { restart_policy: "no".to_owned(), ..container };
        assert_eq!(spec(&other).host_config.restart_policy.name, "no");
    }
}

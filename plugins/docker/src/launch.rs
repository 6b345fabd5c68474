//! Starting new units, all at once (spec 5.3): create, start and inspect of one unit are one sequence, and what follows a unit's end does not wait for the others.
//!
//! ```text
//! create ► start ► inspect ──► running: written down, told
//!    │        └────fails──► stop ► remove ──► again, up to five times
//!    ├─fails──► over (removed, if it may be there), or again elsewhere
//!    └─machine does not answer──► written down for when it does ► again elsewhere
//! ```

use std::collections::BTreeSet;

use gantry_sdk::container::{Container, ContainerSpec};
use gantry_sdk::containers::{Batch, EngineError, Sequence, Step, StepReply};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Error, Status, log, operation};

use crate::failure::{Attempts, Failure, Next};
use crate::host::{host_of, set_network};
use crate::placing::others_may_do;
use crate::removal::{only_remove, stop_and_remove};
use crate::{limits, machine, messages, name, orphans, records, removal};

/// On how many nodes a unit is tried (spec 5.3).
pub(crate) const MOST_NODES: usize = 5;

/// A unit to be started: where, what its container is made of and what its record says from the beginning.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The container; its image is the node's business.
    pub(crate) spec: ContainerSpec,
    /// The record, without what only the engine knows.
    pub(crate) record: UnitRecord,
    /// The rest it is at once it is made; none when it is started.
    pub(crate) rests: Option<Status>,
}

impl Wanted {
    /// A unit of an app. The container says the rest.
    pub(crate) fn new(app: &App, spec: ContainerSpec, record: UnitRecord) -> Self {
        let record =
            UnitRecord { app_name: app.name.clone(), kind: app.platform.clone(), ..record };
        Self { spec, record, rests: None }
    }
}

/// A node for a unit, with what it calls the unit's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The address of the node.
    pub(crate) node: String,
    /// What to make containers of there.
    pub(crate) image: String,
}

/// Who finds places for units.
pub(crate) trait Placing {
    /// A place for a unit other than on these nodes, which failed; none when there is none.
    fn elsewhere(&mut self, unit: &UnitRecord, failed: &BTreeSet<String>) -> Option<Place>;
}

/// What a sequence of the batch is for.
enum Job {
    /// An attempt at starting a unit, under this name.
    Start { unit: usize, name: String },
    /// Removing what an attempt left.
    Clean { unit: usize, name: String, failure: Failure, next: Onward, forced: bool },
}

/// Where the next attempt at a unit is made, if one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Onward {
    /// On the same node.
    Here,
    /// On another one.
    Elsewhere,
}

/// What an attempt that failed leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    MaybeAContainer,
    /// The machine does not answer: nobody can look.
    NobodyKnows,
}

/// Starts units, each at its place. When one cannot be started, those that were are removed and the first failure is returned.
pub(crate) fn start(
    wanted: &[Wanted],
    places: Vec<Place>,
    placing: &mut dyn Placing,
) -> Result<Vec<UnitRecord>, Failure> {
    let mut launch = Launch {
        wanted,
        places,
        placing,
        failed_nodes: BTreeSet::new(),
        tried: BTreeSet::new(),
        attempts: vec![Attempts::default(); wanted.len()],
        running: vec![None; wanted.len()],
        jobs: Vec::new(),
        failure: None,
    };
    if let Err(failure) = launch.run() {
        launch.failure.get_or_insert(failure);
    }
    let Launch { running, failure, .. } = launch;
    let running: Vec<UnitRecord> = running.into_iter().flatten().collect();
    let Some(failure) = failure else { return Ok(running) };
    // What cannot be removed is logged there, and keeps its record.
    let _ = removal::remove_or_leave(&running, |_, _| {});
    Err(failure)
}

struct Launch<'a> {
    wanted: &'a [Wanted],
    /// Where each is.
    places: Vec<Place>,
    placing: &'a mut dyn Placing,
    failed_nodes: BTreeSet<String>,
    /// The units that were attempted.
    tried: BTreeSet<usize>,
    attempts: Vec<Attempts>,
    running: Vec<Option<UnitRecord>>,
    /// By the index of the batch's sequences.
    jobs: Vec<Option<Job>>,
    failure: Option<Failure>,
}

impl Launch<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let mut waiting = 0..self.wanted.len();
        let first = waiting
            .by_ref()
            .take(limits::workers())
            .filter_map(|unit| self.attempt(unit))
            .collect();
        let mut batch = Batch::submit(first).map_err(Error::from)?;
        while let Some(completion) = batch.next_ended() {
            let job = self.jobs.get_mut(completion.index).and_then(Option::take);
            let further = match job {
                Some(Job::Start { unit, name }) => match completion.failure {
                    None => self.started(unit, name, &completion.replies),
                    Some(error) => self.not_started(unit, name, completion.replies.len(), error),
                },
                Some(Job::Clean { unit, name, failure, next, forced }) => {
                    let node = self.node(unit);
                    match completion.failure.map(|error| machine::on(&node, error)) {
                        None | Some(EngineError::NotFound(_)) => {
                            self.forget(unit, name);
                            self.onward(unit, failure, next)
                        }
                        Some(_) if !forced => self.clean(unit, name, failure, next, true),
                        // The host removes what a failed operation leaves. This one may go well yet.
                        Some(_) => {
                            self.abandon(unit, name);
                            self.onward(unit, failure, next)
                        }
                    }
                }
                None => None,
            };
            // A unit that is over makes room for the next.
            let further = further.or_else(|| {
                let next = waiting.next().filter(|_| !self.is_over())?;
                self.attempt(next)
            });
            if let Some(sequence) = further {
                batch.add(vec![sequence]).map_err(Error::from)?;
            }
        }
        Ok(())
    }

    fn node(&self, unit: usize) -> String {
        self.places.get(unit).map(|place| place.node.clone()).unwrap_or_default()
    }

    /// The next attempt at a unit.
    fn attempt(&mut self, unit: usize) -> Option<Sequence> {
        let Wanted { spec, record, rests } = self.wanted.get(unit)?;
        let Place { node, image } = self.places.get(unit)?;
        let name = if self.tried.insert(unit) {
            record.name.clone()
        } else {
            // No unit of the change has a number that high.
            name::of_unit(&record.app_name, self.wanted.len().saturating_add(self.jobs.len()))
        };
        let spec = Box::new(ContainerSpec { image: image.clone(), ..spec.clone() });
        let mut steps = vec![Step::Create { name: name.clone(), spec }];
        steps.extend(rests.is_none().then(|| Step::Start(name.clone())));
        steps.push(Step::Inspect(name.clone()));
        self.jobs.push(Some(Job::Start { unit, name }));
        Some(limits::sequence(node, steps))
    }

    /// A unit runs, or is made as far as it should be.
    fn started(&mut self, unit: usize, name: String, replies: &[StepReply]) -> Option<Sequence> {
        let wanted = self.wanted.get(unit)?;
        let node = self.node(unit);
        let Some(container) = replies.iter().find_map(inspected) else {
            let error = EngineError::Failed("no inspect in the answer".to_owned());
            let failure = Failure::engine(&node, error);
            return self.clean(unit, name, failure, Onward::Here, false);
        };
        let record = made(wanted, name, &node, container, name::now());
        if let Err(error) = records::save(&record) {
            return self.clean(unit, record.name, error.into(), Onward::Here, false);
        }
        operation::progress(&messages::started(&record));
        if let Some(place) = self.running.get_mut(unit) {
            *place = Some(record);
        }
        None
    }

    /// An attempt failed after so many steps.
    fn not_started(
        &mut self,
        unit: usize,
        name: String,
        done: usize,
        error: EngineError,
    ) -> Option<Sequence> {
        let node = self.node(unit);
        let left = left_behind(done, &error);
        let failure = start_failure(&node, done, error.clone());
        let next =
            if done == 0 && others_may_do(&error) { Onward::Elsewhere } else { Onward::Here };
        if next == Onward::Elsewhere || left == Left::NobodyKnows {
            let is_first = self.failed_nodes.insert(node.clone());
            if is_first {
                machine::note_create(&node, done, &error);
            }
        }
        match left {
            Left::Nothing => self.onward(unit, failure, next),
            Left::MaybeAContainer => self.clean(unit, name, failure, next, false),
            Left::NobodyKnows => {
                machine::note_failure(&node, &error);
                self.abandon(unit, name);
                self.move_on(unit, failure)
            }
        }
    }

    /// An attempt is over, and what it left is gone.
    fn onward(&mut self, unit: usize, failure: Failure, next: Onward) -> Option<Sequence> {
        match next {
            Onward::Here => self.failed(unit, failure),
            Onward::Elsewhere => self.move_on(unit, failure),
        }
    }

    /// Tries a unit on another node, unless it is lost anyway.
    fn move_on(&mut self, unit: usize, failure: Failure) -> Option<Sequence> {
        if self.is_over() {
            self.failure.get_or_insert(failure);
            return None;
        }
        let record = &self.wanted.get(unit)?.record;
        if self.failed_nodes.len() < MOST_NODES
            && let Some(place) = self.placing.elsewhere(record, &self.failed_nodes)
        {
            operation::progress(&messages::elsewhere(&failure, &place.node));
            *self.places.get_mut(unit)? = place;
            return self.attempt(unit);
        }
        let most = self.failed_nodes.len() >= MOST_NODES;
        self.failure.get_or_insert(if most { too_many(failure) } else { failure });
        None
    }

    /// Writes down what may be left where a unit was attempted, so that it goes when its machine lets it.
    fn abandon(&self, unit: usize, name: String) {
        let Some(Wanted { record, .. }) = self.wanted.get(unit) else { return };
        let mut record = UnitRecord { name, node: self.node(unit), ..record.clone() };
        record.last_status_update = name::now();
        if let Err(error) = orphans::leave(&record) {
            let fields = [("unit", record.name.as_str()), ("error", &error.to_string())];
            log::warn("what may be left of a unit is not written down", &fields);
        }
    }

    /// Removes what an attempt left, before anything else happens to the unit.
    fn clean(
        &mut self,
        unit: usize,
        name: String,
        failure: Failure,
        next: Onward,
        forced: bool,
    ) -> Option<Sequence> {
        if failure.error == Error::Cancelled {
            operation::undoing();
        }
        let node = &self.node(unit);
        let sequence = if forced { only_remove(node, &name) } else { stop_and_remove(node, &name) };
        self.jobs.push(Some(Job::Clean { unit, name, failure, next, forced }));
        Some(sequence)
    }

    /// Forgets a container that is gone, should somebody have taken it for a unit meanwhile.
    fn forget(&self, unit: usize, name: String) {
        let Some(Wanted { record, .. }) = self.wanted.get(unit) else { return };
        let record = UnitRecord { name, ..record.clone() };
        if let Err(error) = records::remove(&record) {
            let fields = [("unit", record.name.as_str()), ("error", &error.to_string())];
            log::warn("the record of a unit that is gone stays", &fields);
        }
    }

    /// Whether no further attempt helps: another unit is lost already, or nobody wants them any more.
    fn is_over(&self) -> bool {
        self.failure.is_some() || operation::cancelled()
    }

    /// An attempt is over.
    fn failed(&mut self, unit: usize, failure: Failure) -> Option<Sequence> {
        if self.is_over() {
            self.failure.get_or_insert(failure);
            return None;
        }
        match self.attempts.get_mut(unit)?.failed(failure) {
            Next::Retry => self.attempt(unit),
            Next::GiveUp(failure) => {
                self.failure.get_or_insert(failure);
                None
            }
        }
    }
}

fn inspected(reply: &StepReply) -> Option<&Container> {
    match reply {
        StepReply::Container(container) => Some(container),
        StepReply::Done
        | StepReply::Id(_)
        | StepReply::Image(_)
        | StepReply::Exec(_)
        | StepReply::Bytes(_)
        | StepReply::Http(_)
        | StepReply::Containers(_) => None,
    }
}

/// The failure of an attempt whose first so many steps went well.
fn start_failure(node: &str, done: usize, error: EngineError) -> Failure {
    if done == 1 { Failure::start(node, error) } else { Failure::engine(node, error) }
}

/// What is told when the last of them failed.
pub(crate) fn too_many(failure: Failure) -> Failure {
    let tried = |text: &str| {
        format!("CreateContainer: maximum number of tries exceeded, last error: {text}")
    };
    Failure { line: tried(&failure.line), error: failure.error.map_text(tried), ..failure }
}

/// Whether a container may be there after an attempt whose first so many steps went well. A create that was refused made none.
fn left_behind(done: usize, error: &EngineError) -> Left {
    match error {
        EngineError::NotFound(_)
        | EngineError::Conflict(_)
        | EngineError::Invalid(_)
        | EngineError::Denied(_)
            if done == 0 =>
        {
            Left::Nothing
        }
        EngineError::Unreachable(_) | EngineError::TimedOut(_) => Left::NobodyKnows,
        EngineError::NotFound(_)
        | EngineError::Conflict(_)
        | EngineError::Invalid(_)
        | EngineError::Denied(_)
        | EngineError::Cancelled
        | EngineError::Failed(_) => Left::MaybeAContainer,
    }
}

/// The record of a unit that is there.
fn made(wanted: &Wanted, name: String, node: &str, container: &Container, now: i64) -> UnitRecord {
    let mut record = UnitRecord {
        id: container.id.clone(),
        name,
        host_addr: host_of(node),
        node: node.to_owned(),
        ..wanted.record.clone()
    };
    record.set_status(wanted.rests.unwrap_or(Status::Starting), now);
    record.is_new = true;
    set_network(&mut record, container);
    record
}

#[cfg(test)]
mod tests {
    use gantry_sdk::container::PortBinding;

    use super::*;

    #[test]
    fn only_a_start_that_fails_is_a_start_failure() {
        let fail = |done| start_failure("n", done, EngineError::Failed("x".to_owned()));
        assert_eq!(fail(0).line, r#"error in docker node "n": x"#);
        assert_eq!(fail(1).line, r#"error in start container: error in docker node "n": x"#);
        assert_eq!([0, 1, 2].map(|done| fail(done).is_start), [false, true, false]);
    }

    #[test]
    fn a_refused_create_leaves_nothing() {
        let refused = EngineError::Conflict("name in use".to_owned());
        let unknown = EngineError::TimedOut("too long".to_owned());
        assert_eq!(left_behind(0, &refused), Left::Nothing);
        assert_eq!(left_behind(0, &unknown), Left::NobodyKnows);
        assert_eq!(left_behind(1, &unknown), Left::NobodyKnows);
        assert_eq!(left_behind(0, &EngineError::Cancelled), Left::MaybeAContainer);
        assert_eq!(left_behind(1, &refused), Left::MaybeAContainer);
    }

    #[test]
    fn a_running_unit_is_written_down_with_what_the_engine_says() {
        let template = UnitRecord {
            app_name: "a".to_owned(),
            process_name: "web".to_owned(),
            exposed_port: "8888/tcp".to_owned(),
            ..UnitRecord::default()
        };
        let mut container = Container { id: "abc".to_owned(), ..Container::default() };
        container.network_settings.ports.insert(
            "8888/tcp".to_owned(),
            Some(vec![PortBinding {
                host_ip: "0.0.0.0".to_owned(),
                host_port: "32768".to_owned(),
            }]),
        );
        let wanted =
            |rests| Wanted { spec: ContainerSpec::default(), record: template.clone(), rests };
        let node = "tcp://10.0.0.1:2376";
        let record = made(&wanted(None), "a-1".to_owned(), node, &container, 7);
        assert_eq!((record.id.as_str(), record.name.as_str()), ("abc", "a-1"));
        assert_eq!(record.status, Some(Status::Starting));
        assert_eq!(record.status_before_error, Some(Status::Starting));
        assert_eq!(record.address().as_deref(), Some("http://10.0.0.1:32768"));
        assert_eq!((record.last_success_status_update, record.node.as_str()), (7, node));
        let record = made(&wanted(Some(Status::Stopped)), "a-1".to_owned(), node, &container, 7);
        assert_eq!(record.status, Some(Status::Stopped));
    }
}

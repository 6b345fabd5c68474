//! Starting new units, all at once (spec 5.3): create, start and inspect of one unit are one sequence, and what follows a unit's end does not wait for the others.
//!
//! ```text
//! create ► start ► inspect ──► running: written down, told
//!    │        └────fails──► stop ► remove ──► again, up to five times
//!    └─fails──► over (removed, if nobody knows what became of it)
//! ```

use gantry_sdk::container::{Container, ContainerSpec};
use gantry_sdk::containers::{Batch, EngineError, Sequence, Step, StepReply};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Error, Status, log, operation};

use crate::failure::{Attempts, Failure, Next};
use crate::node::{Node, set_network};
use crate::removal::{only_remove, stop_and_remove};
use crate::{messages, name, records, removal};

/// A unit to be started: what its container is made of and what its record says from the beginning.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The container.
    pub(crate) spec: ContainerSpec,
    /// The record, without what only the engine knows.
    pub(crate) record: UnitRecord,
}

impl Wanted {
    /// A unit of an app. The container says the rest.
    pub(crate) fn new(app: &App, spec: ContainerSpec, record: UnitRecord) -> Self {
        let record =
            UnitRecord { app_name: app.name.clone(), kind: app.platform.clone(), ..record };
        Self { spec, record }
    }
}

/// What a sequence of the batch is for.
enum Job {
    /// An attempt at starting a unit, under this name.
    Start { unit: usize, name: String },
    /// Removing what an attempt left.
    Clean { unit: usize, name: String, failure: Failure, forced: bool },
}

/// What an attempt that failed leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    MaybeAContainer,
}

/// Starts units. When one cannot be started, those that were are removed and the first failure is returned.
pub(crate) fn start(node: &Node, wanted: &[Wanted]) -> Result<Vec<UnitRecord>, Failure> {
    let mut launch = Launch {
        node,
        wanted,
        attempts: vec![Attempts::default(); wanted.len()],
        running: vec![None; wanted.len()],
        names: 0,
        jobs: Vec::new(),
        failure: None,
    };
    launch.run()?;
    let Launch { running, failure, .. } = launch;
    let running: Vec<UnitRecord> = running.into_iter().flatten().collect();
    let Some(failure) = failure else { return Ok(running) };
    // What cannot be removed is logged there, and keeps its record.
    let _ = removal::remove(node, &running, |_, _| {});
    Err(failure)
}

struct Launch<'a> {
    node: &'a Node,
    wanted: &'a [Wanted],
    attempts: Vec<Attempts>,
    running: Vec<Option<UnitRecord>>,
    names: usize,
    /// By the index of the batch's sequences.
    jobs: Vec<Option<Job>>,
    failure: Option<Failure>,
}

impl Launch<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let first = (0..self.wanted.len()).filter_map(|unit| self.attempt(unit)).collect();
        let mut batch = Batch::submit(first).map_err(|error| self.engine(error))?;
        while let Some(completion) = batch.next_ended() {
            let job = self.jobs.get_mut(completion.index).and_then(Option::take);
            let further = match job {
                Some(Job::Start { unit, name }) => match completion.failure {
                    None => self.started(unit, name, &completion.replies),
                    Some(error) => {
                        let failure = start_failure(
                            &self.node.address,
                            completion.replies.len(),
                            error.clone(),
                        );
                        match left_behind(completion.replies.len(), &error) {
                            Left::Nothing => self.failed(unit, failure),
                            Left::MaybeAContainer => self.clean(unit, name, failure, false),
                        }
                    }
                },
                Some(Job::Clean { unit, name, failure, forced }) => match completion.failure {
                    None | Some(EngineError::NotFound(_)) => {
                        self.forget(unit, name);
                        self.failed(unit, failure)
                    }
                    Some(_) if !forced => self.clean(unit, name, failure, true),
                    // The host removes what a failed operation leaves.
                    Some(_) => self.failed(unit, failure),
                },
                None => None,
            };
            if let Some(sequence) = further {
                batch.add(vec![sequence]).map_err(|error| self.engine(error))?;
            }
        }
        Ok(())
    }

    fn engine(&self, error: EngineError) -> Failure {
        Failure::engine(&self.node.address, error)
    }

    /// The next attempt at a unit.
    fn attempt(&mut self, unit: usize) -> Option<Sequence> {
        let Wanted { spec, record } = self.wanted.get(unit)?;
        let name = name::of_unit(&record.app_name, self.names);
        self.names += 1;
        let steps = vec![
            Step::Create { name: name.clone(), spec: Box::new(spec.clone()) },
            Step::Start(name.clone()),
            Step::Inspect(name.clone()),
        ];
        self.jobs.push(Some(Job::Start { unit, name }));
        Some(Sequence { node: self.node.address.clone(), steps })
    }

    /// A unit runs.
    fn started(&mut self, unit: usize, name: String, replies: &[StepReply]) -> Option<Sequence> {
        let wanted = self.wanted.get(unit)?;
        let Some(container) = replies.iter().find_map(inspected) else {
            let error = EngineError::Failed("no inspect in the answer".to_owned());
            let failure = self.engine(error);
            return self.clean(unit, name, failure, false);
        };
        let record = running(&wanted.record, name, &self.node.host, container, name::now());
        if let Err(error) = records::save(&record) {
            return self.clean(unit, record.name, error.into(), false);
        }
        operation::progress(&messages::started(&record));
        if let Some(place) = self.running.get_mut(unit) {
            *place = Some(record);
        }
        None
    }

    /// Removes what an attempt left, before anything else happens to the unit.
    fn clean(
        &mut self,
        unit: usize,
        name: String,
        failure: Failure,
        forced: bool,
    ) -> Option<Sequence> {
        if failure.error == Error::Cancelled {
            operation::undoing();
        }
        let node = &self.node.address;
        let sequence = if forced { only_remove(node, &name) } else { stop_and_remove(node, &name) };
        self.jobs.push(Some(Job::Clean { unit, name, failure, forced }));
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

    /// An attempt is over.
    fn failed(&mut self, unit: usize, failure: Failure) -> Option<Sequence> {
        // Another unit is lost already, or nobody wants them any more: no further attempt.
        if self.failure.is_some() || operation::cancelled() {
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
        | StepReply::Http(_) => None,
    }
}

/// The failure of an attempt whose first so many steps went well.
fn start_failure(node: &str, done: usize, error: EngineError) -> Failure {
    if done == 1 { Failure::start(node, error) } else { Failure::engine(node, error) }
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
        EngineError::NotFound(_)
        | EngineError::Conflict(_)
        | EngineError::Invalid(_)
        | EngineError::Denied(_)
        | EngineError::Unreachable(_)
        | EngineError::TimedOut(_)
        | EngineError::Cancelled
        | EngineError::Failed(_) => Left::MaybeAContainer,
    }
}

/// The record of a unit that runs.
fn running(
    template: &UnitRecord,
    name: String,
    host: &str,
    container: &Container,
    now: i64,
) -> UnitRecord {
    let mut record = UnitRecord {
        id: container.id.clone(),
        name,
        host_addr: host.to_owned(),
        ..template.clone()
    };
    record.set_status(Status::Starting, now);
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
        assert_eq!(left_behind(0, &unknown), Left::MaybeAContainer);
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
        let record = running(&template, "a-1".to_owned(), "10.0.0.1", &container, 7);
        assert_eq!((record.id.as_str(), record.name.as_str()), ("abc", "a-1"));
        assert_eq!(record.status, Some(Status::Starting));
        assert_eq!(record.status_before_error, Some(Status::Starting));
        assert_eq!(record.address().as_deref(), Some("http://10.0.0.1:32768"));
        assert_eq!(record.last_success_status_update, 7);
    }
}

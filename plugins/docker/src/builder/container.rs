//! The container of a build: started, kept running while commands run in it, and removed whatever happens.

use gantry_sdk::container::{Container, ContainerSpec};
use gantry_sdk::containers::{ExecOptions, Step, StepReply};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Error, Status, operation};

use crate::failure::{Attempts, Failure, Next};
use crate::host::{Host, set_network, strange};
use crate::machine::{self, is_of_machine};
use crate::placing::{self, NotDone};
use crate::{exec, image, limits, name};

type Result<T, E = Failure> = std::result::Result<T, E>;

/// Who may do everything in a container.
pub(super) const ROOT: &str = "0";

/// What the process of the container does: it waits for its end, and ends when it is asked to.
pub(super) fn waits() -> Vec<String> {
    ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 86400 & wait"].map(str::to_owned).into()
}

/// Starts the container of a build: on this host, or on another one when it cannot. One that does not start gets further attempts (spec 5.2), each under a name of its own.
pub(super) fn start(
    app: &App,
    host: &mut Host,
    record: &mut UnitRecord,
    spec: &ContainerSpec,
) -> Result<()> {
    let first = Host::open(&host.address)?;
    let (there, ()) = placing::on_one(app, first, |host| {
        image::ensure(host, &record.image)?;
        start_on(host, record, spec)
    })?;
    *host = there;
    Ok(())
}

fn start_on(host: &Host, record: &mut UnitRecord, spec: &ContainerSpec) -> Result<(), NotDone> {
    record.host_addr.clone_from(&host.name);
    record.node.clone_from(&host.address);
    let mut attempts = Attempts::default();
    let mut number = 0_usize;
    loop {
        record.name = name::of_unit(&record.app_name, number);
        record.set_status(Status::Building, name::now());
        let failure = match started(host, &record.name, spec) {
            Ok(container) => {
                record.id.clone_from(&container.id);
                set_network(record, &container);
                return Ok(());
            }
            Err(failure) => failure,
        };
        // An answer that did not come may hide a container.
        host.discard(&record.name);
        let NotDone::Other(failure) = failure else { return Err(failure) };
        match attempts.failed(failure) {
            Next::Retry if operation::cancelled() => return Err(Failure::cancelled().into()),
            Next::Retry => number = number.saturating_add(1),
            Next::GiveUp(failure) => return Err(failure.into()),
        }
    }
}

fn started(host: &Host, name: &str, spec: &ContainerSpec) -> Result<Container, NotDone> {
    let steps = vec![
        Step::Create { name: name.to_owned(), spec: Box::new(spec.clone()) },
        Step::Start(name.to_owned()),
        Step::Inspect(name.to_owned()),
    ];
    let ended = limits::run(limits::sequence(&host.address, steps))?;
    let node = &host.address;
    match (ended.failure, ended.replies.len()) {
        (Some(error), done) if done == 0 || is_of_machine(&error) => {
            machine::note_create(node, done, &error);
            Err(error.into())
        }
        (Some(error), 1) => Err(Failure::start(node, error).into()),
        (Some(error), _) => Err(Failure::engine(node, error).into()),
        (None, _) => match ended.replies.into_iter().next_back() {
            Some(StepReply::Container(container)) => Ok(*container),
            other => Err(strange(other.as_ref()).into()),
        },
    }
}

/// A command in the container.
pub(super) struct Command<'a> {
    /// The program and its arguments.
    pub(super) words: Vec<String>,
    /// Who runs it; the container's user when empty.
    pub(super) user: &'a str,
    /// Where; in the container's folder when empty.
    pub(super) folder: &'a str,
}

impl<'a> Command<'a> {
    /// A line for the shell, as its login shell reads it.
    pub(super) fn line(line: &str) -> Self {
        let words = ["/bin/sh", "-lc", line].map(str::to_owned).into();
        Self { words, user: "", folder: "" }
    }

    /// The same, run by somebody.
    pub(super) fn by(self, user: &'a str) -> Self {
        Self { user, ..self }
    }

    /// The same, somewhere.
    pub(super) fn within(self, folder: &'a str) -> Self {
        Self { folder, ..self }
    }

    /// Runs it to its end, shows what it says, and gives its exit code.
    pub(super) fn run(self, host: &Host, container: &str) -> Result<i32> {
        let options = ExecOptions {
            command: self.words,
            env: Vec::new(),
            user: self.user.to_owned(),
            working_dir: self.folder.to_owned(),
            tty: false,
            stdin: false,
        };
        let engine = |error| Failure::engine(&host.address, error);
        let client = &host.client;
        let exec = client.create_exec(container, &options).map_err(engine)?;
        let (stdout, stderr) = (operation::output(), operation::output());
        client.start_exec(&exec, &stdout, &stderr).map_err(engine)?;
        let code = exec::code_of(client, &exec)?;
        code.ok_or_else(|| Error::Other("nobody knows how a command ended".to_owned()).into())
    }
}

//! The container of a build: started, kept running while commands run in it, and removed whatever happens.

use gantry_sdk::container::{Container, ContainerSpec};
use gantry_sdk::containers::{Batch, EngineError, ExecOptions, Step, StepReply};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{Error, Status, log, operation};

use crate::exec;
use crate::failure::{Attempts, Failure, Next};
use crate::host::{Host, set_network};
use crate::{limits, name};

type Result<T> = std::result::Result<T, Failure>;

/// Who may do everything in a container.
pub(super) const ROOT: &str = "0";

/// What the process of the container does: it waits for its end, and ends when it is asked to.
pub(super) fn waits() -> Vec<String> {
    ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 86400 & wait"].map(str::to_owned).into()
}

/// Starts the container of a build. One that does not start gets further attempts (spec 5.2), each under a name of its own.
pub(super) fn start(host: &Host, record: &mut UnitRecord, spec: &ContainerSpec) -> Result<()> {
    let mut attempts = Attempts::default();
    let mut number = 0_usize;
    loop {
        record.name = name::of_unit(&record.app_name, number);
        record.set_status(Status::Building, name::now());
        match started(host, &record.name, spec) {
            Ok(container) => {
                record.id.clone_from(&container.id);
                set_network(record, &container);
                return Ok(());
            }
            Err(failure) => {
                if failure.error == Error::Cancelled {
                    operation::undoing();
                }
                // An answer that did not come may hide a container.
                remove(host, &record.name);
                match attempts.failed(failure) {
                    Next::Retry if operation::cancelled() => return Err(Failure::cancelled()),
                    Next::Retry => number = number.saturating_add(1),
                    Next::GiveUp(failure) => return Err(failure),
                }
            }
        }
    }
}

fn started(host: &Host, name: &str, spec: &ContainerSpec) -> Result<Container> {
    let steps = vec![
        Step::Create { name: name.to_owned(), spec: Box::new(spec.clone()) },
        Step::Start(name.to_owned()),
        Step::Inspect(name.to_owned()),
    ];
    let batch = Batch::submit(vec![limits::sequence(&host.address, steps)]);
    let engine = |error| Failure::engine(&host.address, error);
    let ended = batch.map_err(engine)?.all().pop();
    let ended = ended.ok_or_else(|| engine(EngineError::Failed("no answer".to_owned())))?;
    if let Some(error) = ended.failure {
        let is_start = ended.replies.len() == 1;
        let failure = if is_start { Failure::start } else { Failure::engine };
        return Err(failure(&host.address, error));
    }
    let Some(StepReply::Container(container)) = ended.replies.into_iter().next_back() else {
        return Err(engine(EngineError::Failed("no inspect in the answer".to_owned())));
    };
    Ok(*container)
}

/// Looks into a container of an image, which is never started and is removed whatever happens.
pub(super) fn look<T>(
    host: &Host,
    image: &str,
    app: &str,
    look: impl FnOnce(&str) -> Result<T>,
) -> Result<T> {
    let name = name::of_isolated_run(app);
    let spec = ContainerSpec {
        image: image.to_owned(),
        // An image without a command makes no container; this one is never run.
        cmd: Some(vec!["-".to_owned()]),
        ..ContainerSpec::default()
    };
    let made = host.client.create_container(&name, &spec);
    let result = match made {
        Ok(id) => look(&id),
        Err(error) => Err(Failure::engine(&host.address, error)),
    };
    if result.is_err() {
        operation::undoing();
    }
    remove(host, &name);
    result
}

/// Removes a container by force, if it is there. Nobody else will, so a call that fails is made once more.
pub(super) fn remove(host: &Host, container: &str) {
    let gone = || match host.client.remove_container(container, true) {
        Ok(()) | Err(EngineError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = gone().or_else(|_| gone()) {
        let fields = [("container", container), ("error", &error.to_string())];
        log::error("the container of a build stays", &fields);
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

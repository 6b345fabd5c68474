//! `containers.submit`: sequences of engine calls side by side. Each step goes down the chain on its own; a batch only decides what runs when.
//!
//! A step that goes over a bound ends the whole wasm call, also while the guest waits for something else. When the request is interrupted, no further step begins: what is
//! short ends, what waits returns, and so does the guest's wait for the next.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use gantry_engine::call::{ContainerSummary, ContainersCall};
use gantry_engine::stream::{Output, Stream};
use gantry_engine::{Call, EngineError, Error, OverLimit, Reply, Request};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wasmtime::component::Resource;

use crate::bindings::gantry::provision::containers::{
    Completion, EngineError as Refused, ExecEnd, HostBatch, Sequence, Step, StepReply,
};
use crate::bounds::{Bound, Bounds};
use crate::call::{CallState, Outside, Watch};
use crate::convert::{
    engine_error_to, exec_options_from, http_request_from, http_response_to, list_from, summary_to,
};
use crate::host::containers::{ADDRESS, TOO_LONG, create_call, document};
use crate::host::limiter::{self, NoPlace};
use crate::host::reply::{self, Take};
use crate::host::streams::{Held, Holding};
use crate::host::{self, StrangeReply};
use crate::limiter::{ACTION, Slot};

/// What a command's output is cut after.
const OUTPUT: usize = 64 << 10;
/// What the archive of a file may have.
const ARCHIVE: u64 = 1 << 20;

/// Sequences under way.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Batch {
    tasks: JoinSet<Ended>,
    next: u32,
    shared: Arc<Beside>,
}

/// What the sequences of a batch share.
struct Beside {
    outside: Arc<Outside>,
    watch: Arc<Watch>,
    held: Arc<Held>,
    /// Steps at the same time: one fewer than there may be host calls, so that the guest always has one.
    slots: Semaphore,
    /// The batch was dropped: no further step begins.
    dropped: CancellationToken,
}

/// A sequence that has ended, with the room its replies and its failure take until the guest takes them.
struct Ended {
    completion: Completion,
    holding: Vec<Holding>,
}

impl Ended {
    /// What one takes without its texts.
    const BYTES: u64 = 256;
}

/// Where the calls of a sequence go, and how.
struct Terms {
    node: String,
    /// What each has, unless it waits for something.
    time: Option<Duration>,
    /// The action of the limiter that takes a place.
    action: Option<String>,
}

/// Why a sequence ended early.
enum Stop {
    /// Its step failed; the guest is told.
    Failed(Error),
    /// The wasm call must end.
    Doom(OverLimit),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::OverLimit(over) => Self::Doom(over),
            Error::Engine(_) | Error::Platform(_) => Self::Failed(error),
        }
    }
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Self::Failed(error.into())
    }
}

impl Batch {
    pub(crate) fn new(
        outside: Arc<Outside>,
        watch: &Arc<Watch>,
        held: &Arc<Held>,
        bounds: &Bounds,
    ) -> Self {
        let slots = bounds.get(Bound::HostCallsInFlight).saturating_sub(1).max(1);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            tasks: JoinSet::new(),
            next: 0,
            shared: Arc::new(Beside {
                outside,
                watch: Arc::clone(watch),
                held: Arc::clone(held),
                slots: Semaphore::new(slots),
                dropped: CancellationToken::new(),
            }),
        }
    }

    pub(crate) fn add(&mut self, sequences: Vec<Sequence>) -> Result<(), OverLimit> {
        for sequence in sequences {
            // A sequence costs the host a task: it counts as a host call, also when it has no step.
            self.shared.outside.scope.meter.charge(0)?;
            let holding = self.shared.held.hold(weight(&sequence))?;
            let index = self.next;
            self.next = self.next.saturating_add(1);
            let shared = Arc::clone(&self.shared);
            let beside = self.shared.outside.beside.clone();
            self.tasks.spawn(beside.track_future(async move {
                let ended = shared.run(index, sequence).await;
                drop(holding);
                ended
            }));
        }
        Ok(())
    }
}

impl Beside {
    async fn run(&self, index: u32, sequence: Sequence) -> Ended {
        let mut ended = Ended {
            completion: Completion { index, replies: Vec::new(), failure: None },
            holding: Vec::new(),
        };
        match self.steps(sequence, &mut ended).await {
            Ok(()) => {}
            Err(Stop::Failed(error)) => {
                let error = engine_error_to(error);
                let bytes = u64::try_from(error_text(&error).len()).unwrap_or(u64::MAX);
                ended.completion.failure = Some(error);
                match self.held.hold(bytes) {
                    Ok(held) => ended.holding.push(held),
                    Err(over) => self.watch.doom(over),
                }
            }
            Err(Stop::Doom(over)) => self.watch.doom(over),
        }
        ended
    }

    async fn steps(&self, sequence: Sequence, ended: &mut Ended) -> Result<(), Stop> {
        ended.holding.push(self.held.hold(Ended::BYTES).map_err(Stop::Doom)?);
        let Sequence { node, steps, timeout, action } = sequence;
        if node.len() > ADDRESS {
            return Err(EngineError::Invalid(TOO_LONG.to_owned()).into());
        }
        if action.as_ref().is_some_and(|action| action.len() > ACTION) {
            return Err(EngineError::Invalid(NoPlace::too_long()).into());
        }
        let time = (timeout > 0).then(|| Duration::from_millis(u64::from(timeout)));
        let terms = Terms { node, time, action };
        for step in steps {
            if self.dropped.is_cancelled() {
                break;
            }
            if self.outside.scope.operation.interrupted() {
                return Err(EngineError::Cancelled.into());
            }
            let (reply, held) = self.step(&terms, step).await?;
            ended.completion.replies.push(reply);
            ended.holding.extend(held);
        }
        Ok(())
    }

    async fn step(&self, terms: &Terms, step: Step) -> Result<(StepReply, Option<Holding>), Stop> {
        let (reply, bytes) = match step {
            Step::PullImage(image) => self.done(terms, ContainersCall::PullImage { image }).await?,
            Step::Create(options) => {
                let id = self.value(terms, create_call(options)?, reply::text).await?;
                let bytes = id.len();
                (StepReply::Id(id), bytes)
            }
            Step::Start(id) => self.done(terms, ContainersCall::Start { id }).await?,
            Step::Stop((id, seconds)) => {
                self.done(terms, ContainersCall::Stop { id, seconds }).await?
            }
            Step::Remove(id) => {
                self.done(terms, ContainersCall::Remove { id, force: true }).await?
            }
            Step::Inspect(id) => {
                self.document(terms, ContainersCall::Inspect { id }, reply::container).await?
            }
            Step::InspectImage(image) => {
                self.document(terms, ContainersCall::InspectImage { image }, reply::image).await?
            }
            Step::RemoveImage(image) => {
                self.done(terms, ContainersCall::RemoveImage { image }).await?
            }
            Step::Exec((id, options)) => {
                let options = exec_options_from(options);
                let create = ContainersCall::CreateExec { id, options };
                let end = self.exec(terms, create).await?;
                let bytes = end.output.len();
                (StepReply::Exec(end), bytes)
            }
            Step::Download((id, path)) => {
                let bytes = self.download(terms, ContainersCall::Download { id, path }).await?;
                let length = bytes.len();
                (StepReply::Bytes(bytes), length)
            }
            Step::Http((id, request)) => {
                let call = ContainersCall::Http { id, request: http_request_from(request) };
                let answer = self.value(terms, call, reply::http).await?;
                let bytes = answer.body.len();
                (StepReply::Http(http_response_to(answer)), bytes)
            }
            Step::List(options) => {
                let all = self.value(terms, list_from(options), reply::containers).await?;
                let bytes = all.iter().map(summary_bytes).fold(0, usize::saturating_add);
                (StepReply::Containers(all.into_iter().map(summary_to).collect()), bytes)
            }
            Step::Pause(milliseconds) => {
                self.pause(milliseconds).await?;
                (StepReply::Done, 0)
            }
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let held = match bytes {
            0 => None,
            bytes => Some(self.held.hold(bytes).map_err(Stop::Doom)?),
        };
        Ok((reply, held))
    }

    async fn send(
        &self,
        terms: &Terms,
        call: ContainersCall,
        output: Option<Output>,
    ) -> Result<(Reply, Option<Stream>), Stop> {
        // Whoever waits for a place of the limiter takes none of the batch's from the others.
        let _place = self.place(terms, &call).await?;
        let slot = self.turn(self.slots.acquire()).await?;
        let Ok(_slot) = slot else {
            return Err(EngineError::Cancelled.into());
        };
        let _working = self.watch.work();
        let time = terms.time.filter(|_| !call.waits());
        let asked = call.name();
        let call = Call::Containers { node: terms.node.clone(), call };
        let request = Request::new(call, None, output);
        let sent = self.outside.chain.send(&self.outside.scope, request);
        let response = host::in_time(time, asked, sent).await??;
        Ok((response.reply, response.stream))
    }

    /// Waits for a place of the limiter, if the call needs one.
    async fn place(&self, terms: &Terms, call: &ContainersCall) -> Result<Option<Slot>, Stop> {
        let Some(action) = terms.action.as_deref().filter(|_| changes_what_runs(call)) else {
            return Ok(None);
        };
        // Others hold the places: whoever waits for one is not idle.
        let _working = self.watch.work();
        match self.turn(limiter::place(&self.outside, action)).await? {
            Ok(slot) => Ok(Some(slot)),
            Err(NoPlace::TooLong) => Err(EngineError::Invalid(NoPlace::too_long()).into()),
            Err(NoPlace::Cancelled) => Err(EngineError::Cancelled.into()),
        }
    }

    /// Waits for something that has no end of its own.
    async fn uninterrupted<T>(&self, wait: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            ended = wait => Ok(ended),
            () = self.outside.scope.operation.interruption() => Err(EngineError::Cancelled.into()),
        }
    }

    /// The same before a step begins, which none does in a batch that was dropped.
    async fn turn<T>(&self, wait: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            () = self.dropped.cancelled() => Err(EngineError::Cancelled.into()),
            ended = self.uninterrupted(wait) => ended,
        }
    }

    async fn value<T>(
        &self,
        terms: &Terms,
        call: ContainersCall,
        take: Take<T>,
    ) -> Result<T, Stop> {
        let asked = call.name();
        let (reply, _) = self.send(terms, call, None).await?;
        take(reply).map_err(|reply| strange(asked, &reply))
    }

    async fn done(&self, terms: &Terms, call: ContainersCall) -> Result<(StepReply, usize), Stop> {
        self.value(terms, call, reply::done).await?;
        Ok((StepReply::Done, 0))
    }

    async fn document<T: Serialize>(
        &self,
        terms: &Terms,
        call: ContainersCall,
        take: Take<T>,
    ) -> Result<(StepReply, usize), Stop> {
        let value = self.value(terms, call, take).await?;
        let text = document(&value).map_err(|error| EngineError::Failed(error.to_string()))?;
        let bytes = text.len();
        Ok((StepReply::Document(text), bytes))
    }

    async fn exec(&self, terms: &Terms, create: ContainersCall) -> Result<ExecEnd, Stop> {
        let exec_id = self.value(terms, create, reply::text).await?;
        let written = Cut::default();
        let output =
            Output { stdout: Box::pin(written.clone()), stderr: Box::pin(written.clone()) };
        let start = ContainersCall::StartExec { exec_id: exec_id.clone() };
        self.send(terms, start, Some(output)).await?;
        let inspect = ContainersCall::InspectExec { exec_id };
        match self.value(terms, inspect, reply::exec_state).await?.exit_code {
            Some(exit_code) => Ok(ExecEnd { exit_code, output: written.take() }),
            None => {
                let text = "nobody knows the exit code of a command that has ended";
                Err(EngineError::Failed(text.to_owned()).into())
            }
        }
    }

    async fn download(&self, terms: &Terms, call: ContainersCall) -> Result<Vec<u8>, Stop> {
        match self.send(terms, call, None).await? {
            (_, Some(Stream::Reader(reader))) => {
                let mut bytes = Vec::new();
                let mut reader = reader.take(ARCHIVE + 1);
                let read = self.uninterrupted(reader.read_to_end(&mut bytes)).await?;
                read.map_err(|error| EngineError::Failed(error.to_string()))?;
                if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > ARCHIVE {
                    let text = format!("the archive has more than {ARCHIVE} bytes");
                    return Err(EngineError::Invalid(text).into());
                }
                Ok(bytes)
            }
            (other, _) => Err(strange("containers.download", &other)),
        }
    }

    async fn pause(&self, milliseconds: u32) -> Result<(), Stop> {
        self.outside.scope.meter.charge(0).map_err(Stop::Doom)?;
        self.turn(tokio::time::sleep(Duration::from_millis(u64::from(milliseconds)))).await
    }
}

/// Whether it is one of the engine actions that the limiter is for.
fn changes_what_runs(call: &ContainersCall) -> bool {
    matches!(
        call,
        ContainersCall::Create { .. }
            | ContainersCall::Start { .. }
            | ContainersCall::Stop { .. }
            | ContainersCall::Remove { .. }
    )
}

/// The bytes that a sequence takes while it waits, near enough for a bound.
fn weight(sequence: &Sequence) -> u64 {
    let steps = sequence.steps.iter().map(|step| {
        let texts = match step {
            Step::PullImage(text)
            | Step::Start(text)
            | Step::Remove(text)
            | Step::Inspect(text)
            | Step::InspectImage(text)
            | Step::RemoveImage(text)
            | Step::Stop((text, _)) => text.len(),
            Step::Create(options) => options.name.len().saturating_add(options.body.len()),
            Step::Download((id, path)) => id.len().saturating_add(path.len()),
            Step::Http((id, request)) => {
                [id, &request.method, &request.scheme, &request.path, &request.port]
                    .into_iter()
                    .map(|text| kept(text))
                    .sum()
            }
            Step::Exec((id, options)) => {
                let env = options.env.iter().flat_map(|(name, value)| [name, value]);
                [id, &options.user, &options.working_dir]
                    .into_iter()
                    .chain(&options.command)
                    .chain(env)
                    .map(|text| kept(text))
                    .sum()
            }
            Step::List(options) => {
                let labels = options.labels.iter().flat_map(|(name, value)| [name, value]);
                labels.chain(options.label_keys.iter().flatten()).map(|text| kept(text)).sum()
            }
            Step::Pause(_) => 0,
        };
        texts.saturating_add(size_of::<Step>())
    });
    let action = sequence.action.as_ref().map_or(0, String::len);
    let bytes = steps.fold(sequence.node.len().saturating_add(action), usize::saturating_add);
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The bytes that the host keeps of one of many texts, which may be empty.
fn kept(text: &str) -> usize {
    text.len().saturating_add(size_of::<String>())
}

/// The bytes that a container of a list takes, near enough for a bound.
fn summary_bytes(summary: &ContainerSummary) -> usize {
    let ContainerSummary { id, name, image, state, labels } = summary;
    let texts = [id, name, image, state].into_iter();
    let texts = texts.chain(labels.iter().flat_map(|(name, value)| [name, value]));
    texts.map(String::len).sum::<usize>().saturating_add(size_of::<ContainerSummary>())
}

fn error_text(error: &Refused) -> &str {
    match error {
        Refused::NotFound(text)
        | Refused::Conflict(text)
        | Refused::Invalid(text)
        | Refused::Denied(text)
        | Refused::Unreachable(text)
        | Refused::TimedOut(text)
        | Refused::Failed(text) => text,
        Refused::Cancelled => "",
    }
}

fn strange(asked: &str, reply: &Reply) -> Stop {
    EngineError::Failed(format!("the host's fault: {}", StrangeReply::new(asked, reply))).into()
}

/// Keeps the first bytes that are written to it and takes the others to no place.
#[derive(Clone, Default)]
struct Cut(Arc<Mutex<Vec<u8>>>);

impl Cut {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = OUTPUT.saturating_sub(kept.len()).min(bytes.len());
        kept.extend(bytes.iter().take(room));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl HostBatch for CallState {
    async fn add(
        &mut self,
        batch: Resource<Batch>,
        sequences: Vec<Sequence>,
    ) -> wasmtime::Result<()> {
        self.charge(0)?;
        self.table.get_mut(&batch)?.add(sequences).map_err(wasmtime::Error::new)
    }

    async fn next(&mut self, batch: Resource<Batch>) -> wasmtime::Result<Option<Completion>> {
        self.charge(0)?;
        match self.table.get_mut(&batch)?.tasks.join_next().await {
            None => Ok(None),
            // A sequence that went over a bound has not ended well, and its guest learns nothing more.
            Some(Ok(_)) if let Some(over) = self.watch.doomed() => {
                Err(wasmtime::Error::new(over.clone()))
            }
            Some(Ok(ended)) => Ok(Some(ended.completion)),
            Some(Err(gone)) => Err(wasmtime::Error::new(gone)),
        }
    }

    async fn drop(&mut self, batch: Resource<Batch>) -> wasmtime::Result<()> {
        let mut batch = self.table.delete(batch)?;
        batch.shared.dropped.cancel();
        // What is under way ends: an effect that is dropped half-way may or may not have happened.
        while batch.tasks.join_next().await.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::gantry::provision::containers::{ExecOptions, ListOptions};

    #[test]
    fn an_empty_text_weighs_what_the_host_keeps_of_it() {
        let texts = || vec![String::new(); 1_000];
        let pairs = || vec![(String::new(), String::new()); 500];
        let list = |labels, label_keys| Step::List(ListOptions { all: true, labels, label_keys });
        let exec = |command, env| {
            let (user, working_dir) = (String::new(), String::new());
            let options = ExecOptions { command, env, user, working_dir, tty: false, stdin: false };
            Step::Exec((String::new(), options))
        };
        let steps = [
            list(Vec::new(), Some(texts())),
            list(pairs(), None),
            exec(texts(), Vec::new()),
            exec(Vec::new(), pairs()),
        ];
        let kept = u64::try_from(1_000 * size_of::<String>()).unwrap();
        for step in steps {
            let steps = vec![step];
            let sequence = Sequence { node: String::new(), steps, timeout: 0, action: None };
            let bytes = weight(&sequence);
            assert!(bytes >= kept, "{bytes} of {kept}: {sequence:?}");
        }
    }
}

//! Copies what a container writes until the container has ended.
//!
//! An engine ends an attached stream when the container ends, but not when the container had ended before somebody attached, and not when the connection is lost on the way. So
//! the container is looked at now and then; once it has ended, what the stream did not bring is read from the log.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::call::LogOptions;
use crate::stream::{Chunk, Output, Reader, Session, Source, Writer};
use crate::{Containers, EngineError};

/// How soon a container that ended before somebody attached is noticed, and how often one is looked at.
const FIRST_LOOK: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_secs(1);
/// How long the stream of an ended container is silent before nothing more is expected of it.
const QUIET: Duration = Duration::from_millis(500);

/// What was copied of each stream, and where to.
struct Copied {
    output: Output,
    stdout: usize,
    stderr: usize,
}

impl Copied {
    /// Copies a chunk, but for its first `skip` bytes; false when nobody reads any more.
    async fn write(&mut self, chunk: &Chunk, skip: usize) -> bool {
        let bytes = chunk.bytes.get(skip..).unwrap_or_default();
        let (writer, count) = match chunk.source {
            Source::Stdout => (&mut self.output.stdout, &mut self.stdout),
            Source::Stderr => (&mut self.output.stderr, &mut self.stderr),
        };
        *count += bytes.len();
        writer.write_all(bytes).await.is_ok() && writer.flush().await.is_ok()
    }

    fn count(&self, source: Source) -> usize {
        match source {
            Source::Stdout => self.stdout,
            Source::Stderr => self.stderr,
        }
    }
}

/// Copies what a container writes until it has ended; with `logs`, what it wrote before comes first.
pub(crate) async fn container(
    engine: &dyn Containers,
    id: &str,
    logs: bool,
    output: Output,
) -> Result<(), EngineError> {
    let mut session = engine.attach(id, logs).await?;
    let mut copied = Copied { output, stdout: 0, stderr: 0 };
    let mut look = interval_at(Instant::now() + FIRST_LOOK, LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let its_log = loop {
        tokio::select! {
            chunk = session.chunks.next() => match chunk {
                Some(chunk) => {
                    if !copied.write(&chunk?, 0).await {
                        return Ok(());
                    }
                }
                None => return Ok(()),
            },
            _ = look.tick() => {
                match has_ended(engine, id).await {
                    Ok(true) => break logs,
                    Ok(false) => {}
                    // With the container its log is gone: the stream is all there is.
                    Err(EngineError::NotFound(_)) => break false,
                    Err(error) => return Err(error),
                }
            }
        }
    };
    // What was on its way when the container ended.
    while let Ok(chunk) = timeout(QUIET, session.chunks.next()).await {
        match chunk {
            Some(chunk) => {
                if !copied.write(&chunk?, 0).await {
                    return Ok(());
                }
            }
            None => return Ok(()),
        }
    }
    if its_log { rest(engine, id, copied).await } else { Ok(()) }
}

/// Copies what a session says until it ends, gives it what there is to read meanwhile, and tells how its command ended, if it is one of a command.
pub(crate) async fn session(
    mut session: Session,
    input: Option<Reader>,
    output: Output,
) -> Result<Option<i32>, EngineError> {
    let writer = session.input.take();
    let read = copy(&mut session.chunks, output);
    let write = async {
        if let (Some(mut input), Some(mut writer)) = (input, writer) {
            // A process that ends without reading all of it is no failure.
            let _ = tokio::io::copy(&mut input, &mut writer).await;
            let _ = writer.shutdown().await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        read = read => read?,
        () = write => {}
    }
    match session.exit.take() {
        Some(exit) => exit.await.map(Some),
        None => Ok(None),
    }
}

/// Copies what a command writes to the two ends. An end that has gone is not an error: the rest is read and dropped, so that the command can end.
pub(crate) async fn copy(
    chunks: &mut BoxStream<'static, Result<Chunk, EngineError>>,
    output: Output,
) -> Result<(), EngineError> {
    let (mut stdout, mut stderr) = (Some(output.stdout), Some(output.stderr));
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        let end = match chunk.source {
            Source::Stdout => &mut stdout,
            Source::Stderr => &mut stderr,
        };
        put(end, &chunk.bytes).await;
    }
    Ok(())
}

/// Writes to an end that is still there.
pub(crate) async fn put(end: &mut Option<Writer>, bytes: &[u8]) {
    if let Some(writer) = end
        && (writer.write_all(bytes).await.is_err() || writer.flush().await.is_err())
    {
        *end = None;
    }
}

async fn has_ended(engine: &dyn Containers, id: &str) -> Result<bool, EngineError> {
    let state = engine.inspect(id).await?.state;
    Ok(matches!(state.status.as_str(), "exited" | "dead" | "removing"))
}

/// Copies what the log of an ended container has beyond what was copied already.
async fn rest(engine: &dyn Containers, id: &str, mut copied: Copied) -> Result<(), EngineError> {
    let all = LogOptions { lines: u32::MAX, follow: false, timestamps: false };
    let mut log = engine.logs(id, &all).await?;
    let (mut stdout, mut stderr) = (copied.count(Source::Stdout), copied.count(Source::Stderr));
    while let Some(chunk) = log.chunks.next().await {
        let chunk = chunk?;
        let known = match chunk.source {
            Source::Stdout => &mut stdout,
            Source::Stderr => &mut stderr,
        };
        let skip = chunk.bytes.len().min(*known);
        *known -= skip;
        if !copied.write(&chunk, skip).await {
            break;
        }
    }
    Ok(())
}

//! What fills a tail: the lines of its units, each end of each by itself.

use std::collections::VecDeque;
use std::sync::Weak;

use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{Stream, StreamExt};
use gantry_engine::stream::{Session, Source};
use gantry_runtime::LogSource;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::follow::{Follow, Open};
use super::{LogEvent, OrProblem, Tail};
use crate::api::LogLine;

/// How many bytes a line has at most; a longer one becomes several.
pub(super) const LONGEST_LINE: usize = 16 << 10;

/// What comes of the log of a unit.
enum News {
    Line(Lines),
    /// It has ended; with the unit's id.
    Ended(String),
}

/// The logs that are read.
#[derive(Default)]
struct Read {
    lines: SelectAll<BoxStream<'static, News>>,
    /// The units that they are of. Shared with who looks for others.
    open: Open,
}

impl Read {
    fn join(&mut self, sources: Vec<LogSource>) {
        for source in sources {
            self.open.lock().insert(source.unit.clone());
            let ended = futures_util::stream::iter([News::Ended(source.unit.clone())]);
            let of_unit = split(source.unit, source.process, source.lines).map(News::Line);
            self.lines.push(of_unit.chain(ended).boxed());
        }
    }
}

/// Reads the sessions and fills the ring, as far as the reader lets it.
pub(super) async fn pump(
    tail: Weak<Tail>,
    title: String,
    sources: Vec<LogSource>,
    follow: Option<Follow>,
) {
    let mut read = Read::default();
    read.join(sources);
    // It looks by itself: a reader that stands still must not hold a question up.
    let (found, mut joining) = mpsc::channel(1);
    let _looking = follow.map(|follow| {
        AbortOnDropHandle::new(tokio::spawn(follow.look_on(read.open.clone(), found)))
    });
    loop {
        let news = tokio::select! {
            Some(news) = read.lines.next() => news,
            Some(sources) = joining.recv() => {
                read.join(sources);
                continue;
            }
            else => break,
        };
        let event = match news {
            News::Ended(unit) => {
                read.open.lock().remove(&unit);
                continue;
            }
            News::Line(Ok(line)) => LogEvent::Line(line),
            News::Line(Err(error)) => {
                let problem = Err::<(), _>(error).or_problem(|| title.clone());
                problem
                    .map_or_else(|problem| LogEvent::Problem(Box::new(problem)), |()| LogEvent::End)
            }
        };
        let last = !matches!(event, LogEvent::Line(_));
        if !push(&tail, event).await || last {
            return;
        }
    }
    push(&tail, LogEvent::End).await;
}

/// Puts an event into the ring once there is room. False when the tail is gone: nobody but its readers keeps it.
async fn push(tail: &Weak<Tail>, event: LogEvent) -> bool {
    let Some(mut news) = tail.upgrade().map(|tail| tail.news.subscribe()) else { return false };
    loop {
        news.borrow_and_update();
        match tail.upgrade() {
            None => return false,
            Some(tail) if tail.has_room() => {
                tail.push(event);
                return true;
            }
            Some(_) => {}
        }
        if news.changed().await.is_err() {
            return false;
        }
    }
}

type Lines = std::result::Result<LogLine, gantry_engine::EngineError>;

/// The lines of a unit, each end by itself.
fn split(unit: String, process: String, session: Session) -> impl Stream<Item = Lines> + Send {
    let state = Some((session.chunks, Splitter::new(unit, process)));
    futures_util::stream::unfold(state, |state| async move {
        let (mut chunks, mut splitter) = state?;
        loop {
            if let Some(line) = splitter.ready.pop_front() {
                return Some((Ok(line), Some((chunks, splitter))));
            }
            match chunks.next().await {
                Some(Ok(chunk)) => splitter.add(chunk.source, &chunk.bytes),
                Some(Err(error)) => return Some((Err(error), None)),
                None => {
                    splitter.finish();
                    let line = splitter.ready.pop_front()?;
                    let rest = futures_util::stream::empty().boxed();
                    return Some((Ok(line), Some((rest, splitter))));
                }
            }
        }
    })
}

struct Splitter {
    unit: String,
    process: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ready: VecDeque<LogLine>,
}

impl Splitter {
    fn new(unit: String, process: String) -> Self {
        Self { unit, process, stdout: Vec::new(), stderr: Vec::new(), ready: VecDeque::new() }
    }

    fn add(&mut self, source: Source, bytes: &[u8]) {
        for byte in bytes {
            let part = match source {
                Source::Stdout => &mut self.stdout,
                Source::Stderr => &mut self.stderr,
            };
            if *byte != b'\n' {
                part.push(*byte);
            }
            if *byte == b'\n' || part.len() >= LONGEST_LINE {
                let line = std::mem::take(part);
                self.push(source, &line);
            }
        }
    }

    /// What stands at the end without a line feed is a line too.
    fn finish(&mut self) {
        for source in [Source::Stdout, Source::Stderr] {
            let part = match source {
                Source::Stdout => std::mem::take(&mut self.stdout),
                Source::Stderr => std::mem::take(&mut self.stderr),
            };
            if !part.is_empty() {
                self.push(source, &part);
            }
        }
    }

    fn push(&mut self, source: Source, line: &[u8]) {
        let text = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
        self.ready.push_back(LogLine {
            unit: self.unit.clone(),
            process: self.process.clone(),
            source: match source {
                Source::Stdout => "stdout",
                Source::Stderr => "stderr",
            }
            .to_owned(),
            text,
        });
    }
}

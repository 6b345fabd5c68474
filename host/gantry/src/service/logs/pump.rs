//! What fills a tail: the lines of its units, each end of each by itself.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Weak;

use futures_util::future::OptionFuture;
use futures_util::stream::SelectAll;
use futures_util::{FutureExt, Stream, StreamExt};
use gantry_engine::stream::{Session, Source};
use gantry_runtime::LogSource;

use super::follow::Follow;
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

/// Reads the sessions and fills the ring, as far as the reader lets it.
pub(super) async fn pump(
    tail: Weak<Tail>,
    title: String,
    sources: Vec<LogSource>,
    follow: Option<Follow>,
) {
    let (mut lines, mut open) = (SelectAll::new(), BTreeSet::new());
    let join = |lines: &mut SelectAll<_>, open: &mut BTreeSet<_>, sources: Vec<LogSource>| {
        for source in sources {
            open.insert(source.unit.clone());
            let ended = futures_util::stream::iter([News::Ended(source.unit.clone())]);
            let of_unit = split(source.unit, source.process, source.lines).map(News::Line);
            lines.push(of_unit.chain(ended).boxed());
        }
    };
    join(&mut lines, &mut open, sources);
    let mut looking = follow.map(|follow| follow.look(open.clone()).boxed());
    loop {
        let event = tokio::select! {
            Some(event) = lines.next() => event,
            Some((follow, found)) = OptionFuture::from(looking.as_mut()) => {
                let Some(sources) = found else { break };
                join(&mut lines, &mut open, sources);
                looking = Some(follow.look(open.clone()).boxed());
                continue;
            }
            else => break,
        };
        let line = match event {
            News::Ended(unit) => {
                open.remove(&unit);
                continue;
            }
            News::Line(line) => line,
        };
        let Some(tail) = tail.upgrade() else { return };
        let event = match line {
            Ok(line) => LogEvent::Line(line),
            Err(error) => {
                let problem = Err::<(), _>(error).or_problem(|| title.clone());
                problem
                    .map_or_else(|problem| LogEvent::Problem(Box::new(problem)), |()| LogEvent::End)
            }
        };
        let last = !matches!(event, LogEvent::Line(_));
        let mut news = tail.news.subscribe();
        loop {
            news.borrow_and_update();
            if tail.has_room() {
                break;
            }
            if news.changed().await.is_err() {
                return;
            }
        }
        tail.push(event);
        if last {
            return;
        }
    }
    if let Some(tail) = tail.upgrade() {
        tail.push(LogEvent::End);
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

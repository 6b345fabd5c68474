//! Where an operation tells what it does, and where others read it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use gantry_engine::operation::Progress;
use serde_json::Value;
use tokio::sync::watch;

use super::resource;
use crate::api::{self, OperationState, Problem, ProblemKind};
use crate::clock;
use crate::store::{Begin, Line, OperationRecord, Store, StoreError};

/// How many lines of one operation are told as they come.
const MOST_LINES: usize = 10_000;

/// How many of those after them are kept, the last ones, and told at the end: how it ended is there.
const LAST_LINES: usize = 200;

/// How long is waited before writing down the end is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// How often it is tried before whoever follows the operation is told that it does not work.
const PATIENCE: u32 = 4;

/// How many bytes of one line are kept.
const LONGEST_LINE: usize = 4096;

/// What an operation tells: kept in memory while it runs, and in the store for later.
pub(crate) struct Board {
    store: Arc<Store>,
    // A std mutex: held to copy or append a line, never across an await.
    told: Mutex<Told>,
    /// Counts what was told, so that readers wait for news and miss none.
    news: watch::Sender<u64>,
}

struct Told {
    record: OperationRecord,
    lines: Vec<Line>,
    /// The last lines of those that are too many.
    last: VecDeque<String>,
    /// How many came before the last ones and are not kept.
    dropped: u64,
    /// A line that has not ended yet.
    part: String,
    ended: bool,
    /// The work is done, but how it ended cannot be written down yet.
    unwritten: Option<Problem>,
}

/// How an operation ended, once that is written down.
#[must_use = "whoever reads waits for it"]
pub(super) struct Written {
    state: OperationState,
    at: i64,
    problem: Option<String>,
    result: Option<String>,
}

/// What a reader of a board is told.
#[derive(Clone, Debug)]
pub(crate) enum Update {
    /// A line.
    Line(Line),
    /// The end; nothing comes after it.
    End(Box<api::Operation>),
}

impl Board {
    pub(super) fn new(store: Arc<Store>, begin: Begin) -> Self {
        let record = OperationRecord {
            begin,
            state: OperationState::Running.word().to_owned(),
            ..OperationRecord::default()
        };
        let told = Told {
            record,
            lines: Vec::new(),
            last: VecDeque::new(),
            dropped: 0,
            part: String::new(),
            ended: false,
            unwritten: None,
        };
        Self { store, told: Mutex::new(told), news: watch::Sender::new(0) }
    }

    /// What the operation does.
    pub(super) fn verb(&self) -> String {
        self.told().record.begin.verb.clone()
    }

    /// Writes down how the operation ended, and gives what is to be [told](Self::tell_end) of it.
    ///
    /// An end that is not written down makes the next start take the operation for interrupted and remove what it made. So nobody is told that it is done before it is written, and
    /// writing is tried for as long as the daemon lives.
    pub(super) async fn write_end(&self, outcome: Result<Value, Problem>) -> Written {
        self.show("\n");
        self.tell_last();
        let at = clock::now();
        let (state, problem, result) = match outcome {
            Ok(value) => (OperationState::Done, None, Some(value.to_string())),
            Err(problem) => {
                let cancelled = problem.kind == ProblemKind::Cancelled;
                let state =
                    if cancelled { OperationState::Cancelled } else { OperationState::Failed };
                (state, serde_json::to_string(&problem).ok(), None)
            }
        };
        let id = self.told().record.begin.id.clone();
        let mut attempt = 0_u32;
        loop {
            let end = (problem.clone(), result.clone());
            let written = self.store.end_operation(&id, state.word(), at, end.0, end.1).await;
            let Err(error) = written else { break };
            attempt = attempt.saturating_add(1);
            if attempt == PATIENCE {
                tracing::error!(operation = %id, error = &error as &dyn std::error::Error, "could not write down the end; trying for as long as it takes");
                self.told().unwritten = Some(unwritten(&id, state, &error));
                self.tell();
            }
            tokio::time::sleep(AGAIN).await;
        }
        Written { state, at, problem, result }
    }

    /// Tells whoever reads how the operation ended.
    pub(super) fn tell_end(&self, written: Written) {
        {
            let mut told = self.told();
            told.record.state = written.state.word().to_owned();
            told.record.ended = Some(written.at);
            told.record.problem = written.problem;
            told.record.result = written.result;
            told.unwritten = None;
            told.ended = true;
        }
        self.tell();
    }

    /// What is told from now on, beginning after a line.
    pub(crate) fn follow(self: Arc<Self>, after: u64) -> impl Stream<Item = Update> + Send {
        let news = self.news.subscribe();
        futures_util::stream::unfold(Some((self, news, after)), |reader| async move {
            let (board, mut news, after) = reader?;
            loop {
                // Seen before the look: what is told between the look and the wait counts as news.
                news.borrow_and_update();
                match board.next(after) {
                    Some(Update::Line(line)) => {
                        let number = line.number;
                        return Some((Update::Line(line), Some((board, news, number))));
                    }
                    Some(end @ Update::End(_)) => return Some((end, None)),
                    None => news.changed().await.ok()?,
                }
            }
        })
    }

    fn next(&self, after: u64) -> Option<Update> {
        let told = self.told();
        let index = usize::try_from(after).unwrap_or(usize::MAX);
        if let Some(line) = told.lines.get(index) {
            return Some(Update::Line(line.clone()));
        }
        (told.ended || told.unwritten.is_some()).then(|| {
            let mut operation = resource(told.record.clone());
            operation.problem = told.unwritten.clone().or(operation.problem);
            Update::End(Box::new(operation))
        })
    }

    /// Tells the last lines of those that were too many.
    fn tell_last(&self) {
        let mut told = self.told();
        let (dropped, last) = (told.dropped, std::mem::take(&mut told.last));
        if dropped > 0 {
            write_line(&self.store, &mut told, format!("… {dropped} lines are not kept"));
        }
        for line in last {
            write_line(&self.store, &mut told, line);
        }
        drop(told);
        self.tell();
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }
}

fn unwritten(id: &str, state: OperationState, error: &StoreError) -> Problem {
    Problem::new(ProblemKind::Storage, format!("the end of operation {id} is not written down"))
        .because(format!(
            "it ended as {}, and {error}; a daemon that starts before it is written takes it for interrupted",
            state.word()
        ))
        .hint(format!("make room, and look again: `gantry operation info {id} --follow`"))
}

impl Progress for Board {
    fn show(&self, text: &str) {
        let mut told = self.told();
        let mut rest = text;
        while let Some((line, after)) = rest.split_once('\n') {
            let mut whole = std::mem::take(&mut told.part);
            append(&mut whole, line);
            rest = after;
            let whole = whole.trim_end_matches('\r');
            // The line feed that closes the last line must not add an empty one.
            if !(whole.is_empty() && text == "\n") {
                add_line(&self.store, &mut told, whole);
            }
        }
        append(&mut told.part, rest);
        drop(told);
        self.tell();
    }
}

fn append(line: &mut String, text: &str) {
    let room = LONGEST_LINE.saturating_sub(line.len());
    let end = text.floor_char_boundary(room);
    line.push_str(text.get(..end).unwrap_or_default());
}

fn add_line(store: &Store, told: &mut Told, text: &str) {
    if told.lines.len() < MOST_LINES {
        write_line(store, told, text.to_owned());
        if told.lines.len() == MOST_LINES {
            write_line(store, told, format!("… the last {LAST_LINES} lines are told at the end"));
        }
        return;
    }
    if told.last.len() == LAST_LINES {
        told.last.pop_front();
        told.dropped = told.dropped.saturating_add(1);
    }
    told.last.push_back(text.to_owned());
}

fn write_line(store: &Store, told: &mut Told, text: String) {
    let number = u64::try_from(told.lines.len()).unwrap_or(u64::MAX).saturating_add(1);
    let line = Line { number, at: clock::now(), text };
    store.add_line(&told.record.begin.id, line.clone());
    told.lines.push(line);
}

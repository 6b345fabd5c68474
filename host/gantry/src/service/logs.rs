//! What units write: tails that outlive the connection that reads them, for a while.
//!
//! ```text
//! session ─┐
//! session ─┼─► pump ─► ring of lines ─► reader      the reader says how far it is; the pump stays at most AHEAD lines before it
//! session ─┘
//! ```
//!
//! A tail that follows goes on over deploys and restarts, with the units that come, until the app is removed or the log of a unit breaks.
//!
//! A reader whose connection broke comes back with the id of the last line it saw and goes on after it, if it comes soon and that line is still in the ring; otherwise it gets a new tail.
//! A tail that nobody reads ends.

mod follow;
mod pump;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use gantry_runtime::{LogSource, TailOptions};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::follow::Follow;
use super::{OrProblem, Service};
use crate::api::{LogLine, Problem, ProblemKind};

/// How many lines a tail reads before its reader does.
const AHEAD: u64 = 1000;

/// How many lines a tail keeps that its reader has seen.
const BEHIND: u64 = 1000;

/// How long a tail waits for its reader to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which lines are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogQuery {
    /// How many of the last lines of each unit.
    pub(crate) lines: u32,
    /// Whether lines still to come follow, also of units to come.
    pub(crate) follow: bool,
    /// Only this process; every one when empty.
    pub(crate) process: String,
    /// Only the unit with this id or prefix of it; every one when empty.
    pub(crate) unit: String,
}

/// What a tail tells.
#[derive(Clone, Debug)]
pub(crate) enum LogEvent {
    /// A line.
    Line(LogLine),
    /// The log of a unit broke; nothing comes after it.
    Problem(Box<Problem>),
    /// There is no more.
    End,
}

impl Service {
    /// What the units of an app write, each event with its id; after an event, if its tail is still there.
    pub(crate) async fn log(
        self: &Arc<Self>,
        app: &str,
        query: LogQuery,
        after: Option<&str>,
    ) -> Result<BoxStream<'static, (String, LogEvent)>, Problem> {
        if let Some((tail, number)) = after.and_then(|after| self.tails.resume(app, after)) {
            return Ok(read(tail, number).boxed());
        }
        let title = || format!("could not read the log of `{app}`");
        let record = self.record(app).await?;
        let provisioner = self.provisioner(&record.provisioner)?;
        let question = self.question();
        let available = provisioner.logs_enabled(&question, &record.app).await.or_problem(title)?;
        if !available.enabled {
            let provisioner = provisioner.name();
            return Err(Problem::new(ProblemKind::NotSupported, title())
                .because(available.doc)
                .hint(format!(
                    "read it where it goes, or choose another driver: `provisioners.{provisioner}.config` in the configuration"
                )));
        }
        self.known_process(&record, &provisioner, &question, &query.process).await?;
        let options = TailOptions {
            process: query.process.clone(),
            unit: query.unit.clone(),
            lines: query.lines,
            follow: query.follow,
        };
        let sources = provisioner.tail(&question, &record.app, &options).await.or_problem(title)?;
        let follow = query.follow && query.unit.is_empty();
        let follow = follow.then(|| Follow::of(self, app, &query.process, &sources));
        let tail = self.tails.open(app, &title(), sources, follow);
        Ok(read(tail, 0).boxed())
    }
}

/// The tails that are open.
pub(crate) struct Tails {
    // A std mutex: held for a look or an insert, never across an await.
    open: Arc<Mutex<Open>>,
    patience: Duration,
}

impl Default for Tails {
    fn default() -> Self {
        Self { open: Arc::default(), patience: PATIENCE }
    }
}

#[derive(Default)]
struct Open {
    last: u64,
    tails: BTreeMap<u64, Arc<Tail>>,
}

/// One tail.
struct Tail {
    id: u64,
    app: String,
    ring: Mutex<Ring>,
    /// Counts what happened, on both ends.
    news: watch::Sender<u64>,
    _pump: DropGuard,
}

struct Ring {
    /// The number of the first event kept; the first of all is 1.
    first: u64,
    events: VecDeque<LogEvent>,
    /// What the reader has been given.
    seen: u64,
    readers: usize,
    left_at: Instant,
}

impl Ring {
    fn next_number(&self) -> u64 {
        self.first.saturating_add(u64::try_from(self.events.len()).unwrap_or(u64::MAX))
    }
}

impl Tails {
    fn open(
        &self,
        app: &str,
        title: &str,
        sources: Vec<LogSource>,
        follow: Option<Follow>,
    ) -> Arc<Tail> {
        let (stop, patience) = (CancellationToken::new(), self.patience);
        let tail = {
            let mut open = self.lock();
            open.last = open.last.saturating_add(1);
            // Tails whose reader did not come back are gone when the next one comes, if not before.
            open.tails.retain(|_, tail| !tail.is_abandoned(patience));
            let tail = Arc::new(Tail {
                id: open.last,
                app: app.to_owned(),
                ring: Mutex::new(Ring {
                    first: 1,
                    events: VecDeque::new(),
                    seen: 0,
                    readers: 0,
                    left_at: Instant::now(),
                }),
                news: watch::Sender::new(0),
                _pump: stop.clone().drop_guard(),
            });
            open.tails.insert(tail.id, Arc::clone(&tail));
            tail
        };
        let (weak, title) = (Arc::downgrade(&tail), title.to_owned());
        tokio::spawn(async move {
            stop.run_until_cancelled(pump::pump(weak, title, sources, follow)).await;
        });
        let (open, id) = (Arc::downgrade(&self.open), tail.id);
        tokio::spawn(end_when_abandoned(open, id, patience));
        tail
    }

    fn resume(&self, app: &str, after: &str) -> Option<(Arc<Tail>, u64)> {
        let (tail, number) = after.split_once('.')?;
        let (tail, number): (u64, u64) = (tail.parse().ok()?, number.parse().ok()?);
        let tail = Arc::clone(self.lock().tails.get(&tail)?);
        let kept = {
            let ring = tail.lock();
            number.saturating_add(1) >= ring.first && number < ring.next_number()
        };
        (kept && tail.app == app).then_some((tail, number))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a tail that nobody has read for a while.
async fn end_when_abandoned(open: Weak<Mutex<Open>>, id: u64, patience: Duration) {
    loop {
        tokio::time::sleep(patience).await;
        let Some(open) = open.upgrade() else { return };
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.tails.get(&id) {
            Some(tail) if tail.is_abandoned(patience) => {
                open.tails.remove(&id);
                return;
            }
            Some(_) => {}
            None => return,
        }
    }
}

impl Tail {
    fn is_abandoned(&self, patience: Duration) -> bool {
        let ring = self.lock();
        ring.readers == 0 && ring.left_at.elapsed() >= patience
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn has_room(&self) -> bool {
        let ring = self.lock();
        ring.next_number().saturating_sub(ring.seen) <= AHEAD
    }

    fn push(&self, event: LogEvent) {
        let mut ring = self.lock();
        ring.events.push_back(event);
        while ring.first.saturating_add(BEHIND) < ring.seen {
            ring.events.pop_front();
            ring.first = ring.first.saturating_add(1);
        }
        drop(ring);
        self.tell();
    }

    fn event(&self, number: u64) -> Option<LogEvent> {
        let mut ring = self.lock();
        let index = usize::try_from(number.checked_sub(ring.first)?).ok()?;
        let event = ring.events.get(index)?.clone();
        ring.seen = ring.seen.max(number);
        Some(event)
    }
}

/// One who reads; as long as there is one the tail goes on.
struct Reader {
    tail: Arc<Tail>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut ring = self.tail.lock();
        ring.readers = ring.readers.saturating_sub(1);
        ring.left_at = Instant::now();
    }
}

fn read(tail: Arc<Tail>, after: u64) -> impl Stream<Item = (String, LogEvent)> + Send {
    tail.lock().readers += 1;
    let news = tail.news.subscribe();
    let reader = Some((Reader { tail }, news, after.saturating_add(1)));
    futures_util::stream::unfold(reader, |reader| async move {
        let (reader, mut news, number) = reader?;
        loop {
            // Seen before the look: what is told between the look and the wait counts as news.
            news.borrow_and_update();
            if let Some(event) = reader.tail.event(number) {
                reader.tail.tell();
                let id = format!("{}.{number}", reader.tail.id);
                let next = match event {
                    LogEvent::Line(_) => Some((reader, news, number.saturating_add(1))),
                    LogEvent::Problem(_) | LogEvent::End => None,
                };
                return Some(((id, event), next));
            }
            news.changed().await.ok()?;
        }
    })
}

#[cfg(test)]
mod tests;

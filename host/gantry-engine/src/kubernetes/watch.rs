//! Watches without a gap: a list, then its changes, and both again as often as something breaks. What follows from what comes in is decided by the [tracker].

mod tracker;

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

use self::tracker::{Event, Then, Tracker};
use super::Timeouts;
use super::convert;
use super::errors::About;
use super::wire::{Ask, Wire};
use crate::EngineError;
use crate::call::cluster::{Change, Kind, Selection};
use crate::cluster::{Changes, PAGE, Result};

/// The first pause, and the longest, before something is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(5);
/// How long a server is asked to keep a connection.
const LIFE: Duration = Duration::from_secs(290);
/// More than the largest object.
const LONGEST_LINE: usize = 64 << 20;

/// What is watched.
pub(super) struct Target {
    pub(super) wire: Wire,
    pub(super) about: About,
    pub(super) timeouts: Timeouts,
    /// The address of the objects.
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) selection: Selection,
}

type Lines = BoxStream<'static, std::result::Result<String, LinesCodecError>>;

enum Stage {
    /// A page is to be asked for.
    List { after: String },
    /// A connection is to be made.
    Open,
    /// Events come.
    Read { lines: Lines, since: Instant },
    /// There is no more.
    End,
}

struct Watch {
    target: Target,
    tracker: Tracker,
    stage: Stage,
    /// What is not told yet.
    ready: VecDeque<Change>,
    /// Since when nothing has worked.
    failing: Option<Instant>,
    /// How often something was tried in vain.
    attempts: u32,
}

/// Begins a watch. What is wrong with its first question is told at once.
pub(super) async fn watch(target: Target) -> Result<Changes> {
    let tracker = Tracker::new(target.kind.clone());
    let stage = Stage::List { after: String::new() };
    let ready = VecDeque::new();
    let mut watch = Watch { target, tracker, stage, ready, failing: None, attempts: 0 };
    watch.page(String::new()).await?;
    Ok(stream::unfold(watch, Watch::next).boxed())
}

impl Watch {
    async fn next(mut self) -> Option<(Result<Change>, Self)> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some((Ok(change), self));
            }
            let step = match std::mem::replace(&mut self.stage, Stage::Open) {
                Stage::List { after } => self.list(after).await,
                Stage::Open => self.open().await,
                Stage::Read { lines, since } => self.read(lines, since).await,
                Stage::End => return None,
            };
            if let Err(error) = step {
                self.stage = Stage::End;
                return Some((Err(error), self));
            }
        }
    }

    async fn list(&mut self, after: String) -> Result<()> {
        match self.page(after.clone()).await {
            Ok(()) => Ok(()),
            // The token is too old.
            Err(error @ EngineError::Conflict(_)) => self.begin_again(error).await,
            Err(error) => {
                self.stage = Stage::List { after };
                self.pause(error).await
            }
        }
    }

    /// Asks for a page and takes it in.
    async fn page(&mut self, after: String) -> Result<()> {
        let Target { wire, about, path, kind, selection, .. } = &self.target;
        let ask = convert::selected(Ask::get(path.clone()), selection)
            .with("limit", PAGE.to_string())
            .with_if(!after.is_empty(), "continue", after);
        let body = wire.ask(about, ask).await?;
        let page = convert::page(&body, kind)
            .ok_or_else(|| about.failed("its answer is no list of Kubernetes"))?;
        self.failing = None;
        self.ready.extend(self.tracker.page(page.items));
        self.stage = if page.next.is_empty() {
            self.ready.extend(self.tracker.complete(page.resource_version));
            Stage::Open
        } else {
            Stage::List { after: page.next }
        };
        Ok(())
    }

    async fn open(&mut self) -> Result<()> {
        let Target { wire, about, path, selection, .. } = &self.target;
        let ask = convert::selected(Ask::get(path.clone()), selection)
            .with("watch", "true")
            .with("allowWatchBookmarks", "true")
            .with("timeoutSeconds", LIFE.as_secs().to_string())
            .with("resourceVersion", self.tracker.version());
        match wire.open(about, ask).await {
            Ok(body) => {
                let bytes = StreamReader::new(body.map_err(io::Error::other));
                let codec = LinesCodec::new_with_max_length(LONGEST_LINE);
                let lines = FramedRead::new(bytes, codec).boxed();
                self.stage = Stage::Read { lines, since: Instant::now() };
                Ok(())
            }
            Err(error @ EngineError::Conflict(_)) => self.begin_again(error).await,
            Err(error) => self.pause(error).await,
        }
    }

    async fn read(&mut self, mut lines: Lines, since: Instant) -> Result<()> {
        let line = match timeout(self.target.timeouts.silence, lines.next()).await {
            Ok(Some(Ok(line))) => line,
            // However it ended, the next connection goes on where this one was.
            Ok(None | Some(Err(_))) | Err(_) => return self.broken(since).await,
        };
        // What is no event is the rest of one that broke off.
        let Some(event) = Event::read(&line) else { return self.broken(since).await };
        let (changes, then) = self.tracker.event(event);
        self.ready.extend(changes);
        match then {
            Then::Read => {
                (self.failing, self.attempts) = (None, 0);
                self.stage = Stage::Read { lines, since };
                Ok(())
            }
            Then::List => {
                let lost = EngineError::Conflict("the version is lost".to_owned());
                self.begin_again(lost).await
            }
            Then::Resume(status) => {
                let error = self.target.about.status(&status, status.code, None);
                self.pause(error).await
            }
        }
    }

    async fn broken(&mut self, since: Instant) -> Result<()> {
        if since.elapsed() >= GOOD {
            (self.failing, self.attempts) = (None, 0);
        }
        self.pause(self.target.about.cut_off()).await
    }

    /// The version, or the place in a list, is lost.
    async fn begin_again(&mut self, why: EngineError) -> Result<()> {
        self.tracker.begin();
        self.stage = Stage::List { after: String::new() };
        self.pause(why).await
    }

    /// Waits before something is tried again, the first time not at all.
    async fn pause(&mut self, error: EngineError) -> Result<()> {
        let patience = self.target.timeouts.patience;
        let since = *self.failing.get_or_insert_with(Instant::now);
        if !can_mend(&error) {
            return Err(error);
        }
        if since.elapsed() >= patience {
            if matches!(error, EngineError::Forbidden(_)) {
                return Err(error);
            }
            return Err(EngineError::Unreachable(format!("{error}; given up after {patience:?}")));
        }
        let pause = pause(self.attempts, &error);
        self.attempts = self.attempts.saturating_add(1);
        sleep(pause).await;
        Ok(())
    }
}

/// Whether something may be better later. A server that has just begun may not know yet who may do what.
fn can_mend(error: &EngineError) -> bool {
    match error {
        EngineError::Conflict(_)
        | EngineError::Forbidden(_)
        | EngineError::TooManyRequests { .. }
        | EngineError::Unreachable(_)
        | EngineError::TimedOut(_)
        | EngineError::Failed(_) => true,
        EngineError::NotFound(_)
        | EngineError::Invalid(_)
        | EngineError::InvalidObject(_)
        | EngineError::Denied(_)
        | EngineError::Cancelled => false,
    }
}

fn pause(attempts: u32, error: &EngineError) -> Duration {
    if let EngineError::TooManyRequests { retry_after: Some(seconds), .. } = error {
        return Duration::from_secs((*seconds).into()).clamp(FIRST_PAUSE, LONGEST_PAUSE);
    }
    match attempts.checked_sub(1) {
        None => Duration::ZERO,
        Some(before) => FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(before)).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        let error = EngineError::Unreachable(String::new());
        let pauses: Vec<_> = (0..9).map(|attempts| pause(attempts, &error).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        let busy = |retry_after| EngineError::TooManyRequests { text: String::new(), retry_after };
        assert_eq!(pause(0, &busy(Some(2))), Duration::from_secs(2));
        assert_eq!(pause(0, &busy(Some(3600))), LONGEST_PAUSE);
        assert_eq!(pause(2, &busy(None)), Duration::from_millis(200));
    }
}

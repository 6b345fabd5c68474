//! Who watches a call: how much it computed, when it last did something, and what ends it.
//!
//! Guest time is the processor time of the thread while the call is polled, less what engines spent in those polls on the call's behalf. A call that waits is not polled, so waiting is free; the
//! epoch makes a guest that computes stop every few milliseconds to be asked.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use gantry_engine::{Operation, OverLimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::bounds::{Bound, Bounds};

/// How many of the last bytes a plugin wrote to its stderr are kept for the error of a trap.
const LAST_WORDS: usize = 2 << 10;

/// What ends a call from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// A bound of time was gone over.
    TimedOut(OverLimit),
    /// The time of the whole operation was over.
    Deadline,
    /// Somebody asked to stop, and the plugin did not within the grace period.
    CutOff(Duration),
    /// A step that ran beside the guest went over a bound.
    Over(OverLimit),
}

/// One call, as its host functions, its epoch callback and its watchdog see it.
pub(crate) struct Watch {
    begun: Instant,
    /// Guest time of the polls that have ended, in nanoseconds.
    spent: AtomicU64,
    /// Processor time of the thread when the poll under way began.
    poll_began: AtomicU64,
    /// What engines spent in the poll under way.
    aside: AtomicU64,
    /// When something last happened, in milliseconds since the call began.
    active: AtomicU64,
    /// Engine calls under way.
    working: AtomicU32,
    memory_refused: AtomicBool,
    doom: OnceLock<OverLimit>,
    doomed: Notify,
    last_words: Mutex<Vec<u8>>,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            spent: AtomicU64::new(0),
            poll_began: AtomicU64::new(0),
            aside: AtomicU64::new(0),
            active: AtomicU64::new(0),
            working: AtomicU32::new(0),
            memory_refused: AtomicBool::new(false),
            doom: OnceLock::new(),
            doomed: Notify::new(),
            last_words: Mutex::default(),
        }
    }

    /// Guest time so far. Only from within a poll of the call.
    pub(crate) fn computed(&self) -> Duration {
        let poll = thread_time().saturating_sub(self.poll_began.load(Ordering::Relaxed));
        let guest = poll.saturating_sub(self.aside.load(Ordering::Relaxed));
        Duration::from_nanos(self.spent.load(Ordering::Relaxed).saturating_add(guest))
    }

    /// Something happened that an idle call does not do.
    pub(crate) fn stir(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active.fetch_max(now, Ordering::Relaxed);
    }

    /// An engine works for the call while this lives.
    pub(crate) fn work(&self) -> Working<'_> {
        self.stir();
        self.working.fetch_add(1, Ordering::AcqRel);
        Working(self)
    }

    /// Ends the call with this from wherever it is now.
    pub(crate) fn doom(&self, over: OverLimit) {
        if self.doom.set(over).is_ok() {
            self.doomed.notify_one();
        }
    }

    /// The bound that ends the call, if it went over one.
    pub(crate) fn doomed(&self) -> Option<&OverLimit> {
        self.doom.get()
    }

    pub(crate) fn refuse_memory(&self) {
        self.memory_refused.store(true, Ordering::Relaxed);
    }

    pub(crate) fn memory_was_refused(&self) -> bool {
        self.memory_refused.load(Ordering::Relaxed)
    }

    /// Keeps the end of what a plugin writes to its stderr.
    pub(crate) fn hear(&self, bytes: &[u8]) {
        let mut words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend_from_slice(bytes);
        let over = words.len().saturating_sub(LAST_WORDS);
        words.drain(..over);
    }

    /// The end of what the plugin wrote to its stderr.
    pub(crate) fn last_words(&self) -> String {
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&words).trim().to_owned()
    }

    fn idle_since(&self) -> Instant {
        if self.working.load(Ordering::Acquire) > 0 {
            return Instant::now();
        }
        self.begun + Duration::from_millis(self.active.load(Ordering::Relaxed))
    }
}

/// An engine works for a call.
pub(crate) struct Working<'a>(&'a Watch);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Ordering::AcqRel);
        self.0.stir();
    }
}

/// Polls a call and counts its guest time.
pub(crate) struct Metered<'a, F> {
    pub(crate) call: Pin<&'a mut F>,
    pub(crate) watch: &'a Watch,
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let watch = self.watch;
        watch.aside.store(0, Ordering::Relaxed);
        watch.poll_began.store(thread_time(), Ordering::Relaxed);
        let polled = self.call.as_mut().poll(cx);
        let spent = u64::try_from(watch.computed().as_nanos()).unwrap_or(u64::MAX);
        watch.spent.store(spent, Ordering::Relaxed);
        polled
    }
}

/// Polls what an engine does for a call and keeps it out of the guest's time.
pub(crate) struct Aside<'a, F> {
    pub(crate) work: F,
    pub(crate) watch: &'a Watch,
}

impl<F: Future + Unpin> Future for Aside<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let began = thread_time();
        let polled = Pin::new(&mut self.work).poll(cx);
        let took = thread_time().saturating_sub(began);
        self.watch.aside.fetch_add(took, Ordering::Relaxed);
        polled
    }
}

/// Processor time of this thread in nanoseconds. It is unlike wall time in that a loaded machine does not make a plugin slower.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// Ends when the call has to.
pub(crate) async fn watchdog(
    watch: &Watch,
    bounds: &Bounds,
    all: Bound,
    operation: &Operation,
    grace: Duration,
) -> Death {
    let idle_time = bounds.time(Bound::IdleTime);
    let bounded = watch.begun + bounds.time(all);
    let mut grace_ends = None;
    loop {
        let mut wake = bounded.min(operation.deadline).min(watch.idle_since() + idle_time);
        if let Some(end) = grace_ends {
            wake = wake.min(end);
        }
        tokio::select! {
            biased;
            () = watch.doomed.notified() => {
                if let Some(over) = watch.doom.get() {
                    return Death::Over(over.clone());
                }
            }
            () = operation.cancel.cancelled(), if grace_ends.is_none() => {
                grace_ends = Some(Instant::now() + grace);
            }
            () = sleep_until(wake) => {
                let now = Instant::now();
                if grace_ends.is_some_and(|end| end <= now) {
                    return Death::CutOff(grace);
                }
                if bounded <= now {
                    return Death::TimedOut(bounds.over(all));
                }
                if operation.deadline <= now {
                    return Death::Deadline;
                }
                if watch.idle_since() + idle_time <= now {
                    return Death::TimedOut(bounds.over(Bound::IdleTime));
                }
            }
        }
    }
}

//! The clock that interrupts guests: a thread that moves the engine's epoch on while calls run, and sleeps when none has run for a while.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::Engine;

/// How often a guest that computes is asked how long it has been computing.
const TICK: Duration = Duration::from_millis(10);
/// Ticks without a call before the thread sleeps. Waking it costs more than a short call, so it stays awake between calls that follow each other.
const PATIENCE: u32 = 100;

/// Owns the thread; it ends and is joined when this is dropped.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A call runs while this lives.
pub(crate) struct Running(Arc<Shared>);

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Shared {
    fn wake(&self) {
        // Whoever sleeps has let go of the lock in the same step, so this is not missed.
        let _ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.notify_one();
    }
}

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let engine = engine.clone();
        let seen = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("epoch".to_owned()).spawn(move || tick(&engine, &seen))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(crate) fn running(&self) -> Running {
        // The thread says that it sleeps before it looks for calls, and a call says that it runs before it looks for a sleeper: one of the two sees the other.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.shared.wake();
        }
        Running(Arc::clone(&self.shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic; if it did, there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

fn tick(engine: &Engine, shared: &Shared) {
    let mut idle = 0;
    let mut ended = shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
    while !*ended {
        let waited = shared.changed.wait_timeout(ended, TICK);
        (ended, _) = waited.unwrap_or_else(PoisonError::into_inner);
        engine.increment_epoch();
        idle = if shared.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
        if idle >= PATIENCE {
            shared.asleep.store(true, Ordering::SeqCst);
            while !*ended && shared.running.load(Ordering::SeqCst) == 0 {
                ended = shared.changed.wait(ended).unwrap_or_else(PoisonError::into_inner);
            }
            shared.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}

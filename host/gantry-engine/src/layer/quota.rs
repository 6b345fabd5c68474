//! How much one wasm call may ask for: host calls in all, per second and at the same time, and the bytes of each.
//!
//! Going over a bound is [`Error::OverLimit`], which ends the wasm call; it is never an answer that a plugin can handle.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::layer::{Layer, Next};
use crate::{Error, OverLimit, Request, Response, Scope};

/// The bounds of one wasm call on what it asks of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `host-calls`: in all.
    pub host_calls: u64,
    /// `host-call-rate`: a second.
    pub host_call_rate: u32,
    /// `host-calls-in-flight`: at the same time.
    pub host_calls_in_flight: u32,
    /// `host-call-bytes`: of the arguments or of the reply of one.
    pub host_call_bytes: u64,
}

impl Limits {
    /// No bound: for what the host does on its own.
    pub const UNBOUNDED: Self = Self {
        host_calls: u64::MAX,
        host_call_rate: u32::MAX,
        host_calls_in_flight: u32::MAX,
        host_call_bytes: u64::MAX,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            host_calls: 100_000,
            host_call_rate: 10_000,
            host_calls_in_flight: 256,
            host_call_bytes: 8 << 20,
        }
    }
}

/// What one wasm call has used of its [`Limits`]. Host functions that do not go through the chain charge it directly.
#[derive(Debug)]
pub struct Meter {
    limits: Limits,
    calls: AtomicU64,
    in_flight: AtomicU32,
    /// When the current block of `host_call_rate` calls began.
    block: Mutex<Instant>,
}

/// A host call under way; it has ended when this is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Meter>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Meter {
    /// A meter with nothing used yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            calls: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            block: Mutex::new(Instant::now()),
        }
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many host calls were made.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Charges a host call with this many bytes of arguments.
    ///
    /// The rate is held over blocks of `host-call-rate` calls, each of which must last a second: the clock is read once a block.
    ///
    /// # Errors
    /// Which bound was gone over.
    pub fn charge(&self, bytes: u64) -> Result<(), OverLimit> {
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        if before >= self.limits.host_calls {
            return Err(over("host-calls", self.limits.host_calls));
        }
        let rate = u64::from(self.limits.host_call_rate.max(1));
        if before > 0 && before.is_multiple_of(rate) {
            let now = Instant::now();
            let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
            if now.duration_since(*block) < Duration::from_secs(1) {
                return Err(over("host-call-rate", format!("{rate} a second")));
            }
            *block = now;
        }
        self.charge_bytes(bytes)
    }

    /// Charges the bytes of a reply.
    ///
    /// # Errors
    /// When they are more than one call may carry.
    pub fn charge_bytes(&self, bytes: u64) -> Result<(), OverLimit> {
        if bytes > self.limits.host_call_bytes {
            return Err(over("host-call-bytes", format!("{} bytes", self.limits.host_call_bytes)));
        }
        Ok(())
    }

    /// Begins a host call that others may overlap.
    ///
    /// # Errors
    /// When as many are under way as may be.
    pub fn enter(self: &Arc<Self>) -> Result<InFlight, OverLimit> {
        let before = self.in_flight.fetch_add(1, Ordering::AcqRel);
        let entered = InFlight(Arc::clone(self));
        if before >= self.limits.host_calls_in_flight {
            return Err(over("host-calls-in-flight", self.limits.host_calls_in_flight));
        }
        Ok(entered)
    }
}

fn over(bound: &str, value: impl ToString) -> OverLimit {
    OverLimit { bound: bound.to_owned(), value: value.to_string() }
}

/// Holds every call to the [`Meter`] of its scope.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quota;

#[async_trait]
impl Layer for Quota {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        scope.meter.charge(request.call.weight())?;
        let _in_flight = scope.meter.enter()?;
        let response = next.send(scope, request).await?;
        scope.meter.charge_bytes(response.reply.weight())?;
        Ok(response)
    }
}

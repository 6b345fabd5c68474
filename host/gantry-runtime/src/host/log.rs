//! `log`, and what a plugin writes to its stderr: lines for the operator, as many a second as the bound allows. What is beyond it is counted and dropped; a plugin that does nothing else is ended.

use std::sync::{Arc, Mutex, PoisonError};

use gantry_engine::OverLimit;
use tokio::time::Instant;

use crate::bindings::gantry::provision::log::{Host, Level};
use crate::bounds::{Bound, Bounds};
use crate::call::CallState;

/// The longest line that is written; the rest of it is cut.
const LINE: usize = 4 << 10;
/// The most fields of a line.
const FIELDS: usize = 32;
/// So many times the rate may be dropped in a row before the plugin is ended: by then it is not a busy plugin but one that logs without end.
const PATIENCE: u64 = 50;

/// The log of one call.
pub(crate) struct Gate {
    provisioner: Arc<str>,
    digest: Arc<str>,
    operation: String,
    rate: u64,
    over: OverLimit,
    window: Mutex<Window>,
}

struct Window {
    began: Instant,
    written: u64,
    dropped: u64,
}

impl Gate {
    pub(crate) fn new(
        provisioner: Arc<str>,
        digest: Arc<str>,
        operation: String,
        bounds: &Bounds,
    ) -> Self {
        Self {
            provisioner,
            digest,
            operation,
            rate: bounds.get(Bound::LogRate),
            over: bounds.over(Bound::LogRate),
            window: Mutex::new(Window { began: Instant::now(), written: 0, dropped: 0 }),
        }
    }

    /// Whether one more line may be written.
    fn admit(&self) -> Result<bool, OverLimit> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.elapsed().as_secs() >= 1 {
            self.tell_dropped(&window);
            *window = Window { began: Instant::now(), written: 0, dropped: 0 };
        }
        if window.written < self.rate {
            window.written = window.written.saturating_add(1);
            return Ok(true);
        }
        window.dropped = window.dropped.saturating_add(1);
        if window.dropped > self.rate.saturating_mul(PATIENCE) {
            return Err(self.over.clone());
        }
        Ok(false)
    }

    /// Writes a line, if it may.
    pub(crate) fn write(
        &self,
        level: Level,
        message: &str,
        fields: &[(String, String)],
    ) -> Result<(), OverLimit> {
        if !self.admit()? {
            return Ok(());
        }
        let mut line = cut(message).to_owned();
        for (name, value) in fields.iter().take(FIELDS) {
            line.push_str(&format!(" {}={:?}", cut(name), cut(value)));
        }
        // A control character could forge a line or drive a terminal.
        let line = line.replace(|c: char| c.is_control(), " ");
        let (provisioner, digest, operation) = (&*self.provisioner, &*self.digest, &self.operation);
        match level {
            Level::Trace => {
                tracing::trace!(target: "plugin", provisioner, digest, operation, "{line}")
            }
            Level::Debug => {
                tracing::debug!(target: "plugin", provisioner, digest, operation, "{line}")
            }
            Level::Info => {
                tracing::info!(target: "plugin", provisioner, digest, operation, "{line}")
            }
            Level::Warn => {
                tracing::warn!(target: "plugin", provisioner, digest, operation, "{line}")
            }
            Level::Error => {
                tracing::error!(target: "plugin", provisioner, digest, operation, "{line}")
            }
        }
        Ok(())
    }

    fn tell_dropped(&self, window: &Window) {
        if window.dropped > 0 {
            tracing::warn!(
                target: "plugin",
                provisioner = &*self.provisioner,
                digest = &*self.digest,
                operation = self.operation,
                dropped = window.dropped,
                "dropped log lines: {}",
                self.over
            );
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let window = self.window.get_mut().unwrap_or_else(PoisonError::into_inner);
        let window =
            Window { began: window.began, written: window.written, dropped: window.dropped };
        self.tell_dropped(&window);
    }
}

/// The text up to the longest line, at a character's border.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(LINE);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

impl Host for CallState {
    fn write(
        &mut self,
        level: Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let length = fields
            .iter()
            .fold(message.len(), |sum, (name, value)| sum.saturating_add(name.len() + value.len()));
        self.charge(length)?;
        self.log.write(level, &message, &fields).map_err(wasmtime::Error::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_between_characters() {
        let text = "é".repeat(LINE);
        assert_eq!(cut(&text).len(), LINE);
        assert_eq!(cut(&format!("x{text}")).len(), LINE - 1);
        assert_eq!(cut("short"), "short");
    }
}

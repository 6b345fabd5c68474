//! The request under way: its progress, its end asked for, its time.

use std::time::Duration;

use gantry_core::Error;

use crate::Result;
use crate::bindings::gantry::provision::operation as imported;
use crate::streams::Writer;

/// The id of the request; empty when it is a question that changes nothing.
#[must_use]
pub fn id() -> String {
    imported::id()
}

/// Shows text to the people who wait. Lines end with a line feed; text without one is shown when the rest of its line comes.
pub fn progress(text: &str) {
    imported::progress(text);
}

/// A writer whose bytes are shown like [`progress`].
#[must_use]
pub fn output() -> Writer {
    imported::output()
}

/// Whether somebody asked to stop.
#[must_use]
pub fn cancelled() -> bool {
    imported::cancelled()
}

/// The time left for the whole request.
#[must_use]
pub fn remaining() -> Duration {
    Duration::from_millis(imported::remaining())
}

/// Waits this long.
///
/// # Errors
///
/// `Cancelled` or `TimedOut`, at once, when the request is or becomes interrupted.
pub fn pause(time: Duration) -> Result<()> {
    let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    imported::pause(milliseconds).map_err(|interrupted| match interrupted {
        imported::Interrupted::Cancelled => Error::Cancelled,
        imported::Interrupted::Deadline => {
            Error::TimedOut("the time for the whole request is over".to_owned())
        }
    })
}

/// From now on the plugin is undoing: host calls wait again although the request was cancelled. The grace period still ends the call.
pub fn undoing() {
    imported::undoing();
}

/// What was to be undone is undone, and other work goes on: host calls return again when the request is cancelled.
pub fn undone() {
    imported::undone();
}

//! A rollout that failed: what is told about it, and what puts the process back.

use std::time::Duration;

use gantry_sdk::{Error, quote};
use serde_json::Value;

use super::{Observation, event};
use crate::object::{items, name, text};

/// The lines about what failed, before it is undone.
pub fn rolling_back(error: &Error) -> String {
    format!("\n**** ROLLING BACK AFTER FAILURE ****\n ---> {error} <---\n")
}

/// The lines about an undo that failed itself.
pub fn rollback_failed(error: &Error) -> String {
    format!("\n**** ERROR DURING ROLLBACK ****\n ---> {error} <---\n")
}

/// The message about a deadline that is over, with every pod that is not ready. Each has a line of its own too.
pub(super) fn timeout(
    deadline: &str,
    spent: Duration,
    observed: &Observation<'_>,
    lines: &mut Vec<String>,
) -> String {
    let not_ready = observed.pods.iter().filter(|pod| !is_ready(pod));
    let pods: Vec<String> = not_ready
        .map(|pod| format!("Pod {}: {}", name(pod), invalid_phase(pod, observed.events)))
        .collect();
    lines.extend(pods.iter().map(|pod| format!(" ---> Pod not ready in time: {pod}\n")));
    let mut message =
        format!("timeout waiting {deadline} after {} waiting for units", go_duration(spent));
    if !pods.is_empty() {
        message = format!("{message}: {}", pods.join(", "));
    }
    message
}

/// What is wrong with a pod that should be further: its phase, and the last thing that happened to it.
pub fn invalid_phase(pod: &Value, events: &[Value]) -> String {
    let message = match text(pod, "/status/message") {
        "" => String::new(),
        message => format!("({})", quote(message)),
    };
    let last = match event::last_of_pod(events, name(pod)) {
        None => String::new(),
        Some(message) => format!(" - last event: {message}"),
    };
    let ended = ended(pod).map(|code| format!(" - it ended with exit code {code}"));
    let phase = quote(text(pod, "/status/phase"));
    format!("invalid pod phase {phase}{message}{last}{}", ended.unwrap_or_default())
}

/// The exit code of a container of the pod that has ended, now or before it was started again.
fn ended(pod: &Value) -> Option<i64> {
    items(pod, "/status/containerStatuses").iter().find_map(|status| {
        let code = |state: &str| status.pointer(&format!("/{state}/terminated/exitCode"));
        code("state").or_else(|| code("lastState"))?.as_i64()
    })
}

fn is_ready(pod: &Value) -> bool {
    items(pod, "/status/conditions").iter().any(|condition| {
        text(condition, "/type") == "Ready" && text(condition, "/status") == "True"
    })
}

/// A time as Go's `time.Duration` shows it: `1h2m3.5s`, `1.5ms`, `0s`.
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(nanos, 1_000) + "µs",
        1_000_000..1_000_000_000 => decimal(nanos, 1_000_000) + "ms",
        _ => {
            const MINUTE: u128 = 60_000_000_000;
            let (minutes, rest) = (nanos / MINUTE, nanos % MINUTE);
            let seconds = decimal(rest, 1_000_000_000) + "s";
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// So many units, with as many decimals as there are.
fn decimal(nanos: u128, unit: u128) -> String {
    let digits = unit.ilog10() as usize;
    let fraction = format!("{:0digits$}", nanos % unit);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        (nanos / unit).to_string()
    } else {
        format!("{}.{fraction}", nanos / unit)
    }
}

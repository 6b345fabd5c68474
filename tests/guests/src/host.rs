//! What several guests ask of the host.

use serde_json::Value;

use crate::containers::{EngineError, Sequence, Step};
use crate::operation::{self, Interrupted};
use crate::types::Error;
use crate::{config, containers};

/// The configured text of a key. A number or a truth value is its JSON text.
#[must_use]
pub fn setting(key: &str) -> Option<String> {
    let json = config::get(key)?;
    Some(match serde_json::from_str(&json) {
        Ok(Value::String(text)) => text,
        Ok(_) | Err(_) => json,
    })
}

/// The first Docker host of the operator.
pub fn first_node() -> Result<String, Error> {
    containers::nodes().into_iter().next().ok_or_else(|| Error::NotFound("no node".into()))
}

/// These steps on this Docker host, without a time or a limit of their own.
#[must_use]
pub fn sequence(node: impl Into<String>, steps: Vec<Step>) -> Sequence {
    Sequence { node: node.into(), steps, timeout: 0, action: None }
}

/// Waits in the host.
pub fn pause(milliseconds: u32) -> Result<(), Error> {
    operation::pause(milliseconds).map_err(|interrupted| match interrupted {
        Interrupted::Cancelled => Error::Cancelled,
        Interrupted::Deadline => Error::TimedOut("the request's time is over".into()),
    })
}

/// Ends the call with a trap, without a panic's message.
pub fn trap() -> ! {
    #[cfg(target_family = "wasm")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_family = "wasm"))]
    std::process::abort();
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NotFound(text) => Self::NotFound(text),
            EngineError::Conflict(text) => Self::Conflict(text),
            EngineError::Invalid(text) => Self::InvalidArgument(text),
            EngineError::Denied(text) => Self::Denied(text),
            EngineError::Unreachable(text) => Self::Unavailable(text),
            EngineError::TimedOut(text) => Self::TimedOut(text),
            EngineError::Cancelled => Self::Cancelled,
            EngineError::Failed(text) => Self::Other(text),
        }
    }
}

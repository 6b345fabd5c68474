use std::fmt;

use gantry_core::Error;

use crate::bindings::gantry::provision::containers as imported;

/// Why an engine call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// No such container, image, file or exec.
    NotFound(String),
    /// In the way: a name or port in use, a container in another state.
    Conflict(String),
    /// The engine or the host refuses the arguments.
    Invalid(String),
    /// Not granted; the text names the grant that would allow it.
    Denied(String),
    /// The host cannot be reached, or went away in the middle.
    Unreachable(String),
    /// It took longer than allowed. What became of it is not known.
    TimedOut(String),
    /// The request was cancelled while this call waited.
    Cancelled,
    /// The engine failed, or its answer cannot be read. What became of it is not known.
    Failed(String),
}

impl EngineError {
    /// The same error with its text put into a longer one.
    #[must_use]
    pub fn map_text(self, longer: impl FnOnce(&str) -> String) -> Self {
        match self {
            Self::NotFound(text) => Self::NotFound(longer(&text)),
            Self::Conflict(text) => Self::Conflict(longer(&text)),
            Self::Invalid(text) => Self::Invalid(longer(&text)),
            Self::Denied(text) => Self::Denied(longer(&text)),
            Self::Unreachable(text) => Self::Unreachable(longer(&text)),
            Self::TimedOut(text) => Self::TimedOut(longer(&text)),
            Self::Cancelled => Self::Cancelled,
            Self::Failed(text) => Self::Failed(longer(&text)),
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound(text)
            | Self::Conflict(text)
            | Self::Invalid(text)
            | Self::Denied(text)
            | Self::Unreachable(text)
            | Self::TimedOut(text)
            | Self::Failed(text) => text,
            Self::Cancelled => "cancelled",
        })
    }
}

impl std::error::Error for EngineError {}

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

impl From<imported::EngineError> for EngineError {
    fn from(error: imported::EngineError) -> Self {
        match error {
            imported::EngineError::NotFound(text) => Self::NotFound(text),
            imported::EngineError::Conflict(text) => Self::Conflict(text),
            imported::EngineError::Invalid(text) => Self::Invalid(text),
            imported::EngineError::Denied(text) => Self::Denied(text),
            imported::EngineError::Unreachable(text) => Self::Unreachable(text),
            imported::EngineError::TimedOut(text) => Self::TimedOut(text),
            imported::EngineError::Cancelled => Self::Cancelled,
            imported::EngineError::Failed(text) => Self::Failed(text),
        }
    }
}

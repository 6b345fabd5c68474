use std::fmt;

use gantry_core::Error;

use crate::bindings::gantry::provision::cluster as imported;

pub use crate::bindings::gantry::provision::cluster::{Cause, Invalidity};

/// Why a call to a cluster failed.
#[derive(Clone, Debug)]
pub enum ClusterError {
    /// No such cluster, kind or object.
    NotFound(String),
    /// The object exists, has moved on, or has fields that another manager owns.
    Conflict(String),
    /// The cluster does not let these credentials do it, or does not know them.
    Forbidden(String),
    /// The cluster does not take the object.
    Invalid(Invalidity),
    /// Not granted; the text names the grant that would allow it.
    Denied(String),
    /// The cluster has too much to do, or a disruption budget forbids an eviction now.
    TooManyRequests(String),
    /// The cluster cannot be reached, or went away in the middle.
    Unreachable(String),
    /// It took longer than allowed. What became of it is not known.
    TimedOut(String),
    /// The request was cancelled while this call waited.
    Cancelled,
    /// The cluster answered with another failure.
    Failed(String),
}

impl ClusterError {
    /// An object that is not one that a cluster would take.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(Invalidity { message: message.into(), causes: Vec::new() })
    }

    /// Whether the object, or the kind, is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// Whether nobody can tell what became of the call: it may have been carried out.
    #[must_use]
    pub fn is_unsure(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::TimedOut(_))
    }

    /// The same error with its text put into a longer one.
    #[must_use]
    pub fn map_text(self, longer: impl FnOnce(&str) -> String) -> Self {
        match self {
            Self::NotFound(text) => Self::NotFound(longer(&text)),
            Self::Conflict(text) => Self::Conflict(longer(&text)),
            Self::Forbidden(text) => Self::Forbidden(longer(&text)),
            Self::Invalid(Invalidity { message, causes }) => {
                Self::Invalid(Invalidity { message: longer(&message), causes })
            }
            Self::Denied(text) => Self::Denied(longer(&text)),
            Self::TooManyRequests(text) => Self::TooManyRequests(longer(&text)),
            Self::Unreachable(text) => Self::Unreachable(longer(&text)),
            Self::TimedOut(text) => Self::TimedOut(longer(&text)),
            Self::Cancelled => Self::Cancelled,
            Self::Failed(text) => Self::Failed(longer(&text)),
        }
    }
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound(text)
            | Self::Conflict(text)
            | Self::Forbidden(text)
            | Self::Invalid(Invalidity { message: text, .. })
            | Self::Denied(text)
            | Self::TooManyRequests(text)
            | Self::Unreachable(text)
            | Self::TimedOut(text)
            | Self::Failed(text) => text,
            Self::Cancelled => "cancelled",
        })
    }
}

impl std::error::Error for ClusterError {}

impl From<ClusterError> for Error {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::NotFound(text) => Self::NotFound(text),
            ClusterError::Conflict(text) => Self::Conflict(text),
            ClusterError::Invalid(Invalidity { message, .. }) => Self::InvalidArgument(message),
            ClusterError::Denied(text) => Self::Denied(text),
            // Another cluster, other credentials or a later time may do: nothing in the call is wrong.
            ClusterError::Forbidden(text)
            | ClusterError::TooManyRequests(text)
            | ClusterError::Unreachable(text) => Self::Unavailable(text),
            ClusterError::TimedOut(text) => Self::TimedOut(text),
            ClusterError::Cancelled => Self::Cancelled,
            ClusterError::Failed(text) => Self::Other(text),
        }
    }
}

impl From<imported::ClusterError> for ClusterError {
    fn from(error: imported::ClusterError) -> Self {
        match error {
            imported::ClusterError::NotFound(text) => Self::NotFound(text),
            imported::ClusterError::Conflict(text) => Self::Conflict(text),
            imported::ClusterError::Forbidden(text) => Self::Forbidden(text),
            imported::ClusterError::Invalid(invalidity) => Self::Invalid(invalidity),
            imported::ClusterError::Denied(text) => Self::Denied(text),
            imported::ClusterError::TooManyRequests(text) => Self::TooManyRequests(text),
            imported::ClusterError::Unreachable(text) => Self::Unreachable(text),
            imported::ClusterError::TimedOut(text) => Self::TimedOut(text),
            imported::ClusterError::Cancelled => Self::Cancelled,
            imported::ClusterError::Failed(text) => Self::Failed(text),
        }
    }
}

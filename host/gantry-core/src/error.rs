//! Every error of the contract, with the reference's message (spec 3.2).
//!
//! [`Error`] is what crosses borders: few cases that a caller can act on. [`ContractError`] is what a rule or a provisioner raises where the reference has an error of its own;
//! it becomes an [`Error`] at the border and keeps its message. Errors that belong to one rule (a history, a node search) live beside that rule.

mod contract;
mod multi;

use serde::{Deserialize, Serialize};

pub use contract::{BoxError, ContractError, is_startup_error};
pub use multi::MultiError;

/// Why a provisioner's verb failed: the `error` variant of the WIT package, one case for one case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// No unit has this id.
    #[error("unit {} not found", crate::quote(.0))]
    UnitNotFound(String),
    /// No node has the address asked for.
    #[error("node not found")]
    NodeNotFound,
    /// The app has no units.
    #[error("no units for this app")]
    EmptyApp,
    /// Not a status.
    #[error("invalid status")]
    InvalidStatus,
    /// The process is not one the app declares.
    #[error("process error: {0}")]
    InvalidProcess(String),
    /// The units did not start or did not answer; the text is the cause's.
    #[error("{0}")]
    UnitStartup(String),
    /// More units than the app may have.
    #[error("Quota exceeded. Available: {available}. Requested: {requested}.")]
    QuotaExceeded {
        /// What the quota allows.
        available: u32,
        /// What was asked.
        requested: u32,
    },
    /// The provisioner has no such ability.
    #[error("provisioner does not support {0}")]
    NotSupported(String),
    /// Something named in the call does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Something is in the way.
    #[error("{0}")]
    Conflict(String),
    /// An argument is wrong.
    #[error("{0}")]
    InvalidArgument(String),
    /// The operator did not grant this.
    #[error("{0}")]
    Denied(String),
    /// The engine cannot be reached or does not work.
    #[error("{0}")]
    Unavailable(String),
    /// It took longer than allowed; what became of it is not known.
    #[error("{0}")]
    TimedOut(String),
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Constructors from whatever tells the reason, so that they stand in a `map_err`.
///
/// ```
/// use gantry_core::Error;
///
/// let count = "many".parse::<u32>().map_err(Error::invalid_argument);
/// assert_eq!(count.unwrap_err().to_string(), "invalid digit found in string");
/// assert_eq!(Error::not_found("no app `web`"), Error::NotFound("no app `web`".to_owned()));
/// ```
impl Error {
    /// The same error with a longer text, where it has one of its own.
    #[must_use]
    pub fn map_text(self, longer: impl FnOnce(&str) -> String) -> Self {
        match self {
            Self::UnitStartup(text) => Self::UnitStartup(longer(&text)),
            Self::NotFound(text) => Self::NotFound(longer(&text)),
            Self::Conflict(text) => Self::Conflict(longer(&text)),
            Self::InvalidArgument(text) => Self::InvalidArgument(longer(&text)),
            Self::Denied(text) => Self::Denied(longer(&text)),
            Self::Unavailable(text) => Self::Unavailable(longer(&text)),
            Self::TimedOut(text) => Self::TimedOut(longer(&text)),
            Self::Other(text) => Self::Other(longer(&text)),
            other @ (Self::UnitNotFound(_)
            | Self::NodeNotFound
            | Self::EmptyApp
            | Self::InvalidStatus
            | Self::InvalidProcess(_)
            | Self::QuotaExceeded { .. }
            | Self::NotSupported(_)
            | Self::Cancelled) => other,
        }
    }

    /// Something named in the call does not exist.
    #[must_use]
    pub fn not_found(why: impl ToString) -> Self {
        Self::NotFound(why.to_string())
    }

    /// Something is in the way.
    #[must_use]
    pub fn conflict(why: impl ToString) -> Self {
        Self::Conflict(why.to_string())
    }

    /// An argument is wrong.
    #[must_use]
    pub fn invalid_argument(why: impl ToString) -> Self {
        Self::InvalidArgument(why.to_string())
    }

    /// The operator did not grant this.
    #[must_use]
    pub fn denied(why: impl ToString) -> Self {
        Self::Denied(why.to_string())
    }

    /// The engine cannot be reached or does not work.
    #[must_use]
    pub fn unavailable(why: impl ToString) -> Self {
        Self::Unavailable(why.to_string())
    }

    /// It took longer than allowed.
    #[must_use]
    pub fn timed_out(why: impl ToString) -> Self {
        Self::TimedOut(why.to_string())
    }

    /// The units did not start or did not answer.
    #[must_use]
    pub fn unit_startup(why: impl ToString) -> Self {
        Self::UnitStartup(why.to_string())
    }

    /// Anything else.
    #[must_use]
    pub fn other(why: impl ToString) -> Self {
        Self::Other(why.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_made_of_its_reason_and_tells_it_as_it_is() {
        let why = || std::io::Error::other("the reason");
        for (made, expected) in [
            (Error::not_found(why()), Error::NotFound("the reason".to_owned())),
            (Error::conflict(why()), Error::Conflict("the reason".to_owned())),
            (Error::invalid_argument(why()), Error::InvalidArgument("the reason".to_owned())),
            (Error::denied(why()), Error::Denied("the reason".to_owned())),
            (Error::unavailable(why()), Error::Unavailable("the reason".to_owned())),
            (Error::timed_out(why()), Error::TimedOut("the reason".to_owned())),
            (Error::unit_startup(why()), Error::UnitStartup("the reason".to_owned())),
            (Error::other(why()), Error::Other("the reason".to_owned())),
        ] {
            assert_eq!(made, expected);
            assert_eq!(made.to_string(), "the reason");
        }
    }
}

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

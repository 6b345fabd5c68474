//! Why a host call failed.

use serde::{Deserialize, Serialize};

/// Why a call to a container engine failed: the `engine-error` variant of the WIT package, one case for one case. Messages are lowercase fragments that name the thing
/// in backticks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum EngineError {
    /// No such container, image, file or exec.
    #[error("{0}")]
    NotFound(String),
    /// In the way: a name or port in use, a container in another state.
    #[error("{0}")]
    Conflict(String),
    /// The engine or the host refuses the arguments.
    #[error("{0}")]
    Invalid(String),
    /// Not granted; the text names the grant that would allow it.
    #[error("{0}")]
    Denied(String),
    /// The host cannot be reached, or went away in the middle.
    #[error("{0}")]
    Unreachable(String),
    /// It took longer than allowed; what became of it is not known.
    #[error("{0}")]
    TimedOut(String),
    /// The request was cancelled while this call waited.
    #[error("cancelled")]
    Cancelled,
    /// The engine failed, or its answer cannot be read; what became of it is not known.
    #[error("{0}")]
    Failed(String),
}

/// Why a host call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// A container engine said so, or the policy in front of it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The platform said so.
    #[error(transparent)]
    Platform(#[from] gantry_core::Error),
    /// The plugin went over a bound. This ends the call: it is never shown to the guest.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}

impl EngineError {
    /// One word for its case, as the WIT package spells it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not-found",
            Self::Conflict(_) => "conflict",
            Self::Invalid(_) => "invalid",
            Self::Denied(_) => "denied",
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut(_) => "timed-out",
            Self::Cancelled => "cancelled",
            Self::Failed(_) => "failed",
        }
    }
}

impl Error {
    /// One word for its case.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Engine(error) => error.kind(),
            Self::Platform(_) => "refused by the platform",
            Self::OverLimit(_) => "over a limit",
        }
    }
}

/// A bound that was gone over: which, its value, and how to raise it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error(
    "over the limit `{bound}` of {value}: raise `limits.{bound}` of the provisioner in the configuration"
)]
pub struct OverLimit {
    /// The bound, as the configuration spells it.
    pub bound: String,
    /// Its value, with its unit.
    pub value: String,
}

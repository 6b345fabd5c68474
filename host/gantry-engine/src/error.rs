//! Why a host call failed.

use serde::{Deserialize, Serialize};

/// Why a call to an engine failed: the cases of `engine-error` and `cluster-error` of the WIT package. Messages are lowercase fragments that name the thing in backticks, or the engine's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum EngineError {
    /// No such container, image, file, exec, cluster, kind or object.
    #[error("{0}")]
    NotFound(String),
    /// In the way: a name or port in use, a container in another state, an object that has moved on, a field that another manager owns.
    #[error("{0}")]
    Conflict(String),
    /// The engine or the host refuses the arguments.
    #[error("{0}")]
    Invalid(String),
    /// The engine does not take the object.
    #[error("{}", .0.message)]
    InvalidObject(Invalidity),
    /// The engine does not let these credentials do it, or does not know them.
    #[error("{0}")]
    Forbidden(String),
    /// The engine has too much to do.
    #[error("{text}")]
    TooManyRequests {
        /// What it says.
        text: String,
        /// The seconds after which it may be asked again, when it says so.
        retry_after: Option<u32>,
    },
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

/// An object that an engine does not take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invalidity {
    /// What the engine says of it.
    pub message: String,
    /// What is wrong, field by field, as far as it says.
    pub causes: Vec<InvalidField>,
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvalidField {
    /// The field; empty when it is the object.
    pub field: String,
    /// The engine's word for what is wrong.
    pub reason: String,
    /// The same for people.
    pub message: String,
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
            Self::Invalid(_) | Self::InvalidObject(_) => "invalid",
            Self::Forbidden(_) => "forbidden",
            Self::TooManyRequests { .. } => "too-many-requests",
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

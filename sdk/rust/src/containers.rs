//! Docker hosts, spoken to in Docker's own words.
//!
//! [`Client`] makes one call after the other; a [`Batch`] runs many sequences of calls side by side and tells of each when it has ended.

mod batch;
mod client;
mod error;

pub use batch::{Batch, Completion, Sequence, Step, StepReply};
pub use client::Client;
pub use error::EngineError;

pub use crate::bindings::gantry::provision::containers::{
    BuildOptions, CommitOptions, ContainerSummary, ExecEnd, ExecOptions, ExecState, HttpRequest,
    HttpResponse, Layer, ListOptions, LogOptions, PathStat,
};

use crate::bindings::gantry::provision::containers as imported;

/// The result of a call to an engine.
pub type Result<T> = core::result::Result<T, EngineError>;

/// The addresses of the hosts that the operator gave to this provisioner.
#[must_use]
pub fn nodes() -> Vec<String> {
    imported::nodes()
}

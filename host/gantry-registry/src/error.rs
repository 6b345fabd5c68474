//! What can go wrong with a registry.

use std::io;

/// Why a registry did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is to be the name of an image is none.
    #[error("`{0}` is not the name of an image")]
    Name(String),
    /// The registry refuses, or tells what it should not.
    #[error("the registry `{registry}` {what}")]
    Refused {
        /// Which.
        registry: String,
        /// What it does.
        what: String,
    },
    /// The registry deletes nothing, whoever asks.
    #[error("the registry `{registry}` has its deletion switched off")]
    NoDeletion {
        /// Which.
        registry: String,
    },
    /// The registry cannot be reached, or the connection broke. Worth another try.
    #[error("the registry `{registry}` does not answer: {reason}")]
    Unreachable {
        /// Which.
        registry: String,
        /// Why.
        reason: String,
    },
    /// A file of a layer cannot be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What could not be done.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// The result of asking a registry.
pub type Result<T, E = Error> = std::result::Result<T, E>;

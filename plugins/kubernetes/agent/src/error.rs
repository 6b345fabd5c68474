//! What can go wrong, told to the person whose build it is.

use std::io;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The source of the app, or the image that it is built on, is not as it has to be; or its own commands failed.
    #[error("{0}")]
    Build(String),
    /// The registry refuses or does not answer, or what is to be the name of an image is none.
    #[error(transparent)]
    Registry(#[from] gantry_registry::Error),
    /// A file or a stream cannot be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What could not be done.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// The result of a part of a build.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what could not be done.
pub(crate) trait Doing<T> {
    /// The error names what was being done.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}

/// What the app's own source or image is to blame for.
pub(crate) fn build(what: impl Into<String>) -> Error {
    Error::Build(what.into())
}

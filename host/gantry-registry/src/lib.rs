//! A client of registries of images: the OCI distribution specification, version 1.1, as far as images are pulled, pushed and deleted with it.
//!
//! It blocks, and is small: the build agent is one static program of it, and the daemon calls it on threads that may wait. A registry is believed as far as its answers fit their digests. The
//! password goes to the registry itself and to who gives tokens for it, and nowhere that it only points to. What is in an image, and what layers are made of, is not of interest here.

mod account;
mod challenge;
mod digest;
mod error;
#[cfg(any(test, feature = "peer"))]
pub mod peer;
mod reference;
mod repository;

pub use account::Account;
pub use digest::{Digest, Measured};
pub use error::{Error, Result};
pub use reference::Reference;
pub use repository::{Repository, Rights};

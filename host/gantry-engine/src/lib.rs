//! Host calls as values, the one chain of layers they pass, and the engines behind it.
//!
//! A host function lifts its arguments into a [`Call`], sends it through the [`Chain`] and lowers the [`Reply`]. Nothing above an engine knows which engine it is; nothing
//! in an engine knows who asked.

pub mod apps;
pub mod backends;
pub mod call;
pub mod config;
pub mod containers;
pub mod contract;
pub mod docker;
pub mod error;
mod follow;
pub mod images;
pub mod layer;
pub mod memory;
mod names;
pub mod operation;
pub mod scope;
pub mod state;
pub mod stream;

pub use apps::Apps;
pub use backends::{Backends, Nodes};
pub use call::{Call, Reply, Request, Response};
pub use config::Config;
pub use containers::Containers;
pub use docker::Docker;
pub use error::{EngineError, Error, OverLimit};
pub use images::Images;
pub use layer::journal::{Created, Ledger};
pub use layer::quota::{Limits, Meter};
pub use layer::{Chain, Layer, Next};
pub use memory::Memory;
pub use operation::Operation;
pub use scope::Scope;
pub use state::State;

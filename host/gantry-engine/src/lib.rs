//! Host calls as values, the one chain of layers they pass, and the engines behind it.
//!
//! A host function lifts its arguments into a [`Call`], sends it through the [`Chain`] and lowers the [`Reply`]. Nothing above an engine knows which engine it is; nothing
//! in an engine knows who asked.

pub mod apps;
pub mod backends;
pub mod call;
pub mod cluster;
pub mod config;
pub mod containers;
pub mod contract;
pub mod docker;
pub mod error;
mod follow;
pub mod given;
pub mod images;
pub mod kubernetes;
pub mod layer;
pub mod managed;
pub mod memory;
mod names;
pub mod operation;
mod reason;
pub mod routers;
pub mod scope;
pub mod state;
pub mod stream;

pub use apps::{AppLock, Apps};
pub use backends::Backends;
pub use call::{Call, Reply, Request, Response};
pub use cluster::Cluster;
pub use config::{Changing, Config};
pub use containers::Containers;
pub use docker::Docker;
pub use error::{EngineError, Error, InvalidField, Invalidity, OverLimit};
pub use given::{Clusters, GivenCluster, Nodes};
pub use images::Images;
pub use kubernetes::Kubernetes;
pub use layer::journal::{Created, Ledger};
pub use layer::quota::{Limits, Meter};
pub use layer::{Chain, Layer, Next};
pub use memory::Memory;
pub use operation::Operation;
pub use routers::Routers;
pub use scope::Scope;
pub use state::State;

//! What the integration tests and the benchmarks share: the artifacts under test, the daemon as a child process, clusters and Docker hosts to run on, a peer below the Docker client.

pub mod artifacts;
pub mod clusters;
pub mod daemon;
pub mod hosts;
pub mod kubernetes;
pub mod peer;
pub mod registry;
pub mod screen;
pub mod terminal;

//! What the integration tests and the benchmarks share: the artifacts under test, the daemon as a child process, a peer below the Docker client.

pub mod artifacts;
pub mod daemon;
pub mod hosts;
pub mod peer;

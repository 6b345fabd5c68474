//! What the processes of in-memory containers do. They do nothing on their own: a test tells.

use gantry_core::container::Container;

use crate::call::{ExecOptions, HttpRequest, HttpResponse};
use crate::stream::Chunk;

/// What becomes of a container's process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// What it writes as soon as it runs, a line a chunk.
    pub output: Vec<Chunk>,
    /// The code it ends with at once; none when it runs until it is stopped, and then ends with 0.
    pub ends_with: Option<i64>,
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// What it wrote.
    pub output: Vec<Chunk>,
    /// Its exit code.
    pub exit_code: i32,
}

/// Plays the processes of in-memory containers. Every method has an answer for tests that do not care.
pub trait Processes: Send + Sync {
    /// What becomes of the process of a container that is started. It runs until it is stopped.
    fn start(&self, container: &Container) -> Life {
        let _ = container;
        Life::default()
    }

    /// How a command in a container ends; none when nobody plays it. Nobody does.
    fn exec(&self, container: &Container, options: &ExecOptions) -> Option<Ended> {
        let _ = (container, options);
        None
    }

    /// What a published port of a container answers; none when nothing listens. Nothing does.
    fn http(&self, container: &Container, request: &HttpRequest) -> Option<HttpResponse> {
        let _ = (container, request);
        None
    }
}

/// Nobody plays anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idle;

impl Processes for Idle {}

//! What goes on in the pods of a cluster in memory. Nothing does on its own: a test tells.

use serde_json::Value;
use tokio::io::DuplexStream;

use crate::call::cluster::{PodExecOptions, PodLogOptions};
use crate::memory::Ended;
use crate::stream::Chunk;

/// Plays the containers of pods. Every method has an answer for tests that do not care: the pod does not run.
pub trait Pods: Send + Sync {
    /// What a container has written so far, a line a chunk; none when it does not run.
    fn logs(&self, pod: &Value, options: &PodLogOptions) -> Option<Vec<Chunk>> {
        let _ = (pod, options);
        None
    }

    /// How a command in a container ends; none when it does not run.
    fn exec(&self, pod: &Value, options: &PodExecOptions) -> Option<Ended> {
        let _ = (pod, options);
        None
    }

    /// What the process of a container writes to who attaches to it; none when it does not run.
    fn attach(&self, pod: &Value, options: &PodExecOptions) -> Option<Vec<Chunk>> {
        let _ = (pod, options);
        None
    }

    /// The caller's end of a connection to a port; none when nothing listens.
    fn port_forward(&self, pod: &Value, port: u16) -> Option<DuplexStream> {
        let _ = (pod, port);
        None
    }
}

/// Nothing runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idle;

impl Pods for Idle {}

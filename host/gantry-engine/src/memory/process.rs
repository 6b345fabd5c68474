//! What the processes of in-memory containers do. They do nothing on their own: a test tells.

use futures_util::{FutureExt as _, StreamExt as _, stream};
use gantry_core::container::Container;
use tokio::sync::mpsc;

use crate::call::{ExecOptions, HttpRequest, HttpResponse};
use crate::stream::{Chunk, Session, Writer};

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

/// The session of a command that is played.
pub(super) fn session(
    output: Vec<Chunk>,
    exit_code: Option<i32>,
    stdin: bool,
    tty: bool,
) -> Session {
    let (sizes, mut taken) = mpsc::channel(1);
    if tty {
        // Somebody takes the sizes for as long as the caller tells them.
        tokio::spawn(async move { while taken.recv().await.is_some() {} });
    }
    Session {
        chunks: stream::iter(output.into_iter().map(Ok)).boxed(),
        input: stdin.then(|| -> Writer { Box::pin(tokio::io::sink()) }),
        sizes: tty.then_some(sizes),
        exit: exit_code.map(|code| async move { Ok(code) }.boxed()),
    }
}

/// Nobody plays anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idle;

impl Processes for Idle {}

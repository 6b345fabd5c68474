//! What comes beside a call and is no value: bytes that flow, and a lock that is held. It is not part of what is recorded.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::cluster::Changes;
use crate::{AppLock, EngineError};

/// Where bytes come out.
pub type Reader = Pin<Box<dyn AsyncRead + Send>>;

/// Where bytes go in.
pub type Writer = Pin<Box<dyn AsyncWrite + Send>>;

/// The two ends a command writes to.
pub struct Output {
    /// What it says.
    pub stdout: Writer,
    /// What it complains about.
    pub stderr: Writer,
}

/// Which end bytes were written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// What it says.
    Stdout,
    /// What it complains about.
    Stderr,
}

/// Some bytes of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The end they were written to.
    pub source: Source,
    /// The bytes.
    pub bytes: Bytes,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Its columns.
    pub width: u16,
    /// Its rows.
    pub height: u16,
}

/// Bytes in both directions between an engine and a caller. Dropping it closes it.
pub struct Session {
    /// What the container writes.
    pub chunks: BoxStream<'static, Result<Chunk, EngineError>>,
    /// What the container reads, if it does.
    pub input: Option<Writer>,
    /// Takes the new sizes of the caller's terminal, if the container has one.
    pub sizes: Option<mpsc::Sender<Size>>,
    /// The exit code of the command, once [`chunks`](Self::chunks) has ended, if the session is one of a command.
    pub exit: Option<BoxFuture<'static, Result<i32, EngineError>>>,
}

impl Session {
    /// A session in which only the container has something to say.
    #[must_use]
    pub fn of(chunks: BoxStream<'static, Result<Chunk, EngineError>>) -> Self {
        Self { chunks, input: None, sizes: None, exit: None }
    }

    /// The same with something that the container reads from.
    #[must_use]
    pub fn with_input(mut self, input: Option<Writer>) -> Self {
        self.input = input;
        self
    }
}

/// What a reply carries beside its value.
pub enum Stream {
    /// A file or archive.
    Reader(Reader),
    /// A log tail or an attached container.
    Session(Session),
    /// What happens to the objects of a cluster.
    Changes(Changes),
    /// A lock, for as long as somebody keeps it.
    Lock(AppLock),
}

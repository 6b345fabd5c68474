//! Bytes that flow beside a call. They are not part of the recorded value.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::EngineError;

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

/// Bytes in both directions between an engine and a caller. Dropping it closes it.
pub struct Session {
    /// What the container writes.
    pub chunks: BoxStream<'static, Result<Chunk, EngineError>>,
    /// What the container reads, if it does.
    pub input: Option<Writer>,
}

/// A stream that a reply carries.
pub enum Stream {
    /// A file or archive.
    Reader(Reader),
    /// A log tail or an attached container.
    Session(Session),
}

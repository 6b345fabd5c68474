//! `streams`: the ends of what flows. The host owns both; a plugin that reads or writes sees one bounded piece at a time.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use gantry_engine::stream;
use gantry_engine::{OverLimit, Scope};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use wasmtime::component::Resource;

use crate::bindings::gantry::provision::streams::{
    Host, HostReader, HostSession, HostWriter, StreamError,
};
use crate::bounds::{Bound, Bounds};
use crate::call::CallState;

/// The most that one read gives, whatever was asked for.
const MOST_READ: u64 = 1 << 20;

/// The end where bytes come out.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Reader(pub(crate) stream::Reader);

/// The end where bytes go in. It is lent to host calls, so it is shared with them.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Writer(pub(crate) Shared);

/// Bytes in both directions.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Session(pub(crate) stream::Session);

/// Bytes of the guest that the host keeps for it. A guest could otherwise fill the host's memory with what no bound of its own memory counts.
pub(crate) struct Held {
    bytes: AtomicU64,
    most: u64,
    over: OverLimit,
}

/// Some held bytes; they are given back when this is dropped.
pub(crate) struct Holding {
    held: Arc<Held>,
    bytes: u64,
}

impl Held {
    /// Room for a few of the biggest host calls.
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            most: bounds.get(Bound::HostCallBytes).saturating_mul(4),
            over: bounds.over(Bound::HostCallBytes),
        }
    }

    pub(crate) fn hold(self: &Arc<Self>, bytes: u64) -> Result<Holding, OverLimit> {
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let holding = Holding { held: Arc::clone(self), bytes };
        if before.saturating_add(bytes) > self.most {
            return Err(self.over.clone());
        }
        Ok(holding)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A reader of bytes that are held for the guest.
struct Bytes {
    bytes: io::Cursor<Vec<u8>>,
    _holding: Holding,
}

impl AsyncRead for Bytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_read(cx, buf)
    }
}

/// A writer that a guest holds and host calls write to.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<stream::Writer>>);

impl Shared {
    pub(crate) fn new(writer: stream::Writer) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }

    /// The same end for a host call.
    pub(crate) fn lend(&self) -> stream::Writer {
        Box::pin(self.clone())
    }

    // Held for one poll, never across one.
    fn lock(&self) -> MutexGuard<'_, stream::Writer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncWrite for Shared {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lock().as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().as_mut().poll_flush(cx)
    }

    // The guest may lend it again: its end is when the guest drops it.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().as_mut().poll_flush(cx)
    }
}

/// Waits for a stream, or until the request is interrupted.
async fn flow<T>(
    scope: &Scope,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, StreamError> {
    tokio::select! {
        biased;
        () = scope.operation.interruption() => Err(StreamError::Failed("cancelled".to_owned())),
        done = work => done.map_err(|error| {
            if is_gone(error.kind()) {
                StreamError::Closed
            } else {
                StreamError::Failed(error.to_string())
            }
        }),
    }
}

/// Whether an error says that the other end went away.
fn is_gone(kind: io::ErrorKind) -> bool {
    [
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::WriteZero,
    ]
    .contains(&kind)
}

impl Host for CallState {}

impl HostReader for CallState {
    fn from_bytes(&mut self, bytes: Vec<u8>) -> wasmtime::Result<Resource<Reader>> {
        self.charge(bytes.len())?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let holding = self.held.hold(length).map_err(wasmtime::Error::new)?;
        let bytes = Bytes { bytes: io::Cursor::new(bytes), _holding: holding };
        self.push(Reader(Box::pin(bytes)))
    }

    async fn read(
        &mut self,
        reader: Resource<Reader>,
        max: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, StreamError>> {
        let outside = Arc::clone(self.charge(0)?);
        let most = u64::from(max).min(MOST_READ).min(self.bounds.get(Bound::HostCallBytes));
        let watch = Arc::clone(&self.watch);
        let _working = watch.work();
        let Reader(reader) = self.table.get_mut(&reader)?;
        let mut bytes = vec![0; usize::try_from(most).unwrap_or_default()];
        Ok(flow(&outside.scope, reader.read(&mut bytes)).await.map(|count| {
            bytes.truncate(count);
            bytes
        }))
    }

    async fn drop(&mut self, reader: Resource<Reader>) -> wasmtime::Result<()> {
        self.table.delete(reader)?;
        Ok(())
    }
}

impl HostWriter for CallState {
    async fn write(
        &mut self,
        writer: Resource<Writer>,
        bytes: Vec<u8>,
    ) -> wasmtime::Result<Result<(), StreamError>> {
        let outside = Arc::clone(self.charge(bytes.len())?);
        let watch = Arc::clone(&self.watch);
        let _working = watch.work();
        let Writer(writer) = self.table.get(&writer)?;
        let mut writer = writer.lend();
        Ok(flow(&outside.scope, async move {
            writer.write_all(&bytes).await?;
            writer.flush().await
        })
        .await)
    }

    async fn drop(&mut self, writer: Resource<Writer>) -> wasmtime::Result<()> {
        self.table.delete(writer)?;
        Ok(())
    }
}

impl HostSession for CallState {
    async fn drop(&mut self, session: Resource<Session>) -> wasmtime::Result<()> {
        self.table.delete(session)?;
        Ok(())
    }
}

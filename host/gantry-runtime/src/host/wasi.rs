//! WASI 0.2, for the standard library of a plugin's language: clocks, random numbers, and a stderr that ends up in the log. No files, no sockets, no environment, no arguments; stdin is empty
//! and stdout goes where stderr goes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::bindings::gantry::provision::log::Level;
use crate::call::Watch;
use crate::host::log::Gate;

/// The most random bytes of one call.
const RANDOM: u64 = 64 << 10;
/// What one write may carry.
const PIECE: usize = 4 << 10;

/// The interfaces that are linked. The others of WASI do not exist for a plugin.
///
/// The standard libraries of most languages import files and sockets whether or not a program uses them, so those are linked, and empty: no folder is open, every address is refused.
pub(crate) const LINKED: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// What a plugin has of WASI in one call.
pub(crate) fn context(log: &Arc<Gate>, watch: &Arc<Watch>) -> WasiCtx {
    let lines = Lines {
        log: Arc::clone(log),
        watch: Arc::clone(watch),
        line: Arc::new(Mutex::new(Vec::new())),
    };
    WasiCtx::builder()
        .stdout(lines.clone())
        .stderr(lines)
        .max_random_size(RANDOM)
        .allow_tcp(false)
        .allow_udp(false)
        .build()
}

/// Makes log lines of what a plugin writes.
#[derive(Clone)]
struct Lines {
    log: Arc<Gate>,
    watch: Arc<Watch>,
    line: Arc<Mutex<Vec<u8>>>,
}

impl Lines {
    fn take(&self, bytes: &[u8]) -> wasmtime::Result<()> {
        self.watch.hear(bytes);
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || line.len() >= PIECE {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if !text.is_empty() {
                    self.log.write(Level::Info, &text, &[]).map_err(wasmtime::Error::new)?;
                }
            }
        }
        Ok(())
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes).map_err(StreamError::Trap)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PIECE)
    }
}

impl AsyncWrite for Lines {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.take(bytes).map(|()| bytes.len()).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

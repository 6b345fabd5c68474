//! `operation`: the request under way. Nothing of it goes down the chain: it is between the plugin and those who wait.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use gantry_engine::operation::Progress;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use wasmtime::component::Resource;

use crate::bindings::gantry::provision::operation::{Host, Interrupted};
use crate::call::{CallState, Watch};
use crate::host::streams::{Shared, Writer};

impl Host for CallState {
    fn id(&mut self) -> wasmtime::Result<String> {
        Ok(self.charge(0)?.scope.operation.id.clone())
    }

    fn progress(&mut self, text: String) -> wasmtime::Result<()> {
        self.charge(text.len())?.scope.operation.progress.show(&text);
        self.watch.stir();
        Ok(())
    }

    fn output(&mut self) -> wasmtime::Result<Resource<Writer>> {
        let progress = Arc::clone(&self.charge(0)?.scope.operation.progress);
        let shown = Shown { progress, rest: Vec::new(), watch: Arc::clone(&self.watch) };
        self.push(Writer(Shared::new(Box::pin(shown))))
    }

    fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.charge(0)?.scope.operation.cancel.is_cancelled())
    }

    fn remaining(&mut self) -> wasmtime::Result<u64> {
        let deadline = self.charge(0)?.scope.operation.deadline;
        let left = deadline.saturating_duration_since(Instant::now());
        Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    async fn pause(&mut self, milliseconds: u32) -> wasmtime::Result<Result<(), Interrupted>> {
        let outside = Arc::clone(self.charge(0)?);
        let operation = &outside.scope.operation;
        let end = Instant::now() + Duration::from_millis(u64::from(milliseconds));
        Ok(tokio::select! {
            biased;
            () = operation.interruption() => Err(Interrupted::Cancelled),
            () = tokio::time::sleep_until(operation.deadline.min(end)) => {
                if operation.deadline < end { Err(Interrupted::Deadline) } else { Ok(()) }
            }
        })
    }

    fn undoing(&mut self) -> wasmtime::Result<()> {
        self.charge(0)?.scope.operation.undoing.store(true, Ordering::Release);
        Ok(())
    }

    fn undone(&mut self) -> wasmtime::Result<()> {
        self.charge(0)?.scope.operation.undoing.store(false, Ordering::Release);
        Ok(())
    }
}

/// Shows bytes as text. A character that comes in two pieces is shown when it is whole.
struct Shown {
    progress: Arc<dyn Progress>,
    rest: Vec<u8>,
    watch: Arc<Watch>,
}

impl Shown {
    fn show(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            Ok(_) => self.rest.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            // Not text: what follows the fault may be a piece of a character, and is shown as it is.
            Err(_) => self.rest.len(),
        };
        let rest = self.rest.split_off(whole);
        let whole = std::mem::replace(&mut self.rest, rest);
        if !whole.is_empty() {
            self.progress.show(&String::from_utf8_lossy(&whole));
        }
    }
}

impl AsyncWrite for Shown {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.show(bytes);
        self.watch.stir();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Progress for Lines {
        fn show(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    #[test]
    fn a_character_in_two_pieces_is_shown_whole() {
        let lines = Arc::new(Lines::default());
        let progress = Arc::clone(&lines) as Arc<dyn Progress>;
        let mut shown = Shown { progress, rest: Vec::new(), watch: Arc::new(Watch::new()) };
        let text = "né\n".as_bytes();
        shown.show(&text[..2]);
        shown.show(&text[2..]);
        shown.show(b"\xff!");
        assert_eq!(*lines.0.lock().unwrap(), ["n", "é\n", "\u{fffd}!"]);
    }
}

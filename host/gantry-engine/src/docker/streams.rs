//! Bytes between an engine and whoever reads them: Docker's frames taken apart, the lines of its progress as text. Nothing is held whole.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::AsyncRead;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::{Decoder, FramedRead};
use tokio_util::io::StreamReader;

use super::endpoint::Endpoint;
use super::errors::About;
use crate::stream::{Chunk, Session, Source, Writer};

/// Takes apart what a container writes: frames of two streams, or with a terminal the bytes as they are.
#[derive(Debug)]
pub(super) enum Demux {
    Raw,
    Framed { source: Source, left: usize },
}

impl Demux {
    pub(super) fn new(tty: bool) -> Self {
        if tty { Self::Raw } else { Self::Framed { source: Source::Stdout, left: 0 } }
    }
}

impl Decoder for Demux {
    type Item = Chunk;
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Chunk>> {
        match self {
            Self::Raw if bytes.is_empty() => Ok(None),
            Self::Raw => Ok(Some(Chunk { source: Source::Stdout, bytes: bytes.split().freeze() })),
            Self::Framed { source, left } => {
                while *left == 0 {
                    // A source, three zeros, the length in four bytes.
                    let Some(header) = bytes.first_chunk::<8>().copied() else {
                        return Ok(None);
                    };
                    bytes.advance(header.len());
                    let [from, _, _, _, length @ ..] = header;
                    *source = match from {
                        0 | 1 => Source::Stdout,
                        2 => Source::Stderr,
                        _ => return Err(io::Error::other("what the engine sends is no frame")),
                    };
                    *left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                }
                if bytes.is_empty() {
                    return Ok(None);
                }
                // A part of a frame goes on as soon as it is there.
                let part = bytes.split_to(bytes.len().min(*left));
                *left = left.saturating_sub(part.len());
                Ok(Some(Chunk { source: *source, bytes: part.freeze() }))
            }
        }
    }

    fn decode_eof(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Chunk>> {
        match self.decode(bytes)? {
            Some(chunk) => Ok(Some(chunk)),
            None if bytes.is_empty() && !matches!(self, Self::Framed { left: 1.., .. }) => Ok(None),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// What a container writes, taken apart.
pub(super) fn session(
    endpoint: &Endpoint,
    about: About<'_>,
    bytes: impl AsyncRead + Send + 'static,
    tty: bool,
    input: Option<Writer>,
) -> Session {
    let cut_off = about.cut_off(endpoint);
    let chunks = FramedRead::new(bytes, Demux::new(tty)).map_err(move |_| cut_off.clone()).boxed();
    Session::of(chunks).with_input(input)
}

/// The same stream, with an error in place of a part that does not come in time. Only the time in which somebody waits counts.
pub(super) fn impatient(
    parts: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
    silence: Duration,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(Some(parts), move |parts| async move {
        let mut parts = parts?;
        match timeout(silence, parts.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(part))) => Some((Ok(part), Some(parts))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Err(_) => Some((Err(io::ErrorKind::TimedOut.into()), None)),
        }
    })
}

/// Whose turn it is when bytes are sent: the engine's, since then, or their source's.
#[derive(Default)]
pub(super) struct Turn(Mutex<Option<Instant>>);

impl Turn {
    fn set(&self, engine_since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = engine_since;
    }

    fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same parts, telling whose turn it is.
    pub(super) fn told(
        self: &Arc<Self>,
        parts: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let turn = Arc::clone(self);
        stream::unfold(parts, move |mut parts| {
            let turn = Arc::clone(&turn);
            async move {
                turn.set(None);
                let part = parts.next().await;
                turn.set(Some(Instant::now()));
                Some((part?, parts))
            }
        })
    }

    /// Ends when the engine has let its turn pass for so long.
    pub(super) async fn overdue(&self, limit: Duration) {
        loop {
            let since = self.get();
            sleep_until(since.unwrap_or_else(Instant::now) + limit).await;
            if since.is_some() && self.get() == since {
                return;
            }
        }
    }
}

/// The body of an answer as bytes.
pub(super) fn body(body: Incoming) -> impl AsyncRead + Send {
    StreamReader::new(body.into_data_stream().map_err(io::Error::other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(tty: bool, parts: &[&[u8]]) -> Result<Vec<(Source, String)>, io::ErrorKind> {
        let (mut demux, mut bytes, mut seen) = (Demux::new(tty), BytesMut::new(), Vec::new());
        let mut take = |chunk: Chunk| {
            seen.push((chunk.source, String::from_utf8_lossy(&chunk.bytes).into_owned()));
        };
        for part in parts {
            bytes.extend_from_slice(part);
            while let Some(chunk) = demux.decode(&mut bytes).map_err(|error| error.kind())? {
                take(chunk);
            }
        }
        while let Some(chunk) = demux.decode_eof(&mut bytes).map_err(|error| error.kind())? {
            take(chunk);
        }
        Ok(seen)
    }

    #[test]
    fn frames_are_told_apart_wherever_they_are_cut() {
        let bytes = b"\x01\0\0\0\0\0\0\x05hello\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\x02no";
        let joined = |seen: Vec<(Source, String)>| {
            let text = |source| {
                seen.iter()
                    .filter(|(from, _)| *from == source)
                    .map(|(_, text)| text.as_str())
                    .collect()
            };
            let both: (String, String) = (text(Source::Stdout), text(Source::Stderr));
            both
        };
        for cut in 0..bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            let seen = joined(all(false, &[head, tail]).unwrap());
            assert_eq!(seen, ("hello".to_owned(), "no".to_owned()), "cut at {cut}");
        }
    }

    #[test]
    fn a_stream_that_ends_in_a_frame_is_an_error() {
        for bytes in [&b"\x01\0\0\0\0\0\0\x05hel"[..], b"\x01\0\0", b"\x01\0\0\0\0\0\0\x05"] {
            assert_eq!(all(false, &[bytes]), Err(io::ErrorKind::UnexpectedEof));
        }
        assert_eq!(all(false, &[b"HTTP/1.1 garbage"]), Err(io::ErrorKind::Other));
    }

    #[test]
    fn a_terminal_has_no_frames() {
        let seen = all(true, &[b"\x01\0\0\0\0\0\0\x05", b"$ "]).unwrap();
        let text: String = seen.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(text, "\x01\0\0\0\0\0\0\x05$ ");
    }
}

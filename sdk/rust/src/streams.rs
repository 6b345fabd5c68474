//! Bytes that flow. The host owns both ends; a plugin reads or writes only where it wants to see them.

use std::io;

pub use crate::bindings::gantry::provision::streams::{Reader, Session, StreamError, Writer};

/// The most bytes asked for or sent in one call.
const CHUNK: usize = 64 * 1024;

impl io::Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max = u32::try_from(buffer.len().min(CHUNK)).unwrap_or(u32::MAX);
        if max == 0 {
            return Ok(0);
        }
        let bytes = Self::read(self, max).map_err(into_io)?;
        let mut ends = buffer.iter_mut();
        // The host keeps to `max`, so the buffer takes all of it.
        Ok(bytes.iter().zip(&mut ends).map(|(from, to)| *to = *from).count())
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = bytes.get(..CHUNK).unwrap_or(bytes);
        Self::write(self, chunk).map_err(into_io)?;
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn into_io(error: StreamError) -> io::Error {
    match error {
        StreamError::Closed => io::ErrorKind::BrokenPipe.into(),
        StreamError::Failed(text) => io::Error::other(text),
    }
}

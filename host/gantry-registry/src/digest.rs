//! Digests of content, and streams that work them out on the way.

use std::fmt;
use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

const ALGORITHM: &str = "sha256:";

/// The SHA-256 of some content, as registries write it: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Digest(String);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(Sha256::new_with_prefix(bytes))
    }

    /// Reads one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix(ALGORITHM)?;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (hex.len() == 64 && hex.bytes().all(is_hex)).then(|| Self(text.to_owned()))
    }

    fn from_hash(hash: Sha256) -> Self {
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{ALGORITHM}{hex}"))
    }

    /// As registries write it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A stream whose content is measured as it goes through.
pub struct Measured<S> {
    inner: S,
    hash: Sha256,
    length: u64,
}

impl<S> Measured<S> {
    /// Measures what goes through.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner, hash: Sha256::new(), length: 0 }
    }

    /// The stream, the digest of what went through, and how much that was.
    #[must_use]
    pub fn finish(self) -> (S, Digest, u64) {
        (self.inner, Digest::from_hash(self.hash), self.length)
    }

    fn note(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.length = self.length.saturating_add(bytes.len() as u64);
    }
}

impl<W: Write> Write for Measured<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.note(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.note(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_digest_is_that_of_the_standard() {
        assert_eq!(Digest::of(b"").as_str(), EMPTY);
        assert_eq!(Digest::of(b"abc").as_str(), ABC);
        assert_eq!(Digest::parse(ABC), Some(Digest::of(b"abc")));
        for odd in ["", "abc", &ABC[1..], &ABC[..70], &ABC.to_uppercase(), "sha512:00"] {
            assert_eq!(Digest::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_goes_through_a_stream_in_pieces_is_measured_whole() {
        let mut out = Measured::new(Vec::new());
        out.write_all(b"a").unwrap();
        out.write_all(b"bc").unwrap();
        let (bytes, digest, length) = out.finish();
        assert_eq!((bytes.as_slice(), digest.as_str(), length), (b"abc".as_slice(), ABC, 3));
        let mut read = Measured::new(b"abc".as_slice());
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        let (_, digest, length) = read.finish();
        assert_eq!((digest.as_str(), length), (ABC, 3));
    }
}

//! The names of images: where they are, and which one is meant.

use crate::digest::Digest;
use crate::error::{Error, Result};

/// Docker's registry, which images without one in their name are of, and where it really is.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// The part of Docker's registry where images without a folder are.
const LIBRARY: &str = "library";

/// A name of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The registry, as it is named.
    pub registry: String,
    /// The repository within it.
    pub repository: String,
    /// The tag or the digest.
    pub version: String,
}

impl Reference {
    /// Reads a name: `[HOST[:PORT]/]REPOSITORY[:TAG|@DIGEST]`. Without a tag it is the newest.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn parse(name: &str) -> Result<Self> {
        let invalid = || Error::Name(name.to_owned());
        let (registry, rest) = match name.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => (HUB.0, name),
        };
        let (path, version) = match rest.split_once('@') {
            Some((path, digest)) => {
                Digest::parse(digest).ok_or_else(invalid)?;
                // A tag beside a digest says nothing.
                (path.split_once(':').map_or(path, |(path, _)| path), digest)
            }
            None => rest.split_once(':').unwrap_or((rest, "latest")),
        };
        let repository = if registry == HUB.0 && !path.contains('/') {
            format!("{LIBRARY}/{path}")
        } else {
            path.to_owned()
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        let is_path = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let is_tag = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
        let is_good = registry.bytes().all(is_host)
            // So neither `..` nor anything else that a path of a URL could be led astray by.
            && repository.split('/').all(|part| {
                part.bytes().all(is_path) && part.bytes().any(|byte| byte.is_ascii_alphanumeric())
            })
            && !version.is_empty()
            && version.len() <= 128
            && version.bytes().all(is_tag);
        if !is_good {
            return Err(invalid());
        }
        Ok(Self { registry: registry.to_owned(), repository, version: version.to_owned() })
    }

    /// Where the registry answers: over TLS, but on this machine itself, as Docker's engine has it.
    #[must_use]
    pub fn base(&self) -> String {
        let host = if self.registry == HUB.0 { HUB.1 } else { &self.registry };
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let is_here = name == "localhost" || name.starts_with("127.") || name == "[::1]";
        format!("{}://{host}", if is_here { "http" } else { "https" })
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mark = if self.version.contains(':') { '@' } else { ':' };
        write!(formatter, "{}/{}{mark}{}", self.registry, self.repository, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_registry_a_repository_and_a_version() {
        let digest = Digest::of(b"").to_string();
        for (name, base, repository, version) in [
            ("busybox", "https://registry-1.docker.io", "library/busybox", "latest"),
            ("tsuru/python:v1", "https://registry-1.docker.io", "tsuru/python", "v1"),
            ("docker.io/a/b", "https://registry-1.docker.io", "a/b", "latest"),
            ("reg.example/a/b/c:v1.2_x", "https://reg.example", "a/b/c", "v1.2_x"),
            ("10.95.0.1:5443/a:v1", "https://10.95.0.1:5443", "a", "v1"),
            ("localhost/a:v1", "http://localhost", "a", "v1"),
            ("127.0.0.1:5000/a", "http://127.0.0.1:5000", "a", "latest"),
            (&format!("reg.example/a:v1@{digest}"), "https://reg.example", "a", &digest),
        ] {
            let read = Reference::parse(name).unwrap();
            let is = (read.base(), read.repository.as_str(), read.version.as_str());
            assert_eq!(is, (base.to_owned(), repository, version), "{name}");
            assert_eq!(Reference::parse(&read.to_string()).unwrap(), read, "{name}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in [
            "",
            "/a",
            "reg.example/",
            "reg.example/../a",
            "reg.example/a//b",
            "reg.example/A",
            "reg.example/a:",
            "reg.example/a:b/c",
            "reg.example/a?x=y",
            "reg.example/a@sha256:00",
            "user@reg.example/a",
            "reg.example/a b",
        ] {
            assert!(Reference::parse(name).is_err(), "{name}");
        }
    }
}

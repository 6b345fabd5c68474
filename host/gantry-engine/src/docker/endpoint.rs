//! Where a Docker engine answers: what an address means, and what the environment says.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::EngineError;

/// Where Docker answers when nobody says otherwise.
const DEFAULT: &str = "unix:///var/run/docker.sock";
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// Where a Docker engine answers, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address as it was given: what people read in messages.
    address: String,
    pub(super) place: Place,
    pub(super) certificates: Option<Certificates>,
    /// Whether it must be spoken to over TLS.
    secure: bool,
}

/// What is shown to an engine that speaks TLS, and what it must show.
#[derive(Clone, PartialEq, Eq)]
pub enum Certificates {
    /// The files `ca.pem`, `cert.pem` and `key.pem` in a folder.
    Folder(PathBuf),
    /// The same as texts.
    Pem {
        /// The certificate authority that the engine's certificate must be signed with.
        ca: String,
        /// The certificate that is shown to it.
        cert: String,
        /// Its key.
        key: String,
    },
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => f.debug_tuple("Folder").field(folder).finish(),
            // The key is nobody's to see.
            Self::Pem { .. } => f.write_str("Pem"),
        }
    }
}

/// What an address comes down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Socket(PathBuf),
    Tcp { host: String, port: u16 },
}

impl Endpoint {
    /// Reads an address: `unix:///path`, `tcp://host:port`, `http://host:port`, `https://host:port` (which needs [certificates](Self::with_certificates)), or `host:port`.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when it is none of these.
    pub fn parse(address: &str) -> Result<Self, EngineError> {
        let invalid = |why: &str| {
            EngineError::Invalid(format!("`{address}` is not the address of a Docker host: {why}"))
        };
        let (scheme, rest) = address.split_once("://").unwrap_or(("tcp", address));
        let place = match scheme {
            "unix" if rest.starts_with('/') => Place::Socket(PathBuf::from(rest)),
            "unix" => return Err(invalid("the path of the socket must start with a slash")),
            "tcp" | "http" | "https" => {
                let (host, port) = split_port(rest.trim_end_matches('/'))
                    .ok_or_else(|| invalid("it should end in `host:port`"))?;
                let default = if scheme == "https" { TLS_PORT } else { PLAIN_PORT };
                Place::Tcp { host, port: port.unwrap_or(default) }
            }
            _ => return Err(invalid("it should start with `unix://` or `tcp://`")),
        };
        let secure = scheme == "https";
        Ok(Self { address: address.to_owned(), place, certificates: None, secure })
    }

    /// The same place over TLS with the certificates in a folder: `ca.pem`, which the engine's must be signed with, and `cert.pem` and `key.pem`, which are shown to it.
    #[must_use]
    pub fn with_certificates(self, folder: impl AsRef<Path>) -> Self {
        self.with_tls(Certificates::Folder(folder.as_ref().to_owned()))
    }

    /// The same place over TLS.
    #[must_use]
    pub fn with_tls(mut self, certificates: Certificates) -> Self {
        self.certificates = Some(certificates);
        // Without a port in the address, TLS has one of its own.
        if let Place::Tcp { port, .. } = &mut self.place
            && !self.address.ends_with(&format!(":{port}"))
        {
            *port = TLS_PORT;
        }
        self
    }

    /// What `DOCKER_HOST`, `DOCKER_TLS`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` say; Docker's own socket without them. TLS without a folder of certificates takes those in
    /// `~/.docker`.
    ///
    /// Unlike Docker's command, an engine's certificate is always verified when there are certificates.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and [`EngineError::Invalid`] when TLS is asked for and no certificates are.
    pub fn from_env() -> Result<Self, EngineError> {
        Self::from_vars(|name| env::var(name).ok())
    }

    /// The same of variables that are read elsewhere.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, EngineError> {
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        let mut endpoint = Self::parse(set("DOCKER_HOST").as_deref().unwrap_or(DEFAULT))?;
        if let Place::Socket(_) = endpoint.place {
            return Ok(endpoint);
        }
        endpoint.secure |= set("DOCKER_TLS_VERIFY").or_else(|| set("DOCKER_TLS")).is_some();
        let own = || Some(PathBuf::from(set("HOME")?).join(".docker"));
        let folder = set("DOCKER_CERT_PATH").map(PathBuf::from);
        let folder = folder.or_else(|| if endpoint.secure { own() } else { None });
        let endpoint = match folder {
            Some(folder) => endpoint.with_certificates(folder),
            None => endpoint,
        };
        endpoint.check()?;
        Ok(endpoint)
    }

    /// Whether it can be spoken to as it must be: never without TLS where TLS was asked for.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when there are no certificates for it.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        if self.secure && self.certificates.is_none() {
            return Err(EngineError::Invalid(format!(
                "`{self}` is to be spoken to over TLS, and no folder of certificates is named"
            )));
        }
        Ok(())
    }

    /// The address as it was given.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The folder of the certificates for it.
    #[must_use]
    pub fn certificates(&self) -> Option<&Path> {
        match self.certificates.as_ref()? {
            Certificates::Folder(folder) => Some(folder),
            Certificates::Pem { .. } => None,
        }
    }

    /// The host at which the published ports of its containers answer: 127.0.0.1 for a socket.
    #[must_use]
    pub fn host(&self) -> &str {
        match &self.place {
            Place::Socket(_) => "127.0.0.1",
            Place::Tcp { host, .. } => host,
        }
    }

    /// Whether it is on this machine for sure.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.place, Place::Socket(_))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
fn split_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let plain = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']);
    let port = port.map(str::parse).transpose().ok()?;
    plain.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Place {
        Place::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn an_address_says_where_and_how() {
        for (address, place, host) in [
            ("unix:///run/docker.sock", Place::Socket("/run/docker.sock".into()), "127.0.0.1"),
            ("tcp://10.0.0.1:2375", tcp("10.0.0.1", 2375), "10.0.0.1"),
            ("tcp://10.0.0.1", tcp("10.0.0.1", 2375), "10.0.0.1"),
            ("http://docker.example:80/", tcp("docker.example", 80), "docker.example"),
            ("https://docker.example", tcp("docker.example", 2376), "docker.example"),
            ("docker.example:4243", tcp("docker.example", 4243), "docker.example"),
            ("tcp://[::1]:2375", tcp("::1", 2375), "::1"),
        ] {
            let endpoint = Endpoint::parse(address).unwrap();
            assert_eq!((&endpoint.place, endpoint.host()), (&place, host), "{address}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (address, why) in [
            ("unix://run/docker.sock", "must start with a slash"),
            ("ssh://user@host", "should start with"),
            ("tcp://", "host:port"),
            ("tcp://host:port", "host:port"),
            ("tcp://host:1/path", "host:port"),
            ("", "host:port"),
        ] {
            let error = Endpoint::parse(address).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(&format!("`{address}`")), "{error}");
        }
    }

    #[test]
    fn the_environment_is_read_as_docker_reads_it() {
        let read = |vars: &[(&str, &str)]| {
            Endpoint::from_vars(|name| {
                vars.iter().find(|(var, _)| *var == name).map(|(_, value)| (*value).to_owned())
            })
            .unwrap()
        };
        assert_eq!(read(&[]).address(), "unix:///var/run/docker.sock");
        assert_eq!(read(&[("DOCKER_HOST", "")]).address(), "unix:///var/run/docker.sock");
        let plain = read(&[("DOCKER_HOST", "tcp://h:1"), ("HOME", "/home/ann")]);
        assert_eq!((plain.place, plain.certificates), (tcp("h", 1), None));
        let verified =
            read(&[("DOCKER_HOST", "tcp://h"), ("DOCKER_TLS_VERIFY", "1"), ("HOME", "/home/ann")]);
        assert_eq!(verified.place.clone(), tcp("h", 2376));
        assert_eq!(verified.certificates(), Some(Path::new("/home/ann/.docker")));
        let elsewhere = read(&[("DOCKER_HOST", "tcp://h:1"), ("DOCKER_CERT_PATH", "/certs")]);
        assert_eq!(
            (elsewhere.place.clone(), elsewhere.certificates()),
            (tcp("h", 1), Some(Path::new("/certs")))
        );
        let socket = read(&[("DOCKER_CERT_PATH", "/certs"), ("DOCKER_TLS_VERIFY", "1")]);
        assert_eq!(socket.certificates, None);
        let secure = read(&[("DOCKER_HOST", "https://h"), ("HOME", "/home/ann")]);
        assert_eq!(secure.certificates(), Some(Path::new("/home/ann/.docker")));
    }

    #[test]
    fn tls_that_is_asked_for_is_never_left_out() {
        for vars in [
            &[("DOCKER_HOST", "tcp://h:1"), ("DOCKER_TLS_VERIFY", "1")][..],
            &[("DOCKER_HOST", "tcp://h:1"), ("DOCKER_TLS", "1")],
            &[("DOCKER_HOST", "https://h")],
        ] {
            let var = |name: &str| {
                vars.iter().find(|(var, _)| *var == name).map(|(_, value)| (*value).to_owned())
            };
            let error = Endpoint::from_vars(var).unwrap_err();
            assert_eq!(error.kind(), "invalid", "{vars:?}");
        }
        let secure = Endpoint::parse("https://h").unwrap();
        assert_eq!(secure.check().unwrap_err().kind(), "invalid");
        secure.with_certificates("/certs").check().unwrap();
    }
}

//! Who asks a registry, and who vouches for it.

use std::fmt;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::error::{Error, Result};

/// How a program calls itself that says nothing else.
const PROGRAM: &str = concat!("gantry/", env!("CARGO_PKG_VERSION"));

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(30);

/// How long a registry may say nothing, or take nothing.
const SILENCE: Duration = Duration::from_secs(120);

/// Who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// The registry it is for, as it stands in front of the names of its images.
    pub registry: String,
    /// The user; empty for anybody.
    pub user: String,
    /// The password.
    pub password: String,
    /// The certificates, as PEM, of who vouches for the registry; those of the web's own authorities when empty.
    pub authority: String,
    /// How long an answer may take in all; as long as layers take when nobody says.
    pub limit: Option<Duration>,
    /// How the program calls itself (`gantry/0.1.0`), which registries write down; this library's own way when empty.
    pub program: &'static str,
}

impl Account {
    /// Whether who vouches for the registry can be read.
    ///
    /// # Errors
    ///
    /// There is something, and no certificate in it.
    pub fn check(&self) -> Result<()> {
        self.roots().map(drop)
    }

    fn roots(&self) -> Result<RootCerts> {
        let mut certificates: Vec<Certificate<'static>> = Vec::new();
        for item in parse_pem(self.authority.as_bytes()) {
            match item {
                Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
                Ok(_) => {}
                Err(error) => return Err(self.no_authority(&error.to_string())),
            }
        }
        if self.authority.is_empty() {
            Ok(RootCerts::WebPki)
        } else if certificates.is_empty() {
            Err(self.no_authority("there is no certificate in it"))
        } else {
            Ok(RootCerts::new_with_certs(&certificates))
        }
    }

    pub(crate) fn agent(&self) -> Result<Agent> {
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(self.roots()?).build())
            .max_redirects(0)
            .proxy(None)
            .http_status_as_error(false)
            .user_agent(if self.program.is_empty() { PROGRAM } else { self.program })
            .accept_encoding("identity")
            .timeout_global(self.limit)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE));
        Ok(config.build().new_agent())
    }

    fn no_authority(&self, why: &str) -> Error {
        let what = format!("has an authority that cannot be used: {why}");
        Error::Refused { registry: self.registry.clone(), what }
    }
}

/// Without the password.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vouched = !self.authority.is_empty();
        f.debug_struct("Account")
            .field("registry", &self.registry)
            .field("user", &self.user)
            .field("authority", &vouched)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_in_what_is_printed() {
        let account = Account {
            registry: "registry.example".to_owned(),
            user: "ann".to_owned(),
            password: "open sesame".to_owned(),
            ..Account::default()
        };
        let shown = format!("{account:?}");
        assert!(shown.contains("registry.example") && !shown.contains("sesame"), "{shown}");
    }
}

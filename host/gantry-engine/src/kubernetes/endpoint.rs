//! Where a cluster answers, and who we are there.
//!
//! Everything that can be wrong about it is found before anything is sent. Secrets are in no message and in no `Debug`.

use std::env;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper::Uri;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::EngineError;
use crate::reason::{io_reason, lowered};

/// Where a cluster answers, and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Place);

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Kubeconfig { files: PathBuf, context: String },
    InCluster,
    Address { address: String, ca: Option<String>, credentials: Credentials },
}

/// Who we are at an address. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody.
    #[default]
    None,
    /// Whoever has this bearer token.
    Token(String),
    /// Whoever has this certificate and its key, both in PEM.
    Certificate {
        /// The certificate, and those between it and the authority.
        certificate: String,
        /// Its private key.
        key: String,
    },
}

impl Endpoint {
    /// A context of a kubeconfig, its current one when the name is empty. Several files are separated as in `KUBECONFIG`, which the caller reads.
    #[must_use]
    pub fn kubeconfig(files: impl AsRef<Path>, context: impl Into<String>) -> Self {
        let files = files.as_ref().to_owned();
        Self(Place::Kubeconfig { files, context: context.into() })
    }

    /// The cluster that this process runs in, as its service account.
    #[must_use]
    pub fn in_cluster() -> Self {
        Self(Place::InCluster)
    }

    /// An address (`https://host:port`). Its certificate is verified with the authorities in `ca` (PEM), and with those of the system when there are none.
    #[must_use]
    pub fn address(
        address: impl Into<String>,
        ca: Option<String>,
        credentials: Credentials,
    ) -> Self {
        Self(Place::Address { address: address.into(), ca, credentials })
    }

    /// As kube wants it. Reads files.
    pub(super) async fn config(&self) -> Result<Config, EngineError> {
        let config = match &self.0 {
            Place::Kubeconfig { files, context } => from_files(files, context).await,
            Place::InCluster => Config::incluster().map_err(|error| {
                let why = lowered(&error.to_string());
                EngineError::Invalid(format!("this process runs in no cluster: {why}"))
            }),
            Place::Address { address, ca, credentials } => {
                at_address(address, ca.as_deref(), credentials)
            }
        }?;
        in_secret(&config)?;
        Ok(config)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Kubeconfig { files, context } => {
                let mut shown = f.debug_struct("Kubeconfig");
                shown.field("files", files).field("context", context).finish()
            }
            Place::InCluster => f.write_str("InCluster"),
            Place::Address { address, ca, credentials } => f
                .debug_struct("Address")
                .field("address", address)
                .field("ca", &ca.is_some())
                .field("credentials", credentials)
                .finish(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Token(_) => "Token(..)",
            Self::Certificate { .. } => "Certificate(..)",
        })
    }
}

async fn from_files(files: &Path, context: &str) -> Result<Config, EngineError> {
    let shown = files.display();
    let unusable = |error: KubeconfigError| {
        let why = kubeconfig_reason(&error);
        EngineError::Invalid(format!("the kubeconfig `{shown}` cannot be used: {why}"))
    };
    let mut merged = Kubeconfig::default();
    for file in env::split_paths(files).filter(|file| !file.as_os_str().is_empty()) {
        let read = Kubeconfig::read_from(file).map_err(unusable)?;
        merged = merged.merge(read).map_err(unusable)?;
    }
    // kube ignores it when it is built without proxies, and nobody would know why nothing answers.
    let name = if context.is_empty() {
        merged.current_context.clone().unwrap_or_default()
    } else {
        context.to_owned()
    };
    let cluster = merged.contexts.iter().find(|one| one.name == name);
    let cluster = cluster.and_then(|one| one.context.as_ref()).map(|one| one.cluster.clone());
    let goes_round = merged.clusters.iter().any(|one| {
        Some(&one.name) == cluster.as_ref()
            && one.cluster.as_ref().is_some_and(|one| one.proxy_url.is_some())
    });
    if goes_round {
        return Err(EngineError::Invalid(format!(
            "the context `{name}` of the kubeconfig `{shown}` goes through a proxy (`proxy-url`), \
             which is not supported"
        )));
    }
    let options = KubeConfigOptions {
        context: (!context.is_empty()).then(|| context.to_owned()),
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(merged, &options).await.map_err(unusable)
}

/// Why a kubeconfig cannot be used, without a word that is written in it but names.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "which errors kube has depends on its features; the rest has no secrets"
)]
fn kubeconfig_reason(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::CurrentContextNotSet => {
            "it has no `current-context`, and no context was named".to_owned()
        }
        KubeconfigError::LoadContext(name) => format!("it has no context `{name}`"),
        KubeconfigError::LoadClusterOfContext(name) => format!("it has no cluster `{name}`"),
        KubeconfigError::ReadConfig(error, path) => {
            format!("`{}` cannot be read: {}", path.display(), io_reason(error))
        }
        // Its text shows the lines around, and they may be keys.
        KubeconfigError::Parse(_) => "it is not the YAML of a kubeconfig".to_owned(),
        other => lowered(&other.to_string()),
    }
}

/// Refuses to send who we are where everybody on the way reads it. Nobody is on the way to this machine itself.
fn in_secret(config: &Config) -> Result<(), EngineError> {
    let uri = &config.cluster_url;
    let host = uri.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse();
    let here = host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback());
    let who = &config.auth_info;
    let said =
        [&who.username, &who.token_file, &who.client_certificate, &who.client_certificate_data];
    let is_nobody = said.iter().all(|one| one.is_none())
        && who.token.is_none()
        && who.auth_provider.is_none()
        && who.exec.is_none();
    if uri.scheme_str() == Some("https") || here || is_nobody {
        return Ok(());
    }
    // Without what else may be in the address: a kubeconfig can have a password there.
    Err(EngineError::Invalid(format!(
        "the cluster at `{host}` is unusable: credentials are sent to `https://` only"
    )))
}

fn at_address(
    address: &str,
    ca: Option<&str>,
    credentials: &Credentials,
) -> Result<Config, EngineError> {
    let invalid =
        |why: &str| EngineError::Invalid(format!("the cluster at `{address}` is unusable: {why}"));
    let uri: Uri = address.parse().map_err(|_| invalid("this is no address"))?;
    let authority = uri.authority().ok_or_else(|| invalid("it should start with `https://`"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(invalid("it should start with `https://`"));
    }
    if authority.as_str().contains('@') || uri.query().is_some() {
        // The text is shown in messages: nothing secret may be in it.
        return Err(EngineError::Invalid(
            "the address of a cluster has no user and no query: credentials are settings of their own"
                .to_owned(),
        ));
    }
    let mut config = Config::new(uri);
    if let Some(ca) = ca {
        config.root_cert =
            Some(certificates(ca, "certificate authority").map_err(|e| invalid(&e))?);
    }
    match credentials {
        Credentials::None => {}
        Credentials::Token(token) => {
            let token = token.trim();
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(invalid("the token is empty or has odd characters"));
            }
            config.auth_info.token = Some(token.to_owned().into());
        }
        Credentials::Certificate { certificate, key } => {
            certificates(certificate, "client certificate").map_err(|e| invalid(&e))?;
            PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|_| invalid("the client key is no private key in PEM"))?;
            config.auth_info.client_certificate_data = Some(BASE64_STANDARD.encode(certificate));
            config.auth_info.client_key_data = Some(BASE64_STANDARD.encode(key).into());
        }
    }
    Ok(config)
}

fn certificates(pem: &str, what: &str) -> Result<Vec<Vec<u8>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.map_err(|_| format!("the {what} is not PEM"))?;
    if all.is_empty() {
        return Err(format!("there is no certificate in the {what}"));
    }
    Ok(all.into_iter().map(|one| one.to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cr3t";

    fn certificate() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = Credentials::Token(SECRET.to_owned());
        let key =
            Credentials::Certificate { certificate: SECRET.to_owned(), key: SECRET.to_owned() };
        for credentials in [token, key] {
            let endpoint = Endpoint::address("https://h:1", Some(SECRET.to_owned()), credentials);
            let shown = format!("{endpoint:?}");
            assert!(!shown.contains(SECRET), "{shown}");
            assert!(shown.contains("https://h:1"), "{shown}");
        }
        let shown = format!("{:?}", Endpoint::kubeconfig("/home/ann/config", "test"));
        assert!(shown.contains("/home/ann/config") && shown.contains("test"), "{shown}");
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_used_is_refused_with_the_reason() {
        let (certificate, key) = certificate();
        let pair = |certificate: &str, key: &str| Credentials::Certificate {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        let token = |token: &str| Credentials::Token(token.to_owned());
        for (address, ca, credentials, why) in [
            ("", None, Credentials::None, "no address"),
            ("host:6443", None, Credentials::None, "https://"),
            ("ftp://host", None, Credentials::None, "https://"),
            ("https://ann:s3cr3t@host", None, Credentials::None, "no user"),
            ("https://host?token=s3cr3t", None, Credentials::None, "no query"),
            ("https://host", Some("junk"), Credentials::None, "no certificate"),
            ("https://host", Some(key.as_str()), Credentials::None, "no certificate"),
            ("http://host", None, token(SECRET), "`https://` only"),
            ("http://10.0.0.1:80", None, pair(&certificate, &key), "`https://` only"),
            ("https://host", None, token(""), "the token"),
            ("https://host", None, token("s3cr3t s3cr3t"), "the token"),
            ("https://host", None, pair(SECRET, &key), "client certificate"),
            ("https://host", None, pair(&certificate, SECRET), "client key"),
        ] {
            let endpoint = Endpoint::address(address, ca.map(ToOwned::to_owned), credentials);
            let error = endpoint.config().await.unwrap_err();
            assert_eq!(error.kind(), "invalid");
            let told = error.to_string();
            assert!(told.contains(why) && !told.contains(SECRET), "{told}");
        }
        let good = Endpoint::address(
            "https://host:6443/base",
            Some(certificate.clone()),
            pair(&certificate, &key),
        );
        assert_eq!(good.config().await.unwrap().cluster_url, "https://host:6443/base");
        for (address, credentials) in [
            ("http://127.0.0.1:8001", token(SECRET)),
            ("http://[::1]:8001", token(SECRET)),
            ("http://localhost:8001", token(SECRET)),
            ("http://host", Credentials::None),
        ] {
            let endpoint = Endpoint::address(address, None, credentials);
            assert!(endpoint.config().await.is_ok(), "{address}");
        }
    }

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_used_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let users = "users: [{name: u, user: {token: s3cr3t}}]";
        let clusters = "clusters: [{name: c, cluster: {server: 'https://h:1'}}]";
        let contexts = "contexts: [{name: x, context: {cluster: c, user: u}}]";
        let good = file("good", &format!("{clusters}\n{contexts}\n{users}\ncurrent-context: x"));
        let none = file("none", &format!("{clusters}\n{contexts}\n{users}"));
        let lost = file("lost", &format!("{contexts}\n{users}\ncurrent-context: x"));
        let round =
            "clusters: [{name: c, cluster: {server: 'https://h:1', proxy-url: 'http://p'}}]";
        let round = file("round", &format!("{round}\n{contexts}\n{users}\ncurrent-context: x"));
        let torn = file("torn", "users: [{name: u, user: {token: s3cr3t\n  : ]");
        for (path, context, why) in [
            (&folder.path().join("absent"), "", "no such file"),
            (&none, "", "no `current-context`"),
            (&good, "y", "no context `y`"),
            (&lost, "", "no cluster `c`"),
            (&round, "", "through a proxy"),
            (&torn, "", "not the YAML"),
        ] {
            let error = Endpoint::kubeconfig(path, context).config().await.unwrap_err();
            assert_eq!(error.kind(), "invalid");
            let told = error.to_string();
            assert!(told.contains(why) && !told.contains(SECRET), "{told}");
        }
        let config = Endpoint::kubeconfig(&good, "").config().await.unwrap();
        assert_eq!(config.cluster_url, "https://h:1");
        // As `KUBECONFIG` lists them: what one lacks is in the other.
        let both = env::join_paths([&none, &good]).unwrap();
        assert!(Endpoint::kubeconfig(both, "").config().await.is_ok());
    }
}

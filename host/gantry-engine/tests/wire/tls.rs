//! An engine over TLS, with certificates on both sides.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gantry_engine::Containers as _;
use gantry_engine::docker::{Auth, Docker, Endpoint};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use crate::peer::{Peer, json, version};
use crate::{refused, short};

/// An authority with a certificate for the engine and one for us.
struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn signed(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A folder as Docker's command wants it.
    fn folder(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = self.signed("client");
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        write("ca.pem", self.certificate.pem());
        write("cert.pem", certificate.pem());
        write("key.pem", key.serialize_pem());
        folder
    }

    /// An engine with a certificate for a name that wants one of ours.
    async fn engine(&self, name: &str) -> Peer {
        let (certificate, key) = self.signed(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
                .build()
                .unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        Peer::tcp(Some(TlsAcceptor::from(Arc::new(config))), |seen| match seen.path.as_str() {
            "/version" => version("1.41", "1.12"),
            _ => json(200, "[]"),
        })
        .await
    }
}

fn docker(peer: &Peer, folder: &Path) -> Docker {
    let endpoint = peer.endpoint().with_certificates(folder);
    Docker::with(endpoint, Auth::none(), short()).unwrap()
}

#[tokio::test]
async fn both_sides_show_a_certificate() {
    let authority = Authority::new();
    let (peer, folder) = (authority.engine("127.0.0.1").await, authority.folder());
    let docker = docker(&peer, folder.path());
    for _ in 0..3 {
        assert_eq!(docker.list(true, &BTreeMap::new()).await.unwrap(), []);
    }
    assert_eq!(peer.connections(), 1, "a handshake is not made for each call");
    assert_eq!(peer.seen().len(), 3);
}

#[tokio::test]
async fn an_engine_that_cannot_be_trusted_is_not_spoken_to() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let folder = ours.folder();
    // Signed by another; for another name; with ours refused.
    for (peer, why) in [
        (theirs.engine("127.0.0.1").await, "invalid peer certificate"),
        (ours.engine("docker.example").await, "invalid peer certificate"),
    ] {
        let text =
            refused(docker(&peer, folder.path()).list(true, &BTreeMap::new()).await, "unreachable");
        assert!(text.contains(why), "{text}");
        assert_eq!(peer.lines(), [""; 0]);
    }
    let plain = Docker::with(
        Endpoint::parse(ours.engine("127.0.0.1").await.address()).unwrap(),
        Auth::none(),
        short(),
    );
    refused(plain.unwrap().list(true, &BTreeMap::new()).await, "unreachable");
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_named() {
    let authority = Authority::new();
    let folder = authority.folder();
    std::fs::write(folder.path().join("key.pem"), "no key").unwrap();
    let endpoint = Endpoint::parse("tcp://127.0.0.1").unwrap().with_certificates(folder.path());
    let text = refused(Docker::new(endpoint).map(|_| ()), "invalid");
    assert!(text.contains("key.pem` is no good"), "{text}");
    let absent = Endpoint::parse("tcp://127.0.0.1").unwrap().with_certificates("/nowhere");
    let text = refused(Docker::new(absent).map(|_| ()), "invalid");
    assert!(text.contains("`/nowhere/ca.pem`"), "{text}");
}

#[tokio::test]
async fn an_engine_that_asks_for_tls_is_not_spoken_to_without() {
    let peer = Peer::tcp(None, |_| json(200, "[]")).await;
    let secure = Endpoint::parse(&format!("https://127.0.0.1:{}", peer.port())).unwrap();
    let text = refused(Docker::new(secure).map(|_| ()), "invalid");
    assert!(text.contains("over TLS, and no folder of certificates"), "{text}");
}

//! The Docker hosts: those of the configuration, which every provisioner is given, and those that were added while the daemon ran, which one is.
//!
//! The certificates of a host stay here: a provisioner gets calls to its engine, and nothing that would let it make them itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gantry_engine::docker::{Auth, Certificates, Endpoint, Timeouts};
use gantry_engine::layer::identity::OPERATION;
use gantry_engine::{Containers, Docker, EngineError, Nodes};

use crate::store::{HostRecord, Store, StoreError};

/// The container engines by their addresses.
pub type Engines = Vec<(String, Arc<dyn Containers>)>;

/// A host that was added.
#[derive(Clone)]
struct Added {
    provisioner: String,
    engine: Arc<dyn Containers>,
}

/// The Docker hosts.
#[derive(Default)]
pub(crate) struct Hosts {
    nodes: Arc<Nodes>,
    configured: Engines,
    /// Who they are to registries.
    registries: Auth,
    // A std mutex: held for a look or an insert, never across an await.
    added: Mutex<BTreeMap<String, Added>>,
}

impl Hosts {
    /// The hosts of the configuration.
    pub(crate) fn new(nodes: Arc<Nodes>, configured: Engines, registries: Auth) -> Self {
        Self { nodes, configured, registries, added: Mutex::default() }
    }

    fn added(&self) -> MutexGuard<'_, BTreeMap<String, Added>> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a provisioner the hosts that are for it.
    pub(crate) fn give(&self, provisioner: &str) {
        for (address, engine) in &self.configured {
            self.nodes.give(provisioner, address, Arc::clone(engine));
        }
        for (address, added) in self.added().iter() {
            if added.provisioner == provisioner {
                self.nodes.give(provisioner, address, Arc::clone(&added.engine));
            }
        }
    }

    /// Gives a provisioner a host that was added.
    pub(crate) fn add(&self, record: &HostRecord) -> Result<(), EngineError> {
        let engine: Arc<dyn Containers> = Arc::new(connect(record, self.registries.clone())?);
        let HostRecord { address, provisioner, .. } = record;
        self.nodes.give(provisioner, address, Arc::clone(&engine));
        let added = Added { provisioner: provisioner.clone(), engine };
        self.added().insert(address.clone(), added);
        Ok(())
    }

    /// Why a host that answers as it is known does not answer as this record says; none when it does, or when nobody knows better.
    pub(crate) async fn prefers(
        &self,
        known: &HostRecord,
        record: &HostRecord,
    ) -> Option<EngineError> {
        let is_same = known.ca_cert == record.ca_cert
            && known.client_cert == record.client_cert
            && known.client_key == record.client_key;
        if is_same {
            return None;
        }
        let ask = async |record: &HostRecord| {
            let engine = connect(record, self.registries.clone())?;
            // Few containers, or none: whether it answers is all that is asked.
            engine.list(false, &BTreeMap::from([(OPERATION.to_owned(), String::new())])).await
        };
        let (before, now) = tokio::join!(ask(known), ask(record));
        now.err().filter(|_| before.is_ok())
    }

    /// Takes a host away that was added.
    pub(crate) fn remove(&self, address: &str) {
        if let Some(added) = self.added().remove(address) {
            self.nodes.take(&added.provisioner, address);
        }
    }

    /// Whether a host is one of the configuration.
    pub(crate) fn is_configured(&self, address: &str) -> bool {
        self.configured.iter().any(|(known, _)| known == address)
    }

    /// All of them.
    pub(crate) fn all(&self) -> Engines {
        let added = self.added();
        let added =
            added.iter().map(|(address, added)| (address.clone(), Arc::clone(&added.engine)));
        self.configured.iter().cloned().chain(added).collect()
    }

    /// Gives back those that are written down. One that cannot be used at all is told, and left out.
    pub(crate) async fn restore(&self, store: &Store) -> Result<(), StoreError> {
        for record in store.hosts().await? {
            if let Err(error) = self.add(&record) {
                tracing::error!(address = record.address, %error, "cannot use the Docker host");
            }
        }
        Ok(())
    }
}

/// The engine of a host. Nothing is sent.
fn connect(record: &HostRecord, registries: Auth) -> Result<Docker, EngineError> {
    let mut endpoint = Endpoint::parse(&record.address)?;
    if !(record.ca_cert.is_empty() && record.client_cert.is_empty()) {
        endpoint = endpoint.with_tls(Certificates::Pem {
            ca: record.ca_cert.clone(),
            cert: record.client_cert.clone(),
            key: record.client_key.reveal().to_owned(),
        });
    }
    Docker::with(endpoint, registries, Timeouts::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(address: &str, provisioner: &str) -> HostRecord {
        let (address, provisioner) = (address.to_owned(), provisioner.to_owned());
        HostRecord { address, provisioner, ..HostRecord::default() }
    }

    #[test]
    fn a_host_that_was_added_is_given_to_one_provisioner_and_taken_away_again() {
        let nodes = Arc::new(Nodes::default());
        let engine: Arc<dyn Containers> = Arc::new(gantry_engine::Memory::new());
        let engines = vec![("unix:///here".to_owned(), engine)];
        let hosts = Hosts::new(Arc::clone(&nodes), engines, Auth::none());
        hosts.add(&record("tcp://10.0.0.1:2375", "docker")).unwrap();
        for name in ["docker", "acme"] {
            hosts.give(name);
        }
        assert_eq!(nodes.of("docker"), ["tcp://10.0.0.1:2375", "unix:///here"]);
        assert_eq!(nodes.of("acme"), ["unix:///here"]);
        assert_eq!(hosts.all().len(), 2);
        hosts.remove("tcp://10.0.0.1:2375");
        hosts.remove("unix:///here");
        assert_eq!(nodes.of("docker"), ["unix:///here"], "those of the configuration stay");
        let error = hosts.add(&record("nonsense://x", "docker")).unwrap_err();
        assert_eq!(error.kind(), "invalid");
    }
}

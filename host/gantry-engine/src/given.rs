//! What was given to which provisioner: engines under the names by which a plugin asks for them. It changes while the host runs.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::call::cluster::ClusterInfo;
use crate::{Cluster, Containers, EngineError};

/// Things of one sort, by the provisioner they were given to and their name.
pub struct Given<T> {
    // Held for a look or an insert, never across an await.
    by_owner: RwLock<BTreeMap<String, BTreeMap<String, T>>>,
}

/// The container engines, by their node's address.
pub type Nodes = Given<Arc<dyn Containers>>;

/// The clusters, by their name.
pub type Clusters = Given<GivenCluster>;

/// A cluster with what is told of it.
#[derive(Clone)]
pub struct GivenCluster {
    /// What plugins are told of it.
    pub info: ClusterInfo,
    /// The cluster.
    pub engine: Arc<dyn Cluster>,
}

impl<T> Default for Given<T> {
    fn default() -> Self {
        Self { by_owner: RwLock::default() }
    }
}

impl<T: Clone> Given<T> {
    /// Gives something to a provisioner. A name that is known gets the new one; calls under way end on the one they began on.
    pub fn give(&self, provisioner: &str, name: &str, thing: T) {
        self.write().entry(provisioner.to_owned()).or_default().insert(name.to_owned(), thing);
    }

    /// Takes something from a provisioner. What is in it is left as it is.
    pub fn take(&self, provisioner: &str, name: &str) {
        if let Some(things) = self.write().get_mut(provisioner) {
            things.remove(name);
        }
    }

    /// The names a provisioner was given, sorted.
    #[must_use]
    pub fn of(&self, provisioner: &str) -> Vec<String> {
        self.read().get(provisioner).map(|of| of.keys().cloned().collect()).unwrap_or_default()
    }

    /// What a provisioner was given, by name.
    #[must_use]
    pub fn all(&self, provisioner: &str) -> Vec<T> {
        self.read().get(provisioner).map(|of| of.values().cloned().collect()).unwrap_or_default()
    }

    fn named(&self, provisioner: &str, name: &str) -> Option<T> {
        self.read().get(provisioner)?.get(name).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, BTreeMap<String, T>>> {
        self.by_owner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, BTreeMap<String, T>>> {
        self.by_owner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nodes {
    /// The engine of a node that a provisioner was given.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when it was not given this node.
    pub fn engine(
        &self,
        provisioner: &str,
        address: &str,
    ) -> Result<Arc<dyn Containers>, EngineError> {
        self.named(provisioner, address).ok_or_else(|| {
            EngineError::NotFound(format!(
                "no node `{address}` was given to the provisioner `{provisioner}`"
            ))
        })
    }
}

impl Clusters {
    /// A cluster that a provisioner was given.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when it was not given this cluster.
    pub fn cluster(&self, provisioner: &str, name: &str) -> Result<GivenCluster, EngineError> {
        self.named(provisioner, name).ok_or_else(|| {
            EngineError::NotFound(format!(
                "no cluster `{name}` was given to the provisioner `{provisioner}`"
            ))
        })
    }
}

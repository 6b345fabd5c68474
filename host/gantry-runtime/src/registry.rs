//! The provisioners by name, with the reference's words (spec 3.1).

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use gantry_core::node::{Node, NodeLookupError, NodeSearch};
use gantry_engine::Operation;

use crate::call::{CallError, Cause};
use crate::interface::Interface;
use crate::provisioner::Provisioner;

/// The default provisioner when none is configured.
pub const DEFAULT_PROVISIONER: &str = "docker";

/// The provisioners by name.
#[derive(Debug, Default)]
pub struct Registry {
    // Held for a look-up, never while something is awaited.
    entries: RwLock<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_name: BTreeMap<String, Provisioner>,
    default: String,
}

/// There is no provisioner of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown provisioner: {}", gantry_core::quote(.0))]
pub struct UnknownProvisioner(pub String);

/// A provisioner could not be initialised, and those after it were not asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("provisioner {} cannot be initialised: {error}", gantry_core::quote(.name))]
pub struct InitialiseError {
    /// Its name.
    pub name: String,
    /// Why.
    pub error: CallError,
}

/// Whether a provisioner says that it has no such node: whoever looks for one goes on elsewhere.
fn is_node_not_found(error: &CallError) -> bool {
    matches!(error.cause, Cause::Plugin(gantry_core::Error::NodeNotFound))
}

impl Registry {
    /// An empty registry whose default is `docker`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a provisioner under its name, in place of one that has it.
    pub fn register(&self, provisioner: Provisioner) {
        self.write().by_name.insert(provisioner.name().to_owned(), provisioner);
    }

    /// Removes a provisioner. Removing what is not there is fine.
    pub fn unregister(&self, name: &str) {
        self.write().by_name.remove(name);
    }

    /// The provisioner of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> Result<Provisioner, UnknownProvisioner> {
        self.read().by_name.get(name).cloned().ok_or_else(|| UnknownProvisioner(name.to_owned()))
    }

    /// Sets the name of the default provisioner; an empty one is `docker`.
    pub fn set_default(&self, name: &str) {
        name.clone_into(&mut self.write().default);
    }

    /// The name of the default provisioner.
    #[must_use]
    pub fn default_name(&self) -> String {
        match self.read().default.as_str() {
            "" => DEFAULT_PROVISIONER.to_owned(),
            name => name.to_owned(),
        }
    }

    /// The default provisioner.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn get_default(&self) -> Result<Provisioner, UnknownProvisioner> {
        self.get(&self.default_name())
    }

    /// All provisioners, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Provisioner> {
        self.read().by_name.values().cloned().collect()
    }

    /// The provisioner that has a node, with the node (spec 3.1).
    ///
    /// # Errors
    /// As [`find_node_skipping`](Self::find_node_skipping).
    pub async fn find_node(
        &self,
        operation: &Operation,
        address: &str,
    ) -> Result<(Provisioner, Node), NodeLookupError> {
        self.find_node_skipping(operation, address, "").await
    }

    /// The same without asking one of them, and without those that have no nodes. The first that has it wins; what others said then is dropped.
    ///
    /// # Errors
    /// Nobody has it, with what those said who could not tell.
    pub async fn find_node_skipping(
        &self,
        operation: &Operation,
        address: &str,
        skipped: &str,
    ) -> Result<(Provisioner, Node), NodeLookupError> {
        let mut search = NodeSearch::skipping(skipped);
        for provisioner in self.list() {
            if !search.asks(provisioner.name()) || !provisioner.supports(Interface::Nodes) {
                continue;
            }
            let answer = match provisioner.node(operation, address).await {
                Ok(node) => Ok(Some(node)),
                Err(error) if is_node_not_found(&error) => Ok(None),
                Err(error) => Err(error),
            };
            if let Some(node) = search.take(answer) {
                return Ok((provisioner, node));
            }
        }
        Err(search.into_error())
    }

    /// Initialises every provisioner that wants it, by name, and gives what each has to say at the start. The first failure ends it; a message that cannot be had is none.
    ///
    /// # Errors
    /// The first provisioner that could not be initialised.
    pub async fn initialise_all(
        &self,
        operation: &Operation,
    ) -> Result<Vec<(String, String)>, InitialiseError> {
        let mut messages = Vec::new();
        for provisioner in self.list() {
            let name = provisioner.name().to_owned();
            if let Err(error) = provisioner.initialise(operation).await {
                return Err(InitialiseError { name, error });
            }
            match provisioner.startup_message(operation).await {
                Ok(message) if !message.is_empty() => messages.push((name, message)),
                Ok(_) => {}
                Err(error) => tracing::debug!(name, %error, "no message at the start"),
            }
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_told_as_the_reference_does() {
        let registry = Registry::new();
        assert_eq!(
            registry.get("unknown-provisioner").unwrap_err().to_string(),
            "unknown provisioner: \"unknown-provisioner\""
        );
        assert_eq!(
            registry.get_default().unwrap_err().to_string(),
            "unknown provisioner: \"docker\""
        );
        registry.unregister("never registered");
    }

    #[test]
    fn the_default_is_docker_unless_another_is_set() {
        let registry = Registry::new();
        assert_eq!(registry.default_name(), "docker");
        registry.set_default("kubernetes");
        assert_eq!(registry.default_name(), "kubernetes");
        registry.set_default("");
        assert_eq!(registry.default_name(), "docker");
    }
}

//! Who calls, for which operation, and how much of everything is left.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use gantry_core::policy::Grants;

use crate::layer::journal::Ledger;
use crate::layer::quota::{Limits, Meter};
use crate::{Config, Operation};

/// Who calls, for which operation, and how much of everything is left: one per wasm call, shared by all its host calls.
pub struct Scope {
    /// The provisioner's name: the owner of what is created. Never a plugin's digest: a swap keeps its units.
    pub provisioner: Arc<str>,
    /// This installation of Gantry: two daemons on one Docker host must not take each other's containers for their own.
    pub instance: Arc<str>,
    /// The request under way.
    pub operation: Operation,
    /// What the operator configured for the provisioner.
    pub config: Arc<Config>,
    /// What the plugin may do beyond its own containers, keys and apps.
    pub grants: Arc<Grants>,
    /// How much the wasm call may still ask for.
    pub meter: Arc<Meter>,
    /// What the operation created.
    pub ledger: Arc<Ledger>,
    /// The commands prepared by this wasm call, by node and id: an engine tells of no exec whose it is.
    execs: Mutex<BTreeSet<(String, String)>>,
}

impl Scope {
    /// The scope of one wasm call: no configuration, no grant, the default limits, nothing created.
    #[must_use]
    pub fn new(
        provisioner: impl Into<Arc<str>>,
        instance: impl Into<Arc<str>>,
        operation: Operation,
    ) -> Self {
        Self {
            provisioner: provisioner.into(),
            instance: instance.into(),
            operation,
            config: Arc::default(),
            grants: Arc::default(),
            meter: Arc::new(Meter::new(Limits::default())),
            ledger: Arc::default(),
            execs: Mutex::default(),
        }
    }

    /// The same with this configuration.
    #[must_use]
    pub fn with_config(mut self, config: Arc<Config>) -> Self {
        self.config = config;
        self
    }

    /// The same with these grants.
    #[must_use]
    pub fn with_grants(mut self, grants: Arc<Grants>) -> Self {
        self.grants = grants;
        self
    }

    /// The same with these limits, nothing used yet.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.meter = Arc::new(Meter::new(limits));
        self
    }

    /// The same with the ledger of an operation that takes several wasm calls.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Arc<Ledger>) -> Self {
        self.ledger = ledger;
        self
    }

    /// The scope of the host itself when it cleans up after this one: the same owner and operation, but neither cancelled nor bounded by what the plugin used up.
    #[must_use]
    pub fn for_clean_up(&self, time: std::time::Duration) -> Self {
        let operation = Operation::new(self.operation.id.clone(), time)
            .shown_to(Arc::clone(&self.operation.progress));
        Self::new(Arc::clone(&self.provisioner), Arc::clone(&self.instance), operation)
            .with_config(Arc::clone(&self.config))
            .with_limits(Limits::UNBOUNDED)
            .with_ledger(Arc::clone(&self.ledger))
    }

    pub(crate) fn remember_exec(&self, node: &str, exec_id: &str) {
        self.execs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((node.to_owned(), exec_id.to_owned()));
    }

    pub(crate) fn knows_exec(&self, node: &str, exec_id: &str) -> bool {
        self.execs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&(node.to_owned(), exec_id.to_owned()))
    }
}

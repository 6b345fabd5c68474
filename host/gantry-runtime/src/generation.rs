//! One plugin, loaded and proven under a provisioner's name.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use gantry_core::policy::Grants;
use gantry_engine::{Chain, Config, Operation};
use wasmtime::component::InstancePre;

use crate::bounds::{Bound, Bounds};
use crate::call::{CallError, CallState, perform};
use crate::host::log::Gate;
use crate::interface::{Exports, Interface};
use crate::limiter::Limiter;
use crate::provisioner::permit::Permits;
use crate::runtime::Runtime;

/// A plugin in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Its name. The operator may install it under another.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is, one line.
    pub summary: String,
    /// The rights it asks for.
    pub grants: Vec<GrantRequest>,
    /// The bounds it needs otherwise.
    pub limits: Vec<LimitRequest>,
}

/// A right that a plugin asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRequest {
    /// The grant.
    pub grant: String,
    /// What it is needed for.
    pub reason: String,
}

/// A bound that a plugin needs otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRequest {
    /// The bound.
    pub name: String,
    /// The value it needs, in the base unit of the bound's measure.
    pub value: u64,
    /// Why.
    pub reason: String,
}

/// One plugin, loaded and proven under a provisioner's name. Cloning it is cheap and gives the same generation.
#[derive(Clone)]
pub struct Generation(Arc<Loaded>);

/// All that a generation is.
pub(crate) struct Loaded {
    pub(crate) runtime: Runtime,
    pub(crate) provisioner: Arc<str>,
    pub(crate) digest: Arc<str>,
    pub(crate) pre: InstancePre<CallState>,
    pub(crate) exports: Arc<Exports>,
    pub(crate) interfaces: BTreeSet<Interface>,
    pub(crate) imports: Vec<String>,
    pub(crate) description: Description,
    pub(crate) grants: Arc<Grants>,
    pub(crate) granted: BTreeSet<String>,
    pub(crate) bounds: Arc<Bounds>,
    pub(crate) config: Arc<Config>,
    pub(crate) instance: Arc<str>,
    pub(crate) chain: Chain,
    pub(crate) permits: Permits,
    pub(crate) limiter: Limiter,
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("provisioner", &self.0.provisioner)
            .field("digest", &self.0.digest)
            .finish_non_exhaustive()
    }
}

impl Generation {
    pub(crate) fn new(loaded: Loaded) -> Self {
        Self(Arc::new(loaded))
    }

    /// The SHA-256 of the plugin's bytes, in lower case hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// The name of the provisioner it was loaded for.
    #[must_use]
    pub fn provisioner(&self) -> &str {
        &self.0.provisioner
    }

    /// The plugin in its own words.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// The interfaces it exports.
    #[must_use]
    pub fn interfaces(&self) -> &BTreeSet<Interface> {
        &self.0.interfaces
    }

    /// Whether it exports an interface.
    #[must_use]
    pub fn supports(&self, interface: Interface) -> bool {
        self.0.interfaces.contains(&interface)
    }

    /// The grants in force: what the plugin asks for and the operator allows.
    #[must_use]
    pub fn grants(&self) -> &BTreeSet<String> {
        &self.0.granted
    }

    /// The bounds in force.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.0.bounds
    }

    /// What it imports, as its component names it. What it does not import it cannot use.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    /// Tells the plugin that the platform starts, or that it is about to take over from another generation. Without the interface there is nothing to tell.
    ///
    /// # Errors
    /// What the plugin said, or why it died.
    pub async fn initialise(&self, operation: &Operation) -> Result<(), CallError> {
        if !self.supports(Interface::Lifecycle) {
            return Ok(());
        }
        perform(self, operation, Bound::OperationTime, move |live| {
            Box::pin(async move {
                let Some(lifecycle) = &live.exports.lifecycle else {
                    return Ok(Ok(()));
                };
                let lifecycle = lifecycle.load(&mut live.store, &live.instance)?;
                lifecycle.call_initialise(&mut live.store).await
            })
        })
        .await
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    pub(crate) fn provisioner_shared(&self) -> Arc<str> {
        Arc::clone(&self.0.provisioner)
    }

    pub(crate) fn pre(&self) -> &InstancePre<CallState> {
        &self.0.pre
    }

    pub(crate) fn exports(&self) -> &Arc<Exports> {
        &self.0.exports
    }

    pub(crate) fn bounds_shared(&self) -> &Arc<Bounds> {
        &self.0.bounds
    }

    pub(crate) fn grants_shared(&self) -> Arc<Grants> {
        Arc::clone(&self.0.grants)
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.config)
    }

    pub(crate) fn instance(&self) -> Arc<str> {
        Arc::clone(&self.0.instance)
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.0.chain
    }

    pub(crate) fn limiter(&self) -> &Limiter {
        &self.0.limiter
    }

    pub(crate) fn permits(&self) -> &Permits {
        &self.0.permits
    }

    pub(crate) fn log(&self, operation: &str) -> Gate {
        Gate::new(
            Arc::clone(&self.0.provisioner),
            Arc::clone(&self.0.digest),
            operation.to_owned(),
            &self.0.bounds,
        )
    }
}

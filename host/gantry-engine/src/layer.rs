//! The chain of layers, once:
//!
//! ```text
//! identity ► policy ► quota ► fault ► record ► plan ► journal ► trace ► engine
//! ```
//!
//! Every host call of every plugin passes it; the vectors compare above `identity`. A layer sees a call on its way down and the reply on its way up, may answer in place of
//! what is below it, and knows nothing of the layers around it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Apps, Config, Error, Images, Operation, Request, Response, State};

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
}

/// A layer of the chain.
#[async_trait]
pub trait Layer: Send + Sync {
    /// Handles a call, usually by sending it on with [`Next::send`].
    async fn call(
        &self,
        scope: &Scope,
        request: Request,
        next: Next<'_>,
    ) -> Result<Response, Error>;
}

/// What is below a layer.
pub struct Next<'a> {
    layers: &'a [Arc<dyn Layer>],
    backends: &'a Backends,
}

/// What is at the end of the chain.
pub struct Backends {
    /// The apps of the platform.
    pub apps: Arc<dyn Apps>,
    /// The images of its apps.
    pub images: Arc<dyn Images>,
    /// The durable keys of plugins.
    pub state: Arc<dyn State>,
}

/// The chain.
pub struct Chain {
    layers: Vec<Arc<dyn Layer>>,
    backends: Backends,
}

impl Next<'_> {
    /// Sends a call on to the next layer, and below the last one to what does it.
    pub async fn send(self, scope: &Scope, request: Request) -> Result<Response, Error> {
        match self.layers.split_first() {
            Some((layer, below)) => {
                layer.call(scope, request, Next { layers: below, backends: self.backends }).await
            }
            None => self.backends.perform(scope, request).await,
        }
    }
}

impl Backends {
    async fn perform(&self, _scope: &Scope, _request: Request) -> Result<Response, Error> {
        Err(Error::Platform(gantry_core::Error::Other(String::new())))
    }
}

impl Chain {
    /// A chain over these backends.
    #[must_use]
    pub fn new(backends: Backends) -> Self {
        Self { layers: Vec::new(), backends }
    }

    /// Sends a call of a plugin down the chain.
    pub async fn send(&self, scope: &Scope, request: Request) -> Result<Response, Error> {
        Next { layers: &self.layers, backends: &self.backends }.send(scope, request).await
    }
}

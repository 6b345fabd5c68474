//! The chain of layers, once:
//!
//! ```text
//! quota ► identity ► policy ► fault ► record ► plan ► journal ► trace ► engine
//! ```
//!
//! Every host call of every plugin passes it; the vectors compare at its top. A layer sees a call on its way down and the reply on its way up, may answer in place of
//! what is below it, and knows nothing of the layers around it.
//!
//! | layer | what it does |
//! |---|---|
//! | [`quota`] | holds a wasm call to its bounds: what is refused below costs as much as what is done |
//! | [`identity`] | marks what is created as the provisioner's, hides the marks and labels that nobody asked for, turns names into full ids, shows a provisioner its own containers only |
//! | [`policy`] | refuses what is not the provisioner's own and what no grant covers |
//! | `fault` (to come) | seeded refusals, conflicts, time-outs and cut streams in place of the engine's answers |
//! | `record` (to come) | writes calls and replies down, or answers from what was written down |
//! | `plan` (to come) | keeps effects in an overlay that reads see, and lists them |
//! | [`journal`] | keeps the ledger of what an operation created and has not put in service |
//! | [`trace`] | a span and an event for each call |
//!
//! The layers to come stand between `policy` and `journal` in [`Chain::new`]: a planned or replayed call is counted like any other and never reaches the journal.

pub mod identity;
pub mod journal;
mod owned;
pub mod policy;
pub mod quota;
pub mod trace;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::owned::Owned;
use crate::backends::Backends;
use crate::{Error, Request, Response, Scope};

/// A layer of the chain.
#[async_trait]
pub trait Layer: Send + Sync {
    /// Handles a call, usually by sending it on with [`Next::send`].
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, Error>;
}

/// What is below a layer. Cheap to clone, and owned: a layer may go on with a call after its caller has gone.
#[derive(Clone)]
pub struct Next {
    chain: Chain,
    depth: usize,
}

impl Next {
    /// Sends a call on to the next layer, and below the last one to what does it.
    pub async fn send(self, scope: &Arc<Scope>, request: Request) -> Result<Response, Error> {
        let Self { chain, depth } = self;
        match chain.0.layers.get(depth).map(Arc::clone) {
            Some(layer) => {
                layer.call(scope, request, Self { chain, depth: depth.saturating_add(1) }).await
            }
            None => chain.0.backends.perform(scope, request).await,
        }
    }
}

/// The chain. Cloning it is cheap and gives the same chain.
#[derive(Clone)]
pub struct Chain(Arc<Links>);

struct Links {
    layers: Vec<Arc<dyn Layer>>,
    backends: Backends,
}

impl Chain {
    /// The chain over these backends.
    #[must_use]
    pub fn new(backends: Backends) -> Self {
        Self::with(backends, Vec::new())
    }

    /// The same with layers of the host's own right below the journal, whose ledger has taken note of a call when they see it.
    #[must_use]
    pub fn with(backends: Backends, below_journal: Vec<Arc<dyn Layer>>) -> Self {
        let owned = Arc::new(Owned::default());
        let mut layers: Vec<Arc<dyn Layer>> = vec![
            Arc::new(quota::Quota),
            Arc::new(identity::Identity::new(Arc::clone(&owned))),
            Arc::new(policy::Policy::new(owned)),
            // fault, record and plan stand here.
            Arc::new(journal::Journal),
        ];
        layers.extend(below_journal);
        layers.push(Arc::new(trace::Trace));
        Self::of(layers, backends)
    }

    /// A chain of these layers only, the first on top: for tests of one layer, and for hosts that add their own.
    #[must_use]
    pub fn of(layers: Vec<Arc<dyn Layer>>, backends: Backends) -> Self {
        Self(Arc::new(Links { layers, backends }))
    }

    /// What is at the end of the chain.
    #[must_use]
    pub fn backends(&self) -> &Backends {
        &self.0.backends
    }

    /// Sends a call of a plugin down the chain.
    ///
    /// # Errors
    /// What the engine or the platform answered, a denial, or a bound that was gone over.
    pub async fn send(
        &self,
        scope: &Arc<Scope>,
        request: impl Into<Request> + Send,
    ) -> Result<Response, Error> {
        Next { chain: self.clone(), depth: 0 }.send(scope, request.into()).await
    }
}

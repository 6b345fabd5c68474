//! One call of a plugin: a fresh store and instance, watched, and cleaned up after when it dies.
//!
//! ```text
//! permit ► store ► instance ► export ─► answer                          what was created is in service
//!                                  ├──► the plugin's own error          it undid what it could
//!                                  └──► death: trap, bound, cut off     the store is dropped, then the containers that the call created and
//!                                                                       had not yet put in service are removed through the chain
//! ```
//!
//! A store is never used again after a death, and never for a second call.

mod perform;
mod state;
mod watch;

use std::fmt;
use std::time::Duration;

use gantry_engine::OverLimit;
use gantry_engine::layer::journal::{Created, Left};

pub(crate) use perform::{Live, describe, perform};
pub(crate) use state::{CallState, Locks, Outside, engine_error, platform_error};
pub(crate) use watch::{Aside, Watch};

/// Why a call failed, and what became of what it had created.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{cause}{clean_up}")]
pub struct CallError {
    /// Why it failed.
    pub cause: Cause,
    /// What was cleaned up after it. Empty unless the call died.
    pub clean_up: CleanUp,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The plugin said so.
    #[error(transparent)]
    Plugin(gantry_core::Error),
    /// The plugin has no such ability.
    #[error("provisioner {} does not support {action}", gantry_core::quote(provisioner))]
    NotSupported {
        /// The provisioner's name.
        provisioner: String,
        /// What it was asked for, in the words of the contract (spec 2.2).
        action: String,
    },
    /// The plugin went over a bound.
    #[error(transparent)]
    OverLimit(OverLimit),
    /// The plugin called itself without end. The stack is the same for every plugin, so this is no bound of one provisioner.
    #[error(
        "over the limit `stack` of {stack}, the same for every plugin: raise `runtime.stack` in the configuration"
    )]
    StackOverflow {
        /// The stack that every plugin has.
        stack: String,
    },
    /// The plugin broke: it panicked, or did what no WebAssembly may do.
    #[error("the plugin trapped: {0}")]
    Trapped(String),
    /// The call took longer than a bound of time allows.
    #[error("timed out: {0}")]
    TimedOut(OverLimit),
    /// The time of the whole operation was over.
    #[error("timed out: the time of the whole operation is over")]
    Deadline,
    /// Somebody asked to stop, and the plugin did not in the time it had to undo.
    #[error("cut off {grace:?} after it was asked to stop")]
    CutOff {
        /// The time it had.
        grace: Duration,
    },
    /// The call was cancelled before the plugin was asked.
    #[error("cancelled")]
    Cancelled,
    /// The host broke. It says nothing about the plugin.
    #[error("the host failed: {0}")]
    Host(String),
}

/// What the host did after a call that died.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CleanUp {
    /// The containers that the call had created, had not put in service, and that are gone now.
    pub removed: Vec<Created>,
    /// What the call had changed and not put in service, and is as it was before.
    pub put_back: Vec<Created>,
    /// What could not be removed.
    pub left: Vec<Left>,
}

impl CleanUp {
    /// Whether there was nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.put_back.is_empty() && self.left.is_empty()
    }
}

impl fmt::Display for CleanUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn name(created: &Created) -> &str {
            if created.name.is_empty() {
                created.id.as_deref().unwrap_or("a container without a name")
            } else {
                &created.name
            }
        }
        if !self.removed.is_empty() {
            let names: Vec<_> = self.removed.iter().map(|one| format!("`{}`", name(one))).collect();
            write!(f, "; removed {} it had created", names.join(", "))?;
        }
        if !self.put_back.is_empty() {
            let names: Vec<_> =
                self.put_back.iter().map(|one| format!("`{}`", name(one))).collect();
            write!(f, "; put back {}", names.join(", "))?;
        }
        for left in &self.left {
            let Created { node, .. } = &left.created;
            write!(f, "; could not remove `{}` on `{node}`: {}", name(&left.created), left.error)?;
        }
        Ok(())
    }
}

impl From<Cause> for CallError {
    fn from(cause: Cause) -> Self {
        Self { cause, clean_up: CleanUp::default() }
    }
}

impl CallError {
    /// Whether the plugin broke rather than answered: what a probation counts against a new generation.
    #[must_use]
    pub fn is_death(&self) -> bool {
        match self.cause {
            Cause::OverLimit(_)
            | Cause::StackOverflow { .. }
            | Cause::Trapped(_)
            | Cause::TimedOut(_)
            | Cause::Deadline
            | Cause::CutOff { .. } => true,
            Cause::Plugin(_) | Cause::NotSupported { .. } | Cause::Cancelled | Cause::Host(_) => {
                false
            }
        }
    }
}

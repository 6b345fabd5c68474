//! Bytes to a provisioner: admit, compile, link, prove, call, limit, swap.
//!
//! A plugin is a WebAssembly component. [`Runtime::load`] makes a [`Generation`] of its bytes, proven before it serves; a [`Provisioner`] is the handle under a name whose methods are the functions of the
//! contract, each of which runs in a fresh instance with nothing but the host functions of this crate. These lift their arguments into a `gantry_engine::Call`, send it through the chain of layers, and lower the
//! reply; what a plugin may do is decided there, not here. What this crate holds a plugin to is in [`Bounds`].
//!
//! ```text
//! bytes ─► admit ─► compile ─► link ─► check the exports' shape ─► describe ─► generation ─► provisioner ─► call
//! ```

mod admit;
mod bindings;
pub mod bounds;
mod call;
pub mod compile;
mod convert;
mod epoch;
mod generation;
mod host;
mod interface;
pub mod limiter;
mod provisioner;
mod registry;
mod runtime;
mod shape;
mod wasm;

pub use admit::{AdmitError, digest};
pub use bounds::{Bound, Bounds, BoundsError};
pub use call::{CallError, Cause, CleanUp};
pub use compile::{CompileError, Compiler};
pub use generation::{Description, Generation, GrantRequest, LimitRequest};
pub use interface::Interface;
pub use provisioner::{LogSource, LogsEnabled, Provisioner, TailOptions};
pub use registry::{DEFAULT_PROVISIONER, InitialiseError, Registry, UnknownProvisioner};
pub use runtime::{LoadError, LoadSettings, Runtime, RuntimeError, RuntimeSettings};
pub use shape::ShapeError;

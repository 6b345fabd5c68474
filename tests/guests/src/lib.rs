//! Guests.

pub mod bindings;
mod guest;

pub use bindings::gantry::provision::{apps, config, containers, images, labels, log, operation, state, streams, types};
pub use bindings::plugin::exports::gantry::provision::plugin::{Description, GrantRequest, LimitRequest};
pub use bindings::provisioner::exports::gantry::provision::provisioner::UnitPage;
pub use guest::Guest;

//! How many engine actions of a kind run at the same time, over all calls of this provisioner; the operator says how many. The actions of a [`Batch`](crate::containers::Batch) take
//! their places themselves ([`Sequence::limited_by`](crate::containers::Sequence::limited_by)).

use crate::Result;
use crate::bindings::gantry::provision::limiter as imported;

/// A place that an action has. It is free again when this is dropped, and when the call ends in whatever way.
#[must_use = "the place is free again at once"]
#[derive(Debug)]
pub struct Slot {
    _place: imported::Slot,
}

/// Waits until the action has a place, in the order of those who ask.
///
/// # Errors
///
/// `Cancelled` when the request is interrupted meanwhile, `InvalidArgument` when the action has more than 512 bytes.
pub fn start(action: &str) -> Result<Slot> {
    Ok(Slot { _place: imported::start(action)? })
}

/// How many places of the action are taken now; 0 without a limit.
#[must_use]
pub fn len(action: &str) -> u32 {
    imported::len(action)
}

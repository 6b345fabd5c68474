//! Walks the conformance vectors of `tests/vectors` about Docker as far as they are pure: inputs, and what the reference really gave for them.
//!
//! Every test prints how many cases of its file ran. A case where we differ on purpose is excused by a predicate over its input, never by its name, and then our documented
//! behaviour is asserted in its place.
//!
//! `cfg(test)` says what every module here is: the lints allow more in tests.

#[cfg(test)]
mod rebalance;
#[cfg(test)]
mod scheduler;
#[cfg(test)]
#[expect(dead_code, reason = "shared with walkers that read more kinds of fields")]
#[path = "../../../../host/gantry-core/tests/vectors/walk.rs"]
mod walk;

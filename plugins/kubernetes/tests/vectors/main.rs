//! Walks the conformance vectors of `tests/vectors` about Kubernetes as far as they are pure: inputs, and what the reference really gave for them. Which calls it made, and in which
//! order, is not compared; the objects are.
//!
//! Every test prints how many cases of its file ran. A case where we differ on purpose is excused by a predicate over its input, never by its name, and then our documented
//! behaviour is asserted in its place.
//!
//! `cfg(test)` says what every module here is: the lints allow more in tests.

#[cfg(test)]
mod manifests;
#[cfg(test)]
mod names;
#[cfg(test)]
mod node_containers;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod units;
#[cfg(test)]
#[path = "../../../../host/gantry-core/tests/vectors/walk.rs"]
mod walk;

//! Walks the conformance vectors of `tests/vectors` that need no engine: inputs, and what the reference really gave for them.
//!
//! Every test prints how many cases of its file ran. A case where we differ on purpose is excused by a predicate over its input, never by its name, and then our documented
//! behaviour is asserted in its place.
//!
//! `cfg(test)` says what every module here is: the lints allow more in tests.

#[cfg(test)]
mod commands;
#[cfg(test)]
mod create;
#[cfg(test)]
mod env;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod images;
#[cfg(test)]
mod labels;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod units;
#[cfg(test)]
mod walk;

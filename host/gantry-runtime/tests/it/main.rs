//! The runtime with real plugins (tests/guests): what it admits, what it holds them to, what it does when they die.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test ends at what it did not expect, wherever that is"
)]

mod admission;
mod cache;
mod calls;
mod cleaning;
mod guests;
mod keeping;
mod labels;
mod limits;
mod logs;
mod registry;
mod routers;
mod sequences;
mod swap;
mod world;

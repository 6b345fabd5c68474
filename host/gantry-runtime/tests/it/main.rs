//! The runtime with real plugins (tests/guests): what it admits, what it holds them to, what it does when they die.

mod admission;
mod cache;
mod calls;
mod cleaning;
mod guests;
mod labels;
mod limits;
mod logs;
mod registry;
mod swap;
mod world;

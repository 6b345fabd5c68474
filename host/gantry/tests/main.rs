//! The daemon from outside: embedded over an engine in memory with the compiled Docker plugin, and as the program it is.

mod api;
mod crash;
mod forgotten;
mod life;
mod moves;
mod places;
mod program;
mod shell;
mod support;
mod units;

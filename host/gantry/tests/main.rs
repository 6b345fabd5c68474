//! The daemon from outside: embedded over an engine in memory with the compiled Docker plugin, and as the program it is.

mod api;
mod builds;
mod crash;
mod forgotten;
mod healing;
mod life;
mod moves;
mod places;
mod program;
mod registered;
mod reports;
mod routes;
mod services;
mod shell;
mod support;
mod units;

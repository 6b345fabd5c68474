//! The daemon from outside: embedded over an engine in memory with the compiled Docker plugin, and as the program it is.

mod api;
mod builds;
mod clusters;
mod crash;
mod forgotten;
mod healing;
mod life;
mod moves;
mod node_containers;
mod nodes;
mod plans;
mod plugins;
mod pools;
mod program;
mod quota;
mod registered;
mod reports;
mod routes;
mod services;
mod shell;
mod support;
mod units;
mod volumes;

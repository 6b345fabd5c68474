//! The daemon and the command line of Gantry.
//!
//! ```text
//! command line ── HTTP ──► handlers ──► service ──► operation ──► provisioner ──► plugin
//!      cli        client     http                                (gantry-runtime)
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | the configuration, as written and as used |
//! | `data`, `store` | the data directory and the database in it; the only SQL |
//! | `operation` | every change: written down, alone on what it changes, followed by whoever wants to |
//! | `counts` | how many units apps use |
//! | `routing` | the routers over the routing table |
//! | `platform` | apps, images and durable keys as plugins see them |
//! | `service` | what the daemon can do, one file for each noun; the only place that calls a provisioner |
//! | `http` | checks, converts and forwards; decides nothing |
//! | [`daemon`] | all of it put together, with listeners and an end that are given to it |
//! | [`api`], [`client`] | what goes over the wire, and the other end of it |
//! | [`cli`] | one file for each group of verbs; all output through one door |

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;

mod clock;
mod counts;
mod data;
mod http;
mod near;
mod operation;
mod platform;
mod routing;
mod service;
mod store;

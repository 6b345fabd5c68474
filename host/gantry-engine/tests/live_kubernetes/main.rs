//! A real cluster keeps what every cluster promises, and more that only a real one can show.
//!
//! These tests need the cluster that `KUBECONFIG` names, one of tests/cluster/up with a node at least, and fail when none answers; `GANTRY_SKIP_LIVE=1` leaves them out, with a
//! line that says so.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::wildcard_imports,
    reason = "a test stops where it fails"
)]

mod at;
mod pods;
mod put_back;
mod random;
mod real;
mod users;

use at::{cluster, kubeconfig, user};

gantry_engine::cluster_contract!(match cluster().await {
    Some(fixture) => fixture,
    None => return,
});

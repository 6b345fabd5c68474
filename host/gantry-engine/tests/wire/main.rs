//! The Docker client against a peer that answers what a test tells it to: what is sent, and what becomes of answers that a real engine seldom gives.
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

mod answers;
mod peer;
mod probe;
mod requests;
mod tls;

use std::time::Duration;

use gantry_engine::EngineError;
use gantry_engine::docker::{Auth, Docker, Endpoint, Timeouts};

use crate::peer::Peer;

/// Limits that a test can wait for.
fn short() -> Timeouts {
    let limit = Duration::from_millis(200);
    Timeouts { connect: limit, question: limit, change: limit, commit: limit, silence: limit }
}

fn docker(peer: &Peer) -> Docker {
    Docker::new(peer.endpoint()).unwrap()
}

fn hasty(peer: &Peer) -> Docker {
    Docker::with(peer.endpoint(), Auth::none(), short()).unwrap()
}

fn at(address: &str) -> Docker {
    Docker::with(Endpoint::parse(address).unwrap(), Auth::none(), short()).unwrap()
}

/// Fails unless an answer is an error of this kind, and gives its text.
#[track_caller]
fn refused<T>(answer: Result<T, EngineError>, kind: &str) -> String {
    let error = answer.err().expect("an error");
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

//! A real Docker engine keeps what every engine promises, and more that only a real one can show.
//!
//! These tests need the engine that `DOCKER_HOST` names and fail when none answers; `GANTRY_SKIP_LIVE=1` leaves them out, with a line that says so.
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

mod image;
mod random;
mod real;
mod registry;

use std::sync::Arc;

use gantry_engine::Docker;
use gantry_engine::contract::{Fixture, Kind};

/// The engine with its image, or none when it is not wanted.
async fn docker() -> Option<Fixture> {
    if std::env::var("GANTRY_SKIP_LIVE").is_ok_and(|value| value == "1") {
        println!("skipped: GANTRY_SKIP_LIVE=1 leaves out what needs a Docker engine");
        return None;
    }
    let engine = Docker::from_env().expect("the environment names a Docker engine");
    if let Err(error) = engine.api_version().await {
        panic!("no Docker engine for the live tests (GANTRY_SKIP_LIVE=1 leaves them out): {error}");
    }
    let image = image::ready(&engine).await;
    let fixture = Fixture::new(Arc::new(engine), Kind::Docker, image);
    Some(fixture.with_registry(registry::address()))
}

gantry_engine::contract!(match docker().await {
    Some(fixture) => fixture,
    None => return,
});

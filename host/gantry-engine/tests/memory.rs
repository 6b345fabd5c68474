//! The in-memory engine keeps what every engine promises.
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

use std::sync::Arc;

use gantry_core::container::{ContainerConfig, Image};
use gantry_engine::Memory;
use gantry_engine::contract::{Fixture, Kind, PAGE, PORT};

const IMAGE: &str = "gantry-engine/fixture:v1";

fn fixture() -> Fixture {
    let config = ContainerConfig {
        cmd: Some(vec!["/bin/serve".to_owned()]),
        env: Some(vec!["PATH=/bin".to_owned()]),
        exposed_ports: Some([(PORT.to_owned(), Default::default())].into()),
        ..ContainerConfig::default()
    };
    let image = Image { config, ..Image::default() };
    let engine = Memory::new().with_image(IMAGE, image, [("/www/index.html", PAGE.as_bytes())]);
    Fixture::new(Arc::new(engine), Kind::Memory, IMAGE).with_registry("127.0.0.1:5000")
}

gantry_engine::contract!(fixture());

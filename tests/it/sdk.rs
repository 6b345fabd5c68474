//! The example of the Rust SDK is a plugin: under a hundred lines, built, loaded and called.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use gantry_core::App;
use gantry_engine::memory::{Memory, Platform};
use gantry_engine::{Chain, Config, Images, Operation};
use gantry_runtime::{Bounds, Interface, LoadSettings, Provisioner, Runtime, RuntimeSettings};
use gantry_tests::artifacts;
use serde_json::json;

#[test]
fn the_example_is_short() -> Result<()> {
    let source = std::fs::read_to_string(artifacts::top().join("sdk/rust/examples/hello.rs"))?;
    let lines = source.lines().count();
    assert!(lines < 100, "{lines} lines");
    Ok(())
}

#[tokio::test]
async fn the_example_serves_an_app_and_exports_what_it_names() -> Result<()> {
    let app = App { name: "web".to_owned(), ..App::default() };
    let platform = Platform::new().app(app.clone());
    let backends = platform.backends("hello", [("memory", Memory::new())]);
    let settings = LoadSettings {
        granted: BTreeSet::new(),
        bounds: Bounds::default(),
        config: Arc::new(Config::new(json!({}))),
        instance: "sdk".into(),
        chain: Chain::new(backends),
    };
    let bytes = std::fs::read(artifacts::sdk_example()?)?;
    let runtime = Runtime::new(RuntimeSettings::default())?;
    let generation = runtime.load("hello", &bytes, settings).await?;
    assert_eq!(
        *generation.interfaces(),
        BTreeSet::from([Interface::Plugin, Interface::Provisioner, Interface::Deployer])
    );

    let hello = Provisioner::new("hello", generation);
    let operation = |id: &str| Operation::new(id, Duration::from_secs(10));
    assert_eq!(hello.deploy(&operation("1"), &app, "i:1").await?, "i:1");
    assert_eq!(platform.current("web").await?, "i:1");
    hello.add_units(&operation("2"), &app, 2, "").await?;
    let units = hello.units(&operation(""), std::slice::from_ref(&app)).await?;
    assert_eq!(units.last().map(|unit| unit.id.as_str()), Some("web-3"));
    let error = hello.remove_units(&operation("3"), &app, 4, "").await.unwrap_err();
    assert_eq!(error.to_string(), "there are only 3 units");
    hello.destroy(&operation("4"), &app).await?;
    assert!(hello.units(&operation(""), std::slice::from_ref(&app)).await?.is_empty());

    let error = hello.rollback(&operation("5"), &app, "i:1").await.unwrap_err();
    assert_eq!(error.to_string(), "provisioner \"hello\" does not support rollback deploy");
    Ok(())
}

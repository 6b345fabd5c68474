//! The examples of the Rust SDK are plugins: the first is under a hundred lines, all are built, loaded and called.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use gantry_core::labels::{
    NodeContainerOptions, NodeOptions, ServiceAccountOptions, ServiceExtension, ServiceOptions,
    VolumeOptions,
};
use gantry_core::{App, AppRouter, LabelSet, Labels};
use gantry_engine::memory::{Memory, Platform};
use gantry_engine::{Chain, Config, Images, Operation};
use gantry_runtime::{
    Bounds, Generation, Interface, LoadSettings, Provisioner, Runtime, RuntimeSettings,
};
use gantry_tests::artifacts;
use serde_json::{Value, json};

#[test]
fn the_example_is_short() -> Result<()> {
    let source = std::fs::read_to_string(artifacts::top().join("sdk/rust/examples/hello.rs"))?;
    let lines = source.lines().count();
    assert!(lines < 100, "{lines} lines");
    Ok(())
}

/// An example as the provisioner of its name.
async fn load(name: &str, config: Value, chain: Chain) -> Result<Generation> {
    let settings = LoadSettings {
        granted: BTreeSet::new(),
        bounds: Bounds::default(),
        config: Arc::new(Config::new(config)),
        instance: "sdk".into(),
        chain,
    };
    let bytes = std::fs::read(artifacts::sdk_example(name)?)?;
    Ok(Runtime::new(RuntimeSettings::default())?.load(name, &bytes, settings).await?)
}

#[tokio::test]
async fn the_example_serves_an_app_and_exports_what_it_names() -> Result<()> {
    let app = App { name: "web".to_owned(), ..App::default() };
    let platform = Platform::new().app(app.clone());
    let backends = platform.backends("hello", [("memory", Memory::new())]);
    let generation = load("hello", json!({}), Chain::new(backends)).await?;
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

/// What the example `labels` should show, made here.
fn labelled(app: &App) -> Result<Vec<(&'static str, LabelSet)>> {
    let (provisioner, prefix, pool) = ("shown", "example.org/", "south");
    let extension = ServiceExtension {
        provisioner,
        prefix,
        build_image: "image:v1",
        is_deploy: true,
        is_isolated_run: false,
        is_build: true,
        builder: "hand",
    };
    let custom: Labels = [("colour".to_owned(), "green".to_owned())].into();
    let routers = ["front".to_owned()];
    let service = ServiceOptions { app, routers: &routers, process: "web", replicas: 3, extension };
    let kind = |router: &str| (router == "front").then(|| "galeb".to_owned());
    let service = LabelSet::service_labels(&service, &kind)?;
    let mut extended = LabelSet::new(custom.clone(), "one/");
    extended.extend_service_labels(&extension);
    let (split, annotations) = service.split_service_labels_annotations();
    let account = ServiceAccountOptions {
        app_name: Some(&app.name),
        node_container_name: "agent",
        provisioner,
        prefix,
    };
    let node_container =
        NodeContainerOptions { name: "agent", custom_labels: &custom, pool, provisioner, prefix };
    let node = NodeOptions {
        iaas_id: "machine-7",
        address: "10.0.0.7",
        pool,
        prefix,
        custom_labels: &custom,
    };
    let volume = VolumeOptions { name: "data", provisioner, pool, plan: "fast", prefix };
    Ok(vec![
        ("extended", extended),
        ("split", split),
        ("annotations", annotations),
        ("service", service),
        ("service-account", LabelSet::service_account_labels(&account)),
        ("node-container", LabelSet::node_container_labels(&node_container)),
        ("node", LabelSet::node_labels(&node)),
        ("volume", LabelSet::volume_labels(&volume)),
    ])
}

#[tokio::test]
async fn a_plugin_gets_the_labels_of_everything_from_the_host() -> Result<()> {
    let app = App { name: "web".to_owned(), pool: "south".to_owned(), ..App::default() };
    let router = AppRouter { name: "front".to_owned(), ..AppRouter::default() };
    let platform = Platform::new().app(app.clone()).router("web", router);
    let backends = platform.backends("labels", [("memory", Memory::new())]);
    let config = json!({"routers": {"front": {"type": "galeb"}}});
    let labels = Provisioner::new("labels", load("labels", config, Chain::new(backends)).await?);
    let operation = Operation::new("", Duration::from_secs(10));
    let shown = labels.routable_addresses(&operation, &app).await?;
    let mut expected = Vec::new();
    for (what, set) in labelled(&app)? {
        assert!(!set.labels.is_empty(), "{what}");
        expected.push(format!("{what} has the prefix {}", set.prefix));
        expected.extend(set.labels.iter().map(|(key, value)| format!("{what}: {key}={value}")));
    }
    assert_eq!(shown, expected);
    Ok(())
}

//! A provisioner that runs nothing: it shows the labels that the host makes for an app, one `key=value` a line, each under the name of what it labels.

use gantry_sdk::gantry_core::labels::{
    NodeContainerOptions, NodeOptions, ServiceAccountOptions, ServiceExtension, ServiceOptions,
    VolumeOptions,
};
use gantry_sdk::{
    App, Description, LabelSet, Labels, Plugin, Provisioner, Result, UnitPage, apps, labels,
};

struct Shown;

/// The labels of everything that can be labelled.
fn all(app: &App) -> Result<Vec<(&'static str, LabelSet)>> {
    let routers: Vec<String> =
        apps::routers(&app.name)?.into_iter().map(|router| router.name).collect();
    let extension = ServiceExtension {
        provisioner: "shown",
        prefix: "example.org/",
        build_image: "image:v1",
        is_deploy: true,
        is_isolated_run: false,
        is_build: true,
        builder: "hand",
    };
    let custom: Labels = [("colour".to_owned(), "green".to_owned())].into();
    let service = labels::service(&ServiceOptions {
        app,
        routers: &routers,
        process: "web",
        replicas: 3,
        extension,
    })?;
    let extended = labels::extend_service(&LabelSet::new(custom.clone(), "one/"), &extension);
    let (split, annotations) = labels::split_service(&service);
    Ok(vec![
        ("extended", extended),
        ("split", split),
        ("annotations", annotations),
        ("service", service),
        (
            "service-account",
            labels::service_account(&ServiceAccountOptions {
                app_name: Some(&app.name),
                node_container_name: "agent",
                provisioner: "shown",
                prefix: "example.org/",
            }),
        ),
        (
            "node-container",
            labels::node_container(&NodeContainerOptions {
                name: "agent",
                custom_labels: &custom,
                pool: "south",
                provisioner: "shown",
                prefix: "example.org/",
            }),
        ),
        (
            "node",
            labels::node(&NodeOptions {
                iaas_id: "machine-7",
                address: "10.0.0.7",
                pool: "south",
                prefix: "example.org/",
                custom_labels: &custom,
            }),
        ),
        (
            "volume",
            labels::volume(&VolumeOptions {
                name: "data",
                provisioner: "shown",
                pool: "south",
                plan: "fast",
                prefix: "example.org/",
            }),
        ),
    ])
}

impl Plugin for Shown {
    fn describe() -> Description {
        Description::new("labels", env!("CARGO_PKG_VERSION"), "Shows labels and runs nothing.")
    }
}

impl Provisioner for Shown {
    fn provision(_app: App) -> Result<()> {
        Ok(())
    }
    fn destroy(_app: App) -> Result<()> {
        Ok(())
    }
    fn add_units(_app: App, _count: u32, _process: String) -> Result<()> {
        Ok(())
    }
    fn remove_units(_app: App, _count: u32, _process: String) -> Result<()> {
        Ok(())
    }
    fn restart(_app: App, _process: String) -> Result<()> {
        Ok(())
    }
    fn start(_app: App, _process: String) -> Result<()> {
        Ok(())
    }
    fn stop(_app: App, _process: String) -> Result<()> {
        Ok(())
    }
    fn units(_apps: Vec<App>, _after: Option<String>) -> Result<UnitPage> {
        Ok(UnitPage { units: Vec::new(), next: None })
    }
    fn routable_addresses(app: App) -> Result<Vec<String>> {
        let shown = |(what, set): (&str, LabelSet)| {
            let prefix = format!("{what} has the prefix {}", set.prefix);
            let labels = set.labels.into_iter();
            let labels = labels.map(move |(key, value)| format!("{what}: {key}={value}"));
            std::iter::once(prefix).chain(labels).collect::<Vec<_>>()
        };
        Ok(all(&app)?.into_iter().flat_map(shown).collect())
    }
    fn register_unit(_app: App, _unit_id: String, _custom_data: Option<String>) -> Result<()> {
        Ok(())
    }
}

gantry_sdk::export!(Shown);

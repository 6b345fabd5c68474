//! A provisioner with every ability that is about more than units: machines, storage, node containers, sleep and shells. Units, machines and storage are entries of its durable keys; where
//! it was given a cluster it keeps a ConfigMap for each app there, and opens shells in the pod that has the app's name.
//!
//! An image `…:broken` does not start, one `…:torn` does not even undo, and one `…:slow` waits until somebody writes `go` into the ConfigMap of the app.
#![allow(clippy::indexing_slicing, reason = "a JSON value that is not there reads as null")]

use std::time::Duration;

use gantry_sdk::cluster::{self, Client, Kind, PodExecOptions};
use gantry_sdk::gantry_core::node::{
    AddNodeOptions, Node, NodeStatusData, RemoveNodeOptions, UpdateNodeOptions,
};
use gantry_sdk::streams::Session;
use gantry_sdk::{
    App, Deployer, Description, Error, NodeContainers, NodePage, Nodes, Plugin, Provisioner,
    Result, Shell, ShellOptions, Sleep, Status, Unit, UnitPage, Volumes, apps, images, operation,
    state,
};
use serde_json::{Value, json};

struct Warehouse;

fn read(key: &str) -> Result<Option<(Value, u64)>> {
    let Some(entry) = state::get(key)? else { return Ok(None) };
    let value =
        serde_json::from_slice(&entry.value).map_err(|error| Error::Other(error.to_string()))?;
    Ok(Some((value, entry.version)))
}

fn write(key: &str, value: &Value) -> Result<()> {
    let version = read(key)?.map(|(_, version)| version);
    state::put_if(key, value.to_string().as_bytes(), version).map(|_| ())
}

fn delete(key: &str) -> Result<()> {
    state::get(key)?.map_or(Ok(()), |entry| state::delete_if(key, entry.version))
}

/// The entries under a prefix, with their keys.
fn all(prefix: &str) -> Result<Vec<(String, Value)>> {
    let entries = state::all(prefix)?.into_iter();
    let read =
        |entry: state::Entry| (entry.key, serde_json::from_slice(&entry.value).unwrap_or_default());
    Ok(entries.map(read).collect())
}

fn word(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn of_app(app: &App) -> String {
    format!("unit/{}/", app.name)
}

/// Puts as many new units there, and gives their keys.
fn make(app: &App, process: &str, count: u32) -> Result<Vec<String>> {
    let (serial, _) = read("serial")?.unwrap_or((json!(0), 0));
    let serial = serial.as_u64().unwrap_or_default();
    let mut keys = Vec::new();
    for number in 1..=u64::from(count) {
        let key = format!("{}{process}/{}", of_app(app), serial + number);
        let volumes = apps::volumes(&app.name)?;
        let mounts: Vec<_> =
            volumes.iter().flat_map(|one| &one.binds).map(|bind| &bind.mount_point).collect();
        write(&key, &json!({"pool": app.pool, "process": process, "mounts": mounts}))?;
        keys.push(key);
    }
    write("serial", &json!(serial + u64::from(count)))?;
    Ok(keys)
}

fn mark(app: &App, process: &str, state: &str) -> Result<()> {
    for (key, mut unit) in all(&of_app(app))? {
        if process.is_empty() || word(&unit, "process") == process {
            unit["state"] = json!(state);
            write(&key, &unit)?;
        }
    }
    Ok(())
}

/// The cluster that keeps things for apps, and the namespace there.
fn home() -> Result<Option<(Client, String)>> {
    let Some(info) = cluster::clusters().into_iter().next() else { return Ok(None) };
    Ok(Some((Client::open(&info.name)?, info.namespace)))
}

fn config_map() -> Kind {
    Kind::new("v1", "ConfigMap")
}

/// Writes down in the cluster which image an app has.
fn note(app: &App, image: &str) -> Result<()> {
    let Some((client, namespace)) = home()? else { return Ok(()) };
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": app.name},
        "data": {"image": image},
    });
    client.apply(&object)?;
    if image.ends_with(":slow") {
        while client.get(&config_map(), &namespace, &app.name)?["data"]["go"].is_null() {
            operation::pause(Duration::from_millis(20))?;
        }
    }
    Ok(())
}

impl Plugin for Warehouse {
    fn describe() -> Description {
        Description::new(
            "warehouse",
            env!("CARGO_PKG_VERSION"),
            "Keeps lists of things and runs none.",
        )
        .grant("cluster:*:ConfigMap", "keeps a note for each app")
        .grant("cluster:foreign:exec:Pod", "opens shells in the pods of apps")
    }
}

impl Provisioner for Warehouse {
    fn provision(_app: App) -> Result<()> {
        Ok(())
    }
    fn destroy(app: App) -> Result<()> {
        for (key, _) in all(&of_app(&app))? {
            delete(&key)?;
        }
        if let Some((client, namespace)) = home()? {
            client.delete(&config_map(), &namespace, &app.name, &Default::default())?;
        }
        Ok(())
    }
    fn add_units(app: App, count: u32, process: String) -> Result<()> {
        let process = if process.is_empty() { "web" } else { &process };
        make(&app, process, count).map(|_| ())
    }
    fn remove_units(app: App, count: u32, process: String) -> Result<()> {
        let units = all(&of_app(&app))?;
        let of_process =
            units.iter().filter(|(_, unit)| process.is_empty() || word(unit, "process") == process);
        for (key, _) in of_process.take(count as usize) {
            delete(key)?;
        }
        Ok(())
    }
    fn restart(app: App, _process: String) -> Result<()> {
        if app.pool == "narrow" {
            return Err(Error::UnitStartup("there is no room in the pool".to_owned()));
        }
        let old = all(&of_app(&app))?;
        for (key, unit) in old {
            make(&app, &word(&unit, "process"), 1)?;
            delete(&key)?;
        }
        Ok(())
    }
    fn start(app: App, process: String) -> Result<()> {
        mark(&app, &process, "")
    }
    fn stop(app: App, process: String) -> Result<()> {
        mark(&app, &process, "stopped")
    }
    fn units(apps: Vec<App>, _after: Option<String>) -> Result<UnitPage> {
        let mut units = Vec::new();
        for (key, unit) in all("unit/")? {
            let mut parts = key.split('/').skip(1);
            let app = parts.next().unwrap_or_default();
            if !apps.is_empty() && apps.iter().all(|one| one.name != app) {
                continue;
            }
            let id = key.trim_start_matches("unit/").replace('/', "-");
            units.push(Unit {
                name: id.clone(),
                id,
                app_name: app.to_owned(),
                process_name: word(&unit, "process"),
                kind: "static".to_owned(),
                // For who looks: what it was made with.
                ip: word(&unit, "pool"),
                status: Some(match word(&unit, "state").as_str() {
                    "stopped" => Status::Stopped,
                    "asleep" => Status::Asleep,
                    _ => Status::Started,
                }),
                address: unit["mounts"].get(0).and_then(Value::as_str).map(str::to_owned),
            });
        }
        Ok(UnitPage { units, next: None })
    }
    fn routable_addresses(_app: App) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn register_unit(_app: App, _unit_id: String, _custom_data: Option<String>) -> Result<()> {
        Ok(())
    }
}

impl Deployer for Warehouse {
    fn deploy(app: App, image: String) -> Result<String> {
        let metadata = images::metadata(&image)?.unwrap_or_default();
        let mut processes: Vec<String> = metadata.processes.keys().cloned().collect();
        if processes.is_empty() {
            processes.push("web".to_owned());
        }
        let old = all(&of_app(&app))?;
        note(&app, &image)?;
        let mut made = Vec::new();
        for process in &processes {
            made.extend(make(&app, process, 1)?);
        }
        let failure = || Error::UnitStartup(format!("`{image}` does not start"));
        if image.ends_with(":torn") {
            images::append(&app.name, &image)?;
            return Err(failure());
        }
        if image.ends_with(":broken") {
            for key in made {
                delete(&key)?;
            }
            return Err(failure());
        }
        images::append(&app.name, &image)?;
        for (key, _) in old {
            delete(&key)?;
        }
        Ok(image)
    }
}

impl Sleep for Warehouse {
    fn sleep(app: App, process: String) -> Result<()> {
        mark(&app, &process, "asleep")
    }
}

impl Shell for Warehouse {
    fn open(app: App, options: ShellOptions) -> Result<Session> {
        if !options.unit.is_empty() {
            return Err(Error::UnitNotFound(options.unit));
        }
        let Some((client, namespace)) = home()? else { return Err(Error::EmptyApp) };
        let options = PodExecOptions {
            container: String::new(),
            command: vec!["env".to_owned(), format!("TERM={}", options.term), "sh".to_owned()],
            tty: true,
        };
        Ok(client.exec_session(&namespace, &app.name, &options)?)
    }
}

fn node_key(address: &str) -> String {
    format!("node/{address}")
}

fn node(address: &str, entry: &Value) -> Node {
    let metadata: gantry_sdk::Labels =
        serde_json::from_value(entry["metadata"].clone()).unwrap_or_default();
    Node {
        address: address.to_owned(),
        pool: word(entry, "pool"),
        iaas_id: word(entry, "iaas_id"),
        status: if entry["disabled"] == true { "disabled" } else { "ready" }.to_owned(),
        metadata_no_prefix: metadata.clone(),
        metadata,
        ..Node::default()
    }
}

fn known(address: &str) -> Result<Value> {
    read(&node_key(address))?.map(|(entry, _)| entry).ok_or(Error::NodeNotFound)
}

impl Nodes for Warehouse {
    fn list(addresses: Option<Vec<String>>, _after: Option<String>) -> Result<NodePage> {
        let mut nodes = Vec::new();
        for (key, entry) in all("node/")? {
            let address = key.trim_start_matches("node/");
            if addresses.as_ref().is_none_or(|wanted| wanted.iter().any(|one| one == address)) {
                nodes.push(node(address, &entry));
            }
        }
        Ok(NodePage { nodes, ..NodePage::default() })
    }
    fn get(address: String) -> Result<Node> {
        Ok(node(&address, &known(&address)?))
    }
    fn units(address: String) -> Result<Vec<Unit>> {
        let pool = word(&known(&address)?, "pool");
        let units = <Self as Provisioner>::units(Vec::new(), None)?.units;
        Ok(units.into_iter().filter(|unit| unit.ip == pool).collect())
    }
    fn add(options: AddNodeOptions) -> Result<()> {
        operation::progress(&format!("adding {}\n", options.address));
        let entry = json!({
            "pool": options.pool, "iaas_id": options.iaas_id, "metadata": options.metadata,
        });
        write(&node_key(&options.address), &entry)
    }
    fn update(options: UpdateNodeOptions) -> Result<()> {
        let mut entry = known(&options.address)?;
        if !options.pool.is_empty() {
            entry["pool"] = json!(options.pool);
        }
        for (key, value) in options.metadata {
            entry["metadata"][key] = if value.is_empty() { Value::Null } else { json!(value) };
        }
        if let Some(metadata) = entry["metadata"].as_object_mut() {
            metadata.retain(|_, value| !value.is_null());
        }
        if options.enable || options.disable {
            entry["disabled"] = json!(options.disable);
        }
        write(&node_key(&options.address), &entry)
    }
    fn remove(options: RemoveNodeOptions) -> Result<()> {
        let entry = known(&options.address)?;
        if options.rebalance && !entry["metadata"]["stuck"].is_null() {
            return Err(Error::Conflict("its units cannot be moved away".to_owned()));
        }
        delete(&node_key(&options.address))
    }
    fn for_node_data(_data: NodeStatusData) -> Result<Node> {
        Err(Error::NodeNotFound)
    }
}

impl NodeContainers for Warehouse {
    fn upgrade(name: String, pool: String) -> Result<()> {
        operation::progress(&format!("upgrading {name} in `{pool}`\n"));
        write(&format!("container/{name}"), &json!({"pool": pool}))
    }
    fn remove(name: String, _pool: String) -> Result<()> {
        delete(&format!("container/{name}"))
    }
}

impl Volumes for Warehouse {
    fn delete(name: String, _pool: String) -> Result<()> {
        if name.starts_with("stuck") {
            return Err(Error::Unavailable("its storage does not answer".to_owned()));
        }
        operation::progress(&format!("deleted the data of {name}\n"));
        Ok(())
    }
}

gantry_sdk::export!(Warehouse: deployer, sleep, shell, nodes, node_containers, volumes);

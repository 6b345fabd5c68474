//! What the daemon takes of memory with 100,000 units written down.
//!
//! The daemon is the program as people run it, built for release, with the Docker plugin. Its hosts are peers that speak Docker's API in this process and have a container for every unit: a record whose
//! container is gone would be dropped at the start. The records are written into the store while the daemon is down, in the form the plugin gives them; that they were taken for units is seen by what is
//! listed afterwards.
//!
//! At the start the plugin reads all records and compares them with what all hosts have. So many take a slow machine longer than a call may compute when nobody says otherwise, and what is measured here is memory: the plugin has more time.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bollard::API_DEFAULT_VERSION;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use gantry_core::Status;
use gantry_core::record::UnitRecord;
use gantry_tests::artifacts;
use gantry_tests::daemon::Daemon;
use gantry_tests::peer::Peer;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use crate::row;

const APPS: usize = 1_000;
const UNITS_OF_APP: usize = 100;
const UNITS: usize = APPS * UNITS_OF_APP;
const HOSTS: usize = 100;
const IMAGE: &str = "registry.example.com/shop:v1";

/// How many requests a host is sent at a time while it is filled.
const AT_ONCE: usize = 4;

/// What a process has in memory, in KiB.
#[derive(Clone, Copy)]
struct Resident {
    now: u64,
    most: u64,
}

impl Resident {
    fn of(daemon: &Daemon) -> Result<Self> {
        let pid = daemon.pid().context("the daemon runs")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.context("a line of the status")?.trim().trim_end_matches(" kB");
            anyhow::Ok(number.parse()?)
        };
        Ok(Self { now: field("VmRSS:")?, most: field("VmHWM:")? })
    }

    fn tell(self, when: &str) {
        let mib = |kib: u64| kib as f64 / 1024.0;
        let (now, most) = (mib(self.now), mib(self.most));
        println!("{:<44} {now:>9.1} MiB   at most: {most:>6.1} MiB", format!("daemon {when}"));
    }
}

/// A daemon that runs the apps on these hosts; nothing is deployed.
fn daemon(hosts: &[Peer]) -> Result<Daemon> {
    let hosts =
        hosts.iter().map(|host| format!("[[docker.hosts]]\naddress = {:?}\n", host.address()));
    let limits = "[provisioners.docker]\nlimits = { cpu = \"20s\" }\n";
    let config = hosts.collect::<String>() + limits;
    let program = artifacts::released()?;
    // The harness appends its own program, which gives way to this one.
    let instead = format!("shift; exec {} \"$@\"", program.display());
    let folder = tempfile::Builder::new().prefix("gantry-bench-").tempdir()?;
    let daemon = Daemon::start_by(folder, &config, &["sh", "-c", &instead, "sh"])?;
    let plugin = artifacts::docker_plugin()?;
    daemon.cli(&["plugin", "install", "docker", &plugin.to_string_lossy()])?.success()?;
    for app in 0..APPS {
        daemon.cli(&["app", "create", &format!("app-{app}")])?.success()?;
    }
    Ok(daemon)
}

/// The container of a unit on its host, and what is written down of the unit.
async fn unit(
    docker: &bollard::Docker,
    node: &str,
    instance: &str,
    number: usize,
) -> Result<UnitRecord> {
    let app = format!("app-{}", number % APPS);
    let mut unit = UnitRecord {
        name: format!("{app}-{number:x}"),
        app_name: app.clone(),
        process_name: "web".to_owned(),
        kind: "static".to_owned(),
        ip: "172.17.0.2".to_owned(),
        host_addr: "127.0.0.1".to_owned(),
        node: node.to_owned(),
        host_port: (32_768 + number % 10_000).to_string(),
        image: IMAGE.to_owned(),
        image_id: format!("sha256:{number:064x}"),
        exposed_port: "8888/tcp".to_owned(),
        ..UnitRecord::default()
    };
    unit.set_status(Status::Started, 1_700_000_000_000);
    let labels = [
        ("gantry.owner", "docker"),
        ("gantry.instance", instance),
        ("gantry.operation", "bench"),
        ("app-name", &app),
        ("app-platform", "static"),
        ("app-pool", "default"),
        ("app-process", "web"),
        ("app-process-replicas", ""),
        ("is-build", "false"),
        ("is-deploy", "false"),
        ("is-isolated-run", "false"),
        ("is-service", "true"),
        ("is-stopped", "false"),
        ("is-tsuru", "true"),
        ("provisioner", "docker"),
        ("router-name", "default"),
        ("router-type", "table"),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let body =
        bollard::models::ContainerCreateBody { labels: Some(labels), ..crate::docker::body(IMAGE) };
    let name = CreateContainerOptionsBuilder::new().name(&unit.name).build();
    unit.id = docker.create_container(Some(name), body).await?.id;
    docker.start_container(&unit.id, None).await?;
    Ok(unit)
}

/// Gives each host its share of the units.
async fn fill(hosts: &[Peer], instance: &str) -> Result<Vec<UnitRecord>> {
    let filled = hosts.iter().enumerate().map(async |(number, host)| {
        host.add_image(IMAGE, json!({}));
        let node = host.address();
        let docker = bollard::Docker::connect_with_http(&node, 120, API_DEFAULT_VERSION)?;
        let docker = docker.negotiate_version().await?;
        let numbers = stream::iter((number..UNITS).step_by(HOSTS));
        let made = numbers.map(|number| unit(&docker, &node, instance, number));
        let made = made.buffered(AT_ONCE).try_collect::<Vec<_>>().await?;
        host.take_requests();
        anyhow::Ok(made)
    });
    Ok(try_join_all(filled).await?.concat())
}

/// Writes the units down where the daemon keeps the keys of plugins.
fn write(data: &Path, units: &[UnitRecord]) -> Result<()> {
    let mut store = Connection::open(data.join("gantry.db"))?;
    let change = store.transaction()?;
    {
        let mut insert = change
            .prepare("INSERT INTO state (owner, key, value, version) VALUES ('docker', ?, ?, ?)")?;
        let last: u64 =
            change.query_row("SELECT version FROM state_version", [], |row| row.get(0))?;
        for (version, unit) in (last + 1..).zip(units) {
            let key = format!("units/{}/{}", unit.app_name, unit.name);
            insert.execute(params![key, serde_json::to_vec(unit)?, version])?;
        }
    }
    change.execute("UPDATE state_version SET version = version + ?", [units.len()])?;
    Ok(change.commit()?)
}

pub(crate) async fn of_daemon() -> Result<()> {
    let hosts = try_join_all((0..HOSTS).map(|_| Peer::start())).await?;
    let mut daemon = daemon(&hosts)?;
    daemon.stop()?;
    daemon.resume()?;
    let before = Resident::of(&daemon)?;
    before.tell(&format!("of {APPS} apps and {HOSTS} hosts"));
    daemon.stop()?;
    let units = fill(&hosts, &daemon.instance).await?;
    write(&daemon.folder.path().join("data"), &units)?;

    let begun = Instant::now();
    daemon.resume()?;
    row(&format!("start of the daemon with {UNITS} units"), begun.elapsed(), None);
    let started = Resident::of(&daemon)?;
    started.tell(&format!("with {UNITS} units written down"));
    daemon.cli(&["app", "list"])?.success()?;
    Resident::of(&daemon)?.tell("after a list of the apps");
    for app in 0..10 {
        let units = daemon.json(&["unit", "list", &format!("app-{app}")])?;
        let count = units.as_array().map_or(0, Vec::len);
        ensure!(count == UNITS_OF_APP, "{count} units of an app");
    }
    Resident::of(&daemon)?.tell("after lists of the units of 10 apps");
    let all = daemon.cli(&["unit", "list", "--output", "json"])?;
    let after = Resident::of(&daemon)?;
    match all.code {
        Some(0) => {
            let list: Value = serde_json::from_str(&all.stdout)?;
            let count = list["items"].as_array().map_or(0, Vec::len);
            ensure!(count == UNITS, "{count} units of all apps");
            after.tell("after a list of all units");
        }
        _ => {
            println!("a list of all units failed: {}", all.stderr.trim());
            after.tell("after that");
        }
    }
    let a_unit = |of: Resident| 1024.0 * (of.now as f64 - before.now as f64) / UNITS as f64;
    println!(
        "{:<44} {:>10.0} B   after lists: {:>5.0} B",
        "of it, a unit",
        a_unit(started),
        a_unit(after)
    );
    daemon.stop()
}

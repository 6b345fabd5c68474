//! The plan of a rebalance: 10,000 units over 1,000 nodes, through the compiled plugin and by its scheduler alone.
//!
//! The nodes are engines in memory, which a dry run asks nothing: it knows where units are from what is written down. What is said of the nodes goes in through the plugin, the records of the units as
//! the plugin writes them, and both lie in a store in memory; the daemon's is on the disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use gantry_core::node::{RebalanceOptions, UpdateNodeOptions};
use gantry_core::record::UnitRecord;
use gantry_core::{App, Status};
use gantry_docker::scheduler::{
    Cluster, Filter, Memory as Promised, Node, Placer, rebalance as plan,
};
use gantry_engine::memory::{Memory, Platform};
use gantry_engine::operation::Progress;
use gantry_engine::{Chain, State};
use gantry_runtime::{Provisioner, Runtime, RuntimeSettings};
use gantry_tests::artifacts;
use gantry_tests::screen::Screen;

use crate::{median, operation, row, settings};

const UNITS: usize = 10_000;
const NODES: usize = 1_000;
const APPS: usize = 1_000;
const ZONES: usize = 3;
const ROUNDS: usize = 9;
const POOL: &str = "p";
/// The metadata that says how much memory a node has.
const TOTAL: &str = "memory";

fn address(node: usize) -> String {
    format!("tcp://10.0.{}.{}:2375", node / 250, node % 250 + 1)
}

fn metadata(node: usize) -> BTreeMap<String, String> {
    BTreeMap::from([("zone".to_owned(), format!("z{}", node % ZONES))])
}

/// A unit of one of the apps, on a node as if by chance: the same in every run.
fn unit(number: usize) -> UnitRecord {
    let node = (number.wrapping_mul(0x9e37_79b1) >> 7) % NODES;
    let mut unit = UnitRecord {
        id: format!("{number:064x}"),
        name: format!("app-{}-{number:x}", number % APPS),
        app_name: format!("app-{}", number % APPS),
        process_name: "web".to_owned(),
        kind: "static".to_owned(),
        ip: "172.17.0.2".to_owned(),
        host_addr: format!("10.0.{}.{}", node / 250, node % 250 + 1),
        node: address(node),
        host_port: (32_768 + number % 10_000).to_string(),
        image: "registry.example.com/shop:v1".to_owned(),
        image_id: format!("sha256:{:064x}", number % APPS),
        exposed_port: "8888/tcp".to_owned(),
        ..UnitRecord::default()
    };
    unit.set_status(Status::Started, 1_700_000_000_000);
    unit
}

/// The plugin on nodes and units that are written down.
async fn written_down(units: &[UnitRecord]) -> Result<Provisioner> {
    let platform = Platform::new();
    for app in 0..APPS {
        let name = format!("app-{app}");
        platform.put_app(App { name, pool: POOL.to_owned(), ..App::default() });
    }
    let engines = (0..NODES).map(|node| (address(node), Memory::new()));
    let chain = Chain::new(platform.backends("docker", engines));
    let runtime = Runtime::new(RuntimeSettings::default())?;
    let plugin = std::fs::read(artifacts::docker_plugin()?)?;
    let generation = runtime.load("docker", &plugin, settings(chain)).await?;
    let docker = Provisioner::new("docker", generation);
    for node in 0..NODES {
        let options = UpdateNodeOptions {
            address: address(node),
            pool: POOL.to_owned(),
            metadata: metadata(node),
            ..UpdateNodeOptions::default()
        };
        docker.update_node(&operation(), &options).await?;
    }
    for unit in units {
        let key = format!("units/{}/{}", unit.app_name, unit.name);
        State::put_if(&platform, "docker", &key, &serde_json::to_vec(unit)?, None).await?;
    }
    Ok(docker)
}

pub(crate) async fn rebalance() -> Result<()> {
    let units: Vec<UnitRecord> = (0..UNITS).map(unit).collect();
    let docker = written_down(&units).await?;
    let dry = RebalanceOptions { dry: true, ..RebalanceOptions::default() };
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let screen = Arc::new(Screen::default());
        let shown = operation().shown_to(Arc::clone(&screen) as Arc<dyn Progress>);
        let begun = Instant::now();
        ensure!(docker.rebalance(&shown, &dry).await?, "it is worth it");
        times.push(begun.elapsed());
        let moves = screen.text().matches("Would move unit ").count();
        ensure!(moves == UNITS, "{moves} units would move");
    }
    row(&format!("rebalance plan {UNITS}/{NODES}, aim 1 s"), median(times), None);

    let node = |node| {
        let mut metadata = metadata(node);
        metadata.insert("pool".to_owned(), POOL.to_owned());
        Node { address: address(node), metadata, enabled: true }
    };
    let nodes: Vec<Node> = (0..NODES).map(node).collect();
    let pools = (0..APPS).map(|app| (format!("app-{app}"), POOL.to_owned())).collect();
    let memory = Promised::default();
    let cluster = Cluster { nodes: &nodes, units: &units, pools: &pools, memory: &memory };
    alone("of it, the scheduler alone, natively", &cluster)?;

    // No two nodes alike, and a plan that fills most of them.
    let mut scarce = nodes.clone();
    for (number, node) in scarce.iter_mut().enumerate() {
        let bytes = (7 + number % 8) * 1_000 + number;
        node.metadata.insert(TOTAL.to_owned(), bytes.to_string());
    }
    let of_apps = (0..APPS).map(|app| (format!("app-{app}"), 1_000)).collect();
    let memory = Promised { ratio: 1.0, total_key: TOTAL.to_owned(), of_apps, grows: false };
    let cluster = Cluster { nodes: &scarce, memory: &memory, ..cluster };
    alone("the same where memory is scarce", &cluster)
}

/// The scheduler alone, on nodes of the pool.
fn alone(what: &str, cluster: &Cluster<'_>) -> Result<()> {
    let filter = Filter { pool: POOL.to_owned(), ..Filter::default() };
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let plan = plan(cluster, &filter, true).context("it is forced")?;
        times.push(begun.elapsed());
        ensure!(plan.moves.len() == UNITS, "{} units would move", plan.moves.len());
    }
    row(what, median(times), None);
    // As the plan does it: every unit, as if none were anywhere yet.
    let candidates: Vec<&Node> = cluster.nodes.iter().collect();
    let mut placer = Placer::new(&candidates, [], cluster.memory.clone());
    for unit in cluster.units {
        placer.place(&unit.app_name, &unit.process_name).map_err(|why| anyhow::anyhow!("{why}"))?;
    }
    println!("{:<44} {:>12}", "candidates it looks at", placer.looked_at());
    Ok(())
}

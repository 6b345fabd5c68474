//! A deploy and a change of the number of units on Kubernetes beside `kubectl apply` and `kubectl rollout status` with the same manifests, and how many requests each makes of the API server.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use gantry_core::App;
use gantry_engine::kubernetes::Endpoint;
use gantry_engine::memory::Platform;
use gantry_engine::{Images as _, Kubernetes};
use gantry_runtime::{Provisioner, Runtime, RuntimeSettings};
use gantry_tests::clusters::Cluster;
use gantry_tests::kubernetes::{POOL, Setting, provisioner};
use serde_json::{Value, json};

use crate::{app, median, operation, row};

/// What is deployed in turn: one image by two names.
const IMAGES: [&str; 2] = ["docker.io/library/busybox:test", "docker.io/library/busybox:two"];
/// How many units.
const UNITS: [usize; 2] = [3, 6];
const ROUNDS: usize = 7;
/// The user of the kubeconfig whose requests the API server writes down, and who makes no others.
const USER: &str = "test-cert";

/// The same app, twice: once Gantry's, once kubectl's.
struct Bench {
    cluster: Cluster,
    gantry: Provisioner,
    app: App,
}

impl Bench {
    async fn new() -> Result<(Self, Platform)> {
        let cluster = Cluster::start(2)?;
        for node in ["node1", "node2"] {
            let socket = cluster.folder()?.join(node).join("containerd.sock");
            let mut tag = Command::new("ctr");
            tag.arg("-a").arg(socket).args(["-n", "k8s.io", "images", "tag"]).args(IMAGES);
            ensure!(tag.output()?.status.success(), "could not run {tag:?}");
        }
        let app = App { pool: POOL.to_owned(), ..app() };
        cluster.ask(&["label", "nodes", "--all", &format!("tsuru.io/pool={POOL}")])?;
        let platform = Platform::new().app(app.clone());
        for image in IMAGES {
            let serve = "trap 'exit 0' TERM; sleep 2147483647 & wait";
            let data = json!({"processes": {"web": ["sh", "-c", serve]}});
            platform.save_metadata(image, &data.to_string()).await?;
        }
        let engine = Kubernetes::new(&Endpoint::kubeconfig(cluster.kubeconfig(), USER)).await?;
        let setting = Setting {
            cluster: Arc::new(engine),
            namespace: "default".to_owned(),
            beside: None,
            platform: platform.clone(),
            config: json!({}),
            layers: Vec::new(),
            granted: None,
        };
        let gantry = provisioner(&Runtime::new(RuntimeSettings::default())?, setting).await?;
        Ok((Self { cluster, gantry, app }, platform))
    }

    /// The manifests of Gantry's app as they are now, for another app.
    fn manifests(&self) -> Result<Value> {
        let kinds = "deployments,services,serviceaccounts";
        let text = self.cluster.ask(&["get", kinds, "-l", "tsuru.io/app-name", "-o", "json"])?;
        let mut list: Value = serde_json::from_str(&text.replace("bench", "direct"))?;
        let items = list["items"].as_array_mut().context("a list has items")?;
        ensure!(items.len() == 4, "a deploy makes four objects, not {}", items.len());
        for item in items {
            let object = item.as_object_mut().context("an item is an object")?;
            object.remove("status");
            let metadata = object["metadata"].as_object_mut().context("it has metadata")?;
            metadata.retain(|key, _| ["name", "labels"].contains(&key.as_str()));
            if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
                // What the cluster chose for the other app: it is not to be asked for.
                let asked = [json!("None"), json!(["None"])];
                spec.retain(|key, value| !key.starts_with("clusterIP") || asked.contains(value));
                let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
                for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
                    port.remove("nodePort");
                }
            }
        }
        Ok(list)
    }

    /// Sends manifests and waits until what they say is so, as a person does.
    fn apply(&self, manifests: &Value) -> Result<()> {
        let file = self.cluster.folder()?.join("direct.json");
        std::fs::write(&file, manifests.to_string())?;
        let file = file.to_string_lossy();
        self.cluster.ask(&["--context", USER, "apply", "-f", &file])?;
        self.cluster.ask(&[
            "--context",
            USER,
            "rollout",
            "status",
            "deployment/direct-web",
            "--timeout=2m",
        ])?;
        Ok(())
    }

    /// How many requests the API server has got so far: ours, and kubectl's.
    fn requests(&self) -> Result<(usize, usize)> {
        let text = std::fs::read_to_string(self.cluster.folder()?.join("audit.log"))?;
        let (mut ours, mut theirs) = (BTreeSet::new(), BTreeSet::new());
        for line in text.lines() {
            // Each request has a line for every stage that it reaches.
            let event: Value = serde_json::from_str(line)?;
            let agent = event["userAgent"].as_str().unwrap_or_default();
            let ids = if agent.starts_with("gantry/") { &mut ours } else { &mut theirs };
            ids.insert(event["auditID"].to_string());
        }
        Ok((ours.len(), theirs.len()))
    }
}

pub(crate) async fn deploy() -> Result<()> {
    let (bench, platform) = Bench::new().await?;
    let Bench { gantry, .. } = &bench;
    let mut app = bench.app.clone();

    // Both apps as they are measured: every image, and every number of units.
    gantry.deploy(&operation(), &app, IMAGES[1]).await?;
    app.deploys = 1;
    platform.put_app(app.clone());
    let difference = u32::try_from(UNITS[1] - UNITS[0])?;
    gantry.add_units(&operation(), &app, u32::try_from(UNITS[0])? - 1, "web").await?;
    let mut images = Vec::new();
    for image in IMAGES {
        gantry.deploy(&operation(), &app, image).await?;
        images.push(bench.manifests()?);
    }
    gantry.add_units(&operation(), &app, difference, "web").await?;
    let numbers = [images[1].clone(), bench.manifests()?];
    gantry.remove_units(&operation(), &app, difference, "web").await?;
    bench.apply(&images[1])?;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let before = bench.requests()?;
    for round in 0..ROUNDS {
        let begun = Instant::now();
        gantry.deploy(&operation(), &app, IMAGES[round % 2]).await?;
        ours.push(begun.elapsed());
        let begun = Instant::now();
        bench.apply(&images[round % 2])?;
        theirs.push(begun.elapsed());
    }
    let after = bench.requests()?;
    let [few, many] = UNITS;
    row(
        &format!("deploy that replaces {few} units in a cluster"),
        median(ours),
        Some(("kubectl", median(theirs))),
    );
    println!(
        "{:<44} {:>12.1}   kubectl: {:>10.1}",
        "requests of such a deploy",
        (after.0 - before.0) as f64 / ROUNDS as f64,
        (after.1 - before.1) as f64 / ROUNDS as f64,
    );

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let begun = Instant::now();
        if round % 2 == 0 {
            gantry.add_units(&operation(), &app, difference, "web").await?;
        } else {
            gantry.remove_units(&operation(), &app, difference, "web").await?;
        }
        ours.push(begun.elapsed());
        let begun = Instant::now();
        bench.apply(&numbers[(round + 1) % 2])?;
        theirs.push(begun.elapsed());
    }
    row(
        &format!("change between {few} and {many} units in a cluster"),
        median(ours),
        Some(("kubectl", median(theirs))),
    );
    gantry.destroy(&operation(), &app).await?;
    Ok(())
}

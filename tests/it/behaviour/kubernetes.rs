//! A cluster in memory, whose controllers, nodes and containers are played.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use gantry_core::node::Node;
use gantry_engine::Cluster as _;
use gantry_engine::call::cluster::{DeleteOptions, PodExecOptions, PodLogOptions};
use gantry_engine::memory::objects::Pods;
use gantry_engine::memory::{Ended, Objects, Platform};
use gantry_engine::stream::Chunk;
use gantry_tests::artifacts;
use gantry_tests::kubernetes::{
    POOL, Setting, ended, kind, list, play_controllers, play_nodes, provisioner, running, text,
    wrong,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::stage::*;

const NAMESPACE: &str = "default";
/// Their names, and their addresses within the cluster.
const NODES: [(&str, &str); 2] = [("n1", "10.0.0.1"), ("n2", "10.0.0.2")];
const MACHINE: &str = "10.0.0.3";

#[derive(Default)]
struct Played {
    cluster: OnceLock<Objects>,
    broken_builds: AtomicBool,
    ran: Mutex<Vec<Ran>>,
}

fn name_of(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn image_of(pod: &Value) -> &str {
    text(pod, "/spec/containers/0/image")
}

fn is(pod: &Value, label: &str) -> bool {
    pod["metadata"]["labels"][format!("tsuru.io/{label}")] == "true"
}

/// Whether a pod only prints what is in its image: it is named so.
fn is_look(pod: &Value) -> bool {
    name_of(pod).ends_with("-image-inspect")
}

impl Played {
    fn note(&self, pod: &Value, words: Vec<String>) {
        self.ran.lock().unwrap().push(Ran { unit: name_of(pod).to_owned(), words });
    }

    /// Ends a pod that runs once.
    fn end(&self, pod: &Value, code: i32) -> Option<()> {
        let namespace = text(pod, "/metadata/namespace");
        let end = |pod: &mut Value| pod["status"] = ended(pod, code);
        self.cluster.get()?.edit(&kind("Pod"), namespace, name_of(pod), "kubelet", end).ok()?;
        Some(())
    }
}

impl Pods for Played {
    fn logs(&self, pod: &Value, _options: &PodLogOptions) -> Option<Vec<Chunk>> {
        if !is_look(pod) {
            return Some(vec![chunk(SERVING)]);
        }
        let image = IMAGES.iter().find(|(name, ..)| *name == image_of(pod));
        let (procfile, yaml) = image.map_or(("web: serve\n", ""), |(_, of, yaml)| (of, yaml));
        let mut printed = Vec::new();
        for (kind, file) in [("procfile", procfile), ("yaml", yaml)] {
            if !file.is_empty() {
                printed.push(chunk(&format!("---- gantry file {kind}\n{file}")));
            }
        }
        Some(printed)
    }

    fn exec(&self, pod: &Value, options: &PodExecOptions) -> Option<Ended> {
        self.note(pod, options.command.clone());
        Some(Ended { output: vec![chunk(RAN)], exit_code: code_of(&options.command) })
    }

    /// What runs once begins when somebody attaches.
    fn attach(&self, pod: &Value, _options: &PodExecOptions) -> Option<Vec<Chunk>> {
        if is(pod, "is-build") {
            let fails = self.broken_builds.load(Ordering::Acquire);
            self.end(pod, if fails { 3 } else { 0 })?;
            return Some(vec![chunk("built\n")]);
        }
        let words = pod["spec"]["containers"][0]["command"].as_array()?;
        let words: Vec<String> =
            words.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let code = code_of(&words);
        self.note(pod, words);
        self.end(pod, code)?;
        Some(vec![chunk(ALONE)])
    }
}

/// What the nodes make of a pod.
fn fate(pod: &Value, badly: &AtomicBool) -> Option<Value> {
    if ["Succeeded", "Failed"].contains(&text(pod, "/status/phase")) || is_ready(pod) {
        return None;
    }
    if image_of(pod) == MISSING {
        let why = json!({"reason": "ErrImagePull", "message": format!("{MISSING}: not found")});
        let status = json!({
            "name": pod["spec"]["containers"][0]["name"], "ready": false,
            "state": {"waiting": why},
        });
        return Some(json!({
            "phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [status],
        }));
    }
    if is_look(pod) {
        return Some(ended(pod, 0));
    }
    let is_web = pod["metadata"]["labels"]["tsuru.io/app-process"] == "web";
    let is_mute = ["shop:bad", "shop:mute"].contains(&image_of(pod));
    let answers = !is_web || !is_mute && !badly.load(Ordering::Acquire);
    Some(running(pod, answers))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

struct Kubernetes {
    cluster: Objects,
    played: Arc<Played>,
    badly: Arc<AtomicBool>,
    /// The controllers and the nodes.
    background: Mutex<JoinSet<Result<()>>>,
}

fn node(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"tsuru.io/pool": POOL}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// The app on a cluster of two nodes, under this configuration.
pub(super) async fn stage(config: Value) -> Result<Stage> {
    let played = Arc::new(Played::default());
    let cluster = Objects::playing(Arc::clone(&played) as Arc<dyn Pods>);
    played.cluster.set(cluster.clone()).ok().context("once")?;
    for (name, address) in NODES {
        cluster.put(&node(name, address))?;
    }
    let badly = Arc::new(AtomicBool::new(false));
    let mut background = JoinSet::new();
    background.spawn(play_controllers(cluster.clone()));
    let seen = Arc::clone(&badly);
    let play = play_nodes(Arc::new(cluster.clone()), move |pod| fate(pod, &seen));
    background.spawn(play);
    let platform = Platform::new().app(app("shop"));
    let runtime = artifacts::runtime()?;
    let setting = Setting {
        cluster: Arc::new(cluster.clone()),
        namespace: NAMESPACE.to_owned(),
        beside: None,
        platform: platform.clone(),
        config,
        layers: Vec::new(),
        granted: None,
    };
    let provisioner = provisioner(&runtime, setting).await?;
    let background = Mutex::new(background);
    let backend = Kubernetes { cluster, played, badly, background };
    Ok(Stage::new(Arc::new(backend), provisioner, platform))
}

impl Kubernetes {
    async fn all(&self, kind: &str) -> Result<Vec<Value>> {
        list(&self.cluster, kind, NAMESPACE).await
    }

    /// The pods of units, those that run once not among them.
    async fn pods(&self) -> Result<Vec<Value>> {
        let mut pods = self.all("Pod").await?;
        pods.retain(|pod| !text(pod, "/metadata/ownerReferences/0/kind").is_empty());
        Ok(pods)
    }

    /// What the controllers have still to do; none when nothing.
    async fn under_way(&self) -> Result<Option<String>> {
        let mut wanted = 0;
        for deployment in self.all("Deployment").await? {
            let (spec, status) = (&deployment["spec"], &deployment["status"]);
            let replicas = spec["replicas"].as_u64().unwrap_or(1);
            wanted += usize::try_from(replicas)?;
            let is_seen = status["observedGeneration"] == deployment["metadata"]["generation"];
            let counts = [&status["updatedReplicas"], &status["readyReplicas"]];
            if !is_seen || counts.into_iter().any(|count| *count != replicas) {
                return Ok(Some(deployment.to_string()));
            }
        }
        let pods = self.pods().await?;
        let ended = |pod: &&Value| text(pod, "/status/phase") == "Failed";
        let settled = pods.iter().filter(|pod| is_ready(pod) || ended(pod)).count();
        let is_done = pods.len() == wanted && settled == wanted;
        Ok((!is_done).then(|| format!("{wanted} pods are wanted: {pods:?}")))
    }
}

#[async_trait]
impl Backend for Kubernetes {
    fn nodes(&self) -> [String; 2] {
        NODES.map(|(_, address)| address.to_owned())
    }

    fn machine(&self) -> Result<String> {
        Ok(MACHINE.to_owned())
    }

    async fn on(&self, address: &str) -> Result<usize> {
        let node = NODES.iter().find(|(_, known)| *known == address).context("a node")?.0;
        let pods = self.pods().await?.into_iter();
        Ok(pods.filter(|pod| text(pod, "/spec/nodeName") == node).count())
    }

    async fn is_closed(&self, node: &Node) -> Result<bool> {
        let nodes = list(&self.cluster, "Node", "").await?;
        let object = nodes
            .iter()
            .find(|object| text(object, "/status/addresses/0/address") == node.address)
            .context("the node")?;
        let taint = json!({"key": "tsuru.io/disabled", "effect": "NoSchedule"});
        let taints = object["spec"]["taints"].as_array();
        Ok(taints.into_iter().flatten().any(|one| *one == taint))
    }

    /// The controllers put every pod on the first node: one more on the second takes the place of the youngest.
    async fn spread(&self) -> Result<()> {
        let pods = self.pods().await?;
        let mut pod = pods.first().context("a unit")?.clone();
        let set = text(&pod, "/metadata/ownerReferences/0/name").to_owned();
        let metadata = &pod["metadata"];
        let kept = json!({
            "name": format!("{set}-0"), "namespace": NAMESPACE, "labels": metadata["labels"],
            "annotations": metadata["annotations"], "ownerReferences": metadata["ownerReferences"],
        });
        pod["metadata"] = kept;
        pod["spec"]["nodeName"] = json!(NODES[1].0);
        pod["status"] = json!({"phase": "Pending"});
        self.cluster.put(&pod)?;
        self.idle().await
    }

    fn answer(&self, well: bool) {
        self.badly.store(!well, Ordering::Release);
    }

    fn break_builds(&self) {
        self.played.broken_builds.store(true, Ordering::Release);
    }

    fn words(&self) -> [&'static str; 2] {
        ["waiting healthcheck on 1 created units", "timeout waiting full rollout after"]
    }

    async fn idle(&self) -> Result<()> {
        let settled = async {
            while self.under_way().await?.is_some() {
                // The controllers are on their way, or the time-out tells.
                tokio::time::sleep(Duration::from_millis(5)).await;
                let broke = self.background.lock().unwrap().try_join_next();
                ensure!(broke.is_none(), "the controllers broke: {broke:?}");
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(Duration::from_secs(60), settled).await {
            Ok(settled) => settled,
            Err(_) => anyhow::bail!("the cluster does not settle: {:?}", self.under_way().await?),
        }
    }

    async fn made_of(&self, unit: &str) -> Result<(String, Vec<String>, String)> {
        let pod = self.cluster.get(&kind("Pod"), NAMESPACE, unit).await?;
        let container = &pod["spec"]["containers"][0];
        let env = container["env"].as_array().into_iter().flatten();
        let env = env.map(|of| format!("{}={}", text(of, "/name"), text(of, "/value"))).collect();
        Ok((image_of(&pod).to_owned(), env, container["command"].to_string()))
    }

    async fn left(&self) -> Result<Vec<String>> {
        let wrong = wrong(&self.cluster, NAMESPACE, "shop", None).await?;
        Ok(wrong.left)
    }

    async fn lose(&self, unit: &str) -> Result<()> {
        let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
        Ok(self.cluster.delete(&kind("Pod"), NAMESPACE, unit, &options).await?)
    }

    async fn fail(&self, unit: &str) -> Result<()> {
        let end = |pod: &mut Value| pod["status"] = ended(pod, 1);
        self.cluster.edit(&kind("Pod"), NAMESPACE, unit, "kubelet", end)?;
        Ok(())
    }

    fn ran(&self) -> Vec<Ran> {
        std::mem::take(&mut *self.played.ran.lock().unwrap())
    }

    /// A DaemonSet's own controller is not played: where its pods have to be is told by what it asks of nodes.
    async fn agents(&self) -> Result<BTreeSet<String>> {
        let mut on = BTreeSet::new();
        for set in self.all("DaemonSet").await? {
            let asked = "/spec/template/spec/affinity/nodeAffinity\
                         /requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
            let wanted = json!([{
                "matchExpressions": [{"key": "tsuru.io/pool", "operator": "Exists"}],
            }]);
            ensure!(set.pointer(asked) == Some(&wanted), "other nodes are asked for: {set}");
            for node in list(&self.cluster, "Node", "").await? {
                if node["metadata"]["labels"].get("tsuru.io/pool").is_some() {
                    on.insert(text(&node, "/status/addresses/0/address").to_owned());
                }
            }
        }
        Ok(on)
    }

    async fn volumes(&self) -> Result<Vec<String>> {
        let mut all = self.all("PersistentVolumeClaim").await?;
        all.extend(list(&self.cluster, "PersistentVolume", "").await?);
        Ok(all.iter().map(|object| name_of(object).to_owned()).collect())
    }
}

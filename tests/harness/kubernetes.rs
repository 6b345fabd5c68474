//! What the tests of the compiled Kubernetes plugin share: the plugin over a cluster of the test's choice, and somebody who plays the nodes where there are none.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use futures_util::stream::SelectAll;
use futures_util::{FutureExt as _, StreamExt as _};
use gantry_engine::call::cluster::{Change, ClusterInfo, DeleteOptions, Kind, Patch, Selection};
use gantry_engine::memory::{Memory, Objects, Platform};
use gantry_engine::{Chain, Cluster, Config, EngineError, GivenCluster, Layer};
use gantry_runtime::{Bounds, LoadSettings, Provisioner, Runtime};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::artifacts;

/// The name of the provisioner, and the pool of its apps.
pub const PROVISIONER: &str = "kubernetes";
pub const POOL: &str = "p";
/// This installation, as objects have it in their label.
pub const INSTANCE: &str = "tests";

/// What the plugin is loaded with.
pub struct Setting {
    pub cluster: Arc<dyn Cluster>,
    pub namespace: String,
    /// A second record of the same cluster, with this namespace.
    pub beside: Option<String>,
    pub platform: Platform,
    pub config: Value,
    /// Layers right below the journal.
    pub layers: Vec<Arc<dyn Layer>>,
    /// The grants of the operator; none are all that the plugin asks for.
    pub granted: Option<BTreeSet<String>>,
}

/// The plugin, with what it is given.
pub async fn provisioner(runtime: &Runtime, setting: Setting) -> Result<Provisioner> {
    // One test compiles the plugin, the others find it in the cache.
    static COMPILING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _compiling = COMPILING.lock().await;
    let plugin = std::fs::read(artifacts::kubernetes_plugin()?)?;
    let hosts: Vec<(&str, Memory)> = Vec::new();
    let backends = setting.platform.backends(PROVISIONER, hosts);
    let info = ClusterInfo {
        name: "test".to_owned(),
        pools: vec![POOL.to_owned()],
        namespace: setting.namespace,
        ..ClusterInfo::default()
    };
    if let Some(namespace) = setting.beside {
        let info = ClusterInfo { name: "beside".to_owned(), namespace, ..ClusterInfo::default() };
        let given = GivenCluster { info, engine: Arc::clone(&setting.cluster) };
        backends.clusters.give(PROVISIONER, "beside", given);
    }
    backends.clusters.give(PROVISIONER, "test", GivenCluster { info, engine: setting.cluster });
    let mut settings = LoadSettings {
        granted: setting.granted.clone().unwrap_or_default(),
        bounds: Bounds::default(),
        config: Arc::new(Config::new(setting.config)),
        instance: INSTANCE.into(),
        chain: Chain::with(backends, setting.layers),
    };
    let mut generation = runtime.load(PROVISIONER, &plugin, settings.clone()).await?;
    if setting.granted.is_none() {
        let asked = &generation.description().grants;
        settings.granted = asked.iter().map(|asked| asked.grant.clone()).collect();
        generation = runtime.load(PROVISIONER, &plugin, settings).await?;
    }
    Ok(Provisioner::new(PROVISIONER, generation))
}

/// The kinds that tests look at.
pub fn kind(name: &str) -> Kind {
    let group = match name {
        "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" => "apps/v1",
        _ => "v1",
    };
    Kind::new(group, name)
}

/// A text in an object; empty when there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The objects of a kind in a namespace.
pub async fn list(cluster: &dyn Cluster, name: &str, namespace: &str) -> Result<Vec<Value>> {
    let selection = Selection { namespace: namespace.to_owned(), ..Selection::default() };
    let page = cluster.list(&kind(name), &selection, 10_000, "").await?;
    ensure!(page.next.is_empty(), "there are more {name} than a test looks at");
    Ok(page.items)
}

/// The status of a pod that runs and answers, or does not answer yet.
#[must_use]
pub fn running(pod: &Value, ready: bool) -> Value {
    let state = json!({"running": {"startedAt": "2024-01-01T00:00:00Z"}});
    let status = if ready { "True" } else { "False" };
    let conditions = ["ContainersReady", "Ready"].map(|of| json!({"type": of, "status": status}));
    json!({
        "phase": "Running", "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}], "conditions": conditions,
        "containerStatuses": containers(pod, &state, ready),
    })
}

/// The status of a pod whose containers have all ended with this code.
#[must_use]
pub fn ended(pod: &Value, code: i32) -> Value {
    let state = json!({"terminated": {"exitCode": code, "finishedAt": "2024-01-01T00:00:00Z"}});
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    json!({"phase": phase, "containerStatuses": containers(pod, &state, false)})
}

fn containers(pod: &Value, state: &Value, ready: bool) -> Vec<Value> {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let status = |container: &Value| {
        json!({
            "name": container["name"], "image": container["image"], "imageID": container["image"],
            "ready": ready, "started": ready, "restartCount": 0, "state": state,
        })
    };
    containers.into_iter().flatten().map(status).collect()
}

/// Gives every pod the status that `fate` has for it, whenever it looks different: what kubelets do. Ends with an error only.
pub async fn play_nodes(
    cluster: Arc<dyn Cluster>,
    fate: impl Fn(&Value) -> Option<Value> + Send + Sync,
) -> Result<()> {
    let mut changes = cluster.watch(&kind("Pod"), &Selection::default()).await?;
    let mut patches = JoinSet::new();
    loop {
        let change = tokio::select! {
            change = changes.next() => change.context("the watch has ended")??,
            Some(patched) = patches.join_next() => {
                patched??;
                continue;
            }
        };
        let Change::Applied(pod) = change else { continue };
        if let Some(status) = fate(&pod)
            && !has(&pod["status"], &status)
        {
            patches.spawn(give_status(Arc::clone(&cluster), pod, status));
        }
    }
}

async fn give_status(cluster: Arc<dyn Cluster>, pod: Value, status: Value) -> Result<()> {
    let patch =
        Patch::Strategic(json!({"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}));
    let (namespace, name) = (text(&pod, "/metadata/namespace"), text(&pod, "/metadata/name"));
    match cluster.patch(&kind("Pod"), namespace, name, "status", &patch, false).await {
        // It has gone, or another has its name.
        Ok(_) | Err(EngineError::NotFound(_) | EngineError::Conflict(_)) => Ok(()),
        Err(error) => Err(error).context("a pod got no status"),
    }
}

/// Whether a status says all of what another does.
fn has(status: &Value, wanted: &Value) -> bool {
    let is_ready = |status: &Value| {
        let conditions = status.pointer("/conditions").and_then(Value::as_array);
        conditions
            .into_iter()
            .flatten()
            .find(|one| one["type"] == "Ready")
            .map(|one| one["status"].clone())
    };
    status["phase"] == wanted["phase"]
        && (wanted.get("conditions").is_none() || is_ready(status) == is_ready(wanted))
}

/// What should be there of an app: the image that serves, its processes, and how many units each has.
pub struct Serving<'a> {
    pub image: &'a str,
    pub processes: &'a [&'a str],
    pub units: usize,
}

/// What is not as it should be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    /// What keeps the version from serving.
    pub missing: Vec<String>,
    /// What is there beside it.
    pub left: Vec<String>,
}

/// What is not as it is when this version of an app serves and nothing else is in its namespace; none is no version.
pub async fn wrong(
    cluster: &dyn Cluster,
    namespace: &str,
    app: &str,
    serving: Option<&Serving<'_>>,
) -> Result<Wrong> {
    let mut found = Found::new();
    let kinds = ["Deployment", "ReplicaSet", "Pod", "Service", "ServiceAccount", "DaemonSet"];
    let more = ["StatefulSet", "Secret", "ConfigMap", "PersistentVolumeClaim"];
    for name in kinds.into_iter().chain(more) {
        found.insert(name, list(cluster, name, namespace).await?);
    }
    let mut wanted = BTreeSet::new();
    let mut missing = Vec::new();
    if let Some(serving) = serving {
        wanted.insert(format!("ServiceAccount app-{app}"));
        for process in serving.processes {
            let name = format!("{app}-{process}");
            wanted.insert(format!("Deployment {name}"));
            wanted.insert(format!("Service {name}"));
            wanted.insert(format!("Service {name}-units"));
            missing.extend(not_served(&found, &name, serving));
        }
    }
    let made = |kind: &str| ["ReplicaSet", "Pod"].contains(&kind);
    let all = found.iter().filter(|(kind, _)| !made(kind)).flat_map(|(kind, objects)| {
        objects.iter().map(move |object| format!("{kind} {}", name(object)))
    });
    // Two are the cluster's own.
    let there: BTreeSet<String> = all
        .filter(|is| !["ServiceAccount default", "ConfigMap kube-root-ca.crt"].contains(&&**is))
        .collect();
    missing.extend(wanted.difference(&there).cloned());
    let mut left: Vec<String> = there.difference(&wanted).cloned().collect();
    let image_served = serving.map_or("", |serving| serving.image);
    for set in &found["ReplicaSet"] {
        let owned = found["Deployment"].iter().any(|deployment| owns(deployment, set));
        let has = image(set, "/spec/template/spec");
        if !owned || set["spec"]["replicas"] != 0 && has != image_served {
            left.push(format!("ReplicaSet {} of {has}", name(set)));
        }
    }
    for pod in &found["Pod"] {
        let has = image(pod, "/spec");
        if has != image_served || text(pod, "/metadata/ownerReferences/0/kind").is_empty() {
            left.push(format!("Pod {} of {has}", name(pod)));
        }
    }
    Ok(Wrong { missing, left })
}

type Found = BTreeMap<&'static str, Vec<Value>>;

fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn image<'a>(object: &'a Value, spec: &str) -> &'a str {
    text(object, &format!("{spec}/containers/0/image"))
}

fn owns(owner: &Value, object: &Value) -> bool {
    text(object, "/metadata/ownerReferences/0/uid") == text(owner, "/metadata/uid")
}

/// What is missing for the units of a Deployment to be reached: as many pods as there should be, of one ReplicaSet, all of them ready and selected by its Service.
fn not_served(found: &Found, of: &str, serving: &Serving<'_>) -> Vec<String> {
    let named = |kind: &str| found[kind].iter().find(|object| name(object) == of);
    // That it is not there is told elsewhere.
    let Some(deployment) = named("Deployment") else { return Vec::new() };
    let mut wrong = Vec::new();
    let has = image(deployment, "/spec/template/spec");
    if has != serving.image {
        wrong.push(format!("Deployment {of} is of {has}"));
    }
    let runs = |set: &&Value| owns(deployment, set) && set["spec"]["replicas"] != 0;
    let sets: Vec<&Value> = found["ReplicaSet"].iter().filter(runs).collect();
    let of_sets = |pod: &&Value| sets.iter().any(|set| owns(set, pod));
    let pods: Vec<&Value> = found["Pod"].iter().filter(of_sets).collect();
    if (sets.len(), pods.len()) != (serving.units.min(1), serving.units) {
        wrong.push(format!("Deployment {of} has {} sets of {} pods", sets.len(), pods.len()));
    }
    let selector = named("Service").and_then(|service| service["spec"]["selector"].as_object());
    for pod in pods {
        let labels = &pod["metadata"]["labels"];
        let selected = selector
            .is_some_and(|all| all.iter().all(|(key, value)| labels.get(key) == Some(value)));
        if !selected || !is_ready(pod) || image(pod, "/spec") != serving.image {
            wrong.push(format!("Pod {} does not serve", name(pod)));
        }
    }
    wrong
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// What is wanted of the Deployments and Services of a namespace, whoever wrote it last: what an undo has to bring back.
pub async fn wanted(cluster: &dyn Cluster, namespace: &str) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for kind in ["Deployment", "Service"] {
        for object in list(cluster, kind, namespace).await? {
            let mut metadata = object["metadata"].clone();
            if let Some(labels) = metadata["labels"].as_object_mut() {
                labels.remove("gantry.operation");
            }
            let mut annotations = metadata["annotations"].clone();
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.remove(REVISION);
            }
            let of = json!({
                "labels": metadata["labels"], "annotations": annotations, "spec": object["spec"],
            });
            all.insert(format!("{kind} {}", name(&object)), of);
        }
    }
    Ok(all)
}

/// Plays the controllers of a cluster in memory: Deployments make ReplicaSets, and those make pods. A new ReplicaSet takes the place of the old ones once all its pods are ready. Ends with an
/// error only.
pub async fn play_controllers(cluster: Objects) -> Result<()> {
    let mut changes = SelectAll::new();
    for name in ["Deployment", "ReplicaSet", "Pod"] {
        changes.push(cluster.watch(&kind(name), &Selection::default()).await?);
    }
    let mut made = 0;
    while let Some(change) = changes.next().await {
        change?;
        // All that is known now is one look.
        while let Some(Some(change)) = changes.next().now_or_never() {
            change?;
        }
        for deployment in list(&cluster, "Deployment", "").await? {
            match roll(&cluster, &deployment, &mut made).await {
                // It has changed meanwhile, which wakes us again.
                Ok(()) | Err(EngineError::NotFound(_) | EngineError::Conflict(_)) => {}
                Err(error) => return Err(error).context("a Deployment"),
            }
        }
    }
    bail!("the watches have ended")
}

const REVISION: &str = "deployment.kubernetes.io/revision";
const CONTROLLERS: &str = "kube-controller-manager";

/// Brings a Deployment one step on.
async fn roll(cluster: &Objects, deployment: &Value, made: &mut u32) -> Result<(), EngineError> {
    let template = &deployment["spec"]["template"];
    let mut hasher = DefaultHasher::new();
    template.to_string().hash(&mut hasher);
    let hash = format!("{:08x}", hasher.finish() as u32);
    let namespace = text(deployment, "/metadata/namespace");
    let units = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    let owned = async |name: &str, owner: &Value| -> Result<Vec<Value>, EngineError> {
        let selection = Selection { namespace: namespace.to_owned(), ..Selection::default() };
        let mut all = cluster.list(&kind(name), &selection, 1000, "").await?.items;
        all.retain(|object| owns(owner, object));
        Ok(all)
    };
    let sets = owned("ReplicaSet", deployment).await?;
    let revision = |set: &Value| {
        text(set, &format!("/metadata/annotations/{}", REVISION.replace('/', "~1")))
            .parse()
            .unwrap_or(0)
    };
    let last: u32 = sets.iter().map(revision).max().unwrap_or(0);
    let newest = format!("{}-{hash}", name(deployment));
    let Some(new) = sets.iter().find(|set| name(set) == newest) else {
        let mut template = template.clone();
        template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
        cluster.put(&json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": newest, "namespace": namespace, "labels": template["metadata"]["labels"],
                "annotations": {REVISION: (last + 1).to_string()}, "ownerReferences": [owner(deployment)],
            },
            "spec": {
                "replicas": units, "selector": {"matchLabels": template["metadata"]["labels"]},
                "template": template,
            },
        }))?;
        return Ok(());
    };
    let scale = |set: &Value, units: u64| {
        cluster.edit(&kind("ReplicaSet"), namespace, name(set), CONTROLLERS, |set| {
            set["spec"]["replicas"] = json!(units)
        })
    };
    let delete = async |pod: &Value| {
        let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
        cluster.delete(&kind("Pod"), namespace, name(pod), &options).await
    };
    if revision(new) < last {
        cluster.edit(&kind("ReplicaSet"), namespace, &newest, CONTROLLERS, |set| {
            set["metadata"]["annotations"][REVISION] = json!((last + 1).to_string());
        })?;
        return Ok(());
    }
    if new["spec"]["replicas"] != units {
        scale(new, units)?;
        return Ok(());
    }
    let pods = owned("Pod", new).await?;
    for _ in pods.len()..units as usize {
        *made += 1;
        cluster.put(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{newest}-{made}"), "namespace": namespace,
                "labels": new["spec"]["template"]["metadata"]["labels"],
                "annotations": new["spec"]["template"]["metadata"]["annotations"],
                "ownerReferences": [owner(new)],
            },
            "spec": with_node(&new["spec"]["template"]["spec"]),
            "status": {"phase": "Pending"},
        }))?;
    }
    for pod in pods.iter().skip(units as usize) {
        delete(pod).await?;
    }
    let ready = pods.iter().filter(|pod| is_ready(pod)).count() as u64;
    let mut old = 0;
    for set in sets.iter().filter(|set| name(set) != newest && set["spec"]["replicas"] != 0) {
        let pods = owned("Pod", set).await?;
        if ready < units {
            old += pods.len() as u64;
            continue;
        }
        for pod in &pods {
            delete(pod).await?;
        }
        scale(set, 0)?;
    }
    let updated = owned("Pod", new).await?.len() as u64;
    let status = json!({
        "observedGeneration": deployment["metadata"]["generation"], "replicas": updated + old,
        "updatedReplicas": updated, "readyReplicas": ready + old, "availableReplicas": ready + old,
        "unavailableReplicas": updated.saturating_sub(ready),
    });
    let revision = new["metadata"]["annotations"][REVISION].clone();
    if deployment["status"] != status || deployment["metadata"]["annotations"][REVISION] != revision
    {
        cluster.edit(
            &kind("Deployment"),
            namespace,
            name(deployment),
            CONTROLLERS,
            |deployment| {
                deployment["status"] = status;
                deployment["metadata"]["annotations"][REVISION] = revision;
            },
        )?;
    }
    Ok(())
}

fn owner(object: &Value) -> Value {
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "name": object["metadata"]["name"],
        "uid": object["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
    })
}

fn with_node(spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["nodeName"] = json!("n1");
    spec
}

//! The compiled Kubernetes plugin through the runtime and the layer chain, on a cluster in memory whose controllers and pods the test plays: what an app goes through that no vector tells.

mod others;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt as _;
use gantry_core::node::{NodeStatusData, RemoveNodeOptions};
use gantry_core::{Status, Unit, Volume, VolumeBind};
use gantry_engine::call::ClusterCall;
use gantry_engine::memory::objects::Fault;
use gantry_engine::{Cluster as _, EngineError};
use gantry_runtime::{Interface, TailOptions};
use gantry_tests::kubernetes::{INSTANCE, POOL, Wrong, kind, list, text, wanted, wrong};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use self::stage::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plugin_exports_what_it_implements_and_has_the_grants_it_asks_for() -> Result<()> {
    let stage = Stage::new().await?;
    let generation = stage.provisioner.generation();
    let implemented = [
        Interface::Plugin,
        Interface::Provisioner,
        Interface::Deployer,
        Interface::Rollback,
        Interface::Exec,
        Interface::Logs,
        Interface::Lifecycle,
        Interface::Sleep,
        Interface::Shell,
        Interface::UnitFinder,
        Interface::UnitKill,
        Interface::Nodes,
        Interface::NodeContainers,
        Interface::Volumes,
        Interface::ClusterBuilder,
    ];
    assert_eq!(*generation.interfaces(), BTreeSet::from(implemented));
    let asked = &generation.description().grants;
    let asked: BTreeSet<String> = asked.iter().map(|asked| asked.grant.clone()).collect();
    assert_eq!(*generation.grants(), asked);
    assert!(asked.contains("cluster:*:Deployment.apps") && !asked.contains("cluster:*:*"));
    // Nothing but our own imports and what a standard library needs: no files, no sockets.
    for import in generation.imports() {
        let ours = import.starts_with("gantry:provision/");
        let library = ["wasi:cli/", "wasi:clocks/", "wasi:io/", "wasi:random/"];
        ensure!(ours || library.iter().any(|start| import.starts_with(start)), "{import}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_without_a_grant_names_it_and_leaves_nothing() -> Result<()> {
    let all = Stage::new().await?.provisioner.generation().grants().clone();
    for missing in ["cluster:*:Deployment.apps", "cluster:*:Service", "cluster:*:ServiceAccount"] {
        let granted = all.iter().filter(|grant| *grant != missing).cloned().collect();
        let mut stage = Stage::with(json!({}), Some(granted)).await?;
        let error = stage.deploy("shop:1").await.unwrap_err().to_string();
        let kind = missing.rsplit(':').next().context("a kind")?;
        ensure!(error.contains(&format!(":{kind}")), "{missing}: {error}");
        stage.serves("", 0).await.context(missing)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_image_is_deployed_scaled_stopped_slept_and_destroyed() -> Result<()> {
    let mut stage = Stage::new().await?;
    assert_eq!(stage.deploy("shop:1").await?, "shop:1");
    stage.serves("shop:1", 1).await?;
    let on = |process: &str, status| (process.to_owned(), Some(status));
    let both = [on("web", Status::Started), on("worker", Status::Started)];
    assert_eq!(stage.statuses().await?, both);
    let port = stage.get("Service shop-web").await?["spec"]["ports"][0]["nodePort"].clone();
    assert_eq!(stage.addresses().await?, [format!("http://10.0.0.1:{port}")]);
    assert_eq!(stage.in_use()?, 2);

    let template = async |stage: &Stage| -> Result<_> {
        Ok(stage.get("Deployment shop-web").await?["spec"]["template"].clone())
    };
    let before = template(&stage).await?;
    let (operation, screen) = stage.operation();
    stage.provisioner.add_units(&operation, &stage.app, 2, "web").await?;
    assert_eq!(template(&stage).await?, before, "another one would replace the units");
    assert!(screen.text().contains(" ---> 3 of 3 new units ready\n"), "{}", screen.text());
    let (operation, _) = stage.operation();
    stage.provisioner.add_units(&operation, &stage.app, 2, "worker").await?;
    stage.serves("shop:1", 3).await?;
    assert_eq!(stage.in_use()?, 6);
    for process in ["web", "worker"] {
        let (operation, _) = stage.operation();
        stage.provisioner.remove_units(&operation, &stage.app, 1, process).await?;
    }
    stage.serves("shop:1", 2).await?;
    let (operation, _) = stage.operation();
    let error = stage.provisioner.remove_units(&operation, &stage.app, 3, "web").await;
    assert_eq!(error.unwrap_err().to_string(), "cannot have less than 0 units");
    stage.serves("shop:1", 2).await?;
    assert_eq!(stage.in_use()?, 4);

    // What is stopped or asleep has no units, is reached nowhere, and comes back with as many as it had.
    for sleep in [false, true] {
        let (operation, _) = stage.operation();
        if sleep {
            stage.provisioner.sleep(&operation, &stage.app, "").await?;
        } else {
            stage.provisioner.stop(&operation, &stage.app, "").await?;
        }
        stage.serves("shop:1", 0).await?;
        assert!(stage.units().await?.is_empty());
        assert!(stage.addresses().await?.is_empty(), "what is at rest gets no requests");
        assert_eq!(stage.in_use()?, 4, "its units are kept for it");
        let (operation, _) = stage.operation();
        stage.provisioner.start(&operation, &stage.app, "").await?;
        stage.serves("shop:1", 2).await?;
        assert_eq!(stage.addresses().await?.len(), 1);
    }

    let (operation, _) = stage.operation();
    stage.provisioner.destroy(&operation, &stage.app).await?;
    assert!(stage.units().await?.is_empty());
    let serving = wrong(&stage.cluster, "default", "shop", None).await?;
    assert_eq!(serving, Wrong::default());
    let (operation, _) = stage.operation();
    stage.provisioner.destroy(&operation, &stage.app).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_does_not_answer_is_rolled_back_and_the_old_one_serves_on() -> Result<()> {
    let config = json!({"kubernetes": {"deployment-progress-timeout": 1}});
    let mut stage = Stage::with(config, None).await?;
    // The first leaves nothing, whatever of it fails.
    let error = stage.deploy("shop:v1-builder").await.unwrap_err().to_string();
    assert!(error.contains("unexpected container"), "{error}");
    stage.serves("", 0).await?;
    let error = stage.deploy("shop:broken").await.unwrap_err().to_string();
    assert!(error.contains("timeout waiting full rollout after"), "{error}");
    assert!(error.contains("Pod shop-web-"), "{error}");
    stage.serves("", 0).await?;
    assert_eq!(stage.in_use()?, 0);

    stage.deploy("shop:1").await?;
    let (operation, _) = stage.operation();
    stage.provisioner.add_units(&operation, &stage.app, 1, "web").await?;
    let (operation, _) = stage.operation();
    stage.provisioner.add_units(&operation, &stage.app, 1, "worker").await?;
    stage.serves("shop:1", 2).await?;
    let ids: BTreeSet<String> = stage.units().await?.into_iter().map(|unit| unit.id).collect();
    let was = wanted(&stage.cluster, "default").await?;
    let (deployed, text) = stage.deploy_shown("shop:broken").await;
    let error = deployed.unwrap_err().to_string();
    assert!(error.contains("timeout waiting full rollout after"), "{error}");
    assert!(
        text.contains("\n**** ROLLING BACK AFTER FAILURE ****\n ---> timeout waiting"),
        "{text}"
    );
    assert!(!text.contains("ERROR DURING ROLLBACK"), "{text}");
    stage.serves("shop:1", 2).await?;
    assert_eq!(wanted(&stage.cluster, "default").await?, was);
    let now: BTreeSet<String> = stage.units().await?.into_iter().map(|unit| unit.id).collect();
    assert_eq!(now, ids, "the old units are those of before");
    assert_eq!(stage.in_use()?, 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_that_is_cancelled_undoes_what_it_began() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:2").await?;
    // The image has not been looked into yet: that must not keep the cancel from being heard.
    let (operation, screen) = stage.operation();
    let cancel = operation.cancel.clone();
    let (result, ()) =
        tokio::join!(stage.provisioner.deploy(&operation, &stage.app, "shop:broken"), async {
            screen.until("waiting healthcheck on 1 created units").await;
            cancel.cancel();
        });
    assert_eq!(result.unwrap_err().to_string(), "cancelled");
    assert!(screen.text().contains("**** ROLLING BACK AFTER FAILURE ****"), "{}", screen.text());
    stage.serves("shop:2", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_replaces_the_one_before_and_gives_way_to_it() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    let ids = async |stage: &mut Stage| -> Result<BTreeSet<String>> {
        Ok(stage.units().await?.into_iter().map(|unit| unit.id).collect())
    };
    let first = ids(&mut stage).await?;
    // The name may be another image by now.
    stage.deploy("shop:1").await?;
    stage.serves("shop:1", 1).await?;
    assert!(ids(&mut stage).await?.is_disjoint(&first), "a deploy replaces the units");
    stage.deploy("shop:2").await?;
    stage.serves("shop:2", 1).await?;
    let (operation, _) = stage.operation();
    let image = stage.provisioner.rollback(&operation, &stage.app, ":1").await?;
    assert_eq!(image, "shop:1");
    stage.serves("shop:1", 1).await?;
    let (operation, _) = stage.operation();
    let error = stage.provisioner.rollback(&operation, &stage.app, ":9").await.unwrap_err();
    assert_eq!(error.to_string(), "Invalid version: :9");
    stage.serves("shop:1", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_replaces_the_units_of_the_process_that_is_named() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    let of = |units: Vec<Unit>, process: &str| -> Vec<String> {
        units.into_iter().filter(|unit| unit.process_name == process).map(|unit| unit.id).collect()
    };
    let before = stage.units().await?;
    let (operation, _) = stage.operation();
    stage.provisioner.restart(&operation, &stage.app, "web").await?;
    stage.serves("shop:1", 1).await?;
    let after = stage.units().await?;
    assert_ne!(of(before.clone(), "web"), of(after.clone(), "web"));
    assert_eq!(of(before, "worker"), of(after, "worker"));
    let (operation, _) = stage.operation();
    stage.provisioner.restart(&operation, &stage.app, "").await?;
    let restarts = async |of: &str| -> Result<Value> {
        let deployment = stage.get(of).await?;
        Ok(deployment["spec"]["template"]["metadata"]["labels"]["tsuru.io/restarts"].clone())
    };
    assert_eq!(restarts("Deployment shop-web").await?, "2");
    assert_eq!(restarts("Deployment shop-worker").await?, "1");
    let (operation, _) = stage.operation();
    let error = stage.provisioner.restart(&operation, &stage.app, "nobody").await.unwrap_err();
    assert!(error.to_string().contains("no command declared in Procfile"), "{error}");
    Ok(())
}

/// A place that keeps what is written to it.
fn ends() -> (gantry_engine::stream::Writer, tokio::io::DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    (Box::pin(theirs), ours)
}

async fn written(mut end: tokio::io::DuplexStream) -> Result<String> {
    let mut text = String::new();
    end.read_to_string(&mut text).await?;
    Ok(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_gives_its_code_and_what_it_wrote() -> Result<()> {
    let mut stage = Stage::new().await?;
    let sink = || Box::pin(tokio::io::sink());
    let (operation, _) = stage.operation();
    let error = stage
        .provisioner
        .execute(&operation, &stage.app, "true", &[], sink(), sink())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "no units for this app");

    stage.deploy("shop:1").await?;
    let (stdout, output) = ends();
    let arguments = ["a b".to_owned()];
    let (operation, _) = stage.operation();
    let code =
        stage.provisioner.execute(&operation, &stage.app, "0", &arguments, stdout, sink()).await?;
    assert_eq!((code, written(output).await?.as_str()), (0, "ran\nran\n"));
    let commands = std::mem::take(&mut *stage.played.commands.lock().unwrap());
    assert_eq!(commands, vec![["/bin/sh", "-lc", "0", "a b"]; 2]);
    let (operation, _) = stage.operation();
    let code = stage.provisioner.execute(&operation, &stage.app, "7", &[], sink(), sink()).await?;
    assert_eq!(code, 7);
    assert_eq!(std::mem::take(&mut *stage.played.commands.lock().unwrap()).len(), 1);
    let (operation, _) = stage.operation();
    let code =
        stage.provisioner.execute_once(&operation, &stage.app, "5", &[], sink(), sink()).await?;
    assert_eq!(code, 5);

    for wanted in [0, 3] {
        let (stdout, output) = ends();
        let (operation, _) = stage.operation();
        let line = format!("exit {wanted}");
        let code = stage
            .provisioner
            .execute_isolated(&operation, &stage.app, &line, &[], stdout, sink())
            .await?;
        assert_eq!((code, written(output).await?.as_str()), (wanted, "isolated\n"));
        stage.serves("shop:1", 1).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_is_found_registers_and_shows_its_lines() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    let [web, _] = <[Unit; 2]>::try_from(stage.units().await?).ok().context("two units")?;
    let (operation, _) = stage.operation();
    assert_eq!(stage.provisioner.app_from_unit_id(&operation, &web.id).await?, "shop");
    let error = stage.provisioner.app_from_unit_id(&operation, "nobody").await.unwrap_err();
    assert_eq!(error.to_string(), "unit \"nobody\" not found");
    stage.provisioner.register_unit(&operation, &stage.app, &web.id, None).await?;
    let error = stage.provisioner.register_unit(&operation, &stage.app, "nobody", None).await;
    assert_eq!(error.unwrap_err().to_string(), "unit \"nobody\" not found");

    assert!(stage.provisioner.logs_enabled(&operation, &stage.app).await?.enabled);
    let options = TailOptions { lines: 10, process: "web".to_owned(), ..TailOptions::default() };
    let mut sources = stage.provisioner.tail(&operation, &stage.app, &options).await?;
    assert_eq!(sources.len(), 1);
    let mut source = sources.pop().context("the unit has lines")?;
    assert_eq!(source.process, "web");
    let line = source.lines.chunks.next().await.context("a line")??;
    assert_eq!(line.bytes, "serving\n");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_away_hides_nothing_of_the_others() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    let unit = stage.units().await?.pop().context("there are units")?;
    let (operation, _) = stage.operation();
    let data = |address: &str| NodeStatusData {
        addresses: vec![address.to_owned()],
        ..NodeStatusData::default()
    };
    // Every second question goes to it.
    let asked = AtomicUsize::new(0);
    stage.cluster.fail(move |call, _| {
        let asks = match call {
            ClusterCall::Get { kind, namespace, .. } => kind.kind == "Pod" && namespace == "beside",
            ClusterCall::List { kind, .. } => {
                kind.kind == "Node" && asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2)
            }
            _ => false,
        };
        asks.then(|| Fault::Before(EngineError::Forbidden("nobody is there".to_owned())))
    });
    let provisioner = &stage.provisioner;
    assert_eq!(provisioner.app_from_unit_id(&operation, &unit.id).await?, "shop");
    let node = provisioner.node_for_node_data(&operation, &data("10.0.0.1")).await?;
    assert_eq!(node.address, "10.0.0.1");
    // What only it may have is not said to be nowhere.
    let error = provisioner.app_from_unit_id(&operation, "nobody").await.unwrap_err();
    assert!(error.to_string().contains("nobody is there"), "{error}");
    let error = provisioner.node_for_node_data(&operation, &data("10.9.9.9")).await.unwrap_err();
    assert!(error.to_string().contains("nobody is there"), "{error}");
    stage.cluster.mend();
    let error = provisioner.node_for_node_data(&operation, &data("10.9.9.9")).await.unwrap_err();
    assert_eq!(error.to_string(), "node not found");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_kept_over_a_redeploy_and_goes_when_it_is_removed() -> Result<()> {
    let mut stage = Stage::new().await?;
    let volume = Volume {
        name: "data".to_owned(),
        pool: POOL.to_owned(),
        plan: "shared".to_owned(),
        plan_options: [("plugin", "nfs"), ("capacity", "1Gi"), ("access-modes", "ReadWriteMany")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        options: BTreeMap::from([
            ("server".to_owned(), "10.0.0.9".to_owned()),
            ("path".to_owned(), "/d".to_owned()),
        ]),
        binds: vec![VolumeBind { mount_point: "/data".to_owned(), read_only: false }],
    };
    stage.platform = stage.platform.clone().volume("shop", volume);
    stage.deploy("shop:1").await?;
    let uids = async |stage: &Stage| -> Result<[Value; 2]> {
        let claim = stage.get("PersistentVolumeClaim data-tsuru-claim").await?;
        let volume = stage.cluster.get(&kind("PersistentVolume"), "", "data-tsuru").await?;
        Ok([claim, volume].map(|object| object["metadata"]["uid"].clone()))
    };
    let before = uids(&stage).await?;
    stage.deploy("shop:2").await?;
    assert_eq!(uids(&stage).await?, before);
    let pods = list(&stage.cluster, "Pod", "default").await?;
    ensure!(pods.len() == 2, "{pods:?}");
    for pod in pods {
        assert_eq!(text(&pod, "/spec/containers/0/volumeMounts/0/mountPath"), "/data");
        let claim = text(&pod, "/spec/volumes/0/persistentVolumeClaim/claimName");
        assert_eq!(claim, "data-tsuru-claim");
    }
    let (operation, _) = stage.operation();
    stage.provisioner.destroy(&operation, &stage.app).await?;
    assert_eq!(uids(&stage).await?, before, "what people keep in it outlives the app");
    let (operation, _) = stage.operation();
    stage.provisioner.delete_volume(&operation, "data", POOL).await?;
    assert!(list(&stage.cluster, "PersistentVolume", "").await?.is_empty());
    assert!(list(&stage.cluster, "PersistentVolumeClaim", "default").await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_dies_at_any_call_of_a_deploy_leaves_one_version() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:2").await?;
    stage.gate.begin(None);
    stage.deploy("shop:3").await?;
    let calls = stage.gate.calls().len();
    stage.deploy("shop:4").await?;
    stage.serves("shop:4", 1).await?;
    // Nobody has looked into the image that comes next.
    let (mut current, mut next) = ("shop:4".to_owned(), 5);
    let (mut old, mut new) = (0, 0);
    for at in 0..calls {
        for done in [false, true] {
            let was = wanted(&stage.cluster, "default").await?;
            let tried = format!("shop:{next}");
            let call = stage.die_in_a_deploy(&tried, at, done).await?;
            let about = || format!("call {at} of {calls}, {call}: done: {done}");
            next += 2;
            if stage.current().await == current {
                old += 1;
                stage.serves(&current, 1).await.with_context(about)?;
                assert_eq!(wanted(&stage.cluster, "default").await?, was, "{}", about());
                continue;
            }
            // It had become current: what is left of the old version goes with the next change.
            new += 1;
            let (operation, _) = stage.operation();
            stage.provisioner.restart(&operation, &stage.app, "").await.with_context(about)?;
            stage.serves(&tried, 1).await.with_context(about)?;
            current = format!("shop:{}", next + 1);
            stage.deploy(&current).await?;
            stage.serves(&current, 1).await?;
            next += 2;
        }
    }
    ensure!(old > 0 && new > 0, "{old} old, {new} new");
    println!(
        "kubernetes deploy, dying at each of {calls} calls, before and after it is done: the old version served on {old} times, the new one {new} times; left behind: 0"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_whose_time_is_over_is_taken_back_and_says_so() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:2").await?;
    stage.serves("shop:2", 1).await?;
    let was = wanted(&stage.cluster, "default").await?;
    let mut operation = stage.operation().0;
    operation.deadline = tokio::time::Instant::now() + Duration::from_secs(2);
    let error = stage.provisioner.deploy(&operation, &stage.app, "shop:broken").await.unwrap_err();
    let told = error.to_string();
    ensure!(told.starts_with("timed out: the time of the whole operation is over"), "{told}");
    ensure!(told.contains("; put back `Deployment default/shop-web`"), "{told}");
    assert_eq!(error.clean_up.left, []);
    stage.serves("shop:2", 1).await?;
    assert_eq!(wanted(&stage.cluster, "default").await?, was);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_makes_no_change_twice_and_its_requests_are_counted() -> Result<()> {
    let mut stage = Stage::new().await?;
    for (image, what, expected) in [
        ("shop:1", "the first", 11),
        ("shop:3", "the same processes", 11),
        ("shop:2", "one process comes and one goes", 14),
    ] {
        stage.gate.begin(None);
        stage.deploy(image).await?;
        stage.serves(image, 1).await?;
        let mut counts = BTreeMap::new();
        for call in stage.gate.calls() {
            match call.strip_prefix("cluster.") {
                // Which clusters there are is known here.
                None | Some("clusters") => {}
                Some(call) => *counts.entry(call.to_owned()).or_insert(0) += 1,
            }
        }
        let of = |verbs: &[&str]| -> i32 {
            let of_verbs = |call: &&String| verbs.iter().any(|verb| call.starts_with(verb));
            counts.iter().filter(|(call, _)| of_verbs(call)).map(|(_, count)| count).sum()
        };
        let (all, changes) = (of(&[""]), of(&["apply", "create", "patch", "delete"]));
        println!(
            "kubernetes deploy of two processes, {what}: {all} requests, {changes} of them changes: {counts:?}"
        );
        // The account for each process and for the look into the image; that look's pod, made and deleted; a Deployment and two Services for each process that stays or goes.
        assert_eq!(changes, expected);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_units_cannot_leave_stays_and_takes_units_again() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "all", "namespace": "default"},
        "spec": {"minAvailable": "100%", "selector": {"matchLabels": {"tsuru.io/app-name": "shop"}}},
    });
    stage.cluster.create(&budget, false).await?;
    let cluster = stage.cluster.clone();
    let node = async || cluster.get(&kind("Node"), "", "n1").await;
    let (operation, screen) = stage.operation();
    let options = RemoveNodeOptions { address: "10.0.0.1".to_owned(), rebalance: true };
    let cancel = operation.cancel.clone();
    let (removed, cordoned) =
        tokio::join!(stage.provisioner.remove_node(&operation, &options), async {
            screen.until("units away from n1").await;
            let cordoned = node().await?["spec"]["unschedulable"] == true;
            cancel.cancel();
            anyhow::Ok(cordoned)
        });
    assert_eq!(removed.unwrap_err().to_string(), "cancelled");
    assert!(cordoned?, "it takes no more units while they leave");
    assert_eq!(node().await?["spec"].get("unschedulable"), None);
    assert_eq!(stage.units().await?.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_emptied_for_every_namespace_that_has_units_there() -> Result<()> {
    let mut stage = Stage::new().await?;
    let pod = |namespace: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "unit", "namespace": namespace,
                "labels": {"gantry.owner": "kubernetes", "gantry.instance": INSTANCE},
            },
            "spec": {"nodeName": "n1", "containers": [{"name": "unit", "image": "shop:1"}]},
        })
    };
    for namespace in ["beside", "elsewhere"] {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        stage.cluster.put(&object)?;
    }
    for namespace in ["beside", "default", "elsewhere"] {
        stage.cluster.put(&pod(namespace))?;
    }
    let (operation, _) = stage.operation();
    let options = RemoveNodeOptions { address: "10.0.0.1".to_owned(), rebalance: true };
    // Who may not look at nodes there says nothing of the units.
    let forbidden = EngineError::Forbidden("no nodes for you".to_owned());
    let is_cordoned = AtomicBool::new(false);
    stage.cluster.fail(move |call, _| match call {
        ClusterCall::Patch { kind, .. } if kind.kind == "Node" => {
            is_cordoned.store(true, Ordering::Relaxed);
            None
        }
        ClusterCall::Get { kind, .. } if kind.kind == "Node" => {
            is_cordoned.swap(false, Ordering::Relaxed).then(|| Fault::Before(forbidden.clone()))
        }
        _ => None,
    });
    stage.provisioner.remove_node(&operation, &options).await?;
    assert!(stage.cluster.get(&kind("Node"), "", "n1").await.is_err(), "it is gone");
    for (namespace, stays) in [("beside", false), ("default", false), ("elsewhere", true)] {
        let there = stage.cluster.get(&kind("Pod"), namespace, "unit").await;
        assert_eq!(there.is_ok(), stays, "{namespace}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_run_whose_pod_nobody_knows_of_leaves_none() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    let lost = EngineError::Unreachable("the answer was lost".to_owned());
    let is_first = AtomicBool::new(true);
    stage.cluster.fail(move |call, _| {
        let creates = matches!(call, ClusterCall::Create { .. });
        (creates && is_first.swap(false, Ordering::Relaxed)).then(|| Fault::After(lost.clone()))
    });
    let run = async |stage: &mut Stage| {
        let sink = || Box::pin(tokio::io::sink());
        let (operation, _) = stage.operation();
        stage
            .provisioner
            .execute_isolated(&operation, &stage.app, "exit 3", &[], sink(), sink())
            .await
    };
    assert_eq!(run(&mut stage).await?, 3);
    stage.serves("shop:1", 1).await?;
    // And when it cannot be made at all.
    let refused = EngineError::Forbidden("no pods here".to_owned());
    stage.cluster.fail(move |call, _| {
        matches!(call, ClusterCall::Create { .. }).then(|| Fault::Before(refused.clone()))
    });
    let error = run(&mut stage).await.unwrap_err().to_string();
    assert!(error.contains("no pods here"), "{error}");
    stage.cluster.mend();
    stage.serves("shop:1", 1).await
}

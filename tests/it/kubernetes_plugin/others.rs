//! A deploy among others: what they have under its names, what they change or delete meanwhile, and how much of theirs there is.

use anyhow::{Context, Result, ensure};
use gantry_engine::Cluster as _;
use gantry_engine::call::cluster::DeleteOptions;
use gantry_tests::kubernetes::{Wrong, kind, text, wrong};
use serde_json::{Value, json};

use super::stage::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_another_apps_is_refused_and_nothing_of_it_is_touched() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    // As if the process `worker` of this app and one of another came to the same name.
    let names = ["Deployment shop-worker", "Service shop-worker", "Service shop-worker-units"];
    for what in names {
        let (of, name) = what.split_once(' ').context("a kind and a name")?;
        let edit = |object: &mut Value| {
            object["metadata"]["labels"]["tsuru.io/app-name"] = "sh".into();
            object["metadata"]["labels"]["tsuru.io/app-process"] = "op-worker".into();
            // It has no pods: they would still be of this app.
            if object["kind"] == "Deployment" {
                object["spec"]["replicas"] = 0.into();
            }
        };
        stage.cluster.edit(&kind(of), "default", name, "somebody", edit)?;
    }
    let mut uids = Vec::new();
    for what in names {
        uids.push(stage.get(what).await?["metadata"]["uid"].clone());
    }
    let before = stage.get("Deployment shop-web").await?["spec"].clone();
    let error = stage.deploy("shop:1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the process `worker` of `shop` would be the Deployment `shop-worker`, which is of the process `op-worker` of the app `sh`"
    );
    assert_eq!(stage.get("Deployment shop-web").await?["spec"], before);
    let (operation, _) = stage.operation();
    stage.provisioner.destroy(&operation, &stage.app).await?;
    assert!(stage.get("Deployment shop-web").await.is_err());
    for (what, uid) in names.into_iter().zip(uids) {
        assert_eq!(stage.get(what).await?["metadata"]["uid"], uid, "{what}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_somebody_else_has_taken_is_told_and_never_forced() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    stage.serves("shop:1", 1).await?;
    let take = |deployment: &mut Value| {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop:3");
    };
    stage.cluster.edit(&kind("Deployment"), "default", "shop-web", "kubectl-edit", take)?;
    let error = stage.deploy("shop:2").await.unwrap_err().to_string();
    ensure!(error.contains("kubectl-edit") && error.contains("image"), "{error}");
    let web = stage.get("Deployment shop-web").await?;
    assert_eq!(text(&web, "/spec/template/spec/containers/0/image"), "shop:3", "it is theirs");
    // The other processes are as they were.
    assert_eq!(stage.current().await, "shop:1");
    let worker = stage.get("Deployment shop-worker").await?;
    assert_eq!(text(&worker, "/spec/template/spec/containers/0/image"), "shop:1");
    ensure!(stage.get("Deployment shop-cron").await.is_err(), "a process of the new version");

    // Given back, it is ours again.
    let give_back = |deployment: &mut Value| {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop:2");
    };
    stage.cluster.edit(&kind("Deployment"), "default", "shop-web", "kubectl-edit", give_back)?;
    stage.deploy("shop:2").await?;
    stage.serves("shop:2", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_behind_our_back_is_made_again_by_the_next_change() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.deploy("shop:1").await?;
    for what in [
        "Deployment shop-web",
        "Service shop-web",
        "Service shop-worker-units",
        "ServiceAccount app-shop",
    ] {
        let (of, name) = stage.object(what);
        let options = DeleteOptions::default();
        stage.cluster.delete(&kind(&of), "default", &name, &options).await?;
        let (operation, _) = stage.operation();
        stage.provisioner.restart(&operation, &stage.app, "").await.context(what)?;
        stage.serves("shop:1", 1).await.context(what)?;
    }
    let (operation, _) = stage.operation();
    stage.provisioner.destroy(&operation, &stage.app).await?;
    assert_eq!(wrong(&stage.cluster, "default", "shop", None).await?, Wrong::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_is_deleted_in_the_middle_of_a_deploy_is_told_and_made_again_by_the_next()
-> Result<()> {
    let config = json!({"kubernetes": {"deployment-progress-timeout": 1}});
    let mut stage = Stage::with(config, None).await?;
    stage.deploy("shop:1").await?;
    let (operation, screen) = stage.operation();
    let cluster = stage.cluster.clone();
    let (deployed, deleted) =
        tokio::join!(stage.provisioner.deploy(&operation, &stage.app, "shop:broken"), async {
            screen.until("waiting healthcheck on 1 created units").await;
            let options = DeleteOptions::default();
            cluster.delete(&kind("Deployment"), "default", "shop-web", &options).await
        });
    deleted?;
    ensure!(deployed.is_err(), "{deployed:?}");
    assert_eq!(stage.current().await, "shop:1");
    let (operation, _) = stage.operation();
    stage.provisioner.restart(&operation, &stage.app, "").await?;
    stage.serves("shop:1", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_while_a_version_fails_stays_theirs_and_keeps_nothing_from_going_back()
-> Result<()> {
    let config = json!({"kubernetes": {"deployment-progress-timeout": 1}});
    let mut stage = Stage::with(config, None).await?;
    stage.deploy("shop:1").await?;
    let note = |word: &'static str| {
        move |object: &mut Value| object["metadata"]["annotations"]["note"] = word.into()
    };
    let objects = [("Deployment", "shop-web"), ("Service", "shop-web")];
    for (of, name) in objects {
        stage.cluster.edit(&kind(of), "default", name, "somebody", note("one"))?;
    }
    let (operation, screen) = stage.operation();
    let cluster = stage.cluster.clone();
    let (deployed, edited) =
        tokio::join!(stage.provisioner.deploy(&operation, &stage.app, "shop:broken"), async {
            screen.until("waiting healthcheck on 1 created units").await;
            for (of, name) in objects {
                cluster.edit(&kind(of), "default", name, "somebody", note("two"))?;
            }
            anyhow::Ok(())
        });
    edited?;
    let error = deployed.unwrap_err().to_string();
    assert!(error.contains("timeout waiting full rollout"), "{error}");
    assert!(!screen.text().contains("ERROR DURING ROLLBACK"), "{}", screen.text());
    stage.serves("shop:1", 1).await?;
    for (of, name) in objects {
        let now = stage.get(&format!("{of} {name}")).await?;
        assert_eq!(now["metadata"]["annotations"]["note"], "two", "{of}");
        let entries = now["metadata"]["managedFields"].as_array().context("managers")?;
        let ours = entries.iter().filter(|entry| entry["manager"] == "gantry");
        ensure!(ours.into_iter().all(|entry| !entry.to_string().contains("f:note")), "{now}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_field_that_somebody_takes_keeps_no_process_from_going_back() -> Result<()> {
    let config = json!({"kubernetes": {"deployment-progress-timeout": 1}});
    let mut stage = Stage::with(config, None).await?;
    stage.deploy("shop:1").await?;
    let services = async |stage: &Stage| {
        anyhow::Ok(stage.get("Service shop-web").await?["spec"]["ports"].clone())
    };
    let ports = services(&stage).await?;
    let (operation, screen) = stage.operation();
    let cluster = stage.cluster.clone();
    let scale = |units: u64| {
        let replicas = move |object: &mut Value| object["spec"]["replicas"] = units.into();
        cluster.edit(&kind("Deployment"), "default", "shop-web", "kubectl", replicas)
    };
    let (deployed, scaled) =
        tokio::join!(stage.provisioner.deploy(&operation, &stage.app, "shop:half"), async {
            // The first process is of the new version by now.
            screen.until("[worker]").await;
            scale(2)
        });
    scaled?;
    assert!(deployed.unwrap_err().to_string().contains("timeout waiting full rollout"));
    let told = "the Deployment `default/shop-web`: .spec.replicas stays as `kubectl` has it by now";
    assert!(screen.text().contains(told), "{}", screen.text());
    assert_eq!(stage.get("Deployment shop-web").await?["spec"]["replicas"], 2);
    assert_eq!(services(&stage).await?, ports);
    scale(1)?;
    stage.serves("shop:1", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_thousand_events_of_others_are_no_burden() -> Result<()> {
    let mut stage = Stage::new().await?;
    let event = |number: usize| {
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": format!("other-{number}.1"), "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": format!("other-{number}"), "namespace": "default"},
            "type": "Warning", "reason": "BackOff", "source": {"component": "kubelet", "host": "n1"},
            "message": "Back-off restarting failed container ".repeat(10),
        })
    };
    for number in 0..1500 {
        stage.cluster.create(&event(number), false).await?;
    }
    // Within the bounds that every plugin has.
    stage.deploy("shop:1").await?;
    stage.deploy("shop:2").await?;
    stage.serves("shop:2", 1).await
}

//! What is done on machines beside the units: how much at once, and where when one of them does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use gantry_core::App;
use gantry_engine::Containers as _;
use gantry_runtime::CallError;
use serde_json::json;

use super::builds::{DOCKERFILE, Deaf, Mishap, SOURCE, Workshop, dockerfile, platform};
use super::stage::question;

const A: &str = "tcp://10.0.0.1:2375";
const B: &str = "tcp://10.0.0.2:2375";
const NODES: [&str; 3] = [A, B, "tcp://10.0.0.3:2375"];

/// An image that is on every host.
const IMAGE: &str = "tsuru/script:latest";

/// Node containers that are configured for every pool.
const AGENTS: [&str; 2] = ["watcher", "shipper"];

const CHECKED: &[(&str, &str)] =
    &[("Procfile", "web: serve\n"), ("tsuru.yaml", "healthcheck: {path: /up}\n")];

impl Workshop {
    /// Runs a command in a container of its own.
    async fn alone(&mut self) -> Result<i32, CallError> {
        let (operation, _) = self.operation();
        let sink = || Box::pin(tokio::io::sink());
        self.provisioner.execute_isolated(&operation, &self.app, "true", &[], sink(), sink()).await
    }

    /// Does something with every unit, or with every node container.
    async fn do_with_all(&mut self, what: &str) -> Result<()> {
        let (operation, _) = self.operation();
        let (docker, app) = (&self.provisioner, &self.app);
        match what {
            "stop" => docker.stop(&operation, app, "").await?,
            "start" => docker.start(&operation, app, "").await?,
            "sleep" => docker.sleep(&operation, app, "").await?,
            "restart" => docker.restart(&operation, app, "").await?,
            "kill" => {
                let units = docker.units(&question(), std::slice::from_ref(app)).await?;
                let ids = units.iter().map(|unit| unit.id.as_str());
                try_join_all(ids.map(|id| docker.kill_unit(&operation, app, id, false))).await?;
            }
            "upgrade" => {
                let upgrade = |name| docker.upgrade_node_container(&operation, name, "");
                try_join_all(AGENTS.map(upgrade)).await?;
            }
            "remove" => {
                let remove = |name| docker.remove_node_container(&operation, name, "");
                try_join_all(AGENTS.map(remove)).await?;
            }
            other => anyhow::bail!("nothing does `{other}`"),
        }
        Ok(())
    }

    async fn failures(&self, node: &str) -> Result<u32> {
        Ok(self.provisioner.node_failures(&question(), node).await?)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolated_runs_builds_and_readings_of_images_wait_for_their_places() -> Result<()> {
    // Without a limit they are at once.
    for places in [1, 0] {
        let config = json!({"docker": {"limit": {"actions-per-host": places}}});
        let mut shop = Workshop::new(config).await?;
        let built = shop.build(SOURCE, &platform()).await?.0?;
        shop.deploy(&built, false).await?;
        let other = App { name: "other".to_owned(), ..shop.app.clone() };
        shop.platform.put_app(other.clone());
        shop.calls.actions.expect(if places == 0 { 2 } else { 1 });

        let (operation, _) = shop.operation();
        let provisioner = shop.provisioner.clone();
        let deploy =
            tokio::spawn(async move { provisioner.deploy(&operation, &other, IMAGE).await });
        let mut runs = Vec::new();
        for _ in 0..6 {
            let (operation, _) = shop.operation();
            let (provisioner, app) = (shop.provisioner.clone(), shop.app.clone());
            runs.push(tokio::spawn(async move {
                let sink = || Box::pin(tokio::io::sink());
                provisioner.execute_isolated(&operation, &app, "true", &[], sink(), sink()).await
            }));
        }
        let (built, said) = shop.build(SOURCE, &platform()).await?;
        built.with_context(|| said)?;
        deploy.await??;
        for run in runs {
            assert_eq!(run.await??, 0);
        }
        let seen = shop.calls.actions.seen.lock().unwrap().clone();
        let all =
            ["create", "remove", "start", "stop"].map(|action| format!("containers.{action}"));
        assert_eq!(seen.iter().copied().collect::<Vec<_>>(), all);
        let most = shop.calls.actions.most.load(Ordering::SeqCst);
        ensure!((most > 1) == (places == 0), "{most} at once with {places} places");
        assert_eq!(shop.containers().await?.len(), 2, "{:?}", shop.containers().await?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_host_has_places_of_its_own_for_all_that_is_done_with_units_and_node_containers()
-> Result<()> {
    let all = &["create", "remove", "start", "stop"][..];
    // Without a limit all units of a host are at once, and all node containers: whoever asks for no place is seen with one place, too.
    for (places, at_once, on_one) in [(1, 2, 1), (0, 4, 2)] {
        let agents = BTreeMap::from(AGENTS.map(|name| (name, json!({"": {"image": IMAGE}}))));
        let config = json!({
            "docker": {"limit": {"actions-per-host": places}},
            "node-containers": agents,
        });
        let mut shop = Workshop::over(&[A, B], config, "").await?;
        shop.deploy(IMAGE, true).await?;
        let (operation, _) = shop.operation();
        shop.provisioner.add_units(&operation, &shop.app, 3, "").await?;
        for (node, engine) in &shop.engines {
            let there = engine.list(true, &BTreeMap::new()).await?;
            assert_eq!(there.len(), 2 + AGENTS.len(), "units and node containers of {node}");
        }
        for (what, actions) in [
            ("stop", &["stop"][..]),
            ("start", &["start"]),
            ("sleep", &["stop"]),
            ("start", &["start"]),
            ("kill", &["start", "stop"]),
            ("restart", all),
            ("upgrade", all),
            ("remove", &["remove", "stop"]),
        ] {
            shop.calls.actions.expect(at_once);
            shop.do_with_all(what).await.with_context(|| format!("{what}, {places} places"))?;
            let crowd = &shop.calls.actions;
            let seen: Vec<_> = crowd.seen.lock().unwrap().iter().copied().collect();
            let expected: Vec<_> =
                actions.iter().map(|action| format!("containers.{action}")).collect();
            assert_eq!(seen, expected, "{what}, {places} places");
            let most = [&crowd.most, &crowd.most_on_one].map(|most| most.load(Ordering::SeqCst));
            assert_eq!(most, [at_once, on_one], "{what}, {places} places");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_units_are_stopped_started_or_checked_at_once_than_there_are_workers() -> Result<()>
{
    // Without a number all of them are, as far as anybody waits for so many here.
    for (workers, at_once) in [(2, 2), (0, 6)] {
        let config = json!({"docker": {"max-workers": workers}});
        let mut shop = Workshop::new(config).await?;
        let built = shop.build(CHECKED, &platform()).await?.0?;
        shop.deploy(&built, false).await?;
        shop.calls.checks.expect(at_once);
        let (operation, _) = shop.operation();
        shop.provisioner.add_units(&operation, &shop.app, 6, "").await?;
        assert_eq!(shop.calls.checks.most.load(Ordering::SeqCst), at_once, "checks");
        let (docker, app) = (shop.provisioner.clone(), shop.app.clone());
        let at_once = if workers == 0 { 7 } else { at_once };
        for what in ["sleep", "start", "stop"] {
            shop.calls.actions.expect(at_once);
            let (operation, _) = shop.operation();
            match what {
                "sleep" => docker.sleep(&operation, &app, "").await?,
                "start" => docker.start(&operation, &app, "").await?,
                _ => docker.stop(&operation, &app, "").await?,
            }
            assert_eq!(shop.calls.actions.most.load(Ordering::SeqCst), at_once, "{what}");
        }
        let units = docker.units(&question(), &[app]).await?;
        let stopped = Some(gantry_core::Status::Stopped);
        ensure!(units.len() == 7 && units.iter().all(|unit| unit.status == stopped), "{units:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_run_goes_past_a_host_that_does_not_answer_and_the_next_leaves_it_alone()
-> Result<()> {
    // Whether a container may be there is not known once the host was asked for it.
    for (to, after, orphans) in
        [("containers.", 0, 0), ("containers.create", 0, 0), ("containers.", 1, 1)]
    {
        let mut shop = Workshop::over(&[A, B], json!({}), "").await?;
        shop.deploy(IMAGE, true).await?;
        let units = shop.provisioner.units(&question(), &[shop.app.clone()]).await?;
        let [unit] = units.as_slice() else { anyhow::bail!("one unit: {units:?}") };
        // The emptiest, which is where it would be.
        let node = if A.contains(&unit.ip) { B } else { A };
        *shop.calls.deaf.lock().unwrap() = Some(Deaf { node, to, after });
        for _ in 0..2 {
            assert_eq!(shop.alone().await?, 0, "{to}");
            assert_eq!(shop.failures(node).await?, 1, "{to}");
        }
        assert_eq!(shop.containers().await?.len(), 1, "{to}");
        assert_eq!(shop.keys("orphans/").await?.len(), orphans, "{to}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_run_that_no_host_does_says_why() -> Result<()> {
    let mut shop = Workshop::new(json!({})).await?;
    shop.deploy(IMAGE, true).await?;
    *shop.calls.deaf.lock().unwrap() = Some(Deaf { node: A, to: "containers.", after: 0 });
    let error = shop.alone().await.unwrap_err().to_string();
    let told = format!("error in docker node \"{A}\": the Docker host cannot be reached");
    assert_eq!(error, told);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_whichever_call_of_an_isolated_run_goes_wrong() -> Result<()> {
    let mut shop = Workshop::new(json!({})).await?;
    shop.deploy(IMAGE, true).await?;
    let mut met = BTreeSet::new();
    for mishap in [Mishap::Fails, Mishap::IsLost, Mishap::Cancelled] {
        for at in 0.. {
            shop.calls.expect(Some((at, mishap)));
            let ended = shop.alone().await;
            shop.runtime.settled().await;
            let made = shop.calls.made.load(Ordering::SeqCst);
            shop.calls.expect(None);
            if made <= at {
                assert_eq!(ended?, 0, "nothing happened");
                break;
            }
            let call = shop.calls.met.lock().unwrap().clone();
            let context = format!("call {at}, {call}, {mishap:?}: {ended:?}");
            assert_eq!(shop.containers().await?.len(), 1, "{context}");
            assert_eq!(shop.keys("orphans/").await?, [""; 0], "{context}");
            met.insert(call);
        }
    }
    for call in ["create", "start", "attach-copy", "wait", "remove"] {
        ensure!(met.contains(&format!("containers.{call}")), "{met:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_goes_past_a_host_that_does_not_answer() -> Result<()> {
    let create = "containers.create";
    for (what, files, options, deaf) in [
        // The platform's image is looked into first.
        ("platform", SOURCE, platform(), Deaf { node: A, to: create, after: 0 }),
        ("platform, later", SOURCE, platform(), Deaf { node: A, to: create, after: 1 }),
        ("Dockerfile", DOCKERFILE, dockerfile(), Deaf { node: A, to: "containers.", after: 0 }),
    ] {
        let mut shop = Workshop::over(&NODES, json!({}), "").await?;
        *shop.calls.deaf.lock().unwrap() = Some(deaf);
        let (built, said) = shop.build(files, &options).await?;
        let image = built.with_context(|| format!("{what}: {said}"))?;
        assert_eq!(shop.failures(A).await?, 1, "{what}: {said}");
        let mut having = Vec::new();
        for (node, engine) in &shop.engines {
            having.extend(engine.inspect_image(&image).await.is_ok().then_some(*node));
        }
        ensure!(having.len() == 1 && having != [A], "{what}: {having:?}");
        assert_eq!(shop.containers().await?, [""; 0], "{what}: {said}");
        assert_eq!(shop.keys("units/").await?, [""; 0], "{what}");
    }
    Ok(())
}

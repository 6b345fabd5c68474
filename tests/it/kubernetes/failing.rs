//! Deploys that fail, with units that serve all the while.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use gantry_tests::clusters::Image;
use gantry_tests::daemon::eventually;
use serde_json::Value;

use super::{Kube, SOON, name, told};

/// Rollouts that are given up after a while.
const IMPATIENT: &str = "[provisioners.kubernetes]\nconfig = { kubernetes = { deployment-progress-timeout = 45, pod-running-timeout = 45 }, docker = { healthcheck = { max-time = 25 } } }\n";

/// A deploy that fails, and what is told.
struct Case<'a> {
    app: &'a str,
    /// Memory of a unit; without a limit when empty.
    memory: &'a str,
    image: &'a str,
    why: &'a [&'a str],
}

/// What is there of an app besides its pods: everything that a failed deploy must leave as it was.
fn state(kube: &Kube, app: &str) -> Result<Vec<String>> {
    let mut state = vec![format!("{:?}", kube.units(app)?)];
    let info = kube.daemon.json(&["app", "info", app])?;
    state.push(format!("{} {} {}", info["image"], info["images"], info["addresses"]));
    for kind in ["deployments", "services", "serviceaccounts", "secrets"] {
        let objects = kube.objects(app, kind)?;
        state.extend(objects.iter().map(|object| format!("{kind} {}", name(object))));
    }
    // One that has no units is the cluster's memory of how to go back.
    let sets = kube.objects(app, "replicasets")?;
    let in_use =
        sets.iter().filter(|set| set["spec"]["replicas"] != 0 || set["status"]["replicas"] != 0);
    state.extend(in_use.map(|set| format!("replica set {}", name(set))));
    Ok(state)
}

fn fails(kube: &Kube, case: &Case<'_>) -> Result<()> {
    let Case { app, image, why, .. } = *case;
    let before = (state(kube, app)?, kube.pods(app)?);
    let poll = kube.poll(app, "one")?;
    let began = Instant::now();
    let finished = kube.daemon.cli(&["app", "deploy", app, "--image", image])?;
    let asked = poll.finish().with_context(|| app.to_owned())?;
    told(finished, 1, &format!("could not deploy `{app}`"), why)?;
    println!(
        "{app}: failed after {} s; asked the old units {asked} times, 0 failures",
        began.elapsed().as_secs()
    );
    ensure!(asked > 10, "{app}: asked {asked} times only");
    // What is leaving takes a moment to go.
    eventually(SOON, "nothing of the failure is there", || {
        Ok(((state(kube, app)?, kube.pods(app)?) == before).then_some(()))
    })
    .with_context(|| format!("{app}: {before:#?} {:#?}", state(kube, app)))?;
    let pods = kube.objects(app, "pods")?;
    let restarted = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"] != 0;
    ensure!(!pods.iter().any(restarted), "{app}: an old unit was restarted");
    Ok(())
}

/// Memory for a unit of which a node has room for one, in bytes.
fn most_of_a_node(kube: &Kube) -> Result<String> {
    let nodes: Value = serde_json::from_str(&kube.cluster.ask(&["get", "nodes", "-o", "json"])?)?;
    let node = &nodes["items"][0]["status"]["allocatable"]["memory"];
    let kibibytes = node.as_str().and_then(|text| text.strip_suffix("Ki"));
    let kibibytes: u64 = kibibytes.with_context(|| format!("{node} in Ki"))?.parse()?;
    Ok(format!("{}KiB", kibibytes / 10 * 7))
}

/// Takes the other node's memory.
fn fill(kube: &Kube, memory: &str, image: &str) -> Result<()> {
    kube.done(&["app", "create", "filler", "--pool", "kube", "--memory", memory])?;
    kube.done(&["app", "deploy", "filler", "--image", image])?;
    Ok(())
}

#[test]
fn a_deploy_that_fails_says_why_and_the_old_units_answer_every_request_meanwhile() -> Result<()> {
    let kube = Kube::shared(IMPATIENT)?;
    let images: Result<Vec<Image>> = [
        ("one", "one", ""),
        ("crash", "crash", "ENV CRASH=3"),
        ("sick", "sick", "ENV WWW=/tmp"),
        ("two", "two", ""),
    ]
    .iter()
    .map(|(tag, text, more)| {
        kube.cluster.image(&format!("gantry-test/kube-failing:{tag}"), text, more)
    })
    .collect();
    let images = images?;
    let memory = most_of_a_node(&kube)?;
    let case = |app, memory, image, why| Case { app, memory, image, why };
    let cases = [
        case(
            "no-image",
            "",
            "127.0.0.1:1/kube-failing:none",
            &["ErrImagePull", "127.0.0.1:1"] as &[_],
        ),
        case(
            "crashes",
            "",
            &images[1].name,
            &["Back-off restarting failed container", "exit code 3"],
        ),
        case("is-sick", "", &images[2].name, &["Readiness probe failed", "404"]),
        case("no-room", &memory, &images[3].name, &["Insufficient memory"]),
    ];
    let run = |case: &Case<'_>| {
        let mut create = vec!["app", "create", case.app, "--pool", "kube"];
        if !case.memory.is_empty() {
            create.extend(["--memory", case.memory]);
        }
        kube.done(&create)?;
        kube.done(&["app", "deploy", case.app, "--image", &images[0].name])?;
        if case.memory.is_empty() {
            kube.done(&["unit", "add", case.app, "1"])?;
        } else {
            fill(&kube, case.memory, &images[0].name)?;
        }
        fails(&kube, case)?;
        kube.done(&["app", "remove", case.app, "-y"])
    };
    let run = &run;
    std::thread::scope(|scope| {
        let running: Vec<_> = cases.iter().map(|case| scope.spawn(move || run(case))).collect();
        let ended: Vec<_> = running.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        for end in ended {
            end.map_err(|_| anyhow::anyhow!("a case panicked"))??;
        }
        Ok(())
    })
}

#[test]
fn a_pool_without_nodes_is_told_and_a_first_deploy_that_fails_leaves_nothing() -> Result<()> {
    let kube = Kube::shared(IMPATIENT)?;
    let image = kube.cluster.image("gantry-test/kube-nowhere:v1", "one", "")?;
    kube.done(&["pool", "create", "empty", "--provisioner", "kubernetes"])?;
    kube.done(&["cluster", "update", "test", "--pool", "kube", "--pool", "empty"])?;
    kube.done(&["app", "create", "nowhere", "--pool", "empty"])?;
    let finished = kube.daemon.cli(&["app", "deploy", "nowhere", "--image", &image.name])?;
    let what = "could not deploy `nowhere`";
    let text = told(finished, 1, what, &["nodes are available", "didn't match"])?;
    let said = text.split_once("error:").map_or("", |(before, _)| before);
    ensure!(said.contains("nodes are available"), "it is told while it waits: {text}");
    // Its processes are known now: the same is told of its units.
    let finished = kube.daemon.cli(&["app", "deploy", "nowhere", "--image", &image.name])?;
    told(finished, 1, what, &["nodes are available"])?;
    for kind in ["deployments", "replicasets", "pods", "services", "serviceaccounts"] {
        let left: Vec<String> = kube.objects("nowhere", kind)?.iter().map(name).collect();
        ensure!(left.is_empty(), "{kind} {left:?}");
    }
    kube.done(&["app", "remove", "nowhere", "-y"])?;
    Ok(())
}

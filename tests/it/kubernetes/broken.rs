//! A cluster that breaks: its API server dies, a kubelet stops. The cluster is the test's own.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use gantry_tests::daemon::eventually;

use super::{Following, Kube, SOON, VOLUMES, told};

/// Every object of every kind, in all namespaces: `kind.group namespace/name`.
fn everything(kube: &Kube) -> Result<BTreeSet<String>> {
    let kinds = kube.cluster.ask(&["api-resources", "--verbs=list", "-o", "name"])?;
    // Events are what has happened, kept for an hour; leases are the heartbeat of nodes and servers.
    let passing = ["events", "events.events.k8s.io", "leases.coordination.k8s.io"];
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !passing.contains(kind)).collect();
    ensure!(kinds.len() > 30, "{kinds:?}");
    let columns = "custom-columns=K:.kind,G:.apiVersion,NS:.metadata.namespace,N:.metadata.name";
    let all = kube.cluster.ask(&["get", &kinds.join(","), "-A", "--no-headers", "-o", columns])?;
    let word = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(all.lines().map(word).filter(|line| !line.is_empty()).collect())
}

/// The node that a unit is on.
pub(super) fn node_of(kube: &Kube, unit: &str) -> Result<String> {
    kube.cluster.ask(&["get", "pod", unit, "-o", "jsonpath={.spec.nodeName}"])
}

/// The address of a node.
pub(super) fn address_of(kube: &Kube, node: &str) -> Result<String> {
    let path = "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
    kube.cluster.ask(&["get", "node", node, "-o", path])
}

#[test]
fn apps_outlive_their_api_server_and_their_kubelet_and_leave_nothing() -> Result<()> {
    let kube = Kube::own(VOLUMES)?;
    leaves_nothing(&kube)?;
    survives_the_api_server(&kube)?;
    goes_around_a_node_that_does_not_answer(&kube)
}

fn leaves_nothing(kube: &Kube) -> Result<()> {
    let image = kube.cluster.image("gantry-test/kube-broken:v1", "one", "")?;
    let before = everything(kube)?;
    let path = format!("path={}", kube.daemon.folder.path().display());
    kube.done(&["volume", "create", "data", "folder", "--pool", "kube", "--opt", &path])?;
    kube.app("whole", &image.name, 2)?;
    kube.done(&["volume", "bind", "data", "whole", "/data"])?;
    kube.done(&["env", "set", "whole", "A=1"])?;
    kube.done(&["app", "run", "whole", "--isolated", "--", "true"])?;
    let bad = kube.daemon.cli(&["app", "deploy", "whole", "--image", "127.0.0.1:1/none:v1"])?;
    told(bad, 1, "could not deploy `whole`", &["ErrImagePull"])?;
    kube.done(&["app", "sleep", "whole"])?;
    kube.done(&["app", "start", "whole"])?;
    kube.until_answers("whole", "one")?;
    let with = everything(kube)?;
    ensure!(with.is_superset(&before) && with.len() >= before.len() + 10, "{with:#?}");
    kube.done(&["app", "remove", "whole", "-y"])?;
    kube.done(&["volume", "remove", "data", "-y"])?;
    // What the cluster made for these objects goes a moment after them.
    let gone = eventually(SOON, "everything is as it was", || {
        Ok((everything(kube)? == before).then_some(()))
    });
    gone.with_context(|| match everything(kube) {
        Ok(now) => format!("{:?}", now.symmetric_difference(&before).collect::<Vec<_>>()),
        Err(error) => format!("{error:#}"),
    })?;
    println!(
        "{} objects of every kind before and after, {} while the app was there",
        before.len(),
        with.len()
    );
    Ok(())
}

/// The pods of an app that run, by their image.
fn running(kube: &Kube, app: &str, image: &str) -> Result<Vec<String>> {
    let pods = kube.objects(app, "pods")?;
    // What looks into an image runs it too, and is no unit.
    let runs = pods.iter().filter(|pod| {
        let is_unit = pod["metadata"]["labels"]["tsuru.io/app-process"] == "web";
        let runs = pod["status"]["phase"] == "Running";
        is_unit && runs && pod["spec"]["containers"][0]["image"] == image
    });
    Ok(runs.map(super::name).collect())
}

fn survives_the_api_server(kube: &Kube) -> Result<()> {
    let one = kube.cluster.image("gantry-test/kube-away:v1", "one", "")?;
    let wait = "RUN busybox chmod 1777 /tmp\nENV WAIT_FOR=/tmp/go";
    let slow = kube.cluster.image("gantry-test/kube-away:slow", "slow", wait)?;
    kube.app("away", &one.name, 1)?;
    let poll = kube.poll("away", "one")?;
    let following = Following::begin(kube, "away")?;
    following.until("serving on")?;
    let deploy = kube.daemon.begin(&["app", "deploy", "away", "--image", &slow.name])?;
    let pod =
        eventually(SOON, "the new unit runs", || Ok(running(kube, "away", &slow.name)?.pop()))?;

    kube.cluster.kill("apiserver")?;
    let list = kube.daemon.begin(&["unit", "list", "away"])?;
    kube.cluster.start_again("apiserver", &[])?;
    eventually(SOON, "the API server answers", || {
        Ok(kube.cluster.ask(&["get", "--raw", "/readyz"]).ok())
    })?;
    let list = list.wait_with_output()?;
    ensure!(list.status.success(), "a question waits for an answer: {list:?}");
    println!("asked the old unit {} times without an API server, 0 failures", poll.finish()?);

    // What came through the server ends with it, and is told; it can be read again.
    let (code, told) = following.end()?;
    ensure!(code == Some(6) || code == Some(7), "{code:?} {told}");
    ensure!(told.contains("could not read the log of `away`"), "{told}");
    ensure!(told.contains("the cluster went away"), "{told}");
    let following = Following::begin(kube, "away")?;
    following.until("serving on")?;
    let say = ["app", "run", "away", "--", "sh", "-c", "echo again >/proc/1/fd/1"];
    kube.done(&say)?;
    following.until("again")?;
    // The deploy still waits for the new unit.
    kube.cluster.ask(&["exec", &pod, "--", "sh", "-c", ": >/tmp/go"])?;
    let deploy = deploy.wait_with_output()?;
    ensure!(deploy.status.success(), "{}", String::from_utf8_lossy(&deploy.stderr));
    kube.until_answers("away", "slow")?;
    kube.done(&["app", "remove", "away", "-y"])?;
    Ok(())
}

fn goes_around_a_node_that_does_not_answer(kube: &Kube) -> Result<()> {
    let images = ["one", "two"]
        .map(|tag| kube.cluster.image(&format!("gantry-test/kube-around:{tag}"), tag, ""));
    let [one, two] = images;
    let (one, two) = (one?, two?);
    kube.app("around", &one.name, 2)?;
    let address = address_of(kube, "node2")?;
    kube.cluster.signal("node2-kubelet", "STOP")?;
    eventually(SOON, "the node is told not to answer", || {
        let nodes = kube.done(&["node", "list"])?;
        let line = nodes.lines().find(|line| line.starts_with(&address)).unwrap_or_default();
        Ok(line.contains("Kubelet stopped posting node status").then_some(()))
    })?;
    eventually(SOON, "all units are on the other one", || {
        let units = kube.units("around")?;
        let mut here =
            units.iter().map(|(unit, _)| node_of(kube, unit).is_ok_and(|node| node == "node1"));
        let run = units.iter().all(|(_, status)| status == "started");
        Ok((units.len() == 2 && run && here.all(|here| here)).then_some(()))
    })?;
    kube.done(&["app", "deploy", "around", "--image", &two.name])?;
    kube.until_answers("around", "two")?;
    kube.cluster.signal("node2-kubelet", "CONT")?;
    eventually(SOON, "the node is back", || {
        let info = kube.daemon.json(&["node", "info", &address])?;
        Ok((info["status"] == "Ready").then_some(()))
    })?;
    eventually(SOON, "the units it had are gone", || {
        Ok((kube.pods("around")?.len() == 2).then_some(()))
    })?;
    kube.done(&["app", "remove", "around", "-y"])?;
    Ok(())
}

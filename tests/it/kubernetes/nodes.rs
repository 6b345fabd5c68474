//! Nodes, and what runs on each: changed, emptied, removed, added; and apps that move between pools of two records of one cluster. The cluster is the test's own.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};

use anyhow::{Context, Result, ensure};
use gantry_tests::daemon::{eventually, http_get};
use serde_json::{Value, json};

use super::broken::{address_of, node_of};
use super::{Kube, SOON, told};

/// Answers `one`, and `two` when its folder is the other one.
const IMAGE: &str = "gantry-test/kube-nodes:v1";
const OTHER_FOLDER: &str = "RUN busybox mkdir /two && echo two >/two/index.html";

/// What selects the pods of the node container, and all else of it.
const AGENT: &str = "tsuru.io/node-container-name=agent";

/// A drain that is held is given up soon.
const IMPATIENT: &str = "[provisioners.kubernetes.config.kubernetes]\ndrain-timeout = 3\n";

/// The configuration of a node container in a pool, in every one when it is empty.
fn agent(pool: &str, more: &str) -> String {
    let table = "provisioners.kubernetes.config.node-containers.agent";
    format!("[{table}.{pool:?}]\n{more}\n")
}

/// The pods of the node container in a namespace: the node of each, and what it answers.
fn agents(kube: &Kube, namespace: &str) -> Result<Vec<(String, String)>> {
    let pods = kube.cluster.ask(&["get", "pods", "-n", namespace, "-l", AGENT, "-o", "json"])?;
    let pods: Value = serde_json::from_str(&pods)?;
    let one = |pod: &Value| {
        let ip = pod["status"]["podIP"].as_str().unwrap_or_default();
        // One that is not there yet does not answer.
        let answer = http_get(&format!("http://{ip}:8888/"));
        let answer = answer.map(|(_, body)| body.trim().to_owned()).unwrap_or_default();
        (pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned(), answer)
    };
    let mut found: Vec<_> = pods["items"].as_array().context("pods")?.iter().map(one).collect();
    found.sort();
    Ok(found)
}

/// Waits until the node container runs on these nodes and on no others, once on each, with these answers.
fn until_agents(kube: &Kube, namespace: &str, expected: &[(&str, &str)]) -> Result<()> {
    let mut last = Vec::new();
    let there = eventually(SOON, "the node container runs where it should", || {
        last = agents(kube, namespace)?;
        let pairs = last.iter().map(|(node, answer)| (node.as_str(), answer.as_str()));
        Ok(pairs.eq(expected.iter().copied()).then_some(()))
    });
    there.with_context(|| format!("in {namespace}: {last:?}, not {expected:?}"))
}

fn node(kube: &Kube, name: &str) -> Result<Value> {
    Ok(serde_json::from_str(&kube.cluster.ask(&["get", "node", name, "-o", "json"])?)?)
}

/// The units of the app, each with its node.
fn units(kube: &Kube) -> Result<BTreeSet<(String, String)>> {
    let units = kube.units("web")?.into_iter();
    units.map(|(unit, _)| Ok((unit.clone(), node_of(kube, &unit)?))).collect()
}

/// The nodes that a unit more comes to.
fn one_more(kube: &Kube) -> Result<Vec<String>> {
    let before = units(kube)?;
    kube.done(&["unit", "add", "web", "1"])?;
    Ok(units(kube)?.difference(&before).map(|(_, node)| node.clone()).collect())
}

#[test]
fn nodes_are_changed_emptied_removed_and_added_and_what_runs_on_them_follows() -> Result<()> {
    let everywhere = agent("", &format!("image = {IMAGE:?}"));
    let mut kube = Kube::own(&format!("{IMPATIENT}{everywhere}"))?;
    let _image = kube.cluster.image(IMAGE, "one", OTHER_FOLDER)?;
    // Who deploys first sees to it that every node has what it should.
    kube.app("web", IMAGE, 2)?;
    until_agents(&kube, "default", &[("node1", "one"), ("node2", "one")])?;
    takes_units_or_not(&kube)?;
    stays_when_a_budget_holds_its_units(&kube)?;
    upgrades_a_node_container(&mut kube)?;
    is_removed_once_the_budget_lets_its_units_go(&kube)?;
    is_added_to_another_pool(&kube)?;
    moves_to_another_namespace(&kube)?;
    removes_a_node_container(&kube)
}

fn takes_units_or_not(kube: &Kube) -> Result<()> {
    let [first, second] = ["node1", "node2"].map(|node| address_of(kube, node));
    let (first, second) = (first?, second?);
    let update =
        |address: &str, words: &[&str]| kube.done(&[&["node", "update", address], words].concat());
    update(&second, &["--metadata", "rack=7", "--metadata", "row=1", "--disable"])?;
    let disabled = node(kube, "node2")?;
    let annotations = &disabled["metadata"]["annotations"];
    assert_eq!(
        (&annotations["tsuru.io/rack"], &annotations["tsuru.io/row"]),
        (&json!("7"), &json!("1"))
    );
    let taint = json!([{"key": "tsuru.io/disabled", "effect": "NoSchedule"}]);
    assert_eq!(disabled["spec"]["taints"], taint);
    let info = kube.done(&["node", "info", &second])?;
    ensure!(["rack=7", "row=1"].iter().all(|pair| info.contains(pair)), "{info}");
    assert_eq!(one_more(kube)?, ["node1"]);
    // What belongs on every node comes to it, even where the cluster's own means let no units come.
    kube.cluster.ask(&["cordon", "node2"])?;
    let there = ["--field-selector", "spec.nodeName=node2", "-l", AGENT];
    kube.cluster.ask(&[["delete", "pods"].as_slice(), &there].concat())?;
    until_agents(kube, "default", &[("node1", "one"), ("node2", "one")])?;

    update(&second, &["--enable", "--metadata", "row=", "--metadata", "rack=8"])?;
    let enabled = eventually(SOON, "the cluster takes its own taint away", || {
        let node = node(kube, "node2")?;
        Ok(node["spec"]["taints"].is_null().then_some(node))
    })?;
    assert_eq!(enabled["spec"]["unschedulable"], Value::Null);
    let annotations = &enabled["metadata"]["annotations"];
    assert_eq!(
        (&annotations["tsuru.io/rack"], &annotations["tsuru.io/row"]),
        (&json!("8"), &Value::Null)
    );
    update(&first, &["--disable"])?;
    assert_eq!(one_more(kube)?, ["node2"]);
    update(&first, &["--enable"])?;
    assert_eq!(node(kube, "node1")?["spec"]["taints"], Value::Null);
    kube.until_answers("web", "one")
}

/// How many units of the app may be missing: none.
const BUDGET: [&str; 5] = [
    "create",
    "poddisruptionbudget",
    "web",
    "--selector=tsuru.io/app-name=web",
    "--min-available=100%",
];

fn stays_when_a_budget_holds_its_units(kube: &Kube) -> Result<()> {
    kube.cluster.ask(&BUDGET)?;
    let before = units(kube)?;
    let here = before.iter().filter(|(_, node)| node == "node1");
    let here: Vec<&str> = here.map(|(unit, _)| unit.as_str()).collect();
    ensure!((1..before.len()).contains(&here.len()), "both nodes have units: {before:?}");
    let address = address_of(kube, "node1")?;
    let poll = kube.poll("web", "one")?;
    let remove = kube.daemon.cli(&["node", "remove", &address, "-y"])?;
    let what = format!("could not remove the node `{address}`");
    let why = [["still on the node `node1`", "disruption budget"].as_slice(), &here].concat();
    told(remove, 7, &what, &why)?;
    println!("asked the units {} times while a drain was held, 0 failures", poll.finish()?);
    let stays = node(kube, "node1")?;
    assert_eq!(stays["spec"]["unschedulable"], Value::Null, "it takes units again");
    assert_eq!(units(kube)?, before, "no unit was moved");
    Ok(())
}

fn upgrades_a_node_container(kube: &mut Kube) -> Result<()> {
    let folder = kube.daemon.folder.path().join("shared");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("index.html"), "the node's\n")?;
    let everywhere = format!("image = {IMAGE:?}\nconfig = {{ env = [\"WWW=/two\"] }}");
    let bind = format!("{}:/shared:ro", folder.display());
    let other =
        format!("config = {{ env = [\"WWW=/shared\"] }}\nhost-config = {{ binds = [{bind:?}] }}");
    kube.daemon.stop()?;
    kube.daemon.configure(&format!("{}{}", agent("", &everywhere), agent("other", &other)))?;
    kube.daemon.resume()?;
    until_agents(kube, "default", &[("node1", "one"), ("node2", "one")])?;
    let unknown = kube.daemon.cli(&["node", "container", "upgrade", "nobody"])?;
    told(unknown, 4, "could not upgrade the node container `nobody`", &["in the configuration"])?;
    kube.done(&["node", "container", "upgrade", "agent"])?;
    // No node is in the pool that has something of its own.
    until_agents(kube, "default", &[("node1", "two"), ("node2", "two")])
}

fn is_removed_once_the_budget_lets_its_units_go(kube: &Kube) -> Result<()> {
    let before = units(kube)?;
    let here = before.iter().filter(|(_, node)| node == "node1").count();
    let address = address_of(kube, "node1")?;
    let mut remove = kube.daemon.begin(&["node", "remove", &address, "-y"])?;
    let mut said = BufReader::new(remove.stderr.take().context("stderr is piped")?).lines();
    let mut until = |words: &str| -> Result<()> {
        let mut lines = said.by_ref().map_while(std::io::Result::ok);
        lines
            .find(|line| line.contains(words))
            .with_context(|| format!("no line {words:?}"))
            .map(drop)
    };
    until(&format!("Moving {here} unit"))?;
    until("disruption budget")?;
    assert_eq!(node(kube, "node1")?["spec"]["unschedulable"], true);
    kube.cluster.ask(&["delete", "poddisruptionbudget", "web"])?;
    let removed = remove.wait_with_output()?;
    ensure!(removed.status.success(), "{removed:?}");
    eventually(SOON, "the units are on the other node", || {
        let started = kube.units("web")?.iter().all(|(_, status)| status == "started");
        let now = units(kube)?;
        let there = now.iter().all(|(_, node)| node == "node2");
        Ok((started && there && now.len() == before.len()).then_some(()))
    })?;
    kube.until_answers("web", "one")?;
    ensure!(kube.addresses("web")?.len() == 1, "it is not reached through that node any more");
    ensure!(!kube.done(&["node", "list"])?.contains(&address));
    kube.daemon.cli(&["node", "info", &address])?.failure(4)?;
    kube.done(&["app", "deploy", "web", "--image", IMAGE])?;
    Ok(())
}

fn is_added_to_another_pool(kube: &Kube) -> Result<()> {
    kube.cluster.ask(&["create", "namespace", "south"])?;
    kube.done(&["pool", "create", "other", "--provisioner", "kubernetes"])?;
    let kubeconfig = kube.cluster.kubeconfig().to_string_lossy();
    let place = ["--pool", "other", "--namespace", "south", "--kubeconfig", &kubeconfig];
    let add = ["cluster", "add", "south", "--provisioner", "kubernetes"];
    kube.done(&[add.as_slice(), &place].concat())?;
    let never = ["node", "add", "nobody", "--pool", "other", "--wait", "1"];
    let never = kube.daemon.cli(&never)?;
    told(never, 7, "could not add the node `nobody`", &["the node `nobody` is not ready"])?;
    kube.done(&["node", "remove", "nobody", "-y"])?;
    // Its kubelet runs, and finds it.
    let add = ["node", "add", "node1", "--pool", "other", "--iaas-id", "i-1", "--wait", "120"];
    kube.done(&[add.as_slice(), &["--metadata", "rack=9"]].concat())?;
    let added = node(kube, "node1")?;
    assert_eq!(added["spec"]["providerID"], "i-1");
    let (labels, annotations) = (&added["metadata"]["labels"], &added["metadata"]["annotations"]);
    assert_eq!(
        (&labels["tsuru.io/pool"], &labels["tsuru.io/iaas-id"]),
        (&json!("other"), &json!("i-1"))
    );
    assert_eq!(annotations["tsuru.io/rack"], "9");
    let address = address_of(kube, "node1")?;
    let info = kube.daemon.json(&["node", "info", &address])?;
    assert_eq!((&info["pool"], &info["status"]), (&json!("other"), &json!("Ready")));
    until_agents(kube, "default", &[("node1", "the node's"), ("node2", "two")])
}

fn moves_to_another_namespace(kube: &Kube) -> Result<()> {
    let count = kube.units("web")?.len();
    kube.done(&["app", "update", "web", "--pool", "other"])?;
    kube.until_answers("web", "one")?;
    let [address] = kube.addresses("web")?.try_into().ok().context("one node is of the pool")?;
    ensure!(address.contains(&address_of(kube, "node1")?), "{address}");
    assert_eq!(kube.units("web")?.len(), count, "as many units as before");
    for kind in
        ["deployments", "replicasets", "pods", "services", "endpointslices", "serviceaccounts"]
    {
        let spaces = || -> Result<BTreeSet<String>> {
            let objects = kube.objects("web", kind)?;
            let space = |object: &Value| {
                object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned()
            };
            Ok(objects.iter().map(space).collect())
        };
        // What others make of these objects goes a moment after them.
        eventually(SOON, kind, || Ok(spaces()?.iter().eq(["south"]).then_some(())))?;
    }
    // It is an app like any other there.
    kube.done(&["app", "run", "web", "--once", "--", "true"])?;
    until_agents(kube, "south", &[("node1", "the node's"), ("node2", "two")])?;
    kube.done(&["app", "remove", "web", "-y"])?;
    Ok(())
}

fn removes_a_node_container(kube: &Kube) -> Result<()> {
    kube.done(&["node", "container", "remove", "agent", "--pool", "other", "-y"])?;
    for namespace in ["default", "south"] {
        until_agents(kube, namespace, &[("node2", "two")])?;
    }
    kube.done(&["node", "container", "remove", "agent", "-y"])?;
    eventually(SOON, "nothing is left of it", || {
        let kinds = "daemonsets,controllerrevisions,pods,serviceaccounts";
        let left = kube.cluster.ask(&["get", kinds, "-A", "-o", "name", "-l", AGENT])?;
        Ok(left.is_empty().then_some(()))
    })
}

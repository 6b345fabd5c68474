//! The command line, the daemon, the Kubernetes plugin and a real Kubernetes with two nodes, end to end: what tests/story-kubernetes leaves out, and what goes wrong.

mod broken;
mod builds;
mod changed;
mod failing;
mod inside;
mod moves;
mod nodes;
mod refused;
mod registered;
mod units;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry_tests::clusters::Cluster;
use gantry_tests::daemon::{Daemon, Finished, eventually, http_get};
use serde_json::Value;

/// Long enough for anything here on a busy machine; a wait ends as soon as what it waits for is there.
const SOON: Duration = Duration::from_secs(120);

/// Volumes that are folders of a node; all nodes of the test cluster see the folders of this machine.
const VOLUMES: &str = "[volume-plans.folder.kubernetes]\nplugin = \"hostPath\"\ncapacity = \"20Mi\"\naccess-modes = \"ReadWriteMany\"\n";

/// A daemon that runs apps on a cluster.
struct Kube {
    cluster: Cluster,
    daemon: Daemon,
    _nodes: Option<Labelled>,
}

impl Kube {
    /// On the cluster that is there for all tests, which has two nodes in the pool of all of them.
    fn shared(config: &str) -> Result<Self> {
        let cluster = Cluster::given()?;
        let daemon = Daemon::with_kubernetes(&cluster, config)?;
        let nodes = Some(Labelled::hold(&cluster, &daemon)?);
        Ok(Self { cluster, daemon, _nodes: nodes })
    }

    /// On a cluster of the test's own, which it may break.
    fn own(config: &str) -> Result<Self> {
        let cluster = Cluster::start(2)?;
        let daemon = Daemon::with_kubernetes(&cluster, config)?;
        take_nodes(&daemon)?;
        Ok(Self { cluster, daemon, _nodes: None })
    }

    /// Runs the command line, which must end well.
    fn done(&self, arguments: &[&str]) -> Result<String> {
        self.daemon.cli(arguments)?.success().with_context(|| format!("gantry {arguments:?}"))
    }

    /// Makes an app that runs this image, with so many units.
    fn app(&self, name: &str, image: &str, units: usize) -> Result<()> {
        self.done(&["app", "create", name, "--pool", "kube"])?;
        self.done(&["app", "deploy", name, "--image", image])?;
        if units > 1 {
            self.done(&["unit", "add", name, &(units - 1).to_string()])?;
        }
        Ok(())
    }

    /// The names of the units of an app, with their states.
    fn units(&self, app: &str) -> Result<BTreeSet<(String, String)>> {
        let list = self.daemon.json(&["unit", "list", app])?;
        let word = |unit: &Value, key: &str| unit[key].as_str().unwrap_or_default().to_owned();
        let units = list.as_array().context("a list of units")?;
        Ok(units.iter().map(|unit| (word(unit, "id"), word(unit, "status"))).collect())
    }

    /// Where an app answers: on every node.
    fn addresses(&self, app: &str) -> Result<Vec<String>> {
        let info = self.daemon.json(&["app", "info", app])?;
        let addresses = info["addresses"].as_array().context("it has addresses")?;
        Ok(addresses.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect())
    }

    /// Waits until an app answers this on every node: a node hears of a new unit a moment after the cluster does.
    fn until_answers(&self, app: &str, text: &str) -> Result<()> {
        let mut answers = Vec::new();
        let answered = eventually(SOON, "every address answers", || {
            let asked = self.addresses(app)?.into_iter().map(|url| (http_get(&url), url));
            answers = asked.collect();
            let right = answers
                .iter()
                .all(|(answer, _)| answer.as_ref().is_ok_and(|(_, body)| body.trim() == text));
            Ok((right && !answers.is_empty()).then_some(()))
        });
        answered.with_context(|| format!("`{app}` does not answer `{text}`: {answers:?}"))
    }

    /// Begins to ask an app again and again.
    fn poll(&self, app: &str, text: &str) -> Result<Poll> {
        self.until_answers(app, text)?;
        Ok(Poll::begin(self.addresses(app)?, text))
    }

    /// The objects of an app of one kind.
    fn objects(&self, app: &str, kind: &str) -> Result<Vec<Value>> {
        let selector = format!("tsuru.io/app-name={app}");
        let text = self.cluster.ask(&["get", kind, "-A", "-l", &selector, "-o", "json"])?;
        let mut list: Value = serde_json::from_str(&text)?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// The names of the pods of an app, those that are leaving too.
    fn pods(&self, app: &str) -> Result<BTreeSet<String>> {
        Ok(self.objects(app, "pods")?.iter().map(name).collect())
    }
}

impl Drop for Kube {
    fn drop(&mut self) {
        // Best effort, for a test that failed: the cluster is there for others too.
        let kinds = "deployments,services,pods,serviceaccounts,secrets,persistentvolumeclaims,persistentvolumes,clusterroles,clusterrolebindings";
        let mine = format!("gantry.instance={}", self.daemon.instance);
        let _ = self.cluster.ask(&["delete", kinds, "-A", "-l", &mine, "--wait=false"]);
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Gives every node of the cluster to the pool.
fn take_nodes(daemon: &Daemon) -> Result<()> {
    let nodes = daemon.json(&["node", "list"])?;
    for node in nodes["items"].as_array().context("a list of nodes")? {
        let address = node["address"].as_str().context("a node has an address")?;
        daemon.cli(&["node", "update", address, "--pool", "kube"])?.success()?;
    }
    Ok(())
}

/// How many tests have apps on the shared cluster. Its nodes are of one pool, which all of them use.
static USERS: Mutex<usize> = Mutex::new(0);

/// The nodes of the shared cluster, in the pool as long as one of these is there.
struct Labelled(Cluster);

impl Labelled {
    fn hold(cluster: &Cluster, daemon: &Daemon) -> Result<Self> {
        let mut users = USERS.lock().unwrap_or_else(PoisonError::into_inner);
        if *users == 0 {
            take_nodes(daemon)?;
        }
        let held = Self(Cluster::given()?);
        ensure!(held.0.kubeconfig() == cluster.kubeconfig(), "there is one shared cluster");
        *users += 1;
        Ok(held)
    }
}

impl Drop for Labelled {
    fn drop(&mut self) {
        let mut users = USERS.lock().unwrap_or_else(PoisonError::into_inner);
        *users -= 1;
        if *users == 0 {
            // Best effort: the tests have their verdicts.
            let _ = self.0.ask(&["label", "nodes", "--all", "tsuru.io/pool-"]);
        }
    }
}

/// Somebody who asks an app again and again.
struct Poll {
    stop: Arc<AtomicBool>,
    asking: Option<JoinHandle<(usize, Vec<String>)>>,
}

impl Poll {
    fn begin(addresses: Vec<String>, text: &str) -> Self {
        let (stop, text) = (Arc::new(AtomicBool::new(false)), text.to_owned());
        let stopped = Arc::clone(&stop);
        let asking = std::thread::spawn(move || {
            let (mut asked, mut failures) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                for address in &addresses {
                    asked += 1;
                    match http_get(address) {
                        Ok((200, body)) if body.trim() == text => {}
                        odd => failures.push(format!("{address}: {odd:?}")),
                    }
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            (asked, failures)
        });
        Self { stop, asking: Some(asking) }
    }

    /// How often it was asked; every answer must have been right.
    fn finish(mut self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        let asking = self.asking.take().context("it asks")?;
        let (asked, failures) =
            asking.join().map_err(|_| anyhow::anyhow!("the poller panicked"))?;
        ensure!(failures.is_empty(), "{} of {asked} failed: {failures:#?}", failures.len());
        Ok(asked)
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// `app log --follow` of an app, and the lines that it prints.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn begin(kube: &Kube, app: &str) -> Result<Self> {
        let mut child = kube.daemon.begin(&["app", "log", app, "--follow"])?;
        let stdout = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let (send, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line).ok())
        });
        Ok(Self { child, lines })
    }

    /// Waits for its end, and gives its exit code with what it complained about.
    fn end(mut self) -> Result<(Option<i32>, String)> {
        let mut told = String::new();
        let mut stderr = self.child.stderr.take().context("stderr is piped")?;
        stderr.read_to_string(&mut told)?;
        Ok((self.child.wait()?.code(), told))
    }

    /// Waits for a line, and gives those before it too.
    fn until(&self, words: &str) -> Result<Vec<String>> {
        let mut seen = Vec::new();
        while !seen.last().is_some_and(|line: &String| line.contains(words)) {
            let next = self.lines.recv_timeout(SOON);
            seen.push(next.with_context(|| format!("no line {words:?} after {seen:?}"))?);
        }
        Ok(seen)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone after the wait.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the cluster has nothing of a volume: it keeps a claim as long as a unit that leaves has it.
fn until_volume_gone(kube: &Kube, volume: &str) -> Result<()> {
    let selector = format!("tsuru.io/volume-name={volume}");
    eventually(SOON, "nothing is left of the volume", || {
        let left = kube.cluster.ask(&["get", "pv,pvc", "-A", "-o", "name", "-l", &selector])?;
        Ok(left.is_empty().then_some(()))
    })
}

/// What a run that must fail with this code says: what, why and what to type next.
fn told(finished: Finished, code: i32, what: &str, why: &[&str]) -> Result<String> {
    let text = finished.failure(code)?;
    ensure!(text.contains(&format!("error: {what}\n")), "what: {text}");
    let (_, causes) = text.split_once("\ncaused by: ").with_context(|| format!("why: {text}"))?;
    for why in why {
        ensure!(causes.contains(why), "{why:?} is not told: {text}");
    }
    ensure!(causes.contains("\nhint: "), "what to type next: {text}");
    Ok(text)
}

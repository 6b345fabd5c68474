//! What runs on every host, over two real ones: added, kept over restarts and swaps, changed, made anew past a host that is down, and removed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry_tests::artifacts::{docker_plugin, image};
use gantry_tests::daemon::{Daemon, docker, eventually};
use gantry_tests::hosts::{Host, Hosts};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(120);

/// No registry has it, and a host hears so at once.
const IMAGE: &str = "127.0.0.1:1/gantry-test/agent:1";

struct Two {
    hosts: Hosts,
    daemon: Daemon,
}

impl Two {
    fn start() -> Result<Self> {
        let hosts = Hosts::start(2)?;
        image(IMAGE, "agent", "")?;
        for host in &hosts.hosts {
            hosts.load(host, IMAGE)?;
        }
        docker(&["rmi", IMAGE])?;
        let tls = hosts.certificates();
        let tables: String = hosts
            .hosts
            .iter()
            .map(|host| format!("[[docker.hosts]]\naddress = {:?}\ntls = {tls:?}\n", address(host)))
            .collect();
        let grants = "[provisioners.docker]\ngrants = [\"containers:binds:/proc\"]\n";
        let daemon = Daemon::with_docker(&format!("{tables}{grants}"))?;
        Ok(Self { hosts, daemon })
    }

    /// The id of a container of this name on each host; empty where there is none.
    fn ids(&self, name: &str) -> Result<Vec<String>> {
        let filter = format!("name=^{name}$");
        let id = |host: &Host| {
            let listed =
                self.hosts.docker(host, &["ps", "-aq", "--no-trunc", "--filter", &filter])?;
            Ok(listed.trim().to_owned())
        };
        self.hosts.hosts.iter().map(id).collect()
    }

    /// What it is on a host.
    fn inspect(&self, host: &Host, name: &str) -> Result<Value> {
        let text = self.hosts.docker(host, &["inspect", name])?;
        Ok(serde_json::from_str::<Value>(&text)?[0].take())
    }

    fn done(&self, words: &[&str]) -> Result<String> {
        self.daemon.cli(&[&["node", "container"], words].concat())?.success()
    }
}

fn address(host: &Host) -> String {
    format!("tcp://{}:2376", host.address)
}

#[test]
fn a_host_that_does_not_become_a_node_keeps_none_of_them() -> Result<()> {
    let (hosts, daemon) = (Hosts::start(1)?, Daemon::with_docker("")?);
    let host = hosts.hosts.first().context("a host")?;
    let there = "127.0.0.1:1/gantry-test/agent:2";
    image(there, "agent", "")?;
    hosts.load(host, there)?;
    docker(&["rmi", there])?;
    daemon.cli(&["pool", "create", "one", "--provisioner", "docker"])?.success()?;
    let nowhere = "127.0.0.1:1/gantry-test/nowhere:1";
    for (name, image) in [("agent", there), ("broken", nowhere)] {
        let add = ["node", "container", "add", name, "--image", image, "--pool", "one"];
        daemon.cli(&add)?.success()?;
    }
    let (at, tls) = (address(host), hosts.certificates().to_string_lossy().into_owned());
    let add = ["node", "add", &at, "--pool", "one", "--tls", &tls, "--wait", "5"];
    let finished = daemon.cli(&add)?;
    ensure!(finished.code != Some(0) && finished.stderr.contains("nowhere"), "{finished:?}");
    let made = hosts
        .docker(host, &["events", "--since", "1h", "--until", "0s", "--filter", "event=start"])?;
    ensure!(made.contains("agent"), "one had started: {made}");
    assert_eq!(hosts.docker(host, &["ps", "-aq"])?, "");
    ensure!(!daemon.cli(&["node", "list"])?.success()?.contains(&at), "it is no node");
    Ok(())
}

#[test]
fn what_runs_on_every_host_is_added_kept_changed_made_anew_and_removed() -> Result<()> {
    let mut two = Two::start()?;
    two.done(&["add", "agent", "--image", IMAGE, "--env", "A=1", "--bind", "/proc:/host/proc:ro"])?;
    let first = two.ids("agent")?;
    ensure!(first.iter().all(|id| !id.is_empty()), "{first:?}");
    for host in &two.hosts.hosts {
        let agent = two.inspect(host, "agent")?;
        let env = agent["Config"]["Env"].as_array().context("an environment")?;
        let endpoint = json!(format!("DOCKER_ENDPOINT={}", address(host)));
        ensure!(env.starts_with(&[endpoint, json!("A=1")]), "{env:?}");
        assert_eq!(agent["HostConfig"]["Binds"], json!(["/proc:/host/proc:ro"]));
        assert_eq!(agent["HostConfig"]["RestartPolicy"]["Name"], "always");
        assert_eq!(agent["State"]["Running"], true);
    }
    let info = two.daemon.json(&["node", "container", "info", "agent"])?;
    assert_eq!(info["entries"][0]["entry"]["config"], json!({"env": ["A=1"]}));
    two.daemon.cli(&["node", "container", "add", "agent", "--image", IMAGE])?.failure(5)?;

    outlives_the_daemon_and_the_plugin(&mut two)?;
    let changed = two.ids("agent")?;
    two.done(&["update", "agent", "--env", "A=2"])?;
    let agent = two.inspect(&two.hosts.hosts[0], "agent")?;
    ensure!(agent["Config"]["Env"].to_string().contains("A=2"), "{agent}");
    assert_eq!(agent["HostConfig"]["Binds"], json!(["/proc:/host/proc:ro"]), "the rest stays");
    ensure!(two.ids("agent")?.iter().zip(&changed).all(|(now, before)| now != before));

    is_refused_without_its_grant_and_never_takes_what_is_anothers(&two)?;
    is_made_anew_past_a_host_that_is_down(&mut two)?;

    two.done(&["remove", "agent", "-y"])?;
    assert_eq!(two.ids("agent")?, ["", ""]);
    assert_eq!(two.daemon.json(&["node", "container", "list"])?, json!([]));
    two.done(&["remove", "agent", "-y"])?;
    Ok(())
}

/// The next call knows it, whichever daemon and whichever plugin makes it.
fn outlives_the_daemon_and_the_plugin(two: &mut Two) -> Result<()> {
    let Two { daemon, .. } = two;
    daemon.stop()?;
    daemon.resume()?;
    let plugin = docker_plugin()?;
    daemon.cli(&["plugin", "swap", "docker", &plugin.to_string_lossy(), "--force"])?.success()?;
    for host in &two.hosts.hosts {
        two.hosts.docker(host, &["rm", "-f", "agent"])?;
    }
    two.daemon.cli(&["app", "create", "web"])?.success()?;
    two.daemon.cli(&["app", "deploy", "web", "--image", IMAGE])?.success()?;
    two.daemon.cli(&["unit", "add", "web", "1"])?.success()?;
    let again = two.ids("agent")?;
    ensure!(again.iter().all(|id| !id.is_empty()), "it comes before the units: {again:?}");
    let units = two.daemon.json(&["unit", "list", "web"])?;
    assert_eq!(units.as_array().map(Vec::len), Some(2), "it is none of them");
    Ok(())
}

fn is_refused_without_its_grant_and_never_takes_what_is_anothers(two: &Two) -> Result<()> {
    let add = ["node", "container", "add", "probe", "--image", IMAGE];
    let refused = two.daemon.cli(&[&add[..], &["--network", "host"]].concat())?;
    let stderr = refused.failure(3)?;
    ensure!(stderr.contains("`containers:host-network`"), "{stderr}");
    ensure!(stderr.contains("gantry node container remove probe"), "{stderr}");
    two.done(&["remove", "probe", "-y"])?;

    let [first, _] = two.hosts.hosts.as_slice() else { anyhow::bail!("two hosts") };
    let theirs = two.hosts.docker(first, &["create", "--name", "probe", IMAGE])?;
    let stderr = two.daemon.cli(&add)?.failure(5)?;
    ensure!(stderr.contains(&address(first)), "the host is named: {stderr}");
    let there = two.ids("probe")?;
    ensure!(there[0] == theirs.trim() && !there[1].is_empty(), "{there:?}");
    two.done(&["remove", "probe", "-y"])?;
    assert_eq!(two.ids("probe")?, [theirs.trim(), ""]);
    Ok(())
}

fn is_made_anew_past_a_host_that_is_down(two: &mut Two) -> Result<()> {
    let [first, second] = two.hosts.hosts.as_slice() else { anyhow::bail!("two hosts") };
    let (first, second) = (first.clone(), second.clone());
    let before = two.ids("agent")?;
    two.hosts.kill(&first)?;
    let stderr = two.daemon.cli(&["node", "container", "upgrade", "agent"])?.failure(6)?;
    ensure!(stderr.contains(&address(&first)), "{stderr}");
    let now = two.inspect(&second, "agent")?["Id"].take();
    ensure!(now.as_str().is_some_and(|id| id != before[1]), "{now} {before:?}");
    two.hosts.revive(&first.name)?;
    eventually(SOON, "the daemon reaches the host again", || {
        let upgraded = two.daemon.cli(&["node", "container", "upgrade", "agent"])?;
        Ok((upgraded.code == Some(0)).then_some(()))
    })?;
    let after = two.ids("agent")?;
    ensure!(!after[0].is_empty() && after[0] != before[0], "{after:?} {before:?}");
    Ok(())
}

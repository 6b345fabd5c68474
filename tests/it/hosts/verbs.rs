//! What people do with units that run, on real hosts: hooks before and after their start, sleep, kill, with one engine action at a time on each host; their output as syslog, and an agent on the nodes of one pool.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use gantry_tests::daemon::eventually;
use gantry_tests::hosts::Host;
use serde_json::{Value, json};

use super::SOON;
use super::stage::{Three, address, units};

const CONFIG: &str = r#"
[healing]
every = "0s"
[provisioners.docker]
grants = ["containers:log-drivers"]
[provisioners.docker.config.docker]
log-driver = "bs"
limit = { actions-per-host = 1 }
"#;

/// Where the log driver `bs` sends what units say.
const SYSLOG: &str = "udp://localhost:1514";

/// Hooks that write down whether anybody answers in the unit, and a program that takes two seconds to end.
const HOOKED: &str = r"RUN printf '%s\n' 'healthcheck:' '  path: /' 'hooks:' '  restart:' '    before:' '      - wget -q -O - http://127.0.0.1:8888 >>/seen || echo nobody >>/seen' '    after:' '      - wget -q -O - http://127.0.0.1:8888 >>/seen' >/home/application/current/tsuru.yaml
RUN /bin/busybox sed -i 's/|| exit 0/|| { sleep 2; exit 0; }/' /bin/serve";

/// What the hooks of all units wrote down, sorted by unit.
fn seen(three: &Three) -> Result<Vec<String>> {
    let words = ["app", "run", "web", "--", "echo $(cat /seen)"];
    let mut seen: Vec<String> =
        three.daemon.cli(&words)?.success()?.lines().map(str::to_owned).collect();
    seen.sort();
    Ok(seen)
}

/// The containers of the app on all hosts, and when each was started last.
fn started(three: &Three) -> Result<BTreeMap<String, String>> {
    let mut started = BTreeMap::new();
    for host in &three.hosts.hosts {
        for id in three.ids(host, "label=app-name=web")? {
            let time = three.inspect(host, &id)?["State"]["StartedAt"].take();
            started.insert(id, time.as_str().context("a time")?.to_owned());
        }
    }
    Ok(started)
}

/// The seconds since 1970 by now, as Docker reads them.
fn moment() -> Result<String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(format!("{}.{:09}", since.as_secs(), since.subsec_nanos()))
}

/// When each stop began and ended, by a host's events; two at the same time are an error.
fn stops(events: &str) -> Result<Vec<(u64, u64)>> {
    let events: Vec<_> = events.lines().filter_map(|line| line.split_once(' ')).collect();
    let stop = |pair: &[(&str, &str)]| -> Result<(u64, u64)> {
        let [(began, "kill"), (ended, "stop")] = pair else {
            bail!("not one after the other: {events:?}")
        };
        Ok((began.parse()?, ended.parse()?))
    };
    events.chunks(2).map(stop).collect()
}

#[test]
fn units_run_their_hooks_sleep_and_are_killed_one_at_a_time_on_each_host() -> Result<()> {
    let three = Three::with("verbs", CONFIG)?;
    let Three { hosts, daemon, .. } = &three;
    let [first, second, third] = hosts.hosts.as_slice() else { bail!("three hosts") };
    daemon.cli(&["pool", "create", "aside", "--provisioner", "docker"])?.success()?;
    daemon.cli(&["node", "update", &address(third), "--pool", "aside"])?.success()?;
    an_agent_runs_on_the_nodes_of_its_pool(&three)?;

    let image = three.image("hooked", HOOKED)?;
    daemon.cli(&["app", "create", "web", "--pool", "three"])?.success()?;
    daemon.cli(&["app", "deploy", "web", "--image", &image])?.success()?;
    daemon.cli(&["unit", "set", "web", "4"])?.success()?;
    ensure!(three.counts("web")? == [0, 2, 2], "{:?}", three.spread("web")?);
    ensure!(seen(&three)? == ["nobody verbs"; 4], "{:?}", seen(&three)?);

    let syslog = json!({"Type": "syslog", "Config": {"syslog-address": SYSLOG}});
    for host in [first, second] {
        for id in three.ids(host, "label=app-name=web")? {
            let log = three.inspect(host, &id)?["HostConfig"]["LogConfig"].take();
            ensure!(log == syslog, "{log}");
        }
    }
    // The engine's own copy.
    let told = daemon.cli(&["app", "log", "web"])?.success()?;
    ensure!(told.matches("serving on 8888").count() == 4, "{told}");

    they_sleep_and_go_on(&three, [first, second])?;
    two_are_killed(&three)
}

/// Adds an agent to one pool, with a log of its own.
fn an_agent_runs_on_the_nodes_of_its_pool(three: &Three) -> Result<()> {
    /// No registry has it, and a host hears so at once.
    const AGENT: &str = "127.0.0.1:1/gantry-test/agent:1";
    let Three { hosts, daemon, image, .. } = three;
    for host in &hosts.hosts {
        hosts.docker(host, &["tag", image, AGENT])?;
    }
    let options = json!({"syslog-address": SYSLOG, "tag": "agent"});
    let entry = json!({"host-config": {"log-config": {"type": "syslog", "config": options}}});
    let file = daemon.folder.path().join("agent.json");
    std::fs::write(&file, entry.to_string())?;
    let file = file.to_str().context("a path of letters")?;
    let add = ["node", "container", "add", "agent", "--pool", "three", "--image", AGENT];
    daemon.cli(&[&add[..], &["--config", file]].concat())?.success()?;
    for (host, count) in hosts.hosts.iter().zip([1, 1, 0]) {
        let there = three.ids(host, "name=^agent$")?;
        ensure!(there.len() == count, "{}: {there:?}", host.name);
        for id in there {
            let agent = three.inspect(host, &id)?;
            let log = json!({"Type": "syslog", "Config": options});
            ensure!(agent["State"]["Running"] == true, "{agent}");
            ensure!(agent["HostConfig"]["LogConfig"] == log, "{agent}");
        }
    }
    Ok(())
}

/// Puts all units to sleep, one at a time on each host, and starts them again where they are.
fn they_sleep_and_go_on(three: &Three, having: [&Host; 2]) -> Result<()> {
    let Three { hosts, daemon, .. } = three;
    let before = started(three)?;
    let from = moment()?;
    daemon.cli(&["app", "sleep", "web"])?.success()?;
    let until = moment()?;
    let window = ["events", "--since", &from, "--until", &until];
    let which = ["label=app-name=web", "event=kill", "event=stop"];
    let which: Vec<&str> = which.into_iter().flat_map(|filter| ["--filter", filter]).collect();
    let events = [&window[..], &which, &["--format", "{{.TimeNano}} {{.Action}}"]].concat();
    let [one, other] = having.map(|host| stops(&hosts.docker(host, &events)?));
    let (one, other) = (one?, other?);
    ensure!(one.len() == 2 && other.len() == 2, "{one:?} {other:?}");
    let is_beside = |one: &(u64, u64), other: &(u64, u64)| one.0 < other.1 && other.0 < one.1;
    let beside = one.iter().any(|one| other.iter().any(|other| is_beside(one, other)));
    ensure!(beside, "hosts do not wait for each other: {one:?} {other:?}");

    let asleep = units(daemon, "web")?;
    ensure!(asleep.iter().all(|unit| unit["status"] == "asleep"), "{asleep:?}");
    for host in having {
        ensure!(three.ids(host, "status=exited")?.len() == 2, "{} has what runs", host.name);
    }
    let some = before.keys().next().context("a unit")?;
    daemon.cli(&["unit", "kill", "web", some])?.failure(5)?;

    daemon.cli(&["app", "start", "web"])?.success()?;
    let after = started(three)?;
    ensure!(after.keys().eq(before.keys()), "they are where they were: {before:?} {after:?}");
    ensure!(after.values().all(|time| !before.values().any(|before| before == time)), "{after:?}");
    // What only goes on where it is runs the hooks before, and none after.
    eventually(SOON, "the hooks ran before", || {
        Ok((seen(three)? == ["nobody verbs nobody"; 4]).then_some(()))
    })
}

/// Kills two units, politely and not: they start anew where they are, and nobody else does.
fn two_are_killed(three: &Three) -> Result<()> {
    let daemon = &three.daemon;
    let ids: Vec<String> = started(three)?.into_keys().collect();
    let [polite, forced, ..] = ids.as_slice() else { bail!("four units: {ids:?}") };
    let short = polite.get(..12).context("an id")?;
    for (words, id) in [(&[short][..], polite), (&[forced.as_str(), "--force"][..], forced)] {
        let before = started(three)?;
        daemon.cli(&[&["unit", "kill", "web"], words].concat())?.success()?;
        let after = started(three)?;
        ensure!(after.keys().eq(before.keys()), "{before:?} {after:?}");
        let anew: Vec<&String> =
            after.keys().filter(|id| after.get(*id) != before.get(*id)).collect();
        ensure!(anew == [id], "{words:?}: {anew:?}");
    }
    eventually(SOON, "their hooks ran before once more", || {
        let twice =
            seen(three)?.iter().filter(|seen| *seen == "nobody verbs nobody nobody").count();
        Ok((twice == 2).then_some(()))
    })?;
    daemon.cli(&["unit", "kill", "web", "nobody"])?.failure(4)?;
    daemon.cli(&["unit", "kill", "nobody", short])?.failure(4)?;
    let running = units(daemon, "web")?;
    let is_up = |unit: &Value| unit["status"] == "started" || unit["status"] == "starting";
    ensure!(running.len() == 4 && running.iter().all(is_up), "{running:?}");
    Ok(())
}

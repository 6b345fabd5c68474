//! Three hosts with an image on each, and a daemon that has them in a pool.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use gantry_tests::artifacts::image;
use gantry_tests::daemon::{Daemon, docker};
use gantry_tests::hosts::{Host, Hosts};
use serde_json::Value;

/// The milliseconds of a day. No test takes that long, so the time of day tells which of two moments is the later.
const DAY: i64 = 24 * 60 * 60 * 1000;

/// What the daemon looks for, and how soon it acts.
pub(super) const HEALING: &str = "
[healing]
every = \"1s\"
[provisioners.docker.config.docker.healing]
max-failures = 2
max-unresponsive-time = 2
heal-containers-timeout = 2
disabled-time = 1
";

/// Three hosts with an image on each, added to a pool of their own while the daemon serves.
pub(super) struct Three {
    pub(super) hosts: Hosts,
    pub(super) daemon: Daemon,
    pub(super) image: String,
    name: String,
}

impl Three {
    /// Hosts whose dead are replaced soon.
    pub(super) fn start(name: &str) -> Result<Self> {
        Self::with(name, HEALING)
    }

    /// The same with this configuration and no other.
    pub(super) fn with(name: &str, config: &str) -> Result<Self> {
        let hosts = Hosts::start(3)?;
        let daemon = Daemon::with_docker(config)?;
        daemon.cli(&["pool", "create", "three", "--provisioner", "docker"])?.success()?;
        let certificates = hosts.certificates();
        let tls = certificates.to_str().context("a path of letters")?;
        for host in &hosts.hosts {
            let address = address(host);
            let add = ["node", "add", &address, "--pool", "three", "--tls", tls, "--wait", "60"];
            daemon.cli(&add)?.success()?;
        }
        let mut three = Self { hosts, daemon, image: String::new(), name: name.to_owned() };
        three.image = three.image("1", "")?;
        Ok(three)
    }

    /// One more image on every host, with more lines for its Dockerfile.
    pub(super) fn image(&self, tag: &str, dockerfile: &str) -> Result<String> {
        let name = format!("gantry-test/{}:{tag}", self.name);
        image(&name, &self.name, dockerfile)?;
        let loaded = self.hosts.hosts.iter().try_for_each(|host| self.hosts.load(host, &name));
        docker(&["rmi", &name])?;
        loaded.map(|()| name)
    }

    pub(super) fn app(&self, app: &str, units: u32) -> Result<()> {
        self.daemon.cli(&["app", "create", app, "--pool", "three"])?.success()?;
        self.daemon.cli(&["app", "deploy", app, "--image", &self.image])?.success()?;
        if units > 1 {
            let more = (units - 1).to_string();
            self.daemon.cli(&["unit", "add", app, &more])?.success()?;
        }
        Ok(())
    }

    /// How many units of an app are on each host, by the host's address.
    pub(super) fn spread(&self, app: &str) -> Result<BTreeMap<String, usize>> {
        let mut spread: BTreeMap<String, usize> =
            self.hosts.hosts.iter().map(|host| (host.address.clone(), 0)).collect();
        for unit in units(&self.daemon, app)? {
            let ip = unit["ip"].as_str().context("a unit has a machine")?;
            *spread.entry(ip.to_owned()).or_default() += 1;
        }
        Ok(spread)
    }

    pub(super) fn counts(&self, app: &str) -> Result<Vec<usize>> {
        let mut counts: Vec<usize> = self.spread(app)?.into_values().collect();
        counts.sort_unstable();
        Ok(counts)
    }

    pub(super) fn node(&self, host: &Host) -> Result<Value> {
        self.daemon.json(&["node", "info", &address(host)])
    }

    /// The host with this address.
    pub(super) fn host(&self, address: &str) -> Result<Host> {
        let host = self.hosts.hosts.iter().find(|host| host.address == address);
        host.cloned().context("a host of these")
    }

    /// A container on a host, as Docker's inspect shows it.
    pub(super) fn inspect(&self, host: &Host, id: &str) -> Result<Value> {
        let text = self.hosts.docker(host, &["inspect", id])?;
        Ok(serde_json::from_str::<Value>(&text)?[0].take())
    }

    /// How many containers are on a host, running or not.
    pub(super) fn containers(&self, host: &Host) -> Result<usize> {
        Ok(self.hosts.docker(host, &["ps", "-aq"])?.lines().count())
    }

    /// The ids of the containers on a host for which this filter of Docker's holds, running or not.
    pub(super) fn ids(&self, host: &Host, filter: &str) -> Result<BTreeSet<String>> {
        let list = ["ps", "-aq", "--no-trunc", "--filter", filter];
        Ok(self.hosts.docker(host, &list)?.lines().map(str::to_owned).collect())
    }

    /// Demands that what is on the hosts are the units of these apps, and nothing else.
    pub(super) fn nothing_else(&self, apps: &[&str]) -> Result<()> {
        let mut there = BTreeSet::new();
        for host in &self.hosts.hosts {
            there.extend(self.ids(host, "status=running")?);
            ensure!(
                self.containers(host)? == self.ids(host, "status=running")?.len(),
                "{} has what does not run",
                host.name
            );
        }
        let mut owned = BTreeSet::new();
        for app in apps {
            for unit in units(&self.daemon, app)? {
                owned.insert(unit["id"].as_str().context("a unit has an id")?.to_owned());
            }
        }
        ensure!(there == owned, "on the hosts: {there:?}, units: {owned:?}");
        Ok(())
    }

    pub(super) fn operations(&self, verb: &str) -> Result<Vec<Value>> {
        let all = self.daemon.json(&["operation", "list", "-n", "200"])?;
        let all = all.as_array().context("a list")?;
        Ok(all.iter().filter(|operation| operation["verb"] == verb).cloned().collect())
    }
}

pub(super) fn address(host: &Host) -> String {
    format!("tcp://{}:2376", host.address)
}

pub(super) fn units(daemon: &Daemon, app: &str) -> Result<Vec<Value>> {
    let units = daemon.json(&["unit", "list", app])?;
    Ok(units.as_array().context("a list")?.clone())
}

/// The milliseconds of the day by now.
pub(super) fn now() -> Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_millis())? % DAY)
}

/// The milliseconds of the day at which an operation began, by the record.
pub(super) fn began(operation: &Value) -> Result<i64> {
    let time = operation["began"].as_str().context("a time")?;
    let (_, time) = time.split_once('T').context("a day and a time")?;
    let parts: Vec<&str> = time.trim_end_matches('Z').split([':', '.']).collect();
    let [hours, minutes, seconds, milliseconds] = parts.as_slice() else {
        anyhow::bail!("no time with milliseconds: {time}")
    };
    let number = |text: &str| text.parse::<i64>();
    let minutes = number(hours)? * 60 + number(minutes)?;
    Ok((minutes * 60 + number(seconds)?) * 1000 + number(milliseconds)?)
}

/// How many milliseconds one time of the day is after another.
pub(super) fn between(earlier: i64, later: i64) -> i64 {
    (later - earlier).rem_euclid(DAY)
}

//! No more units are replaced in a while than the operator allows: what dies again and again is no accident.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry_tests::daemon::eventually;

use super::SOON;
use super::stage::{Three, began, between, units};

/// The while, in milliseconds: long beside what a replacement takes.
const PER: i64 = 20_000;

fn config(per: &str) -> String {
    format!(
        "
[healing]
every = \"1s\"
most = 2
per = \"{per}\"
[provisioners.docker.config.docker.healing]
max-failures = 2
max-unresponsive-time = 2
heal-containers-timeout = 1
"
    )
}

/// Removes the containers of this many units of `web`, whoever they are.
fn die(three: &Three, count: usize) -> Result<Vec<String>> {
    let mut dead = Vec::new();
    for host in &three.hosts.hosts {
        for id in three.ids(host, "label=app-name=web")? {
            if dead.len() < count {
                three.hosts.docker(host, &["rm", "-f", &id])?;
                dead.push(id);
            }
        }
    }
    dead.sort();
    Ok(dead)
}

/// The units that were replaced, and when that began, by the record.
fn healed(three: &Three) -> Result<Vec<(String, i64)>> {
    let mut healed = Vec::new();
    for operation in three.operations("unit-heal")? {
        if operation["state"] == "running" {
            continue;
        }
        ensure!(operation["who"] == "healer" && operation["state"] == "done", "{operation}");
        ensure!(operation["detail"]["reason"].is_string(), "the record says why: {operation}");
        let unit = operation["detail"]["unit"].as_str().context("a unit")?.to_owned();
        healed.push((unit, began(&operation)?));
    }
    healed.sort_by_key(|(_, began)| *began);
    Ok(healed)
}

#[test]
fn more_deaths_than_are_allowed_are_replaced_one_while_after_the_other() -> Result<()> {
    let three = Three::with("throttle", &config("20s"))?;
    three.app("web", 6)?;
    let dead = die(&three, 5)?;
    eventually(SOON, "all of them are replaced in the end", || {
        let units = units(&three.daemon, "web")?;
        let gone = units.iter().all(|unit| !dead.iter().any(|id| unit["id"] == id.as_str()));
        // The last of them is there a moment before its operation has ended.
        let under_way = three.operations("unit-heal")?;
        let ended = under_way.iter().all(|operation| operation["state"] != "running");
        Ok((units.len() == 6 && gone && ended).then_some(()))
    })?;
    let healed = healed(&three)?;
    let mut replaced: Vec<&String> = healed.iter().map(|(unit, _)| unit).collect();
    replaced.sort();
    ensure!(replaced == dead.iter().collect::<Vec<_>>(), "each once: {replaced:?}, {dead:?}");
    for (one, third) in healed.iter().zip(healed.iter().skip(2)) {
        let apart = between(one.1, third.1);
        ensure!(apart >= PER, "three within {apart} ms: {healed:?}");
    }
    three.nothing_else(&["web"])
}

#[test]
fn the_units_of_a_host_that_is_given_up_are_replaced_at_once_and_do_not_count() -> Result<()> {
    let three = Three::with("uncounted", &config("1h"))?;
    three.app("web", 9)?;
    ensure!(three.counts("web")? == [3, 3, 3], "{:?}", three.spread("web")?);
    let host = three.hosts.hosts.first().context("a host")?.clone();
    three.hosts.kill(&host)?;
    eventually(SOON, "more than two are replaced", || {
        let replaced = healed(&three)?.len();
        Ok((three.counts("web")? == [0, 4, 5] && replaced >= 3).then_some(()))
    })?;
    ensure!(healed(&three)?.len() == 3, "each once: {:?}", healed(&three)?);

    // Two others may die, and the third waits.
    let mut three = three;
    three.hosts.revive(&host.name)?;
    eventually(SOON, "it is taken back, and empty", || {
        let ready = three.node(&host)?["status"] == "ready";
        Ok((ready && three.containers(&host)? == 0).then_some(()))
    })?;
    let dead = die(&three, 3)?;
    eventually(
        SOON,
        "two of them are replaced",
        || Ok((healed(&three)?.len() == 5).then_some(())),
    )?;
    let waits = "too many were replaced lately";
    eventually(Duration::from_secs(60), "the third was seen, and waits", || {
        Ok(three.daemon.log()?.contains(waits).then_some(()))
    })?;
    ensure!(healed(&three)?.len() == 5, "{:?}", healed(&three)?);
    let left = units(&three.daemon, "web")?;
    ensure!(left.len() == 8, "nobody is in its place: {left:?}");
    ensure!(left.iter().all(|unit| !dead.iter().any(|id| unit["id"] == id.as_str())));
    Ok(())
}

//! An app over three hosts: spread, rebalanced, moved away from a host that goes, healed when one dies, and deployed past one that stands still.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use gantry_tests::daemon::eventually;

use super::SOON;
use super::stage::{Three, address, began, between, now, units};

/// How long a unit may be ill, and the pause between two looks, in milliseconds, as `HEALING` says; and how many looks a machine that is busy with other tests may be late.
const ILL: i64 = 2_000;
const LOOK: i64 = 1_000;
const LOOKS: i64 = 30;

/// Where the units of all apps are, by id: the app, and the address of the host.
fn places(three: &Three) -> Result<BTreeMap<String, (String, String)>> {
    let list = three.daemon.json(&["unit", "list"])?;
    let mut places = BTreeMap::new();
    for unit in list["items"].as_array().context("a list")? {
        let text = |key: &str| unit[key].as_str().map(str::to_owned).context(unit.to_string());
        places.insert(text("id")?, (text("app_name")?, text("ip")?));
    }
    Ok(places)
}

/// Spreads units anew with these words, and demands that those have been replaced for which this holds, one for one, and no others.
fn only_these_move(
    three: &Three,
    words: &[&str],
    is_named: impl Fn(&str, &str) -> bool,
) -> Result<()> {
    let before = places(three)?;
    let said = three.daemon.cli(&[&["node", "rebalance"], words].concat())?.success()?;
    ensure!(said.contains("the units are spread anew"), "{words:?}: {said}");
    let after = places(three)?;
    let named = before.iter().filter(|(_, (app, host))| is_named(app, host)).map(|(id, _)| id);
    let moved = before.keys().filter(|id| !after.contains_key(*id));
    let (named, moved): (BTreeSet<_>, BTreeSet<_>) = (named.collect(), moved.collect());
    ensure!(!named.is_empty() && named == moved, "{words:?}: {before:?}, then {after:?}");
    ensure!(after.len() == before.len(), "{words:?}: {before:?}, then {after:?}");
    Ok(())
}

/// Spreads the units of an app, of a host that is named by what is said of it, and of all.
fn those_that_are_named_move(three: &Three) -> Result<()> {
    let Three { hosts, daemon, .. } = three;
    let first = hosts.hosts.first().context("a host")?;
    daemon.cli(&["unit", "set", "web", "3"])?.success()?;
    three.app("other", 3)?;
    only_these_move(three, &["--app", "other"], |app, _| app == "other")?;
    daemon.cli(&["node", "rebalance", "--app", "nobody"])?.failure(4)?;

    daemon.cli(&["node", "update", &address(first), "--metadata", "rack=7"])?.success()?;
    only_these_move(three, &["--metadata", "rack=7"], |_, host| host == first.address)?;
    let nowhere = ["node", "rebalance", "--metadata", "rack=8"];
    let said = daemon.cli(&nowhere)?.success()?;
    ensure!(said.contains("nothing moved"), "{said}");
    daemon.cli(&["node", "update", &address(first), "--metadata", "rack="])?.success()?;

    let before = places(three)?;
    let dry = ["node", "rebalance", "--force", "--dry-run"];
    let said = daemon.cli(&dry)?.success()?;
    ensure!(said.contains("these units would move") && places(three)? == before, "{said}");
    only_these_move(three, &["--force"], |_, _| true)?;
    for app in ["web", "other"] {
        ensure!(three.counts(app)? == [1, 1, 1], "{app}: {:?}", three.spread(app)?);
    }
    Ok(())
}

/// The hosts have the certificates that they were added with when one is added again without them, and when the daemon has been started anew.
fn certificates_are_kept(three: &mut Three) -> Result<()> {
    let first = address(three.hosts.hosts.first().context("a host")?);
    let again = ["node", "add", &first, "--pool", "three", "--wait", "60"];
    three.daemon.cli(&again)?.success()?;
    // Others are tried before it is spoken to with them.
    let ca = three.hosts.certificates().join("ca.pem").to_string_lossy().into_owned();
    let refused = three.daemon.cli(&[&again[..], &["--ca-cert", &ca]].concat())?;
    ensure!(refused.code == Some(5), "{refused:?}");
    ensure!(refused.stderr.contains("with the certificates that it has"), "{refused:?}");
    three.daemon.stop()?;
    three.daemon.resume()?;
    let before = places(three)?;
    let deploy = ["app", "deploy", "web", "--image", &three.image];
    three.daemon.cli(&deploy)?.success()?;
    ensure!(three.counts("web")? == [1, 1, 1], "{:?}", three.spread("web")?);
    let replaced = units(&three.daemon, "web")?;
    let is_new = |id: &str| !before.contains_key(id);
    ensure!(replaced.iter().all(|unit| unit["id"].as_str().is_some_and(is_new)), "{replaced:?}");
    Ok(())
}

#[test]
fn units_are_spread_over_the_hosts_and_spread_anew() -> Result<()> {
    let mut three = Three::start("spread")?;
    let Three { hosts, daemon, .. } = &three;
    let [first, second, third] = hosts.hosts.as_slice() else { anyhow::bail!("three hosts") };
    three.app("web", 6)?;
    ensure!(three.counts("web")? == [2, 2, 2], "{:?}", three.spread("web")?);

    // The fullest loses first, and no host more than another.
    daemon.cli(&["unit", "remove", "web", "3"])?.success()?;
    ensure!(three.counts("web")? == [1, 1, 1], "{:?}", three.spread("web")?);
    daemon.cli(&["unit", "set", "web", "6"])?.success()?;
    ensure!(three.counts("web")? == [2, 2, 2], "{:?}", three.spread("web")?);

    // A disabled host takes nothing; what is there stays.
    daemon.cli(&["node", "update", &address(third), "--disable"])?.success()?;
    daemon.cli(&["unit", "set", "web", "8"])?.success()?;
    ensure!(three.counts("web")? == [2, 3, 3], "{:?}", three.spread("web")?);
    ensure!(three.node(third)?["status"] == "disabled", "{}", three.node(third)?);

    // Removed, its units go to the others first, and nothing is left on it.
    daemon.cli(&["node", "remove", &address(third), "-y"])?.success()?;
    ensure!(three.counts("web")? == [0, 4, 4], "{:?}", three.spread("web")?);
    ensure!(three.containers(third)? == 0, "nothing is left there");
    let nodes = daemon.json(&["node", "list"])?;
    ensure!(!nodes.to_string().contains(&third.address), "it is no node any more: {nodes}");

    // A new one is empty until somebody spreads the units; a dry run moves nothing.
    let certificates = hosts.certificates();
    let file = |name: &str| certificates.join(name).to_string_lossy().into_owned();
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let files = ["--ca-cert", &ca, "--client-cert", &cert, "--client-key", &key];
    let third_address = address(third);
    let add = ["node", "add", &third_address, "--pool", "three", "--wait", "60"];
    daemon.cli(&[&add[..], &files].concat())?.success()?;
    let before = units(daemon, "web")?;
    let dry = daemon.cli(&["node", "rebalance", "--pool", "three", "--dry-run"])?.success()?;
    ensure!(dry.contains("these units would move"), "{dry}");
    ensure!(units(daemon, "web")? == before, "a dry run moves nothing");
    daemon.cli(&["node", "rebalance", "--pool", "three"])?.success()?;
    ensure!(three.counts("web")? == [2, 3, 3], "{:?}", three.spread("web")?);
    for host in [first, second, third] {
        ensure!(three.containers(host)? == three.spread("web")?[&host.address], "one each");
    }
    let again = daemon.cli(&["node", "rebalance", "--pool", "three"])?.success()?;
    ensure!(again.contains("nothing moved"), "{again}");

    those_that_are_named_move(&three)?;
    certificates_are_kept(&mut three)
}

#[test]
fn a_host_that_dies_is_given_up_and_its_units_are_replaced_once() -> Result<()> {
    let mut three = Three::start("dies")?;
    let Three { hosts, daemon, .. } = &three;
    let dying = hosts.hosts.first().context("a host")?.clone();
    three.app("web", 6)?;
    let before = three.spread("web")?;
    ensure!(before[&dying.address] == 2, "{before:?}");

    hosts.kill(&dying)?;
    eventually(SOON, "its units are replaced on the others", || {
        Ok((three.counts("web")? == [0, 3, 3]).then_some(()))
    })?;
    let node = three.node(&dying)?;
    ensure!(node["status"] == "disabled", "it takes no units: {node}");
    let healed = three.operations("unit-heal")?;
    ensure!(healed.len() == 2, "one record each, and no more: {healed:?}");
    for operation in &healed {
        ensure!(operation["who"] == "healer" && operation["state"] == "done", "{operation}");
    }
    ensure!(three.operations("node-give-up")?.len() == 1);
    // Life goes on meanwhile.
    daemon.cli(&["app", "deploy", "web", "--image", &three.image])?.success()?;
    ensure!(three.counts("web")? == [0, 3, 3], "{:?}", three.spread("web")?);

    // It comes back with the containers that were replaced: they go, and it takes units again.
    three.hosts.revive(&dying.name)?;
    eventually(SOON, "it is taken back, and empty", || {
        let node = three.node(&dying)?;
        Ok((node["status"] == "ready" && three.containers(&dying)? == 0).then_some(()))
    })?;
    three.daemon.cli(&["unit", "add", "web", "3"])?.success()?;
    ensure!(three.counts("web")? == [3, 3, 3], "{:?}", three.spread("web")?);
    ensure!(three.operations("unit-heal")?.len() == 2, "nothing was replaced twice");
    Ok(())
}

#[test]
fn a_unit_that_dies_is_replaced_once() -> Result<()> {
    let three = Three::start("unit")?;
    let Three { hosts, daemon, .. } = &three;
    three.app("web", 3)?;
    let host = hosts.hosts.first().context("a host")?;
    let id = hosts.docker(host, &["ps", "-aq", "--no-trunc"])?.trim().to_owned();
    let died = now()?;
    hosts.docker(host, &["rm", "-f", &id])?;
    eventually(SOON, "another one is in its place", || {
        let units = units(daemon, "web")?;
        let gone = units.iter().all(|unit| unit["id"] != id.as_str());
        Ok((units.len() == 3 && gone).then_some(()))
    })?;
    let healed = three.operations("unit-heal")?;
    ensure!(healed.len() == 1, "one record: {healed:?}");
    let after = between(died, began(&healed[0])?);
    println!("a unit that died is replaced after {after} ms; it may be ill for {ILL}");
    ensure!((ILL..=ILL + LOOKS * LOOK).contains(&after), "replaced after {after} ms");
    let info = daemon.json(&["operation", "info", healed[0]["id"].as_str().context("an id")?])?;
    ensure!(info.to_string().contains("its container is gone"), "the record says why: {info}");
    Ok(())
}

#[test]
fn a_host_that_stands_still_keeps_no_deploy_from_the_others() -> Result<()> {
    let three = Three::start("still")?;
    let Three { hosts, daemon, .. } = &three;
    let still = hosts.hosts.first().context("a host")?.clone();
    three.app("web", 3)?;
    hosts.stand_still(&still)?;
    let deployed = daemon.cli(&["app", "deploy", "web", "--image", &three.image]);
    let spread = three.spread("web");
    hosts.go_on(&still)?;
    deployed?.success()?;
    ensure!(spread?[&still.address] == 0, "nothing new is there");
    ensure!(units(daemon, "web")?.len() == 3, "as many as before");
    eventually(SOON, "what it had goes once it answers", || {
        Ok((three.containers(&still)? == 0).then_some(()))
    })?;
    Ok(())
}

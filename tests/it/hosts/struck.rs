//! A host that goes down in the middle of a deploy over three, and what becomes of that deploy, of other apps, and of what was on the host.

use std::collections::BTreeSet;
use std::process::{Child, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gantry_tests::daemon::eventually;
use gantry_tests::hosts::Host;
use serde_json::Value;

use super::stage::{HEALING, Three, address, units};

/// A host that holds its connections and says nothing is waited for, call by call.
const SOON: Duration = Duration::from_secs(400);

/// How long anybody may take who has nothing to do with that host. The daemon itself waits ten seconds for what a host has.
const BESIDE: Duration = Duration::from_secs(60);

/// How long a unit that does not answer is tried.
const CONFIG: &str = "
[provisioners.docker.config.docker.healthcheck]
max-time = 30
";

/// Two apps, and a deploy of `web` whose new units run and are not well before they are let go on.
struct Struck {
    three: Three,
    /// An image whose units wait.
    waiting: String,
    /// The ids of the units of `web` before.
    before: BTreeSet<String>,
}

impl Struck {
    fn start(name: &str, units: u32) -> Result<Self> {
        let three = Three::with(name, &format!("{HEALING}{CONFIG}"))?;
        let waiting = three.image("waiting", "ENV WAIT_FOR=/gate")?;
        three.app("other", 3)?;
        ensure!(three.counts("other")? == [1, 1, 1], "{:?}", three.spread("other")?);
        three.app("web", units)?;
        let before = ids(&three, "web")?;
        Ok(Self { three, waiting, before })
    }

    /// Begins a deploy of `web`, and returns when all its new units are started, and the first that was asked has not answered.
    fn deploy(&self) -> Result<Child> {
        let daemon = &self.three.daemon;
        let deploy = daemon.begin(&["app", "deploy", "web", "--image", &self.waiting])?;
        eventually(SOON, "the new units are being checked", || {
            let running = ["operation", "list", "--app", "web", "--state", "running"];
            let running = daemon.json(&running)?;
            let Some(id) = running[0]["id"].as_str() else { return Ok(None) };
            let told = daemon.json(&["operation", "info", id])?["lines"].to_string();
            let started = told.matches("Started unit").count();
            let is_checked = told.contains("Trying again in 3s");
            Ok((started == self.before.len() && is_checked).then_some(()))
        })?;
        Ok(deploy)
    }

    /// Lets the new units go on that are on the other hosts.
    fn let_go_on(&self, struck: &Host) -> Result<()> {
        let hosts = &self.three.hosts;
        for host in hosts.hosts.iter().filter(|host| host.name != struck.name) {
            for id in self.three.ids(host, &format!("ancestor={}", self.waiting))? {
                hosts.docker(host, &["exec", &id, "/bin/busybox", "touch", "/gate"])?;
            }
        }
        Ok(())
    }

    /// Deploys the other app while a host is down: on the others.
    fn other_is_deployed(&self, struck: &Host) -> Result<()> {
        let three = &self.three;
        let image = &three.image;
        let deployed = three.daemon.cli(&["app", "deploy", "other", "--wait", "--image", image])?;
        deployed.success()?;
        let spread = three.spread("other")?;
        ensure!(spread[&struck.address] == 0, "nothing of it is there: {spread:?}");
        ensure!(spread.values().sum::<usize>() == 3, "as many as before: {spread:?}");
        Ok(())
    }

    /// Does what people do while a host says nothing: no word of theirs waits for it.
    fn others_go_on(&self, struck: &Host) -> Result<()> {
        let daemon = &self.three.daemon;
        in_time("the deploy of another app", || self.other_is_deployed(struck))?;
        let running = ["operation", "list", "--app", "web", "--state", "running"];
        ensure!(daemon.json(&running)?[0]["id"].is_string(), "it was under way meanwhile");
        let told = in_time("the list of all units", || daemon.json(&["unit", "list"]))?;
        let listed = told["items"].as_array().context("a list")?;
        let of_other = listed.iter().filter(|unit| unit["app_name"] == "other").count();
        ensure!(of_other == 3 && told["problems"].is_null(), "{told}");
        let told = in_time("the list of all nodes", || daemon.json(&["node", "list"]))?;
        let nodes = told["items"].to_string();
        let mut hosts = self.three.hosts.hosts.iter();
        ensure!(hosts.all(|host| nodes.contains(&address(host))), "{told}");
        let words = ["app", "run", "other", "--", "echo", "here"];
        let told = in_time("a command in all its units", || daemon.cli(&words)?.success())?;
        ensure!(told == "here\n".repeat(3), "{told}");
        let add = ["unit", "add", "other", "1", "--wait"];
        in_time("one more unit of it", || daemon.cli(&add)?.success())?;
        let spread = self.three.spread("other")?;
        ensure!(spread[&struck.address] == 0, "nothing of it is there: {spread:?}");
        let set = ["unit", "set", "other", "3", "--wait"];
        in_time("one less", || daemon.cli(&set)?.success())?;
        Ok(())
    }

    /// The units of an app that were replaced because they died, by the record, once none of it is being replaced.
    fn healed(&self, app: &str) -> Result<Vec<String>> {
        let healed = eventually(SOON, "all replacements have ended", || {
            let mut healed = self.three.operations("unit-heal")?;
            healed.retain(|one| one["app"] == app);
            Ok(healed.iter().all(|one| one["state"] != "running").then_some(healed))
        })?;
        let done = healed.iter().filter(|one| one["state"] == "done");
        done.map(|one| Ok(one["detail"]["unit"].as_str().context("a unit")?.to_owned())).collect()
    }

    /// Waits until nothing of an app is on a host that is given up, and as much as before is on the others.
    fn until_elsewhere(&self, app: &str, struck: &Host, count: usize) -> Result<()> {
        eventually(SOON, "its units are on the others", || {
            let given_up = self.three.node(struck)?["status"] == "disabled";
            let spread = self.three.spread(app)?;
            let all = spread.values().sum::<usize>() == count;
            Ok((given_up && all && spread[&struck.address] == 0).then_some(()))
        })
        .with_context(|| format!("{:?}", self.three.spread(app)))
    }

    /// Waits until a host that is back is taken back, and demands that nothing is anywhere that no unit owns.
    fn until_in_order(&self, struck: &Host) -> Result<()> {
        let three = &self.three;
        eventually(SOON, "it is taken back, and what was left there goes", || {
            let ready = three.node(struck)?["status"] == "ready";
            let counts = (ids(three, "web")?.len(), ids(three, "other")?.len());
            let is_whole = counts == (self.before.len(), 3);
            Ok((ready && three.containers(struck)? == 0 && is_whole).then_some(()))
        })?;
        three.nothing_else(&["web", "other"])
    }
}

fn ids(three: &Three, app: &str) -> Result<BTreeSet<String>> {
    let id = |unit: &Value| Ok(unit["id"].as_str().context("a unit has an id")?.to_owned());
    units(&three.daemon, app)?.iter().map(id).collect()
}

/// Does something while a host says nothing, and demands that it does not wait for it.
fn in_time<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let done = work().with_context(|| what.to_owned())?;
    let took = begun.elapsed();
    println!("beside a host that stands still, {what} took {took:.1?}");
    ensure!(took <= BESIDE, "{what} took {took:?}");
    Ok(done)
}

fn complaint(output: Output) -> Result<(Option<i32>, String)> {
    Ok((output.status.code(), String::from_utf8(output.stderr)?))
}

#[test]
fn a_deploy_onto_a_host_that_is_killed_fails_and_is_undone_and_no_other_is_harmed() -> Result<()> {
    let mut struck = Struck::start("killed", 3)?;
    let host = struck.three.hosts.hosts.first().context("a host")?.clone();
    ensure!(struck.three.counts("web")? == [1, 1, 1], "{:?}", struck.three.spread("web")?);
    let there = struck.three.ids(&host, "label=app-name=web")?;
    let deploy = struck.deploy()?;
    struck.three.hosts.kill(&host)?;
    struck.other_is_deployed(&host)?;

    let (code, told) = complaint(deploy.wait_with_output()?)?;
    ensure!(code == Some(6) && told.contains(&host.address), "{code:?} {told}");
    struck.until_elsewhere("web", &host, 3)?;
    ensure!(struck.healed("web")?.iter().cloned().collect::<BTreeSet<_>>() == there, "the old one");
    let after = ids(&struck.three, "web")?;
    ensure!(after.intersection(&struck.before).count() == 2, "the others serve on: {after:?}");
    for other in struck.three.hosts.hosts.iter().filter(|other| other.name != host.name) {
        let new = struck.three.ids(other, &format!("ancestor={}", struck.waiting))?;
        ensure!(new.is_empty(), "what was new is undone: {new:?}");
    }

    struck.three.hosts.revive(&host.name)?;
    struck.until_in_order(&host)?;
    ensure!(struck.healed("web")?.len() == 1, "it is replaced once: {:?}", struck.healed("web")?);
    Ok(())
}

#[test]
fn a_deploy_away_from_a_host_that_is_killed_ends_well_and_its_old_unit_is_not_healed() -> Result<()>
{
    let mut struck = Struck::start("left", 1)?;
    let spread = struck.three.spread("web")?;
    let home = spread.iter().find(|(_, count)| **count == 1).context("it is somewhere")?;
    let host = struck.three.host(home.0)?;
    let deploy = struck.deploy()?;
    let on_it = struck.three.ids(&host, "label=app-name=web")?;
    ensure!(on_it == struck.before, "only the old unit is there: {on_it:?}");
    struck.three.hosts.kill(&host)?;
    struck.let_go_on(&host)?;
    let (code, told) = complaint(deploy.wait_with_output()?)?;
    ensure!(code == Some(0), "{code:?} {told}");
    let new = ids(&struck.three, "web")?;
    ensure!(new.len() == 1 && new.is_disjoint(&struck.before), "one for one: {new:?} {told}");

    // The units of the other app are replaced in the same look that would find one of this.
    struck.until_elsewhere("other", &host, 3)?;
    ensure!(struck.healed("other")?.len() == 1, "{:?}", struck.healed("other")?);
    ensure!(struck.healed("web")?.is_empty(), "it was replaced already");
    ensure!(ids(&struck.three, "web")? == new, "{:?}", units(&struck.three.daemon, "web")?);

    struck.three.hosts.revive(&host.name)?;
    struck.until_in_order(&host)?;
    ensure!(ids(&struck.three, "web")? == new && struck.healed("web")?.is_empty());
    Ok(())
}

#[test]
fn a_deploy_onto_a_host_that_stands_still_fails_and_is_undone_and_no_other_waits() -> Result<()> {
    let struck = Struck::start("frozen", 3)?;
    let host = struck.three.hosts.hosts.first().context("a host")?.clone();
    ensure!(struck.three.counts("web")? == [1, 1, 1], "{:?}", struck.three.spread("web")?);
    let deploy = struck.deploy()?;
    struck.three.hosts.stand_still(&host)?;
    struck.let_go_on(&host)?;
    struck.others_go_on(&host)?;

    let (code, told) = complaint(deploy.wait_with_output()?)?;
    ensure!(code == Some(1) && told.contains("healthcheck fail("), "{code:?} {told}");
    struck.until_elsewhere("web", &host, 3)?;
    struck.three.hosts.go_on(&host)?;
    struck.until_in_order(&host)?;
    let after = ids(&struck.three, "web")?;
    ensure!(after.intersection(&struck.before).count() == 2, "the others serve on: {after:?}");
    let healed = struck.healed("web")?;
    ensure!(healed.len() == 1, "the one that was there is replaced once: {healed:?}");
    Ok(())
}

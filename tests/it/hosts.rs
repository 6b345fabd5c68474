//! Docker hosts that die, over TCP with mutual TLS.

mod images;
mod limits;
mod stage;
mod struck;
mod three;
mod throttle;
mod verbs;

use std::time::Duration;

use anyhow::{Result, ensure};
use gantry_tests::artifacts::image;
use gantry_tests::daemon::{Daemon, docker, eventually};
use gantry_tests::hosts::Hosts;

const SOON: Duration = Duration::from_secs(90);

#[test]
fn a_host_over_tls_that_dies_in_a_deploy_is_told_and_is_in_order_when_it_comes_back() -> Result<()>
{
    image("gantry-test/tls:good", "good", "")?;
    image("gantry-test/tls:never", "never", "ENV WAIT_FOR=/never")?;
    let mut hosts = Hosts::start(1)?;
    let [host] = hosts.hosts.as_slice() else { anyhow::bail!("one host was asked for") };
    let host = &host.clone();
    hosts.load(host, "gantry-test/tls:good")?;
    hosts.load(host, "gantry-test/tls:never")?;
    docker(&["rmi", "gantry-test/tls:good", "gantry-test/tls:never"])?;
    let daemon = Daemon::with_docker(&format!(
        "[[docker.hosts]]\naddress = \"tcp://{}:2376\"\ntls = {:?}\n",
        host.address,
        hosts.certificates()
    ))?;
    daemon.cli(&["app", "create", "tls"])?.success()?;
    daemon.cli(&["app", "deploy", "tls", "--image", "gantry-test/tls:good"])?.success()?;
    let units = daemon.cli(&["unit", "list", "tls", "--output", "json"])?.success()?;
    ensure!(units.contains(&host.address), "units answer on their host: {units}");

    let deploy = daemon.begin(&["app", "deploy", "tls", "--image", "gantry-test/tls:never"])?;
    eventually(SOON, "the new unit starts", || {
        Ok((hosts.docker(host, &["ps", "-q"])?.lines().count() == 2).then_some(()))
    })?;
    hosts.kill(host)?;
    let output = deploy.wait_with_output()?;
    let stderr = String::from_utf8(output.stderr)?;
    ensure!(
        output.status.code() == Some(6),
        "the engine is unreachable: {:?} {stderr}",
        output.status.code()
    );
    ensure!(stderr.contains(&host.address), "the error names the host: {stderr}");
    // Nobody else is harmed: the daemon answers what it can.
    daemon.cli(&["app", "list"])?.success()?;
    daemon.cli(&["operation", "list"])?.success()?;

    hosts.revive(&host.name)?;
    eventually(SOON, "what the deploy had made is removed", || {
        Ok((hosts.docker(host, &["ps", "-aq"])?.lines().count() == 1).then_some(()))
    })?;
    daemon.cli(&["unit", "add", "tls", "1"])?.success()?;
    daemon.cli(&["app", "deploy", "tls", "--image", "gantry-test/tls:good"])?.success()?;
    let units = daemon.json(&["unit", "list", "tls"])?;
    let count = units.as_array().map(Vec::len);
    ensure!(count == Some(2), "one from before and one more: {units}");
    ensure!(hosts.docker(host, &["ps", "-aq"])?.lines().count() == 2, "and nothing else");
    daemon.cli(&["app", "log", "tls"])?.success()?;
    Ok(())
}

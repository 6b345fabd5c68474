//! What Docker may answer, and what a disk may refuse, in the path of a deploy and of a start: the real daemon and command line, over a peer that answers as it is told.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry_tests::artifacts::image;
use gantry_tests::daemon::{Daemon, docker, eventually, http_get};
use gantry_tests::peer::{Failure, Peer};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);

/// A daemon over a peer with two images, and more configuration.
async fn over_a_peer(more: &str) -> Result<(Peer, Daemon)> {
    let peer = Peer::start().await?;
    for name in ["shop:1", "shop:2"] {
        peer.add_image(name, json!({"Cmd": ["serve"], "ExposedPorts": {"8888/tcp": {}}}));
    }
    let config = format!("{more}[[docker.hosts]]\naddress = {:?}\n", peer.address());
    let daemon = Daemon::with_docker(&config)?;
    daemon.cli(&["app", "create", "shop"])?.success()?;
    Ok((peer, daemon))
}

fn units(daemon: &Daemon, app: &str) -> Result<usize> {
    Ok(daemon.json(&["unit", "list", app])?.as_array().context("a list of units")?.len())
}

fn failure(method: &'static str, path_end: &'static str, status: u16) -> Failure {
    Failure { method, path_end, status, message: "the engine is out of sorts" }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_docker_answers_in_a_deploy_is_told_and_leaves_the_app_as_it_was() -> Result<()> {
    let (peer, daemon) = over_a_peer("").await?;
    daemon.cli(&["app", "deploy", "shop", "--image", "shop:1"])?.success()?;
    daemon.cli(&["unit", "add", "shop", "1"])?.success()?;
    let before = peer.containers();
    for (method, path_end) in
        [("POST", "/containers/create"), ("POST", "/start"), ("GET", "/containers/json")]
    {
        for status in [404, 409, 500] {
            peer.fail(vec![failure(method, path_end, status)]);
            let finished = daemon.cli(&["app", "deploy", "shop", "--image", "shop:2"])?;
            peer.fail(Vec::new());
            let about = format!("{method} {path_end} {status}: {finished:?}");
            ensure!(finished.code.is_some_and(|code| code != 0), "{about}");
            ensure!(finished.stderr.contains("the engine is out of sorts"), "{about}");
            ensure!(finished.stderr.contains("\nhint: "), "{about}");
            assert_eq!(peer.containers(), before, "{about}");
            assert_eq!(units(&daemon, "shop")?, 2, "{about}");
        }
    }
    daemon.cli(&["app", "deploy", "shop", "--image", "shop:2"])?.success()?;
    assert_eq!((units(&daemon, "shop")?, peer.containers().len()), (2, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_units_that_docker_does_not_let_go_are_told_and_go_with_the_next_change() -> Result<()>
{
    let (peer, daemon) = over_a_peer("").await?;
    daemon.cli(&["app", "deploy", "shop", "--image", "shop:1"])?.success()?;
    daemon.cli(&["unit", "add", "shop", "1"])?.success()?;
    let old = peer.containers();
    // A removal has the container itself as its path.
    let ids: Vec<&'static str> = old.keys().map(|id| &*id.clone().leak()).collect();
    peer.fail(ids.iter().map(|id| failure("DELETE", id, 500)).collect());
    let told = daemon.cli(&["app", "deploy", "shop", "--image", "shop:2"])?;
    ensure!(told.code == Some(0), "the new version serves: {told:?}");
    ensure!(told.stderr.contains("Could not remove unit"), "{told:?}");
    assert_eq!(peer.containers().len(), 4);
    // They do not count: the next version has as many units as this one.
    daemon.cli(&["app", "deploy", "shop", "--image", "shop:1"])?.success()?;
    assert_eq!(peer.containers().len(), 4);
    peer.fail(Vec::new());
    daemon.cli(&["app", "restart", "shop"])?.success()?;
    assert_eq!((units(&daemon, "shop")?, peer.containers().len()), (2, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_docker_makes_a_deploy_slow_and_nothing_else() -> Result<()> {
    let (peer, daemon) = over_a_peer("").await?;
    peer.slow(Duration::from_millis(300));
    daemon.cli(&["app", "deploy", "shop", "--image", "shop:1"])?.success()?;
    daemon.cli(&["app", "deploy", "shop", "--image", "shop:2"])?.success()?;
    assert_eq!((units(&daemon, "shop")?, peer.containers().len()), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_docker_that_is_just_starting_keeps_no_provisioner_from_serving() -> Result<()> {
    let (peer, mut daemon) = over_a_peer("").await?;
    daemon.cli(&["app", "deploy", "shop", "--image", "shop:1"])?.success()?;
    for status in [500, 503] {
        daemon.stop()?;
        peer.fail(vec![failure("GET", "/containers/json", status)]);
        daemon.resume()?;
        assert_eq!(units(&daemon, "shop")?, 1, "as it was written down");
        peer.fail(Vec::new());
        daemon.cli(&["app", "deploy", "shop", "--image", "shop:2"])?.success()?;
        assert_eq!((units(&daemon, "shop")?, peer.containers().len()), (1, 1));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provisioner_that_did_not_start_is_tried_again_by_itself() -> Result<()> {
    let (peer, mut daemon) = over_a_peer("").await?;
    daemon.cli(&["app", "deploy", "shop", "--image", "shop:1"])?.success()?;
    for status in [404, 409] {
        daemon.stop()?;
        peer.fail(vec![failure("GET", "/containers/json", status)]);
        daemon.resume()?;
        let told = daemon.cli(&["app", "deploy", "shop", "--image", "shop:2"])?;
        ensure!(told.code.is_some_and(|code| code != 0), "{told:?}");
        ensure!(told.stderr.contains("the provisioner `docker` does not serve"), "{told:?}");
        ensure!(told.stderr.contains("\nhint: it is tried again by itself"), "{told:?}");
        peer.fail(Vec::new());
        eventually(SOON, "it serves again", || {
            let asked = daemon.cli(&["unit", "list", "shop"])?;
            Ok((asked.code == Some(0)).then_some(()))
        })?;
        daemon.cli(&["app", "deploy", "shop", "--image", "shop:2"])?.success()?;
        assert_eq!(peer.containers().len(), 1);
    }
    Ok(())
}

/// A deploy of the second image over a unit of the first, which the engine answers until a request with such a path.
fn hanging_deploy(peer: &Peer, daemon: &Daemon, path_end: &'static str) -> Result<Child> {
    daemon.cli(&["app", "deploy", "shop", "--image", "shop:1"])?.success()?;
    peer.hang(Some(path_end));
    let deploy = daemon.begin(&["app", "deploy", "shop", "--image", "shop:2"])?;
    eventually(SOON, "the engine has stopped to answer", || Ok(peer.hangs().then_some(())))?;
    Ok(deploy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_cannot_even_undo_says_so_and_the_next_start_is_in_order() -> Result<()> {
    let short = "[operations]\ngrace = \"1s\"\nundo = \"1s\"\n";
    let (peer, mut daemon) = over_a_peer(short).await?;
    let mut deploy = hanging_deploy(&peer, &daemon, "/start")?;
    let both = peer.containers();
    assert_eq!(both.len(), 2, "the new unit is made and not started");
    daemon.signal("TERM")?;
    let status = daemon.wait(2 * SOON)?;
    let log = daemon.log()?;
    assert_eq!(status.code(), Some(7), "{log}");
    ensure!(log.contains("1 operations did not end in time"), "{log}");
    ensure!(deploy.wait()?.code() != Some(0), "its client knows that it is not done");
    assert_eq!(peer.containers(), both, "nobody could clean up");

    peer.hang(None);
    daemon.resume()?;
    assert_eq!((units(&daemon, "shop")?, peer.containers().len()), (1, 1));
    ensure!(peer.containers().values().all(|running| *running), "the old unit serves on");
    daemon.cli(&["app", "deploy", "shop", "--image", "shop:2"])?.success()?;
    assert_eq!((units(&daemon, "shop")?, peer.containers().len()), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_before_the_first_old_unit_goes_finishes_at_its_start() -> Result<()> {
    let (peer, mut daemon) = over_a_peer("").await?;
    // The new image is written down, and no old unit has gone.
    let mut deploy = hanging_deploy(&peer, &daemon, "/stop")?;
    assert_eq!(peer.containers().len(), 2);
    daemon.signal("KILL")?;
    daemon.wait(SOON)?;
    deploy.wait()?;
    assert_eq!(peer.containers().len(), 2, "nobody cleans up after a kill");
    peer.hang(None);
    daemon.resume()?;
    assert_eq!((units(&daemon, "shop")?, peer.containers().len()), (1, 1));
    let info = daemon.cli(&["app", "info", "shop"])?.success()?;
    ensure!(info.contains("shop:2"), "{info}");
    daemon.cli(&["app", "deploy", "shop", "--image", "shop:1"])?.success()?;
    assert_eq!((units(&daemon, "shop")?, peer.containers().len()), (1, 1));
    Ok(())
}

/// A small disk. It is gone when this is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf) -> Result<Self> {
        std::fs::create_dir(&path)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m,mode=700", "none"]).arg(&path);
        ensure!(mount.status()?.success(), "could not mount {path:?}");
        Ok(Self(path))
    }

    /// Writes until there is no room.
    fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::create(self.0.join("full"))?;
        let error = std::io::copy(&mut std::io::repeat(0), &mut file).err();
        let kind = error.context("an endless file fits")?.kind();
        ensure!(kind == std::io::ErrorKind::StorageFull, "{kind}");
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.0.join("full"))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the daemon may still have files open there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_fills_up_in_a_deploy_fails_it_and_keeps_the_old_units() -> Result<()> {
    image("gantry-test/full:v1", "good", "")?;
    image("gantry-test/full:slow", "slow", "ENV WAIT_FOR=/go")?;
    let folder = tempfile::Builder::new().prefix("gantry-test-").tempdir()?;
    let disk = Disk::mount(folder.path().join("data"))?;
    // The disk goes first: a folder that is mounted on cannot be removed.
    let (mut daemon, disk) = (Daemon::start_in(folder, "")?, disk);
    let plugin = gantry_tests::artifacts::docker_plugin()?;
    daemon.cli(&["plugin", "install", "docker", &plugin.to_string_lossy()])?.success()?;
    daemon.cli(&["app", "create", "full"])?.success()?;
    daemon.cli(&["app", "deploy", "full", "--image", "gantry-test/full:v1"])?.success()?;
    let mut deploy =
        daemon.begin(&["app", "deploy", "full", "--image", "gantry-test/full:slow"])?;
    let running = || -> Result<Vec<String>> {
        let all = daemon.containers()?.into_iter();
        Ok(all.filter(|(_, what)| what == "full/web/running").map(|(id, _)| id).collect())
    };
    eventually(SOON, "the new unit runs", || Ok((running()?.len() == 2).then_some(())))?;
    disk.fill()?;
    for id in running()? {
        docker(&["exec", &id, "sh", "-c", ": > /go"])?;
    }
    eventually(SOON, "the new unit is removed", || Ok((running()?.len() == 1).then_some(())))?;
    let refused = daemon.cli(&["app", "stop", "full"])?;
    ensure!(refused.code.is_some_and(|code| code != 0), "{refused:?}");
    ensure!(refused.stderr.contains("\nhint: "), "{refused:?}");
    daemon.cli(&["app", "list"])?.success()?;

    disk.make_room()?;
    ensure!(!deploy.wait()?.success(), "its end is told once it can be written down");
    let info = daemon.json(&["app", "info", "full"])?;
    let address = info["addresses"][0].as_str().context("it has an address")?;
    assert_eq!(http_get(address)?.1.trim_end(), "good");
    ensure!(info.to_string().contains("full:v1"), "{info}");

    // A start without room is refused with what to do; with room everything is there.
    daemon.stop()?;
    disk.fill()?;
    let error = daemon.resume().err().context("it starts without room")?.to_string();
    ensure!(error.contains("did not start"), "{error}");
    let log = daemon.log()?;
    ensure!(log.contains("error: cannot serve") && log.contains("\nhint: "), "{log}");
    disk.make_room()?;
    daemon.resume()?;
    daemon.cli(&["app", "deploy", "full", "--image", "gantry-test/full:v1"])?.success()?;
    drop(daemon);
    docker(&["rmi", "-f", "gantry-test/full:v1", "gantry-test/full:slow"])?;
    Ok(())
}

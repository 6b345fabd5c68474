//! Both backends in one daemon.

use anyhow::{Result, ensure};
use gantry_tests::artifacts;
use gantry_tests::daemon::{docker, eventually};

use super::{Kube, SOON, told};

/// Waits until nothing of the app is on the cluster: what makes others goes a moment after them.
fn until_gone(kube: &Kube) -> Result<()> {
    for kind in ["deployments", "pods", "services", "serviceaccounts"] {
        eventually(SOON, kind, || Ok(kube.objects("moves", kind)?.is_empty().then_some(())))?;
    }
    Ok(())
}

#[test]
fn apps_of_both_backends_serve_in_one_daemon_and_move_from_one_to_the_other() -> Result<()> {
    let kube = Kube::shared("[pools.default]\nprovisioner = \"docker\"\n")?;
    let images = ["v1", "v2"]
        .map(|tag| kube.cluster.image(&format!("gantry-test/kube-moves:{tag}"), tag, ""));
    let [one, two] = images;
    let (one, two) = (one?, two?);
    let plugin = artifacts::docker_plugin()?;
    kube.done(&["plugin", "install", "docker", &plugin.to_string_lossy()])?;
    kube.app("stays", &one.name, 1)?;
    kube.done(&["app", "create", "moves", "--pool", "default"])?;
    kube.done(&["app", "deploy", "moves", "--image", &one.name])?;
    kube.done(&["unit", "add", "moves", "1"])?;
    kube.until_answers("moves", "v1")?;
    assert_eq!(kube.daemon.containers()?.len(), 2);
    assert_eq!(kube.pods("moves")?.len(), 0);

    kube.done(&["app", "update", "moves", "--pool", "kube"])?;
    kube.until_answers("moves", "v1")?;
    let info = kube.daemon.json(&["app", "info", "moves"])?;
    assert_eq!((&info["provisioner"], &info["pool"]), (&"kubernetes".into(), &"kube".into()));
    assert_eq!((kube.daemon.containers()?.len(), kube.units("moves")?.len()), (0, 2));
    kube.done(&["app", "deploy", "moves", "--image", &two.name])?;
    kube.until_answers("moves", "v2")?;

    kube.done(&["app", "update", "moves", "--pool", "default"])?;
    kube.until_answers("moves", "v2")?;
    assert_eq!(kube.daemon.containers()?.len(), 2);
    until_gone(&kube)?;
    // A move that fails leaves the app where it is.
    docker(&["tag", &two.name, "127.0.0.1:1/kube-moves:here"])?;
    kube.done(&["app", "deploy", "moves", "--image", "127.0.0.1:1/kube-moves:here"])?;
    let poll = kube.poll("moves", "v2")?;
    let update = kube.daemon.cli(&["app", "update", "moves", "--pool", "kube"])?;
    told(update, 1, "could not move `moves` to the pool `kube`", &["ErrImagePull"])?;
    println!("asked the units {} times while a move failed, 0 failures", poll.finish()?);
    until_gone(&kube)?;
    // The other one was in none of it.
    kube.until_answers("stays", "v1")?;
    for app in ["moves", "stays"] {
        kube.done(&["app", "remove", app, "-y"])?;
    }
    ensure!(kube.daemon.containers()?.is_empty());
    docker(&["rmi", "127.0.0.1:1/kube-moves:here"])?;
    Ok(())
}

//! What a cluster refuses, and clusters that refuse everything.

use anyhow::{Result, ensure};

use super::{Kube, VOLUMES, told, until_volume_gone};

/// One of the two backends is asked for all of it: hints name what to look at for both.
const CLUSTERS: &str = "`gantry cluster info NAME` tells whether a cluster answers";

#[test]
fn a_cluster_that_cannot_be_spoken_to_is_told_by_its_address_and_the_daemon_serves_on() -> Result<()>
{
    let kube = Kube::shared("")?;
    let image = kube.cluster.image("gantry-test/kube-refused:v1", "one", "")?;
    kube.app("fine", &image.name, 1)?;
    let kubeconfig = kube.cluster.kubeconfig().to_string_lossy().into_owned();
    let token = kube.daemon.folder.path().join("token");
    std::fs::write(&token, "sesame")?;
    let token = token.to_string_lossy().into_owned();
    let context = |name| vec!["--kubeconfig", &*kubeconfig, "--context", name];
    let nowhere = vec!["--address", "https://127.0.0.1:1", "--token-file", &*token];
    // What it is called, how it is reached, its namespace, and what is told.
    let cases: [(&str, Vec<&str>, &str, &[&str]); 4] = [
        ("nobody", nowhere, "default", &["https://127.0.0.1:1", "cannot be reached"]),
        ("expired", context("expired"), "default", &["does not know the credentials", "expired"]),
        ("wrong", context("wrong-token"), "default", &["does not know the credentials"]),
        ("limited", context("limited"), "kube-public", &["forbidden", "limited", "kube-public"]),
    ];
    for (name, place, namespace, why) in cases {
        let pool = format!("pool-{name}");
        kube.done(&["pool", "create", &pool, "--provisioner", "kubernetes"])?;
        let add = ["cluster", "add", name, "--provisioner", "kubernetes", "--pool", &pool];
        kube.done(&[add.as_slice(), &["--namespace", namespace], &place].concat())?;
        let info = kube.daemon.cli(&["cluster", "info", name])?;
        ensure!(info.stdout.contains("Answers:      no"), "{info:?}");
        ensure!(why.iter().all(|why| info.stderr.contains(why)), "{info:?}");
        if name == "nobody" {
            // It hides the nodes of no other one.
            let nodes = kube.daemon.cli(&["node", "list"])?;
            let node = super::broken::address_of(&kube, "node1")?;
            ensure!(nodes.stdout.lines().any(|line| line.starts_with(&node)), "{nodes:?}");
            ensure!(why.iter().all(|why| nodes.stderr.contains(why)), "{nodes:?}");
            assert_eq!(nodes.code, Some(6), "{nodes:?}");
        }
        let app = format!("on-{name}");
        kube.done(&["app", "create", &app, "--pool", &pool])?;
        let deploy = kube.daemon.cli(&["app", "deploy", &app, "--image", &image.name])?;
        let text = told(deploy, 6, &format!("could not deploy `{app}`"), why)?;
        ensure!(text.contains(CLUSTERS), "{text}");
        ensure!(!text.contains("sesame"), "{text}");
        // What runs elsewhere is not touched by it.
        kube.done(&["unit", "list", "fine"])?;
        kube.done(&["cluster", "remove", name, "-y"])?;
        kube.done(&["app", "remove", &app, "-y"])?;
    }
    kube.done(&["app", "deploy", "fine", "--image", &image.name])?;
    kube.until_answers("fine", "one")?;
    kube.done(&["app", "remove", "fine", "-y"])?;
    Ok(())
}

#[test]
fn an_object_that_is_too_large_or_invalid_is_told_in_the_clusters_words() -> Result<()> {
    let kube = Kube::shared(VOLUMES)?;
    let good = kube.cluster.image("gantry-test/kube-invalid:v1", "one", "")?;
    let ftp = "RUN printf 'healthcheck:\\n  path: /\\n  scheme: ftp\\n' >/home/application/current/tsuru.yaml";
    let ftp = kube.cluster.image("gantry-test/kube-invalid:ftp", "ftp", ftp)?;
    kube.app("invalid", &good.name, 1)?;
    let before = kube.units("invalid")?;
    let poll = kube.poll("invalid", "one")?;
    let deploy = |image: &str| kube.daemon.cli(&["app", "deploy", "invalid", "--image", image]);
    let what = "could not deploy `invalid`";

    told(deploy(&ftp.name)?, 2, what, &["scheme", "\"FTP\"", "\"HTTP\", \"HTTPS\""])?;

    let path = format!("path={}", kube.daemon.folder.path().display());
    let create = ["volume", "create", "odd", "folder", "--pool", "kube", "--opt", &path];
    kube.done(&[create.as_slice(), &["--opt", "access-modes=Often"]].concat())?;
    let bind = kube.daemon.cli(&["volume", "bind", "odd", "invalid", "/data"])?;
    let why = "could not give the volume `odd` to `invalid`";
    told(bind, 2, why, &["spec.accessModes", "\"Often\""])?;
    // Nothing has it, so it can go.
    kube.done(&["volume", "remove", "odd", "-y"])?;
    until_volume_gone(&kube, "odd")?;

    // A request of the daemon has less than an object may: this takes two.
    let value = "x".repeat(100_000);
    for half in ["A", "B"] {
        let variables: Vec<String> = (0..9).map(|count| format!("{half}{count}={value}")).collect();
        let mut set = vec!["env", "set", "invalid", "--no-restart"];
        set.extend(variables.iter().map(String::as_str));
        kube.done(&set)?;
    }
    let text = told(deploy(&good.name)?, 2, what, &["Deployment.apps", "too large"])?;
    ensure!(text.len() < 10_000, "what was sent is not told: {} bytes", text.len());

    println!("asked the units {} times while deploys were refused, 0 failures", poll.finish()?);
    assert_eq!(kube.units("invalid")?, before, "none of it touched the units");
    kube.done(&["app", "remove", "invalid", "-y"])?;
    Ok(())
}

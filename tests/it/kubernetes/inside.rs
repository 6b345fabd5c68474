//! A daemon that runs in the cluster: it is there what its service account is.

use std::fs;

use anyhow::{Context, Result, ensure};
use gantry_tests::artifacts;
use gantry_tests::clusters::Cluster;
use gantry_tests::daemon::{Daemon, eventually};
use serde_json::{Value, json};

use super::{Kube, Labelled, SOON, told};

/// What a container of a pod finds, made in a mount namespace of the daemon's own: HOST PORT ACCOUNT DAEMON...
const CONTAINER: &str = "
mount -t tmpfs tmpfs /var/run
mkdir -p /var/run/secrets/kubernetes.io
ln -s \"$3\" /var/run/secrets/kubernetes.io/serviceaccount
export KUBERNETES_SERVICE_HOST=$1 KUBERNETES_SERVICE_PORT=$2
shift 3
exec \"$@\"";

/// A daemon that could run in a pod, with nothing in the folder of its account yet.
fn start(cluster: Cluster) -> Result<Kube> {
    let folder = tempfile::Builder::new().prefix("gantry-test-").tempdir()?;
    let account = folder.path().join("account");
    fs::create_dir(&account)?;
    let path = "jsonpath={.clusters[0].cluster.server}";
    let server = cluster.ask(&["config", "view", "--minify", "-o", path])?;
    let server = server.strip_prefix("https://").and_then(|server| server.rsplit_once(':'));
    let (host, port) = server.context("a server at https://HOST:PORT")?;
    let account = account.to_string_lossy();
    let by = ["unshare", "--mount", "bash", "-euc", CONTAINER, "container", host, port, &account];
    let daemon = Daemon::start_by(folder, "", &by)?;
    Ok(Kube { cluster, daemon, _nodes: None })
}

/// Makes an object of the test's own, which goes with it.
fn make(kube: &Kube, mut object: Value) -> Result<()> {
    object["metadata"] =
        json!({"name": "gantry-inside", "labels": {"gantry.instance": kube.daemon.instance}});
    let file = kube.daemon.folder.path().join("object.json");
    fs::write(&file, object.to_string())?;
    kube.cluster.ask(&["create", "-f", &file.to_string_lossy()]).map(drop)
}

/// Makes the account, and puts into its folder what a kubelet would.
fn make_account(kube: &Kube) -> Result<()> {
    make(kube, json!({"apiVersion": "v1", "kind": "ServiceAccount"}))?;
    let ca = ["get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}"];
    let token = ["create", "token", "gantry-inside"];
    let folder = kube.daemon.folder.path().join("account");
    fs::write(folder.join("ca.crt"), kube.cluster.ask(&ca)?)?;
    fs::write(folder.join("token"), kube.cluster.ask(&token)?.trim())?;
    fs::write(folder.join("namespace"), "default")?;
    Ok(())
}

fn rule(group: &str, kinds: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": kinds, "verbs": verbs})
}

/// Gives the account what the provisioner needs for apps and nodes, and no more.
fn permit(kube: &Kube) -> Result<()> {
    let read = ["get", "list", "watch"];
    let all = ["get", "list", "watch", "create", "patch", "delete"];
    let rules = [
        rule("apps", &["deployments", "replicasets", "daemonsets"], &all),
        rule("", &["pods", "services", "serviceaccounts", "nodes"], &all),
        rule("", &["events", "namespaces"], &read),
        rule("", &["pods/log", "pods/exec"], &["get", "create"]),
    ];
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    make(kube, json!({"apiVersion": version, "kind": "ClusterRole", "rules": rules}))?;
    make(
        kube,
        json!({
            "apiVersion": version,
            "kind": "ClusterRoleBinding",
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "gantry-inside"},
            "subjects": [{"kind": "ServiceAccount", "name": "gantry-inside", "namespace": "default"}],
        }),
    )
}

#[test]
fn a_daemon_in_the_cluster_is_its_service_account_there() -> Result<()> {
    let mut kube = start(Cluster::given()?)?;
    let image = kube.cluster.image("gantry-test/kube-inside:v1", "one", "")?;
    let plugin = artifacts::kubernetes_plugin()?;
    kube.done(&["plugin", "install", "kubernetes", &plugin.to_string_lossy(), "--grant-asked"])?;
    kube.done(&["pool", "create", "kube", "--provisioner", "kubernetes"])?;
    let add = ["cluster", "add", "here", "--in-cluster", "--provisioner", "kubernetes"];
    let add = || kube.daemon.cli(&[add.as_slice(), &["--pool", "kube"]].concat());
    told(add()?, 2, "could not add the cluster `here`", &["runs in no cluster"])?;

    make_account(&kube)?;
    add()?.success()?;
    let we = "system:serviceaccount:default:gantry-inside";
    let info = kube.daemon.cli(&["cluster", "info", "here"])?;
    ensure!(info.stdout.contains("Answers:      no") && info.stderr.contains(we), "{info:?}");
    kube.done(&["app", "create", "inside", "--pool", "kube"])?;
    let deploy = kube.daemon.cli(&["app", "deploy", "inside", "--image", &image.name])?;
    told(deploy, 6, "could not deploy `inside`", &["forbidden", we])?;

    permit(&kube)?;
    eventually(SOON, "the account may look", || {
        let info = kube.daemon.cli(&["cluster", "info", "here"])?;
        Ok(info.stdout.contains("Answers:      yes").then_some(()))
    })?;
    kube._nodes = Some(Labelled::hold(&kube.cluster, &kube.daemon)?);
    kube.done(&["app", "deploy", "inside", "--image", &image.name])?;
    kube.until_answers("inside", "one")?;
    let (unit, _) = kube.units("inside")?.pop_first().context("it has a unit")?;
    assert_eq!(kube.done(&["app", "run", "inside", "--", "hostname"])?, format!("{unit}\n"));
    kube.done(&["app", "remove", "inside", "-y"])?;
    Ok(())
}

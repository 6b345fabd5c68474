//! Kubernetes clusters for tests: one that is there for all of them, and clusters of a test's own, which it may break.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::artifacts::{image, top};
use crate::daemon::docker;

/// A cluster. One of the test's own is gone with everything on it when this is dropped.
pub struct Cluster {
    own: Option<TempDir>,
    kubeconfig: PathBuf,
    kubectl: Vec<PathBuf>,
}

impl Cluster {
    /// The cluster that `KUBECONFIG` names, for tests that leave it as they found it.
    pub fn given() -> Result<Self> {
        let kubeconfig = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).context(
            "KUBECONFIG names no cluster for the live tests; tests/run starts one, and so does tests/cluster/up",
        )?;
        let kubectl = match std::env::var_os("CLUSTER_DIR") {
            Some(folder) => vec![Path::new(&folder).join("cluster"), "kubectl".into()],
            None => vec!["kubectl".into()],
        };
        Ok(Self { own: None, kubeconfig: kubeconfig.into(), kubectl })
    }

    /// A cluster of this test's own, with this many nodes.
    pub fn start(nodes: usize) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("gantry-cluster-").tempdir()?;
        let binary = folder.path().join("cluster");
        std::os::unix::fs::symlink(binary_of_all()?, &binary)?;
        let cluster = Self {
            kubeconfig: folder.path().join("kubeconfig"),
            kubectl: vec![binary, "kubectl".into()],
            own: Some(folder),
        };
        let status = cluster.script("up")?.arg(nodes.to_string()).status()?;
        ensure!(status.success(), "tests/cluster/up ended with {status}");
        Ok(cluster)
    }

    fn script(&self, name: &str) -> Result<Command> {
        let folder = self.own.as_ref().context("the cluster is not the test's own")?;
        let mut command = Command::new(top().join("tests/cluster").join(name));
        command.arg(folder.path()).stdout(Stdio::null());
        Ok(command)
    }

    /// The folder of a cluster of the test's own: `pids`, logs, a folder for each node.
    pub fn folder(&self) -> Result<&Path> {
        self.own.as_ref().map(TempDir::path).context("the cluster is not the test's own")
    }

    /// Its kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubectl that asks this cluster.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        let mut words = self.kubectl.iter();
        let mut command = Command::new(words.next().map_or(Path::new("kubectl"), PathBuf::as_path));
        command
            .args(words)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", std::env::temp_dir().join("gantry-kubectl"))
            .stdin(Stdio::null());
        command
    }

    /// What kubectl prints when it is run with these arguments, which must end well.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = self.kubectl().args(arguments).output().context("could not start kubectl")?;
        if !output.status.success() {
            bail!("kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Makes an image as [`image`] does, and brings it to every node: to those of somebody's own cluster with his command, `LOAD_IMAGE`.
    pub fn image(&self, name: &str, text: &str, dockerfile: &str) -> Result<Image> {
        let folder = match &self.own {
            Some(own) => Some(own.path().to_owned()),
            None => std::env::var_os("CLUSTER_DIR").map(PathBuf::from),
        };
        image(name, text, dockerfile)?;
        let image = Image { name: name.to_owned(), folder };
        let script =
            "top=$PWD; as_root() { \"$@\"; }; . tests/scripts/cluster.sh; load_image \"$1\"";
        let mut load = Command::new("bash");
        load.args(["-euc", script, "load", name]).current_dir(top());
        if let Some(folder) = &image.folder {
            load.env("CLUSTER_DIR", folder);
        }
        let output = load.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(image)
    }

    /// Sends a signal to a process of a cluster of the test's own.
    pub fn signal(&self, process: &str, name: &str) -> Result<()> {
        let pid = self.pid(process)?.to_string();
        let status = Command::new("kill").arg(format!("-{name}")).arg(&pid).status()?;
        ensure!(status.success(), "could not send {name} to {process} ({pid})");
        Ok(())
    }

    /// Kills a process of a cluster of the test's own.
    pub fn kill(&self, process: &str) -> Result<()> {
        self.process("kill", process, &[])
    }

    /// Starts a process again that was killed, as `up` did, with more arguments.
    pub fn start_again(&self, process: &str, more: &[&str]) -> Result<()> {
        self.process("start", process, more)
    }

    fn process(&self, what: &str, process: &str, more: &[&str]) -> Result<()> {
        let mut script = self.script("process")?;
        let status = script.args([what, process]).args(more).stdin(Stdio::null()).status()?;
        ensure!(status.success(), "tests/cluster/process {what} {process} ended with {status}");
        Ok(())
    }

    /// The process of a cluster of the test's own that `up` started under this name, such as `apiserver` or `node1-kubelet`.
    fn pid(&self, name: &str) -> Result<u32> {
        let pids = std::fs::read_to_string(self.folder()?.join("pids"))?;
        let line = pids.lines().find(|line| line.split(' ').nth(2) == Some(name));
        let pid = line.and_then(|line| line.split(' ').next());
        Ok(pid.with_context(|| format!("no process {name} in {pids}"))?.parse()?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Ok(mut down) = self.script("down") {
            // The test has its verdict; what cannot be stopped is told by `down` itself.
            let _ = down.status();
        }
    }
}

/// An image of a test's own, in the Docker engine and on every node. Dropped, it is removed from all of them.
pub struct Image {
    /// Its name.
    pub name: String,
    /// That of the nodes it was brought to, if they are ours.
    folder: Option<PathBuf>,
}

impl Drop for Image {
    fn drop(&mut self) {
        // Best effort: the test has its verdict.
        let _ = docker(&["rmi", "-f", &self.name]);
        let whole = format!("docker.io/{}", self.name);
        let Some(folder) = &self.folder else { return };
        for node in 1.. {
            let socket = folder.join(format!("node{node}/containerd.sock"));
            if !socket.exists() {
                break;
            }
            let _ = Command::new("ctr")
                .arg("-a")
                .arg(socket)
                .args(["-n", "k8s.io", "images", "rm", &whole])
                .output();
        }
    }
}

/// The binary that all clusters run, built where it is missing.
fn binary_of_all() -> Result<PathBuf> {
    let script =
        r#"set -eu; . tests/scripts/cluster.sh; build_cluster; printf %s "$cluster_binary""#;
    let output = Command::new("bash").args(["-c", script]).current_dir(top()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.into())
}

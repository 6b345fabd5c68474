//! A registry of images for tests, with TLS and a password, and who trusts it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::artifacts::top;

/// A registry. Dropped, it is gone with everything in it.
pub struct Registry {
    folder: TempDir,
    /// Its host and port, by which its images are named everywhere.
    pub address: String,
    /// Who may push and pull.
    pub user: String,
    /// His password.
    pub password: String,
}

/// A folder that says whom an engine trusts. Dropped, it is gone.
#[must_use]
pub struct Trust(PathBuf);

impl Drop for Trust {
    fn drop(&mut self) {
        // Best effort: the test has its verdict.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Registry {
    /// Starts one.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one that deletes nothing, as Docker's does when nobody says otherwise.
    pub fn without_deletion() -> Result<Self> {
        Self::start_with(&[("REGISTRY_STORAGE_DELETE_ENABLED", "false")])
    }

    /// Starts one with settings of Docker's registry, which win over the file.
    fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("gantry-registry-").tempdir()?;
        let mut registry =
            Self { folder, address: String::new(), user: String::new(), password: String::new() };
        let status = registry.script("up").envs(settings.iter().copied()).status()?;
        ensure!(status.success(), "tests/registry/up ended with {status}");
        let settings = std::fs::read_to_string(registry.folder.path().join("settings"))?;
        let setting = |name: &str| {
            let value =
                settings.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.map(str::to_owned).with_context(|| format!("no {name} in {settings}"))
        };
        registry.address = setting("address")?;
        registry.user = setting("user")?;
        registry.password = setting("password")?;
        Ok(registry)
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(top().join("tests/registry").join(name));
        command.arg(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Ends it, as when its machine dies. What is dropped later finds nothing to end.
    pub fn stop(&self) -> Result<()> {
        let status = self.script("down").status()?;
        ensure!(status.success(), "tests/registry/down ended with {status}");
        Ok(())
    }

    /// An image of it, by its repository and tag.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The file with who vouches for its certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Lets the Docker engines of this machine trust it, those of [`Hosts`](crate::hosts::Hosts) too: they look into one folder, at each pull and push.
    pub fn trusted_by_docker(&self) -> Result<Trust> {
        self.trusted_by_docker_as(&self.ca())
    }

    /// The same with a certificate of the caller's choice.
    pub fn trusted_by_docker_as(&self, ca: &Path) -> Result<Trust> {
        let folder = Path::new("/etc/docker/certs.d").join(&self.address);
        std::fs::create_dir_all(&folder)?;
        let trust = Trust(folder);
        std::fs::copy(ca, trust.0.join("ca.crt"))?;
        Ok(trust)
    }

    /// Lets the nodes of a cluster that tests/cluster/up started in this folder trust it: their containerds look there at each pull.
    pub fn trusted_by_nodes(&self, cluster: &Path) -> Result<Trust> {
        let folder = cluster.join("registry").join(&self.address);
        std::fs::create_dir_all(&folder)?;
        let trust = Trust(folder);
        let ca = trust.0.join("ca.crt");
        std::fs::copy(self.ca(), &ca)?;
        let address = &self.address;
        let hosts = format!(
            "server = \"https://{address}\"\n[host.\"https://{address}\"]\ncapabilities = [\"pull\", \"resolve\"]\nca = {ca:?}\n"
        );
        std::fs::write(trust.0.join("hosts.toml"), hosts)?;
        Ok(trust)
    }

    /// The names of its repositories. One whose images are all gone keeps its name.
    pub fn catalog(&self) -> Result<BTreeSet<String>> {
        let answer: Value = serde_json::from_slice(&self.get("_catalog?n=1000", "*/*")?)?;
        names(&answer["repositories"])
    }

    /// The tags of a repository; none of one that is not there.
    pub fn tags(&self, repository: &str) -> Result<BTreeSet<String>> {
        if !self.catalog()?.contains(repository) {
            return Ok(BTreeSet::new());
        }
        let answer: Value =
            serde_json::from_slice(&self.get(&format!("{repository}/tags/list"), "*/*")?)?;
        names(&answer["tags"])
    }

    /// The manifest of an image, of either kind.
    pub fn manifest(&self, repository: &str, reference: &str) -> Result<Value> {
        let kinds = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
        let bytes = self.get(&format!("{repository}/manifests/{reference}"), kinds)?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// A blob: a layer or a configuration.
    pub fn blob(&self, repository: &str, digest: &str) -> Result<Vec<u8>> {
        self.get(&format!("{repository}/blobs/{digest}"), "*/*")
    }

    fn get(&self, path: &str, kinds: &str) -> Result<Vec<u8>> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "60", "--cacert"])
            .arg(self.ca())
            .args(["--user", &format!("{}:{}", self.user, self.password)])
            .args(["--header", &format!("Accept: {kinds}")])
            .arg(format!("https://{}/v2/{path}", self.address))
            .output()?;
        ensure!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }
}

fn names(list: &Value) -> Result<BTreeSet<String>> {
    // A repository without tags has null.
    let Some(list) = list.as_array() else { return Ok(BTreeSet::new()) };
    list.iter().map(|name| Ok(name.as_str().context("a name")?.to_owned())).collect()
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Best effort: the test has its verdict.
        let _ = self.script("down").status();
    }
}

//! Docker hosts of a test's own, which it may kill and freeze.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::artifacts::top;
use crate::daemon::eventually;

/// Real Docker hosts, each in a network namespace of its own, with mutual TLS. Dropped, they are gone with everything on them.
pub struct Hosts {
    folder: TempDir,
    network: String,
    bridge: String,
    /// The hosts.
    pub hosts: Vec<Host>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name, which is its folder's.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its dockerd.
    pub pid: u32,
}

impl Hosts {
    /// Starts this many.
    pub fn start(count: usize) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("gantry-hosts-").tempdir()?;
        let number = claim()?;
        let mut hosts = Self {
            folder,
            network: format!("10.97.{number}"),
            bridge: bridge(number),
            hosts: Vec::new(),
        };
        let status = hosts.script("up").arg(count.to_string()).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "tests/docker-hosts/up ended with {status}");
        let list = std::fs::read_to_string(hosts.folder.path().join("hosts"))?;
        for line in list.lines() {
            let mut parts = line.split(' ').map(str::to_owned);
            let (Some(name), Some(address), Some(pid)) = (parts.next(), parts.next(), parts.next())
            else {
                anyhow::bail!("a line of `hosts` has three parts: {line}");
            };
            hosts.hosts.push(Host { name, address, pid: pid.parse()? });
        }
        Ok(hosts)
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(top().join("tests/docker-hosts").join(name));
        command
            .arg(self.folder.path())
            .env("DOCKER_HOSTS_NET", &self.network)
            .env("DOCKER_HOSTS_BRIDGE", &self.bridge);
        command
    }

    /// The folder with ca.pem, cert.pem and key.pem.
    #[must_use]
    pub fn certificates(&self) -> PathBuf {
        self.folder.path().join("certs")
    }

    /// Runs the Docker client against a host, over its unix socket.
    pub fn docker(&self, host: &Host, arguments: &[&str]) -> Result<String> {
        let output = Command::new("docker")
            .arg("-H")
            .arg(format!(
                "unix://{}",
                self.folder.path().join(&host.name).join("docker.sock").display()
            ))
            .args(arguments)
            .output()?;
        ensure!(
            output.status.success(),
            "docker {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Brings an image of this machine's engine to a host.
    pub fn load(&self, host: &Host, image: &str) -> Result<()> {
        let mut save =
            Command::new("docker").args(["save", image]).stdout(Stdio::piped()).spawn()?;
        let load = Command::new("docker")
            .arg("-H")
            .arg(format!(
                "unix://{}",
                self.folder.path().join(&host.name).join("docker.sock").display()
            ))
            .arg("load")
            .stdin(save.stdout.take().context("stdout is piped")?)
            .stdout(Stdio::null())
            .status()?;
        ensure!(
            save.wait()?.success() && load.success(),
            "could not bring {image} to {}",
            host.name
        );
        Ok(())
    }

    /// Kills a host's dockerd without a word. Its containers live on, as they do on a real machine.
    pub fn kill(&self, host: &Host) -> Result<()> {
        signal(host, "-KILL")?;
        eventually(Duration::from_secs(10), "dockerd is gone", || {
            Ok((!PathBuf::from(format!("/proc/{}", host.pid)).join("exe").exists()).then_some(()))
        })
    }
}

impl Hosts {
    /// Stops a host's dockerd where it is: it holds its connections, and says nothing any more.
    pub fn stand_still(&self, host: &Host) -> Result<()> {
        signal(host, "-STOP")
    }

    /// Lets a host go on that stands still.
    pub fn go_on(&self, host: &Host) -> Result<()> {
        signal(host, "-CONT")
    }

    /// Starts the dockerd of a host again that was killed, and once more when it gives up while it starts, as an init system does.
    pub fn revive(&mut self, name: &str) -> Result<()> {
        /// On a machine that is busy with other tests.
        const BACK: Duration = Duration::from_secs(240);
        let home = self.folder.path().join(name);
        let log = home.join("log.again");
        let mut dockerd = self.start_again(name)?;
        eventually(BACK, "dockerd is back", || {
            if dockerd.try_wait()?.is_some() {
                dockerd = self.start_again(name)?;
            }
            let host = self.hosts.iter().find(|host| host.name == name);
            Ok(self.docker(host.context("a host of these")?, &["version"]).ok().map(drop))
        })
        .with_context(|| std::fs::read_to_string(log).unwrap_or_default())
    }

    fn start_again(&mut self, name: &str) -> Result<Child> {
        let home = self.folder.path().join(name);
        let log =
            std::fs::File::options().create(true).append(true).open(home.join("log.again"))?;
        let child = Command::new("bash")
            .arg(home.join("start"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let host = self.hosts.iter_mut().find(|host| host.name == name);
        host.context("a host of these")?.pid = child.id();
        // What is listed there is stopped in the end.
        let line = |host: &Host| format!("{} {} {}\n", host.name, host.address, host.pid);
        let lines: String = self.hosts.iter().map(line).collect();
        std::fs::write(self.folder.path().join("hosts"), lines)?;
        Ok(child)
    }
}

/// Tests run side by side, also in several processes: each set of hosts gets a network and a bridge of its own. Who makes the bridge has the number.
fn claim() -> Result<u8> {
    for number in 0..=u8::MAX {
        let mut add = Command::new("ip");
        add.args(["link", "add", &bridge(number), "type", "bridge"]).stderr(Stdio::null());
        if add.status()?.success() {
            return Ok(number);
        }
    }
    bail!("no bridge is free for Docker hosts, or `ip` may make none")
}

fn bridge(number: u8) -> String {
    format!("gantryt{number}")
}

fn signal(host: &Host, signal: &str) -> Result<()> {
    let status = Command::new("kill").arg(signal).arg(host.pid.to_string()).status()?;
    ensure!(status.success(), "kill {signal} {host:?} ended with {status}");
    Ok(())
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // Best effort: the test has its verdict.
        let _ = self.script("down").stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

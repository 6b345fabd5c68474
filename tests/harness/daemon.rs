//! The real daemon as a child process, and the real command line as its client.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::artifacts;
use crate::clusters::Cluster;

/// A running `gantry serve` on a folder of its own. Dropped, it is killed and what it left on the Docker engine is removed.
pub struct Daemon {
    /// Its folder: `data`, `gantry.sock`, `gantry.toml`.
    pub folder: TempDir,
    /// The installation id, which is on every container it makes.
    pub instance: String,
    by: Vec<String>,
    child: Option<Child>,
}

/// What a run of the command line gave. Look at it: there is no way to use it without.
#[must_use]
#[derive(Debug)]
pub struct Finished {
    /// The exit code.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Finished {
    /// The output of a run that must have ended well.
    pub fn success(self) -> Result<String> {
        if self.code != Some(0) {
            bail!("exit code {:?}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }

    /// What a run that must have ended with this code complained about.
    pub fn failure(self, code: i32) -> Result<String> {
        if self.code != Some(code) {
            bail!(
                "exit code {:?}, not {code}\nstdout: {}\nstderr: {}",
                self.code,
                self.stdout,
                self.stderr
            );
        }
        Ok(self.stderr)
    }
}

impl Daemon {
    /// A daemon with the Docker plugin installed, and more configuration.
    pub fn with_docker(config: &str) -> Result<Self> {
        let daemon = Self::start(config)?;
        let plugin = artifacts::docker_plugin()?;
        daemon.cli(&["plugin", "install", "docker", &plugin.to_string_lossy()])?.success()?;
        Ok(daemon)
    }

    /// A daemon with the Kubernetes plugin installed and a cluster given to it that runs the apps of the pool `kube`, and more configuration.
    pub fn with_kubernetes(cluster: &Cluster, config: &str) -> Result<Self> {
        Self::with_kubernetes_for("kube", cluster, config)
    }

    /// The same for another pool.
    pub fn with_kubernetes_for(pool: &str, cluster: &Cluster, config: &str) -> Result<Self> {
        let daemon = Self::start(config)?;
        daemon.give(pool, cluster)?;
        Ok(daemon)
    }

    /// Installs the Kubernetes plugin, and gives it a cluster that runs the apps of a pool.
    pub fn give(&self, pool: &str, cluster: &Cluster) -> Result<()> {
        let plugin = artifacts::kubernetes_plugin()?;
        let plugin = plugin.to_string_lossy();
        let kubeconfig = cluster.kubeconfig().to_string_lossy();
        let of = ["--provisioner", "kubernetes"];
        let add = ["cluster", "add", "test", "--pool", pool, "--kubeconfig", &kubeconfig];
        for arguments in [
            ["plugin", "install", "kubernetes", &plugin, "--grant-asked"].as_slice(),
            &[["pool", "create", pool].as_slice(), &of].concat(),
            &[add.as_slice(), &of].concat(),
        ] {
            self.cli(arguments)?.success()?;
        }
        Ok(())
    }

    /// A daemon with this configuration, on a folder of its own.
    pub fn start(config: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("gantry-test-").tempdir()?;
        Self::start_in(folder, config)
    }

    /// A daemon with this configuration, on a folder that another one may have used before.
    pub fn start_in(folder: TempDir, config: &str) -> Result<Self> {
        Self::start_by(folder, config, &[])
    }

    /// The same, started by a command that becomes what its last arguments say.
    pub fn start_by(folder: TempDir, config: &str, by: &[&str]) -> Result<Self> {
        let by = by.iter().map(|&word| word.to_owned()).collect();
        let instance = format!(
            "test-{}",
            folder
                .path()
                .file_name()
                .context("a folder has a name")?
                .to_string_lossy()
                .to_lowercase()
        );
        let mut daemon = Self { folder, instance, by, child: None };
        daemon.share_compiled_plugins()?;
        daemon.configure(config)?;
        daemon.resume()?;
        Ok(daemon)
    }

    /// Lets it find the plugins compiled that another daemon compiled.
    fn share_compiled_plugins(&self) -> Result<()> {
        let data = self.folder.path().join("data");
        DirBuilder::new().recursive(true).mode(0o700).create(&data)?;
        match symlink(artifacts::compiled_plugins()?, data.join("compiled")) {
            // One was here before.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => Ok(made?),
        }
    }

    /// Writes its configuration, which it reads when it is started.
    pub fn configure(&self, config: &str) -> Result<()> {
        let folder = self.folder.path();
        let text = format!(
            "data = {:?}\ninstance = {:?}\n{config}\n[http]\nsocket = {:?}\n",
            folder.join("data"),
            self.instance,
            folder.join("gantry.sock"),
        );
        Ok(std::fs::write(folder.join("gantry.toml"), text)?)
    }

    /// Starts the daemon again on its folder.
    pub fn resume(&mut self) -> Result<()> {
        let log = std::fs::File::create(self.folder.path().join("log"))?;
        let mut command = match self.by.split_first() {
            Some((program, arguments)) => {
                let mut by = self.program(program);
                by.args(arguments).arg(artifacts::gantry()?);
                by
            }
            None => self.command()?,
        };
        let mut child = command
            .arg("serve")
            .arg("--config")
            .arg(self.folder.path().join("gantry.toml"))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut reader = BufReader::new(stdout);
        let mut line = String::new();
        while line.trim_end() != "ready" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                let status = child.wait()?;
                bail!("the daemon did not start ({status}): {}", self.log()?);
            }
        }
        // Whatever else it prints must not block it.
        std::thread::spawn(move || reader.read_to_end(&mut Vec::new()));
        self.child = Some(child);
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("gantry.sock")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What it logged.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join("log"))?)
    }

    /// The command line, with an empty environment but for what it needs.
    pub fn command(&self) -> Result<Command> {
        Ok(self.program(artifacts::gantry()?))
    }

    fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("GANTRY_HOST", format!("unix://{}", self.socket().display()))
            .env("COLUMNS", "100")
            .stdin(Stdio::null());
        for name in ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// Runs the command line to its end.
    pub fn cli(&self, arguments: &[&str]) -> Result<Finished> {
        let output = self.command()?.args(arguments).output()?;
        Ok(Finished {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// What the command line prints as JSON, in a run that must end well.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [arguments, &["--output", "json"]].concat();
        let text = self.cli(&arguments)?.success().with_context(|| format!("{arguments:?}"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Begins a run of the command line. What it prints waits for who reads it, and is little.
    pub fn begin(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.command()?;
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command.spawn()?)
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().context("the daemon runs")?;
        let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status()?;
        if !status.success() {
            bail!("could not send {name} to {pid}");
        }
        Ok(())
    }

    /// Waits for its end, at most this long.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let child = self.child.as_mut().context("the daemon runs")?;
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the daemon did not end within {limit:?}");
    }

    /// Stops it politely and demands that it ends well.
    pub fn stop(&mut self) -> Result<()> {
        self.signal("TERM")?;
        let status = self.wait(Duration::from_secs(60))?;
        if !status.success() {
            bail!("the daemon ended with {status}: {}", self.log()?);
        }
        Ok(())
    }

    /// The containers it has on the Docker engine: id and `app/process/state`.
    pub fn containers(&self) -> Result<Vec<(String, String)>> {
        let text = docker(&[
            "ps",
            "-a",
            "--no-trunc",
            "--filter",
            &format!("label=gantry.instance={}", self.instance),
            "--format",
            "{{.ID}} {{.Label \"app-name\"}}/{{.Label \"app-process\"}}/{{.State}}",
        ])?;
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(id, what)| (id.to_owned(), what.to_owned()))
            .collect())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already; either way it is gone after the wait.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking()
            && let Ok(log) = self.log()
        {
            eprintln!("the daemon's log:\n{log}");
        }
        for (id, _) in self.containers().unwrap_or_default() {
            // Best effort: the test has its verdict.
            let _ = docker(&["rm", "-f", "-v", &id]);
        }
    }
}

/// Runs the Docker client.
pub fn docker(arguments: &[&str]) -> Result<String> {
    let output =
        Command::new("docker").args(arguments).output().context("could not start docker")?;
    if !output.status.success() {
        bail!("docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Waits until a condition holds, at most this long.
pub fn eventually<T>(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("not within {limit:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// Asks a URL by its address and path, and gives the status and the body.
pub fn http_get(url: &str) -> Result<(u16, String)> {
    use std::io::Write;
    let rest = url.strip_prefix("http://").context("an http URL")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = host.to_socket_addrs()?.next().context("an address")?;
    // On its way to a unit that has just gone a connection hangs for minutes: the next one is led to another.
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("an HTTP answer has a head")?;
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status line")?;
    Ok((status, body.to_owned()))
}

//! A pod tells the daemon that it is there: with the command in front of its own, over the daemon's port, with the token of its app.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gantry_tests::clusters::Cluster;
use gantry_tests::daemon::{Daemon, docker, eventually};

use super::{Kube, Labelled, SOON};

/// Makes an image of this machine's curl, and of what it needs.
const CURL: &str = "tar -chf - /usr/bin/curl $(ldd /usr/bin/curl | grep -o '/[^ ]*') 2>/dev/null | docker import - \"$1\" >/dev/null";

/// An image of this machine's engine. Dropped, it is removed.
struct Curl(&'static str);

impl Curl {
    fn make() -> Result<Self> {
        let curl = Self("gantry-test/curl:1");
        let arguments = ["-euo", "pipefail", "-c", CURL, "curl", curl.0];
        let made = Command::new("bash").args(arguments).status()?;
        ensure!(made.success(), "no image of curl: {made}");
        Ok(curl)
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        // Best effort: the test has its verdict.
        let _ = docker(&["rmi", "-f", self.0]);
    }
}

/// A service that writes down what it is told: the first line of each request and its form.
struct Service {
    url: String,
    told: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let told = Arc::new(Mutex::new(Vec::new()));
        let writing = Arc::clone(&told);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if let Ok(request) = answer(stream) {
                    writing.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                }
            }
        });
        Ok(Self { url, told })
    }

    /// Which hosts it was told of, with a unit on each.
    fn hosts(&self) -> Vec<String> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let binds = told.iter().filter(|told| told.starts_with("POST /resources/db/bind "));
        binds.filter_map(|told| Some(told.split_once("unit-host=")?.1.to_owned())).collect()
    }
}

fn answer(stream: TcpStream) -> Result<String> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
        line.clear();
    }
    let mut form = vec![0; length];
    reader.read_exact(&mut form)?;
    request.push_str(std::str::from_utf8(&form)?);
    let says = "HTTP/1.1 201 Created\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    reader.into_inner().write_all(says.as_bytes())?;
    Ok(request)
}

/// A daemon that the pods of a cluster reach on a port of this machine.
fn daemon(cluster: &Cluster) -> Result<Daemon> {
    let server = ["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"];
    let server = cluster.ask(&server)?;
    let host = server.strip_prefix("https://").and_then(|server| server.rsplit_once(':'));
    let (host, _) = host.context("a server at https://HOST:PORT")?;
    let port = TcpListener::bind((host, 0))?.local_addr()?.port();
    let folder = tempfile::Builder::new().prefix("gantry-test-").tempdir()?;
    let config = format!("[provisioners.kubernetes.config]\nhost = \"http://{host}:{port}\"\n");
    let listening = "GANTRY_TOKEN=sesame exec \"$@\" --listen \"$0\"";
    let address = format!("{host}:{port}");
    let daemon = Daemon::start_by(folder, &config, &["sh", "-c", listening, &address])?;
    daemon.give("kube", cluster)?;
    Ok(daemon)
}

/// How long a pod that has started has to say so.
const AGAIN: Duration = Duration::from_secs(30);

fn is_started((_, status): &(String, String)) -> bool {
    status == "started"
}

/// Deletes the pod of the app; the cluster makes another.
fn delete_pod(kube: &Kube) -> Result<()> {
    let pods = kube.objects("registered", "pods")?;
    let pod = pods.first().context("a pod")?;
    let word = |key: &str| pod["metadata"][key].as_str().unwrap_or_default();
    let delete = ["delete", "pod", word("name"), "-n", word("namespace"), "--wait=false"];
    kube.cluster.ask(&delete).map(drop)
}

#[test]
fn a_pod_that_replaces_another_says_that_it_is_there_and_services_hear_of_it() -> Result<()> {
    let cluster = Cluster::given()?;
    let curl = Curl::make()?;
    let lines = format!("COPY --from={} / /\nENV PATH=/bin:/usr/bin", curl.0);
    let image = cluster.image("gantry-test/registered:1", "registered", &lines)?;
    let daemon = daemon(&cluster)?;
    let nodes = Some(Labelled::hold(&cluster, &daemon)?);
    let kube = Kube { cluster, daemon, _nodes: nodes };
    kube.app("registered", &image.name, 1)?;
    let service = Service::start()?;
    kube.done(&["service", "add", "db", &service.url])?;
    kube.done(&["service", "bind", "db", "registered"])?;
    let before = service.hosts().len();
    ensure!(before > 0, "{:?}", service.told);

    // Nobody changes the app: that there is another pod is heard from itself. It says so once, and on a busy node that may be before its network is whole: then another one does.
    let mut last = Instant::now();
    delete_pod(&kube)?;
    let heard = eventually(SOON * 2, "the service is told of the new pod", || {
        if service.hosts().len() > before {
            return Ok(Some(()));
        }
        if last.elapsed() > AGAIN && kube.units("registered")?.iter().all(is_started) {
            delete_pod(&kube)?;
            last = Instant::now();
        }
        Ok(None)
    });
    heard.with_context(|| {
        let logs = ["logs", "-n", "default", "-l", "tsuru.io/app-name=registered", "--prefix"];
        format!("{:?}\n{:?}", kube.cluster.ask(&logs), kube.daemon.log())
    })?;
    let told = service.hosts();
    ensure!(told.len() == before + 1, "once: {told:?}");
    kube.until_answers("registered", "registered")?;
    kube.done(&["app", "remove", "registered", "-y"])?;
    Ok(())
}

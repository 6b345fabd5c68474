//! A peer below the client. It reads HTTP requests, keeps them, and writes the bytes that a test gives, which need not be HTTP.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use gantry_engine::docker::Endpoint;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What the peer does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Writes these bytes and waits for the next request.
    Bytes(Vec<u8>),
    /// Writes these bytes and closes the connection.
    Last(Vec<u8>),
    /// Writes these bytes and then nothing.
    Stuck(Vec<u8>),
}

/// An answer with a document.
pub(crate) fn json(status: u16, body: &str) -> Answer {
    let length = body.len();
    Answer::Bytes(
        format!(
            "HTTP/1.1 {status} Word\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes(),
    )
}

/// An answer without a body.
pub(crate) fn empty(status: u16) -> Answer {
    Answer::Bytes(format!("HTTP/1.1 {status} Word\r\nContent-Length: 0\r\n\r\n").into_bytes())
}

/// An engine's refusal.
pub(crate) fn refusal(status: u16, message: &str) -> Answer {
    json(status, &serde_json::json!({ "message": message }).to_string())
}

/// What says which versions the peer speaks.
pub(crate) fn version(newest: &str, oldest: &str) -> Answer {
    json(200, &format!(r#"{{"ApiVersion":"{newest}","MinAPIVersion":"{oldest}"}}"#))
}

type Script = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

pub(crate) struct Peer {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicU32>,
    task: JoinHandle<()>,
    _folder: Option<tempfile::TempDir>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    /// A peer on a unix socket that speaks API 1.41 and answers the rest as the script says.
    pub(crate) fn new(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::raw(move |seen| match seen.path.as_str() {
            "/version" => version("1.41", "1.12"),
            _ => script(seen),
        })
    }

    /// A peer whose every answer is the script's.
    pub(crate) fn raw(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (seen, connections) = (Arc::default(), Arc::default());
        let talk = Talk::new(script, &seen, &connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                talk.begin(stream);
            }
        });
        let address = format!("unix://{}", path.display());
        Self { address, seen, connections, task, _folder: Some(folder) }
    }

    /// A peer on a TCP port, over TLS if there is an acceptor.
    pub(crate) async fn tcp(
        tls: Option<TlsAcceptor>,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let (seen, connections) = (Arc::default(), Arc::default());
        let talk = Talk::new(script, &seen, &connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (talk, tls) = (talk.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => talk.begin(stream),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                talk.begin(stream);
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen, connections, task, _folder: None }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The port of a peer on TCP.
    pub(crate) fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::parse(&self.address).unwrap()
    }

    /// The requests so far, but for those about the version.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let all = self.seen.lock().unwrap();
        all.iter().filter(|seen| seen.path != "/version").cloned().collect()
    }

    /// Methods and paths of all requests so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(Seen::line).collect()
    }

    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Talk {
    script: Script,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicU32>,
}

impl Talk {
    fn new(
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
        seen: &Arc<Mutex<Vec<Seen>>>,
        connections: &Arc<AtomicU32>,
    ) -> Self {
        let (seen, connections) = (Arc::clone(seen), Arc::clone(connections));
        Self { script: Arc::new(script), seen, connections }
    }

    fn begin(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let talk = self.clone();
        tokio::spawn(async move { talk.talk(stream).await });
    }

    async fn talk(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut bytes = Vec::new();
        while let Some(seen) = request(&mut stream, &mut bytes).await {
            let answer = (self.script)(&seen);
            self.seen.lock().unwrap().push(seen);
            let (Answer::Bytes(bytes) | Answer::Last(bytes) | Answer::Stuck(bytes)) = &answer;
            if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            match answer {
                Answer::Bytes(_) => {}
                Answer::Last(_) => {
                    let _ = stream.shutdown().await;
                    return;
                }
                Answer::Stuck(_) => {
                    // Until the other side has had enough.
                    let mut rest = Vec::new();
                    let _ = stream.read_to_end(&mut rest).await;
                    return;
                }
            }
        }
    }
}

/// Reads a request; `bytes` holds what was read beyond it.
async fn request(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Option<Seen> {
    let head = loop {
        if let Some(end) = find(bytes, b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            break String::from_utf8(std::mem::replace(bytes, rest)).unwrap();
        }
        more(stream, bytes).await?;
    };
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut seen = Seen { method, path, headers, body: Vec::new() };
    let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < length {
        more(stream, bytes).await?;
    }
    let rest = bytes.split_off(length);
    seen.body = std::mem::replace(bytes, rest);
    if seen.header("transfer-encoding") == Some("chunked") {
        while find(bytes, b"0\r\n\r\n").is_none() {
            more(stream, bytes).await?;
        }
        seen.body = unchunked(&std::mem::take(bytes));
    }
    Some(seen)
}

async fn more(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(bytes).await.ok()?;
    (read > 0).then_some(())
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = find(bytes, b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 2 + size + 2..];
    }
    body
}

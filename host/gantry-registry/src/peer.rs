//! A registry for tests: as much of the protocol as is used, with the faults that a test wants.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "only tests have it, and they may panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::digest::Digest;

/// A request, as it came in.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Its method.
    pub method: String,
    /// With its query.
    pub path: String,
    /// By their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// What came with it.
    pub body: Vec<u8>,
}

impl Heard {
    /// A header; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Method and path.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
    /// What comes with it.
    pub body: Vec<u8>,
}

impl Reply {
    /// One without headers and a body.
    pub fn of(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// The same with a header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same with a body.
    pub fn saying(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// What it has, and how it behaves.
#[derive(Default)]
pub struct State {
    /// By repository.
    pub blobs: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// By repository and tag or digest, with their kinds.
    pub manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    /// All requests so far.
    pub heard: Vec<Heard>,
    /// What must be in the header `authorization`, and how that is asked for.
    pub pass: Option<(String, String)>,
    /// So many uploads are cut.
    pub cut_uploads: usize,
    /// So many answers with blobs are cut.
    pub cut_downloads: usize,
    /// Answers to the first request of a line that begins like this, in the place of its own; each once when it is so.
    pub instead: Vec<(String, Reply, bool)>,
    /// Whether layers are taken from other repositories.
    pub mounts: bool,
}

/// A registry, on a port of its own, to the end of the process.
#[derive(Clone)]
pub struct Peer {
    /// `HOST:PORT`.
    pub address: String,
    state: Arc<Mutex<State>>,
}

/// Something that a connection is made of.
pub trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

impl Peer {
    /// One over TCP.
    pub fn start() -> Self {
        Self::over(|stream| Some(Box::new(stream)))
    }

    /// One whose connections are something else above TCP.
    pub fn over(wrap: impl Fn(TcpStream) -> Option<Box<dyn Wire>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let peer = Self { address, state: Arc::default() };
        let (answering, wrap) = (peer.clone(), Arc::new(wrap));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (peer, wrap) = (answering.clone(), Arc::clone(&wrap));
                std::thread::spawn(move || {
                    if let Some(wire) = wrap(stream) {
                        // A client that has gone hears nothing.
                        let _gone = peer.serve(wire);
                    }
                });
            }
        });
        peer
    }

    /// What it has; nothing is answered while that is held.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The lines of all requests.
    pub fn lines(&self) -> Vec<String> {
        self.state().heard.iter().map(Heard::line).collect()
    }

    /// Puts an image there: its manifest, its configuration and its layers. Gives the digest of the manifest.
    pub fn image(&self, repository: &str, tag: &str, config: &[u8], layers: &[&[u8]]) -> String {
        let mut state = self.state();
        let blobs = state.blobs.entry(repository.to_owned()).or_default();
        let mut part = |kind: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes).to_string();
            blobs.insert(digest.clone(), bytes.to_vec());
            serde_json::json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
        };
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": kind,
            "config": part("application/vnd.oci.image.config.v1+json", config),
            "layers": layers
                .iter()
                .map(|layer| part("application/vnd.oci.image.layer.v1.tar+gzip", layer))
                .collect::<Vec<_>>(),
        });
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::of(&bytes).to_string();
        for version in [tag, &digest] {
            let place = (repository.to_owned(), version.to_owned());
            state.manifests.insert(place, (kind.to_owned(), bytes.clone()));
        }
        digest
    }

    /// The tags of a repository.
    pub fn tags(&self, repository: &str) -> BTreeSet<String> {
        let state = self.state();
        let of = state.manifests.keys().filter(|(of, tag)| of == repository && !tag.contains(':'));
        of.map(|(_, tag)| tag.clone()).collect()
    }

    fn serve(&self, wire: Box<dyn Wire>) -> std::io::Result<()> {
        let mut wire = BufReader::new(wire);
        let mut heard = Heard::default();
        let mut line = String::new();
        wire.read_line(&mut line)?;
        let mut words = line.split(' ').map(str::to_owned);
        heard.method = words.next().unwrap_or_default();
        heard.path = words.next().unwrap_or_default();
        loop {
            line.clear();
            if wire.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                heard.headers.insert(name.to_lowercase(), value.trim().to_owned());
            }
        }
        let length: usize = heard.header("content-length").parse().unwrap_or(0);
        let is_upload = heard.method == "PUT" && heard.path.contains("/blobs/");
        if is_upload && self.take_cut(|state| &mut state.cut_uploads) {
            wire.read_exact(&mut vec![0; length.min(3)])?;
            self.state().heard.push(heard);
            return Ok(());
        }
        heard.body = vec![0; length];
        wire.read_exact(&mut heard.body)?;
        let is_head = heard.method == "HEAD";
        let is_blob = heard.method == "GET" && heard.path.contains("/blobs/");
        let reply = self.answer(&heard);
        self.state().heard.push(heard);
        let out = wire.get_mut();
        write!(out, "HTTP/1.1 {} Said\r\nconnection: close\r\n", reply.status)?;
        for (name, value) in &reply.headers {
            write!(out, "{name}: {value}\r\n")?;
        }
        write!(out, "content-length: {}\r\n\r\n", reply.body.len())?;
        let mut body = reply.body.as_slice();
        if is_head {
            body = &[];
        } else if is_blob && reply.status == 200 && self.take_cut(|state| &mut state.cut_downloads)
        {
            body = &body[..body.len() / 2];
        }
        out.write_all(body)?;
        out.flush()
    }

    fn take_cut(&self, of: impl FnOnce(&mut State) -> &mut usize) -> bool {
        let mut state = self.state();
        let left = of(&mut state);
        let cut = *left > 0;
        *left = left.saturating_sub(1);
        cut
    }

    fn answer(&self, heard: &Heard) -> Reply {
        let mut state = self.state();
        let line = heard.line();
        let found = state.instead.iter().position(|(start, ..)| line.starts_with(start.as_str()));
        if let Some(index) = found {
            let (_, reply, once) = state.instead[index].clone();
            if once {
                state.instead.remove(index);
            }
            return reply;
        }
        if let Some((due, asked)) = &state.pass
            && heard.header("authorization") != due
        {
            return Reply::of(401).with("www-authenticate", asked);
        }
        let (path, query) = heard.path.split_once('?').unwrap_or((&heard.path, ""));
        let value = |name: &str| {
            let found =
                query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            found.map(|value| value.replace("%3A", ":").replace("%2F", "/"))
        };
        let rest = path.trim_start_matches("/v2/");
        if let Some((name, _)) = rest.split_once("/blobs/uploads/") {
            return state.upload(name, heard, value("digest"), value("mount"), value("from"));
        }
        if let Some((name, digest)) = rest.split_once("/blobs/") {
            let blob = state.blobs.get(name).and_then(|blobs| blobs.get(digest));
            return blob.map_or_else(|| Reply::of(404), |blob| Reply::of(200).saying(blob.clone()));
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return state.tags(name, value("last").as_deref());
        }
        let Some((name, version)) = rest.split_once("/manifests/") else { return Reply::of(404) };
        if heard.method == "PUT" {
            let kind = heard.header("content-type").to_owned();
            state
                .manifests
                .insert((name.to_owned(), version.to_owned()), (kind, heard.body.clone()));
            return Reply::of(201);
        }
        if heard.method == "DELETE" {
            return state.delete(name, version);
        }
        match state.manifests.get(&(name.to_owned(), version.to_owned())) {
            Some((kind, bytes)) => Reply::of(200)
                .with("content-type", kind)
                .with("docker-content-digest", Digest::of(bytes).as_str())
                .saying(bytes.clone()),
            None => Reply::of(404),
        }
    }
}

impl State {
    /// Two of a repository's tags, after this one.
    fn tags(&self, name: &str, last: Option<&str>) -> Reply {
        let of = self.manifests.keys().filter(|(of, tag)| of == name && !tag.contains(':'));
        let tags: Vec<&str> = of.map(|(_, tag)| tag.as_str()).collect();
        if tags.is_empty() {
            return Reply::of(404);
        }
        let after = tags.iter().copied().filter(|tag| last.is_none_or(|last| *tag > last));
        let page: Vec<&str> = after.take(2).collect();
        let reply =
            Reply::of(200).saying(serde_json::json!({"name": name, "tags": page}).to_string());
        match page.last() {
            Some(last) if tags.last() != Some(last) => {
                let next = format!("</v2/{name}/tags/list?n=2&last={last}>; rel=\"next\"");
                reply.with("link", next)
            }
            Some(_) | None => reply,
        }
    }

    /// By the digest only, and with all tags that have it.
    fn delete(&mut self, name: &str, digest: &str) -> Reply {
        let before = self.manifests.len();
        let is_it = |of: &str, bytes: &[u8]| of == name && Digest::of(bytes).as_str() == digest;
        self.manifests.retain(|(of, _), (_, bytes)| !is_it(of, bytes));
        Reply::of(if self.manifests.len() < before { 202 } else { 404 })
    }

    fn upload(
        &mut self,
        name: &str,
        heard: &Heard,
        digest: Option<String>,
        mount: Option<String>,
        from: Option<String>,
    ) -> Reply {
        if heard.method == "PUT" {
            let Some(digest) = digest else { return Reply::of(400) };
            if Digest::of(&heard.body).as_str() != digest {
                return Reply::of(400)
                    .saying(r#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#);
            }
            self.blobs.entry(name.to_owned()).or_default().insert(digest, heard.body.clone());
            return Reply::of(201);
        }
        if let (Some(mount), Some(from), true) = (mount, from, self.mounts)
            && let Some(blob) = self.blobs.get(&from).and_then(|blobs| blobs.get(&mount)).cloned()
        {
            self.blobs.entry(name.to_owned()).or_default().insert(mount, blob);
            return Reply::of(201);
        }
        Reply::of(202).with("location", format!("/v2/{name}/blobs/uploads/1?state=x"))
    }
}

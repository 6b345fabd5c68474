//! A peer below the Docker client: speaks enough of the Engine API to run an app through, writes every request down, and fails where a test tells it to.
//!
//! It has no behaviour that a real engine does not have; whatever it is not asked for in a test answers 501.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a container of the peer writes while somebody is attached.
pub const CONTAINER_OUTPUT: &str = "Container is running\nWhat happened?\nSomething happened\n";

/// A request as the engine got it, without the version in front of the path.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The query, as names and decoded values.
    pub query: BTreeMap<String, String>,
    /// The body, when it is JSON.
    pub body: Option<Value>,
}

/// A failure that a test wants: requests whose method and path end match get this status and message.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The method.
    pub method: &'static str,
    /// How the path ends.
    pub path_end: &'static str,
    /// The status.
    pub status: u16,
    /// The message.
    pub message: &'static str,
}

#[derive(Default)]
struct Engine {
    /// How long every answer takes.
    pause: std::time::Duration,
    /// How the path of the request ends from which on nothing is answered any more.
    hangs_at: Option<&'static str>,
    /// Whether that request came.
    hangs: bool,
    requests: Vec<Recorded>,
    failures: Vec<Failure>,
    images: BTreeMap<String, Value>,
    containers: BTreeMap<String, Container>,
    execs: BTreeMap<String, i64>,
    next: u64,
}

struct Container {
    name: String,
    body: Value,
    running: bool,
    port: u16,
}

/// The peer. It stops when it is dropped.
pub struct Peer {
    address: SocketAddr,
    engine: Arc<Mutex<Engine>>,
    server: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Peer {
    /// Listens on a free port.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let engine = Arc::new(Mutex::new(Engine::default()));
        let shared = Arc::clone(&engine);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let engine = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&engine), request));
                    // A client that goes away ends its connection; there is nobody to tell.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        Ok(Self { address, engine, server })
    }

    /// The address a Docker client takes.
    pub fn address(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Makes an image known, with the `Config` of its inspect.
    pub fn add_image(&self, name: &str, config: Value) {
        lock(&self.engine).images.insert(name.to_owned(), config);
    }

    /// From now on these requests fail.
    pub fn fail(&self, failures: Vec<Failure>) {
        lock(&self.engine).failures = failures;
    }

    /// From now on every answer takes this long.
    pub fn slow(&self, pause: std::time::Duration) {
        lock(&self.engine).pause = pause;
    }

    /// From the next request on whose path ends so, nothing is answered any more; with none, every new one is again.
    pub fn hang(&self, path_end: Option<&'static str>) {
        let mut engine = lock(&self.engine);
        engine.hangs_at = path_end;
        engine.hangs = false;
    }

    /// Whether it has begun to answer nothing.
    pub fn hangs(&self) -> bool {
        lock(&self.engine).hangs
    }

    /// The requests since the last call, in the order they came.
    pub fn take_requests(&self) -> Vec<Recorded> {
        std::mem::take(&mut lock(&self.engine).requests)
    }

    /// The ids of the containers there are, with whether each runs.
    pub fn containers(&self) -> BTreeMap<String, bool> {
        let engine = lock(&self.engine);
        engine.containers.iter().map(|(id, container)| (id.clone(), container.running)).collect()
    }
}

/// The engine's state. A test that panicked while holding it has failed already, so the poison says nothing new.
fn lock(engine: &Mutex<Engine>) -> MutexGuard<'_, Engine> {
    engine.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

type Answer = Response<Full<Bytes>>;

fn reply(status: u16, body: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn empty(status: u16) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn missing(kind: &str, name: &str) -> Answer {
    reply(404, &json!({"message": format!("No such {kind}: {name}")}))
}

/// Percent-decodes a part of a query.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&hex, 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn answer(
    engine: Arc<Mutex<Engine>>,
    mut request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let method = request.method().to_string();
    let full = request.uri().path().to_owned();
    // `/v1.41/containers/...`: the version says nothing about what is asked.
    let path = match full
        .strip_prefix("/v1.")
        .and_then(|rest| rest.find('/').map(|at| rest[at..].to_owned()))
    {
        Some(path) => path,
        None => full,
    };
    let query: BTreeMap<String, String> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    let upgrade =
        request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let bytes = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body: Option<Value> = serde_json::from_slice(&bytes).ok();

    let pause = lock(&engine).pause;
    tokio::time::sleep(pause).await;
    let hangs = {
        let mut engine = lock(&engine);
        engine.hangs |= engine.hangs_at.is_some_and(|end| path.ends_with(end));
        engine.hangs
    };
    if hangs {
        std::future::pending::<()>().await;
    }
    let mut engine = lock(&engine);
    if path != "/version" && path != "/_ping" {
        engine.requests.push(Recorded {
            method: method.clone(),
            path: path.clone(),
            query: query.clone(),
            body: body.clone(),
        });
    }
    let failure = engine
        .failures
        .iter()
        .find(|failure| failure.method == method && path.ends_with(failure.path_end))
        .cloned();
    if let Some(failure) = failure {
        return Ok(reply(failure.status, &json!({"message": failure.message})));
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    Ok(engine.handle(&method, &parts, &query, body, upgrade))
}

/// A frame of Docker's multiplexed output.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![1, 0, 0, 0];
    frame.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(text.as_bytes());
    frame
}

/// What a path is: every image of the peer has a bash, and nothing else that somebody asks for.
fn stat(query: &BTreeMap<String, String>) -> Answer {
    let path = query.get("path").map(String::as_str).unwrap_or_default();
    if path != "/bin/bash" {
        return empty(404);
    }
    let mut response = empty(200);
    // {"name":"bash","size":1,"mode":493,"mtime":"2026-01-01T00:00:00Z","linkTarget":""}
    let stat = "eyJuYW1lIjoiYmFzaCIsInNpemUiOjEsIm1vZGUiOjQ5MywibXRpbWUiOiIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsImxpbmtUYXJnZXQiOiIifQ==";
    response
        .headers_mut()
        .insert("X-Docker-Container-Path-Stat", header::HeaderValue::from_static(stat));
    response
}

/// Writes bytes to an upgraded connection and closes it.
fn hijack(upgrade: Option<hyper::upgrade::OnUpgrade>, bytes: Vec<u8>) -> Answer {
    let Some(upgrade) = upgrade else {
        let mut response = Response::new(Full::new(Bytes::from(bytes)));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/vnd.docker.raw-stream"),
        );
        return response;
    };
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let mut stream = TokioIo::new(upgraded);
            // The client may have what it wanted and be gone.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
    });
    let mut response = empty(101);
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("tcp"));
    response
}

impl Engine {
    fn id(&mut self) -> String {
        self.next += 1;
        // Like Docker's, two ids differ in their first characters; unlike Docker's, they are not random.
        format!("{:016x}{:048x}", self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15), self.next)
    }

    fn find(&self, name: &str) -> Option<String> {
        self.containers
            .iter()
            .find(|(id, container)| id.starts_with(name) || container.name == name)
            .map(|(id, _)| id.clone())
    }

    fn handle(
        &mut self,
        method: &str,
        parts: &[&str],
        query: &BTreeMap<String, String>,
        body: Option<Value>,
        upgrade: Option<hyper::upgrade::OnUpgrade>,
    ) -> Answer {
        match (method, parts) {
            (_, ["_ping"]) => empty(200),
            ("GET", ["version"]) => reply(
                200,
                &json!({"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}),
            ),
            ("POST", ["images", "create"]) => {
                let name = query.get("fromImage").cloned().unwrap_or_default();
                let name = match query.get("tag") {
                    Some(tag) if !tag.is_empty() => format!("{name}:{tag}"),
                    _ => name,
                };
                self.images.entry(name).or_insert_with(|| json!({}));
                reply(200, &json!({"status": "Pulled"}))
            }
            ("GET", ["images", name @ .., "json"]) => {
                let name = name.join("/");
                match self.images.get(&name) {
                    Some(config) => reply(
                        200,
                        &json!({"Id": format!("sha256:{name}"), "RepoTags": [name], "Config": config, "Size": 1}),
                    ),
                    None => missing("image", &name),
                }
            }
            ("GET", ["images", .., "history"]) => reply(200, &json!([])),
            ("POST", ["images", name @ .., "tag"]) => {
                let config = self.images.get(&name.join("/")).cloned().unwrap_or_else(|| json!({}));
                let repository = query.get("repo").cloned().unwrap_or_default();
                let tag = query.get("tag").cloned().unwrap_or_default();
                self.images.insert(format!("{repository}:{tag}"), config);
                empty(201)
            }
            ("DELETE", ["images", name @ ..]) => {
                let name = name.join("/");
                match self.images.remove(&name) {
                    Some(_) => reply(200, &json!([{"Untagged": name}])),
                    None => missing("image", &name),
                }
            }
            ("POST", ["commit"]) => {
                let repository = query.get("repo").cloned().unwrap_or_default();
                let tag = query.get("tag").cloned().unwrap_or_default();
                self.images.insert(format!("{repository}:{tag}"), json!({}));
                let id = self.id();
                reply(201, &json!({"Id": format!("sha256:{id}")}))
            }
            ("POST", ["containers", "create"]) => self.create(query, body.unwrap_or_default()),
            ("GET", ["containers", "json"]) => self.list(query),
            ("POST", ["exec", id, "start"]) => {
                if self.execs.contains_key(*id) {
                    hijack(upgrade, Vec::new())
                } else {
                    missing("exec", id)
                }
            }
            ("GET", ["exec", id, "json"]) => match self.execs.get(*id) {
                Some(code) => reply(200, &json!({"ID": id, "Running": false, "ExitCode": code})),
                None => missing("exec", id),
            },
            (_, ["containers", name, rest @ ..]) => match self.find(name) {
                Some(id) => self.container(method, &id, rest, query, upgrade),
                None => missing("container", name),
            },
            _ => reply(
                501,
                &json!({"message": format!("the peer has no {method} {}", parts.join("/"))}),
            ),
        }
    }

    fn create(&mut self, query: &BTreeMap<String, String>, body: Value) -> Answer {
        let image = body["Image"].as_str().unwrap_or_default().to_owned();
        if !self.images.contains_key(&image) {
            return missing("image", &image);
        }
        let name = query.get("name").cloned().unwrap_or_default();
        if self.containers.values().any(|container| container.name == name) {
            return reply(
                409,
                &json!({"message": format!("Conflict. The container name \"/{name}\" is already in use")}),
            );
        }
        let id = self.id();
        // Nothing listens there: the flows say that a health check finds nobody.
        let port = u16::try_from(50_000 + self.next % 10_000).unwrap_or(50_000);
        self.containers.insert(id.clone(), Container { name, body, running: false, port });
        reply(201, &json!({"Id": id, "Warnings": []}))
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Answer {
        let filters: Value = query
            .get("filters")
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let wanted: Vec<String> = filters["label"]
            .as_array()
            .map(|labels| {
                labels.iter().filter_map(|label| label.as_str().map(str::to_owned)).collect()
            })
            .unwrap_or_default();
        let list: Vec<Value> = self
            .containers
            .iter()
            .filter(|(_, container)| {
                wanted.iter().all(|label| match label.split_once('=') {
                    Some((key, value)) => container.body["Labels"][key] == value,
                    None => !container.body["Labels"][label.as_str()].is_null(),
                })
            })
            .map(|(id, container)| {
                json!({
                    "Id": id,
                    "Names": [format!("/{}", container.name)],
                    "Image": container.body["Image"],
                    "State": if container.running { "running" } else { "exited" },
                    "Labels": container.body["Labels"],
                })
            })
            .collect();
        reply(200, &Value::Array(list))
    }

    fn container(
        &mut self,
        method: &str,
        id: &str,
        rest: &[&str],
        query: &BTreeMap<String, String>,
        upgrade: Option<hyper::upgrade::OnUpgrade>,
    ) -> Answer {
        match (method, rest) {
            ("DELETE", []) => {
                self.containers.remove(id);
                empty(204)
            }
            ("POST", ["exec"]) => {
                let exec = self.id();
                self.execs.insert(exec.clone(), 0);
                reply(201, &json!({"Id": exec}))
            }
            ("POST", ["attach"]) => hijack(upgrade, frame(CONTAINER_OUTPUT)),
            ("POST", ["wait"]) => reply(200, &json!({"StatusCode": 0})),
            ("HEAD", ["archive"]) => stat(query),
            ("GET", ["archive"]) => missing("file", id),
            _ => {
                let Some(container) = self.containers.get_mut(id) else {
                    return missing("container", id);
                };
                match (method, rest) {
                    ("POST", ["start"]) => {
                        container.running = true;
                        empty(204)
                    }
                    ("POST", ["stop"]) => {
                        container.running = false;
                        empty(204)
                    }
                    ("GET", ["json"]) => reply(200, &container.inspect(id)),
                    _ => reply(
                        501,
                        &json!({"message": format!("the peer has no {method} {}", rest.join("/"))}),
                    ),
                }
            }
        }
    }
}

impl Container {
    fn inspect(&self, id: &str) -> Value {
        let ports: serde_json::Map<String, Value> = self.body["HostConfig"]["PortBindings"]
            .as_object()
            .map(|bindings| {
                bindings
                    .keys()
                    .map(|port| {
                        let bound =
                            json!([{"HostIp": "0.0.0.0", "HostPort": self.port.to_string()}]);
                        (port.clone(), if self.running { bound } else { Value::Null })
                    })
                    .collect()
            })
            .unwrap_or_default();
        json!({
            "Id": id,
            "Name": format!("/{}", self.name),
            "Created": "2026-01-01T00:00:00Z",
            "Image": "sha256:0",
            "State": {
                "Status": if self.running { "running" } else { "exited" },
                "Running": self.running,
                "ExitCode": 0,
            },
            "Config": self.body,
            "NetworkSettings": {"IPAddress": "172.17.0.2", "Ports": ports},
        })
    }
}

//! A registry of the tests' own: as much of the distribution protocol as a Docker engine uses to push and to pull.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, OnceLock};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};

/// Where the registry answers: one for all tests, on a port of its own, in a thread of its own.
pub(crate) fn address() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS.get_or_init(|| start(None))
}

/// A registry that asks for a password, given as HTTP basic authentication has it.
pub(crate) fn guarded(credentials: &'static str) -> String {
    start(Some(credentials))
}

fn start(credentials: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve(listener, credentials));
    });
    address
}

async fn serve(listener: TcpListener, credentials: Option<&'static str>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let kept = Arc::new(Mutex::new(Kept::default()));
    while let Ok((stream, _)) = listener.accept().await {
        let kept = Arc::clone(&kept);
        tokio::spawn(async move {
            let service =
                service_fn(move |request| answer(Arc::clone(&kept), credentials, request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[derive(Default)]
struct Kept {
    blobs: BTreeMap<String, Bytes>,
    /// By name and tag or digest: type and body.
    manifests: BTreeMap<(String, String), (String, Bytes)>,
    uploads: Vec<Vec<u8>>,
}

type Answer = Response<Full<Bytes>>;

async fn answer(
    kept: Arc<Mutex<Kept>>,
    credentials: Option<&str>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let header = |name| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    if credentials.is_some_and(|due| header("authorization") != format!("Basic {due}")) {
        let refusal = Response::builder()
            .status(401)
            .header("www-authenticate", "Basic realm=\"tests\"")
            .body(Full::default());
        return Ok(refusal.unwrap());
    }
    let (method, uri, kind) =
        (request.method().clone(), request.uri().clone(), header("content-type").to_owned());
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let query = uri.query().unwrap_or_default();
    let digest = query.split('&').find_map(|pair| pair.strip_prefix("digest="));
    let digest = digest.map(|digest| digest.replace("%3A", ":"));
    let mut kept = kept.lock().unwrap();
    Ok(kept.answer(&method, uri.path(), &kind, digest, body))
}

fn plain(status: u16) -> Answer {
    Response::builder().status(status).body(Full::default()).unwrap()
}

fn digest_of(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Kept {
    fn answer(
        &mut self,
        method: &Method,
        path: &str,
        kind: &str,
        digest: Option<String>,
        body: Bytes,
    ) -> Answer {
        if path == "/v2/" {
            return plain(200);
        }
        let rest = path.trim_start_matches("/v2/");
        if let Some((name, upload)) = rest.split_once("/blobs/uploads/") {
            return self.upload(name, upload, digest, body);
        }
        if let Some((_, digest)) = rest.split_once("/blobs/") {
            return match self.blobs.get(digest) {
                Some(blob) => told(method, digest, "application/octet-stream", blob.clone()),
                None => plain(404),
            };
        }
        let Some((name, reference)) = rest.split_once("/manifests/") else {
            return plain(404);
        };
        if method == Method::PUT {
            let digest = digest_of(&body);
            for reference in [reference, &digest] {
                let at = (name.to_owned(), reference.to_owned());
                self.manifests.insert(at, (kind.to_owned(), body.clone()));
            }
            return told(&Method::HEAD, &digest, kind, Bytes::new()).into_created();
        }
        match self.manifests.get(&(name.to_owned(), reference.to_owned())) {
            Some((kind, body)) => told(method, &digest_of(body), kind, body.clone()),
            None => {
                let error =
                    r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
                Response::builder()
                    .status(404)
                    .header("content-type", "application/json")
                    .body(Full::from(error))
                    .unwrap()
            }
        }
    }

    fn upload(&mut self, name: &str, upload: &str, digest: Option<String>, body: Bytes) -> Answer {
        let index = upload.parse().unwrap_or_else(|_| {
            self.uploads.push(Vec::new());
            self.uploads.len() - 1
        });
        self.uploads[index].extend_from_slice(&body);
        let size = self.uploads[index].len();
        let Some(digest) = digest else {
            return Response::builder()
                .status(202)
                .header("location", format!("/v2/{name}/blobs/uploads/{index}"))
                .header("range", format!("0-{}", size.saturating_sub(1)))
                .header("docker-upload-uuid", index.to_string())
                .body(Full::default())
                .unwrap();
        };
        let bytes = std::mem::take(&mut self.uploads[index]);
        assert_eq!(digest_of(&bytes), digest, "the engine sent what it said");
        self.blobs.insert(digest.clone(), Bytes::from(bytes));
        Response::builder()
            .status(201)
            .header("location", format!("/v2/{name}/blobs/{digest}"))
            .header("docker-content-digest", digest)
            .body(Full::default())
            .unwrap()
    }
}

fn told(method: &Method, digest: &str, kind: &str, body: Bytes) -> Answer {
    Response::builder()
        .header("content-type", kind)
        .header("content-length", body.len())
        .header("docker-content-digest", digest)
        .body(if method == Method::HEAD { Full::default() } else { Full::from(body) })
        .unwrap()
}

trait IntoCreated {
    fn into_created(self) -> Self;
}

impl IntoCreated for Answer {
    fn into_created(mut self) -> Self {
        *self.status_mut() = hyper::StatusCode::CREATED;
        self
    }
}

//! A service in this process: speaks tsuru's service API over real HTTP, writes down what it is told, and answers what a test wants.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio::task::JoinHandle;

/// What the service was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// `POST` or `DELETE`.
    pub(crate) method: String,
    /// The whole path.
    pub(crate) path: String,
    /// The fields of the form, each with its values.
    pub(crate) form: BTreeMap<String, Vec<String>>,
    /// Who asks.
    pub(crate) authorization: String,
}

impl Told {
    /// What is done: `POST bind-app`.
    pub(crate) fn verb(&self) -> String {
        let what = self.path.rsplit('/').next().unwrap_or_default();
        format!("{} {what}", self.method)
    }

    /// The only value of a field; empty when it is not there.
    pub(crate) fn field(&self, name: &str) -> &str {
        match self.form.get(name).map(Vec::as_slice) {
            Some([value]) => value,
            _ => "",
        }
    }
}

/// What a service answers.
#[derive(Clone)]
pub(crate) enum Answer {
    /// This status with this body.
    Says(u16, Vec<u8>),
    /// Another place, with this status.
    Elsewhere(u16, String),
    /// Nothing, ever.
    Hangs,
    /// The connection ends.
    HangsUp,
    /// As usual, once as many are asked at the same time.
    Together(Arc<Barrier>),
}

impl Answer {
    pub(crate) fn says(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Says(status, body.into())
    }
}

type Rule = Box<dyn FnMut(&Told) -> Option<Answer> + Send>;

struct State {
    told: Vec<Told>,
    rule: Rule,
    envs: String,
}

/// The service. It is gone when this is dropped.
pub(crate) struct Database {
    state: Arc<Mutex<State>>,
    url: String,
    server: JoinHandle<()>,
}

impl Drop for Database {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Database {
    /// A service that gives every app these variables.
    pub(crate) async fn start(envs: &serde_json::Value) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let rule: Rule = Box::new(|_| None);
        let state = State { told: Vec::new(), rule, envs: envs.to_string() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            // The connections end with the listener.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&state), request));
                    // Whoever asks may go away, and a connection that hangs up is an error here.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self { state, url, server })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// From now on this decides what is answered; none is the usual.
    pub(crate) fn when(&self, rule: impl FnMut(&Told) -> Option<Answer> + Send + 'static) {
        lock(&self.state).rule = Box::new(rule);
    }

    /// From now on what is asked so is answered so.
    pub(crate) fn answers(&self, verb: &'static str, answer: Answer) {
        self.when(move |told| (told.verb() == verb).then(|| answer.clone()));
    }

    /// From now on everything is answered as usual.
    pub(crate) fn works(&self) {
        self.when(|_| None);
    }

    /// What it was told since this was asked last.
    pub(crate) fn take(&self) -> Vec<Told> {
        std::mem::take(&mut lock(&self.state).told)
    }

    /// The same, as verbs in their order.
    pub(crate) fn verbs(&self) -> Vec<String> {
        self.take().iter().map(Told::verb).collect()
    }

    /// Waits until it is told this, and leaves what it was told as it is.
    pub(crate) async fn until(&self, verb: &str) -> Result<()> {
        let wait = async {
            while !lock(&self.state).told.iter().any(|told| told.verb() == verb) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(crate::support::SOON, wait).await.with_context(|| format!("no {verb}"))
    }

    /// Ends it: from now on nobody answers there.
    pub(crate) async fn stop(mut self) {
        self.server.abort();
        // The listener is gone with its task.
        let _ = (&mut self.server).await;
    }
}

fn decoded(text: &str) -> String {
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
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let header = |name| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut told = Told {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        form: BTreeMap::new(),
        authorization: header(header::AUTHORIZATION),
    };
    let is_form = header(header::CONTENT_TYPE) == "application/x-www-form-urlencoded";
    let bytes = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    for pair in text.split('&').filter(|pair| is_form && !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        told.form.entry(decoded(name)).or_default().push(decoded(value));
    }
    let (mut answer, envs) = {
        let mut state = lock(&state);
        let answer = (state.rule)(&told);
        state.told.push(told.clone());
        (answer, state.envs.clone())
    };
    if let Some(Answer::Together(barrier)) = answer {
        barrier.wait().await;
        answer = None;
    }
    let mut place = None;
    let (status, body) = match answer {
        Some(Answer::Hangs) => std::future::pending().await,
        // A panic of its task closes the connection without a word.
        Some(Answer::HangsUp) => std::panic::resume_unwind(Box::new("hangs up")),
        Some(Answer::Elsewhere(status, url)) => {
            place = url.parse().ok();
            (status, Vec::new())
        }
        Some(Answer::Says(status, body)) => (status, body),
        Some(Answer::Together(_)) | None => match told.verb().as_str() {
            "POST bind-app" => (201, envs.into_bytes()),
            "POST bind" => (201, Vec::new()),
            "DELETE bind-app" | "DELETE bind" => (200, Vec::new()),
            _ => (405, Vec::new()),
        },
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    if let Some(place) = place {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

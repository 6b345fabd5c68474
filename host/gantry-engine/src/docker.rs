//! Docker engines: `Docker`, over a unix socket, TCP or TLS.
//!
//! Owns everything that is Docker's own: its documents, its frames, its statuses and its API versions. Nothing of it shows above: an engine that answers oddly is an error that
//! says so.
//!
//! Promises, beyond those of [`Containers`]: the API version is agreed on once, before the first call; every call that has an end of its own has a time limit ([`Timeouts`]); a
//! call is never repeated.

mod auth;
mod convert;
mod endpoint;
mod errors;
mod images;
mod probe;
mod streams;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error as BollardError;
use bollard::query_parameters as query;
use bollard::{API_DEFAULT_VERSION, BollardRequest};
use futures_util::{StreamExt as _, TryStreamExt as _};
use gantry_core::container::{Container, ContainerSpec, Image};
use hyper::body::Incoming;
use hyper::http::Method;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_util::io::{ReaderStream, StreamReader};

pub use self::auth::Auth;
pub use self::endpoint::Endpoint;
use self::errors::About;
pub use self::wire::ApiVersion;
use self::wire::Wire;
use crate::call::{
    BuildOptions, ContainerSummary, ExecOptions, ExecState, HttpRequest, HttpResponse, Layer,
    LogOptions, PathStat,
};
use crate::containers::Result;
use crate::stream::{Output, Reader, Session, Writer};
use crate::{Containers, ContainersError, names};

/// How long an engine may take, by kind of call. What waits for a container's end, and a build, have no limit here: operations have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect.
    pub connect: Duration,
    /// To answer a question: list, inspect, history.
    pub question: Duration,
    /// To make a change: create, start, remove, tag; and to stop, on top of the seconds a container has for it.
    pub change: Duration,
    /// To commit, which copies what a container wrote.
    pub commit: Duration,
    /// Between two signs of life of a pull, a push or a transfer.
    pub silence: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            question: Duration::from_secs(30),
            change: Duration::from_secs(120),
            commit: Duration::from_secs(600),
            silence: Duration::from_secs(300),
        }
    }
}

/// A Docker engine.
pub struct Docker {
    endpoint: Endpoint,
    bollard: bollard::Docker,
    wire: Wire,
    agreed: OnceCell<ApiVersion>,
    auth: Auth,
    timeouts: Timeouts,
    /// Whether a prepared command has a terminal: its output has another form then.
    terminals: Mutex<HashMap<String, bool>>,
}

/// So many commands may be prepared and not started before their terminals are asked for again.
const TERMINALS: usize = 4096;

impl Docker {
    /// The engine at this place. Certificates are read; nothing is sent yet.
    ///
    /// # Errors
    /// [`ContainersError::Invalid`] when a certificate cannot be used.
    pub fn new(endpoint: Endpoint) -> Result<Self> {
        Self::with(endpoint, Auth::none(), Timeouts::default())
    }

    /// The engine at this place, with what registries ask for and other time limits.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with(endpoint: Endpoint, auth: Auth, timeouts: Timeouts) -> Result<Self> {
        let wire = Wire::new(&endpoint, timeouts.connect)?;
        let carrier = wire.clone();
        let carry = move |request: BollardRequest| {
            let wire = carrier.clone();
            Box::pin(async move { wire.send(request).await })
        };
        // The limits are ours: bollard's is only longer than any of them.
        let never = Duration::from_secs(60 * 60 * 24 * 365).as_secs();
        let bollard = bollard::Docker::connect_with_custom_transport(
            carry,
            Some("http://docker"),
            never,
            API_DEFAULT_VERSION,
        )
        .map_err(|error| About::host("open").error(&endpoint, error))?;
        Ok(Self {
            endpoint,
            bollard,
            wire,
            agreed: OnceCell::new(),
            auth,
            timeouts,
            terminals: Mutex::default(),
        })
    }

    /// The engine that the environment names ([`Endpoint::from_env`]).
    ///
    /// # Errors
    /// When the environment names none that can be.
    pub fn from_env() -> Result<Self> {
        Self::new(Endpoint::from_env()?)
    }

    /// Where it is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The API version spoken with it, agreed on now if it was not yet.
    ///
    /// # Errors
    /// When it cannot be reached, is no Docker engine, or speaks no version that is known here.
    pub async fn api_version(&self) -> Result<ApiVersion> {
        let limit = self.timeouts.question;
        self.agreed.get_or_try_init(|| self.wire.negotiate(&self.endpoint, limit)).await.copied()
    }

    /// Waits for an answer, as long as it may take.
    async fn within<T>(
        &self,
        limit: Duration,
        about: About<'_>,
        answer: impl Future<Output = std::result::Result<T, BollardError>>,
    ) -> Result<T> {
        self.api_version().await?;
        match timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|error| about.error(&self.endpoint, error)),
            Err(_) => Err(about.late(&self.endpoint, limit)),
        }
    }

    async fn question<T>(
        &self,
        about: About<'_>,
        answer: impl Future<Output = std::result::Result<T, BollardError>>,
    ) -> Result<T> {
        self.within(self.timeouts.question, about, answer).await
    }

    async fn change<T>(
        &self,
        about: About<'_>,
        answer: impl Future<Output = std::result::Result<T, BollardError>>,
    ) -> Result<T> {
        self.within(self.timeouts.change, about, answer).await
    }

    /// Sends a request whose answer is bytes and not a document.
    async fn raw(
        &self,
        about: About<'_>,
        request: hyper::http::Result<BollardRequest>,
    ) -> Result<Response<Incoming>> {
        let request = request
            .map_err(|error| about.invalid(&self.endpoint, &format!("no request: {error}")))?;
        let response = self.question(about, self.wire.send(request)).await?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let message = self.message(about, response).await?;
        Err(about.status(&self.endpoint, status.as_u16(), &message))
    }

    /// What an answer without success says.
    async fn message(&self, about: About<'_>, response: Response<Incoming>) -> Result<String> {
        #[derive(serde::Deserialize)]
        struct Told {
            message: String,
        }
        let body = http_body_util::Limited::new(response.into_body(), 64 << 10);
        let body = timeout(self.timeouts.question, http_body_util::BodyExt::collect(body))
            .await
            .map_err(|_| about.late(&self.endpoint, self.timeouts.question))?
            .map_err(|_| about.cut_off(&self.endpoint))?
            .to_bytes();
        Ok(serde_json::from_slice::<Told>(&body)
            .map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |told| told.message))
    }

    /// Turns a request into bytes in both directions.
    async fn upgraded(
        &self,
        about: About<'_>,
        path: &str,
        body: String,
    ) -> Result<TokioIo<hyper::upgrade::Upgraded>> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "tcp")
            .body(wire::json(body));
        let response = self.raw(about, request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(about.failed(&self.endpoint, "the engine gives no connection for it"));
        }
        let upgraded =
            hyper::upgrade::on(response).await.map_err(|_| about.cut_off(&self.endpoint))?;
        Ok(TokioIo::new(upgraded))
    }

    async fn inspected(
        &self,
        about: About<'_>,
    ) -> Result<bollard::models::ContainerInspectResponse> {
        names::container(about.name)?;
        self.question(about, self.bollard.inspect_container(about.name, None)).await
    }

    fn terminals(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.terminals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the engine has removed a container that it is removing.
    async fn gone(&self, about: About<'_>) -> Result<()> {
        let options = query::WaitContainerOptionsBuilder::new().condition("removed").build();
        let mut ended = self.bollard.wait_container(about.name, Some(options));
        match timeout(self.timeouts.change, ended.next()).await {
            // Its exit code comes as an error, and an engine that has removed it knows it no more: either way it is gone.
            Ok(None | Some(Ok(_) | Err(BollardError::DockerContainerWaitError { .. }))) => Ok(()),
            Ok(Some(Err(error))) => {
                let error = about.error(&self.endpoint, error);
                if matches!(error, ContainersError::NotFound(_)) { Ok(()) } else { Err(error) }
            }
            Err(_) => Err(about.late(&self.endpoint, self.timeouts.change)),
        }
    }
}

#[async_trait]
impl Containers for Docker {
    async fn list(
        &self,
        all: bool,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<ContainerSummary>> {
        let options = query::ListContainersOptionsBuilder::new().all(all);
        let options = if labels.is_empty() {
            options
        } else {
            options.filters(&convert::label_filter(labels))
        };
        let found = self.bollard.list_containers(Some(options.build()));
        let found = self.question(About::host("list"), found).await?;
        Ok(found.into_iter().map(convert::summary).collect())
    }

    async fn create(&self, name: &str, spec: &ContainerSpec) -> Result<String> {
        if !name.is_empty() {
            names::new_container(name)?;
        }
        let about = About::container("create", name);
        let body = convert::create_body(spec)?;
        let options = (!name.is_empty())
            .then(|| query::CreateContainerOptionsBuilder::new().name(name).build());
        let created = self.change(about, self.bollard.create_container(options, body)).await;
        match created {
            Ok(created) => Ok(created.id),
            Err(ContainersError::NotFound(why)) if why.contains("no such image") => {
                Err(About::image("find", &spec.image).absent(&self.endpoint))
            }
            Err(error) => Err(error),
        }
    }

    async fn start(&self, id: &str) -> Result<()> {
        names::container(id)?;
        let about = About::container("start", id);
        self.change(about, self.bollard.start_container(id, None)).await
    }

    async fn stop(&self, id: &str, seconds: u32) -> Result<()> {
        names::container(id)?;
        let about = About::container("stop", id);
        let limit = self.timeouts.change.saturating_add(Duration::from_secs(seconds.into()));
        let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
        let options = query::StopContainerOptionsBuilder::new().t(seconds).build();
        self.within(limit, about, self.bollard.stop_container(id, Some(options))).await
    }

    async fn remove(&self, id: &str, force: bool) -> Result<()> {
        names::container(id)?;
        let about = About::container("remove", id);
        let options = query::RemoveContainerOptionsBuilder::new().v(true).force(force).build();
        let removed = self.bollard.remove_container(id, Some(options));
        match self.change(about, removed).await {
            Err(ContainersError::NotFound(_)) => Ok(()),
            Err(ContainersError::Conflict(why)) if why.contains("already in progress") => {
                self.gone(about).await
            }
            answer => answer,
        }
    }

    async fn inspect(&self, id: &str) -> Result<Container> {
        self.inspected(About::container("inspect", id)).await.map(convert::container)
    }

    async fn wait(&self, id: &str) -> Result<i64> {
        names::container(id)?;
        self.api_version().await?;
        let about = About::container("wait for", id);
        let mut ended = self.bollard.wait_container(id, None);
        match ended.next().await {
            Some(Ok(ended)) => Ok(ended.status_code),
            Some(Err(BollardError::DockerContainerWaitError { error, code }))
                if error.is_empty() =>
            {
                Ok(code)
            }
            Some(Err(BollardError::DockerContainerWaitError { error, .. })) => {
                Err(about.failed(&self.endpoint, &error))
            }
            Some(Err(error)) => Err(about.error(&self.endpoint, error)),
            None => Err(about.cut_off(&self.endpoint)),
        }
    }

    async fn commit(
        &self,
        id: &str,
        repository: &str,
        tag: &str,
        comment: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<String> {
        self.commit_image(id, repository, tag, comment, labels).await
    }

    async fn download(&self, id: &str, path: &str) -> Result<Reader> {
        names::container(id)?;
        self.api_version().await?;
        let about = About::container("download from", id);
        let options = query::DownloadFromContainerOptionsBuilder::new().path(path).build();
        let mut parts = self.bollard.download_from_container(id, Some(options));
        // The first part tells whether there is anything: an absent file is no empty archive.
        let first = timeout(self.timeouts.silence, parts.next())
            .await
            .map_err(|_| about.late(&self.endpoint, self.timeouts.silence))?
            .transpose()
            .map_err(|error| about.error(&self.endpoint, error))?;
        let rest = parts.map_err(|error| io::Error::other(errors::innermost(&error)));
        let all = futures_util::stream::iter(first.map(Ok)).chain(rest);
        Ok(Box::pin(StreamReader::new(all)))
    }

    async fn upload(&self, id: &str, path: &str, archive: Reader) -> Result<()> {
        names::container(id)?;
        self.api_version().await?;
        let about = About::container("upload to", id);
        let options = query::UploadToContainerOptionsBuilder::new().path(path).build();
        let body = bollard::body_try_stream(ReaderStream::new(archive));
        // No limit on the whole: how long it takes is the sender's business as well.
        self.bollard
            .upload_to_container(id, Some(options), body)
            .await
            .map_err(|error| about.error(&self.endpoint, error))
    }

    async fn stat_path(&self, id: &str, path: &str) -> Result<PathStat> {
        names::container(id)?;
        let about = About::container("look into", id);
        let options = query::ContainerArchiveInfoOptionsBuilder::new().path(path).build();
        let told = self.bollard.get_container_archive_info(id, Some(options));
        match self.question(about, told).await {
            Ok(told) => Ok(PathStat {
                name: told.name,
                size: u64::try_from(told.size).unwrap_or_default(),
                mode: told.file_mode,
                link_target: told.link_target,
            }),
            // The answer to this question has no text.
            Err(ContainersError::NotFound(_)) => Err(ContainersError::NotFound(format!(
                "no `{path}` in the container `{id}` on `{}`",
                self.endpoint
            ))),
            Err(error) => Err(error),
        }
    }

    async fn attach(&self, id: &str, logs: bool) -> Result<Session> {
        names::container(id)?;
        let about = About::container("attach to", id);
        let path = format!(
            "/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1&logs={}",
            u8::from(logs)
        );
        let stream = self.upgraded(about, &path, String::new()).await?;
        let container = self.inspected(about).await?;
        let config = container.config.unwrap_or_default();
        let (tty, stdin) = (config.tty == Some(true), config.open_stdin == Some(true));
        let (read, write) = tokio::io::split(stream);
        if convert::has_ended(container.state.as_ref()) {
            // Docker never ends the stream of a container that had ended before.
            if logs {
                return self.log(about, tty, "").await;
            }
            let mut session = streams::session(&self.endpoint, about, read, tty, None);
            let enough = tokio::time::sleep(Duration::from_secs(1));
            session.chunks = session.chunks.take_until(enough).boxed();
            return Ok(session);
        }
        let input: Option<Writer> = if stdin { Some(Box::pin(write)) } else { None };
        Ok(streams::session(&self.endpoint, about, read, tty, input))
    }

    async fn logs(&self, id: &str, options: &LogOptions) -> Result<Session> {
        let about = About::container("read the log of", id);
        let config = self.inspected(about).await?.config.unwrap_or_default();
        let query = format!(
            "&follow={}&timestamps={}&tail={}",
            u8::from(options.follow),
            u8::from(options.timestamps),
            options.lines
        );
        self.log(about, config.tty == Some(true), &query).await
    }

    async fn http(&self, id: &str, request: &HttpRequest) -> Result<HttpResponse> {
        let container = self.inspect(id).await?;
        probe::ask(&self.endpoint, &container, request).await
    }

    async fn create_exec(&self, id: &str, options: &ExecOptions) -> Result<String> {
        names::container(id)?;
        let about = About::container("run a command in", id);
        let config = convert::exec_config(options);
        let exec_id = self.change(about, self.bollard.create_exec(id, config)).await?.id;
        let mut terminals = self.terminals();
        if terminals.len() >= TERMINALS {
            terminals.clear();
        }
        terminals.insert(exec_id.clone(), options.tty);
        Ok(exec_id)
    }

    async fn start_exec(&self, exec_id: &str, output: Output) -> Result<()> {
        let about = About::exec("start", exec_id);
        names::exec(exec_id)?;
        let known = self.terminals().remove(exec_id);
        let tty = match known {
            Some(tty) => tty,
            None => self.unstarted(about).await?,
        };
        let body = format!(r#"{{"Detach":false,"Tty":{tty}}}"#);
        let stream = self.upgraded(about, &format!("/exec/{exec_id}/start"), body).await?;
        streams::copy(streams::session(&self.endpoint, about, stream, tty, None), output).await?;
        self.exec_ended(about).await
    }

    async fn resize_exec(&self, exec_id: &str, height: u16, width: u16) -> Result<()> {
        names::exec(exec_id)?;
        let about = About::exec("resize", exec_id);
        let options =
            query::ResizeExecOptionsBuilder::new().h(i32::from(height)).w(i32::from(width)).build();
        self.change(about, self.bollard.resize_exec(exec_id, options)).await
    }

    async fn inspect_exec(&self, exec_id: &str) -> Result<ExecState> {
        names::exec(exec_id)?;
        let about = About::exec("inspect", exec_id);
        let told = self.question(about, self.bollard.inspect_exec(exec_id)).await?;
        Ok(convert::exec_state(&told))
    }

    async fn pull_image(&self, image: &str) -> Result<()> {
        self.pull(image).await
    }

    async fn inspect_image(&self, image: &str) -> Result<Image> {
        names::image(image)?;
        let about = About::image("inspect", image);
        self.question(about, self.bollard.inspect_image(image)).await.map(convert::image)
    }

    async fn tag_image(&self, image: &str, repository: &str, tag: &str) -> Result<()> {
        self.tag(image, repository, tag).await
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        names::image(image)?;
        let about = About::image("remove", image);
        let removed = self.bollard.remove_image(image, None::<query::RemoveImageOptions>, None);
        match self.change(about, removed).await {
            Ok(_) | Err(ContainersError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn image_history(&self, image: &str) -> Result<Vec<Layer>> {
        names::image(image)?;
        let about = About::image("tell the history of", image);
        let layers = self.question(about, self.bollard.image_history(image)).await?;
        Ok(layers.into_iter().map(convert::layer).collect())
    }

    async fn build_image(
        &self,
        options: &BuildOptions,
        context: Reader,
        output: Writer,
    ) -> Result<()> {
        self.build(options, context, output).await
    }

    async fn push_image(&self, image: &str, output: Writer) -> Result<()> {
        self.push(image, output).await
    }
}

impl Docker {
    /// The log of a container.
    async fn log(&self, about: About<'_>, tty: bool, query: &str) -> Result<Session> {
        let path = format!("/containers/{}/logs?stdout=1&stderr=1{query}", about.name);
        let response = self.raw(about, Request::get(path).body(wire::empty())).await?;
        let body = streams::body(response.into_body());
        Ok(streams::session(&self.endpoint, about, body, tty, None))
    }

    /// Whether a command has a terminal that was prepared elsewhere, or has been started: Docker would write its refusal into the output.
    async fn unstarted(&self, about: About<'_>) -> Result<bool> {
        let told = self.question(about, self.bollard.inspect_exec(about.name)).await?;
        let state = convert::exec_state(&told);
        if state.running || state.exit_code.is_some() {
            return Err(about.conflict(&self.endpoint, "it has been started before"));
        }
        Ok(told.process_config.and_then(|process| process.tty).unwrap_or_default())
    }

    /// Waits until a command has ended whose output is over: it may have closed its ends before, and an engine that went away closes them too.
    async fn exec_ended(&self, about: About<'_>) -> Result<()> {
        let mut pause = Duration::from_millis(2);
        loop {
            let told = self.question(about, self.bollard.inspect_exec(about.name)).await?;
            if !told.running.unwrap_or_default() {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(Duration::from_secs(1));
        }
    }
}

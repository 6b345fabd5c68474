//! Docker engines: `Docker`, over a unix socket, TCP or TLS.
//!
//! Owns everything that is Docker's own: its documents, its frames, its statuses and its API versions. Nothing of it shows above: an engine that answers oddly is an error that
//! says so.
//!
//! Promises, beyond those of [`Containers`]: the API version is agreed on once, before the first call; every call that has an end of its own has a time limit ([`Timeouts`]); a
//! call is never repeated.
//!
//! bollard writes what it sends and gets, environments and all, to `log` at level `debug` under the target `bollard`: a program that shows that level must leave this target out.

mod auth;
mod convert;
mod endpoint;
mod errors;
mod flow;
mod images;
mod probe;
mod session;
mod streams;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error as BollardError;
use bollard::query_parameters as query;
use bollard::{API_DEFAULT_VERSION, BollardRequest};
use futures_util::StreamExt as _;
use gantry_core::container::{Container, ContainerSpec, Image};
use tokio::sync::OnceCell;
use tokio::time::timeout;

pub use self::auth::Auth;
pub use self::endpoint::{Certificates, Endpoint};
use self::errors::About;
pub use self::wire::ApiVersion;
use self::wire::Wire;
use crate::call::{
    BuildOptions, ContainerSummary, ExecOptions, ExecState, HttpRequest, HttpResponse, Layer,
    LogOptions, PathStat,
};
use crate::containers::Result;
use crate::stream::{Output, Reader, Session, Writer};
use crate::{Containers, EngineError, names};

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

/// A Docker engine. Cloning it gives the same engine.
#[derive(Clone)]
pub struct Docker {
    endpoint: Endpoint,
    bollard: bollard::Docker,
    wire: Wire,
    agreed: OnceCell<ApiVersion>,
    auth: Auth,
    timeouts: Timeouts,
    /// Whether a prepared command has a terminal: its output has another form then.
    terminals: Arc<Mutex<HashMap<String, bool>>>,
}

/// So many commands may be prepared and not started before their terminals are asked for again.
const TERMINALS: usize = 4096;

impl Docker {
    /// The engine at this place. Certificates are read; nothing is sent yet.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when a certificate cannot be used.
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
            terminals: Arc::default(),
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
                if matches!(error, EngineError::NotFound(_)) { Ok(()) } else { Err(error) }
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
            Err(EngineError::NotFound(why)) if why.contains("no such image") => {
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
            Err(EngineError::NotFound(_)) => Ok(()),
            Err(EngineError::Conflict(why)) if why.contains("already in progress") => {
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
        self.archive_of(id, path).await
    }

    async fn upload(&self, id: &str, path: &str, archive: Reader) -> Result<()> {
        self.unpack_into(id, path, archive).await
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
            Err(EngineError::NotFound(_)) => Err(EngineError::NotFound(format!(
                "no `{path}` in the container `{id}` on `{}`",
                self.endpoint
            ))),
            Err(error) => Err(error),
        }
    }

    async fn attach(&self, id: &str, logs: bool) -> Result<Session> {
        self.attached(id, logs).await
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
        let exec_id = self.prepared(id, options).await?;
        let mut terminals = self.terminals();
        if terminals.len() >= TERMINALS {
            terminals.clear();
        }
        terminals.insert(exec_id.clone(), options.tty);
        Ok(exec_id)
    }

    async fn start_exec(&self, exec_id: &str, output: Output) -> Result<()> {
        self.run_exec(exec_id, output).await
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

    async fn exec_session(&self, id: &str, options: &ExecOptions) -> Result<Session> {
        self.command_session(id, options).await
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
            Ok(_) | Err(EngineError::NotFound(_)) => Ok(()),
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

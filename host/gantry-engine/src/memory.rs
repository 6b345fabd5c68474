//! An engine and a platform in memory, for tests: real semantics, nothing outside the process.
//!
//! [`Memory`] passes the same suite as a real Docker engine ([`contract`](mod@crate::contract)); what it does not do is run processes, and there its answers are these:
//!
//! | call | answer |
//! |---|---|
//! | `start`, `stop`, `wait` | the process runs until it is stopped and then ends with 0, unless [`Processes`] tells otherwise; restart policies are not followed |
//! | `start_exec`, `exec_session` | `failed`, unless somebody plays the command |
//! | `attach`, `logs` | only what somebody plays; they end when the container does |
//! | `http` | `unreachable`, unless somebody plays the port |
//! | `build_image` | `failed` for a step that would run something |
//! | `pull_image`, `push_image` | from and to a registry in memory |
//!
//! [`Objects`] is a Kubernetes cluster. [`Platform`] keeps apps, their images and the keys of plugins.

mod build;
mod files;
mod locks;
mod machine;
pub mod objects;
mod platform;
mod process;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use gantry_core::container::{Container, ContainerSpec, Image};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use self::machine::{Machine, Picture};
pub use self::objects::Objects;
pub use self::platform::{AppRecord, Platform, RoutesRecord};
pub use self::process::{Ended, Idle, Life, Processes};
use crate::call::{
    BuildOptions, ContainerSummary, ExecOptions, ExecState, HttpRequest, HttpResponse, Layer,
    LogOptions, PathStat,
};
use crate::containers::Result;
use crate::stream::{Chunk, Output, Reader, Session, Source, Writer};
use crate::{Containers, EngineError, names};

/// A container engine in memory. Cloning it gives the same engine.
#[derive(Clone)]
pub struct Memory {
    machine: Arc<Mutex<Machine>>,
    /// Tells whoever waits that something has changed.
    changed: watch::Sender<u64>,
    processes: Arc<dyn Processes>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An engine with nothing in it, whose processes do nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::playing(Arc::new(Idle))
    }

    /// An engine with nothing in it, whose processes are played.
    #[must_use]
    pub fn playing(processes: Arc<dyn Processes>) -> Self {
        let (changed, _) = watch::channel(0);
        Self { machine: Arc::default(), changed, processes }
    }

    /// The same engine with an image of this name, as `inspect_image` will tell it (its id and names aside), with these files.
    #[must_use]
    pub fn with_image<'a>(
        self,
        name: &str,
        image: Image,
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Self {
        let picture = picture(image, files);
        self.lock().add_image(picture, "imported", name);
        self
    }

    /// The same engine, whose ids are its own from now on: of several with the same images, no two give a container the same one.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        self.lock().count_from(name);
        self
    }

    /// The same engine with an image that it has to pull first.
    #[must_use]
    pub fn with_remote_image<'a>(
        self,
        name: &str,
        image: Image,
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Self {
        // The same image everywhere is known by the same digest.
        let content = serde_json::to_string(&image).unwrap_or_default();
        let picture = picture(image, files);
        let mut elsewhere = Machine::counting_from(&content);
        let id = elsewhere.add_image(picture, "imported", name);
        if let Ok(picture) = elsewhere.image(&id) {
            self.lock().publish(name, picture.clone());
        }
        self
    }

    /// Ends a container's process with a code, as if it had ended on its own.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn end(&self, container: &str, code: i64) -> Result<()> {
        self.change(|machine| machine.end(container, code))
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Machine) -> Result<T>) -> Result<T> {
        let answer = change(&mut self.lock());
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        answer
    }

    /// Waits until `seen` has an answer.
    async fn until<T>(&self, mut seen: impl FnMut(&Machine) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            // What changes from here on wakes us again.
            changed.mark_unchanged();
            if let Some(answer) = seen(&self.lock()) {
                return answer;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// What a container wrote and writes, from the given chunk on, until it ends.
    fn tail(&self, id: String, from: usize, follow: bool, timestamps: bool) -> Session {
        let stamp = move |chunk: Chunk| {
            if !timestamps {
                return chunk;
            }
            let mut bytes = b"2000-01-01T00:00:00Z ".to_vec();
            bytes.extend_from_slice(&chunk.bytes);
            Chunk { source: chunk.source, bytes: Bytes::from(bytes) }
        };
        let memory = self.clone();
        let chunks = stream::unfold(from, move |next| {
            let (memory, id) = (memory.clone(), id.clone());
            async move {
                let chunk = memory
                    .until(|machine| match machine.cell(&id) {
                        Ok(cell) => match cell.log.get(next) {
                            Some(chunk) => Some(Some(chunk.clone())),
                            None if follow && cell.container.state.status != "exited" => None,
                            None => Some(None),
                        },
                        Err(_) => Some(None),
                    })
                    .await?;
                Some((Ok(stamp(chunk)), next.saturating_add(1)))
            }
        });
        Session::of(chunks.boxed())
    }
}

fn picture<'a>(image: Image, files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Picture {
    let mut picture = Picture { config: image.config, ..Picture::default() };
    for (path, bytes) in files {
        picture.files.put(path, bytes);
    }
    picture
}

#[async_trait]
impl Containers for Memory {
    async fn list(
        &self,
        all: bool,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<ContainerSummary>> {
        Ok(self.lock().list(all, labels))
    }

    async fn create(&self, name: &str, spec: &ContainerSpec) -> Result<String> {
        self.change(|machine| machine.create(name, spec))
    }

    async fn start(&self, id: &str) -> Result<()> {
        let Some(container) = self.change(|machine| machine.start(id))? else {
            return Ok(());
        };
        let life = self.processes.start(&container);
        self.change(|machine| machine.live(&container.id, life))
    }

    async fn stop(&self, id: &str, _seconds: u32) -> Result<()> {
        self.change(|machine| machine.end(id, 0))
    }

    async fn remove(&self, id: &str, force: bool) -> Result<()> {
        self.change(|machine| machine.remove(id, force))
    }

    async fn inspect(&self, id: &str) -> Result<Container> {
        Ok(self.lock().cell(id)?.container.clone())
    }

    async fn wait(&self, id: &str) -> Result<i64> {
        let id = self.lock().cell(id)?.container.id.clone();
        self.until(|machine| match machine.cell(&id) {
            Ok(cell) if cell.container.state.running => None,
            Ok(cell) => Some(Ok(cell.container.state.exit_code)),
            // Removed by force: killed.
            Err(_) => Some(Ok(137)),
        })
        .await
    }

    async fn commit(
        &self,
        id: &str,
        repository: &str,
        tag: &str,
        _comment: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<String> {
        let name = match (repository, tag) {
            ("", _) => String::new(),
            (repository, "") => repository.to_owned(),
            (repository, tag) => format!("{repository}:{tag}"),
        };
        if !name.is_empty() {
            names::image(&name)?;
        }
        self.change(|machine| machine.commit(id, &name, labels))
    }

    async fn download(&self, id: &str, path: &str) -> Result<Reader> {
        let archive = self.lock().cell(id)?.files.archive(path)?;
        Ok(Box::pin(std::io::Cursor::new(archive)))
    }

    async fn upload(&self, id: &str, path: &str, mut archive: Reader) -> Result<()> {
        self.lock().cell(id)?;
        let mut bytes = Vec::new();
        archive.read_to_end(&mut bytes).await.map_err(|error| {
            EngineError::Failed(format!("the archive for `{id}` broke off: {error}"))
        })?;
        self.change(|machine| machine.cell_mut(id)?.files.unpack(path, &bytes))
    }

    async fn stat_path(&self, id: &str, path: &str) -> Result<PathStat> {
        self.lock().cell(id)?.files.stat(path)
    }

    async fn attach(&self, id: &str, logs: bool) -> Result<Session> {
        let (id, from) = {
            let machine = self.lock();
            let cell = machine.cell(id)?;
            (cell.container.id.clone(), if logs { 0 } else { cell.log.len() })
        };
        Ok(self.tail(id, from, true, false))
    }

    async fn logs(&self, id: &str, options: &LogOptions) -> Result<Session> {
        let (id, from) = {
            let machine = self.lock();
            let cell = machine.cell(id)?;
            let lines = usize::try_from(options.lines).unwrap_or(usize::MAX);
            (cell.container.id.clone(), cell.log.len().saturating_sub(lines))
        };
        Ok(self.tail(id, from, options.follow, options.timestamps))
    }

    async fn http(&self, id: &str, request: &HttpRequest) -> Result<HttpResponse> {
        names::tcp_port(&request.port)?;
        let container = self.inspect(id).await?;
        let name = &container.name;
        if !container.state.running {
            return Err(EngineError::Conflict(format!(
                "the container `{name}` does not run: it is {}",
                container.state.status
            )));
        }
        let port = &request.port;
        if container.network_settings.ports.get(port).is_none_or(Option::is_none) {
            return Err(EngineError::Invalid(format!(
                "the port `{port}` of the container `{name}` is not published"
            )));
        }
        self.processes.http(&container, request).ok_or_else(|| {
            EngineError::Failed(format!(
                "nothing listens at the port `{port}` of the container `{name}` in memory"
            ))
        })
    }

    async fn create_exec(&self, id: &str, options: &ExecOptions) -> Result<String> {
        self.change(|machine| machine.create_exec(id, options))
    }

    async fn start_exec(&self, exec_id: &str, output: Output) -> Result<()> {
        let (container, options) = self.change(|machine| {
            let exec = machine.exec(exec_id)?;
            if exec.started {
                return Err(EngineError::Conflict(format!("the exec `{exec_id}` has run")));
            }
            exec.started = true;
            let (container, options) = (exec.container.clone(), exec.options.clone());
            Ok((machine.cell(&container)?.container.clone(), options))
        })?;
        let Some(Ended { output: chunks, exit_code }) = self.processes.exec(&container, &options)
        else {
            return Err(nobody_runs(&container));
        };
        write(chunks, output).await;
        self.change(|machine| {
            machine.exec(exec_id)?.state.exit_code = Some(exit_code);
            Ok(())
        })
    }

    async fn resize_exec(&self, exec_id: &str, _height: u16, _width: u16) -> Result<()> {
        self.change(|machine| machine.exec(exec_id).map(|_| ()))
    }

    async fn inspect_exec(&self, exec_id: &str) -> Result<ExecState> {
        Ok(self.lock().exec(exec_id)?.state.clone())
    }

    async fn exec_session(&self, id: &str, options: &ExecOptions) -> Result<Session> {
        let container = self.lock().to_command(id, options)?.clone();
        let Ended { output, exit_code } =
            self.processes.exec(&container, options).ok_or_else(|| nobody_runs(&container))?;
        Ok(process::session(output, Some(exit_code), options.stdin, options.tty))
    }

    async fn pull_image(&self, image: &str) -> Result<()> {
        self.change(|machine| machine.pull(image))
    }

    async fn inspect_image(&self, image: &str) -> Result<Image> {
        self.lock().inspect_image(image)
    }

    async fn tag_image(&self, image: &str, repository: &str, tag: &str) -> Result<()> {
        self.change(|machine| machine.tag(image, repository, tag))
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        self.change(|machine| machine.remove_image(image))
    }

    async fn image_history(&self, image: &str) -> Result<Vec<Layer>> {
        self.lock().history(image)
    }

    async fn build_image(
        &self,
        options: &BuildOptions,
        mut context: Reader,
        output: Writer,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        context.read_to_end(&mut bytes).await.map_err(|error| {
            EngineError::Failed(format!("the context of the build broke off: {error}"))
        })?;
        let told = self.change(|machine| build::build(machine, options, &bytes))?;
        tell(output, &told).await;
        Ok(())
    }

    async fn push_image(&self, image: &str, output: Writer) -> Result<()> {
        self.change(|machine| machine.push(image))?;
        tell(output, "Pushed\n").await;
        Ok(())
    }
}

fn nobody_runs(container: &Container) -> EngineError {
    let name = &container.name;
    EngineError::Failed(format!("no command runs in the container `{name}`: it is in memory"))
}

async fn write(chunks: Vec<Chunk>, mut output: Output) {
    for chunk in chunks {
        let end = match chunk.source {
            Source::Stdout => &mut output.stdout,
            Source::Stderr => &mut output.stderr,
        };
        // An end that has gone does not stop a command.
        let _ = end.write_all(&chunk.bytes).await;
    }
    let _ = (output.stdout.flush().await, output.stderr.flush().await);
}

async fn tell(mut output: Writer, text: &str) {
    let _ = output.write_all(text.as_bytes()).await;
    let _ = output.flush().await;
}

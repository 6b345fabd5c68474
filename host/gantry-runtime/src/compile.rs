//! Bytes to machine code.
//!
//! A compiler that is given hostile bytes may work for minutes and nothing in its process can stop it, so the daemon compiles in a worker that it can kill. What was compiled is kept on disk, where
//! nobody but us may write, and is taken from there only when it bears our mark (see `compile/cache.rs`).

mod cache;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use wasmtime::Engine;
use wasmtime::component::Component;

use cache::Cache;
pub use cache::CacheError;

use crate::wasm;

/// The biggest artifact that is taken from a worker.
const ARTIFACT: u64 = 1 << 30;
/// Threads of a worker: more of them need more memory than they save time.
const THREADS: &str = "4";

/// Who compiles.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// The host itself. Only for plugins that are trusted not to keep it busy.
    InProcess,
    /// A process of its own, that runs [`worker`].
    Worker {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: Vec<OsString>,
        /// How long it may take before it is killed.
        timeout: Duration,
        /// The address space it may have, in bytes; a few GiB is what a big plugin needs.
        memory: u64,
    },
}

/// Why a plugin did not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The compiler refused it.
    #[error("it does not compile: {0}")]
    Refused(String),
    /// It took too long.
    #[error("it does not compile within {0:?}: raise `compiler.timeout` in the configuration")]
    TimedOut(Duration),
    /// The worker ended without an answer, as it does when it runs out of memory.
    #[error(
        "the process that compiles it ended with {status}, over its {memory} bytes of memory perhaps (`compiler.memory` in the configuration): {said}"
    )]
    Died {
        /// How it ended.
        status: String,
        /// The memory it had.
        memory: u64,
        /// The end of what it said.
        said: String,
    },
    /// The worker could not be run.
    #[error("the process that compiles cannot be run: {0}")]
    Worker(String),
    /// What came out cannot be loaded.
    #[error("what was compiled cannot be loaded: {0}")]
    Artifact(String),
}

/// The answer of a worker begins with one of these.
const COMPILED: u8 = 0;
const REFUSED: u8 = 1;

/// What the worker process does: reads its memory limit and a component from `input`, and writes the artifact, or why there is none, to `output`.
///
/// The process must do nothing else: its memory is limited from here on.
///
/// # Errors
/// Reading or writing failed. What is wrong with the component is an answer.
pub fn worker(mut input: impl Read, mut output: impl Write) -> io::Result<()> {
    let mut memory = [0; 8];
    input.read_exact(&mut memory)?;
    limit_memory(u64::from_le_bytes(memory))?;
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    let compiled = wasm::compiling_engine().and_then(|engine| engine.precompile_component(&bytes));
    match compiled {
        Ok(artifact) => {
            output.write_all(&[COMPILED])?;
            output.write_all(&artifact)?;
        }
        Err(error) => {
            output.write_all(&[REFUSED])?;
            output.write_all(format!("{error:#}").as_bytes())?;
        }
    }
    output.flush()
}

fn limit_memory(bytes: u64) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::As, limit(bytes))?;
    // A compiler that dies of hostile bytes leaves no core behind.
    setrlimit(Resource::Core, limit(0))?;
    Ok(())
}

/// Compiles, and keeps what it compiled.
pub(crate) struct Compiling {
    cache: Option<Cache>,
    compiler: Compiler,
}

impl Compiling {
    pub(crate) fn new(cache: Option<&Path>, compiler: Compiler) -> Result<Self, CacheError> {
        Ok(Self { cache: cache.map(Cache::open).transpose()?, compiler })
    }

    /// The component with this digest, if it was compiled before. Takes milliseconds: not for a thread that others wait for.
    pub(crate) fn kept(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let entry = self.cache.as_ref()?.entry(engine, digest);
        match map(engine, entry.proven()?) {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(digest, %error, "a compiled plugin cannot be loaded and is made anew");
                None
            }
        }
    }

    /// The component of these bytes, compiled and kept.
    pub(crate) async fn component(
        &self,
        engine: &Engine,
        digest: &str,
        bytes: Arc<[u8]>,
    ) -> Result<Component, CompileError> {
        let artifact = self.compile(engine, bytes).await?;
        let entry = self.cache.as_ref().map(|cache| cache.entry(engine, digest));
        let (engine, digest) = (engine.clone(), digest.to_owned());
        let loading = tokio::task::spawn_blocking(move || {
            if let Some(entry) = entry
                && let Err(error) = entry.write(&artifact)
            {
                tracing::warn!(digest, %error, "a compiled plugin cannot be kept");
            }
            deserialize(&engine, &artifact)
        });
        loading.await.map_err(|gone| CompileError::Artifact(gone.to_string()))?
    }

    async fn compile(&self, engine: &Engine, bytes: Arc<[u8]>) -> Result<Vec<u8>, CompileError> {
        match &self.compiler {
            Compiler::InProcess => {
                let engine = engine.clone();
                tokio::task::spawn_blocking(move || engine.precompile_component(&bytes))
                    .await
                    .map_err(|gone| CompileError::Worker(gone.to_string()))?
                    .map_err(|error| CompileError::Refused(format!("{error:#}")))
            }
            Compiler::Worker { program, args, timeout, memory } => {
                let answer = run_worker(program, args, *memory, &bytes);
                match tokio::time::timeout(*timeout, answer).await {
                    Ok(artifact) => artifact,
                    // Dropping the child has killed it.
                    Err(_) => Err(CompileError::TimedOut(*timeout)),
                }
            }
        }
    }
}

async fn run_worker(
    program: &Path,
    args: &[OsString],
    memory: u64,
    bytes: &[u8],
) -> Result<Vec<u8>, CompileError> {
    let failed = |error: io::Error| CompileError::Worker(error.to_string());
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("RAYON_NUM_THREADS", THREADS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // A worker that ended early is found out by its status.
            let _ = stdin.write_all(&memory.to_le_bytes()).await;
            let _ = stdin.write_all(bytes).await;
        }
    };
    let take = async {
        let mut answer = Vec::new();
        match stdout {
            Some(stdout) => stdout.take(ARTIFACT).read_to_end(&mut answer).await.map(|_| answer),
            None => Ok(answer),
        }
    };
    let listen = async {
        let mut said = Vec::new();
        if let Some(mut stderr) = stderr {
            let mut piece = [0; 4 << 10];
            while let Ok(count @ 1..) = stderr.read(&mut piece).await {
                said.extend(piece.iter().take(count));
                let over = said.len().saturating_sub(2 << 10);
                said.drain(..over);
            }
        }
        said
    };
    let ((), answer, said, status) = tokio::join!(give, take, listen, child.wait());
    let (answer, status) = (answer.map_err(failed)?, status.map_err(failed)?);
    match answer.split_first() {
        Some((&COMPILED, artifact)) if status.success() => Ok(artifact.to_vec()),
        Some((&REFUSED, why)) if status.success() => {
            Err(CompileError::Refused(String::from_utf8_lossy(why).into_owned()))
        }
        _ => Err(CompileError::Died {
            status: status.to_string(),
            memory,
            said: String::from_utf8_lossy(&said).trim().to_owned(),
        }),
    }
}

/// Makes a component of an artifact that we made.
#[expect(
    unsafe_code,
    reason = "wasmtime trusts an artifact as it trusts code. This one came out of our own compiler a moment ago"
)]
fn deserialize(engine: &Engine, artifact: &[u8]) -> Result<Component, CompileError> {
    // SAFETY: `artifact` was made by `precompile_component` of this wasmtime, in this process or in our worker, and has not been changed since.
    unsafe { Component::deserialize(engine, artifact) }.map_err(unloadable)
}

/// Makes a component of an artifact that we kept, by mapping its file.
#[expect(
    unsafe_code,
    reason = "wasmtime trusts an artifact as it trusts code. This one bears the mark that only we can give (see `cache`)"
)]
fn map(engine: &Engine, proven: &Path) -> Result<Component, CompileError> {
    // SAFETY: the file bears our mark, lies in a folder that only we may write to, and we never write into a file that has its final name. Who runs as us could, and could as well read the key.
    unsafe { Component::deserialize_file(engine, proven) }.map_err(unloadable)
}

fn unloadable(error: wasmtime::Error) -> CompileError {
    CompileError::Artifact(format!("{error:#}"))
}

//! The host functions, one file for each import: they lift their arguments into a call, send it down the chain, and lower the reply. What is not like that (labels, log lines, streams) says so.

pub(crate) mod apps;
pub(crate) mod batch;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod containers;
pub(crate) mod images;
pub(crate) mod labels;
pub(crate) mod limiter;
pub(crate) mod log;
pub(crate) mod operation;
pub(crate) mod reply;
pub(crate) mod routers;
pub(crate) mod state;
pub(crate) mod streams;
pub(crate) mod wasi;

use std::time::Duration;

use gantry_engine::stream::{Output, Session, Stream};
use gantry_engine::{Call, EngineError, Error, Reply, Response};
use tokio::time::timeout;
use wasmtime::component::{HasSelf, Linker, Resource};

use crate::bindings::gantry::provision as wit;
use crate::call::CallState;
use crate::host::streams::Writer;

/// Links every import that a plugin may have.
pub(crate) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    type Data = HasSelf<CallState>;
    wit::types::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::streams::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::containers::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::cluster::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::labels::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::apps::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::images::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::routers::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::operation::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::state::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::limiter::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::config::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::log::add_to_linker::<_, Data>(linker, |state| state)?;
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

impl wit::types::Host for CallState {}

impl CallState {
    /// Sends a call down the chain and takes the value out of its reply. The outer error ends the guest, the inner one is for it.
    async fn ask<T>(
        &mut self,
        call: Call,
        take: reply::Take<T>,
    ) -> wasmtime::Result<Result<T, Error>> {
        let asked = call.name();
        let answer = self.send(call).await?;
        value(asked, answer, take)
    }

    /// The guest's ends for what a call writes.
    fn output(
        &self,
        stdout: &Resource<Writer>,
        stderr: &Resource<Writer>,
    ) -> wasmtime::Result<Output> {
        let stdout = self.table.get(stdout)?.0.lend();
        let stderr = self.table.get(stderr)?.0.lend();
        Ok(Output { stdout, stderr })
    }
}

/// The value in an answer.
fn value<T, E>(
    asked: &str,
    answer: Result<Response, E>,
    take: reply::Take<T>,
) -> wasmtime::Result<Result<T, E>> {
    match answer {
        Ok(response) => take(response.reply).map(Ok).map_err(|reply| strange(asked, &reply)),
        Err(error) => Ok(Err(error)),
    }
}

/// The session that a call opened.
fn session<E>(asked: &str, answer: Result<Response, E>) -> wasmtime::Result<Result<Session, E>> {
    match answer {
        Ok(Response { stream: Some(Stream::Session(session)), .. }) => Ok(Ok(session)),
        Ok(Response { reply, .. }) => Err(strange(asked, &reply)),
        Err(error) => Ok(Err(error)),
    }
}

/// Waits for an answer, but not longer than this.
async fn within(
    time: Option<Duration>,
    asked: &str,
    answer: impl Future<Output = wasmtime::Result<Result<Response, Error>>>,
) -> wasmtime::Result<Result<Response, Error>> {
    in_time(time, asked, answer).await.unwrap_or_else(|late| Ok(Err(late.into())))
}

/// Waits for something, but not longer than this.
async fn in_time<T>(
    time: Option<Duration>,
    asked: &str,
    wait: impl Future<Output = T>,
) -> Result<T, EngineError> {
    let Some(time) = time else {
        return Ok(wait.await);
    };
    let late = |_| EngineError::TimedOut(format!("`{asked}` took longer than {time:?}"));
    timeout(time, wait).await.map_err(late)
}

/// The chain answered a call with a reply of another kind: a fault of the host that ends the guest.
fn strange(asked: &str, reply: &Reply) -> wasmtime::Error {
    wasmtime::Error::new(StrangeReply::new(asked, reply))
}

/// A fault of the host.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StrangeReply(String);

impl StrangeReply {
    fn new(asked: &str, reply: &Reply) -> Self {
        Self(format!("`{asked}` was answered with {reply:?}"))
    }
}

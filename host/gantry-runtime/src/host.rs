//! The host functions, one file for each import: they lift their arguments into a call, send it down the chain, and lower the reply. What is not like that (labels, log lines, streams) says so.

pub(crate) mod apps;
pub(crate) mod batch;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod containers;
pub(crate) mod images;
pub(crate) mod labels;
pub(crate) mod log;
pub(crate) mod operation;
pub(crate) mod reply;
pub(crate) mod state;
pub(crate) mod streams;
pub(crate) mod wasi;

use gantry_engine::{Call, Error, Reply};
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::gantry::provision as wit;
use crate::call::CallState;

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
    wit::operation::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::state::add_to_linker::<_, Data>(linker, |state| state)?;
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
        match self.send(call).await? {
            Ok(response) => take(response.reply).map(Ok).map_err(|reply| strange(asked, &reply)),
            Err(error) => Ok(Err(error)),
        }
    }
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

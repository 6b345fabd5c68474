//! The host functions, one file for each import: they lift their arguments into a call, send it down the chain, and lower the reply. What is not like that (labels, log lines, streams) says so.

pub(crate) mod apps;
pub(crate) mod batch;
pub(crate) mod config;
pub(crate) mod containers;
pub(crate) mod images;
pub(crate) mod labels;
pub(crate) mod log;
pub(crate) mod operation;
pub(crate) mod state;
pub(crate) mod streams;
pub(crate) mod wasi;

use gantry_engine::Reply;
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::gantry::provision as wit;
use crate::call::CallState;

/// Links every import that a plugin may have.
pub(crate) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    type Data = HasSelf<CallState>;
    wit::types::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::streams::add_to_linker::<_, Data>(linker, |state| state)?;
    wit::containers::add_to_linker::<_, Data>(linker, |state| state)?;
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

/// The chain answered a call with a reply of another kind: a fault of the host that ends the guest.
fn strange(asked: &str, reply: &Reply) -> wasmtime::Error {
    wasmtime::Error::new(StrangeReply::new(asked, reply))
}

/// A fault of the host.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StrangeReply(String);

impl StrangeReply {
    pub(crate) fn new(asked: &str, reply: &Reply) -> Self {
        Self(format!("`{asked}` was answered with {reply:?}"))
    }
}

/// Takes the value out of the one reply that answers a call.
macro_rules! expect_reply {
    ($asked:expr, $response:expr, $pattern:pat => $value:expr) => {
        match $response.reply {
            $pattern => $value,
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "every other reply is the host's fault"
            )]
            other => return Err($crate::host::strange($asked, &other)),
        }
    };
}
pub(crate) use expect_reply;

//! `config`: what the operator configured for the provisioner.

use gantry_engine::{Call, Reply};

use crate::bindings::gantry::provision::config::Host;
use crate::call::CallState;
use crate::host::expect_reply;

impl Host for CallState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        match self.send(Call::Config { key }).await? {
            Ok(response) => {
                Ok(expect_reply!("config.get", response, Reply::OptionalText(value) => value))
            }
            // The interface has no error: a key that cannot be read is one that is not set.
            Err(error) => {
                tracing::warn!(%error, "a key of the configuration could not be read");
                Ok(None)
            }
        }
    }
}

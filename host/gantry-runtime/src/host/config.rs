//! `config`: what the operator configured for the provisioner.

use gantry_engine::Call;

use crate::bindings::gantry::provision::config::Host;
use crate::call::CallState;
use crate::host::reply;

impl Host for CallState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        let value = self.ask(Call::Config { key }, reply::optional_text).await?;
        // The interface has no error: a key that cannot be read is one that is not set.
        Ok(value.unwrap_or_else(|error| {
            tracing::warn!(%error, "a key of the configuration could not be read");
            None
        }))
    }
}

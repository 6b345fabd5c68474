//! `limiter`: places for engine actions. Nothing of it goes down the chain: it is between the calls of one provisioner.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::bindings::gantry::provision::limiter::{Host, HostSlot};
use crate::bindings::gantry::provision::types::Error;
use crate::call::{CallState, Outside};
use crate::limiter::{ACTION, Slot};

/// Why there is no place.
pub(crate) enum NoPlace {
    /// The action has too many bytes.
    TooLong,
    /// The operation was interrupted.
    Cancelled,
}

impl NoPlace {
    pub(crate) fn too_long() -> String {
        format!("an action of the limiter has at most {ACTION} bytes")
    }
}

/// Waits for a place until the operation is interrupted.
pub(crate) async fn place(outside: &Outside, action: &str) -> Result<Slot, NoPlace> {
    if action.len() > ACTION {
        return Err(NoPlace::TooLong);
    }
    tokio::select! {
        biased;
        () = outside.scope.operation.interruption() => Err(NoPlace::Cancelled),
        slot = outside.limiter.start(action) => Ok(slot),
    }
}

impl Host for CallState {
    async fn start(&mut self, action: String) -> wasmtime::Result<Result<Resource<Slot>, Error>> {
        let outside = Arc::clone(self.charge(action.len())?);
        let watch = Arc::clone(&self.watch);
        // Others hold the places: whoever waits for one is not idle.
        let _working = watch.work();
        match place(&outside, &action).await {
            Ok(slot) => Ok(Ok(self.push(slot)?)),
            Err(NoPlace::TooLong) => Ok(Err(Error::InvalidArgument(NoPlace::too_long()))),
            Err(NoPlace::Cancelled) => Ok(Err(Error::Cancelled)),
        }
    }

    async fn len(&mut self, action: String) -> wasmtime::Result<u32> {
        Ok(self.charge(action.len())?.limiter.len(&action))
    }
}

impl HostSlot for CallState {
    async fn drop(&mut self, slot: Resource<Slot>) -> wasmtime::Result<()> {
        self.table.delete(slot)?;
        Ok(())
    }
}

//! `state`: the plugin's durable keys.

use gantry_engine::Call;
use gantry_engine::call::StateCall;

use crate::bindings::gantry::provision::state::{Entry, EntryPage, Host};
use crate::bindings::gantry::provision::types::Error;
use crate::call::CallState;
use crate::convert::{entry_to, platform_error_to};
use crate::host::reply::{self, Take};

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl CallState {
    async fn state<T>(&mut self, call: StateCall, take: Take<T>) -> Answer<T> {
        Ok(self.ask(Call::State(call), take).await?.map_err(platform_error_to))
    }
}

impl Host for CallState {
    async fn get(&mut self, key: String) -> Answer<Option<Entry>> {
        let entry = self.state(StateCall::Get { key }, reply::entry).await?;
        Ok(entry.map(|entry| entry.map(entry_to)))
    }

    async fn put_if(&mut self, key: String, value: Vec<u8>, expected: Option<u64>) -> Answer<u64> {
        let call = StateCall::PutIf { key, value, expected };
        let version = self.state(call, reply::number).await?;
        Ok(version.map(|version| u64::try_from(version).unwrap_or_default()))
    }

    async fn delete_if(&mut self, key: String, expected: u64) -> Answer<()> {
        self.state(StateCall::DeleteIf { key, expected }, reply::done).await
    }

    async fn list(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Answer<EntryPage> {
        let page = self.state(StateCall::List { prefix, after, limit }, reply::entries).await?;
        Ok(page.map(|page| EntryPage {
            entries: page.entries.into_iter().map(entry_to).collect(),
            next: page.next,
        }))
    }
}

//! `state`: the plugin's durable keys.

use gantry_engine::call::StateCall;
use gantry_engine::{Call, Reply};

use crate::bindings::gantry::provision::state::{Entry, EntryPage, Host};
use crate::bindings::gantry::provision::types::Error;
use crate::call::CallState;
use crate::convert::{entry_to, platform_error_to};
use crate::host::expect_reply;

impl Host for CallState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Entry>, Error>> {
        match self.send(Call::State(StateCall::Get { key })).await? {
            Ok(response) => {
                let entry = expect_reply!("state.get", response, Reply::Entry(entry) => entry);
                Ok(Ok(entry.map(entry_to)))
            }
            Err(error) => Ok(Err(platform_error_to(error))),
        }
    }

    async fn put_if(
        &mut self,
        key: String,
        value: Vec<u8>,
        expected: Option<u64>,
    ) -> wasmtime::Result<Result<u64, Error>> {
        match self.send(Call::State(StateCall::PutIf { key, value, expected })).await? {
            Ok(response) => {
                let version =
                    expect_reply!("state.put-if", response, Reply::Number(version) => version);
                Ok(Ok(u64::try_from(version).unwrap_or_default()))
            }
            Err(error) => Ok(Err(platform_error_to(error))),
        }
    }

    async fn delete_if(
        &mut self,
        key: String,
        expected: u64,
    ) -> wasmtime::Result<Result<(), Error>> {
        match self.send(Call::State(StateCall::DeleteIf { key, expected })).await? {
            Ok(response) => {
                expect_reply!("state.delete-if", response, Reply::Done => ());
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(platform_error_to(error))),
        }
    }

    async fn list(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<EntryPage, Error>> {
        match self.send(Call::State(StateCall::List { prefix, after, limit })).await? {
            Ok(response) => {
                let page = expect_reply!("state.list", response, Reply::Entries(page) => page);
                let entries = page.entries.into_iter().map(entry_to).collect();
                Ok(Ok(EntryPage { entries, next: page.next }))
            }
            Err(error) => Ok(Err(platform_error_to(error))),
        }
    }
}

//! The durable keys of plugins.

use async_trait::async_trait;
use gantry_core::Error;

use crate::call::{Entry, EntryPage};

/// The durable keys of plugins; each owner has its own.
#[async_trait]
pub trait State: Send + Sync {
    /// Reads a key.
    async fn get(&self, owner: &str, key: &str) -> Result<Option<Entry>, Error>;
    /// Writes a key if its version is as expected, and gives the new one.
    async fn put_if(
        &self,
        owner: &str,
        key: &str,
        value: &[u8],
        expected: Option<u64>,
    ) -> Result<u64, Error>;
    /// Deletes a key if its version is as expected.
    async fn delete_if(&self, owner: &str, key: &str, expected: u64) -> Result<(), Error>;
    /// Reads the keys that start with a prefix, by key: at most `limit` of them (0: any number), and no more than [one page](EntryPage::first) carries.
    async fn list(
        &self,
        owner: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<EntryPage, Error>;
}

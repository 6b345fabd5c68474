//! The plugin's own durable keys: the only durable state a plugin has. They belong to the provisioner's name, so the next version of the plugin finds them.

pub use crate::bindings::gantry::provision::state::{Entry, EntryPage};

use crate::Result;
use crate::bindings::gantry::provision::state as imported;

/// The entry of a key, if there is one.
///
/// # Errors
///
/// The store does not answer.
pub fn get(key: &str) -> Result<Option<Entry>> {
    Ok(imported::get(key)?)
}

/// Writes a key if its version is still `expected` (none: if it does not exist) and returns the new version.
///
/// # Errors
///
/// `Conflict` when somebody else wrote it.
pub fn put_if(key: &str, value: &[u8], expected: Option<u64>) -> Result<u64> {
    Ok(imported::put_if(key, value, expected)?)
}

/// Deletes a key if its version is still `expected`. Deleting what is gone succeeds.
///
/// # Errors
///
/// `Conflict` when somebody else wrote it.
pub fn delete_if(key: &str, expected: u64) -> Result<()> {
    Ok(imported::delete_if(key, expected)?)
}

/// The entries whose key starts with `prefix`, by key, at most `limit` of them (0: as many as the host gives at once), after the key `after`.
///
/// # Errors
///
/// The store does not answer.
pub fn list(prefix: &str, after: Option<&str>, limit: u32) -> Result<EntryPage> {
    Ok(imported::list(prefix, after, limit)?)
}

/// All entries whose key starts with `prefix`, by key, page after page.
///
/// # Errors
///
/// The store does not answer.
pub fn all(prefix: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut after = None;
    loop {
        let page = list(prefix, after.as_deref(), 0)?;
        entries.extend(page.entries);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(entries),
        }
    }
}

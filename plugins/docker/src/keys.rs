//! The plugin's durable keys as JSON documents. Two calls may write at the same time (a unit registers while a deploy goes on), so every change is made to the newest version, and made again when somebody was faster.

use gantry_sdk::state::{self, Entry};
use gantry_sdk::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How often a write is tried when others write the same key.
const TRIES: usize = 20;

/// Reads a document.
pub(crate) fn read<T: DeserializeOwned>(entry: &Entry) -> Result<T> {
    serde_json::from_slice(&entry.value)
        .map_err(|error| Error::Other(format!("unreadable record `{}`: {error}", entry.key)))
}

/// Reads a document of which nothing depends: one that cannot be read is as good as none.
pub(crate) fn read_if_readable<T: DeserializeOwned + Default>(entry: &Entry) -> Result<T> {
    Ok(read(entry).unwrap_or_default())
}

/// The document of a key.
pub(crate) fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>> {
    state::get(key)?.as_ref().map(read).transpose()
}

/// Writes a document unless there is one; tells whether it did.
pub(crate) fn put_new<T: Serialize>(key: &str, document: &T) -> Result<bool> {
    Ok(unless_faster(state::put_if(key, &write(document)?, None))?.is_some())
}

/// Writes a document, whatever is there.
pub(crate) fn put<T: Serialize>(key: &str, document: &T) -> Result<()> {
    let value = write(document)?;
    // Most are new, so the first try is without reading.
    let mut expected = None;
    again(key, || {
        let written = unless_faster(state::put_if(key, &value, expected))?;
        if written.is_none() {
            expected = state::get(key)?.map(|entry| entry.version);
        }
        Ok(written.map(drop))
    })
}

/// Changes a document. One that is not there is the default, and the default is not kept.
pub(crate) fn change<T, R>(
    key: &str,
    read: impl Fn(&Entry) -> Result<T>,
    mut change: impl FnMut(&mut T) -> Result<R>,
) -> Result<R>
where
    T: Clone + Default + PartialEq + Serialize,
{
    again(key, || {
        let entry = state::get(key)?;
        let before = entry.as_ref().map(&read).transpose()?.unwrap_or_default();
        let mut after = before.clone();
        let result = change(&mut after)?;
        let written = match entry.map(|entry| entry.version) {
            _ if after == before => Ok(()),
            Some(version) if after == T::default() => state::delete_if(key, version),
            version => state::put_if(key, &write(&after)?, version).map(drop),
        };
        Ok(unless_faster(written)?.map(|()| result))
    })
}

/// Forgets a key, whatever is there. Forgetting what is gone succeeds.
pub(crate) fn remove(key: &str) -> Result<()> {
    again(key, || {
        let Some(entry) = state::get(key)? else { return Ok(Some(())) };
        unless_faster(state::delete_if(key, entry.version))
    })
}

/// Does it until nobody else was faster.
fn again<R>(key: &str, mut attempt: impl FnMut() -> Result<Option<R>>) -> Result<R> {
    for _ in 0..TRIES {
        if let Some(result) = attempt()? {
            return Ok(result);
        }
    }
    Err(Error::Conflict(format!("record `{key}` is written by others all the time")))
}

/// None when somebody else was faster.
pub(crate) fn unless_faster<R>(written: Result<R>) -> Result<Option<R>> {
    match written {
        Ok(result) => Ok(Some(result)),
        Err(Error::Conflict(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn write<T: Serialize>(document: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|error| Error::Other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let entry = |value: &[u8]| Entry { key: "k".to_owned(), value: value.into(), version: 1 };
        assert_eq!(read(&entry(&write(&vec![1, 2]).unwrap())), Ok(vec![1, 2]));
        let error = read::<Vec<u32>>(&entry(b"no")).unwrap_err().to_string();
        assert!(error.starts_with("unreadable record `k`: "), "{error}");
        assert_eq!(read_if_readable(&entry(b"no")), Ok(Vec::<u32>::new()));
    }

    #[test]
    fn what_others_were_faster_with_is_done_again_but_not_for_ever() {
        let mut tries = 0;
        let third = again("k", || {
            tries += 1;
            Ok((tries == 3).then_some(tries))
        });
        assert_eq!(third, Ok(3));
        let error = again("k", || Ok(None::<()>)).unwrap_err();
        assert!(matches!(error, Error::Conflict(_)), "{error}");
        let error = again("k", || Err::<Option<()>, _>(Error::NodeNotFound));
        assert_eq!(error, Err(Error::NodeNotFound), "what fails otherwise is not tried again");
        assert_eq!(unless_faster(Err::<(), _>(Error::Conflict(String::new()))), Ok(None));
    }
}

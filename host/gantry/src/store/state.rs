//! The durable keys of plugins.

use gantry_engine::call::{Entry, EntryPage};
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params};

use super::{Result, Store, check_kept};

fn read_entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry { key: row.get(0)?, value: row.get(1)?, version: row.get(2)? })
}

impl Store {
    /// Reads a key.
    pub(crate) async fn get_state(&self, owner: &str, key: &str) -> Result<Option<Entry>> {
        let (owner, key) = (owner.to_owned(), key.to_owned());
        let sql = "SELECT key, value, version FROM state WHERE owner = ? AND key = ?";
        self.read(move |connection| {
            Ok(connection.query_row(sql, [owner, key], read_entry).optional()?)
        })
        .await
    }

    /// Writes a key if its version is as expected and gives the new one; none when it is not. Fails when the owner keeps as much as it may.
    pub(crate) async fn put_state(
        &self,
        owner: &str,
        key: &str,
        value: &[u8],
        expected: Option<u64>,
    ) -> Result<Option<u64>> {
        let (owner, key, value) = (owner.to_owned(), key.to_owned(), value.to_owned());
        let most = self.owner_bytes;
        self.write(move |tx| {
            let found: Option<u64> = tx
                .query_row(
                    "SELECT version FROM state WHERE owner = ? AND key = ?",
                    [&owner, &key],
                    |row| row.get(0),
                )
                .optional()?;
            if found != expected {
                return Ok(None);
            }
            let sql = "UPDATE state_version SET version = version + 1 RETURNING version";
            let version: u64 = tx.query_row(sql, [], |row| row.get(0))?;
            tx.execute(
                "INSERT INTO state (owner, key, value, version) VALUES (?,?,?,?) \
                 ON CONFLICT (owner, key) DO UPDATE SET value = excluded.value, version = excluded.version",
                params![owner, key, value, version],
            )?;
            check_kept(tx, &owner, most)?;
            Ok(Some(version))
        })
        .await
    }

    /// Deletes a key if its version is as expected; true when it is gone. Deleting what is gone succeeds.
    pub(crate) async fn delete_state(&self, owner: &str, key: &str, expected: u64) -> Result<bool> {
        let (owner, key) = (owner.to_owned(), key.to_owned());
        self.write(move |tx| {
            tx.execute(
                "DELETE FROM state WHERE owner = ? AND key = ? AND version = ?",
                params![owner, key, expected],
            )?;
            let left: bool = tx.query_row(
                "SELECT EXISTS (SELECT 1 FROM state WHERE owner = ? AND key = ?)",
                [&owner, &key],
                |row| row.get(0),
            )?;
            Ok(!left)
        })
        .await
    }

    /// Reads the keys that start with a prefix, by key: as many as are wanted (0: any number) and one page carries. What is behind them is not read.
    pub(crate) async fn list_state(
        &self,
        owner: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<EntryPage> {
        let (owner, after) = (owner.to_owned(), after.unwrap_or_default().to_owned());
        let first = after.as_str().max(prefix).to_owned();
        let end = match behind(prefix) {
            Some(end) => Value::Text(end),
            // To SQLite a blob comes after every text.
            None => Value::Blob(Vec::new()),
        };
        self.read(move |connection| {
            // One more than wanted tells whether there is a next page; less than none is no limit to SQLite.
            let most = if limit == 0 { -1 } else { i64::from(limit).saturating_add(1) };
            // From one place of the index to another: what else the owner has is not looked at.
            let sql = "SELECT key, value, version FROM state \
                       WHERE owner = ? AND key >= ? AND key < ? AND key <> ? ORDER BY key LIMIT ?";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![owner, first, end, after, most], read_entry)?;
            Ok(EntryPage::first(rows, limit)?)
        })
        .await
    }
}

/// The first text that comes after every text with this prefix, as UTF-8 is ordered; none when nothing does.
fn behind(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // From one letter to the next, over the gap that no letter is in.
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use gantry_core::image::ImageMetadata;

    use super::super::StoreError;
    use super::*;

    #[tokio::test]
    async fn a_key_is_written_only_over_the_version_expected() {
        let (_folder, store) = Store::fresh();
        let first = store.put_state("o", "k", b"1", None).await.unwrap().unwrap();
        assert_eq!(store.put_state("o", "k", b"2", None).await.unwrap(), None);
        let second = store.put_state("o", "k", b"2", Some(first)).await.unwrap().unwrap();
        assert!(second > first);
        assert!(!store.delete_state("o", "k", first).await.unwrap());
        assert!(store.delete_state("o", "k", second).await.unwrap());
        assert!(store.delete_state("o", "k", second).await.unwrap(), "gone is gone");
    }

    #[tokio::test]
    async fn a_version_is_never_used_again_for_a_key() {
        let (_folder, store) = Store::fresh();
        let first = store.put_state("o", "k", b"1", None).await.unwrap().unwrap();
        assert!(store.delete_state("o", "k", first).await.unwrap());
        let second = store.put_state("o", "k", b"1", None).await.unwrap().unwrap();
        assert!(second > first);
    }

    #[tokio::test]
    async fn owners_do_not_see_each_other() {
        let (_folder, store) = Store::fresh();
        store.put_state("a", "k", b"1", None).await.unwrap().unwrap();
        assert!(store.get_state("b", "k").await.unwrap().is_none());
        assert!(store.list_state("b", "", None, 9).await.unwrap().entries.is_empty());
    }

    #[test]
    fn a_prefix_ends_where_the_next_letter_begins() {
        for (prefix, end) in [
            ("units/web/", Some("units/web0")),
            ("a\u{d7ff}", Some("a\u{e000}")),
            ("a\u{10ffff}\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("", None),
        ] {
            assert_eq!(behind(prefix).as_deref(), end, "{prefix:?}");
        }
    }

    #[tokio::test]
    async fn a_list_has_what_starts_with_its_prefix_and_nothing_else() {
        let (_folder, store) = Store::fresh();
        let last = "a\u{10ffff}";
        let mut keys = ["a", "a/", "a/1", "a/\u{10ffff}", "a0", "b", last, "\u{10ffff}x"];
        keys.sort_unstable();
        for key in keys {
            store.put_state("o", key, b"", None).await.unwrap().unwrap();
        }
        for prefix in ["", "a", "a/", "a/1", "b", "c", last, "\u{10ffff}"] {
            for after in [None, Some("a/"), Some("a/1"), Some("b"), Some("z")] {
                let page = store.list_state("o", prefix, after, 0).await.unwrap();
                let found: Vec<_> = page.entries.iter().map(|entry| entry.key.as_str()).collect();
                let is_wanted = |key: &&&str| {
                    key.starts_with(prefix) && after.is_none_or(|after| **key > after)
                };
                let wanted: Vec<_> = keys.iter().filter(is_wanted).copied().collect();
                assert_eq!(found, wanted, "{prefix:?} {after:?}");
            }
        }
    }

    #[tokio::test]
    async fn pages_hold_every_key_once() {
        let (_folder, store) = Store::fresh();
        for key in ["u/a", "u/b", "u/c", "u_x", "t"] {
            store.put_state("o", key, b"", None).await.unwrap().unwrap();
        }
        let (mut after, mut keys, mut pages) = (None, Vec::new(), 0);
        loop {
            let page = store.list_state("o", "u/", after.as_deref(), 2).await.unwrap();
            keys.extend(page.entries.into_iter().map(|entry| entry.key));
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((keys, pages), (vec!["u/a".into(), "u/b".into(), "u/c".into()], 2));
    }

    #[tokio::test]
    async fn a_page_stops_at_what_it_may_carry() {
        let (_folder, store) = Store::fresh();
        for index in 0..6 {
            store.put_state("o", &index.to_string(), &[0; 1 << 20], None).await.unwrap().unwrap();
        }
        for limit in [0, 256] {
            let page = store.list_state("o", "", None, limit).await.unwrap();
            assert_eq!((page.entries.len(), page.next.as_deref()), (3, Some("2")));
        }
    }

    #[tokio::test]
    async fn an_owner_keeps_so_much_and_no_more() {
        let (_folder, mut store) = Store::fresh();
        store.owner_bytes = 3 << 10;
        let value = [0; 1 << 10];
        let first = store.put_state("o", "1", &value, None).await.unwrap().unwrap();
        store.put_state("o", "2", &value, None).await.unwrap().unwrap();
        let error = store.put_state("o", "3", &value, None).await.unwrap_err();
        assert!(matches!(error, StoreError::OwnerFull { .. }), "{error:?}");
        assert!(store.get_state("o", "3").await.unwrap().is_none());
        let save = async |store: &Store| {
            let data = format!("[\"{}\"]", "x".repeat(1 << 10));
            store.save_image_metadata("o", "i", data, ImageMetadata::default()).await
        };
        let error = save(&store).await.unwrap_err();
        assert!(matches!(error, StoreError::OwnerFull { .. }), "{error:?}");
        // Another's is another's, and what goes makes room.
        store.put_state("p", "3", &value, None).await.unwrap().unwrap();
        assert!(store.delete_state("o", "1", first).await.unwrap());
        let second = store.put_state("o", "3", &[], None).await.unwrap().unwrap();
        assert!(save(&store).await.unwrap());
        let error = store.put_state("o", "3", &value, Some(second)).await.unwrap_err();
        assert!(matches!(error, StoreError::OwnerFull { .. }), "{error:?}");
    }
}

//! What runs on every node and was added while the daemon ran.

use gantry_core::node::NodeContainerEntry;
use rusqlite::params;

use super::{Result, Store, from_json, to_json};

/// An entry as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeContainerRecord {
    /// The node container.
    pub(crate) name: String,
    /// The pool that it is for; empty for every one without an entry of its own.
    pub(crate) pool: String,
    /// What it is.
    pub(crate) entry: NodeContainerEntry,
    /// When it was written last, in milliseconds since 1970.
    pub(crate) changed: i64,
}

impl Store {
    /// All of them, by name and pool.
    pub(crate) async fn node_containers(&self) -> Result<Vec<NodeContainerRecord>> {
        self.read(|connection| {
            let sql = "SELECT name, pool, entry, changed FROM node_containers ORDER BY name, pool";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            let mut records = Vec::new();
            while let Some(row) = rows.next()? {
                records.push(NodeContainerRecord {
                    name: row.get(0)?,
                    pool: row.get(1)?,
                    entry: from_json("node container", &row.get::<_, String>(2)?)?,
                    changed: row.get(3)?,
                });
            }
            Ok(records)
        })
        .await
    }

    /// Writes an entry down, in place of the one of its name and pool.
    pub(crate) async fn put_node_container(&self, record: NodeContainerRecord) -> Result<()> {
        self.write(move |tx| {
            let NodeContainerRecord { name, pool, entry, changed } = record;
            tx.execute(
                "INSERT OR REPLACE INTO node_containers (name, pool, entry, changed) VALUES (?,?,?,?)",
                params![name, pool, to_json("node container", &entry)?, changed],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets the entry of a name and a pool, or all of the name.
    pub(crate) async fn remove_node_container(&self, name: &str, pool: Option<&str>) -> Result<()> {
        let (name, pool) = (name.to_owned(), pool.map(ToOwned::to_owned));
        self.write(move |tx| {
            tx.execute(
                "DELETE FROM node_containers WHERE name = ?1 AND (?2 IS NULL OR pool = ?2)",
                params![name, pool],
            )?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_entry_is_kept_for_each_pool_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let record = |pool: &str, image: &str| NodeContainerRecord {
            name: "bs".to_owned(),
            pool: pool.to_owned(),
            entry: NodeContainerEntry { image: image.to_owned(), ..Default::default() },
            changed: 5,
        };
        let store = Store::open(folder.path()).unwrap();
        for record in [record("", "1"), record("p", "2"), record("q", "3"), record("p", "4")] {
            store.put_node_container(record).await.unwrap();
        }
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        let all = [record("", "1"), record("p", "4"), record("q", "3")];
        assert_eq!(store.node_containers().await.unwrap(), all);
        store.remove_node_container("bs", Some("p")).await.unwrap();
        assert_eq!(store.node_containers().await.unwrap(), [record("", "1"), record("q", "3")]);
        store.remove_node_container("other", None).await.unwrap();
        store.remove_node_container("bs", None).await.unwrap();
        assert!(store.node_containers().await.unwrap().is_empty());
    }
}

//! The pools that people made.

use rusqlite::{Transaction, params};

use super::{JobResult, Result, Store};

/// A pool that people made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolRecord {
    /// Its name.
    pub(crate) name: String,
    /// Its provisioner.
    pub(crate) provisioner: String,
    /// When it was made, in milliseconds since 1970.
    pub(crate) created: i64,
}

/// What is in a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InPool {
    /// The apps that live in it, or move to it.
    pub(crate) apps: Vec<String>,
    /// The volumes in it.
    pub(crate) volumes: Vec<String>,
    /// The clusters that list it.
    pub(crate) clusters: Vec<String>,
}

impl InPool {
    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.apps.is_empty() && self.volumes.is_empty() && self.clusters.is_empty()
    }
}

fn in_pool(tx: &Transaction<'_>, pool: &str) -> JobResult<InPool> {
    let names = |sql: &str| -> JobResult<Vec<String>> {
        let mut statement = tx.prepare_cached(sql)?;
        let rows = statement.query_map([pool], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    };
    Ok(InPool {
        apps: names(
            "SELECT name FROM apps WHERE pool = ?1 UNION SELECT app FROM app_moves WHERE to_pool = ?1 ORDER BY 1",
        )?,
        volumes: names("SELECT name FROM volumes WHERE pool = ? ORDER BY name")?,
        clusters: names("SELECT cluster FROM cluster_pools WHERE pool = ? ORDER BY cluster")?,
    })
}

impl Store {
    /// The pools, by name.
    pub(crate) async fn pools(&self) -> Result<Vec<PoolRecord>> {
        self.read(|connection| {
            let sql = "SELECT name, provisioner, created FROM pools ORDER BY name";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(PoolRecord { name: row.get(0)?, provisioner: row.get(1)?, created: row.get(2)? })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Writes a new pool down; false when there is one of this name.
    pub(crate) async fn insert_pool(&self, record: PoolRecord) -> Result<bool> {
        self.write(move |tx| {
            let PoolRecord { name, provisioner, created } = record;
            let sql = "INSERT INTO pools (name, provisioner, created) VALUES (?,?,?) \
                       ON CONFLICT (name) DO NOTHING";
            Ok(tx.execute(sql, params![name, provisioner, created])? == 1)
        })
        .await
    }

    /// Removes a pool that nothing is in; gives what is in the way otherwise. Removing what is gone succeeds.
    pub(crate) async fn remove_pool(&self, name: &str) -> Result<InPool> {
        let name = name.to_owned();
        self.write(move |tx| {
            let left = in_pool(tx, &name)?;
            if left.is_empty() {
                tx.execute("DELETE FROM pools WHERE name = ?", [&name])?;
            }
            Ok(left)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use gantry_core::App;

    use super::*;
    use crate::store::{AppRecord, ClusterRecord, Put, VolumeRecord};

    fn pool(name: &str, provisioner: &str) -> PoolRecord {
        PoolRecord { name: name.into(), provisioner: provisioner.into(), created: 1 }
    }

    #[tokio::test]
    async fn a_pool_is_made_once() {
        let (_folder, store) = Store::fresh();
        assert!(store.insert_pool(pool("prod", "docker")).await.unwrap());
        assert!(!store.insert_pool(pool("prod", "acme")).await.unwrap());
        assert_eq!(store.pools().await.unwrap(), [pool("prod", "docker")]);
    }

    #[tokio::test]
    async fn a_pool_with_something_in_it_stays_and_says_what() {
        let (_folder, store) = Store::fresh();
        store.insert_pool(pool("prod", "kubernetes")).await.unwrap();
        let app = App { name: "web".into(), pool: "prod".into(), ..App::default() };
        store.insert_app(AppRecord { app, ..AppRecord::default() }).await.unwrap();
        let volume =
            VolumeRecord { name: "data".into(), pool: "prod".into(), ..Default::default() };
        store.insert_volume(volume).await.unwrap();
        let cluster = ClusterRecord {
            name: "north".into(),
            provisioner: "kubernetes".into(),
            pools: vec!["prod".into()],
            ..ClusterRecord::default()
        };
        // It was nowhere before.
        let put = store.put_cluster(cluster, true, Default::default()).await.unwrap();
        assert_eq!(put, Put::Done);
        let left = store.remove_pool("prod").await.unwrap();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let expected = InPool {
            apps: names(&["web"]),
            volumes: names(&["data"]),
            clusters: names(&["north"]),
        };
        assert_eq!(left, expected);
        store.remove_app("web").await.unwrap();
        store.remove_volume("data").await.unwrap();
        assert_eq!(store.remove_cluster("north", Default::default()).await.unwrap(), []);
        assert!(store.remove_pool("prod").await.unwrap().is_empty());
        assert!(store.remove_pool("prod").await.unwrap().is_empty(), "gone is gone");
        assert_eq!(store.pools().await.unwrap(), []);
    }
}

//! The clusters, with what nobody is shown.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{JobResult, Result, Store, from_json, to_json};
use crate::api::Secret;

/// A cluster as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterRecord {
    /// Its name.
    pub(crate) name: String,
    /// The provisioner that it is given to.
    pub(crate) provisioner: String,
    /// Where it is and who we are there.
    pub(crate) place: ClusterPlace,
    /// The pools whose apps it runs.
    pub(crate) pools: Vec<String>,
    /// Whether it runs the apps of every other pool of its provisioner.
    pub(crate) is_default: bool,
    /// The operator's settings, nothing secret.
    pub(crate) custom_data: BTreeMap<String, String>,
    /// When it was added, in milliseconds since 1970.
    pub(crate) created: i64,
}

/// Where a cluster is and who we are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterPlace {
    /// Where its API server answers; none for the cluster that the daemon runs in.
    pub(crate) addresses: Vec<String>,
    /// Its certificate authority, as PEM; empty for those of the system.
    pub(crate) ca_cert: String,
    /// The certificate that we show, as PEM.
    pub(crate) client_cert: String,
    /// The key of that certificate.
    pub(crate) client_key: Secret,
    /// The token that we show.
    pub(crate) token: Secret,
}

const COLUMNS: &str = "name, provisioner, addresses, ca_cert, client_cert, client_key, token, \
                       custom_data, is_default, created";

fn read(row: &Row<'_>) -> rusqlite::Result<(ClusterRecord, String, String)> {
    let record = ClusterRecord {
        name: row.get(0)?,
        provisioner: row.get(1)?,
        place: ClusterPlace {
            addresses: Vec::new(),
            ca_cert: row.get(3)?,
            client_cert: row.get(4)?,
            client_key: Secret::new(row.get::<_, String>(5)?),
            token: Secret::new(row.get::<_, String>(6)?),
        },
        pools: Vec::new(),
        is_default: row.get(8)?,
        custom_data: BTreeMap::new(),
        created: row.get(9)?,
    };
    Ok((record, row.get(2)?, row.get(7)?))
}

/// Takes the pools of a cluster, and being the default if it is, away from the others of its provisioner.
fn take_away(tx: &Transaction<'_>, record: &ClusterRecord) -> JobResult<()> {
    for pool in &record.pools {
        let sql = "DELETE FROM cluster_pools WHERE provisioner = ? AND pool = ?";
        tx.execute(sql, [&record.provisioner, pool])?;
    }
    if record.is_default {
        let sql = "UPDATE clusters SET is_default = 0 WHERE provisioner = ? AND name <> ?";
        tx.execute(sql, [&record.provisioner, &record.name])?;
    }
    Ok(())
}

impl Store {
    /// The clusters, by name.
    pub(crate) async fn clusters(&self) -> Result<Vec<ClusterRecord>> {
        self.read(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM clusters ORDER BY name");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
            let sql = "SELECT pool FROM cluster_pools WHERE cluster = ? ORDER BY pool";
            let mut pools = connection.prepare_cached(sql)?;
            rows.into_iter()
                .map(|(mut record, addresses, custom_data)| {
                    record.place.addresses = from_json("list of addresses", &addresses)?;
                    record.custom_data = from_json("table of settings", &custom_data)?;
                    let rows = pools.query_map([&record.name], |row| row.get(0))?;
                    record.pools = rows.collect::<rusqlite::Result<_>>()?;
                    Ok(record)
                })
                .collect()
        })
        .await
    }

    /// A cluster.
    pub(crate) async fn cluster(&self, name: &str) -> Result<Option<ClusterRecord>> {
        Ok(self.clusters().await?.into_iter().find(|record| record.name == name))
    }

    /// Writes a cluster down: a `new` one unless there is one of its name, or else in place of the one that is there. False when it did not.
    ///
    /// Its pools are taken away from the other clusters of its provisioner, and so is being the default.
    pub(crate) async fn put_cluster(&self, record: ClusterRecord, new: bool) -> Result<bool> {
        self.write_durably(move |tx| {
            let sql = "SELECT 1 FROM clusters WHERE name = ?";
            let there = tx.query_row(sql, [&record.name], |_| Ok(())).optional()?.is_some();
            if there == new {
                return Ok(false);
            }
            take_away(tx, &record)?;
            let ClusterRecord { name, provisioner, place, pools, is_default, custom_data, created } =
                record;
            let ClusterPlace { addresses, ca_cert, client_cert, client_key, token } = place;
            let addresses = to_json("list of addresses", &addresses)?;
            let custom_data = to_json("table of settings", &custom_data)?;
            let sql = format!(
                "INSERT INTO clusters ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?) \
                 ON CONFLICT (name) DO UPDATE SET provisioner = excluded.provisioner, addresses = excluded.addresses, \
                 ca_cert = excluded.ca_cert, client_cert = excluded.client_cert, client_key = excluded.client_key, \
                 token = excluded.token, custom_data = excluded.custom_data, is_default = excluded.is_default"
            );
            tx.execute(
                &sql,
                params![
                    name,
                    provisioner,
                    addresses,
                    ca_cert,
                    client_cert,
                    client_key.reveal(),
                    token.reveal(),
                    custom_data,
                    is_default,
                    created,
                ],
            )?;
            tx.execute("DELETE FROM cluster_pools WHERE cluster = ?", [&name])?;
            for pool in pools {
                let sql = "INSERT INTO cluster_pools (provisioner, pool, cluster) VALUES (?,?,?)";
                tx.execute(sql, [&provisioner, &pool, &name])?;
            }
            Ok(true)
        })
        .await
    }

    /// Removes a cluster. Removing what is gone succeeds.
    pub(crate) async fn remove_cluster(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.write_durably(move |tx| {
            tx.execute("DELETE FROM clusters WHERE name = ?", [name])?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str, provisioner: &str, pools: &[&str]) -> ClusterRecord {
        ClusterRecord {
            name: name.into(),
            provisioner: provisioner.into(),
            place: ClusterPlace {
                addresses: vec!["https://h:6443".into()],
                token: Secret::new("s3cr3t"),
                ..ClusterPlace::default()
            },
            is_default: pools.is_empty(),
            pools: pools.iter().map(|pool| (*pool).to_owned()).collect(),
            custom_data: [("namespace".to_owned(), "shop".to_owned())].into(),
            created: 1,
        }
    }

    async fn shown(store: &Store) -> Vec<(String, Vec<String>, bool)> {
        let clusters = store.clusters().await.unwrap();
        clusters.into_iter().map(|one| (one.name, one.pools, one.is_default)).collect()
    }

    #[tokio::test]
    async fn a_cluster_reads_back_with_its_secrets() {
        let (_folder, store) = Store::fresh();
        let north = cluster("north", "kubernetes", &["a", "b"]);
        assert!(store.put_cluster(north.clone(), true).await.unwrap());
        assert_eq!(store.cluster("north").await.unwrap(), Some(north.clone()));
        assert!(!store.put_cluster(north.clone(), true).await.unwrap(), "there is one");
        let changed = ClusterRecord { pools: vec!["c".into()], ..north };
        assert!(store.put_cluster(changed.clone(), false).await.unwrap());
        assert_eq!(store.clusters().await.unwrap(), [changed]);
        let south = cluster("south", "kubernetes", &[]);
        assert!(!store.put_cluster(south, false).await.unwrap(), "there is none");
        store.remove_cluster("north").await.unwrap();
        store.remove_cluster("north").await.unwrap();
        assert_eq!(store.clusters().await.unwrap(), []);
    }

    #[tokio::test]
    async fn pools_and_being_the_default_are_taken_from_the_other_clusters_of_the_provisioner() {
        let (_folder, store) = Store::fresh();
        for record in [
            cluster("one", "kubernetes", &["a", "b"]),
            cluster("two", "kubernetes", &[]),
            cluster("theirs", "acme", &["a"]),
            cluster("their-default", "acme", &[]),
        ] {
            assert!(store.put_cluster(record, true).await.unwrap());
        }
        store.put_cluster(cluster("three", "kubernetes", &["b", "c"]), true).await.unwrap();
        store.put_cluster(cluster("four", "kubernetes", &[]), true).await.unwrap();
        let pools = |pools: &[&str]| pools.iter().map(|pool| (*pool).to_owned()).collect();
        let row = |name: &str, of: &[&str], default| (name.to_owned(), pools(of), default);
        assert_eq!(
            shown(&store).await,
            [
                row("four", &[], true),
                row("one", &["a"], false),
                row("their-default", &[], true),
                row("theirs", &["a"], false),
                row("three", &["b", "c"], false),
                row("two", &[], false),
            ]
        );
    }
}

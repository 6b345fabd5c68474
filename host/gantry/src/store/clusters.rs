//! The clusters, with what nobody is shown.

mod homes;

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, Transaction, params};

use self::homes::{Being, Resident};
pub(crate) use self::homes::{LeftBehind, of_pool};
use super::{JobResult, Result, Store, from_json, to_json};
use crate::api::Secret;

/// What became of a cluster that was to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It is.
    Done,
    /// There is one where there was to be none, or none where there was to be one.
    Refused,
    /// It would leave this where nobody looks for it any more.
    Leaves(Vec<LeftBehind>),
}

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

fn all(connection: &Connection) -> JobResult<Vec<ClusterRecord>> {
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
}

/// What may have something in a cluster: apps that were deployed, or are changed right now, or are on their way; and volumes, of which nobody knows here whether they were ever used.
fn residents(
    connection: &Connection,
    provisioners: &BTreeMap<String, String>,
) -> JobResult<Vec<Resident>> {
    let sql = "SELECT name, provisioner, pool FROM apps WHERE deploys > 0 \
               OR EXISTS (SELECT 1 FROM images WHERE images.app = apps.name) \
               OR EXISTS (SELECT 1 FROM operations WHERE operations.app = apps.name AND (state = 'running' \
                          OR EXISTS (SELECT 1 FROM operation_objects WHERE operation = operations.id))) \
               UNION SELECT app, to_provisioner, to_pool FROM app_moves ORDER BY 1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let (name, provisioner, pool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Resident { being: Being::App, name, provisioner, pool })
    })?;
    let mut residents = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut statement =
        connection.prepare_cached("SELECT name, pool FROM volumes ORDER BY name")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    for row in rows {
        let (name, pool) = row?;
        let Some(provisioner) = provisioners.get(&pool).cloned() else { continue };
        residents.push(Resident { being: Being::Volume, name, provisioner, pool });
    }
    Ok(residents)
}

impl Store {
    /// The clusters, by name.
    pub(crate) async fn clusters(&self) -> Result<Vec<ClusterRecord>> {
        self.read(all).await
    }

    /// A cluster.
    pub(crate) async fn cluster(&self, name: &str) -> Result<Option<ClusterRecord>> {
        Ok(self.clusters().await?.into_iter().find(|record| record.name == name))
    }

    /// Writes a cluster down: a `new` one unless there is one of its name, or else in place of the one that is there. With the provisioner of each pool.
    ///
    /// Its pools are taken away from the other clusters of its provisioner, and so is being the default; but not from what is there.
    pub(crate) async fn put_cluster(
        &self,
        record: ClusterRecord,
        new: bool,
        provisioners: BTreeMap<String, String>,
    ) -> Result<Put> {
        self.write_durably(move |tx| {
            let before = all(tx)?;
            if before.iter().any(|one| one.name == record.name) == new {
                return Ok(Put::Refused);
            }
            let after = homes::with(&before, &record);
            let left = homes::left_behind(&before, &after, residents(tx, &provisioners)?);
            if !left.is_empty() {
                return Ok(Put::Leaves(left));
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
            Ok(Put::Done)
        })
        .await
    }

    /// Removes a cluster that nothing is in; gives what is in the way otherwise. Removing what is gone succeeds. With the provisioner of each pool.
    pub(crate) async fn remove_cluster(
        &self,
        name: &str,
        provisioners: BTreeMap<String, String>,
    ) -> Result<Vec<LeftBehind>> {
        let name = name.to_owned();
        self.write_durably(move |tx| {
            let before = all(tx)?;
            let after = homes::without(&before, &name);
            let left = homes::left_behind(&before, &after, residents(tx, &provisioners)?);
            if left.is_empty() {
                tx.execute("DELETE FROM clusters WHERE name = ?", [name])?;
            }
            Ok(left)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use gantry_core::App;
    use gantry_engine::call::cluster::Kind;
    use gantry_engine::layer::journal::objects::{Place, Touched};

    use super::*;
    use crate::store::{AppRecord, Begin, InPool, VolumeRecord};

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
        assert_eq!(
            store.put_cluster(north.clone(), true, BTreeMap::new()).await.unwrap(),
            Put::Done
        );
        assert_eq!(store.cluster("north").await.unwrap(), Some(north.clone()));
        assert_eq!(
            store.put_cluster(north.clone(), true, BTreeMap::new()).await.unwrap(),
            Put::Refused,
            "there is one"
        );
        let changed = ClusterRecord { pools: vec!["c".into()], ..north };
        assert_eq!(
            store.put_cluster(changed.clone(), false, BTreeMap::new()).await.unwrap(),
            Put::Done
        );
        assert_eq!(store.clusters().await.unwrap(), [changed]);
        let south = cluster("south", "kubernetes", &[]);
        assert_eq!(
            store.put_cluster(south, false, BTreeMap::new()).await.unwrap(),
            Put::Refused,
            "there is none"
        );
        assert_eq!(store.remove_cluster("north", BTreeMap::new()).await.unwrap(), []);
        assert_eq!(store.remove_cluster("north", BTreeMap::new()).await.unwrap(), []);
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
            assert_eq!(store.put_cluster(record, true, BTreeMap::new()).await.unwrap(), Put::Done);
        }
        store
            .put_cluster(cluster("three", "kubernetes", &["b", "c"]), true, BTreeMap::new())
            .await
            .unwrap();
        store.put_cluster(cluster("four", "kubernetes", &[]), true, BTreeMap::new()).await.unwrap();
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

    #[tokio::test]
    async fn what_is_in_a_cluster_keeps_it_and_what_was_never_there_does_not() {
        let (_folder, store) = Store::fresh();
        let provisioners = || BTreeMap::from([("a".to_owned(), "kubernetes".to_owned())]);
        let put = async |record, new| store.put_cluster(record, new, provisioners()).await.unwrap();
        assert_eq!(put(cluster("north", "kubernetes", &["a"]), true).await, Put::Done);
        let south = || cluster("south", "kubernetes", &["a"]);
        for (name, deploys) in [("web", 1), ("new", 0), ("imaged", 0), ("failed", 0)] {
            let app = App { name: name.into(), pool: "a".into(), deploys, ..App::default() };
            let provisioner = "kubernetes".to_owned();
            let record = AppRecord { app, provisioner, ..AppRecord::default() };
            assert!(store.insert_app(record).await.unwrap());
        }
        store.append_image("imaged", "acme/web:1").await.unwrap();
        // Nothing of it serves, and what it made has not been taken back yet.
        let begin = Begin {
            id: "01".into(),
            app: Some("failed".into()),
            detail: "{}".into(),
            ..Begin::default()
        };
        store.begin_operation(begin).await.unwrap();
        let kind = Kind::new("v1", "Service");
        let place = Place {
            cluster: "north".into(),
            kind,
            namespace: "shop".into(),
            name: "failed".into(),
        };
        let touched = Touched { place, before: None, patched: false };
        store.touch_object("01", "kubernetes", &touched).await.unwrap();
        store.end_operation("01", "failed", 1, None, None).await.unwrap();
        let volume = VolumeRecord { name: "data".into(), pool: "a".into(), ..Default::default() };
        assert!(store.insert_volume(volume).await.unwrap());
        let left = LeftBehind {
            cluster: "north".into(),
            namespace: "shop".into(),
            left: InPool {
                apps: vec!["failed".into(), "imaged".into(), "web".into()],
                volumes: vec!["data".into()],
                clusters: vec![],
            },
        };
        assert_eq!(put(south(), true).await, Put::Leaves(vec![left.clone()]));
        assert_eq!(store.remove_cluster("north", provisioners()).await.unwrap(), [left]);
        assert_eq!(shown(&store).await.len(), 1, "nothing was written");
        store.remove_app("web").await.unwrap();
        store.remove_app("imaged").await.unwrap();
        store.swept("01").await.unwrap();
        store.remove_volume("data").await.unwrap();
        assert_eq!(put(south(), true).await, Put::Done);
    }
}

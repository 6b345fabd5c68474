//! Volumes, and the apps that have them.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::{Result, Store, from_json, to_json};

/// A volume as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VolumeRecord {
    /// Its name.
    pub(crate) name: String,
    /// Its pool.
    pub(crate) pool: String,
    /// Its plan.
    pub(crate) plan: String,
    /// The team that owns it.
    pub(crate) team_owner: String,
    /// What its owner says of it.
    pub(crate) options: BTreeMap<String, String>,
    /// The apps that have it, and where.
    pub(crate) binds: Vec<BindRecord>,
    /// When it was made, in milliseconds since 1970.
    pub(crate) created: i64,
}

/// Where an app has a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BindRecord {
    /// The volume.
    pub(crate) volume: String,
    /// The app.
    pub(crate) app: String,
    /// The folder in its units.
    pub(crate) mount_point: String,
    /// Whether they may only read it.
    pub(crate) read_only: bool,
}

/// Why a bind was not written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotBound {
    /// There is no such volume any more, or its data is being deleted.
    Going,
    /// The app has something at the mount point.
    Taken,
}

impl Store {
    /// The volumes, by name.
    pub(crate) async fn volumes(&self) -> Result<Vec<VolumeRecord>> {
        self.read(|connection| {
            let sql =
                "SELECT name, pool, plan, team_owner, options, created FROM volumes ORDER BY name";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| {
                let record = VolumeRecord {
                    name: row.get(0)?,
                    pool: row.get(1)?,
                    plan: row.get(2)?,
                    team_owner: row.get(3)?,
                    options: BTreeMap::new(),
                    binds: Vec::new(),
                    created: row.get(5)?,
                };
                Ok((record, row.get::<_, String>(4)?))
            })?;
            let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            let sql = "SELECT volume, app, mount_point, read_only FROM volume_binds \
                       WHERE volume = ? ORDER BY app, mount_point";
            let mut binds = connection.prepare_cached(sql)?;
            rows.into_iter()
                .map(|(mut record, options)| {
                    record.options = from_json("table of options", &options)?;
                    let rows = binds.query_map([&record.name], |row| {
                        Ok(BindRecord {
                            volume: row.get(0)?,
                            app: row.get(1)?,
                            mount_point: row.get(2)?,
                            read_only: row.get(3)?,
                        })
                    })?;
                    record.binds = rows.collect::<rusqlite::Result<_>>()?;
                    Ok(record)
                })
                .collect()
        })
        .await
    }

    /// Writes a new volume down; false when there is one of this name.
    pub(crate) async fn insert_volume(&self, record: VolumeRecord) -> Result<bool> {
        self.write(move |tx| {
            let VolumeRecord { name, pool, plan, team_owner, options, created, .. } = record;
            let options = to_json("table of options", &options)?;
            let sql = "INSERT INTO volumes (name, pool, plan, team_owner, options, created) \
                       VALUES (?,?,?,?,?,?) ON CONFLICT (name) DO NOTHING";
            let inserted =
                tx.execute(sql, params![name, pool, plan, team_owner, options, created])?;
            Ok(inserted == 1)
        })
        .await
    }

    /// Writes down that an app has a volume.
    pub(crate) async fn bind_volume(
        &self,
        bind: BindRecord,
    ) -> Result<std::result::Result<(), NotBound>> {
        self.write(move |tx| {
            let BindRecord { volume, app, mount_point, read_only } = bind;
            let sql = "SELECT 1 FROM volumes WHERE name = ? AND removing = 0";
            if tx.query_row(sql, [&volume], |_| Ok(())).optional()?.is_none() {
                return Ok(Err(NotBound::Going));
            }
            let sql = "INSERT INTO volume_binds (volume, app, mount_point, read_only) VALUES (?,?,?,?) \
                       ON CONFLICT (app, mount_point) DO NOTHING";
            let inserted = tx.execute(sql, params![volume, app, mount_point, read_only])?;
            Ok(if inserted == 1 { Ok(()) } else { Err(NotBound::Taken) })
        })
        .await
    }

    /// Writes down that an app does not have a volume any more; false when it had not.
    pub(crate) async fn unbind_volume(
        &self,
        volume: &str,
        app: &str,
        mount_point: &str,
    ) -> Result<bool> {
        let key = [volume.to_owned(), app.to_owned(), mount_point.to_owned()];
        let sql = "DELETE FROM volume_binds WHERE volume = ? AND app = ? AND mount_point = ?";
        self.write(move |tx| Ok(tx.execute(sql, key)? == 1)).await
    }

    /// Keeps apps from a volume whose data is to be deleted, or lets them have it again; false when some have it.
    pub(crate) async fn removing_volume(&self, name: &str, removing: bool) -> Result<bool> {
        let name = name.to_owned();
        self.write(move |tx| {
            let sql = "UPDATE volumes SET removing = ?2 WHERE name = ?1 \
                       AND NOT EXISTS (SELECT 1 FROM volume_binds WHERE volume = ?1)";
            Ok(tx.execute(sql, params![name, removing])? == 1)
        })
        .await
    }

    /// Removes a volume that no app has; false when some do. Removing what is gone succeeds.
    pub(crate) async fn remove_volume(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.write(move |tx| {
            let sql = "SELECT 1 FROM volume_binds WHERE volume = ?";
            let bound = tx.query_row(sql, [&name], |_| Ok(())).optional()?.is_some();
            if !bound {
                tx.execute("DELETE FROM volumes WHERE name = ?", [&name])?;
            }
            Ok(!bound)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use gantry_core::App;

    use super::*;
    use crate::store::AppRecord;

    async fn store() -> (tempfile::TempDir, Store) {
        let (folder, store) = Store::fresh();
        for name in ["web", "api"] {
            let app = App { name: name.into(), ..App::default() };
            store.insert_app(AppRecord { app, ..AppRecord::default() }).await.unwrap();
        }
        let options = [("capacity".to_owned(), "1Gi".to_owned())].into();
        let record = VolumeRecord { name: "data".into(), options, ..VolumeRecord::default() };
        assert!(store.insert_volume(record.clone()).await.unwrap());
        assert!(!store.insert_volume(record).await.unwrap());
        (folder, store)
    }

    fn bind(app: &str, mount_point: &str) -> BindRecord {
        BindRecord {
            volume: "data".into(),
            app: app.into(),
            mount_point: mount_point.into(),
            read_only: app == "api",
        }
    }

    #[tokio::test]
    async fn a_volume_is_had_by_apps_until_they_are_gone_or_give_it_back() {
        let (_folder, store) = store().await;
        for bind in [bind("web", "/a"), bind("web", "/b"), bind("api", "/a")] {
            assert_eq!(store.bind_volume(bind).await.unwrap(), Ok(()));
        }
        assert_eq!(store.bind_volume(bind("web", "/a")).await.unwrap(), Err(NotBound::Taken));
        let elsewhere = BindRecord { volume: "none".into(), ..bind("web", "/c") };
        assert_eq!(store.bind_volume(elsewhere).await.unwrap(), Err(NotBound::Going));
        let record = store.volumes().await.unwrap().swap_remove(0);
        assert_eq!(record.binds, [bind("api", "/a"), bind("web", "/a"), bind("web", "/b")]);
        assert!(!store.remove_volume("data").await.unwrap(), "apps have it");
        assert!(!store.removing_volume("data", true).await.unwrap(), "apps have it");
        store.remove_app("web").await.unwrap();
        assert!(store.unbind_volume("data", "api", "/a").await.unwrap());
        assert!(!store.unbind_volume("data", "api", "/a").await.unwrap());
        assert!(store.remove_volume("data").await.unwrap());
        assert!(store.remove_volume("data").await.unwrap(), "gone is gone");
        assert_eq!(store.volumes().await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_volume_whose_data_is_being_deleted_is_given_to_nobody() {
        let (_folder, store) = store().await;
        assert!(store.removing_volume("data", true).await.unwrap());
        assert_eq!(store.bind_volume(bind("web", "/a")).await.unwrap(), Err(NotBound::Going));
        assert!(store.removing_volume("data", false).await.unwrap());
        assert_eq!(store.bind_volume(bind("web", "/a")).await.unwrap(), Ok(()));
    }
}

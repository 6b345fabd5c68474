//! The plugins that were installed.

use rusqlite::params;

use super::{Result, Store, from_json, to_json};

/// A plugin under a provisioner's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PluginRecord {
    /// The provisioner's name.
    pub(crate) name: String,
    /// The digest of the file in the data directory.
    pub(crate) digest: String,
    /// What the file was called when it was installed.
    pub(crate) file: String,
    /// What was granted at installation, on top of the configuration.
    pub(crate) grants: Vec<String>,
    /// The operation that put it there.
    pub(crate) operation: String,
    /// Since when it serves, in milliseconds since 1970.
    pub(crate) since: i64,
}

impl Store {
    /// The plugins, by name.
    pub(crate) async fn plugins(&self) -> Result<Vec<PluginRecord>> {
        self.read(|connection| {
            let sql =
                "SELECT name, digest, file, grants, operation, since FROM plugins ORDER BY name";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| {
                let grants: String = row.get(3)?;
                let record = PluginRecord {
                    name: row.get(0)?,
                    digest: row.get(1)?,
                    file: row.get(2)?,
                    grants: Vec::new(),
                    operation: row.get(4)?,
                    since: row.get(5)?,
                };
                Ok((record, grants))
            })?;
            rows.map(|row| {
                let (mut record, grants) = row?;
                record.grants = from_json("list of grants", &grants)?;
                Ok(record)
            })
            .collect()
        })
        .await
    }

    /// Puts a plugin under its name, in place of the one that is there. It is on the disk when this returns.
    pub(crate) async fn put_plugin(&self, record: PluginRecord) -> Result<()> {
        self.write_durably(move |tx| {
            let PluginRecord { name, digest, file, grants, operation, since } = record;
            let grants = to_json("list of grants", &grants)?;
            tx.execute(
                "INSERT OR REPLACE INTO plugins (name, digest, file, grants, operation, since) \
                 VALUES (?,?,?,?,?,?)",
                params![name, digest, file, grants, operation, since],
            )?;
            Ok(())
        })
        .await
    }
}

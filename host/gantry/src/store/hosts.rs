//! The Docker hosts that were added while the daemon ran, with what nobody is shown.

use rusqlite::params;

use super::{Result, Store};
use crate::api::Secret;

/// A Docker host as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostRecord {
    /// Where its engine answers.
    pub(crate) address: String,
    /// The provisioner that it is given to.
    pub(crate) provisioner: String,
    /// Its certificate authority, as PEM; empty for a host without TLS.
    pub(crate) ca_cert: String,
    /// The certificate that we show, as PEM.
    pub(crate) client_cert: String,
    /// The key of that certificate.
    pub(crate) client_key: Secret,
    /// When it was added, in milliseconds since 1970.
    pub(crate) created: i64,
}

impl Store {
    /// All of them, by address.
    pub(crate) async fn hosts(&self) -> Result<Vec<HostRecord>> {
        self.read(|db| {
            let mut query = db.prepare_cached(
                "SELECT address, provisioner, ca_cert, client_cert, client_key, created \
                 FROM docker_hosts ORDER BY address",
            )?;
            let rows = query.query_map([], |row| {
                Ok(HostRecord {
                    address: row.get(0)?,
                    provisioner: row.get(1)?,
                    ca_cert: row.get(2)?,
                    client_cert: row.get(3)?,
                    client_key: Secret::new(row.get::<_, String>(4)?),
                    created: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Writes a host down, in place of the one with its address.
    pub(crate) async fn put_host(&self, record: HostRecord) -> Result<()> {
        self.write(move |tx| {
            let HostRecord { address, provisioner, ca_cert, client_cert, client_key, created } =
                record;
            tx.execute(
                "INSERT OR REPLACE INTO docker_hosts \
                 (address, provisioner, ca_cert, client_cert, client_key, created) \
                 VALUES (?, ?, ?, ?, ?, ?)",
                params![address, provisioner, ca_cert, client_cert, client_key.reveal(), created],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets a host.
    pub(crate) async fn remove_host(&self, address: &str) -> Result<()> {
        let address = address.to_owned();
        self.write(move |tx| {
            tx.execute("DELETE FROM docker_hosts WHERE address = ?", [address])?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_is_kept_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let record = HostRecord {
            address: "tcp://10.0.0.1:2376".to_owned(),
            provisioner: "docker".to_owned(),
            ca_cert: "ca".to_owned(),
            client_cert: "cert".to_owned(),
            client_key: Secret::new("key".to_owned()),
            created: 5,
        };
        let store = Store::open(folder.path()).unwrap();
        store.put_host(record.clone()).await.unwrap();
        let newer = HostRecord { client_key: Secret::new("other".to_owned()), ..record };
        store.put_host(newer.clone()).await.unwrap();
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.hosts().await.unwrap(), std::slice::from_ref(&newer));
        store.remove_host(&newer.address).await.unwrap();
        assert!(store.hosts().await.unwrap().is_empty());
    }
}

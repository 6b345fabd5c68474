//! The objects of clusters that operations touched: what the journal keeps so that a daemon that starts can take them back.

use gantry_engine::call::cluster::Kind;
use gantry_engine::layer::journal::objects::{Place, Touched};
use rusqlite::{OptionalExtension, params};

use super::{Result, Store, from_json, to_json};

/// An object that an operation touched.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ObjectRecord {
    /// Counted up within the operation.
    pub(crate) number: u64,
    /// The provisioner that the cluster was given to.
    pub(crate) provisioner: String,
    /// Which object, and how it was before.
    pub(crate) touched: Touched,
}

impl Store {
    /// Writes down that an operation is about to touch an object. It is on the disk when this returns. What was written once stays.
    ///
    /// Where an operation that has ended left the object as it should not be, what it had found is how it was before: that operation has nothing to take back any more.
    pub(crate) async fn touch_object(
        &self,
        operation: &str,
        provisioner: &str,
        touched: &Touched,
    ) -> Result<()> {
        let (operation, provisioner) = (operation.to_owned(), provisioner.to_owned());
        let Touched { place, before, .. } = touched.clone();
        self.write_durably(move |tx| {
            let Place { cluster, kind: Kind { api_version, kind }, namespace, name } = place;
            let place = params![operation, provisioner, cluster, api_version, kind, namespace, name];
            let same = "provisioner = ?2 AND cluster = ?3 AND api_version = ?4 AND kind = ?5 AND namespace = ?6 AND name = ?7";
            let sql = format!("SELECT 1 FROM operation_objects WHERE operation = ?1 AND {same}");
            if tx.query_row(&sql, place, |_| Ok(())).optional()?.is_some() {
                return Ok(());
            }
            let older = format!(
                "operation <> ?1 AND {same} AND operation IN (SELECT id FROM operations WHERE state <> 'running')"
            );
            let sql = format!("SELECT before FROM operation_objects WHERE {older} ORDER BY operation LIMIT 1");
            let found: Option<Option<String>> =
                tx.query_row(&sql, place, |row| row.get(0)).optional()?;
            tx.execute(&format!("DELETE FROM operation_objects WHERE {older}"), place)?;
            let before = match found {
                Some(before) => before,
                None => before.map(|before| to_json("object", &before)).transpose()?,
            };
            let sql = "INSERT INTO operation_objects \
                       (operation, number, provisioner, cluster, api_version, kind, namespace, name, before) \
                       VALUES (?1, (SELECT count(*) FROM operation_objects WHERE operation = ?1), ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            tx.execute(
                sql,
                params![
                    operation, provisioner, cluster, api_version, kind, namespace, name, before
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// The objects that an operation touched, what it touched last first.
    pub(crate) async fn touched_objects(&self, operation: &str) -> Result<Vec<ObjectRecord>> {
        let operation = operation.to_owned();
        self.read(move |connection| {
            let sql = "SELECT number, provisioner, cluster, api_version, kind, namespace, name, before \
                       FROM operation_objects WHERE operation = ? ORDER BY number DESC";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([operation], |row| {
                let place = Place {
                    cluster: row.get(2)?,
                    kind: Kind { api_version: row.get(3)?, kind: row.get(4)? },
                    namespace: row.get(5)?,
                    name: row.get(6)?,
                };
                let record = ObjectRecord {
                    number: row.get(0)?,
                    provisioner: row.get(1)?,
                    // It is written down before anybody knows.
                    touched: Touched { place, before: None, patched: true },
                };
                Ok((record, row.get::<_, Option<String>>(7)?))
            })?;
            rows.map(|row| {
                let (mut record, before) = row?;
                record.touched.before =
                    before.map(|before| from_json("object", &before)).transpose()?;
                Ok(record)
            })
            .collect()
        })
        .await
    }

    /// There is nothing to take back of this object any more.
    pub(crate) async fn forget_object(&self, operation: &str, number: u64) -> Result<()> {
        let operation = operation.to_owned();
        let sql = "DELETE FROM operation_objects WHERE operation = ? AND number = ?";
        self.write(move |tx| Ok(tx.execute(sql, params![operation, number]).map(|_| ())?)).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::store::Begin;

    async fn store() -> (tempfile::TempDir, Store) {
        let (folder, store) = Store::fresh();
        for id in ["01", "02"] {
            let begin = Begin { id: id.into(), detail: "{}".into(), ..Begin::default() };
            store.begin_operation(begin).await.unwrap();
        }
        (folder, store)
    }

    fn touched(name: &str, before: Option<Value>) -> Touched {
        let place = Place {
            cluster: "north".into(),
            kind: Kind::new("apps/v1", "Deployment"),
            namespace: "default".into(),
            name: name.into(),
        };
        Touched { place, before, patched: true }
    }

    async fn shown(store: &Store, operation: &str) -> Vec<(String, Option<Value>)> {
        let objects = store.touched_objects(operation).await.unwrap();
        objects.into_iter().map(|one| (one.touched.place.name, one.touched.before)).collect()
    }

    #[tokio::test]
    async fn what_was_touched_is_kept_as_it_was_found_first_and_given_back_last_first() {
        let (_folder, store) = store().await;
        for one in [
            touched("web", Some(json!({"a": 1}))),
            touched("api", None),
            touched("web", Some(json!({"a": 2}))),
        ] {
            store.touch_object("01", "k", &one).await.unwrap();
        }
        let web = ("web".to_owned(), Some(json!({"a": 1})));
        assert_eq!(shown(&store, "01").await, [("api".to_owned(), None), web.clone()]);
        store.forget_object("01", 1).await.unwrap();
        assert_eq!(shown(&store, "01").await, [web]);
    }

    #[tokio::test]
    async fn what_ended_well_or_was_put_in_service_keeps_no_object() {
        let (_folder, store) = store().await;
        store.touch_object("01", "k", &touched("web", None)).await.unwrap();
        store.end_operation("01", "done", 1, None, None).await.unwrap();
        assert_eq!(shown(&store, "01").await, []);
        store.touch_object("02", "k", &touched("web", None)).await.unwrap();
        store.put_in_service("02").await.unwrap();
        store.end_operation("02", "failed", 1, None, None).await.unwrap();
        assert_eq!(shown(&store, "02").await, []);
    }

    #[tokio::test]
    async fn a_later_operation_takes_over_what_an_earlier_one_left() {
        let (_folder, store) = store().await;
        store.touch_object("01", "k", &touched("web", Some(json!({"a": 1})))).await.unwrap();
        let half_made = touched("web", Some(json!({"a": "half"})));
        store.end_operation("01", "interrupted", 1, None, None).await.unwrap();
        store.touch_object("02", "k", &half_made).await.unwrap();
        assert_eq!(shown(&store, "01").await, []);
        assert_eq!(shown(&store, "02").await, [("web".to_owned(), Some(json!({"a": 1})))]);
    }
}

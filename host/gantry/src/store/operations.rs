//! The journal of operations.

use std::collections::BTreeSet;

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, ToSql, Transaction, params, params_from_iter};

use super::{JobResult, Result, Store};

/// How long an idempotency key is remembered, in milliseconds.
const KEY_LIFE: i64 = 24 * 60 * 60 * 1000;

/// How many ended operations are kept.
const KEPT: i64 = 10_000;

/// What is written down before an operation starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Begin {
    /// Its id.
    pub(crate) id: String,
    /// What is done.
    pub(crate) verb: String,
    /// To which app.
    pub(crate) app: Option<String>,
    /// With which provisioner.
    pub(crate) plugin: Option<String>,
    /// The digest of its plugin.
    pub(crate) digest: Option<String>,
    /// For whom.
    pub(crate) who: String,
    /// What was asked, as JSON.
    pub(crate) detail: String,
    /// When, in milliseconds since 1970.
    pub(crate) at: i64,
    /// The key of the request and its fingerprint.
    pub(crate) key: Option<(String, String)>,
}

/// What became of a begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It is written down.
    New,
    /// The same request began this operation before.
    Again(String),
    /// The key was used for another request.
    KeyUsed(String),
}

/// An operation as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OperationRecord {
    /// What was written before it started.
    pub(crate) begin: Begin,
    /// Where it is; one of the words of [`crate::api::OperationState`].
    pub(crate) state: String,
    /// What it made is the app now.
    pub(crate) in_service: bool,
    /// When it ended, in milliseconds since 1970.
    pub(crate) ended: Option<i64>,
    /// Why it failed, as JSON.
    pub(crate) problem: Option<String>,
    /// What it gave, as JSON.
    pub(crate) result: Option<String>,
}

/// A container that an operation made, or is about to: its node and its name.
pub(crate) type Made = (String, String);

/// A line that an operation told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    /// When, in milliseconds since 1970.
    pub(crate) at: i64,
    /// What.
    pub(crate) text: String,
}

const COLUMNS: &str =
    "id, verb, app, plugin, digest, who, detail, state, in_service, began, ended, problem, result";

fn read_operation(row: &Row<'_>) -> rusqlite::Result<OperationRecord> {
    Ok(OperationRecord {
        begin: Begin {
            id: row.get(0)?,
            verb: row.get(1)?,
            app: row.get(2)?,
            plugin: row.get(3)?,
            digest: row.get(4)?,
            who: row.get(5)?,
            detail: row.get(6)?,
            at: row.get(9)?,
            key: None,
        },
        state: row.get(7)?,
        in_service: row.get(8)?,
        ended: row.get(10)?,
        problem: row.get(11)?,
        result: row.get(12)?,
    })
}

/// The operation of an earlier request with the same key, if there is one.
fn earlier(tx: &Transaction<'_>, begin: &Begin) -> JobResult<Option<Begun>> {
    let Some((key, fingerprint)) = &begin.key else { return Ok(None) };
    tx.execute("DELETE FROM idempotency WHERE at < ?", [begin.at.saturating_sub(KEY_LIFE)])?;
    let sql = "SELECT fingerprint, operation FROM idempotency WHERE key = ?";
    let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
    let found = tx.query_row(sql, [key], read).optional()?;
    Ok(found.map(|(before, operation)| {
        if before == *fingerprint { Begun::Again(operation) } else { Begun::KeyUsed(operation) }
    }))
}

fn add_loose(tx: &Transaction<'_>, operation: &str, (node, name): &Made) -> JobResult<()> {
    let sql = "INSERT OR IGNORE INTO operation_loose (operation, node, name) VALUES (?,?,?)";
    tx.execute(sql, [operation, node, name])?;
    Ok(())
}

#[cfg(test)]
impl Store {
    /// All that an operation made is the app from now on.
    pub(crate) async fn put_in_service(&self, id: &str) -> Result<()> {
        self.put_in_service_but(id, BTreeSet::new()).await
    }
}

impl Store {
    /// How many operations of a verb began since then and did not fail, with this field of what was asked being so.
    pub(crate) async fn count_operations<V>(
        &self,
        verb: &str,
        field: &str,
        value: V,
        since: i64,
    ) -> Result<u32>
    where
        V: ToSql + Send + 'static,
    {
        let (verb, path) = (verb.to_owned(), format!("$.{field}"));
        self.read(move |db| {
            let mut query = db.prepare_cached(
                "SELECT count(*) FROM operations \
                 WHERE verb = ? AND began >= ? AND json_extract(detail, ?) = ? \
                 AND state IN ('running', 'done')",
            )?;
            Ok(query.query_row(params![verb, since, path, value], |row| row.get(0))?)
        })
        .await
    }

    /// What an earlier request with this key began, if there was one.
    pub(crate) async fn earlier_operation(&self, begin: Begin) -> Result<Option<Begun>> {
        self.write(move |tx| earlier(tx, &begin)).await
    }

    /// Writes an operation down before it starts. It is on the disk when this returns.
    pub(crate) async fn begin_operation(&self, begin: Begin) -> Result<Begun> {
        self.write_durably(move |tx| {
            if let Some(earlier) = earlier(tx, &begin)? {
                return Ok(earlier);
            }
            let Begin { id, verb, app, plugin, digest, who, detail, at, key } = begin;
            tx.execute(
                "INSERT INTO operations (id, verb, app, plugin, digest, who, detail, began, state) \
                 VALUES (?,?,?,?,?,?,?,?,'running')",
                params![id, verb, app, plugin, digest, who, detail, at],
            )?;
            if let Some((key, fingerprint)) = key {
                let sql =
                    "INSERT INTO idempotency (key, fingerprint, operation, at) VALUES (?,?,?,?)";
                tx.execute(sql, params![key, fingerprint, id, at])?;
            }
            Ok(Begun::New)
        })
        .await
    }

    /// Writes down how an operation ended. It is on the disk when this returns.
    pub(crate) async fn end_operation(
        &self,
        id: &str,
        state: &'static str,
        at: i64,
        problem: Option<String>,
        result: Option<String>,
    ) -> Result<()> {
        let id = id.to_owned();
        self.write_durably(move |tx| {
            if state == "done" {
                tx.execute("DELETE FROM operation_loose WHERE operation = ?", [&id])?;
            }
            let sql = "UPDATE operations SET state = ?1, ended = ?2, problem = ?3, result = ?4, \
                       swept = ?1 = 'done' OR in_service = 1 \
                       AND NOT EXISTS (SELECT 1 FROM operation_loose WHERE operation = ?5) WHERE id = ?5";
            tx.execute(sql, params![state, at, problem, result, id])?;
            // Of what is in service, or done, nothing is taken back.
            let sql = "DELETE FROM operation_objects WHERE operation = ?1 \
                       AND EXISTS (SELECT 1 FROM operations WHERE id = ?1 AND (swept = 1 OR in_service = 1))";
            tx.execute(sql, [&id])?;
            // The journal does not grow for ever, but what is still to be removed is not forgotten.
            let oldest: Option<String> = tx
                .query_row("SELECT id FROM operations ORDER BY id DESC LIMIT 1 OFFSET ?", [KEPT], |row| {
                    row.get(0)
                })
                .optional()?;
            if let Some(oldest) = oldest {
                let sql = "DELETE FROM operations WHERE id <= ? AND state <> 'running' AND swept = 1";
                tx.execute(sql, [oldest])?;
            }
            Ok(())
        })
        .await
    }

    /// What an operation made is the app from now on, all but `loose`. It is on the disk when this returns.
    pub(crate) async fn put_in_service_but(&self, id: &str, loose: BTreeSet<Made>) -> Result<()> {
        let id = id.to_owned();
        self.write_durably(move |tx| {
            tx.execute("UPDATE operations SET in_service = 1 WHERE id = ?", [&id])?;
            tx.execute("DELETE FROM operation_loose WHERE operation = ?", [&id])?;
            for made in &loose {
                add_loose(tx, &id, made)?;
            }
            Ok(())
        })
        .await
    }

    /// An operation of which something is in service is about to make this, which is not.
    pub(crate) async fn make_loose(&self, id: &str, made: Made) -> Result<()> {
        let id = id.to_owned();
        self.write(move |tx| add_loose(tx, &id, &made)).await
    }

    /// What an operation of which something is in service has made and not put in service.
    pub(crate) async fn loose(&self, id: &str) -> Result<BTreeSet<Made>> {
        let id = id.to_owned();
        self.read(move |connection| {
            let sql = "SELECT node, name FROM operation_loose WHERE operation = ?";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// What an operation made is not the app after all: nothing was replaced.
    pub(crate) async fn take_out_of_service(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.write_durably(move |tx| {
            tx.execute("UPDATE operations SET in_service = 0 WHERE id = ?", [&id])?;
            tx.execute("DELETE FROM operation_loose WHERE operation = ?", [&id])?;
            Ok(())
        })
        .await
    }

    /// The operations that ended otherwise than well, and of which something may be left that nobody uses.
    pub(crate) async fn operations_to_sweep(&self) -> Result<Vec<OperationRecord>> {
        self.read(|connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM operations WHERE swept = 0 \
                 AND state IN ('failed', 'cancelled', 'interrupted') ORDER BY id"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([], read_operation)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Nothing of this operation is left that nobody uses.
    pub(crate) async fn swept(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.write(move |tx| {
            tx.execute("UPDATE operations SET swept = 1 WHERE id = ?", [&id])?;
            tx.execute("DELETE FROM operation_objects WHERE operation = ?", [&id])?;
            tx.execute("DELETE FROM operation_loose WHERE operation = ?", [&id])?;
            Ok(())
        })
        .await
    }

    /// Writes a line of an operation, some time before whatever is written next.
    pub(crate) fn add_line(&self, operation: &str, line: Line) {
        let operation = operation.to_owned();
        self.write_later(move |tx| {
            let sql = "INSERT INTO operation_lines (operation, number, at, text) VALUES (?,?,?,?)";
            tx.execute(sql, params![operation, line.number, line.at, line.text])?;
            Ok(())
        });
    }

    /// The lines of an operation after a number.
    pub(crate) async fn lines(&self, operation: &str, after: u64) -> Result<Vec<Line>> {
        let operation = operation.to_owned();
        self.read(move |connection| {
            let sql = "SELECT number, at, text FROM operation_lines WHERE operation = ? AND number > ? ORDER BY number";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![operation, after], |row| {
                Ok(Line { number: row.get(0)?, at: row.get(1)?, text: row.get(2)? })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The operations whose id starts with this, at most two: enough to tell whether it is one.
    pub(crate) async fn operations_named(&self, prefix: &str) -> Result<Vec<OperationRecord>> {
        let prefix = prefix.to_owned();
        self.read(move |connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM operations WHERE id >= ?1 AND substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 2"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([prefix], read_operation)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The newest operations, of one app or in one state if asked, before an id if asked.
    pub(crate) async fn operations(
        &self,
        app: Option<&str>,
        state: Option<&str>,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<OperationRecord>> {
        let wanted = [("app =", app), ("state =", state), ("id <", before)];
        let (mut conditions, mut values) = (vec!["1".to_owned()], Vec::new());
        for (condition, value) in wanted {
            if let Some(value) = value {
                conditions.push(format!("{condition} ?"));
                values.push(Value::Text(value.to_owned()));
            }
        }
        values.push(Value::Integer(limit.into()));
        let sql = format!(
            "SELECT {COLUMNS} FROM operations WHERE {} ORDER BY id DESC LIMIT ?",
            conditions.join(" AND ")
        );
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(values), read_operation)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(id: &str, key: Option<(&str, &str)>) -> Begin {
        Begin {
            id: id.to_owned(),
            verb: "deploy".to_owned(),
            app: Some("web".to_owned()),
            who: "uid 0".to_owned(),
            detail: "{}".to_owned(),
            at: 1_000,
            key: key.map(|(key, print)| (key.to_owned(), print.to_owned())),
            ..Begin::default()
        }
    }

    #[tokio::test]
    async fn an_operation_that_never_ended_is_found_running_after_a_crash() {
        let (folder, store) = Store::fresh();
        store.begin_operation(begin("01", None)).await.unwrap();
        store.begin_operation(begin("02", None)).await.unwrap();
        store.end_operation("01", "done", 2_000, None, None).await.unwrap();
        store.add_line("02", Line { number: 1, at: 1_500, text: "half way".into() });
        store.put_in_service("02").await.unwrap();
        // A crash: nothing is closed, the next daemon opens the same files.
        std::mem::forget(store);
        let store = Store::open(folder.path()).unwrap();
        let running = store.operations(None, Some("running"), None, 10).await.unwrap();
        assert_eq!(running.len(), 1);
        assert_eq!((running[0].begin.id.as_str(), running[0].in_service), ("02", true));
        assert_eq!(store.lines("02", 0).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_was_asked_is_counted_by_the_whole_of_a_field() {
        let (_folder, store) = Store::fresh();
        let details = [
            r#"{"address":"http://10.0.0.1:2375","reason":"as 10.0.0.11"}"#,
            r#"{"address":"http://10.0.0.11:2375","reason":"as http://10.0.0.1:2375"}"#,
            r#"{"unit":"1","node_given_up":true}"#,
            r#"{"unit":"2","node_given_up":false}"#,
        ];
        for (number, detail) in details.into_iter().enumerate() {
            let begin = Begin { detail: detail.to_owned(), ..begin(&number.to_string(), None) };
            store.begin_operation(begin).await.unwrap();
        }
        let of = |address: &str| {
            let address = format!("http://{address}:2375");
            store.count_operations("deploy", "address", address, 1_000)
        };
        let counts = [of("10.0.0.1").await, of("10.0.0.11").await, of("10.0.0").await];
        assert_eq!(counts.map(Result::unwrap), [1, 1, 0]);
        let units = |given_up: bool, since| {
            store.count_operations("deploy", "node_given_up", given_up, since)
        };
        let counts =
            [units(false, 1_000).await, units(true, 1_000).await, units(true, 1_001).await];
        assert_eq!(counts.map(Result::unwrap), [1, 1, 0]);
        for (state, count) in [("done", 1), ("failed", 0)] {
            store.end_operation("3", state, 2_000, None, None).await.unwrap();
            assert_eq!(units(false, 1_000).await.unwrap(), count, "{state}");
        }
    }

    #[tokio::test]
    async fn a_full_journal_forgets_what_ended_and_keeps_what_is_still_to_be_removed() {
        let (_folder, store) = Store::fresh();
        store.begin_operation(begin("0-failed", None)).await.unwrap();
        store.end_operation("0-failed", "failed", 2_000, None, None).await.unwrap();
        store.begin_operation(begin("0-marked", None)).await.unwrap();
        store.put_in_service("0-marked").await.unwrap();
        store.end_operation("0-marked", "failed", 2_000, None, None).await.unwrap();
        let many = |tx: &Transaction<'_>| {
            let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) \
                       INSERT INTO operations (id, verb, who, detail, state, swept, began) \
                       SELECT printf('1-%06d', i), 'deploy', 'me', '{}', 'done', 1, 1 FROM n";
            tx.execute(sql, [KEPT])?;
            Ok(())
        };
        store.write(many).await.unwrap();
        store.begin_operation(begin("2", None)).await.unwrap();
        store.end_operation("2", "done", 2_000, None, None).await.unwrap();
        let left = store.operations_named("0-").await.unwrap();
        assert_eq!(left.iter().map(|one| &*one.begin.id).collect::<Vec<_>>(), ["0-failed"]);
        assert_eq!(store.operations_named("1-000001").await.unwrap(), []);
        assert_eq!(store.operations_named("1-000002").await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_key_used_again_gives_the_operation_it_began() {
        let (_folder, store) = Store::fresh();
        let again = store.begin_operation(begin("01", Some(("k", "same")))).await.unwrap();
        assert_eq!(again, Begun::New);
        let again = store.begin_operation(begin("02", Some(("k", "same")))).await.unwrap();
        assert_eq!(again, Begun::Again("01".into()));
        let other = store.begin_operation(begin("03", Some(("k", "other")))).await.unwrap();
        assert_eq!(other, Begun::KeyUsed("01".into()));
        assert_eq!(store.operations(None, None, None, 10).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_key_is_forgotten_after_a_day() {
        let (_folder, store) = Store::fresh();
        store.begin_operation(begin("01", Some(("k", "same")))).await.unwrap();
        let late = Begin { at: 1_001 + KEY_LIFE, ..begin("02", Some(("k", "other"))) };
        assert_eq!(store.begin_operation(late).await.unwrap(), Begun::New);
    }

    #[tokio::test]
    async fn operations_are_listed_newest_first_and_by_page() {
        let (_folder, store) = Store::fresh();
        for id in ["01", "02", "03"] {
            store.begin_operation(begin(id, None)).await.unwrap();
        }
        let ids = |records: Vec<OperationRecord>| {
            records.into_iter().map(|record| record.begin.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(store.operations(None, None, None, 2).await.unwrap()), ["03", "02"]);
        assert_eq!(ids(store.operations(Some("web"), None, Some("02"), 2).await.unwrap()), ["01"]);
        assert_eq!(ids(store.operations(Some("api"), None, None, 2).await.unwrap()), [""; 0]);
        assert_eq!(ids(store.operations_named("0").await.unwrap()), ["01", "02"]);
        assert_eq!(ids(store.operations_named("03").await.unwrap()), ["03"]);
    }
}

//! Plans: what units of apps may use, under a name.

use rusqlite::{OptionalExtension, Row, params};

use super::{Result, Store};

/// A plan as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlanRecord {
    /// Its name.
    pub(crate) name: String,
    /// Memory in bytes; 0 is no limit.
    pub(crate) memory: i64,
    /// Swap in bytes, on top of the memory.
    pub(crate) swap: i64,
    /// Relative weight of the CPU; 0 leaves the engine's default.
    pub(crate) cpu_share: i32,
    /// Whether it is that of apps that name none.
    pub(crate) is_default: bool,
    /// When it was made, in milliseconds since 1970.
    pub(crate) created: i64,
}

const COLUMNS: &str = "name, memory, swap, cpu_share, is_default, created";

fn read(row: &Row<'_>) -> rusqlite::Result<PlanRecord> {
    Ok(PlanRecord {
        name: row.get(0)?,
        memory: row.get(1)?,
        swap: row.get(2)?,
        cpu_share: row.get(3)?,
        is_default: row.get(4)?,
        created: row.get(5)?,
    })
}

impl Store {
    /// The plans, by name.
    pub(crate) async fn plans(&self) -> Result<Vec<PlanRecord>> {
        self.read(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM plans ORDER BY name");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([], read)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Writes a new plan down; false when there is one of this name. A new default takes the place of the one that there was.
    pub(crate) async fn insert_plan(&self, record: PlanRecord) -> Result<bool> {
        self.write(move |tx| {
            let PlanRecord { name, memory, swap, cpu_share, is_default, created } = record;
            let sql = "SELECT 1 FROM plans WHERE name = ?";
            if tx.query_row(sql, [&name], |_| Ok(())).optional()?.is_some() {
                return Ok(false);
            }
            if is_default {
                tx.execute("UPDATE plans SET is_default = 0", [])?;
            }
            let sql = format!("INSERT INTO plans ({COLUMNS}) VALUES (?,?,?,?,?,?)");
            tx.execute(&sql, params![name, memory, swap, cpu_share, is_default, created])?;
            Ok(true)
        })
        .await
    }

    /// Removes a plan; false when there is none. Apps that were given it keep what they have.
    pub(crate) async fn remove_plan(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.write(move |tx| Ok(tx.execute("DELETE FROM plans WHERE name = ?", [name])? == 1)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_plan_is_the_default_and_each_name_is_there_once() {
        let (_folder, store) = Store::fresh();
        let plan = |name: &str, is_default| PlanRecord {
            name: name.into(),
            memory: 1,
            is_default,
            ..PlanRecord::default()
        };
        assert!(store.insert_plan(plan("small", true)).await.unwrap());
        assert!(!store.insert_plan(plan("small", false)).await.unwrap());
        assert!(store.insert_plan(plan("large", true)).await.unwrap());
        assert!(!store.insert_plan(plan("small", true)).await.unwrap(), "and nothing has changed");
        let plans = store.plans().await.unwrap();
        assert_eq!(plans, [plan("large", true), plan("small", false)]);
        assert!(store.remove_plan("large").await.unwrap());
        assert!(!store.remove_plan("large").await.unwrap());
        assert_eq!(store.plans().await.unwrap().len(), 1);
    }
}

//! Apps and their environment.

use gantry_core::{App, AppRouter, EnvVar};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{JobResult, Result, Store, StoreError, from_json, routes, to_json};
use crate::config::Token;

/// An app as the platform keeps it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct AppRecord {
    /// What provisioners see of it.
    pub(crate) app: App,
    /// The provisioner of its pool when it was made.
    pub(crate) provisioner: String,
    /// How many units it may have; none for as many as wanted.
    pub(crate) unit_quota: Option<u32>,
    /// How many units it uses.
    pub(crate) units_in_use: u32,
    /// Its routers, in order.
    pub(crate) routers: Vec<AppRouter>,
    /// When it was made, in milliseconds since 1970.
    pub(crate) created: i64,
    /// The operation that made it.
    pub(crate) operation: String,
    /// The plan that it was given; empty when it was given amounts only.
    pub(crate) plan: String,
}

const COLUMNS: &str = "name, platform, pool, provisioner, team_owner, memory, swap, cpu_share, \
                       unit_quota, units_in_use, deploys, update_platform, routers, created, operation, plan";

fn read_app(row: &Row<'_>) -> rusqlite::Result<(AppRecord, String)> {
    let record = AppRecord {
        app: App {
            name: row.get(0)?,
            platform: row.get(1)?,
            pool: row.get(2)?,
            team_owner: row.get(4)?,
            memory: row.get(5)?,
            swap: row.get(6)?,
            cpu_share: row.get(7)?,
            deploys: row.get(10)?,
            update_platform: row.get(11)?,
        },
        provisioner: row.get(3)?,
        unit_quota: row.get(8)?,
        units_in_use: row.get(9)?,
        routers: Vec::new(),
        created: row.get(13)?,
        operation: row.get(14)?,
        plan: row.get(15)?,
    };
    Ok((record, row.get(12)?))
}

fn with_routers((mut record, routers): (AppRecord, String)) -> JobResult<AppRecord> {
    record.routers = from_json("list of routers", &routers)?;
    Ok(record)
}

fn remove(tx: &Transaction<'_>, name: &str) -> JobResult<()> {
    routes::leave(tx, name)?;
    tx.execute(
        "DELETE FROM image_metadata WHERE image IN (SELECT image FROM images WHERE app = ?1) \
         AND image NOT IN (SELECT image FROM images WHERE app <> ?1)",
        [name],
    )?;
    tx.execute("DELETE FROM images WHERE app = ?", [name])?;
    tx.execute("DELETE FROM image_counters WHERE app = ?", [name])?;
    tx.execute("DELETE FROM apps WHERE name = ?", [name])?;
    Ok(())
}

/// A text that nobody can guess.
fn secret() -> Result<String> {
    let words = [getrandom::u64(), getrandom::u64(), getrandom::u64(), getrandom::u64()];
    let words = words.map(|word| word.map(|word| format!("{word:016x}")));
    words.into_iter().collect::<std::result::Result<_, _>>().map_err(StoreError::NotRandom)
}

impl Store {
    /// Writes a new app down; false when there is one of this name.
    pub(crate) async fn insert_app(&self, record: AppRecord) -> Result<bool> {
        let token = secret()?;
        self.write(move |tx| {
            let AppRecord {
                app,
                provisioner,
                unit_quota,
                units_in_use,
                routers,
                created,
                operation,
                plan,
            } = record;
            let on = to_json("list of routers", &routers)?;
            let sql = format!(
                "INSERT INTO apps ({COLUMNS}, token) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) \
                 ON CONFLICT (name) DO NOTHING"
            );
            let inserted = tx.execute(
                &sql,
                params![
                    app.name,
                    app.platform,
                    app.pool,
                    provisioner,
                    app.team_owner,
                    app.memory,
                    app.swap,
                    app.cpu_share,
                    unit_quota,
                    units_in_use,
                    app.deploys,
                    app.update_platform,
                    on,
                    created,
                    operation,
                    plan,
                    token,
                ],
            )?;
            if inserted == 1 {
                routes::place(tx, &app.name, &routers, created)?;
            }
            Ok(inserted == 1)
        })
        .await
    }

    /// An app.
    pub(crate) async fn app(&self, name: &str) -> Result<Option<AppRecord>> {
        let name = name.to_owned();
        self.read(move |connection| {
            let sql = format!("SELECT {COLUMNS} FROM apps WHERE name = ?");
            connection.query_row(&sql, [name], read_app).optional()?.map(with_routers).transpose()
        })
        .await
    }

    /// All apps, by name.
    pub(crate) async fn apps(&self) -> Result<Vec<AppRecord>> {
        self.read(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM apps ORDER BY name");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([], read_app)?;
            rows.map(|row| with_routers(row?)).collect()
        })
        .await
    }

    /// Removes an app with its environment and its images. Removing what is gone succeeds.
    pub(crate) async fn remove_app(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.write(move |tx| remove(tx, &name)).await
    }

    /// Removes an app if this operation made it; false when another one did, or when there is none.
    pub(crate) async fn remove_app_made_by(&self, name: &str, operation: &str) -> Result<bool> {
        let (name, operation) = (name.to_owned(), operation.to_owned());
        self.write(move |tx| {
            let sql = "SELECT 1 FROM apps WHERE name = ? AND operation = ?";
            let made = tx.query_row(sql, [&name, &operation], |_| Ok(())).optional()?.is_some();
            if made {
                remove(tx, &name)?;
            }
            Ok(made)
        })
        .await
    }

    /// Counts a deploy. After one of an image the next build starts from the platform's image; one that was built on that has done so.
    pub(crate) async fn count_deploy(&self, name: &str, of_image: bool) -> Result<()> {
        let name = name.to_owned();
        let sql = "UPDATE apps SET deploys = deploys + 1, update_platform = ? WHERE name = ?";
        self.write(move |tx| Ok(tx.execute(sql, params![of_image, name]).map(|_| ())?)).await
    }

    /// Sets how many units an app uses, if it may; gives what it may use otherwise.
    pub(crate) async fn set_units_in_use(
        &self,
        name: &str,
        units: u32,
    ) -> Result<Option<std::result::Result<(), u32>>> {
        let name = name.to_owned();
        self.write(move |tx| {
            let quota: Option<Option<u32>> = tx
                .query_row("SELECT unit_quota FROM apps WHERE name = ?", [&name], |row| row.get(0))
                .optional()?;
            Ok(match quota {
                None => None,
                Some(Some(quota)) if units > quota => Some(Err(quota)),
                Some(_) => {
                    let sql = "UPDATE apps SET units_in_use = ? WHERE name = ?";
                    tx.execute(sql, params![units, name])?;
                    Some(Ok(()))
                }
            })
        })
        .await
    }

    /// Sets how many units an app may have; gives how many it uses when that is more. Nothing when there is no such app.
    pub(crate) async fn set_unit_quota(
        &self,
        name: &str,
        quota: Option<u32>,
    ) -> Result<Option<std::result::Result<(), u32>>> {
        let name = name.to_owned();
        self.write(move |tx| {
            let sql = "SELECT units_in_use FROM apps WHERE name = ?";
            let in_use: Option<u32> = tx.query_row(sql, [&name], |row| row.get(0)).optional()?;
            Ok(match (in_use, quota) {
                (None, _) => None,
                (Some(in_use), Some(quota)) if quota < in_use => Some(Err(in_use)),
                (Some(_), quota) => {
                    let sql = "UPDATE apps SET unit_quota = ? WHERE name = ?";
                    tx.execute(sql, params![quota, name])?;
                    Some(Ok(()))
                }
            })
        })
        .await
    }

    /// Sets what units of an app may use, and the plan that this is of.
    pub(crate) async fn set_plan(&self, app: &App, plan: &str) -> Result<()> {
        let (name, plan) = (app.name.clone(), plan.to_owned());
        let (memory, swap, cpu_share) = (app.memory, app.swap, app.cpu_share);
        self.write(move |tx| {
            let sql =
                "UPDATE apps SET plan = ?, memory = ?, swap = ?, cpu_share = ? WHERE name = ?";
            tx.execute(sql, params![plan, memory, swap, cpu_share, name])?;
            Ok(())
        })
        .await
    }

    /// What the agents in the units of an app show to be let in; none when there is no such app.
    pub(crate) async fn app_token(&self, name: &str) -> Result<Option<Token>> {
        let name = name.to_owned();
        self.read(move |connection| {
            let sql = "SELECT token FROM apps WHERE name = ?";
            let token: Option<String> =
                connection.query_row(sql, [name], |row| row.get(0)).optional()?;
            Ok(token.as_deref().and_then(Token::new))
        })
        .await
    }

    /// The variables people set, by name.
    pub(crate) async fn envs(&self, app: &str) -> Result<Vec<EnvVar>> {
        let app = app.to_owned();
        self.read(move |connection| {
            let sql = "SELECT name, value, public FROM envs WHERE app = ? ORDER BY name";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([app], |row| {
                Ok(EnvVar { name: row.get(0)?, value: row.get(1)?, public: row.get(2)? })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Sets variables, and removes others.
    pub(crate) async fn change_envs(
        &self,
        app: &str,
        set: Vec<EnvVar>,
        unset: Vec<String>,
    ) -> Result<()> {
        let app = app.to_owned();
        self.write(move |tx| {
            for EnvVar { name, value, public } in set {
                tx.execute(
                    "INSERT INTO envs (app, name, value, public) VALUES (?,?,?,?) \
                     ON CONFLICT (app, name) DO UPDATE SET value = excluded.value, public = excluded.public",
                    params![app, name, value, public],
                )?;
            }
            for name in unset {
                tx.execute("DELETE FROM envs WHERE app = ? AND name = ?", [&app, &name])?;
            }
            Ok(())
        })
        .await
    }
}

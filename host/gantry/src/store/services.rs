//! Services, the apps that are bound to them, and the units that they were told about.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{JobResult, Result, Store, from_json, to_json};
use crate::api::Secret;

/// A service as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceRecord {
    /// Its name.
    pub(crate) name: String,
    /// Where it answers.
    pub(crate) url: String,
    /// Who we are there.
    pub(crate) username: String,
    /// How we show it.
    pub(crate) password: Secret,
    /// How many seconds it has to answer.
    pub(crate) timeout: u32,
    /// When it was added, in milliseconds since 1970.
    pub(crate) created: i64,
}

/// A bind of an app to a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceBind {
    /// The app.
    pub(crate) app: String,
    /// The service.
    pub(crate) service: String,
    /// What the service tells the app; none until it has answered.
    pub(crate) envs: Option<Variables>,
}

/// Variables, by name. They are somebody's credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Variables(pub(crate) BTreeMap<String, String>);

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What became of a bind that was to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BindBegun {
    /// It is written down.
    Begun,
    /// It had begun before and not ended: the service may know of it.
    Again,
    /// The app is bound already.
    Bound,
    /// There is no such service.
    NoService,
}

/// How many units of an app a service may know: a provisioner that names ever new ones must not fill the disk.
const UNITS: i64 = 10_000;

/// What became of a unit that a service was to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// It is written down: the service is to be told.
    New,
    /// There is nothing to tell: the service knows it, or the app is not bound.
    Known,
    /// The service knows as many units of the app as it may.
    Full(i64),
}

/// A unit that a service was told about, or may have been.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToldUnit {
    /// The unit.
    pub(crate) unit: String,
    /// What the service knows it by.
    pub(crate) host: String,
    /// Whether the service has answered.
    pub(crate) told: bool,
}

const COLUMNS: &str = "name, url, username, password, timeout, created";

/// The columns of a bind, where those of its service come first.
const BIND: &str = "b.app, b.service, b.envs";

/// Where the columns of a bind begin then.
const BIND_AT: usize = 6;

fn read_service(row: &Row<'_>) -> rusqlite::Result<ServiceRecord> {
    Ok(ServiceRecord {
        name: row.get(0)?,
        url: row.get(1)?,
        username: row.get(2)?,
        password: Secret::new(row.get::<_, String>(3)?),
        timeout: row.get(4)?,
        created: row.get(5)?,
    })
}

/// The bind in a row from this column on; none where a service has none.
fn read_bind(row: &Row<'_>, at: usize) -> JobResult<Option<ServiceBind>> {
    let Some(app) = row.get::<_, Option<String>>(at)? else { return Ok(None) };
    let service = row.get(at.saturating_add(1))?;
    let envs: Option<String> = row.get(at.saturating_add(2))?;
    let read = |text: String| from_json("set of variables", &text).map(Variables);
    Ok(Some(ServiceBind { app, service, envs: envs.map(read).transpose()? }))
}

/// The binds of a service, in their order.
fn read_binds(connection: &Connection, service: &str) -> JobResult<Vec<ServiceBind>> {
    let sql = format!("SELECT {BIND} FROM service_binds b WHERE b.service = ? ORDER BY b.position");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([service])?;
    let mut binds = Vec::new();
    while let Some(row) = rows.next()? {
        binds.extend(read_bind(row, 0)?);
    }
    Ok(binds)
}

fn is_there(tx: &Transaction<'_>, service: &str) -> JobResult<bool> {
    let sql = "SELECT 1 FROM services WHERE name = ?";
    Ok(tx.query_row(sql, [service], |_| Ok(())).optional()?.is_some())
}

impl Store {
    /// The services, by name.
    pub(crate) async fn services(&self) -> Result<Vec<ServiceRecord>> {
        self.read(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM services ORDER BY name");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([], read_service)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The services by name, each with its binds in their order.
    pub(crate) async fn services_and_binds(
        &self,
    ) -> Result<Vec<(ServiceRecord, Vec<ServiceBind>)>> {
        self.read(|connection| {
            let sql = format!(
                "SELECT {COLUMNS}, {BIND} FROM services s \
                 LEFT JOIN service_binds b ON b.service = s.name ORDER BY s.name, b.position"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([])?;
            let mut services: Vec<(ServiceRecord, Vec<ServiceBind>)> = Vec::new();
            while let Some(row) = rows.next()? {
                let (service, bind) = (read_service(row)?, read_bind(row, BIND_AT)?);
                match services.last_mut() {
                    Some((last, binds)) if last.name == service.name => binds.extend(bind),
                    Some(_) | None => services.push((service, bind.into_iter().collect())),
                }
            }
            Ok(services)
        })
        .await
    }

    /// Writes a new service down; false when there is one of this name.
    pub(crate) async fn insert_service(&self, record: ServiceRecord) -> Result<bool> {
        self.write(move |tx| {
            let ServiceRecord { name, url, username, password, timeout, created } = record;
            let sql = format!(
                "INSERT INTO services ({COLUMNS}) VALUES (?,?,?,?,?,?) ON CONFLICT (name) DO NOTHING"
            );
            let values = params![name, url, username, password.reveal(), timeout, created];
            Ok(tx.execute(&sql, values)? == 1)
        })
        .await
    }

    /// Writes down what has changed of a service; false when there is none of this name.
    pub(crate) async fn change_service(&self, record: ServiceRecord) -> Result<bool> {
        self.write(move |tx| {
            let ServiceRecord { name, url, username, password, timeout, .. } = record;
            let sql = "UPDATE services SET url = ?, username = ?, password = ?, timeout = ? \
                       WHERE name = ?";
            let values = params![url, username, password.reveal(), timeout, name];
            Ok(tx.execute(sql, values)? == 1)
        })
        .await
    }

    /// Removes a service that no app is bound to; gives the apps that are. Removing what is gone succeeds.
    pub(crate) async fn remove_service(&self, name: &str) -> Result<Vec<String>> {
        let name = name.to_owned();
        self.write(move |tx| {
            let binds = read_binds(tx, &name)?;
            if binds.is_empty() {
                tx.execute("DELETE FROM services WHERE name = ?", [&name])?;
            }
            Ok(binds.into_iter().map(|bind| bind.app).collect())
        })
        .await
    }

    /// The binds of a service, in their order.
    pub(crate) async fn binds_of_service(&self, service: &str) -> Result<Vec<ServiceBind>> {
        let service = service.to_owned();
        self.read(move |connection| read_binds(connection, &service)).await
    }

    /// The binds of an app in their order, each with its service.
    pub(crate) async fn binds_of_app(
        &self,
        app: &str,
    ) -> Result<Vec<(ServiceBind, ServiceRecord)>> {
        let app = app.to_owned();
        self.read(move |connection| {
            let sql = format!(
                "SELECT {COLUMNS}, {BIND} FROM service_binds b \
                 JOIN services s ON s.name = b.service WHERE b.app = ? ORDER BY b.position"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([app])?;
            let mut binds = Vec::new();
            while let Some(row) = rows.next()? {
                let service = read_service(row)?;
                binds.extend(read_bind(row, BIND_AT)?.map(|bind| (bind, service)));
            }
            Ok(binds)
        })
        .await
    }

    /// Writes down that an app is about to be bound: it is on the disk before the service is told.
    pub(crate) async fn begin_bind(&self, app: &str, service: &str) -> Result<BindBegun> {
        let (app, service) = (app.to_owned(), service.to_owned());
        self.write_durably(move |tx| {
            if !is_there(tx, &service)? {
                return Ok(BindBegun::NoService);
            }
            let sql = "SELECT envs IS NOT NULL FROM service_binds WHERE app = ? AND service = ?";
            let bound: Option<bool> =
                tx.query_row(sql, [&app, &service], |row| row.get(0)).optional()?;
            match bound {
                Some(true) => Ok(BindBegun::Bound),
                Some(false) => Ok(BindBegun::Again),
                None => {
                    let sql = "INSERT INTO service_binds (app, service) VALUES (?,?)";
                    tx.execute(sql, [&app, &service])?;
                    Ok(BindBegun::Begun)
                }
            }
        })
        .await
    }

    /// Writes down what a service tells an app: now it is bound.
    pub(crate) async fn end_bind(&self, app: &str, service: &str, envs: Variables) -> Result<()> {
        let (app, service) = (app.to_owned(), service.to_owned());
        self.write_durably(move |tx| {
            let envs = to_json("set of variables", &envs.0)?;
            let sql = "UPDATE service_binds SET envs = ? WHERE app = ? AND service = ?";
            tx.execute(sql, [&envs, &app, &service])?;
            Ok(())
        })
        .await
    }

    /// Forgets a bind with the variables and the units of it. Forgetting what is gone succeeds.
    pub(crate) async fn forget_bind(&self, app: &str, service: &str) -> Result<()> {
        let key = [app.to_owned(), service.to_owned()];
        let sql = "DELETE FROM service_binds WHERE app = ? AND service = ?";
        self.write(move |tx| Ok(tx.execute(sql, key).map(|_| ())?)).await
    }

    /// The units of an app that a service was told about, or may have been.
    pub(crate) async fn told_units(&self, app: &str, service: &str) -> Result<Vec<ToldUnit>> {
        let key = [app.to_owned(), service.to_owned()];
        self.read(move |connection| {
            let sql = "SELECT unit, host, told FROM service_units \
                       WHERE app = ? AND service = ? ORDER BY unit";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(key, |row| {
                Ok(ToldUnit { unit: row.get(0)?, host: row.get(1)?, told: row.get(2)? })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Writes down that a service is about to be told of a unit, if it is to be.
    pub(crate) async fn tell_unit(
        &self,
        app: &str,
        service: &str,
        unit: &str,
        host: &str,
    ) -> Result<Telling> {
        let [app, service, unit, host] = [app, service, unit, host].map(str::to_owned);
        self.write(move |tx| {
            let sql = "INSERT INTO service_units (app, service, unit, host) \
                       SELECT app, service, ?3, ?4 FROM service_binds WHERE app = ?1 AND service = ?2 \
                       ON CONFLICT (app, service, unit) DO UPDATE SET host = excluded.host WHERE told = 0";
            if tx.execute(sql, [&app, &service, &unit, &host])? == 0 {
                return Ok(Telling::Known);
            }
            let sql = "SELECT count(*) FROM service_units WHERE app = ? AND service = ?";
            let known: i64 = tx.query_row(sql, [&app, &service], |row| row.get(0))?;
            if known > UNITS {
                let sql = "DELETE FROM service_units WHERE app = ? AND service = ? AND unit = ?";
                tx.execute(sql, [&app, &service, &unit])?;
                return Ok(Telling::Full(UNITS));
            }
            Ok(Telling::New)
        })
        .await
    }

    /// Writes down that a service knows a unit, also when it was forgotten while the service was told: whoever looks next at what the service knows tells it that the unit is gone.
    pub(crate) async fn unit_told(
        &self,
        app: &str,
        service: &str,
        unit: &str,
        host: &str,
    ) -> Result<()> {
        let values = [app, service, unit, host].map(str::to_owned);
        let sql = "INSERT INTO service_units (app, service, unit, host, told) \
                   SELECT app, service, ?3, ?4, 1 FROM service_binds WHERE app = ?1 AND service = ?2 \
                   ON CONFLICT (app, service, unit) DO UPDATE SET told = 1";
        self.write(move |tx| Ok(tx.execute(sql, values).map(|_| ())?)).await
    }

    /// Forgets a unit that a service was told about, and gives its host when no other unit of the app is there any more.
    pub(crate) async fn forget_unit(
        &self,
        app: &str,
        service: &str,
        unit: &str,
    ) -> Result<Option<String>> {
        let [app, service, unit] = [app, service, unit].map(str::to_owned);
        self.write(move |tx| {
            let sql = "DELETE FROM service_units WHERE app = ? AND service = ? AND unit = ? \
                       RETURNING host";
            let host: Option<String> =
                tx.query_row(sql, [&app, &service, &unit], |row| row.get(0)).optional()?;
            let Some(host) = host else { return Ok(None) };
            let sql = "SELECT 1 FROM service_units WHERE app = ? AND service = ? AND host = ?";
            let others = tx.query_row(sql, [&app, &service, &host], |_| Ok(())).optional()?;
            Ok(others.is_none().then_some(host))
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
        for name in ["db", "cache"] {
            let record = ServiceRecord { name: name.into(), ..ServiceRecord::default() };
            assert!(store.insert_service(record.clone()).await.unwrap());
            assert!(!store.insert_service(record).await.unwrap());
        }
        (folder, store)
    }

    fn envs(name: &str, value: &str) -> Variables {
        Variables([(name.to_owned(), value.to_owned())].into())
    }

    #[tokio::test]
    async fn a_bind_that_has_begun_may_begin_again_and_counts_once_it_has_ended() {
        let (_folder, store) = store().await;
        assert_eq!(store.begin_bind("web", "none").await.unwrap(), BindBegun::NoService);
        for begun in [BindBegun::Begun, BindBegun::Again] {
            assert_eq!(store.begin_bind("web", "db").await.unwrap(), begun);
        }
        assert_eq!(store.binds_of_app("web").await.unwrap()[0].0.envs, None);
        store.end_bind("web", "db", envs("HOST", "h")).await.unwrap();
        assert_eq!(store.begin_bind("web", "db").await.unwrap(), BindBegun::Bound);
        let (bind, service) = store.binds_of_app("web").await.unwrap().swap_remove(0);
        assert_eq!((bind.envs, service.name.as_str()), (Some(envs("HOST", "h")), "db"));
    }

    #[tokio::test]
    async fn binds_are_in_the_order_in_which_they_were_made() {
        let (_folder, store) = store().await;
        for service in ["db", "cache"] {
            store.begin_bind("web", service).await.unwrap();
        }
        store.forget_bind("web", "db").await.unwrap();
        store.begin_bind("web", "db").await.unwrap();
        let binds = store.binds_of_app("web").await.unwrap();
        let order: Vec<_> = binds.iter().map(|(bind, _)| bind.service.as_str()).collect();
        assert_eq!(order, ["cache", "db"]);
    }

    #[tokio::test]
    async fn a_service_stays_while_an_app_is_bound_and_forgets_apps_that_are_gone() {
        let (_folder, store) = store().await;
        for app in ["web", "api"] {
            store.begin_bind(app, "db").await.unwrap();
            assert_eq!(store.tell_unit(app, "db", "u1", "h1").await.unwrap(), Telling::New);
        }
        assert_eq!(store.remove_service("db").await.unwrap(), ["web", "api"]);
        store.remove_app("web").await.unwrap();
        assert_eq!(store.told_units("web", "db").await.unwrap(), []);
        assert_eq!(store.remove_service("db").await.unwrap(), ["api"]);
        store.forget_bind("api", "db").await.unwrap();
        for _ in 0..2 {
            assert_eq!(store.remove_service("db").await.unwrap(), [""; 0]);
        }
        assert_eq!(store.services().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_unit_is_told_once_and_its_host_is_free_when_the_last_one_there_is_gone() {
        let (_folder, store) = store().await;
        let told = store.tell_unit("web", "db", "u1", "h1").await.unwrap();
        assert_eq!(told, Telling::Known, "not bound");
        store.begin_bind("web", "db").await.unwrap();
        let tell = async |unit: &str, host: &str| {
            let told = store.tell_unit("web", "db", unit, host).await.unwrap();
            store.unit_told("web", "db", unit, host).await.unwrap();
            told == Telling::New
        };
        assert_eq!(store.tell_unit("web", "db", "u1", "h0").await.unwrap(), Telling::New);
        assert!(tell("u1", "h1").await, "nobody knows whether it was told");
        assert!(!tell("u1", "h1").await);
        assert!(tell("u2", "h1").await);
        assert!(tell("u3", "h2").await);
        let gone = async |unit: &str| store.forget_unit("web", "db", unit).await.unwrap();
        assert_eq!(gone("u1").await, None, "another is there");
        assert_eq!(gone("u1").await, None);
        assert_eq!(gone("u2").await.as_deref(), Some("h1"));
        assert_eq!(gone("u3").await.as_deref(), Some("h2"));
        // Forgotten while the service was told: the service knows it, and is to hear that it is gone.
        assert_eq!(store.tell_unit("web", "db", "u4", "h4").await.unwrap(), Telling::New);
        assert_eq!(gone("u4").await.as_deref(), Some("h4"));
        store.unit_told("web", "db", "u4", "h4").await.unwrap();
        assert_eq!(store.told_units("web", "db").await.unwrap().len(), 1);
        store.forget_bind("web", "db").await.unwrap();
        store.unit_told("web", "db", "u4", "h4").await.unwrap();
        assert_eq!(store.told_units("web", "db").await.unwrap(), [], "it is not bound any more");
    }

    #[tokio::test]
    async fn services_are_listed_with_their_binds_and_those_of_nobody_without() {
        let (_folder, store) = store().await;
        for app in ["web", "api"] {
            store.begin_bind(app, "db").await.unwrap();
        }
        store.end_bind("api", "db", envs("HOST", "h")).await.unwrap();
        let listed = store.services_and_binds().await.unwrap();
        let alone: Vec<_> = listed.iter().map(|(service, _)| service.clone()).collect();
        assert_eq!(alone, store.services().await.unwrap());
        let [(cache, none), (db, binds)] = listed.as_slice() else { panic!("{listed:?}") };
        assert_eq!((cache.name.as_str(), none.as_slice()), ("cache", &[][..]));
        assert_eq!((db.name.as_str(), binds), ("db", &store.binds_of_service("db").await.unwrap()));
        let told: Vec<_> =
            binds.iter().map(|bind| (bind.app.as_str(), bind.envs.is_some())).collect();
        assert_eq!(told, [("web", false), ("api", true)]);
    }

    #[tokio::test]
    async fn a_service_knows_so_many_units_of_an_app_and_no_more() {
        let (_folder, store) = store().await;
        for app in ["web", "api"] {
            store.begin_bind(app, "db").await.unwrap();
        }
        let fill = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers \
                    WHERE n < ?) INSERT INTO service_units (app, service, unit, host) \
                    SELECT 'web', 'db', 'n' || n, 'h' FROM numbers";
        let filled = store.write(|tx| Ok(tx.execute(fill, [UNITS - 1])?)).await.unwrap();
        assert_eq!(filled, 9999);
        let tell = async |app: &str, unit: &str| store.tell_unit(app, "db", unit, "h").await;
        assert_eq!(tell("web", "last").await.unwrap(), Telling::New);
        assert_eq!(tell("web", "more").await.unwrap(), Telling::Full(UNITS));
        assert_eq!(store.told_units("web", "db").await.unwrap().len(), 10_000);
        // One that is written down already is told again, and another app has its own.
        assert_eq!(tell("web", "n1").await.unwrap(), Telling::New);
        assert_eq!(tell("api", "more").await.unwrap(), Telling::New);
        store.forget_unit("web", "db", "n1").await.unwrap();
        assert_eq!(tell("web", "more").await.unwrap(), Telling::New);
    }

    #[test]
    fn variables_are_not_shown() {
        assert_eq!(format!("{:?}", envs("HOST", "hush")), r#"{"HOST"}"#);
    }
}

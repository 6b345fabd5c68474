//! The routing table.

use std::collections::BTreeMap;

use gantry_core::AppRouter;
use gantry_core::yaml::RouterHealthcheck;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{JobResult, Result, Store, from_json, to_json};

/// The routes to an app on one of its routers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoutesRecord {
    /// The router.
    pub(crate) router: String,
    /// The app.
    pub(crate) app: String,
    /// Under which name the router serves it: its own, or that of the app it is swapped with.
    pub(crate) name: String,
    /// The addresses, in order.
    pub(crate) addresses: Vec<String>,
    /// How the router finds out whether units work; none while nobody has said how.
    pub(crate) healthcheck: Option<RouterHealthcheck>,
    /// The generation of the table in which this changed last.
    pub(crate) generation: u64,
    /// When, in milliseconds since 1970.
    pub(crate) changed: i64,
}

impl RoutesRecord {
    /// The app it is swapped with.
    pub(crate) fn swapped_with(&self) -> Option<&str> {
        (self.name != self.app).then_some(&*self.name)
    }
}

/// Why two apps are not swapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotSwapped {
    /// One of them is not on a router.
    NotOn {
        /// The router.
        router: String,
        /// The app.
        app: String,
    },
    /// One of them is swapped with a third.
    With {
        /// The one.
        app: String,
        /// The third.
        other: String,
    },
}

/// An app that may need other routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    /// The app.
    pub(crate) app: String,
    /// Which mark it is.
    pub(crate) mark: u64,
}

const COLUMNS: &str = "router, app, name, addresses, healthcheck, generation, changed";

type Texts = (String, Option<String>);

fn read(row: &Row<'_>) -> rusqlite::Result<(RoutesRecord, Texts)> {
    let record = RoutesRecord {
        router: row.get(0)?,
        app: row.get(1)?,
        name: row.get(2)?,
        generation: row.get(5)?,
        changed: row.get(6)?,
        ..RoutesRecord::default()
    };
    Ok((record, (row.get(3)?, row.get(4)?)))
}

fn whole((mut record, (addresses, healthcheck)): (RoutesRecord, Texts)) -> JobResult<RoutesRecord> {
    record.addresses = from_json("list of addresses", &addresses)?;
    record.healthcheck =
        healthcheck.map(|text| from_json("router healthcheck", &text)).transpose()?;
    Ok(record)
}

fn of_app(connection: &Connection, app: &str) -> JobResult<Vec<RoutesRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM app_routes WHERE app = ? ORDER BY router");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([app], read)?;
    rows.map(|row| whole(row?)).collect()
}

fn one(connection: &Connection, router: &str, app: &str) -> JobResult<Option<RoutesRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM app_routes WHERE router = ? AND app = ?");
    connection.query_row(&sql, [router, app], read).optional()?.map(whole).transpose()
}

/// The generation of the table.
pub(super) fn generation(connection: &Connection) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached("SELECT generation FROM routing_table")?;
    statement.query_row([], |row| row.get(0))
}

/// What is written from now on is of a new generation.
fn next_generation(tx: &Transaction<'_>) -> JobResult<u64> {
    let sql = "UPDATE routing_table SET generation = generation + 1 RETURNING generation";
    Ok(tx.query_row(sql, [], |row| row.get(0))?)
}

/// Writes a row as it is in the next generation.
fn put(tx: &Transaction<'_>, record: &RoutesRecord) -> JobResult<()> {
    let RoutesRecord { router, app, name, addresses, healthcheck, changed, .. } = record;
    let generation = next_generation(tx)?;
    let addresses = to_json("list of addresses", addresses)?;
    let healthcheck =
        healthcheck.as_ref().map(|check| to_json("router healthcheck", check)).transpose()?;
    let sql = format!("INSERT OR REPLACE INTO app_routes ({COLUMNS}) VALUES (?,?,?,?,?,?,?)");
    tx.execute(&sql, params![router, app, name, addresses, healthcheck, generation, changed])?;
    Ok(())
}

/// Gives an app its place on each of these routers, and takes it from every other one.
pub(super) fn place(
    tx: &Transaction<'_>,
    app: &str,
    routers: &[AppRouter],
    now: i64,
) -> JobResult<()> {
    let there = of_app(tx, app)?;
    let wanted = |router: &str| routers.iter().any(|wanted| wanted.name == router);
    for gone in there.iter().filter(|record| !wanted(&record.router)) {
        next_generation(tx)?;
        tx.execute("DELETE FROM app_routes WHERE router = ? AND app = ?", [&gone.router, app])?;
    }
    for router in routers.iter().filter(|router| there.iter().all(|at| at.router != router.name)) {
        put(
            tx,
            &RoutesRecord {
                router: router.name.clone(),
                app: app.to_owned(),
                name: app.to_owned(),
                changed: now,
                ..RoutesRecord::default()
            },
        )?;
    }
    Ok(())
}

/// An app is being removed: whoever has its name gets back its own.
pub(super) fn leave(tx: &Transaction<'_>, app: &str) -> JobResult<()> {
    for record in of_app(tx, app)? {
        let generation = next_generation(tx)?;
        let sql = "UPDATE app_routes SET name = app, generation = ? WHERE router = ? AND app <> ? AND name = ?";
        tx.execute(sql, params![generation, record.router, app, app])?;
        tx.execute("DELETE FROM app_routes WHERE router = ? AND app = ?", [&record.router, app])?;
    }
    Ok(())
}

impl Store {
    /// The whole table with its generation, by router and app; of one router or of all.
    pub(crate) async fn routing_table(
        &self,
        router: Option<&str>,
    ) -> Result<(u64, Vec<RoutesRecord>)> {
        let router = router.map(str::to_owned);
        self.read(move |connection| {
            // One transaction: the rows are those of the generation.
            let tx = connection.unchecked_transaction()?;
            let generation = generation(&tx)?;
            let sql = format!(
                "SELECT {COLUMNS} FROM app_routes WHERE ?1 IS NULL OR router = ?1 ORDER BY router, app"
            );
            let mut statement = tx.prepare_cached(&sql)?;
            let rows = statement.query_map([router], read)?;
            let rows = rows.map(|row| whole(row?)).collect::<JobResult<_>>()?;
            Ok((generation, rows))
        })
        .await
    }

    /// How many apps each router has, and how many routes to them; a router without an app is not among them.
    pub(crate) async fn count_routes(&self) -> Result<BTreeMap<String, (u32, u32)>> {
        self.read(|connection| {
            let sql = "SELECT router, COUNT(*), SUM(json_array_length(addresses)) \
                       FROM app_routes GROUP BY router";
            let mut statement = connection.prepare_cached(sql)?;
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The routes to an app, by router.
    pub(crate) async fn routes_of(&self, app: &str) -> Result<Vec<RoutesRecord>> {
        let app = app.to_owned();
        self.read(move |connection| of_app(connection, &app)).await
    }

    /// The routes to an app on one router.
    pub(crate) async fn routes_on(&self, router: &str, app: &str) -> Result<Option<RoutesRecord>> {
        let (router, app) = (router.to_owned(), app.to_owned());
        self.read(move |connection| one(connection, &router, &app)).await
    }

    /// Changes the routes to an app on a router, unless `edit` refuses. None when it is not on that router.
    pub(crate) async fn edit_routes<E: Send + 'static>(
        &self,
        router: &str,
        app: &str,
        now: i64,
        edit: impl FnOnce(&mut RoutesRecord) -> std::result::Result<(), E> + Send + 'static,
    ) -> Result<Option<std::result::Result<(), E>>> {
        let (router, app) = (router.to_owned(), app.to_owned());
        self.write(move |tx| {
            let Some(before) = one(tx, &router, &app)? else { return Ok(None) };
            let mut after = before.clone();
            if let Err(error) = edit(&mut after) {
                return Ok(Some(Err(error)));
            }
            if after != before {
                put(tx, &RoutesRecord { changed: now, ..after })?;
            }
            Ok(Some(Ok(())))
        })
        .await
    }

    /// Exchanges the names under which routers serve two apps, on all of these or on none.
    pub(crate) async fn swap_routes(
        &self,
        routers: Vec<String>,
        app: &str,
        other: &str,
        now: i64,
    ) -> Result<std::result::Result<(), NotSwapped>> {
        let (app, other) = (app.to_owned(), other.to_owned());
        self.write(move |tx| {
            let mut records = Vec::new();
            for router in routers {
                for (this, that) in [(&app, &other), (&other, &app)] {
                    let Some(mut record) = one(tx, &router, this)? else {
                        return Ok(Err(NotSwapped::NotOn { router, app: this.clone() }));
                    };
                    record.name = match record.swapped_with() {
                        None => that.clone(),
                        Some(with) if with == that => this.clone(),
                        Some(third) => {
                            let other = third.to_owned();
                            return Ok(Err(NotSwapped::With { app: this.clone(), other }));
                        }
                    };
                    records.push(RoutesRecord { changed: now, ..record });
                }
            }
            records.iter().try_for_each(|record| put(tx, record)).map(Ok)
        })
        .await
    }

    /// Writes down the routers of an app.
    pub(crate) async fn set_routers(
        &self,
        app: &str,
        routers: Vec<AppRouter>,
        now: i64,
    ) -> Result<()> {
        let app = app.to_owned();
        self.write(move |tx| {
            let text = to_json("list of routers", &routers)?;
            if tx.execute("UPDATE apps SET routers = ? WHERE name = ?", [&text, &app])? == 1 {
                place(tx, &app, &routers, now)?;
            }
            Ok(())
        })
        .await
    }

    /// Marks apps whose routes may not be those of their units: this one, or every one of a provisioner.
    pub(crate) async fn mark_routes(&self, of: RoutesOf<'_>) -> Result<()> {
        let (condition, name) = match of {
            RoutesOf::App(app) => ("name", app.to_owned()),
            RoutesOf::Provisioner(name) => ("provisioner", name.to_owned()),
        };
        self.write(move |tx| {
            tx.execute("UPDATE routing_table SET mark = mark + 1", [])?;
            let sql = format!(
                "INSERT OR REPLACE INTO routes_to_rebuild (app, mark) \
                 SELECT apps.name, routing_table.mark FROM apps, routing_table WHERE apps.{condition} = ?"
            );
            tx.execute(&sql, [name])?;
            Ok(())
        })
        .await
    }

    /// The apps that are marked.
    pub(crate) async fn marked_routes(&self) -> Result<Vec<Marked>> {
        self.read(|connection| {
            let sql = "SELECT app, mark FROM routes_to_rebuild ORDER BY mark, app";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement
                .query_map([], |row| Ok(Marked { app: row.get(0)?, mark: row.get(1)? }))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The mark of an app.
    pub(crate) async fn route_mark(&self, app: &str) -> Result<Option<Marked>> {
        let app = app.to_owned();
        self.read(move |connection| {
            let sql = "SELECT mark FROM routes_to_rebuild WHERE app = ?";
            let mark = connection.query_row(sql, [&app], |row| row.get(0)).optional()?;
            Ok(mark.map(|mark| Marked { app, mark }))
        })
        .await
    }

    /// Makes these the routes of an app and takes its mark away. False, and nothing is done, when one of them has changed since it was read; a mark that is new stays.
    pub(crate) async fn settle_routes(
        &self,
        app: &str,
        mark: Option<Marked>,
        records: Vec<RoutesRecord>,
        now: i64,
    ) -> Result<bool> {
        let app = app.to_owned();
        self.write(move |tx| {
            let there = of_app(tx, &app)?;
            let generations = |records: &[RoutesRecord]| -> Vec<(String, u64)> {
                records.iter().map(|one| (one.router.clone(), one.generation)).collect()
            };
            if generations(&there) != generations(&records) {
                return Ok(false);
            }
            for record in records.into_iter().filter(|record| !there.contains(record)) {
                put(tx, &RoutesRecord { changed: now, ..record })?;
            }
            if let Some(Marked { app, mark }) = mark {
                let sql = "DELETE FROM routes_to_rebuild WHERE app = ? AND mark = ?";
                tx.execute(sql, params![app, mark])?;
            }
            Ok(true)
        })
        .await
    }

    /// The generations of the table, from the one that it is of now on.
    pub(crate) fn generations(&self) -> tokio::sync::watch::Receiver<u64> {
        self.generations.subscribe()
    }
}

/// Whose routes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RoutesOf<'a> {
    /// An app's.
    App(&'a str),
    /// Those of every app of a provisioner.
    Provisioner(&'a str),
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use gantry_core::App;

    use super::*;
    use crate::store::AppRecord;

    fn routers(names: &[&str]) -> Vec<AppRouter> {
        let router = |name: &&str| AppRouter { name: (*name).into(), ..AppRouter::default() };
        names.iter().map(router).collect()
    }

    async fn put_app(store: &Store, name: &str, on: &[&str]) {
        let app = App { name: name.into(), ..App::default() };
        let record = AppRecord { app, routers: routers(on), ..AppRecord::default() };
        assert!(store.insert_app(record).await.unwrap());
    }

    async fn add(store: &Store, router: &str, app: &str, address: &str) {
        let address = address.to_owned();
        let edited = store
            .edit_routes(router, app, 0, move |routes| {
                routes.addresses.push(address);
                Ok::<_, Infallible>(())
            })
            .await;
        assert_eq!(edited.unwrap(), Some(Ok(())));
    }

    #[tokio::test]
    async fn a_store_of_before_there_were_routers_has_apps_without_routes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(crate::store::FILE);
        let mut connection = Connection::open(&path).unwrap();
        let before = crate::store::MIGRATIONS.iter().take(5);
        for step in before {
            connection.execute_batch(step).unwrap();
        }
        connection.pragma_update(None, "user_version", 5).unwrap();
        let tx = connection.transaction().unwrap();
        tx.execute(
            "INSERT INTO apps (name, platform, pool, provisioner, team_owner, memory, swap, cpu_share, routers, created) \
             VALUES ('web', 'static', 'default', 'docker', 'admin', 0, 0, 0, '[]', 0)",
            [],
        )
        .unwrap();
        tx.commit().unwrap();
        drop(connection);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.app("web").await.unwrap().unwrap().routers, []);
        assert_eq!(store.routing_table(None).await.unwrap(), (0, Vec::new()));
        store.set_routers("web", routers(&["edge"]), 7).await.unwrap();
        let (generation, table) = store.routing_table(None).await.unwrap();
        assert_eq!((generation, table.len(), table[0].changed), (1, 1, 7));
    }

    #[tokio::test]
    async fn every_change_of_the_table_is_a_new_generation_and_nothing_else_is() {
        let (folder, store) = Store::fresh();
        let mut told = store.generations();
        put_app(&store, "web", &["edge", "inner"]).await;
        let mut last = *told.borrow_and_update();
        assert_eq!(last, 2, "one for each place");
        add(&store, "edge", "web", "http://h:1").await;
        let now = *told.borrow_and_update();
        assert!(now > last);
        last = now;
        let same = store.edit_routes("edge", "web", 9, |_| Ok::<_, Infallible>(())).await;
        assert_eq!(same.unwrap(), Some(Ok(())));
        let refused = store.edit_routes("edge", "web", 9, |routes| {
            routes.addresses.clear();
            Err("no")
        });
        assert_eq!(refused.await.unwrap(), Some(Err("no")));
        let nowhere = store.edit_routes("side", "web", 9, |_| Ok::<_, Infallible>(())).await;
        assert_eq!(nowhere.unwrap(), None);
        store.mark_routes(RoutesOf::App("web")).await.unwrap();
        assert!(!told.has_changed().unwrap());
        assert_eq!(
            store.routes_on("edge", "web").await.unwrap().unwrap().addresses,
            ["http://h:1"]
        );
        store.set_routers("web", routers(&["edge"]), 0).await.unwrap();
        let now = *told.borrow_and_update();
        assert!(now > last, "a place that is gone");
        store.remove_app("web").await.unwrap();
        let last = *told.borrow_and_update();
        assert!(last > now);
        assert_eq!(store.marked_routes().await.unwrap(), []);
        drop((store, told));
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(*store.generations().borrow(), last, "none is ever used again");
    }

    #[tokio::test]
    async fn apps_are_swapped_on_all_routers_or_on_none() {
        let (_folder, store) = Store::fresh();
        put_app(&store, "web", &["edge", "inner"]).await;
        put_app(&store, "api", &["edge"]).await;
        let both = || vec!["edge".to_owned(), "inner".to_owned()];
        let not = store.swap_routes(both(), "web", "api", 0).await.unwrap();
        assert_eq!(not, Err(NotSwapped::NotOn { router: "inner".into(), app: "api".into() }));
        let swapped = |records: Vec<RoutesRecord>| -> Vec<Option<String>> {
            records.iter().map(|one| one.swapped_with().map(str::to_owned)).collect()
        };
        assert_eq!(swapped(store.routes_of("web").await.unwrap()), [None, None]);
        store.set_routers("api", routers(&["edge", "inner"]), 0).await.unwrap();
        store.swap_routes(both(), "web", "api", 0).await.unwrap().unwrap();
        let with = |name: &str| Some(name.to_owned());
        assert_eq!(swapped(store.routes_of("web").await.unwrap()), [with("api"), with("api")]);
        put_app(&store, "job", &["edge"]).await;
        let third = store.swap_routes(vec!["edge".into()], "job", "web", 0).await.unwrap();
        assert_eq!(third, Err(NotSwapped::With { app: "web".into(), other: "api".into() }));
        // Who has the name of an app that is gone gets back its own.
        store.remove_app("api").await.unwrap();
        assert_eq!(swapped(store.routes_of("web").await.unwrap()), [None, None]);
    }

    #[tokio::test]
    async fn what_changed_meanwhile_is_not_settled() {
        let (_folder, store) = Store::fresh();
        put_app(&store, "web", &["edge"]).await;
        store.mark_routes(RoutesOf::App("web")).await.unwrap();
        let mark = store.route_mark("web").await.unwrap();
        let mut seen = store.routes_of("web").await.unwrap();
        seen[0].addresses = vec!["http://h:1".into()];
        add(&store, "edge", "web", "http://h:2").await;
        assert!(!store.settle_routes("web", mark.clone(), seen, 0).await.unwrap());
        let mut seen = store.routes_of("web").await.unwrap();
        assert_eq!(seen[0].addresses, ["http://h:2"]);
        seen[0].addresses = vec!["http://h:1".into()];
        // Marked again after it was looked at: it is settled, and looked at again.
        store.mark_routes(RoutesOf::App("web")).await.unwrap();
        assert!(store.settle_routes("web", mark, seen, 0).await.unwrap());
        assert_eq!(store.routes_of("web").await.unwrap()[0].addresses, ["http://h:1"]);
        let mark = store.route_mark("web").await.unwrap();
        assert!(mark.is_some());
        let seen = store.routes_of("web").await.unwrap();
        assert!(store.settle_routes("web", mark, seen, 0).await.unwrap());
        assert_eq!(store.marked_routes().await.unwrap(), []);
    }

    #[tokio::test]
    async fn apps_and_routes_are_counted_by_router() {
        let (_folder, store) = Store::fresh();
        put_app(&store, "web", &["edge", "inner"]).await;
        put_app(&store, "api", &["edge"]).await;
        for (router, app, address) in [
            ("edge", "web", "http://h:1"),
            ("edge", "web", "http://h:2"),
            ("edge", "api", "http://h:3"),
        ] {
            add(&store, router, app, address).await;
        }
        let counts = store.count_routes().await.unwrap();
        let expected = [("edge".to_owned(), (2, 3)), ("inner".to_owned(), (1, 0))];
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
    }

    #[tokio::test]
    async fn the_apps_of_a_provisioner_are_marked_together() {
        let (_folder, store) = Store::fresh();
        for (name, provisioner) in [("a", "docker"), ("b", "kubernetes"), ("c", "docker")] {
            let app = App { name: name.into(), ..App::default() };
            let record = AppRecord { app, provisioner: provisioner.into(), ..AppRecord::default() };
            store.insert_app(record).await.unwrap();
        }
        store.mark_routes(RoutesOf::Provisioner("docker")).await.unwrap();
        let marked = store.marked_routes().await.unwrap();
        let apps: Vec<_> = marked.iter().map(|one| one.app.as_str()).collect();
        assert_eq!(apps, ["a", "c"]);
    }
}

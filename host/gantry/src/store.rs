//! What the daemon remembers: one SQLite database in the data directory.
//!
//! ```text
//! any task ──► writer: one thread, one connection, every change in its order
//!         └──► reader: one thread, one connection, sees the last commit, never waits for the writer
//! ```
//!
//! Journal mode is WAL. `synchronous` is NORMAL: a crash of the daemon loses nothing, a power cut may lose the last commits but never harms the file; an app's
//! environment can bear that. The journal of operations cannot, because an effect may outlive the machine's last second: what begins and what ends an operation is
//! written with `synchronous` FULL, so that it is on the disk before the first effect ([`Store::write_durably`]).
//!
//! Only this module and its children speak SQL. They hold no rule of provisioning and know no caller.

mod apps;
mod clusters;
mod hosts;
mod images;
mod moves;
mod node_containers;
mod objects;
mod operations;
mod plans;
mod plugins;
mod pools;
mod routes;
mod services;
mod state;
mod volumes;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::{oneshot, watch};

pub(crate) use apps::AppRecord;
pub(crate) use clusters::{ClusterPlace, ClusterRecord, LeftBehind, Put, of_pool};
pub(crate) use hosts::HostRecord;
pub(crate) use moves::MoveRecord;
pub(crate) use node_containers::NodeContainerRecord;
pub(crate) use objects::ObjectRecord;
pub(crate) use operations::{Begin, Begun, Line, Made, OperationRecord};
pub(crate) use plans::PlanRecord;
pub(crate) use plugins::PluginRecord;
pub(crate) use pools::{InPool, PoolRecord};
pub(crate) use routes::{NotSwapped, RoutesOf, RoutesRecord};
pub(crate) use services::{BindBegun, ServiceBind, ServiceRecord, Telling, Variables};
pub(crate) use volumes::{BindRecord, NotBound, VolumeRecord};

/// The name of the database in the data directory.
pub(crate) const FILE: &str = "gantry.db";

/// The schema, one step a version; a step that was released never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("store/schema-1.sql"),
    include_str!("store/schema-2.sql"),
    include_str!("store/schema-3.sql"),
    include_str!("store/schema-4.sql"),
    include_str!("store/schema-5.sql"),
    include_str!("store/schema-6.sql"),
    include_str!("store/schema-7.sql"),
    include_str!("store/schema-8.sql"),
    include_str!("store/schema-9.sql"),
    include_str!("store/schema-10.sql"),
];

/// What a provisioner may keep here: its keys, and what it wrote of images.
const OWNER_BYTES: u64 = 256 << 20;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The disk is full, or the file may not grow.
    #[error("no room left for `{0}`")]
    Full(PathBuf),
    /// The file cannot be written.
    #[error("`{0}` is read-only")]
    ReadOnly(PathBuf),
    /// The file cannot be opened.
    #[error("cannot open `{path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file belongs to another version of Gantry.
    #[error("`{path}` was written by a newer gantry (schema {found}, this one knows {known})")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// A stored value cannot be read back.
    #[error("a stored {what} cannot be read")]
    Damaged {
        /// What it is.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A provisioner keeps as much as it may.
    #[error(
        "the provisioner `{owner}` keeps at most {most} bytes of keys and image data in all: some must go first"
    )]
    OwnerFull {
        /// The provisioner.
        owner: String,
        /// The most that it may keep.
        most: u64,
    },
    /// A secret cannot be made.
    #[error("the machine gives no random numbers")]
    NotRandom(#[source] getrandom::Error),
    /// SQLite says otherwise.
    #[error("the store failed")]
    Sqlite(#[source] rusqlite::Error),
    /// The daemon is ending.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// What to type next.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Full(_) => "`df` tells where there is room",
            Self::ReadOnly(_) => "mount it writable, and start the daemon again",
            Self::Newer { .. } => {
                "serve with the newer gantry, or from another folder: `gantry serve --data-dir DIR`"
            }
            Self::Open { .. } | Self::Damaged { .. } => {
                "put a copy of the data directory in its place, or serve from another folder: `gantry serve --data-dir DIR`"
            }
            Self::Sqlite(_) => "try it again; the log of the daemon says more",
            Self::OwnerFull { .. } | Self::NotRandom(_) | Self::Closed => return None,
        };
        Some(hint.to_owned())
    }
}

/// The result of a call to the store.
pub(crate) type Result<T> = std::result::Result<T, StoreError>;

/// What a job of the store gives; SQLite's errors are sorted out afterwards, in one place.
type JobResult<T> = std::result::Result<T, JobError>;

/// Why a job failed.
#[derive(Debug)]
enum JobError {
    Sqlite(rusqlite::Error),
    Damaged { what: &'static str, source: serde_json::Error },
    OwnerFull { owner: String, most: u64 },
}

impl From<rusqlite::Error> for JobError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The store. Dropping it ends its threads after what was asked before.
pub(crate) struct Store {
    path: PathBuf,
    writer: Worker,
    reader: Worker,
    owner_bytes: u64,
    /// Of the routing table, for those who wait for a new one.
    generations: watch::Sender<u64>,
}

impl Store {
    /// Opens the store in a folder, making or upgrading it as needed.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let mut writer = connect(&path, OpenFlags::default())?;
        migrate(&mut writer, &path)?;
        let generation = routes::generation(&writer).map_err(|e| sort_out(e, &path))?;
        let reader = connect(&path, OpenFlags::default())?;
        reader.pragma_update(None, "query_only", true).map_err(|e| sort_out(e, &path))?;
        Ok(Self {
            path,
            writer: Worker::start("store-writer", writer),
            reader: Worker::start("store-reader", reader),
            owner_bytes: OWNER_BYTES,
            generations: watch::Sender::new(generation),
        })
    }

    /// Reads. Sees everything that was written before the call.
    async fn read<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> JobResult<T> + Send + 'static,
    {
        let result = self.reader.ask(|connection| job(connection)).await?;
        result.map_err(|error| self.explain(error))
    }

    /// Changes something in one transaction.
    async fn write<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> JobResult<T> + Send + 'static,
    {
        let generations = self.generations.clone();
        let ask = move |connection: &mut Connection| {
            let result = in_transaction(connection, job);
            tell(connection, &generations);
            result
        };
        self.writer.ask(ask).await?.map_err(|error| self.explain(error))
    }

    /// Changes something in one transaction that is on the disk when this returns.
    async fn write_durably<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> JobResult<T> + Send + 'static,
    {
        let generations = self.generations.clone();
        let ask = move |connection: &mut Connection| {
            connection.pragma_update(None, "synchronous", "FULL")?;
            let result = in_transaction(connection, job);
            tell(connection, &generations);
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            result
        };
        self.writer.ask(ask).await?.map_err(|error| self.explain(error))
    }

    /// Makes every write fail, as on a disk that is read-only, or lets them work again.
    #[cfg(test)]
    pub(crate) async fn refuse_writes(&self, refuse: bool) -> Result<()> {
        let set = move |connection: &mut Connection| {
            connection.pragma_update(None, "query_only", refuse).map_err(JobError::from)
        };
        self.writer.ask(set).await?.map_err(|error| self.explain(error))
    }

    /// Asks for a change without waiting for it; it happens before whatever is asked later. A failure is logged.
    fn write_later<F>(&self, job: F)
    where
        F: FnOnce(&Transaction<'_>) -> JobResult<()> + Send + 'static,
    {
        let path = self.path.clone();
        self.writer.tell(Box::new(move |connection| {
            if let Err(error) = in_transaction(connection, job) {
                let error = explain(error, &path);
                tracing::warn!(error = &error as &dyn std::error::Error, "could not write");
            }
        }));
    }

    fn explain(&self, error: JobError) -> StoreError {
        explain(error, &self.path)
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    job: impl FnOnce(&Transaction<'_>) -> JobResult<T>,
) -> JobResult<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = job(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

/// Tells those who wait for it which generation the routing table has after a write. Here, so that no write can forget it, and whoever asked for it need not be there any more.
fn tell(connection: &Connection, generations: &watch::Sender<u64>) {
    // What cannot be read now shows with the next write.
    if let Ok(generation) = routes::generation(connection) {
        generations.send_if_modified(|known| std::mem::replace(known, generation) != generation);
    }
}

/// Refuses the transaction when a provisioner keeps more than it may with what was written.
fn check_kept(tx: &Transaction<'_>, owner: &str, most: u64) -> JobResult<()> {
    let sql = "SELECT bytes FROM kept WHERE owner = ?";
    let kept: u64 = tx.query_row(sql, [owner], |row| row.get(0))?;
    if kept > most {
        return Err(JobError::OwnerFull { owner: owner.to_owned(), most });
    }
    Ok(())
}

fn explain(error: JobError, path: &Path) -> StoreError {
    match error {
        JobError::Sqlite(error) => sort_out(error, path),
        JobError::Damaged { what, source } => StoreError::Damaged { what, source },
        JobError::OwnerFull { owner, most } => StoreError::OwnerFull { owner, most },
    }
}

/// Tells the faults that an operator can do something about from the rest.
fn sort_out(error: rusqlite::Error, path: &Path) -> StoreError {
    // A limit on the size of files shows as an i/o error of the write, not as a full disk.
    let write_failed = error.sqlite_error().is_some_and(|cause| {
        cause.extended_code == rusqlite::ffi::SQLITE_IOERR_WRITE
            || cause.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
    });
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(path.to_owned()),
        Some(ErrorCode::ReadOnly) => StoreError::ReadOnly(path.to_owned()),
        Some(ErrorCode::CannotOpen | ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Open { path: path.to_owned(), source: error }
        }
        _ if write_failed => StoreError::Full(path.to_owned()),
        _ => StoreError::Sqlite(error),
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| sort_out(error, path))
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let known = MIGRATIONS.len();
    let found: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| sort_out(error, path))?;
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    for (version, step) in MIGRATIONS.iter().enumerate().skip(found) {
        let apply = |transaction: &Transaction<'_>| {
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "user_version", version + 1)?;
            Ok(())
        };
        in_transaction(connection, apply).map_err(|error| explain(error, path))?;
    }
    Ok(())
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A thread that owns a connection. SQLite blocks; the tasks of the daemon must not.
struct Worker {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Worker {
    fn start(name: &str, mut connection: Connection) -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let work = move || {
            for job in inbox {
                job(&mut connection);
            }
        };
        // Without a thread the inbox is gone at once and every call answers that the store is closed.
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work).ok();
        Self { jobs: Some(jobs), thread }
    }

    async fn ask<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> T + Send + 'static,
    {
        let (answer, wait) = oneshot::channel();
        self.tell(Box::new(move |connection| {
            // Nobody waits any more when the send fails; the work is done all the same.
            let _ = answer.send(job(connection));
        }));
        wait.await.map_err(|_| StoreError::Closed)
    }

    fn tell(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // A closed channel shows in `ask` as an answer that never comes.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a thread of the store panicked");
        }
    }
}

/// Text of a value that is stored as JSON.
fn to_json<T: serde::Serialize>(what: &'static str, value: &T) -> JobResult<String> {
    serde_json::to_string(value).map_err(|source| JobError::Damaged { what, source })
}

/// A value that is stored as JSON.
fn from_json<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> JobResult<T> {
    serde_json::from_str(text).map_err(|source| JobError::Damaged { what, source })
}

#[cfg(test)]
impl Store {
    /// A store without anything in it, in a folder of its own.
    pub(crate) fn fresh() -> (tempfile::TempDir, Self) {
        let folder = tempfile::tempdir().unwrap();
        let store = Self::open(folder.path()).unwrap();
        (folder, store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_survives_being_opened_again() {
        let (folder, store) = Store::fresh();
        store.put_state("docker", "a", b"1", None).await.unwrap().unwrap();
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.get_state("docker", "a").await.unwrap().unwrap().value, b"1");
    }

    #[tokio::test]
    async fn a_store_of_a_newer_gantry_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path()).unwrap());
        let connection = Connection::open(folder.path().join(FILE)).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        let error = Store::open(folder.path()).err().unwrap();
        assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "x".repeat(4096)).unwrap();
        let error = Store::open(folder.path()).err().unwrap();
        assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_full_store_says_so_and_reads_go_on() {
        let (_folder, store) = Store::fresh();
        store.put_state("docker", "kept", b"1", None).await.unwrap().unwrap();
        // SQLite's own limit on pages gives the very error a full disk gives.
        let limit = |connection: &mut Connection| {
            let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
            connection.pragma_query(None, "page_count", |_| Ok(()))?;
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
        };
        store.writer.ask(limit).await.unwrap().unwrap();
        let big = vec![0; 1 << 20];
        let error = store.put_state("docker", "big", &big, None).await.unwrap_err();
        assert!(matches!(error, StoreError::Full(_)), "{error:?}");
        assert!(store.get_state("docker", "kept").await.unwrap().is_some());
        assert!(store.get_state("docker", "big").await.unwrap().is_none());
    }
}

//! The data directory: one folder, one daemon, everything durable.
//!
//! ```text
//! lock           held by the daemon that serves from here, with its process id in it
//! instance       the id of this installation, on every container it makes
//! gantry.db      the store
//! plugins/       plugin files, by digest
//! compiled/      compiled plugins; may be deleted at any time
//! compiled.key   what they are sealed with, so that nobody else's are run
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use gantry_runtime::digest;

use crate::store::{Store, StoreError};

/// How long a lock is waited for.
const A_MOMENT: Duration = Duration::from_secs(1);

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Another daemon serves from here.
    #[error("the data directory `{path}` is in use by process {holder}")]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process id of the other daemon, as it wrote it down.
        holder: String,
    },
    /// It cannot be written.
    #[error("cannot write in the data directory `{path}`")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may write there, or it is somebody else's.
    #[error("the folder `{path}` is not this user's alone")]
    Shared {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Whether this user owns it.
        own: bool,
    },
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Store {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What to type next.
        hint: Option<String>,
    },
}

impl DataError {
    /// What to type next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InUse { holder, .. } => Some(format!(
                "stop that one first (`kill {holder}`), or serve from elsewhere: `gantry serve --data-dir DIR`"
            )),
            Self::Write { .. } => {
                Some("name a folder that can be written: `gantry serve --data-dir DIR`".to_owned())
            }
            Self::Shared { path, own: true, .. } => {
                Some(format!("`chmod go-w {}`, or name a folder of its own", path.display()))
            }
            Self::Shared { own: false, .. } => {
                Some("name a folder of this user: `gantry serve --data-dir DIR`".to_owned())
            }
            Self::Store { hint, .. } => hint.clone(),
        }
    }
}

/// A data directory that this process holds.
pub(crate) struct DataDirectory {
    path: PathBuf,
    instance: String,
    /// The kernel lets go of the lock when the process ends, however it ends.
    _lock: File,
}

impl DataDirectory {
    /// Takes a folder, making what is missing; the installation's id is the chosen one, or made up once.
    pub(crate) fn open(path: &Path, chosen: Option<&str>) -> Result<Self, DataError> {
        private_folder(path)?;
        let lock = take(path)?;
        private_folder(&path.join("plugins"))?;
        private_folder(&path.join("compiled"))?;
        let instance = match chosen {
            Some(id) => id.to_owned(),
            None => instance(path)?,
        };
        Ok(Self { path: path.to_owned(), instance, _lock: lock })
    }

    /// The id of this installation.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// The folder of compiled plugins.
    pub(crate) fn compiled(&self) -> PathBuf {
        self.path.join("compiled")
    }

    /// The store.
    pub(crate) fn open_store(&self) -> Result<Store, DataError> {
        // Others may be able to read the folder, but not this: it has the values of private variables. SQLite gives the files beside it the same mode.
        let path = self.path.join(crate::store::FILE);
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(&path);
        file.and_then(|file| file.set_permissions(fs::Permissions::from_mode(0o600)))
            .map_err(cannot_write(&path))?;
        Store::open(&self.path).map_err(|error: StoreError| {
            let hint = error.hint();
            DataError::Store { source: Box::new(error), hint }
        })
    }

    /// Keeps the bytes of a plugin and gives their digest. They are on the disk when this returns.
    pub(crate) fn keep_plugin(&self, bytes: &[u8]) -> Result<String, DataError> {
        let digest = digest(bytes);
        let path = self.plugin(&digest);
        // A file that was damaged is as good as none.
        if self.read_plugin(&digest).is_err() {
            write_whole(&path, bytes)?;
        }
        Ok(digest)
    }

    /// The bytes of a plugin, checked against their digest.
    pub(crate) fn read_plugin(&self, wanted: &str) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.plugin(wanted))?;
        if digest(&bytes) == wanted {
            Ok(bytes)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the file was changed"))
        }
    }

    /// A file without a name: it is gone when nobody has it open any more.
    pub(crate) fn nameless_file(&self) -> Result<File, DataError> {
        tempfile::tempfile_in(&self.path).map_err(cannot_write(&self.path))
    }

    fn plugin(&self, digest: &str) -> PathBuf {
        self.path.join("plugins").join(format!("{digest}.wasm"))
    }
}

fn cannot_write(path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_owned();
    move |source| DataError::Write { path, source }
}

/// Makes a folder that nobody else may enter. One that is there already stays as it is, and is refused when others could change what is in it.
fn private_folder(path: &Path) -> Result<(), DataError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).map_err(cannot_write(path))?;
    let found = fs::metadata(path).map_err(cannot_write(path))?;
    let own = found.uid() == rustix::process::geteuid().as_raw();
    let mode = found.permissions().mode() & 0o7777;
    if !own || mode & 0o022 != 0 {
        return Err(DataError::Shared { path: path.to_owned(), mode, own });
    }
    Ok(())
}

/// Takes the lock, or tells who has it.
fn take(folder: &Path) -> Result<File, DataError> {
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut lock = options.open(&path).map_err(cannot_write(folder))?;
    let begun = Instant::now();
    // Whoever dies while it begins another program leaves the lock to that one, until it runs.
    let locked = loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < A_MOMENT => {
                thread::sleep(Duration::from_millis(10));
            }
            ended => break ended,
        }
    };
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The lock is what counts; a holder that nobody can read is still a holder.
            let _ = lock.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "?" } else { holder.trim() }.to_owned();
            return Err(DataError::InUse { path: folder.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(cannot_write(&path)(source)),
    }
    let write = |lock: &mut File| {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    write(&mut lock).map_err(cannot_write(&path))?;
    Ok(lock)
}

fn instance(folder: &Path) -> Result<String, DataError> {
    let path = folder.join("instance");
    if let Ok(text) = fs::read_to_string(&path)
        && !text.trim().is_empty()
    {
        return Ok(text.trim().to_owned());
    }
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| cannot_write(&path)(io::Error::other(error.to_string())))?;
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    write_whole(&path, id.as_bytes())?;
    Ok(id)
}

/// Writes a file so that it is there whole or not at all, also after a power cut.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let part = path.with_extension("part");
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(|source| {
        // What is left of a failed write is of no use; that it cannot be removed is nothing new.
        let _ = fs::remove_file(&part);
        cannot_write(path)(source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_with_the_process_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(folder.path(), None).unwrap();
        let error = DataDirectory::open(folder.path(), None).err().unwrap();
        let pid = std::process::id().to_string();
        assert!(matches!(&error, DataError::InUse { holder, .. } if *holder == pid), "{error:?}");
        drop(first);
        DataDirectory::open(folder.path(), None).unwrap();
    }

    #[test]
    fn a_holder_that_is_about_to_go_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(folder.path(), None).unwrap();
        let goes = thread::spawn(move || {
            thread::sleep(A_MOMENT / 20);
            drop(first);
        });
        DataDirectory::open(folder.path(), None).unwrap();
        goes.join().unwrap();
    }

    #[test]
    fn the_installation_keeps_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(folder.path(), None).unwrap().instance().to_owned();
        assert_eq!(first.len(), 16);
        assert_eq!(DataDirectory::open(folder.path(), None).unwrap().instance(), first);
    }

    #[test]
    fn the_folder_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er");
        let _held = DataDirectory::open(&path, None).unwrap();
        for path in [path.clone(), path.join("plugins")] {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_folder_that_is_there_keeps_its_mode_and_the_store_in_it_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let held = DataDirectory::open(folder.path(), None).unwrap();
        assert_eq!(mode(folder.path()), 0o755);
        let _store = held.open_store().unwrap();
        for file in ["gantry.db", "gantry.db-wal", "lock", "instance"] {
            assert_eq!(mode(&folder.path().join(file)), 0o600, "{file}");
        }
    }

    #[test]
    fn a_folder_that_others_may_write_in_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let error = DataDirectory::open(folder.path(), None).err().unwrap();
        assert!(matches!(error, DataError::Shared { mode: 0o1777, own: true, .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("chmod go-w"));
        let mode = fs::metadata(folder.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is made in it");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let error = DataDirectory::open(Path::new("/proc/self/cmdline/x"), None).err().unwrap();
        assert!(error.to_string().contains("`/proc/self/cmdline/x`"), "{error}");
    }

    #[test]
    fn a_plugin_that_was_changed_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(folder.path(), None).unwrap();
        let digest = data.keep_plugin(b"\0asm").unwrap();
        assert_eq!(data.read_plugin(&digest).unwrap(), b"\0asm");
        fs::write(data.plugin(&digest), b"other").unwrap();
        assert_eq!(data.read_plugin(&digest).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_plugin_that_was_damaged_is_whole_again_when_it_is_kept_again() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(folder.path(), None).unwrap();
        let digest = data.keep_plugin(b"\0asm").unwrap();
        fs::write(data.plugin(&digest), b"other").unwrap();
        assert_eq!(data.keep_plugin(b"\0asm").unwrap(), digest);
        assert_eq!(data.read_plugin(&digest).unwrap(), b"\0asm");
    }
}

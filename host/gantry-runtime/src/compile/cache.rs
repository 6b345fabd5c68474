//! What was compiled, kept for the next start.
//!
//! An artifact is code: whoever can write here can run anything as us. So the folder and the key beside it must be ours and writable by nobody else, and an entry is used only when its mark is right: a
//! keyed BLAKE3 hash over everything that it depends on (the wasmtime and its configuration, the rules of admission, the plugin's digest, the artifact), with a random key that never leaves this machine.
//! An entry that is cut off, changed, renamed or from another wasmtime is like none at all, and is made anew. So an entry also proves that its plugin was admitted.
//!
//! The mark stands behind the artifact, where a reader of ELF never looks, so that wasmtime maps the file as it is: no copy of megabytes of code.
//!
//! ```text
//! <folder>.key        32 random bytes, mode 0600
//! <folder>/           mode 0700
//!   <digest>-<engine>.cwasm    artifact, mark (32 bytes)
//! ```

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blake3::Hasher;
use wasmtime::Engine;

use crate::admit;

/// The bytes of a mark.
const MARK: usize = blake3::OUT_LEN;
/// The bytes of a key.
const KEY: usize = blake3::KEY_LEN;
/// How many entries are kept; the oldest goes first.
const ENTRIES: usize = 64;

/// Why the folder of compiled plugins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It belongs to somebody else.
    #[error(
        "`{0}` belongs to another user: compiled plugins are code, keep them in a folder of your own"
    )]
    Foreign(PathBuf),
    /// Others may write there.
    #[error(
        "others may write to `{path}` (mode {mode:03o}): compiled plugins are code, `chmod go-w` it"
    )]
    Open {
        /// The path.
        path: PathBuf,
        /// Its mode bits.
        mode: u32,
    },
    /// The key has another length than ours.
    #[error("`{0}` is no key of ours: remove it, and the compiled plugins are made anew")]
    Key(PathBuf),
    /// It cannot be read or written.
    #[error("`{path}`: {error}")]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The folder.
pub(crate) struct Cache {
    folder: Arc<Path>,
    key: Arc<[u8; KEY]>,
}

/// One entry of it, whether or not it is there.
pub(crate) struct Entry {
    folder: Arc<Path>,
    key: Arc<[u8; KEY]>,
    path: PathBuf,
    /// What the artifact depends on, besides itself.
    depends: Vec<u8>,
}

impl Cache {
    /// Opens the folder, making it and its key when they are not there.
    pub(crate) fn open(folder: &Path) -> Result<Self, CacheError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| CacheError::Io { path, error }
        };
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(folder) {
            return Err(io(folder)(error));
        }
        // Links are followed once, here: every later path is a real one that only we may change.
        let folder = folder.canonicalize().map_err(io(folder))?;
        let parent = folder.parent().unwrap_or(&folder);
        ours_alone(parent, &parent.metadata().map_err(io(parent))?)?;
        ours_alone(&folder, &folder.metadata().map_err(io(&folder))?)?;
        let key = key(&folder.with_extension("key"))?;
        Ok(Self { folder: folder.into(), key: Arc::new(key) })
    }

    /// The entry of a plugin for this engine.
    pub(crate) fn entry(&self, engine: &Engine, digest: &str) -> Entry {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        admit::RULES.hash(&mut hasher);
        let engine = hasher.finish();
        let mut depends = engine.to_le_bytes().to_vec();
        depends.extend_from_slice(digest.as_bytes());
        Entry {
            folder: Arc::clone(&self.folder),
            key: Arc::clone(&self.key),
            path: self.folder.join(format!("{digest}-{engine:016x}.cwasm")),
            depends,
        }
    }
}

impl Entry {
    /// The file of the artifact, if it is there and bears our mark. Takes milliseconds: not for a thread that others wait for.
    pub(crate) fn proven(&self) -> Option<&Path> {
        let file = File::open(&self.path).ok()?;
        match self.bears_our_mark(file) {
            Ok(true) => Some(&self.path),
            Ok(false) => {
                tracing::warn!(path = %self.path.display(), "a compiled plugin does not bear our mark and is made anew");
                None
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "a compiled plugin cannot be read and is made anew");
                None
            }
        }
    }

    fn bears_our_mark(&self, file: File) -> io::Result<bool> {
        let behind = u64::try_from(MARK).unwrap_or(u64::MAX);
        let Some(size) = file.metadata()?.len().checked_sub(behind) else { return Ok(false) };
        let mut mark = self.mark();
        let mut artifact = file.take(size);
        mark.update_reader(&mut artifact)?;
        let mut told = [0; MARK];
        artifact.into_inner().read_exact(&mut told)?;
        // Compared in constant time.
        Ok(mark.finalize() == told)
    }

    /// Keeps an artifact. Whoever reads meanwhile sees the old entry or the new one, never a part. Takes milliseconds.
    pub(crate) fn write(&self, artifact: &[u8]) -> io::Result<()> {
        let mark = self.mark().update(artifact).finalize();
        write(&self.folder, &self.path, &[artifact, mark.as_bytes()])?;
        prune(&self.folder)
    }

    /// A mark that has seen everything but the artifact.
    fn mark(&self) -> Hasher {
        let mut mark = Hasher::new_keyed(&self.key);
        mark.update(&self.depends);
        mark
    }
}

fn write(folder: &Path, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    // Nobody's leftovers have this name, whatever our process id is.
    let number = getrandom::u64().map_err(io::Error::other)?;
    let temporary = folder.join(format!("{number:016x}.new"));
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Removes the oldest entries.
fn prune(folder: &Path) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    entries.sort();
    let over = entries.len().saturating_sub(ENTRIES);
    for (_, path) in entries.into_iter().take(over) {
        // Another process may have removed it first.
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// The key, made when it is not there.
fn key(path: &Path) -> Result<[u8; KEY], CacheError> {
    let io = |error| CacheError::Io { path: path.to_owned(), error };
    match File::open(path) {
        Ok(mut file) => {
            let metadata = file.metadata().map_err(io)?;
            ours_alone(path, &metadata)?;
            if metadata.mode() & 0o077 != 0 {
                return Err(CacheError::Open {
                    path: path.to_owned(),
                    mode: metadata.mode() & 0o777,
                });
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(io)?;
            bytes.try_into().map_err(|_| CacheError::Key(path.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; KEY];
            getrandom::fill(&mut key).map_err(|error| io(io::Error::other(error)))?;
            let folder = path.parent().unwrap_or(path);
            write(folder, path, &[&key]).map_err(io)?;
            Ok(key)
        }
        Err(error) => Err(io(error)),
    }
}

/// Refuses what belongs to others, or what others may write to.
fn ours_alone(path: &Path, metadata: &Metadata) -> Result<(), CacheError> {
    let us = rustix::process::geteuid().as_raw();
    if metadata.uid() != us {
        return Err(CacheError::Foreign(path.to_owned()));
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(CacheError::Open { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const DIGEST: &str = "00ff";

    fn engine() -> Engine {
        crate::wasm::compiling_engine().unwrap()
    }

    #[test]
    fn what_is_kept_is_found_again_with_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("compiled")).unwrap();
        let engine = engine();
        assert!(cache.entry(&engine, DIGEST).proven().is_none());
        cache.entry(&engine, DIGEST).write(b"code").unwrap();
        assert!(cache.entry(&engine, DIGEST).proven().is_some());
        let again = Cache::open(&folder.path().join("compiled")).unwrap();
        assert!(again.entry(&engine, DIGEST).proven().is_some());
        let key = folder.path().join("compiled.key");
        assert_eq!(key.metadata().unwrap().mode() & 0o777, 0o600);
        let compiled = folder.path().join("compiled");
        assert_eq!(compiled.metadata().unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn an_entry_that_was_touched_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("compiled")).unwrap();
        let engine = engine();
        cache.entry(&engine, DIGEST).write(b"code").unwrap();
        let path = cache.entry(&engine, DIGEST).path;
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        *changed.first_mut().unwrap() ^= 1;
        for bytes in [&changed, &whole[..whole.len() - 1], &whole[..MARK - 1], b"".as_slice()] {
            fs::write(&path, bytes).unwrap();
            assert!(cache.entry(&engine, DIGEST).proven().is_none());
        }
        // The right bytes under another plugin's name.
        fs::write(&cache.entry(&engine, "ff00").path, &whole).unwrap();
        assert!(cache.entry(&engine, "ff00").proven().is_none());
        // The right bytes with another key.
        fs::remove_file(folder.path().join("compiled.key")).unwrap();
        let other = Cache::open(&folder.path().join("compiled")).unwrap();
        fs::write(&path, &whole).unwrap();
        assert!(other.entry(&engine, DIGEST).proven().is_none());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let compiled = folder.path().join("compiled");
        Cache::open(&compiled).unwrap();
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        chmod(&compiled, 0o770).unwrap();
        assert!(matches!(Cache::open(&compiled), Err(CacheError::Open { mode: 0o770, .. })));
        chmod(&compiled, 0o700).unwrap();
        chmod(folder.path(), 0o777).unwrap();
        assert!(matches!(Cache::open(&compiled), Err(CacheError::Open { mode: 0o777, .. })));
        chmod(folder.path(), 0o700).unwrap();
        chmod(&compiled.with_extension("key"), 0o640).unwrap();
        assert!(matches!(Cache::open(&compiled), Err(CacheError::Open { mode: 0o640, .. })));
        chmod(&compiled.with_extension("key"), 0o600).unwrap();
        fs::write(compiled.with_extension("key"), b"short").unwrap();
        assert!(matches!(Cache::open(&compiled), Err(CacheError::Key(_))));
    }

    #[test]
    fn only_the_newest_entries_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..ENTRIES + 3 {
            fs::write(folder.path().join(format!("{number}.cwasm")), b"").unwrap();
        }
        prune(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), ENTRIES);
    }
}

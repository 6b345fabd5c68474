//! What is in a file system, as far as it can be told without reading the files: enough to see afterwards what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Doing as _, Result};

/// Everything in a file system by its path, which begins below the root.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Folders come before what is in them.
    pub(crate) entries: BTreeMap<PathBuf, Entry>,
}

/// What is known of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The kind of file and its mode.
    pub(crate) mode: u32,
    owner: (u32, u32),
    device: u64,
    /// Its size, when its content and when its metadata changed. A folder has none of these: what is in it speaks for itself.
    ///
    /// Nobody can set the last of the times, so that no file is changed unseen.
    content: Option<Content>,
    /// Whether what is in it is known; of a folder only.
    pub(crate) listed: bool,
}

/// What is known of a file without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    size: u64,
    written: Time,
    changed: Time,
}

/// Seconds and nanoseconds.
pub(crate) type Time = (i64, i64);

const KIND: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;

impl Entry {
    fn of(metadata: &Metadata) -> Self {
        let content = || Content {
            size: metadata.size(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        Self {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            device: metadata.rdev(),
            content: (!metadata.is_dir()).then(content),
            listed: false,
        }
    }

    /// Whether it is a folder.
    pub(crate) fn is_folder(&self) -> bool {
        self.mode & KIND == FOLDER
    }

    /// When anything of it last changed; of a folder nobody knows.
    #[cfg(test)]
    pub(crate) fn changed(&self) -> Option<Time> {
        self.content.as_ref().map(|content| content.changed)
    }

    /// Whether it is what it was.
    pub(crate) fn is_as(&self, before: &Self) -> bool {
        Self { listed: before.listed, ..self.clone() } == *before
    }
}

impl Snapshot {
    /// Looks at everything below a folder, but for these paths and what is in them. A folder that this user cannot look into is as it is: he cannot change anything in it either.
    ///
    /// # Errors
    ///
    /// A path cannot be looked at.
    pub(crate) fn take(root: &Path, without: &BTreeSet<PathBuf>) -> Result<Self> {
        let mut snapshot = Self::default();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let listed = match fs::read_dir(root.join(&folder)) {
                Err(error) if is_away(&error) => continue,
                listed => listed.doing(|| format!("cannot look into `/{}`", folder.display()))?,
            };
            if let Some(entry) = snapshot.entries.get_mut(&folder) {
                entry.listed = true;
            }
            for entry in listed {
                let entry = entry.doing(|| format!("cannot look into `/{}`", folder.display()))?;
                let path = folder.join(entry.file_name());
                if without.contains(&path) {
                    continue;
                }
                let metadata = match fs::symlink_metadata(root.join(&path)) {
                    // Gone since it was listed.
                    Err(error) if is_away(&error) => continue,
                    metadata => {
                        metadata.doing(|| format!("cannot look at `/{}`", path.display()))?
                    }
                };
                if metadata.is_dir() {
                    folders.push(path.clone());
                }
                snapshot.entries.insert(path, Entry::of(&metadata));
            }
        }
        Ok(snapshot)
    }
}

fn is_away(error: &io::Error) -> bool {
    [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied, io::ErrorKind::NotADirectory]
        .contains(&error.kind())
}

/// Where other file systems are mounted: what is there belongs to the machine or to somebody else, and not to the image.
///
/// # Errors
///
/// The kernel does not tell.
pub(crate) fn mounts() -> Result<BTreeSet<PathBuf>> {
    let text =
        fs::read("/proc/self/mountinfo").doing(|| "cannot see what is mounted".to_owned())?;
    Ok(mount_points(&text))
}

/// The mount points of a list of mounts (proc(5), /proc/pid/mountinfo), without the root.
fn mount_points(list: &[u8]) -> BTreeSet<PathBuf> {
    let lines = list.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let below =
        points.filter_map(|point| point.strip_prefix(b"/")).filter(|point| !point.is_empty());
    below.map(|point| PathBuf::from(std::ffi::OsString::from_vec(unescaped(point)))).collect()
}

/// A path of that list: a blank and the like are three octal digits there.
fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

/// Whether a name has a meaning of its own in a layer.
pub(crate) fn is_mark(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".wh."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_is_told_by_the_kernel() {
        let list = b"22 1 0:21 / / rw - overlay overlay rw\n23 22 0:22 / /proc rw - proc proc rw\n\
                     24 22 0:23 /x /a\\040b\\134c rw - ext4 /dev/a rw\n25 22 0:2 / /etc/hosts rw - ext4 a rw\n";
        let points: Vec<_> = mount_points(list).into_iter().collect();
        assert_eq!(points, ["a b\\c", "etc/hosts", "proc"].map(PathBuf::from));
        assert!(mounts().unwrap().contains(Path::new("proc")));
    }

    #[test]
    fn what_is_left_out_is_left_out_with_all_that_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), "").unwrap();
        fs::write(folder.path().join("d"), "").unwrap();
        let without = BTreeSet::from(["a/b", "d"].map(PathBuf::from));
        let seen = Snapshot::take(folder.path(), &without).unwrap();
        assert_eq!(seen.entries.keys().collect::<Vec<_>>(), [Path::new("a")]);
        let all = Snapshot::take(folder.path(), &BTreeSet::new()).unwrap();
        assert_eq!(
            all.entries.keys().collect::<Vec<_>>(),
            ["a", "a/b", "a/b/c", "d"].map(Path::new)
        );
    }

    #[test]
    fn names_that_mean_something_in_a_layer_are_known() {
        for (path, mark) in
            [("a/.wh.b", true), (".wh.", true), ("a/wh.b", false), (".wh.a/b", false)]
        {
            assert_eq!(is_mark(Path::new(path)), mark, "{path}");
        }
    }
}

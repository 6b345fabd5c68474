//! A layer of an image: an archive of what has changed in a file system (OCI image specification, layer.md).

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use crate::error::{Doing as _, Result, build};
use crate::snapshot::{Snapshot, is_mark};

/// What stands before the name of something that is not there any more.
const GONE: &str = ".wh.";

/// The attribute with what a program may do, on disk and in an archive.
const CAPABILITIES: &str = "security.capability";
const CAPABILITIES_IN_ARCHIVE: &str = "SCHILY.xattr.security.capability";

/// What happened to a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is new, or another than before.
    Put(PathBuf),
    /// It is gone.
    Gone(PathBuf),
}

/// What has changed, folders before what is in them. What is gone with its folder is not told.
pub(crate) fn changes(before: &Snapshot, after: &Snapshot) -> Vec<Change> {
    let put = after
        .entries
        .iter()
        .filter(|(path, entry)| !before.entries.get(*path).is_some_and(|known| entry.is_as(known)));
    let put = put.map(|(path, _)| Change::Put(path.clone()));
    let gone = before.entries.keys().filter(|path| {
        let folder = path.parent().unwrap_or(Path::new(""));
        let is_seen = folder.as_os_str().is_empty()
            || after.entries.get(folder).is_some_and(|folder| folder.is_folder() && folder.listed);
        is_seen && !after.entries.contains_key(*path)
    });
    let gone = gone.map(|path| Change::Gone(path.clone()));
    let mut changes: Vec<Change> = put.chain(gone).collect();
    changes.sort_by(|one, other| one.path().cmp(other.path()));
    changes
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Self::Put(path) | Self::Gone(path) => path,
        }
    }
}

/// Writes the archive of these changes.
///
/// # Errors
///
/// A file cannot be read, cannot be in an image, or the archive cannot be written.
pub(crate) fn write(root: &Path, changes: &[Change], out: impl Write) -> Result<()> {
    let mut archive = Builder::new(out);
    // Where each file with several names was put first.
    let mut links = HashMap::new();
    for change in changes {
        match change {
            Change::Put(path) => put(&mut archive, root, path, &mut links)?,
            Change::Gone(path) => gone(&mut archive, path)
                .doing(|| format!("cannot write that `/{}` is gone", path.display()))?,
        }
    }
    let out = archive.into_inner().and_then(|mut out| out.flush());
    out.doing(|| "cannot write the layer".to_owned())
}

fn gone(archive: &mut Builder<impl Write>, path: &Path) -> io::Result<()> {
    let mut name = OsString::from(GONE);
    name.push(path.file_name().unwrap_or_default());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    archive.append_data(&mut header, path.with_file_name(name), io::empty())
}

fn put(
    archive: &mut Builder<impl Write>,
    root: &Path,
    path: &Path,
    links: &mut HashMap<(u64, u64), PathBuf>,
) -> Result<()> {
    if is_mark(path) {
        let path = path.display();
        return Err(build(format!(
            "`/{path}` cannot be in an image: there, `{GONE}` means what is gone"
        )));
    }
    let place = root.join(path);
    let reading = || format!("cannot read `/{}`", path.display());
    let metadata = match fs::symlink_metadata(&place) {
        // Gone since it was seen.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.doing(reading)?,
    };
    let mut header = Header::new_gnu();
    header.set_metadata(&metadata);
    // Since the reference time; what is older is as old as that.
    header.set_mtime(metadata.mtime().try_into().unwrap_or_default());
    let kind = metadata.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(&place).doing(reading)?;
        header.set_size(0);
        return archive.append_link(&mut header, path, target).doing(reading);
    }
    if !kind.is_file() {
        if kind.is_socket() {
            // Nobody listens any more.
            return Ok(());
        }
        if kind.is_block_device() || kind.is_char_device() {
            let device = metadata.rdev();
            header.set_device_major(rustix::fs::major(device)).doing(reading)?;
            header.set_device_minor(rustix::fs::minor(device)).doing(reading)?;
        }
        header.set_size(0);
        return archive.append_data(&mut header, path, io::empty()).doing(reading);
    }
    if metadata.nlink() > 1 {
        let id = (metadata.dev(), metadata.ino());
        if let Some(first) = links.get(&id) {
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            return archive.append_link(&mut header, path, first).doing(reading);
        }
        links.insert(id, path.to_owned());
    }
    if let Some(capabilities) = capabilities(&place).doing(reading)? {
        let record = (CAPABILITIES_IN_ARCHIVE, capabilities.as_slice());
        archive.append_pax_extensions([record]).doing(reading)?;
    }
    let file = File::open(&place).doing(reading)?;
    let exact = Exact { file, left: metadata.size() };
    archive.append_data(&mut header, path, exact).doing(reading)
}

/// What a program may do that its user may not, as the kernel keeps it; most have nothing of that.
fn capabilities(place: &Path) -> io::Result<Option<Vec<u8>>> {
    use rustix::io::Errno;
    let mut value = [0; 64];
    match rustix::fs::lgetxattr(place, CAPABILITIES, &mut value) {
        Ok(length) => Ok(value.get(..length).map(<[u8]>::to_vec)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A file that has the size it was announced with, whatever somebody still writes to it.
struct Exact {
    file: File,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..wanted).unwrap_or_default();
        let read = match self.file.read(buffer)? {
            0 => {
                buffer.fill(0);
                wanted
            }
            read => read,
        };
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::snapshot::Entry;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for folder in ["etc", "opt/old/deep", "opt/kept", "turned"] {
                fs::create_dir_all(tree.at(folder)).unwrap();
            }
            for file in
                ["etc/hosts", "etc/motd", "opt/old/a", "opt/old/deep/b", "opt/kept/c", "turned/d"]
            {
                fs::write(tree.at(file), file).unwrap();
            }
            symlink("hosts", tree.at("etc/link")).unwrap();
            tree
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn snapshot(&self) -> Snapshot {
            Snapshot::take(self.0.path(), &BTreeSet::new()).unwrap()
        }

        /// What a layer of a change has, a line for each entry.
        fn layer_of(&self, change: impl FnOnce(&Self)) -> Vec<String> {
            let before = self.snapshot();
            // The clock of the file system has seen that the rest is later.
            let probe = self.at("probe");
            loop {
                fs::write(&probe, "").unwrap();
                let times = before.entries.values().filter_map(Entry::changed);
                let newest = times.max();
                let now = fs::metadata(&probe).unwrap();
                if newest.is_none_or(|newest| (now.ctime(), now.ctime_nsec()) > newest) {
                    break;
                }
            }
            fs::remove_file(&probe).unwrap();
            change(self);
            let changes = changes(&before, &self.snapshot());
            let mut bytes = Vec::new();
            write(self.0.path(), &changes, &mut bytes).unwrap();
            entries(&bytes)
        }
    }

    fn entries(bytes: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(bytes);
        let mut lines = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let header = entry.header().clone();
            let link = entry.link_name().unwrap().map(|link| format!(" -> {}", link.display()));
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            lines.push(format!(
                "{:?} {path}{} {:o} {}:{} {text}",
                header.entry_type(),
                link.unwrap_or_default(),
                header.mode().unwrap() & 0o7777,
                header.uid().unwrap(),
                header.gid().unwrap(),
            ));
        }
        lines
    }

    /// The lines without modes and owners.
    fn short(lines: &[String]) -> Vec<String> {
        lines
            .iter()
            .map(|line| {
                let (entry, _) = line.split_once(char::is_numeric).unwrap();
                entry.trim_end().to_owned()
            })
            .collect()
    }

    #[test]
    fn nothing_changed_is_an_empty_layer() {
        assert_eq!(Tree::new().layer_of(|_| {}), [""; 0]);
    }

    #[test]
    fn what_is_gone_is_told_once_and_what_was_replaced_is_put() {
        let lines = Tree::new().layer_of(|tree| {
            fs::remove_file(tree.at("etc/motd")).unwrap();
            fs::remove_dir_all(tree.at("opt/old")).unwrap();
            fs::remove_file(tree.at("etc/link")).unwrap();
            // A folder that is a file now, and a file that is a folder.
            fs::remove_dir_all(tree.at("turned")).unwrap();
            fs::write(tree.at("turned"), "file").unwrap();
            fs::remove_file(tree.at("opt/kept/c")).unwrap();
            fs::create_dir(tree.at("opt/kept/c")).unwrap();
            fs::write(tree.at("opt/kept/c/e"), "new").unwrap();
        });
        assert_eq!(
            short(&lines),
            [
                "Regular etc/.wh.link",
                "Regular etc/.wh.motd",
                "Directory opt/kept/c",
                "Regular opt/kept/c/e",
                "Regular opt/.wh.old",
                "Regular turned",
            ]
        );
    }

    #[test]
    fn a_folder_made_anew_loses_what_was_in_it() {
        let lines = Tree::new().layer_of(|tree| {
            fs::remove_dir_all(tree.at("opt/old")).unwrap();
            fs::create_dir(tree.at("opt/old")).unwrap();
            fs::write(tree.at("opt/old/new"), "").unwrap();
        });
        assert_eq!(
            short(&lines),
            ["Regular opt/old/.wh.a", "Regular opt/old/.wh.deep", "Regular opt/old/new"]
        );
    }

    #[test]
    fn modes_owners_and_links_are_kept() {
        let lines = Tree::new().layer_of(|tree| {
            let mode = |path: &str, mode| {
                fs::set_permissions(tree.at(path), fs::Permissions::from_mode(mode)).unwrap();
            };
            fs::create_dir(tree.at("opt/private")).unwrap();
            mode("opt/private", 0o1750);
            fs::write(tree.at("opt/private/tool"), "tool").unwrap();
            chown(tree.at("opt/private/tool"), Some(1234), Some(3_000_000)).unwrap();
            mode("opt/private/tool", 0o6755);
            fs::hard_link(tree.at("opt/private/tool"), tree.at("opt/same")).unwrap();
            symlink("../nowhere", tree.at("opt/dangling")).unwrap();
            lchown(tree.at("opt/dangling"), Some(7), Some(8)).unwrap();
            // Only the mode, and only the owner.
            mode("etc/hosts", 0o400);
            chown(tree.at("opt/kept"), Some(5), Some(6)).unwrap();
        });
        assert_eq!(
            lines,
            [
                "Regular etc/hosts 400 0:0 etc/hosts",
                "Symlink opt/dangling -> ../nowhere 777 7:8 ",
                "Directory opt/kept 755 5:6 ",
                "Directory opt/private 1750 0:0 ",
                "Regular opt/private/tool 6755 1234:3000000 tool",
                "Link opt/same -> opt/private/tool 6755 1234:3000000 ",
            ]
        );
    }

    #[test]
    fn a_file_that_was_written_to_is_found_whatever_its_size_and_times_say() {
        let lines = Tree::new().layer_of(|tree| {
            let place = tree.at("etc/hosts");
            let before = fs::metadata(&place).unwrap().modified().unwrap();
            fs::write(&place, "ETC/HOSTS").unwrap();
            File::options().write(true).open(&place).unwrap().set_modified(before).unwrap();
        });
        assert_eq!(lines, ["Regular etc/hosts 644 0:0 ETC/HOSTS"]);
    }

    #[test]
    fn what_a_program_may_do_is_kept() {
        // `cap_net_raw+ep`, as the kernel has it (linux/capability.h, version 2).
        let value = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let tree = Tree::new();
        let before = tree.snapshot();
        fs::write(tree.at("opt/ping"), "ping").unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(tree.at("opt/ping"), CAPABILITIES, &value, flags).unwrap();
        let mut bytes = Vec::new();
        let changes = changes(&before, &tree.snapshot());
        write(tree.0.path(), &changes, &mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let records = entry.pax_extensions().unwrap().unwrap();
        let records: Vec<_> = records.map(Result::unwrap).collect();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].key_bytes(), CAPABILITIES_IN_ARCHIVE.as_bytes());
        assert_eq!(records[0].value_bytes(), value);
    }

    #[test]
    fn long_names_and_odd_files_are_in_a_layer_or_left_out_of_it() {
        let long = format!("opt/{}", "n".repeat(200));
        let lines = Tree::new().layer_of(|tree| {
            fs::write(tree.at(&long), "").unwrap();
            symlink("t".repeat(150), tree.at("opt/long")).unwrap();
            let status = std::process::Command::new("mkfifo").arg(tree.at("opt/pipe")).status();
            assert!(status.unwrap().success());
            drop(UnixListener::bind(tree.at("opt/socket")).unwrap());
        });
        assert_eq!(
            short(&lines),
            [
                format!("Symlink opt/long -> {}", "t".repeat(150)),
                format!("Regular {long}"),
                "Fifo opt/pipe".to_owned(),
            ]
        );
    }

    #[test]
    fn a_name_that_would_remove_another_is_refused() {
        let tree = Tree::new();
        let before = tree.snapshot();
        fs::write(tree.at("etc/.wh.hosts"), "").unwrap();
        let changes = changes(&before, &tree.snapshot());
        let error = write(tree.0.path(), &changes, Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("`/etc/.wh.hosts` cannot be in an image"), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_looked_into_any_more_has_lost_nothing() {
        let tree = Tree::new();
        let before = tree.snapshot();
        let mut after = tree.snapshot();
        after.entries.retain(|path, _| path.parent() != Some(Path::new("etc")));
        after.entries.get_mut(Path::new("etc")).unwrap().listed = false;
        assert_eq!(changes(&before, &after), []);
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_keeps_the_archive_whole() {
        let tree = Tree::new();
        let file = File::open(tree.at("etc/hosts")).unwrap();
        let mut bytes = Vec::new();
        Exact { file, left: 12 }.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"etc/hosts\0\0\0");
        let file = File::open(tree.at("etc/hosts")).unwrap();
        bytes.clear();
        Exact { file, left: 3 }.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"etc");
    }
}

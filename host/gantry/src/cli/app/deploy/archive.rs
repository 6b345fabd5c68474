//! A directory as an archive: the same directory gives the same bytes. Names are sorted, owners are left out, and so is whatever is neither a file, nor a folder, nor a link.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use super::ignored::Ignored;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;

/// A directory that was looked through.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    entries: Vec<Entry>,
    /// What is neither a file, nor a folder, nor a link.
    pub(super) odd: Vec<PathBuf>,
}

#[derive(Debug)]
struct Entry {
    /// From the top of the directory.
    path: PathBuf,
    metadata: Metadata,
}

impl Tree {
    /// Looks through a directory. Every file is opened once: one that cannot be read is found before anything is sent.
    pub(super) fn read(root: &Path, ignored: &Ignored) -> Result<Self, Failure> {
        let mut tree = Self { root: root.to_owned(), entries: Vec::new(), odd: Vec::new() };
        tree.look(Path::new(""), ignored)?;
        if tree.entries.is_empty() {
            let what = format!("there is nothing to build in `{}`", root.display());
            return Err(Failure::new(Exit::Usage, what)
                .hint("it is empty, or `.tsuruignore` or `.dockerignore` leaves all of it out"));
        }
        Ok(tree)
    }

    fn look(&mut self, folder: &Path, ignored: &Ignored) -> Result<(), Failure> {
        let place = self.root.join(folder);
        let names = fs::read_dir(&place).and_then(|found| {
            found.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
        });
        let mut names = names.map_err(|error| unreadable(&place, &error))?;
        names.sort();
        for name in names {
            let path = folder.join(name);
            let place = self.root.join(&path);
            let metadata =
                fs::symlink_metadata(&place).map_err(|error| unreadable(&place, &error))?;
            let is_out = ignored.leaves_out(&path, metadata.is_dir());
            if metadata.is_dir() {
                if !is_out {
                    self.entries.push(Entry { path: path.clone(), metadata });
                }
                if !is_out || ignored.may_keep_below(&path) {
                    self.look(&path, ignored)?;
                }
            } else if !is_out {
                self.add(path, &place, metadata)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf, place: &Path, metadata: Metadata) -> Result<(), Failure> {
        if metadata.is_file() {
            File::open(place).map_err(|error| unreadable(place, &error))?;
        } else if !metadata.is_symlink() {
            self.odd.push(path);
            return Ok(());
        }
        self.entries.push(Entry { path, metadata });
        Ok(())
    }

    /// How many files there are, links with them.
    pub(super) fn files(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.metadata.is_dir()).count()
    }

    /// How many bytes they have.
    pub(super) fn bytes(&self) -> u64 {
        let files = self.entries.iter().filter(|entry| entry.metadata.is_file());
        files.map(|entry| entry.metadata.len()).sum()
    }

    /// Writes the archive, compressed, and counts the bytes of files that it has come to.
    pub(super) fn write(&self, out: impl Write, done: &AtomicU64) -> io::Result<()> {
        let out = GzBuilder::new().mtime(0).write(out, Compression::fast());
        let mut builder = Builder::new(out);
        for entry in &self.entries {
            let place = self.root.join(&entry.path);
            append(&mut builder, entry, &place, done).map_err(|error| {
                io::Error::new(error.kind(), format!("`{}`: {error}", place.display()))
            })?;
        }
        builder.into_inner()?.finish()?.flush()
    }
}

fn append(
    builder: &mut Builder<impl Write>,
    Entry { path, metadata }: &Entry,
    place: &Path,
    done: &AtomicU64,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(metadata.mode() & 0o7777);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or_default());
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    if metadata.is_dir() {
        header.set_entry_type(EntryType::Directory);
        return builder.append_data(&mut header, path, io::empty());
    }
    if metadata.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        return builder.append_link(&mut header, path, fs::read_link(place)?);
    }
    header.set_entry_type(EntryType::Regular);
    header.set_size(metadata.len());
    // Its size is told before its bytes: one that grows meanwhile is cut, and one that shrinks is an error.
    let mut file = Counted { file: File::open(place)?.take(metadata.len()), done };
    builder.append_data(&mut header, path, &mut file)?;
    if file.file.limit() > 0 {
        return Err(io::Error::other("it became shorter while it was read"));
    }
    Ok(())
}

struct Counted<'a> {
    file: io::Take<File>,
    done: &'a AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.done.fetch_add(u64::try_from(read).unwrap_or_default(), Ordering::Relaxed);
        Ok(read)
    }
}

fn unreadable(place: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot read `{}`", place.display()))
        .because(error)
        .hint("make it readable, or leave it out with `.tsuruignore` or `.dockerignore`")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use flate2::read::GzDecoder;

    use super::*;

    fn tree(folder: &Path, dockerfile: Option<&str>) -> Tree {
        Tree::read(folder, &Ignored::of(folder, dockerfile).unwrap()).unwrap()
    }

    fn archive(folder: &Path, dockerfile: Option<&str>) -> Vec<u8> {
        let mut bytes = Vec::new();
        tree(folder, dockerfile).write(&mut bytes, &AtomicU64::new(0)).unwrap();
        bytes
    }

    /// What is in an archive: its mode and its text, or where it points to.
    fn content(archive: &[u8]) -> BTreeMap<String, (u32, String)> {
        let mut archive = tar::Archive::new(GzDecoder::new(archive));
        let read = |entry: io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            assert_eq!((header.username(), header.groupname()), (Ok(Some("")), Ok(Some(""))));
            let mode = header.mode().unwrap();
            let link = entry.link_name().unwrap().map(|link| link.display().to_string());
            let path = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (path, (mode, link.unwrap_or(text)))
        };
        archive.entries().unwrap().map(read).collect()
    }

    fn source() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("bin")).unwrap();
        fs::write(at("bin/run"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(at("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(at("secret"), "s").unwrap();
        fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(at("a.log"), "left out").unwrap();
        symlink("bin/run", at("run")).unwrap();
        symlink("/nowhere/at/all", at("dangling")).unwrap();
        folder
    }

    #[test]
    fn a_directory_keeps_its_modes_and_links_and_not_its_owners() {
        let folder = source();
        fs::write(folder.path().join(".tsuruignore"), "*.log\n").unwrap();
        let content = content(&archive(folder.path(), None));
        let paths: Vec<&str> = content.keys().map(String::as_str).collect();
        assert_eq!(paths, [".tsuruignore", "bin", "bin/run", "dangling", "run", "secret"]);
        assert_eq!(content["bin/run"], (0o755, "#!/bin/sh\n".to_owned()));
        assert_eq!(content["secret"], (0o600, "s".to_owned()));
        assert_eq!(content["run"].1, "bin/run");
        assert_eq!(content["dangling"].1, "/nowhere/at/all");
    }

    #[test]
    fn the_same_directory_gives_the_same_bytes() {
        let folder = source();
        let long = "x".repeat(60);
        let deep = folder.path().join(&long).join(&long);
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("a-file-with-a-path-of-more-than-a-hundred-letters"), "deep").unwrap();
        let (one, two) = (archive(folder.path(), None), archive(folder.path(), None));
        assert_eq!(one, two);
        assert!(content(&one).values().any(|(_, text)| text == "deep"));
    }

    #[test]
    fn what_a_dockerignore_takes_back_is_found_in_a_folder_that_is_left_out() {
        let folder = source();
        fs::write(folder.path().join("Dockerfile"), "FROM scratch\n").unwrap();
        fs::write(folder.path().join(".dockerignore"), "*\n!bin/run\n").unwrap();
        let content = content(&archive(folder.path(), Some("Dockerfile")));
        let paths: Vec<&str> = content.keys().map(String::as_str).collect();
        assert_eq!(paths, [".dockerignore", "Dockerfile", "bin/run"]);
    }

    #[test]
    fn what_is_counted_is_what_is_read() {
        let folder = source();
        let tree = tree(folder.path(), None);
        let done = AtomicU64::new(0);
        tree.write(io::sink(), &done).unwrap();
        assert_eq!((tree.files(), tree.bytes()), (5, 19));
        assert_eq!(done.load(Ordering::Relaxed), tree.bytes());
    }

    #[test]
    fn a_socket_is_told_and_left_out() {
        let folder = source();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("s.sock")).unwrap();
        assert_eq!(tree(folder.path(), None).odd, [Path::new("s.sock")]);
        assert!(!content(&archive(folder.path(), None)).contains_key("s.sock"));
    }

    #[test]
    fn an_empty_directory_and_a_file_that_shrinks_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let ignored = Ignored::of(folder.path(), None).unwrap();
        let failure = Tree::read(folder.path(), &ignored).unwrap_err();
        assert!(failure.what.starts_with("there is nothing to build in `"), "{failure:?}");
        fs::write(folder.path().join("a"), "0123456789").unwrap();
        let tree = tree(folder.path(), None);
        fs::write(folder.path().join("a"), "0").unwrap();
        let error = tree.write(io::sink(), &AtomicU64::new(0)).unwrap_err().to_string();
        assert!(error.ends_with("/a`: it became shorter while it was read"), "{error}");
    }
}

//! The files of an in-memory container or image, and tar archives of them.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use tar::{Archive, Builder, EntryType, Header};

use crate::EngineError;
use crate::call::PathStat;
use crate::containers::Result;

/// Go's mode bits of a folder and of a link.
const GO_DIR: u32 = 1 << 31;
const GO_LINK: u32 = 1 << 27;

/// Files by their absolute path, without a slash at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files(BTreeMap<String, File>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    mode: u32,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    Bytes(Vec<u8>),
    Link(String),
}

impl Files {
    /// Puts a file down, with the folders it is in.
    pub(super) fn put(&mut self, path: &str, bytes: &[u8]) {
        self.insert(&plain(path), File { mode: 0o644, kind: Kind::Bytes(bytes.to_vec()) });
    }

    /// Takes another's file or folder over, under another path; false when there is none.
    pub(super) fn copy(&mut self, from: &Self, source: &str, target: &str) -> bool {
        let (source, mut target_path) = (plain(source), plain(target));
        if from.is_file(&source) && (target.ends_with('/') || self.is_folder(&target_path)) {
            target_path = join(&target_path, base(&source));
        }
        let found: Vec<_> = from.below(&source).collect();
        for (rest, file) in &found {
            self.insert(&join(&target_path, rest), (*file).clone());
        }
        !found.is_empty()
    }

    fn insert(&mut self, path: &str, file: File) {
        let mut folder = String::new();
        for part in parts(path) {
            let whole = join(&folder, part);
            if whole != path {
                let made = File { mode: 0o755, kind: Kind::Folder };
                self.0.entry(whole.clone()).or_insert(made);
            }
            folder = whole;
        }
        self.0.insert(path.to_owned(), file);
    }

    fn is_folder(&self, path: &str) -> bool {
        path == "/" || self.0.get(path).is_some_and(|file| file.kind == Kind::Folder)
    }

    fn is_file(&self, path: &str) -> bool {
        self.0.get(path).is_some_and(|file| file.kind != Kind::Folder)
    }

    /// A path and what is below it, each with its path from there.
    fn below<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a File)> {
        let inside = if path == "/" { String::new() } else { path.to_owned() };
        self.0.iter().filter_map(move |(at, file)| {
            let rest = at.strip_prefix(&inside)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| (rest.trim_start_matches('/'), file))
        })
    }

    pub(super) fn stat(&self, path: &str) -> Result<PathStat> {
        let path = plain(path);
        let root = File { mode: 0o755, kind: Kind::Folder };
        let file = match self.0.get(&path) {
            Some(file) => file,
            None if path == "/" => &root,
            None => return Err(absent(&path)),
        };
        let (bits, size, link_target) = match &file.kind {
            Kind::Folder => (GO_DIR, 4096, String::new()),
            Kind::Bytes(bytes) => (0, bytes.len(), String::new()),
            Kind::Link(target) => (GO_LINK, target.len(), resolved(&path, target)),
        };
        let name = if path == "/" { "/" } else { base(&path) };
        Ok(PathStat {
            name: name.to_owned(),
            size: u64::try_from(size).unwrap_or_default(),
            mode: bits | file.mode,
            link_target,
        })
    }

    /// A path as an archive, named as its last part.
    pub(super) fn archive(&self, path: &str) -> Result<Vec<u8>> {
        let path = plain(path);
        if path != "/" && !self.0.contains_key(&path) {
            return Err(absent(&path));
        }
        let mut builder = Builder::new(Vec::new());
        for (rest, file) in self.below(&path) {
            let name = join(base(&path), rest);
            append(&mut builder, name.trim_start_matches('/'), file).map_err(odd)?;
        }
        builder.into_inner().map_err(odd)
    }

    /// Unpacks an archive into a folder.
    pub(super) fn unpack(&mut self, folder: &str, archive: &[u8]) -> Result<()> {
        let folder = plain(folder);
        if !self.is_folder(&folder) {
            return Err(absent(&folder));
        }
        for entry in Archive::new(archive).entries().map_err(odd)? {
            let mut entry = entry.map_err(odd)?;
            let path = entry.path().map_err(odd)?.to_string_lossy().into_owned();
            let path = plain(&join(&folder, &path));
            let mode = entry.header().mode().map_err(odd)? & 0o7777;
            let kind = if entry.header().entry_type().is_dir() {
                Kind::Folder
            } else if entry.header().entry_type().is_symlink() {
                let target = entry.link_name().map_err(odd)?.unwrap_or_default();
                Kind::Link(target.to_string_lossy().into_owned())
            } else {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map_err(odd)?;
                Kind::Bytes(bytes)
            };
            if path != "/" {
                self.insert(&path, File { mode, kind });
            }
        }
        Ok(())
    }

    /// The bytes of a file.
    pub(super) fn read(&self, path: &str) -> Option<&[u8]> {
        match &self.0.get(&plain(path))?.kind {
            Kind::Bytes(bytes) => Some(bytes),
            Kind::Folder | Kind::Link(_) => None,
        }
    }

    pub(super) fn size(&self) -> usize {
        self.0
            .values()
            .map(|file| match &file.kind {
                Kind::Bytes(bytes) => bytes.len(),
                Kind::Folder | Kind::Link(_) => 0,
            })
            .sum()
    }
}

fn append(builder: &mut Builder<Vec<u8>>, name: &str, file: &File) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(file.mode);
    match &file.kind {
        Kind::Folder => {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            builder.append_data(&mut header, format!("{name}/"), io::empty())
        }
        Kind::Bytes(bytes) => {
            header.set_size(u64::try_from(bytes.len()).unwrap_or_default());
            builder.append_data(&mut header, name, bytes.as_slice())
        }
        Kind::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, target)
        }
    }
}

fn absent(path: &str) -> EngineError {
    EngineError::NotFound(format!("no `{path}` in the container"))
}

fn odd(error: io::Error) -> EngineError {
    EngineError::Invalid(format!("the archive is no tar archive: {error}"))
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

/// An absolute path without `.`, `..` and doubled slashes.
fn plain(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in parts(path) {
        if part == ".." {
            kept.pop();
        } else {
            kept.push(part);
        }
    }
    format!("/{}", kept.join("/"))
}

fn join(folder: &str, name: &str) -> String {
    match (folder.trim_end_matches('/'), name.trim_start_matches('/')) {
        (folder, "") if !folder.is_empty() => folder.to_owned(),
        (folder, name) => format!("{folder}/{name}"),
    }
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn resolved(link: &str, target: &str) -> String {
    if target.starts_with('/') {
        return plain(target);
    }
    let folder = link.rsplit_once('/').map_or("/", |(folder, _)| folder);
    plain(&join(folder, target))
}

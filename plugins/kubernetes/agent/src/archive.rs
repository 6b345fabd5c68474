//! The source of an app: a tar archive that somebody sent, who is not believed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read, Seek as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use tar::{Archive, Entry, EntryType};

use crate::error::{Doing as _, Result, build};

/// The first bytes of what gzip made.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How much an archive may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes that are sent.
    pub(crate) sent: u64,
    /// Bytes that it unpacks to.
    pub(crate) unpacked: u64,
    /// Files, folders and links in it.
    pub(crate) entries: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { sent: 2 << 30, unpacked: 8 << 30, entries: 500_000 }
    }
}

/// Keeps an archive that is being sent in a file, compressed whether it was or not, and gives whether there was any.
///
/// # Errors
///
/// It is too large, or cannot be written.
pub(crate) fn keep(mut sent: impl Read, place: &Path, bounds: Bounds) -> Result<bool> {
    let writing = || "cannot keep the archive".to_owned();
    let mut start = Vec::new();
    sent.by_ref().take(GZIP.len() as u64).read_to_end(&mut start).doing(writing)?;
    if start.is_empty() {
        return Ok(false);
    }
    let mut file = File::create(place).doing(writing)?;
    let all = start.chain(sent).take(bounds.sent.saturating_add(1));
    let mut all = Counted { inner: all, read: 0, zeros: 0 };
    if start == GZIP {
        io::copy(&mut all, &mut file).doing(writing)?;
    } else {
        let mut compressed = GzEncoder::new(&mut file, Compression::fast());
        io::copy(&mut all, &mut compressed).and_then(|_| compressed.finish()).doing(writing)?;
    }
    if all.read > bounds.sent {
        return Err(build(format!("the archive is larger than {} bytes", bounds.sent)));
    }
    file.flush().doing(writing)?;
    Ok(true)
}

/// Counts what is read, and the zeros at its end: an archive ends with 1024 of them.
struct Counted<R> {
    inner: R,
    read: u64,
    zeros: usize,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read = self.read.saturating_add(read as u64);
        let bytes = buffer.get(..read).unwrap_or_default();
        match bytes.iter().rev().position(|byte| *byte != 0) {
            Some(zeros) => self.zeros = zeros,
            None => self.zeros = self.zeros.saturating_add(read),
        }
        Ok(read)
    }
}

/// Unpacks an archive that was kept into a folder, in the place of all that was in it. Nothing is written anywhere else.
///
/// # Errors
///
/// It is damaged or too large, or has something in it that does not belong there.
pub(crate) fn unpack(kept: &Path, folder: &Path, bounds: Bounds) -> Result<()> {
    empty(folder)?;
    let mut file = File::open(kept).doing(|| "cannot read the archive".to_owned())?;
    file.rewind().doing(|| "cannot read the archive".to_owned())?;
    let plain = MultiGzDecoder::new(BufReader::new(file));
    let mut plain =
        Counted { inner: plain.take(bounds.unpacked.saturating_add(1)), read: 0, zeros: 0 };
    let unpacked = entries(&mut plain, folder, bounds);
    if plain.read > bounds.unpacked {
        return Err(build(format!("the archive unpacks to more than {} bytes", bounds.unpacked)));
    }
    unpacked?;
    // What follows the end is read too: that it is whole is known only then.
    io::copy(&mut plain, &mut io::sink()).map_err(damaged)?;
    if plain.zeros < 1024 {
        return Err(damaged("its end is missing"));
    }
    Ok(())
}

fn damaged(why: impl std::fmt::Display) -> crate::error::Error {
    build(format!("the archive is damaged: {why}"))
}

/// Makes the folder where it is missing, and removes what is in it.
fn empty(folder: &Path) -> Result<()> {
    let making = || format!("cannot make `{}` empty", folder.display());
    fs::create_dir_all(folder).doing(making)?;
    for entry in fs::read_dir(folder).doing(making)? {
        let path = entry.doing(making)?.path();
        let is_folder = fs::symlink_metadata(&path).doing(making)?.is_dir();
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.doing(making)?;
    }
    Ok(())
}

fn entries(plain: impl Read, folder: &Path, bounds: Bounds) -> Result<()> {
    let mut archive = Archive::new(plain);
    let mut count = 0_u64;
    // A folder may forbid to write into it: it does when all is in it.
    let mut modes = Vec::new();
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        count = count.saturating_add(1);
        if count > bounds.entries {
            return Err(build(format!("the archive has more than {} entries", bounds.entries)));
        }
        put(&mut entry, folder, &mut modes)?;
    }
    for (path, mode) in modes.into_iter().rev() {
        use std::os::unix::fs::PermissionsExt as _;
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(&path, permissions)
            .doing(|| format!("cannot finish `{}`", path.display()))?;
    }
    Ok(())
}

/// What an entry's path is within the folder.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(inside)
}

/// Refuses a path that leads through a link, and makes the folders on its way.
fn lead(folder: &Path, path: &Path, shown: &str) -> Result<()> {
    let mut way = folder.to_owned();
    for component in path.parent().unwrap_or(Path::new("")).components() {
        way.push(component);
        match fs::symlink_metadata(&way) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(build(format!("the archive has `{shown}` below what is no folder")));
            }
            Err(_) => fs::create_dir(&way).doing(|| format!("cannot make `{}`", way.display()))?,
        }
    }
    Ok(())
}

fn put(
    entry: &mut Entry<'_, impl Read>,
    folder: &Path,
    modes: &mut Vec<(PathBuf, u32)>,
) -> Result<()> {
    let kind = entry.header().entry_type();
    // What git says of a commit; it is about no file.
    if kind == EntryType::XGlobalHeader {
        return Ok(());
    }
    let path = entry.path().map_err(damaged)?.into_owned();
    let shown = path.display().to_string();
    let outside = || build(format!("the archive has `{shown}`, which is outside of it"));
    let path = inside(&path).ok_or_else(outside)?;
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    lead(folder, &path, &shown)?;
    let place = folder.join(&path);
    let writing = || format!("cannot unpack `{shown}`");
    // Who unpacks is who owns it, and gives nobody his rights.
    let mode = entry.header().mode().map_err(damaged)? & 0o777;
    let known = fs::symlink_metadata(&place).ok();
    if kind.is_dir() {
        if !known.is_some_and(|known| known.is_dir()) {
            DirBuilder::new().mode(0o700).create(&place).doing(writing)?;
        }
        modes.push((place, mode));
        return Ok(());
    }
    if known.is_some() {
        // The last of two counts. This fails for a folder, and so it should.
        fs::remove_file(&place).doing(writing)?;
    }
    let target = entry.link_name().map_err(damaged)?.map(std::borrow::Cow::into_owned);
    if kind.is_symlink() {
        let target = target.ok_or_else(|| damaged("a link leads nowhere"))?;
        return symlink(target, &place).doing(writing);
    }
    if kind.is_hard_link() {
        let target = target.as_deref().and_then(inside).ok_or_else(outside)?;
        lead(folder, &target, &shown)?;
        let first = folder.join(target);
        if !fs::symlink_metadata(&first).is_ok_and(|first| first.is_file()) {
            return Err(build(format!("the archive has `{shown}`, which links to no file of it")));
        }
        return fs::hard_link(first, &place).doing(writing);
    }
    // A sparse file is of any size, whatever the archive is.
    if !(kind.is_file() || kind.is_contiguous()) {
        return Err(build(format!(
            "the archive has `{shown}`, which is neither file, folder nor link"
        )));
    }
    let time = Duration::from_secs(entry.header().mtime().unwrap_or_default());
    // It is new: no link can lead anywhere else.
    let file = File::options().write(true).create_new(true).mode(mode).open(&place);
    let mut file = file.doing(writing)?;
    io::copy(entry, &mut file).map_err(|error| damaged(format!("`{shown}`: {error}")))?;
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    file.set_permissions(permissions).doing(writing)?;
    match SystemTime::UNIX_EPOCH.checked_add(time) {
        Some(time) => file.set_modified(time).doing(writing),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// An archive made by hand: what a well-behaved writer would not write.
    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            header.set_mtime(1_000_000_000);
            let is_link = kind.is_symlink() || kind.is_hard_link();
            if is_link {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            let content = if is_link { "" } else { content };
            header.set_size(content.len() as u64);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(content.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    struct Yard(tempfile::TempDir);

    impl Yard {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn folder(&self) -> PathBuf {
            self.0.path().join("app/current")
        }

        fn unpack(&self, sent: &[u8], bounds: Bounds) -> Result<()> {
            let kept = self.0.path().join("kept");
            assert!(keep(sent, &kept, bounds)?);
            unpack(&kept, &self.folder(), bounds)
        }

        fn refusal(&self, sent: &[u8]) -> String {
            self.unpack(sent, Bounds::default()).unwrap_err().to_string()
        }
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn an_archive_is_unpacked_in_the_place_of_what_was_there() {
        let plain = archive(&[
            ("./", EntryType::Directory, ""),
            ("./bin/run", FILE, "run"),
            ("bin", EntryType::Directory, ""),
            ("link", EntryType::Symlink, "/etc/passwd"),
            ("same", EntryType::Link, "bin/run"),
            ("twice", FILE, "one"),
            ("twice", FILE, "two"),
        ]);
        for sent in [
            gzipped(&plain),
            plain.clone(),
            [gzipped(&plain[..700]), gzipped(&plain[700..])].concat(),
        ] {
            let yard = Yard::new();
            fs::create_dir_all(yard.folder().join("old/deep")).unwrap();
            yard.unpack(&sent, Bounds::default()).unwrap();
            let at = |path: &str| yard.folder().join(path);
            assert!(!at("old").exists());
            assert_eq!(fs::read_to_string(at("bin/run")).unwrap(), "run");
            assert_eq!(fs::read_to_string(at("same")).unwrap(), "run");
            assert_eq!(fs::read_to_string(at("twice")).unwrap(), "two");
            assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("/etc/passwd"));
            let run = fs::metadata(at("bin/run")).unwrap();
            assert_eq!(run.permissions().mode() & 0o7777, 0o755, "without the rights of its owner");
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            assert_eq!(run.modified().unwrap(), time);
        }
    }

    #[test]
    fn nothing_is_written_outside_of_the_folder() {
        for entries in [
            vec![("../evil", FILE, "x")],
            vec![("a/../../evil", FILE, "x")],
            vec![("/evil", FILE, "x")],
            vec![("out", EntryType::Symlink, ".."), ("out/evil", FILE, "x")],
            vec![("out", EntryType::Symlink, "../.."), ("out/a/evil", FILE, "x")],
            vec![("out", EntryType::Symlink, ".."), ("out/evil", EntryType::Directory, "")],
            vec![("evil", EntryType::Link, "../outside")],
            vec![("evil", EntryType::Link, "/etc/passwd")],
            vec![("out", EntryType::Symlink, "../outside"), ("evil", EntryType::Link, "out")],
            vec![("out", EntryType::Symlink, ".."), ("evil", EntryType::Link, "out/outside")],
            vec![("file", FILE, ""), ("file/evil", FILE, "x")],
            vec![("evil", EntryType::Char, "")],
            vec![("evil", EntryType::Block, "")],
            vec![("evil", EntryType::Fifo, "")],
        ] {
            let yard = Yard::new();
            fs::create_dir_all(yard.folder()).unwrap();
            let outside = yard.folder().with_file_name("outside");
            fs::write(&outside, "as it was").unwrap();
            let error = yard.refusal(&gzipped(&archive(&entries)));
            assert!(error.contains("evil"), "{entries:?}: {error}");
            assert_eq!(fs::read_to_string(&outside).unwrap(), "as it was");
            let beside: Vec<_> = fs::read_dir(yard.folder().parent().unwrap()).unwrap().collect();
            assert_eq!(beside.len(), 2, "{entries:?}: {beside:?}");
            assert!(!yard.0.path().join("evil").exists() && !Path::new("/evil").exists());
        }
    }

    #[test]
    fn a_file_in_the_place_of_a_link_does_not_follow_it() {
        let yard = Yard::new();
        fs::create_dir_all(yard.folder()).unwrap();
        let outside = yard.folder().with_file_name("outside");
        fs::write(&outside, "as it was").unwrap();
        let sent = archive(&[("a", EntryType::Symlink, "../outside"), ("a", FILE, "mine")]);
        yard.unpack(&sent, Bounds::default()).unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "as it was");
        assert_eq!(fs::read_to_string(yard.folder().join("a")).unwrap(), "mine");
    }

    #[test]
    fn a_damaged_archive_is_refused_wherever_it_was_cut() {
        let plain = archive(&[("a", FILE, &"a".repeat(3000)), ("b", FILE, "b")]);
        let whole = gzipped(&plain);
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0xff;
        let cuts = (2..whole.len()).map(|end| whole[..end].to_vec());
        // The places between two entries too, where nothing but the end is missing.
        let plain_cuts =
            (0..plain.len() - 512).step_by(512).skip(1).map(|end| plain[..end].to_vec());
        for sent in cuts.chain(plain_cuts).chain([flipped, b"no archive at all".to_vec()]) {
            let error = Yard::new().refusal(&sent);
            assert!(error.starts_with("the archive is damaged: "), "{} bytes: {error}", sent.len());
        }
    }

    #[test]
    fn what_is_too_much_is_refused_before_it_is_unpacked() {
        let bounds = Bounds { sent: 4096, unpacked: 100_000, entries: 3 };
        let bomb = gzipped(&archive(&[("zeros", FILE, &"\0".repeat(1_000_000))]));
        assert!((bomb.len() as u64) < bounds.sent);
        let yard = Yard::new();
        let error = yard.unpack(&bomb, bounds).unwrap_err().to_string();
        assert_eq!(error, "the archive unpacks to more than 100000 bytes");
        assert!(fs::metadata(yard.folder().join("zeros")).unwrap().len() <= 100_000);

        let many = archive(&[("a", FILE, ""), ("b", FILE, ""), ("c", FILE, ""), ("d", FILE, "")]);
        let error = Yard::new().unpack(&gzipped(&many), bounds).unwrap_err().to_string();
        assert_eq!(error, "the archive has more than 3 entries");
        let three = archive(&[("a", FILE, ""), ("b", FILE, ""), ("c", FILE, "")]);
        Yard::new().unpack(&gzipped(&three), bounds).unwrap();

        let long = vec![0_u8; 5000];
        let error = Yard::new().unpack(&long, bounds).unwrap_err().to_string();
        assert_eq!(error, "the archive is larger than 4096 bytes");
    }

    #[test]
    fn nothing_that_was_sent_is_no_archive() {
        let yard = Yard::new();
        let kept = yard.0.path().join("kept");
        assert!(!keep(io::empty(), &kept, Bounds::default()).unwrap());
        assert!(!kept.exists());
    }

    #[test]
    fn folders_that_forbid_to_write_are_filled_first() {
        let yard = Yard::new();
        let mut bytes = Vec::new();
        {
            let mut builder = tar::Builder::new(&mut bytes);
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o555);
            header.set_size(0);
            builder.append_data(&mut header, "locked", io::empty()).unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o444);
            header.set_size(1);
            builder.append_data(&mut header, "locked/file", b"x".as_slice()).unwrap();
            builder.finish().unwrap();
        }
        yard.unpack(&bytes, Bounds::default()).unwrap();
        let mode =
            |path: &str| fs::metadata(yard.folder().join(path)).unwrap().permissions().mode();
        assert_eq!((mode("locked") & 0o777, mode("locked/file") & 0o777), (0o555, 0o444));
    }
}

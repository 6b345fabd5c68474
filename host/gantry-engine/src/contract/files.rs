//! Files in and out of containers, as tar archives.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};

use tar::{Archive, Builder, EntryType, Header};
use tokio::io::AsyncReadExt as _;

use super::{Fixture, PAGE, refused};

/// Go's mode bits of a folder and of a link.
const GO_DIR: u32 = 1 << 31;
const GO_LINK: u32 = 1 << 27;

/// An archive of a folder with a file and a link in it.
pub(super) fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, bytes) in entries {
        let mut header = Header::new_gnu();
        header.set_mode(0o640);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn with_link(entries: &[(&str, &[u8])], link: &str, target: &str) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, bytes) in entries {
        let mut header = Header::new_gnu();
        header.set_mode(0o640);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Symlink);
    header.set_mode(0o777);
    header.set_size(0);
    builder.append_link(&mut header, link, target).unwrap();
    builder.into_inner().unwrap()
}

/// The files in an archive, by path.
fn listed(bytes: Vec<u8>) -> BTreeMap<String, Vec<u8>> {
    let mut archive = Archive::new(Cursor::new(bytes));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().trim_end_matches('/').to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (path, bytes)
    });
    files.collect()
}

async fn downloaded(fixture: &Fixture, id: &str, path: &str) -> BTreeMap<String, Vec<u8>> {
    let mut reader = fixture.engine.download(id, path).await.unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await.unwrap();
    listed(bytes)
}

/// What goes into a container comes out as it was: also of one that never ran, and more than any buffer holds.
pub async fn what_is_uploaded_is_downloaded(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.created(&fixture.spec()).await;
    let big = vec![7_u8; 1_000_000];
    let files = archive(&[("in/small", b"small\n"), ("in/big", &big)]);
    engine.upload(&id, "/www", Box::pin(Cursor::new(files))).await.unwrap();
    let file = downloaded(fixture, &id, "/www/in/small").await;
    assert_eq!(file, BTreeMap::from([("small".to_owned(), b"small\n".to_vec())]));
    let folder = downloaded(fixture, &id, "/www/in").await;
    assert_eq!(folder.keys().collect::<Vec<_>>(), ["in", "in/big", "in/small"]);
    assert_eq!(folder["in/big"], big);
}

/// A path is told with its size, its mode and where it points to.
pub async fn a_path_is_told(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.created(&fixture.spec()).await;
    let files = with_link(&[("in/file", b"12345")], "in/link", "file");
    engine.upload(&id, "/www", Box::pin(Cursor::new(files))).await.unwrap();
    let file = engine.stat_path(&id, "/www/in/file").await.unwrap();
    assert_eq!((file.name.as_str(), file.size, file.mode), ("file", 5, 0o640));
    assert_eq!(file.link_target, "");
    let folder = engine.stat_path(&id, "/www/in").await.unwrap();
    assert_eq!((folder.name.as_str(), folder.mode & GO_DIR), ("in", GO_DIR));
    let link = engine.stat_path(&id, "/www/in/link").await.unwrap();
    assert_eq!((link.name.as_str(), link.mode & GO_LINK), ("link", GO_LINK));
    assert_eq!(link.link_target, "/www/in/file");
}

/// A path that is not there is not found, whatever is asked of it.
pub async fn an_absent_path_is_not_found(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.created(&fixture.spec()).await;
    let told = refused(engine.stat_path(&id, "/www/absent").await, "not-found");
    assert!(told.contains("`/www/absent`"), "{told}");
    refused(engine.download(&id, "/www/absent").await.map(|_| ()), "not-found");
    let files = archive(&[("file", b"")]);
    let sent = engine.upload(&id, "/www/absent", Box::pin(Cursor::new(files))).await;
    refused(sent, "not-found");
}

/// The files of an image are the files of its containers.
pub async fn a_file_of_the_image_is_downloaded(fixture: &Fixture) {
    let id = fixture.created(&fixture.spec()).await;
    let file = downloaded(fixture, &id, "/www/index.html").await;
    assert_eq!(file, BTreeMap::from([("index.html".to_owned(), PAGE.as_bytes().to_vec())]));
}

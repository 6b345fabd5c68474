//! A source on its way to the daemon: a directory as an archive, an archive as it is. It goes out as it is read; nothing is held whole.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use hyper::Method;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

use super::archive::Tree;
use super::ignored::Ignored;
use crate::api::Accepted;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::ui::Ui;
use crate::client::{Change, Client};

/// How often the line at the bottom moves.
const TICK: Duration = Duration::from_millis(120);

/// How many pieces of an archive wait for a slow connection before reading waits too.
const AHEAD: usize = 8;

/// How large a piece is.
const PIECE: usize = 64 << 10;

/// Where an archive on standard input is named.
const STDIN: &str = "-";

/// A source that is about to be sent.
pub(super) enum Upload {
    /// A directory.
    Directory(Tree),
    /// An archive, and how large it is.
    File(std::fs::File, u64),
    /// An archive on standard input.
    Stdin,
}

type Parts = BoxStream<'static, io::Result<Bytes>>;

impl Upload {
    /// What is at a path.
    pub(super) fn of(source: &str, dockerfile: Option<&str>) -> Result<Self, Failure> {
        if source == STDIN {
            return Ok(Self::Stdin);
        }
        let path = Path::new(source);
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(source, &error))?;
        if metadata.is_dir() {
            return Ok(Self::Directory(Tree::read(path, &Ignored::of(path, dockerfile)?)?));
        }
        let file = std::fs::File::open(path).map_err(|error| unreadable(source, &error))?;
        Ok(Self::File(file, metadata.len()))
    }

    /// Tells what is sent.
    pub(super) fn tell(&self, ui: &mut Ui) {
        match self {
            Self::Directory(tree) => {
                for path in &tree.odd {
                    let path = path.display();
                    ui.warning(&format!(
                        "`{path}` is left out: it is no file, no folder and no link"
                    ));
                }
                let (files, bytes) = (tree.files(), amount(tree.bytes()));
                let what = if files == 1 { "file" } else { "files" };
                ui.status(&format!("sending {files} {what}, {bytes}"));
            }
            Self::File(_, size) => ui.status(&format!("sending an archive, {}", amount(*size))),
            Self::Stdin => ui.status("sending an archive from standard input"),
        }
    }

    fn total(&self) -> Option<u64> {
        match self {
            Self::Directory(tree) => Some(tree.bytes()),
            Self::File(_, size) => Some(*size),
            Self::Stdin => None,
        }
    }

    /// Sends it, with a line at the bottom that tells how far it is, and gives the operation that does the rest.
    pub(super) async fn send(
        self,
        ui: &mut Ui,
        client: &Client,
        path: &str,
        args: &BTreeMap<String, String>,
        change: &Change,
    ) -> Result<Accepted, Failure> {
        let (total, done) = (self.total(), Arc::new(AtomicU64::new(0)));
        let broken = Arc::new(Mutex::new(None));
        let parts = noting(self.parts(&done), Arc::clone(&broken));
        let request = client.change_stream(Method::POST, path, parts, args, change);
        tokio::pin!(request);
        let mut ticks = tokio::time::interval(TICK);
        let answer = loop {
            tokio::select! {
                answer = &mut request => break answer,
                _ = ticks.tick() => ui.bottom(&progress(done.load(Ordering::Relaxed), total)),
            }
        };
        ui.hide_bottom();
        let broken = broken.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (answer, broken) {
            (Ok(accepted), _) => Ok(accepted),
            // The connection broke because there was nothing more to send.
            (Err(_), Some(error)) => {
                Err(Failure::new(Exit::Failed, "cannot read all of the source").because(&error))
            }
            (Err(error), None) => Err(error.into()),
        }
    }

    fn parts(self, done: &Arc<AtomicU64>) -> Parts {
        match self {
            Self::Directory(tree) => written(tree, Arc::clone(done)),
            Self::File(file, _) => counted(tokio::fs::File::from_std(file), Arc::clone(done)),
            Self::Stdin => counted(tokio::io::stdin(), Arc::clone(done)),
        }
    }
}

fn unreadable(source: &str, error: &io::Error) -> Failure {
    let failure = if error.kind() == io::ErrorKind::NotFound {
        Failure::new(Exit::NotFound, format!("no directory and no archive `{source}`"))
    } else {
        Failure::new(Exit::Failed, format!("cannot read `{source}`"))
    };
    failure.because(error).hint(format!("an image is deployed with `--image {source}`"))
}

/// The archive of a directory, written by a thread of its own.
fn written(tree: Tree, done: Arc<AtomicU64>) -> Parts {
    let (sender, parts) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(PIECE, Pipe(sender.clone()));
        if let Err(error) = tree.write(&mut out, &done).and_then(|()| out.flush()) {
            // Nobody takes anything any more: then nobody is to be told.
            let _ = sender.blocking_send(Err(error));
        }
        // What is still in it was sent, or must not be.
        let _ = out.into_parts();
    });
    stream::unfold(parts, |mut parts| async move { Some((parts.recv().await?, parts)) }).boxed()
}

struct Pipe(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn counted(reader: impl AsyncRead + Send + 'static, done: Arc<AtomicU64>) -> Parts {
    let parts = ReaderStream::with_capacity(reader, PIECE);
    let count = move |part: &io::Result<Bytes>| {
        let length = part.as_ref().map_or(0, Bytes::len);
        done.fetch_add(u64::try_from(length).unwrap_or_default(), Ordering::Relaxed);
    };
    parts.inspect(count).boxed()
}

/// The same parts; the error that ends them, if one does, is left in `broken`.
fn noting(parts: Parts, broken: Arc<Mutex<Option<io::Error>>>) -> Parts {
    let note = move |part: io::Result<Bytes>| {
        part.map_err(|error| {
            let told = io::Error::new(error.kind(), error.to_string());
            *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            told
        })
    };
    parts.map(note).boxed()
}

fn progress(done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) if total > 0 => {
            let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100).min(100);
            format!("sending {} of {} ({percent} %)", amount(done), amount(total))
        }
        _ => format!("sending {}", amount(done)),
    }
}

/// A size for people.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn amount(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, power)| bytes >= 1 << power) {
        Some((unit, power)) => format!("{:.1} {unit}", bytes as f64 / f64::from(1_u32 << power)),
        None if bytes == 1 => "1 byte".to_owned(),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        let sizes = [0, 1, 1023, 1024, 1536, 5 << 20, 3 << 30].map(amount);
        let shown = ["0 bytes", "1 byte", "1023 bytes", "1.0 KiB", "1.5 KiB", "5.0 MiB", "3.0 GiB"];
        assert_eq!(sizes, shown);
        assert_eq!(progress(512, Some(2048)), "sending 512 bytes of 2.0 KiB (25 %)");
        assert_eq!(progress(512, None), "sending 512 bytes");
    }

    #[test]
    fn what_is_not_there_may_be_an_image() {
        let failure = Upload::of("/nowhere/web:2", None).err().unwrap();
        assert_eq!(failure.what, "no directory and no archive `/nowhere/web:2`");
        assert_eq!(failure.exit, Exit::NotFound);
        assert!(failure.hint.unwrap().contains("--image /nowhere/web:2"));
    }

    #[tokio::test]
    async fn an_error_in_the_middle_is_an_error_and_no_short_archive() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), vec![7; 1 << 20]).unwrap();
        let Ok(upload) = Upload::of(&folder.path().to_string_lossy(), None) else {
            panic!("a tree")
        };
        std::fs::write(folder.path().join("a"), "short").unwrap();
        let broken = Arc::new(Mutex::new(None));
        let parts = noting(upload.parts(&Arc::default()), Arc::clone(&broken));
        let parts: Vec<io::Result<Bytes>> = parts.collect().await;
        assert!(parts.last().unwrap().is_err());
        assert!(broken.lock().unwrap().take().unwrap().to_string().contains("became shorter"));
    }
}

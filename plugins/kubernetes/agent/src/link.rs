//! What the two containers of a build say to each other over a socket in the folder that both see.
//!
//! One way goes the archive, as it is, and then its end. The other way go messages, each a byte that says what it is, four with its length, and its text. Whoever speaks from the
//! container of the app may be the app's own code: he is believed about his own layer, and about nothing else.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Error, Result, build};

/// No message is longer.
const LONGEST: usize = 1 << 20;

/// Of the reason of a failure so many bytes are told; what matters is in its beginning.
const LONGEST_REASON: usize = 16 << 10;

/// What is said about a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Something for whoever watches.
    Output(Vec<u8>),
    /// Some of the archive of the layer.
    Layer(Vec<u8>),
    /// All went well.
    Done(Files),
    /// Why it did not.
    Failed(String),
}

/// The files that an image has for the platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Files {
    /// Its Procfile; empty when it has none.
    pub(crate) procfile: String,
    /// Its tsuru.yaml; empty when it has none.
    pub(crate) yaml: String,
}

const OUTPUT: u8 = b'O';
const LAYER: u8 = b'L';
const DONE: u8 = b'D';
const FAILED: u8 = b'F';

impl Message {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Output(bytes) => frame(out, OUTPUT, bytes),
            Self::Layer(bytes) => frame(out, LAYER, bytes),
            Self::Done(files) => frame(out, DONE, &serde_json::to_vec(files)?),
            Self::Failed(why) => {
                let end = why.floor_char_boundary(LONGEST_REASON);
                frame(out, FAILED, why.get(..end).unwrap_or_default().as_bytes())
            }
        }
    }

    /// Reads the next; none when the other one has gone.
    ///
    /// # Errors
    ///
    /// What was said is none.
    pub(crate) fn read(from: &mut impl Read) -> Result<Option<Self>> {
        let reading = || "cannot hear what the build says".to_owned();
        let mut head = [0; 5];
        match from.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read.doing(reading)?,
        }
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let odd = || build("the build says what makes no sense");
        if length > LONGEST {
            return Err(odd());
        }
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes).doing(reading)?;
        match kind {
            OUTPUT => Ok(Some(Self::Output(bytes))),
            LAYER => Ok(Some(Self::Layer(bytes))),
            DONE => serde_json::from_slice(&bytes)
                .map(|files| Some(Self::Done(files)))
                .map_err(|_| odd()),
            FAILED => Ok(Some(Self::Failed(String::from_utf8_lossy(&bytes).into_owned()))),
            _ => Err(odd()),
        }
    }
}

fn frame(out: &mut impl Write, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "a message is too long");
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= LONGEST);
    // Known before the first byte is out: what follows half a message makes no sense.
    let length = length.ok_or_else(too_long)?;
    out.write_all(&[kind])?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(bytes)
}

/// The end that speaks. Several may speak through it at once.
#[derive(Clone)]
pub(crate) struct Speaker(Arc<Mutex<UnixStream>>);

impl Speaker {
    /// Speaks over a connection.
    ///
    /// # Errors
    ///
    /// It is broken.
    pub(crate) fn new(stream: &UnixStream) -> Result<Self> {
        let stream = stream.try_clone().doing(|| "cannot speak of the build".to_owned())?;
        Ok(Self(Arc::new(Mutex::new(stream))))
    }

    /// Says something.
    ///
    /// # Errors
    ///
    /// Nobody listens.
    pub(crate) fn say(&self, message: &Message) -> io::Result<()> {
        message.write(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is written here is said in messages of one kind.
pub(crate) struct Said<'a> {
    /// Who says it.
    pub(crate) by: &'a Speaker,
    /// In which messages.
    pub(crate) as_what: fn(Vec<u8>) -> Message,
}

impl Write for Said<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..LONGEST).unwrap_or(bytes);
        self.by.say(&(self.as_what)(piece.to_vec()))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits at a socket for the other one. There is one, and no other after him.
///
/// # Errors
///
/// The socket cannot be made.
pub(crate) fn listen(socket: &Path) -> Result<UnixStream> {
    use std::os::unix::fs::PermissionsExt as _;
    let waiting = || format!("cannot wait at `{}`", socket.display());
    let listener = UnixListener::bind(socket).doing(waiting)?;
    // The other one may be any user.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)).doing(waiting)?;
    let (stream, _) = listener.accept().doing(waiting)?;
    Ok(stream)
}

/// Goes to the other one, and waits for him this long.
///
/// # Errors
///
/// He does not come.
pub(crate) fn connect(socket: &Path, patience: Duration) -> Result<UnixStream> {
    /// The two containers start at the same time.
    const PAUSE: Duration = Duration::from_millis(50);
    let began = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(source) if began.elapsed() >= patience => {
                return Err(Error::Io {
                    what: format!("nobody waits at `{}`", socket.display()),
                    source,
                });
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let files = Files { procfile: "web: run".to_owned(), yaml: String::new() };
        let all = [
            Message::Output(b"line\n".to_vec()),
            Message::Layer(vec![0; LONGEST]),
            Message::Done(files),
            Message::Failed("no".to_owned()),
        ];
        let mut bytes = Vec::new();
        all.iter().for_each(|message| message.write(&mut bytes).unwrap());
        let mut rest = bytes.as_slice();
        for message in all {
            assert_eq!(Message::read(&mut rest).unwrap(), Some(message));
        }
        assert_eq!(Message::read(&mut rest).unwrap(), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_takes_no_memory() {
        let too_long = [&[OUTPUT][..], &u32::MAX.to_be_bytes()].concat();
        for bytes in [b"X\0\0\0\0".as_slice(), b"D\0\0\0\x01[", &too_long] {
            let error = Message::read(&mut &*bytes).unwrap_err().to_string();
            assert_eq!(error, "the build says what makes no sense");
        }
        assert!(Message::read(&mut b"O\0\0\0\x05abc".as_slice()).is_err(), "it was cut");
    }

    #[test]
    fn a_message_that_is_too_long_is_not_begun() {
        let mut said = Vec::new();
        assert!(Message::Layer(vec![0; LONGEST + 1]).write(&mut said).is_err());
        assert_eq!(said, b"");
    }

    #[test]
    fn of_a_reason_without_an_end_the_beginning_is_told() {
        // A letter of two bytes is where it is cut.
        let why = format!("a{}", "ä".repeat(LONGEST));
        let mut said = Vec::new();
        Message::Failed(why.clone()).write(&mut said).unwrap();
        let heard = Message::read(&mut said.as_slice()).unwrap();
        assert_eq!(heard, Some(Message::Failed(why[..LONGEST_REASON - 1].to_owned())));
    }

    #[test]
    fn what_is_written_is_said_in_pieces() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let writing = std::thread::spawn(move || {
            let speaker = Speaker::new(&ours).unwrap();
            let bytes = vec![7; LONGEST + 1];
            Said { by: &speaker, as_what: Message::Layer }.write_all(&bytes).unwrap();
        });
        let mut lengths = Vec::new();
        while let Some(Message::Layer(bytes)) = Message::read(&mut theirs).unwrap() {
            lengths.push(bytes.len());
        }
        writing.join().unwrap();
        assert_eq!(lengths, [LONGEST, 1]);
    }
}

//! Sessions over websockets: commands, attached processes, ports.
//!
//! A message begins with the number of its channel. Of a process these are its input, its output, its complaints, how it ended, and the sizes of its terminal
//! (`v5.channel.k8s.io`); of a port the bytes, and why there are none.
//!
//! Of each session one task moves the messages. It ends with the session, and what nobody reads makes it wait, and so the peer.

use std::fmt::Display;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _, stream};
use kube::client::Connection;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::AbortOnDropHandle;

use super::errors::{About, Status};
use crate::EngineError;
use crate::cluster::Result;
use crate::stream::{Chunk, Session, Size, Source, Writer};

const INPUT: u8 = 0;
const OUTPUT: u8 = 1;
const COMPLAINTS: u8 = 2;
const END: u8 = 3;
const SIZES: u8 = 4;
/// Says that the channel in the next byte is over; from `v5` on.
const CLOSE: u8 = 255;

/// How many messages may wait for a reader.
const WAITING: usize = 16;
/// How many bytes may wait to be sent.
const UNSENT: usize = 64 << 10;
/// How often a silent connection is used, so that nothing between takes it for dead.
const PING: Duration = Duration::from_secs(30);
/// How long a peer may take to close after it has told how it ended.
const CLOSING: Duration = Duration::from_secs(1);

/// What a session is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// A command: it has an exit code.
    Command,
    /// A process that was there before.
    Process,
    /// A port.
    Port,
}

/// What a session has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) of: Of,
    pub(super) stdin: bool,
    pub(super) tty: bool,
}

/// A session over a connection that was just opened.
pub(super) fn session(connection: Connection, about: About, wanted: Wanted) -> Session {
    let tells_end = connection.supports_stream_close();
    over(connection.into_stream(), tells_end, about, wanted)
}

fn over<S, E>(socket: S, tells_end: bool, about: About, wanted: Wanted) -> Session
where
    S: Stream<Item = std::result::Result<Message, E>>
        + Sink<Message, Error = E>
        + Send
        + Unpin
        + 'static,
    E: Display + Send + 'static,
{
    let (sink, messages) = socket.split();
    let (chunks, received) = mpsc::channel(WAITING);
    let (told, exit) = oneshot::channel();
    let (input, unsent) = if wanted.stdin {
        let (ours, theirs) = tokio::io::duplex(UNSENT);
        (Some(Box::pin(ours) as Writer), Some(theirs))
    } else {
        (None, None)
    };
    let (sizes, resized) = if wanted.tty {
        let (sizes, resized) = mpsc::channel(1);
        (Some(sizes), Some(resized))
    } else {
        (None, None)
    };
    let lost = about.clone();
    let task = tokio::spawn(async move {
        let writing = write(sink, unsent, resized, tells_end, wanted.of);
        let reading = read(messages, &chunks, &about, wanted.of);
        let end = tokio::select! {
            end = reading => end,
            () = writing => Err(about.cut_off()),
        };
        // A command tells it at its exit, and everything else in its stream.
        match (&end, wanted.of) {
            (Err(error), Of::Process | Of::Port) => {
                let _ = chunks.send(Err(error.clone())).await;
            }
            (Err(error @ EngineError::Unreachable(_)), Of::Command) => {
                let _ = chunks.send(Err(error.clone())).await;
            }
            (Ok(_) | Err(_), _) => {}
        }
        let _ = told.send(end);
    });
    let guard = AbortOnDropHandle::new(task);
    let chunks = stream::unfold((received, guard), |(mut received, guard)| async move {
        received.recv().await.map(|chunk| (chunk, (received, guard)))
    });
    let mut session = Session::of(chunks.boxed()).with_input(input);
    session.sizes = sizes;
    if wanted.of == Of::Command {
        session.exit = Some(Box::pin(async move {
            let closed = || lost.unreachable("the session was closed before the command ended");
            exit.await.unwrap_or_else(|_| Err(closed())).and_then(|code| {
                code.ok_or_else(|| lost.failed("the cluster does not say how the command ended"))
            })
        }));
    }
    session
}

/// Reads messages to their end: the exit code, if one was told.
async fn read<E: Display>(
    mut messages: impl Stream<Item = std::result::Result<Message, E>> + Unpin,
    chunks: &mpsc::Sender<Result<Chunk>>,
    about: &About,
    of: Of,
) -> Result<Option<i32>> {
    let mut end = None;
    // The first message of each channel of a port only names the port.
    let mut unnamed = [of == Of::Port; 2];
    loop {
        let next = messages.next();
        let message = match &end {
            None => next.await,
            Some(_) => timeout(CLOSING, next).await.unwrap_or_default(),
        };
        let mut bytes = match message {
            Some(Ok(message)) if message.is_binary() || message.is_text() => message.into_data(),
            Some(Ok(message)) if message.is_close() => break,
            // Pings are answered below.
            Some(Ok(_)) => continue,
            Some(Err(_)) | None => break,
        };
        if bytes.is_empty() {
            continue;
        }
        let channel = bytes.split_to(1).first().copied().unwrap_or_default();
        if let Some(first @ true) = unnamed.get_mut(usize::from(channel)) {
            *first = false;
            continue;
        }
        if bytes.is_empty() {
            continue;
        }
        let source = match (of, channel) {
            (Of::Port, 0) | (Of::Command | Of::Process, OUTPUT) => Source::Stdout,
            (Of::Command | Of::Process, COMPLAINTS) => Source::Stderr,
            (Of::Port, 1) => {
                let why = String::from_utf8_lossy(&bytes);
                return Err(about.unreachable(why.trim()));
            }
            (Of::Command | Of::Process, END) => {
                end = Some(ended(&bytes, about));
                continue;
            }
            _ => continue,
        };
        if chunks.send(Ok(Chunk { source, bytes })).await.is_err() {
            // Nobody reads it: the session is closing.
            break;
        }
    }
    match (end, of) {
        (Some(end), _) => end,
        // A port is over when its peer closes it.
        (None, Of::Port) => Ok(None),
        (None, Of::Command | Of::Process) => Err(about.cut_off()),
    }
}

/// How a command ended: its code, nothing when it is a process that was there before and ended well, or why nobody knows.
fn ended(bytes: &[u8], about: &About) -> Result<Option<i32>> {
    let status = Status::read(bytes);
    if status.status == "Success" {
        return Ok(Some(0));
    }
    if status.reason == "NonZeroExitCode" {
        let code = status.details.causes.iter().find(|cause| cause.reason == "ExitCode");
        return code.and_then(|code| code.message.parse().ok()).map(Some).ok_or_else(|| {
            about.failed("the command ended with a code that the cluster does not tell")
        });
    }
    let no_such_command = ["executable file not found", "no such file or directory"];
    if no_such_command.iter().any(|text| status.message.contains(text)) {
        return Err(EngineError::NotFound(about.failed(&status.message).to_string()));
    }
    Err(about.status(&status, status.code, None))
}

/// Sends what there is to send, as long as the session lasts. Ends only when the connection does.
async fn write<E>(
    mut sink: impl Sink<Message, Error = E> + Unpin,
    mut input: Option<DuplexStream>,
    mut sizes: Option<mpsc::Receiver<Size>>,
    tells_end: bool,
    of: Of,
) {
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    loop {
        let message = tokio::select! {
            bytes = some(&mut input, |input| Box::pin(next_of(input))) => match bytes {
                Some(bytes) => Message::Binary(bytes),
                None => {
                    input = None;
                    match of {
                        // Its peer is not told that there is no more; the session is over when the peer closes it.
                        Of::Port => continue,
                        Of::Command | Of::Process if tells_end => {
                            Message::Binary(Bytes::from_static(&[CLOSE, INPUT]))
                        }
                        // Before `v5` an input ends with its connection only.
                        Of::Command | Of::Process => Message::Close(None),
                    }
                }
            },
            size = some(&mut sizes, |sizes| Box::pin(sizes.recv())) => match size {
                Some(size) => resize(size),
                None => {
                    sizes = None;
                    continue;
                }
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            // Whoever reads is told.
            return std::future::pending().await;
        }
    }
}

/// Waits for what a source gives, for ever when there is none.
async fn some<'a, S, T>(
    source: &'a mut Option<S>,
    next: impl FnOnce(&'a mut S) -> futures_util::future::BoxFuture<'a, Option<T>>,
) -> Option<T> {
    match source {
        Some(source) => next(source).await,
        None => std::future::pending().await,
    }
}

/// The next bytes of an input, behind the number of their channel.
async fn next_of(input: &mut DuplexStream) -> Option<Bytes> {
    let mut bytes = BytesMut::with_capacity(8 << 10);
    bytes.put_u8(INPUT);
    match input.read_buf(&mut bytes).await {
        Ok(1..) => Some(bytes.freeze()),
        Ok(0) | Err(_) => None,
    }
}

fn resize(size: Size) -> Message {
    let size = json!({"Width": size.width, "Height": size.height}).to_string();
    let mut bytes = BytesMut::with_capacity(size.len() + 1);
    bytes.put_u8(SIZES);
    bytes.put_slice(size.as_bytes());
    Message::Binary(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// A peer's end of a socket.
    struct Socket {
        incoming: mpsc::Receiver<std::result::Result<Message, String>>,
        outgoing: mpsc::UnboundedSender<Message>,
    }

    struct Peer {
        say: mpsc::Sender<std::result::Result<Message, String>>,
        heard: mpsc::UnboundedReceiver<Message>,
    }

    impl Stream for Socket {
        type Item = std::result::Result<Message, String>;
        fn poll_next(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Self::Item>> {
            self.incoming.poll_recv(context)
        }
    }

    impl Sink<Message> for Socket {
        type Error = String;
        fn poll_ready(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), String>> {
            Poll::Ready(Ok(()))
        }
        fn start_send(self: Pin<&mut Self>, message: Message) -> std::result::Result<(), String> {
            self.outgoing.send(message).map_err(|_| "gone".to_owned())
        }
        fn poll_flush(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), String>> {
            Poll::Ready(Ok(()))
        }
        fn poll_close(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), String>> {
            Poll::Ready(Ok(()))
        }
    }

    fn open(of: Of, stdin: bool, tty: bool, tells_end: bool) -> (Session, Peer) {
        let (say, incoming) = mpsc::channel(1);
        let (outgoing, heard) = mpsc::unbounded_channel();
        let about = About::new(&Arc::from("https://h:1"), "run a command in", "Pod", "shop/web");
        let session =
            over(Socket { incoming, outgoing }, tells_end, about, Wanted { of, stdin, tty });
        (session, Peer { say, heard })
    }

    fn frame(channel: u8, bytes: impl AsRef<[u8]>) -> Message {
        Message::binary([&[channel], bytes.as_ref()].concat())
    }

    async fn say(peer: &Peer, all: impl IntoIterator<Item = Message>) {
        for message in all {
            peer.say.send(Ok(message)).await.unwrap();
        }
    }

    /// What a session says to its end, and how it ended.
    async fn heard(mut session: Session) -> (String, Option<Result<i32>>) {
        let mut text = String::new();
        while let Some(chunk) = session.chunks.next().await {
            match chunk {
                Ok(Chunk { source: Source::Stdout, bytes }) => {
                    text.push_str(&String::from_utf8_lossy(&bytes))
                }
                Ok(Chunk { source: Source::Stderr, bytes }) => {
                    text.push_str(&format!("[{}]", String::from_utf8_lossy(&bytes)))
                }
                Err(error) => text.push_str(&format!("!{}", error.kind())),
            }
        }
        let exit = match session.exit {
            Some(exit) => Some(exit.await),
            None => None,
        };
        (text, exit)
    }

    const SUCCESS: &str = r#"{"metadata":{},"status":"Success"}"#;

    fn failure(reason: &str, message: &str, code: Option<&str>) -> String {
        let causes: Vec<_> =
            code.iter().map(|code| json!({"reason": "ExitCode", "message": code})).collect();
        json!({"status": "Failure", "reason": reason, "message": message, "details": {"causes": causes}, "code": 500}).to_string()
    }

    #[tokio::test]
    async fn a_command_ends_with_what_its_status_says() {
        for (status, expected) in [
            (SUCCESS.to_owned(), Ok(0)),
            (failure("NonZeroExitCode", "no", Some("7")), Ok(7)),
            (failure("NonZeroExitCode", "no", Some("x")), Err("failed")),
            (failure("NonZeroExitCode", "no", None), Err("failed")),
            (
                failure("InternalError", "executable file not found in $PATH", None),
                Err("not-found"),
            ),
            (failure("InternalError", "odd", None), Err("failed")),
            ("junk".to_owned(), Err("failed")),
        ] {
            let (session, peer) = open(Of::Command, false, false, true);
            let talk = async {
                say(&peer, [frame(1, "out"), frame(2, "err"), frame(3, &status), frame(1, "late")])
                    .await;
                drop(peer);
            };
            let ((text, exit), ()) = tokio::join!(heard(session), talk);
            assert_eq!(text, "out[err]late", "{status}");
            assert_eq!(exit.unwrap().map_err(|error| error.kind()), expected, "{status}");
        }
    }

    #[tokio::test]
    async fn nobody_knows_how_a_command_ended_that_was_cut_off() {
        for end in [None, Some(Err("reset".to_owned())), Some(Ok(Message::Close(None)))] {
            let (session, peer) = open(Of::Command, false, false, true);
            let talk = async {
                say(&peer, [frame(1, "out")]).await;
                if let Some(end) = end {
                    peer.say.send(end).await.unwrap();
                }
                drop(peer);
            };
            let ((text, exit), ()) = tokio::join!(heard(session), talk);
            assert_eq!(text, "out!unreachable");
            assert_eq!(exit.unwrap().unwrap_err().kind(), "unreachable");
        }
    }

    #[tokio::test]
    async fn a_process_ends_without_a_code() {
        for (end, expected) in
            [(SUCCESS.to_owned(), ""), (failure("InternalError", "odd", None), "!failed")]
        {
            let (session, peer) = open(Of::Process, false, false, true);
            let talk = async {
                say(&peer, [frame(3, &end)]).await;
                drop(peer);
            };
            let ((text, exit), ()) = tokio::join!(heard(session), talk);
            assert_eq!((text.as_str(), exit.is_none()), (expected, true));
        }
    }

    #[tokio::test]
    async fn input_goes_to_its_channel_and_its_end_is_told() {
        for (tells_end, of, last) in [
            (true, Of::Command, Some(frame(CLOSE, [INPUT]))),
            (false, Of::Command, Some(Message::Close(None))),
            (true, Of::Port, None),
        ] {
            let (mut session, mut peer) = open(of, true, false, tells_end);
            let mut input = session.input.take().unwrap();
            input.write_all(b"hello").await.unwrap();
            assert_eq!(peer.heard.recv().await.unwrap(), frame(0, "hello"));
            input.shutdown().await.unwrap();
            match last {
                Some(last) => assert_eq!(peer.heard.recv().await.unwrap(), last),
                None => {
                    tokio::task::yield_now().await;
                    assert!(peer.heard.try_recv().is_err());
                }
            }
        }
    }

    #[tokio::test]
    async fn a_terminal_is_told_its_sizes() {
        let (session, mut peer) = open(Of::Command, false, true, true);
        let sizes = session.sizes.as_ref().unwrap();
        sizes.send(Size { width: 80, height: 24 }).await.unwrap();
        let expected = json!({"Width": 80, "Height": 24});
        let told = peer.heard.recv().await.unwrap().into_data();
        assert_eq!(told[0], SIZES);
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&told[1..]).unwrap(), expected);
        assert!(open(Of::Command, false, false, true).0.sizes.is_none());
    }

    #[tokio::test]
    async fn a_port_has_bytes_or_a_reason() {
        let named = [frame(0, [0x50, 0]), frame(1, [0x50, 0])];
        for (last, expected) in
            [(frame(0, "world"), "hello world"), (frame(1, "refused\n"), "hello !unreachable")]
        {
            let (session, peer) = open(Of::Port, true, false, false);
            let talk = async {
                say(&peer, named.clone()).await;
                say(&peer, [frame(0, "hello "), last]).await;
                drop(peer);
            };
            let ((text, exit), ()) = tokio::join!(heard(session), talk);
            assert_eq!((text.as_str(), exit.is_none()), (expected, true));
        }
    }

    #[tokio::test]
    async fn what_nobody_reads_makes_the_peer_wait() {
        let (session, peer) = open(Of::Command, false, false, true);
        let mut sent = 0;
        while let Ok(Ok(())) =
            timeout(Duration::from_millis(200), peer.say.send(Ok(frame(1, "x")))).await
        {
            sent += 1;
            assert!(sent < 100, "nothing holds it back");
        }
        assert!(sent >= WAITING);
        // A session that is dropped is closed.
        drop(session);
        peer.say.closed().await;
    }

    #[tokio::test]
    async fn who_closes_a_session_is_not_told_an_exit_code() {
        let (mut session, peer) = open(Of::Command, false, false, true);
        let exit = session.exit.take().unwrap();
        drop(session);
        assert_eq!(exit.await.unwrap_err().kind(), "unreachable");
        drop(peer);
    }
}

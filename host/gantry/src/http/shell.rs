//! `/v1/apps/{app}/shell`: a websocket between a terminal and a shell ([`crate::api::shell`]).
//!
//! Both directions go on by themselves: a shell that does not read holds back what is typed, and not what it says. The first of the two that ends is the end of both.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade, rejection};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use gantry_core::ShellOptions;
use gantry_engine::EngineError;
use gantry_engine::stream::{Session, Size, Source, Writer};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::request::{Asked, Path};
use super::{Answer, Refused};
use crate::api::shell::{Control, STDERR, STDIN, STDOUT, TerminalSize, frame};
use crate::api::{Problem, ProblemKind};
use crate::operation::Caller;
use crate::service::{OpenShell, OrProblem, Service};

/// How often a silent connection is tried, so that one that is gone is noticed.
const ALIVE: Duration = Duration::from_secs(10);

/// How long the other end has to read how it ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How much is typed at once at most.
const LARGEST: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Terminal {
    unit: String,
    term: String,
    width: u16,
    height: u16,
}

impl Default for Terminal {
    fn default() -> Self {
        Self { unit: String::new(), term: "xterm".to_owned(), width: 80, height: 24 }
    }
}

pub(super) async fn open(
    State(service): State<Arc<Service>>,
    Path(app): Path<String>,
    Asked(Terminal { unit, term, width, height }): Asked<Terminal>,
    caller: Caller,
    upgrade: Result<WebSocketUpgrade, rejection::WebSocketUpgradeRejection>,
) -> Answer<Response> {
    let upgrade = upgrade.map_err(|rejection| {
        let problem = Problem::new(ProblemKind::Invalid, "a shell is a websocket");
        Refused::from(
            problem.because(rejection.body_text()).hint(format!("`gantry app shell {app}`")),
        )
    })?;
    // Before the upgrade: why there is no shell is an answer like any other.
    let shell = service.shell(caller, &app, ShellOptions { unit, term, width, height }).await?;
    Ok(upgrade.max_message_size(LARGEST).on_upgrade(|socket| speak(socket, app, shell)))
}

/// How a conversation ends.
enum End {
    /// The shell ended, or broke.
    Ended(Result<i32, Problem>),
    /// Nobody is at the other end any more.
    Lost,
}

async fn speak(socket: WebSocket, app: String, shell: OpenShell) {
    let OpenShell { session: Session { chunks, input, sizes, exit }, end, cancelled } = shell;
    let (mut sink, mut stream) = socket.split();
    let title = || format!("the shell in `{app}` broke");
    let said = async {
        let mut chunks = chunks;
        let mut alive = tokio::time::interval(ALIVE);
        loop {
            let message = tokio::select! {
                chunk = chunks.next() => match chunk {
                    Some(Ok(chunk)) => {
                        let channel = match chunk.source {
                            Source::Stdout => STDOUT,
                            Source::Stderr => STDERR,
                        };
                        Message::Binary(Bytes::from(frame(channel, &chunk.bytes)))
                    }
                    Some(Err(error)) => return End::Ended(Err(error).or_problem(title)),
                    None => break,
                },
                _ = alive.tick() => Message::Ping(Bytes::new()),
            };
            if sink.send(message).await.is_err() {
                return End::Lost;
            }
        }
        let code = match exit {
            Some(exit) => exit.await,
            None => Err(EngineError::Failed("nobody knows how it ended".to_owned())),
        };
        End::Ended(code.or_problem(title))
    };
    let ended = tokio::select! {
        ended = said => ended,
        () = typed(&mut stream, input, sizes) => End::Lost,
        () = cancelled.cancelled() => {
            let problem = Problem::new(ProblemKind::Cancelled, format!("the shell in `{app}` was closed"));
            End::Ended(Err(problem.because("its operation was cancelled")))
        }
    };
    // Dropping the end without a word cancels the operation.
    let End::Ended(ended) = ended else { return };
    let last = match &ended {
        Ok(code) => Control::Exit(*code),
        Err(problem) => Control::Problem(Box::new(problem.clone())),
    };
    end.tell(ended);
    // A connection that is closed under what the other end has still to read takes that with it.
    let farewell = farewell(&mut sink, &mut stream, &last);
    let _ = tokio::time::timeout(LAST_WORDS, farewell).await;
}

/// Says how it ended, and waits until the other end has read it. Whoever is gone does not hear it.
async fn farewell(
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
    last: &Control,
) {
    let text = Message::Text(last.text().into());
    if sink.send(text).await.is_ok() && sink.send(Message::Close(None)).await.is_ok() {
        while let Some(Ok(_)) = stream.next().await {}
    }
}

/// Passes on what is typed, until nobody types any more.
async fn typed(
    stream: &mut SplitStream<WebSocket>,
    mut input: Option<Writer>,
    sizes: Option<mpsc::Sender<Size>>,
) {
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Binary(bytes) => {
                if let (Some((&STDIN, bytes)), Some(to)) = (bytes.split_first(), &mut input) {
                    let written = async {
                        to.write_all(bytes).await?;
                        to.flush().await
                    };
                    // The shell has closed its end; that it ended is told by itself.
                    if written.await.is_err() {
                        input = None;
                    }
                }
            }
            Message::Text(text) => {
                if let Ok(Control::Resize(TerminalSize { width, height })) =
                    serde_json::from_str(text.as_str())
                    && let Some(sizes) = &sizes
                {
                    // A terminal that is not there any more needs no size.
                    let _ = sizes.send(Size { width, height }).await;
                }
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(_) => return,
        }
    }
}

//! The other end of a shell: a websocket over the unix socket or TCP.
//!
//! The handshake is an HTTP request like any other, so that a refusal is a problem document like any other.

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::StatusCode;
use hyper::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use super::{Client, ClientError, Host, Result};
use crate::api::shell::{Control, STDERR, STDIN, STDOUT, TerminalSize, frame};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What a shell tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It says something.
    Stdout(Vec<u8>),
    /// It complains about something.
    Stderr(Vec<u8>),
    /// It ended, or broke; nothing comes after it.
    Control(Control),
    /// It is there and has nothing to say.
    Alive,
}

/// Where a shell is told what is typed.
pub struct Keyboard {
    host: Host,
    sink: SplitSink<Socket, Message>,
}

/// Where a shell tells.
pub struct Screen {
    host: Host,
    stream: SplitStream<Socket>,
}

impl Client {
    /// Opens a shell at a path.
    ///
    /// # Errors
    /// The daemon is out of reach, or says why not.
    pub async fn shell(&self, path: &str) -> Result<(Keyboard, Screen)> {
        match self.host() {
            Host::Unix(socket) => self.upgrade(UnixStream::connect(socket), path).await,
            Host::Http(authority) => self.upgrade(TcpStream::connect(authority), path).await,
        }
    }

    async fn upgrade<S>(
        &self,
        connect: impl Future<Output = std::io::Result<S>>,
        path: &str,
    ) -> Result<(Keyboard, Screen)>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = self.connected(connect).await?;
        tokio::spawn(connection.with_upgrades());
        let key = generate_key();
        let headers = [
            (CONNECTION, "Upgrade".to_owned()),
            (UPGRADE, "websocket".to_owned()),
            (SEC_WEBSOCKET_VERSION, "13".to_owned()),
            (SEC_WEBSOCKET_KEY, key.clone()),
        ];
        let request = self.request(hyper::Method::GET, path, None, &headers)?;
        let response =
            sender.send_request(request).await.map_err(|error| self.unreachable(error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(match response.status().is_success() {
                true => self.foreign(&"it opens no shell"),
                false => self.refusal(response).await,
            });
        }
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT);
        if accepted.is_none_or(|accepted| {
            accepted.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()
        }) {
            return Err(self.foreign(&"a handshake that is none"));
        }
        let upgraded =
            hyper::upgrade::on(response).await.map_err(|error| self.unreachable(error))?;
        let socket = Socket::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        let (sink, stream) = socket.split();
        let host = self.host().clone();
        Ok((Keyboard { host: host.clone(), sink }, Screen { host, stream }))
    }
}

impl Keyboard {
    /// Types.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn types(&mut self, bytes: &[u8]) -> Result<()> {
        self.send(Message::Binary(frame(STDIN, bytes).into())).await
    }

    /// Tells that the terminal has another size now.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn resize(&mut self, size: TerminalSize) -> Result<()> {
        self.send(Message::Text(Control::Resize(size).text().into())).await
    }

    async fn send(&mut self, message: Message) -> Result<()> {
        let sent = self.sink.send(message).await;
        sent.map_err(|error| ClientError::Unreachable {
            host: self.host.clone(),
            source: Box::new(error),
        })
    }
}

impl Screen {
    /// What the shell tells next; none when the connection ended. Without an [`Control::Exit`] or [`Control::Problem`] before it, nobody knows how the shell did.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<Told>> {
        let message = match self.stream.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                return Err(ClientError::Unreachable {
                    host: self.host.clone(),
                    source: Box::new(error),
                });
            }
            None => return Ok(None),
        };
        Ok(match message {
            Message::Binary(bytes) => Some(match bytes.split_first() {
                Some((&STDOUT, bytes)) => Told::Stdout(bytes.to_vec()),
                Some((&STDERR, bytes)) => Told::Stderr(bytes.to_vec()),
                // A channel that this version does not know.
                Some(_) | None => Told::Alive,
            }),
            Message::Text(text) => {
                let control = serde_json::from_str(text.as_str());
                // A word that this version does not know.
                Some(control.map_or(Told::Alive, Told::Control))
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Some(Told::Alive),
            Message::Close(_) => None,
        })
    }
}

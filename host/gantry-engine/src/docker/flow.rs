//! What is bytes and not a document: archives, logs, attached containers, the output of commands.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bollard::BollardRequest;
use bollard::models::ExecInspectResponse;
use bollard::query_parameters as query;
use futures_util::{StreamExt as _, TryStreamExt as _};
use hyper::body::Incoming;
use hyper::http::Method;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_util::io::{ReaderStream, StreamReader};

use super::errors::{self, About};
use super::streams::Turn;
use super::{Docker, convert, streams, wire};
use crate::containers::Result;
use crate::stream::{Output, Reader, Session, Writer};
use crate::{follow, names};

/// Bytes in both directions.
pub(super) type Both = TokioIo<hyper::upgrade::Upgraded>;

impl Docker {
    /// Sends a request whose answer is bytes and not a document.
    async fn raw(
        &self,
        about: About<'_>,
        request: hyper::http::Result<BollardRequest>,
    ) -> Result<Response<Incoming>> {
        let request = request
            .map_err(|error| about.invalid(&self.endpoint, &format!("no request: {error}")))?;
        let response = self.question(about, self.wire.send(request)).await?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let message = self.message(about, response).await?;
        Err(about.status(&self.endpoint, status.as_u16(), &message))
    }

    /// What an answer without success says.
    async fn message(&self, about: About<'_>, response: Response<Incoming>) -> Result<String> {
        #[derive(serde::Deserialize)]
        struct Told {
            message: String,
        }
        let body = http_body_util::Limited::new(response.into_body(), 64 << 10);
        let body = timeout(self.timeouts.question, http_body_util::BodyExt::collect(body))
            .await
            .map_err(|_| about.late(&self.endpoint, self.timeouts.question))?
            .map_err(|_| about.cut_off(&self.endpoint))?
            .to_bytes();
        Ok(serde_json::from_slice::<Told>(&body)
            .map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |told| told.message))
    }

    /// Turns a request into bytes in both directions.
    async fn upgraded(&self, about: About<'_>, path: &str, body: String) -> Result<Both> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "tcp")
            .body(wire::json(body));
        let response = self.raw(about, request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(about.failed(&self.endpoint, "the engine gives no connection for it"));
        }
        let upgraded =
            hyper::upgrade::on(response).await.map_err(|_| about.cut_off(&self.endpoint))?;
        Ok(TokioIo::new(upgraded))
    }

    pub(super) async fn archive_of(&self, id: &str, path: &str) -> Result<Reader> {
        names::container(id)?;
        self.api_version().await?;
        let about = About::container("download from", id);
        let options = query::DownloadFromContainerOptionsBuilder::new().path(path).build();
        let mut parts = self.bollard.download_from_container(id, Some(options));
        // The first part tells whether there is anything: an absent file is no empty archive.
        let first = timeout(self.timeouts.silence, parts.next())
            .await
            .map_err(|_| about.late(&self.endpoint, self.timeouts.silence))?
            .transpose()
            .map_err(|error| about.error(&self.endpoint, error))?;
        let rest = parts.map_err(|error| io::Error::other(errors::innermost(&error)));
        let rest = streams::impatient(rest, self.timeouts.silence);
        let all = futures_util::stream::iter(first.map(Ok)).chain(rest);
        Ok(Box::pin(StreamReader::new(Box::pin(all))))
    }

    pub(super) async fn unpack_into(&self, id: &str, path: &str, archive: Reader) -> Result<()> {
        names::container(id)?;
        self.api_version().await?;
        let about = About::container("upload to", id);
        let options = query::UploadToContainerOptionsBuilder::new().path(path).build();
        // No limit on the whole: how long it takes is the sender's business as well.
        let turn = Arc::new(Turn::default());
        let body = turn.told(ReaderStream::new(archive));
        let sent =
            self.bollard.upload_to_container(id, Some(options), bollard::body_try_stream(body));
        tokio::select! {
            biased;
            sent = sent => sent.map_err(|error| about.error(&self.endpoint, error)),
            () = turn.overdue(self.timeouts.silence) => {
                Err(about.late(&self.endpoint, self.timeouts.silence))
            }
        }
    }

    pub(super) async fn attached(&self, id: &str, logs: bool) -> Result<Session> {
        names::container(id)?;
        let about = About::container("attach to", id);
        let path = format!(
            "/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1&logs={}",
            u8::from(logs)
        );
        let stream = self.upgraded(about, &path, String::new()).await?;
        let container = self.inspected(about).await?;
        let config = container.config.unwrap_or_default();
        let (tty, stdin) = (config.tty == Some(true), config.open_stdin == Some(true));
        let (read, write) = tokio::io::split(stream);
        if convert::has_ended(container.state.as_ref()) {
            // Docker never ends the stream of a container that had ended before.
            if logs {
                return self.log(about, tty, "").await;
            }
            let mut session = streams::session(&self.endpoint, about, read, tty, None);
            let enough = tokio::time::sleep(Duration::from_secs(1));
            session.chunks = session.chunks.take_until(enough).boxed();
            return Ok(session);
        }
        let input: Option<Writer> = if stdin { Some(Box::pin(write)) } else { None };
        Ok(streams::session(&self.endpoint, about, read, tty, input))
    }

    pub(super) async fn run_exec(&self, exec_id: &str, output: Output) -> Result<()> {
        let about = About::exec("start", exec_id);
        names::exec(exec_id)?;
        let known = self.terminals().remove(exec_id);
        let tty = match known {
            Some(tty) => tty,
            None => self.unstarted(about).await?,
        };
        let stream = self.begun(about, tty).await?;
        let mut session = streams::session(&self.endpoint, about, stream, tty, None);
        follow::copy(&mut session.chunks, output).await?;
        self.exec_ended(about).await.map(drop)
    }

    /// Starts a prepared command. Docker answers before it has done so: what it says of one that cannot be started comes as the command's output.
    pub(super) async fn begun(&self, about: About<'_>, tty: bool) -> Result<Both> {
        let body = format!(r#"{{"Detach":false,"Tty":{tty}}}"#);
        self.upgraded(about, &format!("/exec/{}/start", about.name), body).await
    }

    /// The log of a container.
    pub(super) async fn log(&self, about: About<'_>, tty: bool, query: &str) -> Result<Session> {
        let path = format!("/containers/{}/logs?stdout=1&stderr=1{query}", about.name);
        let response = self.raw(about, Request::get(path).body(wire::empty())).await?;
        let body = streams::body(response.into_body());
        Ok(streams::session(&self.endpoint, about, body, tty, None))
    }

    /// Whether a command has a terminal that was prepared elsewhere, or has been started: Docker would write its refusal into the output.
    async fn unstarted(&self, about: About<'_>) -> Result<bool> {
        let told = self.question(about, self.bollard.inspect_exec(about.name)).await?;
        let state = convert::exec_state(&told);
        if state.running || state.exit_code.is_some() {
            return Err(about.conflict(&self.endpoint, "it has been started before"));
        }
        Ok(told.process_config.and_then(|process| process.tty).unwrap_or_default())
    }

    /// Waits until a command has ended whose output is over: it may have closed its ends before, and an engine that went away closes them too.
    pub(super) async fn exec_ended(&self, about: About<'_>) -> Result<ExecInspectResponse> {
        let mut pause = Duration::from_millis(2);
        loop {
            let told = self.question(about, self.bollard.inspect_exec(about.name)).await?;
            if !told.running.unwrap_or_default() {
                return Ok(told);
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(Duration::from_secs(1));
        }
    }
}

//! Commands in units.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use gantry_engine::stream::{Source, Writer};
use serde_json::json;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::{OrProblem, Service, time_of};
use crate::api::{self, Problem, ProblemKind, RunMode};
use crate::clock;
use crate::operation::{Caller, Operations, Request, Update};

/// How many pieces of output wait for a slow reader before the command waits too.
const AHEAD: usize = 16;

/// What comes before every command (spec 2.3), in words that every shell has: `.` is `source` in all of them.
const PREAMBLE: &str = "[ -f /home/application/apprc ] && . /home/application/apprc; \
                        [ -d /home/application/current ] && cd /home/application/current; ";

/// What a running command tells.
#[derive(Clone, Debug)]
pub(crate) enum RunEvent {
    /// It says something.
    Stdout(Bytes),
    /// It complains about something.
    Stderr(Bytes),
    /// The provisioner tells something to people.
    Line(api::Line),
    /// It ended with this code; nothing comes after it.
    Exit(i32),
    /// It did not run, or nobody knows how it ended; nothing comes after it.
    Problem(Box<Problem>),
}

impl Service {
    /// Runs a command in the units of an app. It is cut off when nobody reads what it writes any more.
    pub(crate) async fn run(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        run: api::Run,
    ) -> Result<impl Stream<Item = RunEvent> + Send + use<>, Problem> {
        let title = format!("could not run a command in `{app}`");
        let Some((command, args)) = shell(&run.command) else {
            return Err(Problem::new(ProblemKind::Invalid, title)
                .because("no command")
                .hint(format!("`gantry app run {app} -- COMMAND`")));
        };
        let record = self.record(app).await?;
        let provisioner = self.provisioner(&record.provisioner)?;
        let request = Request {
            verb: "app-run",
            app: Some(app.to_owned()),
            plugin: Some(record.provisioner),
            digest: Some(provisioner.generation().digest().to_owned()),
            detail: json!({"command": run.command, "mode": run.mode}),
            // It changes no unit, so it does not wait for who does.
            lock: None,
            time: time_of(&provisioner),
            caller: Caller { key: None, ..caller },
        };
        let (sender, written) = mpsc::channel(AHEAD);
        let stdout = end(Source::Stdout, sender.clone());
        let stderr = end(Source::Stderr, sender);
        let app = record.app;
        let why = title.clone();
        let begun = self.operations.begin(request, move |work| async move {
            let (operation, mode) = (&work.operation, run.mode);
            let code = match mode {
                RunMode::All => {
                    provisioner.execute(operation, &app, &command, &args, stdout, stderr).await
                }
                RunMode::Once => {
                    provisioner.execute_once(operation, &app, &command, &args, stdout, stderr).await
                }
                RunMode::Isolated => {
                    provisioner
                        .execute_isolated(operation, &app, &command, &args, stdout, stderr)
                        .await
                }
            };
            Ok(json!({"code": code.or_problem(|| why)?}))
        });
        let id = begun.await.or_problem(|| title.clone())?;
        let watched = Watched { operations: Arc::clone(&self.operations), id: id.clone() };
        let updates = self.follow_operation(&id, 0).await?;
        let written = stream::unfold(written, |mut written| async move {
            let event = written.recv().await?;
            Some((event, written))
        });
        // Both end when the command has ended; what it wrote comes before its code.
        let told = updates.map(|update| match update {
            Update::Line(line) => {
                Told::Now(RunEvent::Line(api::Line { at: clock::text(line.at), text: line.text }))
            }
            Update::End(operation) => Told::Last(last(&operation)),
        });
        let merged = stream::select(written.map(Told::Now), told);
        let state = (merged.boxed(), None, watched);
        Ok(stream::unfold(state, |(mut merged, mut end, watched)| async move {
            loop {
                match merged.next().await {
                    Some(Told::Now(event)) => return Some((event, (merged, end, watched))),
                    Some(Told::Last(event)) => end = Some(event),
                    None => return end.take().map(|event| (event, (merged, None, watched))),
                }
            }
        }))
    }
}

enum Told {
    Now(RunEvent),
    Last(RunEvent),
}

fn last(operation: &api::Operation) -> RunEvent {
    if let Some(problem) = &operation.problem {
        return RunEvent::Problem(Box::new(problem.clone()));
    }
    let code = operation.result.as_ref().and_then(|result| result.get("code")?.as_i64());
    match code.and_then(|code| i32::try_from(code).ok()) {
        Some(code) => RunEvent::Exit(code),
        None => RunEvent::Problem(Box::new(Problem::new(
            ProblemKind::Internal,
            "nobody knows how the command ended",
        ))),
    }
}

/// Cancels a command's operation when nobody reads it any more; one that has ended does not mind.
struct Watched {
    operations: Arc<Operations>,
    id: String,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.operations.cancel(&self.id);
    }
}

/// A command as the shell of a unit gets it: the line, and what are its arguments.
///
/// One word is a line for the shell. Several words are a program and its arguments: the shell gets them as its own, so that nothing in them is taken for anything else.
fn shell(words: &[String]) -> Option<(String, Vec<String>)> {
    match words {
        [] => None,
        [line] => Some((format!("{PREAMBLE}{line}"), Vec::new())),
        words => Some((format!("{PREAMBLE}exec \"$0\" \"$@\""), words.to_vec())),
    }
}

fn end(source: Source, sender: mpsc::Sender<RunEvent>) -> Writer {
    Box::pin(End { source, sender: PollSender::new(sender) })
}

/// One of the two ends a command writes to.
struct End {
    source: Source,
    sender: PollSender<RunEvent>,
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.sender.poll_reserve(context)).map_err(|_| gone())?;
        let copied = Bytes::copy_from_slice(bytes);
        let event = match self.source {
            Source::Stdout => RunEvent::Stdout(copied),
            Source::Stderr => RunEvent::Stderr(copied),
        };
        self.sender.send_item(event).map_err(|_| gone())?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender.close();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn one_word_is_a_line_and_several_are_a_program() {
        assert_eq!(shell(&[]), None);
        let (line, args) = shell(&words(&["env | sort"])).unwrap();
        assert!(line.ends_with("; env | sort"), "{line}");
        assert_eq!(args, [""; 0]);
        let (line, args) = shell(&words(&["echo", "a b", "$HOME"])).unwrap();
        assert!(line.ends_with("; exec \"$0\" \"$@\""), "{line}");
        assert_eq!(args, ["echo", "a b", "$HOME"]);
    }

    #[test]
    fn a_real_shell_gives_the_words_to_the_program_as_they_are() {
        let (line, args) = shell(&words(&["printf", "%s|", "a b", "$HOME", "'\""])).unwrap();
        let output = std::process::Command::new("/bin/sh").arg("-c").arg(line).args(args).output();
        assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), "a b|$HOME|'\"|");
    }
}

//! What goes wrong between here and a Docker engine, as our errors. Every message names the host and what the call was about.

use std::time::Duration;

use bollard::errors::Error as BollardError;

use super::endpoint::Endpoint;
use crate::EngineError;
use crate::reason::{find, lowered};
pub(super) use crate::reason::{innermost, io_reason};

/// What a call was about: `start`, `container`, `web-1`.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) verb: &'static str,
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
}

impl<'a> About<'a> {
    pub(super) fn container(verb: &'static str, name: &'a str) -> Self {
        Self { verb, kind: "container", name }
    }

    pub(super) fn image(verb: &'static str, name: &'a str) -> Self {
        Self { verb, kind: "image", name }
    }

    pub(super) fn exec(verb: &'static str, name: &'a str) -> Self {
        Self { verb, kind: "exec", name }
    }

    pub(super) fn host(verb: &'static str) -> Self {
        Self { verb, kind: "containers", name: "" }
    }

    fn told(self, endpoint: &Endpoint, why: &str) -> String {
        let Self { verb, kind, name } = self;
        if name.is_empty() {
            format!("cannot {verb} {kind} on `{endpoint}`: {why}")
        } else {
            format!("cannot {verb} the {kind} `{name}` on `{endpoint}`: {why}")
        }
    }

    /// No thing of this name.
    pub(super) fn absent(self, endpoint: &Endpoint) -> EngineError {
        EngineError::NotFound(format!("no {} `{}` on `{endpoint}`", self.kind, self.name))
    }

    /// It took too long.
    pub(super) fn late(self, endpoint: &Endpoint, limit: Duration) -> EngineError {
        let why = format!("no answer within {limit:?}; what became of it is not known");
        EngineError::TimedOut(self.told(endpoint, &why))
    }

    pub(super) fn invalid(self, endpoint: &Endpoint, why: &str) -> EngineError {
        EngineError::Invalid(self.told(endpoint, why))
    }

    pub(super) fn conflict(self, endpoint: &Endpoint, why: &str) -> EngineError {
        EngineError::Conflict(self.told(endpoint, why))
    }

    pub(super) fn failed(self, endpoint: &Endpoint, why: &str) -> EngineError {
        EngineError::Failed(self.told(endpoint, why))
    }

    /// The engine went away before its answer was over.
    pub(super) fn cut_off(self, endpoint: &Endpoint) -> EngineError {
        let why = "the engine went away in the middle of its answer";
        EngineError::Unreachable(self.told(endpoint, why))
    }

    /// What bollard tells.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "which errors bollard has depends on its features; the rest is told as it is"
    )]
    pub(super) fn error(self, endpoint: &Endpoint, error: BollardError) -> EngineError {
        match error {
            BollardError::DockerResponseServerError { status_code, message } => {
                self.status(endpoint, status_code, &message)
            }
            BollardError::DockerStreamError { error } => self.stream(endpoint, &error),
            BollardError::RequestTimeoutError => {
                EngineError::TimedOut(self.told(endpoint, "no answer in time"))
            }
            BollardError::JsonDataError { .. } | BollardError::JsonSerdeError { .. } => {
                self.failed(endpoint, "its answer is not Docker's JSON")
            }
            error @ (BollardError::HyperLegacyError { .. }
            | BollardError::HyperResponseError { .. }
            | BollardError::IOError { .. }) => match broken(endpoint, &error) {
                Broken::Connection(why) => EngineError::Unreachable(self.told(endpoint, &why)),
                Broken::Exchange(why) => self.failed(endpoint, &why),
            },
            other => self.failed(endpoint, &lowered(&other.to_string())),
        }
    }

    /// An answer with a status that is none of success.
    pub(super) fn status(self, endpoint: &Endpoint, status: u16, message: &str) -> EngineError {
        let message = lowered(message.trim());
        let message = if message.is_empty() { format!("status {status}") } else { message };
        let told = self.told(endpoint, &message);
        match status {
            404 if message.starts_with(&format!("no such {}", self.kind)) => self.absent(endpoint),
            404 => EngineError::NotFound(told),
            409 => EngineError::Conflict(told),
            400..500 => EngineError::Invalid(told),
            // Docker answers much with 500 that is not its own failure.
            _ if is_port_taken(&message) => EngineError::Conflict(told),
            _ if message.starts_with("multiple IDs found") => EngineError::Invalid(told),
            _ if self.is_pull_of_unknown(&message) => EngineError::NotFound(told),
            _ => EngineError::Failed(told),
        }
    }

    /// Whether a registry says that it has no such image.
    fn is_pull_of_unknown(self, message: &str) -> bool {
        let unknown = ["manifest unknown", "not found", "does not exist"];
        self.verb == "pull" && unknown.iter().any(|text| message.contains(text))
    }

    /// An error in the middle of the lines of a pull, a push or a build.
    pub(super) fn stream(self, endpoint: &Endpoint, message: &str) -> EngineError {
        let message = lowered(message.trim());
        let told = self.told(endpoint, &message);
        if self.is_pull_of_unknown(&message) {
            return EngineError::NotFound(told);
        }
        EngineError::Failed(told)
    }
}

fn is_port_taken(message: &str) -> bool {
    message.contains("port is already allocated") || message.contains("address already in use")
}

/// What broke between here and an engine.
enum Broken {
    /// The way to it.
    Connection(String),
    /// What was said on it.
    Exchange(String),
}

/// A call to an engine that nothing was asked of yet.
pub(super) fn transport(endpoint: &Endpoint, error: &BollardError) -> EngineError {
    match broken(endpoint, error) {
        Broken::Connection(why) => EngineError::Unreachable(why),
        Broken::Exchange(why) => EngineError::Failed(why),
    }
}

fn broken(endpoint: &Endpoint, error: &BollardError) -> Broken {
    if let BollardError::HyperLegacyError { err } = error
        && err.is_connect()
    {
        let why = innermost(err);
        return Broken::Connection(format!(
            "the Docker host `{endpoint}` cannot be reached: {why}"
        ));
    }
    let hyper = find::<hyper::Error>(error);
    if hyper.is_some_and(hyper::Error::is_user) {
        return Broken::Exchange(format!("what was to be sent broke off: {}", innermost(error)));
    }
    if hyper.is_some_and(|hyper| hyper.is_parse() || hyper.is_parse_too_large()) {
        return Broken::Exchange(format!(
            "`{endpoint}` does not answer like a Docker engine: what it sends is not HTTP"
        ));
    }
    let why = innermost(error);
    Broken::Connection(format!("the Docker host `{endpoint}` went away in the middle: {why}"))
}

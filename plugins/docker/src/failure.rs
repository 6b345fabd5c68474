//! Why a change of an app failed: an error for the caller, the line for the people who read along, and whether another attempt may do better.

use gantry_sdk::Error;
use gantry_sdk::containers::EngineError;
use gantry_sdk::gantry_core::error::{ContractError, MultiError};

/// Attempts at starting one unit (spec 5.2): the first and four more.
const ATTEMPTS: usize = 5;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// For the caller.
    pub(crate) error: Error,
    /// For the people who read along, in one line.
    pub(crate) line: String,
    /// The engine did not start a container: another attempt may succeed.
    pub(crate) is_start: bool,
}

impl Failure {
    /// Somebody asked to stop.
    pub(crate) fn cancelled() -> Self {
        let line = ContractError::CreationCanceled.to_string();
        Self { error: Error::Cancelled, line, is_start: false }
    }

    /// An engine call on this host failed.
    pub(crate) fn engine(node: &str, error: EngineError) -> Self {
        if error == EngineError::Cancelled {
            return Self::cancelled();
        }
        Error::from(in_node(node, error)).into()
    }

    /// The engine on this host did not start a container.
    pub(crate) fn start(node: &str, error: EngineError) -> Self {
        if error == EngineError::Cancelled {
            return Self::cancelled();
        }
        let error = in_node(node, error)
            .map_text(|text| ContractError::Start(text.to_owned().into()).to_string());
        Self { is_start: true, ..Self::from(Error::from(error)) }
    }
}

/// The reference names the host in front of what its engine says. Our engine names it too, in its middle; once is enough.
fn in_node(node: &str, error: EngineError) -> EngineError {
    error.map_text(|text| {
        let text = text
            .replace(&format!(" on `{node}`"), "")
            .replace(&format!("the Docker host `{node}`"), "the Docker host");
        format!("error in docker node {}: {text}", gantry_sdk::quote(node))
    })
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error == Error::Cancelled {
            return Self::cancelled();
        }
        let line = error.to_string();
        Self { error, line, is_start: false }
    }
}

/// What to do after an attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again.
    Retry,
    /// It is over.
    GiveUp(Failure),
}

/// The attempts at one unit: what failed so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts {
    failures: Vec<Failure>,
}

impl Attempts {
    /// Takes the failure of an attempt. Only a container that did not start is worth another one.
    pub(crate) fn failed(&mut self, failure: Failure) -> Next {
        let may_retry = failure.is_start;
        self.failures.push(failure);
        if may_retry && self.failures.len() < ATTEMPTS {
            return Next::Retry;
        }
        Next::GiveUp(summary(std::mem::take(&mut self.failures)))
    }
}

/// One failure is itself; several are told together.
fn summary(mut failures: Vec<Failure>) -> Failure {
    match (failures.pop(), failures.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            failures.extend(last);
            if failures.iter().any(|failure| failure.error == Error::Cancelled) {
                return Failure::cancelled();
            }
            let errors = failures.into_iter().map(|failure| failure.error.to_string().into());
            let errors = MultiError::new(errors.collect());
            let line = errors.one_line();
            Failure { error: Error::Other(errors.to_string()), line, is_start: true }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(text: &str) -> Failure {
        Failure::start("http://h:1/", EngineError::Failed(text.to_owned()))
    }

    #[test]
    fn a_container_that_does_not_start_gets_five_attempts() {
        let mut attempts = Attempts::default();
        for _ in 0..4 {
            assert_eq!(attempts.failed(start("f1\n")), Next::Retry);
        }
        let Next::GiveUp(failure) = attempts.failed(start("f1\n")) else { panic!("a sixth") };
        let one = "error in start container: error in docker node \"http://h:1/\": f1\n";
        let lines: String = (0..5).map(|index| format!("error #{index}: {one}\n")).collect();
        assert_eq!(failure.error, Error::Other(format!("multiple errors reported (5):\n{lines}")));
        let line: Vec<String> = (0..5).map(|index| format!("error {index}: {one}")).collect();
        assert_eq!(failure.line, format!("multiple errors reported (5): {}", line.join(" - ")));
    }

    #[test]
    fn anything_else_ends_the_attempts() {
        let other = Failure::from(Error::NotFound("no such image".to_owned()));
        assert_eq!(Attempts::default().failed(other.clone()), Next::GiveUp(other.clone()));

        let mut attempts = Attempts::default();
        assert_eq!(attempts.failed(start("a")), Next::Retry);
        let Next::GiveUp(both) = attempts.failed(other) else { panic!("a third") };
        assert!(both.line.starts_with("multiple errors reported (2): error 0: error in start"));
        assert!(both.line.ends_with(" - error 1: no such image"));
    }

    #[test]
    fn a_cancelled_start_is_not_tried_again() {
        let failure = Failure::start("n", EngineError::Cancelled);
        assert_eq!(failure.line, "unit creation canceled by user action");
        assert_eq!(Attempts::default().failed(failure.clone()), Next::GiveUp(failure));
    }

    #[test]
    fn the_host_is_named_once() {
        let said = "cannot start the container `a-1` on `tcp://h:1`: \
                    the Docker host `tcp://h:1` cannot be reached: connection refused";
        let failure = Failure::engine("tcp://h:1", EngineError::Unreachable(said.to_owned()));
        assert_eq!(
            failure.line,
            "error in docker node \"tcp://h:1\": cannot start the container `a-1`: \
             the Docker host cannot be reached: connection refused"
        );
        let other = "cannot start the container `a-1` on `tcp://h:12`: no";
        let failure = Failure::start("tcp://h:1", EngineError::Failed(other.to_owned()));
        assert!(failure.line.ends_with(other), "{}", failure.line);
    }

    #[test]
    fn a_kind_survives_the_longer_text() {
        let failure = Failure::engine("n", EngineError::Conflict("taken".to_owned()));
        let text = "error in docker node \"n\": taken".to_owned();
        assert_eq!(failure.error, Error::Conflict(text));
    }
}

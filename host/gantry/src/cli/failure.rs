//! Why a command did not do what it was asked: three parts for people, one number for scripts.

use super::exit::Exit;
use crate::api::Problem;
use crate::client::ClientError;

/// A command that failed: what could not be done, why, what to type next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How the program ends.
    pub(crate) exit: Exit,
    /// What could not be done.
    pub(crate) what: String,
    /// Why, the nearest reason first.
    pub(crate) causes: Vec<String>,
    /// What to type next.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure without a reason beyond itself.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), causes: Vec::new(), hint: None }
    }

    /// The same because of an error and what is behind it.
    pub(crate) fn because(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            self.add_cause(&cause.to_string());
            next = cause.source();
        }
        self
    }

    /// The same with what to type next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A cause that says nothing new is left out: layers often repeat what is below them.
    fn add_cause(&mut self, text: &str) {
        let text = text.trim();
        let said = self.causes.last().unwrap_or(&self.what);
        if !text.is_empty() && !said.contains(text) {
            self.causes.push(text.to_owned());
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let mut failure = Self::new(Exit::of(problem.kind), problem.title);
        for line in problem.detail.lines() {
            failure.add_cause(line);
        }
        failure.hint = problem.hint;
        failure
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Problem(problem) => Self::from(*problem),
            ClientError::Unreachable { host, source } => Self::new(
                Exit::Unreachable,
                format!("cannot reach the daemon at `{host}`"),
            )
            .because(source.as_ref())
            .hint("start it with `gantry serve`, or say where it is with `--host` or GANTRY_HOST"),
            ClientError::Foreign { .. } => Self::new(Exit::Failed, error.to_string()),
        }
    }
}

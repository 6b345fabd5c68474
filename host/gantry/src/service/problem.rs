//! What went wrong, in the words of the API: one exhaustive mapping from each error below to a kind of problem.

use std::error::Error as StdError;

use gantry_core::node::NodeLookupError;
use gantry_engine::{EngineError, InvalidField};
use gantry_runtime::{CallError, Cause, LoadError};

use crate::api::{Holder, Problem, ProblemKind};
use crate::data::DataError;
use crate::operation::Refusal;
use crate::store::StoreError;

/// An error that has a word in the API.
pub(crate) trait Trouble {
    /// The word.
    fn kind(&self) -> ProblemKind;

    /// Why, the nearest reason first, one a line.
    fn detail(&self) -> String;

    /// What to type next.
    fn hint(&self) -> Option<String> {
        None
    }

    /// Who is in the way.
    fn holder(&self) -> Option<&Holder> {
        None
    }
}

/// Says what could not be done when something went wrong.
pub(crate) trait OrProblem<T> {
    /// The value, or the problem with this title.
    fn or_problem(self, title: impl FnOnce() -> String) -> Result<T, Problem>;
}

impl<T, E: Trouble> OrProblem<T> for Result<T, E> {
    fn or_problem(self, title: impl FnOnce() -> String) -> Result<T, Problem> {
        self.map_err(|error| {
            let mut problem = Problem::new(error.kind(), title()).because(error.detail());
            problem.hint = error.hint();
            problem.holder = error.holder().cloned().map(Box::new);
            if problem.kind == ProblemKind::Internal || problem.kind == ProblemKind::Storage {
                tracing::error!(title = problem.title, detail = problem.detail, "a request failed");
            }
            problem
        })
    }
}

/// What an error says, and what is behind it, one a line.
fn lines(error: &dyn StdError) -> String {
    let mut lines = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Layers often repeat what is below them.
        if !lines.iter().any(|line| line.contains(&text)) {
            lines.push(text);
        }
        next = cause.source();
    }
    lines.join("\n")
}

impl Trouble for StoreError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::Full(_) | Self::ReadOnly(_) | Self::OwnerFull { .. } => ProblemKind::Storage,
            Self::Closed => ProblemKind::ShuttingDown,
            Self::Open { .. }
            | Self::Newer { .. }
            | Self::Damaged { .. }
            | Self::NotRandom(_)
            | Self::Sqlite(_) => ProblemKind::Internal,
        }
    }

    fn detail(&self) -> String {
        lines(self)
    }

    fn hint(&self) -> Option<String> {
        self.hint()
    }
}

impl Trouble for DataError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::Write { .. } | Self::Shared { .. } => ProblemKind::Storage,
            Self::InUse { .. } | Self::Store { .. } => ProblemKind::Internal,
        }
    }

    fn detail(&self) -> String {
        lines(self)
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Write { .. } => Some("`df` tells where there is room".to_owned()),
            Self::InUse { .. } | Self::Shared { .. } | Self::Store { .. } => self.hint(),
        }
    }
}

impl Trouble for Refusal {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::Busy { .. } => ProblemKind::Busy,
            Self::KeyUsed(_) => ProblemKind::Conflict,
            Self::ShuttingDown => ProblemKind::ShuttingDown,
            Self::Store(error) => error.kind(),
        }
    }

    fn detail(&self) -> String {
        lines(self)
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Busy { holder, .. } => Some(format!(
                "add `--wait` to wait for it; `gantry operation info {} --follow` shows it",
                holder.operation
            )),
            Self::KeyUsed(_) => Some("use a new key for a new request".to_owned()),
            Self::ShuttingDown => Some("ask again when it serves again".to_owned()),
            Self::Store(error) => error.hint(),
        }
    }

    fn holder(&self) -> Option<&Holder> {
        match self {
            Self::Busy { holder, .. } => Some(holder),
            Self::KeyUsed(_) | Self::ShuttingDown | Self::Store(_) => None,
        }
    }
}

impl Trouble for gantry_core::Error {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::UnitNotFound(_) | Self::NodeNotFound | Self::EmptyApp | Self::NotFound(_) => {
                ProblemKind::NotFound
            }
            Self::InvalidStatus | Self::InvalidProcess(_) | Self::InvalidArgument(_) => {
                ProblemKind::Invalid
            }
            Self::UnitStartup(_) => ProblemKind::UnitStartup,
            Self::QuotaExceeded { .. } => ProblemKind::Quota,
            Self::NotSupported(_) => ProblemKind::NotSupported,
            Self::Conflict(_) => ProblemKind::Conflict,
            Self::Denied(_) => ProblemKind::Denied,
            Self::Unavailable(_) => ProblemKind::Unavailable,
            Self::TimedOut(_) => ProblemKind::TimedOut,
            Self::Cancelled => ProblemKind::Cancelled,
            Self::Other(_) => ProblemKind::Failed,
        }
    }

    fn detail(&self) -> String {
        self.to_string()
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Denied(_) => Some(
                "`gantry plugin inspect NAME` shows what was asked and granted; grants are given in the configuration"
                    .to_owned(),
            ),
            Self::Unavailable(_) => Some(
                "`gantry cluster info NAME` tells whether a cluster answers, `docker version` whether a Docker engine does"
                    .to_owned(),
            ),
            Self::EmptyApp => Some(
                "`gantry unit list APP` shows the units; `gantry app deploy APP --image IMAGE` or `gantry app start APP` starts some"
                    .to_owned(),
            ),
            Self::NotFound(why) if is_namespace(why) => Some(
                "make it in the cluster, as with `kubectl create namespace NAME`; `gantry cluster info NAME` shows which one apps are in"
                    .to_owned(),
            ),
            Self::UnitNotFound(_)
            | Self::NodeNotFound
            | Self::InvalidStatus
            | Self::InvalidProcess(_)
            | Self::UnitStartup(_)
            | Self::QuotaExceeded { .. }
            | Self::NotSupported(_)
            | Self::NotFound(_)
            | Self::Conflict(_)
            | Self::InvalidArgument(_)
            | Self::TimedOut(_)
            | Self::Cancelled
            | Self::Other(_) => None,
        }
    }
}

/// Whether this is how an API server says that there is no namespace.
fn is_namespace(why: &str) -> bool {
    why.contains("namespaces \"") && why.ends_with("not found")
}

impl Trouble for CallError {
    fn kind(&self) -> ProblemKind {
        match &self.cause {
            Cause::Plugin(error) => error.kind(),
            Cause::NotSupported { .. } => ProblemKind::NotSupported,
            Cause::OverLimit(_) | Cause::StackOverflow { .. } => ProblemKind::OverLimit,
            Cause::Trapped(_) => ProblemKind::PluginFailed,
            Cause::TimedOut(_) | Cause::Deadline => ProblemKind::TimedOut,
            Cause::CutOff { .. } | Cause::Cancelled => ProblemKind::Cancelled,
            Cause::Host(_) => ProblemKind::Internal,
        }
    }

    fn detail(&self) -> String {
        self.to_string()
    }

    fn hint(&self) -> Option<String> {
        match &self.cause {
            Cause::Plugin(error) => error.hint(),
            Cause::NotSupported { .. }
            | Cause::OverLimit(_)
            | Cause::StackOverflow { .. }
            | Cause::Trapped(_)
            | Cause::TimedOut(_)
            | Cause::Deadline
            | Cause::CutOff { .. }
            | Cause::Cancelled
            | Cause::Host(_) => None,
        }
    }
}

impl Trouble for LoadError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::Admit(_)
            | Self::Compile(_)
            | Self::Link(_)
            | Self::Shape(_)
            | Self::Describe(_)
            | Self::Description(_) => ProblemKind::PluginRefused,
            Self::Grant(_) | Self::Limiter(_) => ProblemKind::Invalid,
        }
    }

    fn detail(&self) -> String {
        lines(self)
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Admit(_) | Self::Link(_) | Self::Shape(_) => {
                "a plugin is a WebAssembly component of the package `gantry:provision`; `cargo build --target wasm32-wasip2` with the SDK makes one"
            }
            Self::Compile(_) => "`compiler` in the configuration has its limits",
            Self::Describe(_) | Self::Description(_) => {
                "ask who made the plugin, or install another one"
            }
            Self::Grant(_) => "`gantry plugin inspect FILE` lists what it asks for",
            Self::Limiter(_) => {
                "`docker.limit` is in the table `config` of the provisioner in the configuration"
            }
        };
        Some(hint.to_owned())
    }
}

impl Trouble for EngineError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::NotFound(_) => ProblemKind::NotFound,
            Self::Conflict(_) => ProblemKind::Conflict,
            Self::Invalid(_) => ProblemKind::Invalid,
            Self::InvalidObject(_) => ProblemKind::InvalidObject,
            Self::Forbidden(_) => ProblemKind::Forbidden,
            Self::TooManyRequests { .. } => ProblemKind::Overloaded,
            Self::Denied(_) => ProblemKind::Denied,
            Self::Unreachable(_) => ProblemKind::Unavailable,
            Self::TimedOut(_) => ProblemKind::TimedOut,
            Self::Cancelled => ProblemKind::Cancelled,
            Self::Failed(_) => ProblemKind::Failed,
        }
    }

    fn detail(&self) -> String {
        let mut text = lines(self);
        if let Self::InvalidObject(invalid) = self {
            for InvalidField { field, message, .. } in &invalid.causes {
                let cause =
                    if field.is_empty() { message.clone() } else { format!("{field}: {message}") };
                // Kubernetes says most of them in its message already.
                if !text.contains(&cause) {
                    text.push_str(&format!("\n{cause}"));
                }
            }
        }
        text
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Forbidden(_) => Some(
                "`gantry cluster info NAME` shows who we are there; `gantry cluster update NAME --token-file FILE` gives others"
                    .to_owned(),
            ),
            Self::TooManyRequests { retry_after: Some(seconds), .. } => {
                Some(format!("do it again in {seconds} s"))
            }
            Self::TooManyRequests { retry_after: None, .. } => Some("do it again later".to_owned()),
            Self::NotFound(_)
            | Self::Conflict(_)
            | Self::Invalid(_)
            | Self::InvalidObject(_)
            | Self::Denied(_)
            | Self::Unreachable(_)
            | Self::TimedOut(_)
            | Self::Cancelled
            | Self::Failed(_) => None,
        }
    }
}

impl Trouble for NodeLookupError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::NotFound => ProblemKind::NotFound,
            Self::Ambiguous(_) => ProblemKind::Conflict,
            // Nobody knew it, and some could not tell.
            Self::Failed(_) => ProblemKind::Unavailable,
        }
    }

    fn detail(&self) -> String {
        lines(self)
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound | Self::Ambiguous(_) => {
                Some("`gantry node list` lists the nodes".to_owned())
            }
            Self::Failed(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use gantry_engine::Invalidity;

    use super::*;

    #[test]
    fn what_a_cluster_does_not_take_is_told_field_by_field_and_once() {
        let field = |field: &str, message: &str| InvalidField {
            field: field.to_owned(),
            reason: "FieldValueInvalid".to_owned(),
            message: message.to_owned(),
        };
        let invalid = Invalidity {
            message: "Deployment.apps \"web\" is invalid: spec.replicas: must not be negative"
                .to_owned(),
            causes: vec![
                field("spec.replicas", "must not be negative"),
                field("spec.template.spec.containers[0].image", "required value"),
            ],
        };
        let problem = Err::<(), _>(EngineError::InvalidObject(invalid));
        let problem = problem.or_problem(|| "could not deploy `web`".to_owned()).unwrap_err();
        assert_eq!(problem.kind, ProblemKind::InvalidObject);
        insta::assert_snapshot!(problem.detail, @r#"
        Deployment.apps "web" is invalid: spec.replicas: must not be negative
        spec.template.spec.containers[0].image: required value
        "#);
    }

    #[test]
    fn a_namespace_that_is_not_there_is_told_with_how_to_make_it() {
        let hint = |why: &str| Trouble::hint(&gantry_core::Error::NotFound(why.into()));
        let told = hint("namespaces \"shop\" not found");
        assert!(told.is_some_and(|told| told.contains("kubectl create namespace")));
        assert_eq!(hint("pods \"web\" not found"), None);
    }

    #[test]
    fn what_a_cluster_refuses_has_a_kind_and_a_hint() {
        let later = |retry_after| EngineError::TooManyRequests { text: "busy".into(), retry_after };
        for (error, kind, hint) in [
            (EngineError::Forbidden("no".into()), ProblemKind::Forbidden, "`gantry cluster info"),
            (later(Some(7)), ProblemKind::Overloaded, "do it again in 7 s"),
            (later(None), ProblemKind::Overloaded, "do it again later"),
        ] {
            assert_eq!(Trouble::kind(&error), kind);
            assert!(Trouble::hint(&error).is_some_and(|told| told.starts_with(hint)));
        }
    }
}

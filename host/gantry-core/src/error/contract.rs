//! The reference's own errors.

use std::error::Error as StdError;

use super::Error;
use crate::go::quote;

/// Any error.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// An error that the reference has a type or a value for. An error inside shows in the message and is no source, as in the reference, where only layers that add nothing but
/// context give way to their cause.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// The provisioner has no such ability.
    #[error("provisioner {} does not support {action}", quote(.provisioner))]
    NotSupported {
        /// The provisioner.
        provisioner: String,
        /// What was asked of it ("sleeping").
        action: String,
    },
    /// No provisioner is registered under this name.
    #[error("unknown provisioner: {}", quote(.0))]
    UnknownProvisioner(String),
    /// A reason, after the error it is the reason for.
    #[error("{}{reason}", .error.as_ref().map(|error| format!("{error}: ")).unwrap_or_default())]
    Reasoned {
        /// The reason.
        reason: String,
        /// The error.
        error: Option<BoxError>,
    },
    /// A message, before the error that caused it.
    #[error("{message}{}", .base.as_ref().map(|base| format!(" Caused by: {base}")).unwrap_or_default())]
    Composite {
        /// The message.
        message: String,
        /// The error.
        base: Option<BoxError>,
    },
    /// The units did not start or did not answer.
    #[error("{0}")]
    UnitStartup(BoxError),
    /// Several containers have an id that starts like this.
    #[error("ambiguous container name/id: {}", quote(.0))]
    AmbiguousContainer(String),
    /// The engine did not start a container. Another try may succeed.
    #[error("error in start container: {0}")]
    Start(BoxError),
    /// No node could be chosen.
    #[error("error in scheduler: {0}")]
    Scheduler(BoxError),
    /// No node runs a container of the process.
    #[error(
        "Container of app {} with process {} was not found in any servers",
        quote(.app),
        quote(.process)
    )]
    ContainerNotFound {
        /// The app.
        app: String,
        /// The process.
        process: String,
    },
    /// A command in a unit failed.
    #[error("unexpected exit code: {0}")]
    ExitCode(i64),
    /// Somebody asked to stop.
    #[error("unit creation canceled by user action")]
    CreationCanceled,
    /// A unit reports for another app than its own.
    #[error("wrong app name")]
    WrongAppName,
    /// No cluster has this name, or serves this pool.
    #[error("cluster not found")]
    ClusterNotFound,
    /// There are no clusters.
    #[error("no cluster")]
    NoCluster,
}

impl From<ContractError> for Error {
    fn from(error: ContractError) -> Self {
        let message = error.to_string();
        match error {
            ContractError::NotSupported { action, .. } => Self::NotSupported(action),
            ContractError::UnitStartup(_) => Self::UnitStartup(message),
            ContractError::CreationCanceled => Self::Cancelled,
            ContractError::AmbiguousContainer(_) | ContractError::WrongAppName => {
                Self::InvalidArgument(message)
            }
            ContractError::UnknownProvisioner(_)
            | ContractError::ContainerNotFound { .. }
            | ContractError::ClusterNotFound
            | ContractError::NoCluster => Self::NotFound(message),
            ContractError::Reasoned { .. }
            | ContractError::Composite { .. }
            | ContractError::Start(_)
            | ContractError::Scheduler(_)
            | ContractError::ExitCode(_) => Self::Other(message),
        }
    }
}

/// Whether the innermost cause of an error is that units did not start: then their last log lines are worth showing. One inside a [`super::MultiError`] does not count.
#[must_use]
pub fn is_startup_error(error: &(dyn StdError + 'static)) -> bool {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    matches!(innermost.downcast_ref(), Some(ContractError::UnitStartup(_)))
        || matches!(innermost.downcast_ref(), Some(Error::UnitStartup(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::MultiError;

    #[derive(Debug, thiserror::Error)]
    #[error("while deploying")]
    struct Context(#[source] BoxError);

    fn startup() -> BoxError {
        Box::new(ContractError::UnitStartup("boom".into()))
    }

    #[test]
    fn a_startup_error_is_seen_through_layers_that_only_add_context() {
        assert!(is_startup_error(&*startup()));
        assert!(is_startup_error(&Context(Box::new(Context(startup())))));
        assert!(is_startup_error(&Error::UnitStartup("boom".to_owned())));
    }

    #[test]
    fn a_startup_error_inside_several_or_a_reason_is_not_seen() {
        assert!(!is_startup_error(&MultiError::new(vec![startup()])));
        assert!(!is_startup_error(&MultiError::new(vec![startup(), startup()])));
        let reasoned = ContractError::Reasoned { reason: "why".to_owned(), error: Some(startup()) };
        assert!(!is_startup_error(&reasoned));
        assert!(!is_startup_error(&Error::EmptyApp));
    }

    #[test]
    fn messages_are_the_references() {
        let cases: [(BoxError, &str); 15] = [
            (Box::new(Error::UnitNotFound("a\"b".to_owned())), r#"unit "a\"b" not found"#),
            (Box::new(Error::EmptyApp), "no units for this app"),
            (Box::new(Error::InvalidProcess("gone".to_owned())), "process error: gone"),
            (
                Box::new(Error::QuotaExceeded { available: 0, requested: 1 }),
                "Quota exceeded. Available: 0. Requested: 1.",
            ),
            (
                Box::new(ContractError::Composite {
                    message: "Cannot start application units".to_owned(),
                    base: Some("no".into()),
                }),
                "Cannot start application units Caused by: no",
            ),
            (
                Box::new(ContractError::Composite { message: "alone".to_owned(), base: None }),
                "alone",
            ),
            (
                Box::new(ContractError::Reasoned {
                    reason: "why".to_owned(),
                    error: Some("what".into()),
                }),
                "what: why",
            ),
            (Box::new(ContractError::Reasoned { reason: "why".to_owned(), error: None }), "why"),
            (
                Box::new(ContractError::AmbiguousContainer("ab".to_owned())),
                r#"ambiguous container name/id: "ab""#,
            ),
            (Box::new(ContractError::Start("x".into())), "error in start container: x"),
            (Box::new(ContractError::Scheduler("x".into())), "error in scheduler: x"),
            (
                Box::new(ContractError::ContainerNotFound {
                    app: "a".to_owned(),
                    process: "p".to_owned(),
                }),
                r#"Container of app "a" with process "p" was not found in any servers"#,
            ),
            (Box::new(ContractError::ExitCode(-9)), "unexpected exit code: -9"),
            (Box::new(ContractError::CreationCanceled), "unit creation canceled by user action"),
            (
                Box::new(ContractError::NotSupported {
                    provisioner: "x".to_owned(),
                    action: "sleeping".to_owned(),
                }),
                r#"provisioner "x" does not support sleeping"#,
            ),
        ];
        for (error, message) in cases {
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn several_errors_have_two_forms() {
        let mut several = MultiError::default();
        assert_eq!(several.to_string(), "multi error created but no errors added");
        assert_eq!(several.one_line(), "multi error created but no errors added");
        several.push("f1");
        assert_eq!((several.to_string(), several.one_line()), ("f1".to_owned(), "f1".to_owned()));
        several.push("f2");
        assert_eq!(
            several.to_string(),
            "multiple errors reported (2):\nerror #0: f1\nerror #1: f2\n"
        );
        assert_eq!(several.one_line(), "multiple errors reported (2): error 0: f1 - error 1: f2");
        assert!(MultiError::default().into_result().is_ok());
        let only = MultiError::new(vec!["f1".into()]).into_result().unwrap_err();
        assert!(!only.is::<MultiError>());
        assert!(several.into_result().unwrap_err().is::<MultiError>());
    }
}

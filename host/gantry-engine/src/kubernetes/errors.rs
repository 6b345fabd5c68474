//! What goes wrong between here and a cluster, as our errors. Every message names the cluster and what the call was about.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::LengthLimitError;
use hyper_util::client::legacy::Error as ClientError;
use kube::Error as KubeError;
use kube::client::{AuthError, UpgradeConnectionError};
use serde::Deserialize;

use crate::reason::{find, innermost, lowered};
use crate::{EngineError, InvalidField, Invalidity};

/// What a call was about: `get`, `Deployment.apps`, `shop/web`.
#[derive(Clone, Debug)]
pub(super) struct About {
    address: Arc<str>,
    verb: &'static str,
    kind: String,
    name: String,
}

/// The refusals of an API server, as far as they are read (`metav1.Status`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub(super) status: String,
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) details: Details,
}

/// What a refusal is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Details {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) causes: Vec<Cause>,
    pub(super) retry_after_seconds: u32,
}

/// One of its causes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Cause {
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) field: String,
}

impl Status {
    /// Reads a refusal. What is none (a proxy answered, or nobody) becomes one with its first line.
    pub(super) fn read(body: &[u8]) -> Self {
        if let Ok(status) = serde_json::from_slice::<Self>(body)
            && [&status.status, &status.message, &status.reason].iter().any(|word| !word.is_empty())
        {
            return status;
        }
        let text = String::from_utf8_lossy(body);
        let line = text.trim().lines().next().unwrap_or_default();
        Self { message: line.chars().take(300).collect(), ..Self::default() }
    }

    fn of(status: &kube::core::Status) -> Self {
        serde_json::to_value(status).and_then(serde_json::from_value).unwrap_or_default()
    }

    /// Whether what it wanted to go on from is too old, or from a time that this server has not seen.
    pub(super) fn is_lost_version(&self) -> bool {
        self.code == 410
            || matches!(self.reason.as_str(), "Expired" | "Gone")
            || self.details.causes.iter().any(|cause| cause.reason == "ResourceVersionTooLarge")
    }
}

impl About {
    pub(super) fn new(
        address: &Arc<str>,
        verb: &'static str,
        kind: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self { address: Arc::clone(address), verb, kind: kind.into(), name: name.into() }
    }

    fn told(&self, why: &str) -> String {
        let Self { address, verb, kind, name } = self;
        if name.is_empty() {
            format!("cannot {verb} `{kind}` on `{address}`: {why}")
        } else {
            format!("cannot {verb} the {kind} `{name}` on `{address}`: {why}")
        }
    }

    /// No object of this name.
    fn absent(&self) -> EngineError {
        let Self { address, kind, name, .. } = self;
        EngineError::NotFound(format!("no {kind} `{name}` on `{address}`"))
    }

    /// It took too long.
    pub(super) fn late(&self, limit: Duration) -> EngineError {
        let why = format!("no answer within {limit:?}; what became of it is not known");
        EngineError::TimedOut(self.told(&why))
    }

    pub(super) fn invalid(&self, why: &str) -> EngineError {
        EngineError::Invalid(self.told(why))
    }

    pub(super) fn failed(&self, why: &str) -> EngineError {
        EngineError::Failed(self.told(why))
    }

    pub(super) fn unreachable(&self, why: &str) -> EngineError {
        EngineError::Unreachable(self.told(why))
    }

    /// The cluster went away before it had said all.
    pub(super) fn cut_off(&self) -> EngineError {
        self.unreachable("the cluster went away in the middle")
    }

    /// What kube tells.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "which errors kube has depends on its features; the rest is of its making"
    )]
    pub(super) fn error(&self, error: &KubeError) -> EngineError {
        match error {
            KubeError::Api(status) => self.status(&Status::of(status), status.code, None),
            KubeError::UpgradeConnection(UpgradeConnectionError::GetPendingUpgrade(_)) => {
                self.cut_off()
            }
            KubeError::UpgradeConnection(other) => {
                self.failed(&format!("it opens no websocket: {}", lowered(&other.to_string())))
            }
            other => self.broken(other),
        }
    }

    /// What kube tells of settings that it cannot use.
    pub(super) fn unusable(&self, error: &KubeError) -> EngineError {
        let why = match find::<AuthError>(error) {
            Some(error) => auth_reason(error),
            None => innermost(error),
        };
        self.invalid(&why)
    }

    /// A connection that could not be made, or broke.
    pub(super) fn broken(&self, error: &(dyn StdError + 'static)) -> EngineError {
        if let Some(error) = find::<AuthError>(error) {
            let why = format!("there are no credentials for it: {}", auth_reason(error));
            return EngineError::Forbidden(self.told(&why));
        }
        if find::<LengthLimitError>(error).is_some() {
            return self.failed("its answer is too long");
        }
        let why = innermost(error);
        if find::<ClientError>(error).is_some_and(ClientError::is_connect) {
            return self.unreachable(&format!("the cluster cannot be reached: {why}"));
        }
        match find::<hyper::Error>(error) {
            Some(error) if error.is_parse() || error.is_parse_too_large() => {
                self.failed("it does not answer like a cluster: what it sends is not HTTP")
            }
            Some(_) => self.unreachable(&format!(
                "the cluster went away in the middle ({why}); what became of it is not known"
            )),
            None => self.failed(&why),
        }
    }

    /// An answer with a status that is none of success.
    pub(super) fn refusal(&self, code: u16, retry_after: Option<u32>, body: &[u8]) -> EngineError {
        self.status(&Status::read(body), code, retry_after)
    }

    /// A refusal. Its code is the one of HTTP where there is one.
    pub(super) fn status(
        &self,
        status: &Status,
        code: u16,
        retry_after: Option<u32>,
    ) -> EngineError {
        let message = lowered(status.message.trim());
        let message = if message.is_empty() { format!("status {code}") } else { message };
        let told = self.told(&message);
        let causes = &status.details.causes;
        match code {
            401 => EngineError::Forbidden(self.told(
                "the cluster does not know the credentials; they may have expired or been revoked",
            )),
            403 => EngineError::Forbidden(told),
            404 if self.is_it(status) => self.absent(),
            404 => EngineError::NotFound(told),
            409 if causes.iter().any(|cause| cause.reason == "FieldManagerConflict") => {
                EngineError::Conflict(self.told(&owners(causes)))
            }
            409 | 410 => EngineError::Conflict(told),
            429 => EngineError::TooManyRequests {
                text: told,
                retry_after: match status.details.retry_after_seconds {
                    0 => retry_after,
                    seconds => Some(seconds),
                },
            },
            422 => invalid_object(told, causes),
            _ if is_absent_in_pod(&message) => EngineError::NotFound(told),
            _ if is_state_of_pod(&message) => EngineError::Conflict(told),
            _ if is_too_large(&message) => EngineError::Invalid(told),
            400 if !causes.is_empty() => invalid_object(told, causes),
            400 | 405 | 406 | 413 | 415 => EngineError::Invalid(told),
            504 => EngineError::TimedOut(told),
            _ => EngineError::Failed(told),
        }
    }

    /// Whether a refusal is about the object of the call, and not about its kind, its namespace or its subresource.
    fn is_it(&self, status: &Status) -> bool {
        let name = self.name.rsplit('/').next().unwrap_or_default();
        !name.is_empty() && status.details.name == name && status.details.kind != "namespaces"
            || self.kind == "Namespace" && status.details.name == self.name
    }
}

fn invalid_object(message: String, causes: &[Cause]) -> EngineError {
    let causes = causes
        .iter()
        .map(|cause| InvalidField {
            field: cause.field.clone(),
            reason: cause.reason.clone(),
            message: cause.message.clone(),
        })
        .collect();
    EngineError::InvalidObject(Invalidity { message, causes })
}

/// An apply to another object of the same name: servers say so in two ways.
pub(super) fn other_object(error: EngineError) -> EngineError {
    let is_uid = |told: &Invalidity| told.causes.iter().any(|cause| cause.field == "metadata.uid");
    if let EngineError::InvalidObject(told) = &error
        && is_uid(told)
    {
        return EngineError::Conflict(told.message.clone());
    }
    error
}

/// Who owns the fields that an apply wants. The server's own text puts the fields of a manager on lines below it.
fn owners(causes: &[Cause]) -> String {
    let one = |cause: &Cause| {
        let manager = cause.message.split('"').nth(1).unwrap_or(&cause.message);
        format!("the field `{}` belongs to the manager `{manager}`", cause.field)
    };
    causes.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What kubelets say with codes that do not tell.
fn is_absent_in_pod(message: &str) -> bool {
    message.contains("previous terminated container") && message.contains("not found")
        || message.starts_with("container ") && message.contains("is not valid for pod")
        || message.starts_with("container not found")
}

fn is_state_of_pod(message: &str) -> bool {
    message.contains("is waiting to start")
        || message.contains("in a completed pod")
        || message.contains("does not have a host assigned")
}

/// What an API server says of objects that its store does not take: the one is the store's answer, the other was not even sent to it.
fn is_too_large(message: &str) -> bool {
    message.contains("request is too large")
        || message.contains("trying to send message larger than max")
}

/// Without what a command wrote: it may be a token.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "which errors kube has depends on its features; the rest has no secrets"
)]
fn auth_reason(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { cmd, out } => {
            let program = cmd.split([' ', '"']).find(|word| !word.is_empty()).unwrap_or_default();
            format!("the command `{program}` of the kubeconfig ended with {}", out.status)
        }
        AuthError::AuthExecParse(_) => {
            "what the command of the kubeconfig wrote is no credential".to_owned()
        }
        other => lowered(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn about() -> About {
        About::new(&Arc::from("https://h:1"), "get", "ConfigMap", "shop/web")
    }

    fn refused(code: u16, body: &serde_json::Value) -> EngineError {
        about().refusal(code, None, body.to_string().as_bytes())
    }

    #[test]
    fn a_refusal_is_told_by_its_status() {
        for (code, reason, kind) in [
            (400, "BadRequest", "invalid"),
            (401, "Unauthorized", "forbidden"),
            (403, "Forbidden", "forbidden"),
            (404, "NotFound", "not-found"),
            (405, "MethodNotAllowed", "invalid"),
            (409, "AlreadyExists", "conflict"),
            (409, "Conflict", "conflict"),
            (410, "Expired", "conflict"),
            (413, "RequestEntityTooLarge", "invalid"),
            (415, "UnsupportedMediaType", "invalid"),
            (422, "Invalid", "invalid"),
            (429, "TooManyRequests", "too-many-requests"),
            (500, "InternalError", "failed"),
            (500, "ServerTimeout", "failed"),
            (503, "ServiceUnavailable", "failed"),
            (504, "Timeout", "timed-out"),
        ] {
            let body = json!({"kind": "Status", "reason": reason, "message": "Odd thing"});
            let error = refused(code, &body);
            assert_eq!(error.kind(), kind, "{code}");
            let told = error.to_string();
            assert!(told.contains("the ConfigMap `shop/web` on `https://h:1`"), "{told}");
            assert!(code == 401 || told.ends_with(": odd thing"), "{told}");
        }
        let told = refused(401, &json!({"reason": "Unauthorized"})).to_string();
        assert!(told.contains("does not know the credentials") && told.contains("expired"));
    }

    #[test]
    fn what_is_no_refusal_of_a_cluster_is_told_as_it_is() {
        for (code, body, kind, text) in [
            (404, "404 page not found\n", "not-found", "404 page not found"),
            (502, "<html>\n<body>", "failed", "<html>"),
            (503, "", "failed", "status 503"),
            (500, "{}", "failed", "{}"),
            (302, "", "failed", "status 302"),
        ] {
            let error = about().refusal(code, None, body.as_bytes());
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().ends_with(text), "{error}");
        }
        let long = "x".repeat(10_000);
        assert!(about().refusal(500, None, long.as_bytes()).to_string().len() < 500);
    }

    #[test]
    fn what_is_absent_is_named() {
        let gone = |kind: &str, name: &str| {
            let details = json!({"kind": kind, "name": name});
            refused(404, &json!({"reason": "NotFound", "message": "No", "details": details}))
        };
        let text = |error: EngineError| error.to_string();
        assert_eq!(text(gone("configmaps", "web")), "no ConfigMap `shop/web` on `https://h:1`");
        assert!(text(gone("namespaces", "shop")).ends_with(": no"));
        assert!(text(gone("namespaces", "web")).ends_with(": no"));
        assert!(text(gone("", "")).ends_with(": no"));
    }

    #[test]
    fn a_conflict_of_managers_names_them_and_their_fields() {
        let causes = json!([
            {"reason": "FieldManagerConflict", "message": "conflict with \"hpa\" using v1", "field": ".data.a"},
            {"reason": "FieldManagerConflict", "message": "conflict with \"ann\"", "field": ".data.b"},
        ]);
        let message = "Apply failed with 2 conflicts: conflicts with \"hpa\":\n- .data.a";
        let body = json!({"reason": "Conflict", "message": message, "details": {"causes": causes}});
        let EngineError::Conflict(told) = refused(409, &body) else { panic!("no conflict") };
        let expected = "the field `.data.a` belongs to the manager `hpa`, \
                        the field `.data.b` belongs to the manager `ann`";
        assert!(told.ends_with(expected), "{told}");
    }

    #[test]
    fn what_is_wrong_with_an_object_is_told_by_field() {
        let causes = json!([{"reason": "FieldValueInvalid", "message": "no", "field": "spec.a"}]);
        let body = json!({"message": "bad", "details": {"causes": causes}});
        for code in [400, 422] {
            let EngineError::InvalidObject(told) = refused(code, &body) else { panic!("{code}") };
            assert!(told.message.ends_with(": bad"));
            let expected = InvalidField {
                field: "spec.a".to_owned(),
                reason: "FieldValueInvalid".to_owned(),
                message: "no".to_owned(),
            };
            assert_eq!(told.causes, [expected]);
        }
    }

    #[test]
    fn a_busy_cluster_says_when_to_ask_again() {
        let after = |header, details: serde_json::Value| {
            let body = json!({"message": "busy", "details": details}).to_string();
            let told = about().refusal(429, header, body.as_bytes());
            let EngineError::TooManyRequests { retry_after, .. } = told else { panic!("{told}") };
            retry_after
        };
        assert_eq!(after(None, json!({"retryAfterSeconds": 7})), Some(7));
        assert_eq!(after(Some(3), json!({})), Some(3));
        assert_eq!(after(Some(3), json!({"retryAfterSeconds": 7})), Some(7));
        assert_eq!(after(None, json!({})), None);
    }

    #[test]
    fn what_kubelets_say_is_told_by_its_text() {
        for (code, message, kind) in [
            (
                400,
                "container \"a\" in pod \"b\" is waiting to start: ContainerCreating",
                "conflict",
            ),
            (400, "previous terminated container \"a\" in pod \"b\" not found", "not-found"),
            (400, "container nope is not valid for pod b", "not-found"),
            (400, "a container name must be specified for pod b, choose one of: [a c]", "invalid"),
            (
                500,
                "cannot exec into a container in a completed pod; current phase is Failed",
                "conflict",
            ),
            (500, "etcdserver: request is too large", "invalid"),
            (
                500,
                "rpc error: code = ResourceExhausted desc = trying to send message larger than max (2097379 vs. 2097152)",
                "invalid",
            ),
        ] {
            assert_eq!(refused(code, &json!({"message": message})).kind(), kind, "{message}");
        }
    }

    #[test]
    fn a_lost_version_is_known_however_it_is_told() {
        for (body, lost) in [
            (json!({"code": 410}), true),
            (json!({"reason": "Expired"}), true),
            (json!({"reason": "Gone"}), true),
            (
                json!({"code": 504, "details": {"causes": [{"reason": "ResourceVersionTooLarge"}]}}),
                true,
            ),
            (json!({"code": 500, "reason": "InternalError"}), false),
        ] {
            let status: Status = serde_json::from_value(body.clone()).unwrap();
            assert_eq!(status.is_lost_version(), lost, "{body}");
        }
    }
}

//! Why something could not be done, for programs and for people (RFC 9457).

use serde::{Deserialize, Serialize};

/// What went wrong, for programs: the last part of a problem's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// The request cannot be understood, or an argument is wrong.
    Invalid,
    /// The token is missing or wrong.
    Unauthorized,
    /// Something named does not exist.
    NotFound,
    /// Something is in the way.
    Conflict,
    /// Another operation is changing the same thing.
    Busy,
    /// The operator did not grant it.
    Denied,
    /// The engine does not let the credentials that it was shown do it.
    Forbidden,
    /// The plugin went over a bound.
    OverLimit,
    /// The app has no quota left.
    Quota,
    /// The plugin was not accepted.
    PluginRefused,
    /// The provisioner has no such ability.
    NotSupported,
    /// The units did not start or did not answer.
    UnitStartup,
    /// The plugin crashed.
    PluginFailed,
    /// The engine does not take what was to be made.
    InvalidObject,
    /// The engine cannot be reached or does not work.
    Unavailable,
    /// The engine has too much to do.
    Overloaded,
    /// It took longer than allowed; what became of it is not known.
    TimedOut,
    /// Somebody asked it to stop.
    Cancelled,
    /// The daemon ended while it was under way.
    Interrupted,
    /// The daemon is ending.
    ShuttingDown,
    /// The data directory has no room left or is read-only.
    Storage,
    /// It failed for a reason that has no word here.
    Failed,
    /// A fault of the daemon.
    Internal,
}

/// What the `type` of a problem starts with.
const PREFIX: &str = "urn:gantry:problem:";

impl ProblemKind {
    /// Every kind.
    pub const ALL: [Self; 23] = [
        Self::Invalid,
        Self::Unauthorized,
        Self::NotFound,
        Self::Conflict,
        Self::Busy,
        Self::Denied,
        Self::Forbidden,
        Self::OverLimit,
        Self::Quota,
        Self::PluginRefused,
        Self::NotSupported,
        Self::UnitStartup,
        Self::PluginFailed,
        Self::InvalidObject,
        Self::Unavailable,
        Self::Overloaded,
        Self::TimedOut,
        Self::Cancelled,
        Self::Interrupted,
        Self::ShuttingDown,
        Self::Storage,
        Self::Failed,
        Self::Internal,
    ];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Busy => "busy",
            Self::Denied => "denied",
            Self::Forbidden => "forbidden",
            Self::OverLimit => "over-limit",
            Self::Quota => "quota-exceeded",
            Self::PluginRefused => "plugin-refused",
            Self::NotSupported => "not-supported",
            Self::UnitStartup => "unit-startup",
            Self::PluginFailed => "plugin-failed",
            Self::InvalidObject => "invalid-object",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::TimedOut => "timed-out",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::ShuttingDown => "shutting-down",
            Self::Storage => "storage",
            Self::Failed => "failed",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status of it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthorized => 401,
            Self::Denied | Self::Forbidden | Self::OverLimit | Self::Quota => 403,
            Self::NotFound => 404,
            Self::Conflict | Self::Busy | Self::Cancelled | Self::Interrupted => 409,
            Self::PluginRefused | Self::InvalidObject => 422,
            Self::Failed | Self::UnitStartup | Self::Internal => 500,
            Self::NotSupported => 501,
            Self::PluginFailed | Self::Unavailable => 502,
            Self::ShuttingDown | Self::Overloaded => 503,
            Self::TimedOut => 504,
            Self::Storage => 507,
        }
    }

    fn of(text: &str) -> Self {
        let word = text.strip_prefix(PREFIX).unwrap_or(text);
        Self::ALL.into_iter().find(|kind| kind.word() == word).unwrap_or(Self::Failed)
    }
}

impl From<ProblemKind> for String {
    fn from(kind: ProblemKind) -> Self {
        format!("{PREFIX}{}", kind.word())
    }
}

impl From<String> for ProblemKind {
    fn from(text: String) -> Self {
        Self::of(&text)
    }
}

impl Serialize for ProblemKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{PREFIX}{}", self.word()))
    }
}

impl<'de> Deserialize<'de> for ProblemKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// Why something could not be done: the body of an `application/problem+json` answer, and the end of a failed operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What went wrong, for programs.
    #[serde(rename = "type")]
    pub kind: ProblemKind,
    /// What could not be done.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Why, the nearest reason first, on one line each.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What to type next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Who is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Box<Holder>>,
}

/// The operation that is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its id.
    pub operation: String,
    /// What it does.
    pub verb: String,
    /// Since when.
    pub since: String,
}

impl Problem {
    /// A problem of this kind.
    #[must_use]
    pub fn new(kind: ProblemKind, title: impl Into<String>) -> Self {
        Self {
            kind,
            title: title.into(),
            status: kind.status(),
            detail: String::new(),
            hint: None,
            holder: None,
        }
    }

    /// The same with its reason.
    #[must_use]
    pub fn because(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The same with what to type next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back() {
        for kind in ProblemKind::ALL {
            let text = serde_json::to_string(&kind).unwrap();
            assert_eq!(serde_json::from_str::<ProblemKind>(&text).unwrap(), kind, "{text}");
        }
    }

    #[test]
    fn a_kind_nobody_knows_has_failed() {
        let kind: ProblemKind = serde_json::from_str("\"urn:gantry:problem:new\"").unwrap();
        assert_eq!(kind, ProblemKind::Failed);
    }

    #[test]
    fn every_status_is_an_error() {
        for kind in ProblemKind::ALL {
            assert!((400..600).contains(&kind.status()), "{kind:?}");
        }
    }
}

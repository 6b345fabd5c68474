//! How a new unit shows that it works (spec 5.6).
//!
//! A [`HealthPlan`] is what to ask; a [`HealthJudge`] takes the answers one by one and says what to do. Asking and waiting are the caller's.

use std::time::Duration;

use regex::Regex;

use crate::Status;
use crate::go::quote;
use crate::image::Healthcheck;
use crate::settings::Settings;

/// The pause before another try.
pub const RETRY_PAUSE: Duration = Duration::from_secs(3);

/// The time one request has.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a unit that cannot be reached is tried when `docker:healthcheck:max-time` is not set.
const DEFAULT_MAX_TIME: Duration = Duration::from_secs(120);

/// The `match` of a health check is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid `match` of the healthcheck: {0}")]
pub struct InvalidPattern(String);

/// What to ask a new unit, and what it should answer.
#[derive(Clone, Debug)]
pub struct HealthPlan {
    /// The method, in upper case.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// The path, with exactly one slash in front.
    pub path: String,
    /// The status; any when none.
    pub status: Option<i32>,
    /// What is to be found in the body.
    pub pattern: Option<Regex>,
    /// Wrong answers that are forgiven.
    pub allowed_failures: i32,
}

/// What came of asking.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// Nothing answered; why.
    Unreachable(&'a str),
    /// An answer. Redirects are answers like any other.
    Response {
        /// Its status.
        status: u16,
        /// Its body.
        body: &'a [u8],
    },
}

/// What to do after an answer. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The unit works.
    Pass(String),
    /// Ask again after [`RETRY_PAUSE`].
    Retry(String),
    /// The unit does not work.
    Fail(String),
}

/// Judges the answers of one unit.
#[derive(Clone, Debug)]
pub struct HealthJudge<'a> {
    plan: &'a HealthPlan,
    short_id: &'a str,
    max_time: Duration,
    failures_left: i32,
}

impl HealthPlan {
    /// What this check asks; none when it has no path.
    ///
    /// # Errors
    ///
    /// A `match` that is no regular expression.
    pub fn new(check: &Healthcheck) -> Result<Option<Self>, InvalidPattern> {
        if check.path.is_empty() {
            return Ok(None);
        }
        let or_default = |text: &str, default: &str| {
            if text.is_empty() { default.to_owned() } else { text.to_owned() }
        };
        let pattern = (!check.pattern.is_empty())
            .then(|| Regex::new(&format!("(?s){}", check.pattern)))
            .transpose()
            .map_err(|error| InvalidPattern(error.to_string()))?;
        let status = match check.status {
            0 if pattern.is_none() => Some(200),
            0 => None,
            status => Some(status),
        };
        Ok(Some(Self {
            method: or_default(&check.method, "GET").to_uppercase(),
            scheme: or_default(&check.scheme, "http"),
            path: format!("/{}", check.path.trim_start_matches('/')),
            status,
            pattern,
            allowed_failures: check.allowed_failures,
        }))
    }

    /// A judge for the unit with this short id.
    #[must_use]
    pub fn judge<'a>(&'a self, short_id: &'a str, max_time: Duration) -> HealthJudge<'a> {
        HealthJudge { plan: self, short_id, max_time, failures_left: self.allowed_failures }
    }

    /// What is wrong with a response, if anything.
    fn objection(&self, status: u16, body: &[u8]) -> Option<String> {
        if let Some(expected) = self.status
            && expected != i32::from(status)
        {
            return Some(format!("wrong status code, expected {expected}, got: {status}"));
        }
        let pattern = self.pattern.as_ref()?;
        let body = String::from_utf8_lossy(body);
        (!pattern.is_match(&body)).then(|| {
            format!("unexpected result, expected {}, got: {body}", quote(pattern.as_str()))
        })
    }
}

impl HealthJudge<'_> {
    /// Judges an answer that came this long after the first request. A unit that cannot be reached is tried until its time is over; a wrong answer fails at once, unless
    /// failures are allowed.
    pub fn judge(&mut self, answer: Answer<'_>, elapsed: Duration) -> Verdict {
        let short_id = self.short_id;
        let (objection, may_retry) = match answer {
            Answer::Unreachable(reason) => (Some(reason.to_owned()), elapsed < self.max_time),
            Answer::Response { status, body } => {
                let objection = self.plan.objection(status, body);
                let forgiven = objection.is_some() && self.failures_left > 0;
                if forgiven {
                    self.failures_left -= 1;
                }
                (objection, forgiven)
            }
        };
        match objection {
            None => Verdict::Pass(format!(" ---> healthcheck successful({short_id})")),
            Some(objection) => {
                let error = format!("healthcheck fail({short_id}): {objection}");
                if may_retry {
                    let pause = RETRY_PAUSE.as_secs();
                    Verdict::Retry(format!(" ---> {error}. Trying again in {pause}s"))
                } else {
                    Verdict::Fail(error)
                }
            }
        }
    }
}

/// How long a unit that cannot be reached is tried: `docker:healthcheck:max-time` in seconds, or 120.
#[must_use]
pub fn max_time(settings: &(impl Settings + ?Sized)) -> Duration {
    settings
        .integer("docker:healthcheck:max-time")
        .and_then(|seconds| u64::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0)
        .map_or(DEFAULT_MAX_TIME, Duration::from_secs)
}

/// Whether new units are checked when they replace these: not when one of them failed or is stopped, for then nobody expects the app to answer.
#[must_use]
pub fn checks_apply(replaced: impl IntoIterator<Item = Option<Status>>) -> bool {
    !replaced.into_iter().any(|status| matches!(status, Some(Status::Error | Status::Stopped)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(edit: impl FnOnce(&mut Healthcheck)) -> HealthPlan {
        let mut check = Healthcheck { path: "hc".to_owned(), ..Healthcheck::default() };
        edit(&mut check);
        HealthPlan::new(&check).unwrap().unwrap()
    }

    fn once(plan: &HealthPlan, status: u16, body: &str) -> Verdict {
        let answer = Answer::Response { status, body: body.as_bytes() };
        plan.judge("abc", Duration::from_secs(120)).judge(answer, Duration::ZERO)
    }

    #[test]
    fn no_path_is_no_check() {
        assert!(HealthPlan::new(&Healthcheck::default()).unwrap().is_none());
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let plan = plan(|check| "//a/b".clone_into(&mut check.path));
        assert_eq!((&*plan.method, &*plan.scheme, &*plan.path), ("GET", "http", "/a/b"));
        assert_eq!(plan.status, Some(200));
    }

    #[test]
    fn a_method_is_in_upper_case() {
        assert_eq!(plan(|check| "post".clone_into(&mut check.method)).method, "POST");
    }

    #[test]
    fn any_status_is_good_when_only_a_match_is_asked_for() {
        let plan = plan(|check| "ok".clone_into(&mut check.pattern));
        assert_eq!(once(&plan, 500, "so\nok\n"), pass());
        let fail = r#"healthcheck fail(abc): unexpected result, expected "(?s)ok", got: no"#;
        assert_eq!(once(&plan, 200, "no"), Verdict::Fail(fail.to_owned()));
    }

    #[test]
    fn a_dot_matches_a_line_break() {
        let plan = plan(|check| "a.b".clone_into(&mut check.pattern));
        assert_eq!(once(&plan, 200, "a\nb"), pass());
    }

    #[test]
    fn a_wrong_status_fails_at_once() {
        let fail = "healthcheck fail(abc): wrong status code, expected 200, got: 302";
        assert_eq!(once(&plan(|_| ()), 302, ""), Verdict::Fail(fail.to_owned()));
    }

    #[test]
    fn allowed_failures_are_used_up_one_by_one() {
        let plan = plan(|check| check.allowed_failures = 2);
        let mut judge = plan.judge("abc", Duration::from_secs(120));
        let wrong = Answer::Response { status: 500, body: b"" };
        let text = "healthcheck fail(abc): wrong status code, expected 200, got: 500";
        let retry = Verdict::Retry(format!(" ---> {text}. Trying again in 3s"));
        assert_eq!(judge.judge(wrong, Duration::ZERO), retry);
        assert_eq!(judge.judge(Answer::Unreachable("no"), Duration::ZERO), {
            Verdict::Retry(" ---> healthcheck fail(abc): no. Trying again in 3s".to_owned())
        });
        assert_eq!(judge.judge(wrong, Duration::ZERO), retry);
        assert_eq!(judge.judge(wrong, Duration::ZERO), Verdict::Fail(text.to_owned()));
    }

    #[test]
    fn a_unit_that_cannot_be_reached_fails_when_its_time_is_over() {
        let plan = plan(|_| ());
        let mut judge = plan.judge("abc", Duration::from_secs(120));
        let nobody = Answer::Unreachable("connection refused");
        assert!(matches!(judge.judge(nobody, Duration::from_secs(119)), Verdict::Retry(_)));
        let fail = "healthcheck fail(abc): connection refused".to_owned();
        assert_eq!(judge.judge(nobody, Duration::from_secs(120)), Verdict::Fail(fail));
    }

    #[test]
    fn a_bad_pattern_is_an_error() {
        let check =
            Healthcheck { path: "/".to_owned(), pattern: "(".to_owned(), ..Healthcheck::default() };
        assert!(HealthPlan::new(&check).is_err());
    }

    #[test]
    fn the_time_is_configurable() {
        let with = |seconds: i64| {
            max_time(&serde_json::json!({"docker": {"healthcheck": {"max-time": seconds}}}))
        };
        assert_eq!(with(5), Duration::from_secs(5));
        assert_eq!(with(0), Duration::from_secs(120));
        assert_eq!(with(-1), Duration::from_secs(120));
        assert_eq!(max_time(&()), Duration::from_secs(120));
    }

    #[test]
    fn checks_are_off_when_an_old_unit_failed_or_is_stopped() {
        assert!(checks_apply([]));
        assert!(checks_apply([Some(Status::Started), Some(Status::Asleep), None]));
        assert!(!checks_apply([Some(Status::Started), Some(Status::Error)]));
        assert!(!checks_apply([Some(Status::Stopped)]));
    }

    fn pass() -> Verdict {
        Verdict::Pass(" ---> healthcheck successful(abc)".to_owned())
    }
}

//! What the operator says about a cluster, and how long things may take on any (spec 7.1).

use std::time::Duration;

use gantry_sdk::gantry_core::health;
use gantry_sdk::{Error, Labels, Result, Settings, quote};
use serde_json::Value;

/// The namespace of everything on a cluster that names none.
const DEFAULT_NAMESPACE: &str = "default";

const NAMESPACE: &str = "namespace";
const OVERCOMMIT_FACTOR: &str = "overcommit-factor";

/// A cluster, as far as it shapes objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// What the operator set for it.
    pub custom_data: Labels,
}

impl Cluster {
    /// The namespace of all objects that have one.
    pub fn namespace(&self) -> &str {
        self.set(NAMESPACE).unwrap_or(DEFAULT_NAMESPACE)
    }

    /// By how much more memory units may use than is kept free for them: what is set for the pool, or for the cluster, or 1.
    ///
    /// # Errors
    ///
    /// Not a number, or below 1, of which no memory can be worked out.
    pub fn overcommit_factor(&self, pool: &str) -> Result<i64> {
        let of_pool = self.set(&format!("{pool}:{OVERCOMMIT_FACTOR}"));
        let Some(text) = of_pool.or_else(|| self.set(OVERCOMMIT_FACTOR)) else { return Ok(1) };
        let reason = match text.parse::<i64>() {
            Ok(factor) if factor >= 1 => return Ok(factor),
            Ok(factor) => format!("must be at least 1, not {factor}"),
            Err(error) => format!("strconv.Atoi: parsing {}: {}", quote(text), reason(&error)),
        };
        let text = format!("misconfigured cluster overcommit factor: {reason}");
        Err(Error::InvalidArgument(text))
    }

    /// The value of a key; an empty one says nothing.
    fn set(&self, key: &str) -> Option<&str> {
        self.custom_data.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Why a text is no number, in the reference's words.
fn reason(error: &std::num::ParseIntError) -> &'static str {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    if matches!(error.kind(), PosOverflow | NegOverflow) {
        "value out of range"
    } else {
        "invalid syntax"
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A call of the API.
    pub api: Duration,
    /// A call that somebody waits for: units and nodes.
    pub api_short: Duration,
    /// A pod, until it has ended.
    pub pod_ready: Duration,
    /// A pod, until all its containers run.
    pub pod_running: Duration,
    /// All units of a process, until they are replaced.
    pub deployment_progress: Duration,
    /// New units that all run, until they all answer.
    pub healthcheck: Duration,
    /// The units of a node that is removed, until they have left it: a disruption budget may hold them for ever.
    pub drain: Duration,
}

impl Timeouts {
    /// Reads the configuration, which counts in seconds.
    pub fn from_settings(settings: &(impl Settings + ?Sized)) -> Self {
        let of = |key: &str, default| {
            seconds(settings.get(&format!("kubernetes:{key}")).as_ref())
                .unwrap_or(Duration::from_secs(default))
        };
        Self {
            api: of("api-timeout", 60),
            api_short: of("api-short-timeout", 5),
            pod_ready: of("pod-ready-timeout", 60),
            pod_running: of("pod-running-timeout", 600),
            deployment_progress: of("deployment-progress-timeout", 600),
            healthcheck: health::max_time(settings),
            drain: of("drain-timeout", 300),
        }
    }
}

/// A time in seconds, a fraction of one too; none when it is not set or makes no sense.
fn seconds(value: Option<&Value>) -> Option<Duration> {
    let seconds = match value? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let seconds = seconds.filter(|seconds| *seconds > 0.0)?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(data: &[(&str, &str)]) -> Cluster {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Cluster { name: "c1".to_owned(), custom_data: data.collect() }
    }

    #[test]
    fn a_cluster_has_one_namespace() {
        assert_eq!(cluster(&[]).namespace(), "default");
        assert_eq!(cluster(&[("namespace", "")]).namespace(), "default");
        assert_eq!(cluster(&[("namespace", "apps")]).namespace(), "apps");
    }

    #[test]
    fn the_factor_of_a_pool_wins() {
        let both = [("overcommit-factor", "3"), ("p1:overcommit-factor", "2")];
        assert_eq!(cluster(&both).overcommit_factor("p1"), Ok(2));
        assert_eq!(cluster(&both).overcommit_factor("p2"), Ok(3));
        assert_eq!(cluster(&[]).overcommit_factor("p1"), Ok(1));
        let empty = [("overcommit-factor", "3"), ("p1:overcommit-factor", "")];
        assert_eq!(cluster(&empty).overcommit_factor("p1"), Ok(3));
    }

    #[test]
    fn a_factor_is_a_number_from_one_on() {
        for (text, reason) in [
            ("a", r#"strconv.Atoi: parsing "a": invalid syntax"#),
            ("1.5", r#"strconv.Atoi: parsing "1.5": invalid syntax"#),
            (
                "99999999999999999999",
                r#"strconv.Atoi: parsing "99999999999999999999": value out of range"#,
            ),
            ("0", "must be at least 1, not 0"),
            ("-2", "must be at least 1, not -2"),
        ] {
            let error = cluster(&[("overcommit-factor", text)]).overcommit_factor("p").unwrap_err();
            let expected = format!("misconfigured cluster overcommit factor: {reason}");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn times_are_in_seconds_and_have_defaults() {
        let times = Timeouts::from_settings(&());
        let all = [
            times.api,
            times.api_short,
            times.pod_ready,
            times.pod_running,
            times.deployment_progress,
            times.healthcheck,
            times.drain,
        ];
        assert_eq!(all.map(|time| time.as_secs()), [60, 5, 60, 600, 600, 120, 300]);
        let times = Timeouts::from_settings(&json!({
            "kubernetes": {
                "api-timeout": 0.5, "api-short-timeout": "7", "pod-ready-timeout": 0,
                "pod-running-timeout": -1, "deployment-progress-timeout": "soon",
            },
            "docker": {"healthcheck": {"max-time": 3}},
        }));
        assert_eq!(times.api, Duration::from_millis(500));
        assert_eq!(times.api_short.as_secs(), 7);
        assert_eq!(times.pod_ready.as_secs(), 60);
        assert_eq!((times.pod_running.as_secs(), times.deployment_progress.as_secs()), (600, 600));
        assert_eq!(times.healthcheck.as_secs(), 3);
    }
}

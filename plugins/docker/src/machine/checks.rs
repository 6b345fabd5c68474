//! What a machine's agent checked of it, written down with the machine (spec 2.3, 5.13). Healing asks how old it is.

use gantry_sdk::gantry_core::node::NodeCheckResult;
use serde::{Deserialize, Serialize};

/// How many reports are kept.
const KEPT: usize = 10;

/// The last reports of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Checks {
    /// The newest last.
    reports: Vec<Report>,
    /// When all was well for the last time, in milliseconds since 1970; 0 for never.
    last_success: i64,
}

/// What an agent checked at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Report {
    /// When, in milliseconds since 1970.
    time: i64,
    checks: Vec<NodeCheckResult>,
}

impl Checks {
    /// Takes a report down. One without any check says that the agent is there, and nothing else is wrong.
    pub(crate) fn report(&mut self, checks: &[NodeCheckResult], now: i64) {
        self.reports.push(Report { time: now, checks: checks.to_vec() });
        let too_many = self.reports.len().saturating_sub(KEPT);
        self.reports.drain(..too_many);
        if checks.iter().all(|check| check.successful) {
            self.last_success = now;
        }
    }

    /// When the agent last reported; none when it never did.
    pub(crate) fn last_report(&self) -> Option<i64> {
        self.reports.last().map(|report| report.time)
    }

    /// When all was well for the last time; 0 for never.
    pub(crate) fn last_success(&self) -> i64 {
        self.last_success
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(successful: bool) -> NodeCheckResult {
        NodeCheckResult { name: "disk".to_owned(), successful, ..NodeCheckResult::default() }
    }

    #[test]
    fn the_last_ten_reports_are_kept_and_when_all_was_well() {
        let mut checks = Checks::default();
        assert_eq!((checks.last_report(), checks.last_success()), (None, 0));
        checks.report(&[check(true), check(true)], 1);
        checks.report(&[], 2);
        assert_eq!((checks.last_report(), checks.last_success()), (Some(2), 2));
        for time in 3..=13 {
            checks.report(&[check(true), check(false)], time);
        }
        assert_eq!((checks.last_report(), checks.last_success()), (Some(13), 2));
        let times: Vec<i64> = checks.reports.iter().map(|report| report.time).collect();
        assert_eq!(times, (4..=13).collect::<Vec<_>>());
    }
}

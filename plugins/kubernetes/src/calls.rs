//! Calls that are made again: an answer that was lost says nothing about what became of the call, and every call here is as good twice as once.

use std::time::{Duration, Instant};

use gantry_sdk::cluster::ClusterError;
use gantry_sdk::{Result, operation};

/// How long a cluster that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pauses between two tries: twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// How often a call is made that the cluster says it failed at.
const FAILURES: u32 = 3;

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Again,
    GiveUp,
}

/// Whether a call that ended like this is worth another try, after so many and so long.
fn next(error: &ClusterError, tries: u32, elapsed: Duration) -> Next {
    let again = match error {
        ClusterError::Unreachable(_) | ClusterError::TimedOut(_) => elapsed < PATIENCE,
        ClusterError::Failed(_) => tries < FAILURES,
        ClusterError::NotFound(_)
        | ClusterError::Conflict(_)
        | ClusterError::Forbidden(_)
        | ClusterError::Invalid(_)
        | ClusterError::Denied(_)
        | ClusterError::TooManyRequests(_)
        | ClusterError::Cancelled => false,
    };
    if again { Next::Again } else { Next::GiveUp }
}

/// Makes a call until the cluster has answered it.
///
/// # Errors
///
/// The cluster's answer, or that there is none.
pub(crate) fn insist<T>(
    call: impl Fn() -> gantry_sdk::cluster::Result<T>,
) -> gantry_sdk::cluster::Result<T> {
    again(call, next)
}

/// Makes a call that changes or deletes an object until the cluster has answered it. That the object has moved on is an answer only when it stays one: controllers write to it all the time, and what a
/// call wants of it is the same however it looks. A field that is another manager's stays so, and is told.
///
/// # Errors
///
/// The cluster's answer, or that there is none.
pub(crate) fn insist_on_change<T>(
    call: impl Fn() -> gantry_sdk::cluster::Result<T>,
) -> gantry_sdk::cluster::Result<T> {
    again(call, next_of_change)
}

fn next_of_change(error: &ClusterError, tries: u32, elapsed: Duration) -> Next {
    if matches!(error, ClusterError::Conflict(_)) && tries < FAILURES {
        return Next::Again;
    }
    next(error, tries, elapsed)
}

fn again<T>(
    call: impl Fn() -> gantry_sdk::cluster::Result<T>,
    next: impl Fn(&ClusterError, u32, Duration) -> Next,
) -> gantry_sdk::cluster::Result<T> {
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    for tries in 1.. {
        let error = match call() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if next(&error, tries, began.elapsed()) == Next::GiveUp || operation::pause(pause).is_err()
        {
            return Err(error);
        }
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
    call()
}

/// Makes many changes side by side, and again those that were not answered.
///
/// # Errors
///
/// The first that the cluster refused, or did not answer.
pub(crate) fn insist_on_all<T, R>(
    wanted: &[T],
    call: impl Fn(&[T]) -> Vec<gantry_sdk::cluster::Result<R>>,
    one: impl Fn(&T) -> gantry_sdk::cluster::Result<R>,
) -> Result<Vec<R>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut done = Vec::with_capacity(wanted.len());
    for (wanted, answer) in wanted.iter().zip(call(wanted)) {
        done.push(match answer {
            Err(error) if next_of_change(&error, 1, Duration::ZERO) == Next::Again => {
                insist_on_change(|| one(wanted))?
            }
            answer => answer?,
        });
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_answered_is_asked_again_and_what_was_refused_is_not() {
        let text = || String::from("x");
        let late = PATIENCE + Duration::from_secs(1);
        for (error, tries, elapsed, again) in [
            (ClusterError::Unreachable(text()), 1, Duration::ZERO, true),
            (ClusterError::TimedOut(text()), 9, Duration::from_secs(1), true),
            (ClusterError::Unreachable(text()), 1, late, false),
            (ClusterError::Failed(text()), 1, Duration::ZERO, true),
            (ClusterError::Failed(text()), FAILURES, Duration::ZERO, false),
            (ClusterError::Conflict(text()), 1, Duration::ZERO, false),
            (ClusterError::Forbidden(text()), 1, Duration::ZERO, false),
            (ClusterError::Cancelled, 1, Duration::ZERO, false),
        ] {
            let expected = if again { Next::Again } else { Next::GiveUp };
            assert_eq!(next(&error, tries, elapsed), expected, "{error:?} {tries} {elapsed:?}");
        }
    }

    #[test]
    fn what_is_changed_may_have_moved_on() {
        let conflict = ClusterError::Conflict(String::from("x"));
        assert_eq!(next_of_change(&conflict, 1, Duration::ZERO), Next::Again);
        assert_eq!(next_of_change(&conflict, FAILURES, Duration::ZERO), Next::GiveUp);
        let forbidden = ClusterError::Forbidden(String::from("x"));
        assert_eq!(next_of_change(&forbidden, 1, Duration::ZERO), Next::GiveUp);
    }
}

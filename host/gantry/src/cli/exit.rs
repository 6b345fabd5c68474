//! Exit codes of the command line.
//!
//! They are an interface: scripts rely on them, so a number never changes its meaning. What nobody foresaw is always 1. `app run` and `app shell` pass the code of what they ran through.

use crate::api::ProblemKind;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: it failed.
    Failed,
    /// 2: the command line or an argument is wrong; nothing was done.
    Usage,
    /// 3: refused by policy, by a limit or for want of a token.
    Refused,
    /// 4: something named does not exist.
    NotFound,
    /// 5: something is in the way: a name that is taken, another operation.
    Conflict,
    /// 6: the daemon or the engine cannot be reached.
    Unreachable,
    /// 7: it took longer than allowed, and may still be running.
    TimedOut,
    /// 130: somebody interrupted it.
    Interrupted,
    /// The code of the command that `app run` ran, or of the shell of `app shell`.
    Command(u8),
}

/// What `gantry help exit-codes` says.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    failed
  2    the command line or an argument is wrong; nothing was done
  3    refused: by policy, by a limit or quota, or for want of a token
  4    something named does not exist
  5    something is in the way: a name that is taken, another operation
  6    the daemon or the engine cannot be reached, or does not let the daemon in
  7    it took longer than allowed, and may still be running
  130  interrupted: cancelled by Ctrl-C or `operation cancel`, or answered with no

`gantry app run` ends with the exit code of the command it ran, and `gantry app
shell` with that of the shell; one that nobody knows is never 0.

`gantry serve` ends with 0 when every operation had finished, with 130 when some
were cancelled and undone, and with 7 when some did not even undo in time (the
next start finds them and cleans up).";

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NotFound => 4,
            Self::Conflict => 5,
            Self::Unreachable => 6,
            Self::TimedOut => 7,
            Self::Interrupted => 130,
            Self::Command(code) => code,
        }
    }

    /// The end that a problem is for the command line.
    #[must_use]
    pub const fn of(kind: ProblemKind) -> Self {
        match kind {
            ProblemKind::Invalid => Self::Usage,
            ProblemKind::Unauthorized
            | ProblemKind::Denied
            | ProblemKind::Forbidden
            | ProblemKind::OverLimit
            | ProblemKind::Quota
            | ProblemKind::PluginRefused => Self::Refused,
            ProblemKind::NotFound => Self::NotFound,
            ProblemKind::Conflict | ProblemKind::Busy => Self::Conflict,
            ProblemKind::Unavailable | ProblemKind::Overloaded | ProblemKind::ShuttingDown => {
                Self::Unreachable
            }
            ProblemKind::TimedOut => Self::TimedOut,
            ProblemKind::Cancelled => Self::Interrupted,
            ProblemKind::NotSupported
            | ProblemKind::UnitStartup
            | ProblemKind::PluginFailed
            | ProblemKind::InvalidObject
            | ProblemKind::Interrupted
            | ProblemKind::Storage
            | ProblemKind::Failed
            | ProblemKind::Internal => Self::Failed,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented() {
        let ends = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Refused,
            Exit::NotFound,
            Exit::Conflict,
            Exit::Unreachable,
            Exit::TimedOut,
            Exit::Interrupted,
        ];
        for end in ends {
            let line = format!("\n  {:<5}", end.code());
            assert!(HELP.contains(&line), "{end:?}");
        }
    }
}

//! Where a unit is in its life.
//!
//! ```text
//! created ─► building                        (the unit of a deploy)
//! created ─► starting ─► started ◄─► error   (a unit of the app; starting ─► error too)
//!            started ─► stopped | asleep ─► starting
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Where a unit is in its life (spec 1.3). The empty status of the reference is `Option::None` here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Written down; nothing runs yet.
    Created,
    /// Builds an image for a deploy.
    Building,
    /// Failed to start, or failed after it had started.
    Error,
    /// Its process has begun; nobody has said that it works.
    Starting,
    /// Up and running.
    Started,
    /// Ended on request, kept to be started again.
    Stopped,
    /// Ended on request until somebody asks for the app.
    Asleep,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Building,
        Self::Error,
        Self::Starting,
        Self::Started,
        Self::Stopped,
        Self::Asleep,
    ];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Building => "building",
            Self::Error => "error",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Asleep => "asleep",
        }
    }

    /// What may come next in the documented flow. Provisioners that map reports of their own (see [`crate::record`]) may go other ways.
    #[must_use]
    pub const fn next(self) -> &'static [Self] {
        match self {
            Self::Created => &[Self::Building, Self::Starting],
            Self::Building => &[],
            Self::Starting => &[Self::Started, Self::Error],
            Self::Error => &[Self::Started],
            Self::Started => &[Self::Error, Self::Stopped, Self::Asleep],
            Self::Stopped | Self::Asleep => &[Self::Starting],
        }
    }

    /// Whether the documented flow goes from here to there.
    #[must_use]
    pub fn can_become(self, next: Self) -> bool {
        self.next().contains(&next)
    }

    /// Whether the unit is there, even if its process is not.
    #[must_use]
    pub const fn is_available(self) -> bool {
        matches!(self, Self::Started | Self::Starting | Self::Error)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = Error;

    /// Reads a word exactly: no other case, no spaces.
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(Error::InvalidStatus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flow_is_the_documented_one() {
        use Status::{Asleep, Building, Created, Error, Started, Starting, Stopped};
        let documented = [
            (Created, Building),
            (Created, Starting),
            (Starting, Started),
            (Starting, Error),
            (Error, Started),
            (Started, Error),
            (Started, Stopped),
            (Started, Asleep),
            (Stopped, Starting),
            (Asleep, Starting),
        ];
        for from in Status::ALL {
            for to in Status::ALL {
                assert_eq!(from.can_become(to), documented.contains(&(from, to)), "{from} {to}");
            }
        }
    }

    #[test]
    fn its_serialised_form_is_its_word() {
        for status in Status::ALL {
            let json = serde_json::to_string(&status).unwrap();
            assert_eq!(json, format!("\"{status}\""));
        }
    }
}

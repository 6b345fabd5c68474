//! Where a unit is in its life.

use serde::{Deserialize, Serialize};

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

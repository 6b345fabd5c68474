//! What a provisioner sees of an app.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Error;

/// What a provisioner sees of an app. The verbs on an app (bind, quota) belong to the platform, not to this record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Lower case letters, digits and dashes, starting with a letter.
    pub name: String,
    /// The platform the app was made for; the type of its units.
    pub platform: String,
    /// The pool whose nodes run the app.
    pub pool: String,
    /// The team that owns the app.
    pub team_owner: String,
    /// Deploys finished so far.
    pub deploys: u32,
    /// Memory of one unit in bytes; 0 is no limit.
    pub memory: i64,
    /// Swap of one unit in bytes, on top of the memory.
    pub swap: i64,
    /// Relative weight of the CPU; 0 leaves the engine's default.
    pub cpu_share: i32,
    /// Whether the next build starts from the platform's image.
    pub update_platform: bool,
}

/// One variable of an app's environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether people may see the value.
    pub public: bool,
}

/// A router an app is reached through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRouter {
    /// Its name.
    pub name: String,
    /// Its options for this app.
    pub options: BTreeMap<String, String>,
    /// Where it answers for this app; empty while unknown.
    pub address: String,
    /// The kind of router; empty while unknown.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its state; empty while unknown.
    pub status: String,
    /// More about its state.
    pub status_detail: String,
}

/// Where an app has a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VolumeBind {
    /// The folder in its units.
    pub mount_point: String,
    /// Whether they may only read it.
    pub read_only: bool,
}

/// A volume, as an app sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// The name of its plan.
    pub plan: String,
    /// What the operator says of the plan.
    pub plan_options: BTreeMap<String, String>,
    /// What its owner says of it.
    pub options: BTreeMap<String, String>,
    /// Where the app has it.
    pub binds: Vec<VolumeBind>,
}

/// Checks that an app may use this many units, and gives the number to store. It is a number, not a difference.
///
/// # Errors
///
/// A negative number, or more units than the limit, if there is one.
pub fn quota_in_use(limit: Option<u32>, units: i32) -> Result<u32, Error> {
    let requested = u32::try_from(units)
        .map_err(|_| Error::InvalidArgument("invalid value, cannot be lesser than 0".to_owned()))?;
    match limit {
        Some(available) if requested > available => {
            Err(Error::QuotaExceeded { available, requested })
        }
        Some(_) | None => Ok(requested),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_limit_and_zero_units_are_always_fine() {
        assert_eq!(quota_in_use(Some(2), 2), Ok(2));
        assert_eq!(quota_in_use(Some(0), 0), Ok(0));
        assert_eq!(quota_in_use(None, i32::MAX), Ok(i32::MAX.unsigned_abs()));
        let error = quota_in_use(Some(0), 1).unwrap_err().to_string();
        assert_eq!(error, "Quota exceeded. Available: 0. Requested: 1.");
        let error = quota_in_use(None, -1).unwrap_err().to_string();
        assert_eq!(error, "invalid value, cannot be lesser than 0");
    }
}

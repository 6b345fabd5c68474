//! Plans and quotas: what apps may use.

use serde::{Deserialize, Serialize};

/// What a unit of an app may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// The plan's name; empty when the app was given amounts only.
    pub name: String,
    /// Memory in bytes; 0 is no limit.
    pub memory: i64,
    /// Swap in bytes, on top of the memory.
    pub swap: i64,
    /// Relative weight of the CPU; 0 leaves the engine's default.
    pub cpu_share: i32,
}

/// A plan, with who has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanInfo {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// Whether it is that of apps that name none.
    pub default: bool,
    /// The apps that were given it.
    pub apps: Vec<String>,
    /// When it was made.
    pub created: String,
}

/// A plan to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewPlan {
    /// Its name.
    pub name: String,
    /// Memory in bytes; 0 is no limit.
    pub memory: i64,
    /// Swap in bytes, on top of the memory.
    pub swap: i64,
    /// Relative weight of the CPU; 0 leaves the engine's default.
    pub cpu_share: i32,
    /// Whether it is that of apps that name none, in place of the one that is.
    pub default: bool,
}

/// A plan by its name, and amounts in place of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanChoice {
    /// Its name. Empty for the default one or, of an app that is there, for what it has.
    pub name: String,
    /// Memory in bytes; 0 is no limit.
    pub memory: Option<i64>,
    /// Swap in bytes, on top of the memory.
    pub swap: Option<i64>,
    /// Relative weight of the CPU; 0 leaves the engine's default.
    pub cpu_share: Option<i32>,
}

/// How many units an app may have, and how many it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// How many it may have; none for as many as wanted.
    pub limit: Option<u32>,
    /// How many it uses.
    pub in_use: u32,
}

/// A change of how many units an app may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaChange {
    /// How many.
    pub units: UnitLimit,
}

/// A number of units, or none at all: `3`, `"unlimited"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum UnitLimit {
    /// At most so many.
    Units(u32),
    /// As many as wanted.
    Word(Unlimited),
}

/// As many as wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unlimited {
    /// As many as wanted.
    Unlimited,
}

impl UnitLimit {
    /// The number; none for as many as wanted.
    #[must_use]
    pub fn number(self) -> Option<u32> {
        match self {
            Self::Units(units) => Some(units),
            Self::Word(Unlimited::Unlimited) => None,
        }
    }
}

impl std::str::FromStr for UnitLimit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "unlimited" => Ok(Self::Word(Unlimited::Unlimited)),
            number => number
                .parse()
                .map(Self::Units)
                .map_err(|_| "neither a number of units nor `unlimited`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_the_word_for_none_and_is_always_said() {
        let read =
            |text: &str| serde_json::from_str::<QuotaChange>(text).map(|one| one.units.number());
        assert_eq!(read(r#"{"units": 3}"#).unwrap(), Some(3));
        assert_eq!(read(r#"{"units": "unlimited"}"#).unwrap(), None);
        for wrong in ["{}", r#"{"units": null}"#, r#"{"units": -1}"#, r#"{"units": "many"}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!("unlimited".parse::<UnitLimit>().map(UnitLimit::number), Ok(None));
        assert_eq!("0".parse::<UnitLimit>().map(UnitLimit::number), Ok(Some(0)));
        assert!("-1".parse::<UnitLimit>().is_err());
    }
}

//! Names that cannot be wrong once they exist.
//!
//! What comes from people is parsed here, at the door; what an engine or a stored record says is not parsed again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How long a name may be: container and object names are made of it and must stay within 63.
const LONGEST: usize = 40;

/// Why a text is no such name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} name {}: {rule}", crate::quote(.text))]
pub struct InvalidName {
    /// What should have been named.
    pub kind: &'static str,
    /// The text.
    pub text: String,
    /// What such a name looks like.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $rule:literal, $is_valid:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                if text.len() <= LONGEST && $is_valid(&text) {
                    Ok(Self(text))
                } else {
                    Err(InvalidName { kind: $kind, text, rule: $rule })
                }
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of an app.
    AppName,
    "app",
    "at most 40 lower case letters, digits and dashes, starting with a letter",
    is_plain
);
name!(
    /// The name of a pool.
    PoolName,
    "pool",
    "at most 40 lower case letters, digits and dashes, starting with a letter",
    is_plain
);
name!(
    /// The name of a provisioner, under which a plugin is installed.
    ProvisionerName,
    "provisioner",
    "at most 40 lower case letters, digits and dashes, starting with a letter",
    is_plain
);
name!(
    /// The name of a process, as a Procfile has it.
    ProcessName,
    "process",
    "at most 40 letters, digits, dashes and underscores",
    is_process
);

fn is_plain(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_process(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_name_is_lower_case_letters_digits_and_dashes() {
        for good in ["a", "my-app", "a1-", &"a".repeat(40)] {
            assert_eq!(good.parse::<AppName>().unwrap().as_str(), good);
        }
        for bad in ["", "1a", "-a", "A", "a_b", "a b", "a.b", "é", "a/b", "a\n", &"a".repeat(41)] {
            assert!(bad.parse::<AppName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_process_name_is_what_a_procfile_has() {
        for good in ["web", "Web_2", "-", "9"] {
            assert!(good.parse::<ProcessName>().is_ok(), "{good:?}");
        }
        for bad in ["", "a b", "a:b", "wéb", "a.b"] {
            assert!(bad.parse::<ProcessName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_bad_name_does_not_come_in_by_json() {
        assert!(serde_json::from_str::<PoolName>("\"p1\"").is_ok());
        let error = serde_json::from_str::<PoolName>("\"P 1\"").unwrap_err().to_string();
        assert!(error.starts_with(r#"invalid pool name "P 1": at most 40"#), "{error}");
    }
}

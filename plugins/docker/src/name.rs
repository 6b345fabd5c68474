//! Names and times of containers.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

/// What stands between the app and the letters of a container that runs one command.
pub(crate) const ISOLATED: &str = "isolated";

/// The milliseconds since 1970.
pub(crate) fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// The name of a new unit: `<app>-<20 hex digits>` (spec 5.1). `number` counts the units that one call makes.
pub(crate) fn of_unit(app: &str, number: usize) -> String {
    unit_name(app, now(), number, random())
}

/// The name of a container that runs one command for an app.
pub(crate) fn of_isolated_run(app: &str) -> String {
    format!("{app}-{ISOLATED}-{:016x}", random())
}

/// The digits are the time, the number and chance, so that names sort by age: the oldest unit comes first wherever units are listed. The time's 44 bits last until the year 2527.
fn unit_name(app: &str, now: i64, number: usize, random: u64) -> String {
    let (time, number, random) = (now & 0xfff_ffff_ffff, number & 0xfff, random & 0xff_ffff);
    format!("{app}-{time:011x}{number:03x}{random:06x}")
}

/// Chance, from the host's source: a hasher is seeded with it.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_app_and_twenty_hex_digits() {
        let name = of_unit("my-app", 0);
        let (app, digits) = name.rsplit_once('-').unwrap();
        assert_eq!(app, "my-app");
        assert_eq!(digits.len(), 20);
        assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn names_sort_by_age() {
        let names = [
            unit_name("a", 1_700_000_000_000, 1, u64::MAX),
            unit_name("a", 1_700_000_000_000, 2, 0),
            unit_name("a", 1_700_000_000_001, 0, 0),
        ];
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn two_names_differ() {
        assert_ne!(of_unit("a", 0), of_unit("a", 0));
        assert_ne!(of_isolated_run("a"), of_isolated_run("a"));
    }
}

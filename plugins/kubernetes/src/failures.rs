//! Work of which every part is tried, whatever becomes of the others, and all that failed is told.

use std::mem::discriminant;

use gantry_sdk::{Error, Result};

/// What failed.
#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<(String, Error)>);

impl Failures {
    /// Takes note of how a part ended, in these words when it failed.
    pub(crate) fn note(&mut self, ended: Result<()>, tell: impl FnOnce(&Error) -> String) {
        if let Err(error) = ended {
            self.0.push((tell(&error), error));
        }
    }

    /// Whether nothing failed until now.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How the whole ended.
    ///
    /// # Errors
    ///
    /// Something failed. Parts that failed in one way make the whole fail in that way: whoever may not delete one thing is told the same as one who may delete nothing.
    pub(crate) fn end(self) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let kinds: [fn(String) -> Error; 6] = [
            Error::Denied,
            Error::Unavailable,
            Error::TimedOut,
            Error::Conflict,
            Error::InvalidArgument,
            Error::NotFound,
        ];
        let fits = |kind: &fn(String) -> Error| {
            let kind = discriminant(&kind(String::new()));
            self.0.iter().all(|(_, error)| discriminant(error) == kind)
        };
        let kind = kinds.into_iter().find(fits).unwrap_or(Error::Other);
        let told: Vec<String> = self.0.into_iter().map(|(told, _)| told).collect();
        Err(kind(told.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_fail_in_one_way_make_the_whole_fail_so() {
        let away = || Error::Unavailable("away".to_owned());
        let odd = || Error::Other("odd".to_owned());
        for (failures, whole) in [
            (vec![], Ok(())),
            (vec![away()], Err(Error::Unavailable("part: away".to_owned()))),
            (vec![away(), away()], Err(Error::Unavailable("part: away; part: away".to_owned()))),
            (vec![away(), odd()], Err(Error::Other("part: away; part: odd".to_owned()))),
            (vec![Error::Cancelled], Err(Error::Other("part: cancelled".to_owned()))),
        ] {
            let mut noted = Failures::default();
            noted.note(Ok(()), |_| unreachable!("it ended well"));
            for failure in failures {
                noted.note(Err(failure), |error| format!("part: {error}"));
            }
            assert_eq!(noted.is_empty(), whole.is_ok());
            assert_eq!(noted.end(), whole);
        }
    }
}

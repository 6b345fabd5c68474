//! Ids of operations: 16 characters that sort by time.
//!
//! Ten characters are the milliseconds since 1970, six are random, both in Crockford's base 32 (no `i`, `l`, `o`, `u`, so that they are easy to read out), lower case. Ids of one
//! daemon grow strictly: of two in one millisecond the later one counts on.

use std::sync::{Mutex, PoisonError};

const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const RANDOM_BITS: u32 = 30;

/// Makes ids.
#[derive(Debug, Default)]
pub(super) struct Ids {
    last: Mutex<u128>,
}

impl Ids {
    /// An id for this moment, above all that were given out.
    pub(super) fn next(&self, milliseconds: i64) -> String {
        let mut bytes = [0; 4];
        // Without randomness ids still differ: they grow.
        let _ = getrandom::fill(&mut bytes);
        let random = u128::from(u32::from_le_bytes(bytes) >> (32 - RANDOM_BITS));
        let moment = u128::from(u64::try_from(milliseconds).unwrap_or(0));
        let wanted = (moment << RANDOM_BITS) | random;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = wanted.max(last.saturating_add(1));
        encode(*last)
    }
}

fn encode(number: u128) -> String {
    (0..16_u32)
        .rev()
        .map(|place| {
            let index = usize::try_from((number >> (place * 5)) & 31).unwrap_or(0);
            char::from(LETTERS.get(index).copied().unwrap_or(b'0'))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_with_time_and_within_one_moment() {
        let ids = Ids::default();
        let mut made: Vec<String> =
            (0..1000).map(|n| ids.next(1_700_000_000_000 + n / 100)).collect();
        let sorted = {
            let mut sorted = made.clone();
            sorted.sort();
            sorted.dedup();
            sorted
        };
        assert_eq!(made, sorted);
        made.push(ids.next(0));
        assert!(made.is_sorted(), "a clock that goes back");
        assert!(made.iter().all(|id| id.len() == 16));
    }

    #[test]
    fn ids_of_two_daemons_differ_in_one_moment() {
        assert_ne!(Ids::default().next(7), Ids::default().next(7));
    }
}

//! The nearest of some names, for whoever mistyped one.

/// The name that is nearest to what was typed, if one is near enough to be meant.
pub(crate) fn nearest<S: AsRef<str>>(
    typed: &str,
    names: impl IntoIterator<Item = S>,
) -> Option<String> {
    let far = (typed.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (distance(typed, name.as_ref()), name.as_ref().to_owned()))
        .filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be put in, taken out, exchanged or swapped with their neighbour to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    let mut letter_before = None;
    for (row, letter) in one.chars().enumerate() {
        let mut current = Vec::with_capacity(last.len());
        current.push(row + 1);
        let mut other_before = None;
        for (column, &candidate) in other.iter().enumerate() {
            let at = |line: &[usize], place: usize| line.get(place).copied().unwrap_or(usize::MAX);
            let same = usize::from(letter != candidate);
            let mut best = (at(&last, column).saturating_add(same))
                .min(at(&last, column + 1).saturating_add(1))
                .min(at(&current, column).saturating_add(1));
            if letter_before == Some(candidate) && other_before == Some(letter) && column > 0 {
                best = best.min(at(&before_last, column - 1).saturating_add(1));
            }
            current.push(best);
            other_before = Some(candidate);
        }
        before_last = std::mem::replace(&mut last, current);
        letter_before = Some(letter);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let names = ["memory", "cpu", "host-calls"];
        assert_eq!(nearest("memroy", names).as_deref(), Some("memory"));
        assert_eq!(nearest("host_calls", names).as_deref(), Some("host-calls"));
        assert_eq!(nearest("cpus", names).as_deref(), Some("cpu"));
        assert_eq!(nearest("zebra", names), None);
        assert_eq!(nearest("x", ["web"]), None);
    }

    #[test]
    fn distances() {
        let cases = [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("kitten", "sitting", 3)];
        for (one, other, expected) in cases {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}

//! How much of a node's memory may be promised to units (spec 5.11).

use std::collections::BTreeMap;

use super::Node;

/// What the operator says about memory, and what apps need.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// How much of a node's memory may be promised; 0 for any amount. Single precision, as the reference reads it: 0.7 of 100000 is 69999.
    pub ratio: f32,
    /// The metadata that tells how much a node has, in bytes; empty when none does.
    pub total_key: String,
    /// What one unit of each app needs, in bytes.
    pub of_apps: BTreeMap<String, i64>,
    /// Whether nodes come by themselves when the pool is full: then a full pool takes units all the same.
    pub grows: bool,
}

impl Memory {
    /// What one unit of an app needs; 0 when it has no limit.
    #[must_use]
    pub fn of(&self, app: &str) -> i64 {
        self.of_apps.get(app).copied().unwrap_or_default()
    }

    /// How much of a node's memory may be promised. None for any amount: nobody said how much it has, or what part of it may be.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "rounding down is the rule")]
    pub fn limit(&self, node: &Node) -> Option<i64> {
        if self.ratio == 0.0 || self.total_key.is_empty() {
            return None;
        }
        let total: f64 = node.metadata.get(&self.total_key)?.parse().ok()?;
        let known = total != 0.0 && total.is_finite();
        known.then(|| (f64::from(self.ratio) * total).floor() as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(ratio: f32, total: &str) -> Option<i64> {
        let memory = Memory { ratio, total_key: "mem".to_owned(), ..Memory::default() };
        let metadata = BTreeMap::from([("mem".to_owned(), total.to_owned())]);
        memory.limit(&Node { metadata, ..Node::default() })
    }

    #[test]
    fn the_ratio_has_single_precision_and_the_limit_is_rounded_down() {
        assert_eq!(limit(0.7, "100000"), Some(69_999));
        assert_eq!(limit(0.9, "1000000000"), Some(899_999_976));
        assert_eq!(limit(0.8, "100000000"), Some(80_000_001));
        assert_eq!(limit(1.0, "1e5"), Some(100_000));
        assert_eq!(limit(0.5, "3"), Some(1));
    }

    #[test]
    fn a_node_of_unknown_size_has_no_limit() {
        for total in ["", "0", "much", "inf", "nan"] {
            assert_eq!(limit(0.5, total), None, "{total}");
        }
        assert_eq!(limit(0.0, "100"), None);
        let memory = Memory { ratio: 0.5, ..Memory::default() };
        assert_eq!(memory.limit(&Node::default()), None);
    }
}

//! Hosts that their metadata sets apart from others (spec 4.4, 5.11).

use std::collections::{BTreeMap, HashMap};

use gantry_sdk::gantry_core::node::split_metadata;

type Metadata = BTreeMap<String, String>;

/// The id at the machine's provider is a node's own and groups nothing.
const IAAS_ID: &str = "iaas-id";

/// For how long nodes rank as they do in their groups when some of them are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Hold {
    /// Whichever are left out.
    Always,
    /// While there is one of each kind left.
    WithKinds,
    /// Until one is left out.
    #[default]
    Never,
}

/// Which group each node is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    /// The group of each node, in the order of the nodes; of several the last.
    pub(super) of_nodes: Vec<Option<usize>>,
    /// The kind of each node: nodes of a kind differ in nothing.
    pub(super) kinds: Vec<usize>,
    /// For how long these are the groups.
    pub(super) hold: Hold,
    /// Why there are no groups although the metadata differs.
    pub(super) imbalance: Option<String>,
}

impl Groups {
    /// The groups of nodes with this metadata. Nodes of a kind, which differ in nothing, are compared once.
    pub(super) fn of(nodes: &[&Metadata]) -> Self {
        let kinds = kinds(nodes);
        let metadata: Vec<Metadata> = kinds.iter().map(|(metadata, _)| metadata.clone()).collect();
        let mut of_kind = vec![0; nodes.len()];
        for (kind, (_, members)) in kinds.iter().enumerate() {
            for member in members {
                if let Some(of_kind) = of_kind.get_mut(*member) {
                    *of_kind = kind;
                }
            }
        }
        let of_nodes = vec![None; nodes.len()];
        let none = Self { of_nodes, kinds: of_kind, hold: Hold::Always, imbalance: None };
        let split = match split_metadata(&metadata) {
            Ok(split) => split.groups,
            // What tells kinds apart, and whether that is in balance, is a matter of the kinds alone.
            Err(unbalanced) => {
                let imbalance = Some(unbalanced.to_string());
                return Self { hold: Hold::WithKinds, imbalance, ..none };
            }
        };
        if split.is_empty() {
            // No key sets any node apart, nor would it among fewer.
            return none;
        }
        let one_kind_each = split.iter().all(|group| group.nodes.len() == 1);
        let groups: Vec<Vec<usize>> = if one_kind_each {
            let kind = |kind: &usize| kinds.get(*kind).map(|(_, nodes)| nodes.clone());
            let mut groups: Vec<Vec<usize>> = split
                .iter()
                .map(|group| group.nodes.iter().filter_map(kind).flatten().collect())
                .collect();
            groups.sort_by_key(Vec::len);
            groups
        } else {
            // A missing key reads as empty, so kinds share groups. Which group of a size comes first depends on every node.
            let all: Vec<Metadata> = nodes.iter().map(|node| (*node).clone()).collect();
            let split = split_metadata(&all).unwrap_or_default();
            split.groups.into_iter().map(|group| group.nodes).collect()
        };
        // With one kind in each, any two kinds differ in every key that sets kinds apart. They still do when others are gone, and a kind that is left alone shares its count, which decides nothing.
        let hold = if one_kind_each { Hold::Always } else { Hold::Never };
        let mut of_nodes = none.of_nodes.clone();
        for (number, members) in groups.iter().enumerate() {
            for member in members {
                if let Some(group) = of_nodes.get_mut(*member) {
                    *group = Some(number);
                }
            }
        }
        Self { of_nodes, hold, ..none }
    }
}

/// The different kinds of metadata and the nodes that have them, in the order in which they first come.
fn kinds(nodes: &[&Metadata]) -> Vec<(Metadata, Vec<usize>)> {
    let mut kinds: Vec<(Metadata, Vec<usize>)> = Vec::new();
    let mut numbers: HashMap<Metadata, usize> = HashMap::new();
    for (node, metadata) in nodes.iter().enumerate() {
        let mut kind = (*metadata).clone();
        kind.remove(IAAS_ID);
        let number = *numbers.entry(kind).or_insert_with_key(|kind| {
            kinds.push((kind.clone(), Vec::new()));
            kinds.len() - 1
        });
        if let Some((_, members)) = kinds.get_mut(number) {
            members.push(node);
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups<const N: usize>(nodes: [&[(&str, &str)]; N]) -> Groups {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let nodes: Vec<Metadata> =
            nodes.iter().map(|node| node.iter().map(owned).collect()).collect();
        Groups::of(&nodes.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_smaller_group_has_a_smaller_number() {
        let found = groups([&[("z", "a")], &[("z", "a"), ("iaas-id", "1")], &[("z", "b")]]);
        assert_eq!(found.of_nodes, [Some(1), Some(1), Some(0)]);
        assert_eq!((found.hold, found.kinds), (Hold::Always, vec![0, 0, 1]));
    }

    #[test]
    fn metadata_that_is_out_of_balance_makes_no_groups_and_is_told() {
        let found = groups([&[("odd", "1")], &[]]);
        assert_eq!(found.of_nodes, [None, None]);
        assert_eq!(
            found.imbalance.as_deref(),
            Some("unbalanced metadata for node group: map[odd:1] vs map[]")
        );
        assert_eq!(found.hold, Hold::WithKinds);
        assert_eq!(groups([&[("z", "a")], &[("z", "a")]]).imbalance, None);
    }

    #[test]
    fn a_node_may_be_in_no_group_or_in_two() {
        let found = groups([
            &[("x", "2")],
            &[("y", ""), ("z", "")],
            &[("x", ""), ("z", "")],
            &[("y", "1")],
        ]);
        // Groups [0] and [0, 1, 2]: the later one counts.
        assert_eq!(found.of_nodes, [Some(1), Some(1), Some(1), None]);
        assert_eq!(found.hold, Hold::Never);
    }
}

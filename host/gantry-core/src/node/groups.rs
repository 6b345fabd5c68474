//! Which nodes differ from others by metadata, and in what (spec 4.4).

use std::collections::BTreeMap;

use crate::go;

/// Metadata: key to value.
type Metadata = BTreeMap<String, String>;

/// The id at the machine's provider is a node's own and groups nothing.
const IAAS_ID: &str = "iaas-id";

/// Metadata, and the nodes that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaWithFrequency {
    /// The metadata.
    pub metadata: BTreeMap<String, String>,
    /// The nodes, as positions in the list that was split.
    pub nodes: Vec<usize>,
}

/// Metadata of nodes, split into what tells groups of them apart and what all have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataGroups {
    /// The groups, small ones first; none when all nodes have the same metadata.
    pub groups: Vec<MetaWithFrequency>,
    /// What all nodes have in common.
    pub common: BTreeMap<String, String>,
}

/// Two nodes differ in some of what tells nodes apart and agree in the rest: there are no clean groups.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unbalanced metadata for node group: {} vs {}",
    go::display_map(.one),
    go::display_map(.other)
)]
pub struct UnbalancedMetadata {
    /// What tells one node from others.
    pub one: BTreeMap<String, String>,
    /// What tells the other.
    pub other: BTreeMap<String, String>,
}

/// Splits the metadata (keys without prefix) of nodes. A key that a node does not have reads as empty.
///
/// # Errors
///
/// The first two nodes that spoil the groups.
pub fn split_metadata(nodes: &[Metadata]) -> Result<MetadataGroups, UnbalancedMetadata> {
    let mut common = Metadata::new();
    let exclusive: Vec<Metadata> = nodes
        .iter()
        .map(|node| {
            let (own, shared): (Metadata, Metadata) = node
                .iter()
                .filter(|(key, _)| *key != IAAS_ID)
                .map(|(key, value)| (key.clone(), value.clone()))
                .partition(|(key, value)| nodes.iter().any(|other| read(other, key) != value));
            common.extend(shared);
            own
        })
        .collect();
    let mut groups = Vec::new();
    let mut claimed = vec![false; nodes.len()];
    for (index, one) in exclusive.iter().enumerate() {
        let mut members = Vec::new();
        for (other_index, other) in exclusive.iter().enumerate() {
            let differing = one.iter().filter(|(key, value)| read(other, key) != *value).count();
            if differing == 0 {
                members.push(other_index);
            } else if differing < one.len() || differing > other.len() {
                return Err(UnbalancedMetadata { one: one.clone(), other: other.clone() });
            }
        }
        let is_claimed = claimed.get(index).copied().unwrap_or_default();
        for member in &members {
            if let Some(claimed) = claimed.get_mut(*member) {
                *claimed = true;
            }
        }
        if !is_claimed && !one.is_empty() {
            groups.push(MetaWithFrequency { metadata: one.clone(), nodes: members });
        }
    }
    groups.sort_by_key(|group| group.nodes.len());
    Ok(MetadataGroups { groups, common })
}

fn read<'a>(metadata: &'a Metadata, key: &str) -> &'a str {
    metadata.get(key).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes<const N: usize>(nodes: [&[(&str, &str)]; N]) -> Vec<Metadata> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        nodes.iter().map(|node| node.iter().map(owned).collect()).collect()
    }

    #[test]
    fn the_first_two_nodes_that_spoil_the_groups_are_named() {
        for (nodes, message) in [
            (nodes([&[("1", "a")], &[]]), "map[1:a] vs map[]"),
            (nodes([&[], &[("1", "a")]]), "map[1:a] vs map[]"),
            (
                nodes([
                    &[("2", "z1"), ("3", "n1"), ("4", "b")],
                    &[("2", "z2"), ("3", "n2"), ("4", "b")],
                    &[("2", "z3"), ("3", "n1"), ("4", "b")],
                ]),
                "map[2:z1 3:n1] vs map[2:z3 3:n1]",
            ),
        ] {
            let error = split_metadata(&nodes).unwrap_err().to_string();
            assert_eq!(error, format!("unbalanced metadata for node group: {message}"));
        }
    }

    #[test]
    fn small_groups_come_first_and_equal_ones_stay_in_order() {
        let split =
            split_metadata(&nodes([&[("z", "a")], &[("z", "b")], &[("z", "a")], &[("z", "c")]]));
        let groups: Vec<Vec<usize>> =
            split.unwrap().groups.into_iter().map(|group| group.nodes).collect();
        assert_eq!(groups, [vec![1], vec![3], vec![0, 2]]);
    }

    #[test]
    fn the_id_at_the_provider_groups_nothing() {
        let split = split_metadata(&nodes([&[("iaas-id", "1")], &[("iaas-id", "2")]])).unwrap();
        assert_eq!(split, MetadataGroups::default());
    }
}

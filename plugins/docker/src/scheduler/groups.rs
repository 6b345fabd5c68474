//! Hosts that their metadata sets apart from others (spec 4.4, 5.11).
//!
//! A *mark* is a key with its value. Two kinds of nodes that share a mark that a third does not have agree in a key that sets nodes apart; being two they differ in another, and that spoils the
//! balance. So does a kind that has more marks than another. Nodes are in balance, then, exactly when each mark is one of a single kind or of all, and all kinds have as many. Counting the marks
//! decides it, and still does while nodes leave: no kind is compared with another.
//!
//! The exception are *blanks*: a key that is empty on a node and missing on another reads the same on both. What people say of a node leaves none, for an empty value takes its key away; nodes that
//! have them all the same are split as the definition says, every time anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gantry_sdk::gantry_core::node::split_metadata;

type Metadata = BTreeMap<String, String>;

/// The id at the machine's provider is a node's own and groups nothing.
const IAAS_ID: &str = "iaas-id";

/// The kinds of nodes: those of a kind differ in nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds {
    /// The kind of each node, in the order of the nodes.
    of_nodes: Vec<usize>,
    /// The metadata of each kind, in the order in which they first come.
    metadata: Vec<Metadata>,
    /// The marks of each kind.
    marks: Vec<Vec<usize>>,
    has_blanks: bool,
}

impl Kinds {
    /// The kinds of nodes with this metadata.
    pub(super) fn of(nodes: &[&Metadata]) -> Self {
        let (empty, said) = (keys(nodes, true), keys(nodes, false));
        let is_missing = |key: &str| nodes.iter().any(|node| !node.contains_key(key));
        let has_blanks = empty.intersection(&said).any(|key| is_missing(key));
        let mut kinds = Self { has_blanks, ..Self::default() };
        let (mut numbers, mut marks) = (HashMap::new(), HashMap::new());
        for node in nodes {
            let mut kind = (*node).clone();
            kind.retain(|key, _| said.contains(key.as_str()));
            let number = *numbers.entry(kind).or_insert_with_key(|kind| {
                let mark = |(key, value): (&String, &String)| {
                    let next = marks.len();
                    *marks.entry((key.clone(), value.clone())).or_insert(next)
                };
                kinds.marks.push(kind.iter().map(mark).collect());
                kinds.metadata.push(kind.clone());
                kinds.metadata.len() - 1
            });
            kinds.of_nodes.push(number);
        }
        kinds
    }

    /// The groups of some of the nodes, as if there were no others.
    pub(super) fn groups(&self, nodes: &[usize]) -> Groups {
        let mut groups = Groups {
            of_nodes: vec![None; self.of_nodes.len()],
            hold: Hold::Never,
            looked_at: nodes.len() as u64,
        };
        if self.has_blanks {
            groups.split(nodes, self);
            return groups;
        }
        let mut members = vec![0; self.metadata.len()];
        let mut balance = Balance::default();
        for kind in nodes.iter().filter_map(|node| self.of_nodes.get(*node)) {
            let Some(members) = members.get_mut(*kind) else { continue };
            *members += 1;
            if *members == 1 {
                let marks = self.marks_of(*kind);
                groups.looked_at += marks.len() as u64;
                balance.join(marks);
            }
        }
        if !balance.is_kept() {
            groups.hold = Hold::WhileSpoiled { members, balance };
            return groups;
        }
        // Any two kinds differ in every key that sets kinds apart. They still do when others are gone, and a kind that is left alone shares its count, which decides nothing.
        groups.hold = Hold::Always;
        if balance.kinds > 1 {
            groups.put(nodes, |node| self.of_nodes.get(node).copied());
        }
        groups
    }

    /// Why there are no groups of all nodes although their metadata differs: the first two that spoil the balance.
    pub(super) fn imbalance(&self) -> Option<String> {
        let mut kinds = self.metadata.clone();
        let mut common = kinds.first()?.clone();
        common.retain(|key, value| kinds.iter().all(|kind| kind.get(key) == Some(&*value)));
        // What all have in common spoils nothing, but takes a look at all to be known as such.
        for kind in &mut kinds {
            kind.retain(|key, _| !common.contains_key(key));
        }
        split_metadata(&kinds).err().map(|unbalanced| unbalanced.to_string())
    }

    fn marks_of(&self, kind: usize) -> &[usize] {
        self.marks.get(kind).map_or(&[], Vec::as_slice)
    }
}

/// The keys that are empty on some node, or those that are not. One that is never anything else but empty tells no nodes apart.
fn keys<'a>(nodes: &[&'a Metadata], empty: bool) -> BTreeSet<&'a str> {
    let pairs = nodes.iter().flat_map(|node| node.iter());
    let pairs = pairs.filter(|(key, value)| *key != IAAS_ID && value.is_empty() == empty);
    pairs.map(|(key, _)| key.as_str()).collect()
}

/// Which group each node is in, while some of them leave.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    /// The group of each node, in the order of the nodes; of several the last.
    pub(super) of_nodes: Vec<Option<usize>>,
    hold: Hold,
    looked_at: u64,
}

/// For how long nodes rank as they do in their groups while some of them leave.
#[derive(Clone, Debug)]
enum Hold {
    /// Whichever leave.
    Always,
    /// There are no groups until the kinds that are left are in balance.
    WhileSpoiled {
        /// How many nodes of each kind are left.
        members: Vec<usize>,
        balance: Balance,
    },
    /// Until one leaves.
    Never,
}

impl Groups {
    /// Leaves out a node; tells whether the others rank as they did.
    pub(super) fn leave(&mut self, node: usize, kinds: &Kinds) -> bool {
        match &mut self.hold {
            Hold::Always => true,
            Hold::Never => false,
            Hold::WhileSpoiled { members, balance } => {
                let Some(kind) = kinds.of_nodes.get(node) else { return true };
                let Some(members) = members.get_mut(*kind) else { return true };
                *members = members.saturating_sub(1);
                if *members > 0 {
                    return true;
                }
                let marks = kinds.marks_of(*kind);
                self.looked_at += marks.len() as u64;
                balance.leave(marks);
                !balance.is_kept()
            }
        }
    }

    /// Whether they are those of nodes in balance, and without blanks.
    pub(super) fn are_clean(&self) -> bool {
        matches!(self.hold, Hold::Always)
    }

    /// How many nodes, marks of kinds and pairs of nodes were looked at so far.
    pub(super) fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// Splits nodes as the definition says: pair by pair.
    fn split(&mut self, nodes: &[usize], kinds: &Kinds) {
        self.looked_at += (nodes.len() * nodes.len()) as u64;
        let kind = |node: &usize| kinds.metadata.get(*kinds.of_nodes.get(*node)?);
        let metadata: Vec<Metadata> = nodes.iter().filter_map(kind).cloned().collect();
        let split = split_metadata(&metadata).unwrap_or_default();
        for (number, group) in split.groups.into_iter().enumerate() {
            let members = group.nodes.iter().filter_map(|member| nodes.get(*member));
            self.put(members, |_| Some(number));
        }
    }

    fn put<'n>(
        &mut self,
        nodes: impl IntoIterator<Item = &'n usize>,
        group: impl Fn(usize) -> Option<usize>,
    ) {
        for node in nodes {
            if let Some(of_node) = self.of_nodes.get_mut(*node) {
                *of_node = group(*node);
            }
        }
    }
}

/// Whether kinds are in balance, while they come and go.
#[derive(Clone, Debug, Default)]
struct Balance {
    kinds: usize,
    /// How many kinds have each mark.
    holders: HashMap<usize, usize>,
    /// How many marks have so many kinds.
    marks: Tally,
    /// How many kinds have so many marks.
    lengths: Tally,
}

impl Balance {
    fn is_kept(&self) -> bool {
        // The third at the latest settles it.
        let is_clean = |holders: &usize| *holders == 1 || *holders == self.kinds;
        self.lengths.0.len() < 2 && self.marks.0.keys().all(is_clean)
    }

    fn join(&mut self, marks: &[usize]) {
        self.kinds += 1;
        self.lengths.add(marks.len());
        for mark in marks {
            let holders = self.holders.entry(*mark).or_default();
            self.marks.take(*holders);
            *holders += 1;
            self.marks.add(*holders);
        }
    }

    fn leave(&mut self, marks: &[usize]) {
        self.kinds = self.kinds.saturating_sub(1);
        self.lengths.take(marks.len());
        for mark in marks {
            let holders = self.holders.entry(*mark).or_default();
            self.marks.take(*holders);
            *holders = holders.saturating_sub(1);
            if *holders > 0 {
                self.marks.add(*holders);
            }
        }
    }
}

/// How often there is each number.
#[derive(Clone, Debug, Default)]
struct Tally(BTreeMap<usize, usize>);

impl Tally {
    fn add(&mut self, number: usize) {
        *self.0.entry(number).or_default() += 1;
    }

    fn take(&mut self, number: usize) {
        let Some(count) = self.0.get_mut(&number) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.0.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
    use proptest::sample::select;
    use proptest::strategy::Strategy;

    use super::*;

    fn nodes<const N: usize>(nodes: [&[(&str, &str)]; N]) -> Vec<Metadata> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        nodes.iter().map(|node| node.iter().map(owned).collect()).collect()
    }

    fn groups(nodes: &[Metadata]) -> (Kinds, Groups) {
        let kinds = Kinds::of(&nodes.iter().collect::<Vec<_>>());
        let groups = kinds.groups(&(0..nodes.len()).collect::<Vec<_>>());
        (kinds, groups)
    }

    #[test]
    fn nodes_of_a_kind_are_a_group_whatever_their_id() {
        let nodes = nodes([&[("z", "a")], &[("z", "a"), ("iaas-id", "1")], &[("z", "b")]]);
        let (kinds, mut groups) = groups(&nodes);
        assert_eq!(groups.of_nodes, [Some(0), Some(0), Some(1)]);
        assert_eq!(kinds.imbalance(), None);
        assert!(groups.leave(2, &kinds) && groups.leave(1, &kinds));
        // One kind alone is no group.
        assert_eq!(kinds.groups(&[0, 1]).of_nodes, [None, None, None]);
    }

    #[test]
    fn metadata_that_is_out_of_balance_makes_no_groups_and_is_told() {
        let (kinds, groups) = groups(&nodes([&[("odd", "1")], &[]]));
        assert_eq!(groups.of_nodes, [None, None]);
        assert!(!groups.are_clean());
        assert_eq!(
            kinds.imbalance().as_deref(),
            Some("unbalanced metadata for node group: map[odd:1] vs map[]")
        );
    }

    #[test]
    fn a_node_may_be_in_no_group_or_in_two() {
        let (kinds, mut groups) = groups(&nodes([
            &[("x", "2")],
            &[("y", ""), ("z", "")],
            &[("x", ""), ("z", "")],
            &[("y", "1")],
        ]));
        // Groups [0] and [0, 1, 2]: the later one counts.
        assert_eq!(groups.of_nodes, [Some(1), Some(1), Some(1), None]);
        assert!(!groups.leave(3, &kinds));
    }

    #[test]
    fn there_are_no_groups_until_the_last_node_that_spoils_them_leaves() {
        let named = |name, zone| [("name", name), ("zone", zone)];
        let (a, b, c, d) = (named("a", "1"), named("b", "1"), named("c", "2"), named("d", "2"));
        let (kinds, mut groups) = groups(&nodes([&a, &b, &c, &d]));
        assert!(groups.leave(0, &kinds));
        assert!(!groups.leave(3, &kinds));
        let mut left = kinds.groups(&[1, 2]);
        assert_eq!(left.of_nodes, [None, Some(1), Some(2), None]);
        assert!(left.leave(1, &kinds));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nodes_that_are_left_rank_as_if_they_were_split_anew(
            nodes in vec(
                btree_map(
                    select(&["x", "y", "z", "iaas-id"]).prop_map(str::to_owned),
                    select(&["", "1", "2", "3"]).prop_map(str::to_owned),
                    0..4,
                ),
                1..9,
            ),
            leaving in vec(any::<usize>(), 0..9),
        ) {
            let split = |left: &[usize]| {
                split_metadata(&left.iter().map(|node| nodes[*node].clone()).collect::<Vec<_>>())
            };
            let mut left: Vec<usize> = (0..nodes.len()).collect();
            let (kinds, mut groups) = groups(&nodes);
            let imbalance = split(&left).err().map(|unbalanced| unbalanced.to_string());
            prop_assert_eq!(kinds.imbalance(), imbalance);
            for leaves in leaving {
                let expected = split(&left);
                prop_assert!(kinds.has_blanks || groups.are_clean() == expected.is_ok());
                let mut group_of = vec![None; nodes.len()];
                for (number, group) in expected.unwrap_or_default().groups.iter().enumerate() {
                    for member in &group.nodes {
                        group_of[left[*member]] = Some(number);
                    }
                }
                // Groups by any other number are the same groups.
                for one in &left {
                    for other in &left {
                        let is_same = |of: &[Option<usize>]| of[*one] == of[*other];
                        prop_assert!(is_same(&groups.of_nodes) == is_same(&group_of));
                    }
                }
                if left.len() == 1 {
                    break;
                }
                let node = left.remove(leaves % left.len());
                if !groups.leave(node, &kinds) {
                    groups = kinds.groups(&left);
                }
            }
        }
    }
}

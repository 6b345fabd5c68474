//! The definition of the choice, looked up host by host, and the proof that the placer chooses the same.

use std::collections::BTreeMap;

use gantry_sdk::gantry_core::node::split_metadata;
use gantry_sdk::gantry_core::record::UnitRecord;
use proptest::collection::{btree_map, vec};
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest,
};
use proptest::sample::select;

use super::{Memory, NoPlace, Node, Placer};

/// A unit: its app, its process, its host.
type Unit = (String, String, String);

/// Group, process and host counts of each candidate, in order.
fn scores(candidates: &[&Node], units: &[Unit], app: &str, process: &str) -> Vec<[usize; 3]> {
    let metadata: Vec<_> = candidates.iter().map(|node| node.metadata.clone()).collect();
    let groups = split_metadata(&metadata).unwrap_or_default().groups;
    let mut group_of: BTreeMap<usize, usize> = BTreeMap::new();
    for (number, group) in groups.iter().enumerate() {
        group_of.extend(group.nodes.iter().map(|node| (*node, number)));
    }
    let total = |node: &Node| units.iter().filter(|(.., host)| *host == node.address).count();
    let own = |node: &Node| {
        let is_own =
            |(its, one, host): &&Unit| its == app && one == process && *host == node.address;
        units.iter().filter(is_own).count()
    };
    let mut of_groups: BTreeMap<usize, usize> = BTreeMap::new();
    for (number, node) in candidates.iter().enumerate() {
        let group = group_of.get(&number).copied().unwrap_or(0);
        *of_groups.entry(group).or_default() += own(node);
    }
    let in_group = |number: usize| group_of.get(&number).map_or(0, |group| of_groups[group]);
    let score = |(number, node): (usize, &&Node)| [in_group(number), own(node), total(node)];
    candidates.iter().enumerate().map(score).collect()
}

fn place(
    nodes: &[Node],
    units: &[Unit],
    memory: &Memory,
    app: &str,
    process: &str,
) -> Option<String> {
    let has_room = |node: &&Node| {
        let on_node = units.iter().filter(|(.., host)| *host == node.address);
        let reserved: i64 = on_node.map(|(app, ..)| memory.of(app)).sum();
        memory.limit(node).is_none_or(|limit| reserved + memory.of(app) <= limit)
    };
    let mut candidates: Vec<&Node> = nodes.iter().filter(has_room).collect();
    if candidates.is_empty() {
        if !memory.grows {
            return None;
        }
        candidates = nodes.iter().collect();
    }
    let scores = scores(&candidates, units, app, process);
    // The first of the least.
    let best = (0..candidates.len()).min_by_key(|number| scores[*number])?;
    Some(candidates[best].address.clone())
}

fn fullest(nodes: &[Node], units: &[Unit], app: &str, process: &str) -> Option<String> {
    let candidates: Vec<&Node> = nodes.iter().collect();
    let scores = scores(&candidates, units, app, process);
    // The last of the most.
    let best = (0..candidates.len()).max_by_key(|number| scores[*number])?;
    Some(candidates[best].address.clone())
}

/// One step of a story.
#[derive(Clone, Debug)]
enum Step {
    Place(&'static str, &'static str),
    Remove(&'static str, &'static str),
}

const APPS: [&str; 3] = ["a", "b", "c"];
const PROCESSES: [&str; 2] = ["", "web"];

fn step() -> impl Strategy<Value = Step> {
    (select(&APPS), select(&PROCESSES), 0..3_u8).prop_map(|(app, process, kind)| match kind {
        0 => Step::Remove(app, process),
        _ => Step::Place(app, process),
    })
}

/// Metadata of nodes: of few kinds, so that they are often the same; balanced, out of balance, with values that are empty; a kind each, in zones or not; now and then unlike any other.
fn metadata() -> impl Strategy<Value = Vec<BTreeMap<String, String>>> {
    let key = select(&["x", "y", "z"]).prop_map(str::to_owned);
    let value = select(&["", "1", "2", "3"]).prop_map(str::to_owned);
    let kinds = vec(btree_map(key, value, 0..3), 1..5);
    let zones = vec(select(&["1", "2", "3"]), 1..9).prop_map(|zones| {
        zones.iter().map(|zone| BTreeMap::from([("x".to_owned(), (*zone).to_owned())])).collect()
    });
    let own = (1..9_usize).prop_map(|count| {
        (0..count).map(|node| BTreeMap::from([("x".to_owned(), node.to_string())])).collect()
    });
    let named = vec(select(&["1", "2", "3"]), 1..9).prop_map(|zones| {
        let node = |(node, zone): (usize, &&str)| {
            let zone = ("x".to_owned(), (*zone).to_owned());
            BTreeMap::from([("name".to_owned(), format!("h{node}")), zone])
        };
        zones.iter().enumerate().map(node).collect()
    });
    let of_kinds = (kinds, vec(any::<usize>(), 1..9)).prop_map(|(kinds, nodes)| {
        nodes.iter().map(|node| kinds[node % kinds.len()].clone()).collect::<Vec<_>>()
    });
    // The shape that leaves a node in no group.
    let odd = vec(0..4_usize, 4..9).prop_map(|order| {
        let kind = |kind: usize| -> &[(&str, &str)] {
            match kind {
                0 => &[("x", "2")],
                1 => &[("y", ""), ("z", "")],
                2 => &[("x", ""), ("z", "")],
                _ => &[("y", "1")],
            }
        };
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let all = (0..4).chain(order);
        all.map(|number| kind(number).iter().map(owned).collect()).collect()
    });
    proptest::prop_oneof![of_kinds, zones, own, named, odd]
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    metadata().prop_map(|metadata| {
        let node = |(number, metadata): (usize, _)| Node {
            address: format!("h{number}"),
            metadata,
            enabled: true,
        };
        metadata.into_iter().enumerate().map(node).collect()
    })
}

/// Nodes of which some say under a key how much memory they have.
fn nodes_with_memory(key: &'static str) -> impl Strategy<Value = Vec<Node>> {
    let amounts = [None, Some(""), Some("0"), Some("20"), Some("40"), Some("80"), Some("200")];
    (nodes(), vec(select(Vec::from(amounts)), 16)).prop_map(move |(mut nodes, memory)| {
        for (node, memory) in nodes.iter_mut().zip(memory) {
            node.metadata.extend(memory.map(|memory| (key.to_owned(), memory.to_owned())));
        }
        nodes
    })
}

/// Keys for it: the provider's id, which groups nothing, so that memory sets no nodes apart, and one like any other.
const TOTALS: [&str; 2] = ["iaas-id", "memory"];

/// Units that are there already, on one of the nodes or elsewhere; the first ones on few nodes.
fn existing() -> impl Strategy<Value = Vec<(&'static str, &'static str, usize)>> {
    vec((select(&APPS), select(&PROCESSES), 0..9_usize), 0..20)
}

fn check(
    nodes: &[Node],
    existing: &[(&str, &str, usize)],
    steps: &[Step],
    memory: &Memory,
) -> Result<(), proptest::test_runner::TestCaseError> {
    let unit = |(app, process, host): &(&str, &str, usize)| {
        ((*app).to_owned(), (*process).to_owned(), format!("h{host}"))
    };
    let mut units: Vec<Unit> = existing.iter().map(unit).collect();
    let records: Vec<UnitRecord> = units.iter().map(record).collect();
    let candidates: Vec<&Node> = nodes.iter().collect();
    let mut placer = Placer::new(&candidates, &records, memory.clone());
    for step in steps {
        match step {
            Step::Place(app, process) => {
                let expected = place(nodes, &units, memory, app, process);
                let found = placer.place(app, process);
                let full = NoPlace::Memory { app: (*app).to_owned(), bytes: memory.of(app) };
                let Some(host) = expected else {
                    prop_assert_eq!(found, Err(full));
                    continue;
                };
                prop_assert_eq!(found.map(|place| place.host), Ok(host.clone()));
                units.push(((*app).to_owned(), (*process).to_owned(), host));
            }
            Step::Remove(app, process) => {
                let fullest = fullest(nodes, &units, app, process);
                prop_assert_eq!(placer.fullest(app, process), fullest.as_deref());
                let is_own = |(its, one, _): &Unit| its == app && one == process;
                let on_fullest = |unit: &Unit| is_own(unit) && Some(&unit.2) == fullest.as_ref();
                let Ok(removed) = placer.remove(app, process) else {
                    prop_assert!(!units.iter().any(is_own));
                    continue;
                };
                let from = |unit: &Unit| is_own(unit) && unit.2 == removed.host;
                let gone = units.iter().position(from);
                prop_assert!(gone.is_some());
                if units.iter().any(on_fullest) {
                    prop_assert_eq!(Some(&removed.host), fullest.as_ref());
                }
                units.remove(gone.unwrap_or_default());
            }
        }
    }
    Ok(())
}

fn record((app, process, host): &Unit) -> UnitRecord {
    UnitRecord {
        app_name: app.clone(),
        process_name: process.clone(),
        host_addr: host.clone(),
        ..UnitRecord::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_choice_is_the_one_of_the_definition(
        nodes in nodes(), existing in existing(), steps in vec(step(), 0..40),
    ) {
        check(&nodes, &existing, &steps, &Memory::default())?;
    }

    #[test]
    fn every_choice_within_limits_of_memory_is_the_one_of_the_definition(
        (total_key, nodes) in select(&TOTALS).prop_flat_map(|key| (Just(key), nodes_with_memory(key))),
        existing in existing(),
        steps in vec(step(), 0..80),
        grows in any::<bool>(),
    ) {
        let of_apps = [("a", 10), ("b", 25), ("c", 0)].map(|(app, bytes)| (app.to_owned(), bytes));
        let of_apps = of_apps.into_iter().collect();
        let memory = Memory { ratio: 0.9, total_key: total_key.to_owned(), of_apps, grows };
        check(&nodes, &existing, &steps, &memory)?;
    }

    #[test]
    fn one_process_fills_and_empties_hosts_as_defined(
        nodes in nodes(),
        loads in vec(0..9_usize, 0..60),
        adds in 0..40_usize,
        removals in 0..60_usize,
    ) {
        let existing: Vec<_> = loads.iter().map(|host| ("b", "", *host)).collect();
        let mut steps = vec![Step::Place("a", "web"); adds];
        steps.extend(vec![Step::Remove("a", "web"); removals]);
        steps.extend(vec![Step::Place("a", "web"); 5]);
        check(&nodes, &existing, &steps, &Memory::default())?;
    }
}

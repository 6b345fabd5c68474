//! When it is worth it to move units, and where each goes (spec 5.12).

use std::collections::BTreeMap;

use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{Status, quote};

use super::candidates::{POOL, is};
use super::{Memory, NoPlace, Node, Place, Placer, candidates, numbers, place_of};

/// A rebalance is worth it when the gap changes by more than this.
const WORTH: u64 = 2;

/// All that there is.
#[derive(Clone, Debug)]
pub struct Cluster<'a> {
    /// The nodes of all pools, in their order, those that are disabled too.
    pub nodes: &'a [Node],
    /// The units of all apps, in their order, without those of builds.
    pub units: &'a [UnitRecord],
    /// The pool of each app.
    pub pools: &'a BTreeMap<String, String>,
    /// What may be promised of the nodes' memory.
    pub memory: &'a Memory,
}

/// What a rebalance is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Nodes of this pool only, and units of its apps: pools may share nodes. Empty for all pools.
    pub pool: String,
    /// Nodes with this metadata only.
    pub metadata: BTreeMap<String, String>,
    /// Units of these apps only; empty for all apps.
    pub apps: Vec<String>,
}

impl Filter {
    fn has(&self, node: &Node) -> bool {
        (self.pool.is_empty() || is(node, POOL, &self.pool))
            && self.metadata.iter().all(|(key, value)| is(node, key, value))
    }

    /// Whether it names more than a pool: then somebody knows what they want, and no gap is asked about.
    fn is_special(&self) -> bool {
        !self.apps.is_empty() || self.metadata.keys().any(|key| key != POOL)
    }
}

/// Units that are to change places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan<'a> {
    /// What people read before the first move; every text ends its line.
    pub lines: Vec<String>,
    /// Every unit that is concerned, in order. One whose best place is where it is is among them: it is replaced there, as by the reference.
    pub moves: Vec<Move<'a>>,
}

/// A unit that is to be replaced by one in another place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move<'a> {
    /// The unit.
    pub unit: &'a UnitRecord,
    /// Where to, or why it has to stay.
    pub to: Result<Place, NoPlace>,
}

/// Decides about a rebalance: the plan when it is forced, or asked for something special, or changes the gap between the fullest and the emptiest node enough; none when it is not worth it.
///
/// Forced with nothing to move is a plan without moves: whether anything moved is for the caller to say (design 10.12).
#[must_use]
pub fn rebalance<'a>(cluster: &Cluster<'a>, filter: &Filter, force: bool) -> Option<Plan<'a>> {
    let mut plan = plan(cluster, filter);
    if force || filter.is_special() {
        return Some(plan);
    }
    let enabled = |node: &&Node| node.enabled && filter.has(node);
    let nodes: Vec<&Node> = cluster.nodes.iter().filter(enabled).collect();
    let numbers = numbers(nodes.iter().map(|node| node.address.as_str()));
    let mut counts = vec![0; nodes.len()];
    let change = |counts: &mut Vec<u64>, place: &str, more: bool| {
        if let Some(count) = numbers.get(place).and_then(|number| counts.get_mut(*number)) {
            *count = if more { count.saturating_add(1) } else { count.saturating_sub(1) };
        }
    };
    for unit in cluster.units.iter().filter(|unit| runs(unit)) {
        change(&mut counts, place_of(unit), true);
    }
    let before = gap(&counts);
    for Move { unit, to } in plan.moves.iter().filter(|step| runs(step.unit)) {
        if let Ok(to) = to {
            change(&mut counts, place_of(unit), false);
            change(&mut counts, &to.address, true);
        }
    }
    let after = gap(&counts);
    if before.abs_diff(after) <= WORTH {
        return None;
    }
    let why = format!("Rebalancing as gap is {before}, after rebalance gap will be {after}\n");
    plan.lines.insert(0, why);
    Some(plan)
}

/// Where every unit that is concerned goes, as if none of them was anywhere yet.
#[must_use]
pub fn plan<'a>(cluster: &Cluster<'a>, filter: &Filter) -> Plan<'a> {
    let only = |line: &str| Plan { lines: vec![line.to_owned()], moves: Vec::new() };
    let nodes = cluster.nodes.iter().filter(|node| filter.has(node));
    let concerned_nodes = numbers(nodes.map(|node| node.address.as_str()));
    if concerned_nodes.is_empty() {
        return only("No hosts matching metadata filters\n");
    }
    let concerned = |unit: &&UnitRecord| {
        concerned_nodes.contains_key(place_of(unit))
            && (filter.pool.is_empty() || cluster.pools.get(&unit.app_name) == Some(&filter.pool))
            && (filter.apps.is_empty() || filter.apps.contains(&unit.app_name))
    };
    let (units, others): (Vec<&UnitRecord>, Vec<&UnitRecord>) =
        cluster.units.iter().partition(concerned);
    if units.is_empty() {
        return only("No containers found to rebalance\n");
    }
    let line = format!("Rebalancing {} units...\n", units.len());
    let mut placers: BTreeMap<&str, Result<Placer<'a>, NoPlace>> = BTreeMap::new();
    let moves = units.into_iter().map(|unit| {
        let pool = cluster.pools.get(&unit.app_name).map_or("", String::as_str);
        let placer = placers.entry(pool).or_insert_with(|| {
            let candidates = candidates(cluster.nodes, Some(pool), None)?;
            Ok(Placer::new(&candidates, others.iter().copied(), cluster.memory.clone()))
        });
        let to = match placer {
            Ok(placer) => placer.place(&unit.app_name, &unit.process_name),
            Err(none) => Err(none.clone()),
        };
        Move { unit, to }
    });
    Plan { lines: vec![line], moves: moves.collect() }
}

/// How many more units run on the fullest node than on the emptiest.
fn gap(counts: &[u64]) -> u64 {
    let most = counts.iter().max().copied().unwrap_or_default();
    most - counts.iter().min().copied().unwrap_or_default()
}

/// Whether a unit counts for the gap.
fn runs(unit: &UnitRecord) -> bool {
    !matches!(unit.status, Some(Status::Created | Status::Building | Status::Stopped))
}

/// A unit is about to move; to a host that somebody named, or else to the one that will be found.
#[must_use]
pub fn moving(unit: &UnitRecord, to: Option<&str>) -> String {
    let UnitRecord { id, app_name, host_addr, .. } = unit;
    let to = to.map(|to| format!(" -> {to}")).unwrap_or_default();
    format!("Moving unit {id} for {} from {host_addr}{to}...\n", quote(app_name))
}

/// A unit has moved.
#[must_use]
pub fn moved(unit: &UnitRecord, new_id: &str, to: &str) -> String {
    format!("Moved unit {}", from_to(unit, new_id, to))
}

/// A unit would move, were it not a dry run.
#[must_use]
pub fn would_move(unit: &UnitRecord, new_id: &str, to: &str) -> String {
    format!("Would move unit {}", from_to(unit, new_id, to))
}

/// A unit has to stay where it is.
#[must_use]
pub fn stays(unit: &UnitRecord, why: &str) -> String {
    let UnitRecord { id, app_name, host_addr, .. } = unit;
    format!("Unit {id} for {} stays on {host_addr}: {why}\n", quote(app_name))
}

fn from_to(unit: &UnitRecord, new_id: &str, to: &str) -> String {
    let UnitRecord { id, app_name, host_addr, .. } = unit;
    format!("{id} -> {new_id} for {} from {host_addr} -> {to}\n", quote(app_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOLS: [(&str, &str); 3] = [("a", "p"), ("b", "p"), ("other", "q")];

    fn node(host: &str, pool: &str, zone: &str) -> Node {
        let metadata = [(POOL, pool), ("zone", zone)];
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let metadata = metadata.map(owned).into_iter().collect();
        Node { address: format!("http://{host}:2375"), metadata, enabled: true }
    }

    fn units(on: &[(&str, &str, usize)]) -> Vec<UnitRecord> {
        let hosts = on.iter().flat_map(|(app, host, count)| (0..*count).map(move |_| (app, host)));
        let unit = |(number, (app, host)): (usize, (&&str, &&str))| UnitRecord {
            id: format!("u{number}"),
            app_name: (*app).to_owned(),
            process_name: "web".to_owned(),
            host_addr: (*host).to_owned(),
            status: Some(Status::Started),
            ..UnitRecord::default()
        };
        hosts.enumerate().map(unit).collect()
    }

    /// What is decided: the lines, and where each unit goes.
    fn decided(
        nodes: &[Node],
        units: &[UnitRecord],
        filter: &Filter,
        force: bool,
    ) -> Option<(String, Vec<(String, String)>)> {
        let pools = POOLS.map(|(app, pool)| (app.to_owned(), pool.to_owned())).into();
        let memory = Memory::default();
        let plan =
            rebalance(&Cluster { nodes, units, pools: &pools, memory: &memory }, filter, force)?;
        let to = |to: Result<Place, NoPlace>| to.map_or_else(|no| no.to_string(), |to| to.host);
        let moves = plan.moves.into_iter().map(|step| (step.unit.id.clone(), to(step.to)));
        Some((plan.lines.concat(), moves.collect()))
    }

    fn in_pool() -> Filter {
        Filter { pool: "p".to_owned(), ..Filter::default() }
    }

    fn three() -> [Node; 3] {
        ["h0", "h1", "h2"].map(|host| node(host, "p", "z"))
    }

    #[test]
    fn a_rebalance_is_worth_it_when_the_gap_changes_by_more_than_two() {
        // From a gap of 3 to one of 1, and from 4 to 1.
        let filter = in_pool();
        let too_little = units(&[("a", "h0", 3), ("a", "h1", 1)]);
        assert_eq!(decided(&three(), &too_little, &filter, false), None);
        let enough = units(&[("a", "h0", 4)]);
        let (lines, moves) = decided(&three(), &enough, &filter, false).unwrap();
        assert_eq!(
            lines,
            "Rebalancing as gap is 4, after rebalance gap will be 1\nRebalancing 4 units...\n"
        );
        let to: Vec<&str> = moves.iter().map(|(_, to)| to.as_str()).collect();
        assert_eq!(to, ["h0", "h1", "h2", "h0"]);
        let mut stopped = enough;
        for unit in &mut stopped[1..] {
            unit.status = Some(Status::Stopped);
        }
        assert_eq!(decided(&three(), &stopped, &filter, false), None);
    }

    #[test]
    fn a_filter_by_more_than_the_pool_asks_about_no_gap() {
        let units = units(&[("a", "h0", 1), ("b", "h0", 1), ("b", "h1", 1)]);
        let mut filter = in_pool();
        filter.metadata.insert(POOL.to_owned(), "p".to_owned());
        assert_eq!(decided(&three(), &units, &filter, false), None);
        filter.metadata.insert("zone".to_owned(), "z".to_owned());
        let (lines, moves) = decided(&three(), &units, &filter, false).unwrap();
        assert_eq!((lines.as_str(), moves.len()), ("Rebalancing 3 units...\n", 3));
        let filter = Filter { apps: vec!["b".to_owned()], ..in_pool() };
        let (_, moves) = decided(&three(), &units, &filter, false).unwrap();
        // The unit of the other app counts where it is.
        let owned = |(id, to): (&str, &str)| (id.to_owned(), to.to_owned());
        assert_eq!(moves, [("u1", "h1"), ("u2", "h2")].map(owned));
    }

    #[test]
    fn what_is_forced_says_when_there_is_nothing_to_do() {
        let filter = Filter { pool: "none".to_owned(), ..Filter::default() };
        let (lines, moves) = decided(&three(), &[], &filter, true).unwrap();
        assert_eq!((lines.as_str(), moves.len()), ("No hosts matching metadata filters\n", 0));
        let (lines, moves) = decided(&three(), &[], &in_pool(), true).unwrap();
        assert_eq!((lines.as_str(), moves.len()), ("No containers found to rebalance\n", 0));
    }

    #[test]
    fn units_leave_disabled_nodes_and_stay_in_their_pool() {
        let mut nodes = [node("h0", "p", "z"), node("h1", "p", "z"), node("h2", "q", "z")];
        nodes[0].enabled = false;
        let units = units(&[("a", "h0", 1), ("other", "h2", 1), ("gone", "h1", 1)]);
        let (_, moves) = decided(&nodes, &units, &Filter::default(), true).unwrap();
        let no_pool = "No nodes found with one of the following metadata: pool=";
        let owned = |(id, to): (&str, &str)| (id.to_owned(), to.to_owned());
        assert_eq!(moves, [("u0", "h1"), ("u1", "h2"), ("u2", no_pool)].map(owned));
    }

    #[test]
    fn people_read_which_unit_moves_from_where_to_where() {
        let unit = &units(&[("a", "h0", 1)])[0];
        assert_eq!(moving(unit, None), "Moving unit u0 for \"a\" from h0...\n");
        assert_eq!(moving(unit, Some("h1")), "Moving unit u0 for \"a\" from h0 -> h1...\n");
        assert_eq!(moved(unit, "u9", "h1"), "Moved unit u0 -> u9 for \"a\" from h0 -> h1\n");
        assert_eq!(
            would_move(unit, "u9", "h1"),
            "Would move unit u0 -> u9 for \"a\" from h0 -> h1\n"
        );
    }
}

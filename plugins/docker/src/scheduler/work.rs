//! How the work grows: 10,000 units over 1,000 nodes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Instant;

use gantry_sdk::gantry_core::record::UnitRecord;

use super::{Cluster, Filter, Memory, Node, Placer, plan};

const SIZES: [usize; 4] = [1_000, 2_000, 4_000, 10_000];

/// What the work may be at most of `n log2 n`, for every shape.
const MOST: f64 = 3.0;

/// What a unit of an app needs, by the app's number: several plans.
const PLANS: [i64; 3] = [1, 2, 4];

/// What a plan's number stands for.
const GIB: i64 = 1 << 30;

/// The metadata that tells how much memory a node has: one that groups nothing, so that the layouts stay what they are, and one that makes every node a kind of its own.
const TOTALS: [&str; 2] = ["iaas-id", "memory"];

/// By how much its part of `n log2 n` may grow at most from the smallest size to the largest, for every shape.
const GROWTH: f64 = 1.2;

fn nodes(count: usize, zone: impl Fn(usize) -> Option<String>) -> Vec<Node> {
    let node = |number: usize| {
        let mut metadata = BTreeMap::from([("pool".to_owned(), "p".to_owned())]);
        metadata.extend(zone(number).map(|zone| ("zone".to_owned(), zone)));
        Node { address: format!("http://h{number}:2375"), metadata, enabled: true }
    };
    (0..count).map(node).collect()
}

/// No groups, a few, many, one a node; none because two keys disagree, in a few kinds or one a node.
fn layouts(count: usize) -> [(&'static str, Vec<Node>); 6] {
    let in_zones = |key: &str, value: fn(usize) -> String| {
        let mut nodes = nodes(count, |number| Some((number % 3).to_string()));
        for (number, node) in nodes.iter_mut().enumerate() {
            node.metadata.insert(key.to_owned(), value(number));
        }
        nodes
    };
    [
        ("out of balance", in_zones("rack", |number| (number % 7).to_string())),
        ("out of balance, a name each", in_zones("name", |number| format!("h{number}"))),
        ("no groups", nodes(count, |_| None)),
        ("3 groups", nodes(count, |number| Some((number % 3).to_string()))),
        ("groups of 10", nodes(count, |number| Some((number / 10).to_string()))),
        ("a group a node", nodes(count, |number| Some(number.to_string()))),
    ]
}

/// A number that looks like any other, the same in every run.
fn scattered(number: usize) -> usize {
    number.wrapping_mul(0x9e37_79b1) >> 7 & 0xffff
}

/// The number of a unit's app, by the unit's number and how many there are.
type AppOf = fn(usize, usize) -> usize;

/// One app; apps of ten units one after the other; few apps and many apps by turns; by chance.
fn orders() -> [(&'static str, AppOf); 5] {
    [
        ("one app", |_, _| 0),
        ("apps of 10", |unit, _| unit / 10),
        ("10 apps by turns", |unit, _| unit % 10),
        ("many apps by turns", |unit, count| unit % (count / 10)),
        ("apps by chance", |unit, _| scattered(unit) % 40),
    ]
}

/// Units of another app that are there already, so many on each host.
fn loads(nodes: usize, on_host: impl Fn(usize) -> usize) -> Vec<UnitRecord> {
    let on = |host: usize| {
        let unit = UnitRecord {
            app_name: "old".to_owned(),
            host_addr: format!("h{host}"),
            ..UnitRecord::default()
        };
        vec![unit; on_host(host)]
    };
    (0..nodes).flat_map(on).collect()
}

#[expect(clippy::cast_precision_loss, reason = "numbers of units and looks")]
fn ratio(looks: u64, units: usize) -> f64 {
    looks as f64 / (units as f64 * (units as f64).log2())
}

/// Written past the test harness, which keeps what a passing test prints.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// How many looks it takes to know the nodes and place so many units, and to take these away again.
fn looks(
    candidates: &[&Node],
    existing: &[UnitRecord],
    apps: &[String],
    memory: Memory,
) -> [u64; 2] {
    let mut placer = Placer::new(candidates, existing, memory);
    for app in apps {
        placer.place(app, "web").unwrap();
    }
    let placing = placer.looked_at();
    for app in apps {
        placer.remove(app, "web").unwrap();
    }
    [placing, placer.looked_at() - placing]
}

/// What these apps need, on nodes that have little more than that together: some a third of what others have, so that they are full long before the last unit comes.
fn scarce(total: &str, nodes: &mut [Node], existing: &[UnitRecord], apps: &[String]) -> Memory {
    let number = |app: &str| app.trim_start_matches('a').parse().unwrap_or(0_usize);
    let mut of_apps: BTreeMap<String, i64> =
        apps.iter().map(|app| (app.clone(), GIB * PLANS[number(app) % PLANS.len()])).collect();
    let new: i64 = apps.iter().map(|app| of_apps[app]).sum();
    let all = new + GIB * i64::try_from(existing.len()).unwrap();
    let fair = all / i64::try_from(nodes.len()).unwrap();
    for (number, node) in nodes.iter_mut().enumerate() {
        let percent = 60 + i64::try_from(scattered(number) % 120).unwrap();
        // No two have the same to the byte, as machines do not.
        let own = i64::try_from(number).unwrap();
        node.metadata.insert(total.to_owned(), (fair * percent / 100 + own).to_string());
    }
    of_apps.insert("old".to_owned(), GIB);
    Memory { ratio: 1.0, total_key: total.to_owned(), of_apps, grows: false }
}

/// Walks all shapes on hosts that carry so much already, and whose memory is scarce when there is a key for it.
fn check(load: &str, on_host: impl Fn(usize) -> usize, total: Option<&str>) {
    let mut ratios: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for count in SIZES {
        for (layout, mut nodes) in layouts(count / 10) {
            let existing = loads(nodes.len(), &on_host);
            for (order, app) in orders() {
                let apps: Vec<String> =
                    (0..count).map(|unit| format!("a{}", app(unit, count))).collect();
                let scarce = |total| scarce(total, &mut nodes, &existing, &apps);
                let memory = total.map_or_else(Memory::default, scarce);
                let candidates: Vec<&Node> = nodes.iter().collect();
                let looks = looks(&candidates, &existing, &apps, memory);
                for (what, looks) in ["placing", "removing"].into_iter().zip(looks) {
                    let shape = format!("{what}, {order}, {layout}");
                    ratios.entry(shape).or_default().push(ratio(looks, count));
                }
            }
        }
    }
    let mut faults = Vec::new();
    let (mut most, mut growth) = (0.0_f64, 0.0_f64);
    for (shape, ratios) in &ratios {
        let of_shape = ratios.iter().copied().fold(0.0, f64::max);
        let grown = ratios[SIZES.len() - 1] / ratios[0];
        if of_shape > MOST || grown > GROWTH {
            faults.push(format!("{shape}: {ratios:.2?} of n log2 n"));
        }
        (most, growth) = (most.max(of_shape), growth.max(grown));
    }
    say(&format!(
        "scheduler: {} shapes on {load}: at most {most:.2} of n log2 n, grown {growth:.2} times",
        ratios.len()
    ));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_work_on_empty_hosts_grows_no_worse_than_n_log_n() {
    check("empty hosts", |_| 0, None);
}

#[test]
fn the_work_on_uneven_hosts_grows_no_worse_than_n_log_n() {
    check("uneven hosts", |host| scattered(host) % 20, None);
}

#[test]
fn the_work_in_scarce_memory_grows_no_worse_than_n_log_n() {
    for total in TOTALS {
        check(&format!("empty hosts of little `{total}`"), |_| 0, Some(total));
    }
}

#[test]
fn the_work_on_uneven_hosts_in_scarce_memory_grows_no_worse_than_n_log_n() {
    for total in TOTALS {
        let load = format!("uneven hosts of little `{total}`");
        check(&load, |host| scattered(host) % 20, Some(total));
    }
}

/// Plans to move 10,000 units over 1,000 nodes and says how long that took; gives how many go to each host.
fn planned(layout: &str, nodes: &[Node], memory: &Memory) -> BTreeMap<String, usize> {
    let unit = |number: usize| UnitRecord {
        app_name: format!("a{}", number % 100),
        host_addr: format!("h{}", scattered(number) % 1_000),
        ..UnitRecord::default()
    };
    let units: Vec<UnitRecord> = (0..10_000).map(unit).collect();
    let pools = (0..100).map(|app| (format!("a{app}"), "p".to_owned())).collect();
    let cluster = Cluster { nodes, units: &units, pools: &pools, memory };
    let began = Instant::now();
    let plan = plan(&cluster, &Filter::default());
    let took = began.elapsed();
    say(&format!("scheduler: 10,000 units over 1,000 nodes, {layout}: planned in {took:?}"));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for step in plan.moves {
        *counts.entry(step.to.unwrap().host).or_default() += 1;
    }
    counts
}

#[test]
fn a_plan_for_10_000_units_uses_every_node() {
    for (layout, nodes) in layouts(1_000) {
        let counts = planned(layout, &nodes, &Memory::default());
        assert_eq!(counts.len(), 1_000);
        assert_eq!(counts.values().sum::<usize>(), 10_000);
    }
}

#[test]
fn a_plan_for_10_000_units_in_scarce_memory_fills_no_node_too_much() {
    let layouts = TOTALS.map(|total| layouts(1_000).map(|(layout, nodes)| (total, layout, nodes)));
    for (total, layout, mut nodes) in layouts.into_iter().flatten() {
        for node in &mut nodes[500..] {
            node.metadata.insert(total.to_owned(), "8".to_owned());
        }
        let of_apps = (0..100).map(|app| (format!("a{app}"), 1)).collect();
        let (total_key, grows) = (total.to_owned(), false);
        let memory = Memory { ratio: 1.0, total_key, of_apps, grows };
        let counts = planned(&format!("{layout}, scarce `{total}`"), &nodes, &memory);
        assert_eq!(counts.values().sum::<usize>(), 10_000);
        for node in &nodes[500..] {
            let host = node.address.trim_start_matches("http://").trim_end_matches(":2375");
            assert!(counts.get(host).is_none_or(|count| *count <= 8), "{host}");
        }
    }
}

use std::collections::BTreeMap;

use gantry_docker::scheduler::{
    Cluster, Filter, Memory, Move, Node, moving, rebalance, would_move,
};
use gantry_sdk::Status;
use gantry_sdk::gantry_core::record::UnitRecord;
use serde_json::Value;

use crate::walk::{Ran, error, text, texts, walk};

/// The two hosts that the vectors were recorded with, and the pool they are in.
const HOSTS: [&str; 2] = ["127.0.0.1", "localhost"];
const POOL: &str = "pool1";

fn nodes() -> Vec<Node> {
    let node = |host: &str| Node {
        address: format!("http://{host}:2375"),
        metadata: BTreeMap::from([("pool".to_owned(), POOL.to_owned())]),
        enabled: true,
    };
    HOSTS.map(node).to_vec()
}

/// The units of a case; what they are called is what the vectors call the first they meet.
fn units(case: &Value) -> Vec<UnitRecord> {
    let counts: Vec<u64> =
        case["before"].as_array().expect("two").iter().filter_map(Value::as_u64).collect();
    let hosts = HOSTS.iter().zip(&counts).flat_map(|(host, count)| (0..*count).map(move |_| host));
    let unit = |(number, host): (usize, &&str)| UnitRecord {
        id: format!("<id{}>", number + 1),
        app_name: "myapp".to_owned(),
        process_name: "web".to_owned(),
        host_addr: (*host).to_owned(),
        status: Some(Status::Started),
        ..UnitRecord::default()
    };
    hosts.enumerate().map(unit).collect()
}

fn filter(case: &Value) -> Filter {
    let mut filter = Filter { apps: texts(case, "app_filter"), ..Filter::default() };
    match text(case, "filter_via") {
        "Pool" => POOL.clone_into(&mut filter.pool),
        "MetadataFilter" => {
            filter.metadata.insert("pool".to_owned(), POOL.to_owned());
        }
        other => panic!("no filter by {other}"),
    }
    filter
}

#[test]
fn docker_rebalance() {
    walk("docker_rebalance", |case| {
        assert_eq!(error(case), None);
        let flag = |field: &str| case[field].as_bool().expect("a flag");
        let (nodes, mut units) = (nodes(), units(case));
        let pools = BTreeMap::from([("myapp".to_owned(), POOL.to_owned())]);
        let memory = Memory::default();
        let cluster = Cluster { nodes: &nodes, units: &units, pools: &pools, memory: &memory };
        let plan = rebalance(&cluster, &filter(case), flag("force"));
        let begun = plan.is_some();
        let plan = plan.unwrap_or_default();
        let hosts: Vec<String> =
            plan.moves.iter().map(|step| step.to.as_ref().expect("a place").host.clone()).collect();
        let line = |(Move { unit, .. }, to): (&Move<'_>, &String)| match flag("dry") {
            true => would_move(unit, "<id2>", to),
            false => moving(unit, None),
        };
        let lines: String =
            plan.lines.iter().cloned().chain(plan.moves.iter().zip(&hosts).map(line)).collect();
        let expected = texts(case, "first_log_lines");
        let first: Vec<&str> = lines.split('\n').take(expected.len()).collect();
        assert_eq!(first, expected);
        let moved = !plan.moves.is_empty();
        if !flag("dry") && moved {
            assert_eq!(hosts.len(), units.len());
            for (unit, host) in units.iter_mut().zip(hosts) {
                unit.host_addr = host;
            }
        }
        let on = |host: &str| units.iter().filter(|unit| unit.host_addr == host).count();
        assert_eq!(serde_json::json!(HOSTS.map(on)), case["after"]);
        // Forced with nothing to move, ours says that nothing moved (design 10.12).
        let nothing = case["before"] == serde_json::json!([0, 0]);
        if flag("force") && nothing {
            assert!(begun && !moved);
            return Ran::Excused(12);
        }
        assert_eq!((begun, moved), (flag("returned"), flag("returned")));
        Ran::AsTheReference
    });
}

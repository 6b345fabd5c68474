use gantry_docker::scheduler::{Memory, Node, Placer, candidates};
use gantry_sdk::Status;
use gantry_sdk::gantry_core::record::UnitRecord;
use serde_json::Value;

use crate::walk::{Ran, error, map, text, texts, walk};

/// The nodes of a case, all of them enabled.
fn nodes(case: &Value) -> Vec<Node> {
    let nodes = case["nodes"].as_array().expect("nodes");
    let node = |node: &Value| Node {
        address: text(node, "address").to_owned(),
        metadata: map(node, "metadata"),
        enabled: true,
    };
    nodes.iter().map(node).collect()
}

/// The units of a case.
fn units(case: &Value) -> Vec<UnitRecord> {
    let units = case["containers"].as_array().into_iter().flatten();
    let unit = |unit: &Value| UnitRecord {
        id: text(unit, "id").to_owned(),
        app_name: text(unit, "app").to_owned(),
        process_name: text(unit, "process").to_owned(),
        host_addr: text(unit, "host").to_owned(),
        status: text(unit, "status").parse::<Status>().ok(),
        ..UnitRecord::default()
    };
    units.map(unit).collect()
}

#[test]
fn docker_scheduler() {
    walk("docker_scheduler", |case| {
        assert_eq!(error(case), None);
        let nodes = nodes(case);
        let ignored = texts(case, "ignored_containers");
        let mut units = units(case);
        units.retain(|unit| !ignored.contains(&unit.id));
        let candidates = candidates(&nodes, Some("p"), None).unwrap();
        let placer = Placer::new(&candidates, &units, Memory::default());
        let (app, process) = (text(case, "app"), text(case, "process"));
        let place = placer.clone().place(app, process).unwrap();
        assert_eq!(place.address, text(case, "add_to"));
        assert_eq!(placer.clone().fullest(app, process), case["remove_from"].as_str());
        match placer.clone().remove(app, process) {
            Ok(removed) => {
                let unit = &units[removed.unit];
                assert_eq!(unit.host_addr, text(case, "removed_unit_host"));
                assert_eq!((unit.app_name.as_str(), unit.process_name.as_str()), (app, process));
                assert_eq!(removed.host, unit.host_addr);
                assert_eq!(case.get("remove_error"), None);
            }
            Err(none) => assert_eq!(none.to_string(), text(case, "remove_error")),
        }
        Ran::AsTheReference
    });
}

#[test]
fn docker_scheduler_sequences() {
    walk("docker_scheduler_sequences", |case| {
        let nodes = nodes(case);
        let candidates = candidates(&nodes, Some("p"), None).unwrap();
        let mut placer = Placer::new(&candidates, &[], Memory::default());
        for add in case["adds"].as_array().expect("adds") {
            let place = placer.place(text(add, "app"), text(add, "process")).unwrap();
            assert_eq!(place.address, text(add, "node"));
        }
        Ran::AsTheReference
    });
}

#[test]
fn docker_scheduler_memory() {
    walk("docker_scheduler_memory", |case| {
        let of_apps = case["app_plan_memory"].as_object().expect("plans").iter();
        let of_apps = of_apps.map(|(app, bytes)| (app.clone(), bytes.as_i64().expect("bytes")));
        #[expect(clippy::cast_possible_truncation, reason = "the reference keeps it as one")]
        let ratio = case["max_memory_ratio"].as_f64().expect("a ratio") as f32;
        let memory = Memory {
            ratio,
            total_key: text(case, "total_memory_metadata").to_owned(),
            of_apps: of_apps.collect(),
            grows: false,
        };
        let (nodes, units, app) = (nodes(case), units(case), text(case, "app"));
        let candidates = candidates(&nodes, Some("mypool"), None).unwrap();
        let kept = |grows: bool| {
            let memory = Memory { grows, ..memory.clone() };
            Placer::new(&candidates, &units, memory).with_enough_memory(app)
        };
        match kept(false) {
            Ok(kept) => {
                assert_eq!(kept, texts(case, "kept_nodes"));
                assert_eq!(error(case), None);
            }
            Err(none) => {
                assert_eq!(Some(none.to_string().as_str()), error(case));
                // Where nodes come by themselves all of them are kept.
                assert_eq!(kept(true).map(|kept| kept.len()), Ok(nodes.len()));
            }
        }
        Ran::AsTheReference
    });
}

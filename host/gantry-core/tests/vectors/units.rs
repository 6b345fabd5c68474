use std::collections::BTreeMap;

use gantry_core::deploy::containers_to_add;
use gantry_core::record::{Report, UnitRecord};
use gantry_core::{Status, Unit};
use serde_json::{Map, Value};

use crate::walk::{Ran, error, text, texts, walk};

#[test]
fn parse_status() {
    walk("parse_status", |case| {
        let parsed = text(case, "in").parse::<Status>();
        let shown = parsed.as_ref().map_or("", |status| status.as_str());
        assert_eq!(shown, text(case, "out"));
        let error_shown = parsed.err().map(|error| error.to_string());
        assert_eq!(error_shown.as_deref(), error(case));
        Ran::AsTheReference
    });
}

#[test]
fn unit_available() {
    walk("unit_available", |case| {
        let unit = Unit { status: status(case, "status"), ..Unit::default() };
        assert_eq!(Some(unit.is_available()), case["available"].as_bool());
        Ran::AsTheReference
    });
}

#[test]
fn unit_json() {
    walk("unit_json", |case| {
        let input = &case["in"];
        let unit = Unit {
            id: text(input, "id").to_owned(),
            name: text(input, "name").to_owned(),
            app_name: text(input, "app_name").to_owned(),
            process_name: text(input, "process_name").to_owned(),
            kind: text(input, "type").to_owned(),
            ip: text(input, "ip").to_owned(),
            status: status(input, "status"),
            address: input["address"].as_str().map(str::to_owned),
        };
        let ours = unit.reference_json();
        let parsed: Value = serde_json::from_str(&ours).expect("it is JSON");
        assert_eq!(parsed, case["json"]);
        // The text was made by a Go whose `url.URL` has more fields, in another order; but for the address it is the same to the byte.
        let theirs = text(case, "json_text_as_produced_by_go_1_27");
        assert_eq!(without_address(&ours), without_address(theirs));
        Ran::AsTheReference
    });
}

#[test]
fn docker_containers_to_add() {
    walk("docker_containers_to_add", |case| {
        let processes = texts(case, "image_processes");
        let old = texts(case, "old_container_processes");
        let to_add = containers_to_add(processes.iter().map(String::as_str), &old);
        let expected = case["to_add"].as_object().cloned().unwrap_or_else(Map::new);
        let expected: BTreeMap<&str, usize> = expected
            .iter()
            .map(|(process, count)| {
                (process.as_str(), count.as_u64().expect("a count").try_into().expect("small"))
            })
            .collect();
        assert_eq!(to_add, expected);
        Ran::AsTheReference
    });
}

#[test]
fn docker_set_unit_status() {
    walk("docker_set_unit_status", |case| {
        let mut record = record(case);
        let incoming = text(case, "incoming").parse().expect("a status");
        let reported = record.report("", incoming, 1);
        assert_eq!(reported.err().map(|error| error.to_string()).as_deref(), error(case));
        assert_eq!(record.status, status(case, "result"));
        assert_eq!(record.status_before_error, status(case, "result_status_before_error"));
        Ran::AsTheReference
    });
}

#[test]
fn docker_register_unit() {
    walk("docker_register_unit", |case| {
        let mut record = record(case);
        let registered = record.register(1);
        assert_eq!(error(case), None);
        assert_eq!(record.status, status(case, "result"));
        assert_eq!(registered == Report::Ignored, text(case, "status") == "building");
        Ran::AsTheReference
    });
}

fn record(case: &Value) -> UnitRecord {
    UnitRecord {
        status: status(case, "status"),
        status_before_error: status(case, "status_before_error"),
        ..UnitRecord::default()
    }
}

/// A status of a case; the empty text is none.
fn status(case: &Value, field: &str) -> Option<Status> {
    Some(text(case, field)).filter(|text| !text.is_empty()).map(|text| text.parse().expect("known"))
}

fn without_address(json: &str) -> String {
    let (before, address) = json.split_once(r#""Address":"#).expect("an address");
    let (_, after) = address.split_once(r#","HostAddr":"#).expect("a host");
    format!("{before}{after}")
}

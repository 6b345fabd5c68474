//! Server-side apply, as one manager of several.

use serde_json::{Value, json};

use super::{Fixture, config_maps, refused, word};
use crate::call::cluster::{Kind, Patch};
use crate::cluster::FIELD_MANAGER;

async fn applied(fixture: &Fixture, object: &Value) -> Value {
    fixture.cluster.apply(object, false).await.expect("an object is applied")
}

/// What is not there is made.
pub async fn applying_makes_an_object(fixture: &Fixture) {
    let made = applied(fixture, &fixture.config_map("a", "hello")).await;
    assert_eq!(made["data"]["word"], "hello");
    assert_eq!(fixture.map("a").await, made);
    let manager = &made["metadata"]["managedFields"][0];
    assert_eq!(
        (&manager["manager"], &manager["operation"]),
        (&json!(FIELD_MANAGER), &json!("Apply"))
    );
}

/// The same again changes nothing.
pub async fn applying_twice_is_as_good_as_once(fixture: &Fixture) {
    let object = fixture.config_map("a", "hello");
    let once = applied(fixture, &object).await;
    let twice = applied(fixture, &object).await;
    assert_eq!(once, twice);
}

/// What an earlier apply said and this one does not is removed.
pub async fn applying_removes_what_it_no_longer_says(fixture: &Fixture) {
    let mut object = fixture.config_map("a", "hello");
    object["data"]["more"] = json!("yes");
    object["metadata"]["annotations"] = json!({"contract.gantry/note": "yes"});
    applied(fixture, &object).await;
    let now = applied(fixture, &fixture.config_map("a", "changed")).await;
    assert_eq!(now["data"], json!({"word": "changed"}));
    assert_eq!(now["metadata"].get("annotations"), None);
}

/// What somebody else said, and no apply did, stays.
pub async fn applying_leaves_what_others_said(fixture: &Fixture) {
    applied(fixture, &fixture.config_map("a", "hello")).await;
    fixture.merged("a", json!({"data": {"theirs": "yes"}})).await;
    let now = applied(fixture, &fixture.config_map("a", "changed")).await;
    assert_eq!(now["data"], json!({"word": "changed", "theirs": "yes"}));
}

/// A field is never taken from its manager; the text names both.
pub async fn a_field_of_another_manager_is_a_conflict(fixture: &Fixture) {
    let before = fixture.created_map("a", "theirs").await;
    let told =
        refused(fixture.cluster.apply(&fixture.config_map("a", "ours"), false).await, "conflict");
    assert!(told.contains(".data.word") && told.contains(FIELD_MANAGER), "{told}");
    assert_eq!(fixture.map("a").await, before);
}

/// A field that two managers set to the same value is no conflict, and stays when one lets go of it.
pub async fn what_two_managers_want_alike_is_both_theirs(fixture: &Fixture) {
    fixture.created_map("a", "same").await;
    applied(fixture, &fixture.config_map("a", "same")).await;
    let now = applied(fixture, &fixture.object("ConfigMap", "a")).await;
    assert_eq!(now["data"]["word"], "same");
}

/// With a uid, an apply is for that object or for none.
pub async fn an_object_with_a_uid_is_that_very_object(fixture: &Fixture) {
    let cluster = &fixture.cluster;
    let with_uid = |uid: &str| {
        let mut object = fixture.config_map("a", "hello");
        object["metadata"]["uid"] = json!(uid);
        object
    };
    let other = "00000000-0000-0000-0000-000000000000";
    refused(cluster.apply(&with_uid(other), false).await, "conflict");
    assert!(!fixture.has_map("a").await);
    let made = applied(fixture, &fixture.config_map("a", "hello")).await;
    refused(cluster.apply(&with_uid(other), false).await, "conflict");
    assert_eq!(fixture.map("a").await, made);
    applied(fixture, &with_uid(word(&made, "uid"))).await;
}

/// With a version, an apply is for an object that has not moved on.
pub async fn an_object_with_a_version_is_of_that_version(fixture: &Fixture) {
    let with_version = |version: &str| {
        let mut object = fixture.config_map("a", "hello");
        object["metadata"]["resourceVersion"] = json!(version);
        object
    };
    let before = applied(fixture, &fixture.config_map("a", "hello")).await;
    let now = fixture.merged("a", json!({"data": {"theirs": "yes"}})).await;
    let old = with_version(word(&before, "resourceVersion"));
    refused(fixture.cluster.apply(&old, false).await, "conflict");
    applied(fixture, &with_version(word(&now, "resourceVersion"))).await;
}

/// An item of a list with keys is owned like a field: two managers have items side by side.
pub async fn items_of_a_list_are_owned_by_their_keys(fixture: &Fixture) {
    let service = |port: u16, name: &str| {
        let mut object = fixture.object("Service", "a");
        object["spec"] = json!({
            "selector": {"app": "none"},
            "ports": [{"name": name, "port": port, "targetPort": port, "protocol": "TCP"}],
        });
        object
    };
    applied(fixture, &service(80, "web")).await;
    let kind = Kind::new("v1", "Service");
    let more = json!({"name": "more", "port": 81, "targetPort": 81, "protocol": "TCP"});
    let patch = Patch::Json(json!([{"op": "add", "path": "/spec/ports/-", "value": more}]));
    let patched = fixture.cluster.patch(&kind, &fixture.namespace, "a", "", &patch, false).await;
    patched.unwrap();
    let now = applied(fixture, &service(82, "web")).await;
    let mut ports: Vec<_> =
        now["spec"]["ports"].as_array().unwrap().iter().map(|one| one["port"].clone()).collect();
    ports.sort_by_key(Value::as_u64);
    assert_eq!(ports, [81, 82]);
    assert_ne!(config_maps(), kind);
}

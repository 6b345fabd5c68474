//! Objects as such: what they are, and where.

use serde_json::{Value, json};

use super::{Fixture, config_maps, refused, word};
use crate::call::cluster::{DeleteOptions, Kind, Patch, Selection};

/// A create gives the object as it is then, and so does a get.
pub async fn what_is_created_is_read(fixture: &Fixture) {
    let object = fixture.config_map("a", "hello");
    let made = fixture.created(&object).await;
    assert_eq!(made["data"], object["data"]);
    assert_eq!(Kind::of(&made), config_maps());
    for key in ["uid", "resourceVersion", "creationTimestamp"] {
        assert!(!word(&made, key).is_empty(), "no {key}");
    }
    assert_eq!(fixture.map("a").await, made);
}

/// A name belongs to one object of a kind at a time.
pub async fn creating_twice_is_a_conflict(fixture: &Fixture) {
    let first = fixture.created_map("a", "one").await;
    let again = fixture.cluster.create(&fixture.config_map("a", "two"), false).await;
    let told = refused(again, "conflict");
    assert!(told.contains("exists"), "{told}");
    assert_eq!(fixture.map("a").await, first);
    fixture.delete_map("a").await;
    let second = fixture.created_map("a", "two").await;
    assert_ne!(word(&first, "uid"), word(&second, "uid"));
}

/// Who says only how its name begins is told the rest.
pub async fn a_name_may_be_generated(fixture: &Fixture) {
    let mut object = fixture.config_map("", "hello");
    object["metadata"]["name"].take();
    object["metadata"]["generateName"] = json!("a-");
    let (one, two) = (fixture.created(&object).await, fixture.created(&object).await);
    let (one, two) = (word(&one, "name"), word(&two, "name"));
    assert!(one.starts_with("a-") && two.starts_with("a-") && one != two, "{one} {two}");
}

/// What is not there is not read, patched or made by a patch.
pub async fn an_absent_object_is_not_found(fixture: &Fixture) {
    let (cluster, kind, namespace) = (&fixture.cluster, config_maps(), &fixture.namespace);
    let told = refused(cluster.get(&kind, namespace, "a").await, "not-found");
    assert!(told.contains('a'), "{told}");
    for patch in [Patch::Merge(json!({})), Patch::Strategic(json!({})), Patch::Json(json!([]))] {
        refused(cluster.patch(&kind, namespace, "a", "", &patch, false).await, "not-found");
    }
    assert!(!fixture.has_map("a").await);
}

/// Whatever is asked of a kind that the cluster does not have, it says so.
pub async fn an_unknown_kind_is_not_found(fixture: &Fixture) {
    let (cluster, namespace) = (&fixture.cluster, &fixture.namespace);
    for (api_version, kind) in
        [("v1", "Nothing"), ("apps/v1", "Nothing"), ("contract.gantry/v1", "Nothing")]
    {
        let of = Kind::new(api_version, kind);
        let object = json!({
            "apiVersion": api_version, "kind": kind,
            "metadata": {"name": "a", "namespace": namespace},
        });
        let told = refused(cluster.get(&of, namespace, "a").await, "not-found");
        assert!(told.contains("no kind `Nothing`") && told.contains(api_version), "{told}");
        refused(cluster.list(&of, &Selection::default(), 0, "").await, "not-found");
        refused(cluster.create(&object, false).await, "not-found");
        refused(cluster.apply(&object, false).await, "not-found");
        let patch = Patch::Merge(json!({}));
        refused(cluster.patch(&of, namespace, "a", "", &patch, false).await, "not-found");
        let options = DeleteOptions::default();
        refused(cluster.delete(&of, namespace, "a", &options).await, "not-found");
        refused(cluster.watch(&of, &Selection::default()).await.map(|_| ()), "not-found");
    }
}

/// A namespace is not made on the way.
pub async fn an_object_in_an_absent_namespace_is_not_made(fixture: &Fixture) {
    let mut object = fixture.config_map("a", "hello");
    object["metadata"]["namespace"] = json!(fixture.name());
    refused(fixture.cluster.create(&object, false).await, "not-found");
    refused(fixture.cluster.apply(&object, false).await, "not-found");
}

/// Which namespace is meant is always said, but for lists and watches, where none is every one.
pub async fn a_kind_with_namespaces_needs_one(fixture: &Fixture) {
    let (cluster, kind) = (&fixture.cluster, config_maps());
    let mut object = fixture.config_map("a", "hello");
    object["metadata"].as_object_mut().unwrap().remove("namespace");
    let told = refused(cluster.create(&object, false).await, "invalid");
    assert!(told.contains("namespace"), "{told}");
    refused(cluster.apply(&object, false).await, "invalid");
    refused(cluster.get(&kind, "", "a").await, "invalid");
    let patch = Patch::Merge(json!({}));
    refused(cluster.patch(&kind, "", "a", "", &patch, false).await, "invalid");
    refused(cluster.delete(&kind, "", "a", &DeleteOptions::default()).await, "invalid");
    refused(cluster.evict("", "a", None).await, "invalid");
}

/// And where there are none, none is said.
pub async fn a_kind_without_namespaces_takes_none(fixture: &Fixture) {
    let (cluster, kind, namespace) =
        (&fixture.cluster, Kind::new("v1", "Namespace"), &fixture.namespace);
    let found = cluster.get(&kind, "", namespace).await.unwrap();
    assert_eq!(Kind::of(&found), kind);
    let told = refused(cluster.get(&kind, namespace, namespace).await, "invalid");
    assert!(told.contains("namespace"), "{told}");
    let patch = Patch::Merge(json!({}));
    refused(cluster.patch(&kind, namespace, namespace, "", &patch, false).await, "invalid");
    let options = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    refused(cluster.delete(&kind, namespace, namespace, &options).await, "invalid");
    let selection = fixture.mine();
    refused(cluster.list(&kind, &selection, 0, "").await, "invalid");
    refused(cluster.watch(&kind, &selection).await.map(|_| ()), "invalid");
    let selection = Selection { namespace: String::new(), ..selection };
    let page = cluster.list(&kind, &selection, 0, "").await.unwrap();
    assert_eq!(page.items.len(), 1);
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": fixture.name(), "namespace": namespace},
    });
    refused(cluster.create(&object, true).await, "invalid");
    refused(cluster.apply(&object, true).await, "invalid");
}

/// An object says its kind, and its name unless it wants one.
pub async fn what_does_not_say_what_it_is_is_invalid(fixture: &Fixture) {
    let cluster = &fixture.cluster;
    for (pointer, create) in [("/apiVersion", true), ("/kind", true), ("/metadata/name", true)] {
        let mut object = fixture.config_map("a", "hello");
        let (of, key) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(of).unwrap().as_object_mut().unwrap().remove(key);
        if create {
            refused(cluster.create(&object, false).await, "invalid");
        }
        refused(cluster.apply(&object, false).await, "invalid");
    }
    for object in [Value::Null, json!([]), json!("a")] {
        refused(cluster.create(&object, false).await, "invalid");
        refused(cluster.apply(&object, false).await, "invalid");
    }
}

/// What cannot be a name is refused, and is never a way to another address.
pub async fn what_is_no_name_is_invalid(fixture: &Fixture) {
    let (cluster, kind, namespace) = (&fixture.cluster, config_maps(), &fixture.namespace);
    for name in ["", "..", "a/b", "a%2fb"] {
        refused(cluster.get(&kind, namespace, name).await, "invalid");
        let options = DeleteOptions::default();
        refused(cluster.delete(&kind, namespace, name, &options).await, "invalid");
    }
    refused(cluster.get(&kind, "a/b", "a").await, "invalid");
    refused(cluster.evict(namespace, "../pods/a", None).await, "invalid");
    // The cluster says what is wrong, and with what.
    let made = cluster.create(&fixture.config_map("Not_A_Name", "hello"), false).await;
    let error = made.expect_err("an error");
    let crate::EngineError::InvalidObject(told) = error else { panic!("{error}") };
    assert_eq!(told.causes[0].field, "metadata.name");
}

/// A dry run gives what would be, and refuses what would be refused.
pub async fn a_dry_run_changes_nothing(fixture: &Fixture) {
    let (cluster, kind, namespace) = (&fixture.cluster, config_maps(), &fixture.namespace);
    let would_be = cluster.create(&fixture.config_map("a", "one"), true).await.unwrap();
    assert_eq!(would_be["data"]["word"], "one");
    let would_be = cluster.apply(&fixture.config_map("a", "one"), true).await.unwrap();
    assert_eq!(would_be["data"]["word"], "one");
    assert!(!fixture.has_map("a").await);

    let before = fixture.created_map("a", "one").await;
    let patch = Patch::Merge(json!({"data": {"word": "two"}}));
    let would_be = cluster.patch(&kind, namespace, "a", "", &patch, true).await.unwrap();
    assert_eq!(would_be["data"]["word"], "two");
    let would_be = cluster.apply(&fixture.config_map("a", "one"), true).await.unwrap();
    assert_eq!(would_be["data"]["word"], "one");
    let options = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    cluster.delete(&kind, namespace, "a", &options).await.unwrap();
    assert_eq!(fixture.map("a").await, before);

    refused(cluster.create(&fixture.config_map("a", "two"), true).await, "conflict");
    let other = DeleteOptions { uid: "another".to_owned(), ..options };
    refused(cluster.delete(&kind, namespace, "a", &other).await, "conflict");
}

//! The end of objects, and of what they own.

use serde_json::{Value, json};

use super::{Fixture, config_maps, eventually, refused, word};
use crate::call::cluster::{DeleteOptions, Propagation};

/// Deleting twice is as good as once, whatever the conditions.
pub async fn deleting_what_is_gone_succeeds(fixture: &Fixture) {
    let (cluster, kind, namespace) = (&fixture.cluster, config_maps(), &fixture.namespace);
    let made = fixture.created_map("a", "hello").await;
    let only = DeleteOptions { uid: word(&made, "uid").to_owned(), ..DeleteOptions::default() };
    for options in [only.clone(), only, DeleteOptions::default()] {
        cluster.delete(&kind, namespace, "a", &options).await.unwrap();
        assert!(!fixture.has_map("a").await);
    }
    cluster.delete(&kind, &fixture.name(), "a", &DeleteOptions::default()).await.unwrap();
}

/// With a uid or a version, a deletion is for that object as it was, or for none.
pub async fn a_deletion_may_be_of_one_uid_or_version_only(fixture: &Fixture) {
    let (cluster, kind, namespace) = (&fixture.cluster, config_maps(), &fixture.namespace);
    let before = fixture.created_map("a", "one").await;
    let now = fixture.merged("a", json!({"data": {"word": "two"}})).await;
    let only = |uid: &str, version: &str| DeleteOptions {
        uid: uid.to_owned(),
        resource_version: version.to_owned(),
        ..DeleteOptions::default()
    };
    let (uid, old, new) =
        (word(&now, "uid"), word(&before, "resourceVersion"), word(&now, "resourceVersion"));
    let other = "00000000-0000-0000-0000-000000000000";
    for options in [only(other, ""), only("", old), only(uid, old), only(other, new)] {
        refused(cluster.delete(&kind, namespace, "a", &options).await, "conflict");
    }
    assert_eq!(fixture.map("a").await, now);
    cluster.delete(&kind, namespace, "a", &only(uid, new)).await.unwrap();
    assert!(!fixture.has_map("a").await);
}

/// What has a finalizer is marked, and goes when that is taken away.
pub async fn a_finalizer_keeps_what_is_deleted(fixture: &Fixture) {
    let mut object = fixture.config_map("a", "hello");
    object["metadata"]["finalizers"] = json!(["contract.gantry/keep"]);
    fixture.created(&object).await;
    fixture.delete_map("a").await;
    let marked = fixture.map("a").await;
    assert!(!word(&marked, "deletionTimestamp").is_empty());
    // Once more changes nothing.
    fixture.delete_map("a").await;
    assert_eq!(
        word(&fixture.map("a").await, "deletionTimestamp"),
        word(&marked, "deletionTimestamp")
    );
    fixture.merged("a", json!({"metadata": {"finalizers": null}})).await;
    assert!(!fixture.has_map("a").await);
}

async fn owner_and_owned(fixture: &Fixture) {
    let owner = fixture.created_map("owner", "hello").await;
    let mut owned = fixture.config_map("owned", "hello");
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": word(&owner, "uid"),
        "blockOwnerDeletion": true,
    }]);
    fixture.created(&owned).await;
}

async fn delete_owner(fixture: &Fixture, propagation: Propagation) {
    let options = DeleteOptions { propagation, ..DeleteOptions::default() };
    let deleted =
        fixture.cluster.delete(&config_maps(), &fixture.namespace, "owner", &options).await;
    deleted.unwrap();
}

/// In the background, the owner is gone at once and what it owns soon.
pub async fn what_an_object_owns_goes_after_it(fixture: &Fixture) {
    owner_and_owned(fixture).await;
    delete_owner(fixture, Propagation::Background).await;
    assert!(!fixture.has_map("owner").await);
    eventually("the owned goes", || async { !fixture.has_map("owned").await }).await;
}

/// In the foreground, the owner goes when nothing is left that it owns.
pub async fn what_an_object_owns_goes_before_it(fixture: &Fixture) {
    owner_and_owned(fixture).await;
    delete_owner(fixture, Propagation::Foreground).await;
    eventually("the owner goes", || async { !fixture.has_map("owner").await }).await;
    assert!(!fixture.has_map("owned").await);
}

/// An orphan stays, and has no owner.
pub async fn what_an_object_owns_stays_when_it_is_orphaned(fixture: &Fixture) {
    owner_and_owned(fixture).await;
    delete_owner(fixture, Propagation::Orphan).await;
    eventually("the owner goes", || async { !fixture.has_map("owner").await }).await;
    let orphan = fixture.map("owned").await;
    let owners = orphan["metadata"].get("ownerReferences").and_then(Value::as_array);
    assert_eq!(owners.map_or(0, Vec::len), 0);
    let managed = orphan["metadata"]["managedFields"].to_string();
    assert!(!managed.contains("ownerReferences"), "what is gone is nobody's: {managed}");
}

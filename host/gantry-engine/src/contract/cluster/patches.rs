//! Patches of the three kinds, and of subresources.

use serde_json::json;

use super::{Fixture, config_maps, refused, word};
use crate::call::cluster::{Kind, Patch};

/// What is null goes, what is said is set, and the rest stays.
pub async fn a_merge_patch_sets_and_removes(fixture: &Fixture) {
    let mut object = fixture.config_map("a", "hello");
    object["data"]["more"] = json!("yes");
    let before = fixture.created(&object).await;
    let now = fixture.merged("a", json!({"data": {"word": null, "new": "1"}})).await;
    assert_eq!(now["data"], json!({"more": "yes", "new": "1"}));
    assert_eq!(word(&now, "uid"), word(&before, "uid"));
    assert_ne!(word(&now, "resourceVersion"), word(&before, "resourceVersion"));
    // What changes nothing is no change.
    let again = fixture.merged("a", json!({"data": {"new": "1"}})).await;
    assert_eq!(again, now);
}

/// A test that does not hold, or a path that is not there, undoes the rest.
pub async fn a_json_patch_is_done_as_a_whole(fixture: &Fixture) {
    let (cluster, kind, namespace) = (&fixture.cluster, config_maps(), &fixture.namespace);
    let before = fixture.created_map("a", "hello").await;
    let change = json!({"op": "replace", "path": "/data/word", "value": "changed"});
    for bad in [
        json!({"op": "test", "path": "/data/word", "value": "other"}),
        json!({"op": "remove", "path": "/data/absent"}),
        json!({"op": "odd", "path": "/data/word"}),
    ] {
        let patch = Patch::Json(json!([change, bad]));
        refused(cluster.patch(&kind, namespace, "a", "", &patch, false).await, "invalid");
    }
    assert_eq!(fixture.map("a").await, before);
    let test = json!({"op": "test", "path": "/data/word", "value": "hello"});
    let patch = Patch::Json(json!([test, change]));
    let now = cluster.patch(&kind, namespace, "a", "", &patch, false).await.unwrap();
    assert_eq!(now["data"]["word"], "changed");
}

/// A strategic patch changes the item of a list that has its key, and deletes what it is told to.
pub async fn a_strategic_patch_knows_the_keys_of_lists(fixture: &Fixture) {
    let (cluster, kind) = (&fixture.cluster, Kind::new("apps/v1", "Deployment"));
    let container = |name: &str| json!({"name": name, "image": "busybox:test"});
    let mut object = fixture.object("Deployment", "a");
    object["apiVersion"] = json!("apps/v1");
    object["spec"] = json!({
        "paused": true,
        "replicas": 0,
        "selector": {"matchLabels": {"app": "a"}},
        "template": {
            "metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [container("one"), container("two")]},
        },
    });
    fixture.created(&object).await;
    let patch = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": [
        {"name": "one", "image": "pause:test"},
        {"name": "two", "$patch": "delete"},
        container("three"),
    ]}}}}));
    let now = cluster.patch(&kind, &fixture.namespace, "a", "", &patch, false).await.unwrap();
    let mut images: Vec<_> = now["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["image"].as_str().unwrap()))
        .collect();
    images.sort_unstable();
    assert_eq!(images, [("one", "pause:test"), ("three", "busybox:test")]);
}

/// With a version in it, a patch is for an object that has not moved on.
pub async fn an_object_that_has_moved_on_is_a_conflict(fixture: &Fixture) {
    let (cluster, kind, namespace) = (&fixture.cluster, config_maps(), &fixture.namespace);
    let before = fixture.created_map("a", "one").await;
    let now = fixture.merged("a", json!({"data": {"word": "two"}})).await;
    let patch = |version: &str| {
        Patch::Merge(json!({
            "metadata": {"resourceVersion": version}, "data": {"word": "three"},
        }))
    };
    let old = patch(word(&before, "resourceVersion"));
    refused(cluster.patch(&kind, namespace, "a", "", &old, false).await, "conflict");
    assert_eq!(fixture.map("a").await, now);
    let new = patch(word(&now, "resourceVersion"));
    cluster.patch(&kind, namespace, "a", "", &new, false).await.unwrap();
    assert_eq!(fixture.map("a").await["data"]["word"], "three");
}

/// A status is not changed with its object, nor an object with its status.
pub async fn a_status_is_changed_on_its_own(fixture: &Fixture) {
    let (cluster, kind, namespace) =
        (&fixture.cluster, Kind::new("v1", "Service"), &fixture.namespace);
    let mut object = fixture.object("Service", "a");
    object["spec"] = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
    fixture.created(&object).await;
    let change = Patch::Merge(json!({
        "metadata": {"annotations": {"contract.gantry/note": "yes"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    }));
    let main = cluster.patch(&kind, namespace, "a", "", &change, false).await.unwrap();
    assert_eq!(main.pointer("/status/loadBalancer/ingress"), None);
    assert_eq!(main["metadata"]["annotations"]["contract.gantry/note"], "yes");
    let change = Patch::Merge(json!({
        "spec": {"ports": [{"port": 81}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    }));
    cluster.patch(&kind, namespace, "a", "status", &change, false).await.unwrap();
    let now = cluster.get(&kind, namespace, "a").await.unwrap();
    assert_eq!(now["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
    assert_eq!(now["spec"]["ports"][0]["port"], 80);
}

/// A scale is read and changed as a kind of its own.
pub async fn a_scale_is_a_subresource(fixture: &Fixture) {
    let (cluster, kind, namespace) =
        (&fixture.cluster, Kind::new("apps/v1", "Deployment"), &fixture.namespace);
    let mut object = fixture.object("Deployment", "a");
    object["apiVersion"] = json!("apps/v1");
    object["spec"] = json!({
        // Its controller makes nothing of it.
        "paused": true,
        "replicas": 0,
        "selector": {"matchLabels": {"app": "a"}},
        "template": {
            "metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "one", "image": "busybox:test"}]},
        },
    });
    fixture.created(&object).await;
    let patch = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let scale = cluster.patch(&kind, namespace, "a", "scale", &patch, false).await.unwrap();
    assert_eq!(Kind::of(&scale), Kind::new("autoscaling/v1", "Scale"));
    assert_eq!(scale["spec"]["replicas"], 3);
    let now = cluster.get(&kind, namespace, "a").await.unwrap();
    assert_eq!(now["spec"]["replicas"], 3);
}

/// A kind has the subresources that it has.
pub async fn an_unknown_subresource_is_not_found(fixture: &Fixture) {
    let (cluster, kind, namespace) = (&fixture.cluster, config_maps(), &fixture.namespace);
    fixture.created_map("a", "hello").await;
    let patch = Patch::Merge(json!({}));
    for subresource in ["status", "odd"] {
        let answer = cluster.patch(&kind, namespace, "a", subresource, &patch, false).await;
        refused(answer, "not-found");
    }
    refused(cluster.patch(&kind, namespace, "a", "a/b", &patch, false).await, "invalid");
}

//! What only happens in a cluster that lives: kinds that come and go.

use gantry_engine::call::cluster::{DeleteOptions, Kind, Patch};
use gantry_engine::contract::cluster::{Fixture, eventually, refused, run};
use serde_json::json;

use crate::cluster;

#[tokio::test]
async fn a_kind_that_is_added_is_known() {
    if let Some(fixture) = cluster().await {
        run(fixture, |fixture| Box::pin(added_kind(fixture))).await;
    }
}

async fn added_kind(fixture: &Fixture) {
    let cluster = &fixture.cluster;
    let group = format!("{}.gantry", fixture.namespace);
    let kind = Kind::new(format!("{group}/v1"), "Thing");
    let object = json!({
        "apiVersion": kind.api_version, "kind": "Thing",
        "metadata": {"name": "a", "namespace": fixture.namespace},
        "spec": {"word": "hello"},
    });
    refused(cluster.apply(&object, false).await, "not-found");
    let definitions = Kind::new("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let name = format!("things.{group}");
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "apiVersion": definitions.api_version, "kind": definitions.kind,
        "metadata": {"name": name},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": open}}],
        },
    });
    fixture.created(&definition).await;
    eventually("the kind is served", || async { cluster.apply(&object, false).await.is_ok() })
        .await;
    let found = cluster.get(&kind, &fixture.namespace, "a").await.unwrap();
    assert_eq!(found["spec"]["word"], "hello");
    // Such kinds know no keys of lists.
    let patch = Patch::Strategic(json!({"spec": {"word": "changed"}}));
    let patched = cluster.patch(&kind, &fixture.namespace, "a", "", &patch, false).await;
    refused(patched, "invalid");
    cluster.delete(&definitions, "", &name, &DeleteOptions::default()).await.unwrap();
    eventually("the kind is gone", || async {
        cluster.get(&kind, &fixture.namespace, "a").await.is_err()
    })
    .await;
    refused(cluster.get(&kind, &fixture.namespace, "a").await, "not-found");
}

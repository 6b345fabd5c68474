//! What an operation did to an object is taken back, as whose each field was: through the chain, on a cluster that decides itself whose a field is.

use std::sync::Arc;
use std::time::Duration;

use gantry_core::policy::{Grant, Grants};
use gantry_engine::call::cluster::{ClusterInfo, Kind, Patch};
use gantry_engine::call::{Call, ClusterCall};
use gantry_engine::contract::cluster::{Fixture, config_maps, refused, run};
use gantry_engine::layer::journal::clean_up;
use gantry_engine::memory::{Memory, Platform};
use gantry_engine::{Chain, GivenCluster, Operation, Scope};
use serde_json::{Value, json};

use crate::cluster;

#[tokio::test]
async fn what_was_applied_and_then_patched_is_put_back() {
    if let Some(fixture) = cluster().await {
        run(fixture, |fixture| Box::pin(put_back(fixture))).await;
    }
}

#[tokio::test]
async fn an_apply_of_what_is_not_there_makes_it_or_is_a_conflict() {
    if let Some(fixture) = cluster().await {
        run(fixture, |fixture| Box::pin(made_or_conflict(fixture))).await;
    }
}

fn deployments() -> Kind {
    Kind::new("apps/v1", "Deployment")
}

fn chain(fixture: &Fixture) -> Chain {
    let backends = Platform::new().backends("kubernetes", std::iter::empty::<(&str, Memory)>());
    let info = ClusterInfo {
        name: "north".to_owned(),
        namespace: fixture.namespace.clone(),
        ..ClusterInfo::default()
    };
    let given = GivenCluster { info, engine: Arc::clone(&fixture.cluster) };
    backends.clusters.give("kubernetes", "north", given);
    Chain::new(backends)
}

fn operation(id: &str) -> Arc<Scope> {
    let grant: Grant = "cluster:*:Deployment.apps".parse().unwrap();
    let grants = Arc::new(Grants::new([grant.clone()], [grant]));
    let operation = Operation::new(id, Duration::from_secs(60));
    Arc::new(Scope::new("kubernetes", "here", operation).with_grants(grants))
}

/// A deployment that its controller makes nothing of.
fn deployment(fixture: &Fixture, replicas: u32) -> Value {
    let mut object = fixture.object("Deployment", "web");
    object["apiVersion"] = "apps/v1".into();
    object["metadata"]["annotations"] = json!({"note": "before"});
    object["spec"] = json!({
        "paused": true, "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "pause:test", "env": [{"name": "A", "value": "1"}]}]},
        },
    });
    object
}

fn apply(object: Value) -> ClusterCall {
    ClusterCall::Apply { object, dry_run: false }
}

fn patch(fixture: &Fixture, subresource: &str, patch: Patch) -> ClusterCall {
    ClusterCall::Patch {
        kind: deployments(),
        namespace: fixture.namespace.clone(),
        name: "web".to_owned(),
        subresource: subresource.to_owned(),
        patch,
        dry_run: false,
    }
}

async fn sent(chain: &Chain, scope: &Arc<Scope>, call: ClusterCall) {
    let name = call.name();
    let call = Call::Cluster { cluster: "north".to_owned(), call: Box::new(call) };
    chain.send(scope, call).await.map(drop).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// What is wanted of the deployment, and which fields are ours.
async fn wanted(fixture: &Fixture) -> Value {
    let found = fixture.cluster.get(&deployments(), &fixture.namespace, "web").await.unwrap();
    let metadata = &found["metadata"];
    let ours: Vec<Value> = metadata["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["manager"] == "gantry")
        .map(|entry| json!([entry["operation"], entry["subresource"], entry["fieldsV1"]]))
        .collect();
    let mut annotations = metadata["annotations"].clone();
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.remove("deployment.kubernetes.io/revision");
    }
    json!({
        "labels": metadata["labels"], "annotations": annotations, "spec": found["spec"], "ours": ours,
    })
}

async fn put_back(fixture: &Fixture) {
    let chain = chain(fixture);
    let scale = |subresource: &str, replicas: u32| {
        patch(fixture, subresource, Patch::Merge(json!({"spec": {"replicas": replicas}})))
    };
    let note =
        |note: Value| patch(fixture, "", Patch::Merge(json!({"metadata": {"annotations": note}})));
    let env = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "web", "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "2"}]},
    ]}}}});
    let rows = [
        ("applied", vec![apply(deployment(fixture, 5))]),
        ("patched", vec![scale("", 5)]),
        ("applied and patched", vec![apply(deployment(fixture, 4)), scale("", 5)]),
        ("scaled", vec![scale("scale", 5)]),
        ("scaled and patched", vec![scale("scale", 4), scale("", 5)]),
        ("notes", vec![note(json!({"note": "after", "new": "x"}))]),
        ("taken away", vec![note(json!({"note": null}))]),
        ("lists", vec![patch(fixture, "", Patch::Strategic(env))]),
    ];
    for (number, (what, calls)) in rows.into_iter().enumerate() {
        sent(&chain, &operation(&format!("before-{number}")), apply(deployment(fixture, 2))).await;
        let before = wanted(fixture).await;
        let scope = operation(&format!("during-{number}"));
        for call in calls {
            sent(&chain, &scope, call).await;
        }
        assert_ne!(wanted(fixture).await, before, "{what}");
        for time in ["once", "twice"] {
            let host = Arc::new(scope.for_clean_up(Duration::from_secs(60)));
            let cleaned = clean_up(&chain, &host).await;
            assert_eq!((cleaned.left, cleaned.put_back.len()), (vec![], 1), "{what}, {time}");
            assert_eq!(wanted(fixture).await, before, "{what}, {time}");
        }
    }
}

async fn made_or_conflict(fixture: &Fixture) {
    let with_version = |word: &str| {
        let mut map = fixture.config_map("a", word);
        map["metadata"]["resourceVersion"] = "1".into();
        map
    };
    fixture.cluster.apply(&with_version("one"), false).await.unwrap();
    refused(fixture.cluster.apply(&with_version("two"), false).await, "conflict");
    let found = fixture.cluster.get(&config_maps(), &fixture.namespace, "a").await.unwrap();
    assert_eq!(found["data"]["word"], "one");
}

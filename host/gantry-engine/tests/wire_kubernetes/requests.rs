//! What is sent.

use gantry_engine::Cluster as _;
use gantry_engine::call::cluster::{
    DeleteOptions, Kind, Patch, PodLogOptions, Propagation, Selection,
};
use serde_json::{Value, json};

use super::*;

/// An object for every question.
async fn obliging() -> Peer {
    super::peer(|seen| match seen.path.contains("/log") {
        true => peer::json(200, "a line\n"),
        false => peer::json(200, &json!({"metadata": {}, "items": []}).to_string()),
    })
    .await
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

#[tokio::test]
async fn every_call_is_one_request() {
    let peer = obliging().await;
    let cluster = hasty(&peer).await;
    let (kind, object) = (config_maps(), config_map());
    let deployments = Kind::new("apps/v1", "Deployment");
    let at = "/api/v1/namespaces/shop/configmaps";

    cluster.get(&kind, "shop", "web").await.unwrap();
    cluster.get(&Kind::new("v1", "Namespace"), "", "shop").await.unwrap();
    cluster.create(&object, false).await.unwrap();
    cluster.create(&object, true).await.unwrap();
    cluster.apply(&object, false).await.unwrap();
    cluster.apply(&object, true).await.unwrap();
    let scale = Patch::Merge(json!({"spec": {"replicas": 2}}));
    cluster.patch(&deployments, "shop", "web", "scale", &scale, true).await.unwrap();
    let selection = Selection {
        labels: "app in (a,b),!gone".to_owned(),
        fields: "metadata.name=web".to_owned(),
        ..shop()
    };
    cluster.list(&kind, &selection, 7, "a+b/c=").await.unwrap();
    cluster.list(&kind, &Selection::default(), 0, "").await.unwrap();
    cluster.delete(&kind, "shop", "web", &DeleteOptions::default()).await.unwrap();
    cluster.evict("shop", "web-1", Some(3)).await.unwrap();
    let log = PodLogOptions {
        container: "main".to_owned(),
        lines: 5,
        follow: true,
        timestamps: true,
        previous: true,
    };
    cluster.logs("shop", "web-1", &log).await.unwrap();
    assert_eq!(
        lines(&peer),
        [
            &format!("GET {at}/web"),
            "GET /api/v1/namespaces/shop",
            &format!("POST {at}?fieldManager=gantry"),
            &format!("POST {at}?fieldManager=gantry&dryRun=All"),
            &format!("PATCH {at}/web?fieldManager=gantry"),
            &format!("PATCH {at}/web?fieldManager=gantry&dryRun=All"),
            "PATCH /apis/apps/v1/namespaces/shop/deployments/web/scale?fieldManager=gantry&dryRun=All",
            &format!(
                "GET {at}?labelSelector=app%20in%20%28a%2Cb%29%2C%21gone&fieldSelector=metadata.name%3Dweb&limit=7&continue=a%2Bb%2Fc%3D"
            ),
            "GET /api/v1/configmaps?limit=250",
            &format!("DELETE {at}/web"),
            "POST /api/v1/namespaces/shop/pods/web-1/eviction",
            "GET /api/v1/namespaces/shop/pods/web-1/log?container=main&follow=true&timestamps=true&previous=true&tailLines=5",
        ]
    );
    for seen in peer.seen() {
        assert_eq!(seen.header("authorization"), Some("Bearer s3cr3t"));
        assert!(seen.header("user-agent").unwrap().starts_with("gantry/"));
        assert!(!seen.path.contains("force"));
    }
}

#[tokio::test]
async fn documents_are_sent_as_they_are() {
    let peer = obliging().await;
    let cluster = hasty(&peer).await;
    let object = config_map();
    cluster.apply(&object, false).await.unwrap();
    for patch in [
        Patch::Merge(json!({"a": null})),
        Patch::Strategic(json!({"$patch": "delete"})),
        Patch::Json(json!([{"op": "test", "path": "/a", "value": 1}])),
    ] {
        cluster.patch(&config_maps(), "shop", "web", "", &patch, false).await.unwrap();
    }
    let options = DeleteOptions {
        propagation: Propagation::Orphan,
        grace_seconds: Some(0),
        uid: "u".to_owned(),
        resource_version: "7".to_owned(),
        dry_run: true,
    };
    cluster.delete(&config_maps(), "shop", "web", &options).await.unwrap();
    cluster.evict("shop", "web-1", Some(3)).await.unwrap();
    let seen = peer.seen();
    let sent: Vec<_> = seen
        .iter()
        .filter(|seen| !seen.body.is_empty())
        .map(|seen| (seen.header("content-type").unwrap(), body(seen)))
        .collect();
    assert_eq!(
        sent,
        [
            ("application/apply-patch+yaml", object),
            ("application/merge-patch+json", json!({"a": null})),
            ("application/strategic-merge-patch+json", json!({"$patch": "delete"})),
            ("application/json-patch+json", json!([{"op": "test", "path": "/a", "value": 1}])),
            (
                "application/json",
                json!({
                    "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan",
                    "gracePeriodSeconds": 0, "dryRun": ["All"],
                    "preconditions": {"uid": "u", "resourceVersion": "7"},
                }),
            ),
            (
                "application/json",
                json!({
                    "apiVersion": "policy/v1", "kind": "Eviction",
                    "metadata": {"namespace": "shop", "name": "web-1"},
                    "deleteOptions": {"gracePeriodSeconds": 3},
                }),
            ),
        ]
    );
}

#[tokio::test]
async fn kinds_are_asked_for_once_and_again_when_one_is_unknown() {
    let peer = obliging().await;
    let cluster = hasty(&peer).await;
    let asked = || peer.seen().iter().filter(|seen| seen.path == "/api/v1").count();
    for _ in 0..3 {
        cluster.get(&config_maps(), "shop", "web").await.unwrap();
        cluster.get(&Kind::new("v1", "Namespace"), "", "shop").await.unwrap();
    }
    assert_eq!(asked(), 1);
    let told = refused(cluster.get(&Kind::new("v1", "Odd"), "shop", "a").await, "not-found");
    assert_eq!(told, "the cluster has no kind `Odd` in `v1`");
    assert_eq!(asked(), 2);
}

#[tokio::test]
async fn nothing_is_sent_for_what_cannot_be() {
    let peer = obliging().await;
    let cluster = hasty(&peer).await;
    refused(cluster.get(&config_maps(), "", "web").await, "invalid");
    refused(cluster.get(&config_maps(), "shop", "../web").await, "invalid");
    refused(cluster.get(&Kind::new("../v1", "ConfigMap"), "shop", "web").await, "invalid");
    refused(cluster.evict("shop", "", None).await, "invalid");
    assert_eq!(lines(&peer), [""; 0]);
}

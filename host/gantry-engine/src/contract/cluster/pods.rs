//! What is asked of pods, as far as nothing runs: the rest only a cluster with nodes can show.

use super::{Fixture, eventually, refused};
use crate::call::cluster::{Kind, PodExecOptions, PodLogOptions};

fn command(container: &str) -> PodExecOptions {
    PodExecOptions {
        container: container.to_owned(),
        command: vec!["true".to_owned()],
        ..PodExecOptions::default()
    }
}

/// Evicting twice is as good as once.
pub async fn evicting_what_is_gone_succeeds(fixture: &Fixture) {
    fixture.cluster.evict(&fixture.namespace, "none", None).await.unwrap();
    fixture.cluster.evict(&fixture.namespace, "none", Some(1)).await.unwrap();
}

/// A pod that is evicted is deleted.
pub async fn an_evicted_pod_goes(fixture: &Fixture) {
    let (cluster, kind, namespace) = (&fixture.cluster, Kind::new("v1", "Pod"), &fixture.namespace);
    for grace in [None, Some(0)] {
        let pod = fixture.lonely_pod(&["main"]).await;
        cluster.evict(namespace, &pod, grace).await.unwrap();
        eventually("the pod goes", || async { cluster.get(&kind, namespace, &pod).await.is_err() })
            .await;
        refused(cluster.get(&kind, namespace, &pod).await, "not-found");
    }
}

/// Every call that names a pod says when there is none.
pub async fn an_absent_pod_is_not_found(fixture: &Fixture) {
    let (cluster, namespace) = (&fixture.cluster, &fixture.namespace);
    let log = PodLogOptions { lines: 1, ..PodLogOptions::default() };
    let told = refused(cluster.logs(namespace, "none", &log).await.map(|_| ()), "not-found");
    assert!(told.contains("none"), "{told}");
    let command = command("");
    refused(cluster.exec(namespace, "none", &command).await.map(|_| ()), "not-found");
    refused(cluster.attach(namespace, "none", &command).await.map(|_| ()), "not-found");
    refused(cluster.port_forward(namespace, "none", 80).await.map(|_| ()), "not-found");
}

/// Nothing is done in a pod that has no node.
pub async fn what_does_not_run_is_a_conflict(fixture: &Fixture) {
    let (cluster, namespace) = (&fixture.cluster, &fixture.namespace);
    let pod = fixture.lonely_pod(&["main"]).await;
    let options = command("");
    refused(cluster.exec(namespace, &pod, &options).await.map(|_| ()), "conflict");
    refused(cluster.attach(namespace, &pod, &options).await.map(|_| ()), "conflict");
    refused(cluster.port_forward(namespace, &pod, 80).await.map(|_| ()), "conflict");
    let none = PodExecOptions { command: Vec::new(), ..options };
    refused(cluster.exec(namespace, &pod, &none).await.map(|_| ()), "invalid");
}

/// The only container need not be named; of several one must be, and one that is there.
pub async fn a_container_is_named_when_there_are_several(fixture: &Fixture) {
    let (cluster, namespace) = (&fixture.cluster, &fixture.namespace);
    let pod = fixture.lonely_pod(&["one", "two"]).await;
    let told = refused(cluster.exec(namespace, &pod, &command("")).await.map(|_| ()), "invalid");
    assert!(told.contains("one") && told.contains("two"), "{told}");
    refused(cluster.exec(namespace, &pod, &command("two")).await.map(|_| ()), "conflict");
    refused(cluster.exec(namespace, &pod, &command("three")).await.map(|_| ()), "not-found");
    let log = |container: &str| PodLogOptions {
        container: container.to_owned(),
        ..PodLogOptions::default()
    };
    refused(cluster.logs(namespace, &pod, &log("")).await.map(|_| ()), "invalid");
    refused(cluster.logs(namespace, &pod, &log("three")).await.map(|_| ()), "not-found");
}

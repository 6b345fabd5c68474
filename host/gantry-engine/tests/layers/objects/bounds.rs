use gantry_engine::EngineError;
use gantry_engine::call::cluster::{PodExecOptions, PodLogOptions};
use gantry_engine::memory::objects::Fault;
use gantry_engine::stream::Output;
use gantry_engine::{Limits, Request};

use super::*;

fn bounded(limits: Limits) -> Arc<Scope> {
    let scope = Scope::new("kubernetes", INSTANCE, operation("op-1")).with_grants(granted(&OWN));
    Arc::new(scope.with_limits(limits))
}

#[tokio::test]
async fn a_call_that_is_refused_counts_like_any_other_and_what_the_host_asks_counts_not() {
    let house = House::new();
    let scope = bounded(Limits { host_calls: 4, ..Limits::default() });
    house.object(&scope, apply(map("web", "1"))).await;
    house.cluster.put(&map("theirs", "1")).unwrap();
    for call in [
        apply(map("theirs", "2")),
        merge(&config_maps(), "web", json!({"metadata": null})),
        delete(&config_maps(), "nobody"),
    ] {
        let _ = house.send(&scope, call).await;
    }
    assert_eq!(scope.meter.calls(), 4);
    let (kind, told) = house.refused(&scope, get(&config_maps(), "web")).await;
    assert_eq!(kind, "over a limit");
    assert!(told.contains("`host-calls` of 4"), "{told}");
}

#[tokio::test]
async fn an_object_counts_by_its_bytes_both_ways() {
    let house = House::new();
    let scope = bounded(Limits { host_call_bytes: 4000, ..Limits::default() });
    let (kind, told) = house.refused(&scope, apply(map("web", &"x".repeat(4000)))).await;
    assert_eq!(kind, "over a limit");
    assert!(told.contains("`host-call-bytes` of 4000 bytes"), "{told}");
    assert_eq!(house.word("web").await, None, "nothing was sent");
    for name in ["a", "b", "c"] {
        house.object(&scope, apply(map(name, &"x".repeat(2000)))).await;
    }
    let (kind, told) = house.refused(&scope, list(&config_maps())).await;
    assert_eq!((kind, told.contains("`host-call-bytes`")), ("over a limit", true), "{told}");
}

/// A pod of ours that runs for ever, and says nothing.
async fn quiet_pod(house: &House, scope: &Arc<Scope>) {
    house.object(scope, create(object(&pods(), "web"))).await;
}

fn waiting_calls() -> Vec<ClusterCall> {
    let (namespace, pod) = (|| "default".to_owned(), || "web".to_owned());
    let log = PodLogOptions { follow: true, ..PodLogOptions::default() };
    let command = || PodExecOptions { command: vec!["true".to_owned()], ..Default::default() };
    vec![
        watch(&config_maps()),
        ClusterCall::Logs { namespace: namespace(), pod: pod(), options: log },
        ClusterCall::Exec { namespace: namespace(), pod: pod(), options: command() },
        ClusterCall::ExecSession { namespace: namespace(), pod: pod(), options: command() },
        ClusterCall::Attach { namespace: namespace(), pod: pod(), options: Default::default() },
        ClusterCall::AttachSession {
            namespace: namespace(),
            pod: pod(),
            options: Default::default(),
        },
        ClusterCall::PortForward { namespace: namespace(), pod: pod(), port: 80 },
    ]
}

#[tokio::test]
async fn after_a_cancel_nothing_waits_and_short_calls_go_on() {
    let (house, scope) = (House::new(), ours("op-1"));
    quiet_pod(&house, &scope).await;
    scope.operation.cancel.cancel();
    for call in waiting_calls() {
        let output =
            Output { stdout: Box::pin(tokio::io::sink()), stderr: Box::pin(tokio::io::sink()) };
        let name = call.name();
        let request = Request::new(on_cluster(call), None, Some(output));
        let error = house.chain.send(&scope, request).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), "cancelled", "{name}");
    }
    house.object(&scope, apply(map("web", "1"))).await;
    house.object(&scope, merge(&config_maps(), "web", json!({"data": {"word": "2"}}))).await;
    house.object(&scope, get(&config_maps(), "web")).await;
    house.done(&scope, list(&config_maps())).await;
    house.done(&scope, delete(&config_maps(), "web")).await;
    let (namespace, pod) = ("default".to_owned(), "web".to_owned());
    house.done(&scope, ClusterCall::Evict { namespace, pod, grace_seconds: None }).await;
}

fn too_much() -> EngineError {
    EngineError::TooManyRequests { text: "busy".to_owned(), retry_after: Some(1) }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_with_too_much_to_do_is_asked_again_until_the_operation_has_no_more_time() {
    let (house, scope) = (House::new(), ours("op-1"));
    house.cluster.fail(|_, number| (number < 3).then(|| Fault::Before(too_much())));
    // The look before it and the apply itself: two answers each, and then a third.
    house.object(&scope, apply(map("web", "1"))).await;
    assert_eq!((house.cluster.count("cluster.get"), house.cluster.count("cluster.apply")), (3, 3));
    house.cluster.fail(|_, _| Some(Fault::Before(too_much())));
    let (kind, _) = house.refused(&scope, get(&config_maps(), "web")).await;
    assert_eq!(kind, "too-many-requests");
    assert!(house.cluster.count("cluster.get") > 10, "it was asked for a minute");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_busy_cluster_returns_when_the_operation_is_cancelled() {
    let house = Arc::new(House::new());
    let scope = ours("op-1");
    house.cluster.fail(|_, _| Some(Fault::Before(too_much())));
    let waiting = {
        let (house, scope) = (Arc::clone(&house), Arc::clone(&scope));
        tokio::spawn(async move { house.refused(&scope, get(&config_maps(), "web")).await.0 })
    };
    crate::until(|| house.cluster.count("cluster.get") > 0).await;
    scope.operation.cancel.cancel();
    assert_eq!(waiting.await.unwrap(), "cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_nobody_waits_for_any_more_is_not_sent_again_to_a_busy_cluster() {
    let (house, scope) = (House::new(), ours("op-1"));
    house.object(&ours("op-0"), apply(map("web", "1"))).await;
    house.cluster.fail(|call, _| {
        matches!(call, ClusterCall::Apply { .. }).then(|| Fault::Before(too_much()))
    });
    let answer = house.send(&scope, apply(map("web", "2")));
    assert!(tokio::time::timeout(Duration::from_secs(5), answer).await.is_err());
    let sent = house.cluster.count("cluster.apply");
    house.cluster.mend();
    scope.ledger.settled().await;
    assert_eq!(house.cluster.count("cluster.apply"), sent);
    assert_eq!(house.word("web").await.as_deref(), Some("1"));
    assert_eq!(scope.ledger.loose_objects(), [], "it was refused");
}

//! What becomes of answers, and of those that do not come.

use std::time::Instant;

use futures_util::StreamExt as _;
use gantry_engine::call::cluster::{DeleteOptions, Patch, PodExecOptions, PodLogOptions};
use gantry_engine::{Cluster as _, EngineError};

use super::*;

fn head(status: u16, more: &str) -> String {
    format!("HTTP/1.1 {status} Word\r\nContent-Type: application/json\r\n{more}\r\n")
}

/// An answer that ends with its connection.
fn last(status: u16, body: &str) -> Answer {
    Answer::Last(format!("{}{body}", head(status, "")).into_bytes())
}

#[tokio::test]
async fn a_busy_cluster_is_not_asked_again_here() {
    let peer = super::peer(|_| {
        let body = refusal(429, "TooManyRequests", "Too many requests");
        let length = format!("Retry-After: 3\r\nContent-Length: {}\r\n", body.len());
        Answer::Bytes(format!("{}{body}", head(429, &length)).into_bytes())
    })
    .await;
    let error = hasty(&peer).await.apply(&config_map(), false).await.unwrap_err();
    let EngineError::TooManyRequests { text, retry_after } = error else { panic!("{error}") };
    assert_eq!(retry_after, Some(3));
    assert!(text.contains("apply the ConfigMap `shop/web`"), "{text}");
    assert_eq!(lines(&peer).len(), 1);
}

#[tokio::test]
async fn a_failure_is_told_and_nothing_is_sent_twice() {
    for (code, reason, kind) in [
        (500, "InternalError", "failed"),
        (502, "", "failed"),
        (503, "ServiceUnavailable", "failed"),
        (504, "Timeout", "timed-out"),
        (410, "Expired", "conflict"),
        (401, "Unauthorized", "forbidden"),
    ] {
        let peer = super::peer(move |_| peer::json(code, &refusal(code, reason, "It is so"))).await;
        let cluster = hasty(&peer).await;
        refused(cluster.create(&config_map(), false).await, kind);
        refused(cluster.list(&config_maps(), &shop(), 0, "old").await, kind);
        assert_eq!(lines(&peer).len(), 2, "{code}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_never_a_success_nor_a_second_try() {
    for answer in [
        // The request was read, and then the server was gone.
        Answer::Last(Vec::new()),
        Answer::Last(b"HTTP/1.1 201 Created\r\nContent-Len".to_vec()),
        // Its answer breaks off.
        Answer::Last(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"api".to_vec()),
        Answer::Last(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{".to_vec()),
    ] {
        let peer = super::peer(move |_| answer.clone()).await;
        let cluster = hasty(&peer).await;
        let told = refused(cluster.create(&config_map(), false).await, "unreachable");
        assert!(told.contains("not known"), "{told}");
        refused(
            cluster.delete(&config_maps(), "shop", "web", &DeleteOptions::default()).await,
            "unreachable",
        );
        assert_eq!(lines(&peer).len(), 2);
    }
}

#[tokio::test]
async fn a_slow_answer_is_not_waited_for() {
    for answer in [
        Answer::Stuck(Vec::new()),
        Answer::Stuck(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"api".to_vec()),
    ] {
        let peer = super::peer(move |_| answer.clone()).await;
        let cluster = hasty(&peer).await;
        let begun = Instant::now();
        let patch = Patch::Merge(json!({}));
        let patched = cluster.patch(&config_maps(), "shop", "web", "", &patch, false).await;
        let told = refused(patched, "timed-out");
        assert!(told.contains("not known"), "{told}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    let peer = super::peer(|_| Answer::Stuck(Vec::new())).await;
    let log = PodLogOptions::default();
    refused(hasty(&peer).await.logs("shop", "web-1", &log).await.map(|_| ()), "timed-out");
}

#[tokio::test]
async fn what_is_no_cluster_is_told_so() {
    for (answer, why) in [
        (Answer::Last(b"SSH-2.0-OpenSSH_9\r\n".to_vec()), "not HTTP"),
        (last(200, "<html>"), "not JSON"),
        (last(302, ""), "status 302"),
    ] {
        let peer = super::peer(move |_| answer.clone()).await;
        let told = refused(hasty(&peer).await.get(&config_maps(), "shop", "web").await, "failed");
        assert!(told.contains(why), "{told}");
    }
    let peer = Peer::tcp(None, |_| last(200, "{}")).await;
    let told = refused(hasty(&peer).await.get(&config_maps(), "shop", "web").await, "failed");
    assert!(told.contains("no list of Kubernetes"), "{told}");
}

#[tokio::test]
async fn who_cannot_be_reached_is_unreachable_with_the_reason() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let endpoint = Endpoint::address(address.clone(), None, Credentials::None);
    let cluster = Kubernetes::with(&endpoint, short()).await.unwrap();
    let told = refused(cluster.get(&config_maps(), "shop", "web").await, "unreachable");
    assert!(told.contains("connection refused") && told.contains(&address), "{told}");

    // TLS to who speaks none, and to who says nothing.
    for answer in [last(400, ""), Answer::Stuck(Vec::new())] {
        let peer = Peer::tcp(None, move |_| answer.clone()).await;
        let endpoint = super::endpoint("https", &peer);
        // Of two limits that end at once, nobody knows which speaks.
        let limits = Timeouts { request: Duration::from_secs(30), ..short() };
        let cluster = Kubernetes::with(&endpoint, limits).await.unwrap();
        let told = refused(cluster.version().await, "unreachable");
        assert!(told.contains("cannot be reached") && !told.contains(TOKEN), "{told}");
    }
}

#[tokio::test]
async fn a_log_that_breaks_off_says_so() {
    for (answer, kinds) in [
        (last(200, "one\ntwo\n"), vec!["ok"]),
        (
            Answer::Last(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n".to_vec(),
            ),
            vec!["ok", "unreachable"],
        ),
    ] {
        let peer = super::peer(move |_| answer.clone()).await;
        let log = PodLogOptions { lines: 9, follow: true, ..PodLogOptions::default() };
        let session = hasty(&peer).await.logs("shop", "web-1", &log).await.unwrap();
        let chunks: Vec<_> = session.chunks.collect().await;
        let seen: Vec<_> =
            chunks.iter().map(|chunk| chunk.as_ref().map_or_else(|e| e.kind(), |_| "ok")).collect();
        assert_eq!(seen, kinds);
    }
}

#[tokio::test]
async fn what_opens_no_websocket_is_told_so() {
    for (answer, kind) in [
        (peer::json(403, &refusal(403, "Forbidden", "no")), "forbidden"),
        (peer::json(404, &refusal(404, "NotFound", "no")), "not-found"),
        (peer::json(200, "{}"), "failed"),
        (Answer::Last(Vec::new()), "unreachable"),
        (Answer::Stuck(Vec::new()), "timed-out"),
    ] {
        let peer = super::peer(move |_| answer.clone()).await;
        let options =
            PodExecOptions { command: vec!["true".to_owned()], ..PodExecOptions::default() };
        refused(hasty(&peer).await.exec("shop", "web-1", &options).await.map(|_| ()), kind);
        assert_eq!(lines(&peer).len(), 1);
    }
}

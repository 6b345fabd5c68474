//! Watches over connections that break.

use std::sync::Mutex;
use std::time::Instant;

use futures_util::StreamExt as _;
use gantry_engine::call::cluster::Change;
use gantry_engine::cluster::Changes;
use gantry_engine::{Cluster as _, EngineError};
use tokio::time::timeout;

use super::*;

/// What a peer does, one after the other.
enum Next {
    /// A page with these objects (`name`, uid and version), of this version.
    List(&'static [(&'static str, u32)], u32),
    /// The first page of a list that has a second.
    Page(&'static [(&'static str, u32)]),
    /// Events, and then the connection ends.
    Events(Vec<String>),
    /// Events, and then nothing.
    Silence(Vec<String>),
    /// This refusal.
    Refuse(u16, &'static str),
    /// Nothing at all.
    Gone,
}

fn object(name: &str, version: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "namespace": "shop", "name": name, "uid": name, "resourceVersion": version.to_string(),
        },
    })
}

fn event(kind: &str, name: &str, version: u32) -> String {
    format!("{}\n", json!({"type": kind, "object": object(name, version)}))
}

fn bookmark(version: u32) -> String {
    let object = json!({"kind": "ConfigMap", "metadata": {"resourceVersion": version.to_string()}});
    format!("{}\n", json!({"type": "BOOKMARK", "object": object}))
}

fn error(code: u16, reason: &str) -> String {
    let status: Value = serde_json::from_str(&refusal(code, reason, "it is so")).unwrap();
    format!("{}\n", json!({"type": "ERROR", "object": status}))
}

fn answer(next: Next) -> Answer {
    let list = |objects: &[(&str, u32)], metadata: Value| {
        let items: Vec<_> = objects.iter().map(|(name, version)| object(name, *version)).collect();
        peer::json(200, &json!({"metadata": metadata, "items": items}).to_string())
    };
    let events = |events: Vec<String>| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
        format!("{head}{}", events.concat()).into_bytes()
    };
    match next {
        Next::List(objects, version) => {
            list(objects, json!({"resourceVersion": version.to_string()}))
        }
        Next::Page(objects) => list(objects, json!({"resourceVersion": "1", "continue": "more"})),
        Next::Events(all) => Answer::Last(events(all)),
        Next::Silence(all) => Answer::Stuck(events(all)),
        Next::Refuse(code, reason) => peer::json(code, &refusal(code, reason, "it is so")),
        Next::Gone => Answer::Last(Vec::new()),
    }
}

/// A peer that does these things, and then refuses with `forbidden` for ever.
async fn script(all: impl IntoIterator<Item = Next>) -> Peer {
    let all: Mutex<std::collections::VecDeque<Next>> = Mutex::new(all.into_iter().collect());
    super::peer(move |_| {
        answer(all.lock().unwrap().pop_front().unwrap_or(Next::Refuse(422, "Invalid")))
    })
    .await
}

/// What a watch tells to its end, which is the end of the script.
async fn told(peer: &Peer) -> (Vec<String>, EngineError) {
    let mut changes: Changes = hasty(peer).await.watch(&config_maps(), &shop()).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let change = timeout(Duration::from_secs(20), changes.next()).await.expect("in time");
        let word = |object: &Value| {
            let metadata = &object["metadata"];
            format!(
                "{}@{}",
                metadata["name"].as_str().unwrap(),
                metadata["resourceVersion"].as_str().unwrap()
            )
        };
        match change.expect("an error at the end") {
            Ok(Change::Applied(object)) => seen.push(format!("+{}", word(&object))),
            Ok(Change::Deleted(object)) => seen.push(format!("-{}", word(&object))),
            Ok(Change::Listed) => seen.push("listed".to_owned()),
            Err(error) => {
                assert!(changes.next().await.is_none(), "an error is the end");
                return (seen, error);
            }
        }
    }
}

/// From which versions the peer was asked to go on; a dash for a list.
fn versions(peer: &Peer) -> Vec<String> {
    let all = lines(peer);
    let version = |line: &String| {
        let found = line.split(['&', '?']).find_map(|part| part.strip_prefix("resourceVersion="));
        found.unwrap_or("-").to_owned()
    };
    all.iter().map(version).collect()
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_where_it_was() {
    let half = event("ADDED", "c", 13).split_at(20).0.to_owned();
    let peer = script([
        Next::List(&[("a", 4)], 10),
        Next::Events(vec![event("ADDED", "b", 11)]),
        // Nothing for a while but a sign of life, and then a line that breaks off.
        Next::Events(vec![bookmark(12), half]),
        Next::Gone,
        Next::Refuse(500, "InternalError"),
        Next::Refuse(429, "TooManyRequests"),
        Next::Events(vec![error(500, "InternalError")]),
        Next::Silence(vec![event("MODIFIED", "a", 14)]),
        Next::Events(vec![event("DELETED", "b", 15)]),
    ])
    .await;
    let (seen, error) = told(&peer).await;
    assert_eq!(seen, ["+a@4", "listed", "+b@11", "+a@14", "-b@15"]);
    assert_eq!(versions(&peer), ["-", "10", "11", "12", "12", "12", "12", "12", "14", "15"]);
    assert_eq!(error.kind(), "invalid");
}

#[tokio::test]
async fn a_lost_version_is_listed_again_and_only_differences_are_told() {
    for lost in [Next::Refuse(410, "Expired"), Next::Events(vec![error(410, "Gone")])] {
        let peer = script([
            Next::List(&[("a", 4), ("b", 5), ("c", 6)], 10),
            lost,
            // `a` is as it was, `b` has changed, `c` has gone and `d` is new.
            Next::List(&[("a", 4), ("b", 12), ("d", 13)], 20),
            Next::Events(vec![event("MODIFIED", "d", 21)]),
        ])
        .await;
        let (seen, _) = told(&peer).await;
        assert_eq!(seen, ["+a@4", "+b@5", "+c@6", "listed", "+b@12", "+d@13", "-c@6", "+d@21"]);
        assert_eq!(versions(&peer), ["-", "10", "-", "20", "21"]);
    }
}

#[tokio::test]
async fn a_list_whose_second_page_is_too_old_begins_again() {
    let peer = script([
        Next::Page(&[("a", 4), ("b", 5)]),
        Next::Refuse(410, "Expired"),
        Next::Page(&[("a", 4)]),
        Next::List(&[("c", 6)], 10),
        Next::Events(vec![]),
    ])
    .await;
    let (seen, _) = told(&peer).await;
    assert_eq!(seen, ["+a@4", "+b@5", "+c@6", "-b@5", "listed"]);
}

#[tokio::test]
async fn a_watch_gives_up_in_the_end() {
    for next in [|| Next::Gone, || Next::Refuse(503, "ServiceUnavailable"), || Next::Events(vec![])]
    {
        let peer = script([Next::List(&[], 10)].into_iter().chain((0..200).map(|_| next()))).await;
        let begun = Instant::now();
        let (seen, error) = told(&peer).await;
        assert_eq!(seen, ["listed"]);
        assert_eq!(error.kind(), "unreachable", "{error}");
        assert!(error.to_string().contains("given up after 2s"), "{error}");
        assert!(begun.elapsed() >= Duration::from_secs(2));
        // It waits longer each time.
        assert!(lines(&peer).len() < 12, "{}", lines(&peer).len());
    }
}

#[tokio::test]
async fn what_cannot_be_mended_ends_a_watch_at_once() {
    for (code, reason, kind) in [(404, "NotFound", "not-found"), (400, "BadRequest", "invalid")] {
        let peer = script([Next::List(&[], 10), Next::Refuse(code, reason)]).await;
        let (seen, error) = told(&peer).await;
        assert_eq!((seen, error.kind()), (vec!["listed".to_owned()], kind));
        assert_eq!(lines(&peer).len(), 2);
    }
}

#[tokio::test]
async fn the_first_list_is_not_tried_twice() {
    for (code, reason, kind) in [
        (403, "Forbidden", "forbidden"),
        (429, "TooManyRequests", "too-many-requests"),
        (500, "InternalError", "failed"),
    ] {
        let peer = script([Next::Refuse(code, reason)]).await;
        let watched = hasty(&peer).await.watch(&config_maps(), &shop()).await;
        refused(watched.map(|_| ()), kind);
        assert_eq!(lines(&peer).len(), 1);
    }
}

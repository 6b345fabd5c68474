//! Watches: what is there, that this is all, and then what happens.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::json;

use super::{Fixture, config_maps, next, refused, told, word};
use crate::call::cluster::{Change, Kind, Selection};
use crate::cluster::PAGE;

/// What is there comes first, and that this is all is told once, also when it is nothing.
pub async fn a_watch_starts_with_what_is_there(fixture: &Fixture) {
    let mut changes = fixture.watched().await;
    assert_eq!(told(&mut changes).await, "listed");
    for name in ["a", "b"] {
        fixture.created_map(name, "hello").await;
    }
    let mut changes = fixture.watched().await;
    for expected in ["+a", "+b", "listed"] {
        assert_eq!(told(&mut changes).await, expected);
    }
    // As a get gives it.
    let mut changes = fixture.watched().await;
    assert_eq!(next(&mut changes).await, Change::Applied(fixture.map("a").await));
}

/// Every change is told, as the object was after it.
pub async fn a_watch_tells_what_happens_in_order(fixture: &Fixture) {
    let mut changes = fixture.watched().await;
    assert_eq!(next(&mut changes).await, Change::Listed);
    let made = fixture.created_map("a", "one").await;
    assert_eq!(next(&mut changes).await, Change::Applied(made));
    let changed = fixture.merged("a", json!({"data": {"word": "two"}})).await;
    assert_eq!(next(&mut changes).await, Change::Applied(changed.clone()));
    // No change is not told.
    fixture.merged("a", json!({"data": {"word": "two"}})).await;
    fixture.delete_map("a").await;
    let Change::Deleted(gone) = next(&mut changes).await else { panic!("it is gone") };
    assert_eq!(word(&gone, "uid"), word(&changed, "uid"));
    assert_eq!(gone["metadata"]["labels"], changed["metadata"]["labels"]);
    assert_eq!(Kind::of(&gone), config_maps());
    let again = fixture.created_map("a", "three").await;
    assert_eq!(next(&mut changes).await, Change::Applied(again));
}

/// What is no longer selected is gone, for this watch; what comes to be is new.
pub async fn a_watch_tells_what_leaves_its_selection(fixture: &Fixture) {
    let mut selection = fixture.mine();
    selection.labels.push_str(",tier=web");
    let watched = fixture.cluster.watch(&config_maps(), &selection).await;
    let mut changes = watched.unwrap();
    assert_eq!(told(&mut changes).await, "listed");
    fixture.created_map("a", "hello").await;
    fixture.merged("a", json!({"metadata": {"labels": {"tier": "web"}}})).await;
    assert_eq!(told(&mut changes).await, "+a");
    fixture.merged("a", json!({"metadata": {"labels": {"tier": null}}})).await;
    assert_eq!(told(&mut changes).await, "-a");
    fixture.delete_map("a").await;
    fixture.merged_or_made("b").await;
    assert_eq!(told(&mut changes).await, "+b");
}

/// More objects than a page has are told one by one, each once.
pub async fn a_watch_of_many_pages_tells_each_object_once(fixture: &Fixture) {
    let count = PAGE as usize + 5;
    let names: Vec<String> = (0..count).map(|number| format!("a{number:04}")).collect();
    for names in names.chunks(32) {
        join_all(names.iter().map(|name| fixture.created_map(name, "hello"))).await;
    }
    let mut changes = fixture.watched().await;
    for name in names {
        assert_eq!(told(&mut changes).await, format!("+{name}"));
    }
    assert_eq!(told(&mut changes).await, "listed");
}

/// Whatever happens at the same time, who puts the changes together has what is there.
pub async fn a_watch_misses_nothing(fixture: &Fixture) {
    let mut changes = fixture.watched().await;
    let busy = join_all((0..8).map(|worker| async move {
        for round in 0..10 {
            let name = format!("a{worker}-{round}");
            fixture.created_map(&name, "one").await;
            fixture.merged(&name, json!({"data": {"word": "two"}})).await;
            if round % 2 == 0 {
                fixture.delete_map(&name).await;
            }
        }
    }));
    let follow = async {
        let (mut there, mut seen) = (BTreeMap::new(), 0);
        // A create and a change of each, and the end of every other one.
        while seen < 8 * (10 + 10 + 5) {
            match next(&mut changes).await {
                Change::Applied(object) => {
                    let version = word(&object, "resourceVersion").to_owned();
                    let before = there.insert(word(&object, "name").to_owned(), version.clone());
                    assert_ne!(before, Some(version), "told twice");
                    seen += 1;
                }
                Change::Deleted(object) => {
                    assert!(there.remove(word(&object, "name")).is_some(), "never told");
                    seen += 1;
                }
                Change::Listed => {}
            }
        }
        there
    };
    let (_, there) = tokio::join!(busy, follow);
    let page = fixture.cluster.list(&config_maps(), &fixture.mine(), 0, "").await.unwrap();
    let listed = page
        .items
        .iter()
        .map(|item| (word(item, "name").to_owned(), word(item, "resourceVersion").to_owned()));
    assert_eq!(there, listed.collect());
}

/// Watches do not take anything from each other.
pub async fn every_watch_is_told(fixture: &Fixture) {
    let mut watches = join_all((0..4).map(|_| fixture.watched())).await;
    fixture.created_map("a", "hello").await;
    for changes in &mut watches {
        // Whether it was there when a watch began is not for us to say.
        let first = [told(changes).await, told(changes).await];
        assert!(first == ["listed", "+a"] || first == ["+a", "listed"], "{first:?}");
    }
    fixture.delete_map("a").await;
    for changes in &mut watches {
        assert_eq!(told(changes).await, "-a");
    }
}

/// Who cannot watch is told when it begins.
pub async fn what_cannot_be_watched_is_refused_at_once(fixture: &Fixture) {
    let cluster = &fixture.cluster;
    let unknown = Kind::new("v1", "Nothing");
    refused(cluster.watch(&unknown, &fixture.mine()).await.map(|_| ()), "not-found");
    let odd = Selection { labels: "a in".to_owned(), ..fixture.mine() };
    refused(cluster.watch(&config_maps(), &odd).await.map(|_| ()), "invalid");
}

impl Fixture {
    async fn merged_or_made(&self, name: &str) {
        let mut object = self.config_map(name, "hello");
        object["metadata"]["labels"]["tier"] = json!("web");
        self.created(&object).await;
    }
}

//! Lists: which objects, and how many at a time.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Fixture, config_maps, refused, word};
use crate::call::cluster::{Kind, Selection};

async fn names(fixture: &Fixture, selection: &Selection) -> Vec<String> {
    let page = fixture.cluster.list(&config_maps(), selection, 0, "").await.expect("a list");
    assert_eq!(page.next, "");
    page.items.iter().map(|item| word(item, "name").to_owned()).collect()
}

/// All of what a selector asks for, and nothing else.
pub async fn objects_are_listed_by_their_labels(fixture: &Fixture) {
    for (name, labels) in [
        ("a", json!({"tier": "web", "zone": "one"})),
        ("b", json!({"tier": "web"})),
        ("c", json!({"tier": "db", "zone": ""})),
        ("d", json!({})),
    ] {
        let mut object = fixture.config_map(name, "hello");
        for (key, value) in labels.as_object().unwrap() {
            object["metadata"]["labels"][key] = value.clone();
        }
        fixture.created(&object).await;
    }
    for (labels, expected) in [
        ("", "abcd"),
        ("tier=web", "ab"),
        ("tier==web", "ab"),
        ("tier!=web", "cd"),
        ("tier=web,zone=one", "a"),
        ("tier in (web,db)", "abc"),
        ("tier in (db)", "c"),
        ("tier notin (web)", "cd"),
        ("tier", "abc"),
        ("!tier", "d"),
        ("zone=", "c"),
        ("zone", "ac"),
        ("tier=web,!zone", "b"),
        ("tier in (web,db),zone notin (one)", "bc"),
        ("tier=none", ""),
    ] {
        let mut selection = fixture.mine();
        if !labels.is_empty() {
            selection.labels = format!("{},{labels}", selection.labels);
        }
        assert_eq!(names(fixture, &selection).await.concat(), expected, "{labels}");
    }
}

/// A few fields of each kind can be asked for; of every kind its name is one.
pub async fn objects_are_listed_by_their_fields(fixture: &Fixture) {
    for name in ["a", "b"] {
        fixture.created_map(name, "hello").await;
    }
    for (fields, expected) in [
        ("metadata.name=a", "a"),
        ("metadata.name!=a", "b"),
        ("metadata.name=c", ""),
        ("metadata.name=a,metadata.namespace=none", ""),
    ] {
        let selection = Selection { fields: fields.to_owned(), ..fixture.mine() };
        assert_eq!(names(fixture, &selection).await.concat(), expected, "{fields}");
    }
    let selection = Selection { fields: "data.word=hello".to_owned(), ..fixture.mine() };
    refused(fixture.cluster.list(&config_maps(), &selection, 0, "").await, "invalid");
}

/// Page by page every object comes once, as of the time of the first.
pub async fn a_list_has_pages(fixture: &Fixture) {
    for name in 0..7 {
        fixture.created_map(&format!("a{name}"), "hello").await;
    }
    let (mut seen, mut after, mut sizes, mut versions) =
        (Vec::new(), String::new(), Vec::new(), BTreeSet::new());
    loop {
        let page = fixture.cluster.list(&config_maps(), &fixture.mine(), 3, &after).await.unwrap();
        sizes.push(page.items.len());
        seen.extend(page.items.iter().map(|item| word(item, "name").to_owned()));
        versions.insert(page.resource_version);
        if page.next.is_empty() {
            break;
        }
        after = page.next;
        // What comes between two pages is in none of them.
        fixture.created_map(&format!("z{}", sizes.len()), "late").await;
    }
    assert_eq!(sizes, [3, 3, 1]);
    assert_eq!(seen, (0..7).map(|name| format!("a{name}")).collect::<Vec<_>>());
    assert_eq!(versions.len(), 1);
    refused(fixture.cluster.list(&config_maps(), &fixture.mine(), 3, "junk").await, "invalid");
}

/// No namespace is every one.
pub async fn every_namespace_is_listed(fixture: &Fixture) {
    let other = fixture.name();
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}});
    fixture.created(&space).await;
    fixture.created_map("a", "hello").await;
    let mut object = fixture.config_map("b", "hello");
    object["metadata"]["namespace"] = json!(other);
    fixture.created(&object).await;
    let everywhere = Selection { namespace: String::new(), ..fixture.mine() };
    let mut found = names(fixture, &everywhere).await;
    found.sort();
    assert_eq!(found, ["a", "b"]);
    assert_eq!(names(fixture, &fixture.mine()).await, ["a"]);
    let kind = Kind::new("v1", "Namespace");
    let options = crate::call::cluster::DeleteOptions::default();
    fixture.cluster.delete(&kind, "", &other, &options).await.unwrap();
}

/// An object of a list is the object, and says its kind.
pub async fn what_is_listed_is_what_is_read(fixture: &Fixture) {
    fixture.created_map("a", "hello").await;
    let page = fixture.cluster.list(&config_maps(), &fixture.mine(), 0, "").await.unwrap();
    assert_eq!(page.items, [fixture.map("a").await]);
    assert!(!page.resource_version.is_empty());
    let none = Selection { labels: "contract.gantry/none".to_owned(), ..fixture.mine() };
    let empty = fixture.cluster.list(&config_maps(), &none, 0, "").await.unwrap();
    assert_eq!((empty.items.len(), empty.next.as_str()), (0, ""));
}

/// A selector that cannot be read selects nothing by mistake.
pub async fn what_is_no_selector_is_invalid(fixture: &Fixture) {
    for labels in ["a in", "a in (b", "=b", "a=b=c", "a,,b", "a b", "!a=b"] {
        let selection = Selection { labels: labels.to_owned(), ..fixture.mine() };
        refused(fixture.cluster.list(&config_maps(), &selection, 0, "").await, "invalid");
    }
}

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gantry_engine::call::{ContainersCall, ContainersCall::Commit};
use gantry_engine::layer::identity::{INSTANCE as INSTANCE_LABEL, OPERATION, OWNER};
use gantry_engine::{Call, Containers as _, Operation, Reply, Scope};

use crate::*;

#[tokio::test]
async fn what_is_created_carries_its_marks_and_nobody_above_sees_them() {
    let engine = engine();
    let (chain, scope) = (Chain::new(backends(&engine)), Arc::new(scope()));
    let id = created(&chain, &scope, "web-1").await;

    let marked = engine.inspect(&id).await.unwrap().config.labels.unwrap();
    let marks = [(OWNER, "docker"), (INSTANCE_LABEL, INSTANCE), (OPERATION, "op-1")];
    let marks = marks.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(marked, BTreeMap::from(marks));

    let Reply::Container(seen) = reply(&chain, &scope, inspect("web-1")).await.unwrap() else {
        panic!("no container");
    };
    assert_eq!(seen.config.labels, Some(BTreeMap::new()));
    let Reply::Containers(listed) = reply(&chain, &scope, list()).await.unwrap() else {
        panic!("no list");
    };
    assert_eq!(listed[0].labels, BTreeMap::new());
}

#[tokio::test]
async fn a_list_tells_the_labels_that_it_is_asked_for() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    let labels = ["app-name", "app-pool", "is-deploy"];
    let labels = labels.map(|key| (key.to_owned(), "x".to_owned()));
    let spec = Box::new(ContainerSpec { labels: labels.into(), ..spec() });
    let create = ContainersCall::Create { name: "web-1".to_owned(), spec };
    reply(&chain, &scope, on_node(create)).await.unwrap();
    let told = [
        (None, vec!["app-name", "app-pool", "is-deploy"]),
        (Some(vec!["is-deploy", "is-isolated-run", "app-name"]), vec!["app-name", "is-deploy"]),
        (Some(vec![OWNER]), vec![]),
        (Some(vec![]), vec![]),
    ];
    for (keys, expected) in told {
        let label_keys = keys.map(|keys| keys.into_iter().map(ToOwned::to_owned).collect());
        let labels = BTreeMap::from([("app-pool".to_owned(), "x".to_owned())]);
        let list = ContainersCall::List { all: true, labels, label_keys };
        let Reply::Containers(listed) = reply(&chain, &scope, on_node(list)).await.unwrap() else {
            panic!("no list");
        };
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].labels.keys().collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn an_image_made_of_a_container_carries_no_marks() {
    let engine = engine();
    let chain = Chain::new(backends(&engine));
    let scope = Arc::new(scope().with_grants(granted(&["images:commit"])));
    created(&chain, &scope, "web-1").await;
    let commit = on_node(Commit {
        id: "web-1".to_owned(),
        repository: "made".to_owned(),
        tag: "v1".to_owned(),
        comment: String::new(),
        labels: BTreeMap::new(),
    });
    reply(&chain, &scope, commit).await.unwrap();
    let labels = engine.inspect_image("made:v1").await.unwrap().config.labels.unwrap();
    assert!(labels.values().all(String::is_empty), "{labels:?}");
    let call = on_node(ContainersCall::InspectImage { image: "made:v1".to_owned() });
    let Reply::Image(image) = reply(&chain, &scope, call).await.unwrap() else {
        panic!("no image");
    };
    assert_eq!(image.config.labels, Some(BTreeMap::new()));
}

#[tokio::test]
async fn a_plugin_cannot_make_marks() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    let mut spec = spec();
    spec.labels.insert(OWNER.to_owned(), "acme".to_owned());
    let forged = ContainersCall::Create { name: "web-1".to_owned(), spec: Box::new(spec) };
    let asked = list_with([(OWNER.to_owned(), "acme".to_owned())].into());
    for call in [forged, asked] {
        let error = reply(&chain, &scope, on_node(call)).await.unwrap_err();
        assert_eq!(error.kind(), "invalid");
        assert_eq!(
            error.to_string(),
            "the label `gantry.owner` is not for plugins: what starts with `gantry.` is the host's"
        );
    }
}

#[tokio::test]
async fn a_list_has_the_containers_of_one_owner_and_one_installation() {
    let engine = engine();
    let chain = Chain::new(backends(&engine));
    let operation = || Operation::new("op-2", Duration::from_secs(60));
    let ours = Arc::new(scope());
    let others = Arc::new(Scope::new("acme", INSTANCE, operation()));
    let elsewhere = Arc::new(Scope::new("docker", "elsewhere", operation()));
    created(&chain, &ours, "ours").await;
    created(&chain, &others, "others").await;
    created(&chain, &elsewhere, "elsewhere").await;
    engine.create("by-hand", &spec()).await.unwrap();
    for (scope, name) in [(&ours, "ours"), (&others, "others"), (&elsewhere, "elsewhere")] {
        assert_eq!(names(&chain, scope).await, [name]);
    }
}

#[tokio::test]
async fn the_common_path_costs_no_further_calls() {
    let engine = engine();
    let below = Arc::new(Below::default());
    let (chain, scope) = (chain(&engine, Arc::clone(&below) as _), Arc::new(scope()));
    let id = created(&chain, &scope, "web-1").await;
    let short = &id[..4];
    for call in [start("web-1"), inspect("web-1"), inspect(&id), stop(&id)] {
        reply(&chain, &scope, call).await.unwrap();
    }
    assert_eq!(
        below.seen(),
        [
            "containers.create".to_owned(),
            format!("containers.start {short}"),
            format!("containers.inspect {short}"),
            format!("containers.inspect {short}"),
            format!("containers.stop {short}"),
        ]
    );
}

#[tokio::test]
async fn what_was_seen_in_a_list_is_known() {
    let engine = engine();
    let id = created(&Chain::new(backends(&engine)), &Arc::new(scope()), "web-1").await;
    let short = &id[..4];
    for label_keys in [None, Some(BTreeSet::new())] {
        // A chain that has just begun knows nothing.
        let below = Arc::new(Below::default());
        let (chain, scope) = (chain(&engine, Arc::clone(&below) as _), Arc::new(scope()));
        let list = ContainersCall::List { all: true, labels: BTreeMap::new(), label_keys };
        reply(&chain, &scope, on_node(list)).await.unwrap();
        reply(&chain, &scope, start("web-1")).await.unwrap();
        reply(&chain, &scope, stop(&id)).await.unwrap();
        assert_eq!(
            below.seen(),
            [
                "containers.list".to_owned(),
                format!("containers.start {short}"),
                format!("containers.stop {short}"),
            ]
        );
    }
}

#[tokio::test]
async fn what_is_not_known_is_asked_for_once_and_named_by_its_id() {
    let engine = engine();
    let id = created(&Chain::new(backends(&engine)), &Arc::new(scope()), "web-1").await;
    let short = &id[..4];
    for text in ["web-1", &id, &id[..12]] {
        let below = Arc::new(Below::default());
        let (chain, scope) = (chain(&engine, Arc::clone(&below) as _), Arc::new(scope()));
        reply(&chain, &scope, start(text)).await.unwrap();
        reply(&chain, &scope, stop(text)).await.unwrap();
        assert_eq!(
            below.seen(),
            [
                format!("containers.inspect {}", text.get(..4).unwrap()),
                format!("containers.start {short}"),
                format!("containers.stop {short}"),
            ]
        );
    }
}

#[tokio::test]
async fn a_name_that_is_used_again_is_the_new_container() {
    let engine = engine();
    let (chain, scope) = (Chain::new(backends(&engine)), Arc::new(scope()));
    let first = created(&chain, &scope, "web-1").await;
    reply(&chain, &scope, remove("web-1")).await.unwrap();
    let error = reply(&chain, &scope, start("web-1")).await.unwrap_err();
    assert_eq!(error.kind(), "not-found");
    let second = created(&chain, &scope, "web-1").await;
    assert_ne!(first, second);
    reply(&chain, &scope, start("web-1")).await.unwrap();
    assert!(engine.inspect(&second).await.unwrap().state.running);

    // Made anew by somebody else, behind our back: found out at the first call.
    engine.remove(&second, true).await.unwrap();
    engine.create("web-1", &spec()).await.unwrap();
    assert_eq!(reply(&chain, &scope, start("web-1")).await.unwrap_err().kind(), "not-found");
    assert_eq!(reply(&chain, &scope, start("web-1")).await.unwrap_err().kind(), "denied");
}

#[tokio::test]
async fn removing_what_is_gone_succeeds() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    reply(&chain, &scope, remove("web-1")).await.unwrap();
    created(&chain, &scope, "web-1").await;
    for _ in 0..2 {
        reply(&chain, &scope, remove("web-1")).await.unwrap();
    }
}

#[tokio::test]
async fn a_container_without_a_name_gets_one_of_its_owner() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    created(&chain, &scope, "").await;
    created(&chain, &scope, "").await;
    let names = names(&chain, &scope).await;
    assert!(names.iter().all(|name| name.starts_with("docker-")), "{names:?}");
}

#[tokio::test]
async fn a_node_is_only_there_for_whom_it_was_given_to() {
    let engine = engine();
    let chain = Chain::new(backends(&engine));
    let scope = Arc::new(scope());
    let nodes = &chain.backends().nodes;
    nodes.give("docker", "tcp://10.0.0.1:2375", Arc::new(Memory::new()));
    let expected = Reply::Texts(vec![NODE.to_owned(), "tcp://10.0.0.1:2375".to_owned()]);
    assert_eq!(reply(&chain, &scope, Call::Nodes).await.unwrap(), expected);
    nodes.take("docker", NODE);
    let error = reply(&chain, &scope, list()).await.unwrap_err();
    assert_eq!(error.kind(), "not-found");
    assert_eq!(error.to_string(), "no node `memory` was given to the provisioner `docker`");
    let other = Scope::new("acme", INSTANCE, Operation::new("", Duration::from_secs(1)));
    assert_eq!(names(&chain, &Arc::new(other)).await, [""; 0]);
}

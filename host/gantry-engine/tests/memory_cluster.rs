//! The cluster in memory keeps what every cluster promises, and plays what a test asks of it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::wildcard_imports,
    reason = "a test stops where it fails"
)]

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use gantry_engine::call::cluster::{
    Change, DeleteOptions, Kind, Patch, PodExecOptions, PodLogOptions, Propagation, Selection,
};
use gantry_engine::memory::objects::{Fault, Pods};
use gantry_engine::memory::{Ended, Objects};
use gantry_engine::stream::{Chunk, Size, Source};
use gantry_engine::{Cluster, EngineError, managed};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

gantry_engine::cluster_contract!(gantry_engine::contract::cluster::Fixture::new(
    Arc::new(Objects::new()),
    gantry_engine::contract::cluster::Kind::Memory
));

fn config_maps() -> Kind {
    Kind::new("v1", "ConfigMap")
}

fn pods() -> Kind {
    Kind::new("v1", "Pod")
}

fn deployments() -> Kind {
    Kind::new("apps/v1", "Deployment")
}

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}})
}

fn pod(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": [{"name": "web", "image": "web:1"}]},
        "status": {"phase": "Running"},
    })
}

fn deployment(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}},
        },
    })
}

fn owned_by(owner: &Value, name: &str, waits: bool) -> Value {
    let mut object = config_map(name);
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": waits,
    }]);
    object
}

fn by(propagation: Propagation) -> DeleteOptions {
    DeleteOptions { propagation, ..DeleteOptions::default() }
}

async fn names(cluster: &Objects, kind: &Kind) -> Vec<String> {
    let page = cluster.list(kind, &Selection::default(), 0, "").await.unwrap();
    page.items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_owned_goes_or_stays_as_the_deletion_says() {
    for (propagation, waits, left) in [
        (Propagation::Background, false, vec![]),
        (Propagation::Foreground, false, vec![]),
        (Propagation::Foreground, true, vec![]),
        (Propagation::Orphan, true, vec!["child", "grandchild"]),
    ] {
        let cluster = Objects::new();
        let owner = cluster.create(&config_map("owner"), false).await.unwrap();
        let child = cluster.create(&owned_by(&owner, "child", waits), false).await.unwrap();
        cluster.create(&owned_by(&child, "grandchild", waits), false).await.unwrap();
        cluster.delete(&config_maps(), "default", "owner", &by(propagation)).await.unwrap();
        assert_eq!(names(&cluster, &config_maps()).await, left, "{propagation:?}");
        if propagation == Propagation::Orphan {
            let child = cluster.get(&config_maps(), "default", "child").await.unwrap();
            assert_eq!(child["metadata"].get("ownerReferences"), None);
        }
    }
}

#[tokio::test]
async fn a_finalizer_of_what_is_owned_holds_an_owner_that_waits() {
    let cluster = Objects::new();
    let owner = cluster.create(&config_map("owner"), false).await.unwrap();
    let mut child = owned_by(&owner, "child", true);
    child["metadata"]["finalizers"] = json!(["test.example/hold"]);
    cluster.create(&child, false).await.unwrap();
    cluster.delete(&config_maps(), "default", "owner", &by(Propagation::Foreground)).await.unwrap();
    let owner = cluster.get(&config_maps(), "default", "owner").await.unwrap();
    assert_eq!(owner["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let child = cluster.get(&config_maps(), "default", "child").await.unwrap();
    assert!(child["metadata"]["deletionTimestamp"].is_string());
    let more = Patch::Merge(
        json!({"metadata": {"finalizers": ["test.example/hold", "test.example/more"]}}),
    );
    let told =
        cluster.patch(&config_maps(), "default", "child", "", &more, false).await.unwrap_err();
    assert!(told.to_string().contains("no new finalizers can be added"), "{told}");
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    cluster.patch(&config_maps(), "default", "child", "", &free, false).await.unwrap();
    assert_eq!(names(&cluster, &config_maps()).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_nobody_owns_any_more_goes_and_what_somebody_owns_stays() {
    let cluster = Objects::new();
    let one = cluster.create(&config_map("one"), false).await.unwrap();
    let two = cluster.create(&config_map("two"), false).await.unwrap();
    let mut both = owned_by(&one, "both", false);
    let second = owned_by(&two, "both", false)["metadata"]["ownerReferences"][0].clone();
    both["metadata"]["ownerReferences"].as_array_mut().unwrap().push(second);
    cluster.create(&both, false).await.unwrap();
    cluster.delete(&config_maps(), "default", "one", &DeleteOptions::default()).await.unwrap();
    let both = cluster.get(&config_maps(), "default", "both").await.unwrap();
    assert_eq!(both["metadata"]["ownerReferences"][0]["name"], "two");
    // Of an owner of a kind that the cluster does not know nothing can be said.
    let mut odd = config_map("odd");
    odd["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "a/v1", "kind": "B", "name": "c", "uid": "d"}]);
    cluster.create(&odd, false).await.unwrap();
    cluster.delete(&config_maps(), "default", "two", &DeleteOptions::default()).await.unwrap();
    assert_eq!(names(&cluster, &config_maps()).await, ["odd"]);
}

#[tokio::test]
async fn a_namespace_takes_what_is_in_it_along() {
    let cluster = Objects::new();
    let space = Kind::new("v1", "Namespace");
    let make = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    let made = cluster.create(&make, false).await.unwrap();
    assert_eq!(made["status"]["phase"], "Active");
    let mut held = config_map("held");
    held["metadata"]["namespace"] = "shop".into();
    held["metadata"]["finalizers"] = json!(["test.example/hold"]);
    cluster.create(&held, false).await.unwrap();
    held["metadata"] = json!({"name": "free", "namespace": "shop"});
    cluster.create(&held, false).await.unwrap();
    cluster.delete(&space, "", "shop", &DeleteOptions::default()).await.unwrap();
    assert_eq!(names(&cluster, &config_maps()).await, ["held"]);
    let going = cluster.get(&space, "", "shop").await.unwrap();
    assert_eq!(going["status"]["phase"], "Terminating");
    let told = cluster.create(&held, false).await.unwrap_err();
    assert_eq!(told.kind(), "forbidden", "{told}");
    cluster
        .edit(&config_maps(), "shop", "held", "test", |object| {
            object["metadata"]["finalizers"] = json!([])
        })
        .unwrap();
    assert_eq!(cluster.get(&space, "", "shop").await.unwrap_err().kind(), "not-found");
}

#[tokio::test]
async fn a_test_plays_the_controllers() {
    let cluster = Objects::new();
    cluster.apply(&deployment(2), false).await.unwrap();
    let mut watch = cluster.watch(&deployments(), &Selection::default()).await.unwrap();
    let told = cluster
        .edit(&deployments(), "default", "web", "deployment-controller", |object| {
            object["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "1"});
            object["status"] = json!({"replicas": 2, "observedGeneration": 1});
        })
        .unwrap();
    assert_eq!(told["status"]["replicas"], 2);
    let entries = told["metadata"]["managedFields"].as_array().unwrap();
    let who = |entry: &Value| {
        format!(
            "{} {}",
            entry["manager"].as_str().unwrap(),
            entry["subresource"].as_str().unwrap_or_default()
        )
    };
    let mut who: Vec<String> = entries.iter().map(who).collect();
    who.sort();
    assert_eq!(who, ["deployment-controller ", "deployment-controller status", "gantry "]);
    // An apply does not take the status, nor what the controller said.
    let mut again = deployment(3);
    again["status"] = json!({"replicas": 9});
    let told = cluster.apply(&again, false).await.unwrap();
    assert_eq!(told["status"]["replicas"], 2);
    assert_eq!(told["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    assert_eq!(managed::applied(&told), Some(deployment(3)));
    let mut seen = Vec::new();
    while let Some(Some(change)) = watch.next().now_or_never() {
        seen.push(change.unwrap());
    }
    // What was there, that this was all, the two edits and the apply.
    assert_eq!(seen.len(), 5);
    assert_eq!(seen[1], Change::Listed);
    assert_eq!(seen[4], Change::Applied(told.clone()));
    assert_eq!(cluster.history(&deployments()).last(), Some(&Change::Applied(told)));

    let other = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": 7}});
    let told = cluster.apply_as("hpa", &other).unwrap_err();
    assert_eq!(
        told.to_string(),
        "Apply failed with 1 conflict: conflict with \"gantry\": .spec.replicas"
    );
    let scale = Patch::Merge(json!({"spec": {"replicas": 7}}));
    cluster.patch(&deployments(), "default", "web", "scale", &scale, false).await.unwrap();
    let told = cluster.apply(&deployment(3), false).await.unwrap_err();
    assert_eq!(
        told.to_string(),
        "Apply failed with 1 conflict: conflict with \"gantry\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
}

#[tokio::test]
async fn calls_fail_by_a_rule_before_or_after_they_are_done() {
    let cluster = Objects::new();
    let lost = EngineError::TimedOut("the answer was lost".to_owned());
    let refused = EngineError::Forbidden("no".to_owned());
    let (before, after) = (Fault::Before(refused.clone()), Fault::After(lost.clone()));
    cluster.fail(move |call, number| match (call.name(), number) {
        ("cluster.create", 1) => Some(before.clone()),
        ("cluster.create", 2) => Some(after.clone()),
        _ => None,
    });
    assert_eq!(cluster.create(&config_map("a"), false).await, Err(refused));
    assert_eq!(names(&cluster, &config_maps()).await, Vec::<String>::new());
    assert_eq!(cluster.create(&config_map("a"), false).await, Err(lost.clone()));
    assert_eq!(names(&cluster, &config_maps()).await, ["a"]);
    cluster.create(&config_map("b"), false).await.unwrap();
    cluster.fail(move |_, _| Some(Fault::Before(lost.clone())));
    cluster.get(&config_maps(), "default", "a").await.unwrap_err();
    cluster.mend();
    cluster.clone().get(&config_maps(), "default", "a").await.unwrap();
    assert_eq!(cluster.count("cluster.create"), 3);
    assert_eq!(cluster.count("cluster.get"), 2);
    assert_eq!(cluster.count("cluster.apply"), 0);
    assert_eq!(cluster.made().len(), 7);
    assert_eq!(cluster.made()[0].name(), "cluster.create");
}

struct Played;

impl Pods for Played {
    fn logs(&self, pod: &Value, options: &PodLogOptions) -> Option<Vec<Chunk>> {
        let line =
            |line: &str| Chunk { source: Source::Stdout, bytes: Bytes::from(line.to_owned()) };
        let name = pod["metadata"]["name"].as_str()?;
        (options.container == "web").then(|| vec![line("one\n"), line("two\n"), line(name)])
    }

    fn exec(&self, _pod: &Value, options: &PodExecOptions) -> Option<Ended> {
        let bytes = Bytes::from(options.command.join(" "));
        Some(Ended { output: vec![Chunk { source: Source::Stderr, bytes }], exit_code: 7 })
    }

    fn attach(&self, _pod: &Value, _options: &PodExecOptions) -> Option<Vec<Chunk>> {
        Some(Vec::new())
    }

    fn port_forward(&self, _pod: &Value, port: u16) -> Option<DuplexStream> {
        let (near, mut far) = tokio::io::duplex(64);
        tokio::spawn(async move {
            let mut asked = [0; 2];
            far.read_exact(&mut asked).await.unwrap();
            far.write_all(format!("{port}").as_bytes()).await.unwrap();
        });
        (port == 80).then_some(near)
    }
}

async fn text(session: gantry_engine::stream::Session) -> String {
    let chunks: Vec<_> = session.chunks.map(|chunk| chunk.unwrap().bytes).collect().await;
    String::from_utf8(chunks.concat()).unwrap()
}

#[tokio::test]
async fn a_test_plays_the_pods() {
    let cluster = Objects::playing(Arc::new(Played));
    cluster.put(&pod("web", "n1")).unwrap();
    let log = PodLogOptions { lines: 2, ..PodLogOptions::default() };
    assert_eq!(text(cluster.logs("default", "web", &log).await.unwrap()).await, "two\nweb");
    // One that follows ends with the pod.
    let follow = PodLogOptions { follow: true, lines: u32::MAX, ..log.clone() };
    let mut session = cluster.logs("default", "web", &follow).await.unwrap();
    for _ in 0..3 {
        session.chunks.next().await.unwrap().unwrap();
    }
    assert!(session.chunks.next().now_or_never().is_none());
    let command = PodExecOptions {
        command: vec!["a".to_owned(), "b".to_owned()],
        tty: true,
        stdin: true,
        ..PodExecOptions::default()
    };
    let mut shell = cluster.exec("default", "web", &command).await.unwrap();
    shell.sizes.take().unwrap().send(Size { width: 1, height: 2 }).await.unwrap();
    shell.input.take().unwrap().write_all(b"exit\n").await.unwrap();
    let exit = shell.exit.take().unwrap();
    assert_eq!(text(shell).await, "a b");
    assert_eq!(exit.await, Ok(7));
    let plain = PodExecOptions::default();
    let attached = cluster.attach("default", "web", &plain).await.unwrap();
    assert!(attached.exit.is_none() && attached.input.is_none());
    let mut port = cluster.port_forward("default", "web", 80).await.unwrap();
    port.input.take().unwrap().write_all(b"hi").await.unwrap();
    assert_eq!(text(port).await, "80");
    assert_eq!(cluster.port_forward("default", "web", 81).await.err().unwrap().kind(), "conflict");
    cluster.evict("default", "web", None).await.unwrap();
    assert!(session.chunks.next().await.is_none());
    assert_eq!(cluster.logs("default", "web", &log).await.err().unwrap().kind(), "not-found");
}

#[tokio::test]
async fn a_pod_stays_until_its_node_is_done_when_a_test_wants_it() {
    let cluster = Objects::new().with_lingering_pods();
    cluster.put(&pod("web", "n1")).unwrap();
    cluster.put(&pod("lonely", "")).unwrap();
    for name in ["web", "lonely"] {
        cluster.delete(&pods(), "default", name, &DeleteOptions::default()).await.unwrap();
    }
    assert_eq!(names(&cluster, &pods()).await, ["web"]);
    let going = cluster.get(&pods(), "default", "web").await.unwrap();
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    let now = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
    cluster.delete(&pods(), "default", "web", &now).await.unwrap();
    assert_eq!(names(&cluster, &pods()).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_disruption_budget_has_a_say() {
    let cluster = Objects::new();
    cluster.put(&pod("web", "n1")).unwrap();
    let budgets = Kind::new("policy/v1", "PodDisruptionBudget");
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "web"}}},
    });
    cluster.create(&budget, false).await.unwrap();
    let told = cluster.evict("default", "web", None).await.unwrap_err();
    assert_eq!(told.kind(), "too-many-requests", "{told}");
    cluster
        .edit(&budgets, "default", "web", "disruption-controller", |budget| {
            budget["status"] = json!({"disruptionsAllowed": 1});
        })
        .unwrap();
    cluster.evict("default", "web", None).await.unwrap();
    assert_eq!(names(&cluster, &pods()).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_list_that_was_forgotten_is_begun_again() {
    let cluster = Objects::new();
    for name in ["a", "b", "c"] {
        cluster.create(&config_map(name), false).await.unwrap();
    }
    let first = cluster.list(&config_maps(), &Selection::default(), 2, "").await.unwrap();
    cluster.delete(&config_maps(), "default", "c", &DeleteOptions::default()).await.unwrap();
    let second = cluster.list(&config_maps(), &Selection::default(), 2, &first.next).await.unwrap();
    assert_eq!(second.items[0]["metadata"]["name"], "c");
    assert_eq!((second.next.as_str(), &second.resource_version), ("", &first.resource_version));
    cluster.forget();
    let told =
        cluster.list(&config_maps(), &Selection::default(), 2, &first.next).await.unwrap_err();
    assert_eq!(told.kind(), "conflict", "{told}");
}

#[tokio::test]
async fn a_test_adds_kinds() {
    let kind = Kind::new("acme.example/v1", "Widget");
    let cluster = Objects::new().with_kind(kind.clone(), true);
    let widget = |ports: Value| json!({"apiVersion": "acme.example/v1", "kind": "Widget", "metadata": {"name": "a", "namespace": "default"}, "spec": {"ports": ports}});
    cluster.apply(&widget(json!([{"port": 1}])), false).await.unwrap();
    // Of its lists nothing is known: they are one value.
    let told = cluster.apply(&widget(json!([{"port": 2}])), false).await.unwrap();
    assert_eq!(told["spec"]["ports"], json!([{"port": 2}]));
    assert_eq!(told["metadata"]["generation"], 2);
    let patch = Patch::Strategic(json!({"spec": {}}));
    let told = cluster.patch(&kind, "default", "a", "", &patch, false).await.unwrap_err();
    assert_eq!(told.kind(), "invalid");
    let other = Kind::new("acme.example/v2", "Widget");
    assert_eq!(cluster.get(&other, "default", "a").await.unwrap_err().kind(), "not-found");
}

#[tokio::test]
async fn a_service_gets_an_address_and_ports_on_nodes() {
    let cluster = Objects::new();
    let services = Kind::new("v1", "Service");
    let service = |port: u16| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"name": "a", "port": 80}, {"name": "b", "port": port}]},
        })
    };
    let made = cluster.apply(&service(81), false).await.unwrap();
    let address = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10.96."), "{address}");
    let ports: Vec<i64> = made["spec"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| port["nodePort"].as_i64().unwrap())
        .collect();
    assert!(
        ports.iter().all(|port| (30000..32768).contains(port)) && ports[0] != ports[1],
        "{ports:?}"
    );
    let changed = cluster.apply(&service(82), false).await.unwrap();
    assert_eq!(changed["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    assert_eq!(changed["spec"]["ports"][0], made["spec"]["ports"][0]);
    assert!(changed["spec"]["ports"][1]["nodePort"].is_i64());
    let move_it = Patch::Merge(json!({"spec": {"clusterIP": "10.96.1.1"}}));
    let told = cluster.patch(&services, "default", "web", "", &move_it, false).await.unwrap_err();
    let EngineError::InvalidObject(told) = told else { panic!("{told}") };
    assert_eq!(told.causes[0].field, "spec.clusterIP");
}

use futures_util::{FutureExt as _, StreamExt as _};
use gantry_engine::call::cluster::Change;
use gantry_engine::layer::identity::{INSTANCE as INSTANCE_LABEL, OPERATION, OWNER};
use gantry_engine::stream::Stream;

use super::*;

/// Every kind that makes pods, with the way to what it makes them of.
fn makers() -> [(Kind, &'static str); 6] {
    [
        (deployments(), "/spec/template"),
        (Kind::new("apps/v1", "DaemonSet"), "/spec/template"),
        (Kind::new("apps/v1", "StatefulSet"), "/spec/template"),
        (Kind::new("apps/v1", "ReplicaSet"), "/spec/template"),
        (Kind::new("batch/v1", "Job"), "/spec/template"),
        (Kind::new("batch/v1", "CronJob"), "/spec/jobTemplate/spec/template"),
    ]
}

#[tokio::test]
async fn what_is_made_and_the_pods_that_it_makes_carry_marks_and_nobody_above_sees_them() {
    let plain = [config_maps(), Kind::new("v1", "Secret"), pods(), Kind::new("v1", "Service")];
    let kinds = makers().into_iter().chain(plain.into_iter().map(|kind| (kind, "")));
    for (kind, template) in kinds {
        for send in [create as fn(Value) -> ClusterCall, apply] {
            let (house, scope) = (House::new(), ours("op-1"));
            let told = house.object(&scope, send(object(&kind, "web"))).await;
            let there = house.there(&kind, &home(&kind), "web").await.unwrap();
            let marks = json!({
                "app": "web", OWNER: "kubernetes", INSTANCE_LABEL: INSTANCE, OPERATION: "op-1",
            });
            assert_eq!(there["metadata"]["labels"], marks, "{kind}");
            if !template.is_empty() {
                // A new operation must start no new pods.
                let of_pods = json!({"app": "web", OWNER: "kubernetes", INSTANCE_LABEL: INSTANCE});
                let template = there.pointer(template).unwrap();
                assert_eq!(template["metadata"]["labels"], of_pods, "{kind}");
            }
            let got = house.object(&scope, get(&kind, "web")).await;
            let Reply::Objects(page) = house.send(&scope, list(&kind)).await.unwrap().reply else {
                panic!("no page");
            };
            for shown in [&told, &got, &page.items[0]] {
                let text = shown.to_string();
                assert!(!text.contains("gantry."), "{kind}: {text}");
                assert!(!text.contains("managedFields"), "{kind}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn the_claims_that_a_stateful_set_makes_are_its_owners() {
    let (house, scope) = (House::new(), ours("op-1"));
    let kind = Kind::new("apps/v1", "StatefulSet");
    let mut set = object(&kind, "db");
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}}]);
    house.object(&scope, apply(set)).await;
    let there = house.there(&kind, "default", "db").await.unwrap();
    assert_eq!(there["spec"]["volumeClaimTemplates"][0]["metadata"]["labels"][OWNER], "kubernetes");
}

#[tokio::test]
async fn a_plugin_can_neither_set_nor_drop_a_mark_whatever_it_sends() {
    let (house, scope) = (House::new(), ours("op-1"));
    house.object(&scope, apply(object(&deployments(), "web"))).await;
    let before = house.there(&deployments(), "default", "web").await;
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut object = object(&deployments(), "web");
        edit(&mut object);
        object
    };
    let marked = with(&|object| object["metadata"]["labels"][OWNER] = "acme".into());
    let own = with(&|object| object["metadata"]["labels"][OWNER] = "kubernetes".into());
    let pods = with(&|object| {
        object["spec"]["template"]["metadata"]["labels"][INSTANCE_LABEL] = "else".into();
    });
    let fields = with(&|object| object["metadata"]["managedFields"] = json!([{}]));
    let mut calls: Vec<ClusterCall> = [marked, own, pods, fields]
        .into_iter()
        .flat_map(|object| [create(object.clone()), apply(object)])
        .collect();
    let documents = [
        json!({"metadata": null}),
        json!({"metadata": {"labels": null}}),
        json!({"metadata": {"labels": {OWNER: null}}}),
        json!({"metadata": {"labels": {OWNER: "acme"}}}),
        json!({"metadata": {"labels": {"gantry.new": "x"}}}),
        json!({"metadata": {"managedFields": [{}]}}),
        json!({"spec": {"template": {"metadata": {"labels": {OWNER: "acme"}}}}}),
        json!({"spec": {"template": {"metadata": null}}}),
        json!({"metadata": {"$patch": "replace", "name": "web"}}),
        json!({"metadata": {"labels": {"$patch": "replace", "a": "b"}}}),
    ];
    for document in documents {
        calls.push(merge(&deployments(), "web", document.clone()));
        calls.push(patch(&deployments(), "web", Patch::Strategic(document)));
    }
    let mut whole = object(&deployments(), "web");
    whole["$patch"] = "replace".into();
    let mut template =
        json!({"spec": {"template": object(&deployments(), "web")["spec"]["template"]}});
    template["spec"]["template"]["$patch"] = "replace".into();
    let retained = json!({"$retainKeys": ["spec"], "spec": {"replicas": 1}});
    for document in [whole, template, retained] {
        calls.push(patch(&deployments(), "web", Patch::Strategic(document)));
    }
    for operation in [
        json!({"op": "replace", "path": "/metadata/labels/gantry.owner", "value": "acme"}),
        json!({"op": "remove", "path": "/metadata/labels/gantry.owner"}),
        json!({"op": "move", "from": "/metadata/labels/gantry.owner", "path": "/metadata/labels/a"}),
        json!({"op": "copy", "from": "/metadata/labels", "path": "/metadata/annotations"}),
        json!({"op": "replace", "path": "/metadata/labels", "value": {}}),
        json!({"op": "add", "path": "/metadata", "value": {"name": "web"}}),
        json!({"op": "add", "path": "", "value": object(&deployments(), "web")}),
        json!({"op": "replace", "path": "/spec/template", "value": {}}),
        json!({"op": "remove", "path": "/metadata/managedFields"}),
        // What the cluster makes of an address that does not begin with a slash.
        json!({"op": "remove", "path": "x/metadata/labels/gantry.owner"}),
    ] {
        calls.push(patch(&deployments(), "web", Patch::Json(json!([operation]))));
    }
    let count = calls.len();
    for call in calls {
        let shown = format!("{call:?}");
        let (kind, _) = house.refused(&scope, call).await;
        assert_eq!(kind, "invalid", "{shown}");
        assert_eq!(house.there(&deployments(), "default", "web").await, before, "{shown}");
    }
    println!("{count} attempts on marks");
}

/// One map of each owner: ours, of another plugin, of another installation, and made by hand.
async fn of_everybody(house: &House) {
    house.object(&ours("op-0"), apply(map("ours", "1"))).await;
    house.object(&acme("op-0"), apply(map("theirs", "1"))).await;
    let elsewhere = scope_of("kubernetes", "elsewhere", "op-0", &OWN);
    house.object(&elsewhere, apply(map("elsewhere", "1"))).await;
    house.cluster.put(&map("by-hand", "1")).unwrap();
}

async fn listed(house: &House, scope: &Arc<Scope>, labels: &str) -> Vec<String> {
    let selection = Selection { labels: labels.to_owned(), ..all(&config_maps()) };
    let call = ClusterCall::List { kind: config_maps(), selection, limit: 0, after: String::new() };
    let Reply::Objects(page) = house.send(scope, call).await.unwrap().reply else {
        panic!("no page");
    };
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
    page.items.iter().map(name).collect()
}

/// What a watch tells until it has nothing more to tell.
async fn watched(house: &House, scope: &Arc<Scope>) -> (Stream, Vec<Change>) {
    let response = house.send(scope, watch(&config_maps())).await.unwrap();
    let Some(mut stream) = response.stream else { panic!("no events") };
    let changes = told(&mut stream);
    (stream, changes)
}

fn told(stream: &mut Stream) -> Vec<Change> {
    let Stream::Changes(changes) = stream else { panic!("no events") };
    let mut told = Vec::new();
    while let Some(Some(change)) = changes.next().now_or_never() {
        told.push(change.unwrap());
    }
    told
}

fn names(changes: &[Change]) -> Vec<&str> {
    fn named(change: &Change) -> &str {
        match change {
            Change::Applied(object) => object["metadata"]["name"].as_str().unwrap(),
            Change::Deleted(_) => "(deleted)",
            Change::Listed => "(listed)",
        }
    }
    changes.iter().map(named).collect()
}

#[tokio::test]
async fn lists_and_watches_have_own_objects_only() {
    let (house, scope) = (House::new(), ours("op-1"));
    of_everybody(&house).await;
    assert_eq!(listed(&house, &scope, "").await, ["ours"]);
    for asked in ["app=web", "gantry.owner", "app in (web,x)"] {
        assert_eq!(listed(&house, &scope, asked).await, ["ours"], "{asked}");
    }
    for asked in ["gantry.owner=acme", "gantry.owner!=kubernetes", "!gantry.owner"] {
        assert_eq!(listed(&house, &scope, asked).await, [""; 0], "{asked}");
    }
    let (mut stream, first) = watched(&house, &scope).await;
    assert_eq!(names(&first), ["ours", "(listed)"]);
    house.object(&acme("op-2"), apply(map("theirs", "2"))).await;
    house.object(&scope, apply(map("ours", "2"))).await;
    house.done(&scope, delete(&config_maps(), "ours")).await;
    let rest = told(&mut stream);
    assert_eq!(names(&rest), ["ours", "(deleted)"]);
    for change in first.iter().chain(&rest) {
        if let Change::Applied(object) | Change::Deleted(object) = change {
            let text = object.to_string();
            assert!(!text.contains("gantry.") && !text.contains("managedFields"), "{text}");
        }
    }
}

#[tokio::test]
async fn lists_and_watches_have_everybodys_objects_with_the_grant_for_it() {
    let house = House::new();
    of_everybody(&house).await;
    let scope = ours_and("op-1", &["cluster:foreign:read:ConfigMap"]);
    let everybodys = ["by-hand", "elsewhere", "ours", "theirs"];
    assert_eq!(listed(&house, &scope, "").await, everybodys);
    let (_, changes) = watched(&house, &scope).await;
    assert_eq!(names(&changes)[..4], everybodys);
}

#[tokio::test]
async fn an_object_of_somebody_else_stays_theirs_when_a_grant_lets_it_be_applied() {
    let house = House::new();
    let scope = ours_and("op-1", &["cluster:foreign:write:Deployment.apps"]);
    house.cluster.put(&object(&deployments(), "by-hand")).unwrap();
    house.object(&acme("op-0"), apply(object(&deployments(), "theirs"))).await;
    for name in ["by-hand", "theirs"] {
        let before = house.there(&deployments(), "default", name).await.unwrap();
        let mut wanted = object(&deployments(), name);
        wanted["metadata"]["annotations"] = json!({"note": "seen"});
        house.object(&scope, apply(wanted)).await;
        let now = house.there(&deployments(), "default", name).await.unwrap();
        assert_eq!(now["metadata"]["annotations"]["note"], "seen");
        assert_eq!(now["metadata"]["labels"], before["metadata"]["labels"], "{name}");
        assert_eq!(now["spec"], before["spec"], "no new pods of `{name}`");
    }
}

#[tokio::test]
async fn an_object_without_a_name_gets_one_and_is_found_by_it() {
    let (house, scope) = (House::new(), ours("op-1"));
    let mut object = map("", "1");
    object["metadata"] = json!({"namespace": "default", "generateName": "web-"});
    for _ in 0..2 {
        let made = house.object(&scope, create(object.clone())).await;
        let name = made["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with("web-") && name.len() > 4, "{name}");
        house.object(&scope, get(&config_maps(), name)).await;
    }
    assert_eq!(scope.ledger.loose_objects().len(), 2);
}

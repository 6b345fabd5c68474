use gantry_engine::EngineError;
use gantry_engine::call::ImagesCall;
use gantry_engine::layer::identity::OPERATION;
use gantry_engine::layer::journal::Cleaned;
use gantry_engine::memory::objects::Fault;

use super::*;

pub(super) async fn clean_up(house: &House, scope: &Arc<Scope>) -> Cleaned {
    crate::journal_clean_up(&house.chain, scope).await
}

/// What a clean-up removed, put back and left, by their names.
pub(super) fn told(cleaned: &Cleaned) -> [Vec<&str>; 3] {
    [
        cleaned.removed.iter().map(|one| &*one.name).collect(),
        cleaned.put_back.iter().map(|one| &*one.name).collect(),
        cleaned.left.iter().map(|one| &*one.created.name).collect(),
    ]
}

fn lost() -> EngineError {
    EngineError::TimedOut("the answer was lost".to_owned())
}

/// What of an object is anybody's to change: all but its versions, and the times of its managers.
pub(super) fn settled(object: Option<Value>) -> Option<Value> {
    let mut object = object?;
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.remove("resourceVersion");
    metadata.remove("generation");
    for entry in metadata["managedFields"].as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("time");
    }
    Some(object)
}

#[tokio::test]
async fn what_a_dead_call_made_is_deleted_and_what_it_applied_over_is_put_back() {
    for send in [create as fn(Value) -> ClusterCall, apply] {
        let house = House::new();
        house.object(&ours("op-1"), apply(map("old", "before"))).await;
        let before = house.there(&config_maps(), "default", "old").await;
        let scope = ours("op-2");
        house.object(&scope, send(map("new", "made"))).await;
        let mut changed = map("old", "after");
        changed["data"]["more"] = "added".into();
        changed["metadata"]["labels"] = json!({});
        house.object(&scope, apply(changed)).await;
        let cleaned = clean_up(&house, &scope).await;
        let expected = [vec!["ConfigMap default/new"], vec!["ConfigMap default/old"], vec![]];
        assert_eq!(told(&cleaned), expected);
        assert_eq!(house.word("new").await, None);
        let now = house.there(&config_maps(), "default", "old").await;
        assert_eq!(settled(now.clone()), settled(before), "each field, and whose it is");
        // Twice is as good as once.
        assert_eq!(clean_up(&house, &scope).await.left, []);
        assert_eq!(house.there(&config_maps(), "default", "old").await, now);
    }
}

#[tokio::test]
async fn what_ended_well_or_became_current_stays() {
    for ends in [true, false] {
        let (house, scope) = (House::new(), ours("op-1"));
        house.object(&scope, apply(map("web", "made"))).await;
        if ends {
            scope.ledger.put_in_service();
        } else {
            let (app, image) = ("web".to_owned(), "web:1".to_owned());
            let append = Call::Images(ImagesCall::Append { app, image });
            house.chain.send(&scope, append).await.map(drop).unwrap();
            assert!(scope.ledger.serves());
        }
        assert_eq!(clean_up(&house, &scope).await, Cleaned::default());
        assert_eq!(house.word("web").await.as_deref(), Some("made"));
    }
}

#[tokio::test]
async fn what_an_operation_made_and_deleted_leaves_nothing_and_takes_nothing_of_others() {
    let house = House::new();
    house.cluster.put(&map("by-hand", "theirs")).unwrap();
    house.object(&ours("op-1"), apply(map("old", "before"))).await;
    let scope = ours("op-2");
    house.object(&scope, create(map("web", "1"))).await;
    house.object(&scope, get(&config_maps(), "web")).await;
    house.done(&scope, delete(&config_maps(), "web")).await;
    assert!(!scope.ledger.serves(), "nothing old was touched");
    assert!(scope.ledger.loose_objects().is_empty());
    assert_eq!(clean_up(&house, &scope).await, Cleaned::default());
    let words = (house.word("by-hand").await, house.word("old").await, house.word("web").await);
    assert_eq!(words, (Some("theirs".to_owned()), Some("before".to_owned()), None));
}

#[tokio::test]
async fn a_deletion_of_what_was_there_before_puts_what_was_made_until_then_in_service() {
    let house = House::new();
    house.object(&ours("op-1"), apply(map("old", "before"))).await;
    let scope = ours("op-2");
    house.object(&scope, apply(map("new", "made"))).await;
    house.done(&scope, delete(&config_maps(), "old")).await;
    house.object(&scope, apply(map("late", "made"))).await;
    let cleaned = clean_up(&house, &scope).await;
    assert_eq!(told(&cleaned), [vec!["ConfigMap default/late"], vec![], vec![]]);
    assert_eq!(house.word("new").await.as_deref(), Some("made"));
    assert_eq!(house.word("old").await, None, "a deletion is not taken back");
}

#[tokio::test]
async fn a_deletion_that_is_refused_replaces_nothing_and_one_that_failed_may_have() {
    let refused = || EngineError::Forbidden("no".to_owned());
    for (fault, stays) in [(Fault::Before(refused()), false), (Fault::After(lost()), true)] {
        let house = House::new();
        house.object(&ours("op-1"), apply(map("old", "before"))).await;
        let scope = ours("op-2");
        house.object(&scope, apply(map("new", "made"))).await;
        house.cluster.fail(move |call, _| (call.name() == "cluster.delete").then(|| fault.clone()));
        house.refused(&scope, delete(&config_maps(), "old")).await;
        house.cluster.mend();
        clean_up(&house, &scope).await;
        assert_eq!(house.word("new").await.is_some(), stays, "the new one is all there may be");
    }
}

#[tokio::test]
async fn what_is_made_anew_under_the_name_of_what_was_deleted_is_the_operations_own() {
    let house = House::new();
    house.object(&ours("op-1"), apply(map("web", "before"))).await;
    let scope = ours("op-2");
    house.done(&scope, delete(&config_maps(), "web")).await;
    house.object(&scope, create(map("web", "made"))).await;
    house.object(&scope, apply(object(&config_maps(), "web"))).await;
    let cleaned = clean_up(&house, &scope).await;
    assert_eq!(told(&cleaned), [vec!["ConfigMap default/web"], vec![], vec![]]);
    assert_eq!(house.word("web").await, None);
}

#[tokio::test]
async fn what_was_there_before_is_not_taken_for_new_because_a_create_of_it_was_refused() {
    let house = House::new();
    let made = house.object(&ours("op-1"), create(object(&config_maps(), "web"))).await;
    let before = house.there(&config_maps(), "default", "web").await;
    let scope = ours("op-2");
    assert_eq!(house.refused(&scope, create(map("web", "after"))).await.0, "conflict");
    assert!(scope.ledger.loose_objects().is_empty());
    house.object(&scope, apply(map("web", "after"))).await;
    let now = house.there(&config_maps(), "default", "web").await.unwrap();
    assert_eq!(now["metadata"]["labels"][OPERATION], "op-1", "it is of who made it");
    let cleaned = clean_up(&house, &scope).await;
    assert_eq!(told(&cleaned), [vec![], vec!["ConfigMap default/web"], vec![]]);
    let now = house.there(&config_maps(), "default", "web").await;
    assert_eq!(now.as_ref().unwrap()["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(settled(now), settled(before));
}

#[tokio::test]
async fn what_was_not_there_before_may_be_there_now() {
    let house = House::new();
    let scope = ours("op-1");
    let no = EngineError::Forbidden("no".to_owned());
    house
        .cluster
        .fail(move |call, _| (call.name() == "cluster.apply").then(|| Fault::Before(no.clone())));
    house.refused(&scope, apply(map("web", "1"))).await;
    house.cluster.mend();
    // Another operation of ours makes it.
    house.object(&ours("op-0"), apply(map("web", "before"))).await;
    house.object(&scope, merge(&config_maps(), "web", json!({"data": {"more": "x"}}))).await;
    house.object(&scope, apply(map("web", "after"))).await;
    let cleaned = clean_up(&house, &scope).await;
    assert_eq!(told(&cleaned), [vec![], vec!["ConfigMap default/web"], vec![]]);
    let now = house.there(&config_maps(), "default", "web").await.unwrap();
    assert_eq!(now["data"], json!({"word": "before"}));
}

#[tokio::test]
async fn a_change_nobody_knows_the_end_of_is_found_and_taken_back() {
    for send in [create as fn(Value) -> ClusterCall, apply] {
        let house = House::new();
        house.object(&ours("op-1"), apply(map("old", "before"))).await;
        let scope = ours("op-2");
        house.cluster.fail(|call, _| {
            let changes = ["cluster.create", "cluster.apply", "cluster.patch"];
            changes.contains(&call.name()).then(|| Fault::After(lost()))
        });
        assert_eq!(house.refused(&scope, send(map("new", "made"))).await.0, "timed-out");
        assert_eq!(house.refused(&scope, apply(map("old", "after"))).await.0, "timed-out");
        assert_eq!(house.word("new").await.as_deref(), Some("made"));
        house.cluster.mend();
        // What it does next sees that it is there, and it is still what the operation made.
        house.object(&scope, merge(&config_maps(), "new", json!({"data": {"more": "x"}}))).await;
        let cleaned = clean_up(&house, &scope).await;
        let expected = [vec!["ConfigMap default/new"], vec!["ConfigMap default/old"], vec![]];
        assert_eq!(told(&cleaned), expected);
        let words = (house.word("new").await, house.word("old").await);
        assert_eq!(words, (None, Some("before".to_owned())));
    }
}

#[tokio::test]
async fn a_plugin_can_undo_a_create_nobody_knows_the_end_of() {
    let (house, scope) = (House::new(), ours("op-1"));
    house.cluster.fail(|call, _| (call.name() == "cluster.create").then(|| Fault::After(lost())));
    house.refused(&scope, create(map("web", "made"))).await;
    house.done(&scope, delete(&config_maps(), "web")).await;
    assert_eq!(house.word("web").await, None);
    assert_eq!(clean_up(&house, &scope).await, Cleaned::default());
}

#[tokio::test]
async fn a_change_goes_on_when_its_caller_is_gone() {
    let house = Arc::new(House::new());
    let scope = ours("op-1");
    let below = Arc::new(Held::at("cluster.create"));
    let chain = house.chain_over(Arc::clone(&below) as _);
    let caller = {
        let scope = Arc::clone(&scope);
        tokio::spawn(
            async move { chain.send(&scope, on_cluster(create(map("web", "made")))).await },
        )
    };
    below.asked.notified().await;
    caller.abort();
    assert!(caller.await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(scope.ledger.loose_objects().len(), 1, "it is known from the start");
    assert_eq!(house.word("web").await, None);
    below.hold.add_permits(1);
    scope.ledger.settled().await;
    assert_eq!(house.word("web").await.as_deref(), Some("made"));
    let cleaned = clean_up(&house, &scope).await;
    assert_eq!(told(&cleaned)[0], ["ConfigMap default/web"]);
}

#[tokio::test]
async fn a_change_that_was_given_up_and_is_refused_late_leaves_the_next_one_in_the_ledger() {
    for before in [None, Some("before")] {
        let house = House::new();
        if let Some(word) = before {
            house.object(&ours("op-1"), apply(map("web", word))).await;
        }
        let scope = ours("op-2");
        let late = Arc::new(Late::default());
        let chain = house.chain_over(Arc::clone(&late) as _);
        let again = || on_cluster(apply(map("web", "after")));
        let caller = {
            let (scope, chain, call) = (Arc::clone(&scope), chain.clone(), again());
            tokio::spawn(async move { chain.send(&scope, call).await })
        };
        late.asked.notified().await;
        caller.abort();
        assert!(caller.await.is_err_and(|error| error.is_cancelled()));
        chain.send(&scope, again()).await.map(drop).unwrap();
        late.hold.add_permits(1);
        scope.ledger.settled().await;
        assert_eq!(house.word("web").await.as_deref(), Some("after"));
        clean_up(&house, &scope).await;
        assert_eq!(house.word("web").await.as_deref(), before);
    }
}

/// Holds the first apply back, and refuses it then.
struct Late {
    asked: tokio::sync::Notify,
    hold: tokio::sync::Semaphore,
    applies: std::sync::atomic::AtomicUsize,
}

impl Default for Late {
    fn default() -> Self {
        let hold = tokio::sync::Semaphore::new(0);
        Self { asked: Default::default(), hold, applies: Default::default() }
    }
}

#[async_trait::async_trait]
impl gantry_engine::Layer for Late {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: gantry_engine::Request,
        next: gantry_engine::Next,
    ) -> Result<Response, Error> {
        if request.call.name() == "cluster.apply"
            && self.applies.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0
        {
            self.asked.notify_one();
            self.hold.acquire().await.unwrap().forget();
            return Err(EngineError::Conflict("somebody was faster".to_owned()).into());
        }
        next.send(scope, request).await
    }
}

#[tokio::test]
async fn what_was_touched_last_is_taken_back_first() {
    let (house, scope) = (House::new(), ours("op-1"));
    for name in ["account", "deployment", "service"] {
        house.object(&scope, apply(map(name, "1"))).await;
    }
    let cleaned = clean_up(&house, &scope).await;
    let names =
        ["service", "deployment", "account"].map(|name| format!("ConfigMap default/{name}"));
    assert_eq!(told(&cleaned)[0], names);
}

#[tokio::test]
async fn an_object_of_somebody_else_in_the_place_of_one_that_was_made_is_not_touched() {
    for before in [None, Some("before")] {
        let house = House::new();
        if let Some(word) = before {
            house.object(&ours("op-1"), apply(map("web", word))).await;
        }
        let scope = ours("op-2");
        house.object(&scope, apply(map("web", "made"))).await;
        let options = DeleteOptions::default();
        house.cluster.delete(&config_maps(), "default", "web", &options).await.unwrap();
        house.object(&acme("op-3"), create(map("web", "theirs"))).await;
        assert_eq!(clean_up(&house, &scope).await, Cleaned::default());
        assert_eq!(house.word("web").await.as_deref(), Some("theirs"));
    }
}

#[tokio::test]
async fn what_somebody_deleted_in_between_is_made_again_by_the_operation_and_goes_with_it() {
    let house = House::new();
    house.object(&ours("op-1"), apply(map("web", "before"))).await;
    let scope = ours("op-2");
    house.object(&scope, apply(map("web", "after"))).await;
    let options = DeleteOptions::default();
    house.cluster.delete(&config_maps(), "default", "web", &options).await.unwrap();
    assert_eq!(house.refused(&scope, apply(map("web", "again"))).await.0, "conflict");
    house.object(&scope, apply(map("web", "again"))).await;
    let cleaned = clean_up(&house, &scope).await;
    assert_eq!(told(&cleaned), [vec!["ConfigMap default/web"], vec![], vec![]]);
    assert_eq!(house.word("web").await, None);
}

#[tokio::test]
async fn a_field_that_was_applied_and_then_patched_is_put_back() {
    let replicas = |replicas: u32| {
        let mut web = object(&deployments(), "web");
        web["spec"]["replicas"] = replicas.into();
        web["metadata"]["annotations"] = json!({"note": "before"});
        web
    };
    let scale = |subresource: &str, replicas: u32| ClusterCall::Patch {
        kind: deployments(),
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        subresource: subresource.to_owned(),
        patch: Patch::Merge(json!({"spec": {"replicas": replicas}})),
        dry_run: false,
    };
    let note =
        |note: Value| merge(&deployments(), "web", json!({"metadata": {"annotations": note}}));
    // What an operation may send, after an object was applied in another.
    let rows: Vec<(&str, Vec<ClusterCall>)> = vec![
        ("applied", vec![apply(replicas(5))]),
        ("patched", vec![scale("", 5)]),
        ("applied and patched", vec![apply(replicas(4)), scale("", 5)]),
        ("scaled", vec![scale("scale", 5)]),
        ("scaled and patched", vec![scale("scale", 4), scale("", 5)]),
        ("added", vec![note(json!({"new": "x"}))]),
        ("taken away", vec![note(json!({"note": null}))]),
        ("changed", vec![note(json!({"note": "after"})), scale("", 5)]),
        (
            "everything",
            vec![
                apply(replicas(3)),
                note(json!({"note": "x", "new": "y"})),
                scale("scale", 5),
                scale("", 6),
            ],
        ),
    ];
    for (what, calls) in rows {
        let house = House::new();
        house.object(&ours("op-1"), apply(replicas(2))).await;
        let before = house.there(&deployments(), "default", "web").await;
        let scope = ours("op-2");
        for call in calls {
            house.object(&scope, call).await;
        }
        let cleaned = clean_up(&house, &scope).await;
        assert_eq!(
            told(&cleaned),
            [vec![], vec!["Deployment default/web"], vec![]],
            "{what}: {cleaned:?}"
        );
        let now = house.there(&deployments(), "default", "web").await;
        assert_eq!(settled(now.clone()), settled(before), "{what}");
        assert_eq!(clean_up(&house, &scope).await.left, []);
        assert_eq!(house.there(&deployments(), "default", "web").await, now, "{what}: twice");
        // And it can be applied as before.
        house.object(&ours("op-3"), apply(replicas(7))).await;
    }
}

#[tokio::test]
async fn what_an_earlier_operation_patched_is_put_back_as_it_left_it() {
    let note = |note: Value| merge(&config_maps(), "web", json!({"data": note}));
    let house = House::new();
    house.object(&ours("op-1"), apply(map("web", "applied"))).await;
    house.object(&ours("op-1"), note(json!({"kept": "1", "changed": "1", "removed": "1"}))).await;
    let before = house.there(&config_maps(), "default", "web").await;
    let scope = ours("op-2");
    house.object(&scope, note(json!({"changed": "2", "removed": null, "new": "2"}))).await;
    house.object(&scope, note(json!({"word": "patched"}))).await;
    let cleaned = clean_up(&house, &scope).await;
    assert_eq!(told(&cleaned), [vec![], vec!["ConfigMap default/web"], vec![]]);
    let now = house.there(&config_maps(), "default", "web").await;
    assert_eq!(settled(now), settled(before));
}

#[tokio::test]
async fn what_somebody_else_changed_meanwhile_stays_and_is_told() {
    let house = House::new();
    house.object(&ours("op-1"), apply(map("web", "before"))).await;
    let (scope, shown) = ours_shown("op-2");
    house.object(&scope, merge(&config_maps(), "web", json!({"data": {"word": "after"}}))).await;
    house
        .cluster
        .edit(&config_maps(), "default", "web", "kubectl-edit", |map| {
            map["data"]["word"] = "theirs".into();
        })
        .unwrap();
    let cleaned = clean_up(&house, &scope).await;
    assert_eq!(told(&cleaned), [vec![], vec!["ConfigMap default/web"], vec![]]);
    let why = " ---> the ConfigMap `default/web`: .data.word stays as `kubectl-edit` has it by now <---\n";
    assert_eq!(shown.text(), why);
    assert_eq!(house.word("web").await.as_deref(), Some("theirs"));
}

#[tokio::test]
async fn an_object_of_others_is_put_back_field_by_field_and_their_later_changes_stay() {
    let house = House::new();
    let mut node = object(&nodes(), "n1");
    node["metadata"]["annotations"] = json!({"pool": "a", "theirs": "1", "gone": "1"});
    node["spec"] = json!({"taints": [{"key": "pool", "value": "a", "effect": "NoSchedule"}]});
    house.cluster.put(&node).unwrap();
    let scope = ours_and("op-1", &["cluster:foreign:write:Node"]);
    let change = json!({
        "metadata": {
            "annotations": {"pool": "b", "gone": null, "new": "x"}, "labels": {"app": "other"},
        },
        "spec": {"unschedulable": true},
    });
    house.object(&scope, merge(&nodes(), "n1", change)).await;
    house
        .cluster
        .edit(&nodes(), "", "n1", "kubelet", |node| {
            node["metadata"]["annotations"]["theirs"] = "2".into();
            node["spec"]["taints"] = json!([{"key": "unreachable", "effect": "NoExecute"}]);
            node["status"] = json!({"phase": "Running"});
        })
        .unwrap();
    let cleaned = clean_up(&house, &scope).await;
    assert_eq!(told(&cleaned), [vec![], vec!["Node /n1"], vec![]]);
    let now = house.there(&nodes(), "", "n1").await.unwrap();
    let annotations = json!({"pool": "a", "theirs": "2", "gone": "1"});
    assert_eq!(now["metadata"]["annotations"], annotations);
    assert_eq!(now["metadata"]["labels"], json!({"app": "web"}));
    let spec = json!({"taints": [{"key": "unreachable", "effect": "NoExecute"}]});
    assert_eq!(now["spec"], spec);
    assert_eq!(now["status"], json!({"phase": "Running"}));
}

#[tokio::test]
async fn what_was_applied_to_an_object_of_others_is_taken_off_it() {
    let house = House::new();
    house.cluster.put(&map("web", "theirs")).unwrap();
    let before = house.there(&config_maps(), "default", "web").await;
    let scope = ours_and("op-1", &["cluster:foreign:write:ConfigMap"]);
    let mut more = object(&config_maps(), "web");
    more["data"] = json!({"more": "ours"});
    house.object(&scope, apply(more)).await;
    let cleaned = clean_up(&house, &scope).await;
    assert_eq!(told(&cleaned), [vec![], vec!["ConfigMap default/web"], vec![]]);
    assert_eq!(settled(house.there(&config_maps(), "default", "web").await), settled(before));
}

#[tokio::test]
async fn an_object_that_moves_on_while_it_is_put_back_is_looked_at_anew() {
    let house = House::new();
    house.object(&ours("op-1"), apply(map("web", "before"))).await;
    let scope = ours("op-2");
    house.object(&scope, merge(&config_maps(), "web", json!({"data": {"word": "after"}}))).await;
    let cluster = house.cluster.clone();
    let patches = house.cluster.count("cluster.patch");
    house.cluster.fail(move |call, number| {
        if call.name() == "cluster.patch" && number == patches + 1 {
            let edit = |map: &mut Value| map["data"]["theirs"] = "yes".into();
            cluster.edit(&config_maps(), "default", "web", "somebody", edit).unwrap();
        }
        None
    });
    let cleaned = clean_up(&house, &scope).await;
    assert_eq!(told(&cleaned), [vec![], vec!["ConfigMap default/web"], vec![]], "{cleaned:?}");
    let now = house.there(&config_maps(), "default", "web").await.unwrap();
    assert_eq!(now["data"], json!({"word": "before", "theirs": "yes"}));
}

#[tokio::test]
async fn a_clean_up_tells_what_it_could_not_take_back_and_why() {
    let house = House::new();
    house.object(&ours("op-1"), apply(map("old", "before"))).await;
    let scope = ours("op-2");
    house.object(&scope, apply(map("new", "made"))).await;
    house.object(&scope, apply(map("old", "after"))).await;
    let no = EngineError::Forbidden("no".to_owned());
    house
        .cluster
        .fail(move |call, _| (call.name() != "cluster.get").then(|| Fault::Before(no.clone())));
    let cleaned = clean_up(&house, &scope).await;
    let left = vec!["ConfigMap default/old", "ConfigMap default/new"];
    assert_eq!(told(&cleaned), [vec![], vec![], left]);
    assert!(cleaned.left.iter().all(|left| left.error.kind() == "forbidden"));
    house.chain.backends().clusters.take("kubernetes", NORTH);
    let cleaned = clean_up(&house, &scope).await;
    assert_eq!(cleaned.left.len(), 2);
    assert!(cleaned.left.iter().all(|left| left.error.kind() == "not-found"), "{cleaned:?}");
}

#[tokio::test]
async fn what_a_controller_made_is_replaced_by_nothing() {
    for controls in [true, false] {
        let (house, scope) = (House::new(), ours("op-2"));
        let set = object(&Kind::new("apps/v1", "ReplicaSet"), "web");
        let set = house.object(&ours("op-1"), create(set)).await;
        let mut pod = object(&pods(), "web-1");
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web",
            "uid": set["metadata"]["uid"], "controller": controls,
        }]);
        house.object(&ours("op-1"), create(pod)).await;
        house.object(&scope, apply(map("web", "made"))).await;
        house.done(&scope, delete(&pods(), "web-1")).await;
        assert_eq!(house.there(&pods(), "default", "web-1").await, None);
        assert_eq!(scope.ledger.loose_objects().is_empty(), !controls);
    }
}

//! Objects that a plugin has put back, as they were before it changed them.

use std::sync::Arc;

use gantry_engine::Cluster as _;
use gantry_engine::EngineError;
use gantry_engine::call::cluster::DeleteOptions;
use gantry_engine::memory::objects::Fault;
use serde_json::{Value, json};

use super::journal::{clean_up, settled, told};
use super::*;

#[tokio::test]
async fn an_operation_puts_back_what_it_changed_and_nothing_else() {
    let house = House::new();
    house.object(&ours("op-1"), apply(map("old", "before"))).await;
    house.object(&ours("op-1"), apply(map("other", "before"))).await;
    let before = house.there(&config_maps(), "default", "old").await;
    let scope = ours("op-2");
    let merged = json!({"data": {"word": "later", "more": "x"}});
    for _ in 0..2 {
        house.object(&scope, apply(map("old", "after"))).await;
        house.object(&scope, merge(&config_maps(), "old", merged.clone())).await;
        house.object(&scope, apply(map("new", "made"))).await;
        // Twice is as good as once.
        for _ in 0..2 {
            let back = house.object(&scope, put_back(&config_maps(), "old")).await;
            assert_eq!(back["data"], json!({"word": "before"}));
            assert_eq!(back["metadata"].get("managedFields"), None, "that is the host's");
            house.done(&scope, put_back(&config_maps(), "new")).await;
            house.done(&scope, put_back(&config_maps(), "nobody")).await;
        }
        let now = house.there(&config_maps(), "default", "old").await;
        assert_eq!(settled(now), settled(before.clone()), "each field, and whose it is");
        assert_eq!(house.word("new").await, None);
    }
    // What it has not changed stays, and what it has put back is nobody's to take back.
    house.object(&scope, put_back(&config_maps(), "other")).await;
    assert_eq!(house.word("other").await.as_deref(), Some("before"));
    assert_eq!(scope.ledger.loose_objects(), []);
    assert_eq!(told(&clean_up(&house, &scope).await), [vec![], vec![], vec![]] as [Vec<&str>; 3]);
}

#[tokio::test]
async fn what_others_changed_stays_theirs_when_an_operation_puts_an_object_back() {
    let (house, (scope, shown)) = (House::new(), ours_shown("op-2"));
    house.object(&ours("op-1"), apply(map("web", "before"))).await;
    let note = |word: &'static str| {
        move |object: &mut Value| object["metadata"]["annotations"] = json!({"note": word})
    };
    house.cluster.edit(&config_maps(), "default", "web", "somebody", note("one")).unwrap();
    house.object(&scope, apply(map("web", "after"))).await;
    house.cluster.edit(&config_maps(), "default", "web", "somebody", note("two")).unwrap();
    house.object(&scope, put_back(&config_maps(), "web")).await;
    let now = house.there(&config_maps(), "default", "web").await.unwrap();
    assert_eq!(
        (&now["data"]["word"], &now["metadata"]["annotations"]["note"]),
        (&"before".into(), &"two".into())
    );
    let ours = |entry: &&Value| entry["manager"] == "gantry";
    let managed = now["metadata"]["managedFields"].as_array().unwrap().iter().filter(ours);
    assert!(managed.into_iter().all(|entry| !entry.to_string().contains("note")), "{now}");
    // What others take away stays away.
    house.object(&scope, apply(map("web", "after"))).await;
    let take = |object: &mut Value| {
        drop(object["metadata"].as_object_mut().unwrap().remove("annotations"))
    };
    house.cluster.edit(&config_maps(), "default", "web", "somebody", take).unwrap();
    let now = house.object(&scope, put_back(&config_maps(), "web")).await;
    assert_eq!(now["metadata"].get("annotations"), None);
    assert_eq!(now["data"]["word"], "before");
    // A field that was ours and is somebody else's by now is told, and keeps no other from going back.
    let mut after = map("web", "after");
    after["data"]["more"] = "after".into();
    house.object(&scope, apply(after)).await;
    let take = |object: &mut Value| object["data"]["word"] = "taken".into();
    house.cluster.edit(&config_maps(), "default", "web", "somebody", take).unwrap();
    assert_eq!(shown.text(), "");
    let now = house.object(&scope, put_back(&config_maps(), "web")).await;
    assert_eq!(now["data"], json!({"word": "taken"}));
    let told = shown.text();
    assert!(told.contains(".data.word stays as `somebody` has it by now"), "{told}");
}

#[tokio::test]
async fn an_object_is_put_back_also_when_the_operation_is_in_service() {
    let (house, scope) = (House::new(), ours("op-2"));
    house.object(&ours("op-1"), apply(map("web", "before"))).await;
    house.object(&ours("op-1"), apply(map("gone", "before"))).await;
    house.object(&scope, apply(map("web", "after"))).await;
    // From here on what it made takes the place of what was there.
    house.done(&scope, delete(&config_maps(), "gone")).await;
    assert_eq!(scope.ledger.loose_objects(), []);
    house.object(&scope, put_back(&config_maps(), "web")).await;
    assert_eq!(house.word("web").await.as_deref(), Some("before"));
}

#[tokio::test]
async fn an_apply_that_makes_anew_what_was_deleted_meanwhile_makes_it_the_operations_own() {
    let house = House::new();
    house.object(&ours("op-1"), apply(map("web", "before"))).await;
    let scope = ours("op-2");
    let cluster = house.cluster.clone();
    // Between the look and the apply.
    house.cluster.fail(move |call, _| {
        if call.name() == "cluster.apply" {
            let found = cluster.clone();
            let gone = futures_util::FutureExt::now_or_never(async move {
                found.delete(&config_maps(), "default", "web", &DeleteOptions::default()).await
            });
            drop(gone);
        }
        None
    });
    assert_eq!(house.refused(&scope, apply(map("web", "after"))).await.0, "conflict");
    house.cluster.mend();
    house.object(&scope, apply(map("web", "after"))).await;
    let loose = scope.ledger.loose_objects();
    assert_eq!(loose[0].before, None, "that one is gone");
    house.done(&scope, put_back(&config_maps(), "web")).await;
    assert_eq!(house.word("web").await, None);
}

#[tokio::test]
async fn an_object_that_nobody_waits_for_any_more_is_not_put_back_later() {
    let (house, scope) = (House::new(), ours("op-2"));
    house.object(&ours("op-1"), apply(map("web", "before"))).await;
    house.object(&scope, apply(map("web", "after"))).await;
    let below = Arc::new(Held::at("cluster.get"));
    let chain = house.chain_over(Arc::clone(&below) as _);
    let caller = {
        let scope = Arc::clone(&scope);
        let call = on_cluster(put_back(&config_maps(), "web"));
        tokio::spawn(async move { chain.send(&scope, call).await })
    };
    below.asked.notified().await;
    caller.abort();
    assert!(caller.await.is_err_and(|error| error.is_cancelled()));
    below.hold.add_permits(10);
    scope.ledger.settled().await;
    assert_eq!(house.word("web").await.as_deref(), Some("after"));
    assert_eq!(scope.ledger.loose_objects().len(), 1, "it is the clean-up's");
    clean_up(&house, &scope).await;
    assert_eq!(house.word("web").await.as_deref(), Some("before"));
}

#[tokio::test]
async fn what_a_put_back_did_not_end_is_ended_by_the_next_one_or_by_the_clean_up() {
    let lost = EngineError::TimedOut("the answer was lost".to_owned());
    for fault in [Fault::Before(lost.clone()), Fault::After(lost)] {
        for again in [true, false] {
            let (house, scope) = (House::new(), ours("op-2"));
            for name in ["old", "other"] {
                house.object(&ours("op-1"), apply(map(name, "before"))).await;
                house.object(&scope, apply(map(name, "after"))).await;
            }
            house.object(&scope, apply(map("new", "made"))).await;
            let fault = fault.clone();
            house.cluster.fail(move |call, _| {
                let ends = ["cluster.apply", "cluster.delete"].contains(&call.name());
                ends.then(|| fault.clone())
            });
            for name in ["old", "new"] {
                let told = house.refused(&scope, put_back(&config_maps(), name)).await;
                assert_eq!(told.0, "timed-out");
            }
            house.cluster.mend();
            if again {
                house.object(&scope, put_back(&config_maps(), "old")).await;
                house.done(&scope, put_back(&config_maps(), "new")).await;
                assert_eq!(scope.ledger.loose_objects().len(), 1, "the other one");
            }
            clean_up(&house, &scope).await;
            let words = (house.word("old").await, house.word("other").await);
            assert_eq!(words, (Some("before".to_owned()), Some("before".to_owned())));
            assert_eq!(house.word("new").await, None);
        }
    }
}

//! Random sequences of calls give the same answers in memory and on a real API server.
//!
//! The sequences keep to what an API server alone decides: Deployments are paused and pods are gated, so that no controller and no scheduler has a hand in them. Uids are told by the order in
//! which they were met, versions by whether they have changed, errors by their kind and the fields they name. What only a real server adds is listed in `added`.

mod calls;
mod differences;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use gantry_engine::Cluster;
use gantry_engine::call::cluster::{Change, DeleteOptions, Kind, Patch, Selection};
use gantry_engine::cluster::Changes;
use gantry_engine::memory::Objects;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::json;
use tokio::time::{Instant, sleep};

use self::calls::{Act, SORTS, Which, act};
use self::differences::{differences, evened};
use self::world::{MARK, World};

/// Sequences and their length: enough to meet the states, few enough for a real cluster.
const CASES: u32 = 30;
const CALLS: std::ops::Range<usize> = 10..30;

/// Waits until the garbage collector has done on a real cluster what it does at once in memory.
async fn settled(fake: &World, real: &World) -> std::result::Result<(), TestCaseError> {
    let wanted = fake.view().await;
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let is = real.view().await;
        if is == wanted {
            return Ok(());
        }
        if Instant::now() > end {
            prop_assert_eq!(&wanted, &is, "what is there in memory, and on the cluster");
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// What a watch has told so far, as the names that are there.
fn folded(there: &mut BTreeMap<String, String>, changes: &mut Changes) {
    while let Some(Some(change)) = changes.next().now_or_never() {
        match change.expect("a watch goes on") {
            Change::Applied(object) => {
                let told = format!("{} {}", object["data"], object["metadata"]["labels"]);
                there.insert(object["metadata"]["name"].to_string(), told);
            }
            Change::Deleted(object) => drop(there.remove(&object["metadata"]["name"].to_string())),
            Change::Listed => {}
        }
    }
}

async fn compare(real: Arc<dyn Cluster>, acts: &[Act]) -> std::result::Result<(), TestCaseError> {
    let namespace = format!("random-{:016x}", getrandom::u64().unwrap());
    let mut fake = World::new(Arc::new(Objects::new()), &namespace);
    let mut real = World::new(real, &namespace);
    fake.begin().await;
    real.begin().await;
    let account = Kind::new("v1", "ServiceAccount");
    while real.cluster.get(&account, &namespace, "default").await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    let selection = Selection {
        namespace: namespace.clone(),
        labels: format!("{MARK}=yes"),
        ..Selection::default()
    };
    let kind = Kind::new("v1", "ConfigMap");
    let mut watches = (
        fake.cluster.watch(&kind, &selection).await.unwrap(),
        real.cluster.watch(&kind, &selection).await.unwrap(),
    );
    let run = async {
        for (index, act) in acts.iter().enumerate() {
            if std::env::var_os("RANDOM_TRACE").is_some() {
                println!("{index}: {act:?}");
            }
            let (in_memory, on_cluster) = (fake.act(act).await, real.act(act).await);
            let (in_memory, on_cluster) = evened(in_memory, on_cluster);
            prop_assert!(
                in_memory == on_cluster,
                "call {index}: {act:?}\n{}\nafter these: {:#?}",
                differences(&in_memory, &on_cluster),
                acts.iter().take(index).map(|act| format!("{act:?}")).collect::<Vec<_>>(),
            );
            settled(&fake, &real).await?;
        }
        let mut views = (BTreeMap::new(), BTreeMap::new());
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            folded(&mut views.0, &mut watches.0);
            folded(&mut views.1, &mut watches.1);
            if views.0 == views.1 {
                return Ok(());
            }
            prop_assert!(Instant::now() < end, "the watches tell {:?}", views);
            sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = std::panic::AssertUnwindSafe(run).catch_unwind().await;
    let options = DeleteOptions::default();
    // Nothing waits for what is held: that is let go first.
    for sort in SORTS {
        for name in 0..2 {
            let (kind, name) = (sort.kind(), World::name(Which { sort, name }));
            let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            let _ = real.cluster.patch(&kind, &namespace, &name, "", &patch, false).await;
        }
    }
    let _ = real.cluster.delete(&Kind::new("v1", "Namespace"), "", &namespace, &options).await;
    ended.unwrap_or_else(|broken| std::panic::resume_unwind(broken))
}

#[test]
fn random_sequences_of_calls_give_the_same_answers_in_memory() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(real) = runtime.block_on(crate::cluster()) else { return };
    let real = real.cluster;
    let more = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let shrinks =
        std::env::var("PROPTEST_MAX_SHRINK_ITERS").ok().and_then(|most| most.parse().ok());
    let config = Config {
        cases: more.unwrap_or(CASES),
        // Another one each time; the sequence that fails is printed.
        rng_seed: RngSeed::Random,
        failure_persistence: None,
        max_shrink_iters: shrinks.unwrap_or(60),
        ..Config::default()
    };
    let acts = proptest::collection::vec(act(), CALLS);
    let mut runner = TestRunner::new(config);
    let ended = runner.run(&acts, |acts| runtime.block_on(compare(Arc::clone(&real), &acts)));
    if let Err(error) = ended {
        panic!("{error}");
    }
}

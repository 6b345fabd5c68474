//! With a cluster in memory: the calls of an operation up to a point, then a daemon that knows nothing but what is on the disk.

use std::time::Duration;

use gantry_core::policy::Grants;
use gantry_engine::call::cluster::ClusterInfo;
use gantry_engine::call::cluster::{DeleteOptions, Kind, Patch};
use gantry_engine::call::{ClusterCall, ImagesCall};
use gantry_engine::cluster::Cluster;
use gantry_engine::memory::{Objects, Platform as Memory};
use gantry_engine::{Chain, GivenCluster, Reply};
use serde_json::{Value, json};

use super::*;
use crate::clock;
use crate::operation::in_service::InService;
use crate::operation::interrupted::mark_interrupted;
use crate::operation::sweep::Sweeper;
use crate::service::Hosts;
use crate::store::{Begin, ClusterRecord};

struct House {
    folder: tempfile::TempDir,
    cluster: Objects,
}

/// A daemon, as far as it is about objects.
struct Daemon {
    store: Arc<Store>,
    clusters: Arc<Clusters>,
    chain: Chain,
}

const NORTH: &str = "north";

impl House {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), cluster: Objects::new() }
    }

    async fn start(&self) -> Daemon {
        let store = Arc::new(Store::open(self.folder.path()).unwrap());
        let clusters = Arc::new(Clusters::default());
        let info =
            ClusterInfo { name: NORTH.into(), namespace: "default".into(), ..Default::default() };
        let engine = Arc::new(self.cluster.clone());
        clusters.give("kubernetes", NORTH, GivenCluster { info, engine });
        let none: [(&str, gantry_engine::Memory); 0] = [];
        let backends = Backends {
            clusters: Arc::clone(&clusters),
            ..Memory::new().backends("kubernetes", none)
        };
        let layers: Vec<Arc<dyn Layer>> = vec![
            Arc::new(InService::new(Arc::clone(&store))),
            Arc::new(Written::new(Arc::clone(&store))),
        ];
        Daemon { store, clusters, chain: Chain::with(backends, layers) }
    }

    /// The value of `data.v` of a ConfigMap; none when it is not there.
    async fn value(&self, name: &str) -> Option<String> {
        let object = self.cluster.get(&config_map(), "default", name).await.ok()?;
        Some(object["data"]["v"].as_str().unwrap_or_default().to_owned())
    }
}

fn config_map() -> Kind {
    Kind::new("v1", "ConfigMap")
}

fn object(name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "default", "name": name},
        "data": {"v": value},
    })
}

fn apply(name: &str, value: &str) -> ClusterCall {
    ClusterCall::Apply { object: object(name, value), dry_run: false }
}

fn delete(name: &str) -> ClusterCall {
    ClusterCall::Delete {
        kind: config_map(),
        namespace: "default".into(),
        name: name.into(),
        options: DeleteOptions::default(),
    }
}

impl Daemon {
    async fn begin(&self, id: &str) -> Arc<Scope> {
        let begin = Begin { id: id.into(), detail: "{}".into(), ..Begin::default() };
        self.store.begin_operation(begin).await.unwrap();
        let grants = || {
            ["cluster:*:ConfigMap", "cluster:foreign:write:ConfigMap"]
                .map(|grant| grant.parse().unwrap())
        };
        let operation = Operation::new(id, Duration::from_secs(60));
        let scope = Scope::new("kubernetes", "test", operation)
            .with_grants(Arc::new(Grants::new(grants(), grants())));
        Arc::new(scope)
    }

    async fn try_send(&self, scope: &Arc<Scope>, call: ClusterCall) -> Result<Reply, Error> {
        let call = Call::Cluster { cluster: NORTH.into(), call: Box::new(call) };
        self.chain.send(scope, call).await.map(|response| response.reply)
    }

    async fn send(&self, scope: &Arc<Scope>, call: ClusterCall) {
        self.try_send(scope, call).await.map(drop).unwrap();
    }

    async fn end(&self, id: &str, state: &'static str, problem: Option<Problem>) {
        let problem = problem.map(|problem| serde_json::to_string(&problem).unwrap());
        self.store.end_operation(id, state, clock::now(), problem, None).await.unwrap();
    }

    /// What a start does of it, and how many objects were taken back.
    async fn recover(&self) -> usize {
        mark_interrupted(&self.store).await.unwrap();
        self.sweep().await
    }

    async fn sweep(&self) -> usize {
        let clusters = Arc::clone(&self.clusters);
        let sweeper =
            Sweeper::new(Arc::clone(&self.store), "test", Arc::new(Hosts::default()), clusters);
        let swept = sweeper.sweep().await.unwrap();
        for (_, swept) in &swept {
            assert_eq!(swept.failures, []);
        }
        swept.into_iter().map(|(_, swept)| swept.removed).sum()
    }
}

/// The house with `old` from before and `theirs` of somebody else, and the calls of a change of both, in order.
async fn changed(house: &House, calls: usize) -> Vec<ClusterCall> {
    let daemon = house.start().await;
    let before = daemon.begin("00").await;
    daemon.send(&before, apply("old", "before")).await;
    daemon.end("00", "done", None).await;
    house.cluster.put(&object("theirs", "before")).unwrap();
    let patch = Patch::Merge(json!({"data": {"v": "patched"}}));
    let patch = ClusterCall::Patch {
        kind: config_map(),
        namespace: "default".into(),
        name: "theirs".into(),
        subresource: String::new(),
        patch,
        dry_run: false,
    };
    let all = vec![
        apply("new", "made"),
        apply("old", "after"),
        ClusterCall::Create { object: object("created", "made"), dry_run: false },
        patch,
        apply("old", "again"),
        apply("new", "again"),
    ];
    all.into_iter().take(calls).collect()
}

#[tokio::test]
async fn a_daemon_that_ends_between_two_effects_finds_everything_as_it_was() {
    for calls in 0..=6 {
        let house = House::new();
        let sent = changed(&house, calls).await;
        assert_eq!(sent.len(), calls);
        let daemon = house.start().await;
        let scope = daemon.begin("01").await;
        for call in sent {
            daemon.send(&scope, call).await;
        }
        // A crash: nothing is closed.
        std::mem::forget(daemon);
        let daemon = house.start().await;
        let taken = daemon.recover().await;
        assert_eq!(taken, [0, 1, 2, 3, 4, 4, 4][calls], "after {calls} calls");
        let left = (
            house.value("old").await,
            house.value("theirs").await,
            house.value("new").await,
            house.value("created").await,
        );
        let before = || Some("before".to_owned());
        assert_eq!(left, (before(), before(), None, None), "after {calls} calls");
        assert_eq!(daemon.sweep().await, 0, "twice is as good as once");
    }
}

#[tokio::test]
async fn what_replaced_something_is_not_taken_back() {
    let house = House::new();
    changed(&house, 0).await;
    let daemon = house.start().await;
    let scope = daemon.begin("01").await;
    daemon.send(&scope, apply("new", "made")).await;
    daemon.send(&scope, delete("old")).await;
    std::mem::forget(daemon);
    let daemon = house.start().await;
    assert_eq!(daemon.recover().await, 0);
    assert_eq!(
        (house.value("old").await, house.value("new").await.as_deref()),
        (None, Some("made"))
    );
}

#[tokio::test]
async fn what_runs_the_image_that_is_current_is_not_taken_back() {
    let house = House::new();
    let sent = changed(&house, 2).await;
    let daemon = house.start().await;
    let scope = daemon.begin("01").await;
    for call in sent {
        daemon.send(&scope, call).await;
    }
    let append = ImagesCall::Append { app: "web".into(), image: "i:1".into() };
    daemon.chain.send(&scope, Call::Images(append)).await.map(drop).unwrap();
    std::mem::forget(daemon);
    let daemon = house.start().await;
    assert_eq!(daemon.recover().await, 0);
    assert_eq!(house.value("old").await.as_deref(), Some("after"));
}

#[tokio::test]
async fn what_an_operation_deleted_of_its_own_marks_nothing() {
    let house = House::new();
    changed(&house, 0).await;
    let daemon = house.start().await;
    let scope = daemon.begin("01").await;
    daemon.send(&scope, apply("new", "made")).await;
    daemon.send(&scope, delete("new")).await;
    daemon.send(&scope, apply("old", "after")).await;
    assert!(!daemon.store.operations_named("01").await.unwrap()[0].in_service);
    std::mem::forget(daemon);
    let daemon = house.start().await;
    assert_eq!(daemon.recover().await, 1);
    assert_eq!(house.value("old").await.as_deref(), Some("before"));
}

#[tokio::test]
async fn what_ended_well_stays() {
    let house = House::new();
    let sent = changed(&house, 3).await;
    let daemon = house.start().await;
    let scope = daemon.begin("01").await;
    for call in sent {
        daemon.send(&scope, call).await;
    }
    daemon.end("01", "done", None).await;
    assert_eq!(daemon.recover().await, 0);
    assert_eq!(house.value("old").await.as_deref(), Some("after"));
    assert!(daemon.store.touched_objects("01").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_plugin_that_says_why_it_failed_has_left_what_it_changed_on_purpose() {
    for (kind, old) in [(ProblemKind::UnitStartup, "after"), (ProblemKind::PluginFailed, "before")]
    {
        let house = House::new();
        let sent = changed(&house, 2).await;
        let daemon = house.start().await;
        let scope = daemon.begin("01").await;
        for call in sent {
            daemon.send(&scope, call).await;
        }
        daemon.end("01", "failed", Some(Problem::new(kind, "it failed"))).await;
        daemon.recover().await;
        assert_eq!(house.value("old").await.as_deref(), Some(old), "{kind:?}");
        assert_eq!(house.value("new").await, None, "{kind:?}");
    }
}

#[tokio::test]
async fn nothing_is_touched_that_cannot_be_written_down() {
    let house = House::new();
    changed(&house, 0).await;
    let daemon = house.start().await;
    let scope = daemon.begin("01").await;
    daemon.store.refuse_writes(true).await.unwrap();
    let error = daemon.try_send(&scope, apply("old", "after")).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("was not touched"), "{error}");
    assert_eq!(house.value("old").await.as_deref(), Some("before"));
}

#[tokio::test]
async fn what_a_later_operation_made_of_an_object_is_not_taken_back() {
    let house = House::new();
    changed(&house, 0).await;
    let daemon = house.start().await;
    let scope = daemon.begin("01").await;
    daemon.send(&scope, apply("old", "half")).await;
    std::mem::forget(daemon);
    let daemon = house.start().await;
    mark_interrupted(&daemon.store).await.unwrap();
    // The cluster did not answer until now, and somebody deployed in between.
    let scope = daemon.begin("02").await;
    daemon.send(&scope, apply("old", "whole")).await;
    daemon.end("02", "done", None).await;
    assert_eq!(daemon.sweep().await, 0);
    assert_eq!(house.value("old").await.as_deref(), Some("whole"));
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_asked_again_and_one_that_is_gone_is_not() {
    let house = House::new();
    changed(&house, 0).await;
    let daemon = house.start().await;
    let record = ClusterRecord {
        name: NORTH.into(),
        provisioner: "kubernetes".into(),
        ..Default::default()
    };
    daemon.store.put_cluster(record, true, Default::default()).await.unwrap();
    let scope = daemon.begin("01").await;
    daemon.send(&scope, apply("old", "half")).await;
    std::mem::forget(daemon);
    let daemon = house.start().await;
    mark_interrupted(&daemon.store).await.unwrap();
    // There is a record of it, but it is not given: its credentials cannot be used, say.
    daemon.clusters.take("kubernetes", NORTH);
    let taking = TakeBack::new(Arc::clone(&daemon.store), "test", Arc::clone(&daemon.clusters));
    let record = daemon.store.operations_named("01").await.unwrap().swap_remove(0);
    let taken = taking.take_back(&record).await.unwrap();
    assert_eq!((taken.count, taken.failures.len()), (0, 1));
    assert_eq!(daemon.store.touched_objects("01").await.unwrap().len(), 1);
    daemon.store.remove_cluster(NORTH, Default::default()).await.unwrap();
    let taken = taking.take_back(&record).await.unwrap();
    assert_eq!((taken.count, taken.failures.len()), (0, 0));
    assert!(daemon.store.touched_objects("01").await.unwrap().is_empty());
}

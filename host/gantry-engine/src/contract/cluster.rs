//! The suite that every cluster passes: what callers of [`Cluster`] may count on, one promise a function.
//!
//! A test of a cluster lists them all with [`cluster_contract!`](crate::cluster_contract!). Where clusters differ on purpose, the promise has a match on [`Kind`] with the reason
//! in it.

pub mod apply;
pub mod deletes;
pub mod lists;
pub mod objects;
pub mod patches;
pub mod pods;
pub mod watches;

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::timeout;

pub use super::{eventually, refused};
use crate::Cluster;
pub use crate::call::cluster::word;
use crate::call::cluster::{Change, DeleteOptions, Kind as ObjectKind, Patch, Selection};
use crate::cluster::Changes;

/// The label that everything of a fixture carries.
pub const MARK: &str = "contract.gantry/fixture";

/// Clusters with listed differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole one, with controllers.
    Kubernetes,
    /// Objects only: nothing runs, and what controllers do is done at once or not at all.
    Memory,
}

/// A cluster to be tested, with a namespace of the test's own.
#[derive(Clone)]
pub struct Fixture {
    /// The cluster.
    pub cluster: Arc<dyn Cluster>,
    /// Which differences it has.
    pub kind: Kind,
    /// The namespace.
    pub namespace: String,
    count: Arc<AtomicU32>,
}

/// The kind `ConfigMap`, which no controller looks at.
#[must_use]
pub fn config_maps() -> ObjectKind {
    ObjectKind::new("v1", "ConfigMap")
}

impl Fixture {
    /// A fixture in a namespace that no other has.
    #[must_use]
    pub fn new(cluster: Arc<dyn Cluster>, kind: Kind) -> Self {
        let namespace = format!("contract-{:016x}", getrandom::u64().expect("random numbers"));
        Self { cluster, kind, namespace, count: Arc::default() }
    }

    /// A name that nobody else uses.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", self.namespace, self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// An object of the core in the fixture's namespace, with its label.
    #[must_use]
    pub fn object(&self, kind: &str, name: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {
                "namespace": self.namespace,
                "name": name,
                "labels": {MARK: self.namespace},
            },
        })
    }

    /// A ConfigMap that holds one word.
    #[must_use]
    pub fn config_map(&self, name: &str, word: &str) -> Value {
        let mut object = self.object("ConfigMap", name);
        object["data"] = json!({"word": word});
        object
    }

    /// The fixture's objects.
    #[must_use]
    pub fn mine(&self) -> Selection {
        Selection {
            namespace: self.namespace.clone(),
            labels: format!("{MARK}={}", self.namespace),
            fields: String::new(),
        }
    }

    /// Makes an object and gives it as it is.
    pub async fn created(&self, object: &Value) -> Value {
        self.cluster.create(object, false).await.expect("an object is created")
    }

    /// Makes a ConfigMap and gives it as it is.
    pub async fn created_map(&self, name: &str, word: &str) -> Value {
        self.created(&self.config_map(name, word)).await
    }

    /// A ConfigMap as it is.
    pub async fn map(&self, name: &str) -> Value {
        let found = self.cluster.get(&config_maps(), &self.namespace, name).await;
        found.expect("the object is there")
    }

    /// Changes a ConfigMap.
    pub async fn merged(&self, name: &str, patch: Value) -> Value {
        let patch = Patch::Merge(patch);
        let cluster = &self.cluster;
        let patched = cluster.patch(&config_maps(), &self.namespace, name, "", &patch, false).await;
        patched.expect("the object is patched")
    }

    /// Deletes a ConfigMap.
    pub async fn delete_map(&self, name: &str) {
        let options = DeleteOptions::default();
        let deleted = self.cluster.delete(&config_maps(), &self.namespace, name, &options).await;
        deleted.expect("the object is deleted");
    }

    /// Whether a ConfigMap is there.
    pub async fn has_map(&self, name: &str) -> bool {
        match self.cluster.get(&config_maps(), &self.namespace, name).await {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), "not-found", "{error}");
                false
            }
        }
    }

    /// Watches the fixture's ConfigMaps.
    pub async fn watched(&self) -> Changes {
        self.cluster.watch(&config_maps(), &self.mine()).await.expect("a watch begins")
    }

    /// A pod that no node takes: nothing of it ever runs.
    pub async fn lonely_pod(&self, containers: &[&str]) -> String {
        match self.kind {
            // Nothing makes it there.
            Kind::Memory => {}
            // No pod is made before the namespace has it.
            Kind::Kubernetes => {
                eventually("the service account is there", || async {
                    let kind = ObjectKind::new("v1", "ServiceAccount");
                    self.cluster.get(&kind, &self.namespace, "default").await.is_ok()
                })
                .await;
            }
        }
        let name = self.name();
        let mut pod = self.object("Pod", &name);
        let containers: Vec<_> =
            containers.iter().map(|name| json!({"name": name, "image": "busybox:test"})).collect();
        pod["spec"] = json!({
            "nodeSelector": {"contract.gantry/none": "true"},
            "containers": containers,
        });
        self.created(&pod).await;
        name
    }

    async fn begin(&self) {
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": self.namespace, "labels": {MARK: self.namespace}},
        });
        self.created(&namespace).await;
    }

    async fn clear(&self) {
        let kind = ObjectKind::new("v1", "Namespace");
        let _ = self.cluster.delete(&kind, "", &self.namespace, &DeleteOptions::default()).await;
    }
}

/// A promise as a function.
pub type Promise = for<'a> fn(&'a Fixture) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Holds a cluster to a promise, and removes what that made also when it is broken.
pub async fn run(fixture: Fixture, promise: Promise) {
    fixture.begin().await;
    let kept = AssertUnwindSafe(promise(&fixture)).catch_unwind().await;
    fixture.clear().await;
    if let Err(broken) = kept {
        resume_unwind(broken);
    }
}

/// The next change of a watch, at most a minute later.
pub async fn next(changes: &mut Changes) -> Change {
    let change = timeout(Duration::from_secs(60), changes.next()).await;
    change.expect("a change in time").expect("the watch goes on").expect("no error")
}

/// The next change as a line: `+name`, `-name` or `listed`.
pub async fn told(changes: &mut Changes) -> String {
    match next(changes).await {
        Change::Applied(object) => format!("+{}", word(&object, "name")),
        Change::Deleted(object) => format!("-{}", word(&object, "name")),
        Change::Listed => "listed".to_owned(),
    }
}

/// Makes a test of each promise, for the cluster that an expression gives.
#[macro_export]
macro_rules! cluster_contract {
    ($fixture:expr) => {
        $crate::cluster_contract!(@tests $fixture;
            objects: what_is_created_is_read;
            objects: creating_twice_is_a_conflict;
            objects: a_name_may_be_generated;
            objects: an_absent_object_is_not_found;
            objects: an_unknown_kind_is_not_found;
            objects: an_object_in_an_absent_namespace_is_not_made;
            objects: a_kind_with_namespaces_needs_one;
            objects: a_kind_without_namespaces_takes_none;
            objects: what_does_not_say_what_it_is_is_invalid;
            objects: what_is_no_name_is_invalid;
            objects: a_dry_run_changes_nothing;
            apply: applying_makes_an_object;
            apply: applying_twice_is_as_good_as_once;
            apply: applying_removes_what_it_no_longer_says;
            apply: applying_leaves_what_others_said;
            apply: a_field_of_another_manager_is_a_conflict;
            apply: what_two_managers_want_alike_is_both_theirs;
            apply: an_object_with_a_uid_is_that_very_object;
            apply: an_object_with_a_version_is_of_that_version;
            apply: items_of_a_list_are_owned_by_their_keys;
            patches: a_merge_patch_sets_and_removes;
            patches: a_json_patch_is_done_as_a_whole;
            patches: a_strategic_patch_knows_the_keys_of_lists;
            patches: an_object_that_has_moved_on_is_a_conflict;
            patches: a_status_is_changed_on_its_own;
            patches: a_scale_is_a_subresource;
            patches: an_unknown_subresource_is_not_found;
            lists: objects_are_listed_by_their_labels;
            lists: objects_are_listed_by_their_fields;
            lists: a_list_has_pages;
            lists: every_namespace_is_listed;
            lists: what_is_listed_is_what_is_read;
            lists: what_is_no_selector_is_invalid;
            deletes: deleting_what_is_gone_succeeds;
            deletes: a_deletion_may_be_of_one_uid_or_version_only;
            deletes: a_finalizer_keeps_what_is_deleted;
            deletes: what_an_object_owns_goes_after_it;
            deletes: what_an_object_owns_goes_before_it;
            deletes: what_an_object_owns_stays_when_it_is_orphaned;
            watches: a_watch_starts_with_what_is_there;
            watches: a_watch_tells_what_happens_in_order;
            watches: a_watch_tells_what_leaves_its_selection;
            watches: a_watch_of_many_pages_tells_each_object_once;
            watches: a_watch_misses_nothing;
            watches: every_watch_is_told;
            watches: what_cannot_be_watched_is_refused_at_once;
            pods: evicting_what_is_gone_succeeds;
            pods: an_evicted_pod_goes;
            pods: an_absent_pod_is_not_found;
            pods: what_does_not_run_is_a_conflict;
            pods: a_container_is_named_when_there_are_several;
        );
    };
    (@tests $fixture:expr; $($module:ident: $promise:ident;)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let fixture: $crate::contract::cluster::Fixture = $fixture;
                $crate::contract::cluster::run(fixture, |fixture| {
                    Box::pin($crate::contract::cluster::$module::$promise(fixture))
                })
                .await;
            }
        )*
    };
}

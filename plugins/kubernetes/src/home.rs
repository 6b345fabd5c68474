//! Where an app lives: the cluster of its pool, and how it is spoken to (spec 7.1).

use gantry_sdk::cluster::{self, Client, ClusterInfo, DeleteOptions, Kind, Selection};
use gantry_sdk::config::Config;
use gantry_sdk::{Error, Result};
use serde_json::Value;

use crate::calls::{insist, insist_on_change};
use crate::cluster::{Cluster, Timeouts};
use crate::manifest::Defaults;

/// The kinds that this provisioner knows.
pub(crate) mod kinds {
    use gantry_sdk::cluster::Kind;

    macro_rules! kinds {
        ($($function:ident: $version:literal $kind:literal;)*) => {
            $(pub(crate) fn $function() -> Kind { Kind::new($version, $kind) })*
        };
    }

    kinds! {
        deployment: "apps/v1" "Deployment";
        replica_set: "apps/v1" "ReplicaSet";
        daemon_set: "apps/v1" "DaemonSet";
        pod: "v1" "Pod";
        service: "v1" "Service";
        node: "v1" "Node";
        event: "v1" "Event";
        persistent_volume: "v1" "PersistentVolume";
        persistent_volume_claim: "v1" "PersistentVolumeClaim";
    }
}

/// A cluster, spoken to.
#[derive(Debug)]
pub(crate) struct Home {
    /// What the operator says of it.
    pub(crate) info: ClusterInfo,
    /// The same, as far as it shapes objects.
    pub(crate) cluster: Cluster,
    /// How it is spoken to.
    pub(crate) client: Client,
    /// How long things may take.
    pub(crate) timeouts: Timeouts,
    /// What the operator configured for all pods.
    pub(crate) defaults: Defaults,
}

/// The cluster that runs the apps of a pool: the one that lists it, or the default one.
fn of_pool(clusters: Vec<ClusterInfo>, pool: &str) -> Option<ClusterInfo> {
    let (listing, others): (Vec<_>, Vec<_>) =
        clusters.into_iter().partition(|info| info.pools.iter().any(|listed| listed == pool));
    listing.into_iter().next().or_else(|| others.into_iter().find(|info| info.is_default))
}

/// What is told when no cluster runs the apps of a pool, and what to type next.
fn no_cluster(pool: &str) -> String {
    format!(
        "no cluster runs the pool `{pool}`: `gantry cluster add NAME --pool {pool}` gives it one"
    )
}

impl Home {
    /// The cluster of a pool.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) fn of_pool(pool: &str) -> Result<Self> {
        match of_pool(cluster::clusters(), pool) {
            Some(info) => Self::open(info),
            None => Err(Error::NotFound(no_cluster(pool))),
        }
    }

    /// Every cluster.
    ///
    /// # Errors
    ///
    /// One cannot be spoken to at all.
    pub(crate) fn all() -> Result<Vec<Self>> {
        cluster::clusters().into_iter().map(Self::open).collect()
    }

    fn open(info: ClusterInfo) -> Result<Self> {
        let client = Client::open(&info.name)?;
        let timeouts = Timeouts::from_settings(&Config);
        client.set_timeout(timeouts.api);
        let mut custom_data: gantry_sdk::Labels = info.custom_data.iter().cloned().collect();
        custom_data.insert("namespace".to_owned(), info.namespace.clone());
        let cluster = Cluster { name: info.name.clone(), custom_data };
        let defaults = Defaults::from_settings(&Config);
        Ok(Self { info, cluster, client, timeouts, defaults })
    }

    /// The namespace of the apps.
    pub(crate) fn namespace(&self) -> &str {
        self.cluster.namespace()
    }

    /// The same for a question that somebody waits for.
    pub(crate) fn hurried(self) -> Self {
        self.client.set_timeout(self.timeouts.api_short);
        self
    }

    /// The same for what follows.
    pub(crate) fn unhurried(self) -> Self {
        self.client.set_timeout(self.timeouts.api);
        self
    }

    /// The objects of a kind in the namespace that a label selector selects.
    ///
    /// # Errors
    ///
    /// The cluster refuses, or does not answer.
    pub(crate) fn list(&self, kind: &Kind, labels: &str) -> Result<Vec<Value>> {
        let selection = Selection::of(self.namespace()).labelled(labels);
        Ok(insist(|| self.client.list(kind, &selection))?.items)
    }

    /// An object of the namespace, if it is there.
    ///
    /// # Errors
    ///
    /// The cluster refuses, or does not answer.
    pub(crate) fn find(&self, kind: &Kind, name: &str) -> Result<Option<Value>> {
        Ok(insist(|| self.client.find(kind, self.namespace(), name))?)
    }

    /// The nodes that a label selector selects.
    ///
    /// # Errors
    ///
    /// The cluster refuses, or does not answer.
    pub(crate) fn nodes(&self, labels: &str) -> Result<Vec<Value>> {
        let selection = Selection::of("").labelled(labels);
        Ok(insist(|| self.client.list(&kinds::node(), &selection))?.items)
    }

    /// Makes an object what this one says.
    ///
    /// # Errors
    ///
    /// The cluster refuses, or does not answer.
    pub(crate) fn apply(&self, object: &Value) -> Result<Value> {
        Ok(insist_on_change(|| self.client.apply(object))?)
    }

    /// The same for many that do not wait for each other.
    ///
    /// # Errors
    ///
    /// The first that the cluster refuses, or does not answer.
    pub(crate) fn apply_all(&self, objects: &[Value]) -> Result<Vec<Value>> {
        crate::calls::insist_on_all(
            objects,
            |objects| self.client.apply_all(objects),
            |object| self.client.apply(object),
        )
    }

    /// Puts an object of the namespace back as it was before this request changed it, and gives it as it is now; none when there is none.
    ///
    /// # Errors
    ///
    /// The cluster refuses, or does not answer.
    pub(crate) fn put_back(&self, kind: &Kind, name: &str) -> Result<Option<Value>> {
        Ok(insist_on_change(|| self.client.put_back(kind, self.namespace(), name))?)
    }

    /// The same for many that do not wait for each other.
    ///
    /// # Errors
    ///
    /// The first that the cluster refuses, or does not answer.
    pub(crate) fn put_all_back(&self, all: &[(Kind, String)]) -> Result<()> {
        let place = |(kind, name): &(Kind, String)| {
            (kind.clone(), self.namespace().to_owned(), name.clone())
        };
        let places: Vec<_> = all.iter().map(place).collect();
        let back = crate::calls::insist_on_all(
            &places,
            |places| self.client.put_all_back(places),
            |(kind, namespace, name)| self.client.put_back(kind, namespace, name),
        );
        back.map(drop)
    }

    /// Many objects, each by kind, namespace and name; none where there is none.
    ///
    /// # Errors
    ///
    /// The first that the cluster refuses, or does not answer.
    pub(crate) fn find_all(&self, wanted: &[(Kind, String, String)]) -> Result<Vec<Option<Value>>> {
        let found = |answer: gantry_sdk::cluster::Result<Value>| match answer {
            Err(error) if error.is_not_found() => Ok(None),
            answer => answer.map(Some),
        };
        crate::calls::insist_on_all(
            wanted,
            |wanted| self.client.get_all(wanted).into_iter().map(found).collect(),
            |(kind, namespace, name)| self.client.find(kind, namespace, name),
        )
    }

    /// Deletes objects of a kind in the namespace, side by side and at once: one that waits for what it owns would still be there for the next change, which would apply to it, and then go.
    ///
    /// # Errors
    ///
    /// The first that the cluster refuses, or does not answer.
    pub(crate) fn delete_all(&self, kind: &Kind, names: Vec<String>) -> Result<()> {
        let options = DeleteOptions::default();
        let object = |name| (kind.clone(), self.namespace().to_owned(), name);
        let gone: Vec<_> = names.into_iter().map(object).collect();
        crate::calls::insist_on_all(
            &gone,
            |gone| self.client.delete_all(gone, &options),
            |(kind, namespace, name)| self.client.delete(kind, namespace, name, &options),
        )
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, pools: &[&str], is_default: bool) -> ClusterInfo {
        ClusterInfo {
            name: name.to_owned(),
            address: String::new(),
            pools: pools.iter().map(|pool| (*pool).to_owned()).collect(),
            is_default,
            namespace: "default".to_owned(),
            custom_data: Vec::new(),
        }
    }

    #[test]
    fn a_pool_lives_on_the_cluster_that_lists_it_or_on_the_default_one() {
        let all = || vec![info("a", &[], true), info("b", &["p1", "p2"], false)];
        let of = |pool: &str| of_pool(all(), pool).map(|info| info.name);
        assert_eq!(of("p2").as_deref(), Some("b"));
        assert_eq!(of("other").as_deref(), Some("a"));
        assert!(of_pool(vec![info("b", &["p1"], false)], "other").is_none());
        assert!(of_pool(Vec::new(), "p1").is_none());
    }

    #[test]
    fn a_pool_without_a_cluster_is_named_with_what_to_type() {
        assert_eq!(
            no_cluster("prod"),
            "no cluster runs the pool `prod`: `gantry cluster add NAME --pool prod` gives it one"
        );
    }
}

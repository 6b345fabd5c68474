//! Which cluster runs what is in a pool, and what a change of clusters would leave where nobody looks for it any more.
//!
//! Pure: records in, records and names out.

use std::collections::BTreeMap;

use super::ClusterRecord;
use crate::store::InPool;

/// The namespace of a cluster that names none.
const NAMESPACE: &str = "default";

/// What would be left in a cluster that its pool has no more to do with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftBehind {
    /// The cluster.
    pub(crate) cluster: String,
    /// The namespace there.
    pub(crate) namespace: String,
    /// The apps and the volumes.
    pub(crate) left: InPool,
}

/// What a resident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Being {
    App,
    Volume,
}

/// An app or a volume that may have something in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resident {
    pub(super) being: Being,
    pub(super) name: String,
    pub(super) provisioner: String,
    pub(super) pool: String,
}

impl ClusterRecord {
    /// The namespace for apps.
    pub(crate) fn namespace(&self) -> &str {
        self.custom_data.get("namespace").map_or(NAMESPACE, String::as_str)
    }
}

/// The cluster that lists a pool, else the default one.
pub(crate) fn of_pool<'a>(
    records: &'a [ClusterRecord],
    provisioner: &str,
    pool: &str,
) -> Option<&'a ClusterRecord> {
    let of = || records.iter().filter(|record| record.provisioner == provisioner);
    let listing = of().find(|record| record.pools.iter().any(|one| one == pool));
    listing.or_else(|| of().find(|record| record.is_default))
}

/// The clusters once there is this one: its pools, and being the default if it is, are taken away from the others of its provisioner.
pub(super) fn with(before: &[ClusterRecord], record: &ClusterRecord) -> Vec<ClusterRecord> {
    let mut after = without(before, &record.name);
    for other in after.iter_mut().filter(|one| one.provisioner == record.provisioner) {
        other.pools.retain(|pool| !record.pools.contains(pool));
        other.is_default &= !record.is_default;
    }
    after.push(record.clone());
    after
}

/// The clusters without one.
pub(super) fn without(before: &[ClusterRecord], name: &str) -> Vec<ClusterRecord> {
    before.iter().filter(|one| one.name != name).cloned().collect()
}

/// What is in a cluster and would be looked for elsewhere. What has no cluster is nowhere, and may be given one.
pub(super) fn left_behind(
    before: &[ClusterRecord],
    after: &[ClusterRecord],
    residents: Vec<Resident>,
) -> Vec<LeftBehind> {
    let home = |records: &[ClusterRecord], resident: &Resident| {
        let found = of_pool(records, &resident.provisioner, &resident.pool)?;
        Some((found.name.clone(), found.namespace().to_owned()))
    };
    let mut homes: BTreeMap<(String, String), InPool> = BTreeMap::new();
    for resident in residents {
        let Some(here) = home(before, &resident) else { continue };
        if home(after, &resident).as_ref() == Some(&here) {
            continue;
        }
        let left = homes.entry(here).or_default();
        let names = match resident.being {
            Being::App => &mut left.apps,
            Being::Volume => &mut left.volumes,
        };
        if !names.contains(&resident.name) {
            names.push(resident.name);
        }
    }
    let homes = homes.into_iter();
    homes.map(|((cluster, namespace), left)| LeftBehind { cluster, namespace, left }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str, provisioner: &str, pools: &[&str]) -> ClusterRecord {
        ClusterRecord {
            name: name.into(),
            provisioner: provisioner.into(),
            is_default: pools.is_empty(),
            pools: pools.iter().map(|pool| (*pool).to_owned()).collect(),
            ..ClusterRecord::default()
        }
    }

    #[test]
    fn a_pool_is_run_by_the_cluster_that_lists_it_and_else_by_the_default_one() {
        let records = [
            cluster("all", "k", &[]),
            cluster("one", "k", &["a"]),
            cluster("other", "x", &["a", "b"]),
        ];
        for (provisioner, pool, expected) in [
            ("k", "a", Some("one")),
            ("k", "b", Some("all")),
            ("x", "b", Some("other")),
            ("x", "c", None),
        ] {
            let found = of_pool(&records, provisioner, pool);
            let found = found.map(|record| record.name.as_str());
            assert_eq!(found, expected, "{provisioner} {pool}");
        }
    }

    fn some(names: &[String]) -> Vec<&str> {
        names.iter().map(String::as_str).collect()
    }

    #[test]
    fn what_would_be_looked_for_elsewhere_is_left_behind() {
        let resident = |being, name: &str, provisioner: &str, pool: &str| Resident {
            being,
            name: name.into(),
            provisioner: provisioner.into(),
            pool: pool.into(),
        };
        let residents = || {
            vec![
                resident(Being::App, "listed", "k", "a"),
                resident(Being::App, "other", "k", "z"),
                resident(Being::App, "theirs", "x", "a"),
                resident(Being::Volume, "data", "k", "a"),
                // On its way from one pool of the cluster to another.
                resident(Being::App, "listed", "k", "b"),
            ]
        };
        let before = [
            cluster("all", "k", &[]),
            cluster("one", "k", &["a", "b"]),
            cluster("none", "k", &["c"]),
        ];
        let named = |mut record: ClusterRecord| {
            record.custom_data.insert("namespace".into(), "shop".into());
            record
        };
        let moved = |mut record: ClusterRecord| {
            record.place.addresses = vec!["https://elsewhere".into()];
            record.custom_data.insert("overcommit-factor".into(), "2".into());
            record
        };
        let one = ("one", vec!["listed"], vec!["data"]);
        let all = ("all", vec!["other"], vec![]);
        let cases = [
            ("nothing changes", with(&before, &before[1]), vec![]),
            ("it is elsewhere", with(&before, &moved(before[1].clone())), vec![]),
            ("more pools", with(&before, &cluster("one", "k", &["a", "b", "d"])), vec![]),
            (
                "a pool is taken",
                with(&before, &cluster("new", "k", &["a", "b"])),
                vec![one.clone()],
            ),
            ("pools are given up", with(&before, &cluster("one", "k", &["d"])), vec![one.clone()]),
            ("the namespace", with(&before, &named(before[1].clone())), vec![one.clone()]),
            ("the default", with(&before, &cluster("new", "k", &[])), vec![all.clone()]),
            ("it becomes the default", with(&before, &cluster("one", "k", &[])), vec![all.clone()]),
            ("it goes", without(&before, "one"), vec![one.clone()]),
            ("the default goes", without(&before, "all"), vec![all]),
            ("one goes that has nothing", without(&before, "none"), vec![]),
            ("somebody else's", with(&before, &cluster("new", "x", &["a"])), vec![]),
        ];
        for (case, after, expected) in cases {
            let left = left_behind(&before, &after, residents());
            let told: Vec<(&str, Vec<&str>, Vec<&str>)> = left
                .iter()
                .map(|one| (one.cluster.as_str(), some(&one.left.apps), some(&one.left.volumes)))
                .collect();
            assert_eq!(told, expected, "{case}");
        }
        // What was nowhere may be given a cluster.
        let after = with(&[], &before[1]);
        assert_eq!(left_behind(&[], &after, residents()), []);
    }
}

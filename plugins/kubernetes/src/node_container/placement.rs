//! Which nodes a node container runs on (spec 6.4, 7.10).

use gantry_sdk::Labels;
use serde_json::{Value, json};

use crate::PREFIX;

/// Where old clusters read the placement of pods.
const AFFINITY_ANNOTATION: &str = "scheduler.alpha.kubernetes.io/affinity";

/// The nodes that something runs on: of some pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pools {
    /// All pools but these.
    Except(Vec<String>),
    /// This pool.
    Only(String),
}

/// One DaemonSet to be looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The pool whose entry it is; empty for the base.
    pub pool: String,
    /// The nodes it runs on.
    pub pools: Pools,
    /// Whether one that is there is only placed, and not made anew.
    pub placement_only: bool,
}

/// What an upgrade looks after: everything, or one pool's DaemonSet, and then the base is only kept off that pool. `configured` are the pools with an entry, the base as the empty
/// name.
pub fn upgrade<'a>(configured: impl IntoIterator<Item = &'a str>, pool: &str) -> Vec<Placement> {
    placements(configured, |entry| {
        if pool.is_empty() || entry == pool {
            Some(false)
        } else {
            entry.is_empty().then_some(true)
        }
    })
}

/// What is looked after before an app changes: everything must be there, nothing is made anew.
pub fn ensure<'a>(configured: impl IntoIterator<Item = &'a str>) -> Vec<Placement> {
    placements(configured, |_| Some(true))
}

fn placements<'a>(
    configured: impl IntoIterator<Item = &'a str>,
    placement_only: impl Fn(&str) -> Option<bool>,
) -> Vec<Placement> {
    let mut entries: Vec<&str> = configured.into_iter().collect();
    entries.sort_unstable();
    entries.dedup();
    let own: Vec<String> =
        entries.iter().filter(|pool| !pool.is_empty()).map(|pool| (*pool).to_owned()).collect();
    let one = |pool: &str| {
        let pools =
            if pool.is_empty() { Pools::Except(own.clone()) } else { Pools::Only(pool.to_owned()) };
        let placement_only = placement_only(pool)?;
        Some(Placement { pool: pool.to_owned(), pools, placement_only })
    };
    entries.iter().filter_map(|pool| one(pool)).collect()
}

/// Which nodes a pod has to run on.
pub(super) fn affinity(pools: &Pools) -> Value {
    let key = format!("{PREFIX}pool");
    let mut expressions = vec![json!({"key": key, "operator": "Exists"})];
    match pools {
        Pools::Except(pools) if pools.is_empty() => {}
        Pools::Except(pools) => {
            expressions.push(json!({"key": key, "operator": "NotIn", "values": pools}));
        }
        Pools::Only(pool) => {
            expressions.push(json!({"key": key, "operator": "In", "values": [pool]}));
        }
    }
    let terms = json!([{"matchExpressions": expressions}]);
    json!({"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
    }})
}

/// The placement as an annotation tells it.
pub(super) fn affinity_annotation(affinity: &Value) -> Labels {
    Labels::from([(AFFINITY_ANNOTATION.to_owned(), affinity.to_string())])
}

/// What places a DaemonSet that is there, as a merge patch; none when it is where it should be.
pub fn place(existing: &Value, pools: &Pools) -> Option<Value> {
    let affinity = affinity(pools);
    if existing.pointer("/spec/template/spec/affinity") == Some(&affinity) {
        return None;
    }
    Some(json!({"spec": {"template": {
        "metadata": {"annotations": affinity_annotation(&affinity)},
        "spec": {"affinity": affinity},
    }}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(placements: &[Placement]) -> Vec<String> {
        let one = |Placement { pool, pools, placement_only }: &Placement| {
            let pools = match pools {
                Pools::Except(pools) => format!("not {}", pools.join(",")),
                Pools::Only(pool) => format!("in {pool}"),
            };
            format!("{pool}: {pools}{}", if *placement_only { ", placed" } else { "" })
        };
        placements.iter().map(one).collect()
    }

    #[test]
    fn the_base_runs_where_no_pool_has_its_own() {
        let all = upgrade(["p2", "", "p1"], "");
        assert_eq!(shown(&all), [": not p1,p2", "p1: in p1", "p2: in p2"]);
        assert_eq!(shown(&upgrade([""], "")), [": not "]);
    }

    #[test]
    fn an_upgrade_of_one_pool_only_places_the_base() {
        let one = upgrade(["", "p1", "p2"], "p2");
        assert_eq!(shown(&one), [": not p1,p2, placed", "p2: in p2"]);
        assert_eq!(shown(&upgrade(["", "p1"], "unknown")), [": not p1, placed"]);
        assert_eq!(shown(&ensure(["", "p1"])), [": not p1, placed", "p1: in p1, placed"]);
    }

    #[test]
    fn what_is_where_it_should_be_stays() {
        let pools = Pools::Except(vec!["p1".to_owned()]);
        let placed = json!({"spec": {"template": {"spec": {"affinity": affinity(&pools)}}}});
        assert_eq!(place(&placed, &pools), None);
        let patch = place(&placed, &Pools::Only("p1".to_owned())).unwrap();
        let template = &patch["spec"]["template"];
        let annotation = template["metadata"]["annotations"][AFFINITY_ANNOTATION].as_str().unwrap();
        assert_eq!(annotation, template["spec"]["affinity"].to_string());
        assert!(place(&json!({}), &pools).is_some());
    }
}

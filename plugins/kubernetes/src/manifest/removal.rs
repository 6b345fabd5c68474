//! What to delete of an app and of a node container (spec 7.4, 7.10). That something is not there is fine.

use gantry_sdk::Labels;

use crate::name;
use crate::object::selector;

/// Objects to be deleted, all in the namespace of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The object of this name, and what belongs to it before it.
    Named {
        /// The version of its kind.
        api_version: &'static str,
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// All objects of this kind with these labels.
    Selected {
        /// The version of the kind.
        api_version: &'static str,
        /// The kind.
        kind: &'static str,
        /// Which ones.
        selector: String,
    },
}

impl Removal {
    fn named(api_version: &'static str, kind: &'static str, name: String) -> Self {
        Self::Named { api_version, kind, name }
    }

    fn selected(api_version: &'static str, kind: &'static str, labels: &Labels) -> Self {
        Self::Selected { api_version, kind, selector: selector(labels) }
    }
}

/// Everything of a process, by the labels of its units, which all of it has: the name of a Service may be that of another process' too. In this order: what leads to the units goes before
/// them, so that a process of which something is left has a Deployment, by which it is found, and what makes others goes before those.
pub fn of_process(labels: &Labels) -> Vec<Removal> {
    vec![
        Removal::selected("v1", "Service", labels),
        Removal::selected("apps/v1", "Deployment", labels),
        Removal::selected("apps/v1", "ReplicaSet", labels),
        Removal::selected("v1", "Pod", labels),
    ]
}

/// All pods that a selector selects.
pub fn pods(selector: &str) -> Removal {
    Removal::Selected { api_version: "v1", kind: "Pod", selector: selector.to_owned() }
}

/// What stays of an app when its processes are gone (design 10.13).
pub fn of_app(app: &str) -> Vec<Removal> {
    vec![Removal::named("v1", "ServiceAccount", name::app_account(app))]
}

/// A node container in a pool, or in the base when that is empty; `pods` selects its pods.
pub fn of_node_container(node_container: &str, pool: &str, pods: &Labels) -> Vec<Removal> {
    vec![
        Removal::named("apps/v1", "DaemonSet", name::daemon_set(node_container, pool)),
        Removal::selected("v1", "Pod", pods),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_units_goes_first_and_then_what_makes_them() {
        let labels =
            ["app-name", "app-process"].map(|key| (format!("tsuru.io/{key}"), "x".to_owned()));
        let removals = of_process(&Labels::from(labels));
        let shown: Vec<String> = removals
            .into_iter()
            .map(|removal| match removal {
                Removal::Named { kind, name, .. } => format!("{kind} {name}"),
                Removal::Selected { kind, selector, .. } => format!("{kind}s {selector}"),
            })
            .collect();
        let selector = "tsuru.io/app-name=x,tsuru.io/app-process=x";
        assert_eq!(
            shown,
            ["Service", "Deployment", "ReplicaSet", "Pod"]
                .map(|kind| format!("{kind}s {selector}"))
        );
        assert_eq!(of_app("A"), [Removal::named("v1", "ServiceAccount", "app-a".to_owned())]);
        let of_all = of_node_container("bs", "", &Labels::new());
        let set = Removal::named("apps/v1", "DaemonSet", "node-container-bs-all".to_owned());
        assert_eq!(of_all.first(), Some(&set));
    }
}

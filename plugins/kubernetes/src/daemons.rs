//! Node containers as DaemonSets (spec 6.4, 7.10): what is configured, brought onto every cluster.

use gantry_sdk::gantry_core::labels::{NodeContainerOptions, ServiceAccountOptions};
use gantry_sdk::gantry_core::node::{
    CONFIG_KEY, NodeContainer, NodeContainerPools, NodeContainers,
};
use gantry_sdk::{Error, Labels, Result, config, labels, operation};
use serde_json::Value;

use crate::failures::Failures;
use crate::home::{Home, kinds};
use crate::manifest::{account, removal};
use crate::node_container::{self, Placement};
use crate::object::plain;
use crate::{PREFIX, PROVISIONER, name, service};

fn configured() -> Result<NodeContainers> {
    NodeContainers::read(config::get(CONFIG_KEY).as_ref())
        .map_err(|error| Error::InvalidArgument(error.to_string()))
}

/// Sees to it that every node container is there, without touching those that are, but for where they run.
///
/// # Errors
///
/// The cluster refuses, or does not answer.
pub(crate) fn ensure(home: &Home) -> Result<()> {
    for (name, pools) in configured()?.iter() {
        let placements = node_container::ensure(pools.pools());
        place(home, name, pools, &placements, false)?;
    }
    Ok(())
}

/// Brings the node containers of a name to what is configured now, on every cluster.
///
/// # Errors
///
/// Nothing is configured under this name, or what clusters refused, all of it.
pub(crate) fn upgrade(name: &str, pool: &str) -> Result<()> {
    let all = configured()?;
    let pools = all.get(name).ok_or_else(|| {
        Error::NotFound(format!("no node container `{name}` in the configuration"))
    })?;
    let placements = node_container::upgrade(pools.pools(), pool);
    on_every_cluster(|home| place(home, name, pools, &placements, true))
}

fn on_every_cluster(work: impl Fn(&Home) -> Result<()>) -> Result<()> {
    let mut failures = Failures::default();
    for home in Home::all()? {
        failures.note(work(&home), |error| format!("cluster `{}`: {error}", home.info.name));
    }
    failures.end()
}

fn place(
    home: &Home,
    name: &str,
    pools: &NodeContainerPools,
    placements: &[Placement],
    told: bool,
) -> Result<()> {
    for placement in placements {
        let container = pools.of_pool(&placement.pool);
        if told {
            operation::progress(&container.headline(name, &placement.pool));
        }
        if container.is_valid() {
            put(home, &container, placement)?;
        }
    }
    Ok(())
}

fn put(home: &Home, container: &NodeContainer, placement: &Placement) -> Result<()> {
    let namespace = home.namespace();
    let existing =
        home.find(&kinds::daemon_set(), &name::daemon_set(&container.name, &placement.pool))?;
    if placement.placement_only
        && let Some(existing) = &existing
    {
        return match node_container::place(existing, &placement.pools) {
            Some(patch) => {
                let mut moved = plain(existing);
                merge(&mut moved, &patch);
                home.apply(&moved).map(drop)
            }
            None => Ok(()),
        };
    }
    let set = labels::node_container(&NodeContainerOptions {
        name: &container.name,
        custom_labels: &container.labels,
        pool: &placement.pool,
        provisioner: PROVISIONER,
        prefix: PREFIX,
    });
    let account_set = labels::service_account(&ServiceAccountOptions {
        app_name: None,
        node_container_name: &container.name,
        provisioner: PROVISIONER,
        prefix: PREFIX,
    });
    home.apply(&account::of_node_container(&container.name, namespace, &account_set))?;
    home.apply(&node_container::daemon_set(container, placement, namespace, &set)).map(drop)
}

/// Makes of an object what a merge patch says (RFC 7386).
fn merge(object: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(serde_json::Map::new());
    }
    let Some(map) = object.as_object_mut() else { return };
    for (key, value) in fields {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Removes the node containers of a name, in one pool or in every one, from every cluster.
///
/// # Errors
///
/// What clusters refused, all of it.
pub(crate) fn remove(container: &str, pool: &str) -> Result<()> {
    on_every_cluster(|home| {
        let label = |key: &str, value: &str| (format!("{PREFIX}{key}"), value.to_owned());
        let selector = Labels::from([label("node-container-name", container)]);
        let sets = home.list(&kinds::daemon_set(), &crate::object::selector(&selector))?;
        let pools: Vec<String> = sets
            .iter()
            .map(|set| {
                let labels = crate::object::texts(set, "/metadata/labels");
                labels.get(&format!("{PREFIX}node-container-pool")).cloned().unwrap_or_default()
            })
            .filter(|of| pool.is_empty() || of == pool)
            .collect();
        let left = sets.len() > pools.len();
        for pool in pools {
            let pods = Labels::from([
                label("node-container-name", container),
                label("node-container-pool", &pool),
            ]);
            service::delete(home, &removal::of_node_container(container, &pool, &pods))?;
        }
        if left {
            return Ok(());
        }
        // The account goes with the last of them.
        service::delete(
            home,
            &[removal::Removal::Named {
                api_version: "v1",
                kind: "ServiceAccount",
                name: name::node_container_account(container),
            }],
        )
    })
}

//! Node containers as DaemonSets (spec 6.4, 7.10): what is configured, brought onto every cluster.

use std::collections::BTreeMap;

use gantry_sdk::gantry_core::labels::{NodeContainerOptions, ServiceAccountOptions};
use gantry_sdk::{Error, Labels, Result, config, labels, operation};
use serde_json::Value;

use crate::failures::Failures;
use crate::home::{Home, kinds};
use crate::manifest::{account, removal};
use crate::node_container::{self, NodeContainer, Placement};
use crate::object::plain;
use crate::{PREFIX, PROVISIONER, name, service};

/// Where they are configured: by name, in it by pool ("" is every pool without one of its own).
const KEY: &str = "node-containers";

/// What is configured of one name, by pool.
type ByPool = BTreeMap<String, NodeContainer>;

/// Everything that is configured, by name.
fn configured() -> Result<BTreeMap<String, ByPool>> {
    let Some(value) = config::get(KEY) else { return Ok(BTreeMap::new()) };
    read(&value)
}

fn read(value: &Value) -> Result<BTreeMap<String, ByPool>> {
    let wrong =
        |what: &str| Error::InvalidArgument(format!("`{KEY}` of the configuration: {what}"));
    let names = value.as_object().ok_or_else(|| wrong("no table by name"))?;
    let mut all = BTreeMap::new();
    for (name, pools) in names {
        let pools = pools.as_object().ok_or_else(|| wrong("no table by pool"))?;
        let mut by_pool = ByPool::new();
        for (pool, entry) in pools {
            by_pool.insert(pool.clone(), container(name, entry));
        }
        all.insert(name.clone(), by_pool);
    }
    Ok(all)
}

/// One entry: Docker's words, as the reference's records have them.
fn container(name: &str, entry: &Value) -> NodeContainer {
    use crate::object::{text, texts};
    let list = |pointer: &str| -> Vec<String> {
        let items = crate::object::items(entry, pointer);
        items.iter().filter_map(|item| Some(item.as_str()?.to_owned())).collect()
    };
    let is = |pointer: &str| entry.pointer(pointer).and_then(Value::as_bool);
    NodeContainer {
        name: name.to_owned(),
        image: text(entry, "/image").to_owned(),
        pinned_image: text(entry, "/pinned-image").to_owned(),
        disabled: is("/disabled"),
        entrypoint: list("/config/entrypoint"),
        command: list("/config/cmd"),
        env: list("/config/env"),
        labels: texts(entry, "/config/labels"),
        working_dir: text(entry, "/config/working-dir").to_owned(),
        tty: is("/config/tty").unwrap_or_default(),
        privileged: is("/host-config/privileged").unwrap_or_default(),
        network_mode: text(entry, "/host-config/network-mode").to_owned(),
        restart_policy: text(entry, "/host-config/restart-policy").to_owned(),
        binds: list("/host-config/binds"),
    }
}

/// What runs in a pool: its own entry over the base.
fn of_pool(by_pool: &ByPool, name: &str, pool: &str) -> NodeContainer {
    let none = NodeContainer { name: name.to_owned(), ..NodeContainer::default() };
    let base = by_pool.get("").unwrap_or(&none);
    match by_pool.get(pool) {
        Some(own) if !pool.is_empty() => own.over(base),
        Some(_) | None => base.clone(),
    }
}

/// Sees to it that every node container is there, without touching those that are, but for where they run.
///
/// # Errors
///
/// The cluster refuses, or does not answer.
pub(crate) fn ensure(home: &Home) -> Result<()> {
    for (name, by_pool) in configured()? {
        let placements = node_container::ensure(by_pool.keys().map(String::as_str));
        place(home, &name, &by_pool, &placements, false)?;
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
    let by_pool = all.get(name).ok_or_else(|| {
        Error::NotFound(format!("no node container `{name}` in the configuration"))
    })?;
    let placements = node_container::upgrade(by_pool.keys().map(String::as_str), pool);
    on_every_cluster(|home| place(home, name, by_pool, &placements, true))
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
    by_pool: &ByPool,
    placements: &[Placement],
    told: bool,
) -> Result<()> {
    for placement in placements {
        let container = of_pool(by_pool, name, &placement.pool);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_read_in_dockers_words() {
        let all = read(&json!({"bs": {
            "": {"image": "bs:v1", "config": {"env": ["A=1"], "cmd": ["run"]},
                 "host-config": {"privileged": true, "binds": ["/proc:/prochost:ro"]}},
            "p1": {"image": "bs:v2"},
        }}))
        .unwrap();
        let by_pool = &all["bs"];
        let base = of_pool(by_pool, "bs", "");
        assert_eq!((base.image.as_str(), base.privileged), ("bs:v1", true));
        let own = of_pool(by_pool, "bs", "p1");
        assert_eq!((own.image.as_str(), own.env.len(), own.binds.len()), ("bs:v2", 1, 1));
        assert_eq!(of_pool(by_pool, "bs", "other"), base);
        assert!(read(&json!([])).is_err());
        assert!(read(&json!({"bs": 1})).is_err());
    }
}

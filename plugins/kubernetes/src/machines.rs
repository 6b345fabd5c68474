//! Nodes of clusters: told, added, changed, drained and removed (spec 7.7).

use std::time::{Duration, Instant};

use gantry_sdk::cluster::{ClusterError, DeleteOptions, Selection};
use gantry_sdk::gantry_core::node::{
    AddNodeOptions, Node, NodeStatusData, RemoveNodeOptions, UpdateNodeOptions, find_node_by_addrs,
};
use gantry_sdk::{Error, NodePage, Result, Unit, log, operation};
use serde_json::Value;

use crate::calls::insist;
use crate::home::{Home, kinds};
use crate::object::{is_leaving, items, merge_patch, name, text};
use crate::{PREFIX, node, unit};

/// How many nodes a page has.
const PAGE: u32 = 250;

/// Some of the nodes of every cluster; only those with one of these addresses when there is a list. A cluster that refuses or does not answer is told, and hides no other's.
///
/// # Errors
///
/// A cluster cannot be spoken to at all.
pub(crate) fn list(addresses: Option<&[String]>, after: Option<&str>) -> Result<NodePage> {
    let homes = Home::all()?;
    let (index, token) = after.and_then(|after| after.split_once(':')).unwrap_or(("0", ""));
    let index: usize = index.parse().unwrap_or(usize::MAX);
    let count = homes.len();
    let Some(home) = homes.into_iter().nth(index).map(Home::hurried) else {
        return Ok(NodePage::default());
    };
    let selection = Selection::of("");
    let mut problems = Vec::new();
    let asked = home.client.page(&kinds::node(), &selection, PAGE, token);
    let (items, next) = asked.unwrap_or_else(|error| {
        problems.push(format!("the cluster `{}`: {error}", home.info.name));
        (Vec::new(), None)
    });
    let nodes = items
        .iter()
        .map(|object| node::wrap(object, &home.info.name))
        .filter(|node| addresses.is_none_or(|wanted| wanted.contains(&node.address)))
        .collect();
    let next = match next {
        Some(token) => Some(format!("{index}:{token}")),
        None => {
            let index = index.saturating_add(1);
            (index < count).then(|| format!("{index}:"))
        }
    };
    Ok(NodePage { nodes, next, problems })
}

/// A node of a cluster.
struct Found {
    home: Home,
    object: Value,
}

/// The node with an address, over all clusters. One that does not answer at once is asked last, and with patience.
fn find(address: &str) -> Result<Found> {
    let among = |nodes: &[Value]| node::find(nodes, address).cloned();
    let mut silent = Vec::new();
    for home in Home::all()? {
        let home = home.hurried();
        match home.client.list(&kinds::node(), &Selection::of("")) {
            Ok(list) => {
                if let Some(object) = among(&list.items) {
                    return Ok(Found { home: home.unhurried(), object });
                }
            }
            Err(_) => silent.push(home.unhurried()),
        }
    }
    let mut failure = None;
    for home in silent {
        match home.nodes("") {
            Ok(nodes) => {
                if let Some(object) = among(&nodes) {
                    return Ok(Found { home, object });
                }
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or(Error::NodeNotFound))
}

/// The node with an address.
///
/// # Errors
///
/// There is none, or a cluster does not answer.
pub(crate) fn get(address: &str) -> Result<Node> {
    let Found { home, object } = find(address)?;
    Ok(node::wrap(&object, &home.info.name))
}

/// The pods on a node that a label selector selects.
fn pods_on(home: &Home, node: &str, labels: &str) -> Result<Vec<Value>> {
    let selection = Selection::of(home.namespace())
        .labelled(labels)
        .with_fields(format!("spec.nodeName={node}"));
    Ok(insist(|| home.client.list(&kinds::pod(), &selection))?.items)
}

/// The units on a node.
///
/// # Errors
///
/// No such node, or a cluster does not answer.
pub(crate) fn units(address: &str) -> Result<Vec<Unit>> {
    let Found { home, object } = find(address)?;
    let mut pods = Vec::new();
    for home in std::iter::once(&home).chain(&sharing(&home, &object)?) {
        pods.extend(pods_on(home, name(&object), &format!("{PREFIX}is-service=true"))?);
    }
    let apps: Vec<String> =
        pods.iter().map(|pod| crate::object::label_set(pod).app_name().to_owned()).collect();
    let apps: Vec<&str> = apps.iter().map(String::as_str).collect();
    Ok(unit::units(&pods, &apps, std::slice::from_ref(&object), &[]))
}

/// Makes a node of the cluster what it is to be, by what has changed.
fn change(home: &Home, before: &Value, wanted: &Value) -> Result<Value> {
    let mut patch = merge_patch(before, wanted);
    if patch.as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(before.clone());
    }
    // What somebody else changed in between is not taken back.
    let version = text(before, "/metadata/resourceVersion");
    if let Some(metadata) = patch.as_object_mut() {
        let metadata = metadata.entry("metadata").or_insert_with(|| serde_json::json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("resourceVersion".to_owned(), version.into());
        }
    }
    Ok(insist(|| home.client.merge(&kinds::node(), "", name(before), &patch))?)
}

/// Changes a node by a rule, and again when somebody else was faster.
fn changed(home: &Home, node: &str, rule: impl Fn(&Value) -> Value) -> Result<Value> {
    const TRIES: u32 = 5;
    let mut tries = 0_u32;
    loop {
        let now = insist(|| home.client.get(&kinds::node(), "", node))?;
        match change(home, &now, &rule(&now)) {
            Err(Error::Conflict(_)) if tries < TRIES => tries = tries.saturating_add(1),
            result => return result,
        }
    }
}

/// Adds a node, or updates the one that is there.
///
/// # Errors
///
/// There is no cluster for its pool, or it refuses.
pub(crate) fn add(options: &AddNodeOptions) -> Result<()> {
    let AddNodeOptions { address, pool, iaas_id, metadata, .. } = options;
    let addition = node::Addition { address, pool, iaas_id, metadata };
    match find(address) {
        Ok(Found { home, object }) => {
            changed(&home, name(&object), |now| node::add(Some(now), &addition))?;
            wait_ready(&home, name(&object), options.wait)
        }
        Err(Error::NodeNotFound) => {
            let home = Home::of_pool(pool)?;
            let wanted = node::add(None, &addition);
            let created = home.client.create(&wanted)?;
            wait_ready(&home, name(&created), options.wait)
        }
        Err(error) => Err(error),
    }
}

/// Waits until a node is ready, for as long as somebody wants to.
fn wait_ready(home: &Home, node: &str, seconds: u32) -> Result<()> {
    if seconds == 0 {
        return Ok(());
    }
    let (began, time) = (Instant::now(), Duration::from_secs(u64::from(seconds)));
    loop {
        let now = insist(|| home.client.get(&kinds::node(), "", node))?;
        let status = node::status(&now);
        if status == "Ready" {
            return Ok(());
        }
        if began.elapsed() >= time {
            return Err(Error::TimedOut(format!("the node `{node}` is not ready: {status}")));
        }
        operation::pause(Duration::from_millis(500))?;
    }
}

/// Changes a node.
///
/// # Errors
///
/// No such node, or the cluster refuses.
pub(crate) fn update(options: &UpdateNodeOptions) -> Result<()> {
    let UpdateNodeOptions { address, pool, metadata, enable, disable } = options;
    let update = node::Update { pool, metadata, enable: *enable, disable: *disable };
    let Found { home, object } = find(address)?;
    changed(&home, name(&object), |now| node::update(now, &update)).map(drop)
}

/// Removes a node, after its units have moved away when that is wanted. When one cannot, the node stays as it was.
///
/// # Errors
///
/// No such node, a unit that cannot leave, or the cluster refuses.
pub(crate) fn remove(options: &RemoveNodeOptions) -> Result<()> {
    let Found { home, object } = find(&options.address)?;
    let node = name(&object);
    if options.rebalance {
        let mark = |patch| insist(|| home.client.merge(&kinds::node(), "", node, &patch));
        mark(node::cordon())?;
        let drained = sharing(&home, &object).and_then(|others| {
            std::iter::once(&home).chain(&others).try_for_each(|home| drain(home, node))
        });
        if let Err(error) = drained {
            operation::undoing();
            if !node::is_cordoned(&object)
                && let Err(failure) = mark(node::uncordon())
            {
                let failure = failure.to_string();
                log::error(
                    "a node that stays takes no units",
                    &[("node", node), ("error", &failure)],
                );
            }
            return Err(error);
        }
    }
    let options = DeleteOptions::default();
    Ok(insist(|| home.client.delete(&kinds::node(), "", node, &options))?)
}

/// The other homes that may have units on a node: one cluster may be given several times, each with a namespace of its own.
fn sharing(home: &Home, node: &Value) -> Result<Vec<Home>> {
    let uid = |node: &Value| text(node, "/metadata/uid").to_owned();
    let mut homes = Vec::new();
    for other in Home::all()?.into_iter().filter(|other| other.info.name != home.info.name) {
        let other = other.hurried();
        let is_same = match other.client.find(&kinds::node(), "", name(node)) {
            Ok(found) => found.is_some_and(|found| uid(&found) == uid(node)),
            // One that may not look at nodes can have units there all the same. Of one that does not answer only its address tells: this one does.
            Err(_) => other.info.address == home.info.address,
        };
        if is_same {
            homes.push(other.unhurried());
        }
    }
    Ok(homes)
}

/// Evicts every unit on a node and waits until they are gone. One that a disruption budget holds is asked again, and whoever waits for it is told.
fn drain(home: &Home, node: &str) -> Result<()> {
    let began = Instant::now();
    let mut told = false;
    let mut told_held = None;
    loop {
        let pods: Vec<Value> =
            pods_on(home, node, "")?.into_iter().filter(|pod| !is_daemon(pod)).collect();
        if pods.is_empty() {
            return Ok(());
        }
        // One that is leaving already is waited for, and not asked.
        let asked: Vec<(String, String)> = pods
            .iter()
            .filter(|pod| !is_leaving(pod))
            .map(|pod| (home.namespace().to_owned(), name(pod).to_owned()))
            .collect();
        if !told {
            let units = asked.len();
            operation::progress(&format!("---- Moving {units} units away from {node} ----\n"));
            told = true;
        }
        let mut held = None;
        for answer in home.client.evict_all(&asked) {
            match answer {
                Ok(()) => {}
                Err(ClusterError::TooManyRequests(text)) => held = Some(text),
                Err(error) if error.is_unsure() => held = Some(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(text) = &held
            && told_held != held
        {
            operation::progress(&format!(" ---> still on {node}: {text}\n"));
            told_held.clone_from(&held);
        }
        if began.elapsed() >= home.timeouts.drain {
            let names: Vec<&str> = pods.iter().map(name).collect();
            let why = held.map(|text| format!(": {text}")).unwrap_or_default();
            let text = format!("still on the node `{node}`: {}{why}", names.join(", "));
            return Err(Error::TimedOut(text));
        }
        operation::pause(Duration::from_millis(500))?;
    }
}

/// Whether a pod belongs to its node and goes with it.
fn is_daemon(pod: &Value) -> bool {
    items(pod, "/metadata/ownerReferences")
        .iter()
        .any(|owner| ["DaemonSet", "Node"].contains(&text(owner, "/kind")))
}

/// The node that an agent's words are about.
///
/// # Errors
///
/// There is none, or several, or a cluster that may have it does not answer.
pub(crate) fn for_node_data(data: &NodeStatusData) -> Result<Node> {
    let mut all = Vec::new();
    let mut missing = Error::NodeNotFound;
    for home in Home::all()?.into_iter().map(Home::hurried) {
        match home.nodes("") {
            Ok(nodes) => {
                all.extend(nodes.iter().map(|object| node::wrap(object, &home.info.name)));
            }
            Err(error) => missing = error,
        }
    }
    let addresses: Vec<&str> = all.iter().map(|node| node.address.as_str()).collect();
    use gantry_sdk::gantry_core::node::NodeLookupError;
    match find_node_by_addrs(&addresses, &data.addresses) {
        Ok(index) => all.into_iter().nth(index).ok_or(missing),
        Err(NodeLookupError::NotFound) => Err(missing),
        Err(error) => Err(Error::Conflict(error.to_string())),
    }
}

/// What the operator should read when the platform starts. A cluster that does not answer at once keeps the platform from nothing.
pub(crate) fn startup_message() -> Result<String> {
    let mut message = String::new();
    for home in Home::all()? {
        let home = home.hurried();
        let listed = home.client.list(&kinds::node(), &Selection::of(""));
        let nodes = listed.map(|list| list.items).unwrap_or_default();
        message.push_str(&node::startup_message(&home.info.name, &home.info.address, &nodes));
    }
    Ok(message)
}

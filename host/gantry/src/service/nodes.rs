//! Nodes: the machines of pools, whichever provisioner has them; and the containers that run on every one.

use std::sync::Arc;

use gantry_core::node::{
    AddNodeOptions, Node, NodeLookupError, RemoveNodeOptions, UpdateNodeOptions,
};
use gantry_core::quote;
use gantry_core::url::url_to_host;
use gantry_runtime::{Interface, Provisioner};
use serde_json::{Value, json};

use super::{OrProblem, Service, not_found, time_of};
use crate::api::{
    NewNode, NodeChange, NodeInfo, NodeList, NodeRemoval, PoolChoice, Problem, ProblemKind,
};
use crate::near;
use crate::operation::{Caller, Request};

/// What is done to node containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeContainers {
    /// They become what is configured now.
    Upgrade,
    /// They go.
    Remove,
}

impl Service {
    /// The nodes of every provisioner that has some, or those of one pool. A provisioner that cannot tell takes nothing but its own nodes away.
    pub(crate) async fn nodes(&self, pool: Option<&str>) -> Result<NodeList, Problem> {
        if let Some(pool) = pool {
            self.pool_or_default(pool.to_owned()).await?;
        }
        let question = self.question();
        let mut list = NodeList::default();
        for provisioner in self.registry.list() {
            if !provisioner.supports(Interface::Nodes) {
                continue;
            }
            let title = || format!("could not list the nodes of `{}`", provisioner.name());
            match provisioner.nodes(&question, None).await.or_problem(title) {
                Ok((nodes, missing)) => {
                    list.items.extend(nodes);
                    let title = format!("could not list all nodes of `{}`", provisioner.name());
                    let problem = |why| Problem::new(ProblemKind::Unavailable, &title).because(why);
                    list.problems.extend(missing.into_iter().map(problem));
                }
                Err(problem) => list.problems.push(problem),
            }
        }
        list.items.retain(|node| pool.is_none_or(|pool| node.pool == pool));
        Ok(list)
    }

    /// A node with its units.
    pub(crate) async fn node(&self, address: &str) -> Result<NodeInfo, Problem> {
        let (provisioner, node) = self.find_node(address).await?;
        let units = provisioner.node_units(&self.question(), &node.address).await;
        let title = || format!("could not ask for the units on `{address}`");
        Ok(match units.or_problem(title) {
            Ok(units) => NodeInfo { node, units: Some(units), problem: None },
            Err(problem) => NodeInfo { node, units: None, problem: Some(problem) },
        })
    }

    /// Adds a machine.
    pub(crate) async fn add_node(
        self: &Arc<Self>,
        caller: Caller,
        new: NewNode,
    ) -> Result<String, Problem> {
        let asked = new.provisioner.clone();
        let options = settle(new)?;
        let address = options.address.clone();
        let title = format!("could not add the node `{address}`");
        let (_, of_pool) = self.pool_or_default(options.pool.clone()).await?;
        if !asked.is_empty() && asked != of_pool {
            return Err(Problem::new(ProblemKind::Conflict, title)
                .because(format!("the pool `{}` is of the provisioner `{of_pool}`", options.pool))
                .hint("leave `--provisioner` out, or name another pool"));
        }
        let provisioner = self.provisioner(&of_pool)?;
        let detail = json!({
            "address": address,
            "pool": options.pool,
            "iaas_id": options.iaas_id,
            "metadata": options.metadata,
            "wait": options.wait,
        });
        let request = node_request("node-add", caller, &provisioner, &address, detail);
        let (service, why) = (Arc::clone(self), title.clone());
        let begun = self.operations.begin(request, move |work| async move {
            let operation = &work.operation;
            let own = provisioner.name();
            match service.registry.find_node_skipping(operation, &address, own).await {
                Ok((other, _)) => {
                    return Err(Problem::new(ProblemKind::Conflict, why)
                        .because(format!(
                            "node with address {} already exists in provisioner {}",
                            quote(&address),
                            quote(other.name())
                        ))
                        .hint(format!("`gantry node info {address}` shows it")));
                }
                Err(NodeLookupError::NotFound) => {}
                Err(error) => return Err(error).or_problem(|| why),
            }
            let added = provisioner.add_node(operation, &options).await;
            added.or_problem(|| why).map(|()| json!({"address": address}))
        });
        begun.await.or_problem(|| title)
    }

    /// Changes a machine.
    pub(crate) async fn update_node(
        self: &Arc<Self>,
        caller: Caller,
        address: &str,
        mut change: NodeChange,
    ) -> Result<String, Problem> {
        let title = format!("could not change the node `{address}`");
        move_fields(&mut change).map_err(|key| {
            Problem::new(ProblemKind::Invalid, &title)
                .because(format!("`{key}` is no metadata of a node"))
                .hint("`gantry node update --help` tells what can be changed")
        })?;
        let options = UpdateNodeOptions {
            address: address.to_owned(),
            pool: change.pool,
            metadata: change.metadata,
            enable: change.enable,
            disable: change.disable,
        };
        options.check().map_err(|error| {
            Problem::new(ProblemKind::Invalid, &title)
                .because(error.to_string())
                .hint("add `--enable` or `--disable`")
        })?;
        let (provisioner, _) = self.find_node(address).await?;
        if !options.pool.is_empty() {
            let (pool, of_pool) = self.pool_or_default(options.pool.clone()).await?;
            if of_pool != provisioner.name() {
                return Err(Problem::new(ProblemKind::Conflict, title)
                    .because(format!(
                        "the pool `{pool}` is of the provisioner `{of_pool}`, and the node of `{}`",
                        provisioner.name()
                    ))
                    .hint("`gantry pool list` lists the pools with their provisioners"));
            }
        }
        let detail = json!({
            "address": address,
            "pool": options.pool,
            "metadata": options.metadata,
            "enable": options.enable,
            "disable": options.disable,
        });
        let request = node_request("node-update", caller, &provisioner, address, detail);
        let why = title.clone();
        let begun = self.operations.begin(request, move |work| async move {
            let updated = provisioner.update_node(&work.operation, &options).await;
            updated.or_problem(|| why).map(|()| json!({"address": options.address}))
        });
        begun.await.or_problem(|| title)
    }

    /// Removes a machine, its units moved away first unless asked otherwise.
    pub(crate) async fn remove_node(
        self: &Arc<Self>,
        caller: Caller,
        address: &str,
        removal: NodeRemoval,
    ) -> Result<String, Problem> {
        let title = format!("could not remove the node `{address}`");
        let (provisioner, _) = self.find_node(address).await?;
        let options =
            RemoveNodeOptions { address: address.to_owned(), rebalance: !removal.no_rebalance };
        let detail = json!({"address": address, "rebalance": options.rebalance});
        let request = node_request("node-remove", caller, &provisioner, address, detail);
        let why = title.clone();
        let begun = self.operations.begin(request, move |work| async move {
            let removed = provisioner.remove_node(&work.operation, &options).await;
            removed.or_problem(|| why).map(|()| json!({"address": options.address}))
        });
        begun.await.or_problem(|| title)
    }

    /// Upgrades or removes the node containers of a name, over every provisioner that has some, in one pool or in every one when it is empty.
    pub(crate) async fn node_containers(
        self: &Arc<Self>,
        caller: Caller,
        what: NodeContainers,
        name: &str,
        PoolChoice { pool }: PoolChoice,
    ) -> Result<String, Problem> {
        let (verb, doing) = match what {
            NodeContainers::Upgrade => ("node-container-upgrade", "upgrade"),
            NodeContainers::Remove => ("node-container-remove", "remove"),
        };
        let title = format!("could not {doing} the node container `{name}`");
        if !pool.is_empty() {
            self.pool_or_default(pool.clone()).await?;
        }
        let all = self.registry.list().into_iter();
        let having: Vec<Provisioner> =
            all.filter(|provisioner| provisioner.supports(Interface::NodeContainers)).collect();
        if having.is_empty() {
            return Err(Problem::new(ProblemKind::NotSupported, title)
                .because("no provisioner has node containers")
                .hint("`gantry plugin inspect NAME` shows what a provisioner can do"));
        }
        let request = Request {
            verb,
            detail: json!({"name": name, "pool": pool}),
            lock: Some(format!("the node container {name}")),
            // One after the other.
            time: having.iter().map(time_of).sum(),
            caller,
            ..Request::default()
        };
        let (name, why) = (name.to_owned(), title.clone());
        let begun = self.operations.begin(request, move |work| async move {
            let operation = &work.operation;
            let mut failures = Vec::new();
            for provisioner in &having {
                operation
                    .progress
                    .show(&format!("---- Node containers of `{}` ----\n", provisioner.name()));
                let done = match what {
                    NodeContainers::Upgrade => {
                        provisioner.upgrade_node_container(operation, &name, &pool).await
                    }
                    NodeContainers::Remove => {
                        provisioner.remove_node_container(operation, &name, &pool).await
                    }
                };
                failures.extend(done.or_problem(|| why.clone()).err());
            }
            together(failures, having.len()).map(|()| json!({"name": name}))
        });
        begun.await.or_problem(|| title)
    }

    /// The provisioner that has a node, with the node.
    async fn find_node(&self, address: &str) -> Result<(Provisioner, Node), Problem> {
        match self.registry.find_node(&self.question(), address).await {
            Ok(found) => Ok(found),
            Err(NodeLookupError::NotFound) => {
                let known = self.nodes(None).await.map(|list| list.items).unwrap_or_default();
                let nearest = near::nearest(address, known.iter().map(|node| &node.address));
                Err(not_found("node", address, nearest)
                    .hint_if_none("`gantry node list` lists the nodes"))
            }
            Err(error) => Err(error).or_problem(|| format!("could not find the node `{address}`")),
        }
    }
}

fn node_request(
    verb: &'static str,
    caller: Caller,
    provisioner: &Provisioner,
    address: &str,
    detail: Value,
) -> Request {
    Request {
        verb,
        app: None,
        plugin: Some(provisioner.name().to_owned()),
        digest: Some(provisioner.generation().digest().to_owned()),
        detail,
        // However its address is spelled.
        lock: Some(format!("the node {}", url_to_host(address))),
        time: time_of(provisioner),
        caller,
    }
}

/// What a request for a machine means: what is in its metadata under the name of a field is that field (spec 1.5).
fn settle(new: NewNode) -> Result<AddNodeOptions, Problem> {
    let NewNode { mut address, mut pool, mut iaas_id, mut metadata, register, wait, .. } = new;
    for (key, field) in [("address", &mut address), ("pool", &mut pool), ("iaas-id", &mut iaas_id)]
    {
        // Where the machine is is only told of one that exists.
        if key == "address" && !register {
            continue;
        }
        let told = metadata.remove(key).unwrap_or_default();
        if field.is_empty() {
            *field = told;
        }
    }
    let invalid = |why: &str, hint: &str| {
        let title = format!("could not add the node `{address}`");
        Problem::new(ProblemKind::Invalid, title).because(why).hint(hint)
    };
    if !register {
        return Err(invalid(
            "there is no provider that could make a machine",
            "register one that exists: `gantry node add ADDRESS --pool POOL`",
        ));
    }
    if address.is_empty() {
        return Err(invalid("nobody says where it is", "`gantry node add ADDRESS --pool POOL`"));
    }
    if pool.is_empty() {
        return Err(invalid("nobody says which pool it is for", "add `--pool POOL`"));
    }
    let options =
        AddNodeOptions { address, pool, iaas_id, metadata, register, wait, ..Default::default() };
    Ok(options)
}

/// The same for a change: a pool that is named in the metadata is the pool. Gives the name of a field that cannot be changed.
fn move_fields(change: &mut NodeChange) -> Result<(), &'static str> {
    if let Some(pool) = change.metadata.remove("pool")
        && change.pool.is_empty()
    {
        change.pool = pool;
    }
    match ["address", "iaas-id"].into_iter().find(|key| change.metadata.contains_key(*key)) {
        Some(key) => Err(key),
        None => Ok(()),
    }
}

/// One problem of those of several provisioners; none when all of them did it.
fn together(failures: Vec<Problem>, asked: usize) -> Result<(), Problem> {
    let count = failures.len();
    let mut failures = failures.into_iter();
    let Some(mut first) = failures.next() else { return Ok(()) };
    let details = failures.map(|problem| problem.detail);
    first.detail = std::iter::once(first.detail).chain(details).collect::<Vec<_>>().join("\n");
    if asked > count {
        first
            .detail
            .push_str(&format!("\n{} other provisioners did it", asked.saturating_sub(count)));
    }
    Err(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn fields_in_the_metadata_are_fields() {
        let new = NewNode {
            pool: "dev".into(),
            metadata: metadata(&[
                ("address", "10.0.0.1"),
                ("pool", "prod"),
                ("iaas-id", "i-1"),
                ("rack", "7"),
            ]),
            wait: 30,
            ..NewNode::default()
        };
        let expected = AddNodeOptions {
            address: "10.0.0.1".into(),
            pool: "dev".into(),
            iaas_id: "i-1".into(),
            metadata: metadata(&[("rack", "7")]),
            register: true,
            wait: 30,
            ..AddNodeOptions::default()
        };
        assert_eq!(settle(new), Ok(expected));
    }

    #[test]
    fn fields_in_the_metadata_of_a_change_are_fields() {
        let change = |pool: &str, pairs: &[(&str, &str)]| NodeChange {
            pool: pool.into(),
            metadata: metadata(pairs),
            ..NodeChange::default()
        };
        for (pool, named, expected) in [("", "dev", "dev"), ("prod", "dev", "prod")] {
            let mut change = change(pool, &[("pool", named), ("rack", "7")]);
            assert_eq!(move_fields(&mut change), Ok(()));
            assert_eq!(
                (change.pool.as_str(), change.metadata),
                (expected, metadata(&[("rack", "7")]))
            );
        }
        assert_eq!(move_fields(&mut change("", &[("iaas-id", "i-1")])), Err("iaas-id"));
    }

    #[test]
    fn a_machine_that_cannot_be_added_is_refused_with_the_reason() {
        let new = || NewNode { address: "a".into(), pool: "p".into(), ..NewNode::default() };
        for (new, why) in [
            (NewNode { register: false, ..new() }, "no provider"),
            (NewNode { address: String::new(), ..new() }, "where it is"),
            (NewNode { pool: String::new(), ..new() }, "which pool"),
        ] {
            let problem = settle(new).unwrap_err();
            assert!(problem.detail.contains(why) && problem.hint.is_some(), "{problem:?}");
            assert_eq!(problem.kind, ProblemKind::Invalid);
        }
    }

    #[test]
    fn the_failures_of_several_provisioners_are_one() {
        let problem = |why: &str| Problem::new(ProblemKind::Failed, "could not").because(why);
        assert_eq!(together(Vec::new(), 2), Ok(()));
        let one = together(vec![problem("a")], 2).unwrap_err();
        assert_eq!(one.detail, "a\n1 other provisioners did it");
        let both = together(vec![problem("a"), problem("b")], 2).unwrap_err();
        assert_eq!(both.detail, "a\nb");
    }
}

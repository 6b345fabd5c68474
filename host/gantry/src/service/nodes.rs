//! Nodes: the machines of pools, whichever provisioner has them.

use std::sync::Arc;
use std::time::Duration;

use gantry_core::node::{
    AddNodeOptions, Node, NodeLookupError, RebalanceOptions, RemoveNodeOptions, UpdateNodeOptions,
};
use gantry_core::quote;
use gantry_core::url::url_to_host;
use gantry_engine::Operation;
use gantry_runtime::{CallError, Cause, Interface, Provisioner};
use serde_json::{Value, json};

use super::{OrProblem, Service, after, not_found, time_of};
use crate::api::{
    NewNode, NodeChange, NodeHealth, NodeInfo, NodeList, NodeRemoval, Problem, ProblemKind,
    Rebalance, Secret,
};
use crate::clock;
use crate::near;
use crate::operation::{Caller, Request};
use crate::store::{Begin, HostRecord, OperationRecord};

/// How long taking a host back may take that did not become a node.
const UNDO: Duration = Duration::from_secs(60);

impl Service {
    /// The nodes of every provisioner that has some, or of one; all of them, or those of one pool. A provisioner that cannot tell takes nothing but its own nodes away.
    pub(crate) async fn nodes(
        &self,
        pool: Option<&str>,
        of: Option<&str>,
    ) -> Result<NodeList, Problem> {
        if let Some(pool) = pool {
            self.pool_or_default(pool.to_owned()).await?;
        }
        if let Some(of) = of {
            self.provisioner(of)?;
        }
        let question = self.question();
        let mut list = NodeList::default();
        for provisioner in self.registry.list() {
            let is_asked = of.is_none_or(|of| provisioner.name() == of);
            if !is_asked || !provisioner.supports(Interface::Nodes) {
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
        let units = units.or_problem(|| format!("could not ask for the units on `{address}`"));
        let health = self.node_health(&provisioner, &node.address).await;
        let health = health.or_problem(|| format!("could not ask how `{address}` did of late"));
        let problem = units.as_ref().err().or(health.as_ref().err()).cloned();
        let (units, health) = (units.ok(), health.ok().flatten());
        Ok(NodeInfo { node, units, health, problem })
    }

    /// How a node did of late, if its provisioner says so.
    async fn node_health(
        &self,
        provisioner: &Provisioner,
        address: &str,
    ) -> Result<Option<NodeHealth>, CallError> {
        if !provisioner.supports(Interface::NodeHealth) {
            return Ok(None);
        }
        let question = self.question();
        let failures = provisioner.node_failures(&question, address).await?;
        let has_answered = provisioner.node_has_success(&question, address).await?;
        Ok(Some(NodeHealth { failures, has_answered }))
    }

    /// Adds a machine.
    pub(crate) async fn add_node(
        self: &Arc<Self>,
        mut caller: Caller,
        new: NewNode,
    ) -> Result<String, Problem> {
        let asked = new.provisioner.clone();
        caller.unshown = json!([new.ca_cert, new.client_cert, new.client_key.reveal()]);
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
            let (options, host) = service.give_host(&provisioner, options).await?;
            let added = provisioner.add_node(operation, &options).await.or_problem(|| why);
            let kept = match (added, &host) {
                (Ok(()), Some(host)) => service.keep_host(host).await,
                (added, _) => added,
            };
            if let (Err(_), Some(host)) = (&kept, host) {
                service.take_host_back(&provisioner, operation, host).await;
            }
            service.try_units_again();
            service.reroute(own).await;
            kept.map(|()| json!({"address": address}))
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
        let (service, why) = (Arc::clone(self), title.clone());
        let begun = self.operations.begin(request, move |work| async move {
            let (operation, address) = (&work.operation, &options.address);
            let updated = provisioner.update_node(operation, &options).await;
            service.try_units_again();
            service.reroute(provisioner.name()).await;
            updated.or_problem(|| why.clone())?;
            // Whoever enables it says that it is well.
            if options.enable && provisioner.supports(Interface::NodeHealth) {
                let reset = provisioner.reset_node_failures(operation, address).await;
                reset.or_problem(|| why)?;
            }
            Ok(json!({"address": address}))
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
        let request = node_request(REMOVE, caller, &provisioner, address, detail);
        let (service, why) = (Arc::clone(self), title.clone());
        let begun = self.operations.begin(request, move |work| async move {
            let removed = provisioner.remove_node(&work.operation, &options).await;
            service.reroute(provisioner.name()).await;
            removed.or_problem(|| why)?;
            service.take_host(&options.address).await?;
            Ok(json!({"address": options.address}))
        });
        begun.await.or_problem(|| title)
    }

    /// Spreads units anew over the nodes of every provisioner that can, or of the one that has a pool.
    pub(crate) async fn rebalance(
        self: &Arc<Self>,
        caller: Caller,
        asked: Rebalance,
    ) -> Result<String, Problem> {
        let title = "could not spread the units anew".to_owned();
        let Rebalance { pool, metadata, apps, dry, force } = asked;
        for app in &apps {
            self.record(app).await?;
        }
        let having: Vec<Provisioner> = if pool.is_empty() {
            self.registry.list().into_iter().filter(rebalances).collect()
        } else {
            let (_, of_pool) = self.pool_or_default(pool.clone()).await?;
            let provisioner = self.provisioner(&of_pool)?;
            if !rebalances(&provisioner) {
                let name = quote(provisioner.name());
                let why = format!("provisioner {name} does not support node rebalance operations");
                return Err(cannot_rebalance(title, &why));
            }
            vec![provisioner]
        };
        if having.is_empty() {
            return Err(cannot_rebalance(title, "no provisioner can"));
        }
        let detail = json!({
            "pool": pool, "metadata": metadata, "apps": apps, "dry": dry, "force": force,
        });
        let options =
            RebalanceOptions { pool, metadata_filter: metadata, app_filter: apps, dry, force };
        let request = Request {
            verb: "node-rebalance",
            detail,
            lock: Some("the places of units".to_owned()),
            // One after the other.
            time: having.iter().map(time_of).sum(),
            caller,
            ..Request::default()
        };
        let (why, service) = (title.clone(), Arc::clone(self));
        let begun = self.operations.begin(request, move |work| async move {
            let (mut moved, mut failures) = (false, Vec::new());
            for provisioner in &having {
                let done = provisioner.rebalance(&work.operation, &options).await;
                if !dry {
                    service.reroute(provisioner.name()).await;
                }
                match done.or_problem(|| why.clone()) {
                    Ok(any) => moved |= any,
                    Err(problem) => failures.push(problem),
                }
            }
            together(failures, having.len()).map(|()| json!({"moved": moved, "dry": dry}))
        });
        begun.await.or_problem(|| title)
    }

    /// Gives a provisioner that calls Docker hosts the one that is added. What is shown to its engine stays with the platform. Gives the host too, if it is not the configuration's: it is
    /// to be kept once it is a node, or taken back.
    ///
    /// Nothing is written down before: a host that is given and that the plugin knows nothing of would serve every pool without a machine of its own. Should the daemon die after the
    /// plugin wrote its part and before we write ours, the next daemon does not give the host, and the plugin uses none that is not given; to add it again is all there is to do.
    async fn give_host(
        &self,
        provisioner: &Provisioner,
        mut options: AddNodeOptions,
    ) -> Result<(AddNodeOptions, Option<GivenHost>), Problem> {
        let generation = provisioner.generation();
        if !generation.imports().iter().any(|import| is_containers(import)) {
            return Ok((options, None));
        }
        let title = || format!("could not use the Docker host `{}`", options.address);
        if self.hosts.is_configured(&options.address) {
            return match has_certificates(&options) {
                false => Ok((options, None)),
                true => Err(Problem::new(ProblemKind::Conflict, title())
                    .because("its certificates are in the configuration")
                    .hint(
                        "change `tls` of its `[[docker.hosts]]` there, or add it without `--tls`",
                    )),
            };
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let known = self.store.hosts().await.or_problem(title)?;
        let before = known.into_iter().find(|host| host.address == options.address);
        let mut record = HostRecord {
            address: options.address.clone(),
            provisioner: provisioner.name().to_owned(),
            ca_cert: text(&options.ca_cert),
            client_cert: text(&options.client_cert),
            client_key: Secret::new(text(&options.client_key)),
            created: clock::now(),
        };
        // Said again without certificates, it keeps those that it has.
        if let Some(known) = before.clone()
            && record.ca_cert.is_empty()
            && record.client_cert.is_empty()
        {
            record = HostRecord { provisioner: record.provisioner, ..known };
        }
        // What is under way there would go on with certificates that it does not take.
        if let Some(known) = &before
            && let Some(error) = self.hosts.prefers(known, &record).await
        {
            return Err(Problem::new(ProblemKind::Conflict, title())
                .because(format!(
                    "it answers with the certificates that it has, and not with these: {error}"
                ))
                .hint(
                    "name those that it takes with `--tls DIR`, or none to keep those that it has",
                ));
        }
        self.hosts.add(&record).or_problem(title).map_err(|problem| {
            problem.hint_if_none("name it as `tcp://HOST:PORT`; `--tls DIR` when it speaks TLS")
        })?;
        options.ca_cert.clear();
        options.client_cert.clear();
        options.client_key.clear();
        Ok((options, Some(GivenHost { record, before })))
    }

    /// Writes down a host that has become a node.
    async fn keep_host(&self, host: &GivenHost) -> Result<(), Problem> {
        let title = || format!("could not keep the Docker host `{}`", host.record.address);
        self.store.put_host(host.record.clone()).await.or_problem(title)
    }

    /// Takes a host back that did not become a node, and has its provisioner take away first what it put there; one that was given before is given as it was.
    async fn take_host_back(
        &self,
        provisioner: &Provisioner,
        adding: &Operation,
        GivenHost { record, before }: GivenHost,
    ) {
        let address = record.address;
        if let Some(before) = before {
            if let Err(error) = self.hosts.add(&before) {
                tracing::error!(address, %error, "cannot use the Docker host");
            }
            return;
        }
        let undo = after(adding, UNDO.min(time_of(provisioner)));
        let options = RemoveNodeOptions { address: address.clone(), rebalance: false };
        if let Err(error) = provisioner.remove_node(&undo, &options).await {
            tracing::warn!(address, %error, "something may stay on a Docker host that did not become a node");
        }
        self.hosts.remove(&address);
    }

    /// Takes a host away that is a node no more.
    async fn take_host(&self, address: &str) -> Result<(), Problem> {
        let title = || format!("could not forget the Docker host `{address}`");
        // First what the next start would give again; as long as it is given here, this can be asked for again.
        self.store.remove_host(address).await.or_problem(title)?;
        self.hosts.remove(address);
        Ok(())
    }

    /// Takes the host of a removal away that the daemon died in, if its provisioner had forgotten the node already: a host that is no node of a pool would serve every one.
    pub(crate) async fn end_removal(&self, interrupted: &OperationRecord) {
        let Begin { verb, plugin: Some(plugin), detail, .. } = &interrupted.begin else { return };
        let detail: Value = serde_json::from_str(detail).unwrap_or_default();
        let address = detail.get("address").and_then(Value::as_str);
        let (REMOVE, Some(address)) = (verb.as_str(), address) else { return };
        // One that is not known now may still be a node of its own.
        let Ok(provisioner) = self.registry.get(plugin) else { return };
        let is_node = match provisioner.node(&self.question(), address).await {
            Ok(node) => !node.pool.is_empty(),
            Err(error) => !is_not_found(&error),
        };
        if !is_node
            && !self.hosts.is_configured(address)
            && let Err(Problem { title, detail, .. }) = self.take_host(address).await
        {
            tracing::error!(address, detail, title);
        }
    }

    /// Gives the hosts back that were added before the daemon started.
    pub(crate) async fn give_hosts(&self) -> Result<(), Problem> {
        let restored = self.hosts.restore(&self.store).await;
        restored.or_problem(|| "could not read the Docker hosts".to_owned())
    }

    /// The provisioner that has a node, with the node.
    async fn find_node(&self, address: &str) -> Result<(Provisioner, Node), Problem> {
        match self.registry.find_node(&self.question(), address).await {
            Ok(found) => Ok(found),
            Err(NodeLookupError::NotFound) => {
                let known = self.nodes(None, None).await.map(|list| list.items).unwrap_or_default();
                let nearest = near::nearest(address, known.iter().map(|node| &node.address));
                Err(not_found("node", address, nearest)
                    .hint_if_none("`gantry node list` lists the nodes"))
            }
            Err(error) => Err(error).or_problem(|| format!("could not find the node `{address}`")),
        }
    }
}

/// A host that was given to a provisioner, and what was written down of it before.
struct GivenHost {
    record: HostRecord,
    before: Option<HostRecord>,
}

fn has_certificates(options: &AddNodeOptions) -> bool {
    let AddNodeOptions { ca_cert, client_cert, client_key, .. } = options;
    [ca_cert, client_cert, client_key].into_iter().any(|pem| !pem.is_empty())
}

fn rebalances(provisioner: &Provisioner) -> bool {
    provisioner.supports(Interface::NodeRebalance)
}

fn cannot_rebalance(title: String, why: &str) -> Problem {
    Problem::new(ProblemKind::NotSupported, title)
        .because(why)
        .hint("`gantry plugin inspect NAME` shows what a provisioner can do")
}

fn is_containers(import: &str) -> bool {
    import.split('@').next() == Some("gantry:provision/containers")
}

/// The verb of a removal.
const REMOVE: &str = "node-remove";

/// Whether a plugin knows no such node, or no such unit.
pub(super) fn is_not_found(error: &CallError) -> bool {
    matches!(
        error.cause,
        Cause::Plugin(gantry_core::Error::NodeNotFound | gantry_core::Error::UnitNotFound(_))
    )
}

pub(super) fn node_request(
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
    let NewNode { mut address, mut pool, mut iaas_id, mut metadata, register, wait, .. } =
        new.clone();
    let NewNode { ca_cert, client_cert, client_key, .. } = new;
    if client_cert.is_empty() != client_key.is_empty() {
        let title = format!("could not add the node `{address}`");
        return Err(Problem::new(ProblemKind::Invalid, title)
            .because("a certificate needs its key, and a key its certificate")
            .hint("add `--client-cert FILE --client-key FILE`, or `--tls DIR`"));
    }
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
    Ok(AddNodeOptions {
        address,
        pool,
        iaas_id,
        metadata,
        register,
        wait,
        ca_cert: ca_cert.into_bytes(),
        client_cert: client_cert.into_bytes(),
        client_key: client_key.reveal().as_bytes().to_vec(),
    })
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
pub(super) fn together(failures: Vec<Problem>, asked: usize) -> Result<(), Problem> {
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

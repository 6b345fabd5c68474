//! Node containers: what runs once on every node.
//!
//! What they are is in the configuration of each provisioner, and over it what people added while the daemon runs, which every provisioner gets with its next call.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_core::node::{CONFIG_KEY, NodeContainerEntry};
use gantry_engine::config::merge;
use gantry_runtime::{Interface, Provisioner};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use super::nodes::together;
use super::pools::RECORD_TIME;
use super::{OrProblem, Service, not_found, time_of};
use crate::api::{
    NewNodeContainer, NodeContainerChange, NodeContainerInfo, NodeContainerOfPool, PoolChoice,
    Problem, ProblemKind,
};
use crate::operation::{Caller, Request, Work};
use crate::store::NodeContainerRecord;
use crate::{clock, near};

/// How long the name of one may be: objects of clusters are named after it and a pool.
const LONGEST: usize = 40;

/// What is done on the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// They become what is configured now.
    Upgrade,
    /// They go.
    Remove,
}

/// What is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// A new entry.
    Add,
    /// A change of one.
    Update,
}

impl Service {
    /// Lets every provisioner see what was added before the daemon started, or has just been changed.
    pub(crate) async fn give_node_containers(&self) -> Result<(), Problem> {
        // Whoever read first must not be the last who gives: what another one has added since would be gone.
        let _giving = self.giving_node_containers.lock().await;
        let records = self.added_node_containers().await?;
        self.changing.set(json!({CONFIG_KEY: tables(&records)}));
        Ok(())
    }

    /// All of them, by name.
    pub(crate) async fn node_containers(&self) -> Result<Vec<NodeContainerInfo>, Problem> {
        let records = self.added_node_containers().await?;
        let mut all: BTreeMap<String, Vec<NodeContainerOfPool>> = BTreeMap::new();
        for record in &records {
            all.entry(record.name.clone()).or_default().push(NodeContainerOfPool {
                pool: record.pool.clone(),
                provisioner: String::new(),
                changed: clock::text(record.changed),
                entry: record.entry.clone(),
            });
        }
        for provisioner in self.with_node_containers() {
            let name = provisioner.name();
            let Some(configured) = self.config.provisioner(name).config.get(CONFIG_KEY).cloned()
            else {
                continue;
            };
            for (container, pool, entry) in entries(&configured) {
                let added = records.iter().find(|one| one.name == container && one.pool == pool);
                let changed = added.map(|record| clock::text(record.changed)).unwrap_or_default();
                let mut entry = entry.clone();
                if let Some(record) = added {
                    merge(&mut entry, &json!(record.entry));
                }
                // What cannot be read is told by whoever uses it.
                let entry = NodeContainerEntry::deserialize(entry).unwrap_or_default();
                let (pool, provisioner) = (pool.to_owned(), name.to_owned());
                let of_pool = NodeContainerOfPool { pool, provisioner, changed, entry };
                all.entry(container.to_owned()).or_default().push(of_pool);
            }
        }
        let info = |(name, mut entries): (String, Vec<NodeContainerOfPool>)| {
            entries.sort_by(|a, b| (&a.pool, &a.provisioner).cmp(&(&b.pool, &b.provisioner)));
            NodeContainerInfo { name, entries }
        };
        Ok(all.into_iter().map(info).collect())
    }

    /// One of them.
    pub(crate) async fn node_container(&self, name: &str) -> Result<NodeContainerInfo, Problem> {
        let all = self.node_containers().await?;
        let nearest = near::nearest(name, all.iter().map(|info| &info.name));
        all.into_iter().find(|info| info.name == name).ok_or_else(|| {
            not_found("node container", name, nearest)
                .hint_if_none("`gantry node container list` lists them")
        })
    }

    /// Adds one and starts it on every node that it is for.
    pub(crate) async fn add_node_container(
        self: &Arc<Self>,
        caller: Caller,
        new: NewNodeContainer,
    ) -> Result<String, Problem> {
        let NewNodeContainer { name, pool, entry, no_start } = new;
        let change = NodeContainerChange { pool, entry, no_start };
        let title = format!("could not add the node container `{name}`");
        if !is_name(&name) {
            return Err(Problem::new(ProblemKind::Invalid, title)
                .because(format!(
                    "`{name}` is no name of one: at most {LONGEST} lower case letters, digits and dashes, starting with a letter"
                ))
                .hint("choose another name: `gantry node container add NAME --image IMAGE`"));
        }
        read_entry(&change.entry, &title)?;
        self.write_node_container(caller, Writing::Add, title, name, change).await
    }

    /// Changes one, and makes it anew on every node that it is for.
    pub(crate) async fn update_node_container(
        self: &Arc<Self>,
        caller: Caller,
        name: &str,
        change: NodeContainerChange,
    ) -> Result<String, Problem> {
        let title = format!("could not change the node container `{name}`");
        // Before it waits for its turn: what is wrong with the request is told at once.
        self.changed_entry(&title, name, &change).await?;
        self.write_node_container(caller, Writing::Update, title, name.to_owned(), change).await
    }

    /// The entry that is added, unless there is one, or nobody says what it runs.
    async fn new_entry(
        &self,
        title: &str,
        name: &str,
        change: &NodeContainerChange,
    ) -> Result<NodeContainerEntry, Problem> {
        let known = self.node_containers().await?.into_iter().find(|info| info.name == name);
        let entries = known.map(|info| info.entries).unwrap_or_default();
        if entries.iter().any(|entry| entry.pool == change.pool) {
            return Err(Problem::new(ProblemKind::Conflict, title)
                .because("there is one of this name for this pool")
                .hint(format!("`{}` changes it", command("update", name, &change.pool))));
        }
        let entry = read_entry(&change.entry, title)?;
        let base_has_image =
            entries.iter().any(|one| one.pool.is_empty() && !one.entry.image.is_empty());
        if entry.image.is_empty() && !base_has_image {
            return Err(Problem::new(ProblemKind::Invalid, title)
                .because("nobody says what it runs")
                .hint("add `--image IMAGE`"));
        }
        Ok(entry)
    }

    /// What was added of an entry, with the change in it.
    async fn changed_entry(
        &self,
        title: &str,
        name: &str,
        change: &NodeContainerChange,
    ) -> Result<NodeContainerEntry, Problem> {
        let info = self.node_container(name).await?;
        let pool = &change.pool;
        if !info.entries.iter().any(|entry| entry.pool == *pool) {
            let add = command("add", name, pool);
            let (why, hint) = if pool.is_empty() {
                ("it has entries of pools only".to_owned(), format!("`{add}`, or name a pool"))
            } else {
                (format!("it has no entry for the pool `{pool}`"), format!("`{add}`"))
            };
            return Err(Problem::new(ProblemKind::NotFound, title).because(why).hint(hint));
        }
        let records = self.added_node_containers().await?;
        let added = records.into_iter().find(|one| one.name == name && one.pool == *pool);
        let mut entry = json!(added.map(|record| record.entry).unwrap_or_default());
        merge(&mut entry, &change.entry);
        read_entry(&entry, title)
    }

    /// Makes those of a name anew as they are configured now, over every provisioner that has them, in one pool or in every one when it is empty.
    pub(crate) async fn upgrade_node_container(
        self: &Arc<Self>,
        caller: Caller,
        name: &str,
        PoolChoice { pool }: PoolChoice,
    ) -> Result<String, Problem> {
        let title = format!("could not upgrade the node container `{name}`");
        let having = self.having(&title, name, &pool).await?;
        let request = request("node-container-upgrade", caller, name, &pool, &having);
        let (name, why) = (name.to_owned(), title.clone());
        let begun = self.operations.begin(request, move |work| async move {
            let done = on_nodes(&work, &having, Doing::Upgrade, &name, &pool, &why).await;
            done.map_err(|problem| {
                if problem.kind != ProblemKind::NotFound {
                    return problem;
                }
                problem.hint_if_none("`gantry node container list` lists them")
            })
        });
        begun.await.or_problem(|| title)
    }

    /// Removes those of a name from the nodes, in one pool or in every one when it is empty, and forgets what was added of it.
    pub(crate) async fn remove_node_container(
        self: &Arc<Self>,
        caller: Caller,
        name: &str,
        PoolChoice { pool }: PoolChoice,
    ) -> Result<String, Problem> {
        let title = format!("could not remove the node container `{name}`");
        let records = self.added_node_containers().await?;
        let is_added = records.iter().any(|one| one.name == name && one.pool == pool);
        // The pool of what was added may be gone: then nobody is known to serve it, and everybody is asked.
        let is_left = is_added && !self.provisioners_of_pools().await?.contains_key(&pool);
        let served = if is_left { "" } else { pool.as_str() };
        let having = self.having(&title, name, served).await?;
        let request = request("node-container-remove", caller, name, &pool, &having);
        let (service, name, why) = (Arc::clone(self), name.to_owned(), title.clone());
        let begun = self.operations.begin(request, move |work| async move {
            // First, so that no unit that starts meanwhile brings it back.
            let of_pool = Some(pool.as_str()).filter(|pool| !pool.is_empty());
            let removed = service.store.remove_node_container(&name, of_pool).await;
            removed.or_problem(|| why.clone())?;
            service.give_node_containers().await?;
            let done = on_nodes(&work, &having, Doing::Remove, &name, &pool, &why).await?;
            for provisioner in &having {
                if service.configured_for(provisioner, &name) {
                    let line = format!(
                        "`{name}` is still configured for `{}`: it starts again with the next unit on a node\n",
                        provisioner.name()
                    );
                    work.operation.progress.show(&line);
                }
            }
            Ok(done)
        });
        begun.await.or_problem(|| title)
    }

    /// Writes an entry down, lets everybody see it, and brings the nodes to it.
    async fn write_node_container(
        self: &Arc<Self>,
        mut caller: Caller,
        writing: Writing,
        title: String,
        name: String,
        change: NodeContainerChange,
    ) -> Result<String, Problem> {
        let having = self.serving_pool(&title, &change.pool).await?;
        // What it is may hold passwords of agents: it tells requests apart, and is not shown.
        caller.unshown = json!([change.entry, change.no_start]);
        let request = request(writing.verb(), caller, &name, &change.pool, &having);
        let (service, why) = (Arc::clone(self), title.clone());
        let begun = self.operations.begin(request, move |work| async move {
            // As it is now that nobody else changes it.
            let entry = match writing {
                Writing::Add => service.new_entry(&why, &name, &change).await?,
                Writing::Update => service.changed_entry(&why, &name, &change).await?,
            };
            let NodeContainerChange { pool, no_start, .. } = change;
            let changed = clock::now();
            let record =
                NodeContainerRecord { name: name.clone(), pool: pool.clone(), entry, changed };
            service.store.put_node_container(record).await.or_problem(|| why)?;
            service.give_node_containers().await?;
            if no_start {
                return Ok(json!({"name": name}));
            }
            // It stays written down: where it is missing, the next unit starts it, too.
            let why = format!("the node container `{name}` is written down, but not on every node");
            let done = on_nodes(&work, &having, Doing::Upgrade, &name, &pool, &why).await;
            done.map_err(|problem| problem.hint(writing.way_on(&name, &pool)))
        });
        begun.await.or_problem(|| title)
    }

    async fn added_node_containers(&self) -> Result<Vec<NodeContainerRecord>, Problem> {
        let records = self.store.node_containers().await;
        records.or_problem(|| "could not read the node containers".to_owned())
    }

    /// The provisioners that can have node containers.
    fn with_node_containers(&self) -> Vec<Provisioner> {
        let all = self.registry.list().into_iter();
        all.filter(|provisioner| provisioner.supports(Interface::NodeContainers)).collect()
    }

    /// Those of them that are asked about a pool: its own, or all when none is named.
    async fn serving_pool(&self, title: &str, pool: &str) -> Result<Vec<Provisioner>, Problem> {
        let mut serving = self.with_node_containers();
        if !pool.is_empty() {
            let (_, of_pool) = self.pool_or_default(pool.to_owned()).await?;
            serving.retain(|provisioner| provisioner.name() == of_pool);
        }
        if serving.is_empty() {
            return Err(Problem::new(ProblemKind::NotSupported, title)
                .because("no provisioner has node containers")
                .hint("`gantry plugin inspect NAME` shows what a provisioner can do"));
        }
        Ok(serving)
    }

    /// The same for one that may be configured for some only. One that nobody has is for each of them to tell.
    async fn having(
        &self,
        title: &str,
        name: &str,
        pool: &str,
    ) -> Result<Vec<Provisioner>, Problem> {
        let serving = self.serving_pool(title, pool).await?;
        let (having, others): (Vec<_>, Vec<_>) =
            serving.into_iter().partition(|provisioner| self.configured_for(provisioner, name));
        Ok(if having.is_empty() { others } else { having })
    }

    /// Whether a provisioner knows a node container of this name by now.
    fn configured_for(&self, provisioner: &Provisioner, name: &str) -> bool {
        let configured = self.configuration(provisioner.name()).get(CONFIG_KEY);
        configured.is_some_and(|tables| tables.get(name).is_some())
    }
}

impl Writing {
    fn verb(self) -> &'static str {
        match self {
            Self::Add => "node-container-add",
            Self::Update => "node-container-update",
        }
    }

    /// What to type when it is written down and not on every node.
    fn way_on(self, name: &str, pool: &str) -> String {
        let again = format!("`{}` tries again", command("upgrade", name, pool));
        match self {
            Self::Add => format!("{again}, `{}` takes it back", command("remove", name, pool)),
            Self::Update => again,
        }
    }
}

/// What to type for one of a pool, or for the one of every pool.
fn command(verb: &str, name: &str, pool: &str) -> String {
    let of_pool = if pool.is_empty() { String::new() } else { format!(" --pool {pool}") };
    format!("gantry node container {verb} {name}{of_pool}")
}

fn request(
    verb: &'static str,
    caller: Caller,
    name: &str,
    pool: &str,
    having: &[Provisioner],
) -> Request {
    Request {
        verb,
        detail: json!({"name": name, "pool": pool}),
        lock: Some(format!("the node container {name}")),
        // One after the other.
        time: having.iter().map(time_of).fold(RECORD_TIME, |all, one| all.saturating_add(one)),
        caller,
        ..Request::default()
    }
}

/// Has each provisioner do it; one that fails keeps no other from it.
async fn on_nodes(
    work: &Work,
    having: &[Provisioner],
    doing: Doing,
    name: &str,
    pool: &str,
    title: &str,
) -> Result<Value, Problem> {
    let operation = &work.operation;
    let mut failures = Vec::new();
    for provisioner in having {
        let line = format!("---- Node containers of `{}` ----\n", provisioner.name());
        operation.progress.show(&line);
        let done = match doing {
            Doing::Upgrade => provisioner.upgrade_node_container(operation, name, pool).await,
            Doing::Remove => provisioner.remove_node_container(operation, name, pool).await,
        };
        failures.extend(done.or_problem(|| title.to_owned()).err());
    }
    together(failures, having.len()).map(|()| json!({"name": name}))
}

/// The entries as a configuration has them.
fn tables(records: &[NodeContainerRecord]) -> Value {
    let mut by_name = Map::new();
    for NodeContainerRecord { name, pool, entry, .. } in records {
        let pools = by_name.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(pools) = pools {
            pools.insert(pool.clone(), json!(entry));
        }
    }
    Value::Object(by_name)
}

/// What a configuration has, by name and pool.
fn entries(configured: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let names = configured.as_object().into_iter().flatten();
    names.flat_map(|(name, pools)| {
        let pools = pools.as_object().into_iter().flatten();
        pools.map(move |(pool, entry)| (name.as_str(), pool.as_str(), entry))
    })
}

/// An entry as people send it, looked at before anybody has to run it.
fn read_entry(entry: &Value, title: &str) -> Result<NodeContainerEntry, Problem> {
    let invalid =
        |why: String, hint: &str| Problem::new(ProblemKind::Invalid, title).because(why).hint(hint);
    let entry = if entry.is_null() {
        NodeContainerEntry::default()
    } else {
        NodeContainerEntry::deserialize(entry)
            .map_err(|error| invalid(error.to_string(), "`gantry node container add --help`"))?
    };
    let is_variable = |line: &&String| line.split_once('=').is_none_or(|(name, _)| name.is_empty());
    if let Some(line) = entry.config.env.iter().find(is_variable) {
        return Err(invalid(format!("`{line}` is no variable"), "`--env NAME=VALUE`"));
    }
    let is_bind = |bind: &&String| match bind.split(':').collect::<Vec<_>>().as_slice() {
        [from, to] | [from, to, _] => from.is_empty() || !to.starts_with('/'),
        _ => true,
    };
    if let Some(bind) = entry.host_config.binds.iter().find(is_bind) {
        return Err(invalid(
            format!("`{bind}` does not say what is seen where"),
            "`--bind /path/of/the/node:/path[:ro]`",
        ));
    }
    Ok(entry)
}

/// One that can be a container, and in the names of objects.
fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase();
    name.len() <= LONGEST
        && name.bytes().next().is_some_and(letter)
        && name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use gantry_core::node::NodeContainers;

    use super::*;

    #[test]
    fn one_is_named_as_containers_and_objects_can_be() {
        for name in ["bs", "big-sibling", "node-exporter2"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "Bs", "2x", "-x", "a/b", "a b", "a_b", &"a".repeat(41)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn what_to_type_is_about_the_pool_that_was_named() {
        for (writing, pool, expected) in [
            (
                Writing::Add,
                "",
                "`gantry node container upgrade bs` tries again, `gantry node container remove bs` takes it back",
            ),
            (
                Writing::Add,
                "prod",
                "`gantry node container upgrade bs --pool prod` tries again, `gantry node container remove bs --pool prod` takes it back",
            ),
            (Writing::Update, "prod", "`gantry node container upgrade bs --pool prod` tries again"),
        ] {
            assert_eq!(writing.way_on("bs", pool), expected);
        }
    }

    #[test]
    fn what_cannot_run_is_refused_before_it_is_written_down() {
        for (entry, why) in [
            (json!({"imag": "x"}), "unknown field `imag`"),
            (json!({"image": 1}), "invalid type"),
            (json!({"config": {"env": ["A"]}}), "`A` is no variable"),
            (json!({"config": {"env": ["=b"]}}), "`=b` is no variable"),
            (json!({"host-config": {"binds": ["/a"]}}), "`/a` does not say"),
            (json!({"host-config": {"binds": ["/a:b"]}}), "`/a:b` does not say"),
            (json!({"host-config": {"binds": [":/b"]}}), "`:/b` does not say"),
        ] {
            let problem = read_entry(&entry, "no").unwrap_err();
            assert!(problem.detail.contains(why), "{problem:?}");
            assert_eq!(problem.kind, ProblemKind::Invalid);
        }
        let good = json!({
            "image": "i", "config": {"env": ["A=", "B=c=d"]},
            "host-config": {"binds": ["/a:/b:ro", "data:/d"]},
        });
        assert_eq!(read_entry(&good, "no").unwrap().host_config.binds.len(), 2);
        assert_eq!(read_entry(&Value::Null, "no").unwrap(), NodeContainerEntry::default());
    }

    #[test]
    fn what_was_added_looks_as_it_does_in_a_configuration() {
        let record = |name: &str, pool: &str, image: &str| NodeContainerRecord {
            name: name.to_owned(),
            pool: pool.to_owned(),
            entry: NodeContainerEntry { image: image.to_owned(), ..Default::default() },
            changed: 1,
        };
        let tables = tables(&[record("bs", "", "1"), record("bs", "p", "2"), record("x", "", "3")]);
        let expected = json!({
            "bs": {"": {"image": "1"}, "p": {"image": "2"}}, "x": {"": {"image": "3"}},
        });
        assert_eq!(tables, expected);
        let read: Vec<_> = entries(&tables).map(|(name, pool, _)| (name, pool)).collect();
        assert_eq!(read, [("bs", ""), ("bs", "p"), ("x", "")]);
        let all = NodeContainers::read(Some(&tables)).unwrap();
        assert_eq!(all.get("bs").unwrap().of_pool("p").image, "2");
    }
}

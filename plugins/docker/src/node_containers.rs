//! Node containers: what runs once on every machine of some pools (spec 5.14).
//!
//! An image that was pinned is kept until the next upgrade, so that a machine that joins later runs the same as the others.

mod pins;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::mem::discriminant;

use gantry_sdk::config::{self, Config};
use gantry_sdk::containers::{Batch, EngineError};
use gantry_sdk::gantry_core::error::MultiError;
use gantry_sdk::gantry_core::labels::NodeContainerOptions;
use gantry_sdk::gantry_core::node::{CONFIG_KEY, NodeContainer, NodeContainers};
use gantry_sdk::{Error, Labels, Settings, labels, log, operation};

use self::pins::Pins;
use self::task::{Goal, Stage, Task};
use crate::machine::{self, Machine, Machines, is_of_machine};
use crate::observe::Sight;
use crate::{PROVISIONER, limits};

type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, by machine.
type Failures = Vec<(String, EngineError)>;

/// What all of them carry.
const IS_NODE_CONTAINER: &str = "is-node-container";

/// Starts what is configured for a machine's pool and does not run there. What runs is let be.
pub(crate) fn ensure(node: &str) -> Result<()> {
    together(missing_started(&[node])?)
}

/// The same on several machines, side by side. Gives the first that failed, with its failure.
pub(crate) fn ensure_on(nodes: &[&str]) -> Result<(), (String, EngineError)> {
    let ours = |error: Error| (String::new(), EngineError::Failed(error.to_string()));
    match missing_started(nodes).map_err(ours)?.into_iter().next() {
        Some(failed) => Err(failed),
        None => Ok(()),
    }
}

fn missing_started(nodes: &[&str]) -> Result<Failures> {
    let all = configured()?;
    if all.is_empty() || nodes.is_empty() {
        return Ok(Failures::new());
    }
    let machines = Machines::read()?;
    let mut tasks = Vec::new();
    for node in nodes {
        let pool = pool_of(machines.find(node)?);
        let containers = all.iter().map(|(_, pools)| pools.of_pool(pool));
        let containers = containers.filter(NodeContainer::is_valid);
        tasks.extend(containers.map(|container| Task::new(node, pool, container, Goal::There)));
    }
    run(tasks)
}

/// Takes all of them away from a machine that leaves. One that does not answer keeps them: nobody can reach it.
pub(crate) fn leave(node: &str) -> Result<()> {
    let labels = Labels::from([(IS_NODE_CONTAINER.to_owned(), "true".to_owned())]);
    let sight = Sight::of(&BTreeSet::from([node]), &labels)?;
    let mut tasks = Vec::new();
    for (node, said) in sight.nodes() {
        match said {
            Ok(containers) => {
                let names = containers.iter().map(|container| container.name.as_str());
                tasks.extend(names.map(|name| Task::new(node, "", named(name), Goal::Gone)));
            }
            Err(error) if is_of_machine(error) => {
                let fields = [("node", node), ("error", &error.to_string())];
                log::warn("node containers stay on a node that does not answer", &fields);
            }
            Err(error) => return Err(error.clone().into()),
        }
    }
    together(run(tasks)?)
}

/// Makes the node container of a name anew on every machine, or on those of a pool, from the image as its name means it now.
pub(crate) fn upgrade(name: &str, pool: &str) -> Result<()> {
    let all = configured()?;
    let pools = all.get(name).ok_or_else(|| {
        Error::NotFound(format!("no node container `{name}` in the configuration"))
    })?;
    Pins::forget(name, pool)?;
    let machines = Machines::read()?;
    let mut skipped = BTreeSet::new();
    let mut tasks = Vec::new();
    for machine in of_pool(&machines, pool) {
        let pool = pool_of(machine);
        let container = pools.of_pool(pool);
        if container.is_valid() {
            tasks.push(Task::new(&machine.address, pool, container, Goal::Anew));
        } else if skipped.insert(pool) {
            operation::progress(&container.headline(name, pool));
        }
    }
    together(run(tasks)?)
}

/// Removes the node container of a name from every machine, or from those of a pool.
pub(crate) fn remove(name: &str, pool: &str) -> Result<()> {
    Pins::forget(name, pool)?;
    let machines = Machines::read()?;
    let task =
        |machine: &Machine| Task::new(&machine.address, pool_of(machine), named(name), Goal::Gone);
    together(run(of_pool(&machines, pool).map(task).collect())?)
}

/// The environment of the node container of a name in a pool, by variable; of two with one name the last counts. Empty when there is no such node container.
pub(crate) fn env(name: &str, pool: &str) -> Result<BTreeMap<String, String>> {
    let all = configured()?;
    let container = all.get(name).map(|pools| pools.of_pool(pool)).unwrap_or_default();
    let variables = container.env.iter().filter_map(|line| line.split_once('='));
    Ok(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn configured() -> Result<NodeContainers> {
    NodeContainers::read(config::get(CONFIG_KEY).as_ref())
        .map_err(|error| Error::InvalidArgument(error.to_string()))
}

/// One of which only the name matters.
fn named(name: &str) -> NodeContainer {
    NodeContainer { name: name.to_owned(), ..NodeContainer::default() }
}

/// The pool whose entry counts on a machine. One that serves every pool has the base's.
fn pool_of(machine: &Machine) -> &str {
    match machine.pool() {
        "*" => "",
        pool => pool,
    }
}

fn of_pool<'m>(machines: &'m Machines, pool: &str) -> impl Iterator<Item = &'m Machine> {
    machines.all().iter().filter(move |machine| pool.is_empty() || machine.pool() == pool)
}

/// Does all of it side by side, at most `docker:nodecontainer:max-workers` at once, and gives all that failed: nothing keeps another from being done.
fn run(tasks: Vec<Task>) -> Result<Failures> {
    let workers = Config.integer("docker:nodecontainer:max-workers").unwrap_or_default();
    let workers = usize::try_from(workers).ok().filter(|workers| *workers > 0);
    let names = tasks.iter().map(|task| task.container.name.as_str()).collect();
    let mut work = Work {
        pins: Pins::read(&names)?,
        batch: Batch::submit(Vec::new())?,
        under_way: Vec::new(),
    };
    let mut waiting = tasks.into_iter();
    let mut failures = Failures::new();
    for task in waiting.by_ref().take(workers.unwrap_or(usize::MAX)) {
        work.begin(task, Stage::Find)?;
    }
    while let Some((mut task, stage, ended)) = work.next_ended() {
        let next = task.next(stage, ended, &mut work.pins);
        work.pins.save();
        if let Some(told) = task.told() {
            operation::progress(&told);
        }
        match next {
            Ok(Some(stage)) => work.begin(task, stage)?,
            ended => {
                if let Err(error) = ended {
                    if is_of_machine(&error) {
                        machine::note_failure(&task.node, &error);
                    }
                    failures.push((task.node.clone(), task.failure(error)));
                }
                if let Some(task) = waiting.next() {
                    work.begin(task, Stage::Find)?;
                }
            }
        }
    }
    Ok(failures)
}

/// Tasks under way.
struct Work {
    pins: Pins,
    batch: Batch,
    /// By the index of the batch's sequences.
    under_way: Vec<Option<(Task, Stage)>>,
}

impl Work {
    fn begin(&mut self, task: Task, stage: Stage) -> Result<()> {
        let steps = task.steps(&stage, &self.pins, &labels_of(&task));
        self.batch.add(vec![limits::sequence(&task.node, steps)])?;
        self.under_way.push(Some((task, stage)));
        Ok(())
    }

    fn next_ended(&mut self) -> Option<(Task, Stage, task::Ended)> {
        loop {
            let completion = self.batch.next_ended()?;
            let place = self.under_way.get_mut(completion.index);
            if let Some((task, stage)) = place.and_then(Option::take) {
                let ended =
                    task::Ended { replies: completion.replies, failure: completion.failure };
                return Some((task, stage, ended));
            }
        }
    }
}

fn labels_of(task: &Task) -> Labels {
    labels::node_container(&NodeContainerOptions {
        name: &task.container.name,
        custom_labels: &task.container.labels,
        pool: &task.pool,
        provisioner: PROVISIONER,
        prefix: "",
    })
    .to_labels()
}

/// One failure is itself; several are told together, and where all failed in one way, so did the whole.
fn together(failures: Failures) -> Result<()> {
    let mut failures: Vec<EngineError> = failures.into_iter().map(|(_, error)| error).collect();
    if failures.contains(&EngineError::Cancelled) {
        return Err(Error::Cancelled);
    }
    match (failures.pop(), failures.is_empty()) {
        (None, _) => Ok(()),
        (Some(only), true) => Err(only.into()),
        (Some(last), false) => {
            let is_like = |other: &EngineError| discriminant(other) == discriminant(&last);
            let are_alike = failures.iter().all(is_like);
            failures.push(last.clone());
            let errors = failures.into_iter().map(|error| error.to_string().into());
            let text = MultiError::new(errors.collect()).to_string();
            Err(if are_alike { last.map_text(|_| text).into() } else { Error::Other(text) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(address: &str, pool: &str) -> Machine {
        let metadata = if pool.is_empty() {
            BTreeMap::new()
        } else {
            BTreeMap::from([("pool".to_owned(), pool.to_owned())])
        };
        Machine { metadata, ..Machine::unknown(address) }
    }

    #[test]
    fn a_machine_has_the_entries_of_its_pool_and_one_of_every_pool_the_base() {
        for (pool, expected) in [("", ""), ("*", ""), ("p", "p")] {
            assert_eq!(pool_of(&machine("a", pool)), expected, "{pool:?}");
        }
        let given = ["a", "b", "c"].map(str::to_owned).to_vec();
        let machines = Machines::of(given, vec![machine("a", "p"), machine("b", "q")]);
        let of = |pool| -> Vec<&str> {
            of_pool(&machines, pool).map(|machine| machine.address.as_str()).collect()
        };
        assert_eq!(of(""), ["a", "b", "c"]);
        assert_eq!(of("p"), ["a"]);
    }

    #[test]
    fn what_failed_on_several_machines_is_told_together() {
        let failed = |text: &str| ("n".to_owned(), EngineError::Unreachable(text.to_owned()));
        let cancelled = ("n".to_owned(), EngineError::Cancelled);
        assert_eq!(together(Vec::new()), Ok(()));
        assert_eq!(together(vec![failed("a")]), Err(Error::Unavailable("a".to_owned())));
        assert_eq!(together(vec![failed("a"), cancelled]), Err(Error::Cancelled));
        let text = "multiple errors reported (2):\nerror #0: a\nerror #1: b\n".to_owned();
        let alike = together(vec![failed("a"), failed("b")]);
        assert_eq!(alike, Err(Error::Unavailable(text.clone())));
        let other = ("n".to_owned(), EngineError::Denied("b".to_owned()));
        assert_eq!(together(vec![failed("a"), other]), Err(Error::Other(text)));
    }
}

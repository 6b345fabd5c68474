//! Where new units go: the scheduler over what is written down, with room taken on the way (spec 5.11).
//!
//! Two changes may look for places at the same time. What one has chosen and not started yet is written down in `placing`, so that the other counts it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use gantry_sdk::config::Config;
use gantry_sdk::containers::{Batch, EngineError, Sequence, Step, StepReply};
use gantry_sdk::gantry_core::error::ContractError;
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Error, Settings, apps, log, operation};

use crate::failure::Failure;
use crate::host::Host;
use crate::image::Prepared;
use crate::launch::{MOST_NODES, Place, Placing, too_many};
use crate::machine::{self, Machine, Machines, is_of_machine};
use crate::observe::PATIENCE;
use crate::planned::Planned;
use crate::reservation::{GivenBack, Reservation};
use crate::scheduler::{Memory, Node, Placer};
use crate::{messages, name, node_containers, records};

type Result<T, E = Error> = std::result::Result<T, E>;

/// Where new units may be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preference {
    /// There first, the units in the order of `replaced`. Where one takes nothing any more, all are found anew.
    pub(crate) planned: Option<Rc<Planned>>,
    /// The ids of units that are about to go, and do not count.
    pub(crate) replaced: Vec<String>,
}

/// The places of units that are about to start.
pub(crate) struct Places<'a> {
    app: &'a App,
    image: &'a Prepared,
    preference: &'a Preference,
    silent: &'a BTreeSet<String>,
    /// By their nodes: what the image is called there.
    images: BTreeMap<String, String>,
    /// The nodes on which the node containers run.
    ready: BTreeSet<String>,
    found: Vec<Place>,
    /// What was written down of units when it was last read.
    known: Option<Known>,
    /// Given back when the units have started, or have not.
    reserved: Option<Reservation>,
}

/// The units that are written down, without those that do not count.
struct Known {
    /// How often others had given places back by then.
    given_back: u64,
    units: Vec<UnitRecord>,
    memory: Memory,
}

impl Known {
    fn read(app: &App, replaced: &[String], given_back: u64) -> Result<Self> {
        let replaced: BTreeSet<&String> = replaced.iter().collect();
        let mut units = records::all()?;
        units.retain(|unit| !replaced.contains(&unit.id));
        let memory = memory(Some(app), &units)?;
        Ok(Self { given_back, units, memory })
    }

    /// Those with the ones that are about to start.
    fn with(&mut self, coming: Vec<UnitRecord>) -> Result<Vec<UnitRecord>> {
        learn_needs(&mut self.memory, &coming)?;
        Ok(with_coming(self.units.clone(), coming))
    }
}

/// Units that are written down, with those that are about to start and are not.
pub(crate) fn with_coming(
    mut units: Vec<UnitRecord>,
    mut coming: Vec<UnitRecord>,
) -> Vec<UnitRecord> {
    let known: BTreeSet<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
    coming.retain(|unit| !known.contains(unit.name.as_str()));
    units.append(&mut coming);
    units
}

impl<'a> Places<'a> {
    /// Finds a place for each unit, with the image there.
    pub(crate) fn find(
        app: &'a App,
        image: &'a Prepared,
        units: &[&UnitRecord],
        preference: &'a Preference,
        silent: &'a BTreeSet<String>,
    ) -> Result<Self, Failure> {
        let images = BTreeMap::from([(image.node.clone(), image.reference.clone())]);
        let (ready, found) = (BTreeSet::new(), Vec::new());
        let mut places = Self {
            app,
            image,
            preference,
            silent,
            images,
            ready,
            found,
            known: None,
            reserved: None,
        };
        let mut failed = BTreeSet::new();
        loop {
            let nodes = places.choose(units, &failed)?;
            match places.everywhere(&nodes) {
                Ok(()) => {
                    let images = &places.images;
                    let place = |node: String| Place {
                        image: images.get(&node).cloned().unwrap_or_default(),
                        node,
                    };
                    places.found = nodes.into_iter().map(place).collect();
                    return Ok(places);
                }
                Err((node, error)) => {
                    if is_of_machine(&error) {
                        machine::note_failure(&node, &error);
                    }
                    let may_go_on = others_may_do(&error);
                    let failure = Failure::engine(&node, error);
                    if !may_go_on || !failed.insert(node) {
                        return Err(failure);
                    }
                    // Nobody else to ask: why this one failed says more than that there is nobody.
                    let machines = Machines::read()?;
                    let next = candidates(&machines, app, silent, &failed);
                    let Some(next) = next.first() else { return Err(failure) };
                    operation::progress(&messages::elsewhere(&failure, &next.address));
                }
            }
        }
    }

    /// The places, in the order of the units.
    pub(crate) fn found(&self) -> Vec<Place> {
        self.found.clone()
    }

    /// A node for each unit.
    fn choose(&mut self, units: &[&UnitRecord], failed: &BTreeSet<String>) -> Result<Vec<String>> {
        let machines = Machines::read()?;
        let machines = candidates(&machines, self.app, self.silent, failed);
        let nodes = allowed(&machines, self.app)?;
        if let Some(planned) = self.preference.planned.as_ref().filter(|_| failed.is_empty()) {
            let reserved = self.reserved.get_or_insert_with(Reservation::new);
            let takes = |target: &str| nodes.iter().any(|node| node.address == target);
            let old = &self.preference.replaced;
            if let Some(nodes) = planned.take(reserved, self.app, units, old, takes)? {
                return Ok(nodes);
            }
        }
        // With one machine that takes anything there is nothing to choose.
        if let ([only], false) = (nodes.as_slice(), memory_counts()) {
            return Ok(vec![only.address.clone(); units.len()]);
        }
        let wanted: Vec<&str> = units.iter().map(|unit| unit.process_name.as_str()).collect();
        let reserved = self.reserved.take().unwrap_or_else(Reservation::new);
        let Self { app, preference, known, .. } = self;
        let chosen = reserved.take(app, units, |coming, given_back| {
            // Whatever others wrote down while this change holds places they hold still, or have given back.
            let GivenBack { times, holds } = given_back;
            let fresh = known.take().filter(|known| holds && known.given_back == times);
            let fresh = match fresh {
                Some(fresh) => fresh,
                None => Known::read(app, &preference.replaced, times)?,
            };
            let fresh = known.insert(fresh);
            let there = fresh.with(coming)?;
            choose(app, &nodes, &there, fresh.memory.clone(), &wanted)
        });
        if chosen.is_err() {
            // For those who hold nothing nobody counts.
            self.known = None;
        }
        self.reserved = Some(reserved);
        chosen
    }

    /// Gets the image onto each of these nodes, all at once, and starts what runs on every one before any unit does. Gives the node that failed, with its failure.
    fn everywhere(&mut self, nodes: &[String]) -> Result<(), (String, EngineError)> {
        let new: BTreeSet<&str> =
            nodes.iter().filter(|node| !self.ready.contains(*node)).map(String::as_str).collect();
        let new: Vec<&str> = new.into_iter().collect();
        node_containers::ensure_on(&new)?;
        self.ready.extend(new.into_iter().map(ToOwned::to_owned));
        let missing: BTreeSet<&String> =
            nodes.iter().filter(|node| !self.images.contains_key(*node)).collect();
        let missing: Vec<String> = missing.into_iter().cloned().collect();
        let found = on_each(&missing, self.image)?;
        self.images.extend(found);
        Ok(())
    }
}

impl Placing for Places<'_> {
    fn elsewhere(&mut self, unit: &UnitRecord, failed: &BTreeSet<String>) -> Option<Place> {
        let mut failed = failed.clone();
        loop {
            let node = self.choose(&[unit], &failed).ok()?.into_iter().next()?;
            match self.everywhere(std::slice::from_ref(&node)) {
                Ok(()) => {
                    let image = self.images.get(&node).cloned().unwrap_or_default();
                    return Some(Place { node, image });
                }
                Err((node, error)) => {
                    let fields = [("node", node.as_str()), ("error", &error.to_string())];
                    log::warn("a node cannot take a unit", &fields);
                    if is_of_machine(&error) {
                        machine::note_failure(&node, &error);
                    }
                    if !failed.insert(node) {
                        return None;
                    }
                }
            }
        }
    }
}

/// The machines that units of an app may be on. Those that did not answer are only asked when there are no others, and so are those that failed a moment ago.
fn candidates<'m>(
    machines: &'m Machines,
    app: &App,
    silent: &BTreeSet<String>,
    failed: &BTreeSet<String>,
) -> Vec<&'m Machine> {
    let now = name::now();
    let of_pool = || {
        let all = machines.of_pool(&app.pool).into_iter();
        all.filter(|machine| !failed.contains(&machine.address))
    };
    let well: Vec<_> = of_pool()
        .filter(|machine| machine.is_enabled(now) && !silent.contains(&machine.address))
        .collect();
    if !well.is_empty() {
        return well;
    }
    of_pool().filter(|machine| machine.takes_units()).collect()
}

/// The same for the scheduler.
fn allowed(machines: &[&Machine], app: &App) -> Result<Vec<Node>> {
    let nodes: Vec<Node> = machines
        .iter()
        .map(|machine| Node {
            address: machine.address.clone(),
            // One that serves every pool is of this one.
            metadata: machine.metadata_in(&app.pool),
            enabled: true,
        })
        .collect();
    let candidates =
        crate::scheduler::candidates(&nodes, Some(&app.pool), None).map_err(unplaced)?;
    Ok(candidates.into_iter().cloned().collect())
}

/// The reference's words for a unit that there is no node for.
fn unplaced(why: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Conflict(ContractError::Scheduler(Box::new(why)).to_string())
}

/// The decision: a node for each unit, each in sight of those before.
fn choose(
    app: &App,
    nodes: &[Node],
    there: &[UnitRecord],
    memory: Memory,
    wanted: &[&str],
) -> Result<Vec<String>> {
    let candidates: Vec<&Node> = nodes.iter().collect();
    let mut placer = Placer::new(&candidates, there, memory);
    if let Some(why) = placer.imbalance() {
        log::warn(&why, &[("app", &app.name)]);
    }
    wanted
        .iter()
        .map(|process| {
            let place = placer.place(&app.name, process).map_err(unplaced)?;
            if let Some(warning) = place.warning {
                log::warn(&warning, &[("app", &app.name)]);
            }
            Ok(place.address)
        })
        .collect()
}

/// Whether there is a limit to what nodes may promise.
pub(crate) fn memory_counts() -> bool {
    limits().is_some()
}

/// How much of a node's memory may be promised, and the metadata that tells how much it has.
fn limits() -> Option<(f32, String)> {
    let total_key = Config.string("docker:scheduler:total-memory-metadata");
    let ratio = ratio(Config.get("docker:scheduler:max-used-memory").as_ref());
    (!total_key.is_empty() && ratio != 0.0).then_some((ratio, total_key))
}

/// What the operator says about memory, with what the apps of these units need.
pub(crate) fn memory(app: Option<&App>, there: &[UnitRecord]) -> Result<Memory> {
    let Some((ratio, total_key)) = limits() else { return Ok(Memory::default()) };
    let of_apps = app.map(|app| (app.name.clone(), app.memory)).into_iter().collect();
    // A pool that gets more machines by itself takes units all the same (spec 5.11).
    let grows = Config.get("docker:auto-scale:enabled").is_some_and(|value| value == true);
    let mut memory = Memory { ratio, total_key, of_apps, grows };
    learn_needs(&mut memory, there)?;
    Ok(memory)
}

/// Finds out what the apps of these units need, where memory counts.
pub(crate) fn learn_needs(memory: &mut Memory, units: &[UnitRecord]) -> Result<()> {
    if memory.ratio == 0.0 {
        return Ok(());
    }
    for unit in units {
        if !memory.of_apps.contains_key(&unit.app_name) {
            let bytes = match apps::get(&unit.app_name) {
                Ok(app) => app.memory,
                // An app that is gone needs nothing.
                Err(Error::NotFound(_)) => 0,
                Err(error) => return Err(error),
            };
            memory.of_apps.insert(unit.app_name.clone(), bytes);
        }
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "the reference reads single precision")]
fn ratio(value: Option<&serde_json::Value>) -> f32 {
    value.and_then(serde_json::Value::as_f64).unwrap_or_default() as f32
}

/// What a node was asked about the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Whether it is there.
    ByName,
    /// The same by its id: its name means another one there.
    ById,
    /// To get it.
    Pull,
}

impl Asked {
    fn steps(self, image: &Prepared) -> Vec<Step> {
        match self {
            Self::ByName => vec![Step::InspectImage(image.reference.clone())],
            Self::ById => vec![Step::InspectImage(image.id.clone())],
            Self::Pull => {
                let name = &image.name;
                vec![Step::PullImage(name.clone()), Step::InspectImage(name.clone())]
            }
        }
    }

    /// What to ask next: none when the node has the image, or nothing helps. `found` is whether there is one of that name, and whether it is the one.
    fn next(self, found: Option<bool>) -> Option<Self> {
        match (self, found) {
            (_, Some(true)) | (Self::Pull, _) => None,
            (Self::ByName, Some(false)) => Some(Self::ById),
            (Self::ByName | Self::ById, _) => Some(Self::Pull),
        }
    }
}

/// What each node calls the image, pulled where it is not there.
fn on_each(
    nodes: &[String],
    image: &Prepared,
) -> Result<BTreeMap<String, String>, (String, EngineError)> {
    let ask = |node: &String, asked: Asked| Sequence::new(node, asked.steps(image));
    let first = nodes.iter().map(|node| ask(node, Asked::ByName)).collect();
    let ours = |error| (String::new(), error);
    let mut batch = Batch::submit(first).map_err(ours)?;
    let mut asked: Vec<(&String, Asked)> = nodes.iter().map(|node| (node, Asked::ByName)).collect();
    let mut references = BTreeMap::new();
    while let Some(completion) = batch.next_ended() {
        let Some(&(node, what)) = asked.get(completion.index) else { continue };
        let found = match &completion.failure {
            None => {
                let id = completion.replies.iter().find_map(id_of);
                Some(id.is_some_and(|id| image.id.is_empty() || id == image.id))
            }
            Some(EngineError::NotFound(_)) if what != Asked::Pull => None,
            Some(error) => return Err((node.clone(), error.clone())),
        };
        match what.next(found) {
            Some(next) => {
                if next == Asked::Pull {
                    operation::progress(&messages::pulling_on(&image.name, node));
                }
                asked.push((node, next));
                batch.add(vec![ask(node, next)]).map_err(ours)?;
            }
            None if found == Some(true) => {
                let by_id = what == Asked::ById;
                let reference = if by_id { &image.id } else { &image.reference };
                references.insert(node.clone(), reference.clone());
            }
            None => return Err((node.clone(), another(image))),
        }
    }
    Ok(references)
}

fn another(image: &Prepared) -> EngineError {
    let (name, node) = (&image.name, &image.node);
    EngineError::Conflict(format!(
        "the image `{name}` is another one there than on {node}: give each version a tag of its own"
    ))
}

/// Whether another node may do what one could not (spec 5.3): it has the image, or can get it, or has room.
pub(crate) fn others_may_do(error: &EngineError) -> bool {
    match error {
        EngineError::NotFound(_)
        | EngineError::Unreachable(_)
        | EngineError::TimedOut(_)
        | EngineError::Failed(_) => true,
        EngineError::Conflict(_)
        | EngineError::Invalid(_)
        | EngineError::Denied(_)
        | EngineError::Cancelled => false,
    }
}

fn id_of(reply: &StepReply) -> Option<&str> {
    match reply {
        StepReply::Image(image) => Some(&image.id),
        StepReply::Done
        | StepReply::Id(_)
        | StepReply::Container(_)
        | StepReply::Exec(_)
        | StepReply::Bytes(_)
        | StepReply::Http(_)
        | StepReply::Containers(_) => None,
    }
}

/// The node for one container that is no unit: the emptiest.
pub(crate) fn host_for_one(app: &App) -> Result<Host> {
    emptiest(app, &BTreeSet::new())
}

fn emptiest(app: &App, silent: &BTreeSet<String>) -> Result<Host> {
    let machines = Machines::read()?;
    emptiest_of(app, &candidates(&machines, app, silent, &BTreeSet::new()))
}

/// The emptiest node but these; none when there is no other.
fn emptiest_but(app: &App, failed: &BTreeSet<String>) -> Result<Option<Host>> {
    let machines = Machines::read()?;
    let others = candidates(&machines, app, &BTreeSet::new(), failed);
    if others.is_empty() {
        return Ok(None);
    }
    emptiest_of(app, &others).map(Some)
}

fn emptiest_of(app: &App, machines: &[&Machine]) -> Result<Host> {
    let nodes = allowed(machines, app)?;
    if let [only] = nodes.as_slice() {
        return Host::open(&only.address);
    }
    let there = records::all()?;
    let chosen = choose(app, &nodes, &there, memory(Some(app), &there)?, &[""])?;
    Host::open(chosen.first().ok_or(Error::NodeNotFound)?)
}

/// The node that has an image: one that runs units of it, else any that says so; without one, the emptiest. Nodes that do not answer are noted, and not waited for.
pub(crate) fn host_with(
    app: &App,
    image: &str,
    units: &[UnitRecord],
    silent: &BTreeSet<String>,
) -> Result<Host> {
    let machines = Machines::read()?;
    let nodes = nodes_for(&machines, app, silent)?;
    let runs =
        |node: &&Node| units.iter().any(|unit| unit.image == image && unit.node == node.address);
    let known = if let [only] = nodes.as_slice() { Some(only) } else { nodes.iter().find(runs) };
    if let Some(node) = known {
        return Host::open(&node.address);
    }
    let look = |node: &Node| {
        Sequence::new(&node.address, vec![Step::InspectImage(image.to_owned())]).within(PATIENCE)
    };
    let looked = Batch::submit(nodes.iter().map(look).collect())?.all();
    let mut silent = silent.clone();
    let mut having = None;
    for (looked, node) in looked.into_iter().zip(&nodes) {
        match looked.failure {
            None => having = having.or(Some(node)),
            Some(error) if is_of_machine(&error) => {
                machine::note_failure(&node.address, &error);
                silent.insert(node.address.clone());
            }
            Some(EngineError::Cancelled) => return Err(Error::Cancelled),
            Some(_) => {}
        }
    }
    match having {
        Some(node) => Host::open(&node.address),
        None => emptiest(app, &silent),
    }
}

fn nodes_for(machines: &Machines, app: &App, silent: &BTreeSet<String>) -> Result<Vec<Node>> {
    let candidates = candidates(machines, app, silent, &BTreeSet::new());
    allowed(&candidates, app)
}

/// What the scheduler sees when units of an app go: the nodes of its pool, and the units of others.
pub(crate) fn seen_by(app: &App, units: &[UnitRecord]) -> Result<(Vec<Node>, Vec<UnitRecord>)> {
    let machines = Machines::read()?;
    let nodes = nodes_for(&machines, app, &BTreeSet::new()).unwrap_or_default();
    let mut others = Vec::new();
    if nodes.len() > 1 {
        others = records::all()?;
        others.retain(|other| units.iter().all(|unit| unit.name != other.name));
    }
    Ok((nodes, others))
}

/// Why something was not done on a node.
#[derive(Debug)]
pub(crate) enum NotDone {
    /// Its engine did not do it.
    Engine(EngineError),
    /// What no other node would change.
    Other(Failure),
}

impl From<EngineError> for NotDone {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<Failure> for NotDone {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<Error> for NotDone {
    fn from(error: Error) -> Self {
        Self::Other(error.into())
    }
}

/// Does something that one node is enough for: on this one, and where it fails on the next that may do it, as units are started (spec 5.3). Gives the node too.
pub(crate) fn on_one<T>(
    app: &App,
    first: Host,
    mut attempt: impl FnMut(&Host) -> Result<T, NotDone>,
) -> Result<(Host, T), Failure> {
    let (mut host, mut failed) = (first, BTreeSet::new());
    loop {
        let error = match attempt(&host) {
            Ok(done) => return Ok((host, done)),
            Err(NotDone::Engine(error)) => error,
            Err(NotDone::Other(failure)) => return Err(failure),
        };
        if is_of_machine(&error) {
            machine::note_failure(&host.address, &error);
        }
        let may_go_on = others_may_do(&error);
        let failure = Failure::engine(&host.address, error);
        if !may_go_on {
            return Err(failure);
        }
        failed.insert(host.address);
        if failed.len() >= MOST_NODES {
            return Err(too_many(failure));
        }
        // Nobody else to ask: why this one failed says more than that there is nobody.
        let Some(next) = emptiest_but(app, &failed)? else { return Err(failure) };
        operation::progress(&messages::elsewhere(&failure, &next.address));
        host = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_the_image_that_is_meant_or_says_that_it_has_another() {
        let table = [
            (Asked::ByName, None, Some(Asked::Pull)),
            (Asked::ByName, Some(true), None),
            (Asked::ByName, Some(false), Some(Asked::ById)),
            (Asked::ById, Some(true), None),
            (Asked::ById, None, Some(Asked::Pull)),
            (Asked::Pull, Some(true), None),
            (Asked::Pull, Some(false), None),
        ];
        for (asked, found, next) in table {
            assert_eq!(asked.next(found), next, "{asked:?} {found:?}");
        }
    }

    #[test]
    fn a_unit_without_a_place_is_no_engine_out_of_reach() {
        let error = unplaced(crate::scheduler::NoPlace::NoneAllowed);
        let text = "error in scheduler: none of the allowed nodes can take the unit";
        assert_eq!(error, Error::Conflict(text.to_owned()));
    }

    #[test]
    fn only_what_another_node_may_do_is_tried_there() {
        let text = String::new;
        assert!(others_may_do(&EngineError::NotFound(text())));
        assert!(others_may_do(&EngineError::Unreachable(text())));
        assert!(!others_may_do(&EngineError::Denied(text())));
        assert!(!others_may_do(&EngineError::Cancelled));
    }
}

//! Units that change places (spec 5.12): away from a machine that goes, and over all of them when they are spread anew. The new unit is started, bound, checked and routed before the old one goes, so a
//! move that fails leaves the old one serving.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use gantry_sdk::gantry_core::node::RebalanceOptions;
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Error, Result, Status, apps, images, log, operation, quote};

use crate::change::{self, Change, REPLACE};
use crate::host::host_of;
use crate::machine::{Machine, Machines, POOL};
use crate::placing::{self, Preference};
use crate::planned::{self, Planned, Target};
use crate::reservation::Watch;
use crate::scheduler::{self, Cluster, Filter, Memory, Node, Placer};
use crate::{image, name, observe, records};

/// So many lines are told at once.
const LINES: usize = 256;

/// A unit, and where it goes; wherever there is room when nobody says.
#[derive(Clone, Debug)]
struct Step {
    unit: UnitRecord,
    to: Option<String>,
}

/// Moves units to other machines.
pub(crate) fn away(units: Vec<UnitRecord>) -> Result<()> {
    if units.is_empty() {
        return Ok(());
    }
    let watch = planned::watch()?;
    let (steps, memory) = placed(units)?;
    run(steps, watch, memory).map(drop)
}

/// Where these units go, found for all of them at once: what is written down is read once, however many apps there are. For one without a place that is told when its turn comes. Gives what the apps need, too.
fn placed(units: Vec<UnitRecord>) -> Result<(Vec<Step>, Memory)> {
    let machines = Machines::read()?;
    let pools = pools(&units)?;
    let leaving: BTreeSet<&str> = units.iter().map(|unit| unit.id.as_str()).collect();
    let mut others = records::all()?;
    let memory = placing::memory(None, &others)?;
    others.retain(|other| !leaving.contains(other.id.as_str()));
    let names: BTreeSet<&String> = pools.values().collect();
    let nodes: BTreeMap<&String, Vec<Node>> =
        names.into_iter().map(|pool| (pool, nodes(&machines, pool))).collect();
    let mut placers: BTreeMap<&String, Placer<'_>> = BTreeMap::new();
    for (pool, nodes) in &nodes {
        if let Ok(candidates) = scheduler::candidates(nodes, Some(pool), None) {
            placers.insert(pool, Placer::new(&candidates, &others, memory.clone()));
        }
    }
    let mut place = |UnitRecord { app_name, process_name, .. }: &UnitRecord| {
        let pool = pools.get(app_name)?;
        let to = placers.get_mut(pool)?.place(app_name, process_name).ok()?.address;
        // Pools may share machines.
        for (_, placer) in placers.iter_mut().filter(|(other, _)| **other != pool) {
            placer.put(app_name, process_name, &to);
        }
        Some(to)
    };
    let steps = units.into_iter().map(|unit| Step { to: place(&unit), unit }).collect();
    Ok((steps, memory))
}

/// The machines of a pool, as the scheduler sees them.
fn nodes(machines: &Machines, pool: &str) -> Vec<Node> {
    let now = name::now();
    let node = |machine: &Machine| Node {
        address: machine.address.clone(),
        metadata: machine.metadata_in(pool),
        enabled: machine.is_enabled(now),
    };
    machines.of_pool(pool).into_iter().map(node).collect()
}

/// Spreads units anew, pool by pool; tells whether any moved, or would.
pub(crate) fn rebalance(options: &RebalanceOptions) -> Result<bool> {
    let machines = Machines::read()?;
    let watch = if options.dry { None } else { planned::watch()? };
    let mut units = of_apps()?;
    let pools = pools(&units)?;
    let asked = match options.metadata_filter.get(POOL).unwrap_or(&options.pool) {
        pool if pool.is_empty() => pools.values().cloned().collect(),
        pool => BTreeSet::from([pool.clone()]),
    };
    let mut any = false;
    for pool in asked {
        // Pools may share machines, and units of the one before have moved.
        if any && !options.dry {
            units = of_apps()?;
        }
        any |= in_pool(options, &machines, &units, &pools, pool, watch.clone())?;
    }
    Ok(any)
}

/// Every unit that no build made.
fn of_apps() -> Result<Vec<UnitRecord>> {
    let mut units = records::all()?;
    units.retain(|unit| !unit.is_build());
    Ok(units)
}

fn in_pool(
    options: &RebalanceOptions,
    machines: &Machines,
    units: &[UnitRecord],
    pools: &BTreeMap<String, String>,
    pool: String,
    watch: Option<Rc<Watch>>,
) -> Result<bool> {
    let nodes = nodes(machines, &pool);
    let memory = placing::memory(None, units)?;
    let cluster = Cluster { nodes: &nodes, units, pools, memory: &memory };
    let filter = Filter {
        metadata: options.metadata_filter.clone(),
        apps: options.app_filter.clone(),
        pool,
    };
    let Some(plan) = scheduler::rebalance(&cluster, &filter, options.force) else {
        return Ok(false);
    };
    for line in &plan.lines {
        operation::progress(line);
    }
    let (mut steps, mut placeless) = (Vec::new(), None);
    for step in plan.moves {
        match step.to {
            Ok(to) => steps.push(Step { unit: step.unit.clone(), to: Some(to.address) }),
            Err(why) => {
                operation::progress(&scheduler::stays(step.unit, &why.to_string()));
                placeless = placeless.or(Some(Error::Conflict(why.to_string())));
            }
        }
    }
    if options.dry {
        let line = |Step { unit, to }: &Step| {
            let to = to.as_deref().map(host_of).unwrap_or_default();
            scheduler::would_move(unit, &unit.id, &to)
        };
        // A call for each line would be more calls than a plugin may make.
        for steps in steps.chunks(LINES) {
            operation::progress(&steps.iter().map(line).collect::<String>());
        }
        return Ok(!steps.is_empty());
    }
    let moved = run(steps, watch, memory)?;
    placeless.map_or(Ok(moved > 0), Err)
}

/// The pool of each app that has units. One that nobody knows any more has none.
pub(crate) fn pools(units: &[UnitRecord]) -> Result<BTreeMap<String, String>> {
    let names: BTreeSet<&str> = units.iter().map(|unit| unit.app_name.as_str()).collect();
    let mut pools = BTreeMap::new();
    for name in names {
        match apps::get(name) {
            Ok(app) => pools.insert(name.to_owned(), app.pool),
            Err(Error::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
    }
    Ok(pools)
}

/// Moves units, the apps one after the other, and tells how many moved. What fails for one app keeps no other from moving; the first failure is returned.
fn run(steps: Vec<Step>, watch: Option<Rc<Watch>>, memory: Memory) -> Result<usize> {
    let (mut apps, mut to) = (BTreeMap::<String, Vec<String>>::new(), BTreeMap::new());
    for Step { unit, to: node } in steps {
        let (id, app) = (unit.id, unit.app_name);
        apps.entry(app.clone()).or_default().push(id.clone());
        to.extend(node.map(|node| (id, Target { app, node })));
    }
    let planned = Rc::new(Planned::new(to, watch, memory));
    let mut moved = 0;
    each(apps, |app, ids| {
        let result = of_app(&app, &ids, &planned, &mut moved);
        planned.over(&ids, result.is_ok());
        result
    })?;
    Ok(moved)
}

/// Does something with each, until somebody asks to stop. What fails for one keeps no other from it; the first failure is returned.
fn each<K, V>(all: BTreeMap<K, V>, mut one: impl FnMut(K, V) -> Result<()>) -> Result<()> {
    let mut first = None;
    for (key, value) in all {
        match one(key, value) {
            Ok(()) => {}
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => first = first.or(Some(error)),
        }
    }
    first.map_or(Ok(()), Err)
}

/// The rest that a unit is at, and stays at; none when it is to run.
pub(crate) fn rests(unit: &UnitRecord) -> Option<Status> {
    unit.expected_status().filter(|status| matches!(status, Status::Stopped | Status::Asleep))
}

/// Moves units of one app, and counts them. It is locked meanwhile, and only what is still there moves.
fn of_app(name: &str, ids: &[String], planned: &Rc<Planned>, moved: &mut usize) -> Result<()> {
    // The app before this one may have undone something, and removed its old units without a stop.
    operation::undone();
    let _lock = apps::lock(name).map_err(|error| {
        error.map_text(|why| {
            format!("couldn't move {}, unable to lock {}: {why}", ids.join(", "), quote(name))
        })
    })?;
    let app = apps::get(name)?;
    let present = observe::to_change(name)?;
    let silent = present.silent.clone();
    // One that somebody removed is to be somewhere all the same.
    let units = present.with_lost();
    // Those that rest stay at rest. Somebody may have stopped or started them since the move was planned.
    let mut groups: BTreeMap<Option<Status>, Vec<UnitRecord>> = BTreeMap::new();
    for id in ids {
        if let Some(unit) = units.iter().find(|unit| unit.id == *id) {
            groups.entry(rests(unit)).or_default().push(unit.clone());
        }
    }
    each(groups, |rests, units| {
        let ids: Vec<String> = units.iter().map(|unit| unit.id.clone()).collect();
        let new = together(&app, rests, units, planned, silent.clone());
        planned.over(&ids, new.is_ok());
        *moved += new?;
        Ok(())
    })
}

/// Moves units of one app that are at the same rest.
fn together(
    app: &App,
    rests: Option<Status>,
    mut old: Vec<UnitRecord>,
    planned: &Rc<Planned>,
    silent: BTreeSet<String>,
) -> Result<usize> {
    // So may the group before this one have.
    operation::undone();
    // As the pipeline orders new units.
    old.sort_by(|one, other| one.process_name.cmp(&other.process_name));
    for unit in &old {
        operation::progress(&scheduler::moving(unit, None));
    }
    let new = replace(app, rests, old.clone(), Some(Rc::clone(planned)), silent)?;
    for (old, new) in old.iter().zip(&new) {
        operation::progress(&scheduler::moved(old, &new.id, &new.host_addr));
    }
    Ok(new.len())
}

/// Replaces units, which are ordered by process, by new ones of the app's current image, each elsewhere or where somebody says.
pub(crate) fn replace(
    app: &App,
    rests: Option<Status>,
    old: Vec<UnitRecord>,
    planned: Option<Rc<Planned>>,
    silent: BTreeSet<String>,
) -> Result<Vec<UnitRecord>> {
    let Some(first) = old.first() else { return Ok(Vec::new()) };
    let ids: Vec<String> = old.iter().map(|unit| unit.id.clone()).collect();
    let current = match images::current(&app.name) {
        // An app whose history was emptied has none.
        Err(Error::NotFound(_)) => first.image.clone(),
        current => current?,
    };
    let host = placing::host_with(app, &current, &old, &silent)?;
    let image = image::prepare(app, host, &current, &old)?;
    let mut wanted = BTreeMap::new();
    for unit in &old {
        *wanted.entry(unit.process_name.clone()).or_insert(0) += 1;
    }
    let mut change = Change::new(app, image, wanted, old, silent);
    change.rests = rests;
    change.preference = Preference { planned, replaced: ids.clone() };
    change::run(REPLACE, &mut change).map_err(|failure| {
        let fields = [("app", app.name.as_str()), ("error", &failure.line)];
        log::error("units are not moved", &fields);
        let ids = ids.join(", ");
        failure.error.map_text(|text| format!("Error moving unit {ids}: {text}"))
    })?;
    Ok(change.new)
}

//! Adding, removing, restarting, starting and stopping units (spec 5.7, 5.8).

use std::collections::BTreeMap;

use gantry_sdk::commands::resolve_process;
use gantry_sdk::containers::{Batch, EngineError, Step, StepReply};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Error, Result, Status, apps, images};

use crate::change::{self, CREATE, Change, REPLACE};
use crate::host::set_network;
use crate::image::{self, Prepared};
use crate::observe::Present;
use crate::removal::STOP_SECONDS;
use crate::{
    builder, limits, machine, messages, moves, name, observe, orphans, placing, records, routes,
    victims,
};

/// Starts more units of the current image.
pub(crate) fn add(app: &App, count: u32, process: &str) -> Result<()> {
    if app.deploys == 0 {
        let text = "New units can only be added after the first deployment";
        return Err(Error::InvalidArgument(text.to_owned()));
    }
    if count == 0 {
        return Err(Error::InvalidArgument("Cannot add 0 units".to_owned()));
    }
    let Present { units, lost, silent, .. } = observe::to_change(&app.name)?;
    let current = images::current(&app.name)?;
    let host = placing::host_with(app, &current, &units, &silent)?;
    let image = image::prepare(app, host, &current, &units)?;
    let process = resolve_process(&image.metadata, process)?.to_owned();
    let wanted = BTreeMap::from([(process.clone(), count_of(count))]);
    // So many more than people see; the lost ones of other processes are replaced.
    let (forgotten, replaced): (Vec<_>, Vec<_>) =
        lost.into_iter().partition(|unit| unit.process_name == process);
    let total = of_process(units, "").len() + replaced.len() + count_of(count);
    apps::set_quota_in_use(&app.name, i32::try_from(total).unwrap_or(i32::MAX))?;
    run(Change::new(app, image, wanted, Vec::new(), silent))
        .inspect_err(|_| observe::recount(&app.name))?;
    forgotten.iter().try_for_each(observe::forget)
}

/// Removes units: of the machines that have the most, the oldest first.
pub(crate) fn remove(app: &App, count: u32, process: &str) -> Result<()> {
    if count == 0 {
        return Err(Error::InvalidArgument("cannot remove zero units".to_owned()));
    }
    let Present { units, lost, .. } = observe::to_change(&app.name)?;
    let metadata = image::metadata(&images::current(&app.name)?, &units)?;
    let process = resolve_process(&metadata, process)?;
    let victims = victims::choose(app, &units, process, count_of(count))?;
    gantry_sdk::operation::progress(&messages::removing(victims.len()));
    change::remove_units(app, metadata.web_process_name(), &victims)
        .inspect_err(|_| observe::recount(&app.name))?;
    // So many fewer than people see.
    of_process(lost, process).iter().try_for_each(observe::forget)?;
    observe::recount(&app.name);
    Ok(())
}

/// Removes everything of an app. Routes that stay keep nothing from going.
pub(crate) fn destroy(app: &App) -> Result<()> {
    destroy_units(app).or_else(|error| leave_if_unknown(&app.name).and(Err(error)))?;
    builder::forget(app);
    Ok(())
}

fn destroy_units(app: &App) -> Result<()> {
    let units = observe::to_change(&app.name)?.all();
    if units.is_empty() {
        return Ok(());
    }
    let web = images::current(&app.name).and_then(|current| image::metadata(&current, &units));
    let removed =
        web.and_then(|metadata| change::remove_routes(app, &units, metadata.web_process_name()));
    routes::logged("the app", removed);
    change::remove_without_routes(app, &units)
}

/// Leaves nothing behind that counts of an app that nobody knows any more: it was removed by force, and what a machine has of it goes when the machine answers.
fn leave_if_unknown(app: &str) -> Result<()> {
    match apps::get(app) {
        Err(Error::NotFound(_)) => records::of_app(app)?.iter().try_for_each(orphans::leave),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Replaces units by new ones of the current image.
pub(crate) fn restart(app: &App, process: &str) -> Result<()> {
    let present = observe::to_change(&app.name)?;
    let silent = present.silent.clone();
    let old = of_process(present.with_lost(), process);
    let current = images::current(&app.name)?;
    // Without a unit to replace, nothing is asked of the image, which may not exist yet.
    let image = if old.is_empty() {
        Prepared::unseen(current)
    } else {
        let host = placing::host_with(app, &current, &old, &silent)?;
        image::prepare(app, host, &current, &old)?
    };
    let mut wanted = BTreeMap::new();
    for unit in &old {
        *wanted.entry(unit.process_name.clone()).or_insert(0) += 1;
    }
    run(Change::new(app, image, wanted, old, silent))
}

/// Starts the containers of units. Their ports may be others afterwards.
pub(crate) fn start(app: &App, process: &str) -> Result<()> {
    let present = observe::to_change(&app.name)?;
    let steps =
        |unit: &UnitRecord| vec![Step::Start(unit.id.clone()), Step::Inspect(unit.id.clone())];
    lost(present.lost, process, |unit| started(unit, &[]))?;
    for_each(&of_process(present.units, process), steps, started)
}

/// Takes down that a unit's container was started. Its port may be another one.
fn started(unit: &UnitRecord, replies: &[StepReply]) -> Result<()> {
    records::update(unit, |record| {
        let serves = matches!(record.status, Some(Status::Starting | Status::Started));
        if !serves {
            record.set_status(Status::Starting, name::now());
        }
        for reply in replies {
            if let StepReply::Container(container) = reply {
                set_network(record, container);
            }
        }
    })
    .map(drop)
}

/// Stops the containers of units that are not stopped, and keeps them.
pub(crate) fn stop(app: &App, process: &str) -> Result<()> {
    let present = observe::to_change(&app.name)?;
    lost(present.lost, process, |unit| rested(unit, Status::Stopped))?;
    let mut units = of_process(present.units, process);
    units.retain(|unit| unit.status != Some(Status::Stopped));
    stop_all(&units, Status::Stopped)
}

/// Stops the containers of units, which are at this rest from then on.
fn stop_all(units: &[UnitRecord], rest: Status) -> Result<()> {
    let steps = |unit: &UnitRecord| vec![Step::Stop { id: unit.id.clone(), seconds: STOP_SECONDS }];
    for_each(units, steps, |unit, _| rested(unit, rest))
}

/// Takes down that a unit is at rest.
fn rested(unit: &UnitRecord, rest: Status) -> Result<()> {
    records::update(unit, |record| record.set_status(rest, name::now())).map(drop)
}

/// Takes the same down of units whose containers are gone as of the others: what replaces them does what they are to do.
fn lost(
    units: Vec<UnitRecord>,
    process: &str,
    done: impl Fn(&UnitRecord) -> Result<()>,
) -> Result<()> {
    of_process(units, process).iter().try_for_each(done)
}

/// Ends the containers of units that run, and keeps them until they are started again. As in the reference, one that does not run is refused, also when it sleeps already.
pub(crate) fn sleep(app: &App, process: &str) -> Result<()> {
    let present = observe::to_change(&app.name)?;
    let units = of_process(present.units, process);
    let runs = |unit: &UnitRecord| matches!(unit.status, Some(Status::Starting | Status::Started));
    if let Some(unit) = units.iter().find(|unit| !runs(unit)) {
        return Err(Error::Conflict(format!("container {} is not starting or started", unit.id)));
    }
    lost(present.lost, process, |unit| rested(unit, Status::Asleep))?;
    stop_all(&units, Status::Asleep)
}

/// Ends one unit: its container is started anew where it is.
pub(crate) fn kill(app: &App, id: &str, force: bool) -> Result<()> {
    let unit = records::find(of_process(observe::to_change(&app.name)?.units, ""), id)?;
    if let Some(status) = moves::rests(&unit) {
        return Err(Error::Conflict(format!("unit {} does not run: it is {status}", unit.id)));
    }
    let seconds = if force { 0 } else { STOP_SECONDS };
    let steps = |unit: &UnitRecord| {
        let id = unit.id.clone();
        vec![Step::Stop { id: id.clone(), seconds }, Step::Start(id.clone()), Step::Inspect(id)]
    };
    for_each(&[unit], steps, started)
}

/// Does the same to all units, as many at once as there are workers. What fails for one does not keep the others from it; the first failure is returned. A unit whose container is gone meanwhile is lost, and what replaces it does what it was to do.
fn for_each(
    units: &[UnitRecord],
    steps: impl Fn(&UnitRecord) -> Vec<Step>,
    done: impl Fn(&UnitRecord, &[StepReply]) -> Result<()>,
) -> Result<()> {
    let sequence = |unit: &UnitRecord| limits::sequence(&unit.node, steps(unit));
    let mut waiting = units.iter();
    let begun = waiting.by_ref().take(limits::workers()).map(sequence).collect();
    let mut batch = Batch::submit(begun)?;
    let mut first = None;
    while let Some(completion) = batch.next_ended() {
        // They began in their order.
        let Some(unit) = units.get(completion.index) else { continue };
        let result = match completion.failure.map(|error| machine::on(&unit.node, error)) {
            None => done(unit, &completion.replies),
            Some(EngineError::NotFound(_)) => done(unit, &[]),
            Some(error) => Err(error.into()),
        };
        first = first.or(result.err());
        if let Some(next) = waiting.next() {
            batch.add(vec![sequence(next)])?;
        }
    }
    first.map_or(Ok(()), Err)
}

fn run(mut change: Change) -> Result<()> {
    let creates = change.old.is_empty() && !change.wanted.is_empty();
    let actions = if creates { CREATE } else { REPLACE };
    change::run(actions, &mut change).map_err(|failure| failure.error)
}

/// The units of a process; all of them when it is empty. What a build left is none.
pub(crate) fn of_process(mut units: Vec<UnitRecord>, process: &str) -> Vec<UnitRecord> {
    units.retain(|unit| !unit.is_build() && (process.is_empty() || unit.process_name == process));
    units
}

fn count_of(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units() -> Vec<UnitRecord> {
        let unit = |id: &str, process: &str| UnitRecord {
            id: id.to_owned(),
            process_name: process.to_owned(),
            ..UnitRecord::default()
        };
        vec![unit("1", "web"), unit("2", "worker"), unit("3", "web"), unit("4", "web")]
    }

    fn ids(units: &[UnitRecord]) -> Vec<&str> {
        units.iter().map(|unit| unit.id.as_str()).collect()
    }

    #[test]
    fn no_process_means_every_process() {
        assert_eq!(ids(&of_process(units(), "")), ["1", "2", "3", "4"]);
        assert_eq!(ids(&of_process(units(), "worker")), ["2"]);
    }
}

//! Adding, removing, restarting, starting and stopping units (spec 5.7, 5.8).

use std::collections::BTreeMap;
use std::rc::Rc;

use gantry_sdk::commands::resolve_process;
use gantry_sdk::containers::{Batch, EngineError, Sequence, Step, StepReply};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Error, Result, Status, images, quote};

use crate::change::{self, CREATE, Change, REPLACE};
use crate::image::{self, Prepared};
use crate::node::{Node, set_network};
use crate::removal::STOP_SECONDS;
use crate::{messages, name, observe, records};

/// Starts more units of the current image.
pub(crate) fn add(app: &App, count: u32, process: &str) -> Result<()> {
    if app.deploys == 0 {
        let text = "New units can only be added after the first deployment";
        return Err(Error::InvalidArgument(text.to_owned()));
    }
    if count == 0 {
        return Err(Error::InvalidArgument("Cannot add 0 units".to_owned()));
    }
    let units = observe::to_change(&app.name)?;
    let node = Node::choose()?;
    let image = image::prepare(&node, &images::current(&app.name)?, &units)?;
    let process = resolve_process(&image.metadata, process)?.to_owned();
    let wanted = BTreeMap::from([(process, count_of(count))]);
    run(app, node, image, wanted, Vec::new())
}

/// Removes units, the oldest first.
pub(crate) fn remove(app: &App, count: u32, process: &str) -> Result<()> {
    if count == 0 {
        return Err(Error::InvalidArgument("cannot remove zero units".to_owned()));
    }
    let units = observe::to_change(&app.name)?;
    let metadata = image::metadata(&images::current(&app.name)?, &units)?;
    let process = resolve_process(&metadata, process)?;
    let victims = victims(units, process, count_of(count))?;
    gantry_sdk::operation::progress(&messages::removing(victims.len()));
    change::remove_units(app, &Node::choose()?, &victims)
}

/// Removes everything of an app.
pub(crate) fn destroy(app: &App) -> Result<()> {
    let units = observe::to_change(&app.name)?;
    if units.is_empty() {
        return Ok(());
    }
    change::remove_units(app, &Node::choose()?, &units)
}

/// Replaces units by new ones of the current image.
pub(crate) fn restart(app: &App, process: &str) -> Result<()> {
    let units = observe::to_change(&app.name)?;
    let node = Node::choose()?;
    let current = images::current(&app.name)?;
    let old = of_process(units, process);
    // Without a unit to replace, nothing is asked of the image, which may not exist yet.
    let image = if old.is_empty() {
        Prepared::unseen(current)
    } else {
        image::prepare(&node, &current, &old)?
    };
    let mut wanted = BTreeMap::new();
    for unit in &old {
        *wanted.entry(unit.process_name.clone()).or_insert(0) += 1;
    }
    run(app, node, image, wanted, old)
}

/// Starts the containers of units. Their ports may be others afterwards.
pub(crate) fn start(app: &App, process: &str) -> Result<()> {
    let units = of_process(observe::to_change(&app.name)?, process);
    if units.is_empty() {
        return Ok(());
    }
    let steps =
        |unit: &UnitRecord| vec![Step::Start(unit.id.clone()), Step::Inspect(unit.id.clone())];
    for_each(&units, steps, |unit, replies| {
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
    })
}

/// Stops the containers of units that are not stopped, and keeps them.
pub(crate) fn stop(app: &App, process: &str) -> Result<()> {
    let mut units = of_process(observe::to_change(&app.name)?, process);
    units.retain(|unit| unit.status != Some(Status::Stopped));
    if units.is_empty() {
        return Ok(());
    }
    let steps = |unit: &UnitRecord| vec![Step::Stop { id: unit.id.clone(), seconds: STOP_SECONDS }];
    for_each(&units, steps, |unit, _| {
        records::update(unit, |record| record.set_status(Status::Stopped, name::now())).map(drop)
    })
}

/// Does the same to all units at once. What fails for one does not keep the others from it; the first failure is returned. A unit whose container is gone is forgotten.
fn for_each(
    units: &[UnitRecord],
    steps: impl Fn(&UnitRecord) -> Vec<Step>,
    done: impl Fn(&UnitRecord, &[StepReply]) -> Result<()>,
) -> Result<()> {
    let node = Node::choose()?;
    let sequences = units
        .iter()
        .map(|unit| Sequence { node: node.address.clone(), steps: steps(unit) })
        .collect();
    let mut batch = Batch::submit(sequences)?;
    let mut first = None;
    while let Some(completion) = batch.next_ended() {
        let Some(unit) = units.get(completion.index) else { continue };
        let result = match completion.failure {
            None => done(unit, &completion.replies),
            Some(EngineError::NotFound(_)) => records::remove(unit),
            Some(error) => Err(error.into()),
        };
        first = first.or(result.err());
    }
    first.map_or(Ok(()), Err)
}

fn run(
    app: &App,
    node: Node,
    image: Prepared,
    wanted: BTreeMap<String, usize>,
    old: Vec<UnitRecord>,
) -> Result<()> {
    let actions = if old.is_empty() && !wanted.is_empty() { CREATE } else { REPLACE };
    let (app, node) = (app.clone(), Rc::new(node));
    let mut change = Change { app, node, image, wanted, old, new: Vec::new() };
    change::run(actions, &mut change).map_err(|failure| failure.error)
}

/// The units of a process; all of them when it is empty.
pub(crate) fn of_process(mut units: Vec<UnitRecord>, process: &str) -> Vec<UnitRecord> {
    units.retain(|unit| process.is_empty() || unit.process_name == process);
    units
}

/// Which units go: on one host all are equals, and the oldest goes first (spec 5.11, "Removal").
fn victims(units: Vec<UnitRecord>, process: &str, count: usize) -> Result<Vec<UnitRecord>> {
    let mut units = units;
    units.retain(|unit| unit.process_name == process);
    let available = units.len();
    if available < count {
        let process = quote(process);
        return Err(Error::InvalidArgument(format!(
            "cannot remove {count} units from process {process}, only {available} available"
        )));
    }
    units.truncate(count);
    Ok(units)
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
    fn the_oldest_units_of_the_process_go() {
        assert_eq!(ids(&victims(units(), "web", 2).unwrap()), ["1", "3"]);
        assert_eq!(ids(&victims(units(), "worker", 1).unwrap()), ["2"]);
    }

    #[test]
    fn nothing_goes_when_there_are_fewer() {
        let error = victims(units(), "web", 5).unwrap_err();
        let text = r#"cannot remove 5 units from process "web", only 3 available"#;
        assert_eq!(error, Error::InvalidArgument(text.to_owned()));
    }

    #[test]
    fn no_process_means_every_process() {
        assert_eq!(ids(&of_process(units(), "")), ["1", "2", "3", "4"]);
        assert_eq!(ids(&of_process(units(), "worker")), ["2"]);
    }
}

//! What the engines make of the units that are written down. A record outlives its container when the platform dies, or when the host cleans up after a call that did: such a one is no unit.
//!
//! Every engine is asked at once. One that does not answer has said nothing: its units are as they were written down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gantry_sdk::containers::{
    Batch, ContainerSummary, EngineError, ListOptions, Sequence, Step, StepReply,
    nodes as given_nodes,
};
use gantry_sdk::gantry_core::record::{Report, UnitRecord, reported_status};
use gantry_sdk::{App, Error, Labels, Result, Status, apps, images, log};

use crate::machine::{is_of_machine, not_given};
use crate::{leaving, records};

/// Of so many apps an engine is asked one by one for what it has; else for all at once.
const APPS: usize = 8;

/// How long an engine has to tell what it has.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What engines say they have, by node. Of the labels of a container, only what was asked for.
#[derive(Debug, Default)]
pub(crate) struct Sight(BTreeMap<String, std::result::Result<Vec<ContainerSummary>, EngineError>>);

/// The units of an app, for a change of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present {
    /// Those that exist, as far as anybody knows; the oldest first.
    pub(crate) units: Vec<UnitRecord>,
    /// Those that were in service and whose containers somebody has removed. Healing replaces them, and so does what replaces all units.
    pub(crate) lost: Vec<UnitRecord>,
    /// Those that count for nothing and may be there all the same: a call had begun them that died, and the host removes them; or others have replaced them, and their machine does not let them go.
    pub(crate) uncounted: Vec<UnitRecord>,
    /// The nodes that did not answer.
    pub(crate) silent: BTreeSet<String>,
}

impl Present {
    /// All that count, for what replaces all of them.
    pub(crate) fn with_lost(self) -> Vec<UnitRecord> {
        self.units.into_iter().chain(self.lost).collect()
    }

    /// All that may be there or may have been, for what removes the app.
    pub(crate) fn all(self) -> Vec<UnitRecord> {
        self.units.into_iter().chain(self.lost).chain(self.uncounted).collect()
    }
}

impl Sight {
    /// Asks these nodes for what they have with these labels. One that is not given any more is as silent as one that is down.
    pub(crate) fn of(nodes: &BTreeSet<&str>, labels: &Labels) -> Result<Self> {
        Self::asked(nodes.iter().map(|node| (*node, vec![labels.clone()])).collect(), &[])
    }

    /// Asks these nodes for all that they have, and for the labels with these keys.
    pub(crate) fn with_labels(nodes: &BTreeSet<&str>, keys: &[&str]) -> Result<Self> {
        Self::asked(nodes.iter().map(|node| (*node, vec![Labels::new()])).collect(), keys)
    }

    /// Asks each node for what it has with any of these sets of labels.
    fn asked(nodes: BTreeMap<&str, Vec<Labels>>, keys: &[&str]) -> Result<Self> {
        let given: BTreeSet<String> = given_nodes().into_iter().collect();
        let (asked, absent): (Vec<_>, Vec<_>) =
            nodes.into_iter().partition(|(node, _)| given.contains(*node));
        let list = |labels: Labels| {
            let label_keys = Some(keys.iter().copied().map(ToOwned::to_owned).collect());
            Step::List(ListOptions { all: true, labels: labels.into_iter().collect(), label_keys })
        };
        let (nodes, sequences): (Vec<&str>, Vec<Sequence>) = asked
            .into_iter()
            .map(|(node, sets)| {
                let steps = sets.into_iter().map(list).collect();
                (node, Sequence::new(node, steps).within(PATIENCE))
            })
            .unzip();
        let answers = Batch::submit(sequences)?.all();
        let seen = answers.into_iter().zip(nodes).map(|(completion, node)| {
            let listed = completion.into_result().map(|replies| {
                sorted(replies.into_iter().filter_map(containers).flatten().collect())
            });
            (node.to_owned(), listed)
        });
        let gone = |node: &str| (node.to_owned(), Err(not_given(node)));
        Ok(Self(seen.chain(absent.into_iter().map(|(node, _)| gone(node))).collect()))
    }

    /// Asks for what there is of these records.
    fn of_units(records: &[UnitRecord]) -> Result<Self> {
        Self::asked(labels_of(records), &[])
    }

    /// The nodes with what they said, by address.
    pub(crate) fn nodes(
        &self,
    ) -> impl Iterator<Item = (&str, std::result::Result<&[ContainerSummary], &EngineError>)> {
        self.0.iter().map(|(node, said)| (node.as_str(), said.as_deref()))
    }

    /// What a node has; none when it did not say.
    pub(crate) fn on(&self, node: &str) -> Option<&[ContainerSummary]> {
        self.0.get(node)?.as_deref().ok()
    }

    /// Whether a unit is gone: its node has answered, and has no such container.
    pub(crate) fn lacks(&self, record: &UnitRecord) -> bool {
        self.on(&record.node).is_some_and(|containers| find(containers, &record.id).is_none())
    }

    /// The failures that are not of a machine that does not answer: nobody should go on after them.
    fn strange(&self) -> Option<&EngineError> {
        let failures = self.0.values().filter_map(|said| said.as_ref().err());
        failures.filter(|error| !is_silent(error)).min_by_key(|error| error.to_string())
    }

    fn silent(&self) -> BTreeSet<String> {
        let silent = self.0.iter().filter(|(_, said)| said.is_err());
        silent.map(|(node, _)| node.clone()).collect()
    }

    /// What the engines make of the records: a unit whose container is gone is left out, one that does not do what it should has failed.
    fn observe(&self, records: Vec<UnitRecord>) -> Vec<UnitRecord> {
        records
            .into_iter()
            .filter_map(|record| match self.on(&record.node) {
                Some(containers) => seen(record, containers),
                None => Some(record),
            })
            .collect()
    }
}

/// Whether a node that gave this instead of a list has said nothing: it is not there, or just starting, or ill. It may do better in a while.
pub(crate) fn is_silent(error: &EngineError) -> bool {
    match error {
        EngineError::Unreachable(_) | EngineError::TimedOut(_) | EngineError::Failed(_) => true,
        EngineError::NotFound(_)
        | EngineError::Conflict(_)
        | EngineError::Invalid(_)
        | EngineError::Denied(_)
        | EngineError::Cancelled => false,
    }
}

/// By id, for [`find`].
fn sorted(mut containers: Vec<ContainerSummary>) -> Vec<ContainerSummary> {
    containers.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    containers
}

/// The container with this id.
pub(crate) fn find<'a>(sorted: &'a [ContainerSummary], id: &str) -> Option<&'a ContainerSummary> {
    let place = sorted.binary_search_by(|container| container.id.as_str().cmp(id)).ok()?;
    sorted.get(place)
}

fn containers(reply: StepReply) -> Option<Vec<ContainerSummary>> {
    match reply {
        StepReply::Containers(containers) => Some(containers),
        StepReply::Done
        | StepReply::Id(_)
        | StepReply::Container(_)
        | StepReply::Image(_)
        | StepReply::Exec(_)
        | StepReply::Bytes(_)
        | StepReply::Http(_) => None,
    }
}

/// The units of an app that exist, the oldest first, as the engines see them now.
///
/// # Errors
///
/// No engine tells.
pub(crate) fn of_app(app: &str) -> Result<Vec<UnitRecord>> {
    let records = records::of_app(app)?;
    of_sight(&Sight::of_units(&records)?, records)
}

fn of_sight(sight: &Sight, records: Vec<UnitRecord>) -> Result<Vec<UnitRecord>> {
    if let Some(error) = sight.strange() {
        return Err(error.clone().into());
    }
    if let Some(error) = nobody_answers(sight) {
        return Err(error.into());
    }
    Ok(sight.observe(records))
}

/// Why nobody answers; none when somebody does, or nobody was asked.
fn nobody_answers(sight: &Sight) -> Option<EngineError> {
    let mut failures = sight.0.values().map(|said| said.as_ref().err());
    let first = failures.next()??;
    failures.all(|failure| failure.is_some()).then(|| first.clone())
}

/// The same for what needs one of them that works: those on a node that did not answer come last.
pub(crate) fn of_app_to_use(app: &str) -> Result<Vec<UnitRecord>> {
    let records = records::of_app(app)?;
    let sight = Sight::of_units(&records)?;
    let mut units = of_sight(&sight, records)?;
    units.sort_by_key(|unit| sight.on(&unit.node).is_none());
    Ok(units)
}

/// The same for a change of the app: what was never in service and is gone is forgotten, and what an earlier change was removing is removed first.
pub(crate) fn to_change(app: &str) -> Result<Present> {
    let records = records::of_app(app)?;
    let sight = Sight::of_units(&records)?;
    if let Some(error) = sight.strange() {
        return Err(error.clone().into());
    }
    if let Some(error) = nobody_answers(&sight).filter(|error| !is_of_machine(error)) {
        return Err(error.into());
    }
    let (mut lost, mut there): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| sight.lacks(record));
    if !lost.is_empty() {
        let leaving = leaving::names(app)?;
        let is_to_go = |record: &mut UnitRecord| record.is_new || leaving.contains(&record.name);
        let gone: Vec<UnitRecord> = lost.extract_if(.., is_to_go).collect();
        gone.iter().try_for_each(forget)?;
    }
    let mut uncounted = begun(app, &mut there)?;
    settle(&sight, &mut there)?;
    for (node, said) in sight.nodes() {
        if let Err(error) = said {
            let fields = [("app", app), ("node", node), ("error", &error.to_string())];
            log::warn("a node with units of the app does not answer", &fields);
        }
    }
    let silent = sight.silent();
    let (units, stuck) = leaving::finish(app, sight.observe(there), &silent)?;
    uncounted.extend(stuck);
    Ok(Present { units, lost, uncounted, silent })
}

/// Takes out what a call that died had begun and nothing more.
fn begun(app: &str, there: &mut Vec<UnitRecord>) -> Result<Vec<UnitRecord>> {
    if there.iter().all(|record| !record.is_new) {
        return Ok(Vec::new());
    }
    let current = current(app)?;
    Ok(there.extract_if(.., |record| is_only_begun(record, current.as_deref())).collect())
}

/// Takes down which units outlived the call that started them: it ended past its point of no return without saying so.
fn settle(sight: &Sight, there: &mut [UnitRecord]) -> Result<()> {
    for record in there.iter_mut().filter(|record| record.is_new) {
        if sight.on(&record.node).is_some() {
            record.is_new = false;
            records::update(record, |record| record.is_new = false)?;
        }
    }
    Ok(())
}

/// The current image of an app; none when its history was emptied.
fn current(app: &str) -> Result<Option<String>> {
    match images::current(app) {
        Ok(current) => Ok(Some(current)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a unit is called new by its record and was never in service, while nobody changes the app: its image is not the app's.
pub(crate) fn is_only_begun(record: &UnitRecord, current: Option<&str>) -> bool {
    record.is_new && current != Some(record.image.as_str())
}

/// Whether a unit that is there although its record calls it new is in service.
pub(crate) fn outlived(record: &UnitRecord) -> Result<bool> {
    Ok(!is_only_begun(record, current(&record.app_name)?.as_deref()))
}

/// Forgets a unit whose container is gone, and tells its services.
pub(crate) fn forget(record: &UnitRecord) -> Result<()> {
    let UnitRecord { app_name, id, .. } = record;
    log::info("a unit is gone", &[("app", app_name), ("unit", id)]);
    if let Err(error) = apps::unbind_unit(app_name, &record.unit(&App::default())) {
        let fields = [("unit", id.as_str()), ("error", &error.to_string())];
        log::error("a unit stays bound", &fields);
    }
    records::remove(record)
}

/// Tells the platform how many units an app uses, after some have gone that nobody replaces in a change which the platform counts itself. That it cannot be told is for the log.
pub(crate) fn recount(app: &str) {
    let told = records::of_app(app).and_then(|records| {
        let leaving = leaving::names(app)?;
        let in_use = |record: &&UnitRecord| {
            !record.is_new && !record.is_build() && !leaving.contains(&record.name)
        };
        let units = records.iter().filter(in_use).count();
        apps::set_quota_in_use(app, i32::try_from(units).unwrap_or(i32::MAX))
    });
    if let Err(error) = told {
        let fields = [("app", app), ("error", &error.to_string())];
        log::warn("the quota counts units that are not there", &fields);
    }
}

/// What the engines make of the records. Where one does not answer, what is written down has to do.
pub(crate) fn observed(records: Vec<UnitRecord>) -> Vec<UnitRecord> {
    match Sight::of_units(&records) {
        Ok(sight) => {
            for (node, said) in sight.nodes() {
                if let Err(error) = said {
                    let fields = [("node", node), ("error", &error.to_string())];
                    log::warn("units as they were written down", &fields);
                }
            }
            sight.observe(records)
        }
        Err(error) => {
            log::warn("units as they were written down", &[("error", &error.to_string())]);
            records
        }
    }
}

/// What the containers of all these records carry, on each node: the labels of one app after the other, so that no engine need tell of all others; nothing in particular when they are of many.
fn labels_of(records: &[UnitRecord]) -> BTreeMap<&str, Vec<Labels>> {
    let mut apps: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for record in records {
        apps.entry(&record.node).or_default().insert(&record.app_name);
    }
    let of = |app: &str| Labels::from([("app-name".to_owned(), app.to_owned())]);
    apps.into_iter()
        .map(|(node, apps)| match apps.len() <= APPS {
            true => (node, apps.into_iter().map(of).collect()),
            false => (node, vec![Labels::new()]),
        })
        .collect()
}

/// A unit as its engine sees it; none when it is gone.
fn seen(mut record: UnitRecord, containers: &[ContainerSummary]) -> Option<UnitRecord> {
    let container = find(containers, &record.id)?;
    record.status = status(&record, container.state == "running");
    Some(record)
}

/// The status of a unit, knowing whether its container runs. Doing what is expected changes nothing: only the unit itself says that it is up.
fn status(record: &UnitRecord, runs: bool) -> Option<Status> {
    let told = if runs { Status::Started } else { Status::Stopped };
    match reported_status(record.status, record.status_before_error, told) {
        Report::Becomes(Status::Error) => Some(Status::Error),
        Report::Becomes(_) | Report::Ignored => record.status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(id: &str, status: Status) -> UnitRecord {
        let mut unit = UnitRecord {
            id: id.to_owned(),
            name: format!("a-{id}"),
            app_name: "a".to_owned(),
            ..UnitRecord::default()
        };
        unit.set_status(status, 1);
        unit
    }

    fn container(id: &str, state: &str) -> ContainerSummary {
        ContainerSummary {
            id: id.to_owned(),
            name: String::new(),
            image: String::new(),
            state: state.to_owned(),
            labels: Vec::new(),
        }
    }

    #[test]
    fn the_engine_decides_what_exists_and_what_failed() {
        let table = [
            (Status::Starting, "running", Some(Status::Starting)),
            (Status::Started, "running", Some(Status::Started)),
            (Status::Started, "exited", Some(Status::Error)),
            (Status::Starting, "restarting", Some(Status::Error)),
            (Status::Stopped, "exited", Some(Status::Stopped)),
            (Status::Stopped, "running", Some(Status::Error)),
            (Status::Asleep, "exited", Some(Status::Asleep)),
            (Status::Building, "running", Some(Status::Building)),
            (Status::Error, "running", Some(Status::Error)),
            (Status::Error, "dead", Some(Status::Error)),
        ];
        for (written, state, status) in table {
            let now = seen(unit("1", written), &[container("1", state)]).unwrap();
            assert_eq!(now.status, status, "{written:?} {state}");
        }
        assert_eq!(seen(unit("1", Status::Started), &[container("2", "running")]), None);
    }

    #[test]
    fn only_the_containers_of_the_apps_are_listed_unless_they_are_many() {
        let record = |node: &str, app: usize| UnitRecord {
            app_name: format!("a{app}"),
            node: node.to_owned(),
            ..UnitRecord::default()
        };
        let mut records = vec![record("n", 1), record("n", 2), record("n", 1), record("m", 1)];
        let asked = |records: &[UnitRecord]| {
            let name = |labels: &Labels| labels.get("app-name").cloned().unwrap_or_default();
            let asked = labels_of(records);
            ["m", "n"].map(|node| asked[node].iter().map(name).collect::<Vec<_>>())
        };
        assert_eq!(asked(&records), [vec!["a1"], vec!["a1", "a2"]]);
        records.extend((0..=APPS).map(|app| record("n", app)));
        assert_eq!(asked(&records), [vec!["a1"], vec![""]]);
    }

    fn on(node: &str, unit: UnitRecord) -> UnitRecord {
        UnitRecord { node: node.to_owned(), ..unit }
    }

    #[test]
    fn a_node_that_does_not_answer_has_said_nothing() {
        let down = || EngineError::Unreachable("down".to_owned());
        let sight = Sight(BTreeMap::from([
            ("a".to_owned(), Ok(vec![container("1", "running")])),
            ("b".to_owned(), Err(down())),
        ]));
        let records = vec![
            on("a", unit("1", Status::Started)),
            on("a", unit("2", Status::Started)),
            on("b", unit("3", Status::Started)),
        ];
        let lacking: Vec<bool> = records.iter().map(|record| sight.lacks(record)).collect();
        assert_eq!(lacking, [false, true, false]);
        let units = sight.observe(records);
        let ids: Vec<&str> = units.iter().map(|unit| unit.id.as_str()).collect();
        assert_eq!(ids, ["1", "3"]);
        assert_eq!(sight.silent(), BTreeSet::from(["b".to_owned()]));
        assert_eq!(sight.strange(), None);
        assert_eq!(nobody_answers(&sight), None);
    }

    #[test]
    fn when_nobody_answers_somebody_is_told() {
        assert_eq!(nobody_answers(&Sight::default()), None);
        let down = EngineError::Unreachable("down".to_owned());
        let ill = EngineError::Failed("status 503".to_owned());
        let strange = EngineError::Denied("not granted".to_owned());
        let of = |other: &EngineError| {
            Sight(
                [("a".to_owned(), Err(down.clone())), ("b".to_owned(), Err(other.clone()))].into(),
            )
        };
        assert_eq!(nobody_answers(&of(&ill)), Some(down.clone()));
        assert_eq!(of(&ill).strange(), None);
        assert_eq!(of(&strange).strange(), Some(&strange));
    }
}

//! What becomes of the processes of an app (spec 6.1 to 6.3): the labels and the number of units of each, and the steps of a whole change with what undoes them.

use std::collections::{BTreeMap, BTreeSet};

use gantry_sdk::{Error, LabelSet, Result, quote};

/// What is asked of a process. Nothing asked means: again, as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Run, with at least one unit.
    pub start: bool,
    /// Run no unit, and remember how many there were.
    pub stop: bool,
    /// Count one more restart. Comes with `start`.
    pub restart: bool,
    /// Be called asleep. Comes with `stop`: alone it stops nothing.
    pub sleep: bool,
    /// So many units more, or less.
    pub increment: i64,
}

impl State {
    /// What a deploy asks of every process, and a start of those it names.
    pub const START: Self =
        Self { start: true, stop: false, restart: false, sleep: false, increment: 0 };
    /// What a stop asks.
    pub const STOP: Self =
        Self { start: false, stop: true, restart: false, sleep: false, increment: 0 };
    /// What a restart asks.
    pub const RESTART: Self =
        Self { start: true, stop: false, restart: true, sleep: false, increment: 0 };
    /// What going to sleep asks.
    pub const SLEEP: Self =
        Self { start: false, stop: true, restart: false, sleep: true, increment: 0 };
}

/// What a process is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// How many units it has, whether they run or not: what its labels say, and what counts for the quota.
    pub replicas: i64,
    /// How many units run.
    pub running: i64,
    /// How often it was restarted.
    pub restarts: i64,
    /// Whether it is stopped.
    pub is_stopped: bool,
    /// Whether it is asleep.
    pub is_asleep: bool,
}

impl Target {
    /// What a process becomes that has these labels now, none when it is new.
    ///
    /// Differs from the reference on purpose (design 10.6): the number of restarts survives every change.
    ///
    /// # Errors
    ///
    /// Fewer units than none.
    pub fn new(existing: Option<&LabelSet>, state: State) -> Result<Self> {
        let mut target = existing.map(Self::read).unwrap_or_default();
        target.replicas = target.replicas.saturating_add(state.increment);
        if target.replicas < 0 {
            let text = "cannot have less than 0 units";
            return Err(Error::InvalidArgument(text.to_owned()));
        }
        if state.start || state.restart {
            target.replicas = target.replicas.max(1);
            target.is_stopped = false;
            target.is_asleep = false;
        }
        target.is_stopped |= state.stop;
        target.is_asleep |= state.sleep;
        target.running = if target.is_stopped { 0 } else { target.replicas };
        target.restarts = target.restarts.saturating_add(i64::from(state.restart));
        Ok(target)
    }

    fn read(labels: &LabelSet) -> Self {
        Self {
            replicas: labels.app_replicas(),
            running: 0,
            restarts: labels.restarts(),
            is_stopped: labels.is_stopped(),
            is_asleep: labels.is_asleep(),
        }
    }

    /// Writes it into the labels of the process' service, which were made for [`Self::replicas`].
    pub fn write(&self, labels: &mut LabelSet) {
        if self.is_stopped {
            labels.set_stopped();
        }
        if self.is_asleep {
            labels.set_asleep();
        }
        if self.restarts > 0 {
            labels.set_restarts(self.restarts);
        }
    }
}

/// A change of an app.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The image that will run.
    pub image: &'a str,
    /// Its processes.
    pub processes: &'a BTreeSet<String>,
    /// The processes of the image that runs now; none before the first deploy.
    pub current: &'a BTreeSet<String>,
    /// What is asked of which process; a deploy names none, and all are started.
    pub states: Option<&'a BTreeMap<String, State>>,
    /// The labels of the processes that are on the cluster.
    pub labels: &'a BTreeMap<String, LabelSet>,
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes a process what it is to be, on the new image.
    Update {
        /// The process.
        process: String,
        /// What it is to be.
        target: Target,
    },
    /// Writes the new image down as the app's current one.
    RecordImage,
    /// Removes a process that the new image does not have. That it fails is only logged.
    Remove {
        /// The process.
        process: String,
    },
}

/// What undoes a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    /// Makes a process what it was, on the image that ran before.
    Restore {
        /// The process.
        process: String,
        /// What it was.
        target: Target,
    },
    /// Removes a process that was not there before.
    Remove {
        /// The process.
        process: String,
    },
}

/// A change as its steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// How many units the app has then, the stopped ones too. Told to the platform before the first step.
    pub quota: i64,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What undoes the updates, in the order of the steps.
    undo: Vec<Undo>,
}

impl Plan {
    /// Plans a change: every process of the new image by name, then the image is written down, then processes that are no longer there are removed.
    ///
    /// # Errors
    ///
    /// An image without processes, or a process that would have fewer units than none.
    pub fn new(change: &Change<'_>) -> Result<Self> {
        let Change { image, processes, current, states, labels } = *change;
        if processes.is_empty() {
            let image = quote(image);
            let text = format!("no process information found deploying image {image}");
            return Err(Error::InvalidArgument(text));
        }
        let mut plan = Self::default();
        for process in processes {
            let state = match states {
                None => State::START,
                Some(states) => states.get(process).copied().unwrap_or_default(),
            };
            let existing = labels.get(process);
            let target = Target::new(existing, state)?;
            plan.quota = plan.quota.saturating_add(target.replicas);
            plan.steps.push(Step::Update { process: process.clone(), target });
            plan.undo.push(if current.contains(process) {
                let target = Target::new(existing, State::default())?;
                Undo::Restore { process: process.clone(), target }
            } else {
                Undo::Remove { process: process.clone() }
            });
        }
        plan.steps.push(Step::RecordImage);
        let gone = current.difference(processes);
        plan.steps.extend(gone.map(|process| Step::Remove { process: process.clone() }));
        Ok(plan)
    }

    /// What to undo when the step with this number failed: the updates before it. A process whose own update failed is not among them: whoever updates it puts it back.
    pub fn undo(&self, failed: usize) -> &[Undo] {
        self.undo.get(..failed.min(self.undo.len())).unwrap_or_default()
    }
}

/// What a verb asks of the processes of an app: of the one that is named, or of all.
pub fn states(
    processes: &BTreeSet<String>,
    process: &str,
    state: State,
) -> BTreeMap<String, State> {
    if process.is_empty() {
        processes.iter().map(|process| (process.clone(), state)).collect()
    } else {
        BTreeMap::from([(process.to_owned(), state)])
    }
}

/// What more or fewer units ask of a process.
///
/// # Errors
///
/// No unit more or less, or an app that was never deployed.
pub fn changed_units(deploys: u32, increment: i64) -> Result<State> {
    let refuse = |text: &str| Err(Error::InvalidArgument(text.to_owned()));
    if deploys == 0 {
        return refuse("units can only be modified after the first deploy");
    }
    if increment == 0 {
        return refuse("cannot change 0 units");
    }
    Ok(State { increment, ..State::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> LabelSet {
        let pairs =
            pairs.iter().map(|(key, value)| (format!("tsuru.io/{key}"), (*value).to_owned()));
        LabelSet::new(pairs.collect(), "tsuru.io/")
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn increment(increment: i64) -> State {
        State { increment, ..State::default() }
    }

    #[test]
    fn a_process_becomes_what_is_asked() {
        let three = [("app-process-replicas", "3")];
        let stopped = [("app-process-replicas", "3"), ("is-stopped", "true")];
        let asleep = [("app-process-replicas", "2"), ("is-stopped", "true"), ("is-asleep", "true")];
        let odd = [("app-process-replicas", "x"), ("is-stopped", "maybe")];
        // Replicas, running, stopped, asleep.
        for (existing, state, expected) in [
            (&[][..], State::default(), (0, 0, false, false)),
            (&[], State::START, (1, 1, false, false)),
            (&[], State::STOP, (0, 0, true, false)),
            (&three, State::default(), (3, 3, false, false)),
            (&three, State::START, (3, 3, false, false)),
            (&three, State::STOP, (3, 0, true, false)),
            (&three, State::SLEEP, (3, 0, true, true)),
            (&three, State { sleep: true, ..State::default() }, (3, 3, false, true)),
            (&three, increment(-3), (0, 0, false, false)),
            (&stopped, State::default(), (3, 0, true, false)),
            (&stopped, increment(1), (4, 0, true, false)),
            (&stopped, State::RESTART, (3, 3, false, false)),
            (&asleep, State::START, (2, 2, false, false)),
            (&asleep, increment(-1), (1, 0, true, true)),
            (&three, State { stop: true, ..State::START }, (3, 0, true, false)),
            (&odd, State::default(), (0, 0, false, false)),
        ] {
            let target = Target::new(Some(&labels(existing)), state).unwrap();
            let Target { replicas, running, is_stopped, is_asleep, .. } = target;
            assert_eq!((replicas, running, is_stopped, is_asleep), expected, "{existing:?}");
        }
    }

    #[test]
    fn there_are_never_fewer_units_than_none() {
        for (existing, less) in [(None, -1), (Some(labels(&[("app-process-replicas", "2")])), -3)] {
            let error = Target::new(existing.as_ref(), increment(less)).unwrap_err();
            assert_eq!(error.to_string(), "cannot have less than 0 units");
        }
    }

    #[test]
    fn the_restarts_are_counted_and_kept() {
        let existing = labels(&[("app-process-replicas", "1"), ("restarts", "4")]);
        for (state, restarts) in [(State::RESTART, 5), (increment(1), 4), (State::STOP, 4)] {
            let target = Target::new(Some(&existing), state).unwrap();
            let mut written = LabelSet::new(Default::default(), "tsuru.io/");
            target.write(&mut written);
            assert_eq!(written.restarts(), restarts);
        }
        let mut written = LabelSet::default();
        Target::new(None, State::START).unwrap().write(&mut written);
        assert!(written.labels.is_empty(), "{written:?}");
    }

    #[test]
    fn a_deploy_starts_everything_and_removes_what_is_gone() {
        let labels = BTreeMap::from([
            ("web".to_owned(), labels(&[("app-process-replicas", "2"), ("is-stopped", "true")])),
            ("old".to_owned(), labels(&[("app-process-replicas", "9")])),
        ]);
        let plan = Plan::new(&Change {
            image: "i",
            processes: &names(&["web", "new"]),
            current: &names(&["web", "old"]),
            states: None,
            labels: &labels,
        });
        let plan = plan.unwrap();
        let target = |replicas| Target { replicas, running: replicas, ..Target::default() };
        let update = |process: &str, replicas| Step::Update {
            process: process.to_owned(),
            target: target(replicas),
        };
        let gone = Step::Remove { process: "old".to_owned() };
        assert_eq!(plan.steps, [update("new", 1), update("web", 2), Step::RecordImage, gone]);
        assert_eq!(plan.quota, 3);

        let remove = Undo::Remove { process: "new".to_owned() };
        let stopped = Target { replicas: 2, is_stopped: true, ..Target::default() };
        let restore = Undo::Restore { process: "web".to_owned(), target: stopped };
        assert!(plan.undo(0).is_empty());
        assert_eq!(plan.undo(1), std::slice::from_ref(&remove));
        assert_eq!(plan.undo(2), [remove.clone(), restore.clone()]);
        assert_eq!(plan.undo(9), [remove, restore]);
    }

    #[test]
    fn a_process_that_nobody_speaks_of_stays_as_it_is() {
        let labels =
            BTreeMap::from([("worker".to_owned(), labels(&[("app-process-replicas", "5")]))]);
        let both = names(&["web", "worker"]);
        let states = states(&both, "web", State::START);
        let plan = Plan::new(&Change {
            image: "i",
            processes: &both,
            current: &both,
            states: Some(&states),
            labels: &labels,
        });
        assert_eq!(plan.unwrap().quota, 6);
        assert_eq!(super::states(&both, "", State::STOP).len(), 2);
    }

    #[test]
    fn an_image_declares_processes() {
        let none = BTreeSet::new();
        let error = Plan::new(&Change {
            image: "my\"img",
            processes: &none,
            current: &names(&["web"]),
            states: None,
            labels: &BTreeMap::new(),
        });
        let text = r#"no process information found deploying image "my\"img""#;
        assert_eq!(error.unwrap_err().to_string(), text);
    }

    #[test]
    fn units_change_after_a_deploy_and_by_some() {
        let text = |deploys, count| changed_units(deploys, count).unwrap_err().to_string();
        assert_eq!(text(0, 1), "units can only be modified after the first deploy");
        assert_eq!(text(1, 0), "cannot change 0 units");
        assert_eq!(changed_units(1, -2), Ok(increment(-2)));
    }
}

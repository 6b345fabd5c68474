//! Waiting for what the cluster does: one watch over all that matters, and the pure rules told what it brings.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gantry_sdk::cluster::{Change, Selection, Target, Watcher};
use gantry_sdk::{Error, Labels, Result, operation};
use serde_json::Value;

use crate::calls::insist;
use crate::completion;
use crate::home::{Home, kinds};
use crate::object::{name, selector, text};
use crate::rollout::{Deadlines, Observation, Outcome, Rollout, event};

/// The longest time between two looks at the deadlines.
const LOOK: Duration = Duration::from_millis(500);

/// Whether an object of the target with this number matters.
type Matters = dyn Fn(usize, &Value) -> bool;

/// A watch and all that it has brought.
struct Watch<const KINDS: usize> {
    watcher: Watcher,
    /// Of each kind, in the order of the names.
    seen: [Vec<Value>; KINDS],
    /// What of it matters. Everybody in a namespace has events there.
    matters: Box<Matters>,
}

impl<const KINDS: usize> Watch<KINDS> {
    /// Begins to watch, and waits until all that is there has been told.
    fn begin(home: &Home, targets: [Target; KINDS]) -> Result<Self> {
        Self::of_what_matters(home, targets, |_, _| true)
    }

    /// The same, of the objects of a target that matter.
    fn of_what_matters(
        home: &Home,
        targets: [Target; KINDS],
        matters: impl Fn(usize, &Value) -> bool + 'static,
    ) -> Result<Self> {
        let watcher = insist(|| home.client.watch(&targets))?;
        let seen = std::array::from_fn(|_| Vec::new());
        let mut watch = Self { watcher, seen, matters: Box::new(matters) };
        let began = Instant::now();
        let mut listed = 0;
        while listed < KINDS {
            match watch.watcher.next(LOOK)? {
                Some((_, Change::Listed)) => listed = listed.saturating_add(1),
                Some((target, change)) => watch.take(target, change),
                None if began.elapsed() > home.timeouts.api => {
                    let text = "the cluster does not tell what there is".to_owned();
                    return Err(Error::TimedOut(text));
                }
                None => {}
            }
        }
        Ok(watch)
    }

    /// Waits until something has happened, or for a while; then takes all that has.
    fn next(&mut self) -> Result<()> {
        let mut wait = LOOK;
        while let Some((target, change)) = self.watcher.next(wait)? {
            self.take(target, change);
            wait = Duration::ZERO;
        }
        Ok(())
    }

    fn take(&mut self, target: u32, change: Change) {
        let index = usize::try_from(target).unwrap_or(usize::MAX);
        let Some(seen) = self.seen.get_mut(index) else { return };
        let place = |seen: &[Value], object| seen.binary_search_by_key(&name(object), name);
        match change {
            Change::Applied(object) if (self.matters)(index, &object) => {
                match place(seen, &object) {
                    Ok(at) => {
                        if let Some(known) = seen.get_mut(at) {
                            *known = object;
                        }
                    }
                    Err(at) => seen.insert(at, object),
                }
            }
            Change::Deleted(object) => {
                if let Ok(at) = place(seen, &object) {
                    seen.remove(at);
                }
            }
            Change::Applied(_) | Change::Listed => {}
        }
    }

    fn all(&self, index: usize) -> &[Value] {
        self.seen.get(index).map(Vec::as_slice).unwrap_or_default()
    }
}

fn target(kind: gantry_sdk::cluster::Kind, selection: Selection) -> Target {
    Target { kind, selection }
}

/// The target of a [`ProcessWatch`] that brings events.
const EVENTS: usize = 3;

/// Everything about the units of a process, watched from before they change.
pub(crate) struct ProcessWatch {
    watch: Watch<4>,
    rollout: Rollout,
    began: Instant,
}

impl ProcessWatch {
    /// Begins to watch a process whose units are about to change; `pods` selects them.
    ///
    /// # Errors
    ///
    /// The cluster refuses, or does not answer.
    pub(crate) fn begin(home: &Home, deployment: &str, pods: &Labels) -> Result<Self> {
        let namespace = home.namespace();
        let of_process = || Selection::of(namespace).labelled(selector(pods));
        let of = deployment.to_owned();
        let watch = Watch::of_what_matters(
            home,
            [
                target(
                    kinds::deployment(),
                    Selection::of(namespace).with_fields(format!("metadata.name={deployment}")),
                ),
                target(kinds::replica_set(), of_process()),
                target(kinds::pod(), of_process()),
                target(
                    kinds::event(),
                    Selection::of(namespace).with_fields("involvedObject.kind=Pod"),
                ),
            ],
            move |target, object| target != EVENTS || event::is_of_pods(object, &of),
        )?;
        let deadlines = Deadlines {
            full: home.timeouts.deployment_progress,
            healthcheck: home.timeouts.healthcheck,
        };
        let mut rollout = Rollout::new(deployment, deadlines, watch.all(EVENTS));
        if let Some(before) = watch.all(0).first() {
            rollout = rollout.after(before);
        }
        Ok(Self { watch, rollout, began: Instant::now() })
    }

    /// Waits until the units are replaced; `sent` is the Deployment as the cluster took it. People are told as it goes, unless `silent`.
    ///
    /// # Errors
    ///
    /// The units did not start or did not answer, somebody asked to stop, or the cluster is away.
    pub(crate) fn finish(mut self, sent: &Value, silent: bool) -> Result<()> {
        let generation = |object: &Value| crate::object::number(object, "/metadata/generation");
        self.began = Instant::now();
        loop {
            // What the watch has may still be from before the change was sent.
            let seen = self.watch.all(0).first();
            let deployment = match seen {
                Some(seen) if generation(seen) >= generation(sent) => seen,
                Some(_) | None => sent,
            };
            let (lines, outcome) = self.rollout.observe(&Observation {
                deployment,
                replica_sets: self.watch.all(1),
                pods: self.watch.all(2),
                events: self.watch.all(EVENTS),
                elapsed: self.began.elapsed(),
            });
            if !silent {
                lines.iter().for_each(|line| operation::progress(line));
            }
            match outcome {
                Outcome::Done => return Ok(()),
                Outcome::Failed(error) => return Err(error),
                Outcome::Waiting => self.watch.next()?,
            }
        }
    }
}

/// Waits for a pod that runs once, from when it was made, until it is as far as `until` says. What the cluster warns of meanwhile is told to people.
///
/// # Errors
///
/// It failed, its image cannot be had, it took longer than `time`, somebody asked to stop, or the cluster is away.
pub(crate) fn pod(
    home: &Home,
    pod: &str,
    time: Duration,
    until: impl Fn(&Value, &[Value]) -> Result<bool>,
) -> Result<Value> {
    let namespace = home.namespace();
    let named = |field: &str| Selection::of(namespace).with_fields(format!("{field}={pod}"));
    let mut watch = Watch::begin(
        home,
        [
            target(kinds::pod(), named("metadata.name")),
            target(kinds::event(), named("involvedObject.name")),
        ],
    )?;
    let (began, mut told) = (Instant::now(), BTreeSet::new());
    loop {
        let found = watch.all(0).first().cloned();
        // Pods of this name have been there before, and the cluster still tells what happened to them.
        let uid = found.as_ref().map(|pod| text(pod, "/metadata/uid")).unwrap_or_default();
        let of_pod = |event: &&Value| text(event, "/involvedObject/uid") == uid;
        let events: Vec<Value> = watch.all(1).iter().filter(of_pod).cloned().collect();
        for event in events.iter().filter(|event| text(event, "/type") == "Warning") {
            let line = event::line(event);
            if told.insert(line.clone()) {
                operation::progress(&format!("  ---> {line}\n"));
            }
        }
        let missing = found.as_ref().and_then(|pod| completion::image_missing(pod, &events));
        if let Some(reason) = missing {
            return Err(Error::UnitStartup(reason));
        }
        match &found {
            Some(object) if until(object, &events)? => return Ok(object.clone()),
            None if began.elapsed() > home.timeouts.api => {
                return Err(Error::NotFound(format!("the pod `{pod}` is gone")));
            }
            Some(_) | None => {}
        }
        if began.elapsed() >= time {
            let pod = found.unwrap_or_default();
            let last = events.last().map(|event| text(event, "/message")).unwrap_or_default();
            let last = if last.is_empty() { String::new() } else { format!(": {last}") };
            let phase = text(&pod, "/status/phase");
            return Err(Error::TimedOut(format!(
                "the pod `{}` is {phase} after {}{last}",
                name(&pod),
                crate::rollout::go_duration(time)
            )));
        }
        watch.next()?;
    }
}

/// Waits until all containers of a pod run.
///
/// # Errors
///
/// As [`pod`].
pub(crate) fn pod_running(home: &Home, name: &str) -> Result<Value> {
    pod(home, name, home.timeouts.pod_running, completion::is_running)
}

/// Waits until a pod has ended, however it did.
///
/// # Errors
///
/// As [`pod`].
pub(crate) fn pod_ended(home: &Home, name: &str, time: Duration) -> Result<Value> {
    pod(
        home,
        name,
        time,
        |pod, _| Ok(["Succeeded", "Failed"].contains(&text(pod, "/status/phase"))),
    )
}

/// Waits until no object of a kind is left that a selector selects.
///
/// # Errors
///
/// Some are left after `time`, somebody asked to stop, or the cluster is away.
pub(crate) fn gone(
    home: &Home,
    kind: gantry_sdk::cluster::Kind,
    labels: &str,
    time: Duration,
) -> Result<()> {
    let what = kind.kind.clone();
    let selection = Selection::of(home.namespace()).labelled(labels);
    let mut watch = Watch::begin(home, [target(kind, selection)])?;
    let began = Instant::now();
    loop {
        let left = watch.all(0);
        if left.is_empty() {
            return Ok(());
        }
        if began.elapsed() >= time {
            let names: Vec<&str> = left.iter().map(name).collect();
            let text = format!("still there: {what} {}", names.join(", "));
            return Err(Error::TimedOut(text));
        }
        watch.next()?;
    }
}

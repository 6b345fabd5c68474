//! Waiting until the units of a process are replaced (spec 7.4).
//!
//! ```text
//! begin ─► the cluster has seen the change ─► new units run ─► they answer, the old ones are gone ─► done
//!             │ deadline of all                  │ deadline of all   │ deadline of health checks, and of all
//!             └──────────────────────────────────┴───────────────────┴─► failed
//! ```
//!
//! A [`Rollout`] is shown what the cluster says, as often as somebody looks, and answers with the lines for people and what came of it. Looking and waiting are the caller's.

pub(crate) mod event;
mod failure;

use std::collections::BTreeSet;
use std::time::Duration;

use gantry_sdk::{Error, quote};
use serde_json::Value;

use crate::object::{items, name, number, text, texts};

pub use failure::{go_duration, invalid_phase, rollback_failed, rolling_back};

/// Tells the new ReplicaSet from the old ones.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The end of a rollout that went well.
const DONE: &str = " ---> Done updating units\n";

/// How long a rollout may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// All of it.
    pub full: Duration,
    /// From when all new units run until they answer.
    pub healthcheck: Duration,
}

/// What the cluster says at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The Deployment.
    pub deployment: &'a Value,
    /// The ReplicaSets of the process.
    pub replica_sets: &'a [Value],
    /// The pods of the process.
    pub pods: &'a [Value],
    /// The events of the namespace.
    pub events: &'a [Value],
    /// How long the rollout has taken so far.
    pub elapsed: Duration,
}

/// What came of it so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Look again.
    Waiting,
    /// All units are new, and answer.
    Done,
    /// They will not be. The error is [`Error::UnitStartup`].
    Failed(Error),
}

/// The wait for the units of a process.
#[derive(Clone, Debug)]
pub struct Rollout {
    deployment: String,
    deadlines: Deadlines,
    /// When the cluster had seen the change.
    seen: Option<Duration>,
    /// When all new units ran.
    running: Option<Duration>,
    shown: Counts,
    events: BTreeSet<(String, String)>,
    /// When the cluster gave up an earlier change.
    given_up: Option<String>,
}

/// The numbers that people were told last; -1 before the first time.
#[derive(Clone, Copy, Debug)]
struct Counts {
    created: i64,
    ready: i64,
    leaving: i64,
}

impl Rollout {
    /// Begins to wait for a Deployment that has just been sent; `before` are the events that were there already.
    pub fn new(deployment: &str, deadlines: Deadlines, before: &[Value]) -> Self {
        Self {
            deployment: deployment.to_owned(),
            deadlines,
            seen: None,
            running: None,
            shown: Counts { created: -1, ready: -1, leaving: -1 },
            events: before.iter().map(event::key).collect(),
            given_up: None,
        }
    }

    /// The same, after the cluster may have given up an earlier change of the Deployment, which says so until this one gets on.
    #[must_use]
    pub fn after(mut self, before: &Value) -> Self {
        self.given_up = given_up(before);
        self
    }

    /// The first line: what is about to change.
    pub fn headline(process: &str) -> String {
        format!("\n---- Updating units [{process}] ----\n")
    }

    /// Takes what the cluster says now. The lines are to be shown in any case.
    pub fn observe(&mut self, observed: &Observation<'_>) -> (Vec<String>, Outcome) {
        let mut lines = Vec::new();
        let outcome = self.step(observed, &mut lines);
        (lines, outcome)
    }

    fn step(&mut self, observed: &Observation<'_>, lines: &mut Vec<String>) -> Outcome {
        let Observation { deployment, elapsed, .. } = *observed;
        let generation = number(deployment, "/metadata/generation");
        if number(deployment, "/status/observedGeneration") < generation {
            if elapsed >= self.deadlines.full {
                return failed("timeout waiting for deployment generation to update");
            }
            return Outcome::Waiting;
        }
        let seen = *self.seen.get_or_insert(elapsed);
        if given_up(deployment).is_some_and(|at| self.given_up != Some(at)) {
            let name = quote(&self.deployment);
            return failed(&format!("deployment {name} exceeded its progress deadline"));
        }
        let wanted = wanted(deployment);
        let total = number(deployment, "/status/replicas");
        let ready = self.show_counts(observed, wanted, lines);
        if ready == wanted && total == wanted {
            lines.push(DONE.to_owned());
            return Outcome::Done;
        }
        lines.extend(self.new_events(observed.events));
        match self.missed(elapsed) {
            None => Outcome::Waiting,
            Some(deadline) => {
                let spent = elapsed.saturating_sub(seen);
                let message = failure::timeout(deadline, spent, observed, lines);
                failed(&message)
            }
        }
    }

    /// Tells the numbers that changed, and gives how many new units answer. It may be below none: the old ones count as missing too.
    fn show_counts(
        &mut self,
        observed: &Observation<'_>,
        wanted: i64,
        lines: &mut Vec<String>,
    ) -> i64 {
        let count = |field: &str| number(observed.deployment, &format!("/status/{field}"));
        let created = count("updatedReplicas");
        let ready = created - count("unavailableReplicas");
        let leaving = count("replicas") - created;
        if self.shown.created != created {
            lines.push(format!(" ---> {created} of {wanted} new units created\n"));
        }
        if self.running.is_none() && created == wanted && all_new_pods_run(observed, wanted) {
            self.running = Some(observed.elapsed);
            lines.push(format!(" ---> waiting healthcheck on {wanted} created units\n"));
        }
        if self.shown.ready != ready && ready >= 0 {
            lines.push(format!(" ---> {ready} of {wanted} new units ready\n"));
        }
        if self.shown.leaving != leaving && leaving > 0 {
            lines.push(format!(" ---> {leaving} old units pending termination\n"));
        }
        self.shown = Counts { created, ready, leaving };
        ready
    }

    fn new_events(&mut self, events: &[Value]) -> Vec<String> {
        let mut lines = Vec::new();
        for event in events {
            if event::is_of_pods(event, &self.deployment) && self.events.insert(event::key(event)) {
                lines.push(format!("  ---> {}\n", event::line(event)));
            }
        }
        lines
    }

    /// The deadline that is over: of two the one that was first.
    fn missed(&self, elapsed: Duration) -> Option<&'static str> {
        let full = Some((self.deadlines.full, "full rollout"));
        let healthcheck = self
            .running
            .map(|running| (running.saturating_add(self.deadlines.healthcheck), "healthcheck"));
        let missed = [full, healthcheck].into_iter().flatten().filter(|(at, _)| *at <= elapsed);
        missed.min_by_key(|(at, _)| *at).map(|(_, deadline)| deadline)
    }
}

fn failed(message: &str) -> Outcome {
    Outcome::Failed(Error::UnitStartup(message.to_owned()))
}

/// How many units there should be: one, when nobody says.
fn wanted(deployment: &Value) -> i64 {
    deployment.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

/// When the cluster gave a change up, if it did.
fn given_up(deployment: &Value) -> Option<String> {
    let exceeded = |condition: &&Value| {
        text(condition, "/type") == "Progressing"
            && text(condition, "/reason") == "ProgressDeadlineExceeded"
    };
    let condition = items(deployment, "/status/conditions").iter().find(exceeded)?;
    Some(text(condition, "/lastUpdateTime").to_owned())
}

/// Whether all units of the new kind run: the pods of the ReplicaSet that has the revision of the Deployment. Where the Deployment does not tell its revision, it is taken for
/// the generation that the cluster has seen.
fn all_new_pods_run(observed: &Observation<'_>, wanted: i64) -> bool {
    let Observation { deployment, replica_sets, pods, .. } = *observed;
    let revision = match texts(deployment, "/metadata/annotations").remove(REVISION) {
        Some(revision) => revision,
        None => number(deployment, "/status/observedGeneration").to_string(),
    };
    let of_revision =
        |set: &&Value| texts(set, "/metadata/annotations").get(REVISION) == Some(&revision);
    let Some(newest) = replica_sets.iter().find(of_revision) else { return false };
    let owned = |pod: &&Value| {
        items(pod, "/metadata/ownerReferences").iter().any(|owner| {
            let uid = text(owner, "/uid");
            if uid.is_empty() {
                text(owner, "/name") == name(newest)
            } else {
                uid == text(newest, "/metadata/uid")
            }
        })
    };
    let phases: Vec<&str> =
        pods.iter().filter(owned).map(|pod| text(pod, "/status/phase")).collect();
    // What is not there yet does not run, and nothing has no health.
    wanted > 0
        && i64::try_from(phases.len()).is_ok_and(|count| count >= wanted)
        && phases.iter().all(|phase| *phase == "Running")
}

#[cfg(test)]
mod tests;

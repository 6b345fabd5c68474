//! The units that come while a log is followed: those of a deploy, and those that start again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use gantry_core::{Status, Unit};
use gantry_runtime::{LogSource, TailOptions};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

use super::Service;
use crate::api::ProblemKind;

/// How long a new unit is not noticed at most.
const PACE: Duration = Duration::from_secs(2);

/// The units whose logs are read at the moment.
#[derive(Clone, Default)]
pub(super) struct Open(Arc<Mutex<BTreeSet<String>>>);

impl Open {
    // A std mutex: held for a look or an insert, never across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for the units of an app whose lines are not read yet.
pub(super) struct Follow {
    service: Weak<Service>,
    app: String,
    process: String,
    /// The units whose lines have been read once.
    seen: BTreeSet<String>,
    pace: Interval,
}

impl Follow {
    pub(super) fn of(
        service: &Arc<Service>,
        app: &str,
        process: &str,
        sources: &[LogSource],
    ) -> Self {
        // The units of now are read already.
        let mut pace = tokio::time::interval_at(tokio::time::Instant::now() + PACE, PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            service: Arc::downgrade(service),
            app: app.to_owned(),
            process: process.to_owned(),
            seen: sources.iter().map(|source| source.unit.clone()).collect(),
            pace,
        }
    }

    /// Finds the logs that are to be read beside those that are open, again and again until the app is gone.
    pub(super) async fn look_on(mut self, open: Open, found: mpsc::Sender<Vec<LogSource>>) {
        loop {
            self.pace.tick().await;
            let now = open.lock().clone();
            let Some(sources) = self.find(&now).await else { return };
            if !sources.is_empty() && found.send(sources).await.is_err() {
                return;
            }
        }
    }

    async fn find(&mut self, open: &BTreeSet<String>) -> Option<Vec<LogSource>> {
        let service = self.service.upgrade()?;
        let record = match service.record(&self.app).await {
            Ok(record) => record,
            Err(problem) if problem.kind == ProblemKind::NotFound => return None,
            // Whatever stands in the way may pass.
            Err(_) => return Some(Vec::new()),
        };
        let Ok(provisioner) = service.provisioner(&record.provisioner) else {
            return Some(Vec::new());
        };
        let question = service.question();
        let units = provisioner.units(&question, std::slice::from_ref(&record.app)).await;
        let mut found = Vec::new();
        for (unit, lines) in joining(&units.unwrap_or_default(), &self.process, open, &self.seen) {
            let options = TailOptions { process: String::new(), unit, lines, follow: true };
            // One that says nothing yet is asked at the next look.
            let sources = provisioner.tail(&question, &record.app, &options).await;
            found.extend(sources.unwrap_or_default());
        }
        self.seen.extend(found.iter().map(|source| source.unit.clone()));
        Some(found)
    }
}

/// The units whose logs are to be read from now on, each with how many of its last lines: all of one that is new, none of one that starts again.
fn joining(
    units: &[Unit],
    process: &str,
    open: &BTreeSet<String>,
    seen: &BTreeSet<String>,
) -> Vec<(String, u32)> {
    let wanted = |unit: &&Unit| process.is_empty() || unit.process_name == process;
    let joins = |unit: &Unit| {
        if open.contains(&unit.id) {
            return None;
        }
        match (seen.contains(&unit.id), unit.status) {
            (false, _) => Some((unit.id.clone(), u32::MAX)),
            (true, Some(Status::Started | Status::Starting)) => Some((unit.id.clone(), 0)),
            (true, _) => None,
        }
    };
    units.iter().filter(wanted).filter_map(joins).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_join_that_are_new_or_start_again() {
        let unit = |id: &str, process: &str, status| Unit {
            id: id.to_owned(),
            process_name: process.to_owned(),
            status: Some(status),
            ..Unit::default()
        };
        let units = [
            unit("read", "web", Status::Started),
            unit("new", "web", Status::Starting),
            unit("other", "worker", Status::Started),
            unit("again", "web", Status::Started),
            unit("stopped", "web", Status::Stopped),
        ];
        let of = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let (open, seen) = (of(&["read"]), of(&["read", "again", "stopped"]));
        let join = |process: &str| joining(&units, process, &open, &seen);
        let web = [("new".to_owned(), u32::MAX), ("again".to_owned(), 0)];
        assert_eq!(join("web"), web);
        assert_eq!(join("worker"), [("other".to_owned(), u32::MAX)]);
        assert_eq!(join("").len(), 3);
    }
}

//! Units: list, add, remove, start, stop, restart; and the one way in which an app is changed.

mod processes;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use gantry_core::{App, Error, Status, Unit};
use gantry_runtime::Provisioner;
use serde_json::{Value, json};

use processes::Processes;

use super::moves::MOVE;
use super::{OrProblem, Service, app_lock, time_of};
use crate::api::{Problem, ProblemKind, UnitList};
use crate::operation::{Caller, Request};
use crate::store::AppRecord;

/// How many pools are asked for their units at the same time.
const AT_ONCE: usize = 8;

/// What the change of an app works with.
pub(super) struct Change {
    /// The service.
    pub(super) service: Arc<Service>,
    /// The app, as it is now that nobody else changes it.
    pub(super) record: AppRecord,
    /// Its provisioner.
    pub(super) provisioner: Provisioner,
    /// The operation.
    pub(super) operation: gantry_engine::Operation,
}

impl Service {
    /// Changes an app: one operation at a time, with the app as it is once its turn has come.
    pub(super) async fn change<F, W>(
        self: &Arc<Self>,
        caller: Caller,
        verb: &'static str,
        app: &str,
        detail: Value,
        work: F,
    ) -> Result<String, Problem>
    where
        F: FnOnce(Change) -> W + Send + 'static,
        W: Future<Output = Result<Value, Problem>> + Send + 'static,
    {
        let record = self.record(app).await?;
        let provisioner = self.provisioner(&record.provisioner)?;
        let request = Request {
            verb,
            app: Some(app.to_owned()),
            plugin: Some(record.provisioner),
            digest: Some(provisioner.generation().digest().to_owned()),
            detail,
            lock: app_lock(app),
            time: time_of(&provisioner),
            caller,
        };
        let (service, name) = (Arc::clone(self), app.to_owned());
        let begun = self.operations.begin(request, move |begun| async move {
            let record = service.record(&name).await?;
            if verb != MOVE {
                service.refuse_while_moving(&name).await?;
            }
            // It may have moved while this waited for its turn.
            let provisioner = service.provisioner(&record.provisioner)?;
            let (operation, counts) = (begun.operation, service.counts.clone());
            let (routes, ending) = (Arc::clone(&service), operation.clone());
            routes.mark_routes(&name).await;
            counts.begin(&name);
            let ended = work(Change { service, record, provisioner, operation }).await;
            counts.begin(&name);
            routes.settle_routes(&ending, &name).await;
            routes.settle_units(&ending, &name).await;
            ended
        });
        begun.await.or_problem(|| format!("could not change the app `{app}`"))
    }

    /// The units of an app.
    pub(crate) async fn units(&self, app: &str) -> Result<Vec<Unit>, Problem> {
        let record = self.record(app).await?;
        let provisioner = self.provisioner(&record.provisioner)?;
        let units = provisioner.units(&self.question(), &[record.app]).await;
        units.or_problem(|| format!("could not list the units of `{app}`"))
    }

    /// The units of every app. A pool whose units cannot be told takes nothing but its own away.
    pub(crate) async fn all_units(&self) -> Result<UnitList, Problem> {
        let records = self.store.apps().await;
        let records = records.or_problem(|| "could not list the apps".to_owned())?;
        let mut pools: BTreeMap<(String, String), Vec<App>> = BTreeMap::new();
        for AppRecord { app, provisioner, .. } in records {
            pools.entry((app.pool.clone(), provisioner)).or_default().push(app);
        }
        let question = self.question();
        let asked = pools.into_iter().map(async |((pool, provisioner), apps)| {
            let title = || format!("could not list the units of the pool `{pool}`");
            let provisioner = self.provisioner(&provisioner).map_err(|problem| Problem {
                title: title(),
                detail: problem.title,
                ..problem
            })?;
            provisioner.units(&question, &apps).await.or_problem(title)
        });
        let told: Vec<_> = futures_util::stream::iter(asked).buffered(AT_ONCE).collect().await;
        let mut list = UnitList::default();
        for told in told {
            match told {
                Ok(units) => list.items.extend(units),
                Err(problem) => list.problems.push(problem),
            }
        }
        list.items.sort_by(|one, other| one.app_name.cmp(&other.app_name));
        Ok(list)
    }

    /// Starts more units.
    pub(crate) async fn add_units(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        count: u32,
        process: String,
    ) -> Result<String, Problem> {
        let title = format!("could not add units to `{app}`");
        if count == 0 {
            return Err(Problem::new(ProblemKind::Invalid, title)
                .because("Cannot add zero units.")
                .hint(format!("`gantry unit add {app} 1` adds one")));
        }
        self.check_deployed(app, &title).await?;
        let detail = json!({"count": count, "process": process});
        self.change(caller, "unit-add", app, detail, move |change| async move {
            let there = change.there(&title, &process).await?;
            let idle = change.add(&title, &there, count, &process).await?;
            Ok(json!({"added": count, "idle": idle}))
        })
        .await
    }

    /// Refuses more units of an app that was never deployed.
    async fn check_deployed(&self, app: &str, title: &str) -> Result<(), Problem> {
        if self.record(app).await?.app.deploys > 0 {
            return Ok(());
        }
        Err(Problem::new(ProblemKind::Conflict, title)
            .because("New units can only be added after the first deployment")
            .hint(format!("`gantry app deploy {app} --image IMAGE`")))
    }

    /// Removes units.
    pub(crate) async fn remove_units(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        count: u32,
        process: String,
    ) -> Result<String, Problem> {
        let title = format!("could not remove units of `{app}`");
        let detail = json!({"count": count, "process": process});
        self.change(caller, "unit-remove", app, detail, move |change| async move {
            change.known_process(&process).await?;
            change.remove(&title, count, &process).await?;
            Ok(json!({"removed": count}))
        })
        .await
    }

    /// Ends a unit, which is started anew.
    pub(crate) async fn kill_unit(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        unit: String,
        force: bool,
    ) -> Result<String, Problem> {
        let title = format!("could not kill the unit `{unit}` of `{app}`");
        let detail = json!({"unit": unit, "force": force});
        self.change(caller, "unit-kill", app, detail, move |change| async move {
            let app = &change.record.app;
            let killed = change.provisioner.kill_unit(&change.operation, app, &unit, force).await;
            killed.or_problem(|| title)?;
            Ok(json!({"killed": unit}))
        })
        .await
    }

    /// Starts or removes units until there are so many of a process.
    pub(crate) async fn set_units(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        count: u32,
        process: String,
    ) -> Result<String, Problem> {
        let title = format!("could not set the units of `{app}`");
        if count > 0 {
            self.check_deployed(app, &title).await?;
        }
        let detail = json!({"count": count, "process": process});
        self.change(caller, "unit-set", app, detail, move |change| async move {
            let there = change.there(&title, &process).await?;
            let of_process = |unit: &&Unit| process.is_empty() || unit.process_name == process;
            let now = number(there.units.iter().filter(of_process).count());
            let idle = match count.cmp(&now) {
                Ordering::Equal => false,
                Ordering::Greater => {
                    change.check_counted(&title, now).await?;
                    let more = count.saturating_sub(now);
                    change.add(&title, &there, more, &process).await?
                }
                Ordering::Less => {
                    change.remove(&title, now.saturating_sub(count), &process).await?;
                    false
                }
            };
            Ok(json!({"before": now, "units": count, "idle": idle}))
        })
        .await
    }

    /// Starts the units that are stopped.
    pub(crate) async fn start(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        process: String,
    ) -> Result<String, Problem> {
        let title = format!("could not start the units of `{app}`");
        let detail = json!({"process": process});
        self.change(caller, "app-start", app, detail, move |change| async move {
            change.known_process(&process).await?;
            let app = &change.record.app;
            let started = change.provisioner.start(&change.operation, app, &process).await;
            started.or_problem(|| title).map(|()| json!({}))
        })
        .await
    }

    /// Stops the units and keeps them.
    pub(crate) async fn stop(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        process: String,
    ) -> Result<String, Problem> {
        let title = format!("could not stop the units of `{app}`");
        let detail = json!({"process": process});
        self.change(caller, "app-stop", app, detail, move |change| async move {
            change.known_process(&process).await?;
            let app = &change.record.app;
            let stopped = change.provisioner.stop(&change.operation, app, &process).await;
            stopped.or_problem(|| title).map(|()| json!({}))
        })
        .await
    }

    /// Puts the units to sleep, until somebody starts them.
    pub(crate) async fn sleep(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        process: String,
    ) -> Result<String, Problem> {
        let title = format!("could not put the units of `{app}` to sleep");
        let detail = json!({"process": process});
        self.change(caller, "app-sleep", app, detail, move |change| async move {
            change.known_process(&process).await?;
            let app = &change.record.app;
            let slept = change.provisioner.sleep(&change.operation, app, &process).await;
            slept.or_problem(|| title).map(|()| json!({}))
        })
        .await
    }

    /// Replaces the units by new ones.
    pub(crate) async fn restart(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        process: String,
    ) -> Result<String, Problem> {
        let title = format!("could not restart the units of `{app}`");
        let detail = json!({"process": process});
        self.change(caller, "app-restart", app, detail, move |change| async move {
            change.known_process(&process).await?;
            let app = &change.record.app;
            let restarted = change.provisioner.restart(&change.operation, app, &process).await;
            restarted.or_problem(|| title).map(|()| json!({}))
        })
        .await
    }
}

/// The units of an app before their number changes, and the processes that it has.
struct There {
    units: Vec<Unit>,
    processes: Processes,
}

/// Units do not come beside those that are at rest.
fn at_rest(title: &str, app: &str) -> Problem {
    Problem::new(ProblemKind::Conflict, title)
        .because("Cannot add units to an app that has stopped or sleeping units")
        .hint(format!("`gantry app start {app}`"))
}

fn number(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// Whether some of these units are of a process, or any at all when it is empty; one that does not say of which it is may be.
fn has_some(units: &[Unit], process: &str) -> bool {
    let of_process = |name: &str| process.is_empty() || name.is_empty() || name == process;
    units.iter().any(|unit| of_process(&unit.process_name))
}

impl Change {
    /// The units of the app.
    pub(super) async fn units(&self, title: impl Fn() -> String) -> Result<Vec<Unit>, Problem> {
        let apps = std::slice::from_ref(&self.record.app);
        let units = self.provisioner.units(&self.operation, apps).await;
        units.or_problem(title)
    }

    /// What there is before the number of units of a process changes. None named of several is refused.
    async fn there(&self, title: &str, process: &str) -> Result<There, Problem> {
        let units = self.units(|| title.to_owned()).await?;
        let processes = self.service.processes(&self.record, &units).await?;
        processes.check_new(&self.record.app.name, process)?;
        processes.check_one(title, process)?;
        Ok(There { units, processes })
    }

    /// Refuses to go by the units that there are when there is none, and the provisioner may keep the number of those that are at rest.
    async fn check_counted(&self, title: &str, units: u32) -> Result<(), Problem> {
        let app = &self.record.app.name;
        match units == 0 && self.service.asked_last(app).await?.is_some() {
            true => Err(at_rest(title, app)),
            false => Ok(()),
        }
    }

    /// Starts more units beside those that there are; tells whether they wait until the app is started.
    async fn add(
        &self,
        title: &str,
        There { units, processes }: &There,
        count: u32,
        process: &str,
    ) -> Result<bool, Problem> {
        let app = &self.record.app;
        let rests = |unit: &Unit| matches!(unit.status, Some(Status::Stopped | Status::Asleep));
        if units.iter().any(rests) {
            return Err(at_rest(title, &app.name));
        }
        let requested = number(units.len()).saturating_add(count);
        if let Some(available) = self.record.unit_quota.filter(|quota| requested > *quota) {
            let excess = Error::QuotaExceeded { available, requested };
            return Err(excess).or_problem(|| title.to_owned());
        }
        let added = self.provisioner.add_units(&self.operation, app, count, process).await;
        added.or_problem(|| title.to_owned()).map_err(|problem| {
            match processes.choice(process) {
                Some(choice) if problem.kind == ProblemKind::Invalid => {
                    let mut problem = problem.hint_if_none(&choice);
                    if !process.is_empty() {
                        problem.kind = ProblemKind::NotFound;
                    }
                    problem
                }
                Some(_) | None => problem,
            }
        })?;
        self.service.counts.see(&app.name, requested).await;
        Ok(self.is_idle(units, process).await)
    }

    /// Removes units.
    async fn remove(&self, title: &str, count: u32, process: &str) -> Result<(), Problem> {
        let app = &self.record.app;
        let removed = self.provisioner.remove_units(&self.operation, app, count, process).await;
        removed.or_problem(|| title.to_owned())?;
        let counts = &self.service.counts;
        if !counts.is_told(&app.name) {
            counts.see(&app.name, number(self.units(|| title.to_owned()).await?.len())).await;
        }
        Ok(())
    }

    /// Whether units that were added do not run: of an app that is stopped or asleep, a provisioner may keep their number only. `before` are the units that there were.
    async fn is_idle(&self, before: &[Unit], process: &str) -> bool {
        // Beside units that are there, new ones are there too.
        if has_some(before, process) {
            return false;
        }
        let apps = std::slice::from_ref(&self.record.app);
        let now = self.provisioner.units(&self.operation, apps).await;
        now.is_ok_and(|now| !has_some(&now, process))
    }

    /// Counts a deploy, of an image or of what was built on the platform. The new version serves already: that it cannot be counted must not make a failure of it, of which nothing may stay.
    pub(super) async fn count_deploy(&self, of_image: bool) {
        let name = &self.record.app.name;
        if let Err(error) = self.service.store.count_deploy(name, of_image).await {
            tracing::error!(app = %name, error = &error as &dyn std::error::Error, "could not count a deploy");
            self.operation
                .progress
                .show(&format!("warning: the deploy was not counted: {error}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_of_a_process_by_its_name_or_when_they_do_not_say() {
        let unit = |name: &str| Unit { process_name: name.to_owned(), ..Unit::default() };
        for (names, process, expected) in [
            (&[][..], "", false),
            (&["web"], "", true),
            (&["web", "worker"], "worker", true),
            (&["web"], "worker", false),
            (&[""], "worker", true),
        ] {
            let units: Vec<Unit> = names.iter().map(|name| unit(name)).collect();
            assert_eq!(has_some(&units, process), expected, "{names:?} {process:?}");
        }
    }
}

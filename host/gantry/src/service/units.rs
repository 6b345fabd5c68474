//! Units: list, add, remove, start, stop, restart; and the one way in which an app is changed.

use std::sync::Arc;

use gantry_core::{Error, Status, Unit};
use gantry_runtime::Provisioner;
use serde_json::{Value, json};

use super::moves::MOVE;
use super::{OrProblem, Service, app_lock, time_of};
use crate::api::{Problem, ProblemKind};
use crate::operation::{Caller, Request};
use crate::store::AppRecord;

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
            counts.begin(&name);
            let ended = work(Change { service, record, provisioner, operation }).await;
            counts.begin(&name);
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

    /// Starts more units.
    pub(crate) async fn add_units(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        count: u32,
        process: String,
    ) -> Result<String, Problem> {
        let title = format!("could not add units to `{app}`");
        let wrong = |kind, why: &str| Problem::new(kind, &title).because(why);
        if count == 0 {
            return Err(wrong(ProblemKind::Invalid, "Cannot add zero units.")
                .hint(format!("`gantry unit add {app} 1` adds one")));
        }
        if self.record(app).await?.app.deploys == 0 {
            return Err(wrong(
                ProblemKind::Conflict,
                "New units can only be added after the first deployment",
            )
            .hint(format!("`gantry app deploy {app} --image IMAGE`")));
        }
        let detail = json!({"count": count, "process": process});
        self.change(caller, "unit-add", app, detail, move |change| async move {
            let app = &change.record.app;
            let apps = std::slice::from_ref(app);
            let units = change.provisioner.units(&change.operation, apps).await;
            let units = units.or_problem(|| title.clone())?;
            let idle = |unit: &Unit| matches!(unit.status, Some(Status::Stopped | Status::Asleep));
            if units.iter().any(idle) {
                return Err(Problem::new(ProblemKind::Conflict, title)
                    .because("Cannot add units to an app that has stopped or sleeping units")
                    .hint(format!("`gantry app start {}`", app.name)));
            }
            let now = u32::try_from(units.len()).unwrap_or(u32::MAX);
            let requested = now.saturating_add(count);
            if let Some(available) = change.record.unit_quota.filter(|quota| requested > *quota) {
                let excess = Error::QuotaExceeded { available, requested };
                return Err(excess).or_problem(|| title);
            }
            let added = change.provisioner.add_units(&change.operation, app, count, &process).await;
            added.or_problem(|| title)?;
            change.service.counts.see(&app.name, requested).await;
            Ok(json!({"added": count}))
        })
        .await
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
            let app = &change.record.app;
            let removed =
                change.provisioner.remove_units(&change.operation, app, count, &process).await;
            removed.or_problem(|| title.clone())?;
            let counts = &change.service.counts;
            if counts.is_told(&app.name) {
                return Ok(json!({"removed": count}));
            }
            let apps = std::slice::from_ref(app);
            let left = change.provisioner.units(&change.operation, apps).await;
            let left = left.or_problem(|| title)?.len();
            counts.see(&app.name, u32::try_from(left).unwrap_or(u32::MAX)).await;
            Ok(json!({"removed": count}))
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
            let app = &change.record.app;
            let restarted = change.provisioner.restart(&change.operation, app, &process).await;
            restarted.or_problem(|| title).map(|()| json!({}))
        })
        .await
    }
}

impl Change {
    /// Counts a deploy. The new version serves already: that it cannot be counted must not make a failure of it, of which nothing may stay.
    pub(super) async fn count_deploy(&self) {
        let name = &self.record.app.name;
        if let Err(error) = self.service.store.count_deploy(name).await {
            tracing::error!(app = %name, error = &error as &dyn std::error::Error, "could not count a deploy");
            self.operation
                .progress
                .show(&format!("warning: the deploy was not counted: {error}\n"));
        }
    }
}

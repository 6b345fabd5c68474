//! The bind and the unbind of one app at one service, each with its way back.

use std::collections::BTreeSet;

use gantry_core::Unit;
use serde_json::{Value, json};

use super::super::problem::Trouble;
use super::super::units::Change;
use super::super::{OrProblem, not_found};
use super::bindings::Bindings;
use super::endpoint::{BoundApp, ServiceError};
use crate::api::{Problem, ProblemKind};
use crate::store::{BindBegun, ServiceRecord};

/// An app and a service, while the app is bound or unbound.
pub(super) struct Binding {
    change: Change,
    service: ServiceRecord,
    app: BoundApp,
    title: String,
}

impl Binding {
    /// What a change of the app does with the service.
    pub(super) async fn of(
        change: Change,
        service: ServiceRecord,
        title: String,
    ) -> Result<Self, Problem> {
        let name = change.record.app.name.clone();
        let hosts = change.service.hosts(&name).await;
        Ok(Self { change, service, app: BoundApp { name, hosts }, title })
    }

    fn bindings(&self) -> &Bindings {
        &self.change.service.bindings
    }

    fn title(&self) -> String {
        self.title.clone()
    }

    async fn units(&self) -> Result<Vec<Unit>, Problem> {
        let apps = std::slice::from_ref(&self.change.record.app);
        let units = self.change.provisioner.units(&self.change.operation, apps).await;
        units.or_problem(|| self.title())
    }

    /// What services are asked for, unless somebody asks to stop meanwhile.
    async fn unless_cancelled<T>(
        &self,
        asked: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        tokio::select! {
            done = asked => done,
            () = self.change.operation.cancel.cancelled() => {
                Err(Problem::new(ProblemKind::Cancelled, self.title()).because("cancelled"))
            }
        }
    }

    /// Binds the app, and replaces its units.
    pub(super) async fn make(&self, no_restart: bool) -> Result<Value, Problem> {
        let (app, name) = (&self.app.name, &self.service.name);
        // First: an app that cannot be asked stays as it is.
        let units = self.units().await?;
        let begun = self.change.service.store.begin_bind(app, name).await;
        let again = match begun.or_problem(|| self.title())? {
            BindBegun::Begun => false,
            BindBegun::Again => true,
            BindBegun::Bound => {
                return Err(Problem::new(ProblemKind::Conflict, self.title())
                    .because("it is bound already")
                    .hint(format!("`gantry service info {name}` shows the apps that are")));
            }
            BindBegun::NoService => {
                return Err(not_found("service", name, None)
                    .hint_if_none("`gantry service list` lists the services"));
            }
        };
        let variables = self.bind_app(again).await?;
        let told = self.unless_cancelled(async {
            let told = self.bindings().bind_units(&self.service, &self.app, &units).await;
            told.or_problem(|| self.title())
        });
        if let Err(problem) = told.await {
            return Err(self.taken_back(problem).await);
        }
        let restarted = !no_restart && !units.is_empty();
        if restarted {
            let half = || {
                format!("`{app}` is bound to `{name}`, but its units may not have its variables")
            };
            match self.change.restart(half).await {
                Ok(_) => {}
                Err(problem) if self.change.is_as_before(&problem, &units).await => {
                    // The units of before serve on, without the variables: so does the app.
                    let problem = Problem { title: self.title(), ..problem };
                    return Err(self.taken_back(problem).await);
                }
                Err(problem) => return Err(problem),
            }
        }
        Ok(json!({"service": name, "variables": variables, "restarted": restarted}))
    }

    /// Binds the app at the service, writes the variables down and gives their names.
    async fn bind_app(&self, again: bool) -> Result<Vec<String>, Problem> {
        let mut in_doubt = true;
        let bound = self.unless_cancelled(async {
            let bound = self.bindings().bind_app(&self.service, &self.app).await;
            // What was begun before and not ended may have been done then.
            in_doubt = again || bound.as_ref().is_err_and(|error| error.is_in_doubt());
            bound.or_problem(|| self.title())
        });
        let variables = match bound.await {
            Ok(variables) => variables,
            Err(problem) if in_doubt => return Err(self.taken_back(problem).await),
            Err(problem) => return Err(self.forgotten(problem).await),
        };
        let names = variables.0.keys().cloned().collect();
        let store = &self.change.service.store;
        let ended = store.end_bind(&self.app.name, &self.service.name, variables).await;
        match ended.or_problem(|| self.title()) {
            Ok(()) => Ok(names),
            Err(problem) => Err(self.taken_back(problem).await),
        }
    }

    /// Unbinds the app again after something failed, and says what could not be taken back.
    async fn taken_back(&self, problem: Problem) -> Problem {
        let unbound = self.bindings().leave(&self.service, &self.app).await;
        let mut problem = self.forgotten(problem).await;
        let left = match unbound {
            Ok(failures) => failures.first().map(ToString::to_string),
            Err(error) => Some(error.to_string()),
        };
        if let Some(left) = left.filter(|left| !problem.detail.contains(left.as_str())) {
            problem.detail = format!("{}\nit may take the app for bound: {left}", problem.detail);
        }
        problem
    }

    async fn forgotten(&self, mut problem: Problem) -> Problem {
        let store = &self.change.service.store;
        let forgotten = store.forget_bind(&self.app.name, &self.service.name).await;
        if let Err(left) = forgotten.or_problem(|| self.title()) {
            problem.detail =
                format!("{}\nit is still written down: {}", problem.detail, left.detail);
        }
        problem
    }

    /// Unbinds the app, and replaces its units. Forced, whatever the service says.
    pub(super) async fn undo(&self, no_restart: bool, force: bool) -> Result<Value, Problem> {
        let (app, name) = (&self.app.name, &self.service.name);
        let store = &self.change.service.store;
        let binds = store.binds_of_service(name).await.or_problem(|| self.title())?;
        let Some(bind) = binds.iter().find(|bind| bind.app == *app) else {
            return Err(Problem::new(ProblemKind::NotFound, self.title())
                .because("it is not bound")
                .hint(format!("`gantry service info {name}` shows the apps that are")));
        };
        let left = match self.unbind(force).await {
            Ok(left) => left,
            Err(problem) => {
                let again = self.bindings().bind_again(&self.service, &self.app).await;
                again.or_problem(|| self.title())?;
                return Err(problem);
            }
        };
        store.forget_bind(app, name).await.or_problem(|| self.title())?;
        let left: Vec<_> = left.iter().map(ToString::to_string).collect();
        let left = left.join("; ");
        if !left.is_empty() {
            let warning = format!("warning: the service may take `{app}` for bound: {left}\n");
            self.change.operation.progress.show(&warning);
        }
        // What was half-made gave the units nothing.
        let has_variables = bind.envs.is_some();
        let why = || {
            format!("`{app}` is bound to `{name}` no more, but its units may have its variables")
        };
        let replaced = self.change.replace_units(no_restart || !has_variables, why).await?;
        let restarted = replaced.get("restarted");
        Ok(match left.as_str() {
            "" => json!({"service": name, "restarted": restarted}),
            left => json!({"service": name, "restarted": restarted, "left": left}),
        })
    }

    /// Unbinds the units and the app there. Forced, it gives what the service did not do; else the first such thing ends it.
    async fn unbind(&self, force: bool) -> Result<Vec<ServiceError>, Problem> {
        let units = self.unless_cancelled(async {
            let unbound = self.bindings().unbind_units(&self.service, &self.app).await;
            unbound.or_problem(|| self.title())
        });
        let mut failures = units.await?;
        if !force && !failures.is_empty() {
            return Err(self.not_unbound(failures.swap_remove(0)));
        }
        // Whoever asks to stop from here on waits for the answer: without it nobody knows whether the service has the app bound. It has its time.
        match self.bindings().unbind_app(&self.service, &self.app).await {
            Ok(()) => {}
            Err(error) if force => failures.push(error),
            Err(error) => return Err(self.not_unbound(error)),
        }
        Ok(failures)
    }

    fn not_unbound(&self, error: ServiceError) -> Problem {
        let (app, name) = (&self.app.name, &self.service.name);
        let in_doubt = error.is_in_doubt();
        let mut problem = Problem::new(error.kind(), self.title()).because(error.detail());
        if in_doubt {
            problem.detail.push_str("\nit may take the app for unbound: unbind again");
        }
        problem.hint(format!(
            "`gantry service unbind {name} {app} --force` unbinds it whatever the service says"
        ))
    }
}

impl Change {
    /// Whether the units of before serve on after their replacement failed: whoever began it has undone it, or they are the ones that are there.
    pub(in crate::service) async fn is_as_before(
        &self,
        problem: &Problem,
        before: &[Unit],
    ) -> bool {
        if is_undone(problem.kind) {
            return true;
        }
        // The operation itself may be cancelled, or its time over.
        let question = self.service.question();
        let apps = std::slice::from_ref(&self.record.app);
        let ids = |units: &[Unit]| -> BTreeSet<String> {
            units.iter().map(|unit| unit.id.clone()).collect()
        };
        let now = self.provisioner.units(&question, apps).await;
        now.is_ok_and(|now| ids(&now) == ids(before))
    }
}

/// Whether a replacement of units that failed so was undone by whoever began it. What was cut off, or could not reach its engine, may have left either.
fn is_undone(kind: ProblemKind) -> bool {
    match kind {
        ProblemKind::Invalid
        | ProblemKind::NotFound
        | ProblemKind::Conflict
        | ProblemKind::Denied
        | ProblemKind::Forbidden
        | ProblemKind::Quota
        | ProblemKind::NotSupported
        | ProblemKind::UnitStartup
        | ProblemKind::InvalidObject => true,
        ProblemKind::Unauthorized
        | ProblemKind::Busy
        | ProblemKind::PluginRefused
        | ProblemKind::OverLimit
        | ProblemKind::PluginFailed
        | ProblemKind::TimedOut
        | ProblemKind::Cancelled
        | ProblemKind::Interrupted
        | ProblemKind::Unavailable
        | ProblemKind::Overloaded
        | ProblemKind::ShuttingDown
        | ProblemKind::Storage
        | ProblemKind::Internal
        | ProblemKind::Failed => false,
    }
}

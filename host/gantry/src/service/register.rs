//! Units that say they are there: the reference's `units/register`, for the agents in them.

use gantry_core::{App, EnvVar, Status};

use super::nodes::is_not_found;
use super::services::BoundApp;
use super::{OrProblem, Service};
use crate::api::{Problem, ProblemKind};
use crate::config::Token;
use crate::operation::of_app;

impl Service {
    /// Lets the agents in the units of an app in. Without its token nobody learns whether there is such an app.
    pub(crate) async fn is_agent_of(&self, app: &str, shown: Option<Token>) -> Result<(), Problem> {
        let title = || "could not look at the token of the app".to_owned();
        let token = self.store.app_token(app).await.or_problem(title)?;
        if shown.zip(token).is_some_and(|(shown, token)| shown.is(&token)) {
            return Ok(());
        }
        Err(Problem::new(ProblemKind::Unauthorized, "the token of the app is missing or wrong")
            .hint("units have it in TSURU_APP_TOKEN; send it as `Authorization: Bearer TOKEN`"))
    }

    /// A unit says that it is there, and what it knows of its image; `id` is its id or the beginning of it. It is given its app's environment; the services of the app are told of it. It waits for
    /// no lock: a change of the app that is under way may be what started it, and is what tells services of units then.
    pub(crate) async fn register_unit(
        &self,
        app: &str,
        id: &str,
        data: Option<&str>,
    ) -> Result<Vec<EnvVar>, Problem> {
        let title = || format!("could not register a unit of `{app}`");
        let record = self.record(app).await?;
        let mut places = vec![(record.provisioner.clone(), record.app.clone())];
        if let Some(begun) = self.store.move_of(app).await.or_problem(title)? {
            places.push((begun.to_provisioner, App { pool: begun.to_pool, ..record.app }));
        }
        let mut registered = Ok(());
        for (provisioner, app) in &places {
            let provisioner = self.provisioner(provisioner)?;
            registered = provisioner.register_unit(&self.question(), app, id, data).await;
            if !registered.as_ref().is_err_and(is_not_found) {
                break;
            }
        }
        registered.or_problem(title)?;
        self.reroute_app(app).await;
        if !self.operations.is_locked(&of_app(app)) {
            self.tell_of(app, id).await?;
        }
        let platform = self.platform(&record.provisioner);
        gantry_engine::Apps::envs(&platform, app).await.or_problem(title)
    }

    /// Tells the services of an app of a unit of it.
    async fn tell_of(&self, app: &str, id: &str) -> Result<(), Problem> {
        let title = || format!("could not tell the services of `{app}` of a unit");
        if self.store.binds_of_app(app).await.or_problem(title)?.is_empty() {
            return Ok(());
        }
        let mut units = self.units(app).await?;
        // A build is no unit yet.
        units.retain(|unit| unit.status != Some(Status::Building));
        let whole = units.iter().find(|unit| unit.id == id);
        let Some(unit) = whole.or_else(|| units.iter().find(|unit| unit.id.starts_with(id))) else {
            return Ok(());
        };
        let bound = BoundApp { name: app.to_owned(), hosts: self.hosts(app).await };
        self.bindings.bind_unit(&bound, unit).await.or_problem(title)
    }
}

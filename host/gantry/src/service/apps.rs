//! Apps: create, look at, remove, and their environment.

mod removal;
mod state;

use std::sync::Arc;

use gantry_core::EnvVar;
use gantry_core::name::AppName;
use gantry_engine::Images;
use serde_json::json;

use super::{LATEST, OrProblem, Service, app_lock, time_of};
use crate::api::{self, AppInfo, EnvChange, NewApp, Problem, ProblemKind};
use crate::clock;
use crate::operation::{Caller, Request};
use crate::store::AppRecord;

/// The verb of the operation that creates an app.
pub(super) const CREATE: &str = "app-create";

/// The platform of an app that only runs images.
const PLATFORM: &str = "static";

/// The team of an app that names none.
const TEAM: &str = "admin";

impl Service {
    /// The apps, by name.
    pub(crate) async fn apps(&self) -> Result<Vec<api::App>, Problem> {
        let records =
            self.store.apps().await.or_problem(|| "could not list the apps".to_owned())?;
        let mut apps = Vec::with_capacity(records.len());
        for record in records {
            apps.push(self.resource(record).await?);
        }
        Ok(apps)
    }

    /// An app with what runs of it. A provisioner that does not answer takes nothing but the units away.
    pub(crate) async fn app_info(&self, app: &str) -> Result<AppInfo, Problem> {
        let record = self.record(app).await?;
        let running = self.running(&record).await;
        let platform = self.platform(&record.provisioner);
        let title = || format!("could not read the app `{app}`");
        let images = Images::history(&platform, app).await.or_problem(title)?;
        let operations = self.list_operations(Some(app), None, None, LATEST).await?;
        let (state, units, addresses, problem) = match running {
            Ok((units, addresses)) => {
                let state = self.state(app, record.app.deploys, &units).await?;
                (Some(state), Some(units), addresses, None)
            }
            Err(problem) => (None, None, Vec::new(), Some(problem)),
        };
        let app = self.resource(record).await?;
        Ok(AppInfo { app, state, units, addresses, images, operations, problem })
    }

    async fn running(
        &self,
        record: &AppRecord,
    ) -> Result<(Vec<gantry_core::Unit>, Vec<String>), Problem> {
        let title = || format!("could not ask for the units of `{}`", record.app.name);
        let provisioner = self.provisioner(&record.provisioner)?;
        let question = self.question();
        let apps = std::slice::from_ref(&record.app);
        let units = provisioner.units(&question, apps).await.or_problem(title)?;
        if units.is_empty() {
            return Ok((units, Vec::new()));
        }
        let addresses = provisioner.routable_addresses(&question, &record.app).await;
        Ok((units, addresses.or_problem(title)?))
    }

    /// Creates an app.
    pub(crate) async fn create_app(
        self: &Arc<Self>,
        caller: Caller,
        new: NewApp,
    ) -> Result<String, Problem> {
        let title = format!("could not create the app `{}`", new.name);
        let invalid = |why: String| Problem::new(ProblemKind::Invalid, &title).because(why);
        let name = new.name.parse::<AppName>().map_err(|error| {
            invalid(error.to_string()).hint("choose another name: `gantry app create NAME`")
        })?;
        if new.plan.memory < 0 || new.plan.swap < 0 || new.plan.cpu_share < 0 {
            return Err(invalid("a plan has no negative amounts".to_owned()));
        }
        let (pool, provisioner) = self.pool_or_default(new.pool).await?;
        let serving = self.provisioner(&provisioner)?;
        let text = |text: String, default: &str| {
            if text.is_empty() { default.to_owned() } else { text }
        };
        let app = gantry_core::App {
            name: name.as_str().to_owned(),
            platform: text(new.platform, PLATFORM),
            pool,
            team_owner: text(new.team_owner, TEAM),
            memory: new.plan.memory,
            swap: new.plan.swap,
            cpu_share: new.plan.cpu_share,
            ..gantry_core::App::default()
        };
        let mut record = AppRecord {
            app,
            provisioner: provisioner.clone(),
            unit_quota: new.unit_quota,
            created: clock::now(),
            ..AppRecord::default()
        };
        let request = Request {
            verb: CREATE,
            app: Some(record.app.name.clone()),
            digest: Some(serving.generation().digest().to_owned()),
            plugin: Some(provisioner),
            detail: json!({
                "platform": record.app.platform,
                "pool": record.app.pool,
                "team_owner": record.app.team_owner,
                "plan": new.plan,
                "unit_quota": new.unit_quota,
            }),
            lock: app_lock(&record.app.name),
            time: time_of(&serving),
            caller,
        };
        let service = Arc::clone(self);
        let why = title.clone();
        let work = move |work: crate::operation::Work| async move {
            let app = record.app.clone();
            record.operation.clone_from(&work.operation.id);
            let inserted = service.store.insert_app(record).await.or_problem(|| why.clone())?;
            if !inserted {
                return Err(Problem::new(ProblemKind::Conflict, why)
                    .because("there is one of this name")
                    .hint(format!("`gantry app info {}` shows it", app.name)));
            }
            if let Err(error) = serving.provision(&work.operation, &app).await {
                service.store.remove_app(&app.name).await.or_problem(|| why.clone())?;
                return Err(error).or_problem(|| why);
            }
            Ok(json!({"app": app.name}))
        };
        self.operations.begin(request, work).await.or_problem(|| title)
    }

    /// The variables that people set, by name.
    pub(crate) async fn envs(&self, app: &str) -> Result<Vec<api::EnvVar>, Problem> {
        self.record(app).await?;
        let envs = self.store.envs(app).await;
        let envs = envs.or_problem(|| format!("could not read the environment of `{app}`"))?;
        Ok(envs
            .into_iter()
            .map(|EnvVar { name, value, public }| api::EnvVar {
                value: public.then_some(value),
                name,
                public,
            })
            .collect())
    }

    /// Changes the environment, and replaces the units by new ones that have it.
    pub(crate) async fn change_envs(
        self: &Arc<Self>,
        mut caller: Caller,
        app: &str,
        change: EnvChange,
    ) -> Result<String, Problem> {
        let EnvChange { set, unset, private, no_restart } = change;
        let title = format!("could not change the environment of `{app}`");
        for name in set.keys().chain(&unset) {
            if !is_variable(name) {
                return Err(Problem::new(ProblemKind::Invalid, title)
                    .because(format!(
                        "`{name}` is no name of a variable: letters, digits and underscores, not starting with a digit"
                    ))
                    .hint(format!("choose another name: `gantry env set {app} NAME=VALUE`")));
            }
        }
        // Values may be secrets; the journal is read by people.
        caller.unshown = json!({"set": set, "private": private, "no_restart": no_restart});
        let detail = json!({"set": set.keys().collect::<Vec<_>>(), "unset": unset});
        let set: Vec<EnvVar> =
            set.into_iter().map(|(name, value)| EnvVar { name, value, public: !private }).collect();
        self.change(caller, "env-change", app, detail, move |change| async move {
            let app = &change.record.app;
            let changed = change.service.store.change_envs(&app.name, set, unset).await;
            changed.or_problem(|| title.clone())?;
            let why =
                || format!("the environment of `{}` is changed, but its units are not", app.name);
            change.replace_units(no_restart, why).await
        })
        .await
    }

    /// An app as it goes over the wire.
    async fn resource(&self, record: AppRecord) -> Result<api::App, Problem> {
        let AppRecord { app, provisioner, unit_quota, units_in_use, routers, created, .. } = record;
        let images = self.store.images(&app.name).await;
        let image = images.or_problem(|| format!("could not read the app `{}`", app.name))?.pop();
        Ok(api::App {
            plan: api::Plan { memory: app.memory, swap: app.swap, cpu_share: app.cpu_share },
            name: app.name,
            platform: app.platform,
            pool: app.pool,
            provisioner,
            team_owner: app.team_owner,
            unit_quota,
            units_in_use,
            deploys: app.deploys,
            image,
            routers,
            created: clock::text(created),
        })
    }
}

fn is_variable(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

//! Apps: create, look at, remove, and their environment.

mod removal;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use gantry_core::name::AppName;
use gantry_core::{App, AppRouter, EnvVar, Status};
use gantry_engine::Images;
use gantry_runtime::Interface;
use serde_json::json;

use super::plans::{check_amounts, plan_of};
use super::{LATEST, OrProblem, Service, app_lock, time_of};
use crate::api::{self, AppChange, AppInfo, AppList, EnvChange, NewApp, Problem, ProblemKind};
use crate::clock;
use crate::operation::{Caller, Request};
use crate::platform::TOKEN;
use crate::store::AppRecord;

/// The verb of the operation that creates an app.
pub(super) const CREATE: &str = "app-create";

/// How many provisioners are asked at the same time.
const AT_ONCE: usize = 8;

/// The platform of an app that only runs images.
const PLATFORM: &str = "static";

/// The team of an app that names none.
const TEAM: &str = "admin";

impl Service {
    /// The apps by name; with statuses, those that have a unit of one of these. A provisioner that cannot tell takes nothing but its own apps away, and all apps of one that has no
    /// such ability pass (`AppFilterProvisioner` of the reference).
    pub(crate) async fn apps(&self, statuses: &[Status]) -> Result<AppList, Problem> {
        let mut records =
            self.store.apps().await.or_problem(|| "could not list the apps".to_owned())?;
        let mut problems = Vec::new();
        if !statuses.is_empty() {
            let mut of: BTreeMap<String, Vec<App>> = BTreeMap::new();
            for AppRecord { app, provisioner, .. } in &records {
                of.entry(provisioner.clone()).or_default().push(app.clone());
            }
            let mut asked = Vec::with_capacity(of.len());
            for (provisioner, apps) in of {
                asked.push(self.with_status(provisioner, apps, statuses));
            }
            let told: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
            let mut pass = BTreeSet::new();
            for told in told {
                match told {
                    Ok(names) => pass.extend(names),
                    Err(problem) => problems.push(problem),
                }
            }
            records.retain(|record| pass.contains(&record.app.name));
        }
        let mut items = Vec::with_capacity(records.len());
        for record in records {
            items.push(self.resource(record).await?);
        }
        Ok(AppList { items, problems })
    }

    /// The names of those of the apps of a provisioner that have a unit of one of these statuses.
    async fn with_status(
        &self,
        provisioner: String,
        apps: Vec<App>,
        statuses: &[Status],
    ) -> Result<Vec<String>, Problem> {
        let title = || format!("could not list the apps of `{provisioner}` by status");
        let serving = self.provisioner(&provisioner).map_err(|problem| Problem {
            title: title(),
            detail: problem.title,
            ..problem
        })?;
        if !serving.supports(Interface::AppFilter) {
            return Ok(apps.into_iter().map(|app| app.name).collect());
        }
        let told = serving.filter_apps_by_unit_status(&self.question(), &apps, statuses).await;
        told.or_problem(title)
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
        let services = self.store.binds_of_app(app).await.or_problem(title)?;
        let services = services.into_iter().map(|(bind, _)| bind.service).collect();
        let routes = self.store.routes_of(app).await.or_problem(title)?;
        let routes = routes.into_iter().map(|routes| self.routing.resource(routes)).collect();
        let app = self.resource(record).await?;
        Ok(AppInfo { app, state, units, addresses, services, routes, images, operations, problem })
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
        let plan = self.chosen(&new.plan, None).await?;
        check_amounts(&plan, &title)?;
        let (pool, provisioner) = self.pool_or_default(new.pool).await?;
        let serving = self.provisioner(&provisioner)?;
        let routers = self.routers_of_new(new.routers)?;
        let text = |text: String, default: &str| {
            if text.is_empty() { default.to_owned() } else { text }
        };
        let app = App {
            name: name.as_str().to_owned(),
            platform: text(new.platform, PLATFORM),
            pool,
            team_owner: text(new.team_owner, TEAM),
            memory: plan.memory,
            swap: plan.swap,
            cpu_share: plan.cpu_share,
            ..App::default()
        };
        let mut record = AppRecord {
            app,
            provisioner: provisioner.clone(),
            unit_quota: new.unit_quota,
            routers,
            created: clock::now(),
            plan: plan.name.clone(),
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
                "plan": plan,
                "unit_quota": new.unit_quota,
                "routers": names(&record.routers),
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

    /// Changes an app: its pool, what its units may use, or its routers.
    pub(crate) async fn update_app(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        change: AppChange,
    ) -> Result<String, Problem> {
        let AppChange { pool, plan, add_routers, remove_routers } = change;
        let routers = !add_routers.is_empty() || !remove_routers.is_empty();
        match plan {
            None if !routers => self.move_app(caller, app, pool).await,
            None if pool.is_empty() => {
                self.change_routers(caller, app, add_routers, remove_routers).await
            }
            Some(plan) if pool.is_empty() && !routers => self.change_plan(caller, app, plan).await,
            Some(_) | None => Err(Problem::new(
                ProblemKind::Invalid,
                format!("could not change the app `{app}`"),
            )
            .because(
                "its pool, what its units may use and its routers are changed one after the other",
            )
            .hint(format!("`gantry app update {app} --pool POOL` first"))),
        }
    }

    /// The variables that people set and those that services give, by name.
    pub(crate) async fn envs(&self, app: &str) -> Result<Vec<api::EnvVar>, Problem> {
        self.record(app).await?;
        let title = || format!("could not read the environment of `{app}`");
        let set = self.store.envs(app).await.or_problem(title)?;
        let set = set.into_iter().map(|EnvVar { name, value, public }| {
            let value = public.then_some(value);
            (name.clone(), api::EnvVar { name, value, public, service: None })
        });
        let mut envs: BTreeMap<_, _> = set.collect();
        // Later ones win, as in the units.
        for instance in self.bindings.instances(app).await.or_problem(title)? {
            for name in instance.envs.into_keys() {
                let service = Some(instance.service.clone());
                let env = api::EnvVar { name: name.clone(), value: None, public: false, service };
                envs.insert(name, env);
            }
        }
        Ok(envs.into_values().collect())
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
        if set.contains_key(TOKEN) {
            return Err(Problem::new(ProblemKind::Invalid, title)
                .because(format!("`{TOKEN}` is the platform's: the agents in the units show it")));
        }
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
        let plan = plan_of(&record);
        let routers = self.routing.of_app(&record).await;
        let routers =
            routers.or_problem(|| format!("could not read the app `{}`", record.app.name))?;
        let AppRecord { app, provisioner, unit_quota, units_in_use, created, .. } = record;
        let images = self.store.images(&app.name).await;
        let image = images.or_problem(|| format!("could not read the app `{}`", app.name))?.pop();
        Ok(api::App {
            plan,
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

fn names(routers: &[AppRouter]) -> Vec<&str> {
    routers.iter().map(|router| router.name.as_str()).collect()
}

pub(super) fn is_variable(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

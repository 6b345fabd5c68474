//! What apps may use: plans for their units, and how many units they may have.
//!
//! An app keeps the amounts of the plan that it was given: removing a plan, or making another one under its name, changes no app.

use std::sync::Arc;

use gantry_core::App;
use serde_json::json;

use super::pools::RECORD_TIME;
use super::units::Change;
use super::{OrProblem, Service, not_found};
use crate::api::{NewPlan, Plan, PlanChoice, PlanInfo, Problem, ProblemKind, Quota};
use crate::clock;
use crate::near;
use crate::operation::{Caller, Request};
use crate::store::{AppRecord, PlanRecord};

/// The least memory of a plan that has a limit, as in tsuru.
const LEAST_MEMORY: i64 = 4 << 20;

/// The least share of the CPU, as in tsuru and Docker.
const LEAST_CPU_SHARE: i32 = 2;

impl Service {
    /// The plans, by name.
    pub(crate) async fn plans(&self) -> Result<Vec<PlanInfo>, Problem> {
        let title = || "could not list the plans".to_owned();
        let apps = self.store.apps().await.or_problem(title)?;
        let plans = self.store.plans().await.or_problem(title)?;
        let info = |record: PlanRecord| PlanInfo {
            default: record.is_default,
            created: clock::text(record.created),
            apps: apps
                .iter()
                .filter(|app| app.plan == record.name)
                .map(|app| app.app.name.clone())
                .collect(),
            plan: plan(record),
        };
        Ok(plans.into_iter().map(info).collect())
    }

    /// A plan.
    pub(crate) async fn plan(&self, name: &str) -> Result<PlanInfo, Problem> {
        let plans = self.plans().await?;
        let nearest = near::nearest(name, plans.iter().map(|info| &info.plan.name));
        plans.into_iter().find(|info| info.plan.name == name).ok_or_else(|| {
            not_found("plan", name, nearest).hint_if_none("`gantry plan list` lists the plans")
        })
    }

    /// Creates a plan.
    pub(crate) async fn create_plan(
        self: &Arc<Self>,
        caller: Caller,
        new: NewPlan,
    ) -> Result<String, Problem> {
        let title = format!("could not create the plan `{}`", new.name);
        check(&new).map_err(|(why, hint)| {
            Problem::new(ProblemKind::Invalid, &title).because(why).hint(hint)
        })?;
        let request = Request {
            verb: "plan-create",
            detail: json!(new),
            lock: plan_lock(&new.name),
            time: RECORD_TIME,
            caller,
            ..Request::default()
        };
        let (service, why) = (Arc::clone(self), title.clone());
        let work = move |_| async move {
            let NewPlan { name, memory, swap, cpu_share, default } = new;
            let (is_default, created) = (default, clock::now());
            let record =
                PlanRecord { name: name.clone(), memory, swap, cpu_share, is_default, created };
            match service.store.insert_plan(record).await.or_problem(|| why.clone())? {
                true => Ok(json!({"plan": name})),
                false => Err(Problem::new(ProblemKind::Conflict, why)
                    .because("there is one of this name")
                    .hint(format!("`gantry plan info {name}` shows it"))),
            }
        };
        self.operations.begin(request, work).await.or_problem(|| title)
    }

    /// Removes a plan. The apps that were given it keep what they have.
    pub(crate) async fn remove_plan(
        self: &Arc<Self>,
        caller: Caller,
        name: &str,
    ) -> Result<String, Problem> {
        let title = format!("could not remove the plan `{name}`");
        self.plan(name).await?;
        let request = Request {
            verb: "plan-remove",
            detail: json!({"plan": name}),
            lock: plan_lock(name),
            time: RECORD_TIME,
            caller,
            ..Request::default()
        };
        let (service, why, name) = (Arc::clone(self), title.clone(), name.to_owned());
        let work = move |_| async move {
            if !service.store.remove_plan(&name).await.or_problem(|| why)? {
                // Somebody was faster.
                service.plan(&name).await?;
            }
            Ok(json!({"plan": name}))
        };
        self.operations.begin(request, work).await.or_problem(|| title)
    }

    /// What units may use by a choice: of the plan that it names, else of what the app has, else of the default plan.
    pub(super) async fn chosen(
        &self,
        choice: &PlanChoice,
        has: Option<Plan>,
    ) -> Result<Plan, Problem> {
        let base = match (choice.name.as_str(), has) {
            ("", Some(has)) => has,
            ("", None) => {
                let plans = self.plans().await?;
                let default = plans.into_iter().find(|info| info.default);
                default.map(|info| info.plan).unwrap_or_default()
            }
            (name, _) => self.plan(name).await?.plan,
        };
        Ok(Plan {
            memory: choice.memory.unwrap_or(base.memory),
            swap: choice.swap.unwrap_or(base.swap),
            cpu_share: choice.cpu_share.unwrap_or(base.cpu_share),
            name: base.name,
        })
    }

    /// Gives an app another plan, and replaces its units by new ones with its limits.
    pub(crate) async fn change_plan(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        choice: PlanChoice,
    ) -> Result<String, Problem> {
        let title = format!("could not change what units of `{app}` may use");
        let record = self.record(app).await?;
        check_amounts(&self.chosen(&choice, Some(plan_of(&record))).await?, &title)?;
        let detail = json!({"plan": choice});
        self.change(caller, "plan-change", app, detail, move |change| async move {
            let (service, record) = (&change.service, &change.record);
            let apps = std::slice::from_ref(&record.app);
            let before = change.provisioner.units(&change.operation, apps).await;
            let before = before.or_problem(|| title.clone())?;
            let plan = service.chosen(&choice, Some(plan_of(record))).await?;
            if plan == plan_of(record) {
                return Err(Problem::new(ProblemKind::Conflict, title)
                    .because("it may use that already")
                    .hint(format!("`gantry app info {}` shows it", record.app.name)));
            }
            let app = App {
                memory: plan.memory,
                swap: plan.swap,
                cpu_share: plan.cpu_share,
                ..record.app.clone()
            };
            service.store.set_plan(&app, &plan.name).await.or_problem(|| title.clone())?;
            let half = || format!("`{}` has the plan, but its units may not", app.name);
            let changed = Change {
                service: Arc::clone(service),
                record: AppRecord { app: app.clone(), ..record.clone() },
                provisioner: change.provisioner.clone(),
                operation: change.operation.clone(),
            };
            let mut problem = match changed.replace_units(false, half).await {
                Ok(replaced) => {
                    let restarted = replaced.get("restarted").cloned().unwrap_or_default();
                    return Ok(json!({"plan": plan, "restarted": restarted}));
                }
                Err(problem) => problem,
            };
            if change.is_as_before(&problem, &before).await {
                // The units of before serve on, with the limits of before: so does the app.
                service.store.set_plan(&record.app, &record.plan).await.or_problem(half)?;
                problem.title = title;
            }
            Err(problem)
        })
        .await
    }

    /// How many units an app may have, and how many it has.
    pub(crate) async fn quota(&self, app: &str) -> Result<Quota, Problem> {
        let record = self.record(app).await?;
        Ok(Quota { limit: record.unit_quota, in_use: record.units_in_use })
    }

    /// Changes how many units an app may have.
    pub(crate) async fn change_quota(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        limit: Option<u32>,
    ) -> Result<String, Problem> {
        let title = format!("could not change the quota of `{app}`");
        self.record(app).await?;
        let name = app.to_owned();
        let request = Request {
            verb: "quota-change",
            app: Some(name.clone()),
            detail: json!({"limit": limit}),
            // Whatever adds units meanwhile has looked at the quota of before.
            lock: super::app_lock(app),
            time: RECORD_TIME,
            caller,
            ..Request::default()
        };
        let (service, why) = (Arc::clone(self), title.clone());
        let work = move |_| async move {
            let set = service.store.set_unit_quota(&name, limit).await;
            match set.or_problem(|| why.clone())? {
                Some(Ok(())) => Ok(json!({"limit": limit})),
                Some(Err(in_use)) => Err(Problem::new(ProblemKind::Quota, why)
                    .because(format!("it uses {in_use} units, and may not be given less"))
                    .hint(format!("`gantry unit remove {name} N` removes some first"))),
                None => service.record(&name).await.map(|_| json!({})),
            }
        };
        self.operations.begin(request, work).await.or_problem(|| title)
    }
}

/// What units of an app may use.
pub(super) fn plan_of(record: &AppRecord) -> Plan {
    let AppRecord { app, plan, .. } = record;
    let (memory, swap, cpu_share) = (app.memory, app.swap, app.cpu_share);
    Plan { name: plan.clone(), memory, swap, cpu_share }
}

fn plan(record: PlanRecord) -> Plan {
    let PlanRecord { name, memory, swap, cpu_share, .. } = record;
    Plan { name, memory, swap, cpu_share }
}

fn plan_lock(name: &str) -> Option<String> {
    Some(format!("the plan {name}"))
}

/// Refuses what nothing can use.
pub(super) fn check_amounts(plan: &Plan, title: &str) -> Result<(), Problem> {
    if plan.memory < 0 || plan.swap < 0 || plan.cpu_share < 0 {
        return Err(
            Problem::new(ProblemKind::Invalid, title).because("a plan has no negative amounts")
        );
    }
    Ok(())
}

fn check(new: &NewPlan) -> Result<(), (String, &'static str)> {
    let NewPlan { name, memory, swap, cpu_share, .. } = new;
    if !is_name(name) {
        return Err((
            format!(
                "`{name}` is no name of a plan: at most 63 lower case letters, digits, dots and dashes, starting with a letter or a digit"
            ),
            "choose another name: `gantry plan create NAME --memory 512MiB`",
        ));
    }
    if *swap < 0 {
        return Err(("a plan has no negative amounts".to_owned(), "`--swap 0`"));
    }
    if *memory != 0 && *memory < LEAST_MEMORY {
        return Err((
            format!("the least memory is {} MiB", LEAST_MEMORY >> 20),
            "`--memory 0` is no limit",
        ));
    }
    if *cpu_share != 0 && *cpu_share < LEAST_CPU_SHARE {
        return Err((
            format!("the least share of the CPU is {LEAST_CPU_SHARE}"),
            "`--cpu-share 0` leaves the engine's default",
        ));
    }
    Ok(())
}

/// As tsuru's: `small`, `c0.1m0.2`.
fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().next().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_a_name_and_amounts_that_units_can_have() {
        let plan = |name: &str, memory, swap, cpu_share| NewPlan {
            name: name.to_owned(),
            memory,
            swap,
            cpu_share,
            default: false,
        };
        for good in [plan("small", 0, 0, 0), plan("c0.1m0.2", 4 << 20, 0, 2), plan("1-x", 0, 1, 0)]
        {
            assert_eq!(check(&good), Ok(()), "{good:?}");
        }
        for bad in [
            plan("", 0, 0, 0),
            plan("Small", 0, 0, 0),
            plan("-a", 0, 0, 0),
            plan("a/b", 0, 0, 0),
            plan(&"a".repeat(64), 0, 0, 0),
            plan("a", (4 << 20) - 1, 0, 0),
            plan("a", -1, 0, 0),
            plan("a", 0, -1, 0),
            plan("a", 0, 0, 1),
            plan("a", 0, 0, -1),
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }
}

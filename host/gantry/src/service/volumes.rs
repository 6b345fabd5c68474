//! Volumes: storage that outlives the units of an app, and the apps that have it.

use std::sync::Arc;

use gantry_core::App;
use gantry_runtime::Interface;
use serde_json::json;

use super::pools::RECORD_TIME;
use super::units::Change;
use super::{OrProblem, Service, not_found, time_of};
use crate::api::{self, BindChange, NewVolume, Problem, ProblemKind, VolumeBind};
use crate::clock;
use crate::near;
use crate::operation::{Caller, Request};
use crate::store::{BindRecord, NotBound, VolumeRecord};

/// The team of a volume that names none.
const TEAM: &str = "admin";

impl Service {
    /// The volumes, by name.
    pub(crate) async fn volumes(&self) -> Result<Vec<api::Volume>, Problem> {
        let records = self.store.volumes().await;
        let records = records.or_problem(|| "could not list the volumes".to_owned())?;
        Ok(records.into_iter().map(resource).collect())
    }

    /// A volume.
    pub(crate) async fn volume(&self, name: &str) -> Result<api::Volume, Problem> {
        Ok(resource(self.volume_record(name).await?))
    }

    async fn volume_record(&self, name: &str) -> Result<VolumeRecord, Problem> {
        let records = self.store.volumes().await;
        let records = records.or_problem(|| format!("could not read the volume `{name}`"))?;
        let nearest = near::nearest(name, records.iter().map(|record| &record.name));
        records.into_iter().find(|record| record.name == name).ok_or_else(|| {
            not_found("volume", name, nearest)
                .hint_if_none("`gantry volume list` lists the volumes")
        })
    }

    /// Creates a volume. Its storage is made when the first app has it.
    pub(crate) async fn create_volume(
        self: &Arc<Self>,
        caller: Caller,
        new: NewVolume,
    ) -> Result<String, Problem> {
        let NewVolume { name, plan, pool, team_owner, options } = new;
        let title = format!("could not create the volume `{name}`");
        if !is_name(&name) {
            return Err(Problem::new(ProblemKind::Invalid, title)
                .because(format!(
                    "`{name}` is no name of a volume: at most 40 lower case letters, digits and dashes, starting with a letter"
                ))
                .hint("choose another name: `gantry volume create NAME PLAN`"));
        }
        let (pool, provisioner) = self.pool_or_default(pool).await?;
        let plans = &self.config.volume_plans;
        let Some(of_plan) = plans.get(&plan) else {
            let names: Vec<_> = plans.keys().map(String::as_str).collect();
            let others = match names.is_empty() {
                true => format!(
                    "describe it in the configuration: `[volume-plans.{plan}.{provisioner}]`"
                ),
                false => format!("there is `{}`", names.join("`, `")),
            };
            return Err(not_found("plan of volumes", &plan, near::nearest(&plan, &names))
                .hint_if_none(&others));
        };
        if !of_plan.contains_key(&provisioner) {
            return Err(Problem::new(ProblemKind::Invalid, title)
                .because(format!(
                    "the plan `{plan}` means nothing to the provisioner `{provisioner}` of the pool `{pool}`"
                ))
                .hint(format!(
                    "describe it in the configuration: `[volume-plans.{plan}.{provisioner}]`"
                )));
        }
        let team_owner = if team_owner.is_empty() { TEAM.to_owned() } else { team_owner };
        let request = Request {
            verb: "volume-create",
            plugin: Some(provisioner),
            detail: json!({
                "volume": name, "plan": plan, "pool": pool, "team_owner": team_owner, "options": options,
            }),
            lock: volume_lock(&name),
            time: RECORD_TIME,
            caller,
            ..Request::default()
        };
        let (service, why) = (Arc::clone(self), title.clone());
        let work = move |_| async move {
            let (created, binds) = (clock::now(), Vec::new());
            let record = VolumeRecord {
                name: name.clone(),
                pool,
                plan,
                team_owner,
                options,
                binds,
                created,
            };
            match service.store.insert_volume(record).await.or_problem(|| why.clone())? {
                true => Ok(json!({"volume": name})),
                false => Err(Problem::new(ProblemKind::Conflict, why)
                    .because("there is one of this name")
                    .hint(format!("`gantry volume info {name}` shows it"))),
            }
        };
        self.operations.begin(request, work).await.or_problem(|| title)
    }

    /// Gives a volume to an app, and replaces its units by new ones that have it.
    pub(crate) async fn bind_volume(
        self: &Arc<Self>,
        caller: Caller,
        volume: &str,
        change: BindChange,
    ) -> Result<String, Problem> {
        let BindChange { app, mount_point, read_only, no_restart } = change;
        let title = format!("could not give the volume `{volume}` to `{app}`");
        let record = self.volume_record(volume).await?;
        if !is_mount_point(&mount_point) {
            return Err(Problem::new(ProblemKind::Invalid, title)
                .because(format!("`{mount_point}` is no folder to mount at: a path from `/` on, without `..` and `:`"))
                .hint(format!("`gantry volume bind {volume} {app} /data`")));
        }
        let why = title.clone();
        let of_its_pool = move |app: &App| match &app.pool {
            pool if *pool == record.pool => Ok(()),
            pool => Err(Problem::new(ProblemKind::Conflict, &why)
                .because(format!("it is of the pool `{}`, and the app of `{pool}`", record.pool))
                .hint(format!(
                    "make one there: `gantry volume create NAME {} --pool {pool}`",
                    record.plan
                ))),
        };
        of_its_pool(&self.record(&app).await?.app)?;
        let detail = json!({"volume": volume, "mount_point": mount_point, "read_only": read_only});
        let (name, volume) = (app.clone(), volume.to_owned());
        self.change(caller, "volume-bind", &name, detail, move |change| async move {
            // It may have moved while this waited for its turn.
            of_its_pool(&change.record.app)?;
            let before = match no_restart {
                true => Vec::new(),
                false => change.units(|| title.clone()).await?,
            };
            let bind = BindRecord { volume: volume.clone(), app, mount_point, read_only };
            let bound = change.service.store.bind_volume(bind.clone()).await;
            match bound.or_problem(|| title.clone())? {
                Ok(()) => {}
                Err(NotBound::Taken) => {
                    return Err(Problem::new(ProblemKind::Conflict, title)
                        .because("volume already bound in mountpoint")
                        .hint(format!(
                            "mount it elsewhere, or give back what is there: `gantry volume unbind VOLUME {} {}`",
                            bind.app, bind.mount_point
                        )));
                }
                Err(NotBound::Going) => {
                    return Err(Problem::new(ProblemKind::Conflict, title)
                        .because("it is being removed")
                        .hint("`gantry volume list` lists the volumes"));
                }
            }
            let BindRecord { volume, app, mount_point, .. } = &bind;
            let half = || format!("`{app}` has the volume `{volume}`, but its units may not");
            let restarted = match before.is_empty() {
                true => Ok(json!({"restarted": false})),
                false => change.restart(half).await,
            };
            let mut problem = match restarted {
                Ok(restarted) => return Ok(restarted),
                Err(problem) => problem,
            };
            if change.is_as_before(&problem, &before).await {
                // The units of before serve on, without it: so does the app.
                let unbound = change.service.store.unbind_volume(volume, app, mount_point).await;
                unbound.or_problem(half)?;
                problem.title = title;
            }
            Err(told_of_options(problem, volume))
        })
        .await
    }

    /// Takes a volume from an app, and replaces its units by new ones that do not have it.
    pub(crate) async fn unbind_volume(
        self: &Arc<Self>,
        caller: Caller,
        volume: &str,
        change: BindChange,
    ) -> Result<String, Problem> {
        let BindChange { app, mount_point, no_restart, .. } = change;
        let title = format!("could not take the volume `{volume}` from `{app}`");
        self.volume_record(volume).await?;
        let detail = json!({"volume": volume, "mount_point": mount_point});
        let (name, volume) = (app.clone(), volume.to_owned());
        self.change(caller, "volume-unbind", &name, detail, move |change| async move {
            let unbound = change.service.store.unbind_volume(&volume, &app, &mount_point).await;
            if !unbound.or_problem(|| title.clone())? {
                return Err(Problem::new(ProblemKind::NotFound, title)
                    .because("volume bind not found")
                    .hint(format!("`gantry volume info {volume}` shows who has it and where")));
            }
            let why = || format!("`{app}` has the volume `{volume}` no more, but its units do");
            change.replace_units(no_restart, why).await
        })
        .await
    }

    /// Removes a volume that no app has, with what its provisioner keeps for it.
    pub(crate) async fn remove_volume(
        self: &Arc<Self>,
        caller: Caller,
        name: &str,
    ) -> Result<String, Problem> {
        let title = format!("could not remove the volume `{name}`");
        let record = self.volume_record(name).await?;
        let (_, provisioner) = self.pool_or_default(record.pool.clone()).await?;
        let provisioner = self.provisioner(&provisioner)?;
        let request = Request {
            verb: "volume-remove",
            plugin: Some(provisioner.name().to_owned()),
            digest: Some(provisioner.generation().digest().to_owned()),
            detail: json!({"volume": name, "pool": record.pool}),
            lock: volume_lock(name),
            time: time_of(&provisioner),
            caller,
            ..Request::default()
        };
        let (service, why, name) = (Arc::clone(self), title.clone(), name.to_owned());
        let begun = self.operations.begin(request, move |work| async move {
            let title = || why.clone();
            // From here on no app gets it: its data may be gone in the next moment.
            if !service.store.removing_volume(&name, true).await.or_problem(title)? {
                return Err(Problem::new(ProblemKind::Conflict, why)
                    .because("cannot delete volume with existing binds")
                    .hint(format!("`gantry volume info {name}` shows who has it and where")));
            }
            if provisioner.supports(Interface::Volumes) {
                let deleted = provisioner.delete_volume(&work.operation, &name, &record.pool).await;
                if let Err(problem) = deleted.or_problem(title) {
                    service.store.removing_volume(&name, false).await.or_problem(title)?;
                    return Err(problem);
                }
            }
            service.store.remove_volume(&name).await.or_problem(title)?;
            Ok(json!({"volume": name}))
        });
        begun.await.or_problem(|| title)
    }
}

impl Change {
    /// Replaces the units of the app, if it has some and nobody says otherwise.
    pub(super) async fn replace_units(
        &self,
        no_restart: bool,
        why: impl Fn() -> String,
    ) -> Result<serde_json::Value, Problem> {
        if no_restart || self.units(&why).await?.is_empty() {
            return Ok(json!({"restarted": false}));
        }
        self.restart(why).await
    }

    pub(super) async fn restart(
        &self,
        why: impl Fn() -> String,
    ) -> Result<serde_json::Value, Problem> {
        let restarted = self.provisioner.restart(&self.operation, &self.record.app, "").await;
        restarted.or_problem(why)?;
        Ok(json!({"restarted": true}))
    }
}

/// What its provisioner finds wrong with a volume is mostly in its plan and options, which nobody has read before.
fn told_of_options(problem: Problem, volume: &str) -> Problem {
    if !matches!(problem.kind, ProblemKind::Invalid | ProblemKind::InvalidObject) {
        return problem;
    }
    problem.hint_if_none(&format!(
        "`gantry volume info {volume}` shows its plan and options; to have others, remove it and create it again"
    ))
}

fn volume_lock(name: &str) -> Option<String> {
    Some(format!("the volume {name}"))
}

/// Names of objects are made of it, and must stay within 63.
fn is_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_mount_point(path: &str) -> bool {
    path.len() > 1
        && path.starts_with('/')
        && !path.contains(|c: char| c == ':' || c.is_control())
        && path.split('/').all(|part| part != "..")
}

fn resource(record: VolumeRecord) -> api::Volume {
    let bind = |bind: BindRecord| VolumeBind {
        app: bind.app,
        mount_point: bind.mount_point,
        read_only: bind.read_only,
    };
    api::Volume {
        name: record.name,
        pool: record.pool,
        plan: record.plan,
        team_owner: record.team_owner,
        options: record.options,
        binds: record.binds.into_iter().map(bind).collect(),
        created: clock::text(record.created),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_volume_is_told_with_where_its_options_are() {
        let hint = |kind| told_of_options(Problem::new(kind, "no"), "data").hint;
        let told = hint(ProblemKind::Invalid);
        assert!(told.is_some_and(|told| told.starts_with("`gantry volume info data` shows")));
        assert_eq!(hint(ProblemKind::Cancelled), None);
        let known = Problem::new(ProblemKind::Invalid, "no").hint("known");
        assert_eq!(told_of_options(known, "data").hint.as_deref(), Some("known"));
    }

    #[test]
    fn names_and_folders() {
        for good in ["a", "data-1", &"a".repeat(40)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "1a", "A", "a_b", "a/b", "é", &"a".repeat(41)] {
            assert!(!is_name(bad), "{bad}");
        }
        for good in ["/data", "/mnt/a b", "/a..b"] {
            assert!(is_mount_point(good), "{good}");
        }
        for bad in ["", "/", "data", "/a/../b", "/a:b", "/a\n"] {
            assert!(!is_mount_point(bad), "{bad}");
        }
    }
}

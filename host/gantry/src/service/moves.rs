//! Moves of apps to another pool.
//!
//! ```text
//! within a provisioner, and within a cluster of it       units replaced ─► the record says the new pool
//!
//! to another provisioner, or another cluster             written down ─► deployed there ─► as many units as here ─► written down ─► removed here ─► the record
//!                                                              └──────── failed ─────────────┴─► nothing is there
//! ```
//!
//! An app at rest is not moved to where it would be deployed anew: it would start there.
//!
//! What is written down before the first step is how far it has come. A daemon that dies in the middle of a move finds it at the next start and says what to do; the same request again
//! goes on with it, and one for the pool that the app is still in takes it back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_core::{App, Status, Unit};
use gantry_engine::Images;
use gantry_runtime::Provisioner;
use serde_json::{Value, json};

use super::units::Change;
use super::{OrProblem, Service, after, time_of};
use crate::api::{Problem, ProblemKind};
use crate::operation::Caller;
use crate::store::{MoveRecord, StoreError};

/// How long taking a failed move back may take, whatever became of its operation.
const UNDO: Duration = Duration::from_secs(300);

/// How an app gets to its new pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Its units are replaced by new ones.
    Restart,
    /// It is deployed there and removed here.
    Deploy,
}

/// Where an app lives: its provisioner, and the cluster that runs its pool if it has any.
type Home = (String, Option<String>);

fn way(from: &Home, to: &Home) -> Way {
    if from == to { Way::Restart } else { Way::Deploy }
}

/// Whether an image is known to one engine only: by its id, and by no name that another could find it under.
fn is_local(image: &str) -> bool {
    let hex = |text: &str| text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match image.strip_prefix("sha256:") {
        Some(digest) => hex(digest),
        None => image.len() == 64 && hex(image),
    }
}

/// Whether units of an app are at rest: some say so, or a process has none though the app has more than there are. What is at rest may exist as a number only, which nobody tells.
fn at_rest<'a>(
    units: &[Unit],
    in_use: u32,
    mut processes: impl Iterator<Item = &'a String>,
) -> bool {
    let idle = |unit: &Unit| matches!(unit.status, Some(Status::Stopped | Status::Asleep));
    let is_gone = |process: &String| units.iter().all(|unit| unit.process_name != *process);
    let fewer = u32::try_from(units.len()).is_ok_and(|there| there < in_use);
    units.iter().any(idle) || fewer && (units.is_empty() || processes.any(is_gone))
}

/// How many units of each process are missing there.
fn missing(here: &[Unit], there: &[Unit]) -> BTreeMap<String, u32> {
    let count = |units: &[Unit]| {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for unit in units {
            let count = counts.entry(unit.process_name.clone()).or_default();
            *count = count.saturating_add(1);
        }
        counts
    };
    let there = count(there);
    // A process that the image does not have there is no process of the app.
    let wanted = count(here).into_iter().filter(|(process, _)| there.contains_key(process));
    wanted
        .map(|(process, count)| {
            let has = there.get(&process).copied().unwrap_or_default();
            (process, count.saturating_sub(has))
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// What the operator should do about a move that a daemon died in.
fn unfinished(record: &MoveRecord) -> String {
    let MoveRecord { app, to_pool, deployed, .. } = record;
    let now = match deployed {
        true => "it runs there already and may still run where it was",
        false => "it runs where it was, and some of it may be there",
    };
    format!(
        "the move of `{app}` to the pool `{to_pool}` has not ended: {now}; `gantry app update {app} --pool {to_pool}` goes on with it"
    )
}

/// What a move is called among operations.
pub(super) const MOVE: &str = "app-update";

impl Service {
    /// Refuses the change of an app whose move has not ended: in one of two pools it would be left as it is.
    pub(super) async fn refuse_while_moving(&self, app: &str) -> Result<(), Problem> {
        let title = || format!("could not change the app `{app}`");
        let Some(begun) = self.store.move_of(app).await.or_problem(title)? else { return Ok(()) };
        let mut problem = Problem::new(ProblemKind::Conflict, title()).because(unfinished(&begun));
        if !begun.deployed {
            let from = self.record(app).await?.app.pool;
            problem =
                problem.hint(format!("`gantry app update {app} --pool {from}` takes it back"));
        }
        Err(problem)
    }

    /// What the operator should read of moves that have not ended.
    pub(crate) async fn unfinished_moves(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.store.moves().await?.iter().map(unfinished).collect())
    }

    /// Moves an app to another pool.
    pub(crate) async fn move_app(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        pool: String,
    ) -> Result<String, Problem> {
        let title = format!("could not move `{app}` to the pool `{pool}`");
        if pool.is_empty() {
            return Err(Problem::new(ProblemKind::Invalid, title)
                .because("nothing to change")
                .hint(format!("`gantry app update {app} --pool POOL`")));
        }
        self.record(app).await?;
        let (pool, provisioner) = self.pool_or_default(pool).await?;
        let there = self.provisioner(&provisioner)?;
        let detail = json!({"pool": pool, "provisioner": provisioner});
        self.change(caller, MOVE, app, detail, move |change| async move {
            Moving { there, pool, title }.run(change).await
        })
        .await
    }
}

/// A move, as it was asked for.
struct Moving {
    there: Provisioner,
    pool: String,
    title: String,
}

impl Moving {
    async fn run(self, change: Change) -> Result<Value, Problem> {
        let title = || self.title.clone();
        let record = &change.record;
        let store = &change.service.store;
        // One that has not ended.
        let begun = store.move_of(&record.app.name).await.or_problem(title)?;
        if record.app.pool == self.pool {
            return match begun {
                Some(begun) => self.take_back(&change, begun).await,
                None => Err(Problem::new(ProblemKind::Conflict, title())
                    .because("it is there already")
                    .hint(format!("`gantry app info {}` shows it", record.app.name))),
            };
        }
        if let Some(begun) = &begun
            && begun.to_pool != self.pool
        {
            return Err(Problem::new(ProblemKind::Conflict, title())
                .because(unfinished(begun))
                .hint(format!(
                    "`gantry app update {} --pool {}` takes that one back",
                    record.app.name, record.app.pool
                )));
        }
        let volumes = store.volumes().await.or_problem(title)?;
        let has = |binds: &[crate::store::BindRecord]| {
            binds.iter().any(|bind| bind.app == record.app.name)
        };
        if let Some(volume) = volumes.iter().find(|volume| has(&volume.binds)) {
            return Err(Problem::new(ProblemKind::Conflict, title())
                .because(format!(
                    "it has the volume `{}` of the pool `{}`",
                    volume.name, volume.pool
                ))
                .hint(format!("`gantry volume info {}` shows where", volume.name)));
        }
        let service = &change.service;
        let here = change.provisioner.name().to_owned();
        let from = (here.clone(), service.cluster_of_pool(&here, &record.app.pool).await?);
        let there = self.there.name().to_owned();
        let to = (there.clone(), service.cluster_of_pool(&there, &self.pool).await?);
        match way(&from, &to) {
            Way::Restart => self.restart(&change).await,
            Way::Deploy => self.deploy(&change, begun).await,
        }
    }

    /// The app as it will be.
    fn moved(&self, app: &App) -> App {
        App { pool: self.pool.clone(), ..app.clone() }
    }

    async fn restart(&self, change: &Change) -> Result<Value, Problem> {
        let (store, app) = (&change.service.store, &change.record.app);
        let title = || self.title.clone();
        let moved = Change {
            service: Arc::clone(&change.service),
            record: crate::store::AppRecord { app: self.moved(app), ..change.record.clone() },
            provisioner: change.provisioner.clone(),
            operation: change.operation.clone(),
        };
        let before = moved.units(title).await?;
        let replaced = match before.is_empty() {
            true => Ok(()),
            false => moved.restart(title).await.map(drop),
        };
        let is_as_before = match &replaced {
            Ok(()) => false,
            Err(problem) => moved.is_as_before(problem, &before).await,
        };
        // Only now: whoever dies before has moved nothing.
        if !is_as_before {
            store.set_pool(&app.name, &self.pool).await.or_problem(title)?;
        }
        replaced.map(|()| json!({"pool": self.pool, "provisioner": change.provisioner.name()}))
    }

    async fn deploy(&self, change: &Change, begun: Option<MoveRecord>) -> Result<Value, Problem> {
        let title = || self.title.clone();
        let (service, operation, app) = (&change.service, &change.operation, &change.record.app);
        let is_new = begun.is_none();
        let mut begun = match begun {
            // Those of before the first try: what was appended by one that broke off is not the app's.
            Some(begun) => MoveRecord { operation: operation.id.clone(), ..begun },
            None => MoveRecord {
                app: app.name.clone(),
                operation: operation.id.clone(),
                to_pool: self.pool.clone(),
                to_provisioner: self.there.name().to_owned(),
                deployed: false,
                images: service.store.images(&app.name).await.or_problem(title)?,
            },
        };
        let image = begun.images.last().cloned();
        if let Some(image) = image.as_deref().filter(|image| is_local(image)) {
            return Err(Problem::new(ProblemKind::Conflict, title())
                .because(format!("its image is known where it is only, and by its id: `{image}`"))
                .hint(format!(
                    "give it a name that is known there too: `gantry app deploy {} --image NAME`",
                    app.name
                )));
        }
        if !begun.deployed {
            if is_new {
                self.refuse_at_rest(change, image.as_deref()).await?;
            }
            service.store.put_move(begun.clone()).await.or_problem(title)?;
            if let Err(problem) = self.make(change, image.as_deref()).await {
                let removed = self.remove_there(change, &begun).await;
                // Whatever was told there: it uses what it used.
                service.counts.begin(&app.name);
                service.counts.see(&app.name, change.record.units_in_use).await;
                return Err(match removed {
                    Ok(()) => problem,
                    Err(left) => with_left(problem, &left),
                });
            }
            begun.deployed = true;
            begun.images = service.store.images(&app.name).await.or_problem(title)?;
            service.store.put_move(begun.clone()).await.or_problem(title)?;
            // Before its units here are gone.
            service.settle_routes(operation, &app.name).await;
        }
        operation.progress.show(&format!("---- Removing it from the pool `{}` ----\n", app.pool));
        change.provisioner.destroy(operation, app).await.or_problem(|| {
            format!(
                "`{}` runs in the pool `{}`, but could not be removed from the pool `{}`",
                app.name, self.pool, app.pool
            )
        })?;
        service.store.end_move(begun, true).await.or_problem(title)?;
        Ok(json!({"pool": self.pool, "provisioner": self.there.name()}))
    }

    /// Refuses an app at rest: it would be started there, and how many units it has would be forgotten.
    async fn refuse_at_rest(&self, change: &Change, image: Option<&str>) -> Result<(), Problem> {
        let title = || self.title.clone();
        let (record, provisioner) = (&change.record, &change.provisioner);
        let Some(image) = image else { return Ok(()) };
        let apps = std::slice::from_ref(&record.app);
        let units = provisioner.units(&change.operation, apps).await.or_problem(title)?;
        let known = change.service.platform(provisioner.name()).metadata(image).await;
        let processes = known.or_problem(title)?.unwrap_or_default().processes;
        if !at_rest(&units, record.units_in_use, processes.keys()) {
            return Ok(());
        }
        Err(Problem::new(ProblemKind::Conflict, title())
            .because("it has stopped or sleeping units, and how many there are would be forgotten")
            .hint(format!("`gantry app start {}`", record.app.name)))
    }

    /// Makes the app there.
    async fn make(&self, change: &Change, image: Option<&str>) -> Result<(), Problem> {
        let title = || self.title.clone();
        let (operation, app) = (&change.operation, &change.record.app);
        let moved = self.moved(app);
        operation.progress.show(&format!("---- Deploying it in the pool `{}` ----\n", self.pool));
        self.there.provision(operation, &moved).await.or_problem(title)?;
        let Some(image) = image else { return Ok(()) };
        self.carry(change).await?;
        let units = change.provisioner.units(operation, std::slice::from_ref(app)).await;
        let here = units.or_problem(title)?;
        self.there.deploy(operation, &moved, image).await.or_problem(title)?;
        if here.is_empty() {
            return Ok(());
        }
        let units = self.there.units(operation, std::slice::from_ref(&moved)).await;
        // Where a provisioner tells its units of two clusters, those of here are not there.
        let there: Vec<Unit> = units
            .or_problem(title)?
            .into_iter()
            .filter(|unit| here.iter().all(|one| one.id != unit.id))
            .collect();
        let counts = &change.service.counts;
        let mut total = u32::try_from(there.len()).unwrap_or(u32::MAX);
        for (process, count) in missing(&here, &there) {
            // What it told of the deploy is of fewer units.
            counts.begin(&app.name);
            let added = self.there.add_units(operation, &moved, count, &process).await;
            added.or_problem(title)?;
            total = total.saturating_add(count);
            counts.see(&app.name, total).await;
        }
        Ok(())
    }

    /// Tells the provisioner there what is known of the images of the app.
    async fn carry(&self, change: &Change) -> Result<(), Problem> {
        let title = || self.title.clone();
        let (service, app) = (&change.service, &change.record.app.name);
        let here = service.platform(change.provisioner.name());
        let there = service.platform(self.there.name());
        for image in service.store.images(app).await.or_problem(title)? {
            let Some(data) = here.custom_data(&image).await.or_problem(title)? else { continue };
            match there.save_metadata(&image, &data).await {
                // It has known the image before, and its word counts there.
                Ok(()) | Err(gantry_core::Error::Conflict(_)) => {}
                Err(error) => return Err(error).or_problem(title),
            }
        }
        Ok(())
    }

    /// Removes what a failed move made there. The app is where it was.
    async fn remove_there(&self, change: &Change, begun: &MoveRecord) -> Result<(), Problem> {
        let app = &change.record.app;
        let title = || {
            format!(
                "what is made of `{}` in the pool `{}` could not be removed",
                app.name, begun.to_pool
            )
        };
        let undo = after(&change.operation, UNDO.min(time_of(&self.there)));
        let moved = App { pool: begun.to_pool.clone(), ..app.clone() };
        self.there.destroy(&undo, &moved).await.or_problem(title)?;
        change.service.store.end_move(begun.clone(), false).await.or_problem(title)
    }

    /// Takes a move back that has not ended.
    async fn take_back(&self, change: &Change, begun: MoveRecord) -> Result<Value, Problem> {
        let title = format!("could not take the move of `{}` back", begun.app);
        if begun.deployed {
            return Err(Problem::new(ProblemKind::Conflict, title)
                .because(unfinished(&begun))
                .hint(format!("`gantry app update {} --pool {}`", begun.app, begun.to_pool)));
        }
        let there = change.service.provisioner(&begun.to_provisioner)?;
        let back = Self { there, pool: begun.to_pool.clone(), title };
        back.remove_there(change, &begun).await?;
        Ok(json!({"pool": self.pool, "provisioner": change.provisioner.name()}))
    }
}

/// A failure that has left something.
fn with_left(mut problem: Problem, left: &Problem) -> Problem {
    problem.detail = format!("{}\n{}: {}", problem.detail, left.title, left.detail);
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_deployed_anew_where_its_units_cannot_go() {
        let home = |provisioner: &str, cluster: Option<&str>| -> Home {
            (provisioner.to_owned(), cluster.map(str::to_owned))
        };
        for (from, to, expected) in [
            (home("docker", None), home("docker", None), Way::Restart),
            (home("docker", None), home("kubernetes", Some("n")), Way::Deploy),
            (home("kubernetes", Some("n")), home("kubernetes", Some("n")), Way::Restart),
            (home("kubernetes", Some("n")), home("kubernetes", Some("s")), Way::Deploy),
        ] {
            assert_eq!(way(&from, &to), expected, "{from:?} {to:?}");
        }
    }

    #[test]
    fn an_image_without_a_name_stays_where_it_is() {
        let id = "ab".repeat(32);
        for (image, local) in [
            (format!("sha256:{id}"), true),
            ("sha256:ab12cd34ef56".to_owned(), true),
            (id.clone(), true),
            ("acme/web:2".to_owned(), false),
            (format!("acme/web@sha256:{id}"), false),
            ("deadbeefdead".to_owned(), false),
            ("web".to_owned(), false),
        ] {
            assert_eq!(is_local(&image), local, "{image}");
        }
    }

    #[test]
    fn as_many_units_are_there_as_were_here() {
        let units = |processes: &[&str]| -> Vec<Unit> {
            let unit =
                |process: &&str| Unit { process_name: (*process).to_owned(), ..Unit::default() };
            processes.iter().map(unit).collect()
        };
        let missing = |here: &[&str], there: &[&str]| -> Vec<(String, u32)> {
            missing(&units(here), &units(there)).into_iter().collect()
        };
        assert_eq!(missing(&["web", "web", "job"], &["web", "job"]), [("web".to_owned(), 1)]);
        assert_eq!(missing(&["web"], &["web", "web"]), []);
        assert_eq!(missing(&["old", "old"], &["web"]), []);
    }

    #[test]
    fn an_app_is_at_rest_whether_or_not_its_units_exist() {
        let unit = |process: &str, status| Unit {
            process_name: process.into(),
            status: Some(status),
            ..Unit::default()
        };
        let web = || unit("web", Status::Started);
        let both = ["job".to_owned(), "web".to_owned()];
        let one = &both[1..];
        for (case, units, in_use, processes, expected) in [
            ("runs", vec![web()], 1, one, false),
            ("was never counted", vec![web()], 0, one, false),
            ("has nothing", vec![], 0, one, false),
            ("stopped", vec![web(), unit("web", Status::Stopped)], 2, one, true),
            ("asleep", vec![unit("web", Status::Asleep)], 1, one, true),
            ("failing is not resting", vec![unit("web", Status::Error)], 1, one, false),
            ("a number only", vec![], 3, one, true),
            ("a number, and nothing known of the image", vec![], 3, &[], true),
            ("one process of two", vec![web()], 3, &both, true),
            ("a process of no units", vec![web()], 1, &both, false),
            ("a unit that died", vec![web()], 2, one, false),
        ] {
            assert_eq!(at_rest(&units, in_use, processes.iter()), expected, "{case}");
        }
    }

    #[test]
    fn a_move_that_has_not_ended_says_what_to_do() {
        let record = MoveRecord {
            app: "web".into(),
            to_pool: "new".into(),
            to_provisioner: "kubernetes".into(),
            ..MoveRecord::default()
        };
        insta::assert_snapshot!(unfinished(&record), @"the move of `web` to the pool `new` has not ended: it runs where it was, and some of it may be there; `gantry app update web --pool new` goes on with it");
        let record = MoveRecord { deployed: true, ..record };
        insta::assert_snapshot!(unfinished(&record), @"the move of `web` to the pool `new` has not ended: it runs there already and may still run where it was; `gantry app update web --pool new` goes on with it");
    }
}

//! Every change of an app, and everything that may happen at every call of it. Whatever does, one version serves, with the units that it should have, and nothing else is left: at once, or
//! when the machines were looked after, the platform has started again or the next change is made.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use gantry_core::Status;
use gantry_core::record::UnitRecord;
use gantry_engine::{Apps as _, Containers as _, Images as _, State as _};
use gantry_runtime::{CallError, Cause, Runtime};
use gantry_tests::artifacts;
use tokio::time::Instant;

use super::mishaps::{Mishap, Place, kind};
use super::shop::{Picture, READER, Shop, Sight, What};

/// How many apps are changed at the same time.
const LANES: usize = 8;

/// How often a case is tried whose call was not made.
const TRIES: u32 = 20;

const PROCFILE: &str = "web: serve\nworker: work\n";

const IMAGES: [Picture; 2] = [
    (
        "shop:1",
        PROCFILE,
        "hooks: {restart: {before: [b1], after: [a1]}}\nhealthcheck: {path: /one, use_in_router: true}\n",
    ),
    (
        "shop:2",
        PROCFILE,
        "hooks: {restart: {before: [b2], after: [a2]}}\nhealthcheck: {path: /two, use_in_router: true}\n",
    ),
];

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    FirstDeploy,
    Deploy,
    Rollback,
    Add,
    Remove,
    Restart,
    Rebalance,
    Sleep,
    Stop,
    Start,
    Destroy,
}

impl Change {
    const ALL: [Self; 11] = [
        Self::FirstDeploy,
        Self::Deploy,
        Self::Rollback,
        Self::Add,
        Self::Remove,
        Self::Restart,
        Self::Rebalance,
        Self::Sleep,
        Self::Stop,
        Self::Start,
        Self::Destroy,
    ];

    /// What it is, for an app that serves this image.
    fn of(self, current: Option<&str>) -> What {
        let other = if current == Some("shop:1") { "shop:2" } else { "shop:1" };
        match self {
            Self::FirstDeploy | Self::Deploy => What::Deploy(other),
            Self::Rollback => What::Rollback(other),
            Self::Add => What::Add(2, "web"),
            Self::Remove => What::Remove(1, "web"),
            Self::Restart => What::Restart,
            Self::Rebalance => What::Rebalance,
            Self::Sleep => What::Sleep,
            Self::Stop => What::Stop,
            Self::Start => What::Start,
            Self::Destroy => What::Destroy,
        }
    }

    fn before(self) -> Before {
        match self {
            Self::FirstDeploy => Before::Nothing,
            Self::Start => Before::Stopped,
            _ => Before::Serving,
        }
    }

    /// Whether it is all or nothing. The others go on with the units one by one, and one that fails keeps no other from it.
    fn is_whole(self) -> bool {
        match self {
            Self::FirstDeploy
            | Self::Deploy
            | Self::Rollback
            | Self::Add
            | Self::Restart
            | Self::Rebalance => true,
            Self::Remove | Self::Sleep | Self::Stop | Self::Start | Self::Destroy => false,
        }
    }
}

/// What a change finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// An app that was never deployed, and an image that nobody has looked into.
    Nothing,
    /// Two units of each process, of one of two versions that were deployed.
    Serving,
    /// The same, stopped.
    Stopped,
}

#[derive(Clone, Debug)]
struct Case {
    change: Change,
    place: Place,
    mishap: Mishap,
    tries: u32,
}

/// What became of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ended {
    New,
    Old,
    /// Some units are changed, some are not.
    Part,
    /// The new units are the app, and nobody wrote down that the old ones are to go.
    Both,
    /// The call was not needed.
    NotMade,
    Broken,
}

impl Ended {
    fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Old => "old",
            Self::Part => "part",
            Self::Both => "both",
            Self::NotMade => "-",
            Self::Broken => "BROKEN",
        }
    }
}

/// How a case ended.
#[derive(Clone, Debug)]
struct Outcome {
    ended: Ended,
    failed: bool,
    /// What was left at once.
    left: BTreeSet<&'static str>,
    /// What was left in the end, which is a fault.
    stays: BTreeSet<&'static str>,
}

impl Outcome {
    /// One that left nothing.
    fn of(ended: Ended, failed: bool) -> Self {
        Self { ended, failed, left: BTreeSet::new(), stays: BTreeSet::new() }
    }
}

impl Shop {
    /// Makes the app what a change finds.
    async fn prepare(&mut self, before: Before) -> Result<()> {
        self.forget("nodes/").await?;
        if before == Before::Nothing {
            if self.app.deploys > 0 {
                self.cleanly(What::Destroy).await?;
                self.after(true).await?;
                let sight = self.look().await?;
                let all = (sight.left(), sight.containers.len(), sight.units.len());
                ensure!(all == (BTreeSet::new(), 0, 0), "after the app was removed: {sight:?}");
                self.begin_app();
            }
            for (name, ..) in IMAGES {
                let id = self.engines[0].1.inspect_image(name).await?.id;
                self.platform.forget(&self.app.name, &id).await?;
            }
            self.forget("shells/").await?;
            return Ok(());
        }
        if self.app.deploys == 0 {
            self.cleanly(What::Deploy("shop:2")).await?;
            self.cleanly(What::Deploy("shop:1")).await?;
        }
        let is = self.look().await?;
        let mut changes = Vec::new();
        for process in ["web", "worker"] {
            let count = is.counts().get(process).copied().unwrap_or_default();
            match u32::try_from(count)? {
                few @ (0 | 1) => changes.push(What::Add(2 - few, process)),
                2 => {}
                more => changes.push(What::Remove(more - 2, process)),
            }
        }
        if is.units.iter().any(|unit| unit.status != Some(Status::Starting)) {
            changes.push(What::Restart);
        }
        if before == Before::Stopped {
            changes.push(What::Stop);
        }
        for what in &changes {
            self.cleanly(*what).await?;
        }
        if !changes.is_empty() {
            self.after(true).await?;
        }
        // Whoever adds or removes units says how many are used.
        Ok(self.platform.set_quota_in_use(&self.app.name, 4).await?)
    }

    /// Forgets what the plugin has written down under these keys.
    async fn forget(&self, prefix: &str) -> Result<()> {
        for entry in self.keys(prefix).await? {
            self.platform.delete_if("docker", &entry.key, entry.version).await?;
        }
        Ok(())
    }

    async fn goes_wrong(&mut self, case: &Case) -> Result<Outcome> {
        let &Case { change, mishap, .. } = case;
        self.prepare(change.before()).await?;
        let (was, image) = (self.look().await?, self.current().await);
        let what = change.of(image.as_deref());
        let ended = self.run(what, Some((case.place.clone(), mishap))).await?;
        let met = self.calls.script().met;
        if !met {
            ended.with_context(|| format!("{what:?} with nothing in the way"))?;
            self.after(true).await?;
            return Ok(Outcome::of(Ended::NotMade, false));
        }
        let (is, current) = (self.look().await?, self.current().await);
        let seen = Seen { case, what, image: image.as_deref(), current: current.as_deref() };
        let judged = seen.judge(&was, &is, &ended).and_then(|judged| {
            seen.is_tidy(judged, &is)?;
            Ok(judged)
        });
        let judged = judged.map_err(|why| why.context(format!("{ended:?} {is:#?}")))?;
        let mut left = is.left();
        self.after(ended.is_ok()).await?;
        if mishap == Mishap::Dies {
            self.start_again().await?;
        } else if left.contains("`orphans`") {
            self.look_after().await?;
            self.forget_what_may_come().await?;
        }
        let is = self.look().await?;
        if is.routes != is.reachable() {
            let known = left.contains("`leaving`") || judged == Ended::Both;
            ensure!(known, "routes go to {:?}, not {:?}", is.routes, is.reachable());
            left.insert("a route to an old unit");
        }
        let mut stays = BTreeSet::new();
        if is.left().contains(READER) {
            stays.insert(READER);
        }
        let next = self.goes_on(judged).await;
        stays.extend(next.with_context(|| format!("after {ended:?} left {left:?}"))?);
        Ok(Outcome { ended: judged, failed: ended.is_err(), left, stays })
    }

    /// Forgets what is written down as left and is not there: it may come late, and is waited for, for minutes. Whatever is there went when the machines were looked after.
    async fn forget_what_may_come(&self) -> Result<()> {
        let there = self.containers().await?;
        for entry in self.keys("orphans/").await? {
            let left: UnitRecord = serde_json::from_slice(&entry.value)?;
            let is_there = there.values().any(|container| container.name == left.name);
            ensure!(left.id.is_empty() && !is_there, "nobody removes {left:?}");
        }
        self.forget("orphans/").await
    }

    /// The next change is made as if nothing had happened; tells what is left then.
    async fn goes_on(&mut self, judged: Ended) -> Result<BTreeSet<&'static str>> {
        let next = Change::Deploy.of(self.current().await.as_deref());
        self.cleanly(next).await?;
        self.after(true).await?;
        let is = self.look().await?;
        let counts = is.counts();
        let told = format!("with {next:?}: {is:#?}");
        ensure!(is.liars().is_empty(), "{:?} {told}", is.liars());
        ensure!(is.images().len() == 1 && counts.len() == 2, "{:?} {told}", is.images());
        ensure!(is.routes == is.reachable(), "{:?} {told}", is.routes);
        ensure!(is.in_use == is.units.len(), "{} are used {told}", is.in_use);
        if judged == Ended::Old {
            ensure!(counts.values().all(|count| (1..=2).contains(count)), "{counts:?} {told}");
        }
        Ok(is.left())
    }
}

/// A case, and the images that were current before and after.
struct Seen<'a> {
    case: &'a Case,
    what: What,
    image: Option<&'a str>,
    current: Option<&'a str>,
}

impl Seen<'_> {
    /// What became of the app; an error when it is neither as before nor as it should be.
    fn judge(&self, was: &Sight, is: &Sight, ended: &Result<(), CallError>) -> Result<Ended> {
        let &Seen { case: &Case { change, mishap, .. }, what, image, current } = self;
        let new_image = match what {
            What::Deploy(image) | What::Rollback(image) => Some(image),
            _ => None,
        };
        let is_new = new_image.is_some() && current == new_image;
        ensure!(is_new || current == image, "{current:?} is current");
        let judged = match change {
            Change::FirstDeploy => match (is_new, is.counts()) {
                (true, counts) if counts == BTreeMap::from([("web", 1), ("worker", 1)]) => {
                    Ended::New
                }
                (false, counts) if counts.is_empty() => Ended::Old,
                (_, counts) => anyhow::bail!("{counts:?} units of {current:?}"),
            },
            Change::Deploy | Change::Rollback => match replaced(was, is)? {
                Ended::Both if is_new => Ended::Both,
                Ended::New if is_new => Ended::New,
                Ended::Old if !is_new => Ended::Old,
                other => anyhow::bail!("the units are {other:?}, and {current:?} is current"),
            },
            Change::Restart | Change::Rebalance => replaced(was, is)?,
            Change::Add => {
                ensure!(is.names().is_superset(&was.names()), "old units are gone");
                match is.counts() {
                    counts if counts == was.counts() => Ended::Old,
                    counts if counts == BTreeMap::from([("web", 4), ("worker", 2)]) => Ended::New,
                    counts => anyhow::bail!("{counts:?} units"),
                }
            }
            Change::Remove | Change::Destroy => {
                ensure!(is.names().is_subset(&was.names()), "there are new units");
                let all = if change == Change::Remove { 1 } else { 4 };
                match was.names().len() - is.names().len() {
                    0 => Ended::Old,
                    gone if gone == all => Ended::New,
                    gone => {
                        ensure!(gone < all, "{gone} units are gone");
                        Ended::Part
                    }
                }
            }
            Change::Sleep | Change::Stop | Change::Start => {
                ensure!(is.names() == was.names(), "other units");
                let wanted = match change {
                    Change::Sleep => Status::Asleep,
                    Change::Stop => Status::Stopped,
                    _ => Status::Starting,
                };
                match is.units.iter().filter(|unit| unit.status == Some(wanted)).count() {
                    0 if was.statuses() == is.statuses() => Ended::Old,
                    4 => Ended::New,
                    _ => Ended::Part,
                }
            }
        };
        let images = is.images();
        let one = judged == Ended::Both || images.iter().all(|image| Some(*image) == current);
        ensure!(one, "{images:?} are served, {current:?} is current");
        ensure!(!change.is_whole() || judged != Ended::Part, "some units are changed");
        ensure!(is.liars().is_empty(), "{:?}", is.liars());
        match ended {
            // An app that cannot be asked for its pool is passed over: nothing is moved, and that is what is told.
            Ok(()) if change == Change::Rebalance && kind(&self.case.place) == "apps.get" => {}
            Ok(()) => ensure!(judged == Ended::New, "it is {judged:?}, and told as done"),
            Err(error) if mishap == Mishap::Cancelled => ensure!(
                matches!(
                    error.cause,
                    Cause::Cancelled | Cause::Plugin(gantry_core::Error::Cancelled)
                ),
                "it was cancelled, and told as `{error}`"
            ),
            Err(_) => {}
        }
        Ok(judged)
    }

    /// What the plugin sees to itself, as long as it lives.
    fn is_tidy(&self, judged: Ended, is: &Sight) -> Result<()> {
        let Case { change, mishap, place, .. } = self.case;
        if !mishap.leaves_the_plugin() {
            return Ok(());
        }
        let left = is.left();
        ensure!(!left.contains("a CONTAINER"), "{left:?}");
        ensure!(!left.contains(READER), "an image was read from what is left");
        let ids: BTreeSet<String> = is.serving().map(|unit| unit.id.clone()).collect();
        // Those that services were not told of stay bound, and what was to go is bound no more where it stays.
        let stays = !change.is_whole() && kind(place) == "containers.remove";
        if kind(place) != "apps.unbind-unit" && !stays {
            ensure!(is.bound == ids, "bound are {:?}", is.bound);
        }
        // Where units of an app are at rest its routes are the platform's business, and of one that goes.
        if change.is_whole() || *change == Change::Remove {
            let serving = is.reachable();
            ensure!(is.routes == serving, "routes go to {:?}, not {serving:?}", is.routes);
        }
        if change.is_whole() && *change != Change::Add {
            ensure!(is.in_use == ids.len(), "{} are used", is.in_use);
        }
        if *change != Change::Destroy && judged != Ended::Part {
            let paths: &[Option<&str>] = match self.current {
                Some("shop:1") => &[Some("/one")],
                Some(_) => &[Some("/two")],
                // Of an app without an image, what routers look at otherwise.
                None => &[None, Some("/")],
            };
            let path = is.healthcheck.as_deref();
            ensure!(paths.contains(&path), "routers look at {path:?}");
        }
        Ok(())
    }
}

/// Whether these are the units that were there, or others in their place.
fn replaced(was: &Sight, is: &Sight) -> Result<Ended> {
    let (old, new) = (was.names(), is.names());
    if new == old {
        return Ok(Ended::Old);
    }
    if new.is_disjoint(&old) && is.counts() == was.counts() {
        return Ok(Ended::New);
    }
    if new.is_superset(&old) && new.len() == 2 * old.len() {
        return Ok(Ended::Both);
    }
    anyhow::bail!("there were {old:?}, there are {new:?}")
}

/// The calls of a change in which nothing goes wrong.
async fn places(shop: &mut Shop, change: Change) -> Result<Vec<Place>> {
    shop.prepare(change.before()).await?;
    let what = change.of(shop.current().await.as_deref());
    shop.cleanly(what).await?;
    let places = std::mem::take(&mut shop.calls.script().places);
    shop.after(true).await?;
    let left = shop.goes_on(Ended::New).await?;
    ensure!(left.is_empty(), "{left:?} with nothing in the way");
    Ok(places)
}

/// Works through the cases with an app and engines of its own.
async fn work(
    runtime: &Runtime,
    cases: &Mutex<VecDeque<Case>>,
    ended: &Mutex<Vec<(Case, Outcome)>>,
) -> Result<()> {
    let mut shop = Shop::new(runtime, &IMAGES).await?;
    loop {
        let Some(mut case) = cases.lock().unwrap().pop_front() else { return Ok(()) };
        case.tries += 1;
        let outcome = match shop.goes_wrong(&case).await {
            Ok(Outcome { ended: Ended::NotMade, .. }) if case.tries < TRIES => {
                cases.lock().unwrap().push_back(case);
                continue;
            }
            Ok(outcome) => outcome,
            Err(why) => {
                println!("BROKEN {:?} {:?} {}: {why:#}", case.change, case.place, case.mishap);
                Outcome::of(Ended::Broken, true)
            }
        };
        if !outcome.stays.is_empty() {
            let stays = &outcome.stays;
            println!("LEFT {:?} {:?} {}: {stays:?}", case.change, case.place, case.mishap);
        }
        if outcome.ended == Ended::Broken || !outcome.stays.is_empty() {
            // What is left there would be in the way.
            shop = Shop::new(runtime, &IMAGES).await?;
        }
        ended.lock().unwrap().push((case, outcome));
    }
}

/// Prints what became of a change: a line a kind of call, then the sums.
fn show(change: Change, places: &[Place], ended: &[(Case, Outcome)]) {
    let of_change: Vec<_> = ended.iter().filter(|(case, _)| case.change == change).collect();
    println!("\n{change:?}");
    let mut kinds: Vec<&str> = Vec::new();
    for place in places {
        if !kinds.contains(&kind(place)) {
            kinds.push(kind(place));
        }
    }
    for name in kinds {
        let cells = Mishap::ALL.map(|mishap| {
            let cases = of_change
                .iter()
                .filter(|(case, _)| case.mishap == mishap && kind(&case.place) == name);
            let cases: Vec<&Outcome> = cases.map(|(_, outcome)| outcome).collect();
            format!("{:<26}", cell(&cases))
        });
        let calls = places.iter().filter(|place| kind(place) == name).count();
        println!("{name:<32}{calls:>3}  {}", cells.concat().trim_end());
    }
    let count =
        |wanted: Ended| of_change.iter().filter(|(_, outcome)| outcome.ended == wanted).count();
    let failed = of_change.iter().filter(|(_, outcome)| outcome.failed).count();
    let left = counted(of_change.iter().map(|(_, outcome)| &outcome.left));
    let stays = counted(of_change.iter().map(|(_, outcome)| &outcome.stays));
    println!(
        "{change:?}: {} calls, {} cases; ended new {}, old {}, in part {}, with both {}; call not made {}, broken {}; told as failed {failed}; left at once: {left}; left in the end: {stays}",
        places.len(),
        of_change.len(),
        count(Ended::New),
        count(Ended::Old),
        count(Ended::Part),
        count(Ended::Both),
        count(Ended::NotMade),
        count(Ended::Broken),
    );
}

/// What cases left, and how many of them did.
fn counted<'a>(left: impl Iterator<Item = &'a BTreeSet<&'static str>>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for what in left.flatten() {
        *counts.entry(what).or_default() += 1;
    }
    if counts.is_empty() { "nothing".to_owned() } else { format!("{counts:?}") }
}

/// How the cases of a kind of call and of mishap ended, and what they left at once.
fn cell(cases: &[&Outcome]) -> String {
    let ends: BTreeSet<Ended> = cases.iter().map(|outcome| outcome.ended).collect();
    let ends: Vec<&str> = ends.into_iter().map(Ended::word).collect();
    let left: BTreeSet<&str> =
        cases.iter().flat_map(|outcome| outcome.left.iter().copied()).collect();
    let left: Vec<&str> = left.into_iter().collect();
    match (ends.join("/"), left.join(",")) {
        (ends, left) if left.is_empty() => ends,
        (ends, left) => format!("{ends}: {left}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_in_a_change_one_version_serves_and_nothing_else_is_left() -> Result<()> {
    let runtime = artifacts::runtime()?;
    let began = Instant::now();
    let mut shop = Shop::new(&runtime, &IMAGES).await?;
    let mut all = BTreeMap::new();
    let mut cases = VecDeque::new();
    for change in Change::ALL {
        let places = places(&mut shop, change).await.with_context(|| format!("{change:?}"))?;
        for mishap in Mishap::ALL {
            let may = places.iter().filter(|place| mishap.may_happen(place));
            let case = |place: &Place| Case { change, place: place.clone(), mishap, tries: 0 };
            cases.extend(may.map(case));
        }
        all.insert(change, places);
    }
    let number = cases.len();
    println!("{number} cases; counted in {:?}", began.elapsed());
    let (cases, ended) = (Mutex::new(cases), Mutex::default());
    let lanes = (0..LANES).map(|_| work(&runtime, &cases, &ended));
    futures_util::future::try_join_all(lanes).await?;
    let ended = std::mem::take(&mut *ended.lock().unwrap());
    let heads = Mishap::ALL.map(|mishap| format!("{mishap:<26}"));
    println!("{:<32}{:>5}{}", "call", "", heads.concat());
    for (change, places) in &all {
        show(*change, places, &ended);
    }
    println!("done in {:?}", began.elapsed());
    let broken = ended.iter().filter(|(_, outcome)| outcome.ended == Ended::Broken).count();
    ensure!(broken == 0, "{broken} of {number} changes broke the promise");
    let stay = ended.iter().filter(|(_, outcome)| !outcome.stays.is_empty()).count();
    ensure!(stay == 0, "{stay} of {number} changes left something in the end");
    let met = ended.iter().filter(|(_, outcome)| outcome.ended != Ended::NotMade);
    let met: BTreeSet<_> = met.map(|(case, _)| (case.change, &case.place)).collect();
    let mut unmet: BTreeSet<_> = ended.iter().map(|(case, _)| (case.change, &case.place)).collect();
    unmet.retain(|place| !met.contains(place));
    ensure!(unmet.is_empty(), "nothing ever happened at {unmet:?}");
    Ok(())
}

//! What an API server may answer in the middle of a deploy, at every call of it: the compiled plugin over a real control plane without nodes, whose pods the test plays. Whatever goes
//! wrong, one version of the app serves afterwards, and nothing is left of another.

mod faulty;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry_core::App;
use gantry_engine::kubernetes::Endpoint;
use gantry_engine::memory::Platform;
use gantry_engine::{Cluster, Images as _, Kubernetes, Operation};
use gantry_runtime::{Provisioner, Runtime};
use gantry_tests::artifacts;
use gantry_tests::clusters::Cluster as Control;
use gantry_tests::kubernetes::{
    INSTANCE, POOL, Serving, Setting, Wrong, ended, play_nodes, provisioner, running, wanted, wrong,
};
use serde_json::json;
use tokio::time::Instant;

use self::faulty::*;

/// How long the plugin waits for an answer; less than the client below it does.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the controllers may take to do what is left to them.
const SOON: Duration = Duration::from_secs(300);
/// How long a deploy may take that will use up all its time.
const SHORT: Duration = Duration::from_secs(25);
/// How many apps are deployed at the same time. Many wait for an answer that does not come while the others go on.
const LANES: usize = 48;

/// A version of an app: an image that nobody has looked into yet. Every second one has another process beside `web`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version(u32);

impl Version {
    fn image(self) -> String {
        format!("registry.test/shop:{}", self.0)
    }

    fn of(image: &str) -> Option<Self> {
        image.rsplit(':').next()?.parse().ok().map(Self)
    }

    fn other(self) -> &'static str {
        if self.0.is_multiple_of(2) { "cron" } else { "worker" }
    }

    fn processes(self) -> [&'static str; 2] {
        ["web", self.other()]
    }
}

/// Where one deploy after the other goes wrong: a namespace of its own, in it one app at a time.
struct Lane {
    runtime: Runtime,
    namespace: String,
    faulty: Arc<Faulty>,
    platform: Platform,
    provisioner: Provisioner,
    app: App,
    /// The last version that was tried.
    last: Version,
    apps: u32,
    operations: u32,
}

impl Lane {
    async fn new(runtime: &Runtime, cluster: &Arc<Kubernetes>, namespace: &str) -> Result<Self> {
        let namespace = namespace.to_owned();
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace},
        });
        cluster.create(&object, false).await?;
        let faulty = Arc::new(Faulty { cluster: Arc::clone(cluster), deploy: Mutex::default() });
        let platform = Platform::new();
        let setting = Setting {
            cluster: Arc::clone(&faulty) as Arc<dyn Cluster>,
            namespace: namespace.clone(),
            beside: None,
            platform: platform.clone(),
            config: json!({"kubernetes": {
                "api-timeout": PATIENCE.as_secs(), "deployment-progress-timeout": SOON.as_secs(),
            }}),
            layers: Vec::new(),
            granted: None,
        };
        let provisioner = provisioner(runtime, setting).await?;
        let mut lane = Self {
            runtime: runtime.clone(),
            namespace,
            faulty,
            platform,
            provisioner,
            app: App::default(),
            last: Version(0),
            apps: 0,
            operations: 0,
        };
        lane.begin_app();
        Ok(lane)
    }

    /// Goes on with an app that was never deployed.
    fn begin_app(&mut self) {
        self.apps += 1;
        let name = format!("{}-{}", self.namespace.replace("lane", "shop"), self.apps);
        self.app = App { name, pool: POOL.to_owned(), ..App::default() };
        self.platform.put_app(self.app.clone());
    }

    fn operation(&mut self, time: Duration) -> Operation {
        self.operations += 1;
        Operation::new(format!("{}-{}", self.namespace, self.operations), time)
    }

    /// The version that the platform has written down as current.
    async fn current(&self) -> Option<Version> {
        self.platform.current(&self.app.name).await.ok().and_then(|image| Version::of(&image))
    }

    /// Deploys the next version that has other processes than the current one, with or without something going wrong. Gives the version, and how the deploy ended.
    async fn deploy(
        &mut self,
        aim: Option<(Place, Fault, Often)>,
    ) -> (Version, Result<String, String>) {
        let current = self.current().await;
        let mut next = Version(self.last.0 + 1);
        let wanted = current.map_or("worker", |version| Version(version.0 + 1).other());
        if next.other() != wanted {
            next = Version(next.0 + 1);
        }
        self.last = next;
        let app = &self.app.name;
        let mut roles =
            vec![(format!("{app}-web"), "web"), (format!("{app}-image-inspect"), "look")];
        roles.push((format!("{app}-{}", next.other()), "new"));
        if let Some(current) = current {
            roles.push((format!("{app}-{}", current.other()), "old"));
        }
        // What is refused with a word to come again is asked until there is no time left.
        let busy = matches!(aim, Some((_, Fault::Busy, Often::Always)));
        let [web, other] = next.processes();
        *self.faulty.deploy() = Deploy {
            roles,
            procfile: format!("{web}: serve\n{other}: work\n"),
            aim,
            ..Deploy::default()
        };
        let operation = self.operation(if busy { SHORT } else { SOON });
        let deployed = self.provisioner.deploy(&operation, &self.app, &next.image()).await;
        self.app.deploys += u32::from(deployed.is_ok());
        self.platform.put_app(self.app.clone());
        self.runtime.settled().await;
        (next, deployed.map_err(|error| error.to_string()))
    }

    /// Waits until a version serves, and nothing else is there. Gives what is wrong in the end.
    async fn settles(&self, version: Option<Version>) -> Result<Wrong> {
        self.waits(version, |wrong| *wrong == Wrong::default()).await
    }

    /// Waits until a version serves, whatever else is there.
    async fn serves(&self, version: Option<Version>) -> Result<Wrong> {
        self.waits(version, |wrong| wrong.missing.is_empty()).await
    }

    async fn waits(
        &self,
        version: Option<Version>,
        enough: impl Fn(&Wrong) -> bool,
    ) -> Result<Wrong> {
        let deadline = Instant::now() + SOON;
        let image = version.map(Version::image).unwrap_or_default();
        let processes = version.map(Version::processes).unwrap_or_default();
        let serving = Serving { image: &image, processes: &processes, units: 1 };
        let serving = version.map(|_| &serving);
        let (cluster, app) = (&*self.faulty.cluster, &self.app.name);
        loop {
            let wrong = wrong(cluster, &self.namespace, app, serving).await?;
            if enough(&wrong) || Instant::now() >= deadline {
                return Ok(wrong);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What a deploy finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Before {
    /// No version: it is the first of the app.
    Nothing,
    /// A version whose other process comes after `web`; the new one's comes before it.
    Worker,
    /// The other way round.
    Cron,
}

impl Before {
    const ALL: [Self; 3] = [Self::Nothing, Self::Worker, Self::Cron];

    fn of(current: Option<Version>) -> Self {
        match current.map(Version::other) {
            None => Self::Nothing,
            Some("worker") => Self::Worker,
            Some(_) => Self::Cron,
        }
    }
}

impl Before {
    /// Whether this is tried at this call. Everything once, in a deploy that replaces a version. In a first deploy, and in one where other processes come first, a conflict and
    /// what is the hardest to see through. There every call is a conflict for good, and where something is changed it is refused for good in every way.
    fn is_tried(self, (call, _): &Place, fault: Fault, often: Often) -> bool {
        let changes = ["apply", "create", "delete"].iter().any(|verb| call.starts_with(verb));
        match (self, often) {
            (Self::Cron, Often::Once) => true,
            (Self::Cron, Often::Always) => false,
            (Self::Nothing, Often::Once) => matches!(fault, Fault::Conflict | Fault::Lost),
            (Self::Nothing, Often::Always) => {
                fault == Fault::Conflict || changes && fault == Fault::Busy
            }
            (Self::Worker, Often::Once) => fault == Fault::Conflict,
            (Self::Worker, Often::Always) => fault == Fault::Conflict || changes,
        }
    }
}

/// One deploy that goes wrong.
#[derive(Clone, Debug)]
struct Case {
    before: Before,
    place: Place,
    fault: Fault,
    often: Often,
    /// How often it was begun.
    tries: u32,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ended {
    New,
    Old,
    /// The cluster was faster, and the call was not needed.
    NotMade,
    /// It broke the promise.
    Broken(String),
}

impl Lane {
    /// Makes the app what a case finds.
    async fn prepare(&mut self, before: Before) -> Result<()> {
        if before == Before::Nothing {
            return self.begin_app_anew().await;
        }
        while Before::of(self.current().await) != before {
            self.clean().await?;
        }
        Ok(())
    }

    /// The places of a deploy in which nothing goes wrong.
    async fn clean(&mut self) -> Result<Vec<Place>> {
        let (version, deployed) = self.deploy(None).await;
        ensure!(deployed.is_ok(), "{deployed:?}");
        let places = std::mem::take(&mut self.faulty.deploy().places);
        let wrong = self.settles(Some(version)).await?;
        ensure!(wrong == Wrong::default(), "after a clean deploy: {wrong:?}");
        Ok(places)
    }

    async fn goes_wrong(&mut self, case: &Case) -> Result<Ended> {
        self.prepare(case.before).await?;
        let before = self.current().await;
        let was = wanted(&*self.faulty.cluster, &self.namespace).await?;
        let aim = (case.place.clone(), case.fault, case.often);
        let (tried, deployed) = self.deploy(Some(aim)).await;
        let hit = self.faulty.deploy().hit.is_some();
        let current = self.current().await;
        let broken = |why: String| Ok(Ended::Broken(format!("{why}; {deployed:?}")));
        if ![before, Some(tried)].contains(&current) || deployed.is_ok() && current != Some(tried) {
            return broken(format!("{current:?} is current"));
        }
        let wrong = match case.often {
            Often::Once => self.settles(current).await?,
            Often::Always => self.serves(current).await?,
        };
        if !wrong.missing.is_empty() || case.often == Often::Once && !wrong.left.is_empty() {
            return broken(format!("{current:?} should serve: {wrong:?}"));
        }
        let is = wanted(&*self.faulty.cluster, &self.namespace).await?;
        if current == before && was.iter().any(|(name, was)| is.get(name) != Some(was)) {
            return broken(format!("{was:?} is now {is:?}"));
        }
        if case.often == Often::Always {
            // What could not be removed goes with the next deploy.
            self.clean().await?;
        }
        Ok(match (hit, current == Some(tried)) {
            (false, _) => Ended::NotMade,
            (true, true) => Ended::New,
            (true, false) => Ended::Old,
        })
    }

    /// Removes the app and goes on with another.
    async fn begin_app_anew(&mut self) -> Result<()> {
        if self.current().await.is_some() {
            self.remove_app().await?;
        }
        self.begin_app();
        Ok(())
    }

    async fn remove_app(&mut self) -> Result<()> {
        *self.faulty.deploy() = Deploy::default();
        let operation = self.operation(SOON);
        self.provisioner.destroy(&operation, &self.app).await?;
        let wrong = self.settles(None).await?;
        ensure!(wrong == Wrong::default(), "after the app was removed: {wrong:?}");
        Ok(())
    }
}

/// The calls of a deploy that finds this. Some are made only when the cluster is slow; so it is deployed a few times.
async fn calls(lane: &mut Lane, before: Before) -> Result<Calls> {
    let mut calls = Calls::default();
    for _ in 0..4 {
        lane.prepare(before).await?;
        let places = lane.clean().await?;
        calls.counts.push(places.len());
        for place in places {
            if !calls.places.contains(&place) {
                calls.places.push(place);
            }
        }
    }
    Ok(calls)
}

#[derive(Default)]
struct Calls {
    places: Vec<Place>,
    /// How many each deploy made.
    counts: Vec<usize>,
}

/// The cases to come, and how those before ended.
#[derive(Default)]
struct Cases {
    waiting: BTreeMap<Before, VecDeque<Case>>,
    ended: Vec<(Case, Ended)>,
}

impl Cases {
    /// The next case, one that finds what is there if there is any.
    fn next(&mut self, there: Before) -> Option<Case> {
        let fitting = self.waiting.get_mut(&there).and_then(VecDeque::pop_front);
        fitting.or_else(|| self.waiting.values_mut().find_map(VecDeque::pop_front))
    }
}

/// Works through the cases in namespaces of its own.
async fn work(
    runtime: &Runtime,
    cluster: &Arc<Kubernetes>,
    cases: &Mutex<Cases>,
    number: usize,
) -> Result<()> {
    let mut spaces = 0;
    let mut lane = Lane::new(runtime, cluster, &format!("lane-{number}-{spaces}")).await?;
    loop {
        let there = Before::of(lane.current().await);
        let Some(mut case) = cases.lock().unwrap().next(there) else { break };
        case.tries += 1;
        let ended = lane.goes_wrong(&case).await;
        let ended = ended.unwrap_or_else(|error| Ended::Broken(format!("{error:#}")));
        if ended == Ended::NotMade && case.tries < 5 {
            cases.lock().unwrap().waiting.entry(case.before).or_default().push_back(case);
            continue;
        }
        if let Ended::Broken(why) = &ended {
            println!("{case:?}: {why}");
            // What is left there would be in the way.
            spaces += 1;
            lane = Lane::new(runtime, cluster, &format!("lane-{number}-{spaces}")).await?;
        }
        cases.lock().unwrap().ended.push((case, ended));
    }
    if lane.current().await.is_some() {
        lane.remove_app().await?;
    }
    Ok(())
}

/// Prints how the cases ended, a line a call.
fn show(before: Before, calls: &Calls, ended: &[(Case, Ended)]) {
    let of = |place: &Place, fault, often| {
        let case = ended.iter().find(|(case, _)| {
            (case.before, &case.place, case.fault, case.often) == (before, place, fault, often)
        });
        match case.map(|(_, ended)| ended) {
            Some(Ended::New) => "new",
            Some(Ended::Old) => "old",
            Some(Ended::NotMade) => "-",
            Some(Ended::Broken(_)) => "BROKEN",
            None => "",
        }
    };
    let head = FAULTS.map(|(fault, often)| match often {
        Often::Once => format!("{fault:>7}"),
        Often::Always => format!("{:>7}", format!("{fault}*")),
    });
    println!("{:<30}{}", format!("a deploy that finds {before:?}"), head.concat());
    for place in &calls.places {
        let cells = FAULTS.map(|(fault, often)| format!("{:>7}", of(place, fault, often)));
        println!("{:<30}{}", format!("{} {}", place.0, place.1), cells.concat());
    }
    for often in [Often::Once, Often::Always] {
        let mine: Vec<&(Case, Ended)> =
            ended.iter().filter(|(case, _)| (case.before, case.often) == (before, often)).collect();
        let faults: BTreeSet<Fault> = mine.iter().map(|(case, _)| case.fault).collect();
        let places: BTreeSet<&Place> = mine.iter().map(|(case, _)| &case.place).collect();
        let count = |wanted: &Ended| mine.iter().filter(|(_, ended)| ended == wanted).count();
        let (new, old, not_made) = (count(&Ended::New), count(&Ended::Old), count(&Ended::NotMade));
        if !mine.is_empty() {
            println!(
                "kubernetes deploy that finds {before:?}, {often:?}: {} calls x {} faults = {} cases; ended on the new version: {new}, on the old: {old}, call not made: {not_made}; left behind: {}",
                places.len(),
                faults.len(),
                mine.len(),
                mine.len() - new - old - not_made,
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_in_a_deploy_one_version_serves_and_nothing_else_is_left() -> Result<()>
{
    let control = Control::start(0)?;
    // The controllers make no pauses between their requests: here is nobody to be spared, and the test waits for them.
    control.kill("manager")?;
    control.start_again("manager", &["--kube-api-qps=1000", "--kube-api-burst=1000"])?;
    // Where there is no node, all that it does is to say so, pod by pod.
    control.kill("scheduler")?;
    let endpoint = Endpoint::kubeconfig(control.kubeconfig(), "");
    let cluster = Arc::new(Kubernetes::new(&endpoint).await?);
    let nodes = play_nodes(Arc::clone(&cluster) as Arc<dyn Cluster>, |pod| {
        let looks = pod["metadata"]["labels"]["tsuru.io/is-build"] == "true";
        Some(if looks { ended(pod, 0) } else { running(pod, true) })
    });
    tokio::select! {
        failed = nodes => failed.context("the nodes"),
        done = matrix(&control, &cluster) => done,
    }
}

async fn matrix(control: &Control, cluster: &Arc<Kubernetes>) -> Result<()> {
    let runtime = artifacts::runtime()?;
    let began = Instant::now();
    let mut lane = Lane::new(&runtime, cluster, "clean").await?;
    let mut all = BTreeMap::new();
    let cases = Mutex::new(Cases::default());
    for before in Before::ALL {
        let calls = calls(&mut lane, before).await?;
        println!("{before:?}: {:?} calls", calls.counts);
        // Those that take long come first.
        for (fault, often) in FAULTS.iter().rev().copied() {
            let case =
                |place: &Place| Case { before, place: place.clone(), fault, often, tries: 0 };
            let tried = |place: &&Place| before.is_tried(place, fault, often);
            let of = calls.places.iter().filter(tried).map(case);
            cases.lock().unwrap().waiting.entry(before).or_default().extend(of);
        }
        all.insert(before, calls);
    }
    lane.remove_app().await?;
    println!("counted in {:?}", began.elapsed());
    let lanes = (0..LANES).map(|number| work(&runtime, cluster, &cases, number));
    futures_util::future::try_join_all(lanes).await?;
    println!("done in {:?}", began.elapsed());
    let ended = std::mem::take(&mut cases.lock().unwrap().ended);
    for (before, calls) in &all {
        show(*before, calls, &ended);
    }
    let broken = ended.iter().filter_map(|(case, ended)| match ended {
        Ended::Broken(why) => Some(format!("{case:?}: {why}")),
        Ended::New | Ended::Old | Ended::NotMade => None,
    });
    let broken: Vec<String> = broken.collect();
    ensure!(broken.is_empty(), "deploys broke the promise:\n{}", broken.join("\n"));
    nothing_is_left(control)
}

/// Every object of every kind that has our mark.
fn nothing_is_left(control: &Control) -> Result<()> {
    let kinds = control.ask(&["api-resources", "--verbs=list", "-o", "name"])?;
    let kinds: Vec<&str> = kinds.lines().collect();
    let label = format!("gantry.instance={INSTANCE}");
    let left = control.ask(&["get", &kinds.join(","), "-A", "-l", &label, "-o", "name"])?;
    ensure!(left.is_empty(), "left behind: {left}");
    Ok(())
}

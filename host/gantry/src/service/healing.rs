//! Healing: now and then every provisioner that can is asked what died, and what it finds is replaced. Each replacement is an operation of its own, so that the record says what happened and why.
//!
//! ```text
//! examine ► sick unit ► unit-heal, with the app locked; no more than so many in a while
//!        ├► dead node ► node-give-up, ditto ► its units are sick, all of them at once
//!        └► node that answers again ► node-take-back
//! ```
//!
//! A unit that cannot be replaced is tried again after ever longer pauses: one of a machine that was given up may find no room for a night. Room may come with a machine, so then they are all tried at once. A
//! node of which something does not go, or that does not become ready, is tried again after such pauses too.
//!
//! An app that is being changed, or was while it was looked at, is left alone until the next look. The ill units of an app are replaced one after the other, those of several apps side by side, and no
//! look waits for what an earlier one began, nor a provisioner for another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt, future};
use gantry_core::healing::{Findings, NotedNode, SickUnit};
use gantry_runtime::{Interface, Provisioner};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::nodes::node_request;
use super::stuck::{AllStuck, Stuck};
use super::{OrProblem, Service};
use crate::api::{Problem, ProblemKind};
use crate::clock;
use crate::config::Healing;
use crate::operation::{Caller, Watch, of_app};
use crate::store::StoreError;

/// Who heals.
const HEALER: &str = "healer";

/// The verbs of the operations.
const HEAL_UNIT: &str = "unit-heal";
const GIVE_UP_NODE: &str = "node-give-up";
const TAKE_BACK_NODE: &str = "node-take-back";

/// How many apps and nodes are healed at the same time.
const AT_ONCE: usize = 8;

/// The most that is done about one look; the rest is found again with the next.
const MOST: usize = 1_000;

/// The longest pause before a unit that could not be replaced, or a node that could not be taken back, is tried again. A hundred units that find no room for a night leave the journal some for others.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// A provisioner, an app of it and a unit of that.
type OfApp = (String, String, String);

/// The ill units that could not be replaced.
pub(super) type Unhealed = AllStuck<OfApp>;

/// A provisioner and a node of it.
type OfNode = (String, String);

fn node_place(provisioner: &str, node: &NotedNode) -> OfNode {
    (provisioner.to_owned(), node.address.clone())
}

fn place(provisioner: &str, unit: &SickUnit) -> OfApp {
    (provisioner.to_owned(), unit.app_name.clone(), unit.id.clone())
}

/// None yet. They wait for one look at first.
pub(super) fn unhealed(Healing { every, .. }: &Healing) -> Unhealed {
    AllStuck::new(*every, LONGEST.max(*every))
}

/// What is under way: no look begins it again.
#[derive(Clone, Default)]
struct UnderWay(Arc<Mutex<BTreeSet<String>>>);

impl UnderWay {
    /// Begins something, until what this gives is dropped; none when it is under way already.
    fn begin(&self, what: String) -> Option<Begun> {
        self.with(|all| all.insert(what.clone())).then(|| Begun { all: self.clone(), what })
    }

    // A std mutex: held for an insert, never across an await.
    fn with<T>(&self, look: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Something that is under way.
struct Begun {
    all: UnderWay,
    what: String,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.all.with(|all| all.remove(&self.what));
    }
}

struct Healer {
    service: Arc<Service>,
    /// The nodes that were taken back, or could not be; those that are not found again are forgotten.
    tried_nodes: AllStuck<OfNode>,
    under_way: UnderWay,
    places: Semaphore,
    /// Held from the count of what was healed lately until one more has begun.
    counting: tokio::sync::Mutex<()>,
}

impl Healer {
    /// One look at what a provisioner has, and what is to be done about it.
    async fn heal(&self, provisioner: Provisioner) {
        let name = provisioner.name();
        let Some(looking) = self.under_way.begin(format!("a look at {name}")) else { return };
        let changed = self.service.operations.watch_locks();
        let findings = match provisioner.examine(&self.service.question()).await {
            Ok(findings) => {
                let now = Instant::now();
                let mut unhealed = self.service.unhealed.lock();
                let findings = due(&mut unhealed, name, findings, now);
                at_most(MOST, due_nodes(&mut self.tried_nodes.lock(), name, findings, now))
            }
            Err(error) => {
                tracing::warn!(provisioner = name, %error, "could not look for what died");
                return;
            }
        };
        drop(looking);
        let Findings { units, dead, recovered } = findings;
        // All at once: each waits for a place.
        let mut work = Vec::new();
        for node in dead {
            work.push(self.heal_node(&provisioner, node, true).boxed());
        }
        for node in recovered {
            work.push(self.heal_node(&provisioner, node, false).boxed());
        }
        for (app, units) in by_app(units) {
            work.push(self.heal_app(name, app, units, &changed).boxed());
        }
        future::join_all(work).await;
    }

    async fn heal_node(&self, provisioner: &Provisioner, node: NotedNode, is_dead: bool) {
        let Some(_begun) = self.under_way.begin(format!("the node {}", node.address)) else {
            return;
        };
        let Ok(_place) = self.places.acquire().await else { return };
        let tried = node_place(provisioner.name(), &node);
        let begun = match is_dead {
            true => self.service.give_up(provisioner, node).await,
            false => self.service.take_back(provisioner, node).await,
        };
        if let Some(operation) = begun {
            self.service.operations.ended(&operation).await;
            if !is_dead {
                // One of which all is in order is not found again, and then it does not wait.
                self.tried_nodes.lock().failed(tried, Instant::now());
            }
        }
    }

    /// Has the ill units of an app replaced, one after the other. What was seen of an app that has changed since is out of date.
    async fn heal_app(
        &self,
        provisioner: &str,
        app: String,
        units: Vec<SickUnit>,
        changed: &Watch,
    ) {
        let Some(_begun) = self.under_way.begin(of_app(&app)) else { return };
        let Ok(_place) = self.places.acquire().await else { return };
        if !self.service.is_app_of(&app, provisioner).await || changed.saw(&of_app(&app)) {
            return;
        }
        for unit in units {
            let tried = place(provisioner, &unit);
            let begun = {
                let _counting = self.counting.lock().await;
                self.service.heal_unit(unit).await
            };
            if let Some(operation) = begun {
                self.service.operations.ended(&operation).await;
                // One that was replaced is not found again, and then it does not wait.
                self.service.unhealed.lock().failed(tried, Instant::now());
            }
        }
    }
}

/// The ill units of each app.
fn by_app(units: Vec<SickUnit>) -> BTreeMap<String, Vec<SickUnit>> {
    let mut apps: BTreeMap<String, Vec<SickUnit>> = BTreeMap::new();
    for unit in units {
        apps.entry(unit.app_name.clone()).or_default().push(unit);
    }
    apps
}

/// The findings of a provisioner without the units that wait for another try.
fn due(
    unhealed: &mut Stuck<OfApp>,
    provisioner: &str,
    mut findings: Findings,
    now: Instant,
) -> Findings {
    let is_own = |unit: &OfApp| unit.0 == provisioner;
    unhealed.retain_due(&mut findings.units, |unit| place(provisioner, unit), is_own, now);
    findings
}

/// The same without the nodes that wait for another try.
fn due_nodes(
    tried: &mut Stuck<OfNode>,
    provisioner: &str,
    mut findings: Findings,
    now: Instant,
) -> Findings {
    let is_own = |node: &OfNode| node.0 == provisioner;
    tried.retain_due(&mut findings.recovered, |node| node_place(provisioner, node), is_own, now);
    findings
}

/// So many of the findings, machines before units.
fn at_most(most: usize, mut findings: Findings) -> Findings {
    let Findings { units, dead, recovered } = &mut findings;
    dead.truncate(most);
    let left = most.saturating_sub(dead.len());
    recovered.truncate(left);
    units.truncate(left.saturating_sub(recovered.len()));
    findings
}

impl Service {
    /// Looks for what died and has it replaced, for ever.
    pub(crate) async fn keep_healing(self: &Arc<Self>) {
        let every = self.config.healing.every;
        if every.is_zero() {
            return;
        }
        let healer = Healer {
            service: Arc::clone(self),
            tried_nodes: AllStuck::new(every, LONGEST.max(every)),
            under_way: UnderWay::default(),
            places: Semaphore::new(AT_ONCE),
            counting: tokio::sync::Mutex::default(),
        };
        let mut looks = FuturesUnordered::new();
        let mut pause = std::pin::pin!(tokio::time::sleep(every));
        loop {
            tokio::select! {
                Some(()) = looks.next() => {}
                () = &mut pause => {
                    for provisioner in self.registry.list() {
                        if provisioner.supports(Interface::Healing) {
                            looks.push(healer.heal(provisioner).boxed());
                        }
                    }
                    pause.set(tokio::time::sleep(every));
                }
            }
        }
    }

    /// Whether an app is this provisioner's: a plugin has no say in the apps of others.
    async fn is_app_of(&self, app: &str, provisioner: &str) -> bool {
        match self.store.app(app).await {
            Ok(Some(record)) if record.provisioner == provisioner => true,
            Ok(_) => {
                tracing::warn!(
                    provisioner,
                    app,
                    "tells of ill units of an app that is not its own"
                );
                false
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "cannot look at apps");
                false
            }
        }
    }

    /// Has a unit replaced; none when that waits.
    async fn heal_unit(self: &Arc<Self>, unit: SickUnit) -> Option<String> {
        let SickUnit { app_name, id, reason, node_given_up } = unit;
        if self.operations.is_locked(&of_app(&app_name)) {
            tracing::debug!(app = app_name, unit = id, "ill, and being changed anyway");
            return None;
        }
        // Those of a machine that was given up do not count.
        let count =
            self.store.count_operations(HEAL_UNIT, "node_given_up", false, self.lately()).await;
        if !node_given_up && self.is_too_much(count) {
            tracing::warn!(app = app_name, unit = id, reason, "ill; too many were replaced lately");
            return None;
        }
        let detail = json!({"unit": id, "reason": reason, "node_given_up": node_given_up});
        let work = move |change: super::units::Change| async move {
            let title = || format!("could not replace a unit of `{}`", change.record.app.name);
            let said = format!("unit {id} is ill: {reason}\n");
            change.operation.progress.show(&said);
            let app = &change.record.app;
            let healed = change.provisioner.heal_unit(&change.operation, app, &id).await;
            match healed.or_problem(title)? {
                Some(new) => Ok(json!({"replaced": id, "by": new})),
                None => {
                    change.operation.progress.show("it is well again, or gone\n");
                    Ok(json!({}))
                }
            }
        };
        let begun = self.change(healer(), HEAL_UNIT, &app_name, detail, work).await;
        logged(begun)
    }

    async fn give_up(
        self: &Arc<Self>,
        provisioner: &Provisioner,
        node: NotedNode,
    ) -> Option<String> {
        let NotedNode { address, reason } = node;
        let same = address.clone();
        let count = self.store.count_operations(GIVE_UP_NODE, "address", same, self.lately()).await;
        if self.is_too_much(count) {
            tracing::warn!(node = address, reason, "dead; it was given up too often lately");
            return None;
        }
        let detail = json!({"address": address, "reason": reason});
        let request = node_request(GIVE_UP_NODE, healer(), provisioner, &address, detail);
        let (service, provisioner) = (Arc::clone(self), provisioner.clone());
        let begun = self.operations.begin(request, move |work| async move {
            let title = || format!("could not give up the node `{address}`");
            let operation = &work.operation;
            operation.progress.show(&format!("node {address} does not answer: {reason}\n"));
            let given_up = provisioner.give_up_node(operation, &address).await;
            let given_up = given_up.or_problem(title)?;
            service.reroute(provisioner.name()).await;
            let said = if given_up {
                "its units are replaced on other nodes\n"
            } else {
                "it answers after all\n"
            };
            operation.progress.show(said);
            Ok(json!({"address": address, "given_up": given_up}))
        });
        logged(begun.await.or_problem(|| "could not give up a node".to_owned()))
    }

    async fn take_back(
        self: &Arc<Self>,
        provisioner: &Provisioner,
        node: NotedNode,
    ) -> Option<String> {
        let NotedNode { address, reason } = node;
        let detail = json!({"address": address, "reason": reason});
        let request = node_request(TAKE_BACK_NODE, healer(), provisioner, &address, detail);
        let (service, provisioner) = (Arc::clone(self), provisioner.clone());
        let begun = self.operations.begin(request, move |work| async move {
            let title = || format!("could not take back the node `{address}`");
            let back = provisioner.take_back_node(&work.operation, &address).await;
            let back = back.or_problem(title)?;
            if back {
                service.try_units_again();
            }
            service.reroute(provisioner.name()).await;
            Ok(json!({"address": address, "taken_back": back}))
        });
        logged(begun.await.or_problem(|| "could not take back a node".to_owned()))
    }

    /// Lets no ill unit wait any longer: there may be room now.
    pub(super) fn try_units_again(&self) {
        self.unhealed.lock().keep(|_| false);
    }

    /// When the while began of which the operations count.
    fn lately(&self) -> i64 {
        let span = i64::try_from(self.config.healing.per.as_millis()).unwrap_or(i64::MAX);
        clock::now().saturating_sub(span)
    }

    /// Whether as much was healed in a while as may be: something that dies again and again is no accident.
    fn is_too_much(&self, count: Result<u32, StoreError>) -> bool {
        match count {
            Ok(count) => count >= self.config.healing.most,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "cannot look at operations");
                true
            }
        }
    }
}

fn healer() -> Caller {
    Caller { who: HEALER.to_owned(), ..Caller::default() }
}

/// Nobody waits for what does not begin: it is found again with the next look.
fn logged(begun: Result<String, Problem>) -> Option<String> {
    match begun {
        Ok(operation) => Some(operation),
        Err(problem) => {
            let Problem { title, detail, kind, .. } = problem;
            if kind != ProblemKind::Busy {
                tracing::warn!(title, detail, "nothing is healed");
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(app: &str, id: &str) -> SickUnit {
        SickUnit { app_name: app.into(), id: id.into(), ..SickUnit::default() }
    }

    fn node(address: &str) -> NotedNode {
        NotedNode { address: address.into(), ..NotedNode::default() }
    }

    #[test]
    fn what_is_under_way_does_not_begin_again() {
        let all = UnderWay::default();
        let web = all.begin("web".to_owned());
        assert!(web.is_some() && all.begin("web".to_owned()).is_none());
        assert!(all.begin("api".to_owned()).is_some());
        drop(web);
        assert!(all.begin("web".to_owned()).is_some());
    }

    #[test]
    fn the_units_of_an_app_are_kept_together_and_in_order() {
        let apps = by_app(vec![unit("web", "2"), unit("api", "1"), unit("web", "0")]);
        let web = vec![unit("web", "2"), unit("web", "0")];
        assert_eq!(apps, [("api".into(), vec![unit("api", "1")]), ("web".into(), web)].into());
    }

    fn of_units(units: Vec<SickUnit>) -> Findings {
        Findings { units, ..Findings::default() }
    }

    #[test]
    fn a_unit_that_finds_no_room_for_a_night_is_tried_a_few_times_an_hour() {
        let healing = Healing { every: Duration::from_secs(30), ..Healing::default() };
        let (unhealed, began) = (unhealed(&healing), Instant::now());
        let mut tries = Vec::new();
        // Twelve hours.
        for look in 0..1440 {
            let now = began + look * healing.every;
            let found = of_units(vec![unit("web", "1")]);
            let due = due(&mut unhealed.lock(), "docker", found, now);
            for unit in due.units {
                unhealed.lock().failed(place("docker", &unit), now);
                tries.push(look);
            }
        }
        assert_eq!(tries[..8], [0, 1, 3, 7, 15, 31, 51, 71]);
        assert_eq!(tries.len(), 76);
    }

    #[test]
    fn a_unit_that_was_well_meanwhile_does_not_wait_and_no_other_is_held_up() {
        let every = Duration::from_secs(30);
        let (mut stuck, now) = (Stuck::new(every, LONGEST), Instant::now());
        let (web, api) = (unit("web", "1"), unit("api", "1"));
        for name in ["docker", "other"] {
            stuck.failed(place(name, &web), now);
        }
        let both = || of_units(vec![web.clone(), api.clone()]);
        let one = || of_units(vec![api.clone()]);
        assert_eq!(due(&mut stuck, "docker", both(), now), one());
        assert_eq!(due(&mut stuck, "docker", one(), now), one());
        assert_eq!(due(&mut stuck, "docker", both(), now), both());
        // Each provisioner tells of its own units only.
        assert_eq!(due(&mut stuck, "other", of_units(vec![web.clone()]), now).units, []);
    }

    #[test]
    fn a_node_of_which_something_does_not_go_is_tried_a_few_times_an_hour() {
        let every = Duration::from_secs(30);
        let (mut tried, began) = (Stuck::new(every, LONGEST), Instant::now());
        let found = || Findings { recovered: vec![node("a"), node("b")], ..Findings::default() };
        let mut looks = Vec::new();
        // An hour, in which the one is found with every look and the other with every second.
        for look in 0..120 {
            let now = began + look * every;
            let mut findings = found();
            findings.recovered.truncate(if look % 2 == 0 { 2 } else { 1 });
            for node in due_nodes(&mut tried, "docker", findings, now).recovered {
                tried.failed(node_place("docker", &node), now);
                looks.push((node.address, look));
            }
        }
        let of = |address: &str| -> Vec<u32> {
            looks.iter().filter(|(node, _)| node == address).map(|(_, look)| *look).collect()
        };
        assert_eq!(of("a"), [0, 1, 3, 7, 15, 31, 51, 71, 91, 111]);
        assert_eq!(of("b").len(), 60, "it was well meanwhile");
        // Each provisioner tells of its own nodes only.
        assert_eq!(due_nodes(&mut tried, "other", found(), began), found());
    }

    #[test]
    fn a_plugin_that_finds_very_much_is_heard_in_parts() {
        let findings = || Findings {
            units: vec![unit("web", "1"), unit("web", "2"), unit("web", "3")],
            dead: vec![node("a"), node("b")],
            recovered: vec![node("c")],
        };
        let counts = |most| {
            let Findings { units, dead, recovered } = at_most(most, findings());
            (dead.len(), recovered.len(), units.len())
        };
        assert_eq!([counts(1), counts(3), counts(5)], [(1, 0, 0), (2, 1, 0), (2, 1, 2)]);
        assert_eq!(at_most(MOST, findings()), findings());
    }
}

//! Routers: what they route, the swap of two apps, and routes that follow the units.
//!
//! A plugin may add and remove routes itself, in the middle of what it does. What counts in the end is what its provisioner says: after every change of an app its routes are made the
//! addresses at which it can be reached. What cannot be asked then is asked again, and holds nothing up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use gantry_core::yaml::RouterHealthcheck;
use gantry_core::{App, AppRouter};
use gantry_engine::routers::{ROUTES, added, check_healthcheck, is_address};
use gantry_engine::{Images, Operation};
use serde_json::{Value, json};

use super::{OrProblem, Service, app_lock, not_found};
use crate::api::{Problem, ProblemKind, Router, RouterInfo, RoutesChanged, RoutingTable, Swap};
use crate::clock;
use crate::near;
use crate::operation::{Caller, Request, of_app};
use crate::store::{AppRecord, NotSwapped, RoutesOf, RoutesRecord, StoreError};

/// How long a provisioner has to say where an app is reached. A change of the app waits for it; who is slower is asked again beside it.
const ASKED: Duration = Duration::from_secs(10);

/// How often routes that change while they are looked at are looked at again at once.
const TRIES: usize = 5;

/// How many apps are looked at side by side.
const AT_ONCE: usize = 8;

/// How long the swap of two apps may take.
const SWAP: Duration = Duration::from_secs(60);

impl Service {
    /// The routers, by name.
    pub(crate) async fn routers(&self) -> Result<Vec<Router>, Problem> {
        let counts = self.store.count_routes().await;
        let counts = counts.or_problem(|| "could not list the routers".to_owned())?;
        let counted = |router: Router| {
            let (apps, routes) = counts.get(&router.name).copied().unwrap_or_default();
            Router { apps, routes, ..router }
        };
        Ok(self.routing.routers().map(counted).collect())
    }

    /// A router with what it routes.
    pub(crate) async fn router(&self, name: &str) -> Result<RouterInfo, Problem> {
        let Some(router) = self.routing.routers().find(|router| router.name == name) else {
            return Err(self.no_router(name));
        };
        let table = self.store.routing_table(Some(name)).await;
        let (_, records) = table.or_problem(|| format!("could not read the router `{name}`"))?;
        let routes = records.iter().map(|record| record.addresses.len()).sum();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let router = Router { apps: count(records.len()), routes: count(routes), ..router };
        let items = records.into_iter().map(|record| self.routing.resource(record)).collect();
        Ok(RouterInfo { router, items })
    }

    /// The routing table, and what tells it from every other one.
    pub(crate) async fn routing_table(&self) -> Result<(String, RoutingTable), Problem> {
        let table = self.store.routing_table(None).await;
        let (generation, records) =
            table.or_problem(|| "could not read the routing table".to_owned())?;
        let items = records.into_iter().map(|record| self.routing.resource(record)).collect();
        Ok((self.routing.tag(generation), RoutingTable { generation, items }))
    }

    /// What tells the routing table that there is now from every other one; nothing is read for it.
    pub(crate) fn routing_tag(&self) -> String {
        self.routing.tag(*self.store.generations().borrow())
    }

    /// The routing tables as they come, each with what tells it from every other one, if there is another one than `after` from now on.
    pub(crate) fn follow_routes(
        &self,
        after: Option<&str>,
    ) -> BoxStream<'static, (String, RoutesChanged)> {
        let mut known = self.store.generations();
        // A reader that has seen none is told which there is; one of another store or configuration, too.
        let now = *known.borrow_and_update();
        if after != Some(&*self.routing.tag(now)) {
            known.mark_changed();
        }
        let routing = self.routing.clone();
        stream::unfold((known, routing), |(mut known, routing)| async move {
            known.changed().await.ok()?;
            let generation = *known.borrow_and_update();
            let told = (routing.tag(generation), RoutesChanged { generation });
            Some((told, (known, routing)))
        })
        .boxed()
    }

    fn no_router(&self, name: &str) -> Problem {
        not_found("router", name, near::nearest(name, self.routing.names()))
            .hint_if_none("`gantry router list` lists the routers")
    }

    /// The routers of a new app: these, or the default one when none are named.
    pub(super) fn routers_of_new(
        &self,
        named: Option<Vec<String>>,
    ) -> Result<Vec<AppRouter>, Problem> {
        let named = named.unwrap_or_else(|| {
            self.routing.default_router().map(str::to_owned).into_iter().collect()
        });
        let mut routers: Vec<AppRouter> = Vec::new();
        for name in named {
            if self.routing.looks(&name).is_none() {
                return Err(self.no_router(&name));
            }
            if routers.iter().all(|router| router.name != name) {
                routers.push(AppRouter { name, ..AppRouter::default() });
            }
        }
        Ok(routers)
    }

    /// Gives an app routers, and takes others from it.
    pub(crate) async fn change_routers(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        add: Vec<String>,
        remove: Vec<String>,
    ) -> Result<String, Problem> {
        let title = format!("could not change the routers of `{app}`");
        let new = self.routers_of_new(Some(add))?;
        if let Some(both) = new.iter().find(|router| remove.contains(&router.name)) {
            return Err(Problem::new(ProblemKind::Invalid, title)
                .because(format!("`{}` cannot be added and removed at once", both.name)));
        }
        let names: Vec<&str> = new.iter().map(|router| router.name.as_str()).collect();
        let detail = json!({"add": names, "remove": remove});
        self.change(caller, "app-routers", app, detail, move |change| async move {
            let AppRecord { app, mut routers, .. } = change.record;
            for name in &remove {
                if routers.iter().all(|router| router.name != *name) {
                    return Err(Problem::new(ProblemKind::NotFound, title)
                        .because(format!("the app has no router `{name}`"))
                        .hint(format!("`gantry app info {}` shows its routers", app.name)));
                }
            }
            // On another router they would not be swapped, and a swap would exchange which one that is.
            change.service.refuse_swapped(&app.name, title.clone()).await?;
            routers.retain(|router| !remove.contains(&router.name));
            for router in new {
                if routers.iter().all(|there| there.name != router.name) {
                    routers.push(router);
                }
            }
            let names: Vec<String> = routers.iter().map(|router| router.name.clone()).collect();
            let set = change.service.store.set_routers(&app.name, routers, clock::now()).await;
            set.or_problem(|| title).map(|()| json!({"routers": names}))
        })
        .await
    }

    /// Exchanges the names of two apps on all of their routers: what is sent to the one goes to the other. Once more exchanges them back.
    pub(crate) async fn swap_apps(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        Swap { other }: Swap,
    ) -> Result<String, Problem> {
        let title = format!("could not swap `{app}` and `{other}`");
        if app == other {
            return Err(Problem::new(ProblemKind::Invalid, title)
                .because("they are one app")
                .hint("`gantry app list` lists the others"));
        }
        let record = self.record(app).await?;
        self.record(&other).await?;
        let request = Request {
            verb: "app-swap",
            app: Some(app.to_owned()),
            plugin: Some(record.provisioner),
            digest: None,
            detail: json!({"other": other}),
            lock: app_lock(app),
            time: SWAP,
            caller,
        };
        let (service, app, why) = (Arc::clone(self), app.to_owned(), title.clone());
        let also = app_lock(&other);
        let begun = self.operations.begin_with(request, also, move |_| async move {
            service.swap(&app, &other, why).await
        });
        begun.await.or_problem(|| title)
    }

    async fn swap(&self, app: &str, other: &str, title: String) -> Result<Value, Problem> {
        let (one, two) = (self.record(app).await?, self.record(other).await?);
        let names = |record: &AppRecord| -> BTreeSet<String> {
            record.routers.iter().map(|router| router.name.clone()).collect()
        };
        let (routers, others) = (names(&one), names(&two));
        if routers.is_empty() || routers != others {
            let told = |names: &BTreeSet<String>| match names.is_empty() {
                true => "none".to_owned(),
                false => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
            };
            return Err(Problem::new(ProblemKind::Conflict, title)
                .because(format!(
                    "they are not reached through the same routers: `{app}` has {}, `{other}` has {}",
                    told(&routers),
                    told(&others)
                ))
                .hint(format!("`gantry app update {app} --add-router NAME` gives it one")));
        }
        let routers: Vec<String> = routers.into_iter().collect();
        let swapped_now = self.store.swap_routes(routers.clone(), app, other, clock::now()).await;
        match swapped_now.or_problem(|| title.clone())? {
            Ok(()) => {}
            Err(NotSwapped::With { app, other }) => return Err(swapped(title, &app, &other)),
            Err(NotSwapped::NotOn { router, app }) => {
                return Err(Problem::new(ProblemKind::Internal, title)
                    .because(format!("`{app}` has no place on the router `{router}`")));
            }
        }
        let routes = self.store.routes_of(app).await.or_problem(|| title)?;
        let is_swapped = routes.iter().any(|routes| routes.swapped_with().is_some());
        Ok(json!({"routers": routers, "swapped": is_swapped}))
    }

    /// Refuses the removal of an app that is swapped: the other one would lose the name that people know it by.
    pub(super) async fn refuse_swapped(&self, app: &str, title: String) -> Result<(), Problem> {
        let routes = self.store.routes_of(app).await.or_problem(|| title.clone())?;
        match routes.iter().find_map(RoutesRecord::swapped_with) {
            Some(other) => Err(swapped(title, app, other)),
            None => Ok(()),
        }
    }

    /// A change of an app begins: should the daemon not come to its end, its routes are looked at then.
    pub(super) async fn mark_routes(&self, app: &str) {
        if let Err(error) = self.routing.mark(RoutesOf::App(app)).await {
            tracing::error!(app, error = &error as &dyn std::error::Error, "could not mark routes");
        }
    }

    /// The machines of a provisioner have changed: so may have where its apps are reached.
    pub(super) async fn reroute(&self, provisioner: &str) {
        if let Err(error) = self.routing.mark(RoutesOf::Provisioner(provisioner)).await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(provisioner, error, "could not mark routes");
        }
        self.routing.look();
    }

    /// Something has changed of the units of an app beside its operations, as when what one of them left is removed: so may have where it is reached.
    pub(crate) async fn reroute_app(&self, app: &str) {
        self.mark_routes(app).await;
        self.routing.look();
    }

    /// The change of an app ends: its routes become where it is reached. That they do not is told, and tried again; it makes no failure of the change.
    pub(super) async fn settle_routes(&self, operation: &Operation, app: &str) {
        let Err(problem) = self.rebuild_routes(app).await else { return };
        let why = if problem.detail.is_empty() { problem.title } else { problem.detail };
        operation.progress.show(&format!(
            "warning: the routes are not those of the units yet: {why}; they are tried again by themselves\n"
        ));
    }

    /// Looks at the routes of marked apps for ever: when somebody says so, and now and then.
    pub(crate) async fn keep_routing(&self, pause: Duration) {
        loop {
            self.rebuild_marked().await;
            tokio::select! {
                () = self.routing.looked() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Rebuilds the routes of the apps that are marked, but of those that are being changed: that ends with the same.
    async fn rebuild_marked(&self) {
        let marked = match self.store.marked_routes().await {
            Ok(marked) => marked,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot look at routes");
                return;
            }
        };
        let idle = marked.into_iter().filter(|one| !self.operations.is_locked(&of_app(&one.app)));
        let rebuilt = stream::iter(idle).map(async |one| {
            let problem = self.rebuild_routes(&one.app).await.err()?;
            tracing::debug!(
                app = one.app,
                title = problem.title,
                detail = problem.detail,
                "no routes"
            );
            Some(())
        });
        let failed = rebuilt.buffer_unordered(AT_ONCE).filter_map(std::future::ready).count().await;
        if failed > 0 {
            tracing::warn!(apps = failed, "routes are not those of the units yet; trying again");
        }
    }

    /// Makes the routes of an app the addresses at which it is reached.
    async fn rebuild_routes(&self, app: &str) -> Result<(), Problem> {
        let title = || format!("could not rebuild the routes of `{app}`");
        for _ in 0..TRIES {
            // Before anything is asked: what is marked or changed from here on is not settled by the answer.
            let mark = self.store.route_mark(app).await.or_problem(title)?;
            let Some(record) = self.store.app(app).await.or_problem(title)? else { return Ok(()) };
            let mut routes = self.store.routes_of(app).await.or_problem(title)?;
            if !routes.is_empty() {
                let (provisioner, place) = self.serving_place(record).await.or_problem(title)?;
                let addresses = self.reached_at(&provisioner, &place, title).await?;
                let healthcheck = self.healthcheck(&provisioner, &place).await.or_problem(title)?;
                for route in &mut routes {
                    rebuild(route, &addresses);
                    if self.routing.looks(&route.router) == Some(true) && healthcheck.is_some() {
                        route.healthcheck.clone_from(&healthcheck);
                    }
                }
            }
            let settled = self.store.settle_routes(app, mark, routes, clock::now()).await;
            if settled.or_problem(title)? {
                return Ok(());
            }
        }
        Err(Problem::new(ProblemKind::Conflict, title()).because("they keep changing"))
    }

    /// The addresses at which an app is reached, as far as a route can go there.
    async fn reached_at(
        &self,
        provisioner: &str,
        app: &App,
        title: impl Fn() -> String,
    ) -> Result<Vec<String>, Problem> {
        let operation = Operation::new(String::new(), ASKED);
        let told = self.provisioner(provisioner)?.routable_addresses(&operation, app).await;
        let mut addresses = told.or_problem(title)?;
        let all = addresses.len();
        addresses.retain(|address| is_address(address));
        addresses.truncate(ROUTES);
        let unfit = all.saturating_sub(addresses.len());
        if unfit > 0 {
            // A fault of the plugin, which nobody who deploys can do anything about.
            tracing::warn!(app = app.name, provisioner, unfit, "no route goes to these addresses");
        }
        Ok(addresses)
    }

    /// Where an app serves: of one that is on its way between pools, where it has been deployed last.
    async fn serving_place(&self, record: AppRecord) -> Result<(String, App), StoreError> {
        let AppRecord { app, provisioner, .. } = record;
        Ok(match self.store.move_of(&app.name).await? {
            Some(begun) if begun.deployed => {
                (begun.to_provisioner, App { pool: begun.to_pool, ..app })
            }
            Some(_) | None => (provisioner, app),
        })
    }

    /// What the image of an app says to routers about health checks; none without an image of which something is known.
    async fn healthcheck(
        &self,
        provisioner: &str,
        app: &App,
    ) -> Result<Option<RouterHealthcheck>, gantry_core::Error> {
        let platform = self.platform(provisioner);
        let images = self.store.images(&app.name).await;
        let images = images.map_err(|error| gantry_core::Error::Unavailable(error.to_string()))?;
        let Some(image) = images.last() else { return Ok(None) };
        let metadata = platform.metadata(image).await?;
        let check = metadata.map(|metadata| metadata.healthcheck.to_router());
        // One that no router can be told is as good as none.
        Ok(check.filter(|check| check_healthcheck(check).is_ok()))
    }
}

/// Makes these the routes: those that are missing come behind those that stay.
fn rebuild(route: &mut RoutesRecord, addresses: &[String]) {
    let wanted: BTreeSet<&String> = addresses.iter().collect();
    let mut stay = std::mem::take(&mut route.addresses);
    stay.retain(|address| wanted.contains(address));
    // They are no more than an app may have.
    route.addresses = added(stay, addresses).unwrap_or_else(|_| addresses.to_vec());
}

fn swapped(title: String, app: &str, other: &str) -> Problem {
    Problem::new(ProblemKind::Conflict, title)
        .because(format!("`{app}` is swapped with `{other}`"))
        .hint(format!("swap them back first: `gantry app swap {app} {other}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_that_stay_keep_their_place() {
        let texts = |texts: &[&str]| -> Vec<String> { texts.iter().map(|&t| t.into()).collect() };
        let mut route = RoutesRecord { addresses: texts(&["c", "x", "a"]), ..Default::default() };
        rebuild(&mut route, &texts(&["a", "b", "c"]));
        assert_eq!(route.addresses, ["c", "a", "b"]);
        rebuild(&mut route, &[]);
        assert_eq!(route.addresses, [""; 0]);
    }
}

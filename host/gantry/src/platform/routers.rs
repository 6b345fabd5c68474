//! The routes to apps, as one provisioner sees them: those of its own apps, on the routers that they have.

use async_trait::async_trait;
use gantry_core::Error;
use gantry_core::yaml::RouterHealthcheck;
use gantry_engine::Routers;
use gantry_engine::routers::{added, not_on, removed, swapped_with};

use super::{Platform, unavailable};
use crate::clock;
use crate::store::{NotSwapped, RoutesRecord};

impl Platform {
    /// An app of the provisioner has a router, and there is one of this name; gives whether it looks whether units work.
    async fn has_router(&self, router: &str, app: &str) -> Result<bool, Error> {
        let record = self.record(app).await?;
        if record.routers.iter().all(|of_app| of_app.name != router) {
            return Err(not_on(router, app));
        }
        self.routing
            .looks(router)
            .ok_or_else(|| Error::NotFound(format!("the configuration has no router `{router}`")))
    }

    async fn edit_routes(
        &self,
        router: &str,
        app: &str,
        edit: impl FnOnce(&mut RoutesRecord) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let edited = self.store.edit_routes(router, app, clock::now(), edit).await;
        edited.map_err(unavailable)?.unwrap_or_else(|| Err(not_on(router, app)))
    }
}

#[async_trait]
impl Routers for Platform {
    async fn add_routes(&self, router: &str, app: &str, addresses: &[String]) -> Result<(), Error> {
        self.has_router(router, app).await?;
        let more = addresses.to_vec();
        self.edit_routes(router, app, move |routes| {
            routes.addresses = added(std::mem::take(&mut routes.addresses), &more)?;
            Ok(())
        })
        .await
    }

    async fn remove_routes(
        &self,
        router: &str,
        app: &str,
        addresses: &[String],
    ) -> Result<(), Error> {
        self.has_router(router, app).await?;
        let less = addresses.to_vec();
        self.edit_routes(router, app, move |routes| {
            routes.addresses = removed(std::mem::take(&mut routes.addresses), &less);
            Ok(())
        })
        .await
    }

    async fn routes(&self, router: &str, app: &str) -> Result<Vec<String>, Error> {
        self.has_router(router, app).await?;
        let found = self.store.routes_on(router, app).await.map_err(unavailable)?;
        found.map(|routes| routes.addresses).ok_or_else(|| not_on(router, app))
    }

    async fn swap(&self, router: &str, app: &str, other: &str) -> Result<(), Error> {
        self.has_router(router, app).await?;
        self.has_router(router, other).await?;
        let routers = vec![router.to_owned()];
        let swapped = self.store.swap_routes(routers, app, other, clock::now()).await;
        swapped.map_err(unavailable)?.map_err(|why| match why {
            NotSwapped::NotOn { router, app } => not_on(&router, &app),
            NotSwapped::With { app, other } => swapped_with(&app, &other),
        })
    }

    async fn set_healthcheck(
        &self,
        router: &str,
        app: &str,
        healthcheck: &RouterHealthcheck,
    ) -> Result<bool, Error> {
        if !self.has_router(router, app).await? {
            return Ok(false);
        }
        let healthcheck = healthcheck.clone();
        self.edit_routes(router, app, move |routes| {
            routes.healthcheck = Some(healthcheck);
            Ok(())
        })
        .await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gantry_core::{App, AppRouter};
    use gantry_engine::routers::too_many;

    use super::*;
    use crate::config::{Config, Environment, Overrides};
    use crate::platform::no_app;
    use crate::routing::Routing;
    use crate::store::{AppRecord, Store};

    const CONFIG: &str =
        "[routers.edge]\ndomain = \"apps.example.com\"\n[routers.blind]\nhealthcheck = false\n";

    /// The apps `web` and `api` of `docker` on every router, and on one that the configuration has no more.
    async fn store() -> (tempfile::TempDir, Arc<Store>, Routing) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gantry.toml");
        std::fs::write(&file, CONFIG).unwrap();
        let overrides = Overrides { file: Some(file), ..Overrides::default() };
        let config = Config::load(&overrides, &Environment::of([("HOME", "/nowhere")])).unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        for name in ["web", "api"] {
            let router = |name: &str| AppRouter { name: name.into(), ..AppRouter::default() };
            let record = AppRecord {
                app: App { name: name.into(), ..App::default() },
                provisioner: "docker".into(),
                routers: ["edge", "blind", "gone"].map(router).into(),
                ..AppRecord::default()
            };
            store.insert_app(record).await.unwrap();
        }
        let routing = Routing::new(Arc::clone(&store), &config);
        (folder, store, routing)
    }

    fn of(store: &Arc<Store>, routing: &Routing, provisioner: &str) -> Platform {
        Platform::new(Arc::clone(store), provisioner, &()).with_routing(routing)
    }

    fn check() -> RouterHealthcheck {
        RouterHealthcheck { path: "/up".into(), status: 200, body: String::new() }
    }

    #[tokio::test]
    async fn the_routes_of_another_provisioners_app_are_not_there() {
        let (_folder, store, routing) = store().await;
        let docker = of(&store, &routing, "docker");
        let acme = of(&store, &routing, "acme");
        let route = ["http://h:1".to_owned()];
        docker.add_routes("edge", "web", &route).await.unwrap();
        let not_there = Err(no_app("web"));
        assert_eq!(acme.add_routes("edge", "web", &route).await, not_there);
        assert_eq!(acme.remove_routes("edge", "web", &route).await, not_there);
        assert_eq!(acme.routes("edge", "web").await.map(drop), not_there);
        assert_eq!(acme.swap("edge", "web", "api").await, not_there);
        assert_eq!(acme.set_healthcheck("edge", "web", &check()).await.map(drop), not_there);
        assert_eq!(docker.routes("edge", "web").await.unwrap(), route);
        // Nor is one of its own swapped with it.
        let own = AppRecord {
            app: App { name: "own".into(), ..App::default() },
            provisioner: "acme".into(),
            routers: vec![AppRouter { name: "edge".into(), ..AppRouter::default() }],
            ..AppRecord::default()
        };
        store.insert_app(own).await.unwrap();
        assert_eq!(acme.swap("edge", "own", "web").await, not_there);
    }

    #[tokio::test]
    async fn a_router_is_one_of_the_app_and_of_the_configuration() {
        let (_folder, store, routing) = store().await;
        let docker = of(&store, &routing, "docker");
        let route = ["http://h:1".to_owned()];
        let not_on = docker.add_routes("side", "web", &route).await;
        assert_eq!(not_on, Err(super::not_on("side", "web")));
        let gone = docker.add_routes("gone", "web", &route).await.unwrap_err();
        assert_eq!(gone.to_string(), "the configuration has no router `gone`");
        let routers = gantry_engine::Apps::routers(&docker, "web").await.unwrap();
        let shown: Vec<_> = routers
            .iter()
            .map(|one| (&*one.name, &*one.kind, &*one.address, &*one.status, &*one.status_detail))
            .collect();
        assert_eq!(
            shown,
            [
                ("edge", "table", "web.apps.example.com", "ready", ""),
                ("blind", "table", "", "ready", ""),
                ("gone", "", "", "", "the configuration has no such router"),
            ]
        );
    }

    #[tokio::test]
    async fn an_app_has_as_many_routes_as_it_may() {
        let (_folder, store, routing) = store().await;
        let docker = of(&store, &routing, "docker");
        let many: Vec<String> = (0..10_000).map(|port| format!("http://h:{}", port + 1)).collect();
        docker.add_routes("edge", "web", &many).await.unwrap();
        let more = ["http://other:1".to_owned()];
        assert_eq!(docker.add_routes("edge", "web", &more).await, Err(too_many()));
        assert_eq!(docker.routes("edge", "web").await.unwrap(), many);
    }

    #[tokio::test]
    async fn a_router_is_told_of_health_checks_when_it_looks() {
        let (_folder, store, routing) = store().await;
        let docker = of(&store, &routing, "docker");
        assert_eq!(docker.set_healthcheck("blind", "web", &check()).await, Ok(false));
        assert_eq!(docker.set_healthcheck("edge", "web", &check()).await, Ok(true));
        let told = store.routes_of("web").await.unwrap();
        let told: Vec<_> = told.into_iter().map(|one| (one.router, one.healthcheck)).collect();
        assert_eq!(
            told,
            [
                ("blind".to_owned(), None),
                ("edge".to_owned(), Some(check())),
                ("gone".to_owned(), None),
            ]
        );
    }
}

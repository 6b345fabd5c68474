//! The routes to the apps in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use gantry_core::Error;
use gantry_core::yaml::RouterHealthcheck;

use super::{AppRecord, Platform};
use crate::Routers;
use crate::routers::{added, not_on, removed, swapped_with};

/// The routes to an app on one of its routers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutesRecord {
    /// The app that it is swapped with.
    pub swapped_with: Option<String>,
    /// The addresses, in order.
    pub addresses: Vec<String>,
    /// How the router finds out whether units work.
    pub healthcheck: Option<RouterHealthcheck>,
}

impl Platform {
    /// The same with a router that does not look whether units work.
    #[must_use]
    pub fn without_healthcheck(self, router: &str) -> Self {
        self.lock().unchecked.insert(router.to_owned());
        self
    }

    fn on_router<T>(
        &self,
        router: &str,
        app: &str,
        answer: impl FnOnce(&mut RoutesRecord) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.with_app(app, |record| answer(record.on(router)?))
    }
}

impl AppRecord {
    fn on(&mut self, router: &str) -> Result<&mut RoutesRecord, Error> {
        if self.routers.iter().all(|of_app| of_app.name != router) {
            return Err(not_on(router, &self.app.name));
        }
        Ok(self.routes.entry(router.to_owned()).or_default())
    }
}

#[async_trait]
impl Routers for Platform {
    async fn add_routes(&self, router: &str, app: &str, addresses: &[String]) -> Result<(), Error> {
        self.on_router(router, app, |routes| {
            routes.addresses = added(routes.addresses.clone(), addresses)?;
            Ok(())
        })
    }

    async fn remove_routes(
        &self,
        router: &str,
        app: &str,
        addresses: &[String],
    ) -> Result<(), Error> {
        self.on_router(router, app, |routes| {
            routes.addresses = removed(std::mem::take(&mut routes.addresses), addresses);
            Ok(())
        })
    }

    async fn routes(&self, router: &str, app: &str) -> Result<Vec<String>, Error> {
        self.on_router(router, app, |routes| Ok(routes.addresses.clone()))
    }

    async fn swap(&self, router: &str, app: &str, other: &str) -> Result<(), Error> {
        let mut kept = self.lock();
        for (one, with) in [(app, other), (other, app)] {
            let third = on(&mut kept.apps, router, one)?.swapped_with.as_deref();
            if let Some(third) = third.filter(|third| *third != with) {
                return Err(swapped_with(one, third));
            }
        }
        for (one, with) in [(app, other), (other, app)] {
            let routes = on(&mut kept.apps, router, one)?;
            routes.swapped_with = routes.swapped_with.is_none().then(|| with.to_owned());
        }
        Ok(())
    }

    async fn set_healthcheck(
        &self,
        router: &str,
        app: &str,
        healthcheck: &RouterHealthcheck,
    ) -> Result<bool, Error> {
        let looks = !self.lock().unchecked.contains(router);
        self.on_router(router, app, |routes| {
            if looks {
                routes.healthcheck = Some(healthcheck.clone());
            }
            Ok(looks)
        })
    }
}

fn on<'a>(
    apps: &'a mut BTreeMap<String, AppRecord>,
    router: &str,
    app: &str,
) -> Result<&'a mut RoutesRecord, Error> {
    match apps.get_mut(app) {
        Some(record) => record.on(router),
        None => Err(Error::NotFound(format!("no app `{app}`"))),
    }
}

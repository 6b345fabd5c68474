//! What services are told of the units of the apps that are bound to them, and what they tell the apps.
//!
//! A unit is written down before a service is told of it, and once more when the service has answered: what is told twice is sent once, and what was sent can be taken back. A service knows
//! a unit by its host only, so it hears that a unit is gone when it was the last one of the app on its host: the others there still need what it gives them.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;
use gantry_core::Unit;
use gantry_core::env::ServiceInstance;

use super::super::problem::Trouble;
use super::endpoint::{BoundApp, Endpoints, ServiceError};
use crate::api::ProblemKind;
use crate::store::{ServiceBind, ServiceRecord, Store, StoreError, Telling, Variables};

/// How many requests go to a service at the same time.
const AT_ONCE: usize = 8;

/// Why a unit is not bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// A service did not do it.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A service knows as many units of the app as it may.
    #[error("the service `{service}` knows {most} units of `{app}`, and may know no more")]
    TooMany {
        /// The service.
        service: String,
        /// The app.
        app: String,
        /// How many it may know.
        most: i64,
    },
}

impl BindError {
    fn is_in_doubt(&self) -> bool {
        match self {
            Self::Service(error) => error.is_in_doubt(),
            // Told, perhaps, before it could not be written down.
            Self::Store(_) => true,
            Self::TooMany { .. } => false,
        }
    }
}

impl Trouble for BindError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::Service(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::TooMany { .. } => ProblemKind::OverLimit,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Service(error) => error.detail(),
            Self::Store(error) => error.detail(),
            Self::TooMany { .. } => self.to_string(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Service(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::TooMany { app, .. } => {
                Some(format!("`gantry unit list {app}` shows how many there are"))
            }
        }
    }
}

/// The services that apps are bound to.
#[derive(Clone)]
pub(crate) struct Bindings {
    store: Arc<Store>,
    endpoints: Endpoints,
}

impl Bindings {
    /// The bindings of a store.
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store, endpoints: Endpoints::new() }
    }

    /// What the services of an app tell it, in the order in which it was bound.
    pub(crate) async fn instances(&self, app: &str) -> Result<Vec<ServiceInstance>, StoreError> {
        let binds = self.store.binds_of_app(app).await?;
        Ok(binds.into_iter().filter_map(|(bind, _)| instance(bind)).collect())
    }

    /// Tells every service of an app about a unit, side by side. When one does not take it, no other knows of it either.
    pub(crate) async fn bind_unit(&self, app: &BoundApp, unit: &Unit) -> Result<(), BindError> {
        let services = self.services(&app.name, |bind| bind.envs.is_some()).await?;
        let told = join_all(services.iter().map(|service| self.tell(service, app, unit))).await;
        if told.iter().all(Result::is_ok) {
            return Ok(());
        }
        let again = services.iter().zip(&told).filter_map(|(service, told)| match told {
            Ok(true) => Some(self.take_back(service, app, unit)),
            // It knew the unit before.
            Ok(false) => None,
            Err(_) => None,
        });
        join_all(again).await;
        told.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
    }

    /// Tells every service of an app that a unit is gone, side by side. What they answer is for the log.
    pub(crate) async fn unbind_unit(&self, app: &BoundApp, unit: &str) -> Result<(), StoreError> {
        let services = self.services(&app.name, |_| true).await?;
        join_all(services.iter().map(|service| self.untell(service, app, unit))).await;
        Ok(())
    }

    async fn services(
        &self,
        app: &str,
        which: impl Fn(&ServiceBind) -> bool,
    ) -> Result<Vec<ServiceRecord>, StoreError> {
        let binds = self.store.binds_of_app(app).await?;
        Ok(binds.into_iter().filter(|(bind, _)| which(bind)).map(|(_, service)| service).collect())
    }

    /// Tells a service about a unit, if it does not know it; whether it did not. A service that does not take it knows nothing of it afterwards.
    async fn tell(
        &self,
        service: &ServiceRecord,
        app: &BoundApp,
        unit: &Unit,
    ) -> Result<bool, BindError> {
        let name = &service.name;
        match self.store.tell_unit(&app.name, name, &unit.id, &unit.ip).await? {
            Telling::New => {}
            Telling::Known => return Ok(false),
            Telling::Full(most) => {
                let (service, app) = (name.clone(), app.name.clone());
                return Err(BindError::TooMany { service, app, most });
            }
        }
        let told = async {
            self.endpoints.bind_unit(service, app, &unit.ip).await?;
            self.store.unit_told(&app.name, name, &unit.id, &unit.ip).await?;
            Ok(true)
        };
        let told: Result<_, BindError> = told.await;
        match &told {
            Ok(_) => {}
            Err(error) if error.is_in_doubt() => self.take_back(service, app, unit).await,
            Err(_) => {
                self.store.forget_unit(&app.name, name, &unit.id).await?;
            }
        }
        told
    }

    async fn take_back(&self, service: &ServiceRecord, app: &BoundApp, unit: &Unit) {
        self.untell(service, app, &unit.id).await;
    }

    /// Tells a service that a unit is gone, if it knows it and no other is on its host.
    async fn untell(&self, service: &ServiceRecord, app: &BoundApp, unit: &str) {
        let forgotten = self.store.forget_unit(&app.name, &service.name, unit).await;
        let told: Result<(), BindError> = match forgotten {
            Ok(None) => Ok(()),
            Ok(Some(host)) => {
                self.endpoints.unbind_unit(service, app, &host).await.map_err(Into::into)
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = told {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(service = service.name, app = app.name, unit, error, "not unbound");
        }
    }

    /// Binds an app at a service, and gives the variables for it.
    pub(super) async fn bind_app(
        &self,
        service: &ServiceRecord,
        app: &BoundApp,
    ) -> Result<Variables, ServiceError> {
        self.endpoints.bind_app(service, app).await
    }

    /// Tells a service about units that it does not know yet.
    pub(super) async fn bind_units(
        &self,
        service: &ServiceRecord,
        app: &BoundApp,
        units: &[Unit],
    ) -> Result<(), BindError> {
        let told: Vec<_> = units.iter().map(|unit| self.tell(service, app, unit)).collect();
        let mut told = futures_util::stream::iter(told).buffer_unordered(AT_ONCE);
        while let Some(told) = told.next().await {
            told?;
        }
        Ok(())
    }

    /// Tells a service about those of these units that it does not know yet, and that others are gone.
    pub(super) async fn settle(
        &self,
        service: &ServiceRecord,
        app: &BoundApp,
        units: &[Unit],
    ) -> Result<(), BindError> {
        let told = self.bind_units(service, app, units).await;
        // One that it does not take keeps none that is gone.
        self.unbind_others(service, app, units).await?;
        told
    }

    async fn unbind_others(
        &self,
        service: &ServiceRecord,
        app: &BoundApp,
        units: &[Unit],
    ) -> Result<(), StoreError> {
        let mut gone = self.store.told_units(&app.name, &service.name).await?;
        gone.retain(|known| units.iter().all(|unit| unit.id != known.unit));
        let told: Vec<_> =
            gone.iter().map(|known| self.untell(service, app, &known.unit)).collect();
        let told = futures_util::stream::iter(told).buffer_unordered(AT_ONCE);
        told.for_each(std::future::ready).await;
        Ok(())
    }

    /// Tells a service that the units are gone that it knows, which comes before the app as in tsuru; gives what failed. Nothing is forgotten here.
    pub(super) async fn unbind_units(
        &self,
        service: &ServiceRecord,
        app: &BoundApp,
    ) -> Result<Vec<ServiceError>, StoreError> {
        let hosts = self.hosts(service, app).await?;
        let unbound: Vec<_> =
            hosts.iter().map(|host| self.endpoints.unbind_unit(service, app, host)).collect();
        let unbound = futures_util::stream::iter(unbound).buffered(AT_ONCE);
        let unbound: Vec<_> = unbound.collect().await;
        Ok(unbound.into_iter().filter_map(Result::err).collect())
    }

    /// Unbinds an app at a service.
    pub(super) async fn unbind_app(
        &self,
        service: &ServiceRecord,
        app: &BoundApp,
    ) -> Result<(), ServiceError> {
        self.endpoints.unbind_app(service, app).await
    }

    /// Unbinds an app with its units at a service, whatever that says; gives what failed. Nothing is forgotten here.
    pub(super) async fn leave(
        &self,
        service: &ServiceRecord,
        app: &BoundApp,
    ) -> Result<Vec<ServiceError>, StoreError> {
        let mut failures = self.unbind_units(service, app).await?;
        failures.extend(self.unbind_app(service, app).await.err());
        Ok(failures)
    }

    /// Tells a service of the units that it knows, after it was told otherwise of some of them. What it answers is for the log.
    pub(super) async fn bind_again(
        &self,
        service: &ServiceRecord,
        app: &BoundApp,
    ) -> Result<(), StoreError> {
        let hosts = self.hosts(service, app).await?;
        let again: Vec<_> =
            hosts.iter().map(|host| self.endpoints.bind_unit(service, app, host)).collect();
        let again: Vec<_> = futures_util::stream::iter(again).buffered(AT_ONCE).collect().await;
        for error in again.into_iter().filter_map(Result::err) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(service = service.name, app = app.name, error, "not bound again");
        }
        Ok(())
    }

    /// What a service knows the units of an app by.
    async fn hosts(
        &self,
        service: &ServiceRecord,
        app: &BoundApp,
    ) -> Result<BTreeSet<String>, StoreError> {
        let known = self.store.told_units(&app.name, &service.name).await?;
        Ok(known.into_iter().map(|unit| unit.host).collect())
    }
}

fn instance(bind: ServiceBind) -> Option<ServiceInstance> {
    let envs = bind.envs?.0;
    // A service is registered under the name that it knows itself by: it is its own only instance.
    Some(ServiceInstance { service: bind.service.clone(), name: bind.service, envs })
}

//! The routers of the configuration over the routing table of the store: who answers where, and whose routes are to be looked at again.
//!
//! ```text
//! a change of the app begins ─► marked ─► plugin adds and removes routes ─► the change ends ─► routes = routable addresses, mark gone
//!                                  │                                             │
//!                                  └─ the daemon dies, or nobody can tell ◄──────┘   the mark stays: looked at again by itself
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_core::AppRouter;
use tokio::sync::Notify;

use crate::api::{AppRoutes, Router};
use crate::clock;
use crate::config::{Config, RouterConfig};
use crate::store::{AppRecord, RoutesOf, RoutesRecord, Store, StoreError};

/// The routers and what they route. Cloning it gives the same.
#[derive(Clone)]
pub(crate) struct Routing {
    store: Arc<Store>,
    routers: Arc<BTreeMap<String, RouterConfig>>,
    default: Option<String>,
    fingerprint: Arc<str>,
    marked: Arc<Notify>,
}

impl Routing {
    /// No router over a store.
    pub(crate) fn none(store: Arc<Store>) -> Self {
        let routers: Arc<BTreeMap<String, RouterConfig>> = Arc::default();
        let fingerprint = fingerprint(&routers);
        Self { store, routers, default: None, fingerprint, marked: Arc::default() }
    }

    /// The routers of a configuration over a store.
    pub(crate) fn new(store: Arc<Store>, config: &Config) -> Self {
        Self {
            routers: Arc::new(config.routers.clone()),
            default: config.default_router.clone(),
            fingerprint: fingerprint(&config.routers),
            ..Self::none(store)
        }
    }

    /// The router of an app that names none.
    pub(crate) fn default_router(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// The names of the routers.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.routers.keys().map(String::as_str)
    }

    /// The routers, by name; how much each routes is not told.
    pub(crate) fn routers(&self) -> impl Iterator<Item = Router> {
        self.routers.iter().map(|(name, router)| Router {
            name: name.clone(),
            kind: router.kind.clone(),
            domain: router.domain.clone(),
            healthcheck: router.healthcheck,
            default: self.default.as_ref() == Some(name),
            apps: 0,
            routes: 0,
        })
    }

    /// Whether a router looks whether units work; none when there is no such router.
    pub(crate) fn looks(&self, router: &str) -> Option<bool> {
        self.routers.get(router).map(|router| router.healthcheck)
    }

    /// Where an app answers that a router serves under a name; empty while nobody can tell.
    fn address(&self, router: &str, name: &str) -> String {
        match self.routers.get(router).map(|router| router.domain.as_str()) {
            Some("") | None => String::new(),
            Some(domain) => format!("{name}.{domain}"),
        }
    }

    /// Tells a routing table from every other one: the same is shown in another way when the configuration is another one.
    pub(crate) fn tag(&self, generation: u64) -> String {
        format!("{generation}-{}", self.fingerprint)
    }

    /// Routes as they go over the wire.
    pub(crate) fn resource(&self, record: RoutesRecord) -> AppRoutes {
        AppRoutes {
            address: self.address(&record.router, &record.name),
            swapped_with: record.swapped_with().map(str::to_owned),
            router: record.router,
            app: record.app,
            name: record.name,
            addresses: record.addresses,
            healthcheck: record.healthcheck,
            generation: record.generation,
            changed: clock::text(record.changed),
        }
    }

    /// The routers of an app, with what is known of each now.
    pub(crate) async fn of_app(&self, record: &AppRecord) -> Result<Vec<AppRouter>, StoreError> {
        let routes = match record.routers.is_empty() {
            true => Vec::new(),
            false => self.store.routes_of(&record.app.name).await?,
        };
        let shown = |router: &AppRouter| {
            let mut router = router.clone();
            match self.routers.get(&router.name) {
                Some(configured) => {
                    configured.kind.clone_into(&mut router.kind);
                    "ready".clone_into(&mut router.status);
                }
                None => {
                    "the configuration has no such router".clone_into(&mut router.status_detail)
                }
            }
            if let Some(routes) = routes.iter().find(|routes| routes.router == router.name) {
                router.address = self.address(&router.name, &routes.name);
            }
            router
        };
        Ok(record.routers.iter().map(shown).collect())
    }

    /// Marks apps whose routes may not be those of their units. What is under way looks at its own app when it ends; the others are looked at soon.
    pub(crate) async fn mark(&self, of: RoutesOf<'_>) -> Result<(), StoreError> {
        self.store.mark_routes(of).await
    }

    /// Somebody may have marked apps that nobody changes: they are looked at now.
    pub(crate) fn look(&self) {
        self.marked.notify_one();
    }

    /// Waits for the next [`look`](Self::look).
    pub(crate) async fn looked(&self) {
        self.marked.notified().await;
    }
}

/// Tells configurations apart in which the same table is shown in another way.
fn fingerprint(routers: &BTreeMap<String, RouterConfig>) -> Arc<str> {
    let digest = gantry_runtime::digest(format!("{routers:?}").as_bytes());
    digest.get(..12).unwrap_or_default().into()
}

//! How people see routers and routes.

use gantry_core::AppRouter;
use gantry_core::yaml::RouterHealthcheck;

use crate::api::{AppRoutes, Router, RouterInfo};
use crate::cli::table::Table;
use crate::cli::ui::Page;

/// The routers.
pub(crate) fn routers(routers: &[Router]) -> Table {
    let mut table = Table::new(["NAME", "TYPE", "DOMAIN", "APPS", "ROUTES", "DEFAULT"]);
    for router in routers {
        table.row([
            router.name.clone(),
            router.kind.clone(),
            router.domain.clone(),
            router.apps.to_string(),
            router.routes.to_string(),
            if router.default { "yes" } else { "" }.to_owned(),
        ]);
    }
    table
}

/// A router with what it routes.
pub(crate) fn router_info(page: &mut Page, info: &RouterInfo) {
    let RouterInfo { router, items } = info;
    page.field("Name", &router.name);
    page.field("Type", &router.kind);
    page.field("Domain", &router.domain);
    page.field("Healthcheck", if router.healthcheck { "yes" } else { "no" });
    page.field("Default", if router.default { "yes" } else { "no" });
    let mut apps = Table::new(["APP", "ADDRESS", "ROUTES", "HEALTHCHECK", "SWAPPED WITH"]);
    let mut routes = Table::new(["APP", "ROUTE"]);
    for item in items {
        apps.row([
            item.app.clone(),
            item.address.clone(),
            item.addresses.len().to_string(),
            item.healthcheck.as_ref().map(healthcheck).unwrap_or_default(),
            item.swapped_with.clone().unwrap_or_default(),
        ]);
        for address in &item.addresses {
            routes.row([item.app.clone(), address.clone()]);
        }
    }
    page.section("Apps", &apps);
    page.section("Routes", &routes);
}

/// The routers of an app, each with what it routes to it.
pub(super) fn of_app(routers: &[AppRouter], routes: &[AppRoutes]) -> Table {
    let mut table = Table::new(["ROUTER", "TYPE", "ADDRESS", "ROUTES", "SWAPPED WITH"]);
    for router in routers {
        let routes = routes.iter().find(|routes| routes.router == router.name);
        let count = routes.map_or(0, |routes| routes.addresses.len());
        let swapped = routes.and_then(|routes| routes.swapped_with.clone());
        table.row([
            router.name.clone(),
            router.kind.clone(),
            router.address.clone(),
            count.to_string(),
            swapped.unwrap_or_default(),
        ]);
    }
    table
}

fn healthcheck(healthcheck: &RouterHealthcheck) -> String {
    let RouterHealthcheck { path, status, body } = healthcheck;
    let mut text = path.clone();
    if *status != 0 {
        text.push_str(&format!(" {status}"));
    }
    if !body.is_empty() {
        text.push_str(&format!(" {body:?}"));
    }
    text
}

//! How people see what the daemon tells.

mod bound;
mod places;
mod routes;

use gantry_core::{Status, Unit};

use super::table::Table;
use super::ui::Page;
use crate::api::{App, AppInfo, AppState, EnvVar, Operation, OperationInfo, Plugin, PluginInfo};

pub(crate) use bound::{plan, plans, service, services};
pub(crate) use places::{
    cluster, clusters, node_container, node_containers, node_info, nodes, pools, volume, volumes,
};
pub(crate) use routes::{router_info, routers};

/// The apps.
pub(crate) fn apps(apps: &[App]) -> Table {
    let mut table = Table::new(["NAME", "POOL", "UNITS", "DEPLOYS", "IMAGE"]);
    for app in apps {
        let units = match app.unit_quota {
            Some(quota) => format!("{}/{quota}", app.units_in_use),
            None => app.units_in_use.to_string(),
        };
        let image = app.image.clone().unwrap_or_default();
        table.row([app.name.clone(), app.pool.clone(), units, app.deploys.to_string(), image]);
    }
    table
}

/// The units of an app.
pub(crate) fn units(units: &[Unit]) -> Table {
    let mut table = Table::new(["UNIT", "NAME", "PROCESS", "STATUS", "ADDRESS"]);
    for unit in units {
        table.row(cells(unit));
    }
    table
}

/// The units of several apps.
pub(crate) fn units_of_apps(units: &[Unit]) -> Table {
    let mut table = Table::new(["APP", "UNIT", "NAME", "PROCESS", "STATUS", "ADDRESS"]);
    for unit in units {
        let [id, name, process, status, address] = cells(unit);
        table.row([unit.app_name.clone(), id, name, process, status, address]);
    }
    table
}

fn cells(unit: &Unit) -> [String; 5] {
    [
        short(&unit.id).to_owned(),
        unit.name.clone(),
        unit.process_name.clone(),
        unit.status.map(status).unwrap_or_default().to_owned(),
        unit.address.clone().unwrap_or_default(),
    ]
}

/// The start of an id that is random from its first letter on, as Docker's: what people type. A name, as a pod's, is whole.
pub(crate) fn short(id: &str) -> &str {
    let random = id.bytes().all(|byte| byte.is_ascii_hexdigit());
    id.get(..10).filter(|_| random).unwrap_or(id)
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Created => "created",
        Status::Building => "building",
        Status::Error => "error",
        Status::Starting => "starting",
        Status::Started => "started",
        Status::Stopped => "stopped",
        Status::Asleep => "asleep",
    }
}

/// An app with what runs of it.
pub(crate) fn app_info(page: &mut Page, info: &AppInfo) {
    let app = &info.app;
    page.field("Name", &app.name);
    page.field("State", info.state.map(AppState::word).unwrap_or_default());
    page.field("Platform", &app.platform);
    page.field("Pool", &app.pool);
    page.field("Provisioner", &app.provisioner);
    page.field("Team owner", &app.team_owner);
    page.field("Plan", &app.plan.name);
    page.field("Memory", size(app.plan.memory));
    page.field("Swap", size(app.plan.swap));
    page.field("CPU share", nonzero(app.plan.cpu_share.into()));
    page.field("Unit quota", app.unit_quota.map(|quota| quota.to_string()).unwrap_or_default());
    page.field("Deploys", app.deploys.to_string());
    page.field("Image", app.image.as_deref().unwrap_or_default());
    for (index, address) in info.addresses.iter().enumerate() {
        page.field(if index == 0 { "Addresses" } else { "" }, address);
    }
    page.field("Services", info.services.join(", "));
    page.field("Created", &app.created);
    page.section("Routers", &routes::of_app(&app.routers, &info.routes));
    page.section("Units", &units(info.units.as_deref().unwrap_or_default()));
    let mut images = Table::new(["IMAGE"]);
    for image in info.images.iter().rev().skip(1) {
        images.row([image.clone()]);
    }
    page.section("Images to return to", &images);
    page.section("Operations", &operations(&info.operations));
}

fn size(bytes: i64) -> String {
    match bytes {
        0 => String::new(),
        bytes if bytes % (1 << 30) == 0 => format!("{} GiB", bytes >> 30),
        bytes if bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        bytes => format!("{bytes} bytes"),
    }
}

fn nonzero(number: i64) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

/// A variable.
pub(crate) fn env(env: &EnvVar) -> String {
    match (&env.value, &env.service) {
        (Some(value), _) => format!("{}={value}", env.name),
        (None, None) => format!("{}=*** (private)", env.name),
        (None, Some(service)) => format!("{}=*** (private, of the service {service})", env.name),
    }
}

/// The provisioners.
pub(crate) fn plugins(plugins: &[Plugin]) -> Table {
    let mut table = Table::new(["NAME", "PLUGIN", "VERSION", "DIGEST", "SINCE"]);
    for plugin in plugins {
        table.row([
            plugin.name.clone(),
            plugin.plugin.clone(),
            plugin.version.clone(),
            plugin.digest.get(..12).unwrap_or_default().to_owned(),
            plugin.since.clone(),
        ]);
    }
    table
}

/// A plugin, looked into.
pub(crate) fn plugin_info(page: &mut Page, info: &PluginInfo) {
    let plugin = &info.plugin;
    page.field("Provisioner", &plugin.name);
    page.field("Plugin", format!("{} {}", plugin.plugin, plugin.version));
    page.field("Summary", &plugin.summary);
    page.field("Digest", &plugin.digest);
    page.field("File", &plugin.file);
    page.field("Since", &plugin.since);
    page.field("Can do", info.interfaces.join(", "));
    let (ours, theirs) = imports(&info.imports);
    page.field("Can reach", ours);
    page.field("Of WASI", theirs);
    let mut grants = Table::new(["GRANT", "ASKED", "GRANTED", "IN FORCE", "REASON"]);
    for grant in &info.grants {
        grants.row([
            grant.grant.clone(),
            yes(grant.asked.is_some()),
            yes(grant.granted),
            yes(grant.in_force),
            grant.asked.clone().unwrap_or_default(),
        ]);
    }
    page.section("Grants", &grants);
    let mut bounds = Table::new(["BOUND", "VALUE", "OF WHAT"]);
    for bound in &info.bounds {
        bounds.row([bound.name.clone(), bound.value.clone(), bound.meaning.clone()]);
    }
    page.section("Bounds of each call", &bounds);
}

/// What a component imports, in short: the interfaces of ours, and the packages of WASI that its standard library asks for.
fn imports(imports: &[String]) -> (String, String) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for import in imports {
        let name = import.split('@').next().unwrap_or(import);
        match (name.strip_prefix("gantry:provision/"), name.strip_prefix("wasi:")) {
            (Some(interface), _) => ours.push(interface),
            (None, Some(interface)) => theirs.push(interface.split('/').next().unwrap_or(name)),
            (None, None) => ours.push(name),
        }
    }
    theirs.sort_unstable();
    theirs.dedup();
    (ours.join(", "), theirs.join(", "))
}

fn yes(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

/// Operations, one a line.
pub(crate) fn operations(operations: &[Operation]) -> Table {
    let mut table = Table::new(["OPERATION", "VERB", "APP", "STATE", "BEGAN", "WHO"]);
    for operation in operations {
        table.row([
            operation.id.clone(),
            operation.verb.clone(),
            operation.app.clone().or_else(|| operation.plugin.clone()).unwrap_or_default(),
            operation.state.word().to_owned(),
            operation.began.clone(),
            operation.who.clone(),
        ]);
    }
    table
}

/// An operation.
pub(crate) fn operation(page: &mut Page, operation: &Operation) {
    page.field("Operation", &operation.id);
    page.field("Verb", &operation.verb);
    page.field("App", operation.app.as_deref().unwrap_or_default());
    page.field("Provisioner", operation.plugin.as_deref().unwrap_or_default());
    page.field("Plugin", operation.digest.as_deref().unwrap_or_default());
    page.field("Who", &operation.who);
    page.field("Asked", value(&operation.detail));
    page.field("State", operation.state.word());
    page.field("Began", &operation.began);
    page.field("Ended", operation.ended.as_deref().unwrap_or_default());
    page.field("Result", operation.result.as_ref().map(value).unwrap_or_default());
    if let Some(problem) = &operation.problem {
        page.field("Error", &problem.title);
        for line in problem.detail.lines() {
            page.field("Caused by", line);
        }
        page.field("Hint", problem.hint.as_deref().unwrap_or_default());
    }
}

fn value(value: &serde_json::Value) -> String {
    if value.is_null() { String::new() } else { value.to_string() }
}

/// An operation with what it told.
pub(crate) fn operation_info(page: &mut Page, info: &OperationInfo) {
    operation(page, &info.operation);
    if !info.lines.is_empty() {
        page.line("");
        for line in &info.lines {
            page.line(&line.text);
        }
    }
}

#[cfg(test)]
mod tests;

//! How people see services and plans.

use super::{nonzero, size};
use crate::api::{PlanInfo, Service};
use crate::cli::table::Table;
use crate::cli::ui::Page;

/// The services.
pub(crate) fn services(services: &[Service]) -> Table {
    let mut table = Table::new(["NAME", "URL", "APPS"]);
    for service in services {
        let apps: Vec<&str> = service.binds.iter().map(|bind| bind.app.as_str()).collect();
        table.row([service.name.clone(), service.url.clone(), apps.join(",")]);
    }
    table
}

/// A service.
pub(crate) fn service(page: &mut Page, service: &Service) {
    page.field("Name", &service.name);
    page.field("URL", &service.url);
    page.field("Username", &service.username);
    page.field("Password", if service.has_password { "*** (private)" } else { "none" });
    page.field("Timeout", format!("{} s", service.timeout));
    page.field("Created", &service.created);
    let mut binds = Table::new(["APP", "VARIABLES"]);
    for bind in &service.binds {
        let variables = match bind.half_made {
            true => "(not bound yet)".to_owned(),
            false => bind.variables.join(","),
        };
        binds.row([bind.app.clone(), variables]);
    }
    page.section("Apps that are bound", &binds);
}

/// The plans.
pub(crate) fn plans(plans: &[PlanInfo]) -> Table {
    let mut table = Table::new(["NAME", "MEMORY", "SWAP", "CPU SHARE", "DEFAULT", "APPS"]);
    for info in plans {
        table.row([
            info.plan.name.clone(),
            size(info.plan.memory),
            size(info.plan.swap),
            nonzero(info.plan.cpu_share.into()),
            if info.default { "yes" } else { "" }.to_owned(),
            info.apps.len().to_string(),
        ]);
    }
    table
}

/// A plan.
pub(crate) fn plan(page: &mut Page, info: &PlanInfo) {
    page.field("Name", &info.plan.name);
    page.field("Memory", size(info.plan.memory));
    page.field("Swap", size(info.plan.swap));
    page.field("CPU share", nonzero(info.plan.cpu_share.into()));
    page.field("Default", if info.default { "yes" } else { "no" });
    page.field("Apps", info.apps.join(", "));
    page.field("Created", &info.created);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Plan, ServiceBind};
    use crate::cli::ui::tests::door;
    use crate::cli::ui::{Format, Terminal};

    fn seen(show: impl FnOnce(&mut Page)) -> String {
        let (mut ui, out, _err) = door(Format::Table, false, Terminal::default());
        ui.data(&(), show);
        out.text()
    }

    fn a_service() -> Service {
        let bind = |app: &str, variables: &[&str]| ServiceBind {
            app: app.into(),
            variables: variables.iter().map(|name| (*name).to_owned()).collect(),
            half_made: variables.is_empty(),
        };
        Service {
            name: "db".into(),
            url: "https://db.example".into(),
            username: "gantry".into(),
            has_password: true,
            timeout: 60,
            binds: vec![bind("web", &["DB_HOST", "DB_PASSWORD"]), bind("api", &[])],
            created: "2026-01-02T03:04:05.000Z".into(),
        }
    }

    #[test]
    fn services_are_seen_with_their_apps_and_without_their_passwords() {
        let new = Service { name: "cache".into(), url: "http://c".into(), ..Service::default() };
        insta::assert_snapshot!(services(&[new, a_service()]), @r"
        NAME   URL                 APPS
        cache  http://c            -
        db     https://db.example  web,api
        ");
        insta::assert_snapshot!(seen(|page| service(page, &a_service())), @r"
        Name:         db
        URL:          https://db.example
        Username:     gantry
        Password:     *** (private)
        Timeout:      60 s
        Created:      2026-01-02T03:04:05.000Z

        Apps that are bound
        APP  VARIABLES
        web  DB_HOST,DB_PASSWORD
        api  (not bound yet)
        ");
    }

    #[test]
    fn plans_are_seen_with_their_amounts_and_how_many_apps_have_them() {
        let small = PlanInfo {
            plan: Plan { name: "small".into(), memory: 256 << 20, swap: 0, cpu_share: 100 },
            default: true,
            apps: vec!["api".into(), "web".into()],
            created: "2026-01-02T03:04:05.000Z".into(),
        };
        let free = Plan { name: "free".into(), ..Plan::default() };
        let free = PlanInfo { plan: free, ..PlanInfo::default() };
        insta::assert_snapshot!(plans(&[free, small.clone()]), @r"
        NAME   MEMORY   SWAP  CPU SHARE  DEFAULT  APPS
        free   -        -     -          -        0
        small  256 MiB  -     100        yes      2
        ");
        insta::assert_snapshot!(seen(|page| plan(page, &small)), @r"
        Name:         small
        Memory:       256 MiB
        CPU share:    100
        Default:      yes
        Apps:         api, web
        Created:      2026-01-02T03:04:05.000Z
        ");
    }
}

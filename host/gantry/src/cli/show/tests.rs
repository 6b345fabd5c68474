use gantry_core::AppRouter;
use gantry_core::yaml::RouterHealthcheck;

use super::*;
use crate::api::{
    AppRoutes, AppState, Bound, Grant, Line, OperationState, Plan, Problem, ProblemKind, Router,
    RouterInfo,
};
use crate::cli::ui::tests::door;
use crate::cli::ui::{Format, Terminal};

fn seen(show: impl FnOnce(&mut Page)) -> String {
    let (mut ui, out, _err) = door(Format::Table, false, Terminal::default());
    ui.data(&(), show);
    out.text()
}

fn an_app() -> App {
    App {
        name: "web".into(),
        platform: "static".into(),
        pool: "default".into(),
        provisioner: "docker".into(),
        team_owner: "admin".into(),
        plan: Plan { name: "small".into(), memory: 256 << 20, swap: 0, cpu_share: 100 },
        unit_quota: Some(10),
        units_in_use: 1,
        deploys: 2,
        image: Some("acme/web:2".into()),
        routers: [("edge", "web-next.apps.example.com"), ("internal", "")]
            .map(|(name, address)| AppRouter {
                name: name.into(),
                kind: "table".into(),
                address: address.into(),
                ..AppRouter::default()
            })
            .into(),
        created: "2026-01-02T03:04:05.000Z".into(),
    }
}

fn a_unit() -> Unit {
    Unit {
        id: "3f2a9c1b7d5e8f60".into(),
        name: "web-0a1b2c".into(),
        app_name: "web".into(),
        process_name: "web".into(),
        kind: "static".into(),
        ip: "10.0.0.1".into(),
        status: Some(Status::Started),
        address: Some("http://10.0.0.1:32768".into()),
    }
}

#[test]
fn an_id_that_is_random_is_short_and_a_name_is_whole() {
    for (id, shown) in [
        ("3f2a9c1b7d5e8f60", "3f2a9c1b7d"),
        ("3f2a9c1b7d", "3f2a9c1b7d"),
        ("web-web-7988649679-46mpx", "web-web-7988649679-46mpx"),
        ("", ""),
    ] {
        assert_eq!(super::short(id), shown);
    }
}

fn an_operation() -> Operation {
    Operation {
        id: "01jdx3k8v27h3k9q".into(),
        verb: "deploy".into(),
        app: Some("web".into()),
        plugin: Some("docker".into()),
        digest: Some("ab12".into()),
        who: "uid 0".into(),
        detail: serde_json::json!({"image": "acme/web:3"}),
        state: OperationState::Failed,
        began: "2026-01-02T03:04:05.000Z".into(),
        ended: Some("2026-01-02T03:04:07.000Z".into()),
        problem: Some(
            Problem::new(ProblemKind::UnitStartup, "could not deploy `web`")
                .because("healthcheck fail(3f2a9c1b7d)")
                .hint("`gantry app log web`"),
        ),
        result: None,
    }
}

#[test]
fn an_app_is_seen_with_what_runs_of_it() {
    let info = AppInfo {
        app: an_app(),
        state: Some(AppState::Running),
        units: Some(vec![a_unit()]),
        addresses: vec!["http://10.0.0.1:32768".into(), "http://10.0.0.2:32768".into()],
        services: vec!["db".into(), "cache".into()],
        routes: vec![AppRoutes {
            router: "edge".into(),
            swapped_with: Some("web-next".into()),
            addresses: vec!["http://10.0.0.1:32768".into()],
            ..AppRoutes::default()
        }],
        images: vec!["acme/web:1".into(), "acme/web:2".into()],
        operations: vec![an_operation()],
        problem: None,
    };
    insta::assert_snapshot!(seen(|page| app_info(page, &info)), @r"
    Name:         web
    State:        running
    Platform:     static
    Pool:         default
    Provisioner:  docker
    Team owner:   admin
    Plan:         small
    Memory:       256 MiB
    CPU share:    100
    Unit quota:   10
    Deploys:      2
    Image:        acme/web:2
    Addresses:    http://10.0.0.1:32768
                  http://10.0.0.2:32768
    Services:     db, cache
    Created:      2026-01-02T03:04:05.000Z

    Routers
    ROUTER    TYPE   ADDRESS                    ROUTES  SWAPPED WITH
    edge      table  web-next.apps.example.com  1       web-next
    internal  table  -                          0       -

    Units
    UNIT        NAME        PROCESS  STATUS   ADDRESS
    3f2a9c1b7d  web-0a1b2c  web      started  http://10.0.0.1:32768

    Images to return to
    IMAGE
    acme/web:1

    Operations
    OPERATION         VERB    APP  STATE   BEGAN                     WHO
    01jdx3k8v27h3k9q  deploy  web  failed  2026-01-02T03:04:05.000Z  uid 0
    ");
}

#[test]
fn a_router_is_seen_with_its_apps_and_their_routes() {
    let check = RouterHealthcheck { path: "/up".into(), status: 200, body: "WORKING".into() };
    let web = AppRoutes {
        app: "web".into(),
        address: "web.apps.example.com".into(),
        addresses: vec!["http://10.0.0.1:32768".into(), "http://10.0.0.2:32768".into()],
        healthcheck: Some(check),
        ..AppRoutes::default()
    };
    let job = AppRoutes { app: "job".into(), ..AppRoutes::default() };
    let router = Router {
        name: "edge".into(),
        kind: "table".into(),
        domain: "apps.example.com".into(),
        healthcheck: true,
        default: true,
        apps: 2,
        routes: 2,
    };
    let inner = Router { name: "inner".into(), kind: "table".into(), ..Router::default() };
    insta::assert_snapshot!(routers(&[router.clone(), inner]), @r"
    NAME   TYPE   DOMAIN            APPS  ROUTES  DEFAULT
    edge   table  apps.example.com  2     2       yes
    inner  table  -                 0     0       -
    ");
    let info = RouterInfo { router, items: vec![job, web] };
    insta::assert_snapshot!(seen(|page| router_info(page, &info)), @r#"
    Name:         edge
    Type:         table
    Domain:       apps.example.com
    Healthcheck:  yes
    Default:      yes

    Apps
    APP  ADDRESS               ROUTES  HEALTHCHECK        SWAPPED WITH
    job  -                     0       -                  -
    web  web.apps.example.com  2       /up 200 "WORKING"  -

    Routes
    APP  ROUTE
    web  http://10.0.0.1:32768
    web  http://10.0.0.2:32768
    "#);
}

#[test]
fn apps_are_seen_one_a_line() {
    let new = App { name: "api".into(), pool: "default".into(), ..App::default() };
    insta::assert_snapshot!(apps(&[new, an_app()]), @r"
    NAME  POOL     UNITS  DEPLOYS  IMAGE
    api   default  0      0        -
    web   default  1/10   2        acme/web:2
    ");
}

#[test]
fn an_operation_is_seen_with_what_it_told_and_why_it_failed() {
    let line = |text: &str| Line { at: String::new(), text: text.into() };
    let lines = vec![line("---- Starting 1 new unit ----"), line(" ---> Started unit 3f2a9c1b7d")];
    let info = OperationInfo { operation: an_operation(), lines };
    insta::assert_snapshot!(seen(|page| operation_info(page, &info)), @r#"
    Operation:    01jdx3k8v27h3k9q
    Verb:         deploy
    App:          web
    Provisioner:  docker
    Plugin:       ab12
    Who:          uid 0
    Asked:        {"image":"acme/web:3"}
    State:        failed
    Began:        2026-01-02T03:04:05.000Z
    Ended:        2026-01-02T03:04:07.000Z
    Error:        could not deploy `web`
    Caused by:    healthcheck fail(3f2a9c1b7d)
    Hint:         `gantry app log web`

    ---- Starting 1 new unit ----
     ---> Started unit 3f2a9c1b7d
    "#);
}

#[test]
fn a_plugin_is_seen_with_what_it_may_do() {
    let info = PluginInfo {
        plugin: Plugin {
            name: "docker".into(),
            digest: "ab12cd34ef56ab12cd34ef56".into(),
            plugin: "docker".into(),
            version: "0.1.0".into(),
            summary: "units are containers on Docker hosts".into(),
            file: "docker.wasm".into(),
            since: "2026-01-02T03:04:05.000Z".into(),
            problem: None,
        },
        interfaces: vec!["deployer".into(), "exec".into()],
        imports: vec![
            "gantry:provision/containers@0.1.0".into(),
            "gantry:provision/state@0.1.0".into(),
            "wasi:io/streams@0.2.6".into(),
            "wasi:cli/stderr@0.2.6".into(),
            "wasi:io/error@0.2.6".into(),
        ],
        grants: vec![
            Grant {
                grant: "images:remove".into(),
                asked: Some("old images are removed".into()),
                granted: false,
                in_force: false,
            },
            Grant { grant: "images:push".into(), asked: None, granted: true, in_force: false },
        ],
        bounds: vec![Bound {
            name: "memory".into(),
            value: "256 MiB".into(),
            meaning: "memory of one call".into(),
        }],
    };
    insta::assert_snapshot!(seen(|page| plugin_info(page, &info)), @r"
    Provisioner:  docker
    Plugin:       docker 0.1.0
    Summary:      units are containers on Docker hosts
    Digest:       ab12cd34ef56ab12cd34ef56
    File:         docker.wasm
    Since:        2026-01-02T03:04:05.000Z
    Can do:       deployer, exec
    Can reach:    containers, state
    Of WASI:      cli, io

    Grants
    GRANT          ASKED  GRANTED  IN FORCE  REASON
    images:remove  yes    no       no        old images are removed
    images:push    no     yes      no        -

    Bounds of each call
    BOUND   VALUE    OF WHAT
    memory  256 MiB  memory of one call
    ");
}

#[test]
fn a_private_value_is_not_seen() {
    let private = |service: Option<&str>| EnvVar {
        name: "PASSWORD".into(),
        value: None,
        public: false,
        service: service.map(str::to_owned),
    };
    assert_eq!(env(&private(None)), "PASSWORD=*** (private)");
    assert_eq!(env(&private(Some("db"))), "PASSWORD=*** (private, of the service db)");
}
